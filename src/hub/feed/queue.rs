//! A bounded queue of messages: what callers append to a feed, and what is sent to one client.

use std::collections::VecDeque;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::codec::{Kind, Message};
use crate::hub::feed::stamp::Stamp;
use crate::hub::primitives::program::Payload;
use crate::wire::plain::SHARED_FROM;

/// The cost of an entry beside its payload: what it takes where it takes most, in a feed's log (see
/// `window::Slot`). That includes its share of the log's spare capacity and the allocations of its
/// bytes.
pub(crate) const ENTRY_OVERHEAD: usize = 256;

/// The number of messages taken as they come. Messages behind them come from a loop that is faster
/// than the driver looks.
///
/// A mailbox reserves capacity for them at once. Memory freed on the driver's core is slow to
/// allocate again on the caller's: growing through 4 and 8 takes as long as the sixteen pushes do.
/// While there is one message, 700 bytes of that capacity count in no limit.
pub(crate) const BURST: usize = 16;

/// The first capacity of a queue for copied payloads: as many short lines.
const FIRST_COPIES: usize = 1024;

/// The most bytes that a queue copies. A push that grows the capacity for copies moves fewer bytes
/// than this.
const MOST_COPIES: usize = 1 << 20;

/// One message with the hub-wide stamp that says when it was pushed.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) stamp: Stamp,
    pub(crate) message: Payload,
}

impl Entry {
    /// The cost of a message in every bound, in bytes.
    pub(crate) fn cost(message: &Message) -> usize {
        message.len().saturating_add(ENTRY_OVERHEAD)
    }
}

/// Messages in the order of their stamps, bounded in bytes.
///
/// A full queue drops its older half, and not one message for each new one: a slow reader sees one
/// gap in half a queue instead of a gap before every message.
///
/// In a hot loop small payloads are copied into the queue's own memory, and the thread that pushes
/// them gets them back. If the driver freed them, the two threads would meet in the allocator's
/// lock.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    slots: VecDeque<Slot>,
    bytes: usize,
    /// Copied payloads, one behind the other.
    copies: VecDeque<u8>,
}

/// The payload of a removed entry, if it was copied; a short line needs no allocation.
pub(crate) type PayloadCopy = SmallVec<[u8; 512]>;

/// A position in a queue: what is before it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) entries: usize,
    /// Their cost.
    pub(crate) bytes: usize,
    /// Their copied payloads' bytes.
    copied: usize,
}

impl Position {
    fn pass(&mut self, message: &Stored) {
        self.entries += 1;
        self.bytes += message.cost();
        self.copied += message.copied();
    }

    /// The same position, when what is before `front` has gone.
    #[must_use]
    pub(crate) fn behind(self, front: Self) -> Self {
        Self {
            entries: self.entries.saturating_sub(front.entries),
            bytes: self.bytes.saturating_sub(front.bytes),
            copied: self.copied.saturating_sub(front.copied),
        }
    }
}

/// An entry as a queue holds it.
#[derive(Debug)]
pub(crate) struct Slot {
    stamp: Stamp,
    message: Stored,
}

impl Slot {
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Returns the entry, with `copy` as its payload if the payload was copied.
    pub(crate) fn into_entry(self, copy: &PayloadCopy) -> Entry {
        let message = match self.message {
            Stored::Held(message) => message,
            Stored::Copied(kind, _) => kind.message(Bytes::copy_from_slice(copy)).into(),
        };
        Entry { stamp: self.stamp, message }
    }
}

impl From<Entry> for Slot {
    fn from(Entry { stamp, message }: Entry) -> Self {
        Self { stamp, message: Stored::Held(message) }
    }
}

#[derive(Debug)]
enum Stored {
    Held(Payload),
    /// The next so many bytes of the copies.
    Copied(Kind, usize),
}

impl Stored {
    fn copied(&self) -> usize {
        match self {
            Self::Held(_) => 0,
            Self::Copied(_, len) => *len,
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Held(message) => Entry::cost(message),
            Self::Copied(_, len) => len + ENTRY_OVERHEAD,
        }
    }
}

/// The entries that were dropped to make room.
#[derive(Debug, Default)]
pub(crate) struct Evicted {
    pub(crate) count: usize,
    /// The cost of the dropped entries.
    pub(crate) bytes: usize,
    /// The callers' payloads among them, to be dropped after the lock.
    pub(crate) payloads: Vec<Payload>,
}

impl Queue {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether a message of this cost can be added without dropping another.
    ///
    /// A single message above the whole bound is taken when it is alone.
    pub(crate) fn has_room(&self, cost: usize, bound: usize) -> bool {
        self.slots.is_empty() || self.bytes.saturating_add(cost) <= bound
    }

    /// Drops the oldest messages until a message of this cost fits and half of the bound is free.
    pub(crate) fn make_room(&mut self, cost: usize, bound: usize) -> Evicted {
        self.make_room_behind(Position::default(), cost, bound)
    }

