//! What all connections of one driver share: the window they read, the scratch space, the accounts.
//! How what nobody needs is let go.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use slab::Slab;

use crate::codec;
use crate::codec::{Message, MessageCodec, Role};
use crate::hub::client::addresses::Addresses;
use crate::hub::client::held::Held;
use crate::hub::client::mail::Mail;
use crate::hub::client::state::ClientState;
use crate::hub::engine::follows::{Follow, Follows};
use crate::hub::engine::inbound::Inbound;
use crate::hub::engine::reception::Reception;
use crate::hub::engine::session::Sessions;
use crate::hub::engine::takeover::Round;
use crate::hub::events::{DisconnectReason, Event};
use crate::hub::feed::item::{BEHIND, Cursor, Item, Kept};
use crate::hub::feed::log::Log;
use crate::hub::feed::queue::{ENTRY_OVERHEAD, Queue};
use crate::hub::feed::times::Times;
use crate::hub::feed::topic::Topic;
use crate::hub::goodbye::Goodbye;
use crate::hub::id::ClientId;
use crate::hub::limits::{Overflow, Retention, Timeouts};
use crate::hub::primitives::budget::Charge;
use crate::hub::primitives::lock::Lock;
use crate::hub::primitives::moment::millis;
use crate::hub::primitives::program;
use crate::hub::primitives::warnings::Warnings;
use crate::hub::shared::state::Shared;
use crate::wire::v1;
use crate::wire::v1::Had;

/// How much of its rate a client has used: of the microseconds in each of which it may say a part of a message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used(u32);

impl Used {
    /// Two seconds.
    const BURST: u32 = 2_000_000;

    /// So many milliseconds later.
    pub(crate) fn after(self, passed: u64) -> Self {
        let passed = u32::try_from(passed.saturating_mul(1000)).unwrap_or(u32::MAX);
        Self(self.0.saturating_sub(passed))
    }

    /// Half a burst at most: for what a client has to say to begin with.
    pub(crate) fn at_most_half(self) -> Self {
        Self(self.0.min(Self::BURST / 2))
    }
}

/// Messages that a feed, or all of them when memory is short, let go before other work has its turn.
pub(crate) const TRIM: usize = 2048;
const RELIEF: usize = 16 * 1024;

/// [`Timeouts`] in the driver's milliseconds.
pub(crate) struct Deadlines {
    pub(crate) handshake: u64,
    pub(crate) keepalive: u64,
    pub(crate) pong: u64,
    pub(crate) stall: u64,
    pub(crate) frame: u64,
    pub(crate) close: u64,
    pub(crate) grace: u64,
    pub(crate) tick: u64,
}

impl From<&Timeouts> for Deadlines {
    fn from(timeouts: &Timeouts) -> Self {
        Self {
            handshake: millis(timeouts.handshake),
            keepalive: millis(timeouts.keepalive),
            pong: millis(timeouts.pong),
            stall: millis(timeouts.stall),
            frame: millis(timeouts.frame),
            close: millis(timeouts.close),
            grace: millis(timeouts.grace),
            tick: millis(timeouts.tick()),
        }
    }
}

/// What an event counts beside its message: its place in the channel, and the owner of its bytes.
const EVENT_OVERHEAD: usize = 192;

pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) timeouts: Deadlines,
    pub(crate) reception: Reception,
    /// Milliseconds since the driver's start, taken once a turn.
    pub(crate) now: u64,
    /// The feeds that the driver knows; everyone's is the first.
    pub(crate) logs: Slab<Log>,
    /// Stamps below this have been made visible: what was pushed with them may be delivered.
    pub(crate) upto: u64,
    pub(crate) scratch: BytesMut,
    /// How many messages more of the client that is being read from are looked at before others have their turn.
    pub(crate) work: usize,
    /// What of the callers' pushes is being taken over.
    pub(crate) round: Round,
    pub(crate) times: Times,
    /// An emptied queue of everyone's feed, for its inbox.
    pub(crate) spare_queue: Queue,
    /// Feeds whose newest part was pushed after the driver took its stamp.
    pub(crate) hidden: Vec<usize>,
    /// Feeds that were read, or lost a follower, since it was last looked for what can go.
    pub(crate) touched: Vec<usize>,
    /// While a tick asks them: for each feed where its follower furthest behind stands.
    needed: Vec<u64>,
    pub(crate) retention: Kept,
    pub(crate) sessions: Sessions,
    /// Where clients that are away stood.
    pub(crate) held: Held,
    /// How many clients there were when the hub began to end.
    pub(crate) at_end: usize,
    /// What it says then.
    pub(crate) goodbye: Option<Arc<Goodbye>>,
    /// Messages that are arriving have more than their share of the memory.
    pub(crate) is_crowded: bool,
    /// Boxed as connections keep it, so that it changes hands without being made anew.
    spare: Option<Box<Inbound>>,
    /// An emptied mailbox, for callers.
    pub(crate) spare_mail: Option<Box<Mail>>,
    codec_limits: codec::FrameLimits,
    pub(crate) addresses: Addresses,
    pub(crate) refused: Warnings,
    pub(crate) failed: Warnings,
    pub(crate) rule_failed: Lock<Warnings>,
    /// Panics in code of the program's, and how many have been told of.
    panicked: Warnings,
    panics: u64,
}

