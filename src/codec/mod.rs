//! WebSocket framing, [RFC 6455]: bytes to frames, frames to messages, and back.
//!
//! It knows no hub, no HTTP and no I/O. It begins where the opening handshake ends, with the bytes
//! of a stream in a [`BytesMut`](bytes::BytesMut), and judges them. What to answer, when to close
//! and when to give up is the caller's: pings and closes are handed over, and
//! [`Control::reply`] says what the protocol asks for in return.
//!
//! Two codecs, one on the other, both a [`Decoder`] and an [`Encoder`] of `tokio_util`, so that
//! they work in a [`Framed`] over anything that reads and writes:
//!
//! - [`MessageCodec`]: whole messages and control frames. The one to use.
//! - [`FrameCodec`]: single frames, for those who want to see the fragments.
//!
//! For sending one message to many, [`server_frame`] encodes once into bytes that any number of
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
//! `decode` takes what it can from the front of the buffer and says which of these states it
//! is in:
//!
//! | state | what has come | `decode` returns | left in the buffer |
//! |---|---|---|---|
//! | between frames | nothing, or part of a header | `None`, or the error that this part already proves | those header bytes |
//! | in a frame | a header, part of the payload | `None`, or an error | the payload so far, unmasked in place |
//! | in a message | fragments, the last one not final | `None` | as in the two rows above |
//! | whole | the last byte of a message or a control frame | `Some` | what follows it |
//! | failed | a violation | the error, then [`CodecError::AfterError`] for ever | unspecified |
//!
//! What is left in the buffer belongs to the codec's state: it has to be there, unchanged, with
//! more behind it, at the next call. It may move to another buffer in between.
//!
//! *Early refusal.* A violation is reported on the byte that proves it: an illegal first byte when
//! only that byte has come, a length above the limit before the masking key and any payload, bad
//! UTF-8 inside a frame that is not complete.
//!
//! *Memory.* It grows with the bytes received, never with a length that was merely declared:
//! `decode` asks the buffer for no more than the frame lacks, and for at most twice what has
//! already come of it (but for a first 1 KiB).
//!
//! *Copies.* The payload of an unfragmented frame is delivered where it was received. It shares
//! its memory with its neighbours in the receive buffer, so whoever keeps a small message for long
//! copies it. Fragments are copied once, into the message that they form.
//!
//! *Errors* are final. [`CodecError::close_code`] is the status to close with.
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
