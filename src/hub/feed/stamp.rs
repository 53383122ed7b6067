//! Stamps of pushes.

use std::sync::atomic::Ordering;

use crate::hub::primitives::sync::AtomicU64;

/// The stamp of a push: a hub-wide number that grows from one push to the next. Queues, logs and
/// latest values are merged in the order of their stamps. The number of a message in its feed is
/// another thing: see [`Seq`](crate::hub::feed::seq::Seq).
///
/// On the wire a stamp is a bare number: [`Head`](crate::wire::v1::Head) takes it from `get`, and
/// `new` makes it of what a client [had](crate::wire::v1::Had).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct Stamp(u64);

impl Stamp {
    /// The stamp of a hub's first push.
    pub(crate) const FIRST: Self = Self(0);
    /// A stamp after all that are ever drawn.
    pub(crate) const MAX: Self = Self(u64::MAX);

    pub(crate) const fn new(number: u64) -> Self {
        Self(number)
    }

    pub(crate) fn get(self) -> u64 {
        self.0
    }

    /// The stamp after this one.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The counter that the stamps of a hub are drawn from.
#[derive(Debug, Default)]
pub(crate) struct Stamps(AtomicU64);

impl Stamps {
    /// Draws the stamp of a push, under the lock of the push's queue.
    pub(crate) fn draw(&self) -> Stamp {
        // A reader of this stamp sees everything done before it was drawn: see
        // `hub::engine::takeover`.
        Stamp(self.0.fetch_add(1, Ordering::AcqRel))
    }

    /// Returns the stamp of the next push.
    pub(crate) fn load(&self, order: Ordering) -> Stamp {
        Stamp(self.0.load(order))
    }
}
