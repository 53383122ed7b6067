//! The times at which messages that wait in mailboxes were pushed.
//!
//! A push reads no clock, and mail for a client that is away stays in its mailbox until the client
//! comes back. The driver therefore notes in each round which stamps have been given by then. The
//! stamp of a message later says between which two rounds it was pushed.

use std::collections::VecDeque;

use crate::hub::feed::stamp::Stamp;

/// The number of notes kept.
const NOTES: usize = 512;

#[derive(Debug)]
pub(crate) struct Times {
    /// A stamp, and the time when all stamps below it had been given. Both ascend.
    notes: VecDeque<(Stamp, u64)>,
    /// The least time between two notes, in milliseconds, except for the newest.
    every: u64,
}

impl Times {
    /// Creates notes for messages that wait up to `span` milliseconds. A time is exact to the 512th
    /// part of that.
    pub(crate) fn new(span: u64) -> Self {
        Self { notes: VecDeque::new(), every: span.div_ceil(NOTES as u64) }
    }

    /// Notes that the stamps below this have been given by now.
    pub(crate) fn note(&mut self, stamp: Stamp, now: u64) {
        let mut newest = self.notes.iter().rev();
        let (last, before) = (newest.next().copied(), newest.next().copied());
        if last.is_some_and(|(last, _)| last == stamp) {
            return; // nothing was pushed since
        }
        if before.is_some_and(|(_, at)| now <= at + self.every) {
            self.notes.pop_back();
        }
        if self.notes.len() == NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back((stamp, now));
    }

    /// Returns when this stamp was given.
    pub(crate) fn of(&self, stamp: Stamp, now: u64) -> u64 {
        let after = self.notes.partition_point(|(upto, _)| *upto <= stamp);
        self.notes.get(after).map_or(now, |(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_has_the_time_of_the_round_after_it_as_exactly_as_there_is_room_for() {
        let mut times = Times::new(120_000);
        assert_eq!(times.of(Stamp::new(7), 40), 40);
        for (stamp, now) in [(10, 1000), (20, 1500), (30, 1501), (30, 9000), (40, 9001)] {
            times.note(Stamp::new(stamp), now);
        }
        let of = [0, 9, 10, 29, 30, 39, 40].map(|stamp| times.of(Stamp::new(stamp), 9999));
        assert_eq!(of, [1000, 1000, 1500, 1501, 9001, 9001, 9999]);

        // As fast as rounds come, for as long as a client may be away and twice that.
        (1..=240_000).for_each(|ms| times.note(Stamp::new(40 + ms), 10_000 + ms));
        assert!(times.notes.len() <= NOTES && times.notes.capacity() <= 2 * NOTES);
        for ms in 120_000..240_000 {
            let late = times.of(Stamp::new(40 + ms - 1), 0) - (10_000 + ms);
            assert!(late <= 120_000 / NOTES as u64 + 1, "{late} ms too late");
        }
    }
}
