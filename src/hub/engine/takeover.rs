//! The takeover: how the driver collects what callers have pushed. The work is cut into *rounds*,
//! and each turn does a bounded part of one.
//!
//! A round delivers what was stamped before the round began. It has three stages:
//!
//! 1. **Feeds.** The stamp counter is read, then the list of feeds with news is exchanged for an
//!    empty one. The inbox of each feed is moved into its log, where followers do not see it yet.
//! 2. **Clients.** Clients with mail, or with other feeds to follow, are marked.
//! 3. **The end**, in one step: everything stamped before the counter was read becomes deliverable
//!    ([`Feeds::upto`] is raised).
//!
//! Until the end, clients are given what the round before made deliverable. The order across feeds
//! and mailboxes therefore does not depend on how many turns a round takes. Pushes during a round
//! belong to the next one: a round is finite, however fast callers push.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::hub::engine::feeds::Feeds;
use crate::hub::engine::round::{Part, Stage};
use crate::hub::feed::place::FeedPlace;
use crate::hub::feed::queue::Queue;
use crate::hub::feed::stamp::Stamp;
use crate::hub::feed::topic::Topic;
#[cfg(test)]
use crate::hub::shared::state::Slots;

/// The cost of taking over a feed beside its entries, in entries: a lock, and the memory that this
/// touches.
const FEED: usize = 4;

impl Feeds {
    /// Whether a round is under way.
    pub(crate) fn is_taking_over(&self) -> bool {
        self.round.stage != Stage::None
    }

    /// The stamp where a new follower of the live end begins. Lower stamps are delivered, or will
    /// be when the round's clients are marked.
    pub(crate) fn horizon(&self) -> Stamp {
        if self.round.stage == Stage::Clients { self.round.upto } else { self.upto }
    }

    /// Runs the first stage: moves inboxes into logs, at most `left` messages. Begins a round if
    /// none is under way. Returns whether the stage is over.
    pub(crate) fn take_feeds(&mut self, now: u64, left: &mut usize) -> bool {
        match self.round.stage {
            Stage::None => self.begin_round(now),
            Stage::Feeds => {}
            Stage::Clients => return true,
        }
        loop {
            if let Some(part) = self.round.part.take() {
                if !self.take_part(part, left) {
                    return false;
                }
            }
            if self.round.news.is_empty() {
                break;
            }
            if *left == 0 {
                return false;
            }
            if let Some(topic) = self.round.news.pop() {
                *left = left.saturating_sub(FEED);
                self.open_inbox(&topic, now);
            }
        }
        // After the feeds: a client told to follow a feed gets everything pushed to the feed after
        // that.
        let mut told = self.shared.mail.lock();
        std::mem::swap(&mut told.slots, &mut self.round.slots);
        if told.spare.is_none() {
            told.spare = self.spare_mail.take();
        }
        drop(told);
        self.round.stage = Stage::Clients;
        true
    }

    fn begin_round(&mut self, now: u64) {
        // The stamp first: every message stamped before is then in its inbox, and that inbox's feed
        // is among the news.
        self.round.upto = self.shared.stamps.load(Ordering::Acquire);
        self.times.note(self.round.upto, now);
        self.shared.take_news(&mut self.round.news);
        self.round.stage = Stage::Feeds;
    }

    /// Runs the second stage: returns the place of the next client to mark, or `None` when all are
    /// marked.
    pub(crate) fn next_told(&mut self) -> Option<usize> {
        self.round.slots.pop()
    }

