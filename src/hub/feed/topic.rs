//! A feed as the callers' threads see it: a name, and the pushes that the driver has not taken over
//! yet. Also the table of feeds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::codec::Message;
use crate::hub::error::{FeedError, SendError};
use crate::hub::feed::epoch;
use crate::hub::feed::place::FeedPlace;
use crate::hub::feed::queue::{Entry, Queue};
use crate::hub::feed::seq::Seq;
use crate::hub::feed::stamp::{Stamp, Stamps};
use crate::hub::primitives::lock::Lock;
use crate::hub::primitives::program::Payload;
use crate::hub::primitives::sync::{AtomicBool, AtomicU64, AtomicUsize};
use crate::wire::v1::MAILBOX;

/// The longest name, in bytes.
pub(crate) const NAME_MAX: usize = 256;

/// One feed. Everyone's feed is one, too, without a name.
pub(crate) struct Topic {
    name: Box<str>,
    /// The feed's alias on the wire `stepcast.v1`.
    pub(crate) alias: u32,
    /// The epoch of the feed's numbers and stamps.
    pub(crate) epoch: u64,
    /// Numbers of this feed's messages begin behind this one, above those of any earlier feed of
    /// the same name.
    pub(crate) origin: Seq,
    pub(crate) inbox: Lock<Inbox>,
    /// The number of handles: those of the program, and one for each client that follows the feed.
    handles: AtomicUsize,
    /// The number of clients that have to follow the feed. The clients know themselves; the count
    /// is kept so that `Feed::set_with` and `Feed::followers` take no lock.
    followers: AtomicUsize,
    /// Whether the program has asked for the feed, and not only clients. Under the table's lock.
    claimed: AtomicBool,
    /// Whether the driver knows the feed. The driver then decides when the feed goes.
    known: AtomicBool,
    /// The place in the driver's table, for the driver alone.
    place: AtomicUsize,
    /// The key among the feeds that nobody has a handle of, or [`IN_USE`]. Under the table's lock.
    idle: AtomicU64,
    /// Whether the feed has made way for another, so the driver has to drop it.
    evicted: AtomicBool,
}

/// The key of a feed that somebody has a handle of.
const IN_USE: u64 = u64::MAX;

/// The pushes that the driver has not taken over yet.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) queue: Queue,
    pub(crate) latest: Option<Box<KeyTable>>,
    /// The log bytes that the slowest follower has not been handed, or more. Each push adds to the
    /// number, and the driver corrects it while a push waits for room.
    pub(crate) owed: Option<usize>,
    /// The number of the newest message, taken over or not.
    pub(crate) newest: Seq,
    /// The messages that were dropped before the driver took them over.
    pub(crate) lost: u64,
    /// Whether the driver has been told of news in this inbox.
    pub(crate) told: bool,
    /// The table's limit, if the table had no place for the feed: the feed takes nothing, and
    /// nobody can follow it.
    pub(crate) refused: Option<usize>,
    /// The stamp of the feed's end, once its last message was pushed.
    pub(crate) finished: Option<Stamp>,
    /// Whether the hub has ended.
    pub(crate) closed: bool,
}

/// The keys that have a latest value, and the changes that the driver has not taken over.
#[derive(Debug, Default)]
pub(crate) struct KeyTable {
    /// Every key that has a value.
    keys: HashMap<Arc<str>, Held>,
    total: usize,
    /// The changes that the driver has not taken over. A removal is here only if the driver may
    /// know the key.
    pending: HashMap<Arc<str>, Change>,
    /// How often the driver has taken over the pending changes.
    takes: u64,
}

/// A key that has a value.
#[derive(Debug)]
struct Held {
    /// The cost of the value.
    cost: usize,
    /// The driver knows the key if `takes` is above this number; `None`: it does.
    since: Option<u64>,
}

/// A change of a key.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) stamp: Stamp,
    /// The new value; `None`: the value has been removed.
    pub(crate) message: Option<Payload>,
    /// Whether only clients that have no value of this key are told: see [`KeyTable::renew`].
    pub(crate) is_quiet: bool,
}

