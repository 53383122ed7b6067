//! The driver: the one task that owns the listener and every connection.

pub(crate) mod bind;
pub(crate) mod flush;
pub(crate) mod listener;
pub(crate) mod task;
