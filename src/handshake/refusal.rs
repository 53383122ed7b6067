//! A refused handshake, and its HTTP answer.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use super::response::{ALLOWED, Status, write_head, write_response};

/// The longest reason, in bytes.
const LONGEST_REASON: usize = 512;

/// The most of a peer's own bytes that are shown back to it.
const LONGEST_QUOTE: usize = 64;

/// A refusal of a request: a status, and one line that says what was expected, what came and what
/// to do.
///
/// The line has at most 512 bytes of printable text. Text from the request is escaped and cut to 64
/// bytes, so that it cannot fool a log or a reader of the answer.
///
/// ```
/// use stepcast::handshake::{Refusal, Status};
///
/// let refusal = Refusal::not_found("/nothing");
/// assert_eq!(refusal.status(), Status::NotFound);
/// assert!(refusal.reason().contains("\"/nothing\""));
/// assert!(refusal.response().starts_with(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: Status,
    reason: Cow<'static, str>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status.code(), self.reason)
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Makes a refusal with this status and reason. Control characters in `reason` are escaped, as
    /// are characters that end a line or turn its direction, and the line is cut to 512 bytes. A
    /// status below 400 refuses nothing and becomes 403.
    ///
    /// ```
    /// use stepcast::handshake::{Refusal, Status};
    ///
    /// let refusal = Refusal::new(Status::Forbidden, "expected a token in the query, got none");
    /// assert_eq!(refusal.to_string(), "403: expected a token in the query, got none");
    /// ```
    pub fn new(status: Status, reason: impl Into<Cow<'static, str>>) -> Self {
        let status = if status.code() < 400 { Status::Forbidden } else { status };
        Self { status, reason: one_line(reason.into()) }
    }

    /// Makes a 404: nothing is served at `path`.
    ///
    /// ```
    /// # use stepcast::handshake::Refusal;
    /// let refusal = Refusal::not_found("/feeed");
    /// assert_eq!(
    ///     refusal.to_string(),
    ///     r#"404: expected a path that is served here, got "/feeed"; see /"#,
    /// );
    /// ```
    pub fn not_found(path: &str) -> Self {
        let path = quote(path.as_bytes());
        Self::new(
            Status::NotFound,
            format!("expected a path that is served here, got {path}; see /"),
        )
    }

    /// Makes a 405: the server does not support `method`. The answer names the supported methods in
    /// `Allow`.
    ///
    /// ```
    /// # use stepcast::handshake::Refusal;
    /// let answer = Refusal::method_not_allowed("POST").response();
    /// assert!(String::from_utf8_lossy(&answer).contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"));
    /// ```
    pub fn method_not_allowed(method: &str) -> Self {
        let method = quote(method.as_bytes());
        Self::new(
            Status::MethodNotAllowed,
            format!("expected the method GET, got {method}; this server answers {ALLOWED} only"),
        )
    }

    /// Makes a 408: the request was not complete in time.
    ///
    /// ```
    /// # use stepcast::handshake::Refusal;
    /// assert!(Refusal::timeout().response().starts_with(b"HTTP/1.1 408 Request Timeout\r\n"));
    /// ```
    pub fn timeout() -> Self {
        Self::new(
            Status::RequestTimeout,
            "expected a whole request, got too little of it in time; try again",
        )
    }

    /// Makes a 503: there are already `limit` of `what`, such as `"clients"` or `"clients from your
    /// address"`.
    ///
    /// ```
    /// use stepcast::handshake::Refusal;
    ///
    /// assert_eq!(Refusal::full("clients", 100).reason(), "expected room for one more, got 100 clients, \
    ///     which is the limit; try again later");
    /// ```
    pub fn full(what: &str, limit: usize) -> Self {
        Self::new(
            Status::Unavailable,
            format!(
                "expected room for one more, got {limit} {what}, which is the limit; try again later"
            ),
        )
    }

    pub(super) fn bad_request(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Status::BadRequest, reason)
    }

    /// Returns the status of the answer.
    ///
    /// ```
    /// # use stepcast::handshake::{Refusal, Status};
    /// assert_eq!(Refusal::timeout().status(), Status::RequestTimeout);
    /// // A success refuses nothing.
    /// assert_eq!(Refusal::new(Status::Ok, "welcome").status(), Status::Forbidden);
    /// ```
    pub fn status(&self) -> Status {
        self.status
    }

    /// Returns the reason in one line: what was expected, what came, what to do.
    ///
    /// ```
    /// # use stepcast::handshake::{Refusal, Status};
    /// let refusal = Refusal::new(Status::Forbidden, "expected a token,\ngot none");
    /// assert_eq!(refusal.reason(), "expected a token,\\ngot none"); // one line
    /// ```
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Returns the whole answer: the reason as text, `Connection: close`, and the headers that the
    /// status demands (`Allow` with 405, RFC 9110 section 15.5.6; `Upgrade` and
    /// `Sec-WebSocket-Version: 13` with 426, RFC 6455 section 4.4).
    ///
    /// ```
    /// # use stepcast::handshake::{Refusal, Status};
    /// let answer = Refusal::new(Status::Forbidden, "expected a token, got none").response();
    /// assert!(answer.starts_with(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n"));
    /// assert!(answer.ends_with(b"\r\n\r\nexpected a token, got none\n"));
    /// ```
    pub fn response(&self) -> Bytes {
        self.write(true)
    }

    /// Returns the answer to a `HEAD` request: [`response`](Self::response) without its content
    /// (RFC 9110, section 9.3.2).
    ///
    /// ```
    /// # use stepcast::handshake::Refusal;
    /// let refusal = Refusal::not_found("/feeed");
    /// let head = refusal.response_to_head();
    /// assert!(refusal.response().starts_with(&head) && head.ends_with(b"\r\n\r\n"));
    /// ```
    pub fn response_to_head(&self) -> Bytes {
        self.write(false)
    }

    fn write(&self, with_content: bool) -> Bytes {
        const PLAIN: [(&str, &str); 3] = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
        ];
        let body = format!("{}\n", self.reason);
        let (connection, more): (_, &[(&str, &str)]) = match self.status {
            Status::MethodNotAllowed => ("close", &[("Allow", ALLOWED)]),
            // RFC 9110 section 7.8: who sends Upgrade names it in Connection.
            Status::UpgradeRequired => {
                ("close, Upgrade", &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")])
            }
            _ => ("close", &[]),
        };
        let headers = [&PLAIN, more].concat();
        if with_content {
            write_response(self.status, connection, &headers, body.as_bytes())
        } else {
            write_head(self.status, connection, &headers, Some(body.len()), 0).freeze()
        }
    }
}

