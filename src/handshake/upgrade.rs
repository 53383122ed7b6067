//! The server's side of RFC 6455 section 4.2: the checks of an upgrade request, and the 101 answer.

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::head::{Head, Single, Span, is_token, span_in, text_of};
use super::refusal::{Refusal, quote};
use super::request::Request;
use super::response::Status;

/// A correct upgrade request, and the answer that it may get.
///
/// ```
/// # use stepcast::handshake::{ClientRequest, HeadLimits, RequestReader, Upgrade};
/// # let sent = ClientRequest::new("localhost:8002", "/")?.encode();
/// # let request = RequestReader::new(HeadLimits::default()).read(&mut sent.into())?.expect("complete");
/// let upgrade = Upgrade::from_request(&request)?; // a request with a right key and version
/// assert!(upgrade.accept(None)?.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Upgrade {
    accept: [u8; 28],
    head: Bytes,
    protocols: Vec<Span>,
}

impl std::fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocols: Vec<&str> = self.offered_protocols().collect();
        f.debug_struct("Upgrade").field("protocols", &protocols).finish_non_exhaustive()
    }
}

/// The error for accepting a subprotocol that the client did not offer.
///
/// ```
/// # use stepcast::handshake::{ClientRequest, HeadLimits, RequestReader, Upgrade};
/// # let sent = ClientRequest::new("localhost:8002", "/")?.encode();
/// # let request = RequestReader::new(HeadLimits::default()).read(&mut sent.into())?.expect("complete");
/// let refused = Upgrade::from_request(&request)?.accept(Some("v9")).unwrap_err();
/// assert!(refused.to_string().starts_with(r#"expected a subprotocol that the client offered, got "v9""#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a subprotocol that the client offered, got {0:?}; accept one of those or none")]
pub struct NotOffered(String);

impl Upgrade {
    /// Checks everything that RFC 6455 section 4.2.1 demands of a client. Offered extensions are
    /// ignored.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader, Status, Upgrade};
    /// let mut received = BytesMut::from(
    ///     "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    ///      Sec-WebSocket-Version: 8\r\n\r\n",
    /// );
    /// # let request = RequestReader::new(HeadLimits::default()).read(&mut received)?.expect("complete");
    /// let refusal = Upgrade::from_request(&request).unwrap_err();
    /// assert_eq!(refusal.status(), Status::UpgradeRequired);
    /// # Ok::<(), stepcast::handshake::Refusal>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - 405: the method is not GET.
    /// - 426: `Sec-WebSocket-Version` is not 13.
    /// - 400: the request is HTTP/1.0.
    /// - 400: `Upgrade` does not name `websocket`, or `Connection` does not name `upgrade`.
    /// - 400: the version or the key is repeated, or the key is not the base64 of 16 bytes.
    /// - 400: an offered subprotocol is not a token.
    pub fn from_request(request: &Request) -> Result<Self, Refusal> {
        if request.is_old() {
            return Err(Refusal::bad_request(
                "expected HTTP/1.1, got HTTP/1.0; a proxy in between has to be told to use 1.1 \
                 (nginx: proxy_http_version 1.1)",
            ));
        }
        if request.method() != "GET" {
            return Err(Refusal::method_not_allowed(request.method()));
        }
        let head = request.head();
        check_list(head, "Upgrade", "websocket")?;
        check_list(head, "Connection", "Upgrade")?;
        check_version(head)?;
        let accept = accept_key(session_key_of(head)?);
        let protocols = protocols_of(head)?;
        // Most offer none.
        let head = if protocols.is_empty() { Bytes::new() } else { head.bytes().clone() };
        Ok(Self { accept, head, protocols })
    }

