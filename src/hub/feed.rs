//! A feed: an ordered log that callers append to, and the window of it that clients read.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::budget::{Budget, Charge};
use super::queue::Entry;
use crate::wire::{Frame, plain};

/// From this size on a frame is a part of its own in a vectored write; smaller ones are copied
/// together, once for all clients. It is also where a frame begins to share its payload: what is
/// below has been copied once already.
const OWN_PART_FROM: usize = 4 * 1024;

/// The most that is copied together into one part.
const PART: usize = 16 * 1024;

/// The most frames in one batch, and about the most that is copied together for it; what is more
/// comes in the next.
const BATCH: usize = 1024;
const COPIED: usize = 1024 * 1024;

/// Encodes a message that is already counted in the budget, which it leaves with its last frame.
pub(crate) fn encode(entry: Entry, budget: &Arc<Budget>) -> Frame {
    let charge = Charge::adopt(budget, Entry::cost(&entry.message));
    plain::encode(entry.message).map_payload(|bytes| charge.attach(bytes))
}

#[derive(Debug)]
struct Slot {
    stamp: u64,
    /// What it counts in the window's bound: the same as in the queue that it came from, so that
    /// what fits there fits here.
    cost: usize,
    frame: Frame,
}

/// The newest part of a feed's log, encoded, on the driver's side.
///
/// Positions count the frames ever put in; a client's cursor is the position it reads next.
#[derive(Debug)]
pub(crate) struct Window {
    slots: VecDeque<Slot>,
    /// The position of the first slot.
    first: u64,
    /// The position after the last slot that may be read: the ones behind it were pushed after
    /// the driver took its stamp.
    visible: u64,
    bytes: usize,
    bound: usize,
}

impl Window {
    pub(crate) fn new(bound: usize) -> Self {
        Self { slots: VecDeque::new(), first: 0, visible: 0, bytes: 0, bound }
    }

    pub(crate) fn push(&mut self, stamp: u64, cost: usize, frame: Frame) {
        self.bytes += cost;
        self.slots.push_back(Slot { stamp, cost, frame });
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

    /// Makes readable what was stamped before `stamp`.
    pub(crate) fn reveal(&mut self, stamp: u64) {
        let hidden = self.slots.iter().rev().take_while(|slot| slot.stamp >= stamp).count();
        self.visible = self.end() - hidden as u64;
    }

    /// The position after the last slot.
    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// The position of the oldest frame that is kept.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The live end: where a new client starts.
    pub(crate) fn live(&self) -> u64 {
        self.visible
    }

    /// Whether everything in it may be read.
    pub(crate) fn all_visible(&self) -> bool {
        self.visible == self.end()
    }

    /// Where a cursor that has fallen off the window goes on, and how many frames that skips: at
    /// the middle, so that a client that stays slow has one gap in half a window.
    pub(crate) fn catch_up(&self, cursor: u64) -> Option<(u64, u64)> {
        (cursor < self.first).then(|| {
            let middle = self.first + (self.visible - self.first) / 2;
            (middle, middle - cursor)
        })
    }

    /// The stamp and the frame at a cursor, if it is not at the live end.
    pub(crate) fn get(&self, cursor: u64) -> Option<(u64, &Frame)> {
        if cursor >= self.visible {
            return None;
        }
        let index = usize::try_from(cursor.checked_sub(self.first)?).ok()?;
        self.slots.get(index).map(|slot| (slot.stamp, &slot.frame))
    }

    /// Forgets what everybody has read.
    pub(crate) fn clear(&mut self) {
        while !self.slots.is_empty() {
            self.drop_first();
        }
        self.slots = VecDeque::new();
    }

    /// The frames from a position on, as the bytes that every client there is owed.
    pub(crate) fn batch(&self, from: u64) -> Batch {
        let mut batch = Batch { from, ..Batch::default() };
        let mut small = Vec::new();
        let mut copied = 0;
        let single = self.visible - from == 1;
        for (_, frame) in (from..self.visible).take(BATCH).filter_map(|at| self.get(at)) {
            if frame.len() >= OWN_PART_FROM || single {
                batch.flush_small(&mut small);
                batch.parts.extend(frame.parts().cloned());
            } else {
                frame.parts().for_each(|part| small.extend_from_slice(part));
                copied += frame.len();
                if small.len() >= PART {
                    batch.flush_small(&mut small);
                }
            }
            batch.bytes += frame.len();
            batch.frames.push((batch.bytes, frame.clone()));
            if copied >= COPIED {
                break;
            }
        }
        batch.flush_small(&mut small);
        batch
    }
}

/// What every client that has read up to `from` is owed, ready to be written.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    from: u64,
    /// The bytes, small frames copied together.
    pub(crate) parts: Vec<Bytes>,
    /// Each frame, and where it ends in the bytes.
    frames: Vec<(usize, Frame)>,
    bytes: usize,
}