impl Change {
    pub(crate) fn new(stamp: Stamp, message: Option<Payload>) -> Self {
        Self { stamp, message, is_quiet: false }
    }

    /// The cost in the budget until the driver has taken the change over.
    pub(crate) fn cost(&self, key: &str) -> usize {
        self.message
            .as_ref()
            .map_or(KeyTable::cost_of_removal(key), |value| KeyTable::cost(key, value))
    }
}

impl KeyTable {
    /// The cost of a key and its value beside an entry's own cost.
    pub(crate) fn cost_of_key(key: &str) -> usize {
        2 * key.len() + 128
    }

    /// The cost of removing the value of this key.
    pub(crate) fn cost_of_removal(key: &str) -> usize {
        Self::cost(key, &Message::Binary(Bytes::new()))
    }

    /// The cost of setting this key to a message.
    pub(crate) fn cost(key: &str, message: &Message) -> usize {
        Entry::cost(message).saturating_add(Self::cost_of_key(key))
    }

    /// Whether a value of this cost is within the bounds, in keys and in bytes.
    pub(crate) fn has_room(&self, key: &str, cost: usize, keys: usize, bytes: usize) -> bool {
        let before = self.keys.get(key).map(|held| held.cost);
        let total = self.total - before.unwrap_or(0) + cost;
        (before.is_some() || self.keys.len() < keys) && total <= bytes
    }

    /// Sets a key. Returns the pending change that the new value replaces.
    pub(crate) fn set(&mut self, key: &str, cost: usize, entry: Entry) -> Option<Change> {
        let (known, since) = match (self.keys.get_key_value(key), self.pending.get_key_value(key)) {
            (Some((known, held)), _) => (Some(known), held.since),
            (None, Some((removed, _))) => (Some(removed), None),
            (None, None) => (None, Some(self.takes)),
        };
        let key = known.map_or_else(|| Arc::from(key), Arc::clone);
        self.total += cost;
        let before = self.keys.insert(Arc::clone(&key), Held { cost, since });
        self.total -= before.map_or(0, |held| held.cost);
        let Entry { stamp, message } = entry;
        self.pending.insert(key, Change::new(stamp, Some(message)))
    }

    /// Sets a key in the place of the value that it has: clients that have been given that value are
    /// not given this one. Returns the pending change that the new value replaces.
    pub(crate) fn renew(&mut self, key: &str, cost: usize, entry: Entry) -> Option<Change> {
        let is_known = self.keys.get(key).is_some_and(|held| held.since != Some(self.takes));
        let replaced = self.set(key, cost, entry);
        let was_quiet = replaced.as_ref().is_none_or(|change| change.is_quiet);
        if let (true, true, Some(change)) = (is_known, was_quiet, self.pending.get_mut(key)) {
            change.is_quiet = true;
        }
        replaced
    }

    /// Whether this key has a value that the driver has not taken over.
    pub(crate) fn has_pending(&self, key: &str) -> bool {
        self.pending.get(key).is_some_and(|change| change.message.is_some())
    }

    /// Whether this key has a value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Removes a key and its value. Returns the pending change that the removal replaces, and
    /// whether the removal waits for the driver. No more removals wait than there are keys that the
    /// driver knows.
    pub(crate) fn remove(&mut self, key: &str, stamp: Stamp) -> (Option<Change>, bool) {
        let Some((key, held)) = self.keys.remove_entry(key) else { return (None, false) };
        self.total -= held.cost;
        if held.since.is_some_and(|since| since == self.takes) {
            return (self.pending.remove(&key), false);
        }
        (self.pending.insert(key, Change::new(stamp, None)), true)
    }

    pub(crate) fn take_pending(&mut self) -> HashMap<Arc<str>, Change> {
        self.takes += 1;
        std::mem::take(&mut self.pending)
    }

    fn pending_bytes(&self) -> usize {
        self.pending.iter().map(|(key, change)| change.cost(key)).sum()
    }
}

impl Inbox {
    /// Whether something may be pushed.
    pub(crate) fn accepts(&self) -> Result<(), SendError> {
        match (self.closed, self.refused, self.finished.is_some()) {
            (true, ..) => Err(SendError::ShutDown),
            (false, Some(limit), _) => Err(SendError::TooManyFeeds { limit }),
            (false, None, true) => Err(SendError::Finished),
            (false, None, false) => Ok(()),
        }
    }