    /// Returns the subprotocols that the client offers, in its order of preference.
    ///
    /// ```
    /// # use stepcast::handshake::{ClientRequest, HeadLimits, RequestReader, Upgrade};
    /// # let sent = ClientRequest::new("localhost:8002", "/")?.protocol("v2")?.protocol("v1")?.encode();
    /// # let request = RequestReader::new(HeadLimits::default()).read(&mut sent.into())?.expect("complete");
    /// let upgrade = Upgrade::from_request(&request)?; // with Sec-WebSocket-Protocol: v2, v1
    /// let newest_known = upgrade.offered_protocols().find(|offered| ["v1", "v0"].contains(offered));
    /// assert_eq!(newest_known, Some("v1"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn offered_protocols(&self) -> impl Iterator<Item = &str> {
        self.protocols.iter().map(|&span| text_of(&self.head, span))
    }

    /// Returns the whole 101 answer. Bytes after it are frames. `protocol` is one of the offered
    /// subprotocols (compared with case), or `None`.
    ///
    /// # Errors
    ///
    /// [`NotOffered`] if the client did not offer `protocol`, since the client would have to fail
    /// the connection (RFC 6455 section 4.1).
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::handshake::{HeadLimits, RequestReader, Upgrade};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut received = BytesMut::from("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    /// #     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    /// #     Sec-WebSocket-Protocol: chat, superchat\r\n\r\n");
    /// # let request = RequestReader::new(HeadLimits::default()).read(&mut received)?.expect("complete");
    /// let upgrade = Upgrade::from_request(&request)?;
    /// assert!(upgrade.offered_protocols().eq(["chat", "superchat"]));
    /// let answer = upgrade.accept(Some("chat"))?;
    /// assert!(answer.ends_with(b"Sec-WebSocket-Protocol: chat\r\n\r\n"));
    /// assert!(upgrade.accept(Some("gossip")).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn accept(&self, protocol: Option<&str>) -> Result<Bytes, NotOffered> {
        if let Some(protocol) = protocol {
            if !self.offered_protocols().any(|offered| offered == protocol) {
                return Err(NotOffered(protocol.to_owned()));
            }
        }
        let mut out = Vec::with_capacity(160 + protocol.map_or(0, str::len));
        self.put_answer(protocol, &mut out);
        Ok(out.into())
    }

    /// Writes the 101 that accepts this subprotocol, which has been offered, and is a token for that: it cannot end
    /// the line.
    pub(crate) fn put_answer(&self, protocol: Option<&str>, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&self.accept);
        if let Some(protocol) = protocol {
            out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            out.extend_from_slice(protocol.as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// Returns the server's answer to a client's key: the base64 of a SHA-1 over the key's bytes and a
/// fixed GUID (RFC 6455 section 4.2.2).
///
/// ```
/// use stepcast::handshake::accept_key;
///
/// assert_eq!(&accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
pub fn accept_key(key: &[u8]) -> [u8; 28] {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; 28];
    let written = STANDARD.encode_slice(digest, &mut accept);
    debug_assert_eq!(written.ok(), Some(28), "20 bytes are 28 characters");
    accept
}

/// RFC 6455 section 4.2.1, items 3 and 4. Firefox sends `Connection: keep-alive, Upgrade`.
fn check_list(head: &Head, name: &str, element: &str) -> Result<(), Refusal> {
    if head.has_element(name, element) {
        return Ok(());
    }
    let got = match head.first(name) {
        Some(value) => quote(value).to_string(),
        None => "none".to_owned(),
    };
    Err(Refusal::bad_request(format!(
        "expected a {name} header that names {element}, got {got}; a proxy in between has to pass \
         Upgrade and Connection on"
    )))
}

/// RFC 6455 sections 4.2.1 item 6, 4.4, and 11.3.5 (once in a request).
fn check_version(head: &Head) -> Result<(), Refusal> {
    let got = match head.single("Sec-WebSocket-Version") {
        Single::One(b"13") => return Ok(()),
        Single::One(version) => quote(version).to_string(),
        Single::Missing => "none".to_owned(),
        Single::Several => {
            return Err(Refusal::bad_request(
                "expected one Sec-WebSocket-Version header, got several; send one",
            ));
        }
    };
    Err(Refusal::new(
        Status::UpgradeRequired,
        format!("expected a Sec-WebSocket-Version of 13, got {got}; use version 13"),
    ))
}

/// RFC 6455 sections 4.2.1 item 5 and 11.3.1 (once in a request).
fn session_key_of(head: &Head) -> Result<&[u8], Refusal> {
    let got = match head.single("Sec-WebSocket-Key") {
        Single::One(key) if is_key(key) => return Ok(key),
        Single::One(key) => quote(key).to_string(),
        Single::Missing => "none".to_owned(),
        Single::Several => "several".to_owned(),
    };
    Err(Refusal::bad_request(format!(
        "expected one Sec-WebSocket-Key, the base64 of 16 bytes in 24 characters, got {got}"
    )))
}

/// Sixteen bytes, padded. Bits may be left over in the last character, as in the example of RFC 6455
/// (section 4.1, item 7): the key is hashed as text.
fn is_key(key: &[u8]) -> bool {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    let mut bytes = [0; 18];
    key.len() == 24 && LENIENT.decode_slice(key, &mut bytes) == Ok(16)
}

/// RFC 6455 section 11.3.4: one list over any number of lines.
fn protocols_of(head: &Head) -> Result<Vec<Span>, Refusal> {
    head.elements("Sec-WebSocket-Protocol")
        .map(|protocol| {
            if is_token(protocol) {
                return Ok(span_in(head.bytes(), protocol));
            }
            let got = quote(protocol);
            Err(Refusal::bad_request(format!(
                "expected a Sec-WebSocket-Protocol of names and commas, got {got}"
            )))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_base64_of_sixteen_bytes() {
        assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(is_key(b"AAAAAAAAAAAAAAAAAAAAAA=="));
        assert!(is_key(b"AQIDBAUGBwgJCgsMDQ4PEC=="), "RFC 6455, section 4.1");
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZSE=",
            "dGhlIHNhbXBsZSBub25jZSEh",
            "dGhlIHNhbXBsZSBub25jZ===",
            "dGhlIHNhbXBsZSBub25j-_==",
            "dGhlIHNhbXBsZSBub25jZQ== ",
            "dGhlIHNhbXBsZSBub25 ZQ==",
            "dGhlIHNhbXBsZSBub25jZSBub25jZQ==",
        ] {
            assert!(!is_key(key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn the_key_is_hashed_as_it_is() {
        assert_ne!(
            accept_key(b"dGhlIHNhbXBsZSBub25jZQ== "),
            accept_key(b"dGhlIHNhbXBsZSBub25jZQ==")
        );
    }
}
