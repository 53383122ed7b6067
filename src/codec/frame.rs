//! The frame codec: bytes to frames.

use bytes::{Buf as _, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::header::{Expected, Head, Turn};
use super::mask::{self, Key, Keys};
use super::{CodecError, Control, FrameLimits, OpCode, Role, encode};

/// A payload is unmasked and judged in steps of this many bytes, so that it is still in the
/// nearest cache when it is judged. A multiple of the masking key's length.
pub(super) const STEP: usize = 16 * 1024;

/// How much room `decode` may ask for ahead of the bytes it waits for: so many times what has come,
/// but for a first kilobyte. With less than twice, a buffer that doubles as it grows would end up
/// with room for the half of another frame, whose bytes would have to be moved.
const AHEAD: usize = 2;
const MIN_AHEAD: usize = 1024;

/// One frame (RFC 6455, 5.2), unmasked.
///
/// ```
/// use bytes::Bytes;
/// use stepcast::codec::{Frame, OpCode};
///
/// let first = Frame { fin: false, opcode: OpCode::Text, payload: Bytes::from_static(b"step ") };
/// let last = Frame { fin: true, opcode: OpCode::Continuation, payload: Bytes::from_static(b"41") };
/// assert_ne!(first, last);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whether this is the last or only fragment of its message.
    pub fin: bool,
    /// The frame's opcode.
    pub opcode: OpCode,
    /// The frame's payload.
    pub payload: Bytes,
}

/// A codec between bytes and frames, which judges each frame on its own.
///
/// The codec refuses errors in a single frame, such as a length above [`FrameLimits::frame`]. It
/// does not check the order of fragments, the limits on messages, UTF-8, or close codes:
/// [`MessageCodec`](super::MessageCodec) does.
///
/// [The module](super) has the contract of `decode`.
///
/// ```
/// use bytes::BytesMut;
/// use stepcast::codec::{FrameCodec, FrameLimits, OpCode, Role};
/// use tokio_util::codec::Decoder;
///
/// let mut client = FrameCodec::new(Role::Client, FrameLimits::default());
/// let mut received = BytesMut::from(&b"\x81\x02hi"[..]);
/// let frame = client.decode(&mut received)?.expect("a whole frame");
/// assert_eq!((frame.fin, frame.opcode), (true, OpCode::Text));
/// assert_eq!(frame.payload, "hi");
/// # Ok::<(), stepcast::codec::CodecError>(())
/// ```
#[derive(Debug)]
pub struct FrameCodec {
    state: State,
    limits: FrameLimits,
    keys: Keys,
    role: Role,
}

#[derive(Clone, Copy, Debug)]
enum State {
    BetweenFrames,
    InFrame(Unfinished),
    Failed,
}

/// A frame whose header has been taken from the buffer, and whose payload is at its front.
#[derive(Clone, Copy, Debug)]
struct Unfinished {
    len: usize,
    /// How much of the payload has come, been unmasked and judged.
    done: usize,
    key: Key,
    opcode: OpCode,
    fin: bool,
}

impl FrameCodec {
    /// Makes a codec that expects the start of a frame.
    ///
    /// ```
    /// # use bytes::{Bytes, BytesMut};
    /// # use stepcast::codec::{Frame, FrameCodec, FrameLimits, OpCode, Role};
    /// # use tokio_util::codec::Encoder;
    /// let mut server = FrameCodec::new(Role::Server, FrameLimits::default());
    /// let mut wire = BytesMut::new();
    /// server.encode(Frame { fin: true, opcode: OpCode::Ping, payload: Bytes::new() }, &mut wire)?;
    /// assert_eq!(wire[..], [0x89, 0]);
    /// # Ok::<(), stepcast::codec::CodecError>(())
    /// ```
    pub fn new(role: Role, limits: FrameLimits) -> Self {
        Self { state: State::BetweenFrames, limits, keys: Keys::default(), role }
    }

