//! Text that has been validated once.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use simdutf8::basic::from_utf8;

/// Shared text: valid UTF-8. A clone counts a reference and copies nothing.
///
/// A `Text` is made from text or through validation. [`as_str`](Self::as_str) validates again,
/// since safe Rust cannot remember a validation of shared bytes. Sending, comparing and hashing
/// need no `&str`: they work on [`as_bytes`](Self::as_bytes) and cost nothing.
///
/// ```
/// use bytes::Bytes;
/// use stepcast::codec::Text;
///
/// let text = Text::try_from(Bytes::from_static("步骤 41".as_bytes()))?;
/// assert_eq!(text, "步骤 41");
/// assert_eq!(text.as_bytes().len(), 9);
/// assert!(Text::try_from(Bytes::from_static(b"\xFF")).is_err());
/// # Ok::<(), stepcast::codec::NotUtf8>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Bytes);

impl Text {
    /// Makes a text that lives as long as the program, without an allocation or a count.
    ///
    /// ```
    /// # use stepcast::codec::Text;
    /// static START: Text = Text::from_static("start");
    /// assert_eq!(START, "start");
    /// ```
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// Bytes that are known to be text: [`Utf8`](super::utf8::Utf8) has seen all of them, and found them complete,
    /// or they are a copy of a text's.
    pub(super) fn validated(bytes: Bytes) -> Self {
        debug_assert!(from_utf8(&bytes).is_ok());
        Self(bytes)
    }

    /// Returns the text, at the cost of a validation, O(n): some 10 ns for 1 KiB of ASCII, 60 ns
    /// for 1 KiB of Chinese. Call it once and keep the `&str`.
    ///
    /// ```
    /// # use stepcast::codec::Text;
    /// let command = Text::from("scale 0.5");
    /// assert_eq!(command.as_str().split_once(' '), Some(("scale", "0.5")));
    /// ```
    pub fn as_str(&self) -> &str {
        match from_utf8(&self.0) {
            Ok(text) => text,
            Err(_) => unreachable!("every constructor of `Text` has validated its bytes"),
        }
    }

    /// Returns the bytes of the text.
    ///
    /// ```
    /// # use stepcast::codec::Text;
    /// assert!(Text::from("step 41").as_bytes().starts_with(b"step "));
    /// ```
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes of the text as a shared buffer, without a copy.
    ///
    /// ```
    /// # use stepcast::codec::Text;
    /// let text = Text::from(String::from("step 41"));
    /// let bytes = text.clone().into_bytes();
    /// assert_eq!(bytes.as_ptr(), text.as_bytes().as_ptr()); // not a copy
    /// ```
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Returns the length in bytes.
    ///
    /// ```
    /// # use stepcast::codec::Text;
    /// assert_eq!(Text::from("步骤 41").len(), 9);
    /// ```
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the text is empty.
    ///
    /// ```
    /// # use stepcast::codec::Text;
    /// assert!(Text::default().is_empty());
    /// assert!(!Text::from(" ").is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Copies the text; [`Text::from_static`] does not.
impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

/// Copies the text.
impl From<&String> for Text {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

/// Copies the text if it is borrowed.
impl From<Cow<'_, str>> for Text {
    fn from(text: Cow<'_, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

/// Takes over the string's memory.
impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

/// Validates the bytes and shares them.
impl TryFrom<Bytes> for Text {
    type Error = NotUtf8;

    fn try_from(bytes: Bytes) -> Result<Self, NotUtf8> {
        match from_utf8(&bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(_) => Err(NotUtf8),
        }
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<Text> for str {
    fn eq(&self, other: &Text) -> bool {
        other == self
    }
}

impl PartialEq<Text> for &str {
    fn eq(&self, other: &Text) -> bool {
        other == *self
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

/// The error for bytes that are not UTF-8, and so no [`Text`].
///
/// ```
/// use bytes::Bytes;
/// use stepcast::codec::{NotUtf8, Text};
///
/// assert_eq!(Text::try_from(Bytes::from_static(b"\xC0\x80")), Err(NotUtf8));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not valid UTF-8; send them as a binary message")]
pub struct NotUtf8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_shares_the_bytes() {
        let text = Text::from("x".repeat(100));
        assert_eq!(text.clone().as_bytes().as_ptr(), text.as_bytes().as_ptr());
    }

    #[test]
    fn a_string_becomes_text_without_being_copied() {
        let string = String::from("residual");
        let place = string.as_ptr();
        assert_eq!(Text::from(string).as_bytes().as_ptr(), place);
    }

    #[test]
    fn text_prints_as_the_string_that_it_is() {
        let text = Text::from_static("a \"b\" ü");
        assert_eq!(format!("{text}"), "a \"b\" ü");
        assert_eq!(format!("{text:?}"), "\"a \\\"b\\\" ü\"");
        assert_eq!(format!("{text:>9}"), "  a \"b\" ü");
    }

    #[test]
    fn text_compares_with_strings_from_either_side() {
        let text = Text::from_static("步");
        assert_eq!(text, "步");
        assert_eq!("步", text);
        assert_eq!(text, *"步");
        assert_ne!(text, "骤");
    }
}
