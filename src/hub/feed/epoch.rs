//! Epochs: within one epoch of a feed its numbers and stamps mean the same, at every hub.
//!
//! An epoch is a number: milliseconds since 1970 in the upper 42 bits, which last until 2109, and
//! 22 random bits. Epochs are therefore ordered by the time at which they began, and those of two
//! hubs differ.

use std::time::SystemTime;

const RANDOM: u64 = (1 << 22) - 1;

/// Returns the epoch of a hub that is started now.
pub(crate) fn begin() -> u64 {
    let mut random = [0; 8];
    let _ = getrandom::fill(&mut random); // it gave random bytes for the ids a moment ago
    at(SystemTime::now(), u64::from_ne_bytes(random))
}

/// Returns an epoch newer than `last`, of the same hub, whatever the hub's clock says.
pub(crate) fn after(last: u64) -> u64 {
    at(SystemTime::now(), last).max(last + 1)
}

fn at(time: SystemTime, random: u64) -> u64 {
    let passed = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(passed.as_millis()).unwrap_or_default();
    (millis << RANDOM.count_ones()) | (random & RANDOM)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn epochs_are_ordered_by_time_also_where_a_clock_is_set_back() {
        let time = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let newest = at(time((1 << 42) - 1), u64::MAX);
        assert_eq!((at(time(0), 0), at(time(1), 7), newest), (0, (1 << 22) + 7, u64::MAX));
        assert!(at(time(1000), u64::MAX) < at(time(1001), 0));
        assert_ne!(begin(), begin());
        let begun = begin();
        let next = after(begun);
        assert!(begun < next && next < after(next) && next - begun < 60_000 << 22);
        let later = begun + (1 << 40);
        assert_eq!(after(later), later + 1, "the clock was set back");
    }
}
