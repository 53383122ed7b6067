//! Status codes and close frames.

use std::fmt;
use std::num::NonZeroU16;

use bytes::{Buf as _, Bytes};

use super::{CodecError, Text};

/// A status code that may be sent in a close frame (RFC 6455, 7.4).
///
/// Only such codes can be built: 1000 to 1003 and 1007 to 1014 are registered, 3000 to 3999 are for
/// libraries and frameworks, 4000 to 4999 are for private use. 1005, 1006 and 1015 describe a
/// connection on its own side and are never sent.
///
/// ```
/// use stepcast::codec::CloseCode;
///
/// let asks_to_come_again = |code| {
///     matches!(code, CloseCode::SERVICE_RESTART | CloseCode::TRY_AGAIN_LATER)
/// };
/// assert!(asks_to_come_again(CloseCode::TRY_AGAIN_LATER));
/// assert!(!asks_to_come_again(CloseCode::GOING_AWAY));
/// assert_eq!(CloseCode::new(4001).map(CloseCode::get), Some(4001)); // one of your own
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(NonZeroU16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self::constant(1000);
    /// 1001: the server goes down, or the browser leaves the page.
    pub const GOING_AWAY: Self = Self::constant(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self::constant(1002);
    /// 1003: the endpoint does not accept this kind of data, such as binary.
    pub const UNSUPPORTED: Self = Self::constant(1003);
    /// 1007: a message does not match its type, such as a text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self::constant(1007);
    /// 1008: the message breaks a rule of the endpoint that has no code of its own.
    pub const POLICY: Self = Self::constant(1008);
    /// 1009: a message is too big.
    pub const TOO_BIG: Self = Self::constant(1009);
    /// 1010: the client needs an extension that the server did not agree to.
    pub const MANDATORY_EXTENSION: Self = Self::constant(1010);
    /// 1011: the server met an unexpected condition.
    pub const INTERNAL_ERROR: Self = Self::constant(1011);
    /// 1012: the server restarts; reconnect after a random pause.
    pub const SERVICE_RESTART: Self = Self::constant(1012);
    /// 1013: the server is overloaded; reconnect later.
    pub const TRY_AGAIN_LATER: Self = Self::constant(1013);
    /// 1014: a gateway got an invalid answer from the server behind it.
    pub const BAD_GATEWAY: Self = Self::constant(1014);

    const fn constant(code: u16) -> Self {
        // Evaluated by the compiler, for the constants above.
        match NonZeroU16::new(code) {
            Some(code) => Self(code),
            None => unreachable!(),
        }
    }

    /// Makes a code of a number, or returns `None` if the code must not be sent.
    ///
    /// ```
    /// # use stepcast::codec::CloseCode;
    /// assert_eq!(CloseCode::new(1011), Some(CloseCode::INTERNAL_ERROR));
    /// assert_eq!(CloseCode::new(1006), None); // never sent
    /// ```
    pub const fn new(code: u16) -> Option<Self> {
        match (code, NonZeroU16::new(code)) {
            (1000..=1003 | 1007..=1014 | 3000..=4999, Some(code)) => Some(Self(code)),
            _ => None,
        }
    }

    /// Returns the code as a number.
    ///
    /// ```
    /// # use stepcast::codec::CloseCode;
    /// let codes = [CloseCode::UNSUPPORTED, CloseCode::MANDATORY_EXTENSION, CloseCode::BAD_GATEWAY];
    /// assert_eq!(codes.map(CloseCode::get), [1003, 1010, 1014]);
    /// ```
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.get()
    }
}

/// A status code and a reason: the payload of a close frame (RFC 6455, 5.5.1).
///
/// ```
/// use stepcast::codec::{CloseCode, CloseFrame};
///
/// let goodbye = CloseFrame::new(CloseCode::GOING_AWAY, "the run is over");
/// assert_eq!(goodbye.code(), CloseCode::GOING_AWAY);
/// assert_eq!(goodbye.reason(), "the run is over");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    code: CloseCode,
    reason: Text,
}

impl CloseFrame {
    /// The longest reason in bytes: the 125 of a control frame, less 2 for the code.
    ///
    /// ```
    /// # use stepcast::codec::{CloseCode, CloseFrame};
    /// let long = CloseFrame::new(CloseCode::NORMAL, &"x".repeat(200));
    /// assert_eq!(long.reason().len(), CloseFrame::MAX_REASON);
    /// ```
    pub const MAX_REASON: usize = 123;

