//! The messages: text that says when it was published and which one it is, and then fills up to
//! its size with what can be checked.

use std::fmt::Write as _;

/// The shortest that a message can be.
pub const SHORTEST: usize = HEAD + 1;

const STAMP: usize = 20;
const SEQUENCE: usize = 10;
const HEAD: usize = STAMP + 1 + SEQUENCE + 1;

fn filler(sequence: u64, at: usize) -> u8 {
    b'a' + ((sequence as usize).wrapping_mul(7).wrapping_add(at) % 26) as u8
}

/// A message published now.
pub fn make(sequence: u64, size: usize) -> String {
    let mut text = String::with_capacity(size);
    let _ = write!(text, "{:020} {sequence:010} ", crate::sys::now());
    text.extend((HEAD..size).map(|at| char::from(filler(sequence, at))));
    assert_eq!(text.len(), size.max(SHORTEST - 1));
    text
}

/// When it was published, if it is the one with this number and whole.
pub fn check(payload: &[u8], sequence: u64, size: usize) -> Option<u64> {
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<u64>().ok();
    let stamp = number(payload.get(..STAMP)?)?;
    let same = payload.len() == size
        && number(&payload[STAMP + 1..HEAD - 1])? == sequence
        && (payload[STAMP], payload[HEAD - 1]) == (b' ', b' ')
        && (HEAD..size).all(|at| payload[at] == filler(sequence, at));
    same.then_some(stamp)
}
