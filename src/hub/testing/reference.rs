//! A hub without sockets, beside a naive model that says what each client has to be given.
//!
//! What is real here is all that callers run, the engine, and what a connection reads from it
//! ([`Follows`]). The model keeps every number that was ever pushed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;
use tokio_util::codec::Decoder;

use crate::codec::{self, Incoming, Message, MessageCodec, Role};
use crate::hub::client::state::ClientState;
use crate::hub::engine::follows::{Follow, Follows, Owed};
use crate::hub::engine::parts::Engine;
use crate::hub::error::SendError;
use crate::hub::events::DisconnectReason;
use crate::hub::feed::item;
use crate::hub::feed::queue::ENTRY_OVERHEAD;
use crate::hub::feed::topic::{self, Topic, Topics};
use crate::hub::limits::{Limits, Overflow, Retention, Timeouts};
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::testing::fixtures::{self, upgrade};
use crate::wire::Wire;

/// What a finished feed answers to each push.
const ENDED: Result<(), SendError> = Err(SendError::Finished);

/// What a connection is without its socket.
pub(crate) struct Reader {
    pub(crate) client: Arc<ClientState>,
    pub(crate) key: usize,
    id: ConnId,
    pub(crate) follows: Follows,
    pub(crate) has_mail: bool,
}

impl Reader {
    /// As a connection does that has been asked for this feed, with a handle of it.
    pub(crate) fn admit(engine: &mut Engine, key: usize, serial: u32, topic: Arc<Topic>) -> Self {
        let place = engine.feeds.log_of(&topic);
        let address = "127.0.0.1:1".parse().unwrap();
        let id = ConnId::new(key, serial);
        let client = engine.admit(&upgrade(), address, id, topic);
        let cursor = engine.follow(place, id);
        let follows = Follows::one(Follow::new(place, cursor));
        Self { client, key, id, follows, has_mail: false }
    }

    pub(crate) fn leave(self, engine: &mut Engine) {
        self.follows.iter().for_each(|follow| engine.feeds.unfollow(follow.place()));
        engine.dismiss(&self.client, DisconnectReason::Lost);
    }

    /// The bytes of what it is owed, up to some number; the frame that this ends in is whole.
    pub(crate) fn read(&mut self, engine: &mut Engine, most: usize) -> Vec<u8> {
        let skipped = self.follows.catch_up(&engine.feeds);
        engine.shared.count_skipped(&self.client, skipped);
        let (mut bytes, upto) = (Vec::new(), engine.feeds.upto);
        while bytes.len() < most {
            let only = self.follows.only().filter(|_| !self.has_mail);
            let batch = only.and_then(|follow| {
                let log = engine.feeds.get_mut(follow.place())?;
                Some((
                    follow.place(),
                    log.batch(follow.cursor, upto, Wire::Plain, true, &engine.shared.budget)?,
                ))
            });
            if let Some((place, batch)) = batch {
                let whole: Vec<u8> = batch.parts_up_to(usize::MAX).flatten().copied().collect();
                let written = whole.len().min(most - bytes.len());
                if written > 0 {
                    bytes.extend_from_slice(&whole[..written]);
                    let (cursor, rest) = batch.after(written);
                    rest.parts().for_each(|part| bytes.extend_from_slice(part));
                    self.follows.set_cursor(place, cursor);
                    continue;
                }
            }
            let owed = self.follows.next(&self.client, &mut self.has_mail, &engine.feeds, upto);
            let frame = match owed {
                Some(Owed::Mail(mailed)) => {
                    if let Some(emptied) = mailed.emptied {
                        engine.feeds.keep_mail(emptied);
                    }
                    let message = mailed.message.expect("the plain wire has no removals");
                    item::keep(message, mailed.cost, &engine.shared.budget).into_frame()
                }
                Some(Owed::Feed { item, follow, after, .. }) => {
                    self.follows.set_cursor(follow.place(), after);
                    item.frame()
                }
                None => break,
            };
            frame.parts().for_each(|part| bytes.extend_from_slice(part));
        }
        bytes
    }

