//! A client as callers and driver see it, and the tables of those who are connected or away.

pub(crate) mod addresses;
pub(crate) mod away;
pub(crate) mod held;
pub(crate) mod mail;
pub(crate) mod state;
