//! Lines of the run's log, between the callers and the sampler.

use std::borrow::Cow;
use std::collections::VecDeque;

use crate::progress::line::Object;
use crate::progress::text::within;

/// The longest text of a line, in bytes.
pub(crate) const TEXT_MAX: usize = 16 * 1024;

/// The most lines, and the most bytes of text, that wait for the sampler.
const LINES: usize = 10_000;
const BYTES: usize = 1 << 20;

/// How important a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The finest detail.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// An ordinary line.
    Info,
    /// Something that somebody should look at.
    Warn,
    /// Something has gone wrong.
    Error,
}

impl Level {
    const ALL: [Self; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// Returns the level that has this name on the wire.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }

    /// Returns the level's name on the wire.
    ///
    /// ```
    /// assert_eq!(stepcast::Level::Warn.name(), "warn");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

#[derive(Debug)]
pub(crate) struct LogLine {
    /// When the line was written, in milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) level: Level,
    pub(crate) job: Option<u64>,
    pub(crate) text: Cow<'static, str>,
}

impl LogLine {
    pub(crate) fn new(at: u64, level: Level, job: Option<u64>, text: Cow<'static, str>) -> Self {
        Self { at, level, job, text: within(text, TEXT_MAX) }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut log = Object::begin(out, "log");
        log.whole("at", self.at);
        log.text("level", self.level.name());
        if let Some(job) = self.job {
            log.whole("job", job);
        }
        log.text("text", &self.text);
        log.end();
    }
}

/// Returns the level of an object of the feed of the run, if it is a line of the log.
pub(crate) fn level_of(object: &str) -> Option<Level> {
    let log = object.strip_prefix("{\"log\":{\"at\":")?;
    let (_, level) = log.split_once("\"level\":\"")?;
    Level::named(level.split_once('"')?.0)
}

/// The lines since the last sample. When too many wait, the oldest make way and are counted.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    lines: VecDeque<LogLine>,
    bytes: usize,
    lost: u64,
}

impl Fresh {
    /// Returns the lines that made way.
    pub(crate) fn push(&mut self, line: LogLine) -> Vec<LogLine> {
        self.bytes += line.text.len();
        self.lines.push_back(line);
        let mut dropped = Vec::new();
        while self.lines.len() > LINES || (self.bytes > BYTES && self.lines.len() > 1) {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.text.len();
            self.lost += 1;
            dropped.push(oldest);
        }
        dropped
    }

    pub(crate) fn take(&mut self) -> (VecDeque<LogLine>, u64) {
        self.bytes = 0;
        (std::mem::take(&mut self.lines), std::mem::take(&mut self.lost))
    }
}
