//! Frames to bytes.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::header::{LENGTH_16, LENGTH_64};
use super::mask::{self, Key};
use super::{Control, Message, OpCode};

/// Large payloads are masked piece by piece while the piece that was just copied is still in the
/// nearest cache. A multiple of the key's length, so that each piece starts with its first byte.
const PIECE: usize = 8 * 1024;

/// The header of an unmasked frame (RFC 6455, 5.2), 2 to 10 bytes.
///
/// It is for a caller that writes header and payload apart, with one vectored write: a large
/// payload is not copied behind its header.
///
/// ```
/// use stepcast::codec::{FrameHeader, OpCode};
///
/// let header = FrameHeader::server(OpCode::Binary, true, 65_536);
/// assert_eq!(header.as_ref(), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl FrameHeader {
    /// The longest unmasked header, in bytes.
    ///
    /// ```
    /// # use stepcast::codec::{FrameHeader, OpCode};
    /// let longest = FrameHeader::server(OpCode::Binary, true, usize::MAX);
    /// assert_eq!(longest.as_ref().len(), FrameHeader::MAX);
    /// ```
    pub const MAX: usize = 10;

    /// Makes the header for a payload of `payload_len` bytes.
    ///
    /// The values are not checked. The caller ensures that a control frame has `fin` set and at
    /// most 125 bytes, or uses [`server_control`].
    ///
    /// ```
    /// # use stepcast::codec::{FrameHeader, OpCode};
    /// let first_fragment = FrameHeader::server(OpCode::Text, false, 500);
    /// assert_eq!(first_fragment.as_ref(), [0x01, 126, 1, 244]);
    /// ```
    #[inline]
    pub fn server(opcode: OpCode, fin: bool, payload_len: usize) -> Self {
        Self::new(opcode, fin, payload_len, 0)
    }

    /// `mask_bit` is 0 or 0x80.
    #[inline]
    fn new(opcode: OpCode, fin: bool, payload_len: usize, mask_bit: u8) -> Self {
        let first = if fin { 0x80 } else { 0 } | opcode as u8;
        let mut bytes = [0; Self::MAX];
        bytes[0] = first;
        let len = match (u8::try_from(payload_len), u16::try_from(payload_len)) {
            (Ok(short @ 0..=125), _) => {
                bytes[1] = mask_bit | short;
                2
            }
            (_, Ok(middle)) => {
                bytes[1] = mask_bit | LENGTH_16;
                bytes[2..4].copy_from_slice(&middle.to_be_bytes());
                4
            }
            _ => {
                bytes[1] = mask_bit | LENGTH_64;
                bytes[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
                10
            }
        };
        Self { bytes, len }
    }
}

impl AsRef<[u8]> for FrameHeader {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for FrameHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameHeader({:02x?})", self.as_ref())
    }
}

/// Encodes a message as one unmasked frame, in one allocation. Any number of a server's connections
/// can share the frame.
///
/// ```
/// use stepcast::codec::{Message, server_frame};
///
/// assert_eq!(server_frame(&Message::from("step 41")), b"\x81\x07step 41"[..]);
/// ```
pub fn server_frame(message: &Message) -> Bytes {
    let payload = message.as_bytes();
    let header = FrameHeader::server(message.opcode(), true, payload.len());
    // Exactly as long as it gets, or `Bytes` would allocate its count apart, at once.
    let mut frame = Vec::with_capacity(header.as_ref().len() + payload.len());
    frame.extend_from_slice(header.as_ref());
    frame.extend_from_slice(payload);
    Bytes::from(frame)
}

/// Encodes a control frame, unmasked, as a server sends it. The frame has at most 127 bytes.
///
/// ```
/// use stepcast::codec::{CloseCode, CloseFrame, Control, server_control};
///
/// let close = Control::Close(Some(CloseFrame::new(CloseCode::GOING_AWAY, "bye")));
/// assert_eq!(server_control(&close), b"\x88\x05\x03\xE9bye"[..]);
/// ```
pub fn server_control(control: &Control) -> Bytes {
    let mut frame = BytesMut::new();
    put_control(&mut frame, control, None);
    frame.freeze()
}

