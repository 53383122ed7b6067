//! What lines of other loggers have in common.

use std::borrow::Cow;
use std::fmt;

use crate::progress::log::TEXT_MAX;

/// Whether a line is the hub's own. The run's log does not get it: a line about the hub's work would
/// make more work, and more lines.
pub(crate) fn is_own(target: &str) -> bool {
    target.strip_prefix("stepcast").is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The text of a line while it is written. What no line has room for is not kept.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    /// Begins a line that says where it comes from.
    pub(crate) fn of(target: &str) -> Self {
        Self(format!("{target}: "))
    }

    #[cfg(feature = "tracing-layer")]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Text> for Cow<'static, str> {
    fn from(text: Text) -> Self {
        text.0.into()
    }
}

#[cfg(feature = "tracing-layer")]
impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl fmt::Write for Text {
    /// Does not fail where there is no room: `Debug` of the program's types may not expect that.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // One byte too many tells that the text was longer.
        let room = (TEXT_MAX + 1).saturating_sub(self.0.len());
        let end = (room..text.len()).find(|end| text.is_char_boundary(*end));
        self.0.push_str(&text[..end.unwrap_or(text.len())]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::progress::text::within;

    #[test]
    fn own_lines_are_known_by_their_target() {
        assert!(is_own("stepcast") && is_own("stepcast::hub::builder"));
        assert!(!is_own("stepcast_demo") && !is_own("my_stepcast") && !is_own(""));
    }

    #[test]
    fn a_text_keeps_what_a_line_has_room_for() {
        let mut text = Text::of("model");
        for _ in 0..100_000 {
            text.write_str("höhe ").unwrap();
            assert!(text.0.len() < TEXT_MAX + 8);
        }
        let line = within(text.into(), TEXT_MAX);
        assert!(line.starts_with("model: höhe höhe ") && line.ends_with('…'));
        let mut whole = Text::default();
        whole.write_str(&"ö".repeat(TEXT_MAX / 2)).unwrap();
        assert_eq!(whole.0.len(), TEXT_MAX);
        whole.write_str("ö").unwrap();
        whole.write_str("more").unwrap();
        assert!(whole.0.ends_with("öö") && whole.0.len() == TEXT_MAX + 2);
    }
}
