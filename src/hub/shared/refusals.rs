//! Refused pushes, counted by kind, and logged, since few programs look at what a push returns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::hub::error::{KEY_MAX, SendError};
use crate::hub::limits::Limits;
use crate::hub::primitives::journal::Journal;
use crate::hub::stats::{Counter, RefusedPushes};

/// The milliseconds between two lines of the same kind.
const EACH: u64 = 10_000;

/// The number of kinds: see [`kind_of`].
const KINDS: usize = 10;

#[derive(Debug)]
pub(crate) struct Refusals {
    kinds: [Kind; KINDS],
    began: Instant,
}

#[derive(Debug, Default)]
struct Kind {
    count: Counter,
    /// The time of the last line in milliseconds, and the count at that time.
    told_at: AtomicU64,
    told: AtomicU64,
}

fn kind_of(error: &SendError) -> usize {
    match error {
        SendError::NoSuchClient(_) => 0,
        SendError::Full(_) => 1,
        SendError::TooLarge { .. } => 2,
        SendError::NoMemory => 3,
        SendError::TimedOut => 4,
        SendError::Finished => 5,
        SendError::TooManyValues { .. } => 6,
        SendError::KeyTooLong { .. } => 7,
        SendError::ShutDown => 8,
        SendError::TooManyFeeds { .. } => 9,
    }
}

/// The limit that was reached, if it is one in bytes.
fn limit_of(error: &SendError, limits: &Limits) -> Option<usize> {
    match *error {
        SendError::Full(_) => Some(limits.mailbox),
        SendError::NoMemory => Some(limits.memory),
        SendError::TooLarge { limit, .. } | SendError::TooManyValues { bytes: limit, .. } => {
            Some(limit)
        }
        SendError::KeyTooLong { .. } => Some(KEY_MAX),
        _ => None,
    }
}

impl Refusals {
    pub(crate) fn new() -> Self {
        Self { kinds: Default::default(), began: Instant::now() }
    }

    /// Counts and logs a message of `bytes` that was not taken.
    #[cold]
    pub(crate) fn note(
        &self,
        error: SendError,
        bytes: usize,
        limits: &Limits,
        journal: &Arc<Journal>,
    ) {
        let kind = &self.kinds[kind_of(&error)];
        let count = kind.count.add(1) + 1;
        let now = EACH + u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX / 2);
        if let Some(left_out) = kind.line_at(now, count) {
            let (left_out, limit) = ((left_out > 0).then_some(left_out), limit_of(&error, limits));
            // A client may leave at any time.
            let is_usual = matches!(error, SendError::NoSuchClient(_));
            journal.write(move || {
                if is_usual {
                    tracing::info!(%error, bytes, left_out, "push refused");
                } else {
                    tracing::warn!(%error, bytes, limit, left_out, "push refused");
                }
            });
        }
    }

    pub(crate) fn counts(&self) -> RefusedPushes {
        let [
            no_such_client,
            full,
            too_large,
            no_memory,
            timed_out,
            finished,
            too_many_values,
            key_too_long,
            shut_down,
            too_many_feeds,
        ] = self.kinds.each_ref().map(|kind| kind.count.get());
        RefusedPushes {
            no_such_client,
            full,
            too_large,
            no_memory,
            timed_out,
            finished,
            too_many_values,
            key_too_long,
            shut_down,
            too_many_feeds,
        }
    }
}

impl Kind {
    /// Returns the number of refusals without a line, if a line is due now. `count` is the number
    /// of refusals.
    fn line_at(&self, now: u64, count: u64) -> Option<u64> {
        let told_at = self.told_at.load(Ordering::Relaxed);
        let is_due = now >= told_at.saturating_add(EACH);
        // Of several threads one writes the line.
        let swap = |at| at_once(&self.told_at, told_at, at);
        (is_due && swap(now)).then(|| {
            let told = self.told.fetch_max(count, Ordering::Relaxed);
            count.saturating_sub(told + 1)
        })
    }
}

fn at_once(number: &AtomicU64, old: u64, new: u64) -> bool {
    number.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_line_for_the_first_then_one_in_ten_seconds_which_says_how_many_there_was_none_for()
     {
        let kind = Kind::default();
        let lines = |counts: std::ops::Range<u64>, now| {
            counts.filter_map(|count| kind.line_at(EACH + now, count)).collect::<Vec<_>>()
        };
        assert_eq!(lines(1..100, 0), [0]);
        assert_eq!(lines(100..200, 9_999), [0; 0]);
        assert_eq!(lines(200..300, 10_000), [198]);
        assert_eq!(lines(300..301, 99_000), [99]);
    }
}
