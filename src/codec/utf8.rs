//! UTF-8 that arrives in pieces.

use simdutf8::basic::from_utf8;

use super::NotUtf8;

/// Validates a text piece by piece, and refuses it in the piece that holds the first bad byte.
///
/// A piece is split in two: everything up to the last character boundary, which the fast
/// validator judges as a whole, and the beginning of a character at its end, at most three bytes.
/// Whether a valid character can still come of those is asked of `std`, whose error tells
/// "ended too early" from "wrong". They are carried to the next piece.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    carry: [u8; 3],
    carried: u8,
}

impl Utf8 {
    /// `is_ascii`: the piece is known to be nothing else. Otherwise it is looked at.
    #[inline]
    pub(super) fn push(&mut self, mut piece: &[u8], is_ascii: bool) -> Result<(), NotUtf8> {
        if self.carried > 0 {
            piece = self.complete(piece)?;
        }
        if is_ascii {
            return Ok(());
        }
        let (whole, begun) = piece.split_at(piece.len() - begun(piece));
        from_utf8(whole).map_err(|_| NotUtf8)?;
        self.carry(begun)
    }

    /// The text ends here: no character may be left half said.
    #[inline]
    pub(super) fn finish(&mut self) -> Result<(), NotUtf8> {
        if self.carried > 0 { Err(NotUtf8) } else { Ok(()) }
    }

    /// Fills up the carried character from `piece`, and returns what is left of it.
    #[cold]
    fn complete<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], NotUtf8> {
        let carried = usize::from(self.carried);
        let missing = length_by_first_byte(self.carry[0]) - carried;
        let (next, rest) = piece.split_at(missing.min(piece.len()));
        let mut character = [0; 4];
        character[..carried].copy_from_slice(&self.carry[..carried]);
        character[carried..carried + next.len()].copy_from_slice(next);
        self.carried = 0;
        self.carry(&character[..carried + next.len()])?;
        Ok(rest)
    }

    /// Takes at most one character, complete or not.
    fn carry(&mut self, character: &[u8]) -> Result<(), NotUtf8> {
        match std::str::from_utf8(character) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_none() => {
                // Incomplete, so at most 3 bytes.
                for (to, from) in self.carry.iter_mut().zip(character) {
                    *to = *from;
                }
                self.carried = u8::try_from(character.len()).map_err(|_| NotUtf8)?;
                Ok(())
            }
            Err(_) => Err(NotUtf8),
        }
    }
}

/// How many bytes at the end of `piece` begin a character that needs more than these: 0 to 3.
fn begun(piece: &[u8]) -> usize {
    for (back, byte) in piece.iter().rev().take(3).enumerate() {
        if *byte >= 0xC0 {
            return if length_by_first_byte(*byte) > back + 1 { back + 1 } else { 0 };
        }
    }
    0
}

/// How long the character is that begins with this byte. For bytes that begin none, 1: they are
/// no beginning to wait for, and whoever judges them refuses them.
fn length_by_first_byte(byte: u8) -> usize {
    match byte {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The index of the byte that is refused when they come one by one; `None` if all are taken.
    fn refused_at(bytes: &[u8]) -> Option<usize> {
        let mut utf8 = Utf8::default();
        bytes.iter().position(|byte| utf8.push(&[*byte], byte.is_ascii()).is_err())
    }

    #[test]
    fn a_bad_byte_is_refused_when_it_comes() {
        assert_eq!(refused_at("aé步🎈".as_bytes()), None);
        assert_eq!(refused_at(b"ab\x80"), Some(2), "a continuation byte without a beginning");
        assert_eq!(refused_at(b"\xC0\x80"), Some(0), "an overlong form of two bytes");
        assert_eq!(refused_at(b"\xE0\x9F\xBF"), Some(1), "an overlong form of three bytes");
        assert_eq!(refused_at(b"\xF0\x8F\xBF\xBF"), Some(1), "an overlong form of four bytes");
        assert_eq!(refused_at(b"\xED\xA0\x80"), Some(1), "a surrogate");
        assert_eq!(refused_at(b"\xF4\x90\x80\x80"), Some(1), "above U+10FFFF");
        assert_eq!(refused_at(b"\xF5"), Some(0), "no character begins so");
        assert_eq!(refused_at(b"\xE6\xADa"), Some(2), "a character cut short");
    }

    #[test]
    fn a_text_may_be_cut_anywhere() {
        let text = "x é 步骤 🎈\u{10FFFF}".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut utf8 = Utf8::default();
                for piece in [&text[..first], &text[first..second], &text[second..]] {
                    utf8.push(piece, false).unwrap();
                }
                utf8.finish().unwrap();
            }
        }
    }

    #[test]
    fn pieces_are_judged_as_std_judges_the_whole() {
        // Every start of up to four bytes that matters, in the middle of ASCII, cut everywhere.
        let edges = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xDF, 0xE0, 0xED];
        let edges: Vec<u8> = edges.into_iter().chain([0xEF, 0xF0, 0xF4, 0xF5, 0xFF]).collect();
        for a in &edges {
            for b in &edges {
                for c in &edges {
                    let bytes = [b'x', *a, *b, *c, 0x80, b'y'];
                    let expected = std::str::from_utf8(&bytes).is_ok();
                    for cut in 0..=bytes.len() {
                        let mut utf8 = Utf8::default();
                        let (front, back) = bytes.split_at(cut);
                        let judged = utf8
                            .push(front, front.is_ascii())
                            .and_then(|()| utf8.push(back, back.is_ascii()))
                            .and_then(|()| utf8.finish());
                        assert_eq!(judged.is_ok(), expected, "{bytes:02x?} cut at {cut}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_unfinished_character_is_refused_at_the_end() {
        let mut utf8 = Utf8::default();
        utf8.push(b"\xE2\x82", false).unwrap();
        assert_eq!(utf8.finish(), Err(NotUtf8));
    }
}