impl Engine {
    /// How much is read at once.
    pub(crate) const SCRATCH: usize = 64 * 1024;

    pub(crate) fn new(
        shared: Arc<Shared>,
        timeouts: &Timeouts,
        retention: &Retention,
        reception: Reception,
    ) -> Self {
        let limits = &shared.limits;
        let codec_limits = codec::FrameLimits::default()
            .frame(limits.inbound_message)
            .message(limits.inbound_message)
            .fragments(limits.inbound_fragments);
        let addresses = Addresses::new(limits.clients_per_address, reception.proxies.clone());
        let retention = Kept { messages: retention.messages, age: millis(retention.age) };
        // On the plain wire nobody who comes late is given everyone's log: see `keep_everyones`.
        let of_everyone = Kept { messages: 0, age: 0 };
        let mut logs = Slab::new();
        let everyone = Arc::clone(shared.topics.everyone());
        let place = logs.insert(Log::new(Arc::clone(&everyone), limits.feed, of_everyone));
        everyone.place.store(place, Ordering::Relaxed);
        Self {
            timeouts: timeouts.into(),
            reception,
            now: 0,
            logs,
            upto: 0,
            scratch: BytesMut::new(),
            work: 0,
            round: Round::default(),
            times: Times::new(millis(timeouts.grace)),
            spare_queue: Queue::default(),
            hidden: Vec::new(),
            touched: Vec::new(),
            needed: Vec::new(),
            retention,
            sessions: Sessions::default(),
            held: Held::default(),
            at_end: 0,
            goodbye: None,
            is_crowded: false,
            spare: None,
            spare_mail: None,
            codec_limits,
            addresses,
            refused: Warnings::default(),
            failed: Warnings::default(),
            rule_failed: Lock::default(),
            panicked: Warnings::default(),
            panics: program::panics(),
            shared,
        }
    }

    // ---- inbound ----

    pub(crate) fn spare_inbound(&mut self) -> Box<Inbound> {
        self.spare.take().unwrap_or_else(|| {
            let codec = MessageCodec::new(Role::Server, self.codec_limits);
            Box::new(Inbound::new(codec, Charge::none(&self.shared.inbound)))
        })
    }

    /// Keeps one for the next connection that has something to decode.
    pub(crate) fn keep_inbound(&mut self, inbound: Box<Inbound>) {
        self.spare = Some(inbound);
    }

    /// Counts so much of what a client said in its rate, and in the work of this turn. Whether it is within the rate,
    /// which has room for a burst of two seconds' worth (the "continuous-state leaky bucket" form of the generic cell
    /// rate algorithm, ITU-T I.371): one that begins within it may end beyond, and then the next have to wait.
    pub(crate) fn is_within_rate(&mut self, used: &mut Used, cost: usize) -> bool {
        self.work = self.work.saturating_sub(cost);
        let each = 1_000_000 / self.shared.limits.inbound_per_second.max(1);
        let is_within = used.0.saturating_add(each) <= Used::BURST;
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        used.0 = used.0.saturating_add(each.saturating_mul(cost));
        is_within
    }

    /// As how many more messages one of so many bytes counts: one for each 4 KiB, and 16 at most, so that a program that
    /// permits larger messages has not to raise the rate.
    pub(crate) fn more_for(&self, bytes: usize) -> usize {
        bytes / (self.shared.limits.inbound_message / 16).max(4 * 1024)
    }

