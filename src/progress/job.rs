//! The handle to a job, and what makes one.

use std::borrow::Cow;
use std::cell::Cell as StdCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use crate::progress::cell::{About, Alone, Cell};
use crate::progress::log::Level;
use crate::progress::registry::Registry;
use crate::progress::status::JobStatus;
use crate::progress::text::{MESSAGE_MAX, TITLE_MAX, one_line, within};
use crate::progress::writer::LogWriter;

/// The progress of one piece of work, which viewers see as a bar with rate and ETA.
///
/// [`Hub::job`](crate::Hub::job) makes a job. The hub's thread samples all jobs ten times a second
/// while somebody watches, and once a second while nobody does. So [`inc`](Job::inc) is one atomic
/// addition, and a job may be updated at every step of the innermost loop.
///
/// A clone means the same job. The first final state counts: [`finish`](Job::finish),
/// [`fail`](Job::fail), [`cancelled`](Job::cancelled) or [`abandon`](Job::abandon). Calls after
/// that are ignored. A job whose last handle is dropped without one is abandoned, or failed if the
/// thread panics. The end of a job ends its [children](Job::child) as abandoned.
///
/// A job does not keep its hub running.
///
/// ```
/// let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let job = hub.job("calibrate").total(1000).unit("steps").start();
/// for _ in 0..1000 {
///     // model.step();
///     job.inc(1);
/// }
/// job.finish();
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[doc(alias = "ProgressBar")]
#[doc(alias = "tqdm")]
pub struct Job {
    /// `None` where the job is disabled, as below.
    cell: Option<Arc<Cell>>,
    /// Where children are made.
    registry: Option<Arc<Registry>>,
}

/// The job was asked to end: the error of [`Job::check_cancelled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the job was cancelled")]
pub struct Cancelled;

impl Job {
    /// Returns a job that nobody sees: every call does nothing. It is for libraries whose callers
    /// may have no hub.
    ///
    /// ```
    /// let job = stepcast::Job::disabled();
    /// job.inc(1);
    /// assert!(!job.is_cancelled());
    /// ```
    #[doc(alias = "hidden")]
    pub const fn disabled() -> Self {
        Self { cell: None, registry: None }
    }

    /// The job's state: none where the job is disabled, or another process has it.
    fn cell(&self) -> Option<&Cell> {
        self.cell_here().map(|cell| &**cell)
    }

    #[inline]
    pub(super) fn cell_here(&self) -> Option<&Arc<Cell>> {
        self.cell.as_ref().filter(|cell| !cell.base.process.is_another())
    }

    pub(super) fn registry(&self) -> Option<&Arc<Registry>> {
        self.registry.as_ref()
    }

    /// Adds to the position: one relaxed atomic addition, without a clock or a lock.
    ///
    /// A position above the total is shown as it is. Several threads may count on one job; threads
    /// that do little else count faster with a [`local`](Job::local) counter each.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("rows").total(512).start();
    /// job.inc(1);
    /// assert_eq!(job.position(), 1.0);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    #[doc(alias = "update")]
    #[doc(alias = "advance")]
    #[inline]
    pub fn inc(&self, steps: u64) {
        if let Some(cell) = &self.cell {
            cell.steps.0.fetch_add(steps, Ordering::Relaxed);
        }
    }

