//! Masking (RFC 6455, 5.3): the XOR of a payload and a key of four bytes, over and over.

use std::fmt;
use std::io;

/// A frame's masking key. All zeros for a frame that is not masked: it changes nothing.
pub(super) type Key = [u8; 4];

pub(super) const UNMASKED: Key = [0; 4];

/// The key to go on with, at `offset` bytes into the payload.
#[inline]
pub(super) fn key_at(key: Key, offset: usize) -> Key {
    let next = |step| key[(offset % 4 + step) % 4];
    [next(0), next(1), next(2), next(3)]
}

/// Masks or unmasks in place, starting with the key's first byte. Returns whether the result is
/// ASCII.
#[inline]
pub(super) fn apply(bytes: &mut [u8], key: Key) -> bool {
    if key == UNMASKED {
        return bytes.is_ascii();
    }
    #[cfg(all(feature = "simd", any(target_arch = "x86", target_arch = "x86_64")))]
    if bytes.len() >= wide::WORTH_IT {
        return wide::apply(bytes, key);
    }
    xor(bytes, key)
}

/// The same loop compiled for AVX2 and taken where the processor has it: the least that every
/// `x86-64` has is half as wide. Measured against AVX-512: that is a tenth faster where nothing but the
/// masking is waited for, and as much slower where text is validated next, since it stores across
/// the lines of the cache and validators read in 32 bytes.
#[cfg(all(feature = "simd", any(target_arch = "x86", target_arch = "x86_64")))]
mod wide {
    use fearless_simd::{Level, Simd as _, x86::Avx2};

    use super::Key;

    /// In bytes: below, the call costs more than it saves.
    pub(super) const WORTH_IT: usize = 256;

    /// From this size on, in bytes, the part before the first whole vector is done apart: stores across the lines of the
    /// cache take three times as long on some processors.
    const ALIGNED_FROM: usize = 4096;

    pub(super) fn apply(bytes: &mut [u8], key: Key) -> bool {
        let Some(avx2) = Level::new().as_avx2() else { return super::xor(bytes, key) };
        if bytes.len() < ALIGNED_FROM {
            return vectorized(avx2, bytes, key);
        }
        let head = bytes.as_ptr().align_offset(32).min(bytes.len());
        let (head, rest) = bytes.split_at_mut(head);
        super::xor(head, key) & vectorized(avx2, rest, super::key_at(key, head.len()))
    }

    #[inline(always)]
    fn vectorized(avx2: Avx2, bytes: &mut [u8], key: Key) -> bool {
        avx2.vectorize(
            #[inline(always)]
            || super::xor(bytes, key),
        )
    }
}

