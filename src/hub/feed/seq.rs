//! Sequence numbers of messages.

/// The sequence number of a message in its feed, or in a client's mailbox. The numbers of a mailbox
/// begin with 1. Stamps, which count the pushes of the whole hub, are another thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seq(u64);

impl Seq {
    pub(crate) const fn new(number: u64) -> Self {
        Self(number)
    }

    pub(crate) fn get(self) -> u64 {
        self.0
    }

    /// The number after this one.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        self.plus(1)
    }

    /// The number so many after this one.
    #[must_use]
    pub(crate) fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }

    /// The number so many before this one.
    #[must_use]
    pub(crate) fn minus(self, count: u64) -> Self {
        Self(self.0 - count)
    }
}