    fn has_all(&self, engine: &Engine) -> bool {
        !self.has_mail && self.follows.oldest(&engine.feeds, engine.feeds.upto, false).is_none()
    }
}

/// A turn of the driver, as far as it is about what was pushed.
pub(crate) fn turn<'a>(engine: &mut Engine, readers: impl Iterator<Item = &'a mut Reader>) {
    let mut readers: Vec<&mut Reader> = readers.collect();
    assert!(engine.feeds.take_feeds(engine.clock.now, &mut usize::MAX.clone()));
    while let Some(key) = engine.feeds.next_told() {
        if let Some(reader) = readers.iter_mut().find(|reader| reader.key == key) {
            reader.has_mail = true;
            let (feeds, now) = (&mut engine.feeds, engine.clock.now);
            reader.follows.follow_as_told(&reader.client, feeds, reader.id, now);
        }
    }
    for place in engine.feeds.end_round() {
        let shared = Arc::clone(&engine.shared);
        engine.feeds.call_followers(place, |id, lost| {
            let told =
                readers.iter().find(|reader| reader.id == id && reader.follows.contains(place));
            told.map(|reader| shared.count_skipped(&reader.client, lost)).is_some()
        });
    }
    if readers.iter().all(|reader| reader.has_all(engine)) {
        turn_end(engine);
    }
}

/// When all have all, what is kept for nobody goes.
pub(crate) fn turn_end(engine: &mut Engine) {
    if !engine.feeds.has_hidden() {
        engine.feeds.trim_touched(usize::MAX, engine.clock.now);
    }
}

const FEEDS: usize = 3; // the first is everyone's
const VIEWERS: usize = 3;
const FEED: usize = 3000;
const MAILBOX: usize = 2000;
const KEPT: usize = 5;
const AGE: u64 = 100;

#[derive(Debug, Clone)]
enum Op {
    Send(usize, usize),
    Set(usize, u8, usize),
    Remove(usize, u8),
    Close(usize),
    Mail(usize, usize),
    MailSet(usize, u8, usize),
    MailRemove(usize, u8),
    Follow(usize, usize),
    Unfollow(usize, usize),
    /// Connects at a feed, or leaves.
    Come(usize, usize),
    Turn,
    /// A turn that takes over so much at most.
    Part(usize),
    Tick,
    Read(usize, usize),
    Pass(u64),
    Relieve,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (feed, viewer) = (0..FEEDS, 0..VIEWERS);
    let size = || prop_oneof![8 => 0..60usize, 8 => 200..700usize, 1 => Just(5000usize)];
    let op = prop_oneof![
        12 => (feed.clone(), size()).prop_map(|(f, s)| Op::Send(f, s)),
        6 => (feed.clone(), 0..3u8, size()).prop_map(|(f, k, s)| Op::Set(f, k, s)),
        3 => (feed.clone(), 0..3u8).prop_map(|(f, k)| Op::Remove(f, k)),
        6 => (viewer.clone(), size()).prop_map(|(v, s)| Op::Mail(v, s)),
        6 => (viewer.clone(), 0..3u8, size()).prop_map(|(v, k, s)| Op::MailSet(v, k, s)),
        2 => (viewer.clone(), 0..3u8).prop_map(|(v, k)| Op::MailRemove(v, k)),
        4 => (viewer.clone(), feed.clone()).prop_map(|(v, f)| Op::Follow(v, f)),
        2 => (viewer.clone(), feed.clone()).prop_map(|(v, f)| Op::Unfollow(v, f)),
        2 => (viewer.clone(), feed.clone()).prop_map(|(v, f)| Op::Come(v, f)),
        8 => Just(Op::Turn),
        4 => (1..8usize).prop_map(Op::Part),
        2 => Just(Op::Tick),
        8 => (viewer, prop_oneof![0..2000usize, Just(usize::MAX)]).prop_map(|(v, n)| Op::Read(v, n)),
        1 => (1..AGE).prop_map(Op::Pass),
        1 => Just(Op::Relieve),
    ];
    let end = prop_oneof![4 => Just(None), 1 => (0..FEEDS, 0..120usize).prop_map(Some)];
    (proptest::collection::vec(op, 1..120), end).prop_map(|(mut ops, end)| {
        if let Some((feed, at)) = end {
            ops.insert(at.min(ops.len()), Op::Close(feed));
        }
        ops
    })
}