    /// Whether the driver has nothing to take over.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.latest.as_ref().is_none_or(|l| l.pending.is_empty())
    }

    /// The bytes that wait for the driver.
    pub(crate) fn bytes(&self) -> usize {
        self.queue.bytes() + self.latest.as_ref().map_or(0, |latest| latest.pending_bytes())
    }
}

impl Topic {
    fn new(name: &str, alias: u32, epoch: u64, origin: Seq) -> Self {
        Self {
            name: name.into(),
            alias,
            epoch,
            origin,
            inbox: Lock::new(Inbox { newest: origin, ..Inbox::default() }),
            handles: AtomicUsize::new(0),
            followers: AtomicUsize::new(0),
            claimed: AtomicBool::new(false),
            known: AtomicBool::new(false),
            place: AtomicUsize::new(usize::MAX),
            idle: AtomicU64::new(IN_USE),
            evicted: AtomicBool::new(false),
        }
    }

    /// Makes a stand-in for a feed that the table had no place for: with one handle, and in no
    /// table.
    pub(crate) fn refused(name: &str, limit: usize) -> Arc<Self> {
        let topic = Self::new(name, MAILBOX, 0, Seq::default());
        topic.handles.store(1, Ordering::Relaxed);
        topic.inbox.lock().refused = Some(limit);
        Arc::new(topic)
    }

    /// Whether the feed has made way for another.
    pub(crate) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is everyone's feed: clients that ask for no other follow it.
    pub(crate) fn is_everyones(&self) -> bool {
        self.name.is_empty()
    }

    /// The number of clients that follow the feed.
    pub(crate) fn followers(&self) -> usize {
        self.followers.load(Ordering::Relaxed)
    }

    /// Notes that one handle is a follower's from now on.
    pub(crate) fn add_follower(&self) {
        self.followers.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the handle is no longer a follower's.
    pub(crate) fn remove_follower(&self) {
        self.followers.fetch_sub(1, Ordering::Relaxed);
    }

    /// The place in the driver's table, which the feed may have no more.
    pub(crate) fn place(&self) -> FeedPlace {
        FeedPlace::at(self.place.load(Ordering::Relaxed))
    }

    pub(crate) fn set_place(&self, place: FeedPlace) {
        self.place.store(place.index(), Ordering::Relaxed);
    }

    /// Notes, on a caller's thread, that the driver is about to learn of the feed.
    pub(crate) fn make_known(&self) {
        self.known.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topic").field(&self.name).finish()
    }
}

/// The table of feeds, by name.
#[derive(Debug)]
pub(crate) struct Topics {
    everyone: Arc<Topic>,
    table: Lock<Table>,
    most: usize,
    /// The stamp of the next push: no feed has had as many messages.
    stamps: Arc<Stamps>,
    /// Taken under the lock of `table`.
    aliases: Lock<Aliases>,
}

#[derive(Debug, Default)]
struct Table {
    named: HashMap<Box<str>, Arc<Topic>>,
    /// The named feeds that the driver knows and nobody has a handle of, in the order in which they
    /// make way. Closed feeds come first, and among equals the feed without a handle for longest.
    idle: BTreeMap<u64, Arc<Topic>>,
    /// The number of feeds that have been idle so far.
    count: u64,
    /// The number of feeds that have made way and that the driver has not dropped yet.
    leaving: usize,
    /// The epoch of the newest feed.
    epoch: u64,
}

impl Table {
    /// Notes that somebody has a handle from now on.
    fn take_up(&mut self, topic: &Topic) {
        let key = topic.idle.swap(IN_USE, Ordering::Relaxed);
        if key != IN_USE {
            self.idle.remove(&key);
        }
    }

