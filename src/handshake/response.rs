//! HTTP answers other than the 101: the page, and the form every refusal takes.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::head::{is_field_value, is_token};

/// The methods that this server answers, as `Allow` names them (RFC 9110, section 10.2.1).
pub(crate) const ALLOWED: &str = "GET, HEAD, OPTIONS";

/// The statuses that this server answers with.
///
/// ```
/// use stepcast::handshake::Status;
///
/// assert_eq!(Status::UpgradeRequired.code(), 426);
/// assert_eq!(Status::UpgradeRequired.to_string(), "426 Upgrade Required");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// 200: a page.
    Ok,
    /// 204: nothing to send. The answer has no body and no length (RFC 9110, section 8.6).
    NoContent,
    /// 304: the client has the content already. The answer has no body and no length (RFC 9110,
    /// section 15.4.5).
    NotModified,
    /// 400: the request is malformed.
    BadRequest,
    /// 403: the origin or the host is not allowed.
    Forbidden,
    /// 404: nothing is served at this path.
    NotFound,
    /// 405: the method is not GET, HEAD or OPTIONS.
    MethodNotAllowed,
    /// 408: the request did not arrive in time.
    RequestTimeout,
    /// 413: the request has a body.
    ContentTooLarge,
    /// 426: the version of the WebSocket protocol is not 13.
    UpgradeRequired,
    /// 429: one address has sent too many requests.
    TooManyRequests,
    /// 431: the head is too long or has too many headers.
    HeadersTooLarge,
    /// 500: the server failed.
    InternalError,
    /// 503: the server is full, or is shutting down.
    Unavailable,
}

impl Status {
    /// Returns the status code, 200 to 599.
    ///
    /// ```
    /// # use stepcast::handshake::Status;
    /// assert_eq!(Status::HeadersTooLarge.code(), 431);
    /// ```
    pub const fn code(self) -> u16 {
        self.line().0
    }

    /// Returns the reason phrase that follows the code.
    ///
    /// ```
    /// # use stepcast::handshake::Status;
    /// assert_eq!(Status::HeadersTooLarge.phrase(), "Request Header Fields Too Large");
    /// ```
    pub const fn phrase(self) -> &'static str {
        self.line().1
    }

    const fn line(self) -> (u16, &'static str) {
        match self {
            Self::Ok => (200, "OK"),
            Self::NoContent => (204, "No Content"),
            Self::NotModified => (304, "Not Modified"),
            Self::BadRequest => (400, "Bad Request"),
            Self::Forbidden => (403, "Forbidden"),
            Self::NotFound => (404, "Not Found"),
            Self::MethodNotAllowed => (405, "Method Not Allowed"),
            Self::RequestTimeout => (408, "Request Timeout"),
            Self::ContentTooLarge => (413, "Content Too Large"),
            Self::UpgradeRequired => (426, "Upgrade Required"),
            Self::TooManyRequests => (429, "Too Many Requests"),
            Self::HeadersTooLarge => (431, "Request Header Fields Too Large"),
            Self::InternalError => (500, "Internal Server Error"),
            Self::Unavailable => (503, "Service Unavailable"),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, phrase) = self.line();
        write!(f, "{code} {phrase}")
    }
}

/// The error for a header that would break the answer.
///
/// ```
/// use stepcast::handshake::{InvalidHeader, Status, http_response};
///
/// let answer = http_response(Status::Ok, &[("Content Type", "text/html")], b"");
/// assert_eq!(answer, Err(InvalidHeader::Name("Content Type".to_owned())));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidHeader {
    /// The name is not a token (RFC 9110 section 5.6.2).
    #[error("expected a header name made of letters, digits and !#$%&'*+-.^_`|~, got {0:?}")]
    Name(String),
    /// The value has a control character other than a tab, such as a line end.
    #[error("expected a value of header {name} without control characters, got {value:?}")]
    Value {
        /// The header's name.
        name: String,
        /// The value that was given.
        value: String,
    },
    /// [`http_response`] writes this header itself.
    #[error("header {0} is written by the server itself; leave it out")]
    Reserved(String),
}

