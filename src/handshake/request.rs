//! The server's side of the request: its reader, and the checks that HTTP/1.1 itself demands.

use std::fmt;
use std::mem::MaybeUninit;
use std::net::IpAddr;

use bytes::{Buf, Bytes, BytesMut};

use super::head::{
    HEADERS, Head, HeadFault, HeadLimits, Scanner, Single, Span, is_token_byte, span_in, spans_of,
};
use super::host::{Authority, HostName};
use super::refusal::{Refusal, quote};
use super::response::Status;

/// A reader of one request head, from a buffer that grows as bytes arrive.
///
/// The reader looks at each byte once and parses the head once, for any cut into packets. It
/// refuses known errors at once: a first byte that begins no method (a TLS hello), the preface of
/// HTTP/2, a request line that is not HTTP/1.1, a line that does not end with CR LF, a head over
/// the [limits](HeadLimits).
///
/// ```
/// use bytes::BytesMut;
/// use stepcast::handshake::{HeadLimits, RequestReader};
///
/// # fn main() -> Result<(), stepcast::handshake::Refusal> {
/// let mut reader = RequestReader::new(HeadLimits::default());
/// let mut received = BytesMut::from("GET /?run=7 HTTP/1.1\r\nHost: local");
/// assert!(reader.read(&mut received)?.is_none());
/// received.extend_from_slice(b"host\r\n\r\n and more");
/// let request = reader.read(&mut received)?.expect("the blank line has arrived");
/// assert_eq!((request.path(), request.query()), ("/", Some("run=7")));
/// assert_eq!(received, " and more");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RequestReader {
    scanner: Scanner,
    request_line_checked: bool,
    /// Whether an empty line has come before the request.
    skipped_line: bool,
}

impl RequestReader {
    /// Makes a reader of one request.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader};
    /// let mut reader = RequestReader::new(HeadLimits::default());
    /// let request = reader.read(&mut BytesMut::from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))?;
    /// assert!(request.is_some());
    /// # Ok::<(), stepcast::handshake::Refusal>(())
    /// ```
    pub fn new(limits: HeadLimits) -> Self {
        Self { scanner: Scanner::new(limits), request_line_checked: false, skipped_line: false }
    }

    /// Reads the bytes that were added to `src` since the last call.
    ///
    /// Returns `None` if the head is incomplete. Then call again with the same buffer and more
    /// bytes in it. A complete head is removed from `src`; bytes after it stay.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader, Status};
    /// let mut reader = RequestReader::new(HeadLimits::default());
    /// let refusal = reader.read(&mut BytesMut::from(&b"\x16\x03\x01"[..])).unwrap_err(); // TLS
    /// assert_eq!(refusal.status(), Status::BadRequest);
    /// assert!(refusal.reason().ends_with("use ws:// or http:// here"));
    /// ```
    ///
    /// # Errors
    ///
    /// - 431: the head is over the limits.
    /// - 413: the request announces a body.
    /// - 400: the request is neither HTTP/1.1 nor HTTP/1.0.
    /// - 400: a line is malformed or ends with a line feed alone.
    /// - 400: `Host` is missing (in HTTP/1.1), repeated, or not a host.
    /// - 400: the target is neither a path nor an `http` or `https` URI, nor `*` with `OPTIONS`.
    /// - 400: the request has a `Transfer-Encoding` or a malformed `Content-Length`.
    pub fn read(&mut self, src: &mut BytesMut) -> Result<Option<Request>, Refusal> {
        if self.is_before_the_request(src) {
            return Ok(None);
        }
        check_first_bytes(src)?;
        let found = self.scanner.scan(src);
        if let (false, Some(end)) = (self.request_line_checked, self.scanner.first_line()) {
            check_request_line(src.get(..end).unwrap_or_default())?;
            self.request_line_checked = true;
        }
        let limits = self.scanner.limits();
        let Some(length) = found.map_err(|fault| refuse_head(fault, limits))? else {
            return Ok(None);
        };
        // A copy: the caller's buffer stays its own, so it can be scratch space that a kept request does not pin.
        let head = Bytes::copy_from_slice(&src[..length]);
        src.advance(length);
        let headers = self.scanner.headers();
        *self = Self::new(limits);
        Request::parse(head, headers).map(Some)
    }

    /// Reads over one empty line before the request (RFC 9112, section 2.2: a server SHOULD ignore at least
    /// one). Whether more has to come before anything can be said.
    fn is_before_the_request(&mut self, src: &mut BytesMut) -> bool {
        if !self.skipped_line && src.starts_with(b"\r\n") {
            self.skipped_line = true;
            src.advance(2);
        }
        !self.skipped_line && src[..] == b"\r"[..]
    }
}

