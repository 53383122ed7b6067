//! One input as a peer's network might deliver it: in pieces whose lengths follow from a seed.

/// The pieces of `bytes`, none empty, 1 to 64 bytes each with a leaning to the short ones.
pub(crate) fn cuts(mut bytes: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    let mut state = u32::from(seed) | 0x100;
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let longest = 1 << ((state >> 28) % 7);
        let length = 1 + (state >> 16) as usize % longest;
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        bytes = rest;
        Some(piece)
    })
}
