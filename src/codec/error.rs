//! Errors in the bytes of a peer.

use std::io;

use super::NotUtf8;

/// The reason why a codec failed: a variant for each violation, with the section of RFC 6455 that
/// forbids it.
///
/// After an error from `decode` the codec cannot be used again: close the connection with
/// [`close_code`](Self::close_code).
///
/// ```
/// use bytes::BytesMut;
/// use stepcast::codec::{CloseCode, FrameLimits, MessageCodec, Role};
/// use tokio_util::codec::Decoder;
///
/// let mut codec = MessageCodec::new(Role::Server, FrameLimits::default());
/// let mut text_with_a_reserved_bit = BytesMut::from(&[0xC1][..]);
/// let refused = codec.decode(&mut text_with_a_reserved_bit).unwrap_err();
/// assert_eq!(refused.close_code(), Some(CloseCode::PROTOCOL_ERROR));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// RSV1, RSV2 or RSV3 is set, and no extension was negotiated that gives it a meaning
    /// (5.2). Holds the first byte of the frame.
    #[error(
        "a frame began with {0:#04x}: its reserved bits (0x70) have to be 0, no extension was agreed on"
    )]
    ReservedBits(u8),

    /// The opcode is reserved: 3 to 7, 11 to 15 (5.2).
    #[error("opcode {0:#x} is reserved; expected 0, 1, 2, 8, 9 or 10")]
    ReservedOpCode(u8),

    /// A client's frame is not masked (5.1).
    #[error("a client's frame was not masked; every frame to a server has to be")]
    MaskMissing,

    /// A server's frame is masked (5.1).
    #[error("a server's frame was masked; no frame to a client may be")]
    MaskUnexpected,

    /// A close, ping or pong is cut into fragments (5.5).
    #[error("a control frame had FIN 0; control frames cannot be fragmented")]
    FragmentedControl,

    /// The payload of a close, ping or pong is longer than 125 bytes, or its length is written
    /// in one of the long forms (5.5).
    #[error("a control frame was longer than 125 bytes")]
    ControlTooLong,

    /// The length of the payload is not written in the shortest form (5.2).
    #[error("a frame's length was not written in the fewest bytes possible")]
    LengthNotMinimal,

    /// The most significant bit of a 64-bit length is set (5.2).
    #[error("a frame's 64-bit length had its highest bit set; it has to be 0")]
    LengthOutOfRange,

    /// A frame is longer than [`FrameLimits::frame`](super::FrameLimits::frame) (10.4; close code
    /// 1009 of 7.4.1).
    #[error(
        "a frame declared more than the {limit} bytes allowed; raise `FrameLimits::frame`, or send less"
    )]
    FrameTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },

    /// A message is longer than [`FrameLimits::message`](super::FrameLimits::message), all its
    /// fragments together (10.4; 1009).
    #[error(
        "a message was longer than the {limit} bytes allowed; raise `FrameLimits::message`, or send less"
    )]
    MessageTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },

    /// A message has more fragments than [`FrameLimits::fragments`](super::FrameLimits::fragments)
    /// (10.4; 1009).
    #[error(
        "a message came in more than the {limit} fragments allowed; raise `FrameLimits::fragments`, or send fewer"
    )]
    TooManyFragments {
        /// The limit, in frames.
        limit: usize,
    },

    /// A continuation frame came without an unfinished message (5.4).
    #[error("a continuation frame came, but there is no unfinished message to continue")]
    UnexpectedContinuation,

    /// A new message began before the last fragment of the previous one (5.4).
    #[error("a new message began inside an unfinished one; expected a continuation frame")]
    ContinuationExpected,

    /// A close frame has a payload of one byte, too short for a status code (5.5.1).
    #[error(
        "a close frame had a payload of 1 byte; expected none, or at least the 2 of a status code"
    )]
    ClosePayloadTooShort,

    /// A close frame has a status code that must not be sent (7.4).
    #[error(
        "close code {0} must not be sent; allowed are 1000 to 1003, 1007 to 1014, 3000 to 4999"
    )]
    CloseCodeNotAllowed(u16),

    /// A text message or the reason of a close frame is not UTF-8 (8.1; 1007).
    #[error("a text message or close reason was not valid UTF-8; send bytes as a binary message")]
    InvalidUtf8,

    /// The stream ended inside a frame or an unfinished message.
    #[error("the stream ended inside a frame or an unfinished message; expected its rest")]
    UnexpectedEof,

    /// `decode` was called again after it had failed.
    #[error("decode was called after it had failed; close the connection at the first error")]
    AfterError,

    /// The transport failed, or the system could give no random bytes for a masking key.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<NotUtf8> for CodecError {
    fn from(_: NotUtf8) -> Self {
        Self::InvalidUtf8
    }
}

#[cfg(test)]
mod tests {
    use super::CodecError;

    #[test]
    fn an_error_is_no_larger_than_a_message() {
        assert!(size_of::<CodecError>() <= 16, "{}", size_of::<CodecError>());
    }
}