    /// Returns whether no frame is half read: the codec is not between a header and its frame's
    /// last byte, and has not failed. Bytes of an unfinished header may be in the buffer.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::codec::{FrameCodec, FrameLimits, Role};
    /// # use tokio_util::codec::Decoder;
    /// let mut client = FrameCodec::new(Role::Client, FrameLimits::default());
    /// let mut received = BytesMut::from(&b"\x81\x02h"[..]);
    /// assert!(client.decode(&mut received)?.is_none() && !client.is_idle());
    /// received.extend_from_slice(b"i");
    /// assert!(client.decode(&mut received)?.is_some() && client.is_idle());
    /// # Ok::<(), stepcast::codec::CodecError>(())
    /// ```
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::BetweenFrames)
    }

    pub(super) fn limits(&self) -> &FrameLimits {
        &self.limits
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// For ever: what follows in the stream cannot be trusted to be a frame.
    #[cold]
    pub(super) fn fail(&mut self) {
        self.state = State::Failed;
    }

    /// The next frame, if it is the one that is `expected`. `judge` is shown every byte of
    /// payload once, unmasked, in order, as soon as it has come, and told whether all are ASCII.
    #[inline]
    pub(super) fn next_frame(
        &mut self,
        src: &mut BytesMut,
        expected: &Expected,
        mut judge: impl FnMut(OpCode, &[u8], bool) -> Result<(), CodecError>,
    ) -> Result<Option<Frame>, CodecError> {
        let mut frame = match self.state {
            State::BetweenFrames => {
                let Some(head) = Head::parse(src, expected)? else { return Ok(None) };
                src.advance(head.size);
                let Head { fin, opcode, key, len, size: _ } = head;
                Unfinished { len, done: 0, key, opcode, fin }
            }
            State::InFrame(unfinished) => unfinished,
            State::Failed => return Err(CodecError::AfterError),
        };

        let here = src.len().min(frame.len);
        if let Some(fresh) = src.get_mut(frame.done..here) {
            let key = mask::key_at(frame.key, frame.done);
            for step in fresh.chunks_mut(STEP) {
                let is_ascii = mask::apply(step, key);
                judge(frame.opcode, step, is_ascii)?;
            }
            frame.done = here;
        }

        if here < frame.len {
            self.state = State::InFrame(frame);
            // Never the whole of what was declared, which costs the peer nothing to declare.
            src.reserve((frame.len - here).min((AHEAD * here).max(MIN_AHEAD)));
            return Ok(None);
        }
        self.state = State::BetweenFrames;
        // An empty slice would still share, and so keep, the receive buffer.
        let payload = if frame.len == 0 { Bytes::new() } else { src.split_to(frame.len).freeze() };
        Ok(Some(Frame { fin: frame.fin, opcode: frame.opcode, payload }))
    }

    /// Appends a frame, masked with a new key if it is a client's.
    #[inline(always)]
    pub(super) fn put(
        &mut self,
        dst: &mut BytesMut,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
    ) -> Result<(), CodecError> {
        if let Role::Client = self.role {
            return self.put_masked(dst, opcode, fin, payload);
        }
        encode::put_frame(dst, opcode, fin, payload);
        Ok(())
    }

    /// Apart, so that it does not weigh on a server's frames.
    #[inline(never)]
    fn put_masked(
        &mut self,
        dst: &mut BytesMut,
        opcode: OpCode,
        fin: bool,
        payload: &[u8],
    ) -> Result<(), CodecError> {
        let key = self.keys.next()?;
        encode::put_masked_frame(dst, opcode, fin, payload, key);
        Ok(())
    }

    /// Appends a control frame, likewise.
    pub(super) fn put_control(
        &mut self,
        dst: &mut BytesMut,
        control: &Control,
    ) -> Result<(), CodecError> {
        let key = match self.role {
            Role::Server => None,
            Role::Client => Some(self.keys.next()?),
        };
        encode::put_control(dst, control, key);
        Ok(())
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        let expected = Expected {
            role: self.role,
            turn: Turn::Any,
            frame: self.limits.frame,
            message: usize::MAX,
        };
        let frame = self.next_frame(src, &expected, |_, _, _| Ok(()));
        if frame.is_err() {
            self.fail();
        }
        frame
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        let frame = self.decode(src)?;
        if frame.is_none() && !(self.is_idle() && src.is_empty()) {
            self.fail();
            return Err(CodecError::UnexpectedEof);
        }
        Ok(frame)
    }
}

/// Refuses a control frame that RFC 6455 does not allow (5.5), and then writes nothing.
impl Encoder<Frame> for FrameCodec {
    type Error = CodecError;

    fn encode(&mut self, frame: Frame, dst: &mut BytesMut) -> Result<(), CodecError> {
        if frame.opcode.is_control() {
            if !frame.fin {
                return Err(CodecError::FragmentedControl);
            }
            if frame.payload.len() > 125 {
                return Err(CodecError::ControlTooLong);
            }
        }
        self.put(dst, frame.opcode, frame.fin, &frame.payload)
    }
}
