//! The state of one job: what its handles write, and the sampler reads.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use tokio_util::sync::CancellationToken;

use crate::hub::primitives::lock::Lock;
use crate::hub::primitives::program;
use crate::progress::base::Base;
use crate::progress::field::state as field;
use crate::progress::named::Named;
use crate::progress::series::state as series;
use crate::progress::status::JobStatus;

/// A value alone on its cache lines, so that threads that write to it do not slow down others.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Alone<T>(pub(crate) T);

/// What a job is from its announcement on.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) id: u64,
    pub(crate) parent: Option<u64>,
    pub(crate) title: Box<str>,
    pub(crate) unit: Box<str>,
    pub(crate) cancellable: bool,
    /// The share of the parent's work, or of the run's.
    pub(crate) weight: f64,
}

/// The part of a job's state that changes rarely.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) status: JobStatus,
    pub(crate) message: Cow<'static, str>,
    /// The position at which there was nothing done yet.
    pub(crate) origin: f64,
    /// The position that the job began at: above `origin` after a restart from a checkpoint.
    pub(crate) initial: f64,
    /// When the job began and ended, in seconds of the registry's clock.
    pub(crate) started: f64,
    pub(crate) ended: Option<f64>,
    /// The position at the end.
    pub(crate) last: f64,
    /// Since when the job is paused, and how long it was before.
    pub(crate) paused_since: Option<f64>,
    pub(crate) paused: f64,
    /// How often the program has asked to forget the rate.
    pub(crate) resets: u32,
    children: Vec<Weak<Cell>>,
    /// What the program waits with for being asked to end, if it does.
    token: Option<CancellationToken>,
    /// The counters of threads that count for themselves.
    counters: Vec<Arc<Alone<AtomicU64>>>,
}

#[derive(Debug)]
pub(crate) struct Cell {
    /// The steps counted by all threads.
    pub(crate) steps: Alone<AtomicU64>,
    /// What the position has beside the steps: the bits of an `f64`.
    value: AtomicU64,
    /// The bits of an `f64`; NaN: the total is unknown.
    total: AtomicU64,
    /// Whether the job was asked to end.
    pub(crate) cancelled: AtomicBool,
    /// Raised after each change of `rest` and of `total`.
    changes: AtomicU32,
    has_counters: AtomicBool,
    /// The number of the program's handles.
    handles: AtomicUsize,
    pub(crate) about: About,
    /// The series and the fields that have a name in this job.
    pub(crate) series: Named<series::State>,
    pub(crate) fields: Named<field::State>,
    rest: Lock<Rest>,
    pub(crate) base: Arc<Base>,
}

impl Cell {
    pub(crate) fn new(base: &Arc<Base>, about: About) -> Arc<Self> {
        let now = base.now();
        Arc::new(Self {
            steps: Alone::default(),
            value: AtomicU64::new(0.0_f64.to_bits()),
            total: AtomicU64::new(f64::NAN.to_bits()),
            cancelled: AtomicBool::new(false),
            changes: AtomicU32::new(1),
            has_counters: AtomicBool::new(false),
            handles: AtomicUsize::new(1),
            about,
            series: Named::default(),
            fields: Named::default(),
            rest: Lock::new(Rest {
                status: JobStatus::Queued,
                message: Cow::Borrowed(""),
                origin: 0.0,
                initial: 0.0,
                started: now,
                ended: None,
                last: 0.0,
                paused_since: None,
                paused: 0.0,
                resets: 0,
                children: Vec::new(),
                token: None,
                counters: Vec::new(),
            }),
            base: Arc::clone(base),
        })
    }

    /// Takes on a job that is a part of this one. If this one has ended, so does the child.
    pub(crate) fn adopt(&self, child: &Arc<Self>) {
        let mut rest = self.rest.lock();
        if rest.status.is_final() {
            drop(rest);
            child.end(JobStatus::Abandoned, None);
            return;
        }
        if rest.children.len() == rest.children.capacity() {
            rest.children.retain(|child| child.upgrade().is_some_and(|child| child.is_open()));
        }
        rest.children.push(Arc::downgrade(child));
        drop(rest);
        if self.cancelled.load(Ordering::Relaxed) {
            child.cancel();
        }
    }

