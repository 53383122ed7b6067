//! The message codec: frames to messages.

use bytes::{Buf as _, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::frame::STEP;
use super::header::{Expected, Head, Turn};
use super::utf8::Utf8;
use super::{
    CloseFrame, CodecError, Control, ControlPayload, Frame, FrameCodec, FrameLimits, Incoming,
    Message, OpCode, Role, Text, mask,
};

/// A codec between bytes and whole messages or control frames.
///
/// The codec joins fragments, validates text, and reads close frames. It answers nothing by itself.
/// [`Control::reply`] returns the answer to a ping or a close, and the caller sends it. The caller
/// also stops reading after a close. Each message is sent in one frame.
///
/// A server's codec that is [idle](Self::is_idle) is small and owns no memory, so a hub can have
/// one per connection, or share one. A client's codec keeps some masking keys, less than 300 bytes,
/// after it has sent.
///
/// [The module](super) has the contract of `decode`. `Sink::send` and `encode` take a [`Message`]
/// or a [`Control`], owned or borrowed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), stepcast::codec::CodecError> {
/// use futures_util::{SinkExt, StreamExt};
/// use stepcast::codec::{Incoming, FrameLimits, Message, MessageCodec, Role};
/// use tokio_util::codec::Framed;
///
/// let (ours, theirs) = tokio::io::duplex(4096);
/// let mut server = Framed::new(ours, MessageCodec::new(Role::Server, FrameLimits::default()));
/// let mut client = Framed::new(theirs, MessageCodec::new(Role::Client, FrameLimits::default()));
///
/// server.send(Message::from("step 41 of 100")).await?;
/// let got = client.next().await.expect("the connection is open")?;
/// assert_eq!(got, Incoming::Message(Message::from("step 41 of 100")));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MessageCodec {
    frames: FrameCodec,
    /// The message whose last fragment has not come. Apart, because most messages have but one,
    /// and codecs are many.
    partial: Option<Box<Partial>>,
    /// Of the text that is being received, whether in one frame or in several.
    utf8: Utf8,
}

#[derive(Debug)]
struct Partial {
    bytes: BytesMut,
    fragments: usize,
    is_text: bool,
}

impl MessageCodec {
    /// Makes a codec that expects the start of a message.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::codec::{CodecError, FrameLimits, MessageCodec, Role};
    /// # use tokio_util::codec::Decoder;
    /// let mut client = MessageCodec::new(Role::Client, FrameLimits::default().message(1000));
    /// let mut header_of_1001_bytes = BytesMut::from(&[0x82, 126, 0x03, 0xE9][..]);
    /// let refused = client.decode(&mut header_of_1001_bytes);
    /// assert!(matches!(refused, Err(CodecError::MessageTooLarge { limit: 1000 })));
    /// ```
    pub fn new(role: Role, limits: FrameLimits) -> Self {
        Self { frames: FrameCodec::new(role, limits), partial: None, utf8: Utf8::default() }
    }

    /// Returns whether the codec holds nothing of its peer: no unfinished message, no half-read
    /// frame, no failure. An idle codec can be dropped, or used for another peer.
    ///
    /// The bytes of an unfinished header stay in the buffer, not in the codec. To change peers,
    /// check the buffer too.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::codec::{FrameLimits, MessageCodec, Role};
    /// # use tokio_util::codec::Decoder;
    /// let mut client = MessageCodec::new(Role::Client, FrameLimits::default());
    /// let mut received = BytesMut::from(&b"\x01\x05step "[..]); // a whole frame, half a message
    /// assert!(client.decode(&mut received)?.is_none() && !client.is_idle());
    /// received.extend_from_slice(b"\x80\x0241");
    /// assert!(client.decode(&mut received)?.is_some() && client.is_idle());
    /// # Ok::<(), stepcast::codec::CodecError>(())
    /// ```
    pub fn is_idle(&self) -> bool {
        self.frames.is_idle() && self.partial.is_none()
    }

