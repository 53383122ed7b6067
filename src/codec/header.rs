//! Frame headers (RFC 6455, 5.2), and every error that a header shows.

use super::mask::{Key, UNMASKED};
use super::{CodecError, Role};

/// In the place of a length: it follows in 16 bits.
pub(super) const LENGTH_16: u8 = 126;

/// In the place of a length: it follows in 64 bits.
pub(super) const LENGTH_64: u8 = 127;

/// The opcode of a frame (RFC 6455, 5.2).
///
/// ```
/// use stepcast::codec::OpCode;
///
/// assert!(OpCode::Ping.is_control());
/// assert!(!OpCode::Text.is_control());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpCode {
    /// 0: continues the message that earlier frames began.
    Continuation = 0,
    /// 1: begins a message of UTF-8 text.
    Text = 1,
    /// 2: begins a message of bytes.
    Binary = 2,
    /// 8: the last frame of its sender.
    Close = 8,
    /// 9: asks for a pong.
    Ping = 9,
    /// 10: answers a ping.
    Pong = 10,
}

impl OpCode {
    /// Returns whether this is a close, ping or pong. Control frames may stand between the
    /// fragments of a message.
    ///
    /// ```
    /// # use stepcast::codec::OpCode;
    /// let opcodes = [OpCode::Text, OpCode::Ping, OpCode::Continuation, OpCode::Close];
    /// assert_eq!(opcodes.map(OpCode::is_control), [false, true, false, true]);
    /// ```
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn from_first_byte(byte: u8) -> Result<Self, CodecError> {
        match byte & 0x0F {
            0 => Ok(Self::Continuation),
            1 => Ok(Self::Text),
            2 => Ok(Self::Binary),
            8 => Ok(Self::Close),
            9 => Ok(Self::Ping),
            10 => Ok(Self::Pong),
            reserved => Err(CodecError::ReservedOpCode(reserved)),
        }
    }
}

/// What the next frame may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) role: Role,
    pub(super) turn: Turn,
    /// The most bytes in a frame.
    pub(super) frame: usize,
    /// The most bytes in a message.
    pub(super) message: usize,
}

/// Where in a message we are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turn {
    /// Nobody keeps track: single frames are read.
    Any,
    /// A message may begin.
    Start,
    /// A message has begun. `over` is the limit on fragments if it has been reached.
    Within { bytes: usize, over: Option<usize> },
}

/// A header that nothing is wrong with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) fin: bool,
    pub(super) opcode: OpCode,
    pub(super) key: Key,
    /// Of the payload, in bytes.
    pub(super) len: usize,
    /// Of the header itself, in bytes: 2 to 14.
    pub(super) size: usize,
}

impl Head {
    /// Reads a header from the front of `src`. `None`: more bytes are needed, and nothing is
    /// wrong with those that are there.
    #[inline(always)]
    pub(super) fn parse(src: &[u8], expected: &Expected) -> Result<Option<Self>, CodecError> {
        let Some(&first) = src.first() else { return Ok(None) };
        let (fin, opcode) = first_byte(first, expected.turn)?;

        let Some(&second) = src.get(1) else { return Ok(None) };
        check_second_byte(second, opcode, expected.role)?;

        let long = &src[2..];
        let (len, at) = match second & 0x7F {
            LENGTH_16 => match long.first_chunk() {
                Some(len) => (u64::from(u16::from_be_bytes(*len)), 4),
                None => return judge_partial_length(long, 2, opcode, expected),
            },
            LENGTH_64 => match long.first_chunk() {
                Some(len) => (u64::from_be_bytes(*len), 10),
                None => return judge_partial_length(long, 8, opcode, expected),
            },
            len => (u64::from(len), 2),
        };
        check_form(len, at)?;
        let len = check_size(len, opcode, expected)?;

        let (key, size) = match expected.role {
            Role::Client => (UNMASKED, at),
            Role::Server => match src[at..].first_chunk() {
                Some(key) => (*key, at + 4),
                None => return Ok(None),
            },
        };
        Ok(Some(Self { fin, opcode, key, len, size }))
    }
}

