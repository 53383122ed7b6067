//! The id of a connection.

use crate::hub::primitives::moment::low_half;

/// A connection: its slot in the driver's table, and its serial number. The serial number, modulo
/// 2^32, tells it from earlier connections in that slot. No table has 2^32 slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnId {
    slot: u32,
    serial: u32,
}

impl ConnId {
    pub(crate) fn new(slot: usize, serial: u32) -> Self {
        Self { slot: low_half(slot as u64), serial }
    }

    pub(crate) fn slot(self) -> usize {
        self.slot as usize
    }

    pub(crate) fn serial(self) -> u32 {
        self.serial
    }

    /// Packs both numbers into one, for an atomic.
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.serial) << 32 | u64::from(self.slot)
    }

    pub(crate) fn unpack(packed: u64) -> Self {
        Self { slot: low_half(packed), serial: low_half(packed >> 32) }
    }
}
