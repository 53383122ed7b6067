//! The hub's lines for the program's log, written by a thread of their own.
//!
//! A `tracing` subscriber is code of the program's: it may block, panic, or call the hub. Therefore
//! neither the hub's thread nor one that pushes calls it. Lines wait in a bounded queue for a
//! thread, which starts with the first line and ends some time after the last. While a subscriber
//! blocks, the thread waits, and lines that do not fit into the queue are counted.
//!
//! Lines go to the subscriber that was current where the hub was spawned or, if there was none, to
//! the process's own.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, dispatcher};

use crate::hub::primitives::program;

/// The most lines that wait. No line is longer than some hundred bytes.
const MOST: usize = 256;

/// How long the thread waits for another line.
const LINGER: Duration = Duration::from_secs(10);

thread_local! {
    static IS_LOG_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread writes a hub's lines: the end of that hub waits for the line.
pub(crate) fn is_log_thread() -> bool {
    IS_LOG_THREAD.get()
}

type Line = Box<dyn FnOnce() + Send>;

pub(crate) struct Journal {
    /// The hub's own subscriber. `None`: the process's.
    subscriber: Option<Dispatch>,
    state: Mutex<State>,
    /// Signals a new line, or that there will be no more.
    more: Condvar,
    /// Signals that nothing waits.
    idle: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Line>,
    left_out: u64,
    /// Whether there is a thread, and whether it is writing.
    is_running: bool,
    is_writing: bool,
    /// Whether the hub has ended: the thread then does not linger.
    has_ended: bool,
}

impl State {
    /// Returns the next line to write.
    fn next(&mut self) -> Option<Line> {
        self.lines.pop_front().or_else(|| match std::mem::take(&mut self.left_out) {
            0 => None,
            left_out => Some(Box::new(move || {
                tracing::warn!(left_out, "log lines left out: the subscriber was too slow");
            })),
        })
    }
}

impl Journal {
    pub(crate) fn new() -> Arc<Self> {
        let subscriber = dispatcher::get_default(Dispatch::clone);
        Arc::new(Self {
            subscriber: (!subscriber.is::<NoSubscriber>()).then_some(subscriber),
            state: Mutex::default(),
            more: Condvar::new(),
            idle: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a line, if the queue has room: a closure that calls one of `tracing`'s macros.
    pub(crate) fn write(self: &Arc<Self>, line: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        if state.lines.len() >= MOST {
            state.left_out += 1;
            return;
        }
        state.lines.push_back(Box::new(line));
        if std::mem::replace(&mut state.is_running, true) {
            return self.more.notify_one();
        }
        drop(state);
        let own = Arc::clone(self);
        let thread = thread::Builder::new().name("stepcast-log".to_owned());
        if thread.spawn(move || own.run()).is_err() {
            let mut state = self.lock();
            state.is_running = false; // the next line tries again
            state.left_out += 1;
            state.lines.pop_back();
        }
    }

    /// Queues a debug line, which is only made if the debug level is on.
    pub(crate) fn debug<L: FnOnce() + Send + 'static>(self: &Arc<Self>, line: impl FnOnce() -> L) {
        if LevelFilter::current() >= LevelFilter::DEBUG {
            self.write(line());
        }
    }

    fn run(&self) {
        IS_LOG_THREAD.set(true);
        let mut state = self.lock();
        loop {
            if let Some(line) = state.next() {
                state.is_writing = true;
                drop(state);
                let _ = program::run(|| match &self.subscriber {
                    Some(subscriber) => dispatcher::with_default(subscriber, line),
                    None => line(),
                });
                state = self.lock();
                state.is_writing = false;
                continue;
            }
            self.idle.notify_all();
            let waited = self.more.wait_timeout_while(state, LINGER, |state| {
                state.lines.is_empty() && !state.has_ended
            });
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.lines.is_empty() {
                state.is_running = false;
                return;
            }
        }
    }

    /// Ends the log with the hub: the waiting lines are written, for at most this long.
    pub(crate) fn finish(&self, within: Duration) {
        let mut state = self.lock();
        state.has_ended = true;
        self.more.notify_one();
        let waits = |state: &mut State| state.is_writing || !state.lines.is_empty();
        let waited = self.idle.wait_timeout_while(state, within, waits);
        drop(waited);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        program::let_go(self.subscriber.take());
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

/// Returns how long the end of the hub, which has to come by `by`, waits for the log.
pub(crate) fn patience(by: Option<Instant>) -> Duration {
    const LEAST: Duration = Duration::from_millis(50);
    const MOST: Duration = Duration::from_secs(1);
    let left = by.map_or(LEAST, |by| by.saturating_duration_since(Instant::now()));
    left.clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use tracing::span::{Attributes, Id, Record};
    use tracing::{Metadata, Subscriber};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A subscriber of the program's whose destructor panics.
    struct Bad(Arc<AtomicUsize>);

    impl Drop for Bad {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("on purpose");
        }
    }

    impl Subscriber for Bad {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            false
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &tracing::Event<'_>) {}

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_subscriber_that_panics_when_it_goes_harms_nobody() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let subscriber = Dispatch::new(Bad(Arc::clone(&dropped)));
        let journal = dispatcher::with_default(&subscriber, Journal::new);
        drop(subscriber);
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        drop(journal);
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn lines_that_there_is_no_room_for_are_counted_and_a_panic_in_one_costs_that_one() {
        let journal = Journal::new();
        let (begun, has_begun) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let written = Arc::new(AtomicUsize::new(0));
        journal.write(move || {
            begun.send(()).unwrap();
            let _ = may_go_on.recv_timeout(PATIENCE);
        });
        has_begun.recv_timeout(PATIENCE).unwrap();
        for number in 0..MOST + 7 {
            let written = Arc::clone(&written);
            journal.write(move || {
                assert!(number % 2 == 0, "on purpose");
                written.fetch_add(1, Ordering::Relaxed);
            });
        }
        let waiting = {
            let state = journal.lock();
            (state.lines.len(), state.left_out)
        };
        assert_eq!(waiting, (MOST, 7));
        let started = Instant::now();
        journal.finish(Duration::from_millis(1));
        assert!(started.elapsed() < PATIENCE, "a line that blocks holds up the end");
        go_on.send(()).unwrap();
        journal.finish(PATIENCE);
        assert_eq!(written.load(Ordering::Relaxed), MOST / 2);
        // One more, after the end.
        let (told, is_told) = mpsc::channel();
        journal.write(move || told.send(()).unwrap());
        is_told.recv_timeout(PATIENCE).unwrap();
    }
}
