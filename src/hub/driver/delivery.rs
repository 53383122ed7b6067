//! Takes over what callers have pushed, and writes it to clients.

use crate::hub::conn::phase::Connection;
use crate::hub::driver::state::{Driver, STEPS, Slice, WALK, find};
use crate::hub::feed::place::FeedPlace;

/// The most that a turn takes over of callers' pushes: messages and values, and as many clients and
/// feeds with news.
pub(super) const TAKES: usize = 2048;

/// The bytes written to the followers of one feed before the next feed's turn.
const BYTES_OF_FEED: u64 = 512 << 10;

/// The followers of one feed that are written to before the next feed's. The number is small, so a
/// feed with few followers waits for few of each other feed. The number is above two, since from
/// the third on followers share what the second had encoded.
pub(super) const CALLS: usize = 8;

/// How long after the last push the driver goes on looking by itself, in milliseconds. The driver
/// does so while pushes come closer together than that; after a lone push it looks for
/// [`LOOK_FIRST`]. (A look costs as much as two deliveries.)
pub(super) const LOOK_FOR: u64 = 10;

pub(super) const LOOK_FIRST: u64 = 2;

/// Returns how long to look after a push that followed this much silence.
pub(super) fn look_for(silence: u64) -> u64 {
    if silence <= LOOK_FOR { LOOK_FOR } else { LOOK_FIRST }
}

impl Driver {
    pub(super) fn take_pushes(&mut self) {
        if self.engine.clock.now >= self.relieve_at && self.lacks_memory() {
            self.relieve();
        }
        // All clients are marked before any is written to. A push to one client and a later push to
        // everyone are then merged in that order, whichever client's turn comes first.
        let mut left = TAKES;
        if self.engine.feeds.take_feeds(self.engine.clock.now, &mut left) {
            self.mark_told(&mut left);
        }
        self.call_fresh();
    }

    /// Marks the clients with news in this round, and ends the round when all are marked.
    pub(super) fn mark_told(&mut self, left: &mut usize) {
        while *left > 0 {
            let Some(slot) = self.engine.feeds.next_told() else { return self.end_round() };
            *left -= 1;
            self.was_told = true;
            let Some(connection) = self.connections.get_mut(slot) else { continue };
            connection.mark_mail();
            let followed = connection.follow_as_told(&mut self.engine);
            *left = left.saturating_sub(followed);
            if connection.list() {
                self.owed.push_back(slot);
            }
        }
    }

    pub(super) fn end_round(&mut self) {
        let mut fresh = self.engine.feeds.end_round();
        if !fresh.is_empty() {
            self.unlooked = usize::MAX;
        }
        if !fresh.is_empty() || std::mem::take(&mut self.was_told) {
            let now = self.engine.clock.now;
            let silence = now.saturating_sub(std::mem::replace(&mut self.pushed_at, now));
            self.look_until = now + look_for(silence);
        }
        self.fresh.extend(fresh.drain(..));
        self.engine.feeds.keep_fresh(fresh);
    }

    /// Calls the followers of the feeds with news.
    fn call_fresh(&mut self) {
        for _ in 0..TAKES {
            let Some(place) = self.fresh.pop_front() else { return };
            self.call_followers(place);
        }
    }

    /// Calls all followers of a feed with news.
    pub(super) fn call_followers(&mut self, place: FeedPlace) {
        let (connections, shared) = (&self.connections, self.shared());
        let begins = self.engine.feeds.call_followers(place, |id, lost| {
            let connection = find(connections, id).filter(|c| c.follows(place));
            connection.map(|connection| connection.count_skipped(&shared, lost)).is_some()
        });
        if begins {
            self.calling.push_back(place);
        }
    }

    /// Writes to the clients that are owed something.
    pub(super) fn deliver(&mut self) {
        let mut slice = self.slice();
        for _ in 0..STEPS.min(self.owed.len()) {
            let Some(slot) = self.owed.pop_front() else { break };
            self.step(slot, Connection::write_listed);
            if self.is_over(&mut slice) {
                break;
            }
        }
        self.call();
        // Messages that nobody needs go at once when all clients have everything, else at the next
        // tick.
        let all_served = self.owed.is_empty() && self.fresh.is_empty() && self.calling.is_empty();
        self.more_to_trim = false;
        if all_served && self.blocked == 0 && !self.engine.feeds.has_hidden() {
            // A client with a session may need what is in flight again: the tick asks for that.
            if self.engine.clients.sessions.is_empty() {
                if self.engine.feeds.has_touched() {
                    self.unlooked = usize::MAX;
                }
                self.more_to_trim = self.engine.feeds.trim_touched(WALK, self.engine.clock.now);
            }
        }
    }

    /// Writes to followers of feeds with news. Feeds take turns, since a feed that is pushed to
    /// without pause always has followers left to call.
    pub(super) fn call(&mut self) {
        let (mut left, mut slice) = (STEPS, self.slice());
        while left > 0 && slice.steps < STEPS {
            let Some(place) = self.calling.pop_front() else { return };
            let most = left.min(CALLS);
            let (calls, is_over) = self.call_some(place, most, &mut slice);
            left -= calls.max(1);
            if !is_over {
                self.calling.push_back(place);
            }
        }
    }

    /// Writes to the next followers of one feed. Returns how many were called, and whether all have
    /// been.
    fn call_some(&mut self, place: FeedPlace, most: usize, slice: &mut Slice) -> (usize, bool) {
        let begun = self.written();
        for calls in 0..most {
            if self.written() - begun > BYTES_OF_FEED {
                return (calls, self.is_called(place));
            }
            let called =
                self.engine.feeds.get_mut(place).and_then(|log| log.followers.next_called());
            let Some(id) = called else { return (calls, true) };
            if find(&self.connections, id).is_some_and(|c| c.follows(place)) {
                self.step(id.slot(), Connection::write);
            }
            if self.is_over(slice) {
                slice.steps = STEPS;
                return (calls + 1, self.is_called(place));
            }
        }
        (most, self.is_called(place))
    }

    /// Whether no follower of a feed is left to call. The feed is then not in the queue, and its
    /// next news puts it there.
    fn is_called(&self, place: FeedPlace) -> bool {
        !self.engine.feeds.get(place).is_some_and(|log| log.followers.is_calling())
    }

    /// Removes the followers that have left a feed, if they are many. Without pushes to the feed
    /// nothing else removes them. Returns how many were looked at.
    pub(super) fn sweep_followers(&mut self, place: FeedPlace) -> usize {
        let Some(log) = self.engine.feeds.get_mut(place) else { return 0 };
        if !log.followers.is_littered() {
            return 0;
        }
        let mut seen = 0;
        log.followers.retain(|id| {
            seen += 1;
            find(&self.connections, id).is_some_and(|c| c.follows(place))
        });
        seen
    }
}
