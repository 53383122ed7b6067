//! The client's request (RFC 6455 section 4.1), and the errors of a handshake on the client's side.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};

use super::head::{is_field_value, is_token};
use super::host::{Authority, Origin};
use super::refusal::one_line;
use super::response::put;

/// The reason why a client's handshake failed.
///
/// ```
/// use bytes::BytesMut;
/// use stepcast::handshake::{ClientRequest, HandshakeError, HeadLimits, Refusal, ResponseReader};
///
/// # fn main() -> Result<(), HandshakeError> {
/// let request = ClientRequest::new("localhost:8002", "/")?;
/// let mut received = BytesMut::from(&Refusal::full("clients", 100).response()[..]);
/// let answer = ResponseReader::new(&request, HeadLimits::default()).read(&mut received);
/// assert!(matches!(answer, Err(HandshakeError::Refused { status: 503, .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// A part of the request cannot be written.
    #[error("expected {expected} as the {part} of a request, got {got:?}")]
    InvalidRequest {
        /// The part, such as `"host"`.
        part: &'static str,
        /// The expected form.
        expected: &'static str,
        /// The value that was given.
        got: String,
    },
    /// The operating system has no random bytes for the key.
    #[error("expected random bytes from the operating system, got an error: {0}")]
    Random(String),
    /// The server answered with a status other than 101.
    #[error("expected the server to upgrade, got {status}: {}", one_line(body.trim_end().into()))]
    Refused {
        /// The answer's status code.
        status: u16,
        /// The beginning of the answer's body, at most 1 KiB, with bytes that are not UTF-8
        /// replaced. It is empty if the body is chunked. The text is as the server sent it;
        /// `Display` shows it as one escaped line.
        body: String,
    },
    /// The server's answer is larger than the limits.
    #[error("expected an answer of at most {bytes} bytes and {headers} headers, got more")]
    TooLarge {
        /// The limit in bytes.
        bytes: usize,
        /// The limit on header lines.
        headers: usize,
    },
    /// The server's answer is not HTTP/1.1.
    #[error("expected an HTTP/1.1 answer, got {0}")]
    Malformed(String),
    /// The server's 101 does not complete the upgrade (RFC 6455 section 4.1).
    #[error("expected a 101 answer with {expected}, got {got}")]
    NotWebSocket {
        /// The expected part of the answer.
        expected: &'static str,
        /// The received value, escaped and cut.
        got: String,
    },
    /// The connection ended before the answer was complete.
    #[error("expected an answer, got the end of the connection")]
    Closed,
}

/// An upgrade request with its own key. Every part is validated when it is added.
///
/// ```
/// use stepcast::handshake::{ClientRequest, HeadLimits, ResponseReader};
///
/// # fn main() -> Result<(), stepcast::handshake::HandshakeError> {
/// let request = ClientRequest::new("localhost:8002", "/feed/run")?
///     .protocol("stepcast.v1")?
///     .header("Cookie", "a=b")?;
/// let bytes = request.encode(); // to be sent
/// assert!(bytes.starts_with(b"GET /feed/run HTTP/1.1\r\nHost: localhost:8002\r\n"));
/// let reader = ResponseReader::new(&request, HeadLimits::default()); // for the answer
/// # let _ = reader;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ClientRequest {
    host: String,
    target: String,
    origin: Option<String>,
    headers: Vec<(String, String)>,
    protocols: Vec<String>,
    key: String,
}

/// Shows no header's value: credentials are among them.
impl std::fmt::Debug for ClientRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ClientRequest")
            .field("host", &self.host)
            .field("target", &self.target)
            .field("origin", &self.origin)
            .field("headers", &headers)
            .field("protocols", &self.protocols)
            .finish_non_exhaustive()
    }
}

impl ClientRequest {
    /// Makes a request to `host` (`name`, `name:port`, `[::1]:8002`) for `target` (path and query,
    /// percent-escaped).
    ///
    /// ```
    /// # use stepcast::handshake::ClientRequest;
    /// assert!(ClientRequest::new("localhost:8002", "/feed?run=7").is_ok());
    /// assert!(ClientRequest::new("ws://localhost:8002", "/").is_err()); // a host, not a URL
    /// assert!(ClientRequest::new("localhost:8002", "feed").is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// [`HandshakeError::InvalidRequest`] if `host` is not a host, or if `target` does not begin
    /// with `/`, has a fragment or is not printable ASCII. [`HandshakeError::Random`] if the system
    /// gave no random bytes for the key.
    pub fn new(host: &str, target: &str) -> Result<Self, HandshakeError> {
        let is_host = Authority::parse(host.as_bytes()).is_some();
        check(is_host, "host", "a name or an address with or without a port", host)?;
        let printable = target.bytes().all(|byte| (b'!'..=b'~').contains(&byte) && byte != b'#');
        let is_target = printable && target.starts_with('/');
        check(is_target, "target", "printable ASCII that begins with / and has no #", target)?;
        Ok(Self {
            host: host.to_owned(),
            target: target.to_owned(),
            origin: None,
            headers: Vec::new(),
            protocols: Vec::new(),
            key: new_key()?,
        })
    }

