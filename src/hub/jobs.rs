//! What the program tells of its run through the hub's handle: jobs, the log, a description.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use serde::Serialize;

use crate::hub::handle::Hub;
use crate::progress::adapter::{Progress, ProgressIterator};
use crate::progress::base::Base;
use crate::progress::job::JobBuilder;
#[cfg(feature = "tracing-layer")]
use crate::progress::layer::HubLayer;
use crate::progress::log::Level;
#[cfg(feature = "log")]
use crate::progress::logger::HubLogger;
use crate::progress::parameter::{Button, Choice, Parameter, ParameterValue, State};
use crate::progress::registry::Registry;
use crate::progress::series::handle::Series;
use crate::progress::text::{TITLE_MAX, one_line};
use crate::progress::writer::LogWriter;

impl Hub {
    /// Makes a [`Job`](crate::Job): the progress of one piece of work, which viewers see as a bar.
    ///
    /// The title has up to 256 bytes; a control character in it becomes a space. A hub shows 65 536
    /// open jobs at most, and the 1000 jobs that ended last. It counts the others.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("calibrate").total(1000).unit("steps").start();
    /// for _ in 0..1000 {
    ///     // model.step();
    ///     job.inc(1);
    /// }
    /// job.finish();
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    #[doc(alias = "progress_bar")]
    pub fn job(&self, title: impl Into<Cow<'static, str>>) -> JobBuilder {
        JobBuilder::new(self.registry().map(Arc::clone), title.into())
    }

    /// Counts an iterator's items on a job of its own. The job ends with the iterator: as completed
    /// if all items were taken, else as abandoned.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// for row in hub.track("rows", 0..512) {
    ///     // solve(row);
    /// }
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn track<I: IntoIterator>(
        &self,
        title: impl Into<Cow<'static, str>>,
        items: I,
    ) -> Progress<I::IntoIter> {
        let items = items.into_iter();
        let mut job = self.job(title);
        if let (least, Some(most)) = items.size_hint() {
            if least == most {
                job = job.total(most as u64);
            }
        }
        items.progress_with(&job.start()).finishing()
    }

