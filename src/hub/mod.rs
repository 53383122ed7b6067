//! The hub: who is connected, what each is owed, and the thread that delivers it.
//!
//! A [`Hub`] is a handle for the callers' threads. Behind it is a driver with a thread of its own,
//! which owns the listener and every connection. They meet in a few places, each under a lock that
//! is held for some lines: everyone's feed, the clients' mailboxes, and the table of clients.
//! `docs/architecture.md` follows a message through them.

mod builder;
mod client;
mod client_handle;
mod conn;
mod driver;
mod ending;
mod engine;
mod error;
mod events;
mod feed;
mod feed_handle;
mod goodbye;
mod handle;
mod id;
mod jobs;
mod limits;
pub(crate) mod primitives;
mod shared;
mod stats;
#[cfg(test)]
mod testing;
mod urls;
mod weak;

pub use builder::HubBuilder;
pub use client::state::ClientInfo;
pub use client_handle::Client;
pub use error::{FeedError, FlushError, FollowError, SendError, SpawnError};
pub use events::{DisconnectReason, Event, Events};
pub use feed_handle::Feed;
pub use handle::Hub;
pub use id::{ClientId, InvalidClientId};
pub use limits::{Limits, Overflow, Retention, Timeouts};
pub use stats::{RefusedPushes, Stats};
pub use weak::WeakHub;