    /// Sets the origin of the page that connects, as a browser would send it: `scheme://host:port`
    /// or `null`. Default: none.
    ///
    /// ```
    /// # use stepcast::handshake::ClientRequest;
    /// let request = ClientRequest::new("localhost:8002", "/")?.origin("http://localhost:3000")?;
    /// assert!(request.encode().ends_with(b"\r\nOrigin: http://localhost:3000\r\n\r\n"));
    /// assert!(request.origin("localhost:3000").is_err()); // no scheme
    /// # Ok::<(), stepcast::handshake::HandshakeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HandshakeError::InvalidRequest`] for any other form.
    pub fn origin(mut self, origin: &str) -> Result<Self, HandshakeError> {
        let valid = origin == "null" || Origin::parse(origin.as_bytes()).is_some();
        check(valid, "origin", "scheme://host:port or null", origin)?;
        self.origin = Some(origin.to_owned());
        Ok(self)
    }

    /// Adds a header, such as `Cookie` or `Authorization`.
    ///
    /// ```
    /// # use stepcast::handshake::ClientRequest;
    /// let request = ClientRequest::new("localhost:8002", "/")?.header("Cookie", "run=7")?;
    /// assert!(request.encode().ends_with(b"\r\nCookie: run=7\r\n\r\n"));
    /// assert!(request.header("X-Run", "7\r\nHost: evil.example").is_err());
    /// # Ok::<(), stepcast::handshake::HandshakeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HandshakeError::InvalidRequest`] if the name is not a token, if the handshake writes this
    /// header itself, or if the value has control characters other than a tab.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, HandshakeError> {
        check(is_token(name.as_bytes()), "header name", "a token", name)?;
        let free = !is_written_here(name);
        check(free, "header name", "one that the handshake does not write itself", name)?;
        let valid = is_field_value(value.as_bytes());
        check(valid, "header value", "text without control characters", value)?;
        self.headers.push((name.to_owned(), value.to_owned()));
        Ok(self)
    }

    /// Offers a further subprotocol, after those already offered.
    ///
    /// ```
    /// # use stepcast::handshake::ClientRequest;
    /// let request = ClientRequest::new("localhost:8002", "/")?.protocol("v2")?.protocol("v1")?;
    /// assert!(request.encode().ends_with(b"\r\nSec-WebSocket-Protocol: v2, v1\r\n\r\n"));
    /// # Ok::<(), stepcast::handshake::HandshakeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HandshakeError::InvalidRequest`] if the subprotocol is not a token, or is already offered
    /// (RFC 6455 section 4.1 item 10).
    pub fn protocol(mut self, protocol: &str) -> Result<Self, HandshakeError> {
        let new = !self.protocols.iter().any(|offered| offered == protocol);
        let valid = new && is_token(protocol.as_bytes());
        check(valid, "subprotocol", "a token that is not offered yet", protocol)?;
        self.protocols.push(protocol.to_owned());
        Ok(self)
    }

    /// Returns the whole request. Frames may follow once the answer has been read.
    ///
    /// ```
    /// # use stepcast::handshake::ClientRequest;
    /// let request = ClientRequest::new("[::1]:8002", "/feed")?;
    /// assert!(request.encode().starts_with(b"GET /feed HTTP/1.1\r\nHost: [::1]:8002\r\n"));
    /// # Ok::<(), stepcast::handshake::HandshakeError>(())
    /// ```
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(256);
        put(&mut out, &["GET ", &self.target, " HTTP/1.1\r\nHost: ", &self.host, "\r\n"]);
        put(
            &mut out,
            &["Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"],
        );
        put(&mut out, &["Sec-WebSocket-Key: ", &self.key, "\r\n"]);
        if !self.protocols.is_empty() {
            put(&mut out, &["Sec-WebSocket-Protocol: ", &self.protocols.join(", "), "\r\n"]);
        }
        if let Some(origin) = &self.origin {
            put(&mut out, &["Origin: ", origin, "\r\n"]);
        }
        for (name, value) in &self.headers {
            put(&mut out, &[name, ": ", value, "\r\n"]);
        }
        put(&mut out, &["\r\n"]);
        out.freeze()
    }

    /// Returns the value of `Sec-WebSocket-Key`: 16 random bytes as 24 characters of base64.
    ///
    /// ```
    /// # use stepcast::handshake::ClientRequest;
    /// let one = ClientRequest::new("localhost:8002", "/")?;
    /// let other = ClientRequest::new("localhost:8002", "/")?;
    /// assert_eq!(one.key().len(), 24);
    /// assert_ne!(one.key(), other.key());
    /// # Ok::<(), stepcast::handshake::HandshakeError>(())
    /// ```
    pub fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn protocols(&self) -> &[String] {
        &self.protocols
    }
}

