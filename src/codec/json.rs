//! Text that is JSON.

use std::fmt;

use serde::Serialize;
use serde_json::value::RawValue;

use super::Text;

/// Shared text that is one JSON value. A clone counts a reference.
///
/// The text is written from a value ([`Message::json`](super::Message::json)) or validated, so it
/// is always JSON. A text such as `NaN` or `1, 2` would damage the line that it is put into.
///
/// ```
/// use stepcast::codec::Json;
///
/// let json = Json::parse(r#"{"residual": 3.2e-7}"#)?;
/// assert_eq!(json.as_str(), r#"{"residual": 3.2e-7}"#);
/// assert!(Json::parse("NaN").is_err() && Json::parse("1, 2").is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Text);

impl Json {
    /// Writes a value as JSON, on one line. Numbers that are not finite become `null`, since JSON
    /// has none.
    ///
    /// # Errors
    ///
    /// The value has no JSON form, such as a map whose keys are not strings, or its own `Serialize`
    /// failed.
    ///
    /// ```
    /// # use stepcast::codec::Json;
    /// assert_eq!(Json::new(&[0.5, f64::NAN, f64::INFINITY])?.as_str(), "[0.5,null,null]");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn new(value: &(impl Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(|text| Self(text.into()))
    }

    /// Validates a text as JSON and takes it as it is.
    ///
    /// # Errors
    ///
    /// The text is not one JSON value.
    ///
    /// ```
    /// # use stepcast::codec::Json;
    /// let json = Json::parse(String::from("[0.5, 0.25]"))?; // the string's memory is taken over
    /// assert_eq!(serde_json::from_str::<[f64; 2]>(json.as_str())?, [0.5, 0.25]);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn parse(text: impl Into<Text>) -> Result<Self, serde_json::Error> {
        let text = text.into();
        serde_json::from_str::<&RawValue>(text.as_str())?;
        Ok(Self(text))
    }

    /// Text that is known to be JSON: it was written by a serializer, or is a copy of such a text.
    pub(crate) fn validated(text: Text) -> Self {
        debug_assert!(serde_json::from_str::<&RawValue>(text.as_str()).is_ok());
        Self(text)
    }

    /// Returns the text, at the cost of [`Text::as_str`].
    ///
    /// ```
    /// # use stepcast::codec::Json;
    /// let said = Json::parse(r#"{"rate": 0.5}"#)?;
    /// let value: serde_json::Value = serde_json::from_str(said.as_str())?;
    /// assert_eq!(value["rate"], 0.5);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the bytes of the text.
    ///
    /// ```
    /// # use stepcast::codec::Json;
    /// assert_eq!(Json::new(&41)?.as_bytes(), b"41");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Returns the text as a shared [`Text`], without a copy.
    ///
    /// ```
    /// # use stepcast::codec::Json;
    /// assert_eq!(Json::new("step")?.into_text(), "\"step\"");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn into_text(self) -> Text {
        self.0
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_whole_json_value_is_json() {
        for good in ["1", " {\"a\": [1,\n2]} ", "\"NaN\"", "null", r#""\ud800""#, "1e999"] {
            assert_eq!(Json::parse(good).unwrap().as_str(), good);
        }
        for bad in
            ["", "NaN", "Infinity", "-Infinity", "1,2", "1]", "{\"a\":1},", "'a'", "[1", "\"\n\""]
        {
            assert!(Json::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn json_is_parsed_however_deep_it_is() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(Json::parse(deep).is_ok());
    }
}
