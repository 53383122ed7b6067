//! The state of one series: what it is, and where its points go.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::hub::primitives::lock::Lock;
use crate::progress::base::Base;
use crate::progress::line::Object;
use crate::progress::log::Level;
use crate::progress::series::points::{SeriesReader, SeriesWriter, pair};
use crate::progress::text::{TITLE_MAX, one_line};

/// The most values of one push.
pub(crate) const LINES_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) id: u64,
    pub(crate) job: Option<u64>,
    name: Box<str>,
    /// Made by the first push, which says how many lines there are.
    writer: OnceLock<SeriesWriter>,
    reader: Lock<Option<SeriesReader>>,
    /// Whether viewers are shown the series, or will be.
    has_place: AtomicBool,
    rest: Lock<Rest>,
    changes: AtomicU32,
    has_warned: AtomicBool,
    base: Arc<Base>,
}

#[derive(Debug, Default)]
struct Rest {
    unit: Cow<'static, str>,
    lines: Vec<Box<str>>,
}

impl State {
    pub(crate) fn new(base: &Arc<Base>, job: Option<u64>, name: Cow<'static, str>) -> Arc<Self> {
        Arc::new(Self {
            id: base.next_id(),
            job,
            name: one_line(name, TITLE_MAX).into_owned().into(),
            writer: OnceLock::new(),
            reader: Lock::default(),
            has_place: AtomicBool::new(true),
            rest: Lock::default(),
            changes: AtomicU32::new(1),
            has_warned: AtomicBool::new(false),
            base: Arc::clone(base),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The name of a line, if the program has named the lines.
    pub(crate) fn line_name(&self, line: usize) -> Option<Box<str>> {
        self.rest.lock().lines.get(line).cloned()
    }

    /// A number that another change makes another.
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    pub(crate) fn set_unit(&self, unit: Cow<'static, str>) {
        let unit = one_line(unit, TITLE_MAX);
        self.change(|rest| {
            let has_changed = rest.unit != unit;
            rest.unit = unit;
            has_changed
        });
    }

    pub(crate) fn set_lines(&self, lines: Vec<Box<str>>) {
        self.change(|rest| {
            let has_changed = rest.lines != lines;
            rest.lines = lines;
            has_changed
        });
    }

    /// `change` says whether it has changed anything.
    fn change(&self, change: impl FnOnce(&mut Rest) -> bool) {
        if !self.base.process.is_another() && change(&mut self.rest.lock()) {
            self.changes.fetch_add(1, Ordering::Release);
            self.base.wake();
        }
    }

    /// Adds a point: one value per line at one x.
    #[inline]
    pub(crate) fn push(&self, x: f64, ys: &[f64]) {
        let is_taken = match self.writer.get() {
            Some(writer) => writer.push(x, ys),
            None => self.begin(x, ys),
        };
        if !is_taken {
            self.warn(ys.len());
        } else if self.base.is_asleep() {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if !self.base.process.is_another() && self.has_place.load(Ordering::Relaxed) {
            self.base.wake();
        }
    }

    /// Notes that viewers are not shown the series: its points are not kept.
    pub(crate) fn lose_place(&self) {
        self.has_place.store(false, Ordering::Relaxed);
    }

    #[cold]
    fn begin(&self, x: f64, ys: &[f64]) -> bool {
        if self.base.process.is_another() || !self.has_place.load(Ordering::Relaxed) {
            return true;
        }
        if ys.is_empty() || ys.len() > LINES_MAX {
            return false;
        }
        let writer = self.writer.get_or_init(|| {
            let (writer, reader) = pair(ys.len(), &self.base.process);
            *self.reader.lock() = Some(reader);
            writer
        });
        writer.push(x, ys)
    }

    /// Says in the log, once, why a point is not taken.
    #[cold]
    fn warn(&self, got: usize) {
        if self.base.process.is_another() || self.has_warned.swap(true, Ordering::Relaxed) {
            return;
        }
        let text = match self.writer.get() {
            Some(writer) => {
                let lines = writer.lines();
                format!("series {}: expected {lines} values a point, got {got}", self.name)
            }
            None => {
                format!("series {}: expected 1 to {LINES_MAX} values a point, got {got}", self.name)
            }
        };
        self.base.log(Level::Warn, self.job, text.into());
    }

    /// Returns the reader of the points, once.
    pub(crate) fn take_reader(&self) -> Option<SeriesReader> {
        self.writer.get()?;
        self.reader.lock().take()
    }

    /// Writes what the series is, into an object that goes on.
    pub(crate) fn write(&self, series: &mut Object<'_>) {
        series.whole("id", self.id);
        if let Some(job) = self.job {
            series.whole("job", job);
        }
        series.text("name", &self.name);
        let rest = self.rest.lock();
        if !rest.unit.is_empty() {
            series.text("unit", &rest.unit);
        }
        if !rest.lines.is_empty() {
            series.texts("lines", &rest.lines);
        }
    }
}