fn check(
    valid: bool,
    part: &'static str,
    expected: &'static str,
    got: &str,
) -> Result<(), HandshakeError> {
    if valid {
        return Ok(());
    }
    Err(HandshakeError::InvalidRequest { part, expected, got: got.to_owned() })
}

fn is_written_here(name: &str) -> bool {
    const WRITTEN: [&str; 6] =
        ["Host", "Upgrade", "Connection", "Origin", "Content-Length", "Transfer-Encoding"];
    let prefix = name.as_bytes().get(..14).unwrap_or_default();
    WRITTEN.iter().any(|written| written.eq_ignore_ascii_case(name))
        || prefix.eq_ignore_ascii_case(b"Sec-WebSocket-")
}

/// RFC 6455 section 4.1 item 7: a nonce of 16 random bytes, selected randomly for each connection.
fn new_key() -> Result<String, HandshakeError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| HandshakeError::Random(error.to_string()))?;
    Ok(STANDARD.encode(nonce))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> ClientRequest {
        ClientRequest::new("localhost", "/").unwrap()
    }

    #[test]
    fn a_request_has_what_the_rfc_asks_for_and_what_was_added() {
        let request = ClientRequest::new("[::1]:8002", "/a?b=%20")
            .and_then(|request| request.origin("http://localhost:3000"))
            .and_then(|request| request.protocol("a"))
            .and_then(|request| request.protocol("b"))
            .and_then(|request| request.header("Cookie", "c=d"))
            .unwrap();
        let expected = format!(
            "GET /a?b=%20 HTTP/1.1\r\nHost: [::1]:8002\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\nSec-WebSocket-Protocol: a, b\r\n\
             Origin: http://localhost:3000\r\nCookie: c=d\r\n\r\n",
            request.key()
        );
        assert_eq!(request.encode(), expected);
    }

    #[test]
    fn nothing_that_could_end_a_line_gets_into_a_request() {
        for bad in ["a\r\nb", "a\nb", "a\rb", "a\0b"] {
            assert!(ClientRequest::new(bad, "/").is_err());
            assert!(ClientRequest::new("a", &format!("/{bad}")).is_err());
            assert!(request().origin(&format!("http://{bad}")).is_err());
            assert!(request().header(bad, "a").is_err());
            assert!(request().header("a", bad).is_err());
            assert!(request().protocol(bad).is_err());
        }
    }

    #[test]
    fn a_target_is_a_path() {
        for bad in ["", "a", "*", "/a b", "/a#b", "/\u{fc}", "http://localhost/"] {
            assert!(ClientRequest::new("localhost", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_the_handshake_writes_cannot_be_written_twice() {
        for name in
            ["host", "UPGRADE", "Connection", "origin", "content-length", "sec-websocket-key"]
        {
            assert!(request().header(name, "a").is_err(), "{name}");
        }
        assert!(request().protocol("a").unwrap().protocol("a").is_err());
        assert!(request().protocol("a").unwrap().protocol("A").is_ok());
        assert!(request().protocol("").is_err());
        assert!(request().protocol("a,b").is_err());
    }

    #[test]
    fn every_request_has_its_own_key_of_sixteen_bytes() {
        let (one, two) = (request(), request());
        assert_ne!(one.key(), two.key());
        assert_eq!(STANDARD.decode(one.key()).unwrap().len(), 16);
    }

    #[test]
    fn debug_shows_no_value() {
        let request = request().header("Authorization", "secret").unwrap();
        assert!(!format!("{request:?}").contains("secret"));
    }
}