    /// Notes that nobody has a handle any more.
    fn put_down(&mut self, topic: &Arc<Topic>) {
        let is_there = self.named.get(topic.name()).is_some_and(|known| Arc::ptr_eq(known, topic));
        if is_there && topic.idle.load(Ordering::Relaxed) == IN_USE {
            let is_open = u64::from(topic.inbox.lock().finished.is_none());
            let key = is_open << 62 | self.count;
            self.count += 1;
            topic.idle.store(key, Ordering::Relaxed);
            self.idle.insert(key, Arc::clone(topic));
        }
    }

    /// The number of feeds that somebody has a handle of.
    fn in_use(&self) -> usize {
        self.named.len() - self.idle.len()
    }
}

/// The side that asks for a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// A client. Clients may name half of the feeds that there may be.
    Client,
    Program,
    /// The program, if it has not asked for the feed before.
    ProgramFirst,
}

/// A feed that was asked for, and the feed that made way for it, which the driver has to be told
/// of.
pub(crate) struct Found {
    pub(crate) topic: Arc<Topic>,
    pub(crate) evicted: Option<Arc<Topic>>,
}

/// The aliases of feeds. Aliases are given in turn, and after four billion again from the
/// beginning. Those of living feeds are then skipped, since clients know feeds by them.
#[derive(Debug)]
struct Aliases {
    last: u32,
    /// The aliases of living feeds, once all aliases have been given.
    living: Option<HashSet<u32>>,
}

impl Aliases {
    /// Returns an alias for a new feed. `named` has the feeds that exist.
    fn give(&mut self, named: &HashMap<Box<str>, Arc<Topic>>) -> u32 {
        loop {
            self.last = self.last.checked_add(1).unwrap_or_else(|| {
                self.living.get_or_insert_with(|| named.values().map(|t| t.alias).collect());
                EVERYONE + 1
            });
            if self.living.as_mut().is_none_or(|living| living.insert(self.last)) {
                return self.last;
            }
        }
    }

    /// Frees the alias of a feed that has gone.
    fn take_back(&mut self, alias: u32) {
        if let Some(living) = &mut self.living {
            living.remove(&alias);
        }
    }
}

/// The alias of everyone's feed. Zero is every client's mailbox.
const EVERYONE: u32 = 1;

impl Topics {
    pub(crate) fn new(most: usize, stamps: Arc<Stamps>) -> Self {
        let epoch = epoch::begin();
        let everyone = Topic::new("", EVERYONE, epoch, Seq::default());
        everyone.make_known();
        let aliases = Lock::new(Aliases { last: EVERYONE, living: None });
        let table = Lock::new(Table { epoch, ..Table::default() });
        Self { everyone: Arc::new(everyone), table, most, stamps, aliases }
    }

    /// Returns the feed of this name, with one more handle. A missing feed is made, and an idle
    /// feed makes way if the table is full. Once half of the possible feeds are in use, clients can
    /// name no more, so they do not use up the program's.
    ///
    /// # Errors
    ///
    /// The name is invalid or taken, or too many feeds are in use.
    pub(crate) fn find_or_make(&self, name: &str, by: By) -> Result<Found, FeedError> {
        check_name(name)?;
        let mut table = self.table.lock();
        if let Some(topic) = table.named.get(name).map(Arc::clone) {
            if by != By::Client
                && topic.claimed.swap(true, Ordering::Relaxed)
                && by == By::ProgramFirst
            {
                return Err(FeedError::Exists);
            }
            table.take_up(&topic);
            topic.handles.fetch_add(1, Ordering::Relaxed);
            return Ok(Found { topic, evicted: None });
        }
        let limit = if by == By::Client { self.most.div_ceil(2) } else { self.most };
        let mut evicted = None;
        if table.in_use() >= limit {
            return Err(FeedError::TooMany { limit });
        }
        if table.named.len() >= self.most {
            // Feeds that made way still exist until the driver has time to drop them.
            let has_time = table.leaving < self.most;
            let first = if has_time { table.idle.first_key_value() } else { None };
            let first = first.map(|(_, topic)| Arc::clone(topic));
            let Some(first) = first else { return Err(FeedError::TooMany { limit }) };
            self.remove(&mut table, &first);
            table.leaving += 1;
            first.evicted.store(true, Ordering::Relaxed);
            evicted = Some(first);
        }
        let alias = self.aliases.lock().give(&table.named);
        let pushed = self.stamps.load(Ordering::Relaxed);
        let origin = Seq::new(pushed.get() + 2); // above all earlier feeds
        table.epoch = epoch::after(table.epoch);
        let topic = Arc::new(Topic::new(name, alias, table.epoch, origin));
        topic.handles.store(1, Ordering::Relaxed);
        topic.claimed.store(by != By::Client, Ordering::Relaxed);
        table.named.insert(name.into(), Arc::clone(&topic));
        Ok(Found { topic, evicted })
    }