    /// A client has sent a message, about a feed or about none: whoever listens is told.
    pub(crate) fn tell_message(&self, id: ClientId, feed: Option<&Topic>, message: &Message) {
        self.shared.counters.received.add(1);
        if self.shared.listeners.any() {
            let feed = feed.map(Topic::name);
            let bytes = message.len() + feed.map_or(0, str::len) + EVENT_OVERHEAD;
            let kept = &self.shared.kept;
            if kept.try_add(bytes) {
                let charge = Charge::adopt(kept, bytes);
                let message = copy_with(message, |bytes| charge.attach(bytes));
                let feed = feed.map(str::to_owned);
                self.shared.listeners.tell(|| Event::Message { id, feed, message });
            } else {
                self.shared.listeners.miss();
            }
        }
        if self.reception.echo {
            let _ = self.shared.send(id, copy_with(message, |bytes| bytes));
        }
    }

    // ---- accounts ----

    pub(crate) fn count_skipped(&self, client: &ClientState, skipped: u64) {
        client.skipped.fetch_add(skipped, Ordering::Relaxed);
        self.shared.counters.skipped.add(skipped);
    }

    /// Tells the log if code of the program's has panicked since this was last called. A destructor has no log at hand.
    pub(crate) fn tell_of_panics(&mut self) {
        let panics = program::panics();
        if panics != std::mem::replace(&mut self.panics, panics) {
            self.panicked.warn(self.now, |left_out| {
                self.shared.journal.write(move || {
                    let what =
                        "a rule, a payload's destructor, a waker or a log subscriber panicked";
                    tracing::error!(panics, left_out, "{what}");
                });
            });
        }
    }

    // ---- feeds ----

    /// A mailbox that has been emptied may be the next one that holds something.
    pub(crate) fn keep_mail(&mut self, emptied: Box<Mail>) {
        if let Some(spare) = emptied.into_spare() {
            self.spare_mail = Some(spare);
        }
    }

    /// Whether something has been taken over, or is being, that may not be delivered yet.
    pub(crate) fn has_hidden(&self) -> bool {
        !self.hidden.is_empty() || self.is_taking_over()
    }

    /// It is to be looked for what this feed holds for nobody.
    pub(crate) fn touch(&mut self, place: usize) {
        if self.logs.get_mut(place).is_some_and(|log| !std::mem::replace(&mut log.touched, true)) {
            self.touched.push(place);
        }
    }

    /// The place of a feed, which it is given if it has none.
    pub(crate) fn log_of(&mut self, topic: &Arc<Topic>) -> usize {
        let place = topic.place.load(Ordering::Relaxed);
        if self.logs.get(place).is_some_and(|log| Arc::ptr_eq(&log.topic, topic)) {
            return place;
        }
        let log = Log::new(Arc::clone(topic), self.shared.limits.feed, self.retention);
        let place = self.logs.insert(log);
        topic.place.store(place, Ordering::Relaxed);
        place
    }

    /// A new follower of a feed; where it begins: it is to have what was stamped from `stamp` on.
    pub(crate) fn follow(&mut self, place: usize, key: usize, serial: u32, stamp: u64) -> Cursor {
        let (now, upto) = (self.now, self.horizon());
        let log = &mut self.logs[place];
        log.followers.add(key, serial);
        log.survey.take_if(|survey| survey.is_over);
        let cursor = log.start(log.topic.is_everyones(), stamp, upto, now);
        self.need(place, cursor, 0);
        cursor
    }

    /// A new follower of a feed on `stepcast.v1`; see [`Log::resume`].
    pub(crate) fn resume(
        &mut self,
        place: usize,
        (key, serial): (usize, u32),
        had: Option<Had>,
        stamp: u64,
    ) -> (Cursor, u64, bool) {
        let (now, upto) = (self.now, self.horizon());
        let log = &mut self.logs[place];
        log.followers.add(key, serial);
        log.survey.take_if(|survey| survey.is_over);
        let begun = log.resume(had, stamp, upto, now);
        self.need(place, begun.0, 0);
        begun
    }

    /// A follower less, which may follow the feed again: it is not to be listed twice then.
    pub(crate) fn unfollow_early(&mut self, place: usize, key: usize, serial: u32) {
        if let Some(log) = self.logs.get_mut(place) {
            log.followers.forget(key, serial);
        }
        self.unfollow(place);
    }

