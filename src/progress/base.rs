//! What all that is sampled has in common: the clock, the numbers, the log, and who wakes the hub.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant, SystemTime};

use crate::hub::primitives::lock::Lock;
use crate::hub::primitives::process::Process;
use crate::progress::log::{Fresh, Level, LogLine};
use crate::progress::run::Ends;
use crate::progress::status::JobStatus;

pub(crate) struct Base {
    epoch: Instant,
    /// The epoch in milliseconds since 1970.
    unix: u64,
    ids: AtomicU64,
    /// The number of open jobs.
    open: AtomicUsize,
    pub(crate) ends: Ends,
    log: Lock<Fresh>,
    /// The process that the hub runs in: a child of it must not touch a lock of this.
    pub(crate) process: Process,
    /// The number of changes so far.
    changes: AtomicU64,
    /// Whether the sampler has nothing to look at until somebody calls it.
    asleep: AtomicBool,
    /// Whether the program has made anything that is sampled.
    used: AtomicBool,
    /// Has the hub's thread look soon.
    call: Box<dyn Fn() + Send + Sync>,
}

impl Base {
    /// `call` has the hub's thread look soon; it is called at most once until the sampler has
    /// looked.
    pub(crate) fn new(call: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Arc::new(Self {
            epoch: Instant::now(),
            unix: u64::try_from(unix.as_millis()).unwrap_or(0),
            ids: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            ends: Ends::default(),
            log: Lock::default(),
            process: Process::current(),
            changes: AtomicU64::new(0),
            asleep: AtomicBool::new(true),
            used: AtomicBool::new(false),
            call: Box::new(call),
        })
    }

    /// The seconds since this was made.
    pub(crate) fn now(&self) -> f64 {
        self.epoch.elapsed().as_secs_f64()
    }

    /// A time of this clock in milliseconds since 1970.
    pub(crate) fn unix(&self, seconds: f64) -> u64 {
        let since = Duration::from_secs_f64(seconds.max(0.0)).as_millis();
        self.unix + u64::try_from(since).unwrap_or(0)
    }

    /// Returns the number of a new job or parameter.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes that one job more is open. Returns how many were open before.
    pub(crate) fn count_begin(&self) -> usize {
        self.open.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes that one job fewer is open.
    pub(crate) fn count_end(&self, status: JobStatus) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        let count = match status {
            JobStatus::Completed => &self.ends.completed,
            JobStatus::Failed => &self.ends.failed,
            JobStatus::Cancelled => &self.ends.cancelled,
            _ => &self.ends.abandoned,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes a line of this level into the log, as of this job.
    pub(crate) fn log(&self, level: Level, job: Option<u64>, text: Cow<'static, str>) {
        let line = LogLine::new(self.unix(self.now()), level, job, text);
        let dropped = self.log.lock().push(line);
        drop(dropped);
        self.wake();
    }

    /// Returns the lines since the last call, and how many were dropped.
    pub(crate) fn take_log(&self) -> (VecDeque<LogLine>, u64) {
        self.log.lock().take()
    }

    /// Has the sampler look at something that was changed before, if it sleeps.
    pub(crate) fn wake(&self) {
        // Ordered against `fall_asleep`: either this thread sees that the sampler sleeps, or the
        // sampler sees that something has changed.
        self.changes.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.used.store(true, Ordering::Release);
            (self.call)();
        }
    }

    /// Whether a change has to wake the sampler.
    #[inline]
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Whether the sampler has to look: something was changed while it slept.
    pub(crate) fn is_awake(&self) -> bool {
        !self.asleep.load(Ordering::Relaxed)
    }

    /// Whether there is anything to show.
    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    /// A number that another change makes another.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Lets callers wake the sampler from now on.
    pub(crate) fn fall_asleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Base").field("open", &self.open).finish_non_exhaustive()
    }
}