    /// Returns the number of bytes that the codec holds of an unfinished message. The bytes of an
    /// incomplete frame are in the buffer.
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use stepcast::codec::{FrameLimits, MessageCodec, Role};
    /// use tokio_util::codec::Decoder;
    ///
    /// let mut codec = MessageCodec::new(Role::Client, FrameLimits::default());
    /// let mut received = BytesMut::from(&b"\x01\x02he\x80"[..]); // a frame of two, and half a header
    /// assert!(codec.decode(&mut received)?.is_none());
    /// assert_eq!((codec.buffered(), received.len()), (2, 1));
    /// # Ok::<(), stepcast::codec::CodecError>(())
    /// ```
    pub fn buffered(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.bytes.len())
    }

    /// Bytes that it has allocated for a message whose last frame has not come.
    pub(crate) fn allocated(&self) -> usize {
        let of = |partial: &Partial| size_of::<Partial>() + partial.bytes.capacity();
        self.partial.as_deref().map_or(0, of)
    }

    /// The long way: fragments, control frames, large and incomplete frames, and violations.
    fn next_incoming(&mut self, src: &mut BytesMut) -> Result<Option<Incoming>, CodecError> {
        loop {
            let expected = self.expected();
            let continues_text = self.partial.as_ref().is_some_and(|partial| partial.is_text);
            let utf8 = &mut self.utf8;
            let frame =
                self.frames.next_frame(
                    src,
                    &expected,
                    |opcode, payload, is_ascii| match opcode {
                        OpCode::Text => Ok(utf8.push(payload, is_ascii)?),
                        OpCode::Continuation if continues_text => Ok(utf8.push(payload, is_ascii)?),
                        _ => Ok(()),
                    },
                )?;
            let Some(frame) = frame else { return Ok(None) };
            let control = match frame.opcode {
                OpCode::Text | OpCode::Binary | OpCode::Continuation => {
                    match self.take_fragment(frame)? {
                        Some(message) => return Ok(Some(Incoming::Message(message))),
                        None => continue,
                    }
                }
                OpCode::Ping => Control::Ping(ControlPayload::received(frame.payload)),
                OpCode::Pong => Control::Pong(ControlPayload::received(frame.payload)),
                OpCode::Close => Control::Close(CloseFrame::from_payload(frame.payload)?),
            };
            return Ok(Some(Incoming::Control(control)));
        }
    }

    /// The short cut for most of what comes: a message that is small, in one frame, and here in
    /// full. `None` for anything else, of which nothing has been taken then.
    #[inline(always)]
    fn whole_message(&mut self, src: &mut BytesMut) -> Result<Option<Message>, CodecError> {
        let expected = Expected { turn: Turn::Start, ..self.expected() };
        let Some(Head { fin, opcode, key, len, size }) = Head::parse(src, &expected)? else {
            return Ok(None);
        };
        let small = len > 0 && len <= STEP;
        if !(small && fin && !opcode.is_control() && src.len() - size >= len) {
            return Ok(None);
        }
        src.advance(size);
        let payload = &mut src[..len];
        let is_ascii = mask::apply(payload, key);
        let is_text = opcode == OpCode::Text;
        if is_text && !is_ascii && simdutf8::basic::from_utf8(payload).is_err() {
            return Err(CodecError::InvalidUtf8);
        }
        let payload = src.split_to(len).freeze();
        Ok(Some(if is_text {
            Message::Text(Text::validated(payload))
        } else {
            Message::Binary(payload)
        }))
    }

    #[inline]
    fn expected(&self) -> Expected {
        let limits = self.frames.limits();
        let turn = match &self.partial {
            None => Turn::Start,
            Some(partial) => Turn::Within {
                bytes: partial.bytes.len(),
                over: (partial.fragments >= limits.fragments).then_some(limits.fragments),
            },
        };
        let (frame, message) = (limits.frame, limits.message);
        Expected { role: self.frames.role(), turn, frame, message }
    }

    /// Takes the next frame of a message, which has been judged to be in its place, and returns
    /// the message if this was the last.
    #[inline]
    fn take_fragment(&mut self, frame: Frame) -> Result<Option<Message>, CodecError> {
        if frame.fin && self.partial.is_none() {
            return Ok(Some(match frame.opcode {
                OpCode::Text => {
                    self.utf8.finish()?;
                    Message::Text(Text::validated(frame.payload))
                }
                _ => Message::Binary(frame.payload),
            }));
        }
        self.append(&frame)
    }

    fn append(&mut self, frame: &Frame) -> Result<Option<Message>, CodecError> {
        let is_text = frame.opcode == OpCode::Text;
        let mut partial = self
            .partial
            .take()
            .unwrap_or_else(|| Box::new(Partial { bytes: BytesMut::new(), fragments: 0, is_text }));
        partial.bytes.extend_from_slice(&frame.payload);
        partial.fragments += 1;
        if !frame.fin {
            self.partial = Some(partial);
            return Ok(None);
        }
        let bytes = partial.bytes.freeze();
        if !partial.is_text {
            return Ok(Some(Message::Binary(bytes)));
        }
        // Here too if the last fragment was empty: it may still have left a character unfinished.
        self.utf8.finish()?;
        Ok(Some(Message::Text(Text::validated(bytes))))
    }

    #[cold]
    fn fail(&mut self) {
        self.frames.fail();
        self.partial = None;
    }
}

impl Decoder for MessageCodec {
    type Item = Incoming;
    type Error = CodecError;

    // Inlined into `FramedRead`: a result that goes through a call is written in words and then read
    // in pairs of words, and the processor waits a third of a small message's time for that.
    #[inline(always)]
    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Incoming>, CodecError> {
        if self.is_idle() {
            match self.whole_message(src) {
                Ok(Some(message)) => return Ok(Some(Incoming::Message(message))),
                Ok(None) => {}
                Err(error) => {
                    self.fail();
                    return Err(error);
                }
            }
        }
        let incoming = self.next_incoming(src);
        if incoming.is_err() {
            self.fail();
        }
        incoming
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Incoming>, CodecError> {
        let incoming = self.decode(src)?;
        if incoming.is_none() && !(self.is_idle() && src.is_empty()) {
            self.fail();
            return Err(CodecError::UnexpectedEof);
        }
        Ok(incoming)
    }
}

impl Encoder<Message> for MessageCodec {
    type Error = CodecError;

    #[inline]
    fn encode(&mut self, message: Message, dst: &mut BytesMut) -> Result<(), CodecError> {
        self.encode(&message, dst)
    }
}

impl Encoder<&Message> for MessageCodec {
    type Error = CodecError;

    #[inline]
    fn encode(&mut self, message: &Message, dst: &mut BytesMut) -> Result<(), CodecError> {
        self.frames.put(dst, message.opcode(), true, message.as_bytes())
    }
}

impl Encoder<Control> for MessageCodec {
    type Error = CodecError;

    fn encode(&mut self, control: Control, dst: &mut BytesMut) -> Result<(), CodecError> {
        self.encode(&control, dst)
    }
}

impl Encoder<&Control> for MessageCodec {
    type Error = CodecError;

    fn encode(&mut self, control: &Control, dst: &mut BytesMut) -> Result<(), CodecError> {
        self.frames.put_control(dst, control)
    }
}

#[cfg(test)]
mod tests {
    use super::MessageCodec;

    #[test]
    fn a_codec_is_small_because_a_hub_has_many() {
        assert!(size_of::<MessageCodec>() <= 80, "{}", size_of::<MessageCodec>());
    }
}