#[inline]
fn first_byte(byte: u8, turn: Turn) -> Result<(bool, OpCode), CodecError> {
    // 5.2: RSV1, RSV2, RSV3 "MUST be 0 unless an extension is negotiated that defines meanings
    // for non-zero values."
    if byte & 0x70 != 0 {
        return Err(CodecError::ReservedBits(byte));
    }
    // 5.2: "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket
    // Connection_."
    let opcode = OpCode::from_first_byte(byte)?;
    let fin = byte & 0x80 != 0;
    match (opcode, turn) {
        // 5.5: "All control frames ... MUST NOT be fragmented."
        (OpCode::Close | OpCode::Ping | OpCode::Pong, _) if !fin => {
            Err(CodecError::FragmentedControl)
        }
        // 5.4: a message is "a single frame with the FIN bit clear and an opcode other than 0,
        // followed by zero or more frames with the FIN bit clear and the opcode set to 0, and
        // terminated by a single frame with the FIN bit set and an opcode of 0."
        (OpCode::Continuation, Turn::Start) => Err(CodecError::UnexpectedContinuation),
        (OpCode::Continuation, Turn::Within { over: Some(limit), .. }) => {
            Err(CodecError::TooManyFragments { limit })
        }
        // 5.4: "The fragments of one message MUST NOT be interleaved between the fragments of
        // another message". With FIN 0 as with FIN 1.
        (OpCode::Text | OpCode::Binary, Turn::Within { .. }) => {
            Err(CodecError::ContinuationExpected)
        }
        _ => Ok((fin, opcode)),
    }
}

#[inline]
fn check_second_byte(byte: u8, opcode: OpCode, role: Role) -> Result<(), CodecError> {
    // 5.1: "The server MUST close the connection upon receiving a frame that is not masked." "A
    // client MUST close a connection if it detects a masked frame."
    match (role, byte & 0x80 != 0) {
        (Role::Server, false) => return Err(CodecError::MaskMissing),
        (Role::Client, true) => return Err(CodecError::MaskUnexpected),
        (Role::Server, true) | (Role::Client, false) => {}
    }
    if opcode.is_control() {
        let len = byte & 0x7F;
        // 5.5: "All control frames MUST have a payload length of 125 bytes or less". 126 and 127
        // announce a long form, whatever it would say.
        if len > 125 {
            return Err(CodecError::ControlTooLong);
        }
        // 5.5.1: "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned
        // integer".
        if opcode == OpCode::Close && len == 1 {
            return Err(CodecError::ClosePayloadTooShort);
        }
    }
    Ok(())
}

/// `at` is where the length ends.
#[inline]
fn check_form(len: u64, at: usize) -> Result<(), CodecError> {
    // 5.2: "the minimal number of bytes MUST be used to encode the length, for example, the
    // length of a 124-byte-long string can't be encoded as the sequence 126, 0, 124."
    // 5.2: "the most significant bit MUST be 0".
    match at {
        4 if len < 126 => Err(CodecError::LengthNotMinimal),
        10 if len <= 0xFFFF => Err(CodecError::LengthNotMinimal),
        10 if len >> 63 != 0 => Err(CodecError::LengthOutOfRange),
        _ => Ok(()),
    }
}

/// 10.4: "Implementations that have implementation- and/or platform-specific limitations regarding
/// the frame size or total message size after reassembly from multiple frames MUST protect
/// themselves against exceeding those limits."
#[inline]
fn check_size(len: u64, opcode: OpCode, expected: &Expected) -> Result<usize, CodecError> {
    // What does not fit into a `usize` is above every limit.
    let len = match usize::try_from(len) {
        Ok(len) if len <= expected.frame => len,
        _ => return Err(CodecError::FrameTooLarge { limit: expected.frame }),
    };
    if !opcode.is_control() {
        let before = if let Turn::Within { bytes, .. } = expected.turn { bytes } else { 0 };
        if len > expected.message.saturating_sub(before) {
            return Err(CodecError::MessageTooLarge { limit: expected.message });
        }
    }
    Ok(len)
}

/// The length has not come completely. It is refused all the same if there is nothing that its
/// missing bytes could say to make it right.
#[cold]
fn judge_partial_length(
    got: &[u8],
    size: usize,
    opcode: OpCode,
    expected: &Expected,
) -> Result<Option<Head>, CodecError> {
    let filled_with = |filling: u8| {
        let bytes = got.iter().copied().chain(std::iter::repeat(filling)).take(size);
        bytes.fold(0, |len, byte| len << 8 | u64::from(byte))
    };
    let (least, most) = (filled_with(0), filled_with(0xFF));
    let at = 2 + size;
    match (check_form(least, at), check_form(most, at)) {
        (Err(too_high @ CodecError::LengthOutOfRange), _) => return Err(too_high),
        (_, Err(too_low @ CodecError::LengthNotMinimal)) => return Err(too_low),
        _ => {}
    }
    check_size(least, opcode, expected)?;
    Ok(None)
}
