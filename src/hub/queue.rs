//! A bounded queue of messages: what a feed's callers append to, and what is sent to one
//! client.

use std::collections::VecDeque;

use super::program::Payload;
use crate::codec::Message;

/// What an entry costs beside its payload: what it takes where it takes most, which is in a feed's log (see
/// `window::Slot`), with its share of the log's spare room and with the allocations of its frame.
pub(crate) const ENTRY_OVERHEAD: usize = 320;

/// One message with the hub-wide stamp that says when it was pushed.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) stamp: u64,
    pub(crate) message: Payload,
}

impl Entry {
    /// What it counts in every bound, in bytes.
    pub(crate) fn cost(message: &Message) -> usize {
        message.len().saturating_add(ENTRY_OVERHEAD)
    }
}

/// Messages in the order of their stamps, bounded in bytes.
///
/// At the bound the older half goes, not one message for each new one: a reader that is behind
/// sees one gap in half a queue instead of a gap before every message.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Queue {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a message of this cost can be added without losing another.
    ///
    /// One message above the whole bound is taken when it is alone.
    pub(crate) fn has_room(&self, cost: usize, bound: usize) -> bool {
        self.entries.is_empty() || self.bytes.saturating_add(cost) <= bound
    }

    /// Takes out the oldest messages until one of this cost fits, and half of the bound is free.
    ///
    /// They are returned so that they can be dropped after the lock is.
    pub(crate) fn make_room(&mut self, cost: usize, bound: usize) -> Vec<Entry> {
        let mut evicted = 0;
        let mut left = self.bytes;
        for entry in &self.entries {
            if left <= bound / 2 && left.saturating_add(cost) <= bound {
                break;
            }
            left -= Entry::cost(&entry.message);
            evicted += 1;
        }
        self.bytes = left;
        self.entries.drain(..evicted).collect()
    }

    /// Has room for so many entries at least, if it has none.
    pub(crate) fn reserve(&mut self, entries: usize) {
        if self.entries.capacity() == 0 {
            self.entries.reserve(entries);
        }
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.bytes += Entry::cost(&entry.message);
        self.entries.push_back(entry);
    }

    pub(crate) fn first_stamp(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.stamp)
    }

    /// The oldest entry, if it was pushed before this stamp was taken.
    pub(crate) fn pop_before(&mut self, stamp: u64) -> Option<Entry> {
        if self.first_stamp()? < stamp { self.pop() } else { None }
    }

    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= Entry::cost(&entry.message);
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut Queue, stamp: u64, bytes: usize) {
        queue.push(Entry { stamp, message: Message::from(vec![0; bytes]).into() });
    }

    const COST: usize = 36 + ENTRY_OVERHEAD; // of an entry of 36 bytes
    const BOUND: usize = 10 * COST;

    #[test]
    fn a_full_queue_gives_up_its_older_half() {
        let mut queue = Queue::default();
        for stamp in 0..10 {
            assert!(queue.has_room(COST, BOUND));
            push(&mut queue, stamp, 36);
        }
        assert!(!queue.has_room(COST, BOUND));
        let evicted = queue.make_room(COST, BOUND);
        assert_eq!(evicted.iter().map(|e| e.stamp).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        push(&mut queue, 10, 36);
        assert_eq!((queue.entries.len(), queue.bytes()), (6, 6 * COST));
        assert!(queue.pop_before(5).is_none());
        assert_eq!(queue.pop_before(6).unwrap().stamp, 5);
    }

    #[test]
    fn one_message_above_the_bound_is_kept_alone() {
        let mut queue = Queue::default();
        assert!(queue.has_room(5000, BOUND));
        push(&mut queue, 0, 36);
        assert!(!queue.has_room(5000, BOUND));
        assert_eq!(queue.make_room(5000, BOUND).len(), 1);
        assert!(queue.is_empty());
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_queue_with_room_gives_up_nothing() {
        let mut queue = Queue::default();
        push(&mut queue, 0, 36);
        assert!(queue.make_room(COST, BOUND).is_empty());
        assert_eq!(queue.pop().unwrap().stamp, 0);
        assert!(queue.pop().is_none());
        assert_eq!(queue.bytes(), 0);
    }
}