    /// Makes room among the messages behind a position, to which alone the bound applies.
    pub(crate) fn make_room_behind(
        &mut self,
        from: Position,
        cost: usize,
        bound: usize,
    ) -> Evicted {
        self.remove(from, self.room_for(from, cost, bound))
    }

    /// The position up to which messages behind `from` have to go, to make room among them.
    pub(crate) fn room_for(&self, from: Position, cost: usize, bound: usize) -> Position {
        let mut to = from;
        for Slot { message, .. } in self.slots.range(from.entries..) {
            let left = self.bytes - to.bytes;
            if left <= bound / 2 && left.saturating_add(cost) <= bound {
                break;
            }
            to.pass(message);
        }
        to
    }

    /// The position behind the first `entries` entries.
    pub(crate) fn position(&self, entries: usize) -> Position {
        let mut position = Position::default();
        self.slots.iter().take(entries).for_each(|slot| position.pass(&slot.message));
        position
    }

    /// Drops the entries between two positions.
    pub(crate) fn remove(&mut self, from: Position, to: Position) -> Evicted {
        let (count, bytes) = (to.entries - from.entries, to.bytes - from.bytes);
        self.bytes -= bytes;
        self.copies.drain(from.copied..to.copied);
        let gone = self.slots.drain(from.entries..to.entries);
        let payloads = gone.filter_map(|slot| match slot.message {
            Stored::Held(payload) => Some(payload),
            Stored::Copied(..) => None,
        });
        Evicted { count, bytes, payloads: payloads.collect() }
    }

    /// Reserves capacity for `entries`, if the queue has none.
    pub(crate) fn reserve(&mut self, entries: usize) {
        if self.slots.capacity() == 0 {
            self.slots.reserve(entries);
        }
    }

    /// Appends an entry. Returns a payload that was copied, to be dropped after the lock.
    pub(crate) fn push(&mut self, Entry { stamp, message }: Entry) -> Option<Payload> {
        self.bytes += Entry::cost(&message);
        let is_small =
            message.len() < SHARED_FROM && self.copies.len() + message.len() <= MOST_COPIES;
        if self.len() >= BURST && is_small {
            self.push_copy(stamp, &message);
            return Some(message);
        }
        self.slots.push_back(Slot { stamp, message: Stored::Held(message) });
        None
    }

    #[inline(never)] // no cache holds the code of a push that wakes the driver: keep it short
    fn push_copy(&mut self, stamp: Stamp, message: &Message) {
        let (len, more) = (self.copies.len(), message.len());
        if len + more > self.copies.capacity() {
            // By half: doubled, the capacity would exceed what the entries' cost covers.
            self.copies.reserve_exact(more.max(len / 2).max(FIRST_COPIES));
        }
        self.copies.extend(message.as_bytes());
        self.slots.push_back(Slot { stamp, message: Stored::Copied(message.kind(), more) });
    }

    pub(crate) fn first_stamp(&self) -> Option<Stamp> {
        self.slots.front().map(|slot| slot.stamp)
    }

    /// The stamp of the entry at a position.
    pub(crate) fn stamp_at(&self, at: Position) -> Option<Stamp> {
        self.slots.get(at.entries).map(|slot| slot.stamp)
    }

    /// The cost of the entry at a position.
    pub(crate) fn cost_at(&self, at: Position) -> Option<usize> {
        self.slots.get(at.entries).map(|slot| slot.message.cost())
    }

    /// Returns the entry at a position, which stays, and its cost. Moves the position behind it. A
    /// copied payload is put into `copy`, as [`pop_before`](Self::pop_before) does.
    pub(crate) fn read(&self, at: &mut Position, copy: &mut PayloadCopy) -> Option<(Slot, usize)> {
        let Slot { stamp, message } = self.slots.get(at.entries)?;
        let copied = at.copied;
        at.pass(message);
        let message = match message {
            Stored::Held(payload) => Stored::Held(Message::clone(payload).into()),
            Stored::Copied(kind, len) => {
                self.copy_out(copied, *len, copy);
                Stored::Copied(*kind, *len)
            }
        };
        let cost = message.cost();
        Some((Slot { stamp: *stamp, message }, cost))
    }

    /// Copies `len` bytes of the copied payloads, from `from` on.
    fn copy_out(&self, from: usize, len: usize, copy: &mut PayloadCopy) {
        let (front, back) = self.copies.as_slices();
        let first = from.min(front.len())..(from + len).min(front.len());
        let rest = len - first.len();
        let from = from.saturating_sub(front.len());
        copy.extend_from_slice(&front[first]);
        copy.extend_from_slice(&back[from..from + rest]);
    }

    /// Removes the oldest entry, if it was pushed before this stamp was taken, and returns it with
    /// its cost. A copied payload is put into `copy`, which is empty: nothing is allocated under
    /// the lock.
    pub(crate) fn pop_before(
        &mut self,
        stamp: Stamp,
        copy: &mut PayloadCopy,
    ) -> Option<(Slot, usize)> {
        if self.first_stamp()? < stamp { self.pop_slot(copy) } else { None }
    }