fn check_first_bytes(src: &[u8]) -> Result<(), Refusal> {
    match src {
        [first, ..] if !is_token_byte(*first) => Err(Refusal::bad_request(format!(
            "expected an HTTP/1.1 request, got a first byte of {first:#04x}{}",
            if *first == 0x16 { ", as TLS begins; use ws:// or http:// here" } else { "" }
        ))),
        [b'P', b'R', b'I', b' ', ..] => Err(Refusal::bad_request(
            "expected an HTTP/1.1 request, got the preface of HTTP/2; use HTTP/1.1",
        )),
        _ => Ok(()),
    }
}

/// Only the version, so that other protocols need not be waited for; the rest is httparse's.
fn check_request_line(line: &[u8]) -> Result<(), Refusal> {
    if line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0") {
        return Ok(());
    }
    let got = quote(line);
    Err(Refusal::bad_request(format!(
        "expected a request line such as \"GET / HTTP/1.1\", got {got}"
    )))
}

fn refuse_head(fault: HeadFault, limits: HeadLimits) -> Refusal {
    match fault {
        HeadFault::TooLong => Refusal::new(
            Status::HeadersTooLarge,
            format!(
                "expected a request head of at most {} bytes, got more; send fewer or shorter \
                 headers, such as cookies",
                limits.bytes
            ),
        ),
        HeadFault::TooManyHeaders => Refusal::new(
            Status::HeadersTooLarge,
            format!("expected at most {} headers, got more; send fewer", limits.headers),
        ),
        // RFC 9112, section 2.2, permits to take it for a line's end. Two servers that differ in what they
        // take for a line can be played off against each other, and nobody sends it but by hand.
        HeadFault::BareLineFeed => Refusal::bad_request(
            "expected lines that end with CR LF, got a line feed on its own; send \\r\\n",
        ),
    }
}