/// Appends a server's frame.
#[inline(always)]
pub(super) fn put_frame(dst: &mut BytesMut, opcode: OpCode, fin: bool, payload: &[u8]) {
    put_header(dst, opcode, fin, payload.len(), 0);
    if payload.len() > 32 {
        return dst.extend_from_slice(payload);
    }
    // What is this short is there in two moves, which may overlap, before a call to copy it is.
    match (payload.first_chunk::<16>(), payload.last_chunk::<16>()) {
        (Some(first), Some(last)) => {
            dst.extend_from_slice(first);
            dst.truncate(dst.len() + payload.len() - 2 * 16);
            dst.extend_from_slice(last);
        }
        _ => dst.extend_from_slice(payload),
    }
}

/// Appends a client's frame.
pub(super) fn put_masked_frame(
    dst: &mut BytesMut,
    opcode: OpCode,
    fin: bool,
    payload: &[u8],
    key: Key,
) {
    put_header(dst, opcode, fin, payload.len(), 0x80);
    dst.extend_from_slice(&key);
    for piece in payload.chunks(PIECE) {
        let start = dst.len();
        dst.extend_from_slice(piece);
        mask::apply(&mut dst[start..], key);
    }
}

pub(super) fn put_control(dst: &mut BytesMut, control: &Control, key: Option<Key>) {
    let (code, rest) = control.payload();
    let code = code.as_ref().map_or(&[][..], |code| code.as_slice());
    let mask_bit = if key.is_some() { 0x80 } else { 0 };
    put_header(dst, control.opcode(), true, code.len() + rest.len(), mask_bit);
    dst.extend_from_slice(key.as_ref().map_or(&[][..], |key| key.as_slice()));
    let start = dst.len();
    dst.extend_from_slice(code);
    dst.extend_from_slice(rest);
    if let Some(key) = key {
        mask::apply(&mut dst[start..], key);
    }
}

/// `mask_bit` is 0 or 0x80. Each form is appended in a length that the compiler knows, which is a
/// store or two: in one that it does not know it is a call.
#[inline(always)]
fn put_header(dst: &mut BytesMut, opcode: OpCode, fin: bool, len: usize, mask_bit: u8) {
    let first = if fin { 0x80 } else { 0 } | opcode as u8;
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => dst.extend_from_slice(&[first, mask_bit | short]),
        (_, Ok(middle)) => {
            let [high, low] = middle.to_be_bytes();
            dst.reserve(FrameHeader::MAX + size_of::<Key>() + len); // at once for the whole frame
            dst.extend_from_slice(&[first, mask_bit | LENGTH_16, high, low]);
        }
        _ => {
            dst.reserve(FrameHeader::MAX + size_of::<Key>() + len);
            dst.extend_from_slice(&FrameHeader::new(opcode, fin, len, mask_bit).bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(len: usize) -> Vec<u8> {
        FrameHeader::server(OpCode::Text, true, len).as_ref().to_vec()
    }

    #[test]
    fn a_length_is_written_in_the_fewest_bytes() {
        assert_eq!(header(0), [0x81, 0]);
        assert_eq!(header(125), [0x81, 125]);
        assert_eq!(header(126), [0x81, 126, 0, 126]);
        assert_eq!(header(65_535), [0x81, 126, 0xFF, 0xFF]);
        assert_eq!(header(65_536), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_frame_for_many_is_one_allocation() {
        // A `Bytes` whose memory is exactly its own gives it back as the same `Vec`.
        let frame = server_frame(&Message::from(vec![7; 1000]));
        let place = frame.as_ptr();
        let bytes = Vec::from(frame);
        assert_eq!(bytes.as_ptr(), place);
        assert_eq!(bytes.capacity(), bytes.len());
    }

    #[test]
    fn a_long_payload_is_masked_as_one() {
        let payload: Vec<u8> = (0..3 * PIECE + 5).map(|i| u8::try_from(i % 253).unwrap()).collect();
        let key = [1, 2, 3, 4];
        let mut frame = BytesMut::new();
        put_masked_frame(&mut frame, OpCode::Binary, true, &payload, key);
        let mut masked = frame.split_off(4 + size_of::<Key>());
        mask::apply(&mut masked, key);
        assert!(masked == payload);
    }
}
