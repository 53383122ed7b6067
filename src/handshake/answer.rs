//! The server's answer as the client reads it: RFC 6455 section 4.1, from "The client MUST
//! validate".

use std::str::from_utf8;

use bytes::{Buf, Bytes, BytesMut};

use super::client::{ClientRequest, HandshakeError};
use super::head::{Head, HeadFault, HeadLimits, Scanner, Single, Span, span_in, spans_of};
use super::refusal::quote;
use super::upgrade::accept_key;

/// The most of a refusal's body that is waited for, in bytes.
const LONGEST_BODY: usize = 1024;

/// The most interim answers (1xx other than 101) that are read over.
const MOST_INTERIM: u8 = 4;

/// A reader of the answer to one [`ClientRequest`], from a buffer that grows as bytes arrive.
///
/// The reader verifies the answer, and looks at each byte of the head once, under the same limits
/// as a request. After a refusal it waits for the beginning of the server's text.
///
/// ```
/// use bytes::BytesMut;
/// use stepcast::handshake::{ClientRequest, HandshakeError, HeadLimits, ResponseReader, accept_key};
///
/// # fn main() -> Result<(), HandshakeError> {
/// let request = ClientRequest::new("localhost:8002", "/")?;
/// let mut reader = ResponseReader::new(&request, HeadLimits::default());
/// let mut received = BytesMut::from("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n");
/// assert!(reader.read(&mut received)?.is_none());
/// received.extend_from_slice(b"Connection: Upgrade\r\nSec-WebSocket-Accept: ");
/// received.extend_from_slice(&accept_key(request.key().as_bytes()));
/// received.extend_from_slice(b"\r\n\r\n and frames");
/// let accepted = reader.read(&mut received)?.expect("the blank line has arrived");
/// assert_eq!(accepted.protocol(), None);
/// assert_eq!(received, " and frames");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ResponseReader {
    scanner: Scanner,
    accept: [u8; 28],
    offered: Vec<String>,
    interim: u8,
    refused: Option<Refused>,
}

/// A refusal whose body is still arriving.
#[derive(Clone, Copy, Debug)]
struct Refused {
    status: u16,
    /// How many bytes of body to wait for.
    wanted: usize,
}

/// A server's 101 answer that completes the upgrade. Bytes after it are frames.
///
/// ```
/// # use bytes::BytesMut;
/// # use stepcast::handshake::{ClientRequest, HeadLimits, RequestReader, ResponseReader, Upgrade};
/// let request = ClientRequest::new("localhost:8002", "/")?.protocol("stepcast.v1")?;
/// # let sent = RequestReader::new(HeadLimits::default()).read(&mut request.encode().into())?;
/// # let answer = Upgrade::from_request(&sent.expect("complete"))?.accept(Some("stepcast.v1"))?;
/// # let mut received = BytesMut::from(answer);
/// let mut reader = ResponseReader::new(&request, HeadLimits::default());
/// let accepted = reader.read(&mut received)?.expect("the server has answered");
/// assert_eq!(accepted.protocol(), Some("stepcast.v1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Accepted {
    head: Head,
    protocol: Option<Span>,
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accepted").field("protocol", &self.protocol()).finish_non_exhaustive()
    }
}

impl Accepted {
    /// Returns the subprotocol that the server chose from those offered, or `None`.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{ClientRequest, HeadLimits, RequestReader, ResponseReader, Upgrade};
    /// let request = ClientRequest::new("localhost:8002", "/")?.protocol("v2")?.protocol("v1")?;
    /// # let sent = RequestReader::new(HeadLimits::default()).read(&mut request.encode().into())?;
    /// # let answer = Upgrade::from_request(&sent.expect("complete"))?.accept(Some("v1"))?;
    /// # let mut received = BytesMut::from(answer);
    /// # let mut reader = ResponseReader::new(&request, HeadLimits::default());
    /// # let accepted = reader.read(&mut received)?.expect("the server has answered");
    /// // The server knows the older one only.
    /// assert_eq!(accepted.protocol(), Some("v1"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.map(|span| self.head.text(span))
    }

    /// Returns the value of the first header with this name, ASCII case ignored.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{ClientRequest, HeadLimits, RequestReader, ResponseReader, Upgrade};
    /// # let request = ClientRequest::new("localhost:8002", "/")?;
    /// # let sent = RequestReader::new(HeadLimits::default()).read(&mut request.encode().into())?;
    /// # let answer = Upgrade::from_request(&sent.expect("complete"))?.accept(None)?;
    /// # let mut received = BytesMut::from(answer);
    /// # let mut reader = ResponseReader::new(&request, HeadLimits::default());
    /// # let accepted = reader.read(&mut received)?.expect("the server has answered");
    /// assert_eq!(accepted.header("upgrade"), Some(b"websocket".as_slice()));
    /// assert_eq!(accepted.header("Set-Cookie"), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.head.first(name)
    }
}

