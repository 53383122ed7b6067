//! What callers have made for the sampler: jobs, parameters, a description of the run.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::hub::primitives::lock::Lock;
use crate::progress::base::Base;
use crate::progress::cell::Cell;
use crate::progress::field::state as field;
use crate::progress::field::table::FIELDS_MAX;
use crate::progress::named::Named;
use crate::progress::parameter::{PARAMETERS_MAX, State};
use crate::progress::run::Run;
use crate::progress::series::state as series;
use crate::progress::series::table::SERIES_MAX;
use crate::progress::text::cut;

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
    parameters: Lock<Parameters>,
    jobs: Lock<NewJobs>,
    shown: Lock<Shown>,
    /// The series of the whole run.
    series: Named<series::State>,
    /// Whether the run has ended, so that no sample but the last comes.
    has_ended: AtomicBool,
}

/// The series and fields that the sampler has not seen.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) series: Vec<Arc<series::State>>,
    pub(crate) fields: Vec<Arc<field::State>>,
    /// Whether one was made while too many waited.
    pub(crate) without_place: bool,
}

/// The parameters that the program has.
#[derive(Debug, Default)]
struct Parameters {
    shown: Vec<Arc<State>>,
    /// Those that wait for one that is shown to go.
    waiting: VecDeque<Weak<State>>,
}

/// The jobs that the sampler has not seen.
#[derive(Debug, Default)]
struct NewJobs {
    /// In the order of their numbers.
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
            series: Named::default(),
            has_ended: AtomicBool::new(false),
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
            // Nearly always the last place: threads that begin jobs at once overtake each other.
            let place = new.jobs.partition_point(|known| known.about.id < cell.about.id);
            new.jobs.insert(place, Arc::clone(cell));
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
        let new = self.jobs.lock();
        let place = new.jobs.binary_search_by_key(&id, |cell| cell.about.id).ok()?;
        new.jobs.get(place).map(Arc::clone)
    }

    /// Returns the jobs that the sampler has not seen.
    pub(crate) fn new_jobs(&self) -> Vec<Arc<Cell>> {
        self.jobs.lock().jobs.clone()
    }

    /// Makes a series of this job, or of the whole run.
    pub(crate) fn make_series(&self, job: Option<u64>, name: &str) -> Arc<series::State> {
        let state = series::State::new(&self.base, job, name.to_owned().into());
        let mut shown = self.shown.lock();
        if shown.series.len() < SERIES_MAX {
            shown.series.push(Arc::clone(&state));
        } else {
            shown.without_place = true;
            state.lose_place();
        }
        drop(shown);
        self.base.wake();
        state
    }

    /// Returns the series of the whole run that has this name.
    pub(crate) fn series_of_run(&self, name: &str) -> Option<&Arc<series::State>> {
        let name = cut(name);
        let series = self.series.get_or_add(name, SERIES_MAX, || self.make_series(None, name));
        if series.is_none() {
            self.note_without_place();
        }
        series
    }

    /// Notes that a series or a field is not shown.
    pub(crate) fn note_without_place(&self) {
        if !std::mem::replace(&mut self.shown.lock().without_place, true) {
            self.base.wake();
        }
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

    /// Returns the series and the fields since the last call.
    pub(crate) fn take_shown(&self) -> Shown {
        std::mem::take(&mut self.shown.lock())
    }

    /// Says what the run is.
    pub(crate) fn describe(&self, describe: impl FnOnce(&mut Run)) {
        describe(&mut self.run.lock());
        self.run_changes.fetch_add(1, Ordering::Release);
        self.base.wake();
    }

    /// Takes a parameter on. One too many is shown when another goes.
    pub(crate) fn add_parameter(&self, parameter: &Arc<State>) {
        let mut parameters = self.parameters.lock();
        let is_shown = parameters.shown.len() < PARAMETERS_MAX;
        if is_shown {
            parameter.show();
            parameters.shown.push(Arc::clone(parameter));
        } else {
            parameters.wait(parameter);
        }
        drop(parameters);
        if is_shown {
            self.base.wake();
        }
    }

    /// Returns the parameter with this number, if it is shown.
    pub(crate) fn parameter(&self, id: u64) -> Option<Arc<State>> {
        self.parameters.lock().shown.iter().find(|known| known.id == id).map(Arc::clone)
    }

    /// Returns the parameters that are shown.
    pub(crate) fn parameters(&self) -> Vec<Arc<State>> {
        let parameters = self.parameters.lock();
        parameters.shown.iter().filter(|parameter| !parameter.is_gone()).map(Arc::clone).collect()
    }

    /// Returns all parameters that viewers know or have to know to the sampler. Those that the
    /// program has dropped make way for others.
    pub(crate) fn sample_parameters(&self) -> Vec<Arc<State>> {
        let mut parameters = self.parameters.lock();
        let mut all = parameters.shown.clone();
        parameters.shown.retain(|parameter| !parameter.is_gone());
        let known = parameters.shown.len();
        parameters.fill_up();
        all.extend(parameters.shown.iter().skip(known).map(Arc::clone));
        all
    }

    /// Notes that the run has ended.
    pub(crate) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// A number that another description of the run, another end of a job, or another job that is
    /// not shown makes another.
    pub(crate) fn run_changes(&self) -> u64 {
        let ends = [
            &self.base.ends.completed,
            &self.base.ends.failed,
            &self.base.ends.cancelled,
            &self.base.ends.abandoned,
        ];
        let ended: u64 = ends.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        let refused = self.refused.load(Ordering::Relaxed);
        ended + refused + u64::from(self.run_changes.load(Ordering::Acquire))
    }

    pub(crate) fn write_run(&self, out: &mut Vec<u8>) {
        let refused = self.refused.load(Ordering::Relaxed);
        self.run.lock().write(&self.base.ends, refused, self.base.unix(self.base.now()), out);
    }
}

