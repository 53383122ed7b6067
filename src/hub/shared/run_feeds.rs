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
    pub(crate) series: Arc<Topic>,
    pub(crate) fields: Arc<Topic>,
}

impl RunFeeds {
    /// Makes the feeds. `None`: there are too many.
    pub(crate) fn of(shared: &Shared) -> Option<Self> {
        let topic = |name| shared.topic(name, By::Program).ok();
        Some(Self { run: topic(RUN)?, series: topic(SERIES)?, fields: topic(FIELDS)? })
    }

    /// Which of them clients follow.
    pub(crate) fn watched(&self) -> Watched {
        let fields = self.fields.followers() > 0;
        let any = fields || self.run.followers() > 0 || self.series.followers() > 0;
        Watched { any, fields }
    }
}
