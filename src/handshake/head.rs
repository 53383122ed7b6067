//! What a request head and a response head have in common: their limits, the search for the blank
//! line that ends them, and header fields kept as ranges into one buffer.

use std::ops::Range;
use std::str::from_utf8;

use bytes::Bytes;

/// Limits on the head of a request, or of an answer on the client side.
///
/// ```
/// use stepcast::handshake::HeadLimits;
///
/// let limits = HeadLimits::default().bytes(4096).headers(20);
/// assert_ne!(limits, HeadLimits::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeadLimits {
    pub(super) bytes: usize,
    pub(super) headers: usize,
}

/// Header lines, unless more or fewer are asked for.
pub(super) const HEADERS: usize = 64;

/// The largest head anybody can ask for, in bytes.
const MOST_BYTES: usize = 1 << 20;

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: 16 * 1024, headers: HEADERS }
    }
}

impl HeadLimits {
    /// Sets the largest head in bytes, including the blank line, at most 1 MiB. A larger value
    /// counts as 1 MiB.
    ///
    /// Default 16 384: browsers send about 600 bytes and the cookies of the host, which all
    /// programs on `localhost` share.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader, Status};
    /// let mut reader = RequestReader::new(HeadLimits::default().bytes(32));
    /// let refusal = reader.read(&mut BytesMut::from("GET / HTTP/1.1\r\nCookie: too long a story")).unwrap_err();
    /// assert_eq!(refusal.status(), Status::HeadersTooLarge);
    /// ```
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes.min(MOST_BYTES);
        self
    }

    /// Sets the most header lines. Default 64: browsers send about 15, and each proxy adds a few.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader, Status};
    /// let mut reader = RequestReader::new(HeadLimits::default().headers(1));
    /// let refusal = reader.read(&mut BytesMut::from("GET / HTTP/1.1\r\nHost: a\r\nCookie: b\r\n")).unwrap_err();
    /// assert_eq!(refusal.status(), Status::HeadersTooLarge);
    /// ```
    #[must_use]
    pub fn headers(mut self, headers: usize) -> Self {
        self.headers = headers;
        self
    }
}

/// Why a head cannot be one, known before it is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadFault {
    TooLong,
    TooManyHeaders,
    BareLineFeed,
}

/// Finds the end of a head in a buffer that grows at its end, looking at each byte once.
///
/// It goes line by line: a line feed must follow a carriage return, and an empty line is the end. Nothing is
/// looked at twice, so a head that arrives byte by byte costs what it costs in one piece.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    limits: HeadLimits,
    /// Everything before this has been looked at.
    scanned: usize,
    line_start: usize,
    /// Complete lines so far, the first one (which is no header) included.
    lines: usize,
    /// Where the first line's text ends.
    first_line: Option<usize>,
    #[cfg(test)]
    pub(super) examined: usize,
}

impl Scanner {
    pub(super) fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            scanned: 0,
            line_start: 0,
            lines: 0,
            first_line: None,
            #[cfg(test)]
            examined: 0,
        }
    }

    pub(super) fn limits(&self) -> HeadLimits {
        self.limits
    }

    /// Where the first line's text ends, once it is complete.
    pub(super) fn first_line(&self) -> Option<usize> {
        self.first_line
    }

    /// The head's header lines, once it is complete.
    pub(super) fn headers(&self) -> usize {
        self.lines.saturating_sub(1)
    }

    /// The head's length with its blank line, once that is there.
    pub(super) fn scan(&mut self, src: &[u8]) -> Result<Option<usize>, HeadFault> {
        let window = &src[..src.len().min(self.limits.bytes)];
        while let Some(line_feed) = self.next_line_feed(window) {
            if line_feed == 0 || window[line_feed - 1] != b'\r' {
                return Err(HeadFault::BareLineFeed);
            }
            let text_end = line_feed - 1;
            if text_end == self.line_start {
                return Ok(Some(line_feed + 1));
            }
            if self.first_line.is_none() {
                self.first_line = Some(text_end);
            }
            self.lines += 1;
            self.line_start = line_feed + 1;
            if self.headers() > self.limits.headers {
                return Err(HeadFault::TooManyHeaders);
            }
        }
        if window.len() == self.limits.bytes {
            return Err(HeadFault::TooLong);
        }
        Ok(None)
    }

    fn next_line_feed(&mut self, window: &[u8]) -> Option<usize> {
        let unseen = window.get(self.scanned..).unwrap_or_default();
        let found = memchr::memchr(b'\n', unseen);
        let seen = found.map_or(unseen.len(), |offset| offset + 1);
        #[cfg(test)]
        {
            self.examined += seen;
        }
        let line_feed = found.map(|offset| self.scanned + offset);
        self.scanned += seen;
        line_feed
    }
}

/// A range of a head, which is never larger than 1 MiB.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Where `part` lies in `whole`; an empty span if it does not.
pub(super) fn span_in(whole: &[u8], part: &[u8]) -> Span {
    let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
    let end = start.saturating_add(part.len());
    match (u32::try_from(start), u32::try_from(end)) {
        (Ok(start), Ok(end)) if (end as usize) <= whole.len() => Span { start, end },
        _ => Span::default(),
    }
}

