//! What all connections of one driver share, and what becomes of feeds and clients in it.

pub(crate) mod follows;
pub(crate) mod inbound;
pub(crate) mod parts;
pub(crate) mod reception;
pub(crate) mod session;
pub(crate) mod takeover;
