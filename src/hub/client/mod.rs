//! A client as callers and the driver see it, and the tables of connected clients and of clients
//! that are away.

pub(crate) mod addresses;
pub(crate) mod away;
pub(crate) mod held;
pub(crate) mod mail;
pub(crate) mod state;