impl ResponseReader {
    /// Makes a reader of the answer to `request`.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{ClientRequest, HandshakeError, HeadLimits, ResponseReader};
    /// # let request = ClientRequest::new("localhost:8002", "/")?;
    /// let mut reader = ResponseReader::new(&request, HeadLimits::default().bytes(32));
    /// let mut received = BytesMut::from("HTTP/1.1 101 Switching Protocols\r\nServer: a");
    /// assert!(matches!(reader.read(&mut received), Err(HandshakeError::TooLarge { bytes: 32, .. })));
    /// # Ok::<(), stepcast::handshake::HandshakeError>(())
    /// ```
    pub fn new(request: &ClientRequest, limits: HeadLimits) -> Self {
        Self {
            scanner: Scanner::new(limits),
            accept: accept_key(request.key().as_bytes()),
            offered: request.protocols().to_vec(),
            interim: 0,
            refused: None,
        }
    }

    /// Reads the bytes that were added to `src` since the last call.
    ///
    /// Returns `None` if the answer is incomplete. Then call again with the same buffer and more
    /// bytes in it, or call [`eof`](Self::eof) if there will be none. A complete head is removed
    /// from `src`; bytes after a 101 stay.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{ClientRequest, HandshakeError, HeadLimits, ResponseReader};
    /// # let request = ClientRequest::new("localhost:8002", "/")?;
    /// let mut reader = ResponseReader::new(&request, HeadLimits::default());
    /// let mut received = BytesMut::from("HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nno feed");
    /// let refused = HandshakeError::Refused { status: 404, body: "no feed".to_owned() };
    /// assert_eq!(reader.read(&mut received).err(), Some(refused));
    /// # Ok::<(), stepcast::handshake::HandshakeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`HandshakeError::Refused`]: a status other than 101. Up to four interim answers (100 to
    ///   199) before it are skipped.
    /// - [`HandshakeError::TooLarge`], [`HandshakeError::Malformed`]: not an HTTP/1.1 answer within
    ///   the limits, or one interim answer too many.
    /// - [`HandshakeError::NotWebSocket`]: `Upgrade`, `Connection` or `Sec-WebSocket-Accept` is
    ///   wrong, or the server chose a subprotocol that was not offered, or an extension (none is
    ///   ever offered).
    pub fn read(&mut self, src: &mut BytesMut) -> Result<Option<Accepted>, HandshakeError> {
        loop {
            if let Some(refused) = self.refused {
                return if src.len() < refused.wanted { Ok(None) } else { Err(refused.error(src)) };
            }
            let Some((status, head)) = self.read_head(src)? else {
                return Ok(None);
            };
            match status {
                101 => return self.verify(head).map(Some),
                // RFC 9110 section 15.2: any number of them may come before the answer.
                100..200 if self.interim < MOST_INTERIM => self.interim += 1,
                100..200 => {
                    return Err(HandshakeError::Malformed("too many interim answers".into()));
                }
                _ => self.refused = Some(Refused { status, wanted: body_length(status, &head) }),
            }
        }
    }

