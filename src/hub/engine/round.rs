//! The round in which the driver takes over what callers have pushed: see
//! [`takeover`](crate::hub::engine::takeover).

use std::collections::hash_map;
use std::sync::Arc;

use crate::hub::feed::place::FeedPlace;
use crate::hub::feed::queue::Queue;
use crate::hub::feed::seq::Seq;
use crate::hub::feed::stamp::Stamp;
use crate::hub::feed::topic::Change;
use crate::hub::shared::state::{FeedNews, Slots};

/// The round that is under way.
#[derive(Default)]
pub(crate) struct Round {
    pub(crate) stage: Stage,
    /// The stamp that the round reaches.
    pub(crate) upto: Stamp,
    /// Feeds whose inboxes have not been looked at yet.
    pub(crate) news: FeedNews,
    /// The rest of the inbox that is being taken over.
    pub(crate) part: Option<Part>,
    /// Feeds that have been taken over.
    pub(crate) fresh: Vec<FeedPlace>,
    /// Clients that are not marked yet.
    pub(crate) slots: Slots,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    #[default]
    None,
    Feeds,
    Clients,
}

/// The rest of an inbox that has been emptied.
pub(crate) struct Part {
    pub(crate) place: FeedPlace,
    /// The number of the message before the next.
    pub(crate) number: Seq,
    /// When it was emptied: the age of its messages counts from then.
    pub(crate) at: u64,
    pub(crate) queue: Queue,
    pub(crate) values: hash_map::IntoIter<Arc<str>, Change>,
    /// The stamp of the feed's end.
    pub(crate) end: Option<Stamp>,
}
