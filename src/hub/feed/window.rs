//! The newest part of a feed's log: what may be read of it, by position, and what makes way.

use std::collections::VecDeque;

use crate::hub::feed::item::{Item, Kept};
use crate::hub::feed::queue::ENTRY_OVERHEAD;
use crate::hub::feed::seq::Seq;
use crate::hub::feed::stamp::Stamp;

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) stamp: Stamp,
    /// The sequence number. Numbers of messages lost before the takeover are missing.
    pub(crate) number: Seq,
    /// The number of missing messages directly before this one.
    pub(crate) lost: u64,
    /// The cost in the window's bound: the same as in the queue that the message came from, so what
    /// fits there fits here.
    pub(crate) cost: usize,
    /// The bytes that were put into the window before this message.
    pub(crate) before: u64,
    pub(crate) item: Item,
}

/// The newest part of a feed's log, encoded, on the driver's side.
///
/// Positions count the frames ever put in; a client's cursor is the position it reads next.
#[derive(Debug)]
pub(crate) struct Window {
    slots: VecDeque<Slot>,
    /// The position of the first slot.
    first: u64,
    /// The position after the last slot that may be read. The slots behind were pushed after the
    /// driver took its stamp.
    visible: u64,
    pub(crate) bytes: usize,
    /// The bytes ever put in.
    total: u64,
    bound: usize,
}

impl Window {
    pub(crate) fn new(bound: usize) -> Self {
        Self { slots: VecDeque::new(), first: 0, visible: 0, bytes: 0, total: 0, bound }
    }

    pub(crate) fn push(&mut self, mut slot: Slot) {
        slot.before = self.total;
        self.total += slot.cost as u64;
        self.bytes += slot.cost;
        self.slots.push_back(slot);
        while self.bytes > self.bound && self.slots.len() > 1 {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(slot) = self.slots.pop_front() {
            self.bytes -= slot.cost;
            self.first += 1;
            self.visible = self.visible.max(self.first);
        }
    }

    /// Makes messages stamped before `stamp` readable.
    pub(crate) fn reveal(&mut self, stamp: Stamp) {
        let is_all = self.slots.back().is_none_or(|slot| slot.stamp < stamp);
        self.visible = if is_all { self.end() } else { self.stamped_from(stamp) };
    }

    /// The position of the first slot, readable or not.
    #[cfg(test)]
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// The position after the last slot.
    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// The live end: the position after the last frame that may be read.
    pub(crate) fn live(&self) -> u64 {
        self.visible
    }

    /// Whether everything in the window may be read.
    pub(crate) fn all_visible(&self) -> bool {
        self.visible == self.end()
    }

    /// Returns where a cursor that has fallen off the window goes on, and how many frames that
    /// skips. The place is the middle, so a client that stays slow has one gap in half a window.
    pub(crate) fn catch_up(&self, cursor: u64) -> Option<(u64, u64)> {
        (cursor < self.first).then(|| {
            let middle = self.first + (self.visible - self.first) / 2;
            (middle, middle - cursor)
        })
    }

    /// Returns the stamp and the message at a cursor, if the cursor is not at the live end.
    pub(crate) fn get(&self, cursor: u64) -> Option<(Stamp, &Item)> {
        if cursor >= self.visible {
            return None;
        }
        self.slot(cursor).map(|slot| (slot.stamp, &slot.item))
    }

    fn slot(&self, position: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(position.checked_sub(self.first)?).ok()?)
    }

    /// The sequence number of the message at a position.
    pub(crate) fn number(&self, position: u64) -> Option<Seq> {
        self.slot(position).map(|slot| slot.number)
    }

    /// The number of messages directly before a position that were lost before the takeover.
    pub(crate) fn lost_before(&self, position: u64) -> u64 {
        self.slot(position).map_or(0, |slot| slot.lost)
    }

    /// The sequence number of the message before a position, if it is still kept.
    pub(crate) fn number_before(&self, position: u64) -> Option<Seq> {
        self.number(position.checked_sub(1)?)
    }

    /// The position after the message with this number, or after those before it.
    pub(crate) fn after_number(&self, number: Seq) -> u64 {
        let before = self.slots.partition_point(|slot| slot.number <= number) as u64;
        (self.first + before).min(self.visible)
    }

    /// The bytes from this position on.
    pub(crate) fn bytes_from(&self, position: u64) -> usize {
        let index = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        match self.slots.get(index) {
            Some(slot) => usize::try_from(self.total - slot.before).unwrap_or(usize::MAX),
            None => 0,
        }
    }

    /// Returns the position before which a client that stands at `position` has everything, if at
    /// most `under_way` bytes of lines are in flight to it. (The shortest line, of an empty
    /// message, has 21 bytes.)
    pub(crate) fn before(&self, position: u64, under_way: u32) -> u64 {
        const COST_OF_A_BYTE: u64 = ENTRY_OVERHEAD as u64 / 21 + 1;
        let index = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let total = self.slots.get(index).map_or(self.total, |slot| slot.before);
        let had = total.saturating_sub(u64::from(under_way) * COST_OF_A_BYTE);
        let index = self.slots.partition_point(|slot| slot.before + slot.cost as u64 <= had);
        position.min(self.first + index as u64)
    }

