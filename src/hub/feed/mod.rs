//! A feed: the inbox that callers push into, and the log that the driver delivers from.

pub(crate) mod batch;
pub(crate) mod epoch;
pub(crate) mod followers;
pub(crate) mod item;
pub(crate) mod log;
pub(crate) mod place;
pub(crate) mod queue;
pub(crate) mod seq;
pub(crate) mod stamp;
pub(crate) mod times;
pub(crate) mod topic;
pub(crate) mod window;
