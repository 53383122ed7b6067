//! The two ends of a connection.

/// The end of the connection that a codec serves. It decides about masking, and about nothing else.
///
/// RFC 6455, section 5.1: "a client MUST mask all frames that it sends to the server", and "A
/// server MUST NOT mask any frames that it sends to the client".
///
/// ```
/// use bytes::BytesMut;
/// use stepcast::codec::{CodecError, FrameLimits, MessageCodec, Role};
/// use tokio_util::codec::Decoder;
///
/// let mut server = MessageCodec::new(Role::Server, FrameLimits::default());
/// let unmasked = &[0x81, 0x02, b'h', b'i'][..];
/// let refused = server.decode(&mut BytesMut::from(unmasked));
/// assert!(matches!(refused, Err(CodecError::MaskMissing)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The server: expects masked frames and sends unmasked ones.
    Server,
    /// The client: expects unmasked frames and sends masked ones, each with its own unpredictable
    /// key.
    Client,
}
