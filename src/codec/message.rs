//! What is sent and received: messages.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use serde::Serialize;

use super::{Control, OpCode, Text};

/// A whole message (RFC 6455, 5.6). Its `Clone` counts a reference.
///
/// ```
/// use stepcast::codec::Message;
///
/// assert_eq!(Message::from("step 41").as_text(), Some("step 41"));
/// assert_eq!(Message::from(vec![1, 2, 3]).as_text(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Text, valid UTF-8.
    Text(Text),
    /// Text that is JSON, and nothing else than text as far as RFC 6455 goes: what is received is never this. Clients of
    /// the wire `stepcast.v1` get it as the value that it stands for.
    Json(Text),
    /// Bytes, of any kind.
    Binary(Bytes),
}

/// The kind of a message, without its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Json,
    Binary,
}

impl Kind {
    /// A message of this kind with a copy of the payload of another one of this kind.
    pub(crate) fn message(self, copy: Bytes) -> Message {
        match self {
            Self::Text => Message::Text(Text::validated(copy)),
            Self::Json => Message::Json(Text::validated(copy)),
            Self::Binary => Message::Binary(copy),
        }
    }
}

impl Message {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Json(_) => Kind::Json,
            Self::Binary(_) => Kind::Binary,
        }
    }

    /// A value as JSON, on one line.
    ///
    /// # Errors
    ///
    /// Where the value has no form in JSON: a map whose keys are no strings, or what its own `Serialize` says.
    ///
    /// ```
    /// # use stepcast::codec::Message;
    /// let message = Message::json(&[0.5, 0.25])?;
    /// assert_eq!(message.as_text(), Some("[0.5,0.25]"));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn json(value: &(impl Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(|text| Self::Json(text.into()))
    }

    /// The length in bytes.
    ///
    /// ```
    /// # use stepcast::codec::Message;
    /// assert_eq!(Message::from("步骤 41").len(), 9);
    /// ```
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether it carries nothing, which is legal.
    ///
    /// ```
    /// # use stepcast::codec::Message;
    /// assert!(Message::from("").is_empty());
    /// assert!(!Message::from(" ").is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The payload, of either kind.
    ///
    /// ```
    /// # use stepcast::codec::Message;
    /// assert_eq!(Message::from("42").as_bytes(), b"42");
    /// assert_eq!(Message::from(vec![4, 2]).as_bytes(), [4, 2]);
    /// ```
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) | Self::Json(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The payload, of either kind, shared.
    ///
    /// ```
    /// # use stepcast::codec::Message;
    /// let message = Message::from(String::from("step 41"));
    /// let bytes = message.clone().into_bytes();
    /// assert_eq!(bytes.as_ptr(), message.as_bytes().as_ptr()); // not a copy
    /// ```
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) | Self::Json(text) => text.into_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Whether it is text.
    ///
    /// ```
    /// # use stepcast::codec::Message;
    /// assert!(Message::from("stop").is_text());
    /// assert!(!Message::from(b"stop").is_text());
    /// ```
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Json(_))
    }

    /// The text, if it is one, at the cost of [`Text::as_str`].
    ///
    /// ```
    /// # use stepcast::codec::Message;
    /// let received = Message::from("pause");
    /// let pauses = match received.as_text() {
    ///     Some("pause") => true,
    ///     Some(_) | None => false, // another command, or bytes
    /// };
    /// assert!(pauses);
    /// ```
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Json(text) => Some(text.as_str()),
            Self::Binary(_) => None,
        }
    }

    #[inline]
    pub(super) fn opcode(&self) -> OpCode {
        match self {
            Self::Text(_) | Self::Json(_) => OpCode::Text,
            Self::Binary(_) => OpCode::Binary,
        }
    }
}

impl From<Text> for Message {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

impl From<&'static str> for Message {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Cow<'static, str>> for Message {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl From<&'static [u8]> for Message {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Binary(Bytes::from_static(bytes))
    }
}

impl<const N: usize> From<&'static [u8; N]> for Message {
    fn from(bytes: &'static [u8; N]) -> Self {
        Self::Binary(Bytes::from_static(bytes))
    }
}

impl From<BytesMut> for Message {
    fn from(bytes: BytesMut) -> Self {
        Self::Binary(bytes.freeze())
    }
}

/// A clone, which shares the payload.
impl From<&Message> for Message {
    fn from(message: &Message) -> Self {
        message.clone()
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

/// What [`MessageCodec`](super::MessageCodec) finds in the bytes of a peer.
///
/// ```
/// use stepcast::codec::{Control, ControlPayload, Incoming, Message};
///
/// let what = |incoming| match incoming {
///     Incoming::Message(message) => if message.is_text() { "text" } else { "bytes" },
///     Incoming::Control(Control::Close(_)) => "the end",
///     Incoming::Control(_) => "a sign of life",
/// };
/// assert_eq!(what(Incoming::Message(Message::from("stop"))), "text");
/// assert_eq!(what(Incoming::Control(Control::Ping(ControlPayload::default()))), "a sign of life");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole message, however many fragments it came in.
    Message(Message),
    /// A control frame. Nothing has been answered: see [`Control::reply`].
    Control(Control),
}
