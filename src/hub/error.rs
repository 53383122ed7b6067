//! Errors that the hub's program gets.

use std::net::SocketAddr;
use std::{fmt, io};

use crate::hub::id::ClientId;

/// The reason why a hub could not start. Its text says what to do.
///
/// ```
/// use stepcast::{Hub, SpawnError};
///
/// let error = Hub::spawn_blocking("0.0.0.0:8002").unwrap_err();
/// assert!(matches!(error, SpawnError::NotLoopback { .. }));
/// assert!(error.to_string().contains("allow_remote"));
/// ```
///
/// `Debug` prints the same text, since `fn main() -> Result<(), SpawnError>` prints the error by
/// `Debug`.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The address could not be parsed, or its name is unknown.
    #[error(
        "cannot listen on {given}: {error}; give an address and a port, such as \"127.0.0.1:8002\""
    )]
    Address {
        /// The address as given, in the form of `Debug`: a text in quotes.
        given: String,
        /// The error of the lookup.
        #[source]
        error: io::Error,
    },
    /// Other machines can reach the address, and
    /// [`HubBuilder::allow_remote`](crate::HubBuilder::allow_remote) was not called.
    #[error(
        "other machines can reach {address}: listen on 127.0.0.1:{port} for this machine alone, \
         or call Hub::builder().allow_remote() to let them watch",
        port = address.port()
    )]
    NotLoopback {
        /// The requested address.
        address: SocketAddr,
    },
    /// Listening on the address failed.
    #[error("cannot listen on {address}: {error}; {}", advice(error))]
    Bind {
        /// The requested address. If a name has several, the one that failed.
        address: SocketAddr,
        /// The operating system's error.
        #[source]
        error: io::Error,
    },
    /// With this value of an option the hub could serve no client, such as a limit of 0 clients.
    #[error("{option} cannot be {value}: give {instead}")]
    BadOption {
        /// The option, such as `Limits::clients`.
        option: &'static str,
        /// The value that was given.
        value: String,
        /// The values to give instead.
        instead: &'static str,
    },
    /// The runtime that the program gave to the hub has I/O or time disabled.
    #[error("the runtime given to the hub has I/O or time disabled: build it with enable_all()")]
    Runtime,
    /// The operating system gave no thread, no event queue, or no random bytes.
    #[error("cannot start the hub: {0}")]
    System(#[source] io::Error),
}

impl fmt::Debug for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program, perhaps an earlier run of this one, listens there: end it, choose \
             another port, or use port 0 to get a free one"
        }
        io::ErrorKind::PermissionDenied => "choose a port above 1023",
        kind if kind == io::ErrorKind::AddrNotAvailable
            || error.raw_os_error() == Some(no_family()) =>
        {
            "this machine does not have that address: use 127.0.0.1, or 0.0.0.0 for all it has"
        }
        _ => "choose another address, or use port 0 to get a free port",
    }
}

/// The reason why a push did not take a message: a call of [`Hub`](crate::Hub),
/// [`Client`](crate::Client) or [`Feed`](crate::Feed).
///
/// None of these is a reason to end a run.
///
/// ```
/// use stepcast::{ClientId, Hub, SendError};
///
/// let hub = Hub::spawn_blocking("127.0.0.1:0")?;
/// let id: ClientId = "4711".parse().unwrap();
/// match hub.send(id, "step 41") {
///     Err(SendError::NoSuchClient(gone)) => assert_eq!(gone, id), // nobody to tell: go on
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No client with this id is connected: it has left, or never was.
    #[error("no client {0} is connected")]
    NoSuchClient(ClientId),
    /// The client's mailbox is full, and the policy is not to skip ([`Overflow`](crate::Overflow)).
    #[error(
        "the mailbox of client {0} is full, since the client reads too slowly; see \
         Limits::mailbox and Overflow"
    )]
    Full(ClientId),
    /// The message is larger than the hub's limit.
    #[error("a message has at most {limit} bytes, got {bytes}; see Limits::outbound_message")]
    TooLarge {
        /// The message's size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The hub's memory limit ([`Limits::memory`](crate::Limits::memory)) is reached, and no older
    /// message has made way yet. For a client that is away: the quarter of the limit that all such
    /// clients share is used up.
    #[error(
        "the hub's memory is used up, or the quarter of it for clients that are away; see \
         Limits::memory"
    )]
    NoMemory,
    /// A push that waits found no room in time, such as
    /// [`Hub::send_timeout`](crate::Hub::send_timeout).
    #[error("there was no room for the message in time, since a client reads too slowly")]
    TimedOut,
    /// The feed has had its last message, by [`Feed::finish`](crate::Feed::finish).
    #[error("the feed is finished")]
    Finished,
    /// The feed takes nothing: [`Limits::feeds`](crate::Limits::feeds) feeds were in use when the
    /// program asked for this one.
    #[error("{limit} feeds were in use already, so this feed takes nothing; see Limits::feeds")]
    TooManyFeeds {
        /// The limit on feeds.
        limit: usize,
    },
    /// A feed or a client's mailbox has no room for one more latest value. The limits are
    /// [`Limits::keys`](crate::Limits::keys), and [`Limits::latest`](crate::Limits::latest) for a
    /// feed or [`Limits::mailbox`](crate::Limits::mailbox) for a client.
    #[error(
        "latest values have at most {keys} keys and {bytes} bytes, and one of {value} bytes does \
         not fit; see Limits::keys, Limits::latest for a feed, and Limits::mailbox for a client"
    )]
    TooManyValues {
        /// The bytes that the value would have counted, with its key.
        value: usize,
        /// The limit on keys.
        keys: usize,
        /// The limit in bytes.
        bytes: usize,
    },
    /// The key of a latest value is longer than 256 bytes.
    #[error("a key has at most 256 bytes, got {bytes}")]
    KeyTooLong {
        /// The key's length in bytes.
        bytes: usize,
    },
    /// The hub has ended.
    #[error("the hub has been shut down")]
    ShutDown,
}

