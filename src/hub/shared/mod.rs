//! The state that callers' threads and the driver share, and the push calls.

pub(crate) mod descriptors;
pub(crate) mod flush;
pub(crate) mod push;
pub(crate) mod refusals;
pub(crate) mod run_feeds;
pub(crate) mod state;
pub(crate) mod waiters;
