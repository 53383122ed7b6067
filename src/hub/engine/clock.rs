//! The driver's clock and the hub's timeouts.

use crate::hub::limits::Timeouts;
use crate::hub::primitives::moment::millis;

/// The time of the current turn, and the hub's timeouts.
pub(crate) struct Clock {
    /// Milliseconds since the driver's start, read once a turn.
    pub(crate) now: u64,
    pub(crate) timeouts: Deadlines,
}

impl Clock {
    pub(crate) fn new(timeouts: &Timeouts) -> Self {
        Self { now: 0, timeouts: timeouts.into() }
    }
}

/// [`Timeouts`] in the driver's milliseconds.
pub(crate) struct Deadlines {
    pub(crate) handshake: u64,
    pub(crate) keepalive: u64,
    pub(crate) pong: u64,
    pub(crate) stall: u64,
    pub(crate) frame: u64,
    pub(crate) close: u64,
    pub(crate) grace: u64,
    pub(crate) tick: u64,
}

impl From<&Timeouts> for Deadlines {
    fn from(timeouts: &Timeouts) -> Self {
        Self {
            handshake: millis(timeouts.handshake),
            keepalive: millis(timeouts.keepalive),
            pong: millis(timeouts.pong),
            stall: millis(timeouts.stall),
            frame: millis(timeouts.frame),
            close: millis(timeouts.close),
            grace: millis(timeouts.grace),
            tick: millis(timeouts.tick()),
        }
    }
}