    /// Returns a counter for this thread, which counts faster than [`inc`](Job::inc) where many
    /// threads count on one job.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("cells").total(2000).start();
    /// std::thread::scope(|scope| {
    ///     for _ in 0..2 {
    ///         scope.spawn(|| {
    ///             let counter = job.local();
    ///             (0..1000).for_each(|_| counter.inc(1));
    ///         });
    ///     }
    /// });
    /// assert_eq!(job.position(), 2000.0);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn local(&self) -> LocalCounter {
        let counter = self.cell().map_or_else(Arc::default, Cell::add_counter);
        LocalCounter { job: self.clone(), counter, not_sync: PhantomData }
    }

    /// Sets the position. It may go back, as after a restart of the work.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("time loop").total(100).start();
    /// job.set_position(41);
    /// assert_eq!(job.position(), 41.0);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    #[doc(alias = "n")]
    #[doc(alias = "completed")]
    pub fn set_position(&self, position: u64) {
        if let Some(cell) = self.cell() {
            cell.set_position(position);
        }
    }

    /// Sets the position to a number that need not be whole, such as the time of a model: see
    /// [`JobBuilder::span`]. A number that is not finite is ignored.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("model time").span(0.0, 365.0).unit("days").start();
    /// job.set_value(41.5);
    /// assert_eq!(job.position(), 41.5);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn set_value(&self, value: f64) {
        if let Some(cell) = self.cell() {
            cell.set_value(value);
        }
    }

    /// Returns the position.
    ///
    /// ```
    /// assert_eq!(stepcast::Job::disabled().position(), 0.0);
    /// ```
    pub fn position(&self) -> f64 {
        self.cell().map_or(0.0, Cell::position)
    }

    /// Sets the total. The position may be above it.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("files").start(); // their number is not known yet
    /// job.set_length(80);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    #[doc(alias = "total")]
    #[doc(alias = "max")]
    pub fn set_length(&self, total: u64) {
        self.set_total(Some(total as f64));
    }

    /// Sets the total to a number that need not be whole. A negative one is none.
    pub(crate) fn set_total(&self, total: Option<f64>) {
        if let Some(cell) = self.cell() {
            cell.set_total(total.filter(|total| *total >= 0.0));
        }
    }

    /// Adds to the total, if the total is known.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("files").total(80).start();
    /// job.inc_length(3);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn inc_length(&self, more: u64) {
        if let Some(cell) = self.cell() {
            cell.add_to_total(more as f64);
        }
    }

    /// Forgets the total: the job goes on without percentage and ETA.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("search").total(80).start();
    /// job.unset_length();
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn unset_length(&self) {
        self.set_total(None);
    }

    /// Sets the message beside the bar, up to 4 KiB. A longer text is cut off and ends with `…`.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("solve").start();
    /// job.set_message("assembling");
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    #[doc(alias = "set_description")]
    #[doc(alias = "desc")]
    pub fn set_message(&self, message: impl Into<Cow<'static, str>>) {
        if let Some(cell) = self.cell() {
            let message = within(message.into(), MESSAGE_MAX);
            cell.change(|rest| {
                let has_changed = rest.message != message;
                rest.message = message;
                has_changed
            });
        }
    }

    /// Writes a line into the run's log, as of this job.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("time loop").start();
    /// job.println("restart written");
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    #[doc(alias = "write")]
    pub fn println(&self, text: impl Into<Cow<'static, str>>) {
        self.log(Level::Info, text);
    }

    /// Writes a line of this level into the run's log, as of this job.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("time loop").start();
    /// job.log(stepcast::Level::Warn, "the time step was reduced");
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn log(&self, level: Level, text: impl Into<Cow<'static, str>>) {
        if let Some(cell) = self.cell() {
            cell.base.log(level, Some(cell.about.id), text.into());
        }
    }

    /// Returns a writer whose lines go into the run's log, as of this job.
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("time loop").start();
    /// writeln!(job.log_writer(stepcast::Level::Info), "restart written")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn log_writer(&self, level: Level) -> LogWriter {
        let cell = self.cell();
        LogWriter::new(cell.map(|cell| &cell.base), cell.map(|cell| cell.about.id), level)
    }

    /// Pauses the job. The time until [`resume`](Job::resume) does not count for rate and ETA.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("solve").start();
    /// job.pause();
    /// assert_eq!(job.status(), stepcast::JobStatus::Paused);
    /// job.resume();
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn pause(&self) {
        if let Some(cell) = self.cell() {
            let now = cell.base.now();
            cell.change(|rest| {
                let pauses = rest.status == JobStatus::Working;
                if pauses {
                    (rest.status, rest.paused_since) = (JobStatus::Paused, Some(now));
                }
                pauses
            });
        }
    }

    /// Goes on after [`pause`](Job::pause).
    ///
    /// ```
    /// stepcast::Job::disabled().resume();
    /// ```
    #[doc(alias = "unpause")]
    pub fn resume(&self) {
        if let Some(cell) = self.cell() {
            let now = cell.base.now();
            cell.change(|rest| {
                let Some(since) = rest.paused_since.take() else { return false };
                rest.paused += now - since;
                if rest.status == JobStatus::Paused {
                    rest.status = JobStatus::Working;
                }
                true
            });
        }
    }

    /// Forgets rate and ETA: they are estimated anew from here on.
    ///
    /// ```
    /// stepcast::Job::disabled().reset_eta();
    /// ```
    pub fn reset_eta(&self) {
        if let Some(cell) = self.cell() {
            cell.change(|rest| {
                rest.resets = rest.resets.wrapping_add(1);
                true
            });
        }
    }

    /// Returns the state that the job is in. A disabled job is always working.
    ///
    /// ```
    /// # use stepcast::JobStatus;
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("solve").start();
    /// job.finish();
    /// assert_eq!(job.status(), JobStatus::Completed);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn status(&self) -> JobStatus {
        self.cell().map_or(JobStatus::Working, Cell::status)
    }

    /// Whether somebody has asked for the job's end: one relaxed load.
    ///
    /// Viewers can ask for the end of a job that is [cancellable](JobBuilder::cancellable), and of
    /// the jobs below it. The program can by [`cancel`](Job::cancel). Nothing else cancels a job: no
    /// viewer that leaves, and no hub that ends.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("search").cancellable().start();
    /// for _ in 0..1000 {
    ///     if job.is_cancelled() {
    ///         job.cancelled();
    ///         break;
    ///     }
    ///     job.inc(1);
    /// }
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.cell.as_ref().is_some_and(|cell| cell.cancelled.load(Ordering::Relaxed))
    }

    /// Returns an error once somebody has asked for the job's end: see
    /// [`is_cancelled`](Job::is_cancelled).
    ///
    /// # Errors
    ///
    /// [`Cancelled`]. The job's state is still `cancelling`; [`cancelled`](Job::cancelled) ends it.
    ///
    /// ```
    /// fn search(job: &stepcast::Job) -> Result<(), stepcast::Cancelled> {
    ///     for _ in 0..1000 {
    ///         job.check_cancelled()?;
    ///         job.inc(1);
    ///     }
    ///     Ok(())
    /// }
    /// assert!(search(&stepcast::Job::disabled()).is_ok());
    /// ```
    #[inline]
    pub fn check_cancelled(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    /// Returns a token that is cancelled when somebody asks for the job's end.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("search").start();
    /// let token = job.cancel_token();
    /// job.cancel();
    /// assert!(token.is_cancelled());
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn cancel_token(&self) -> CancellationToken {
        self.cell().map_or_else(CancellationToken::new, Cell::token)
    }

    /// Asks for the end of the job and of all jobs below it, as a viewer may. The job is
    /// `cancelling` until its loop reacts.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("search").start();
    /// job.cancel();
    /// assert!(job.is_cancelled());
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn cancel(&self) {
        if let Some(cell) = self.cell() {
            cell.cancel();
        }
    }

    fn end(&self, status: JobStatus, message: Option<Cow<'static, str>>) {
        if let Some(cell) = self.cell() {
            cell.end(status, message.map(|message| within(message, MESSAGE_MAX)));
        }
    }

    /// Ends the job as completed. A job with a total is then at its total.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("mesh").total(10).start();
    /// job.finish();
    /// assert_eq!(job.position(), 10.0);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    #[doc(alias = "close")]
    #[doc(alias = "done")]
    pub fn finish(&self) {
        self.end(JobStatus::Completed, None);
    }

    /// Ends the job as completed, with a message.
    ///
    /// ```
    /// stepcast::Job::disabled().finish_with_message("converged");
    /// ```
    pub fn finish_with_message(&self, message: impl Into<Cow<'static, str>>) {
        self.end(JobStatus::Completed, Some(message.into()));
    }

    /// Ends the job as failed, with the error as its message.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("solve").start();
    /// job.fail("NaN in T at step 413");
    /// assert_eq!(job.status(), stepcast::JobStatus::Failed);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn fail(&self, error: impl fmt::Display) {
        self.end(JobStatus::Failed, Some(error.to_string().into()));
    }

    /// Ends the job as cancelled: the loop has reacted.
    ///
    /// ```
    /// stepcast::Job::disabled().cancelled();
    /// ```
    pub fn cancelled(&self) {
        self.end(JobStatus::Cancelled, None);
    }

    /// Ends the job as abandoned: it stays where it is.
    ///
    /// ```
    /// stepcast::Job::disabled().abandon();
    /// ```
    pub fn abandon(&self) {
        self.end(JobStatus::Abandoned, None);
    }

    /// Ends the job as abandoned, with a message.
    ///
    /// ```
    /// stepcast::Job::disabled().abandon_with_message("diverged");
    /// ```
    pub fn abandon_with_message(&self, message: impl Into<Cow<'static, str>>) {
        self.end(JobStatus::Abandoned, Some(message.into()));
    }

    /// Makes a job that is a part of this one, and is shown below it.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let run = hub.job("time loop").total(100).start();
    /// let solve = run.child("linear solve").start();
    /// solve.finish();
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn child(&self, title: impl Into<Cow<'static, str>>) -> JobBuilder {
        let builder = JobBuilder::new(self.registry.clone(), title.into());
        JobBuilder { parent: self.cell.clone(), ..builder }
    }
}

