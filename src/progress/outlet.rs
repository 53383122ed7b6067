//! Lines on their way to a thread that writes them somewhere: a bounded queue in between.
//!
//! The writer is code of the program's: it may block, fail or panic. So a thread of its own calls
//! it, and the hub's thread never waits for that thread.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::hub::primitives::journal::Journal;
use crate::hub::primitives::program;

/// The most bytes that wait for the thread.
const BYTES: usize = 4 << 20;

#[derive(Debug, Default)]
pub(crate) struct Outlet {
    state: Mutex<State>,
    /// Signals more lines, or that no more will come.
    more: Condvar,
    /// Signals that the thread has written all.
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    /// Whether no more lines will come.
    is_closed: bool,
    /// Whether the thread takes no more lines.
    is_over: bool,
}

impl Outlet {
    /// Starts a thread that gives all lines to `write`, some at a time, and nothing where there is
    /// none for the time of a `tick`. An error, or a panic, of `write` ends the outlet with a line in
    /// the program's log.
    ///
    /// # Errors
    ///
    /// The system has no thread for the outlet.
    pub(crate) fn start(
        name: &str,
        journal: Arc<Journal>,
        tick: Option<Duration>,
        mut write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let outlet = Arc::<Self>::default();
        let own = Arc::clone(&outlet);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let result = own.run(tick, &mut write);
            if let Err(error) = result {
                own.end(); // first: the end of the hub does not wait for what is left of the writer
                journal.write(move || tracing::warn!(%error, "recording of the run ended early"));
            }
            program::let_go(write);
            own.end();
        })?;
        Ok(outlet)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(
        &self,
        tick: Option<Duration>,
        write: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut lines = Vec::new();
        loop {
            let waits = |state: &mut State| state.lines.is_empty() && !state.is_closed;
            let mut state = self.lock();
            state = match tick {
                None => self.more.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner),
                Some(tick) => {
                    let waited = self.more.wait_timeout_while(state, tick, waits);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            if state.lines.is_empty() && state.is_closed {
                return Ok(());
            }
            std::mem::swap(&mut state.lines, &mut lines);
            drop(state);
            program::run(|| write(&lines)).unwrap_or_else(|panic| Err(io::Error::other(panic)))?;
            lines.clear();
            lines.shrink_to(BYTES); // the first lines may be many
        }
    }

    /// Takes no more lines.
    fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        state.lines = Vec::new();
        self.done.notify_all();
    }

    /// Whether the thread takes no more lines.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// The bytes that wait for the thread.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().lines.len()
    }

    /// Takes these lines, if there is room for them.
    pub(crate) fn push(&self, lines: &[u8]) -> bool {
        let mut state = self.lock();
        let has_room = state.lines.len() + lines.len() <= BYTES;
        if has_room {
            state.lines.extend_from_slice(lines);
            self.more.notify_one();
        }
        has_room
    }

    /// Takes these lines even if there is no room for them.
    pub(crate) fn push_all(&self, lines: &[u8]) {
        let mut state = self.lock();
        if !state.is_over {
            state.lines.extend_from_slice(lines);
            self.more.notify_one();
        }
    }

    /// Ends the thread when it has written what waits.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.more.notify_one();
    }

    /// Waits until then for the end of a thread that was told to end.
    pub(crate) fn wait(&self, by: Instant) {
        let within = by.saturating_duration_since(Instant::now());
        drop(self.done.wait_timeout_while(self.lock(), within, |state| !state.is_over));
    }
}