/// What a number was pushed to.
#[derive(Debug, Clone, Copy)]
enum To {
    Log(usize),
    Key(usize, u8),
    Mail(u64),
    MailKey(u64, u8),
}

/// A feed: every number that its log has had since the driver took it over, with its cost and when;
/// numbers that the driver has not taken over; the newest number of each key. How many were lost in the round that is
/// under way.
#[derive(Default)]
struct ModelFeed {
    taken: Vec<(usize, usize, u64)>,
    pending: VecDeque<(usize, usize)>,
    latest: BTreeMap<u8, usize>,
    /// `None`: removed.
    latest_pending: BTreeMap<u8, Option<usize>>,
    lost: u64,
    finished: bool,
    /// What came before this position may have given way to other things in memory.
    relieved: usize,
}

impl ModelFeed {
    /// Whether the window has to have what is at this position, if somebody may need it.
    fn is_within_bound(&self, position: usize) -> bool {
        let bytes: usize = self.taken[position..].iter().map(|(_, cost, _)| cost).sum();
        position >= self.relieved && bytes <= FEED
    }

    /// Whether it is kept, where what was pushed before the number `taken` is delivered.
    fn is_kept(&self, position: usize, taken: usize, now: u64) -> bool {
        let delivered = self.taken.partition_point(|(number, ..)| *number < taken);
        position < delivered && position + KEPT >= delivered && self.taken[position].2 + AGE > now
    }
}

struct Following {
    /// What was pushed from this number on comes in the order of all pushes.
    begins: usize,
    /// What was pushed before this number had given way when it began.
    from: usize,
    owed: VecDeque<usize>,
    seen: BTreeMap<u8, usize>,
}

/// What a client has not been handed of a key: its newest number, what that costs, and the oldest
/// number that it replaced.
struct ModelValue {
    number: usize,
    cost: usize,
    since: usize,
}

struct Viewer {
    reader: Reader,
    following: BTreeMap<usize, Following>,
    /// What it is to follow from the next turn on, from which number on; and what it unfollowed.
    wanted: BTreeMap<usize, usize>,
    stopped: BTreeSet<usize>,
    mail: VecDeque<usize>,
    set: BTreeMap<u8, ModelValue>,
    last: Option<usize>,
    /// Messages missed, and of those it was owed when it unfollowed, which may have been.
    missed: u64,
    unknown: u64,
}

impl Viewer {
    fn take(
        &mut self,
        number: usize,
        to: To,
        feeds: &[ModelFeed],
        (taken, is_taking): (usize, bool),
    ) {
        let skip_to = |owed: &mut VecDeque<usize>| {
            let index = owed.iter().position(|owed| *owed == number);
            owed.drain(..=index.expect("owed, and not had before")).len() as u64 - 1
        };
        let begins = match to {
            To::Mail(id) => {
                assert_eq!(id, self.reader.client.id.get());
                self.missed += skip_to(&mut self.mail);
                0
            }
            To::MailKey(id, key) => {
                assert_eq!(id, self.reader.client.id.get());
                let value = self.set.remove(&key).expect("set, and not had before");
                assert_eq!(value.number, number, "the newest there is");
                assert!(value.since < taken, "before its turn");
                0
            }
            To::Log(feed) => {
                let following = self.following.get_mut(&feed).expect("a feed it follows");
                self.missed += skip_to(&mut following.owed);
                following.begins
            }
            To::Key(feed, key) => {
                let following = self.following.get_mut(&feed).expect("a feed it follows");
                let newest = feeds[feed].latest.get(&key);
                let is_newest = newest == Some(&number)
                    || is_taking && newest.is_none_or(|newest| number < *newest);
                assert!(is_newest, "the newest there was at the turn");
                let before = following.seen.insert(key, number);
                assert!(before.is_none_or(|before| before < number), "had before");
                following.begins
            }
        };
        let skipped = self.reader.client.skipped.load(Ordering::Relaxed);
        assert!(self.missed <= skipped, "skipped without being told");
        if number >= begins {
            assert!(self.last.is_none_or(|last| last < number), "out of order");
            // A value may have been set again since the driver looked: it comes after all before that.
            self.last = Some(number.min(taken - 1));
        }
    }
}

