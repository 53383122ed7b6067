//! The mail of a client: messages in their order, and latest values. Only a mailbox that is not
//! empty has one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::hub::feed::item::BEHIND;
use crate::hub::feed::queue::{BURST, Entry, PayloadCopy, Queue, Slot};
use crate::hub::feed::topic::{Change, Latest};
use crate::hub::primitives::program::Payload;

/// The messages and values that wait for one client alone.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// The messages that were sent.
    pub(crate) log: Queue,
    /// The number of messages that were dropped.
    pub(crate) lost: u64,
    /// The values that were set.
    values: Option<Box<Values>>,
}

/// The latest value of each key that the client has not been handed.
#[derive(Debug, Default)]
struct Values {
    /// The values by the stamps with which they were set last.
    waiting: BTreeMap<u64, Value>,
    stamps: HashMap<Arc<str>, u64>,
    bytes: usize,
}

#[derive(Debug)]
struct Value {
    key: Arc<str>,
    /// The value. `None`: it has been removed, which clients with a session are told.
    message: Option<Payload>,
    /// The stamp of the oldest value that this one has replaced, or its own.
    since: u64,
}

impl Value {
    fn cost(&self) -> usize {
        let removal = || Latest::cost_of_removal(&self.key);
        self.message.as_ref().map_or_else(removal, |message| Latest::cost(&self.key, message))
    }
}

impl Values {
    fn cost_of(&self, key: &str) -> Option<usize> {
        self.waiting.get(self.stamps.get(key)?).map(Value::cost)
    }

    fn set(&mut self, key: &str, Change { stamp, message }: Change) -> Option<Change> {
        let replaced = self.stamps.get(key).copied().and_then(|old| self.take(old));
        let before = replaced.as_ref().map(|old| (Arc::clone(&old.key), old.since));
        let (key, since) = before.unwrap_or_else(|| (key.into(), stamp));
        self.stamps.insert(Arc::clone(&key), stamp);
        let value = Value { key, message, since };
        self.bytes += value.cost();
        self.waiting.insert(stamp, value);
        replaced.map(|old| Change { stamp: old.since, message: old.message })
    }

    fn take(&mut self, stamp: u64) -> Option<Value> {
        let value = self.waiting.remove(&stamp)?;
        self.bytes -= value.cost();
        Some(value)
    }
}

