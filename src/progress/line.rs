//! The lines that tell viewers of jobs: one JSON object each, with one key that names its kind.

use serde_json::ser::{CompactFormatter, Formatter};

/// An object with one member, an object again: `{"report":{"id":1,"progress":412}}`.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
    depth: usize,
}

impl<'a> Object<'a> {
    /// Begins a line of this kind.
    pub(crate) fn begin(out: &'a mut Vec<u8>, kind: &str) -> Self {
        out.extend_from_slice(b"{\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\":{");
        Self { out, is_empty: true, depth: 2 }
    }

    fn name(&mut self, name: &str) {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        write_text(self.out, text);
    }

    pub(crate) fn whole(&mut self, name: &str, number: u64) {
        self.name(name);
        let _ = CompactFormatter.write_u64(&mut *self.out, number);
    }

    /// A number; `null` if it is not finite.
    pub(crate) fn number(&mut self, name: &str, number: f64) {
        self.name(name);
        write_number(self.out, number);
    }

    pub(crate) fn flag(&mut self, name: &str, flag: bool) {
        self.name(name);
        self.out.extend_from_slice(if flag { b"true" } else { b"false" });
    }

    /// A member that is written as JSON already.
    pub(crate) fn json(&mut self, name: &str, json: &str) {
        self.name(name);
        self.out.extend_from_slice(json.as_bytes());
    }

    /// A list of texts.
    pub(crate) fn texts(&mut self, name: &str, texts: &[Box<str>]) {
        self.name(name);
        for (place, text) in texts.iter().enumerate() {
            self.out.push(if place == 0 { b'[' } else { b',' });
            write_text(self.out, text);
        }
        self.out.extend_from_slice(if texts.is_empty() { b"[]" } else { b"]" });
    }

    /// Members that are written as JSON already, with commas between them.
    pub(crate) fn members(&mut self, write: impl FnOnce(&mut String)) {
        let mut members = String::new();
        write(&mut members);
        if !std::mem::replace(&mut self.is_empty, false) {
            self.out.push(b',');
        }
        self.out.extend_from_slice(members.as_bytes());
    }

    /// An object within this one.
    pub(crate) fn object(&mut self, name: &str) -> Object<'_> {
        self.name(name);
        self.out.push(b'{');
        Object { out: self.out, is_empty: true, depth: 1 }
    }

    pub(crate) fn end(self) {
        self.out.extend(std::iter::repeat_n(b'}', self.depth));
    }
}

/// Returns a line as text.
pub(crate) fn line(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap_or_default() // JSON is UTF-8
}

/// Writes a line of its own: the object with the moment in front, in milliseconds since 1970, as
/// `{"at":1764320000789,"report":{"id":1,"progress":412}}`.
pub(crate) fn write_stamped(out: &mut Vec<u8>, at: u64, object: &str) {
    out.extend_from_slice(b"{\"at\":");
    let _ = CompactFormatter.write_u64(&mut *out, at); // a `Vec` takes everything
    out.push(b',');
    out.extend_from_slice(object.get(1..).unwrap_or_default().as_bytes());
    out.push(b'\n');
}

pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text); // a `Vec` takes everything
}

/// Writes a number in its shortest form; `null` if it is not finite.
pub(crate) fn write_number(out: &mut Vec<u8>, number: f64) {
    let is_whole = number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0;
    let _ = if is_whole {
        CompactFormatter.write_i64(out, whole(number))
    } else if number.is_finite() {
        CompactFormatter.write_f64(out, number)
    } else {
        CompactFormatter.write_null(out)
    };
}

#[allow(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
fn whole(number: f64) -> i64 {
    number as i64
}

/// The number with four digits that count: a rate is not known better.
pub(crate) fn four_digits(number: f64) -> f64 {
    rounded(number, 4)
}

/// The number with three digits that count, for the ends of a range.
pub(crate) fn three_digits(number: f64) -> f64 {
    rounded(number, 3)
}

fn rounded(number: f64, count: i32) -> f64 {
    if number == 0.0 || !number.is_finite() {
        return number;
    }
    let scale = 10.0_f64.powi(count - digits(number));
    let rounded = (number * scale).round() / scale;
    if rounded.is_finite() { rounded } else { number }
}

#[allow(clippy::cast_possible_truncation, reason = "the logarithm of an `f64` is below 400")]
fn digits(number: f64) -> i32 {
    number.abs().log10().floor() as i32 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_whatever_is_in_it() {
        let mut out = Vec::new();
        let mut line = Object::begin(&mut out, "job");
        line.whole("id", 7);
        line.text("title", "a \"b\"\n\u{1b}[0m");
        line.number("total", f64::NAN);
        line.flag("cancellable", true);
        let mut inner = line.object("ends");
        inner.number("rate", 0.25);
        inner.end();
        line.end();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["job"]["title"], "a \"b\"\n\u{1b}[0m");
        assert!(value["job"]["total"].is_null());
        assert_eq!(value["job"]["ends"]["rate"].to_string(), "0.25");
    }

    #[test]
    fn numbers_are_short() {
        let short = |number: f64| {
            let mut out = Vec::new();
            write_number(&mut out, number);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(short(412.0), "412");
        assert_eq!(short(-0.5), "-0.5");
        assert_eq!(short(1e300), "1e+300");
        assert_eq!(short(f64::INFINITY), "null");
        assert_eq!(short(four_digits(7.812_345)), "7.812");
        assert_eq!(short(four_digits(123_456.7)), "123500");
        assert_eq!(short(four_digits(0.000_123_456)), "0.0001235");
        assert_eq!(short(four_digits(f64::MAX)), short(f64::MAX));
        assert!(four_digits(f64::MIN_POSITIVE).is_finite());
    }
}
