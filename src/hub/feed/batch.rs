//! A batch: what every client at one cursor of a feed is owed, made once for all of them.

use std::sync::Arc;

use bytes::Bytes;

use crate::hub::feed::item::Cursor;
use crate::hub::feed::seq::Seq;
use crate::hub::primitives::budget::{Budget, Charge};
use crate::wire::Frame;
use crate::wire::v1::{Form, Joined};

/// The size from which on a frame is a part of its own in a vectored write. Smaller frames are
/// copied together, once for all clients. A frame of this size also shares its payload; a smaller
/// payload has been copied once already.
const OWN_PART_FROM: usize = 4 * 1024;

/// The same size for frames that lines share, which are longer, and seldom longer than this.
const OWN_PART_OF_LINES_FROM: usize = 32 * 1024;

/// The most frames in one batch, and about the most bytes copied for it. The rest comes in the next
/// batch.
const BATCH: usize = 1024;
const COPIED: usize = 1024 * 1024;

/// The messages that every client at one cursor is owed, ready to be written.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) from: Cursor,
    /// The bytes, with small frames copied together.
    parts: Vec<Bytes>,
    /// Each frame, its end in the bytes, and the cursor of a client that has it.
    frames: Vec<(usize, Frame, Cursor)>,
    bytes: usize,
    /// The length of the longest frame.
    longest: usize,
    /// Whether nothing comes after this batch.
    is_all: bool,
    /// The bytes copied for this batch, and the charge for them.
    copied: usize,
    charge: Option<Charge>,
}

impl Batch {
    /// Adds a frame as one part of its own, or two.
    fn add_shared(&mut self, frame: Frame, after: Cursor) {
        self.parts.extend(frame.parts().cloned());
        self.add(frame, after);
    }

    /// Adds a frame to a part shared with others: one part costs less to write than several.
    fn add_copied(&mut self, frame: Frame, after: Cursor, small: &mut Vec<u8>) {
        frame.parts().for_each(|part| small.extend_from_slice(part));
        self.add(frame, after);
    }

    fn add_lines(&mut self, frame: Frame, after: Cursor, small: &mut Vec<u8>) {
        if frame.len() < OWN_PART_OF_LINES_FROM {
            return self.add_copied(frame, after, small);
        }
        self.flush_small(small);
        self.add_shared(frame, after);
    }

    fn add(&mut self, frame: Frame, after: Cursor) {
        self.bytes += frame.len();
        self.longest = self.longest.max(frame.len());
        self.frames.push((self.bytes, frame, after));
    }

    fn flush_small(&mut self, small: &mut Vec<u8>) {
        if !small.is_empty() {
            let small = std::mem::take(small).into_boxed_slice();
            self.copied += small.len();
            self.parts.push(Bytes::from(small));
        }
    }

    /// Counts the memory of the batch beside its frames, which are counted by themselves.
    pub(crate) fn counted(mut self, budget: &Arc<Budget>) -> Self {
        let lists = self.frames.capacity() * size_of::<(usize, Frame, Cursor)>()
            + self.parts.capacity() * size_of::<Bytes>();
        self.charge = Some(Charge::of(budget, self.copied + lists));
        self
    }

    /// Returns the end of the last frame that begins within the first `room` bytes, or of the first
    /// frame as long as `long`.
    pub(crate) fn within(&self, room: usize, long: usize) -> usize {
        let last = match self.longest < long {
            true if room >= self.bytes => return self.bytes,
            true => self.frames.partition_point(|(end, ..)| *end < room),
            false => {
                let is_last =
                    |(end, frame, _): &(usize, Frame, Cursor)| *end >= room || frame.len() >= long;
                self.frames.iter().position(is_last).unwrap_or(self.frames.len())
            }
        };
        self.frames.get(last).map_or(self.bytes, |(end, ..)| *end)
    }

    /// Whether a client that has the bytes up to `end` has everything.
    pub(crate) fn is_all_up_to(&self, end: usize) -> bool {
        self.is_all && end == self.bytes
    }

    /// The bytes up to `end`, the end of a frame.
    pub(crate) fn parts_up_to(&self, end: usize) -> impl Iterator<Item = &[u8]> {
        let mut left = end;
        self.parts.iter().map_while(move |part| {
            let of_part = left.min(part.len());
            left -= of_part;
            (of_part > 0).then(|| &part[..of_part])
        })
    }