/// A sound request of HTTP/1.1 or HTTP/1.0 without a body. It has one valid `Host` (in HTTP/1.0 at
/// most one) and a target that names a path.
///
/// A request keeps its head in one piece, and nothing of the buffer that it was read from. `Debug`
/// shows no header's value, because cookies and credentials are among them.
///
/// ```
/// # use bytes::BytesMut;
/// # use stepcast::handshake::{HeadLimits, RequestReader};
/// let mut received = BytesMut::from("GET /feed?run=7 HTTP/1.1\r\nHost: localhost:8002\r\n\r\n");
/// let request = RequestReader::new(HeadLimits::default()).read(&mut received)?.expect("complete");
/// assert_eq!((request.method(), request.host()), ("GET", "localhost"));
/// assert_eq!((request.path(), request.query()), ("/feed", Some("run=7")));
/// # Ok::<(), stepcast::handshake::Refusal>(())
/// ```
#[derive(Clone)]
pub struct Request {
    head: Head,
    method: Span,
    target: Span,
    /// The target without scheme and authority.
    resource: Span,
    host: Span,
    ip: Option<IpAddr>,
    /// Whether it is HTTP/1.0.
    is_old: bool,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method())
            .field("target", &self.target())
            .field("host", &self.host())
            .field("headers", &self.head.names().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Request {
    /// Bytes that it takes.
    pub(crate) fn allocated(&self) -> usize {
        size_of::<Self>() + self.head.allocated()
    }

    /// Returns the method, such as `GET`. Methods are case-sensitive.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader};
    /// let mut received = BytesMut::from("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    /// let request = RequestReader::new(HeadLimits::default()).read(&mut received)?.expect("complete");
    /// assert_eq!(request.method(), "HEAD");
    /// # Ok::<(), stepcast::handshake::Refusal>(())
    /// ```
    pub fn method(&self) -> &str {
        self.head.text(self.method)
    }

    /// Returns the target as it was sent: path and query, or a whole URI if the client took this
    /// server for a proxy. The target is printable ASCII; percent-escapes are kept.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader};
    /// let mut received = BytesMut::from("GET /feed?run=7 HTTP/1.1\r\nHost: localhost:8002\r\n\r\n");
    /// let request = RequestReader::new(HeadLimits::default()).read(&mut received)?.expect("complete");
    /// assert_eq!(request.target(), "/feed?run=7");
    /// # Ok::<(), stepcast::handshake::Refusal>(())
    /// ```
    pub fn target(&self) -> &str {
        self.head.text(self.target)
    }

    /// Returns the path without the query. The path begins with `/`; percent-escapes are kept.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader};
    /// let mut received = BytesMut::from("GET /run%207/?step=41 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    /// let request = RequestReader::new(HeadLimits::default()).read(&mut received)?.expect("complete");
    /// assert_eq!(request.path(), "/run%207/");
    /// # Ok::<(), stepcast::handshake::Refusal>(())
    /// ```
    pub fn path(&self) -> &str {
        let resource = self.resource();
        match memchr::memchr(b'?', resource.as_bytes()).map_or(resource, |end| &resource[..end]) {
            "" => "/",
            path => path,
        }
    }

    /// Returns the query: the part after the first `?` of the target. Percent-escapes are kept.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader};
    /// let mut received = BytesMut::from("GET /feed?run=7 HTTP/1.1\r\nHost: localhost:8002\r\n\r\n");
    /// let request = RequestReader::new(HeadLimits::default()).read(&mut received)?.expect("complete");
    /// let run = request.query().and_then(|query| query.strip_prefix("run="));
    /// assert_eq!(run, Some("7"));
    /// # Ok::<(), stepcast::handshake::Refusal>(())
    /// ```
    pub fn query(&self) -> Option<&str> {
        self.resource().split_once('?').map(|(_, query)| query)
    }

    fn resource(&self) -> &str {
        self.head.text(self.resource)
    }

    /// Returns the host that the client wants to reach, without a port; an IPv6 address keeps its
    /// brackets. The host comes from the target if that is a whole URI, else from `Host`. It is
    /// empty if an HTTP/1.0 request has none.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader};
    /// let mut received = BytesMut::from("GET / HTTP/1.1\r\nHost: [::1]:8002\r\n\r\n");
    /// let request = RequestReader::new(HeadLimits::default()).read(&mut received)?.expect("complete");
    /// assert_eq!(request.host(), "[::1]");
    /// # Ok::<(), stepcast::handshake::Refusal>(())
    /// ```
    pub fn host(&self) -> &str {
        self.head.text(self.host)
    }

    pub(super) fn host_name(&self) -> HostName<'_> {
        HostName { text: self.host(), ip: self.ip }
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Returns the value of the first header with this name, ASCII case ignored, without white
    /// space around it. The value may have any bytes except control characters other than a tab.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader};
    /// # fn main() -> Result<(), stepcast::handshake::Refusal> {
    /// let mut received = BytesMut::from("GET / HTTP/1.1\r\nHost: a\r\nCookie: b=1\r\ncookie: c=2\r\n\r\n");
    /// let request = RequestReader::new(HeadLimits::default()).read(&mut received)?.expect("complete");
    /// assert_eq!(request.header("COOKIE"), Some(b"b=1".as_slice()));
    /// assert_eq!(request.headers("Cookie").count(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.head.first(name)
    }

    /// Returns the values of all header lines with this name, in order.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader};
    /// let mut received = BytesMut::from("GET / HTTP/1.1\r\nHost: a\r\nCookie: b=1\r\ncookie: c=2\r\n\r\n");
    /// let request = RequestReader::new(HeadLimits::default()).read(&mut received)?.expect("complete");
    /// let cookies: Vec<&[u8]> = request.headers("Cookie").collect();
    /// assert_eq!(cookies, [b"b=1", b"c=2"]);
    /// # Ok::<(), stepcast::handshake::Refusal>(())
    /// ```
    pub fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.head.values(name)
    }

    /// Returns whether the client asks for a WebSocket: `Upgrade` names it, or `Sec-WebSocket-Key`
    /// is there (a proxy may have dropped the `Upgrade`).
    ///
    /// If so, the right answer is an [`Upgrade`](super::Upgrade) or its refusal; otherwise it is a
    /// page. In HTTP/1.0 `Upgrade` means nothing (RFC 9110, section 7.8).
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader};
    /// # fn main() -> Result<(), stepcast::handshake::Refusal> {
    /// let mut received = BytesMut::from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    /// let request = RequestReader::new(HeadLimits::default()).read(&mut received)?.expect("complete");
    /// assert!(!request.wants_upgrade());
    /// # Ok(())
    /// # }
    /// ```
    pub fn wants_upgrade(&self) -> bool {
        (!self.is_old && self.head.has_element("Upgrade", "websocket"))
            || self.head.first("Sec-WebSocket-Key").is_some()
    }

    /// Whether the request is HTTP/1.0.
    pub(super) fn is_old(&self) -> bool {
        self.is_old
    }

    /// Whether an answer has no content: the method is `HEAD`.
    pub(crate) fn is_head(&self) -> bool {
        self.method() == "HEAD"
    }

    fn parse(bytes: Bytes, headers: usize) -> Result<Self, Refusal> {
        // As many as there may be, unless the program allows more.
        let mut few = [MaybeUninit::uninit(); HEADERS];
        let mut many = Vec::new();
        let fields = few.get_mut(..headers).unwrap_or_else(|| {
            many.resize(headers, MaybeUninit::uninit());
            &mut many
        });
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(&bytes, fields) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => {
                return Err(Refusal::bad_request(
                    "expected one blank line at the end of the head, got an end before it",
                ));
            }
            Err(error) => {
                return Err(Refusal::bad_request(format!(
                    "expected a request head as of RFC 9112, got one with an {error}",
                )));
            }
        }
        let span = |part: Option<&str>| span_in(&bytes, part.unwrap_or_default().as_bytes());
        let (method, target) = (span(parsed.method), span(parsed.path));
        let is_old = parsed.version == Some(0);
        let fields = spans_of(&bytes, parsed.headers);
        let head = Head::new(bytes, fields);
        check_body(&head)?;
        let named = host_value(&head, is_old)?.map(parse_host).transpose()?;
        let is_about_all = head.slice(method) == b"OPTIONS" && head.slice(target) == b"*";
        let (authority, resource) = if is_about_all {
            (None, head.slice(target)) // RFC 9112, section 3.2.4
        } else {
            split_target(head.slice(target))?
        };
        // RFC 9112, section 3.2.2: the host of a whole URI is what counts.
        let host = authority.map(parse_host).transpose()?.or(named);
        let resource = span_in(head.bytes(), resource);
        let (host, ip) = host.map_or((Span::default(), None), |host| {
            (span_in(head.bytes(), host.text.as_bytes()), host.ip)
        });
        Ok(Self { head, method, target, resource, host, ip, is_old })
    }
}

