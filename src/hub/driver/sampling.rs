//! Samples what the program tells of its run, and tells the feeds of the run what has changed.

use std::collections::HashSet;

use crate::hub::driver::state::Driver;
use crate::hub::primitives::moment::millis;
use crate::hub::shared::run_feeds::RunFeeds;
use crate::progress::sampler::{QUIET_TICK, TICK, Watched};

impl Driver {
    /// Samples the jobs if it is time, somebody has begun to watch, or something has changed after
    /// a rest.
    pub(super) fn sample(&mut self) {
        let jobs = &self.engine.shared.jobs;
        if !jobs.registry.base.is_used() || self.end.is_some() {
            return;
        }
        let is_due = match self.sampling.next {
            Some(at) => self.engine.clock.now >= at,
            None => jobs.registry.base.is_awake(),
        };
        if is_due {
            return self.sample_jobs();
        }
        let watched = self.watched();
        if std::mem::replace(&mut self.sampling.watched, watched) < watched {
            // Soon, and not at once: clients may come and go without pause.
            let soon = self.sampling.last + millis(TICK);
            self.sampling.next = Some(self.sampling.next.map_or(soon, |next| next.min(soon)));
        }
    }

    /// What is watched: by clients, or by observers.
    fn watched(&self) -> Watched {
        let watched = self.sampling.feeds.as_ref().map_or(Watched::default(), RunFeeds::watched);
        Watched { any: watched.any || self.engine.shared.jobs.observers.is_any(), ..watched }
    }

    /// Samples the jobs, and tells what has changed.
    pub(super) fn sample_jobs(&mut self) {
        let shared = self.shared();
        if !shared.jobs.registry.base.is_used() {
            return;
        }
        if self.sampling.feeds.is_none() {
            self.sampling.feeds = RunFeeds::of(&shared);
        }
        let Some(feeds) = &self.sampling.feeds else {
            // There are too many feeds. One may go.
            self.sampling.next = Some(self.engine.clock.now + 1000);
            return;
        };
        let watched = self.watched();
        self.sampling.watched = watched;
        self.sampling.last = self.engine.clock.now;
        let mut tell = std::mem::take(&mut self.sampling.tell);
        let again = shared.jobs.sample(watched, &mut tell);
        self.sampling.next = again.map(|again| self.engine.clock.now + millis(again));
        let refused = tell.drain(..).filter_map(|tell| shared.tell_of_jobs(feeds, tell));
        let refused: HashSet<String> = refused.collect();
        self.sampling.tell = tell;
        if !refused.is_empty() {
            shared.jobs.tell_again(&refused);
        }
        let is_of_run = |key: &String| !key.starts_with("series/") && !key.starts_with("data/");
        if refused.iter().any(is_of_run) {
            self.sampling.next = Some(self.engine.clock.now + millis(QUIET_TICK));
        }
    }
}