impl Clone for Job {
    fn clone(&self) -> Self {
        if let Some(cell) = &self.cell {
            cell.clone_handle();
        }
        Self { cell: self.cell.clone(), registry: self.registry.clone() }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let Some(cell) = self.cell() else { return };
        if cell.drop_handle() && cell.is_open() {
            leave(cell, JobStatus::Abandoned);
        }
    }
}

/// Ends a job whose work the program has left: as failed while the thread panics, else like this.
fn leave(cell: &Cell, status: JobStatus) {
    if std::thread::panicking() {
        cell.end(JobStatus::Failed, Some("panicked".into()));
    } else {
        cell.end(status, None);
    }
}

/// What the spans of `tracing` need.
#[cfg(feature = "tracing-layer")]
impl Job {
    /// Whether the job is one of this hub's.
    pub(crate) fn is_of(&self, registry: &Arc<Registry>) -> bool {
        self.registry.as_ref().is_some_and(|own| Arc::ptr_eq(own, registry))
    }

    /// Ends the job with its span: as completed if nothing is known to be left. A loop may have said
    /// only where its last step began.
    pub(crate) fn close(&self) {
        let Some(cell) = self.cell() else { return };
        let is_done = cell.total().is_none_or(|total| cell.position() + 1.0 >= total);
        leave(cell, if is_done { JobStatus::Completed } else { JobStatus::Abandoned });
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut job = f.debug_struct("Job");
        if let Some(cell) = self.cell() {
            job.field("title", &cell.about.title).field("position", &cell.position());
            job.field("total", &cell.total()).field("status", &cell.status());
        }
        job.finish()
    }
}

