//! Counters of a hub.

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
    /// The number of clients, including clients that are away and may come back.
    pub clients: usize,
    /// The most clients that may be connected now: [`Limits::clients`](crate::Limits::clients), or
    /// less if the process has too few file descriptors.
    pub most_clients: usize,
    /// The number of feeds with a name.
    pub feeds: usize,
    /// The number of clients since the start. A client that comes back counts once.
    pub accepted: u64,
    /// The number of refused requests.
    pub refused: u64,
    /// The number of messages taken by `send` and `broadcast`. Broadcasts without a connected
    /// client do not count: they cost nothing.
    pub pushed: u64,
    /// The number of messages that clients skipped because they were too far behind, summed over
    /// clients.
    pub skipped: u64,
    /// The number of times that the program asked for a feed and got one that takes nothing; see
    /// [`Limits::feeds`](crate::Limits::feeds).
    pub feeds_refused: u64,
    /// The number of refused pushes, by reason.
    pub refused_pushes: RefusedPushes,
    /// The number of messages received from clients.
    pub received: u64,
    /// The bytes written to sockets.
    pub bytes_out: u64,
    /// The bytes read from sockets.
    pub bytes_in: u64,
    /// The number of panics that hubs caught in the program's code: a rule, the destructor of a
    /// payload, a waker. It is summed over all hubs of this process.
    pub panics: u64,
    /// The bytes held for clients now; see [`Limits::memory`](crate::Limits::memory).
    pub memory: usize,
}

/// The number of refused pushes, by reason: one field for each kind of
/// [`SendError`](crate::SendError).
///
/// The hub logs each kind once, and then every ten seconds at most.
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
    /// Pushes to a client that has left, or never was.
    pub no_such_client: u64,
    /// Pushes to a client whose mailbox was full.
    pub full: u64,
    /// Messages larger than the hub's limit.
    pub too_large: u64,
    /// Pushes beyond the hub's memory limit.
    pub no_memory: u64,
    /// Waiting pushes that found no room in time.
    pub timed_out: u64,
    /// Pushes to a finished feed.
    pub finished: u64,
    /// Latest values beyond their limits.
    pub too_many_values: u64,
    /// Latest values whose key is too long.
    pub key_too_long: u64,
    /// Pushes after the hub's end.
    pub shut_down: u64,
    /// Pushes to a feed that takes nothing, since there were too many feeds.
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