/// A head's bytes, with its header fields as spans of them: two allocations however many there are.
#[derive(Clone)]
pub(super) struct Head {
    bytes: Bytes,
    fields: Vec<(Span, Span)>,
}

impl Head {
    /// Bytes that it has allocated.
    pub(super) fn allocated(&self) -> usize {
        self.bytes.len() + self.fields.capacity() * size_of::<(Span, Span)>()
    }
}

/// Where the header fields of a head lie in it.
pub(super) fn spans_of(head: &[u8], headers: &[httparse::Header<'_>]) -> Vec<(Span, Span)> {
    let spans = |header: &httparse::Header<'_>| {
        (span_in(head, header.name.as_bytes()), span_in(head, header.value))
    };
    headers.iter().map(spans).collect()
}

impl Head {
    pub(super) fn new(bytes: Bytes, fields: Vec<(Span, Span)>) -> Self {
        Self { bytes, fields }
    }

    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(super) fn slice(&self, span: Span) -> &[u8] {
        self.bytes.get(span.range()).unwrap_or_default()
    }

    /// The text of a span that is known to be ASCII.
    pub(super) fn text(&self, span: Span) -> &str {
        text_of(&self.bytes, span)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| self.text(*name))
    }

    /// The values of every header line with this name, in their order.
    pub(super) fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let is_it = move |field: &Span| {
            // Nearly all that are others' are of another length.
            field.range().len() == name.len()
                && self.slice(*field).eq_ignore_ascii_case(name.as_bytes())
        };
        self.fields
            .iter()
            .filter(move |(field, _)| is_it(field))
            .map(|(_, value)| self.slice(*value))
    }

    /// The first of them.
    pub(super) fn first(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// The elements of a comma-separated list over every line with this name (RFC 9110 section 5.6.1: empty
    /// elements do not count).
    pub(super) fn elements<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.values(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(trim)
            .filter(|element| !element.is_empty())
    }

    /// Whether such a list has this element, ASCII case ignored.
    pub(super) fn has_element(&self, name: &str, element: &str) -> bool {
        let is_it = |found: &[u8]| trim(found).eq_ignore_ascii_case(element.as_bytes());
        // Nearly all such lists are of one element.
        self.values(name).any(|value| is_it(value) || value.split(|&byte| byte == b',').any(is_it))
    }

    /// The value of a header that may be there once.
    pub(super) fn single<'a>(&'a self, name: &'a str) -> Single<'a> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (None, _) => Single::Missing,
            (Some(value), None) => Single::One(value),
            (Some(_), Some(_)) => Single::Several,
        }
    }
}

/// How often a header that may be there once is there.
pub(super) enum Single<'a> {
    Missing,
    One(&'a [u8]),
    Several,
}

pub(super) fn text_of(bytes: &[u8], span: Span) -> &str {
    bytes.get(span.range()).and_then(|text| from_utf8(text).ok()).unwrap_or_default()
}

/// Optional white space is SP and HTAB only (RFC 9110 section 5.6.3).
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// `token` of RFC 9110 section 5.6.2: methods, header names, subprotocols.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What may stand in a header's value: no control character but the tab, so no line end either.
pub(super) fn is_field_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_fed_byte_by_byte_is_looked_at_once() {
        let head =
            [b"GET / HTTP/1.1\r\n".as_slice(), &b"A: 1234567890\r\n".repeat(60), b"\r\n"].concat();
        let mut scanner = Scanner::new(HeadLimits::default());
        for length in 0..head.len() {
            assert_eq!(scanner.scan(&head[..length]), Ok(None));
        }
        assert_eq!(scanner.scan(&head), Ok(Some(head.len())));
        assert_eq!(scanner.examined, head.len());
        assert_eq!((scanner.headers(), scanner.first_line()), (60, Some(14)));
    }

    #[test]
    fn bytes_beyond_the_limit_are_never_looked_at() {
        let mut scanner = Scanner::new(HeadLimits::default().bytes(100));
        assert_eq!(scanner.scan(&vec![b'a'; 100_000]), Err(HeadFault::TooLong));
        assert_eq!(scanner.examined, 100);
    }

    #[test]
    fn a_limit_reached_without_the_blank_line_is_too_long_at_once() {
        let mut scanner = Scanner::new(HeadLimits::default().bytes(8));
        assert_eq!(scanner.scan(b"a\r\nb: c"), Ok(None));
        assert_eq!(scanner.scan(b"a\r\nb: cd"), Err(HeadFault::TooLong));
    }

    #[test]
    fn a_buffer_that_shrank_is_no_panic() {
        let mut scanner = Scanner::new(HeadLimits::default());
        assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\n"), Ok(None));
        assert_eq!(scanner.scan(b"G"), Ok(None));
    }

    #[test]
    fn a_part_from_elsewhere_has_an_empty_span() {
        let whole = b"abc".to_vec();
        assert_eq!(span_in(&whole, &whole[1..]).range(), 1..3);
        assert_eq!(span_in(&whole, b"far away").range(), 0..0);
    }

    #[test]
    fn only_spaces_and_tabs_are_trimmed() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b"\x0ba\xa0"), b"\x0ba\xa0");
    }
}