/// Makes a job: see [`Hub::job`](crate::Hub::job) and [`Job::child`].
///
/// ```
/// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let job = hub.job("spin-up").total(1000).unit("steps").initial(400).cancellable().start();
/// assert_eq!(job.position(), 400.0);
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug)]
#[must_use = "`start` begins the job"]
pub struct JobBuilder {
    registry: Option<Arc<Registry>>,
    parent: Option<Arc<Cell>>,
    title: Cow<'static, str>,
    unit: Cow<'static, str>,
    message: Cow<'static, str>,
    origin: f64,
    initial: Option<f64>,
    total: Option<f64>,
    weight: f64,
    cancellable: bool,
}

impl JobBuilder {
    pub(crate) fn new(registry: Option<Arc<Registry>>, title: Cow<'static, str>) -> Self {
        Self {
            registry,
            parent: None,
            title,
            unit: Cow::Borrowed(""),
            message: Cow::Borrowed(""),
            origin: 0.0,
            initial: None,
            total: None,
            weight: 1.0,
            cancellable: false,
        }
    }

    /// Sets the number of steps. Without a total the job has no percentage and no ETA.
    ///
    /// ```
    /// let job = stepcast::Hub::disabled().job("rows").total(512).start();
    /// ```
    #[doc(alias = "length")]
    pub fn total(mut self, total: u64) -> Self {
        self.total = Some(total as f64);
        self
    }