    /// Notes, after a change, that the sampler has something to look at.
    fn note(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// A number that another change makes another.
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    pub(crate) fn clone_handle(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a handle is dropped. Returns whether it was the last.
    pub(crate) fn drop_handle(&self) -> bool {
        self.handles.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(crate) fn total(&self) -> Option<f64> {
        let total = f64::from_bits(self.total.load(Ordering::Relaxed));
        (!total.is_nan()).then_some(total)
    }

    /// Sets the total; `None`, or a number that is not finite: it is unknown.
    pub(crate) fn set_total(&self, total: Option<f64>) {
        let total = total.filter(|total| total.is_finite()).unwrap_or(f64::NAN);
        if self.total.swap(total.to_bits(), Ordering::Relaxed) != total.to_bits() {
            self.note();
        }
    }

    pub(crate) fn add_to_total(&self, more: f64) {
        let add = |bits| Some((f64::from_bits(bits) + more).to_bits());
        let _ = self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        self.note();
    }

    pub(crate) fn position(&self) -> f64 {
        if !self.has_counters.load(Ordering::Relaxed) {
            return self.position_without(0);
        }
        // The lock is held meanwhile: a counter that is folded in counts once.
        let rest = self.rest.lock();
        self.position_without(sum(&rest.counters))
    }

    fn position_without(&self, counted: u64) -> f64 {
        let steps = self.steps.0.load(Ordering::Relaxed).wrapping_add(counted);
        f64::from_bits(self.value.load(Ordering::Relaxed)) + steps as f64
    }

    pub(crate) fn set_position(&self, position: u64) {
        if self.value.load(Ordering::Relaxed) != 0.0_f64.to_bits() {
            self.value.store(0.0_f64.to_bits(), Ordering::Relaxed);
        }
        self.with_counted(|counted| {
            self.steps.0.store(position.wrapping_sub(counted), Ordering::Relaxed);
        });
    }

    /// Sets the position to a number that need not be whole. A number that is not finite is
    /// ignored.
    pub(crate) fn set_value(&self, value: f64) {
        if value.is_finite() {
            self.with_counted(|counted| self.put_value(value, counted));
        }
    }

    /// Makes this the position. The lock is held if threads have counters of their own.
    fn put_value(&self, value: f64, counted: u64) {
        let steps = self.steps.0.load(Ordering::Relaxed).wrapping_add(counted);
        self.value.store((value - steps as f64).to_bits(), Ordering::Relaxed);
    }

    /// Lends what threads have counted for themselves. A counter is not folded in meanwhile.
    fn with_counted(&self, lend: impl FnOnce(u64)) {
        if !self.has_counters.load(Ordering::Relaxed) {
            return lend(0);
        }
        let rest = self.rest.lock();
        lend(sum(&rest.counters));
    }

    /// Makes a counter for one thread.
    pub(crate) fn add_counter(&self) -> Arc<Alone<AtomicU64>> {
        let counter = Arc::new(Alone::default());
        self.rest.lock().counters.push(Arc::clone(&counter));
        self.has_counters.store(true, Ordering::Relaxed);
        counter
    }

    /// Folds a thread's counter into the steps.
    pub(crate) fn fold_counter(&self, counter: &Arc<Alone<AtomicU64>>) {
        let mut rest = self.rest.lock();
        if let Some(place) = rest.counters.iter().position(|known| Arc::ptr_eq(known, counter)) {
            rest.counters.swap_remove(place);
            self.steps.0.fetch_add(counter.0.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Changes the rest, unless the job has ended. `change` says whether it has changed anything.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Rest) -> bool) -> bool {
        let mut rest = self.rest.lock();
        let changed = !rest.status.is_final() && change(&mut rest);
        drop(rest);
        if changed {
            self.note();
            self.base.wake();
        }
        changed
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&Rest) -> T) -> T {
        look(&self.rest.lock())
    }

    pub(crate) fn status(&self) -> JobStatus {
        self.rest.lock().status
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.status().is_final()
    }

    /// Ends the job, and its children as abandoned, unless it has ended before.
    pub(crate) fn end(&self, status: JobStatus, message: Option<Cow<'static, str>>) {
        let mut children = self.end_alone(status, message);
        while let Some(child) = children.pop() {
            if let Some(child) = child.upgrade() {
                children.extend(child.end_alone(JobStatus::Abandoned, None));
            }
        }
        self.base.wake();
    }

    fn end_alone(&self, status: JobStatus, message: Option<Cow<'static, str>>) -> Vec<Weak<Self>> {
        let now = self.base.now();
        let mut rest = self.rest.lock();
        if rest.status.is_final() {
            return Vec::new();
        }
        if let (JobStatus::Completed, Some(total)) = (status, self.total()) {
            self.put_value(total, sum(&rest.counters));
        }
        rest.last = self.position_without(sum(&rest.counters));
        (rest.status, rest.ended) = (status, Some(now));
        if let Some(since) = rest.paused_since.take() {
            rest.paused += now - since;
        }
        if let Some(message) = message {
            rest.message = message;
        }
        let children = std::mem::take(&mut rest.children);
        drop(rest);
        self.note();
        self.base.count_end(status);
        children
    }

    /// Asks the job, and all jobs below it, to end. Returns whether nobody has asked before, and the
    /// job is open.
    pub(crate) fn cancel(&self) -> bool {
        let Some(mut children) = self.cancel_alone() else { return false };
        while let Some(child) = children.pop() {
            if let Some(child) = child.upgrade() {
                children.extend(child.cancel_alone().unwrap_or_default());
            }
        }
        self.base.wake();
        true
    }

    fn cancel_alone(&self) -> Option<Vec<Weak<Self>>> {
        let (children, token) = {
            let mut rest = self.rest.lock();
            if rest.status.is_final() || rest.status == JobStatus::Cancelling {
                return None;
            }
            rest.status = JobStatus::Cancelling;
            self.cancelled.store(true, Ordering::Relaxed);
            (rest.children.clone(), rest.token.clone())
        };
        self.note();
        if let Some(token) = token {
            let _ = program::run(|| token.cancel()); // which wakes the program's tasks
        }
        Some(children)
    }

    pub(crate) fn token(&self) -> CancellationToken {
        let token = self.rest.lock().token.get_or_insert_default().clone();
        // Read afterwards: a cancellation in between has found the token, or is found here.
        if self.is_asked_to_end() {
            let _ = program::run(|| token.cancel()); // which wakes the program's tasks
        }
        token
    }

    fn is_asked_to_end(&self) -> bool {
        let _rest = self.rest.lock(); // under which the flag is set
        self.cancelled.load(Ordering::Relaxed)
    }
}

fn sum(counters: &[Arc<Alone<AtomicU64>>]) -> u64 {
    counters.iter().map(|counter| counter.0.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
}
