//! Push the progress of a running computation to browsers, from inside its loop.

pub mod codec;
pub mod handshake;
mod hub;
mod page;
mod wire;

pub use codec::{Message, Text};
pub use hub::{
    ClientId, ClientInfo, DisconnectReason, Event, Events, Hub, HubBuilder, InvalidClientId,
    Limits, Overflow, SendError, SpawnError, Stats, Timeouts,
};
