//! What a hub has done so far, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// A snapshot of a hub's counters, from its start on.
///
/// ```
/// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let stats = hub.stats();
/// assert_eq!(stats.accepted, 0);
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Clients, those included that are away and may come back.
    pub clients: usize,
    /// The most clients that may be connected now: [`Limits::clients`](crate::Limits::clients), or less where the
    /// process has too few file descriptors.
    pub most_clients: usize,
    /// Feeds that have a name.
    pub feeds: usize,
    /// Clients that there ever were: who comes back is the same one.
    pub accepted: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Messages pushed: calls of `send` and `broadcast` that were taken. Broadcasts without a
    /// client connected are not counted: they cost nothing.
    pub pushed: u64,
    /// Messages that a client did not get because it was too far behind, summed over clients.
    pub skipped: u64,
    /// Feeds that the program asked for and that there was no place for; see [`Limits::feeds`](crate::Limits::feeds).
    pub feeds_refused: u64,
    /// Pushes that were not taken. The log is told of each kind: once, and then every ten seconds at most.
    pub refused_pushes: RefusedPushes,
    /// Messages received from clients.
    pub received: u64,
    /// Bytes written to sockets.
    pub bytes_out: u64,
    /// Bytes read from sockets.
    pub bytes_in: u64,
    /// Panics in code of the program's that were caught where a hub ran it, in all hubs of this process: a
    /// rule, the destructor of a payload, a waker.
    pub panics: u64,
    /// Bytes held for clients now; see [`Limits::memory`](crate::Limits::memory).
    pub memory: usize,
}

/// Pushes that were not taken, by why: one number for each kind of [`SendError`](crate::SendError).
///
/// ```
/// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let _ = hub.send("4711".parse().unwrap(), "to nobody");
/// assert_eq!(hub.stats().refused_pushes.no_such_client, 1);
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RefusedPushes {
    /// To a client that has left, or never was.
    pub no_such_client: u64,
    /// To a client whose mailbox was full.
    pub full: u64,
    /// Messages larger than the hub sends.
    pub too_large: u64,
    /// For want of memory.
    pub no_memory: u64,
    /// For which there was no room in time.
    pub timed_out: u64,
    /// To a feed that is finished.
    pub finished: u64,
    /// Latest values beyond the limits on them.
    pub too_many_values: u64,
    /// Latest values whose key is too long.
    pub key_too_long: u64,
    /// After the hub's end.
    pub shut_down: u64,
    /// To a feed that there was no place for.
    pub too_many_feeds: u64,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    pub(crate) skipped: Counter,
    pub(crate) feeds_refused: Counter,
    pub(crate) received: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) bytes_in: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds, and returns what it was before.
    pub(crate) fn add(&self, count: u64) -> u64 {
        self.0.fetch_add(count, Ordering::Relaxed)
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
