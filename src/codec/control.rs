//! Control frames: ping, pong, close.

use bytes::Bytes;

use super::{CloseFrame, OpCode};

/// The payload of a ping or a pong: at most 125 bytes (RFC 6455, 5.5).
///
/// ```
/// use stepcast::codec::ControlPayload;
///
/// assert_eq!(ControlPayload::new("offset 4096")?.as_bytes(), b"offset 4096");
/// assert!(ControlPayload::new(vec![0; 126]).is_err());
/// # Ok::<(), stepcast::codec::ControlPayloadTooLong>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ControlPayload(Bytes);

impl ControlPayload {
    /// The longest payload of a control frame, in bytes.
    ///
    /// ```
    /// # use stepcast::codec::ControlPayload;
    /// assert!(ControlPayload::new(vec![0; ControlPayload::MAX]).is_ok());
    /// assert!(ControlPayload::new(vec![0; ControlPayload::MAX + 1]).is_err());
    /// ```
    pub const MAX: usize = 125;

    /// Makes a payload of bytes.
    ///
    /// ```
    /// # use stepcast::codec::ControlPayload;
    /// assert_ne!(ControlPayload::new("ping 7")?, ControlPayload::new("ping 8")?);
    /// assert!(ControlPayload::new("x".repeat(126)).is_err());
    /// # Ok::<(), stepcast::codec::ControlPayloadTooLong>(())
    /// ```
    ///
    /// # Errors
    ///
    /// An error if the payload is longer than [`MAX`](Self::MAX) bytes.
    pub fn new(payload: impl Into<Bytes>) -> Result<Self, ControlPayloadTooLong> {
        let payload = payload.into();
        if payload.len() > Self::MAX {
            return Err(ControlPayloadTooLong { len: payload.len() });
        }
        Ok(Self(payload))
    }

    /// The payload of a control frame whose header has been judged, so that it is short enough.
    pub(super) fn received(payload: Bytes) -> Self {
        debug_assert!(payload.len() <= Self::MAX);
        Self(payload)
    }

    /// Returns the bytes.
    ///
    /// ```
    /// # use stepcast::codec::ControlPayload;
    /// let sent_at = 1_500_u64.to_be_bytes(); // comes back in the pong
    /// let payload = ControlPayload::new(sent_at.to_vec())?;
    /// assert_eq!(payload.as_bytes(), sent_at);
    /// # Ok::<(), stepcast::codec::ControlPayloadTooLong>(())
    /// ```
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes as a shared buffer, without a copy.
    ///
    /// ```
    /// # use stepcast::codec::ControlPayload;
    /// assert_eq!(ControlPayload::new("offset 4096")?.into_bytes(), "offset 4096");
    /// # Ok::<(), stepcast::codec::ControlPayloadTooLong>(())
    /// ```
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// The error for a payload that is too long for a control frame.
///
/// ```
/// use stepcast::codec::ControlPayload;
///
/// let refused = ControlPayload::new(vec![0; 200]).unwrap_err();
/// assert_eq!(refused.to_string(), "a control frame carries at most 125 bytes, these are 200");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a control frame carries at most 125 bytes, these are {len}")]
pub struct ControlPayloadTooLong {
    len: usize,
}

/// A control frame (RFC 6455, 5.5).
///
/// ```
/// use stepcast::codec::{CloseCode, CloseFrame, Control};
///
/// let close = Control::Close(Some(CloseFrame::new(CloseCode::NORMAL, "bye")));
/// // The answer repeats the code and nothing that the peer wrote.
/// assert_eq!(close.reply(), Some(Control::Close(Some(CloseCode::NORMAL.into()))));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// A ping: asks for a pong.
    Ping(ControlPayload),
    /// A pong: answers a ping, or is an unsolicited heartbeat.
    Pong(ControlPayload),
    /// A close: the last frame of its sender, with a code if it gave one.
    Close(Option<CloseFrame>),
}

impl Control {
    /// Returns the answer that the protocol demands, for the caller to send. A ping gets a pong
    /// with the same bytes (5.5.3), a close gets its code without the reason (5.5.1), a pong gets
    /// nothing.
    ///
    /// Only the newest ping needs its pong (5.5.3). An endpoint that has already sent a close does
    /// not answer one (5.5.1).
    ///
    /// ```
    /// # use stepcast::codec::{Control, ControlPayload};
    /// let payload = ControlPayload::new("41")?;
    /// let pong = Control::Pong(payload.clone());
    /// assert_eq!(Control::Ping(payload).reply(), Some(pong.clone()));
    /// assert_eq!(pong.reply(), None);
    /// # Ok::<(), stepcast::codec::ControlPayloadTooLong>(())
    /// ```
    pub fn reply(&self) -> Option<Self> {
        match self {
            Self::Ping(payload) => Some(Self::Pong(payload.clone())),
            Self::Pong(_) => None,
            Self::Close(close) => {
                Some(Self::Close(close.as_ref().map(|close| close.code().into())))
            }
        }
    }

    pub(super) fn opcode(&self) -> OpCode {
        match self {
            Self::Ping(_) => OpCode::Ping,
            Self::Pong(_) => OpCode::Pong,
            Self::Close(_) => OpCode::Close,
        }
    }

    /// The payload in two parts: the code of a close, and what stands behind it.
    pub(super) fn payload(&self) -> (Option<[u8; 2]>, &[u8]) {
        match self {
            Self::Ping(payload) | Self::Pong(payload) => (None, payload.as_bytes()),
            Self::Close(None) => (None, &[]),
            Self::Close(Some(close)) => {
                (Some(close.code().get().to_be_bytes()), close.reason_bytes())
            }
        }
    }
}
