//! The id of a connection.

use crate::hub::primitives::moment::low_half;

/// A connection: its place in the driver's table, and its serial number. The serial number, modulo
/// 2^32, tells it from earlier connections at that place. No table has 2^32 places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnId {
    place: u32,
    serial: u32,
}

impl ConnId {
    pub(crate) fn new(place: usize, serial: u32) -> Self {
        Self { place: low_half(place as u64), serial }
    }

    pub(crate) fn place(self) -> usize {
        self.place as usize
    }

    pub(crate) fn serial(self) -> u32 {
        self.serial
    }

    /// Packs both numbers into one, for an atomic.
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.serial) << 32 | u64::from(self.place)
    }

    pub(crate) fn unpack(packed: u64) -> Self {
        Self { place: low_half(packed), serial: low_half(packed >> 32) }
    }
}
