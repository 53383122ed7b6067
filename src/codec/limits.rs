//! Limits on the frames and messages of a peer.

/// Limits on the peer: the size of a frame, the size of a message, the number of fragments.
///
/// A value of exactly the limit is accepted. `usize::MAX` means no limit, and is safe: memory still
/// grows only with the data that has arrived.
///
/// A peer that uses all limits up pins at most one unfinished message, one unfinished frame, and
/// the slack of the two growing buffers: under twice `message + frame` bytes.
///
/// ```
/// use stepcast::codec::FrameLimits;
///
/// let limits = FrameLimits::default().frame(64 * 1024).message(64 * 1024);
/// assert_ne!(limits, FrameLimits::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameLimits {
    pub(super) frame: usize,
    pub(super) message: usize,
    pub(super) fragments: usize,
}

impl FrameLimits {
    /// Sets the longest payload of one frame, in bytes. Default: 1 MiB, the same as for a message.
    ///
    /// Most senders, browsers among them, put a message into one frame. A lower limit on frames
    /// would only refuse messages that the other limit allows.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::codec::{CodecError, FrameLimits, FrameCodec, Role};
    /// # use tokio_util::codec::Decoder;
    /// let mut client = FrameCodec::new(Role::Client, FrameLimits::default().frame(2));
    /// let refused = client.decode(&mut BytesMut::from(&b"\x81\x03bye"[..]));
    /// assert!(matches!(refused, Err(CodecError::FrameTooLarge { limit: 2 })));
    /// ```
    #[must_use]
    pub fn frame(mut self, bytes: usize) -> Self {
        self.frame = bytes;
        self
    }

    /// Sets the longest message in bytes, all its fragments together. Default: 1 MiB.
    ///
    /// Viewers send small messages, such as a command or an edited parameter set. 1 MiB leaves room
    /// for an uploaded configuration. A thousand peers that use it up stay within 2 GiB.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::codec::{CodecError, FrameLimits, MessageCodec, Role};
    /// # use tokio_util::codec::Decoder;
    /// let mut client = MessageCodec::new(Role::Client, FrameLimits::default().message(6));
    /// let two_fragments = &b"\x01\x05step \x80\x0241"[..];
    /// let refused = client.decode(&mut BytesMut::from(two_fragments));
    /// assert!(matches!(refused, Err(CodecError::MessageTooLarge { limit: 6 })));
    /// ```
    #[must_use]
    pub fn message(mut self, bytes: usize) -> Self {
        self.message = bytes;
        self
    }

    /// Sets the most frames of one message, including empty ones. Default: 4096, the largest
    /// default message in pieces of 256 bytes.
    ///
    /// Empty fragments are legal and cost their sender two bytes (six from a client). So the limit
    /// on bytes alone would allow an endless message. Every message may have its first frame: 0 is
    /// the same as 1.
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use stepcast::codec::{CodecError, FrameLimits, MessageCodec, Role};
    /// # use tokio_util::codec::Decoder;
    /// let mut client = MessageCodec::new(Role::Client, FrameLimits::default().fragments(1));
    /// let two_fragments = &b"\x01\x05step \x80\x0241"[..];
    /// let refused = client.decode(&mut BytesMut::from(two_fragments));
    /// assert!(matches!(refused, Err(CodecError::TooManyFragments { limit: 1 })));
    /// ```
    #[must_use]
    pub fn fragments(mut self, frames: usize) -> Self {
        self.fragments = frames;
        self
    }
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self { frame: 1024 * 1024, message: 1024 * 1024, fragments: 4096 }
    }
}
