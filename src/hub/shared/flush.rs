//! The flushes that callers have asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::hub::error::FlushError;
use crate::hub::feed::stamp::Stamp;
use crate::hub::primitives::lock::Lock;
use crate::hub::primitives::program;

pub(crate) type Outcome = Result<(), FlushError>;

/// The flushes that the driver has not begun.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    any: AtomicBool,
    list: Lock<Vec<Flush>>,
}

#[derive(Debug)]
pub(crate) struct Flush {
    /// The stamp below which everything has to leave.
    pub(crate) upto: Stamp,
    pub(crate) by: Instant,
    pub(crate) answer: Answer,
}

impl Flush {
    /// Returns a flush of everything stamped before `upto`, and the channel that its caller waits
    /// on.
    pub(crate) fn new(upto: Stamp, by: Instant) -> (Self, oneshot::Receiver<Outcome>) {
        let (caller, flushed) = oneshot::channel();
        (Self { upto, by, answer: Answer(Some(caller)) }, flushed)
    }
}

/// The caller's end of the wait. An answer wakes the program's task, and so does a drop without
/// one.
#[derive(Debug)]
pub(crate) struct Answer(Option<oneshot::Sender<Outcome>>);

impl Answer {
    pub(crate) fn give(mut self, outcome: Outcome) {
        if let Some(caller) = self.0.take() {
            let _ = program::run(|| caller.send(outcome));
        }
    }

    pub(crate) fn is_awaited(&self) -> bool {
        self.0.as_ref().is_some_and(|caller| !caller.is_closed())
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        program::let_go(self.0.take());
    }
}

impl Requests {
    /// Asks for a flush of everything stamped before `upto`.
    pub(crate) fn ask(&self, upto: Stamp, by: Instant) -> oneshot::Receiver<Outcome> {
        let (flush, flushed) = Flush::new(upto, by);
        self.list.lock().push(flush);
        self.any.store(true, Ordering::Release);
        flushed
    }

    pub(crate) fn take(&self) -> Vec<Flush> {
        if self.any.load(Ordering::Acquire) && self.any.swap(false, Ordering::Acquire) {
            std::mem::take(&mut *self.list.lock())
        } else {
            Vec::new()
        }
    }

    /// Drops all requests: the driver has ended, and nobody will begin them.
    pub(crate) fn give_up(&self) {
        let waiting = std::mem::take(&mut *self.list.lock());
        drop(waiting); // no longer under the lock
    }
}
