//! Log warnings about peers. A peer can go wrong as often as it likes, and a log must not grow with
//! that. A kind has a burst of warnings, then one a second; the next line says how many were left
//! out.

/// The warnings in a burst.
const BURST: u64 = 10;

/// The milliseconds for one more.
const EACH: u64 = 1000;

#[derive(Default)]
pub(crate) struct Warnings {
    /// The time from which a whole burst is allowed again, in milliseconds.
    due: u64,
    left_out: u64,
}

impl Warnings {
    /// Counts a warning at this time, in milliseconds. If a line is due, `line` writes it, with the
    /// number of warnings left out.
    pub(crate) fn warn(&mut self, now: u64, line: impl FnOnce(Option<u64>)) {
        let due = self.due.max(now) + EACH;
        if due > now + BURST * EACH {
            self.left_out += 1;
            return;
        }
        self.due = due;
        let left_out = std::mem::take(&mut self.left_out);
        line((left_out > 0).then_some(left_out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_at_once_then_one_a_second_and_the_others_are_counted() {
        let mut warnings = Warnings::default();
        let mut lines = |count, now| {
            let mut lines = Vec::new();
            (0..count).for_each(|_| warnings.warn(now, |left_out| lines.push(left_out)));
            lines
        };
        assert_eq!(lines(10, 5_000), [None; 10]);
        assert_eq!(lines(99, 5_999), []);
        assert_eq!(lines(2, 6_000), [Some(99)]);
        assert_eq!(lines(4, 9_000), [Some(1), None, None]);
        assert_eq!(lines(1, 9_000), []);
    }
}