    /// A follower less, whose connection is no client's any more.
    pub(crate) fn unfollow(&mut self, place: usize) {
        if let Some(log) = self.logs.get_mut(place) {
            log.followers.count -= 1;
            self.touch(place);
        }
    }

    /// A feed has something new: its followers are called. Where messages were lost before they could be taken
    /// over, or many have gone, all that are listed are shown at once, with how many were lost; who is said to be no follower is
    /// taken from the list. Whether the call begins, and is not one that was under way.
    pub(crate) fn call_followers(
        &mut self,
        place: usize,
        mut is_one: impl FnMut(&Self, usize, u32, u64) -> bool,
    ) -> bool {
        let Some(log) = self.logs.get_mut(place) else { return false };
        let lost = std::mem::take(&mut log.lost);
        if lost > 0 || log.followers.is_littered() {
            let mut followers = std::mem::take(&mut log.followers);
            followers.retain(|key, serial| is_one(self, key, serial, lost));
            if let Some(log) = self.logs.get_mut(place) {
                log.followers = followers;
            }
        }
        self.touch(place);
        self.logs.get_mut(place).is_some_and(|log| log.followers.call())
    }

    /// Whether a client has so much of logs before it that it gets the latest values first.
    pub(crate) fn is_behind(&self, follows: &Follows) -> bool {
        let before =
            |follow: &Follow| Some(self.logs.get(follow.place())?.bytes_before(follow.cursor));
        follows.iter().filter_map(before).sum::<usize>() > BEHIND
    }

    /// The oldest that is there of what a client follows, or the oldest value if these go first, if it was
    /// stamped before `upto`: stamp, message, where the client stands, and where after it.
    pub(crate) fn oldest(
        &self,
        follows: &Follows,
        upto: u64,
        values_first: bool,
    ) -> Option<(u64, &Item, Follow, Cursor)> {
        let next = |follow: &Follow| {
            let log = self.logs.get(follow.place())?;
            let (stamp, item, cursor) =
                log.next(follow.cursor, upto, values_first, follow.removals)?;
            let waits = values_first && cursor.log != follow.cursor.log;
            (stamp < upto).then_some(((waits, stamp), item, *follow, cursor))
        };
        let first = follows.iter().filter_map(next).min_by_key(|(order, ..)| *order);
        first.map(|((_, stamp), item, follow, cursor)| (stamp, item, follow, cursor))
    }

    /// From now on it is found out how far behind the followers of each feed are.
    pub(crate) fn begin_needed(&mut self) {
        self.needed.clear();
        self.needed.resize(self.logs.capacity(), u64::MAX);
    }

    /// A follower of a feed stands there, or begins there.
    /// So many bytes to it may be lost with its connection: it may come back for them.
    pub(crate) fn need(&mut self, place: usize, cursor: Cursor, unanswered: u32) {
        if let Some((needed, log)) = self.needed.get_mut(place).zip(self.logs.get(place)) {
            *needed = log.window.before(cursor.log, unanswered).min(*needed);
        }
    }

    /// As [`trim`](Self::trim), now that all followers have said where they stand.
    pub(crate) fn trim_needed(&mut self, place: usize) -> usize {
        let dropped = match self.needed.get(place) {
            Some(needed) => self.trim(place, *needed),
            None => 0, // it is newer than the question
        };
        if let Some(log) = self.logs.get_mut(place).filter(|_| dropped < TRIM) {
            log.hold_no_more();
        }
        dropped
    }

    pub(crate) fn end_needed(&mut self) {
        self.needed = Vec::new();
        let is_touched = |place: &usize| self.logs.get(*place).is_some_and(|log| log.touched);
        self.touched.retain(is_touched);
    }

    /// Lets go what feeds hold that have been read by all who follow them, so many feeds at most; whether there are more.
    pub(crate) fn trim_touched(&mut self, mut most: usize) -> bool {
        while most > 0 {
            let Some(place) = self.touched.pop() else { return false };
            most = most.saturating_sub(1 + self.trim(place, u64::MAX) / 8);
        }
        !self.touched.is_empty()
    }

