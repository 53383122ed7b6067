//! The bounds of what the program says in words.

use std::borrow::Cow;

/// The longest title, unit or name, in bytes.
pub(crate) const TITLE_MAX: usize = 256;

/// The longest message of a job, in bytes.
pub(crate) const MESSAGE_MAX: usize = 4 * 1024;

/// Returns the text in one line of at most `most` bytes. A control character becomes a space, and a
/// longer text ends with `…`.
pub(crate) fn one_line(text: Cow<'static, str>, most: usize) -> Cow<'static, str> {
    let text = within(text, most);
    if text.chars().any(char::is_control) {
        let clean = |char: char| if char.is_control() { ' ' } else { char };
        return Cow::Owned(text.chars().map(clean).collect());
    }
    text
}

/// Returns as much of a name as names have.
pub(crate) fn cut(name: &str) -> &str {
    if name.len() <= TITLE_MAX {
        return name;
    }
    let end = (0..=TITLE_MAX).rev().find(|at| name.is_char_boundary(*at));
    &name[..end.unwrap_or(0)]
}

/// Returns the text, or as much of it as `most` bytes hold and `…`.
pub(crate) fn within(text: Cow<'static, str>, most: usize) -> Cow<'static, str> {
    if text.len() <= most {
        return text;
    }
    let end = (0..=most - '…'.len_utf8()).rev().find(|at| text.is_char_boundary(*at));
    let mut short = text[..end.unwrap_or(0)].to_owned();
    short.push('…');
    Cow::Owned(short)
}
