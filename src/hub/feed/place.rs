//! The place of a feed's log among the driver's logs.

use crate::hub::primitives::moment::low_half;

/// The place of a log in the driver's table, which has fewer than 2^32 places. Once the log has
/// gone, another log may have the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FeedPlace(u32);

impl FeedPlace {
    pub(crate) fn at(index: usize) -> Self {
        Self(low_half(index as u64))
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}