struct World {
    engine: Engine,
    topics: Vec<Arc<Topic>>,
    feeds: Vec<ModelFeed>,
    viewers: Vec<Option<Viewer>>,
    /// Everything that was ever pushed.
    pushed: Vec<To>,
    /// How much of it the driver has made deliverable, and how much it will at the end of the round that is under way.
    taken: usize,
    begun: usize,
    serial: u32,
}

impl World {
    fn new() -> Self {
        let limits = Limits::default().feed(FEED).mailbox(MAILBOX).memory(1 << 30);
        let retention = Retention::default().messages(KEPT).age(Duration::from_millis(AGE));
        let engine =
            fixtures::engine_with(limits, Overflow::default(), &Timeouts::default(), &retention);
        let shared = &engine.shared;
        let mut topics = vec![Topics::clone_handle(shared.topics.everyone())];
        topics.extend((1..FEEDS).map(|n| shared.topics.get(&format!("feed {n}")).unwrap()));
        Self {
            topics,
            feeds: (0..FEEDS).map(|_| ModelFeed::default()).collect(),
            viewers: (0..VIEWERS).map(|_| None).collect(),
            pushed: Vec::new(),
            taken: 0,
            begun: 0,
            serial: 0,
            engine,
        }
    }

    /// A message that says which push it is.
    fn message(&self, size: usize) -> Message {
        format!("{} {}", self.pushed.len(), "x".repeat(size)).into()
    }

    fn step(&mut self, op: &Op) {
        let shared = Arc::clone(&self.engine.shared);
        let nobody = self.viewers.iter().all(Option::is_none);
        match *op {
            Op::Send(feed, size) => {
                let message = self.message(size);
                let cost = message.len() + ENTRY_OVERHEAD;
                let model = &mut self.feeds[feed];
                match shared.push(&self.topics[feed], message, false) {
                    // Behind what has not been taken over it keeps its place.
                    Ok(()) if feed == 0 && nobody && model.pending.is_empty() => {}
                    Ok(()) => {
                        assert!(!model.finished);
                        model.pending.push_back((self.pushed.len(), cost));
                        self.pushed.push(To::Log(feed));
                    }
                    other => assert!(other == ENDED && model.finished, "{other:?}"),
                }
            }
            Op::Set(feed, key, size) => {
                let (message, model) = (self.message(size), &mut self.feeds[feed]);
                match shared.set(&self.topics[feed], &key.to_string(), message) {
                    Ok(()) => {
                        assert!(!model.finished);
                        model.latest_pending.insert(key, Some(self.pushed.len()));
                        self.pushed.push(To::Key(feed, key));
                    }
                    other => assert!(other == ENDED && model.finished, "{other:?}"),
                }
            }
            Op::Remove(feed, key) => {
                let model = &mut self.feeds[feed];
                match shared.remove(&self.topics[feed], &key.to_string()) {
                    Ok(()) => drop(model.latest_pending.insert(key, None)),
                    other => assert!(other == ENDED && model.finished, "{other:?}"),
                }
            }
            Op::Close(feed) => {
                let message = self.message(1);
                let cost = message.len() + ENTRY_OVERHEAD;
                shared.push(&self.topics[feed], message, true).unwrap();
                self.feeds[feed].finished = true;
                self.feeds[feed].pending.push_back((self.pushed.len(), cost));
                self.pushed.push(To::Log(feed));
            }
            Op::Mail(viewer, size) => {
                let message = self.message(size);
                let Some(viewer) = &mut self.viewers[viewer] else { return };
                shared.send(viewer.reader.client.id, message).unwrap();
                viewer.mail.push_back(self.pushed.len());
                self.pushed.push(To::Mail(viewer.reader.client.id.get()));
            }
            Op::MailSet(viewer, key, size) => {
                let (message, number) = (self.message(size), self.pushed.len());
                let cost = topic::KeyTable::cost(&key.to_string(), &message);
                let Some(viewer) = &mut self.viewers[viewer] else { return };
                let id = viewer.reader.client.id;
                let others = viewer.set.iter().filter(|(other, _)| **other != key);
                let others: usize = others.map(|(_, value)| value.cost).sum();
                let answer = shared.set_for(id, &key.to_string(), message);
                if others > 0 && others + cost > MAILBOX {
                    assert!(matches!(answer, Err(SendError::TooManyValues { .. })), "{answer:?}");
                    return;
                }
                assert_eq!(answer, Ok(()));
                let since = viewer.set.get(&key).map_or(number, |value| value.since);
                viewer.set.insert(key, ModelValue { number, cost, since });
                self.pushed.push(To::MailKey(id.get(), key));
            }
            Op::MailRemove(viewer, key) => self.remove_for(viewer, key),
            Op::Follow(viewer, feed) => {
                let Some(viewer) = &mut self.viewers[viewer] else { return };
                shared.follow(viewer.reader.client.id, &self.topics[feed]).unwrap();
                viewer.wanted.entry(feed).or_insert(self.pushed.len());
            }
            Op::Unfollow(viewer, feed) => {
                let Some(viewer) = &mut self.viewers[viewer] else { return };
                shared.unfollow(viewer.reader.client.id, &self.topics[feed]).unwrap();
                if viewer.wanted.remove(&feed).is_some() {
                    viewer.stopped.insert(feed);
                }
            }
            Op::Come(viewer, feed) => self.come(viewer, feed),
            Op::Turn => self.turn(),
            Op::Part(most) => {
                if self.take(most) {
                    self.turn();
                }
            }
            Op::Tick => self.tick(),
            Op::Read(viewer, most) => self.read(viewer, most),
            Op::Pass(time) => self.engine.clock.now += time,
            Op::Relieve => {
                shared.budget.add(1 << 30);
                self.engine.relieve();
                shared.budget.sub(1 << 30);
                self.feeds.iter_mut().for_each(|feed| feed.relieved = feed.taken.len());
            }
        }
    }

