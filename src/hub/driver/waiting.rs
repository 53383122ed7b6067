//! Pushes that wait for room.

use std::sync::Arc;

use crate::hub::driver::state::{Driver, STEPS, find};
use crate::hub::feed::log::Survey;
use crate::hub::feed::place::FeedPlace;
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::shared::waiters::{First, Target};

impl Driver {
    /// Wakes the first waiting push at each client or feed that has room. Looks up at most `survey`
    /// followers.
    pub(super) fn serve_waiters(&mut self, mut survey: usize) {
        let shared = self.shared();
        let (lines, joined) = shared.waiters.look();
        if lines == 0 {
            self.unlooked = 0;
            return;
        }
        shared.waiters.expire(std::time::Instant::now(), STEPS);
        // Only what connections take, and what is dropped, makes room.
        self.unlooked = if joined { lines } else { self.unlooked.min(lines) };
        let most = STEPS.min(self.unlooked);
        let mut is_known = true;
        for first in shared.waiters.firsts(most) {
            match self.has_answer(&first, &mut survey) {
                Some(true) => shared.waiters.wake(&first),
                Some(false) => {}
                None => {
                    shared.waiters.look_again_at(&first); // first of all, in the next turn
                    is_known = false;
                    break;
                }
            }
        }
        self.unlooked = if is_known { self.unlooked - most } else { lines };
    }

    /// Whether a waiting push gets an answer now. `None`: not all followers of its feed have been
    /// looked up yet.
    fn has_answer(&mut self, first: &First, left: &mut usize) -> Option<bool> {
        let shared = self.shared();
        match &first.target {
            Target::Client(id) => Some(shared.has_answer_at_client(*id, first.cost)),
            Target::Feed(topic) => {
                let place = topic.place();
                let log = self.engine.feeds.get(place);
                let is_known = log.is_some_and(|log| Arc::ptr_eq(&log.topic, topic));
                if is_known && !self.find_slowest(place, left) {
                    return None;
                }
                Some(shared.has_answer_at_feed(topic, first.cost))
            }
        }
    }

    /// Finds out how much the slowest follower of a feed has not been handed, and tells callers.
    /// Looks up at most `left` followers, and returns whether these were enough. While the slowest
    /// does not move no other is looked up.
    pub(super) fn find_slowest(&mut self, place: FeedPlace, left: &mut usize) -> bool {
        let Self { engine, connections, .. } = self;
        let position = |id: ConnId| {
            let connection = find(connections, id).filter(|c| c.follows(place))?;
            let mut position = None;
            connection.cursors(|at, cursor, _| {
                if at == place {
                    position = Some(cursor.log);
                }
            });
            position
        };
        let between = engine.feeds.bytes_between(place);
        let Some(log) = engine.feeds.get_mut(place) else { return true };
        let mut survey = match log.survey.take() {
            // A feed without followers gets room when the driver takes over its inbox.
            Some(survey)
                if survey.is_over && survey.slowest.and_then(position) == Some(survey.least) =>
            {
                log.survey = Some(survey);
                return true;
            }
            Some(survey) if !survey.is_over => survey,
            _ => Survey::of(&mut log.followers),
        };
        while log.followers.is_asking() {
            if *left == 0 {
                log.survey = Some(survey);
                return false;
            }
            *left -= 1;
            let Some(follower) = log.followers.next_asked() else { continue };
            if let Some(position) = position(follower).filter(|position| *position < survey.least) {
                (survey.slowest, survey.least) = (Some(follower), position);
            }
        }
        survey.is_over = true;
        log.tell_owed(survey.least, between);
        log.survey = Some(survey);
        true
    }
}