    /// Returns the state of a client that has taken the first `written` bytes: its cursor, and the
    /// rest of the frame it is in.
    pub(crate) fn after(&self, written: usize) -> (Cursor, Frame) {
        let index = self.frames.partition_point(|(end, ..)| *end <= written);
        let (start, cursor) = match index.checked_sub(1) {
            Some(before) => (self.frames[before].0, self.frames[before].2),
            None => (0, self.from),
        };
        match self.frames.get(index) {
            Some((_, frame, after)) if written > start => {
                let mut rest = frame.clone();
                rest.advance(written - start);
                (*after, rest)
            }
            _ => (cursor, Frame::default()),
        }
    }

    /// Makes a batch of frames. `next` returns the message at a cursor and the cursor after it.
    pub(crate) fn of_frames(
        from: Cursor,
        next: impl Fn(Cursor) -> Option<(Frame, Cursor)>,
    ) -> Self {
        let mut batch = Self { from, ..Self::default() };
        let mut small = Vec::new();
        let mut copied = 0;
        let mut at = from;
        let mut owed = next(at);
        let single = owed.as_ref().is_some_and(|(_, after)| next(*after).is_none());
        while let Some((frame, after)) = owed {
            at = after;
            if frame.len() >= OWN_PART_FROM || single {
                batch.flush_small(&mut small);
                batch.add_shared(frame, at);
            } else {
                copied += frame.len();
                batch.add_copied(frame, at, &mut small);
            }
            let full = batch.frames.len() >= BATCH || copied >= COPIED;
            owed = if full { None } else { next(at) };
        }
        batch.flush_small(&mut small);
        batch.is_all = next(at).is_none();
        batch
    }