    fn remove_for(&mut self, viewer: usize, key: u8) {
        let Some(viewer) = &mut self.viewers[viewer] else { return };
        self.engine.shared.remove_for(viewer.reader.client.id, &key.to_string()).unwrap();
        viewer.set.remove(&key);
    }

    fn come(&mut self, slot: usize, feed: usize) {
        if let Some(viewer) = self.viewers[slot].take() {
            viewer.reader.leave(&mut self.engine);
            return;
        }
        self.serial += 1;
        let topic = match feed {
            0 => Arc::clone(&self.topics[0]),
            _ => self.engine.shared.topics.get_for_client(self.topics[feed].name()).unwrap(),
        };
        let reader = Reader::admit(&mut self.engine, slot, self.serial, topic);
        let mut viewer = Viewer {
            reader,
            following: BTreeMap::new(),
            wanted: BTreeMap::from([(feed, self.taken)]),
            stopped: BTreeSet::new(),
            mail: VecDeque::new(),
            set: BTreeMap::new(),
            last: None,
            missed: 0,
            unknown: 0,
        };
        self.follow(&mut viewer);
        self.viewers[slot] = Some(viewer);
    }

    /// Has the model's viewer follow what it is to follow.
    fn follow(&self, viewer: &mut Viewer) {
        for stopped in std::mem::take(&mut viewer.stopped) {
            let gone = viewer.following.remove(&stopped);
            viewer.unknown += gone.map_or(0, |following| following.owed.len() as u64);
        }
        for (&feed, &begins) in &viewer.wanted {
            if viewer.following.contains_key(&feed) {
                continue;
            }
            let (model, now) = (&self.feeds[feed], self.engine.clock.now);
            let place = self.topics[feed].place();
            let window = &self.engine.feeds.logs[place].window;
            let start = (0..model.taken.len()).find(|&position| {
                let kept = feed > 0 && model.is_kept(position, self.taken, now);
                let there = window.get(position as u64).is_some();
                assert!(there || !kept || !model.is_within_bound(position), "let go too early");
                there && (kept || model.taken[position].0 >= begins)
            });
            let owed = &model.taken[start.unwrap_or(model.taken.len())..];
            let owed = owed.iter().map(|(number, ..)| *number);
            let owed = owed.filter(|number| *number < self.taken).collect();
            let seen = BTreeMap::new();
            let first = model.taken.get(usize::try_from(window.first()).unwrap());
            let last = model.taken.last().map_or(0, |(number, ..)| number + 1);
            let from = first.map_or(last, |(number, ..)| *number);
            viewer.following.insert(feed, Following { begins, from, owed, seen });
        }
    }