    /// Removes the oldest entry.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let mut copy = PayloadCopy::new();
        let (slot, _) = self.pop_slot(&mut copy)?;
        Some(slot.into_entry(&copy))
    }

    /// Removes the oldest entry, and returns it with its cost. A copied payload is put into `copy`.
    fn pop_slot(&mut self, copy: &mut PayloadCopy) -> Option<(Slot, usize)> {
        let slot = self.slots.pop_front()?;
        let (len, cost) = (slot.message.copied(), slot.message.cost());
        self.bytes -= cost;
        if len > 0 {
            self.copy_out(0, len, copy);
            self.copies.drain(..len);
        }
        Some((slot, cost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut Queue, stamp: u64, bytes: usize) {
        let message = Message::from(vec![0; bytes]).into();
        queue.push(Entry { stamp: Stamp::new(stamp), message });
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
        assert_eq!(
            (evicted.count, evicted.bytes, queue.first_stamp()),
            (5, 5 * COST, Some(Stamp::new(5)))
        );
        push(&mut queue, 10, 36);
        assert_eq!((queue.len(), queue.bytes()), (6, 6 * COST));
        let mut copy = PayloadCopy::new();
        assert!(queue.pop_before(Stamp::new(5), &mut copy).is_none());
        let (slot, cost) = queue.pop_before(Stamp::new(6), &mut copy).unwrap();
        assert_eq!((slot.stamp, cost, copy.len()), (Stamp::new(5), COST, 0));
    }

    #[test]
    fn one_message_above_the_bound_is_kept_alone() {
        let mut queue = Queue::default();
        assert!(queue.has_room(5000, BOUND));
        push(&mut queue, 0, 36);
        assert!(!queue.has_room(5000, BOUND));
        assert_eq!(queue.make_room(5000, BOUND).count, 1);
        assert!(queue.is_empty());
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_queue_with_room_gives_up_nothing() {
        let mut queue = Queue::default();
        push(&mut queue, 0, 36);
        assert_eq!(queue.make_room(COST, BOUND).count, 0);
        assert_eq!(queue.pop().unwrap().stamp, Stamp::FIRST);
        assert!(queue.pop().is_none());
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn what_is_copied_comes_out_as_it_went_in() {
        let shared = Bytes::from(vec![7; 100]);
        let kinds: [(&dyn Fn() -> Message, bool); 7] = [
            (&|| "x".repeat(90).into(), true),
            (&|| "static".into(), true),
            (&|| Message::json(&"x".repeat(700)).unwrap(), true),
            (&|| vec![1; SHARED_FROM - 1].into(), true),
            (&|| shared.clone().into(), true),
            (&|| vec![2; SHARED_FROM].into(), false),
            (&|| String::new().into(), true),
        ];
        let (mut queue, mut expected) = (Queue::default(), VecDeque::new());
        for stamp in 0..5000 {
            let (make, is_copied) = &kinds[stamp * stamp % 31 % kinds.len()];
            let (message, own) = (make(), make());
            let back = queue.push(Entry { stamp: Stamp::new(stamp as u64), message: own.into() });
            let is_copied = *is_copied && expected.len() >= BURST;
            assert_eq!(back.as_deref(), is_copied.then_some(&message), "{stamp}");
            expected.push_back((stamp as u64, message));
            if stamp % 97 == 0 {
                expected.drain(..queue.make_room(0, queue.bytes()).count);
            }
            let pops = if queue.len() > 80 { 70 } else { stamp % 2 };
            for (stamp, message) in expected.drain(..pops.min(expected.len())) {
                let entry = queue.pop().unwrap();
                assert_eq!((entry.stamp, &*entry.message), (Stamp::new(stamp), &message));
            }
            let sum = |bytes, (_, message): &(u64, Message)| bytes + Entry::cost(message);
            assert_eq!(queue.bytes(), expected.iter().fold(0, sum));
        }
        assert_eq!(queue.len(), expected.len());
    }

    #[test]
    fn the_copies_are_bounded_and_take_no_more_than_half_as_much_again() {
        assert_eq!(size_of::<Slot>(), size_of::<Entry>());
        let (mut queue, mut sum) = (Queue::default(), 0);
        for len in (1..SHARED_FROM).step_by(2) {
            push(&mut queue, 0, len);
            sum += len;
            let room = sum + (sum / 2).max(FIRST_COPIES);
            assert!(queue.copies.capacity() <= room, "{len}");
        }
        assert!(sum > 2 * MOST_COPIES);
        assert!((MOST_COPIES - SHARED_FROM..=MOST_COPIES).contains(&queue.copies.len()));
        while queue.pop().is_some() {}
        assert_eq!((queue.copies.len(), queue.bytes()), (0, 0));
    }
}