    /// Lets go what a feed holds for nobody, where its follower furthest behind is at `needed`, up to some number of
    /// messages, and the rest later; and the feed, if nobody has it and nothing young is in it. How many messages.
    pub(crate) fn trim(&mut self, place: usize, needed: u64) -> usize {
        let is_being_filled = self.is_taking_over_at(place);
        let Some(log) = self.logs.get_mut(place) else { return 0 };
        log.touched = false;
        let dropped = log.trim(needed.min(log.window.live()), self.now, TRIM);
        if dropped == TRIM {
            self.touch(place);
            return dropped;
        }
        if !is_being_filled
            && !log.topic.is_everyones()
            && log.is_over(self.now)
            && self.shared.topics.retire(&log.topic)
        {
            self.logs.remove(place);
            if self.logs.len() < self.logs.capacity() / 4 {
                self.logs.shrink_to_fit();
            }
        }
        dropped
    }

    // ---- memory ----

    /// Over the hub's memory limit: the fullest mailboxes lose their older half, and if that is not
    /// enough the longest logs.
    /// It ends after some number of messages: whether there are more to be lost.
    pub(crate) fn relieve(&mut self) -> bool {
        let mut left = RELIEF;
        if self.shared.overflow == Overflow::SkipOldest {
            self.relieve_mailboxes(&mut left);
        } // else what was taken is not to be lost
        // Of a mailbox nothing is to be lost where the policy says so.
        let may_lose = |log: &Log| {
            self.shared.overflow == Overflow::SkipOldest || log.topic.alias != v1::MAILBOX
        };
        let logs = self.logs.iter().filter(|(_, log)| may_lose(log));
        let mut longest: Vec<_> = logs.map(|(place, log)| (log.bytes(), place)).collect();
        longest.sort_unstable();
        while let Some((_, place)) = longest.pop() {
            if !self.shared.budget.is_tight() {
                return false;
            }
            if left == 0 {
                return true;
            }
            left = left.saturating_sub(self.logs[place].halve());
        }
        false
    }

    fn relieve_mailboxes(&self, left: &mut usize) {
        let mut full: Vec<_> = self.shared.registry.all();
        let log_of =
            |client: &ClientState| client.mailbox.lock().mail.as_ref().map(|m| m.log.bytes());
        full.retain(|client| log_of(client).is_some());
        full.sort_by_cached_key(|client| std::cmp::Reverse(log_of(client)));
        for client in full {
            if !self.shared.budget.is_tight() || *left == 0 {
                return;
            }
            *left = left.saturating_sub(self.halve_mailbox(&client));
        }
    }

    /// What was sent to a client and waits loses its older half: how many messages.
    pub(crate) fn halve_mailbox(&self, client: &ClientState) -> usize {
        let evicted = {
            let mut mailbox = client.mailbox.lock();
            let Some(mail) = &mut mailbox.mail else { return 0 };
            let evicted = mail.log.make_room(0, mail.log.bytes());
            mail.lost += evicted.count as u64; // which is kept, though nothing else may be
            mailbox.free(evicted.bytes, self.shared.mail_budgets());
            evicted
        };
        self.count_skipped(client, evicted.count as u64);
        evicted.count
    }

    /// Where clients that are away have filled their share: those with most mail lose the older
    /// half of their messages, until a quarter of the share is free. Where that is not enough, or
    /// not permitted, and the share is exceeded, those with most have gone for good. It ends after
    /// some number of messages: whether there are more to be lost.
    pub(crate) fn relieve_absent(&mut self) -> bool {
        let share = Arc::clone(&self.shared.absent);
        let may_lose = self.shared.overflow == Overflow::SkipOldest;
        if !share.is_tight() || !(may_lose || share.is_over()) {
            return false;
        }
        let fullest = self.sessions.away.fullest();
        let mut left = if may_lose { RELIEF } else { 0 };
        for (_, client) in &fullest {
            if left == 0 || !share.is_tight() {
                break;
            }
            let mut lost = self.halve_mailbox(client);
            if let Some(log) = client.mail().and_then(|place| self.logs.get_mut(place)) {
                lost += log.halve();
                let left = log.counted();
                self.sessions.away.leave_unacknowledged(client.id, left);
            }
            left = left.saturating_sub(lost);
        }
        // Another half of the same mailboxes before anybody has gone for good.
        if may_lose && left < RELIEF && share.is_tight() {
            return true;
        }
        if !share.is_over() {
            return false;
        }
        let mut left = RELIEF;
        for (bytes, client) in fullest {
            if left == 0 || !share.is_tight() {
                break;
            }
            self.dismiss(&client, DisconnectReason::TooSlow);
            left = left.saturating_sub(bytes / ENTRY_OVERHEAD);
        }
        share.is_over()
    }
}