fn parse_host(value: &[u8]) -> Result<HostName<'_>, Refusal> {
    Authority::parse(value).map(|authority| authority.host).ok_or_else(|| {
        let got = quote(value);
        Refusal::bad_request(format!("expected a host of the form name:port, got {got}"))
    })
}

/// RFC 9112 section 3.2: a request without a Host header, or with more than one, is answered with 400. HTTP/1.0 did
/// not have it yet, and the health checks of proxies leave it out there.
fn host_value(head: &Head, is_old: bool) -> Result<Option<&[u8]>, Refusal> {
    match head.single("Host") {
        Single::One(value) => Ok(Some(value)),
        Single::Missing if is_old => Ok(None),
        Single::Missing => {
            Err(Refusal::bad_request("expected a Host header, got none; send Host: name:port"))
        }
        Single::Several => {
            Err(Refusal::bad_request("expected one Host header, got several; send one"))
        }
    }
}

/// Bodies are never read: what follows the head would be taken for frames.
fn check_body(head: &Head) -> Result<(), Refusal> {
    if head.values("Transfer-Encoding").next().is_some() {
        return Err(Refusal::bad_request(
            "expected a request without a body, got Transfer-Encoding; leave it out",
        ));
    }
    match head.single("Content-Length") {
        Single::Missing => Ok(()),
        Single::One(length) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            if length.iter().all(|&digit| digit == b'0') {
                return Ok(());
            }
            let got = quote(length);
            Err(Refusal::new(
                Status::ContentTooLarge,
                format!("expected a request without a body, got Content-Length {got}; send none"),
            ))
        }
        Single::One(length) => Err(Refusal::bad_request(format!(
            "expected a Content-Length of digits, got {}",
            quote(length)
        ))),
        Single::Several => {
            Err(Refusal::bad_request("expected one Content-Length, got several; send one"))
        }
    }
}

/// The authority of a target that is a whole URI, which a server MUST accept (RFC 9112, section 3.2.2), and the
/// path and query of any.
fn split_target(target: &[u8]) -> Result<(Option<&[u8]>, &[u8]), Refusal> {
    let refuse = |expected: &str| {
        let got = quote(target);
        Err(Refusal::bad_request(format!("expected {expected}, got {got}")))
    };
    // RFC 3986 knows ASCII only; RFC 6455 section 3 forbids fragments.
    if !target.iter().all(|byte| (b'!'..=b'~').contains(byte) && *byte != b'#') {
        return refuse("a target of printable ASCII without a fragment");
    }
    if target.starts_with(b"/") {
        return Ok((None, target));
    }
    let Some(rest) = strip_http(target) else {
        return refuse("a target that begins with /");
    };
    let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
    let (authority, resource) = rest.split_at(end);
    Ok((Some(authority), resource))
}