/// One plain loop over words is what the compiler vectorises best, for whatever it is compiled
/// for; blocks of several words, each with its own accumulator, it leaves scalar. The words are in registers here, so to see that
/// a text is ASCII and needs no validation costs next to nothing, and spares the wait of a
/// validator that reads, in wider units, what has just been written.
#[inline(always)]
fn xor(bytes: &mut [u8], key: Key) -> bool {
    let half = u64::from(u32::from_ne_bytes(key));
    let word = half << 32 | half;
    let mut seen = 0;
    let mut words = bytes.chunks_exact_mut(8);
    for lane in &mut words {
        seen |= xor_word(lane, word);
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(word.to_ne_bytes()) {
        *byte ^= key;
        seen |= u64::from(*byte);
    }
    seen & 0x8080_8080_8080_8080 == 0
}

#[inline(always)]
fn xor_word(lane: &mut [u8], word: u64) -> u64 {
    let Ok(bytes) = <[u8; 8]>::try_from(&*lane) else { return 0 };
    let result = u64::from_ne_bytes(bytes) ^ word;
    lane.copy_from_slice(&result.to_ne_bytes());
    result
}

/// Where a client's keys come from.
///
/// "The masking key needs to be unpredictable; thus, the masking key MUST be derived from a strong
/// source of entropy" (5.3): so that nobody who chooses the payload can choose what is seen on
/// the wire. Here every key comes from the operating system, 64 keys to a call, because a call
/// costs as much as a few hundred bytes of framing.
#[derive(Default)]
pub(super) struct Keys {
    /// Made at the first use: a server has none.
    drawn: Option<Box<Drawn>>,
}

struct Drawn {
    keys: [u8; 4 * 64],
    used: usize,
}

impl Keys {
    pub(super) fn next(&mut self) -> io::Result<Key> {
        let drawn =
            self.drawn.get_or_insert_with(|| Box::new(Drawn { keys: [0; 4 * 64], used: 4 * 64 }));
        if let Some(key) = drawn.keys[drawn.used..].first_chunk() {
            drawn.used += 4;
            return Ok(*key);
        }
        getrandom::fill(&mut drawn.keys).map_err(|error| io::Error::other(error.to_string()))?;
        drawn.used = 4;
        Ok([drawn.keys[0], drawn.keys[1], drawn.keys[2], drawn.keys[3]])
    }
}

/// Shows no key: they are secret until they are used.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octet by octet, as 5.3 has it: "j = i MOD 4".
    fn by_the_book(bytes: &mut [u8], key: Key) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte ^= key[i % 4];
        }
    }

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect()
    }

    #[test]
    fn masking_in_blocks_is_masking_octet_by_octet() {
        let key = [0x12, 0x34, 0x56, 0x78];
        for len in (0..200).chain(250..350) {
            for start in 0..4.min(len) {
                let mut fast = sample(len);
                let mut slow = sample(len);
                apply(&mut fast[start..], key);
                by_the_book(&mut slow[start..], key);
                assert_eq!(fast, slow, "{len} bytes from {start}");
            }
        }
    }

    #[test]
    fn a_large_payload_is_masked_alike_wherever_it_begins_in_memory() {
        let key = [0x12, 0x34, 0x56, 0x78];
        for len in [4095, 4096, 4097, 5000] {
            for start in 0..40 {
                let mut fast = sample(start + len);
                let mut slow = fast.clone();
                apply(&mut fast[start..], key);
                by_the_book(&mut slow[start..], key);
                assert!(fast == slow, "{len} bytes from {start}");
                for place in [0, 1, 31, 32, len / 2, len - 1] {
                    let mut other = vec![b'a'; start + len];
                    other[start + place] = 0x80;
                    by_the_book(&mut other[start..], key);
                    assert!(!apply(&mut other[start..], key), "{place} of {len} from {start}");
                }
            }
        }
    }

    #[test]
    fn one_byte_that_is_not_ascii_is_seen_wherever_it_stands() {
        for key in [[0x12, 0x34, 0x56, 0x78], [0xFF; 4], UNMASKED] {
            for len in (0..100).chain(250..300) {
                let mut ascii = vec![b'a'; len];
                by_the_book(&mut ascii, key);
                assert!(apply(&mut ascii, key));
                for place in 0..len {
                    let mut other = vec![b'a'; len];
                    other[place] = 0x80;
                    by_the_book(&mut other, key);
                    assert!(!apply(&mut other, key), "{place} of {len}");
                }
            }
        }
    }

    #[test]
    fn the_key_goes_on_where_the_last_piece_ended() {
        let key = [0x12, 0x34, 0x56, 0x78];
        let mut whole = sample(100);
        by_the_book(&mut whole, key);
        for cut in 0..100 {
            let mut pieces = sample(100);
            apply(&mut pieces[..cut], key);
            apply(&mut pieces[cut..], key_at(key, cut));
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }

    #[test]
    fn keys_do_not_repeat_across_a_refill() {
        let mut keys = Keys::default();
        let drawn: std::collections::HashSet<Key> =
            (0..200).map(|_| keys.next().unwrap()).collect();
        // Two of 200 random keys are the same once in 200 000 runs; 198 or more differ always.
        assert!(drawn.len() >= 198);
    }

    #[test]
    fn a_server_pays_for_no_keys() {
        assert_eq!(size_of::<Keys>(), size_of::<usize>());
    }

    #[test]
    fn debug_shows_no_key() {
        let mut keys = Keys::default();
        keys.next().unwrap();
        assert_eq!(format!("{keys:?}"), "Keys");
    }
}