    /// Ends a round whose clients are marked. Returns the feeds with something new for their
    /// followers, in a list to be [given back](Self::keep_fresh).
    pub(crate) fn end_round(&mut self) -> Vec<FeedPlace> {
        debug_assert!(self.round.stage == Stage::Clients && self.round.slots.is_empty());
        self.round.stage = Stage::None;
        self.upto = self.round.upto;
        let mut fresh = std::mem::take(&mut self.round.fresh);
        for place in self.hidden.drain(..) {
            if self.logs.get_mut(place).is_some_and(|log| !std::mem::replace(&mut log.fresh, true))
            {
                fresh.push(place);
            }
        }
        for place in &fresh {
            let Some(log) = self.logs.get_mut(*place) else { continue };
            log.fresh = false;
            log.reveal(self.upto);
            if !log.window.all_visible() || !log.latest.all_before(self.upto) {
                self.hidden.push(*place);
            }
        }
        fresh
    }

    /// Keeps the list that the end of a round returned, once it has been used.
    pub(crate) fn keep_fresh(&mut self, mut fresh: Vec<FeedPlace>) {
        if self.round.fresh.capacity() == 0 {
            fresh.clear();
            self.round.fresh = fresh;
        }
    }

    /// Runs a whole round. Returns the feeds with something new, and the places of the clients with
    /// news.
    #[cfg(test)]
    pub(crate) fn take_news(&mut self, now: u64) -> (Vec<FeedPlace>, Slots) {
        assert!(self.take_feeds(now, &mut usize::MAX.clone()));
        let keys = std::mem::take(&mut self.round.slots);
        (self.end_round(), keys)
    }

    /// Whether the log at this place is being filled.
    pub(crate) fn is_taking_over_at(&self, place: FeedPlace) -> bool {
        self.round.part.as_ref().is_some_and(|part| part.place == place)
    }

    /// The bytes that have left a feed's inbox and are not in its log yet.
    pub(crate) fn bytes_between(&self, place: FeedPlace) -> usize {
        let part = self.round.part.as_ref().filter(|part| part.place == place);
        part.map_or(0, |part| part.queue.bytes())
    }

    fn open_inbox(&mut self, topic: &Arc<Topic>, now: u64) {
        let place = self.log_of(topic);
        // Two queues alternate as the inbox of everyone's feed, so a hot loop does not grow a new
        // one each time. Other feeds get an empty queue: the capacity that a burst leaves in a feed
        // is counted nowhere.
        let empty = if topic.is_everyones() {
            std::mem::take(&mut self.spare_queue)
        } else {
            Queue::default()
        };
        let (queue, lost, values, newest, end) = {
            let mut inbox = topic.inbox.lock();
            inbox.told = false;
            let queue = std::mem::replace(&mut inbox.queue, empty);
            let values = inbox.latest.as_mut().map(|latest| latest.take_pending());
            let lost = std::mem::take(&mut inbox.lost);
            (queue, lost, values.unwrap_or_default(), inbox.newest, inbox.finished)
        };
        let log = &mut self.logs[place];
        log.lost += lost;
        log.hole += lost; // dropped as the oldest
        if !std::mem::replace(&mut log.fresh, true) {
            self.round.fresh.push(place);
        }
        let number = newest.minus(queue.len() as u64);
        let values = values.into_iter();
        self.round.part = Some(Part { place, number, at: now, queue, values, end });
    }

    /// Moves the next entries of an inbox into its log. Returns whether the inbox is done.
    fn take_part(&mut self, mut part: Part, left: &mut usize) -> bool {
        let log = &mut self.logs[part.place]; // which stays while it is being filled
        loop {
            if part.queue.is_empty() && part.values.len() == 0 {
                if let Some(end) = part.end {
                    log.finish(end, part.at, &self.shared.budget);
                }
                if log.topic.is_everyones() {
                    self.spare_queue = part.queue;
                }
                return true;
            }
            if *left == 0 {
                self.round.part = Some(part);
                return false;
            }
            *left -= 1;
            if let Some(entry) = part.queue.pop() {
                part.number = part.number.next();
                log.push(part.number, entry, part.at, &self.shared.budget);
            } else if let Some((key, change)) = part.values.next() {
                log.change(key, change, part.at, &self.shared.budget);
            }
        }
    }
}
