//! Moments of the driver's clock, in few bytes.

use std::num::NonZeroU32;
use std::time::Duration;

/// A moment in the driver's milliseconds, modulo 2^32: elapsed times are right for 49 days. Zero is
/// stored as the moment before it, which gives `Option<Moment>` a niche.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(NonZeroU32);

impl Moment {
    pub(crate) fn at(now: u64) -> Self {
        Self(NonZeroU32::new(low_half(now)).unwrap_or(NonZeroU32::MAX))
    }

    /// The milliseconds since then.
    pub(crate) fn passed(self, now: u64) -> u64 {
        u64::from(low_half(now).wrapping_sub(self.0.get()))
    }
}

/// A duration in milliseconds, at most a quarter of what the number can hold.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}

/// A number modulo 2^32.
pub(crate) fn low_half(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_passed_is_right_across_the_end_of_the_numbers() {
        let end = u64::from(u32::MAX);
        for (then, now) in [(5, 12), (end, end + 3), (end - 2, 2 * end - 2), (3 * end, 3 * end + 9)]
        {
            assert_eq!(Moment::at(then).passed(now), now - then);
        }
        for zero in [0, end + 1] {
            assert_eq!(Moment::at(zero).passed(zero + 7), 8, "the one before");
        }
    }
}