    pub(crate) fn everyone(&self) -> &Arc<Topic> {
        &self.everyone
    }

    /// The hub's epoch, which everyone's feed and the mailboxes share.
    pub(crate) fn epoch(&self) -> u64 {
        self.everyone.epoch
    }

    pub(crate) fn count(&self) -> usize {
        self.table.lock().named.len()
    }

    /// Returns all named feeds.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.table.lock().named.values().cloned().collect()
    }

    #[cfg(test)]
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Topic>, FeedError> {
        self.find_or_make(name, By::Program).map(|found| found.topic)
    }

    #[cfg(test)]
    pub(crate) fn get_for_client(&self, name: &str) -> Result<Arc<Topic>, FeedError> {
        self.find_or_make(name, By::Client).map(|found| found.topic)
    }

    pub(crate) fn clone_handle(topic: &Arc<Topic>) -> Arc<Topic> {
        topic.handles.fetch_add(1, Ordering::Relaxed);
        Arc::clone(topic)
    }

    /// Drops a handle. Returns whether the driver has to check whether the feed can go.
    pub(crate) fn drop_handle(&self, topic: &Arc<Topic>) -> bool {
        // Release and acquire: the thread that drops the last handle sees what the others pushed.
        if topic.handles.fetch_sub(1, Ordering::AcqRel) > 1 || topic.is_everyones() {
            return false;
        }
        let mut table = self.table.lock();
        // A caller that asks for the feed by name does so under this lock, and may since have
        // pushed and dropped its handle. The handles are therefore read first, and then whether the
        // driver knows the feed.
        if topic.handles.load(Ordering::Acquire) > 0 {
            return false; // their drop does this
        }
        if topic.known.load(Ordering::Relaxed) {
            table.put_down(topic);
            return true;
        }
        self.remove(&mut table, topic);
        false
    }

    /// Drops a feed that the driver holds nothing of, if nobody has a handle. Returns whether the
    /// feed has gone.
    pub(crate) fn retire(&self, topic: &Topic) -> bool {
        let mut table = self.table.lock();
        let unused = topic.handles.load(Ordering::Relaxed) == 0 && topic.inbox.lock().is_empty();
        if unused {
            self.remove(&mut table, topic);
            table.leaving -= usize::from(topic.evicted.swap(false, Ordering::Relaxed));
        }
        unused
    }

    fn remove(&self, table: &mut Table, topic: &Topic) {
        table.take_up(topic);
        let named = &mut table.named;
        // Another feed may have the name by now.
        if named.get(topic.name()).is_some_and(|known| std::ptr::eq(&raw const **known, topic)) {
            named.remove(topic.name());
            self.aliases.lock().take_back(topic.alias);
        }
        if named.len() < named.capacity() / 4 {
            named.shrink_to_fit();
        }
    }
}

