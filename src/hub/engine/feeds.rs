//! The feeds that the driver knows: a log for each, and how far callers' pushes are visible.

use std::sync::Arc;

use crate::hub::client::mail::{Keeps, Mail};
use crate::hub::engine::logs::Logs;
use crate::hub::engine::round::Round;
use crate::hub::feed::item::{Cursor, Kept};
use crate::hub::feed::log::Log;
use crate::hub::feed::place::FeedPlace;
use crate::hub::feed::queue::Queue;
use crate::hub::feed::seq::Seq;
use crate::hub::feed::stamp::Stamp;
use crate::hub::feed::times::Times;
use crate::hub::feed::topic::Topic;
use crate::hub::limits::{Retention, Timeouts};
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::primitives::moment::millis;
use crate::hub::shared::state::Shared;
use crate::progress::series::table::POINTS_KEPT;
use crate::progress::tell::{RUN, SERIES};
use crate::wire::v1::Had;

/// The number of messages that a feed, or all feeds when memory is short, drop before other work
/// has its turn.
pub(crate) const TRIM: usize = 2048;

pub(crate) struct Feeds {
    pub(crate) shared: Arc<Shared>,
    /// Everyone's log is the first.
    pub(crate) logs: Logs,
    /// The stamp below which pushes are visible and may be delivered.
    pub(crate) upto: Stamp,
    /// The callers' pushes that are being taken over.
    pub(crate) round: Round,
    pub(crate) times: Times,
    /// An emptied queue, for the inbox of everyone's feed.
    pub(crate) spare_queue: Queue,
    /// An emptied mailbox, for callers.
    pub(crate) spare_mail: Option<Box<Mail>>,
    /// Feeds whose newest part was pushed after the driver took its stamp.
    pub(crate) hidden: Vec<FeedPlace>,
    /// Feeds that were read, or lost a follower, since the last trim.
    touched: Vec<FeedPlace>,
    /// For each feed, the position of its follower furthest behind; only while a tick collects
    /// them.
    needed: Vec<u64>,
    pub(crate) retention: Kept,
}

/// The feeds of the run are kept for viewers that come, however long after: so many lines of the
/// log, and the points since the histories were written.
const LINES_KEPT: usize = 1000;
const FOR_EVER: u64 = u64::MAX / 2;

impl Feeds {
    pub(crate) fn new(shared: Arc<Shared>, timeouts: &Timeouts, retention: &Retention) -> Self {
        // On the plain wire no late joiner is given everyone's log: see `keep_everyones`.
        let of_everyone = Kept { messages: 0, age: 0 };
        let mut logs = Logs::default();
        let everyone = Arc::clone(shared.topics.everyone());
        let place = logs.insert(Log::new(Arc::clone(&everyone), shared.limits.feed, of_everyone));
        everyone.set_place(place);
        Self {
            shared,
            logs,
            upto: Stamp::FIRST,
            round: Round::default(),
            times: Times::new(millis(timeouts.grace)),
            spare_queue: Queue::default(),
            spare_mail: None,
            hidden: Vec::new(),
            touched: Vec::new(),
            needed: Vec::new(),
            retention: Kept { messages: retention.messages, age: millis(retention.age) },
        }
    }

    pub(crate) fn get(&self, place: FeedPlace) -> Option<&Log> {
        self.logs.get(place)
    }

    pub(crate) fn get_mut(&mut self, place: FeedPlace) -> Option<&mut Log> {
        self.logs.get_mut(place)
    }

    /// Whether a feed was read, or lost a follower, since the last trim.
    pub(crate) fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Keeps an emptied mailbox for the next client with mail.
    pub(crate) fn keep_mail(&mut self, emptied: Box<Mail>) {
        if let Some(spare) = emptied.into_spare() {
            self.spare_mail = Some(spare);
        }
    }

    /// How the mail of clients on `stepcast.v1` is kept.
    pub(crate) fn keeps(&self) -> Keeps {
        Keeps { bytes: self.shared.limits.mailbox, keys: self.shared.limits.keys }
    }

    /// Whether something has been taken over, or is being taken over, and may not be delivered yet.
    pub(crate) fn has_hidden(&self) -> bool {
        !self.hidden.is_empty() || self.is_taking_over()
    }

    /// Puts a feed on the list for the next trim.
    pub(crate) fn touch(&mut self, place: FeedPlace) {
        if self.logs.get_mut(place).is_some_and(|log| !std::mem::replace(&mut log.touched, true)) {
            self.touched.push(place);
        }
    }

    /// Returns the place of a feed, and makes one if the feed has none.
    pub(crate) fn log_of(&mut self, topic: &Arc<Topic>) -> FeedPlace {
        let place = topic.place();
        if self.logs.get(place).is_some_and(|log| Arc::ptr_eq(&log.topic, topic)) {
            return place;
        }
        let kept = match topic.name() {
            RUN => Kept { messages: LINES_KEPT, age: FOR_EVER },
            SERIES => Kept { messages: POINTS_KEPT, age: FOR_EVER },
            _ => self.retention,
        };
        let log = Log::new(Arc::clone(topic), self.shared.limits.feed, kept);
        let place = self.logs.insert(log);
        topic.set_place(place);
        place
    }

