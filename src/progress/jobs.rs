//! A hub's jobs as its thread sees them: sampled, asked for, commanded and ended.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::hub::primitives::lock::Lock;
use crate::progress::cell::Cell;
use crate::progress::log::Level;
use crate::progress::observers::Observers;
use crate::progress::registry::Registry;
use crate::progress::sampler::{QUIET_TICK, Sampler, TICK, Watched};
use crate::progress::status::JobStatus;
use crate::progress::tell::Tell;

/// A state is written anew after so many seconds; a large one that somebody reads after more.
const STATE_EVERY: f64 = 0.1;
const STATE_HELD: f64 = 10.0;

/// A state that nobody reads any more is let go after so many seconds.
const STATE_KEPT: f64 = 2.0;

/// A state of so many bytes may be held by many readers at once.
const STATE_FREE: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Jobs {
    pub(crate) registry: Arc<Registry>,
    pub(crate) observers: Observers,
    sampler: Lock<Sampler>,
    /// The last state that was asked for, and when it was written; empty: there is none.
    state: Lock<(f64, Bytes)>,
}

impl Jobs {
    /// `call` has the hub's thread look soon. The rest is as in [`Sampler::new`].
    pub(crate) fn new(
        points: usize,
        copies: usize,
        call: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let (registry, sampler) = (Registry::new(call), Lock::new(Sampler::new(points, copies)));
        let (observers, state) = <_>::default();
        Self { registry, observers, sampler, state }
    }

    /// Samples all jobs, and says what viewers have to be told. Returns when to be called again;
    /// `None`: when something has changed.
    pub(crate) fn sample(&self, watched: Watched, tell: &mut Vec<Tell>) -> Option<Duration> {
        let base = &self.registry.base;
        let changes = base.changes();
        let again = self.sampler.lock().sample(&self.registry, base.now(), watched, tell);
        let are_behind = self.observers.tell(base.unix(base.now()), tell, || self.values());
        let keeps_state = self.let_go_of_state(base.now());
        if again.is_some() || keeps_state || are_behind {
            return again.or(Some(QUIET_TICK));
        }
        let was_asleep = base.is_asleep();
        base.fall_asleep();
        // A point whose push has not seen that the sampler sleeps may be on its way: one more look.
        let looks_again = !was_asleep && self.sampler.lock().has_series();
        (base.changes() != changes || looks_again).then_some(TICK)
    }

    /// Has the next sample tell the values of these keys again.
    pub(crate) fn tell_again(&self, keys: &HashSet<String>) {
        self.sampler.lock().tell_again(keys, self.registry.base.now());
    }

    /// Lets go of a state that nobody has read for some seconds. Returns whether there is one still.
    fn let_go_of_state(&self, now: f64) -> bool {
        let mut last = self.state.lock();
        let (at, state) = &*last;
        let kept_for = if state.is_unique() { STATE_KEPT } else { STATE_HELD };
        if now - at >= kept_for {
            last.1 = Bytes::new(); // which frees JSON of the hub's
        }
        !last.1.is_empty()
    }

    fn values(&self) -> Vec<Tell> {
        self.sampler.lock().values(&self.registry)
    }

    /// Tells observers how the run has ended.
    pub(crate) fn tell_of_the_end(&self, how: Option<&str>, reason: &str) {
        let how = how.unwrap_or("ended");
        let base = &self.registry.base;
        self.observers.end(base.unix(base.now()), how, reason, || self.values());
    }

    /// Returns the open job with this number.
    fn job(&self, id: u64) -> Option<Arc<Cell>> {
        let known = self.sampler.lock().job(id);
        known.or_else(|| self.registry.new_job(id))
    }

    /// Ends all open jobs, since the run has ended. A job that has reached its total has completed.
    pub(crate) fn end(&self, failed: Option<&str>) {
        // In this order: a sample in between moves jobs from the registry to the sampler.
        let mut open = self.registry.new_jobs();
        open.extend(self.sampler.lock().cells());
        open.sort_unstable_by_key(|cell| cell.about.id);
        open.dedup_by_key(|cell| cell.about.id);
        // The jobs below a job come before it: its end would abandon them.
        for cell in open.into_iter().rev() {
            let is_done = cell.total().is_some_and(|total| cell.position() >= total);
            match failed {
                Some(reason) => cell.end(JobStatus::Failed, Some(reason.to_owned().into())),
                None if is_done => cell.end(JobStatus::Completed, None),
                None => cell.end(JobStatus::Abandoned, None),
            }
        }
    }

