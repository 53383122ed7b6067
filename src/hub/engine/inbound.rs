//! The decoder of a message that is arriving.

use bytes::BytesMut;

use crate::codec::MessageCodec;
use crate::hub::primitives::budget::Charge;

/// What an inbound message that is not complete needs; a connection without one has none.
pub(crate) struct Inbound {
    pub(crate) codec: MessageCodec,
    pub(crate) buffer: BytesMut,
    /// Whether there was no time for what is in the buffer.
    pub(crate) is_unheard: bool,
    pub(crate) charge: Charge,
    /// When the first byte of the message came, in the driver's milliseconds.
    pub(crate) since: u64,
}

impl Inbound {
    pub(crate) fn new(codec: MessageCodec, charge: Charge) -> Self {
        Self { codec, buffer: BytesMut::new(), is_unheard: false, charge, since: 0 }
    }
}