    /// The first stage of a round, or a part of it; whether it is over.
    fn take(&mut self, mut most: usize) -> bool {
        let now = self.engine.clock.now;
        if !self.engine.feeds.is_taking_over() {
            self.begun = self.pushed.len();
        }
        let told = |topic: &Arc<Topic>| {
            let inbox = topic.inbox.lock();
            (inbox.told, inbox.lost)
        };
        let before: Vec<_> = self.topics.iter().map(told).collect();
        let is_over = self.engine.feeds.take_feeds(self.engine.clock.now, &mut most);
        for ((feed, topic), (was_told, lost)) in self.feeds.iter_mut().zip(&self.topics).zip(before)
        {
            if !was_told || topic.inbox.lock().told {
                continue; // not its turn yet
            }
            let bytes: usize = feed.pending.iter().map(|(_, cost)| cost).sum();
            assert!(lost == 0 || bytes > FEED, "lost without need");
            feed.lost += lost;
            feed.pending.drain(..usize::try_from(lost).unwrap());
            let new: Vec<_> = feed.pending.drain(..).collect();
            feed.taken.extend(new.iter().map(|(number, cost)| (*number, *cost, now)));
            for (key, number) in std::mem::take(&mut feed.latest_pending) {
                match number {
                    Some(number) => drop(feed.latest.insert(key, number)),
                    None => drop(feed.latest.remove(&key)),
                }
            }
        }
        is_over
    }

    fn turn(&mut self) {
        self.take(usize::MAX);
        let before = std::mem::replace(&mut self.taken, self.begun);
        turn(&mut self.engine, self.viewers.iter_mut().flatten().map(|viewer| &mut viewer.reader));
        let mut viewers = std::mem::take(&mut self.viewers);
        for viewer in viewers.iter_mut().flatten() {
            for (feed, following) in &mut viewer.following {
                let taken = self.feeds[*feed].taken.iter().map(|(number, ..)| *number);
                let new = before.max(following.from)..self.taken;
                let new = taken.filter(|number| new.contains(number));
                if viewer.stopped.contains(feed) {
                    viewer.unknown += new.count() as u64; // they may have given way before the round's end
                } else {
                    following.owed.extend(new);
                }
            }
            self.follow(viewer);
            for feed in viewer.following.keys() {
                viewer.missed += self.feeds[*feed].lost;
            }
        }
        self.feeds.iter_mut().for_each(|feed| feed.lost = 0);
        self.viewers = viewers;
        if self.begun == self.pushed.len() {
            self.check_followers(); // nothing is under way
        }
    }

    /// What says who follows what agrees: the wishes of clients, which are the fact; the cursors of
    /// connections; the list of each feed's followers, and its count; the count that callers read.
    fn check_followers(&self) {
        let viewers = || self.viewers.iter().flatten();
        for topic in &self.topics {
            let place = topic.place();
            let wants = |viewer: &&Viewer| viewer.reader.client.wants(topic);
            let follows = |viewer: &&Viewer| viewer.reader.follows.contains(place);
            assert_eq!(topic.followers(), viewers().filter(wants).count());
            assert!(viewers().all(|viewer| wants(&viewer) == follows(&viewer)));
            let Some(log) = self.engine.feeds.get(place) else { continue };
            assert_eq!(log.followers.count(), viewers().filter(follows).count());
            let listed = |viewer: &Viewer| log.followers.lists(viewer.reader.id) == 1;
            assert!(viewers().filter(follows).all(listed));
        }
        for viewer in viewers() {
            let mailbox = viewer.reader.client.mailbox.lock();
            let waits = mailbox.mail.as_ref().is_some_and(|mail| mail.waits());
            assert!(!waits || viewer.reader.has_mail, "the driver has been told");
        }
    }

