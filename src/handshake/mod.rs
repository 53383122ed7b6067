//! The HTTP/1.1 upgrade that turns a TCP connection into a WebSocket (RFC 6455 section 4), for both
//! sides.
//!
//! The module takes bytes and returns bytes, without socket, clock or task. It reads and writes
//! everything up to the blank line; [`codec`](crate::codec) does everything after it.
//!
//! # Server
//!
//! ```text
//!  bytes ──> RequestReader ──> Request ──> Rules::check ──┬─ wants_upgrade ──> Upgrade ──> accept: the 101
//!                │                             │          │                       │
//!                │ 400 413 431                 │ 400 403  └─ otherwise: a page    │ 400 405 426
//!                └───────────── Refusal ───────┴─ (http_response, Refusal) ───────┘
//! ```
//!
//! - [`RequestReader`] waits for the blank line, looks at every byte once, and parses once. Bytes
//!   after the head (frames of a client that did not wait) stay in the buffer.
//! - A [`Request`] is always sound HTTP/1.1: it has one valid `Host`, a target that names a path,
//!   and no body.
//! - [`Rules`] keeps foreign pages and foreign host names out. It applies to pages too.
//! - [`Upgrade`] is a request that meets every detail of RFC 6455 section 4.2.1.
//! - A [`Refusal`] is a whole HTTP answer. Its one line says what was expected, what came and what
//!   to do. The server closes the connection after it. A reader that has refused must not be used
//!   again.
//!
//! ```
//! use bytes::BytesMut;
//! use stepcast::handshake::{HeadLimits, Refusal, RequestReader, Rules, Upgrade};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut received = BytesMut::from(
//!     "GET /feed/run HTTP/1.1\r\nHost: localhost:8002\r\nConnection: keep-alive, Upgrade\r\n\
//!      Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
//!      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
//! );
//! let mut reader = RequestReader::new(HeadLimits::default());
//! let request = reader.read(&mut received)?.expect("the blank line is there");
//! Rules::default().check(&request)?;
//! assert_eq!(request.path(), "/feed/run");
//!
//! let upgrade = Upgrade::from_request(&request)?;
//! let answer = upgrade.accept(None)?;
//! assert!(answer.starts_with(b"HTTP/1.1 101 "));
//! # Ok(())
//! # }
//! ```
//!
//! # Client
//!
//! A [`ClientRequest`] encodes the request. A [`ResponseReader`] made from it reads and verifies
//! the answer. A [`HandshakeError`] describes a failure.
//!
//! # Choices where the RFCs allow several
//!
//! - HTTP/1.0 gets pages, even without a `Host`: proxies use it to check a server's health. An
//!   upgrade in HTTP/1.0 is refused with 400 (not 505, which is about the *major* version, RFC 9110
//!   section 15.6.6).
//! - A line ends with CR LF, and a bare LF is refused. Servers that differ in their line ends can
//!   be played off against each other. One empty line before the request is skipped (RFC 9112
//!   section 2.2).
//! - A target in absolute form (`GET http://host/path HTTP/1.1`) is accepted, and its host counts
//!   instead of `Host` (RFC 9112 section 3.2.2). Any other target starts with `/`, or is `*` with
//!   `OPTIONS`.
//! - Request bodies are never read, and bytes after the head are frames. `Content-Length` above 0
//!   is refused with 413, any `Transfer-Encoding` with 400.
//! - A key may have bits left over in its last character, as the example in RFC 6455 has. The key
//!   is hashed as text.
//! - An empty `Origin` counts as none, since no browser sends one.
//! - No extension is ever agreed to.

mod answer;
mod client;
mod head;
mod host;
mod refusal;
mod request;
mod response;
mod rules;
mod upgrade;

pub use answer::{Accepted, ResponseReader};
pub use client::{ClientRequest, HandshakeError};
pub use head::HeadLimits;
pub use refusal::Refusal;
pub use request::{Request, RequestReader};
pub(crate) use response::{ALLOWED, http_head, http_head_of_stream};
pub use response::{InvalidHeader, Status, http_response};
pub use rules::Rules;
pub(crate) use rules::machine_name;
pub use upgrade::{NotOffered, Upgrade, accept_key};
