//! The wire `stepcast.v1`: lines of JSON in text frames, and bytes in binary frames. See
//! `docs/protocol.md`.

#[cfg(test)]
mod fixtures;
mod reading;
mod writing;

pub(crate) use reading::{Had, Hello, Refused, Said, parse, parse_binary};
#[cfg(test)]
pub(crate) use writing::hex;
pub(crate) use writing::{Form, Greeting, Head, Joined, Lines, ended, message, removed};

/// The name of the subprotocol.
pub(crate) const PROTOCOL: &str = "stepcast.v1";

/// The alias of every client's mailbox.
pub(crate) const MAILBOX: u32 = 0;