    fn tick(&mut self) {
        let mut needed = [u64::MAX; FEEDS];
        for (topic, needed) in self.topics.iter().zip(&mut needed) {
            let place = topic.place();
            for viewer in self.viewers.iter().flatten() {
                let follow = viewer.reader.follows.iter().find(|follow| follow.place() == place);
                *needed = (*needed).min(follow.map_or(u64::MAX, |follow| follow.cursor.log));
            }
            self.engine.trim(place, *needed);
        }
    }

    fn read(&mut self, slot: usize, most: usize) {
        let Some(viewer) = &mut self.viewers[slot] else { return };
        for follow in viewer.reader.follows.iter() {
            let log = &self.engine.feeds.logs[follow.place()];
            if log.window.catch_up(follow.cursor.log).is_some() {
                let feed = self.topics.iter().position(|t| Arc::ptr_eq(t, &log.topic)).unwrap();
                let position = usize::try_from(follow.cursor.log).unwrap();
                assert!(!self.feeds[feed].is_within_bound(position), "skips without need");
            }
        }
        let taken = (self.taken, self.engine.feeds.is_taking_over());
        let bytes = viewer.reader.read(&mut self.engine, most);
        let mut bytes = BytesMut::from(&bytes[..]);
        let mut codec = MessageCodec::new(Role::Client, codec::FrameLimits::default());
        while let Some(incoming) = codec.decode(&mut bytes).unwrap() {
            let Incoming::Message(message) = incoming else { panic!("{incoming:?}") };
            let (number, _) = message.as_text().unwrap().split_once(' ').unwrap();
            let number = number.parse::<usize>().unwrap();
            viewer.take(number, self.pushed[number], &self.feeds, taken);
        }
        let oldest = viewer.set.values().min_by_key(|value| value.number);
        let waits = oldest.is_none_or(|oldest| oldest.since >= self.taken);
        assert!(waits || most < usize::MAX, "a value that is set again and again does not come");
        assert!(bytes.is_empty());
    }

    /// In the end everyone has everything, or was told that it has not, and nothing is held.
    fn end(mut self) {
        self.turn();
        self.turn(); // what was pushed while a round was under way
        for slot in 0..VIEWERS {
            self.read(slot, usize::MAX);
            let Some(viewer) = self.viewers[slot].take() else { continue };
            assert!(viewer.set.is_empty(), "the newest of each key");
            let mut missed = viewer.missed + viewer.mail.len() as u64;
            for (feed, mut following) in viewer.following {
                missed += following.owed.len() as u64;
                let latest = &self.feeds[feed].latest;
                following.seen.retain(|key, _| latest.contains_key(key)); // not those removed since
                assert_eq!(following.seen, *latest, "the newest of each key");
            }
            let skipped = viewer.reader.client.skipped.load(Ordering::Relaxed);
            assert!(missed <= skipped && skipped <= missed + viewer.unknown);
            viewer.reader.leave(&mut self.engine);
        }
        let Self { mut engine, topics, .. } = self;
        let shared = Arc::clone(&engine.shared);
        for topic in &topics {
            shared.drop_handle(topic);
        }
        engine.clock.now += AGE;
        turn(&mut engine, std::iter::empty());
        for index in 0.. {
            let Some(place) = engine.feeds.logs.place(index) else { break };
            engine.trim(place, u64::MAX);
        }
        assert_eq!((shared.topics.count(), engine.feeds.logs.len()), (0, 1));
        drop(engine);
        assert_eq!(shared.budget.used(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_client_gets_what_a_naive_model_says(ops in ops()) {
        let mut world = World::new();
        for op in &ops {
            world.step(op);
        }
        world.end();
    }
}