    /// Sets the total to a number that need not be whole. A negative one is none.
    #[cfg(feature = "tracing-layer")]
    pub(crate) fn total_value(mut self, total: Option<f64>) -> Self {
        self.total = total.filter(|total| *total >= 0.0);
        self
    }

    /// Sets a range that the position runs through, such as the time of a model:
    /// [`Job::set_value`] sets the position. The position begins at `from`. A range whose bounds
    /// are not finite, or do not differ, leaves the total unknown.
    ///
    /// ```
    /// let job = stepcast::Hub::disabled().job("model time").span(0.0, 365.0).unit("days").start();
    /// ```
    pub fn span(mut self, from: f64, to: f64) -> Self {
        let is_range = from.is_finite() && to.is_finite() && from < to;
        self.origin = if from.is_finite() { from } else { 0.0 };
        self.total = is_range.then_some(to);
        self
    }

    /// Sets the unit of the position, up to 256 bytes, such as `"steps"`.
    ///
    /// ```
    /// let job = stepcast::Hub::disabled().job("read").total(1 << 20).unit("B").start();
    /// ```
    pub fn unit(mut self, unit: impl Into<Cow<'static, str>>) -> Self {
        self.unit = unit.into();
        self
    }

    /// Sets the position that the job begins at, after a restart from a checkpoint. What was done
    /// before does not count for the rate.
    ///
    /// ```
    /// let job = stepcast::Hub::disabled().job("time loop").total(1000).initial(400).start();
    /// ```
    pub fn initial(self, position: u64) -> Self {
        self.initial_value(position as f64)
    }

    /// Sets the position that the job begins at, as [`initial`](Self::initial) does, within a
    /// [`span`](Self::span). A number that is not finite is ignored.
    ///
    /// ```
    /// let hub = stepcast::Hub::disabled();
    /// let job = hub.job("model time").span(0.0, 365.0).initial_value(41.5).start();
    /// ```
    pub fn initial_value(mut self, position: f64) -> Self {
        self.initial = Some(position).filter(|position| position.is_finite());
        self
    }