    /// Makes a batch of lines, which share frames, with their sequence numbers where they have one.
    /// The batch ends before missing messages, which each client is told by itself: a batch that
    /// leaves in pieces might announce them twice.
    pub(crate) fn of_lines<'a>(
        from: Cursor,
        next: impl Fn(Cursor) -> Option<(&'a Form, Option<Seq>, Cursor)>,
        budget: &Arc<Budget>,
    ) -> Self {
        // A client may hold the rest of a frame when the batch has gone.
        let counted = |frame: Frame| {
            frame.map_payload(|lines| Charge::of_owner(budget, &lines).attach(lines))
        };
        let mut batch = Self { from, ..Self::default() };
        let mut joined = Joined::default();
        let mut small = Vec::new();
        let (mut at, mut last, mut items) = (from, None::<Seq>, 0);
        while items < BATCH && batch.bytes + joined.len() < COPIED {
            let Some((form, number, after)) = next(at) else {
                batch.is_all = true;
                break;
            };
            if last.zip(number).is_some_and(|(last, number)| number > last.next()) {
                break;
            }
            last = number.or(last);
            let (before, own) = joined.add(form);
            if let Some(frame) = before.map(counted) {
                batch.add_lines(frame, at, &mut small);
            }
            if let Some(frame) = own {
                batch.flush_small(&mut small);
                batch.add_shared(frame, after);
            }
            (at, items) = (after, items + 1);
        }
        match joined.take().map(counted) {
            Some(frame) if small.is_empty() => batch.add_shared(frame, at),
            Some(frame) => batch.add_lines(frame, at, &mut small),
            None => {}
        }
        batch.flush_small(&mut small);
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Message;
    use crate::hub::feed::log::tests::{ALL, batch_of, log, log_of};
    use crate::hub::feed::queue::Entry;
    use crate::hub::feed::stamp::Stamp;
    use crate::wire::Wire;

    #[test]
    fn small_frames_are_copied_together_and_large_ones_shared() {
        let mut log = log_of(&[10, 20, 5000, 4095, 5, 70_000]);
        let batch = batch_of(&mut log);
        let lens: Vec<_> = batch.parts.iter().map(Bytes::len).collect();
        assert_eq!(lens, [30, 4, 4996, 4100, 10, 69_990], "and headers");
        assert_eq!((batch.bytes, batch.frames.len()), (79_130, 6));
        assert_eq!(batch_of(&mut log_of(&[100; 1000])).parts.len(), 1);
        let mut log = log_of(&[1024; 1200]);
        let copied = batch_of(&mut log);
        assert_eq!((copied.bytes, copied.frames.len()), (COPIED, 1024));
        let mut log = log_of(&[4000; 1000]);
        let copied = batch_of(&mut log).bytes;
        assert!((COPIED..COPIED + 4000).contains(&copied), "{copied}");
    }

    #[test]
    fn a_batch_ends_where_the_room_does_or_behind_what_is_long() {
        let mut log = log_of(&[100, 200, 5000, 100, 9000, 9000, 100]);
        let batch = batch_of(&mut log);
        let ends = |long| {
            [1, 100, 101, 300, 301, 6000, 14_401, 99_999].map(|room| batch.within(room, long))
        };
        assert_eq!(ends(usize::MAX), [100, 100, 300, 300, 5300, 14_400, 23_400, 23_500]);
        assert_eq!(ends(9000), [100, 100, 300, 300, 5300, 14_400, 14_400, 14_400]);
        assert_eq!(ends(5000), [100, 100, 300, 300, 5300, 5300, 5300, 5300]);
    }

    #[test]
    fn lines_share_frames_which_share_one_part() {
        let (mut log, budget) = log(ALL);
        for number in 1..=100 {
            let message = Message::from("x".repeat(1000));
            log.push(
                Seq::new(number),
                Entry { stamp: Stamp::new(number), message: message.into() },
                0,
                &budget,
            );
        }
        log.reveal(Stamp::new(1000));
        assert!(log.batch(Cursor::default(), Stamp::new(1000), Wire::V1, true, &budget).is_none());
        let batch =
            log.batch(Cursor::default(), Stamp::new(1000), Wire::V1, true, &budget).unwrap();
        assert_eq!((batch.parts.len(), batch.frames.len()), (1, 7));
        let frames = batch.frames.iter().flat_map(|(_, frame, _)| frame.parts());
        assert_eq!(batch.parts[0], frames.flat_map(|part| part.to_vec()).collect::<Vec<_>>());
        let (cursor, rest) = batch.after(batch.frames[2].0 + 10);
        assert_eq!((cursor, rest.len()), (batch.frames[3].2, batch.frames[3].1.len() - 10));

        // A line that is long is not copied once more.
        for (number, size) in [(101, 100), (102, 100_000), (103, 100)] {
            let message = Message::from("x".repeat(size));
            log.push(
                Seq::new(number),
                Entry { stamp: Stamp::new(number), message: message.into() },
                0,
                &budget,
            );
        }
        log.reveal(Stamp::new(2000));
        let from = Cursor { log: 100, latest: Stamp::FIRST };
        assert!(log.batch(from, Stamp::new(2000), Wire::V1, true, &budget).is_none());
        let batch = log.batch(from, Stamp::new(2000), Wire::V1, true, &budget).unwrap();
        assert!(batch.parts[1].len() > 100_000 && batch.frames[1].1.parts().count() == 1);
        let shared = batch.frames[1].1.parts().next().unwrap();
        assert_eq!((batch.parts.len(), batch.parts[1].as_ptr()), (3, shared.as_ptr()));
    }

    #[test]
    fn a_batch_of_lines_ends_before_messages_that_are_missing() {
        let (mut log, budget) = log(ALL);
        for (number, stamp) in [(1, 0), (2, 1), (5, 2), (6, 3)] {
            let message = Message::from(format!("message {number}"));
            let entry = Entry { stamp: Stamp::new(stamp), message: message.into() };
            log.push(Seq::new(number), entry, 0, &budget);
        }
        log.reveal(Stamp::new(9));
        let mut batch_at = |from| {
            assert!(
                log.batch(from, Stamp::new(9), Wire::V1, true, &budget).is_none(),
                "nobody has asked before"
            );
            let batch = log
                .batch(from, Stamp::new(9), Wire::V1, true, &budget)
                .expect("it has been asked for");
            let lines = String::from_utf8(batch.parts.concat()[2..].to_vec()).unwrap();
            (lines.lines().count(), batch.after(batch.bytes).0.log, batch.is_all, lines)
        };
        let (lines, after, is_all, text) = batch_at(Cursor::default());
        assert_eq!((lines, after, is_all), (2, 2, false), "{text}");
        let (lines, after, is_all, text) = batch_at(Cursor { log: 2, latest: Stamp::FIRST });
        assert_eq!((lines, after, is_all), (2, 4, true), "{text}");
        assert!(text.contains("message 5") && text.contains("message 6"), "{text}");
    }

    #[test]
    fn wherever_a_write_stops_the_rest_is_the_frame_it_is_in_and_the_frames_after() {
        let lens = [10, 20, 4300, 255, 5, 4400];
        let mut log = log_of(&lens);
        let batch = batch_of(&mut log);
        let whole: Vec<u8> = batch.parts.iter().flat_map(|part| part.to_vec()).collect();
        let after: Vec<_> = (0..=whole.len()).map(|written| batch.after(written)).collect();
        for (written, (cursor, rest)) in after.into_iter().enumerate() {
            let mut bytes: Vec<u8> = rest.parts().flat_map(|part| part.to_vec()).collect();
            assert!(
                rest.is_empty() || bytes.len() < lens[usize::try_from(cursor.log).unwrap() - 1]
            );
            for position in cursor.log..6 {
                let (_, item) = log.window.get(position).unwrap();
                item.frame().parts().for_each(|part| bytes.extend_from_slice(part));
            }
            assert_eq!(bytes, whole[written..], "after {written}");
        }
    }
}
