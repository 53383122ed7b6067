//! The hub's end.

use std::sync::Arc;

use crate::hub::conn::phase::Over;
use crate::hub::driver::state::{Driver, End, Stage, WALK};
use crate::hub::engine::parts::Farewell;
use crate::hub::events::DisconnectReason;
use crate::hub::primitives::moment::millis;

impl Driver {
    pub(super) fn look_for_shutdown(&mut self) {
        let shared = self.shared();
        let Some(by) = *shared.shutdown.lock() else { return };
        let Some(goodbye) = shared.goodbye.get().map(Arc::clone) else { return };
        let left = by.saturating_duration_since(std::time::Instant::now());
        let by = self.engine.clock.now + millis(left);
        if let Some(end) = &mut self.end {
            end.by = end.by.min(by);
            return;
        }
        self.sample_jobs(); // their ends are part of what viewers are owed
        self.sampling.next = None; // that was the last sample
        shared.jobs.tell_of_the_end(goodbye.how(), goodbye.reason());
        // Earlier commands are still carried out; later ones are not accepted.
        self.commands.extend(shared.commands.lock().drain(..));
        shared.topics.everyone().inbox.lock().closed = true;
        shared.topics.all().iter().for_each(|topic| topic.inbox.lock().closed = true);
        self.end = Some(End { by, goodbye, gives_up: false, stage: Stage::Commands });
    }

    /// Does the next part of the hub's end, if the hub is ending. Returns whether the time for it
    /// is over.
    ///
    /// Each connection is told once. A client that is let in meanwhile is told with the answer. A
    /// connection that was let in earlier, and becomes a client in a place that has been passed,
    /// was told as a newcomer.
    pub(super) fn go_on_ending(&mut self) -> bool {
        let Some(end) = &mut self.end else { return false };
        let by = end.by;
        let is_late = self.engine.clock.now >= by;
        if end.stage == Stage::Commands && (self.commands.is_empty() || is_late) {
            // New clients get the same goodbye from now on.
            self.engine.farewell = Some(Farewell {
                goodbye: Arc::clone(&end.goodbye),
                clients: self.engine.shared.registry.count(),
            });
            end.stage = Stage::Connections(0);
        }
        if is_late && !std::mem::replace(&mut end.gives_up, true) {
            end.stage = Stage::Connections(0);
        }
        let (mut stage, gives_up) = (end.stage, end.gives_up);
        if gives_up {
            self.flushes.give_up(self.engine.shared.registry.count());
        }
        if let Stage::Connections(from) = stage {
            stage = self.end_connections(from, by, gives_up);
        }
        if stage == Stage::Away && self.engine.end_away_clients(WALK) < WALK {
            stage = Stage::Told;
        }
        if let Some(end) = &mut self.end {
            end.stage = stage;
        }
        gives_up
    }

    /// Tells the next connections that the hub ends, or gives them up.
    fn end_connections(&mut self, from: usize, by: u64, gives_up: bool) -> Stage {
        let mut slice = self.slice();
        for slot in from..self.connections.capacity().min(from + WALK) {
            self.step(slot, |connection, engine| {
                connection.close_at_the_end(engine, by)?;
                if gives_up {
                    connection.abort(engine, DisconnectReason::ByHub);
                    return Err(Over);
                }
                Ok(())
            });
            if self.is_over(&mut slice) {
                return Stage::Connections(slot + 1);
            }
        }
        let to = from + WALK;
        if to < self.connections.capacity() { Stage::Connections(to) } else { Stage::Away }
    }
}