impl Batch {
    fn flush_small(&mut self, small: &mut Vec<u8>) {
        if !small.is_empty() {
            self.parts.push(Bytes::from(std::mem::take(small)));
        }
    }

    pub(crate) fn from(&self) -> u64 {
        self.from
    }

    /// The position after its last frame.
    pub(crate) fn to(&self) -> u64 {
        self.from + self.frames.len() as u64
    }

    /// Where a client stands that has taken the first `written` bytes: its cursor, and what is
    /// left of the frame it is in.
    pub(crate) fn after(&self, written: usize) -> (u64, Frame) {
        let index = self.frames.partition_point(|(end, _)| *end <= written);
        let start = if index == 0 { 0 } else { self.frames[index - 1].0 };
        match self.frames.get(index) {
            Some((_, frame)) if written > start => {
                let mut rest = frame.clone();
                rest.advance(written - start);
                (self.from + index as u64 + 1, rest)
            }
            _ => (self.from + index as u64, Frame::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8, len: usize) -> Frame {
        Bytes::from(vec![byte; len]).into()
    }

    fn window(lens: &[usize]) -> Window {
        let mut window = Window::new(8 << 20);
        for (index, len) in lens.iter().enumerate() {
            window.push(index as u64, *len, frame(u8::try_from(index % 251).unwrap(), *len));
        }
        window.reveal(u64::MAX);
        window
    }

    #[test]
    fn only_what_was_stamped_before_is_readable() {
        let mut window = Window::new(1 << 20);
        (0..10).for_each(|stamp| window.push(stamp, 10, frame(0, 10)));
        window.reveal(7);
        assert_eq!(window.live(), 7);
        assert!(window.get(6).is_some() && window.get(7).is_none() && !window.all_visible());
        window.reveal(10);
        assert!(window.get(9).is_some() && window.all_visible());
    }

    #[test]
    fn a_cursor_that_fell_off_goes_on_in_the_middle() {
        let mut window = Window::new(100 * 10);
        for stamp in 0..150 {
            window.push(stamp, 10, frame(0, 10));
        }
        window.reveal(150);
        assert_eq!(window.catch_up(20), Some((100, 80)));
        assert_eq!(window.catch_up(50), None);
        assert!(window.get(49).is_none() && window.get(50).is_some());
    }

    #[test]
    fn one_frame_above_the_bound_is_kept_alone() {
        let mut window = Window::new(1000);
        window.push(0, 10, frame(0, 10));
        window.push(1, 5000, frame(0, 5000));
        window.reveal(2);
        assert_eq!(window.get(1).unwrap().1.len(), 5000);
        assert!(window.get(0).is_none());
        window.push(2, 1000, frame(0, 10));
        window.reveal(3);
        assert!(window.get(1).is_none() && window.get(2).is_some());
    }

    #[test]
    fn a_cleared_window_goes_on_counting() {
        let mut window = window(&[10, 10]);
        window.clear();
        assert_eq!((window.live(), window.bytes), (2, 0));
        window.push(2, 10, frame(0, 10));
        window.reveal(3);
        assert!(window.get(2).is_some());
    }

    #[test]
    fn small_frames_are_copied_together_and_large_ones_shared() {
        let batch = window(&[10, 20, 5000, 4095, 5, 70_000]).batch(0);
        let lens: Vec<_> = batch.parts.iter().map(Bytes::len).collect();
        assert_eq!(lens, [30, 5000, 4100, 70_000]);
        assert_eq!((batch.bytes, batch.to()), (79_130, 6));
        let all: usize = window(&[100; 1000]).batch(0).parts.len();
        assert_eq!(all, 1000 * 100 / PART + 1);
        let copied = window(&[1024; 1200]).batch(0);
        assert_eq!((copied.bytes, copied.to()), (COPIED, 1024));
        let copied = window(&[4000; 1000]).batch(0);
        assert!(copied.bytes >= COPIED && copied.bytes < COPIED + 4000);
    }

    #[test]
    fn wherever_a_write_stops_the_rest_is_the_frame_it_is_in_and_the_frames_after() {
        let lens = [10, 20, 4300, 255, 5, 4400];
        let window = window(&lens);
        let batch = window.batch(0);
        let whole: Vec<u8> = batch.parts.iter().flat_map(|part| part.to_vec()).collect();
        for written in 0..=whole.len() {
            let (cursor, rest) = batch.after(written);
            let mut bytes: Vec<u8> = rest.parts().flat_map(|part| part.to_vec()).collect();
            assert!(rest.is_empty() || bytes.len() < lens[usize::try_from(cursor).unwrap() - 1]);
            for position in cursor..batch.to() {
                let (_, frame) = window.get(position).unwrap();
                frame.parts().for_each(|part| bytes.extend_from_slice(part));
            }
            assert_eq!(bytes, whole[written..], "after {written}");
        }
    }
}