/// A copy: what is decoded is a slice of a block that others' bytes are in, too.
fn copy_with(message: &Message, map: impl FnOnce(Bytes) -> Bytes) -> Message {
    message.kind().message(map(Bytes::copy_from_slice(message.as_bytes())))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::handshake::{HeadLimits, Request, RequestReader, Rules};
    use crate::hub::client::state::Details;
    use crate::hub::id::IdSource;
    use crate::hub::limits::{Limits, Overflow};
    use crate::page::Page;
    use crate::wire::Wire;
    use crate::wire::v1::Hello;

    pub(crate) fn engine(limits: Limits, timeouts: &Timeouts) -> Engine {
        let shared = Shared::new(limits, Overflow::default(), IdSource::new().unwrap());
        let reception = Reception {
            rules: Rules::default(),
            page: Page::default(),
            keep_headers: Vec::new(),
            proxies: vec![[10, 0, 0, 9].into()],
            frame_ancestors: "'self'".into(),
            greet: true,
            echo: false,
            freshness: 250,
            authorize_follow: None,
        };
        Engine::new(Arc::new(shared), timeouts, &Retention::default(), reception)
    }

    pub(crate) fn everyone(engine: &Engine) -> Arc<Topic> {
        Arc::clone(engine.shared.topics.everyone())
    }

    pub(crate) fn upgrade() -> Request {
        let head = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let mut reader = RequestReader::new(HeadLimits::default());
        reader.read(&mut BytesMut::from(head)).unwrap().unwrap()
    }

    pub(crate) fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_mailbox_that_has_been_emptied_is_the_next_one_that_holds_something() {
        let mut engine = engine(Limits::default(), &Timeouts::default());
        let client = engine.admit(&upgrade(), address("10.0.0.1:1"), (0, 0), everyone(&engine));
        let begun = engine.begin_session(
            &Hello::default(),
            Details::default(),
            address("10.0.0.1:1"),
            (1, 1),
        );
        let has_spare = |engine: &mut Engine| {
            engine.take_news();
            engine.shared.mail.lock().spare.is_some()
        };
        engine.shared.send(begun.client.id, "x".into()).unwrap();
        let place = engine.mail_of(&begun.client).unwrap();
        assert!(!has_spare(&mut engine) && engine.collect_mail(&begun.client, place, 0));
        assert!(has_spare(&mut engine));
        engine.shared.send(client.id, "x".into()).unwrap();
        assert!(!has_spare(&mut engine));
        let (mut follows, upto) = (Follows::none(), engine.upto);
        assert!(follows.next(&client, &mut true, &mut engine, upto).is_some());
        assert!(has_spare(&mut engine));
    }

    #[test]
    fn the_rate_has_room_for_two_seconds_worth_at_once_and_then_for_its_own() {
        let mut engine = engine(Limits::default().inbound_per_second(10), &Timeouts::default());
        let mut used = Used::default();
        assert!((0..20).all(|_| engine.is_within_rate(&mut used, 1)));
        assert!(!engine.is_within_rate(&mut used, 1));
        used = used.after(100_000);
        assert!((0..20).all(|_| engine.is_within_rate(&mut used, 1)));
        for _ in 0..100 {
            used = used.after(100);
            assert!(engine.is_within_rate(&mut used, 1));
        }
        assert!(!engine.is_within_rate(&mut used, 1));
    }

    #[test]
    fn what_counts_for_much_may_end_beyond_the_rate_and_then_the_next_wait_for_it() {
        let mut engine = engine(Limits::default().inbound_per_second(10), &Timeouts::default());
        engine.work = 64;
        let mut used = Used::default();
        assert!(engine.is_within_rate(&mut used, 50));
        assert_eq!((engine.work, engine.more_for(4095), engine.more_for(65536)), (14, 0, 16));
        assert!(!engine.is_within_rate(&mut used.after(3000), 1));
        assert!(engine.is_within_rate(&mut used.after(3100), 1));
        assert!(engine.is_within_rate(&mut used.at_most_half(), 1));
        let large = self::engine(Limits::default().inbound_message(16 << 20), &Timeouts::default());
        assert_eq!((large.more_for(65536), large.more_for(16 << 20)), (0, 16));
    }

    #[test]
    fn over_the_memory_limit_the_fullest_mailbox_gives_half_and_those_after_it_only_if_need_be() {
        let mut engine = engine(Limits::default().memory(100_000), &Timeouts::default());
        let request = upgrade();
        let clients: Vec<_> = (0..4)
            .map(|key| engine.admit(&request, address("127.0.0.1:1"), (key, 0), everyone(&engine)))
            .collect();
        for (client, count) in clients.iter().zip([10, 25, 20, 24]) {
            for _ in 0..count {
                engine.shared.send(client.id, vec![0; 1000 - ENTRY_OVERHEAD].into()).unwrap();
            }
        }
        engine
            .shared
            .set_for(clients[1].id, "k", vec![0; 1000 - ENTRY_OVERHEAD - 130].into())
            .unwrap();
        let waiting = || {
            let bytes =
                |client: &Arc<ClientState>| client.mailbox.lock().mail.as_ref().unwrap().bytes();
            clients.iter().map(bytes).collect::<Vec<_>>()
        };
        engine.relieve();
        assert_eq!(waiting(), [10_000, 13_000, 20_000, 24_000], "values stay");
        assert_eq!(engine.shared.budget.used(), 67_000);
        assert_eq!(clients[1].info().skipped, 13);
        assert_eq!(engine.shared.stats().skipped, 13);
        engine.relieve();
        assert_eq!(waiting(), [10_000, 13_000, 20_000, 24_000], "there is no need any more");
    }

    #[test]
    fn a_burst_leaves_no_room_in_a_feed_and_relief_frees_what_a_batch_holds() {
        let mut engine = engine(Limits::default().memory(1 << 20), &Timeouts::default());
        let topic = engine.shared.topics.get("run").unwrap();
        for _ in 0..1000 {
            engine.shared.push(&topic, vec![0; 500].into(), false).unwrap();
        }
        engine.take_news();
        assert_eq!(topic.inbox.lock().queue.capacity(), 0);
        let place = engine.log_of(&topic);
        let log = &mut engine.logs[place];
        log.followers.add(0, 1);
        for _ in 0..2 {
            log.batch(Cursor::default(), engine.upto, Wire::Plain, true, &engine.shared.budget);
        }
        engine.shared.budget.add(700 << 10); // others'
        let before = (engine.shared.budget.used(), engine.logs[place].bytes());
        engine.relieve();
        let freed = before.1 - engine.logs[place].bytes();
        assert!(freed > 50_000, "{freed}");
        let copied = before.1 / (500 + ENTRY_OVERHEAD) * 504; // for the batch
        assert!(engine.shared.budget.used() + freed + copied <= before.0);
        engine.trim(place, u64::MAX);
        for _ in 0..9 {
            engine.relieve();
            engine.shared.budget.add(100 << 10);
        }
        assert!(engine.logs[place].window.capacity() < 100);
    }

    #[test]
    fn where_nothing_may_be_skipped_mailboxes_do_not_make_way_for_want_of_memory() {
        for overflow in [Overflow::SkipOldest, Overflow::Refuse, Overflow::Disconnect] {
            let mut engine = engine(Limits::default().memory(100_000), &Timeouts::default());
            Arc::get_mut(&mut engine.shared).unwrap().overflow = overflow;
            let from = address("10.0.0.1:1");
            let plain = engine.admit(&upgrade(), from, (0, 1), everyone(&engine));
            let begun = engine.begin_session(&Hello::default(), Details::default(), from, (1, 2));
            for _ in 0..8 {
                engine.shared.send(plain.id, vec![0; 2000].into()).unwrap();
                engine.shared.send(begun.client.id, vec![0; 2000].into()).unwrap();
            }
            engine.take_news();
            let place = engine.mail_of(&begun.client).unwrap();
            assert!(engine.collect_mail(&begun.client, place, 0));
            engine.shared.budget.add(60_000);
            let held = |engine: &Engine| {
                [plain.mailbox.lock().mail.as_ref().unwrap().bytes(), engine.logs[place].bytes()]
            };
            let before = held(&engine);
            engine.relieve();
            let is_less = held(&engine) != before;
            assert_eq!(is_less, overflow == Overflow::SkipOldest, "{overflow:?}");
        }
    }
}
