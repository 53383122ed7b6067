//! The intake: what connections share while they read, since the driver reads from one at a time.

use std::sync::Arc;

use bytes::BytesMut;

use crate::codec::{FrameLimits, MessageCodec, Role};
use crate::hub::limits::Limits;
use crate::hub::primitives::budget::{Budget, Charge};

/// How much of its rate a client has used: of the microseconds in each of which it may say a part of a message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used(u32);

impl Used {
    /// Two seconds.
    const BURST: u32 = 2_000_000;

    /// So many milliseconds later.
    pub(crate) fn after(self, passed: u64) -> Self {
        let passed = u32::try_from(passed.saturating_mul(1000)).unwrap_or(u32::MAX);
        Self(self.0.saturating_sub(passed))
    }

    /// Half a burst at most: for what a client has to say to begin with.
    pub(crate) fn at_most_half(self) -> Self {
        Self(self.0.min(Self::BURST / 2))
    }
}

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

/// The buffer that sockets are read into, a decoder for the next message that comes in pieces, and
/// the rate at which clients may send.
pub(crate) struct Intake {
    scratch: BytesMut,
    /// The messages that may still be decoded before other connections have their turn.
    pub(crate) work: usize,
    /// Whether messages that are arriving have more than their share of the memory.
    pub(crate) is_crowded: bool,
    /// A decoder that is not in use.
    spare: Option<Box<Inbound>>,
    codec_limits: FrameLimits,
    /// The account of messages that are arriving.
    budget: Arc<Budget>,
    /// The messages that a client may send in a second, at least one.
    per_second: u32,
    /// The bytes that a message of a client may have.
    message: usize,
}

impl Intake {
    /// The bytes that are read at once.
    pub(crate) const SCRATCH: usize = 64 * 1024;

    pub(crate) fn new(limits: &Limits, budget: Arc<Budget>) -> Self {
        let codec_limits = FrameLimits::default()
            .frame(limits.inbound_message)
            .message(limits.inbound_message)
            .fragments(limits.inbound_fragments);
        Self {
            scratch: BytesMut::new(),
            work: 0,
            is_crowded: false,
            spare: None,
            codec_limits,
            budget,
            per_second: limits.inbound_per_second.max(1),
            message: limits.inbound_message,
        }
    }

    /// Lends the buffer that sockets are read into.
    pub(crate) fn take_scratch(&mut self) -> BytesMut {
        std::mem::take(&mut self.scratch)
    }

    /// Takes the buffer back.
    pub(crate) fn keep_scratch(&mut self, mut scratch: BytesMut) {
        scratch.clear();
        self.scratch = scratch;
    }

    /// Returns a decoder for a connection that has received something to decode.
    pub(crate) fn take_inbound(&mut self) -> Box<Inbound> {
        self.spare.take().unwrap_or_else(|| {
            let codec = MessageCodec::new(Role::Server, self.codec_limits);
            Box::new(Inbound::new(codec, Charge::none(&self.budget)))
        })
    }

    /// Keeps a decoder for the next connection that has something to decode.
    pub(crate) fn keep_inbound(&mut self, inbound: Box<Inbound>) {
        self.spare = Some(inbound);
    }

    /// Counts so much of what a client said in its rate, and in the work of this turn. Whether it is within the rate,
    /// which has room for a burst of two seconds' worth (the "continuous-state leaky bucket" form of the generic cell
    /// rate algorithm, ITU-T I.371): one that begins within it may end beyond, and then the next have to wait.
    pub(crate) fn is_within_rate(&mut self, used: &mut Used, cost: usize) -> bool {
        self.work = self.work.saturating_sub(cost);
        let each = 1_000_000 / self.per_second;
        let is_within = used.0.saturating_add(each) <= Used::BURST;
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        used.0 = used.0.saturating_add(each.saturating_mul(cost));
        is_within
    }

    /// As how many more messages one of so many bytes counts: one for each 4 KiB, and 16 at most, so that a program that
    /// permits larger messages has not to raise the rate.
    pub(crate) fn more_for(&self, bytes: usize) -> usize {
        bytes / (self.message / 16).max(4 * 1024)
    }
}
