//! File descriptors. Each connection takes one, and a process has a limited number of them.
//!
//! A part stays with the program: a training run that cannot open its checkpoint is lost. The hubs
//! of a process share the rest, first come, first served. A hub's limits are lowered if that is
//! less than they ask for.
//!
//! The process's limit is read when a hub is spawned and at each tick, since a program may raise
//! it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::hub::limits::Limits;

/// The connections of all hubs of this process. A forked child has copies of their descriptors, and
/// so of this number.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// The descriptor counts of one hub.
#[derive(Debug)]
pub(crate) struct Descriptors {
    open: &'static AtomicUsize,
    /// The connections that all hubs of the process may have together.
    most: AtomicUsize,
    /// The connections of this hub, which `open` includes.
    own: AtomicUsize,
}

/// The connections that a hub may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Connections of clients.
    pub(crate) clients: usize,
    /// Connections that are not a client's yet.
    pub(crate) handshakes: usize,
}

impl Descriptors {
    pub(crate) fn new() -> Self {
        Self { open: open(), most: AtomicUsize::new(most()), own: AtomicUsize::new(0) }
    }

    /// Reads the process's limit again.
    pub(crate) fn look(&self) {
        self.most.store(most(), Ordering::Relaxed);
    }

    /// Sets the number of this hub's connections. Called on the driver's thread.
    pub(crate) fn count(&self, own: usize) {
        let before = self.own.swap(own, Ordering::Relaxed);
        self.open.fetch_add(own.wrapping_sub(before), Ordering::Relaxed);
    }

    /// The connections that this hub may have now, given those of other hubs.
    pub(crate) fn capacity(&self, limits: &Limits) -> Capacity {
        let own = self.own.load(Ordering::Relaxed);
        let others = self.open.load(Ordering::Relaxed).saturating_sub(own);
        Capacity::within(self.most.load(Ordering::Relaxed).saturating_sub(others), limits)
    }

    /// Sets the connections for all hubs, and those of other hubs.
    #[cfg(test)]
    pub(crate) fn set(&self, most: usize, others: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.open.store(self.own.load(Ordering::Relaxed) + others, Ordering::Relaxed);
    }

    /// The connections that this hub could have if it were alone, if that is less than its limits
    /// ask for.
    pub(crate) fn lack(&self, limits: &Limits) -> Option<Capacity> {
        let capacity = Capacity::within(self.most.load(Ordering::Relaxed), limits);
        (capacity != Capacity::within(usize::MAX, limits)).then_some(capacity)
    }
}

/// Unit tests run side by side, so their hubs share no count.
fn open() -> &'static AtomicUsize {
    if cfg!(test) { Box::leak(Box::default()) } else { &OPEN }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        self.count(0);
    }
}

impl Capacity {
    /// Divides `total` connections: those that are not a client's yet get a quarter, and what
    /// clients leave.
    fn within(total: usize, limits: &Limits) -> Self {
        let share = (total / 4).max(total.saturating_sub(limits.clients)).max(1);
        let handshakes = limits.handshakes.min(share);
        let clients = limits.clients.min(total.saturating_sub(handshakes).max(1));
        Self { clients, handshakes }
    }

    pub(crate) fn all(self) -> usize {
        self.clients.saturating_add(self.handshakes)
    }
}

/// The connections that this process has descriptors for.
fn most() -> usize {
    limit().map_or(usize::MAX, |limit| limit - kept_of(limit))
}

/// The part of this limit that stays with the program: a quarter, but at least 64 while that is at
/// most half, and at most 4096.
fn kept_of(limit: usize) -> usize {
    (limit / 4).clamp(64, 4096).min(limit / 2)
}

/// The number of descriptors that this process may have open, if that is limited.
#[cfg(unix)]
fn limit() -> Option<usize> {
    use rustix::process::{Resource, getrlimit};

    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok())
}

#[cfg(not(unix))]
fn limit() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(total: usize, clients: usize, handshakes: usize) -> (usize, usize) {
        let limits = Limits::default().clients(clients).handshakes(handshakes);
        let Capacity { clients, handshakes } = Capacity::within(total, &limits);
        (clients, handshakes)
    }

    #[test]
    fn the_program_keeps_a_quarter_of_the_descriptors() {
        assert_eq!([0, 1, 2, 48, 128].map(kept_of), [0, 0, 1, 24, 64]);
        assert_eq!([256, 1024, 20_000, usize::MAX].map(kept_of), [64, 256, 4096, 4096]);
    }

    #[test]
    fn limits_that_fit_stay_and_of_others_clients_have_three_quarters_or_what_they_ask_for() {
        assert_eq!(capacity(768, 700, 60), (700, 60));
        assert_eq!(capacity(768, 10_000, 1024), (576, 192));
        assert_eq!(capacity(768, 10_000, 20), (748, 20));
        assert_eq!(capacity(768, 50, 1024), (50, 718));
        assert_eq!([0, 1, 2].map(|total| capacity(total, 9, 9)), [(1, 1); 3]);
    }
}