    /// Makes a close frame of a code and a reason. A longer reason is cut at
    /// [`MAX_REASON`](Self::MAX_REASON) bytes, or up to three bytes earlier, at the end of a
    /// character.
    ///
    /// ```
    /// # use stepcast::codec::{CloseCode, CloseFrame};
    /// let close = CloseFrame::new(CloseCode::POLICY, &"ü".repeat(100));
    /// assert_eq!(close.reason(), "ü".repeat(61)); // 122 bytes: half a character would not be text
    /// ```
    pub fn new(code: CloseCode, reason: &str) -> Self {
        let mut end = reason.len().min(Self::MAX_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self { code, reason: Text::from(&reason[..end]) }
    }

    /// Reads the payload of a close frame. Returns `None` if the payload is empty: a close without
    /// a code.
    ///
    /// [`MessageCodec`](super::MessageCodec) does this by itself. This function is for users of a
    /// [`FrameCodec`](super::FrameCodec).
    ///
    /// ```
    /// use bytes::Bytes;
    /// use stepcast::codec::{CloseCode, CloseFrame};
    ///
    /// let frame = CloseFrame::from_payload(Bytes::from_static(b"\x03\xE8bye"))?;
    /// assert_eq!(frame, Some(CloseFrame::new(CloseCode::NORMAL, "bye")));
    /// # Ok::<(), stepcast::codec::CodecError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClosePayloadTooShort`](CodecError::ClosePayloadTooShort) for one byte,
    /// [`CloseCodeNotAllowed`](CodecError::CloseCodeNotAllowed),
    /// [`InvalidUtf8`](CodecError::InvalidUtf8) for the reason,
    /// [`ControlTooLong`](CodecError::ControlTooLong) above 125 bytes.
    pub fn from_payload(mut payload: Bytes) -> Result<Option<Self>, CodecError> {
        match payload.len() {
            0 => return Ok(None),
            1 => return Err(CodecError::ClosePayloadTooShort),
            2..=125 => {}
            _ => return Err(CodecError::ControlTooLong),
        }
        let code = payload.get_u16();
        let code = CloseCode::new(code).ok_or(CodecError::CloseCodeNotAllowed(code))?;
        // An empty reason must not keep the receive buffer alive.
        let reason = if payload.is_empty() { Text::default() } else { Text::try_from(payload)? };
        Ok(Some(Self { code, reason }))
    }

    /// Returns the status code.
    ///
    /// ```
    /// # use stepcast::codec::{CloseCode, CloseFrame};
    /// let close = CloseFrame::new(CloseCode::SERVICE_RESTART, "back in a minute");
    /// assert_eq!(close.code(), CloseCode::SERVICE_RESTART);
    /// ```
    pub fn code(&self) -> CloseCode {
        self.code
    }

    /// Returns the reason, at most [`MAX_REASON`](Self::MAX_REASON) bytes, or empty if none was
    /// given. The reason is for logs: "not necessarily human readable" (5.5.1).
    ///
    /// ```
    /// # use stepcast::codec::{CloseCode, CloseFrame};
    /// let close = CloseFrame::new(CloseCode::SERVICE_RESTART, "back in a minute");
    /// assert_eq!(close.reason(), "back in a minute");
    /// assert_eq!(CloseFrame::from(CloseCode::NORMAL).reason(), "");
    /// ```
    pub fn reason(&self) -> &str {
        self.reason.as_str()
    }

    pub(super) fn reason_bytes(&self) -> &[u8] {
        self.reason.as_bytes()
    }
}

/// Makes a close frame with a code and no reason, as the answer to another close frame has.
impl From<CloseCode> for CloseFrame {
    fn from(code: CloseCode) -> Self {
        Self { code, reason: Text::default() }
    }
}

impl CodecError {
    /// Returns the status code to fail the connection with (7.1.7): 1002 for a violation of the
    /// protocol, 1007 for bad UTF-8, 1009 for data beyond one of the
    /// [`FrameLimits`](super::FrameLimits).
    ///
    /// Returns `None` if no peer is left to tell, or nothing new to say: [`Io`](Self::Io),
    /// [`UnexpectedEof`](Self::UnexpectedEof), [`AfterError`](Self::AfterError).
    ///
    /// ```
    /// # use stepcast::codec::{CloseCode, CodecError};
    /// assert_eq!(CodecError::MaskMissing.close_code(), Some(CloseCode::PROTOCOL_ERROR));
    /// assert_eq!(CodecError::InvalidUtf8.close_code(), Some(CloseCode::INVALID_PAYLOAD));
    /// assert_eq!(CodecError::FrameTooLarge { limit: 9 }.close_code(), Some(CloseCode::TOO_BIG));
    /// assert_eq!(CodecError::UnexpectedEof.close_code(), None);
    /// ```
    pub fn close_code(&self) -> Option<CloseCode> {
        match self {
            Self::ReservedBits(_)
            | Self::ReservedOpCode(_)
            | Self::MaskMissing
            | Self::MaskUnexpected
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::LengthNotMinimal
            | Self::LengthOutOfRange
            | Self::UnexpectedContinuation
            | Self::ContinuationExpected
            | Self::ClosePayloadTooShort
            | Self::CloseCodeNotAllowed(_) => Some(CloseCode::PROTOCOL_ERROR),
            Self::InvalidUtf8 => Some(CloseCode::INVALID_PAYLOAD),
            Self::FrameTooLarge { .. }
            | Self::MessageTooLarge { .. }
            | Self::TooManyFragments { .. } => Some(CloseCode::TOO_BIG),
            Self::UnexpectedEof | Self::AfterError | Self::Io(_) => None,
        }
    }
}