    /// Sets the first message, as [`Job::set_message`] does.
    ///
    /// ```
    /// let job = stepcast::Hub::disabled().job("solve").message("assembling").start();
    /// ```
    pub fn message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }

    /// Lets viewers ask for the job's end. The loop has to look: see [`Job::is_cancelled`].
    ///
    /// ```
    /// let job = stepcast::Hub::disabled().job("search").cancellable().start();
    /// ```
    pub fn cancellable(mut self) -> Self {
        self.cancellable = true;
        self
    }

    /// Sets the job's share of the work of its parent, or of the run, beside the other jobs there.
    /// Default 1. A number that is not positive and finite is ignored.
    ///
    /// ```
    /// let job = stepcast::Hub::disabled().job("time loop").weight(20.0).start();
    /// ```
    pub fn weight(mut self, weight: f64) -> Self {
        if weight.is_finite() && weight > 0.0 {
            self.weight = weight;
        }
        self
    }

    /// Begins the job.
    ///
    /// ```
    /// let job = stepcast::Hub::disabled().job("solve").start();
    /// ```
    #[must_use = "a job that is dropped at once is abandoned"]
    pub fn start(self) -> Job {
        let job = self.queue();
        job.begin();
        job
    }

    /// Announces the job, so that viewers see it, and what comes after it, in its place.
    /// [`Job::begin`] begins it.
    ///
    /// ```
    /// let hub = stepcast::Hub::disabled();
    /// let (spin_up, time_loop) = (hub.job("spin-up").queue(), hub.job("time loop").queue());
    /// spin_up.begin();
    /// spin_up.finish();
    /// time_loop.begin();
    /// ```
    #[must_use = "a job that is dropped at once is abandoned"]
    pub fn queue(self) -> Job {
        let here = self.registry.filter(|registry| !registry.base.process.is_another());
        let Some(registry) = here else { return Job::disabled() };
        let about = About {
            id: registry.base.next_id(),
            parent: self.parent.as_ref().map(|parent| parent.about.id),
            title: one_line(self.title, TITLE_MAX).into_owned().into(),
            unit: one_line(self.unit, TITLE_MAX).into_owned().into(),
            cancellable: self.cancellable,
            weight: self.weight,
        };
        let cell = Cell::new(&registry.base, about);
        let initial = self.initial.unwrap_or(self.origin);
        cell.set_value(initial);
        cell.set_total(self.total);
        let message = within(self.message, MESSAGE_MAX);
        cell.change(|rest| {
            (rest.origin, rest.initial, rest.message) = (self.origin, initial, message);
            true
        });
        registry.add(&cell);
        if let Some(parent) = self.parent {
            parent.adopt(&cell);
        }
        Job { cell: Some(cell), registry: Some(registry) }
    }
}

impl Job {
    /// Begins a job that was [announced](JobBuilder::queue).
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("time loop").queue();
    /// assert_eq!(job.status(), stepcast::JobStatus::Queued);
    /// job.begin();
    /// assert_eq!(job.status(), stepcast::JobStatus::Working);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn begin(&self) {
        if let Some(cell) = self.cell() {
            let now = cell.base.now();
            cell.change(|rest| {
                let begins = rest.status == JobStatus::Queued;
                if begins {
                    (rest.status, rest.started) = (JobStatus::Working, now);
                }
                begins
            });
        }
    }
}

/// The counter of one thread, by [`Job::local`]. Dropping it keeps what it has counted.
pub struct LocalCounter {
    job: Job,
    counter: Arc<Alone<AtomicU64>>,
    /// One thread writes: the counter may move to another thread, and is not shared.
    not_sync: PhantomData<StdCell<()>>,
}

impl LocalCounter {
    /// Adds to the job's position: a load and a store, both relaxed.
    ///
    /// ```
    /// let counter = stepcast::Job::disabled().local();
    /// counter.inc(1);
    /// ```
    #[inline]
    pub fn inc(&self, steps: u64) {
        let before = self.counter.0.load(Ordering::Relaxed);
        self.counter.0.store(before.wrapping_add(steps), Ordering::Relaxed);
    }

    /// Returns the job.
    ///
    /// ```
    /// assert!(!stepcast::Job::disabled().local().job().is_cancelled());
    /// ```
    pub fn job(&self) -> &Job {
        &self.job
    }
}

impl Drop for LocalCounter {
    fn drop(&mut self) {
        if let Some(cell) = self.job.cell() {
            cell.fold_counter(&self.counter);
        }
    }
}

impl fmt::Debug for LocalCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalCounter").field(&self.job).finish()
    }
}
