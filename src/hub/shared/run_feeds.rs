//! The feeds in which the hub tells of the program's run.

use std::sync::Arc;

use crate::hub::feed::topic::{By, Topic};
use crate::hub::shared::state::Shared;
use crate::progress::sampler::Watched;
use crate::progress::tell::{FIELDS, RUN, SERIES};

/// The feeds that tell of the run.
#[derive(Debug)]
pub(crate) struct RunFeeds {
    pub(crate) run: Arc<Topic>,
    /// `None`: there was no place for one more feed.
    pub(crate) series: Option<Arc<Topic>>,
    pub(crate) fields: Option<Arc<Topic>>,
}

impl RunFeeds {
    /// Makes the feeds. `None`: there is no place even for that of the run.
    pub(crate) fn of(shared: &Shared) -> Option<Self> {
        let topic = |name| shared.topic(name, By::Program).ok();
        Some(Self { run: topic(RUN)?, series: topic(SERIES), fields: topic(FIELDS) })
    }

    /// Which of them clients follow.
    pub(crate) fn watched(&self) -> Watched {
        let is_followed =
            |topic: &Option<Arc<Topic>>| topic.as_ref().is_some_and(|topic| topic.followers() > 0);
        let fields = is_followed(&self.fields);
        let any = fields || self.run.followers() > 0 || is_followed(&self.series);
        Watched { any, fields }
    }
}