    /// The position where the messages kept for late joiners begin, of those before `end`.
    pub(crate) fn kept_from(&self, kept: Kept, now: u64, end: u64) -> u64 {
        let most = end.saturating_sub(kept.messages as u64).max(self.first);
        let old = self.slots.partition_point(|slot| slot.item.at + kept.age <= now) as u64;
        most.max(self.first + old).min(end)
    }

    /// The position of the first message with this stamp or a later one.
    pub(crate) fn stamped_from(&self, stamp: Stamp) -> u64 {
        self.first + self.slots.partition_point(|slot| slot.stamp < stamp) as u64
    }

    /// Whether anything in the window is younger than `age` milliseconds.
    pub(crate) fn is_younger(&self, age: u64, now: u64) -> bool {
        self.slots.back().is_some_and(|slot| slot.item.at + age > now)
    }

    /// Drops the messages before this position, at most `most`. Returns how many.
    pub(crate) fn drop_before(&mut self, position: u64, most: usize) -> usize {
        let mut dropped = 0;
        while self.first < position && !self.slots.is_empty() && dropped < most {
            self.drop_first();
            dropped += 1;
        }
        self.give_room_back();
        dropped
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Shrinks the capacity of the slots. That capacity is counted nowhere, so a burst must not
    /// leave much of it.
    fn give_room_back(&mut self) {
        if self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to(2 * self.slots.len());
        }
    }

    pub(crate) fn halve(&mut self) {
        let half = self.bytes / 2;
        while self.bytes > half && !self.slots.is_empty() {
            self.drop_first();
        }
        self.give_room_back();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::hub::feed::item::tests::item;

    pub(crate) fn slot(stamp: u64, cost: usize, item: Item) -> Slot {
        let (stamp, number) = (Stamp::new(stamp), Seq::new(stamp + 1));
        Slot { stamp, number, lost: 0, cost, before: 0, item }
    }

    #[test]
    fn an_entry_counts_what_it_takes_in_a_log() {
        // The slot with half as much spare capacity, the owner of the frame's bytes, and a frame's
        // header.
        let takes = size_of::<Slot>() * 3 / 2 + 56 + 10;
        assert!((takes..takes * 5 / 4).contains(&ENTRY_OVERHEAD), "{takes}");
    }

    #[test]
    fn who_has_bytes_under_way_has_received_what_was_before_them_whatever_the_messages_are() {
        for (payload, under_way) in [(0, 100), (0, 21), (80, 8192), (5000, 8192), (80, 0)] {
            let mut window = Window::new(1 << 30);
            let cost = payload + ENTRY_OVERHEAD;
            (0..1000).for_each(|stamp| window.push(slot(stamp, cost, item(0, 10))));
            window.reveal(Stamp::new(1000));
            let received = window.before(900, under_way);
            let lines = u64::from(under_way).div_ceil(payload as u64 + 21); // at most
            assert!(received + lines <= 900, "{payload} {under_way}: {received}");
            assert!(under_way > 0 || received == 900);
        }
        assert_eq!(Window::new(100).before(7, u32::MAX), 0);
    }

    #[test]
    fn only_what_was_stamped_before_is_readable() {
        let mut window = Window::new(1 << 20);
        (0..10).for_each(|stamp| window.push(slot(stamp, 10, item(0, 10))));
        window.reveal(Stamp::new(7));
        assert_eq!(window.live(), 7);
        assert!(window.get(6).is_some() && window.get(7).is_none() && !window.all_visible());
        window.reveal(Stamp::new(10));
        assert!(window.get(9).is_some() && window.all_visible());
    }

    #[test]
    fn a_cursor_that_fell_off_goes_on_in_the_middle() {
        let mut window = Window::new(100 * 10);
        for stamp in 0..150 {
            window.push(slot(stamp, 10, item(0, 10)));
        }
        window.reveal(Stamp::new(150));
        assert_eq!(window.catch_up(20), Some((100, 80)));
        assert_eq!(window.catch_up(50), None);
        assert!(window.get(49).is_none() && window.get(50).is_some());
    }

    #[test]
    fn one_frame_above_the_bound_is_kept_alone() {
        let mut window = Window::new(1000);
        window.push(slot(0, 10, item(0, 10)));
        window.push(slot(1, 5000, item(0, 5000)));
        window.reveal(Stamp::new(2));
        assert_eq!(window.get(1).unwrap().1.frame().len(), 5000);
        assert!(window.get(0).is_none());
        window.push(slot(2, 1000, item(0, 10)));
        window.reveal(Stamp::new(3));
        assert!(window.get(1).is_none() && window.get(2).is_some());
    }
}
