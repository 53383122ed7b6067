//! The tick, which checks every deadline.

use crate::hub::conn::phase::Connection;
use crate::hub::driver::state::{Driver, WALK, Walk, find};
use crate::hub::engine::feeds::TRIM;
use crate::hub::primitives::conn_id::ConnId;

impl Driver {
    pub(super) fn tick(&mut self) {
        if self.walk.is_some() {
            return self.go_on_walking();
        }
        if self.engine.clock.now < self.next_tick {
            return;
        }
        // A driver that was held up for a whole tick has not read what its peers sent in time. The
        // driver reads now and judges at the next tick, but only once, or it might never judge.
        let held_up = self.engine.clock.now >= self.next_tick + self.engine.clock.timeouts.tick;
        self.next_tick = self.engine.clock.now + self.engine.clock.timeouts.tick;
        if held_up && !std::mem::replace(&mut self.pardoned, true) {
            return;
        }
        self.pardoned = false;
        self.engine.reports.tell_of_panics(self.engine.clock.now, &self.engine.shared.journal);
        self.engine.shared.descriptors.look();
        let connections = &self.connections;
        self.strangers.shrink();
        let is_there = |id: &ConnId| find(connections, *id).is_some();
        self.parting.retain(is_there);
        if self.parting.len() < self.parting.capacity() / 4 {
            self.parting.shrink_to_fit();
        }
        if self.connections.len() < self.connections.capacity() / 4 {
            self.connections.shrink_to_fit();
        }
        self.engine.feeds.begin_needed();
        self.walk = Some(Walk::Connections(0));
        self.go_on_walking();
    }

    /// Checks the next deadlines, and the next feeds when all connections have been checked.
    pub(super) fn go_on_walking(&mut self) {
        self.unlooked = usize::MAX;
        let mut left = WALK;
        while let Some(walk) = self.walk.take() {
            if left == 0 {
                self.walk = Some(walk);
                return;
            }
            self.walk = match walk {
                Walk::Connections(slot) if slot < self.connections.capacity() => {
                    left -= 1;
                    self.step(slot, Connection::tick);
                    if let Some(connection) = self.connections.get(slot) {
                        let engine = &mut self.engine;
                        connection.cursors(|place, cursor, unanswered| {
                            engine.feeds.need(place, cursor, unanswered);
                        });
                    }
                    Some(Walk::Connections(slot + 1))
                }
                Walk::Connections(_) => Some(Walk::Sessions),
                Walk::Sessions => {
                    let ended = self.engine.expire_sessions(left);
                    let is_over = ended < left;
                    left -= ended;
                    Some(if is_over { Walk::Held(0) } else { Walk::Sessions })
                }
                Walk::Held(index) => match self.engine.clients.held.stands(index) {
                    Some(feeds) => {
                        left = left.saturating_sub(1 + feeds / 8);
                        self.engine.hold_on(index);
                        Some(Walk::Held(index + 1))
                    }
                    None => Some(Walk::Feeds(0)),
                },
                Walk::Feeds(index) => {
                    if let Some(place) = self.engine.feeds.logs.place(index) {
                        let seen = self.sweep_followers(place);
                        let dropped = self.engine.feeds.trim_needed(place, self.engine.clock.now);
                        left = left.saturating_sub(1 + (seen + dropped) / 8);
                        Some(Walk::Feeds(index + usize::from(dropped < TRIM)))
                    } else {
                        self.engine.feeds.end_needed();
                        None
                    }
                }
            };
        }
    }
}
