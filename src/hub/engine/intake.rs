//! The intake: what connections share for reading, since the driver reads one connection at a time.

use std::sync::Arc;

use bytes::BytesMut;

use crate::codec::{FrameLimits, MessageCodec, Role};
use crate::hub::limits::Limits;
use crate::hub::primitives::budget::{Budget, Charge};

/// How much of its rate a client has used, in microseconds: each message uses the time in which the
/// rate permits one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used(u32);

impl Used {
    /// Two seconds.
    const BURST: u32 = 2_000_000;

    /// The use that is left after `passed` milliseconds.
    pub(crate) fn after(self, passed: u64) -> Self {
        let passed = u32::try_from(passed.saturating_mul(1000)).unwrap_or(u32::MAX);
        Self(self.0.saturating_sub(passed))
    }

    /// The use, at most half a burst: for what a client has to say first.
    pub(crate) fn at_most_half(self) -> Self {
        Self(self.0.min(Self::BURST / 2))
    }
}

/// The state of an inbound message that is not complete; a connection without such a message has
/// none.
pub(crate) struct Inbound {
    pub(crate) codec: MessageCodec,
    pub(crate) buffer: BytesMut,
    /// Whether the hub had no time yet for the bytes in the buffer.
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
    /// Whether arriving messages exceed their share of the memory.
    pub(crate) is_crowded: bool,
    /// A decoder that is not in use.
    spare: Option<Box<Inbound>>,
    codec_limits: FrameLimits,
    /// The budget of arriving messages.
    budget: Arc<Budget>,
    /// The messages that a client may send in a second, at least one.
    per_second: u32,
    /// The largest message of a client, in bytes.
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

    /// Charges `cost` to a client's rate and to this turn's work. Returns whether the client is
    /// within its rate. The rate permits a burst of two seconds' worth (the "continuous-state leaky
    /// bucket" form of the generic cell rate algorithm, ITU-T I.371). A message that begins within
    /// the burst may end beyond; later ones then have to wait.
    pub(crate) fn is_within_rate(&mut self, used: &mut Used, cost: usize) -> bool {
        self.work = self.work.saturating_sub(cost);
        let each = 1_000_000 / self.per_second;
        let is_within = used.0.saturating_add(each) <= Used::BURST;
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        used.0 = used.0.saturating_add(each.saturating_mul(cost));
        is_within
    }

    /// The number of extra messages that a message of `bytes` counts as: one for each 4 KiB, at
    /// most 16. A program that permits larger messages therefore need not raise the rate.
    pub(crate) fn more_for(&self, bytes: usize) -> usize {
        bytes / (self.message / 16).max(4 * 1024)
    }
}
