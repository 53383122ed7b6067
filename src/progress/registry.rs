//! What callers have made for the sampler: jobs, parameters, a description of the run.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::hub::primitives::lock::Lock;
use crate::progress::base::Base;
use crate::progress::cell::Cell;
use crate::progress::field::state as field;
use crate::progress::field::table::FIELDS_MAX;
use crate::progress::parameter::{PARAMETERS_MAX, State};
use crate::progress::run::Run;
use crate::progress::series::state as series;
use crate::progress::series::table::SERIES_MAX;

/// The most jobs that are open at the same time. One more is not shown.
pub(crate) const OPEN_MAX: usize = 65_536;

/// The jobs that wait for the sampler before those that have ended are counted and let go.
const WAITING: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) base: Arc<Base>,
    /// The number of jobs that were made while too many were open.
    refused: AtomicU64,
    run: Lock<Run>,
    run_changes: AtomicU32,
    parameters: Lock<Vec<Arc<State>>>,
    jobs: Lock<NewJobs>,
    shown: Lock<NewShown>,
}

/// The series and fields that the sampler has not seen.
#[derive(Debug, Default)]
struct NewShown {
    series: Vec<Arc<series::State>>,
    fields: Vec<Arc<field::State>>,
    /// The number of series so far.
    series_made: usize,
    /// Whether one was made while too many waited.
    without_place: bool,
}

/// The jobs that the sampler has not seen.
#[derive(Debug, Default)]
struct NewJobs {
    jobs: Vec<Arc<Cell>>,
    /// The length of `jobs` at which those that have ended are let go.
    tidy_at: usize,
}

impl Registry {
    /// Makes the registry of a hub: see [`Base::new`].
    pub(crate) fn new(call: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let base = Base::new(call);
        Arc::new(Self {
            refused: AtomicU64::new(0),
            run: Lock::new(Run::here(base.unix(0.0))),
            run_changes: AtomicU32::new(0),
            parameters: Lock::default(),
            jobs: Lock::default(),
            shown: Lock::default(),
            base,
        })
    }

    /// Takes a job on. One job too many is not shown.
    pub(crate) fn add(&self, cell: &Arc<Cell>) {
        if self.base.count_begin() >= OPEN_MAX {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let gone = {
            let mut new = self.jobs.lock();
            new.jobs.push(Arc::clone(cell));
            new.tidy()
        };
        drop(gone); // the memory of many jobs is freed after the lock
        self.base.wake();
    }

    /// Returns the jobs since the last call.
    pub(crate) fn take_jobs(&self) -> Vec<Arc<Cell>> {
        let mut new = self.jobs.lock();
        new.tidy_at = WAITING;
        std::mem::take(&mut new.jobs)
    }

    /// Returns the job with this number, if the sampler has not seen it.
    pub(crate) fn new_job(&self, id: u64) -> Option<Arc<Cell>> {
        self.jobs.lock().jobs.iter().find(|cell| cell.about.id == id).map(Arc::clone)
    }

    /// Returns the jobs that the sampler has not seen.
    pub(crate) fn new_jobs(&self) -> Vec<Arc<Cell>> {
        self.jobs.lock().jobs.clone()
    }

    /// Makes a series of this job, or of the whole run.
    pub(crate) fn make_series(
        &self,
        job: Option<u64>,
        name: Cow<'static, str>,
    ) -> Arc<series::State> {
        let state = {
            let mut shown = self.shown.lock();
            let state = series::State::new(&self.base, job, name, shown.series_made);
            shown.series_made += 1;
            if shown.series.len() < SERIES_MAX {
                shown.series.push(Arc::clone(&state));
            } else {
                shown.without_place = true;
            }
            state
        };
        self.base.wake();
        state
    }

    /// Takes a field on.
    pub(crate) fn add_field(&self, state: &Arc<field::State>) {
        let mut shown = self.shown.lock();
        if shown.fields.len() < FIELDS_MAX {
            shown.fields.push(Arc::clone(state));
        } else {
            shown.without_place = true;
        }
        drop(shown);
        self.base.wake();
    }

    /// Returns the series and the fields since the last call, and whether there were too many.
    pub(crate) fn take_shown(&self) -> (Vec<Arc<series::State>>, Vec<Arc<field::State>>, bool) {
        let mut shown = self.shown.lock();
        let without_place = std::mem::take(&mut shown.without_place);
        (std::mem::take(&mut shown.series), std::mem::take(&mut shown.fields), without_place)
    }

    /// Says what the run is.
    pub(crate) fn describe(&self, describe: impl FnOnce(&mut Run)) {
        describe(&mut self.run.lock());
        self.run_changes.fetch_add(1, Ordering::Release);
        self.base.wake();
    }

    /// Takes a parameter on. One too many is not shown.
    pub(crate) fn add_parameter(&self, parameter: &Arc<State>) {
        let mut parameters = self.parameters.lock();
        if parameters.len() < PARAMETERS_MAX {
            parameters.push(Arc::clone(parameter));
        }
        drop(parameters);
        self.base.wake();
    }

    pub(crate) fn parameter(&self, id: u64) -> Option<Arc<State>> {
        self.parameters.lock().iter().find(|known| known.id == id).map(Arc::clone)
    }

    /// Returns the parameters that the program has.
    pub(crate) fn parameters(&self) -> Vec<Arc<State>> {
        let parameters = self.parameters.lock();
        parameters.iter().filter(|parameter| !parameter.is_gone()).map(Arc::clone).collect()
    }

    /// Returns all parameters to the sampler, and forgets those that the program has dropped.
    pub(crate) fn sample_parameters(&self) -> Vec<Arc<State>> {
        let mut parameters = self.parameters.lock();
        let all = parameters.clone();
        parameters.retain(|parameter| !parameter.is_gone());
        all
    }

    /// A number that another description of the run, or another end of a job, makes another.
    pub(crate) fn run_changes(&self) -> u64 {
        let ends = [
            &self.base.ends.completed,
            &self.base.ends.failed,
            &self.base.ends.cancelled,
            &self.base.ends.abandoned,
        ];
        let ended: u64 = ends.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        ended + u64::from(self.run_changes.load(Ordering::Acquire))
    }

    pub(crate) fn write_run(&self, out: &mut Vec<u8>) {
        let refused = self.refused.load(Ordering::Relaxed);
        self.run.lock().write(&self.base.ends, refused, self.base.unix(self.base.now()), out);
    }
}

impl NewJobs {
    /// Lets go of jobs that have ended before they were seen, if very many wait: they are counted
    /// all the same.
    fn tidy(&mut self) -> Vec<Arc<Cell>> {
        if self.jobs.len() < self.tidy_at.max(WAITING) {
            return Vec::new();
        }
        let (open, gone) = std::mem::take(&mut self.jobs).into_iter().partition(|c| c.is_open());
        self.jobs = open;
        self.tidy_at = self.jobs.len() + WAITING;
        gone
    }
}