/// Checks whether a feed can have this name.
///
/// # Errors
///
/// [`FeedError::InvalidName`].
pub(crate) fn check_name(name: &str) -> Result<(), FeedError> {
    if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(FeedError::InvalidName);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_waits_for_the_driver_only_where_it_may_know_the_key() {
        let mut latest = KeyTable::default();
        let set = |latest: &mut KeyTable, key, stamp| {
            let message = Message::from("x").into();
            latest.set(key, 1, Entry { stamp: Stamp::new(stamp), message })
        };
        for stamp in 0..10 {
            assert!(set(&mut latest, "unknown", stamp).is_none());
            let (replaced, waits) = latest.remove("unknown", Stamp::new(stamp));
            assert!(replaced.is_some_and(|change| change.message.is_some()) && !waits);
        }
        assert!(latest.take_pending().is_empty());
        set(&mut latest, "known", 10);
        assert_eq!(latest.take_pending().len(), 1);
        assert!(latest.remove("known", Stamp::new(11)).1);
        set(&mut latest, "known", 12);
        assert!(
            latest.remove("known", Stamp::new(13)).1,
            "the driver has not heard of the removal"
        );
        let pending = latest.take_pending();
        assert!(pending["known"].message.is_none() && pending["known"].stamp == Stamp::new(13));
    }

    #[test]
    fn a_value_is_renewed_in_its_place_only_where_the_driver_may_have_told_of_it() {
        let mut latest = KeyTable::default();
        let entry = |stamp| Entry { stamp: Stamp::new(stamp), message: Message::from("x").into() };
        let mut quiet = |how: &[bool]| {
            for (stamp, is_quiet) in (1..).zip(how) {
                if *is_quiet {
                    latest.renew("key", 10, entry(stamp));
                } else {
                    latest.set("key", 10, entry(stamp));
                }
            }
            latest.take_pending()["key"].is_quiet
        };
        assert!(!quiet(&[true]), "nobody has been told of the key");
        assert!(quiet(&[true]));
        assert!(quiet(&[true, true]));
        assert!(!quiet(&[false, true]), "a new value that waits is told to all");
        assert!(!quiet(&[true, false]));
    }

    #[test]
    fn a_name_is_1_to_256_bytes_without_control_characters() {
        let topics = Topics::new(10, Arc::default());
        for good in ["a", "run/42", "步骤", &"x".repeat(256)] {
            assert_eq!(topics.get(good).unwrap().name(), good);
        }
        for bad in ["", "a\nb", "\u{7f}", "\u{85}", &"x".repeat(257)] {
            assert_eq!(topics.get(bad).unwrap_err(), FeedError::InvalidName, "{bad:?}");
        }
    }

    #[test]
    fn a_name_is_taken_from_when_the_program_asks_for_it_until_the_feed_has_gone() {
        let topics = Topics::new(10, Arc::default());
        let create = |name| topics.find_or_make(name, By::ProgramFirst).map(|found| found.topic);
        let waiting = topics.get_for_client("run").unwrap();
        let run = create("run").unwrap(); // of a client that waits for it
        assert!(Arc::ptr_eq(&waiting, &run));
        assert_eq!(create("run").unwrap_err(), FeedError::Exists);
        topics.get_for_client("run").unwrap();
        assert_eq!(create("run").unwrap_err(), FeedError::Exists);
        for _ in 0..3 {
            topics.drop_handle(&run);
        }
        assert!(!Arc::ptr_eq(&create("run").unwrap(), &run));
        topics.get("other").unwrap();
        assert_eq!(create("other").unwrap_err(), FeedError::Exists);
        assert_eq!(topics.find_or_make("other", By::Program).unwrap().topic.name(), "other");
    }

    #[test]
    fn clients_can_name_half_as_many_feeds_as_there_may_be() {
        let topics = Topics::new(4, Arc::default());
        topics.get_for_client("a").unwrap();
        topics.get_for_client("b").unwrap();
        topics.get_for_client("b").unwrap();
        assert_eq!(topics.get_for_client("c").unwrap_err(), FeedError::TooMany { limit: 2 });
        topics.get("c").unwrap();
        topics.get("d").unwrap();
        assert_eq!(topics.get("e").unwrap_err(), FeedError::TooMany { limit: 4 });
    }

    /// A feed that the driver knows, and nobody has.
    fn idle(topics: &Topics, name: &str, is_closed: bool) -> Arc<Topic> {
        let topic = topics.get(name).unwrap();
        topic.make_known();
        topic.inbox.lock().finished = is_closed.then_some(Stamp::FIRST);
        topics.drop_handle(&topic);
        topic
    }

    /// Which feed makes way for a new one.
    fn evicted_for(topics: &Topics, name: &str) -> Option<Arc<Topic>> {
        topics.find_or_make(name, By::Program).ok()?.evicted
    }

    #[test]
    fn closed_feeds_make_way_and_then_open_ones_the_longest_idle_first_and_none_that_is_in_use() {
        let topics = Topics::new(5, Arc::default());
        let (open, closed) = (idle(&topics, "open", false), idle(&topics, "closed", true));
        let used = topics.get("used").unwrap();
        used.make_known();
        let [early, late] = ["early", "late"].map(|name| idle(&topics, name, true));
        // It has been taken up again, and put down last.
        topics.get("closed").unwrap();
        topics.drop_handle(&closed);
        let gone = ["1", "2", "3", "4", "5"].map(|name| evicted_for(&topics, name));
        let gone: Vec<_> = gone.iter().flatten().map(|topic| topic.name()).collect();
        assert_eq!(gone, ["early", "late", "closed", "open"]);
        assert_eq!(topics.get("5").unwrap_err(), FeedError::TooMany { limit: 5 });
        assert!([&open, &closed, &early, &late].iter().all(|topic| topic.is_evicted()));
        assert!(!used.is_evicted() && Arc::ptr_eq(&topics.get("used").unwrap(), &used));
        assert!(!Arc::ptr_eq(&topics.get("1").unwrap(), &open), "names are free again");
    }

    #[test]
    fn no_more_make_way_than_there_may_be_until_the_driver_has_let_them_go() {
        let topics = Topics::new(2, Arc::default());
        let gone = ["a", "b", "c", "d"].map(|name| idle(&topics, name, true));
        assert_eq!(topics.get("e").unwrap_err(), FeedError::TooMany { limit: 2 });
        assert!(topics.retire(&gone[0]) && topics.retire(&gone[0]), "it counts once");
        topics.get("e").unwrap();
        assert_eq!(topics.get("f").unwrap_err(), FeedError::TooMany { limit: 2 });
        assert_eq!(topics.count(), 2);
    }

    #[test]
    fn clients_push_out_half_of_the_idle_feeds_at_most() {
        let topics = Topics::new(4, Arc::default());
        let feeds = ["a", "b", "c", "d"].map(|name| idle(&topics, name, true));
        for name in ["v", "w"] {
            topics.get_for_client(name).unwrap();
        }
        assert_eq!(topics.get_for_client("x").unwrap_err(), FeedError::TooMany { limit: 2 });
        assert_eq!(feeds.map(|feed| feed.is_evicted()), [true, true, false, false]);
    }

    #[test]
    fn the_alias_of_a_living_feed_is_not_given_again_when_all_have_been_given() {
        let topics = Topics::new(10, Arc::default());
        let first = topics.get("first").unwrap();
        topics.aliases.lock().last = u32::MAX - 2;
        let names = ["a", "b", "c", "d"];
        let [a, b, c, d] = names.map(|name| topics.get(name).unwrap());
        let aliases = [first.alias, a.alias, b.alias, c.alias, d.alias];
        assert_eq!(aliases, [2, u32::MAX - 1, u32::MAX, 3, 4]);
        topics.drop_handle(&a);
        for alias in [u32::MAX - 2, u32::MAX - 1] {
            topics.aliases.lock().last = alias - 1;
            assert_eq!(
                topics.get(&alias.to_string()).unwrap().alias,
                alias,
                "none, or none any more"
            );
        }
        assert_eq!(topics.get("last").unwrap().alias, 5);
    }

    #[test]
    fn a_feed_that_nothing_was_sent_to_goes_with_its_last_handle() {
        let topics = Topics::new(10, Arc::default());
        let first = topics.get("a").unwrap();
        let second = topics.get("a").unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!topics.drop_handle(&first));
        assert_eq!(topics.count(), 1);
        assert!(!topics.drop_handle(&second));
        assert_eq!(topics.count(), 0);
    }

    #[test]
    fn a_feed_that_the_driver_knows_is_the_drivers_to_let_go() {
        let topics = Topics::new(10, Arc::default());
        let topic = topics.get("a").unwrap();
        topic.make_known();
        assert!(!topics.retire(&topic), "there is a handle");
        assert!(topics.drop_handle(&topic));
        assert_eq!(topics.count(), 1);
        assert!(topics.retire(&topic));
        assert_eq!(topics.count(), 0);
    }
}
