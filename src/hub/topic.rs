//! What a feed is to the callers' threads: a name, and what was pushed to it and the driver has not
//! taken over yet. And the table of them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::{FeedError, SendError};
use super::lock::Lock;
use super::queue::{Entry, Queue};
use super::sync::{AtomicBool, AtomicU64, AtomicUsize};
use crate::wire::v1::MAILBOX;

/// The longest name, in bytes.
pub(crate) const NAME_MAX: usize = 256;

/// One feed. Everyone's is one, too, without a name.
pub(crate) struct Topic {
    name: Box<str>,
    /// What stands for it on the wire `stepcast.v1`.
    pub(crate) alias: u32,
    /// Its messages have the numbers after this: more than those of any feed that had its name before.
    pub(crate) origin: u64,
    pub(crate) inbox: Lock<Inbox>,
    /// Handles that the program holds, and clients that follow it.
    handles: AtomicUsize,
    /// Whether the driver knows it, and so is the one to say when it goes away.
    known: AtomicBool,
    /// Pushes that wait until its slowest follower has room.
    pub(crate) waiting: AtomicUsize,
    /// Its place in the driver's table, for the driver alone.
    pub(crate) place: AtomicUsize,
}

/// What has been pushed and not yet taken over by the driver.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) queue: Queue,
    pub(crate) latest: Option<Box<Latest>>,
    /// Bytes of the log that its slowest follower has not been handed, or more than that: it grows
    /// with every push, and the driver puts it right while a push waits for room.
    pub(crate) owed: Option<usize>,
    /// The number of the newest message, taken over or not.
    pub(crate) newest: u64,
    /// Messages that had to make room before the driver took them over.
    pub(crate) lost: u64,
    /// Whether the driver has been told that there is something.
    pub(crate) told: bool,
    /// After the feed's last message.
    pub(crate) finished: bool,
    /// After the hub's end.
    pub(crate) closed: bool,
}

/// The latest values that were set.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    /// Every key, and what its value counts.
    costs: HashMap<Arc<str>, usize>,
    total: usize,
    /// What the driver has not taken over.
    pending: HashMap<Arc<str>, Entry>,
}

impl Latest {
    /// What is counted for a key and its value beside an entry's own cost.
    fn cost_of_key(key: &str) -> usize {
        2 * key.len() + 128
    }

    /// What it counts to set this key to a message.
    pub(crate) fn cost(key: &str, message: &crate::codec::Message) -> usize {
        Entry::cost(message).saturating_add(Self::cost_of_key(key))
    }

    /// Whether a value of this cost is within the bounds, in keys and in bytes.
    pub(crate) fn has_room(&self, key: &str, cost: usize, keys: usize, bytes: usize) -> bool {
        let before = self.costs.get(key);
        let total = self.total - before.unwrap_or(&0) + cost;
        (before.is_some() || self.costs.len() < keys) && total <= bytes
    }

    /// Sets a key. Returns what it replaces of what the driver has not taken over.
    pub(crate) fn set(&mut self, key: &str, cost: usize, entry: Entry) -> Option<Entry> {
        let key = match self.costs.get_key_value(key) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::from(key),
        };
        self.total += cost;
        self.total -= self.costs.insert(Arc::clone(&key), cost).unwrap_or(0);
        self.pending.insert(key, entry)
    }

    pub(crate) fn take_pending(&mut self) -> HashMap<Arc<str>, Entry> {
        std::mem::take(&mut self.pending)
    }

    fn pending_bytes(&self) -> usize {
        self.pending.iter().map(|(key, entry)| Self::cost(key, &entry.message)).sum()
    }
}

impl Inbox {
    /// Whether something may be pushed.
    pub(crate) fn accepts(&self) -> Result<(), SendError> {
        match (self.closed, self.finished) {
            (true, _) => Err(SendError::ShutDown),
            (false, true) => Err(SendError::Closed),
            (false, false) => Ok(()),
        }
    }

    /// Whether there is nothing for the driver to take over.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.latest.as_ref().is_none_or(|l| l.pending.is_empty())
    }

    /// What waits for the driver, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.queue.bytes() + self.latest.as_ref().map_or(0, |latest| latest.pending_bytes())
    }
}

