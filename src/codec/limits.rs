//! How much a peer may send.

/// What the other end may do to us: the size of a frame, the size of a message, the number of
/// fragments.
///
/// Exactly the limit is accepted. `usize::MAX` means no limit, and is safe: memory still grows
/// only with what has arrived.
///
/// A peer that uses up all of them pins at most one unfinished message, one unfinished frame, and
/// the slack of the two growing buffers: under twice `message + frame` bytes.
///
/// ```
/// use stepcast::codec::Limits;
///
/// let limits = Limits::default().max_frame(64 * 1024).max_message(64 * 1024);
/// assert_eq!(limits.frame(), 64 * 1024);
/// assert_eq!(limits.fragments(), 4096);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    frame: usize,
    message: usize,
    fragments: usize,
}

impl Limits {
    /// The longest payload of one frame, in bytes. Default: 1 MiB.
    ///
    /// The same as for a message, because most senders, browsers among them, put a message into
    /// one frame; a lower one would only refuse what the other limit allows.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::codec::{CodecError, Limits, FrameCodec, Role};
    /// # use tokio_util::codec::Decoder;
    /// let mut client = FrameCodec::new(Role::Client, Limits::default().max_frame(2));
    /// let refused = client.decode(&mut BytesMut::from(&b"\x81\x03bye"[..]));
    /// assert!(matches!(refused, Err(CodecError::FrameTooLarge { limit: 2 })));
    /// ```
    #[must_use]
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.frame = bytes;
        self
    }

    /// The longest message, in bytes, all its fragments together. Default: 1 MiB.
    ///
    /// What a viewer sends is small: a command, an edited parameter set. 1 MiB leaves room for an
    /// uploaded configuration, while a thousand peers that fill it up stay within 2 GiB.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::codec::{CodecError, Limits, MessageCodec, Role};
    /// # use tokio_util::codec::Decoder;
    /// let mut client = MessageCodec::new(Role::Client, Limits::default().max_message(6));
    /// let two_fragments = &b"\x01\x05step \x80\x0241"[..];
    /// let refused = client.decode(&mut BytesMut::from(two_fragments));
    /// assert!(matches!(refused, Err(CodecError::MessageTooLarge { limit: 6 })));
    /// ```
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.message = bytes;
        self
    }

    /// The most frames that one message may be cut into, empty ones included. Default: 4096.
    ///
    /// Empty fragments are legal and cost their sender two bytes (six from a client), so the
    /// limit on bytes alone would let a message go on for ever. 4096 is the largest default
    /// message in pieces of 256 bytes. Every message may have its first frame: 0 is the same as 1.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::codec::{CodecError, Limits, MessageCodec, Role};
    /// # use tokio_util::codec::Decoder;
    /// let mut client = MessageCodec::new(Role::Client, Limits::default().max_fragments(1));
    /// let two_fragments = &b"\x01\x05step \x80\x0241"[..];
    /// let refused = client.decode(&mut BytesMut::from(two_fragments));
    /// assert!(matches!(refused, Err(CodecError::TooManyFragments { limit: 1 })));
    /// ```
    #[must_use]
    pub fn max_fragments(mut self, frames: usize) -> Self {
        self.fragments = frames;
        self
    }

    /// The longest payload of one frame, in bytes.
    ///
    /// ```
    /// # use stepcast::codec::Limits;
    /// assert_eq!(Limits::default().frame(), 1024 * 1024);
    /// ```
    pub fn frame(&self) -> usize {
        self.frame
    }

    /// The longest message, in bytes.
    ///
    /// ```
    /// # use stepcast::codec::Limits;
    /// assert_eq!(Limits::default().max_message(4096).message(), 4096);
    /// ```
    pub fn message(&self) -> usize {
        self.message
    }

    /// The most frames of one message.
    ///
    /// ```
    /// # use stepcast::codec::Limits;
    /// assert_eq!(Limits::default().fragments(), 4096);
    /// ```
    pub fn fragments(&self) -> usize {
        self.fragments
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame: 1024 * 1024, message: 1024 * 1024, fragments: 4096 }
    }
}
