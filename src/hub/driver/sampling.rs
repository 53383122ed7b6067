//! Samples the program's jobs, and tells the feed of the run what has changed.

use crate::hub::driver::state::Driver;
use crate::hub::feed::topic::By;
use crate::hub::primitives::moment::millis;
use crate::progress::sampler::{RUN, TICK};

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
        let is_watched = self.sampling.topic.as_ref().is_some_and(|topic| topic.followers() > 0);
        if is_due {
            return self.sample_jobs();
        }
        if is_watched && !std::mem::replace(&mut self.sampling.was_watched, is_watched) {
            // Soon, and not at once: clients may come and go without pause.
            let soon = self.sampling.last + millis(TICK);
            self.sampling.next = Some(self.sampling.next.map_or(soon, |next| next.min(soon)));
        }
    }

    /// Samples the jobs, and tells what has changed.
    pub(super) fn sample_jobs(&mut self) {
        let shared = self.shared();
        if !shared.jobs.registry.base.is_used() {
            return;
        }
        if self.sampling.topic.is_none() {
            self.sampling.topic = shared.topic(RUN, By::Program).ok();
        }
        let Some(topic) = &self.sampling.topic else {
            // There are too many feeds. One may go.
            self.sampling.next = Some(self.engine.clock.now + 1000);
            return;
        };
        let is_watched = topic.followers() > 0;
        self.sampling.was_watched = is_watched;
        self.sampling.last = self.engine.clock.now;
        let mut tell = std::mem::take(&mut self.sampling.tell);
        let again = shared.jobs.sample(is_watched, &mut tell);
        self.sampling.next = again.map(|again| self.engine.clock.now + millis(again));
        for tell in tell.drain(..) {
            shared.tell_of_jobs(topic, tell);
        }
        self.sampling.tell = tell;
    }
}