impl Topic {
    fn new(name: &str, alias: u32, origin: u64) -> Self {
        Self {
            name: name.into(),
            alias,
            origin,
            inbox: Lock::new(Inbox { newest: origin, ..Inbox::default() }),
            handles: AtomicUsize::new(0),
            known: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            place: AtomicUsize::new(usize::MAX),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is the feed that all follow who ask for no other.
    pub(crate) fn is_everyones(&self) -> bool {
        self.name.is_empty()
    }

    /// Callers: the driver is about to be told of it.
    pub(crate) fn make_known(&self) {
        self.known.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topic").field(&self.name).finish()
    }
}

/// The feeds that there are, by their names.
#[derive(Debug)]
pub(crate) struct Topics {
    everyone: Arc<Topic>,
    named: Lock<HashMap<Box<str>, Arc<Topic>>>,
    most: usize,
    /// The stamp of the next push: no feed has had as many messages.
    stamps: Arc<AtomicU64>,
    /// Taken under the lock of `named`.
    aliases: Lock<Aliases>,
}

/// Which aliases feeds have. They are given in turn, and after four billion from the beginning: then those of living
/// feeds are passed over, since clients know feeds by them.
#[derive(Debug)]
struct Aliases {
    last: u32,
    /// Those of living feeds, once all have been given.
    living: Option<HashSet<u32>>,
}

impl Aliases {
    /// The alias of one feed more. `named`: those that there are.
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

    /// A feed has gone.
    fn take_back(&mut self, alias: u32) {
        if let Some(living) = &mut self.living {
            living.remove(&alias);
        }
    }
}

/// The alias of everyone's feed. Zero is every client's mailbox.
const EVERYONE: u32 = 1;

impl Topics {
    pub(crate) fn new(most: usize, stamps: Arc<AtomicU64>) -> Self {
        let everyone = Topic::new("", EVERYONE, 0);
        everyone.make_known();
        let aliases = Lock::new(Aliases { last: EVERYONE, living: None });
        Self { everyone: Arc::new(everyone), named: Lock::default(), most, stamps, aliases }
    }

    /// The feed of this name, which is made if there is none.
    fn find_or_make(
        &self,
        named: &mut HashMap<Box<str>, Arc<Topic>>,
        name: &str,
        most: usize,
    ) -> Result<Arc<Topic>, FeedError> {
        if let Some(topic) = named.get(name) {
            return Ok(Arc::clone(topic));
        }
        if named.len() >= most {
            return Err(FeedError::TooMany { limit: most });
        }
        let alias = self.aliases.lock().give(named);
        let origin = self.stamps.load(Ordering::Relaxed) + 2; // one more than any before it can have had
        let topic = Arc::new(Topic::new(name, alias, origin));
        named.insert(name.into(), Arc::clone(&topic));
        Ok(topic)
    }

    /// A feed of one client alone, which nobody finds by a name.
    pub(crate) fn mailbox() -> Arc<Topic> {
        let topic = Topic::new("a mailbox", MAILBOX, 0);
        topic.handles.store(1, Ordering::Relaxed); // it goes with its client
        Arc::new(topic)
    }

    pub(crate) fn everyone(&self) -> &Arc<Topic> {
        &self.everyone
    }

    pub(crate) fn count(&self) -> usize {
        self.named.lock().len()
    }

    /// All that have a name.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.named.lock().values().cloned().collect()
    }

    /// The feed of this name, with one handle more.
    ///
    /// # Errors
    ///
    /// The name is none, or there are too many.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Topic>, FeedError> {
        check_name(name)?;
        let mut named = self.named.lock();
        let topic = self.find_or_make(&mut named, name, self.most)?;
        topic.handles.fetch_add(1, Ordering::Relaxed);
        Ok(topic)
    }

    /// The feed of this name for a client that asks for it, with one handle more. Clients can name
    /// half as many as there may be, so that they do not use up the program's.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) fn get_for_client(&self, name: &str) -> Result<Arc<Topic>, FeedError> {
        check_name(name)?;
        let mut named = self.named.lock();
        let topic = self.find_or_make(&mut named, name, self.most.div_ceil(2))?;
        topic.handles.fetch_add(1, Ordering::Relaxed);
        Ok(topic)
    }

    pub(crate) fn clone_handle(topic: &Arc<Topic>) -> Arc<Topic> {
        topic.handles.fetch_add(1, Ordering::Relaxed);
        Arc::clone(topic)
    }

    /// One handle less. Returns whether the driver is to see whether the feed can go.
    pub(crate) fn drop_handle(&self, topic: &Topic) -> bool {
        // Released and acquired: whoever drops the last handle sees what was pushed by the others.
        if topic.handles.fetch_sub(1, Ordering::AcqRel) > 1 || topic.is_everyones() {
            return false;
        }
        let mut named = self.named.lock();
        // Who asks for it by name does so under this lock, and may have pushed to it and dropped it
        // since: so this first, and then whether the driver knows it.
        if topic.handles.load(Ordering::Acquire) > 0 {
            return false; // they will see to it
        }
        if topic.known.load(Ordering::Relaxed) {
            return true;
        }
        self.remove(&mut named, topic);
        false
    }

    /// Lets a feed go that the driver has nothing of, if nobody else has. Whether it has gone.
    pub(crate) fn retire(&self, topic: &Topic) -> bool {
        let mut named = self.named.lock();
        let unused = topic.handles.load(Ordering::Relaxed) == 0 && topic.inbox.lock().is_empty();
        if unused {
            self.remove(&mut named, topic);
        }
        unused
    }

    fn remove(&self, named: &mut HashMap<Box<str>, Arc<Topic>>, topic: &Topic) {
        // Another may have its name by now.
        if named.get(topic.name()).is_some_and(|known| std::ptr::eq(&raw const **known, topic)) {
            named.remove(topic.name());
            self.aliases.lock().take_back(topic.alias);
        }
        if named.len() < named.capacity() / 4 {
            named.shrink_to_fit();
        }
    }
}

/// Whether a feed can have this name.
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