    /// Tells viewers that the work is done, though the hub stays.
    pub(crate) fn say_done(&self) {
        let now = self.registry.base.unix(self.registry.base.now());
        self.registry.describe(|run| run.done = run.done.or(Some(now)));
    }

    /// Tells viewers how the run has ended. The first word counts.
    pub(crate) fn say_end(&self, how: &'static str, reason: &str) {
        if self.registry.base.is_used() {
            self.say_done();
            self.registry.describe(|run| {
                run.end.get_or_insert((how, reason.into()));
            });
        }
    }

    /// Returns the state of the run as JSON, which all that ask at about the same time share.
    ///
    /// While somebody still reads an earlier state, and for at most ten seconds, a large one is
    /// given again: however many ask, and however slowly they read, there are a few of them. The
    /// sampler lets go of the last one.
    pub(crate) fn state(&self) -> Bytes {
        let now = self.registry.base.now();
        let mut last = self.state.lock();
        let (at, state) = &*last;
        let is_shared = !state.is_unique() && state.len() > STATE_FREE;
        let fresh_for = if is_shared { STATE_HELD } else { STATE_EVERY };
        if !state.is_empty() && now - at < fresh_for {
            return state.clone();
        }
        let mut out = Vec::new();
        self.sampler.lock().write_state(&self.registry, &mut out);
        let state = Bytes::from(out);
        *last = (now, state.clone());
        drop(last);
        if self.registry.base.is_used() {
            self.registry.base.wake(); // to let go of the state in time
        }
        state
    }

    /// Carries out a viewer's command: `{"cancel":{"id":7}}` or `{"set":{"id":3,"value":0.05}}`.
    ///
    /// # Errors
    ///
    /// The command is malformed, means nothing that there is, or is not allowed.
    pub(crate) fn command(&self, text: &str, by: &str) -> Result<(), Refused> {
        let refuse = |code, reason: String| Err(Refused { code, reason });
        let expected = r#"expected {"cancel":{"id":7}} or {"set":{"id":3,"value":0.05}}"#;
        let Ok(command) = serde_json::from_str::<Value>(text) else {
            return refuse("malformed", expected.to_owned());
        };
        let id = |content: &Value| content.get("id").and_then(Value::as_u64);
        if let Some(id) = command.get("cancel").and_then(id) {
            let Some(job) = self.job(id) else {
                return refuse("unknown", format!("there is no open job {id}"));
            };
            if !job.about.cancellable {
                return refuse("forbidden", format!("job {id} cannot be cancelled"));
            }
            if job.cancel() {
                let text = format!("{}: cancelled by {by}", job.about.title);
                self.registry.base.log(Level::Info, Some(id), text.into());
            }
            return Ok(());
        }
        if let Some((id, value)) =
            command.get("set").and_then(|set| Some((id(set)?, set.get("value")?)))
        {
            let Some(parameter) = self.registry.parameter(id) else {
                return refuse("unknown", format!("there is no parameter {id}"));
            };
            return parameter.set(value, by).map_err(|reason| Refused { code: "invalid", reason });
        }
        refuse("malformed", expected.to_owned())
    }
}

/// Why a viewer's command is not carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: &'static str,
    pub(crate) reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::job::JobBuilder;

    #[test]
    fn a_state_that_nobody_reads_is_let_go() {
        let jobs = Jobs::new(8 << 20, 64 << 20, || ());
        drop(JobBuilder::new(Some(Arc::clone(&jobs.registry)), "job".into()).start());
        let read = jobs.state();
        let mut tell = Vec::new();
        while jobs.sample(Watched::default(), &mut tell) != Some(QUIET_TICK) {} // of the state alone
        let now = jobs.registry.base.now();
        assert!(jobs.let_go_of_state(now + STATE_KEPT), "somebody reads");
        drop(read);
        assert!(jobs.let_go_of_state(now + STATE_KEPT / 2.0), "others may ask soon");
        assert!(!jobs.let_go_of_state(now + STATE_KEPT));
        assert_eq!(jobs.sample(Watched::default(), &mut tell), None);
        let read = jobs.state();
        assert!(jobs.registry.base.is_awake(), "the sampler has to let go of the state");
        assert!(!jobs.let_go_of_state(now + 2.0 * STATE_HELD));
        drop(read);
    }
}