impl Mail {
    /// Takes the values and removals, with their keys.
    pub(crate) fn take_values(&mut self) -> impl Iterator<Item = (Arc<str>, Change)> {
        let values = self.values.take().map(|values| values.waiting).unwrap_or_default();
        let change = |stamp, message| Change { stamp, message };
        values.into_iter().map(move |(stamp, value)| (value.key, change(stamp, value.message)))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.log.bytes() + self.values.as_ref().map_or(0, |values| values.bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.log.is_empty() && self.values.is_none()
    }

    /// Returns this empty mail for another client, unless its capacity has grown beyond the first.
    pub(crate) fn into_spare(mut self: Box<Self>) -> Option<Box<Self>> {
        debug_assert!(self.is_empty(), "it is another's");
        self.lost = 0;
        (self.log.capacity() <= BURST).then_some(self)
    }

    /// Appends a message; see [`Queue::push`].
    pub(crate) fn push(&mut self, entry: Entry) -> Option<Payload> {
        self.log.reserve(BURST);
        self.log.push(entry)
    }

    /// Whether a value of this cost is within the bounds, in keys and in bytes. A single value
    /// above the whole bound is taken when it is alone, as a message is.
    pub(crate) fn has_room(
        mail: Option<&Self>,
        key: &str,
        cost: usize,
        keys: usize,
        bytes: usize,
    ) -> bool {
        let Some(values) = mail.and_then(|mail| mail.values.as_ref()) else { return keys > 0 };
        let before = values.cost_of(key);
        let others = values.bytes - before.unwrap_or(0);
        (before.is_some() || values.stamps.len() < keys)
            && (others == 0 || others.saturating_add(cost) <= bytes)
    }

    /// Sets or removes a key. Returns what the change replaces.
    pub(crate) fn change(&mut self, key: &str, change: Change) -> Option<Change> {
        self.values.get_or_insert_default().set(key, change)
    }

    /// Takes the value of a key that the client has not been handed.
    pub(crate) fn forget(&mut self, key: &str) -> Option<Change> {
        let stamp = self.values.as_ref()?.stamps.get(key).copied()?;
        let (entry, _) = self.pop_value(stamp)?;
        Some(Change { stamp, message: Some(entry.message) })
    }

    /// Whether there is something for a client that has everything else pushed before this stamp.
    pub(crate) fn begins_before(&self, stamp: u64) -> bool {
        let first_value = self.values.as_ref().and_then(|values| values.waiting.first_key_value());
        self.log.first_stamp().is_some_and(|first| first < stamp)
            || first_value.is_some_and(|(_, value)| value.since < stamp)
    }

    /// Takes the oldest message or value, with its cost, if it was pushed before this stamp. With
    /// very many messages the values go first. For `copy` see [`Queue::pop_before`].
    pub(crate) fn pop_before(
        &mut self,
        stamp: u64,
        copy: &mut PayloadCopy,
    ) -> Option<(Slot, usize)> {
        if self.log.bytes() > BEHIND {
            if let Some(value) = self.pop_value_before(stamp) {
                return Some(value);
            }
        }
        let before = self.log.first_stamp().map_or(stamp, |sent| sent.min(stamp));
        let value = self.values.as_ref().and_then(|values| values.waiting.first_key_value());
        if let Some((&set, _)) = value.filter(|(set, _)| **set < before) {
            let (entry, cost) = self.pop_value(set)?;
            return Some((entry.into(), cost));
        }
        self.log.pop_before(stamp, copy)
    }

    /// Takes the oldest value that was set before this stamp, or that replaced such a value.
    ///
    /// This is for a client that has everything else pushed before, or is far behind. A key that is
    /// set again faster than the driver comes round would otherwise never have a value that is old
    /// enough.
    pub(crate) fn pop_value_before(&mut self, stamp: u64) -> Option<(Slot, usize)> {
        let (&set, value) = self.values.as_ref()?.waiting.first_key_value()?;
        let (entry, cost) = if value.since < stamp { self.pop_value(set)? } else { return None };
        Some((entry.into(), cost))
    }

    fn pop_value(&mut self, stamp: u64) -> Option<(Entry, usize)> {
        let values = self.values.as_mut()?;
        let value = values.take(stamp)?;
        values.stamps.remove(&value.key);
        if values.waiting.is_empty() {
            self.values = None;
        }
        let cost = value.cost();
        Some((Entry { stamp, message: value.message? }, cost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Message;
    use crate::hub::feed::queue::ENTRY_OVERHEAD;

    const KEY: usize = ENTRY_OVERHEAD + 130; // what a key of one byte costs beside its value
    const BOUND: usize = 3 * KEY;

    fn entry(stamp: u64, text: &'static str) -> Entry {
        Entry { stamp, message: Message::from(text).into() }
    }

    /// Sets a key. Returns what it replaces, and what that counted.
    fn set(
        mail: &mut Mail,
        key: &str,
        stamp: u64,
        message: impl Into<Message>,
    ) -> Option<(Payload, usize)> {
        let replaced = mail.change(key, Change { stamp, message: Some(message.into().into()) })?;
        let cost = replaced.cost(key);
        Some((replaced.message?, cost))
    }

    fn texts(mail: &mut Mail, upto: u64) -> Vec<String> {
        let next = || {
            let mut copy = PayloadCopy::new();
            let (slot, _) = mail.pop_before(upto, &mut copy)?;
            Some(slot.into_entry(&copy))
        };
        std::iter::from_fn(next).map(|entry| entry.message.as_text().unwrap().to_owned()).collect()
    }

    #[test]
    fn messages_and_newest_values_come_in_the_order_of_their_stamps() {
        let mut mail = Mail::default();
        assert!(set(&mut mail, "x", 0, "x0").is_none());
        mail.log.push(entry(1, "a"));
        set(&mut mail, "y", 2, "y2");
        let (replaced, cost) = set(&mut mail, "x", 3, "x3").unwrap();
        assert_eq!((&*replaced, cost), (&"x0".into(), KEY + 2));
        mail.log.push(entry(4, "b"));
        set(&mut mail, "z", 5, "z5");
        assert_eq!(texts(&mut mail, 5), ["a", "y2", "x3", "b"]);
        assert_eq!(mail.bytes(), KEY + 2);
        set(&mut mail, "x", 6, "x6");
        assert_eq!(texts(&mut mail, 7), ["z5", "x6"]);
        assert_eq!((mail.bytes(), mail.is_empty()), (0, true));
    }

    #[test]
    fn a_value_that_is_removed_does_not_come_and_its_key_has_room_again() {
        let mut mail = Mail::default();
        set(&mut mail, "x", 0, "x0");
        set(&mut mail, "y", 1, "y1");
        let forgotten = mail.forget("x").unwrap();
        assert_eq!(forgotten.message.as_deref(), Some(&"x0".into()));
        assert!(mail.forget("x").is_none());
        assert!(Mail::has_room(Some(&mail), "z", KEY, 2, 5000));
        assert_eq!(texts(&mut mail, 9), ["y1"]);
        assert!(mail.is_empty());
        set(&mut mail, "x", 2, "x2");
        mail.change("x", Change { stamp: 3, message: None });
        let changes: Vec<_> = mail
            .take_values()
            .map(|(_, change)| (change.stamp, change.message.is_none()))
            .collect();
        assert_eq!((changes, mail.bytes()), (vec![(3, true)], 0));
    }

    #[test]
    fn a_value_that_is_always_replaced_before_the_driver_looks_gets_out_all_the_same() {
        let mut mail = Mail::default();
        set(&mut mail, "x", 5, "new");
        let mut none = PayloadCopy::new();
        assert!(mail.pop_before(5, &mut none).is_none() && mail.pop_value_before(5).is_none());
        set(&mut mail, "x", 8, "newer");
        set(&mut mail, "x", 9, "newest");
        assert!(mail.pop_before(7, &mut none).is_none());
        let (slot, cost) = mail.pop_value_before(7).unwrap();
        let entry = slot.into_entry(&none);
        assert_eq!((&*entry.message, cost), (&"newest".into(), KEY + 6));
        assert!(mail.is_empty() && mail.pop_value_before(7).is_none());
    }

    #[test]
    fn an_empty_one_is_the_next_clients_without_what_was_lost_and_without_the_room_of_a_burst() {
        let mut mail = Box::<Mail>::default();
        let emptied = |mut mail: Box<Mail>, pushes| {
            (0..pushes).for_each(|stamp| drop(mail.push(entry(stamp, ""))));
            while mail.pop_before(u64::MAX, &mut PayloadCopy::new()).is_some() {}
            mail.into_spare()
        };
        mail.lost = 7;
        set(&mut mail, "x", 0, "");
        let spare = emptied(mail, 16).unwrap();
        assert_eq!((spare.lost, spare.is_empty(), spare.log.capacity()), (0, true, 16));
        assert!(emptied(spare, 17).is_none());
    }

    #[test]
    fn values_have_a_bound_in_keys_and_in_bytes_and_a_large_one_is_kept_alone() {
        let has_room = |mail: &Mail, key, len| Mail::has_room(Some(mail), key, KEY + len, 2, BOUND);
        let mut mail = Mail::default();
        assert!(!Mail::has_room(None, "x", 0, 0, BOUND) && has_room(&mail, "x", 9000));
        set(&mut mail, "x", 0, vec![0; 9000]);
        assert!(has_room(&mail, "x", 9000) && !has_room(&mail, "y", 0));
        set(&mut mail, "x", 1, "");
        assert!(
            has_room(&mail, "y", BOUND - 2 * KEY) && !has_room(&mail, "y", BOUND + 1 - 2 * KEY)
        );
        set(&mut mail, "y", 2, "");
        assert!(
            has_room(&mail, "x", BOUND - 2 * KEY) && !has_room(&mail, "x", BOUND + 1 - 2 * KEY)
        );
        assert!(!has_room(&mail, "z", 0), "a third key");
        assert_eq!(mail.bytes(), 2 * KEY);
    }
}