fn strip_http(target: &[u8]) -> Option<&[u8]> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: impl AsRef<[u8]>) -> Result<Option<Request>, Refusal> {
        RequestReader::new(HeadLimits::default()).read(&mut BytesMut::from(text.as_ref()))
    }

    fn get(target: &str) -> Result<Request, Refusal> {
        Ok(read(format!("GET {target} HTTP/1.1\r\nHost: a.example:80\r\n\r\n"))?.unwrap())
    }

    #[test]
    fn the_path_ends_where_the_query_begins() {
        let request = get("/a%2fb/%?c=1?d").unwrap();
        assert_eq!(request.target(), "/a%2fb/%?c=1?d");
        assert_eq!((request.path(), request.query()), ("/a%2fb/%", Some("c=1?d")));
        assert_eq!(get("/").unwrap().query(), None);
        assert_eq!(get("/?").unwrap().query(), Some(""));
        assert_eq!(get("//b").unwrap().path(), "//b");
    }

    #[test]
    fn a_whole_uri_is_a_target_and_its_host_counts() {
        let request = get("HTTP://A.example:80/a?b").unwrap();
        assert_eq!(request.target(), "HTTP://A.example:80/a?b");
        assert_eq!((request.path(), request.query()), ("/a", Some("b")));
        assert_eq!(get("https://a.example:80").unwrap().path(), "/");
        let request = get("http://a.example:80?b").unwrap();
        assert_eq!((request.path(), request.query()), ("/", Some("b")));
        assert_eq!(get("http://b.example/").unwrap().host(), "b.example");
        assert_eq!(get("http://a.example/").unwrap().host(), "a.example");
        for target in ["http://x@a.example:80/", "http:///"] {
            assert_eq!(get(target).unwrap_err().status(), Status::BadRequest, "{target}");
        }
    }

    #[test]
    fn http_1_0_needs_no_host_and_asks_for_no_upgrade() {
        let old = |rest: &str| read(format!("GET / HTTP/1.0\r\n{rest}\r\n")).unwrap().unwrap();
        assert_eq!(old("").host(), "");
        assert_eq!(old("Host: a:80\r\n").host(), "a");
        assert!(!old("Upgrade: websocket\r\n").wants_upgrade());
        assert!(old("Sec-WebSocket-Key: x\r\n").wants_upgrade());
        assert!(read("GET / HTTP/1.1\r\n\r\n").is_err());
        assert!(read("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n").is_err());
    }

    #[test]
    fn one_empty_line_before_the_request_is_read_over() {
        let mut reader = RequestReader::new(HeadLimits::default());
        let mut src = BytesMut::new();
        let text = b"\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
        for byte in &text[..text.len() - 1] {
            src.extend_from_slice(&[*byte]);
            assert!(reader.read(&mut src).unwrap().is_none());
        }
        src.extend_from_slice(b"\n");
        assert_eq!(reader.read(&mut src).unwrap().unwrap().path(), "/1");
        assert!(read("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").is_err());
        assert!(read("\r").unwrap().is_none());
        assert!(read("\rG").is_err());
    }

    #[test]
    fn a_question_about_the_whole_server_has_a_star() {
        let star = |method: &str| read(format!("{method} * HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(star("OPTIONS").unwrap().unwrap().path(), "*");
        assert!(star("GET").is_err());
    }

    #[test]
    fn other_targets_are_refused() {
        for target in [
            "*",
            "a",
            "a.example:80",
            "ftp://a.example:80/",
            "?a",
            "/a#b",
            "/\u{fc}",
            "/\x7f",
            "/\0",
        ] {
            assert_eq!(get(target).unwrap_err().status(), Status::BadRequest, "{target}");
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let request = read("GET / HTTP/1.1\r\nHost: a\r\nCookie: secret\r\n\r\n").unwrap().unwrap();
        let shown = format!("{request:?}");
        assert!(shown.contains("Cookie") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_reader_can_read_again_after_a_request() {
        let mut reader = RequestReader::new(HeadLimits::default());
        let mut src = BytesMut::from(
            &b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        );
        assert_eq!(reader.read(&mut src).unwrap().unwrap().path(), "/1");
        assert_eq!(reader.read(&mut src).unwrap().unwrap().path(), "/2");
        assert!(src.is_empty());
    }
}
