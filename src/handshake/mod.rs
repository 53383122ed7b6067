//! The HTTP/1.1 upgrade that turns a TCP connection into a WebSocket (RFC 6455 section 4), as bytes in
//! and bytes out, for both sides. It stands beside the codec: this module reads and writes everything
//! up to the blank line, the codec everything after it. There is no socket, clock or task in here.
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
//! - [`RequestReader`] waits for the blank line, looking at every byte once, and parses once. What follows the
//!   head (frames of a client that did not wait) stays in the buffer.
//! - A [`Request`] that exists is sound HTTP/1.1: one valid `Host`, a target that names a path, no body.
//! - [`Rules`] keeps other people's pages and other people's names out. It applies to pages too.
//! - [`Upgrade`] is a request in which every detail of RFC 6455 section 4.2.1 is right.
//! - Whatever is wrong is a [`Refusal`]: a whole HTTP answer whose one line says what was expected, what came and
//!   what to do. The connection is closed after it; a reader that has refused is not to be used again.
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
//! A [`ClientRequest`] encodes the request, a [`ResponseReader`] made from it reads and verifies the answer, and
//! what went wrong is a [`HandshakeError`].
//!
//! # What was decided where the RFCs leave a choice
//!
//! - HTTP/1.0 gets pages, also without a `Host`: proxies ask so for a server's health. An upgrade in it is refused
//!   with 400 (not 505, which is about the *major* version, RFC 9110 section 15.6.6).
//! - A line ends with CR LF; a bare LF is refused, since servers that differ in what ends a line can be played off
//!   against each other. One empty line before the request is read over (RFC 9112 section 2.2).
//! - A target in absolute form (`GET http://host/path HTTP/1.1`) is accepted, and its host counts instead of `Host`
//!   (RFC 9112 section 3.2.2). Any other target starts with `/`, or is `*` with `OPTIONS`.
//! - Request bodies are never read, and what follows the head are frames: `Content-Length` above 0 is 413, any
//!   `Transfer-Encoding` 400.
//! - A key may have bits left over in its last character, as the example in RFC 6455 has: it is hashed as text.
//! - An empty `Origin` is none, since no browser sends one.
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
pub(crate) use response::{ALLOWED, http_head};
pub use response::{InvalidHeader, Status, http_response};
pub use rules::Rules;
pub(crate) use rules::machine_name;
pub use upgrade::{NotOffered, Upgrade, accept_key};