    /// Returns the series of the whole run that has this name, as
    /// [`Job::series`](crate::Job::series) returns one of a job.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let load = hub.series("load").lines(["1 min", "5 min"]);
    /// load.push(0.0, [0.5, 0.25]);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn series(&self, name: impl AsRef<str>) -> Series {
        Series::new(self.registry().and_then(|registry| registry.series_of_run(name.as_ref())))
    }

    /// Names the run, up to 256 bytes.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// hub.set_title("Gray-Scott, F = 0.04");
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn set_title(&self, title: impl Into<Cow<'static, str>>) {
        if let Some(registry) = self.registry() {
            let title = one_line(title.into(), TITLE_MAX).into_owned();
            registry.describe(|run| run.title = title);
        }
    }

    /// Tells viewers more of the run: parameters, a version, the command line. Up to 64 KiB of
    /// JSON.
    ///
    /// # Errors
    ///
    /// The value has no JSON form, or a longer one. The previous description stays.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// hub.describe(&[("F", 0.04), ("k", 0.06)])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn describe(&self, description: &impl Serialize) -> Result<(), serde_json::Error> {
        let json = serde_json::to_string(description)?;
        if json.len() > DESCRIPTION_MAX {
            let what = format!("the description has {} bytes of {DESCRIPTION_MAX}", json.len());
            return Err(serde::ser::Error::custom(what));
        }
        if let Some(registry) = self.registry() {
            registry.describe(|run| run.description = Some(json));
        }
        Ok(())
    }

    /// Writes a line of this level into the run's log. A text above 16 KiB is cut off and ends with
    /// `…`.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// hub.log(stepcast::Level::Info, "restart written");
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn log(&self, level: Level, text: impl Into<Cow<'static, str>>) {
        if let Some(registry) = self.registry() {
            registry.base.log(level, None, text.into());
        }
    }

    /// Returns a writer whose lines go into the run's log: for loggers that write text.
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// writeln!(hub.log_writer(stepcast::Level::Info), "restart written")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn log_writer(&self, level: Level) -> LogWriter {
        LogWriter::new(self.base(), None, level)
    }

    /// Returns a logger for the crate `log`: records become lines of the run's log, and go on to
    /// `next`, such as the `Logger` of `env_logger`. [`HubLogger`] says more.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let nowhere = log::logger(); // as long as the process has none
    /// log::set_boxed_logger(Box::new(hub.logger(nowhere)))?;
    /// log::set_max_level(log::LevelFilter::Info);
    /// log::info!("restart written");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "log")]
    pub fn logger<L: log::Log>(&self, next: L) -> HubLogger<L> {
        HubLogger::new(self.base(), next)
    }

    /// Returns a layer for `tracing_subscriber`: events become lines of the run's log, and spans that
    /// have a length become jobs. [`HubLayer`] says how.
    ///
    /// ```
    /// use tracing_subscriber::{filter::LevelFilter, prelude::*};
    ///
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// tracing_subscriber::registry()
    ///     .with(tracing_subscriber::fmt::layer()) // as before
    ///     .with(hub.tracing_layer().with_filter(LevelFilter::INFO))
    ///     .init();
    /// tracing::info!("restart written");
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    #[cfg(feature = "tracing-layer")]
    pub fn tracing_layer(&self) -> HubLayer {
        HubLayer::new(self.registry().map(Arc::clone))
    }

    /// Records the run: writes all that viewers are told, but for fields, as lines of JSON to a file
    /// or to any other writer.
    ///
    /// Each line is an object of the run's feed with the moment in front, in milliseconds since
    /// 1970: `{"at":1764320000789,"job":{..}}`. The first lines are the whole state, so a recording
    /// that begins late is complete, but for the log. Changes of state and points of series come
    /// within a tenth of a second, and reports of progress once a second for each job. The last line
    /// says how the run has ended. `docs/protocol.md` has the format ("Recorded lines").
    ///
    /// A thread of its own writes and flushes the lines, so a slow disk holds up nothing. At most 4
    /// MiB wait for the thread. Further lines are dropped and counted: a line
    /// `{"at":..,"lost":250}` says so, and the whole state follows. An error of the writer, or a
    /// panic in it, ends the recording with a warning in the program's log.
    ///
    /// The hub's end, such as the drop of its last handle, waits until all lines are written, for a
    /// second at most. A [disabled](Hub::disabled) hub writes nothing.
    ///
    /// # Errors
    ///
    /// The system has no thread for the recording, or the hub has ended.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// # let path = std::env::temp_dir().join(format!("stepcast-doc-{}.jsonl", std::process::id()));
    /// hub.record(std::fs::File::create(&path)?)?;
    /// let job = hub.job("calibrate").total(1000).start();
    /// job.inc(1000);
    /// job.finish();
    /// hub.finish("converged");
    /// drop(hub); // all is written then
    /// let lines = std::fs::read_to_string(&path)?;
    /// assert!(lines.lines().last().unwrap().contains(r#""reason":"converged""#));
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn record(&self, mut writer: impl io::Write + Send + 'static) -> io::Result<()> {
        let Some(inner) = self.live() else { return Ok(()) };
        inner.shared.observe("stepcast-record", RECORDED_EVERY, None, move |lines| {
            writer.write_all(lines)?;
            writer.flush()
        })
    }

    fn registry(&self) -> Option<&Arc<Registry>> {
        self.live().map(|inner| &inner.shared.jobs.registry)
    }

    fn base(&self) -> Option<&Arc<Base>> {
        self.registry().map(|registry| &registry.base)
    }

    /// Shows a parameter to viewers.
    fn show(&self, state: Option<&Arc<State>>) {
        if let (Some(registry), Some(state)) = (self.registry(), state) {
            registry.add_parameter(state);
        }
    }

    /// Makes a parameter: a number (`f64`) or a switch (`bool`) that viewers move and the loop
    /// reads. All viewers see who moved it and when, and the log says so.
    ///
    /// Nobody but viewers of the page can move a parameter, and none exists unless the program
    /// makes it. A hub shows 256 parameters; names have up to 256 bytes.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let feed_rate = hub.parameter("feed rate", 0.04).range(0.0..=0.1);
    /// let limiter = hub.parameter("limiter", true);
    /// assert!(feed_rate.get() == 0.04 && limiter.get());
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn parameter<T: ParameterValue>(
        &self,
        name: impl Into<Cow<'static, str>>,
        value: T,
    ) -> Parameter<T> {
        let parameter = Parameter::new(self.base(), name.into(), value);
        self.show(parameter.state());
        parameter
    }

    /// Makes a choice among names, as [`parameter`](Hub::parameter) makes a number. The first name
    /// is chosen at first.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let scheme = hub.choice("scheme", ["euler", "rk4"]);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn choice<N: Into<String>>(
        &self,
        name: impl Into<Cow<'static, str>>,
        names: impl IntoIterator<Item = N>,
    ) -> Choice {
        let short = |name: N| one_line(name.into().into(), TITLE_MAX).into_owned().into();
        let names = names.into_iter().take(CHOICES_MAX).map(short).collect();
        let choice = Choice::new(self.base(), name.into(), names);
        self.show(choice.state());
        choice
    }

    /// Makes a button, as [`parameter`](Hub::parameter) makes a number.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let checkpoint = hub.button("write a checkpoint");
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn button(&self, name: impl Into<Cow<'static, str>>) -> Button {
        let button = Button::new(self.base(), name.into());
        self.show(button.state());
        button
    }

    /// Announces the phases of a run, with the share of the work that each has. Viewers see all of
    /// them from the start; [`Job::begin`](crate::Job::begin) begins one.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let [spin_up, time_loop] = hub.phases([("spin-up", 1.0), ("time loop", 20.0)]);
    /// spin_up.begin();
    /// spin_up.finish();
    /// time_loop.set_length(1000);
    /// time_loop.begin();
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    #[must_use = "a phase that is dropped is abandoned"]
    pub fn phases<const N: usize>(&self, phases: [(&'static str, f64); N]) -> [crate::Job; N] {
        phases.map(|(title, weight)| self.job(title).weight(weight).queue())
    }
}

/// The milliseconds between two reports of a job in a recording.
const RECORDED_EVERY: u64 = 1000;

/// The most names of a choice.
const CHOICES_MAX: usize = 256;

/// The longest description, in bytes.
const DESCRIPTION_MAX: usize = 64 * 1024;
