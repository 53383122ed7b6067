//! What can go wrong for the program that owns a hub.

use std::net::SocketAddr;
use std::{fmt, io};

use crate::hub::id::ClientId;

/// Why a hub could not start. Its text says what to do.
///
/// ```
/// use stepcast::{Hub, SpawnError};
///
/// let error = Hub::spawn_blocking("0.0.0.0:8002").unwrap_err();
/// assert!(matches!(error, SpawnError::NotLoopback { .. }));
/// assert!(error.to_string().contains("allow_remote"));
/// ```
///
/// `Debug` gives that text, too: it is what `fn main() -> Result<(), SpawnError>` prints.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The address was not understood, or its name is not known.
    #[error(
        "cannot listen on {given}: {error}; give an address and a port, such as \"127.0.0.1:8002\""
    )]
    Address {
        /// The address as given, in the form of `Debug`: a text in quotes.
        given: String,
        /// The lookup's error.
        #[source]
        error: io::Error,
    },
    /// The address is reachable from other machines, and nothing says who may connect.
    #[error(
        "{address} can be reached from other machines, and no rule says who may connect: bind to \
         127.0.0.1:{port} for this machine alone, or call Hub::builder().allow_remote()",
        port = address.port()
    )]
    NotLoopback {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Listening failed.
    #[error("cannot listen on {address}: {error}; {}", advice(error))]
    Bind {
        /// The address asked for: of a name that has several, the one that failed.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
    /// An option has a value with which the hub could serve nobody, such as a limit of 0 clients.
    #[error("{option} cannot be {value}: give {instead}")]
    BadOption {
        /// The option, such as `Limits::clients`.
        option: &'static str,
        /// The value it was given.
        value: String,
        /// What to give in its place.
        instead: &'static str,
    },
    /// The runtime that the hub was given lacks what it needs.
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

/// Why [`Hub::send`](crate::Hub::send), [`Hub::set`](crate::Hub::set) or a [`Feed`](crate::Feed) did
/// not take a message.
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
    /// Nobody with this id is connected: it has left, or never was.
    #[error("no client {0} is connected")]
    NoSuchClient(ClientId),
    /// The message was not taken, since too much waits already: the client's mailbox is full and
    /// the policy is not to skip ([`Overflow`](crate::Overflow)).
    #[error("the mailbox of client {0} is full")]
    Full(ClientId),
    /// The message is larger than the hub sends.
    #[error(
        "a message of {bytes} bytes is above the limit of {limit}; see Limits::outbound_message"
    )]
    TooLarge {
        /// The message's size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The hub's memory limit ([`Limits::memory`](crate::Limits::memory)) is reached, and nothing older
    /// has been given up for the message yet. For a client that is away: the quarter of it that all
    /// such clients share.
    #[error(
        "the hub's memory limit, or the quarter of it for clients that are away, is reached; \
         see Limits::memory"
    )]
    NoMemory,
    /// There was no room in time: for a push that waits, such as
    /// [`Hub::send_timeout`](crate::Hub::send_timeout).
    #[error("there was no room in time")]
    TimedOut,
    /// The feed has had its last message.
    #[error("the feed is finished")]
    Finished,
    /// There were as many feeds as there may be when this one was asked for, all of them in use: it takes nothing.
    #[error(
        "there are {limit} feeds in use already, and this one takes nothing; see Limits::feeds"
    )]
    TooManyFeeds {
        /// The limit.
        limit: usize,
    },
    /// A feed, or what waits for a client, has no room for one more latest value: see
    /// [`Limits::keys`](crate::Limits::keys), and for a feed [`Limits::latest`](crate::Limits::latest), for a
    /// client [`Limits::mailbox`](crate::Limits::mailbox).
    #[error(
        "a value that counts {value} bytes is beyond what latest values may have, {keys} keys and {bytes} bytes; see \
         Limits::keys, Limits::latest for a feed, and Limits::mailbox for a client"
    )]
    TooManyValues {
        /// What the value would have counted, in bytes, with its key.
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
    /// The hub has been shut down.
    #[error("the hub has been shut down")]
    ShutDown,
}

/// The longest key of a latest value, in bytes.
pub(crate) const KEY_MAX: usize = 256;

/// Why a feed could not be had.
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
    /// A feed's name has 1 to 256 bytes, and no control characters.
    #[error("a feed's name has 1 to 256 bytes and no control characters")]
    InvalidName,
    /// The program has a feed of this name already, or something of an earlier one is still kept:
    /// [`Hub::create_feed`](crate::Hub::create_feed).
    #[error("the program has had a feed of this name, and it is still kept: give another name")]
    Exists,
    /// There are as many feeds in use as there may be, or as clients may name.
    /// [`Hub::feed`](crate::Hub::feed) returns a feed that takes nothing in this case.
    #[error("there are {limit} feeds in use already; see Limits::feeds")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

/// Why a client does not follow a feed.
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
    /// Nobody with this id is connected: it has left, or never was.
    #[error("no client {0} is connected")]
    NoSuchClient(ClientId),
    /// The client follows as many feeds as it may. It goes on with those that it has.
    #[error("the client follows {limit} feeds already; see Limits::feeds_per_client")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// There were as many feeds as there may be when this one was asked for: nobody can follow it.
    #[error(
        "there are {limit} feeds in use already, and this one takes nothing; see Limits::feeds"
    )]
    TooManyFeeds {
        /// The limit.
        limit: usize,
    },
    /// The feed is another hub's.
    #[error("the feed is another hub's")]
    OtherHub,
    /// The hub has been shut down.
    #[error("the hub has been shut down")]
    ShutDown,
}

/// Why [`Hub::flush`](crate::Hub::flush) did not have everything leave.
///
/// ```
/// use stepcast::FlushError;
///
/// let error = FlushError::TimedOut { clients: 2 };
/// assert_eq!(error.to_string(), "2 clients did not read what was pushed in time");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// Something still waits for so many clients, which do not read, or read too slowly.
    #[error("{clients} clients did not read what was pushed in time")]
    TimedOut {
        /// How many.
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