/// Returns a whole HTTP/1.1 answer with `Connection: close` and the body's `Content-Length`.
///
/// `headers` are names and values, written in this order. No value can end a line, so a value
/// cannot become a further header or a body.
///
/// # Errors
///
/// [`InvalidHeader`] for a name that is not a token, for a value with a control character other
/// than a tab, and for `Connection`, `Content-Length` and `Transfer-Encoding`, which the function
/// writes itself.
///
/// ```
/// use stepcast::handshake::{Status, http_response};
///
/// # fn main() -> Result<(), stepcast::handshake::InvalidHeader> {
/// let page = http_response(Status::Ok, &[("Content-Type", "text/html")], b"<p>hello")?;
/// assert!(page.starts_with(b"HTTP/1.1 200 OK\r\n"));
/// assert!(page.ends_with(b"\r\n\r\n<p>hello"));
/// assert!(http_response(Status::Ok, &[("X-Run", "7\r\nSet-Cookie: a=b")], b"").is_err());
/// # Ok(())
/// # }
/// ```
pub fn http_response(
    status: Status,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Bytes, InvalidHeader> {
    check_headers(headers)?;
    Ok(write_response(status, "close", headers, body))
}

/// The head of an answer whose body has this length, and is written behind it.
pub(crate) fn http_head(
    status: Status,
    headers: &[(&str, &str)],
    length: usize,
) -> Result<Bytes, InvalidHeader> {
    check_headers(headers)?;
    Ok(write_head(status, "close", headers, Some(length), 0).freeze())
}

/// Returns the head of an answer whose body ends with the connection.
pub(crate) fn http_head_of_stream(headers: &[(&str, &str)]) -> Result<Bytes, InvalidHeader> {
    check_headers(headers)?;
    Ok(write_head(Status::Ok, "close", headers, None, 0).freeze())
}

fn check_headers(headers: &[(&str, &str)]) -> Result<(), InvalidHeader> {
    headers.iter().try_for_each(|(name, value)| check_header(name, value))
}

fn check_header(name: &str, value: &str) -> Result<(), InvalidHeader> {
    const RESERVED: [&str; 3] = ["Connection", "Content-Length", "Transfer-Encoding"];
    if !is_token(name.as_bytes()) {
        return Err(InvalidHeader::Name(name.to_owned()));
    }
    if !is_field_value(value.as_bytes()) {
        return Err(InvalidHeader::Value { name: name.to_owned(), value: value.to_owned() });
    }
    if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
        return Err(InvalidHeader::Reserved(name.to_owned()));
    }
    Ok(())
}

/// `http_response` for headers that are known to be right.
pub(super) fn write_response(
    status: Status,
    connection: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Bytes {
    let mut out = write_head(status, connection, headers, Some(body.len()), body.len());
    out.put_slice(body);
    out.freeze()
}

/// The head, in a buffer that has `room` for that much more. Without a length the body ends with
/// the connection (RFC 9112, section 6.3).
pub(super) fn write_head(
    status: Status,
    connection: &str,
    headers: &[(&str, &str)],
    length: Option<usize>,
    room: usize,
) -> BytesMut {
    // The fixed parts come to less than 128 bytes.
    let lines: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let mut out = BytesMut::with_capacity(128 + lines + room);
    let (code, phrase) = status.line();
    put(&mut out, &["HTTP/1.1 ", &code.to_string(), " ", phrase, "\r\nConnection: ", connection]);
    put(&mut out, &["\r\n"]);
    let length = length.filter(|_| !matches!(status, Status::NoContent | Status::NotModified));
    if let Some(length) = length {
        put(&mut out, &["Content-Length: ", &length.to_string(), "\r\n"]);
    }
    for (name, value) in headers {
        put(&mut out, &[name, ": ", value, "\r\n"]);
    }
    put(&mut out, &["\r\n"]);
    out
}

pub(super) fn put(out: &mut BytesMut, parts: &[&str]) {
    for part in parts {
        out.put_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_whole_answer() {
        let answer =
            http_response(Status::Ok, &[("Content-Type", "text/html"), ("ETag", "\"1\"")], b"abc");
        assert_eq!(
            answer.unwrap(),
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\
             Content-Type: text/html\r\nETag: \"1\"\r\n\r\nabc"
        );
    }

    #[test]
    fn no_header_can_end_its_line() {
        for byte in (0..0x20).chain([0x7f]).filter(|&byte| byte != b'\t') {
            let text = format!("a{}b", char::from(byte));
            let value = http_response(Status::Ok, &[("A", &text)], b"");
            assert!(matches!(value, Err(InvalidHeader::Value { .. })), "{byte:#x}");
            let name = http_response(Status::Ok, &[(&text, "a")], b"");
            assert!(matches!(name, Err(InvalidHeader::Name(_))), "{byte:#x}");
        }
        for name in ["", "a b", "a:", "\u{fc}"] {
            assert!(http_response(Status::Ok, &[(name, "a")], b"").is_err(), "{name:?}");
        }
    }

    #[test]
    fn the_framing_cannot_be_contradicted() {
        for name in ["connection", "Content-Length", "TRANSFER-ENCODING"] {
            let answer = http_response(Status::Ok, &[(name, "1")], b"");
            assert_eq!(answer, Err(InvalidHeader::Reserved(name.to_owned())));
        }
    }
}