    /// Adds a follower to a feed. Returns the cursor where the follower begins, to get what was
    /// stamped from `stamp` on.
    pub(crate) fn follow(
        &mut self,
        place: FeedPlace,
        connection: ConnId,
        stamp: Stamp,
        now: u64,
    ) -> Cursor {
        let upto = self.horizon();
        let log = &mut self.logs[place];
        log.followers.add(connection);
        log.survey.take_if(|survey| survey.is_over);
        let cursor = log.start(log.topic.is_everyones(), stamp, upto, now);
        self.need(place, cursor, 0);
        cursor
    }

    /// Adds a `stepcast.v1` follower to a feed; see [`Log::resume`].
    pub(crate) fn resume(
        &mut self,
        place: FeedPlace,
        connection: ConnId,
        had: Option<Had>,
        stamp: Stamp,
        now: u64,
    ) -> (Cursor, Seq, bool) {
        let upto = self.horizon();
        let log = &mut self.logs[place];
        log.followers.add(connection);
        log.survey.take_if(|survey| survey.is_over);
        let begun = log.resume(had, stamp, upto, now);
        self.need(place, begun.0, 0);
        begun
    }

    /// Removes a follower that may follow the feed again, so the follower is not listed twice then.
    pub(crate) fn unfollow_early(&mut self, place: FeedPlace, connection: ConnId) {
        if let Some(log) = self.logs.get_mut(place) {
            log.followers.forget(connection);
            self.touch(place);
        }
    }

    /// Removes a follower whose connection is no longer a client's.
    pub(crate) fn unfollow(&mut self, place: FeedPlace) {
        if let Some(log) = self.logs.get_mut(place) {
            log.followers.depart();
            self.touch(place);
        }
    }

    /// Calls the followers of a feed that has something new. If messages were lost before the
    /// takeover, or many followers have gone, all listed followers are shown at once, with the
    /// number of lost messages. A listed connection for which `is_one` says no is taken off the
    /// list. Returns whether the call begins now; false while an earlier call is under way.
    pub(crate) fn call_followers(
        &mut self,
        place: FeedPlace,
        mut is_one: impl FnMut(ConnId, u64) -> bool,
    ) -> bool {
        let Some(log) = self.logs.get_mut(place) else { return false };
        let lost = std::mem::take(&mut log.lost);
        if lost > 0 || log.followers.is_littered() {
            log.followers.retain(|connection| is_one(connection, lost));
        }
        self.touch(place);
        self.logs.get_mut(place).is_some_and(|log| log.followers.call())
    }

    /// Starts to collect how far behind the followers of each feed are.
    pub(crate) fn begin_needed(&mut self) {
        self.needed.clear();
        self.needed.resize(self.logs.capacity(), u64::MAX);
    }

    /// Notes the cursor of a feed's follower. `unanswered` bytes before the cursor may be lost with
    /// the connection, and the client may come back for them.
    pub(crate) fn need(&mut self, place: FeedPlace, cursor: Cursor, unanswered: u32) {
        if let Some((needed, log)) = self.needed.get_mut(place.index()).zip(self.logs.get(place)) {
            *needed = log.window.before(cursor.log, unanswered).min(*needed);
        }
    }

    /// Trims a feed as [`trim`](Self::trim) does, now that the cursors of all followers are known.
    pub(crate) fn trim_needed(&mut self, place: FeedPlace, now: u64) -> usize {
        let dropped = match self.needed.get(place.index()) {
            Some(needed) => self.trim(place, *needed, now),
            None => 0, // the feed is newer than the collection
        };
        if let Some(log) = self.logs.get_mut(place).filter(|_| dropped < TRIM) {
            log.hold_no_more();
        }
        dropped
    }

    pub(crate) fn end_needed(&mut self) {
        self.needed = Vec::new();
        let is_touched = |place: &FeedPlace| self.logs.get(*place).is_some_and(|log| log.touched);
        self.touched.retain(is_touched);
    }

    /// Drops what all followers have read, in at most `most` feeds. Returns whether more feeds
    /// wait.
    pub(crate) fn trim_touched(&mut self, mut most: usize, now: u64) -> bool {
        while most > 0 {
            let Some(place) = self.touched.pop() else { return false };
            most = most.saturating_sub(1 + self.trim(place, u64::MAX, now) / 8);
        }
        !self.touched.is_empty()
    }

    /// Drops the messages of a feed that nobody needs, where `needed` is the position of the
    /// follower furthest behind. At most [`TRIM`] messages go at once, the rest later. The feed
    /// goes too, if nobody has it and it holds nothing young. Returns the number of messages
    /// dropped.
    pub(crate) fn trim(&mut self, place: FeedPlace, needed: u64, now: u64) -> usize {
        let is_being_filled = self.is_taking_over_at(place);
        let Some(log) = self.logs.get_mut(place) else { return 0 };
        log.touched = false;
        let dropped = log.trim(needed.min(log.window.live()), now, TRIM);
        if dropped == TRIM {
            self.touch(place);
            return dropped;
        }
        if !is_being_filled
            && !log.topic.is_everyones()
            && log.is_over(now)
            && self.shared.topics.retire(&log.topic)
        {
            self.logs.remove(place);
        }
        dropped
    }
}

/// A hub that ends in the middle of a round keeps nothing of the round.
impl Drop for Feeds {
    fn drop(&mut self) {
        if let Some(part) = self.round.part.take() {
            let values = part.values.map(|(key, change)| change.cost(&key));
            self.shared.budget.sub(part.queue.bytes() + values.sum::<usize>());
        }
    }
}
