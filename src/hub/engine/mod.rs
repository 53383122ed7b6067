//! The state that all connections of one driver share, and how feeds and clients come and go in it.
//!
//! [`parts::Engine`] is made of the parts in the other files. `session`, `reception` and `memory`
//! hold its methods that need several of them.

pub(crate) mod admission;
pub(crate) mod clients;
pub(crate) mod clock;
pub(crate) mod feeds;
pub(crate) mod follows;
pub(crate) mod intake;
pub(crate) mod logs;
mod memory;
pub(crate) mod parts;
pub(crate) mod reception;
pub(crate) mod reports;
pub(crate) mod round;
pub(crate) mod session;
pub(crate) mod takeover;