    /// Returns the error for a connection that ended while [`read`](Self::read) returned `None`: a
    /// refusal with the received part of its body, or [`HandshakeError::Closed`].
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use stepcast::handshake::{ClientRequest, HandshakeError, HeadLimits, ResponseReader};
    ///
    /// # fn main() -> Result<(), HandshakeError> {
    /// let request = ClientRequest::new("localhost:8002", "/")?;
    /// let mut reader = ResponseReader::new(&request, HeadLimits::default());
    /// let mut received = BytesMut::from("HTTP/1.1 101 Swi");
    /// assert!(reader.read(&mut received)?.is_none());
    /// assert_eq!(reader.eof(&mut received), HandshakeError::Closed);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn eof(&mut self, src: &mut BytesMut) -> HandshakeError {
        self.refused.map_or(HandshakeError::Closed, |refused| refused.error(src))
    }

    fn read_head(&mut self, src: &mut BytesMut) -> Result<Option<(u16, Head)>, HandshakeError> {
        let beginning = &src[..src.len().min(7)];
        if !b"HTTP/1.".starts_with(beginning) {
            return Err(HandshakeError::Malformed(quote(beginning).to_string()));
        }
        let limits = self.scanner.limits();
        let Some(length) = self.scanner.scan(src).map_err(|fault| explain(fault, limits))? else {
            return Ok(None);
        };
        let bytes = Bytes::copy_from_slice(&src[..length]);
        src.advance(length);
        let headers = self.scanner.headers();
        self.scanner = Scanner::new(limits);
        parse(bytes, headers).map(Some)
    }

    fn verify(&self, head: Head) -> Result<Accepted, HandshakeError> {
        let mut upgrades = head.elements("Upgrade");
        let upgrade = (upgrades.next(), upgrades.next());
        if !matches!(upgrade, (Some(value), None) if value.eq_ignore_ascii_case(b"websocket")) {
            return Err(not_websocket("Upgrade: websocket", head.first("Upgrade")));
        }
        drop(upgrades);
        if !head.has_element("Connection", "Upgrade") {
            return Err(not_websocket("Connection: Upgrade", head.first("Connection")));
        }
        if !matches!(head.single("Sec-WebSocket-Accept"), Single::One(value) if value == self.accept)
        {
            let got = head.first("Sec-WebSocket-Accept");
            return Err(not_websocket("one Sec-WebSocket-Accept for the key that was sent", got));
        }
        if let Some(extension) = head.first("Sec-WebSocket-Extensions") {
            return Err(not_websocket("no extension, since none was offered", Some(extension)));
        }
        let protocol = match head.single("Sec-WebSocket-Protocol") {
            Single::Missing => None,
            Single::One(value) if self.offered.iter().any(|one| one.as_bytes() == value) => {
                Some(span_in(head.bytes(), value))
            }
            Single::One(value) => {
                return Err(not_websocket("a subprotocol that was offered", Some(value)));
            }
            Single::Several => {
                return Err(HandshakeError::NotWebSocket {
                    expected: "one subprotocol",
                    got: "several".to_owned(),
                });
            }
        };
        Ok(Accepted { head, protocol })
    }
}

impl Refused {
    fn error(self, src: &mut BytesMut) -> HandshakeError {
        let body = src.split_to(src.len().min(self.wanted));
        let body = String::from_utf8_lossy(&body).into_owned();
        HandshakeError::Refused { status: self.status, body }
    }
}

/// How much of a refusal's body to wait for. Chunks are not taken apart: the status says enough.
fn body_length(status: u16, head: &Head) -> usize {
    if matches!(status, 204 | 304) || head.first("Transfer-Encoding").is_some() {
        return 0;
    }
    let announced = head.first("Content-Length").and_then(|value| from_utf8(value).ok());
    // Without a length it ends with the connection.
    announced.and_then(|length| length.parse().ok()).unwrap_or(LONGEST_BODY).min(LONGEST_BODY)
}

fn parse(bytes: Bytes, headers: usize) -> Result<(u16, Head), HandshakeError> {
    let mut fields = vec![httparse::EMPTY_HEADER; headers];
    let mut parsed = httparse::Response::new(&mut fields);
    let complete = match parsed.parse(&bytes) {
        Ok(httparse::Status::Complete(length)) => length == bytes.len(),
        Ok(httparse::Status::Partial) => false,
        Err(error) => return Err(HandshakeError::Malformed(format!("an {error}"))),
    };
    // A refusal may come from an old proxy; an upgrade is HTTP/1.1 (RFC 9110 section 7.8).
    if (parsed.version, parsed.code) == (Some(0), Some(101)) {
        return Err(HandshakeError::Malformed("a 101 of HTTP/1.0".into()));
    }
    let (true, Some(status)) = (complete, parsed.code) else {
        return Err(HandshakeError::Malformed("an end before the blank line".into()));
    };
    let fields = spans_of(&bytes, parsed.headers);
    let head = Head::new(bytes, fields);
    Ok((status, head))
}

fn explain(fault: HeadFault, limits: HeadLimits) -> HandshakeError {
    match fault {
        HeadFault::TooLong | HeadFault::TooManyHeaders => {
            HandshakeError::TooLarge { bytes: limits.bytes, headers: limits.headers }
        }
        HeadFault::BareLineFeed => HandshakeError::Malformed("a line feed on its own".into()),
    }
}

fn not_websocket(expected: &'static str, got: Option<&[u8]>) -> HandshakeError {
    let got = got.map_or_else(|| "none".to_owned(), |value| quote(value).to_string());
    HandshakeError::NotWebSocket { expected, got }
}