/// Peer text as it may be shown: in quotation marks, everything but printable ASCII escaped, cut.
pub(super) fn quote(bytes: &[u8]) -> Quote<'_> {
    Quote(bytes)
}

pub(super) struct Quote<'a>(&'a [u8]);

impl fmt::Display for Quote<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(LONGEST_QUOTE)];
        let more = if shown.len() < self.0.len() { "..." } else { "" };
        write!(f, "\"{}{more}\"", shown.escape_ascii())
    }
}

/// Text of any origin as one printable line of at most 512 bytes.
pub(super) fn one_line(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.len() <= LONGEST_REASON && !text.contains(is_unprintable) {
        return text;
    }
    let mut line = String::new();
    for character in text.chars() {
        let escaped = if is_unprintable(character) {
            character.escape_default().to_string()
        } else {
            character.to_string()
        };
        if line.len() + escaped.len() > LONGEST_REASON {
            break;
        }
        line.push_str(&escaped);
    }
    Cow::Owned(line)
}

/// Control characters, and those that a log viewer takes for a line end or that turn its text around.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(refusal: &Refusal) -> String {
        String::from_utf8(refusal.response().to_vec()).unwrap()
    }

    #[test]
    fn a_refusal_is_a_whole_answer() {
        assert_eq!(
            text(&Refusal::new(Status::BadRequest, "no")),
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 3\r\n\
             Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n\
             Cache-Control: no-store\r\n\r\nno\n"
        );
    }

    #[test]
    fn peer_text_is_escaped_and_cut() {
        let refusal = Refusal::not_found("/\r\nSet-Cookie: a=b\u{202e}\0\"");
        assert!(
            refusal.reason().contains(r#""/\r\nSet-Cookie: a=b\xe2\x80\xae\x00\"""#),
            "{refusal}"
        );
        let long = Refusal::not_found(&"\0".repeat(100_000));
        assert!(long.reason().len() < 400, "{long}");
        assert!(long.reason().contains("...\""));
    }

    #[test]
    fn a_reason_is_one_bounded_line_whoever_wrote_it() {
        let refusal = Refusal::new(Status::Forbidden, "a\r\nb\u{2028}c\u{202e}d\u{7f}");
        assert_eq!(refusal.reason(), r"a\r\nb\u{2028}c\u{202e}d\u{7f}");
        let long = Refusal::new(Status::Forbidden, "\u{20ac}".repeat(1000));
        assert_eq!(long.reason().len(), 510);
        assert_eq!(Refusal::new(Status::Forbidden, "a".repeat(512)).reason().len(), 512);
        assert_eq!(Refusal::new(Status::Forbidden, "a".repeat(513)).reason().len(), 512);
    }

    #[test]
    fn a_status_that_refuses_nothing_is_not_answered() {
        assert_eq!(Refusal::new(Status::Ok, "").status(), Status::Forbidden);
    }

    #[test]
    fn each_status_brings_the_headers_it_demands() {
        let method = text(&Refusal::method_not_allowed("POST"));
        assert!(method.contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"));
        let version = text(&Refusal::new(Status::UpgradeRequired, ""));
        assert!(version.contains("\r\nConnection: close, Upgrade\r\n"));
        assert!(version.contains("\r\nUpgrade: websocket\r\n"));
        assert!(version.contains("\r\nSec-WebSocket-Version: 13\r\n"));
        assert_eq!(Refusal::timeout().status().code(), 408);
        assert_eq!(Refusal::full("clients", 1).status().code(), 503);
    }
}
