//! What the program's log is told about peers. A peer can go wrong as often as it likes, and a log must not grow with that: so many
//! warnings at once, then one a second, and each with how many there were no lines for.

/// Warnings at once.
const BURST: u64 = 10;

/// Milliseconds for one more.
const EACH: u64 = 1000;

#[derive(Default)]
pub(crate) struct Warnings {
    /// When all that were given are paid for.
    due: u64,
    left_out: u64,
}

impl Warnings {
    /// One more at this time, in milliseconds. Where there is a line for it: how many there were none for since the last.
    pub(crate) fn next(&mut self, now: u64) -> Option<u64> {
        let due = self.due.max(now) + EACH;
        if due > now + BURST * EACH {
            self.left_out += 1;
            return None;
        }
        self.due = due;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_at_once_then_one_a_second_and_the_others_are_counted() {
        let mut warnings = Warnings::default();
        assert!((0..10).all(|_| warnings.next(5_000) == Some(0)));
        assert!((0..99).all(|_| warnings.next(5_999).is_none()));
        assert_eq!(warnings.next(6_000), Some(99));
        assert_eq!(warnings.next(6_000), None);
        assert_eq!(warnings.next(9_000), Some(1));
        assert!((0..2).all(|_| warnings.next(9_000) == Some(0)));
        assert_eq!(warnings.next(9_000), None);
    }
}