/// The longest key of a latest value, in bytes.
pub(crate) const KEY_MAX: usize = 256;

/// The reason why [`Hub::feed`](crate::Hub::feed) or [`Hub::create_feed`](crate::Hub::create_feed)
/// returned no feed.
///
/// ```
/// use stepcast::{FeedError, Hub};
///
/// let hub = Hub::spawn_blocking("127.0.0.1:0")?;
/// assert_eq!(hub.feed("run\n42").unwrap_err(), FeedError::InvalidName);
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The name is empty, has more than 256 bytes, or has control characters.
    #[error("a feed's name has 1 to 256 bytes and no control characters")]
    InvalidName,
    /// The program has a feed with this name already, or an earlier one is still kept. Only
    /// [`Hub::create_feed`](crate::Hub::create_feed) returns this.
    #[error(
        "the program has a feed with this name already: give another name, or share the feed by \
         Hub::feed"
    )]
    Exists,
    /// As many feeds are in use as there may be, or as clients may name. Only
    /// [`Hub::create_feed`](crate::Hub::create_feed) returns this; [`Hub::feed`](crate::Hub::feed)
    /// returns a feed that takes nothing instead.
    #[error("{limit} feeds are in use already; see Limits::feeds")]
    TooMany {
        /// The limit on feeds.
        limit: usize,
    },
}

/// The reason why a client could not follow or unfollow a feed.
///
/// ```
/// use stepcast::{ClientId, FollowError, Hub};
///
/// let hub = Hub::spawn_blocking("127.0.0.1:0")?;
/// let feed = hub.feed("run/42")?;
/// let gone: ClientId = "4711".parse().unwrap();
/// assert_eq!(hub.follow(gone, &feed), Err(FollowError::NoSuchClient(gone)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// No client with this id is connected: it has left, or never was.
    #[error("no client {0} is connected")]
    NoSuchClient(ClientId),
    /// The client follows as many feeds as it may, and goes on with those.
    #[error("the client follows {limit} feeds already; see Limits::feeds_per_client")]
    TooMany {
        /// The limit on feeds of one client.
        limit: usize,
    },
    /// The feed takes nothing, so nobody can follow it: [`Limits::feeds`](crate::Limits::feeds)
    /// feeds were in use when the program asked for this one.
    #[error("{limit} feeds were in use already, so this feed takes nothing; see Limits::feeds")]
    TooManyFeeds {
        /// The limit on feeds.
        limit: usize,
    },
    /// The feed belongs to another hub.
    #[error("the feed belongs to another hub: give a feed of this hub")]
    OtherHub,
    /// The hub has ended.
    #[error("the hub has been shut down")]
    ShutDown,
}

/// The reason why [`Hub::flush`](crate::Hub::flush) did not hand over every message.
///
/// ```
/// use stepcast::FlushError;
///
/// let error = FlushError::TimedOut { clients: 2 };
/// assert_eq!(error.to_string(), "2 clients did not read all pushed messages in time");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// Some clients have not read everything: they do not read, or read too slowly.
    #[error("{clients} clients did not read all pushed messages in time")]
    TimedOut {
        /// The number of these clients.
        clients: usize,
    },
    /// The hub has ended.
    #[error("the hub has been shut down")]
    ShutDown,
}

/// The system's number for a family that it does not know.
#[cfg(unix)]
pub(crate) fn no_family() -> i32 {
    rustix::io::Errno::AFNOSUPPORT.raw_os_error()
}

#[cfg(not(unix))]
pub(crate) fn no_family() -> i32 {
    10047 // WSAEAFNOSUPPORT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_failure_names_the_address_and_what_to_do() {
        let address = "127.0.0.1:8002".parse().unwrap();
        let error = io::Error::from(io::ErrorKind::AddrInUse);
        let text = SpawnError::Bind { address, error }.to_string();
        assert!(text.contains("127.0.0.1:8002") && text.contains("port 0"), "{text}");
    }

    #[test]
    fn an_open_address_without_a_rule_is_an_error_that_names_the_ways_out() {
        let address = "0.0.0.0:8002".parse().unwrap();
        let text = SpawnError::NotLoopback { address }.to_string();
        assert!(text.contains("127.0.0.1:8002") && text.contains("allow_remote"), "{text}");
    }
}
