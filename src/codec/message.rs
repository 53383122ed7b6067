//! Messages.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use serde::Serialize;

use super::{Control, Json, OpCode, Text};

/// A whole message (RFC 6455, 5.6). A clone counts a reference.
///
/// Owned values (`String`, `Vec<u8>`, `Bytes`) become messages without a copy. Borrowed values
/// (`&str`, `&[u8]`) are copied, literals too: [`from_static`](Self::from_static) does not copy.
///
/// ```
/// use stepcast::codec::Message;
///
/// let line = String::from("step 41");
/// assert_eq!(Message::from(&line).as_text(), Some("step 41"));
/// assert_eq!(Message::from(line).as_text(), Some("step 41"));
/// assert_eq!(Message::from([1, 2, 3].as_slice()).as_text(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Message {
    /// Text: valid UTF-8.
    Text(Text),
    /// Text that is JSON. On the wire of RFC 6455 it is plain text, so `MessageCodec` never decodes
    /// one. Clients on `stepcast.v1` get the JSON value, and send such messages.
    Json(Json),
    /// Bytes of any kind.
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
            Self::Json => Message::Json(Json::validated(Text::validated(copy))),
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

    /// Makes a message of a text that lives as long as the program, without an allocation or a
    /// copy.
    ///
    /// It suits a large text, or one that is sent at each step. For bytes, use
    /// `Message::from(Bytes::from_static(..))`.
    ///
    /// ```
    /// # use stepcast::codec::Message;
    /// static START: Message = Message::from_static("start");
    /// assert_eq!(START.as_text(), Some("start"));
    /// ```
    pub const fn from_static(text: &'static str) -> Self {
        Self::Text(Text::from_static(text))
    }

    /// Writes a value as JSON, on one line.
    ///
    /// NaN and the infinities become `null`, since JSON does not have them.
    ///
    /// # Errors
    ///
    /// The value has no JSON form, such as a map whose keys are not strings, or its own `Serialize`
    /// failed.
    ///
    /// ```
    /// # use stepcast::codec::Message;
    /// let message = Message::json(&[0.5, f64::NAN])?;
    /// assert_eq!(message.as_text(), Some("[0.5,null]"));
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn json(value: &(impl Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        Json::new(value).map(Self::Json)
    }

    /// Validates a text as JSON, from another serializer or a file, and takes it as it is.
    ///
    /// # Errors
    ///
    /// The text is not one JSON value.
    ///
    /// ```
    /// # use stepcast::codec::Message;
    /// let message = Message::json_text(r#"{"progress": 41}"#)?;
    /// assert_eq!(message.as_text(), Some(r#"{"progress": 41}"#));
    /// assert!(Message::json_text(format!("[{}]", f64::NAN)).is_err());
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn json_text(text: impl Into<Text>) -> Result<Self, serde_json::Error> {
        Json::parse(text).map(Self::Json)
    }

    /// Returns the length in bytes.
    ///
    /// ```
    /// # use stepcast::codec::Message;
    /// assert_eq!(Message::from("步骤 41").len(), 9);
    /// ```
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Returns whether the message is empty, which is legal.
    ///
    /// ```
    /// # use stepcast::codec::Message;
    /// assert!(Message::from("").is_empty());
    /// assert!(!Message::from(" ").is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// Returns the payload, text or bytes.
    ///
    /// ```
    /// # use stepcast::codec::Message;
    /// assert_eq!(Message::from("42").as_bytes(), b"42");
    /// assert_eq!(Message::from(vec![4, 2]).as_bytes(), [4, 2]);
    /// ```
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Json(json) => json.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Returns the payload as a shared buffer, without a copy.
    ///
    /// ```
    /// # use stepcast::codec::Message;
    /// let message = Message::from(String::from("step 41"));
    /// let bytes = message.clone().into_bytes();
    /// assert_eq!(bytes.as_ptr(), message.as_bytes().as_ptr()); // not a copy
    /// ```
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Json(json) => json.into_text().into_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// Returns whether the message is text.
    ///
    /// ```
    /// # use stepcast::codec::Message;
    /// assert!(Message::from("stop").is_text());
    /// assert!(!Message::from(b"stop").is_text());
    /// ```
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Json(_))
    }

    /// Returns the text, or `None` for bytes, at the cost of [`Text::as_str`].
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
            Self::Text(text) => Some(text.as_str()),
            Self::Json(json) => Some(json.as_str()),
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

impl From<Json> for Message {
    fn from(json: Json) -> Self {
        Self::Json(json)
    }
}

/// Copies the text.
impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// Copies the text.
impl From<&String> for Message {
    fn from(text: &String) -> Self {
        Self::Text(text.as_str().into())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

/// Copies the text if it is borrowed.
impl From<Cow<'_, str>> for Message {
    fn from(text: Cow<'_, str>) -> Self {
        Self::Text(text.into())
    }
}

/// Copies the bytes.
impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(bytes))
    }
}

/// Copies the bytes.
impl<const N: usize> From<&[u8; N]> for Message {
    fn from(bytes: &[u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

/// Copies the bytes.
impl From<&Vec<u8>> for Message {
    fn from(bytes: &Vec<u8>) -> Self {
        bytes.as_slice().into()
    }
}

impl From<BytesMut> for Message {
    fn from(bytes: BytesMut) -> Self {
        Self::Binary(bytes.freeze())
    }
}

/// Clones the message, which shares the payload.
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

/// A message or control frame that [`MessageCodec`](super::MessageCodec) decoded from a peer's
/// bytes.
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
    /// A whole message, in any number of fragments.
    Message(Message),
    /// A control frame. The codec has not answered it: see [`Control::reply`].
    Control(Control),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_borrowed_is_copied_and_what_is_owned_is_not() {
        let (line, data) = (String::from("step 41"), vec![4_u8, 1]);
        let text = Message::from("step 41");
        let of_texts = [
            (&line).into(),
            line.as_str().into(),
            Cow::Borrowed(line.as_str()).into(),
            Cow::<str>::Owned(line.clone()).into(),
            Message::from_static("step 41"),
        ];
        assert!(of_texts.iter().all(|message: &Message| *message == text));
        let of_bytes: [Message; 3] = [(&data).into(), data.as_slice().into(), (&[4, 1]).into()];
        assert!(of_bytes.iter().all(|message| *message == Message::from(data.clone())));
        let place = line.as_ptr();
        assert_ne!(Message::from(&line).as_bytes().as_ptr(), place);
        assert_eq!(Message::from(line).as_bytes().as_ptr(), place);
        let place = data.as_ptr();
        assert_eq!(Message::from(data).as_bytes().as_ptr(), place);
        let text = "a text of the program";
        assert_eq!(Message::from_static(text).as_bytes().as_ptr(), text.as_ptr());
    }
}
