//! WebSocket framing, [RFC 6455]: bytes to frames, frames to messages, and back.
//!
//! The codec has no hub, no HTTP and no I/O. It starts after the opening handshake, with the bytes
//! of a stream in a [`BytesMut`](bytes::BytesMut), and validates them. The caller decides what to
//! answer, when to close and when to give up. It gets each ping and close, and [`Control::reply`]
//! returns the answer that the protocol demands.
//!
//! Two codecs, one on top of the other, implement [`Decoder`] and [`Encoder`] of `tokio_util`. So
//! they work in a [`Framed`] over any reader and writer:
//!
//! - [`MessageCodec`]: whole messages and control frames. Most programs use this one.
//! - [`FrameCodec`]: single frames, for programs that need the fragments.
//!
//! To send one message to many clients, [`server_frame`] encodes it once into bytes that any number
//! of connections share. A server's frames are not masked, so they are the same for all.
//! connections can share: a server's frames are not masked, so they are the same for all.
//!
//! ```
//! use bytes::BytesMut;
//! use stepcast::codec::{Incoming, FrameLimits, Message, MessageCodec, Role};
//! use tokio_util::codec::{Decoder, Encoder};
//!
//! let mut browser = MessageCodec::new(Role::Client, FrameLimits::default());
//! let mut server = MessageCodec::new(Role::Server, FrameLimits::default());
//!
//! let mut wire = BytesMut::new();
//! browser.encode(Message::from("start"), &mut wire)?;
//! let got = server.decode(&mut wire)?;
//! assert_eq!(got, Some(Incoming::Message(Message::from("start"))));
//! # Ok::<(), stepcast::codec::CodecError>(())
//! ```
//!
//! # The contract of `decode`
//!
//! `decode` takes complete data from the front of the buffer, and is then in one of these states:
//!
//! | state | what has come | `decode` returns | left in the buffer |
//! |---|---|---|---|
//! | between frames | nothing, or part of a header | `None`, or the error that this part already proves | those header bytes |
//! | in a frame | a header, part of the payload | `None`, or an error | the payload so far, unmasked in place |
//! | in a message | fragments, the last one not final | `None` | as in the two rows above |
//! | whole | the last byte of a message or a control frame | `Some` | what follows it |
//! | failed | a violation | the error, then [`CodecError::AfterError`] for ever | unspecified |
//!
//! The bytes left in the buffer belong to the codec's state. At the next call they must be there,
//! unchanged, with new bytes behind them. They may move to another buffer in between.
//!
//! *Early refusal.* A violation is reported at the byte that proves it. An illegal first byte needs
//! no second byte. A length above the limit needs neither the masking key nor any payload. Bad
//! UTF-8 is reported inside an incomplete frame.
//!
//! *Memory.* Memory grows with the received bytes, never with a length that a peer merely declared.
//! `decode` asks the buffer for no more than the frame lacks, and for at most twice the received
//! part (except for a first 1 KiB).
//!
//! *Copies.* The payload of an unfragmented frame stays where it was received, and shares its
//! memory with its neighbours in the receive buffer. To keep a small message for long, copy it.
//! Fragments are copied once, into their message.
//!
//! *Errors* are final. [`CodecError::close_code`] returns the status code to close with.
//!
//! [RFC 6455]: https://www.rfc-editor.org/rfc/rfc6455
//! [`Decoder`]: tokio_util::codec::Decoder
//! [`Encoder`]: tokio_util::codec::Encoder
//! [`Framed`]: tokio_util::codec::Framed

mod assembly;
mod close;
mod control;
mod encode;
mod error;
mod frame;
mod header;
mod json;
mod limits;
mod mask;
mod message;
mod role;
mod text;
mod utf8;

pub use assembly::MessageCodec;
pub use close::{CloseCode, CloseFrame};
pub use control::{Control, ControlPayload, ControlPayloadTooLong};
pub use encode::{FrameHeader, server_control, server_frame};
pub use error::CodecError;
pub use frame::{Frame, FrameCodec};
pub use header::OpCode;
pub use json::Json;
pub use limits::FrameLimits;
pub(crate) use message::Kind;
pub use message::{Incoming, Message};
pub use role::Role;
pub use text::{NotUtf8, Text};