impl Parameters {
    /// Has a parameter wait until it can be shown. Those that have gone are forgotten in time.
    fn wait(&mut self, parameter: &Arc<State>) {
        if self.waiting.len() == self.waiting.capacity() {
            self.waiting.retain(|waiting| waiting.strong_count() > 0);
        }
        self.waiting.push_back(Arc::downgrade(parameter));
    }

    /// Shows parameters that wait, as far as there is room.
    fn fill_up(&mut self) {
        while self.shown.len() < PARAMETERS_MAX {
            let Some(next) = self.waiting.pop_front() else { return };
            if let Some(parameter) = next.upgrade() {
                parameter.show();
                self.shown.push(parameter);
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::job::JobBuilder;
    use crate::progress::parameter::Parameter;

    fn registry() -> (Arc<Registry>, Arc<AtomicU32>) {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let registry = Registry::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        (registry, calls)
    }

    #[test]
    fn a_job_is_found_by_its_number_whichever_thread_was_first() {
        let (registry, _) = registry();
        let about = |id| crate::progress::cell::About {
            id,
            parent: None,
            title: "".into(),
            unit: "".into(),
            cancellable: false,
            weight: 1.0,
        };
        for id in [3, 1, 4, 2] {
            registry.add(&Cell::new(&registry.base, about(id)));
        }
        for id in 1..=4 {
            assert_eq!(registry.new_job(id).map(|cell| cell.about.id), Some(id));
        }
        assert!(registry.new_job(5).is_none());
    }

    #[test]
    fn a_job_that_is_not_shown_changes_the_run() {
        let (registry, _) = registry();
        let before = registry.run_changes();
        for _ in 0..OPEN_MAX {
            registry.base.count_begin();
        }
        let _one_more = JobBuilder::new(Some(Arc::clone(&registry)), "".into()).start();
        assert_ne!(registry.run_changes(), before);
    }

    #[test]
    fn a_parameter_that_is_not_shown_wakes_nobody_until_another_has_gone() {
        let (registry, calls) = registry();
        let make = || {
            let parameter = Parameter::new(Some(&registry.base), "p".into(), 0.0);
            registry.add_parameter(parameter.state().unwrap());
            parameter
        };
        let mut shown: Vec<_> = (0..PARAMETERS_MAX).map(|_| make()).collect();
        registry.base.fall_asleep();
        calls.store(0, Ordering::Relaxed);
        let waits = make();
        for _ in 0..1000 {
            drop(make()); // nothing is kept of these
        }
        waits.set(1.0);
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        assert!(registry.parameters.lock().waiting.len() < 10);
        shown.pop();
        assert_eq!((calls.load(Ordering::Relaxed), registry.sample_parameters().len()), (1, 257));
        registry.base.fall_asleep();
        waits.set(2.0);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        assert!(registry.parameter(waits.state().unwrap().id).is_some());
    }
}
