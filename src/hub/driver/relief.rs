//! Ends connections when the hub's memory limit is reached.

use std::sync::atomic::Ordering;

use crate::hub::conn::phase::{Connection, Over};
use crate::hub::driver::state::Driver;
use crate::hub::events::DisconnectReason;

/// The least time between two reliefs, in milliseconds, while relief does not bring the hub below
/// its memory limit: each relief looks at all clients and feeds.
const RELIEF_EVERY: u64 = 10;

impl Driver {
    /// Whether a push was refused for lack of memory, or the limit is exceeded.
    pub(super) fn lacks_memory(&self) -> bool {
        let shared = &self.engine.shared;
        shared.starved.load(Ordering::Relaxed) || shared.budget.is_over() || shared.absent.is_over()
    }

    /// Frees memory when the hub's memory limit is reached. Connections that do not take what was
    /// copied for them go first, if those copies are many. The fullest mailboxes and the longest
    /// logs are next. The connection that has taken nothing for longest is last: a large message
    /// may wait for its memory.
    pub(super) fn relieve(&mut self) {
        let shared = self.shared();
        self.unlooked = usize::MAX;
        if self.engine.relieve_absent() {
            return; // the next turn frees more
        }
        if !shared.starved.load(Ordering::Relaxed) && !shared.budget.is_over() {
            return self.relieve_later(); // only clients that are away had to lose something
        }
        if shared.outboxes.is_over() {
            self.give_up_stuck(|_| shared.outboxes.is_over());
            if !shared.outboxes.is_over() && !shared.budget.is_over() {
                shared.starved.store(false, Ordering::Relaxed);
                return; // nobody else has to lose anything
            }
        }
        if self.engine.relieve() {
            return;
        }
        shared.starved.store(false, Ordering::Relaxed);
        if shared.budget.is_over() {
            self.give_up_stuck(|given_up| given_up == 0);
        }
        self.relieve_later();
    }

    fn relieve_later(&mut self) {
        if self.engine.shared.budget.is_tight() || self.engine.shared.absent.is_tight() {
            self.relieve_at = self.engine.clock.now + RELIEF_EVERY;
        }
    }

    /// Gives up connections that have taken nothing of a waiting write, longest first, while `more`
    /// returns true for the number given up so far.
    fn give_up_stuck(&mut self, more: impl Fn(usize) -> bool) {
        // Connections that are only in the middle of a message stay.
        let before = self.engine.clock.now.saturating_sub(self.engine.clock.timeouts.tick);
        let stuck = |(slot, connection): (usize, &Connection)| {
            Some((connection.stuck_since().filter(|since| *since < before)?, slot))
        };
        let mut stuck: Vec<_> = self.connections.iter().filter_map(stuck).collect();
        stuck.sort_unstable();
        for (given_up, (_, slot)) in stuck.into_iter().enumerate() {
            if !more(given_up) {
                return;
            }
            self.step(slot, |connection, engine| {
                connection.abort(engine, DisconnectReason::TooSlow);
                Err(Over)
            });
        }
    }
}
