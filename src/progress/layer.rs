//! A layer for `tracing`: events become lines of the log, spans that have a length become jobs.

use std::fmt::{Debug, Write};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Span, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Scope, SpanRef};

use crate::progress::foreign::{Text, is_own};
use crate::progress::job::{Job, JobBuilder};
use crate::progress::log::Level;
use crate::progress::registry::Registry;

/// The fields that make a job of a span, and change it. The names are nobody's own: a library may
/// have them that does not know who shows its progress.
const LENGTH: &str = "progress.length";
const POSITION: &str = "progress.position";
const MESSAGE: &str = "progress.message";
const UNIT: &str = "progress.unit";

/// Shows what a program tells [`tracing`]: events as lines of the run's log, and spans that have a
/// length as jobs. [`Hub::tracing_layer`](crate::Hub::tracing_layer) makes one.
///
/// **Events** have their level, their target, their message and their fields as `key=value`. An
/// event within the span of a job, at any depth, is a line of this job. Lines of the hub's own are
/// left out.
///
/// **Spans** that have the field `progress.length` are jobs, below the job of the nearest span around
/// them. Other spans are not shown.
///
/// | field of the span | what it is |
/// |---|---|
/// | `progress.length` | the total; `tracing::field::Empty` for a job whose total is not known yet |
/// | `progress.position` | the position |
/// | `progress.message` | the message beside the bar |
/// | `progress.unit` | the unit, read when the span begins |
/// | others | a part of the title, after the span's name |
///
/// `Span::record` changes the first three. `tracing` records only fields that the span has from its
/// beginning, if only as `Empty`. A loop whose steps are short takes the job itself, by
/// [`ProgressSpan::job`]: [`Job::inc`] is one atomic addition, and `Span::record` goes
/// through the whole subscriber.
///
/// A span that closes ends its job: as failed while the thread panics, as completed if the total is
/// unknown or at most one step away, and else as abandoned, as where `?` has left the loop. The job
/// may be ended before in another way: [`Job::fail`] shows an error.
///
/// The layer shows every event and span that is enabled. A filter of `tracing_subscriber`'s chooses.
/// The layer does not keep its hub running, and may be a part of the process's subscriber.
///
/// ```
/// use stepcast::{Hub, ProgressSpan};
/// use tracing_subscriber::{filter::LevelFilter, prelude::*};
///
/// let hub = Hub::spawn_blocking("127.0.0.1:0")?;
/// let layer = hub.tracing_layer().with_filter(LevelFilter::INFO);
/// tracing_subscriber::registry().with(layer).init();
///
/// let span = tracing::info_span!("time loop", progress.length = 1000, progress.unit = "steps");
/// let (_entered, job) = (span.enter(), span.job());
/// for step in 0..1000 {
///     job.inc(1);
///     if step % 100 == 0 {
///         tracing::info!(step, "restart written");
///     }
/// }
/// # assert_eq!(job.position(), 1000.0);
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
///
/// A library needs no Stepcast for that:
///
/// ```
/// use tracing::{field, info_span};
///
/// fn solve(rows: u64) {
///     let span = info_span!("solve", progress.length = rows, progress.position = field::Empty);
///     let span = span.entered();
///     for row in 0..rows {
///         // The row is solved here.
///         span.record("progress.position", row + 1);
///     }
/// }
/// # solve(8);
/// ```
#[derive(Debug)]
pub struct HubLayer {
    registry: Option<Arc<Registry>>,
    has_targets: bool,
}

/// The job of a span: [`HubLayer`] says which spans have one.
pub trait ProgressSpan {
    /// Returns the job of the span, or of the nearest span around it that has one. Without such a
    /// span, or without a [`HubLayer`] in its subscriber, the job is [disabled](Job::disabled).
    ///
    /// ```
    /// use stepcast::ProgressSpan;
    ///
    /// fn solve_row() {
    ///     tracing::Span::current().job().inc(1);
    /// }
    /// # solve_row();
    /// ```
    fn job(&self) -> Job;
}

impl ProgressSpan for Span {
    fn job(&self) -> Job {
        let found = self.with_subscriber(|(id, subscriber)| {
            let registry = subscriber.downcast_ref::<HubLayer>()?.here()?;
            let spans = subscriber.downcast_ref::<tracing_subscriber::Registry>()?;
            nearest(registry, spans.span(id)?.scope())
        });
        found.flatten().unwrap_or(Job::disabled())
    }
}

/// The jobs of a span, one for each hub that has a layer in the subscriber.
#[derive(Debug, Default)]
struct SpanJobs(Vec<Job>);

fn is_job(metadata: &Metadata<'_>) -> bool {
    metadata.fields().field(LENGTH).is_some()
}

/// Returns the job that a span has in this hub.
fn job_of<'a, S: LookupSpan<'a>>(registry: &Arc<Registry>, span: &SpanRef<'a, S>) -> Option<Job> {
    if !is_job(span.metadata()) {
        return None;
    }
    let extensions = span.extensions();
    extensions.get::<SpanJobs>()?.0.iter().find(|job| job.is_of(registry)).cloned()
}

/// Returns the job of the innermost span that has one.
fn nearest<'a, S: LookupSpan<'a>>(registry: &Arc<Registry>, spans: Scope<'a, S>) -> Option<Job> {
    spans.into_iter().find_map(|span| job_of(registry, &span))
}

fn level_of(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

impl HubLayer {
    pub(crate) fn new(registry: Option<Arc<Registry>>) -> Self {
        Self { registry, has_targets: true }
    }

    /// Whether lines begin with the event's target, which is the path of the module unless the event
    /// says otherwise. Default true.
    ///
    /// ```
    /// let layer = stepcast::Hub::disabled().tracing_layer().with_target(false);
    /// ```
    #[must_use]
    pub fn with_target(mut self, has_targets: bool) -> Self {
        self.has_targets = has_targets;
        self
    }

    /// What callers write to: nothing where the hub is disabled, or another process has it.
    fn here(&self) -> Option<&Arc<Registry>> {
        self.registry.as_ref().filter(|registry| !registry.base.process.is_another())
    }
}

// Whatever formats a field may be code of the program's, which may panic, or make events and spans
// of its own. So a text is complete before anything is locked, a span's extensions too.
impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for HubLayer {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(registry) = self.here() else { return };
        let is_bridged = event.metadata().target() == "log";
        let mut origin = Origin(None);
        if is_bridged {
            event.record(&mut origin);
        }
        let target = origin.0.as_deref().unwrap_or(event.metadata().target());
        if is_own(target) {
            return;
        }
        let text = if self.has_targets { Text::of(target) } else { Text::default() };
        let mut fields = Fields { begins: true, is_bridged, text };
        event.record(&mut fields);
        let (level, text) = (level_of(event.metadata()), fields.text);
        match context.event_scope(event).and_then(|spans| nearest(registry, spans)) {
            Some(job) => job.log(level, text),
            None => registry.base.log(level, None, text.into()),
        }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !is_job(attributes.metadata()) {
            return;
        }
        let (Some(registry), Some(span)) = (self.here(), context.span(id)) else { return };
        let mut fields = JobFields::default();
        attributes.record(&mut fields);
        let mut title = span.name().to_owned();
        if !fields.others.text.is_empty() {
            title.push(' ');
            title.push_str(&String::from(fields.others.text));
        }
        let builder = match nearest(registry, span.scope()) {
            Some(parent) => parent.child(title),
            None => JobBuilder::new(Some(Arc::clone(registry)), title.into()),
        };
        let builder = builder.total_value(fields.length).unit(fields.unit.unwrap_or_default());
        let builder = builder.message(fields.message.unwrap_or_default());
        let job = builder.initial_value(fields.position.unwrap_or_default()).start();
        let mut extensions = span.extensions_mut();
        if let Some(jobs) = extensions.get_mut::<SpanJobs>() {
            jobs.0.push(job);
        } else {
            extensions.insert(SpanJobs(vec![job]));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let (Some(registry), Some(span)) = (self.here(), context.span(id)) else { return };
        if !is_job(span.metadata()) {
            return;
        }
        let mut fields = JobFields::default();
        values.record(&mut fields);
        let Some(job) = job_of(registry, &span) else { return };
        if fields.length.is_some() {
            job.set_total(fields.length);
        }
        if let Some(position) = fields.position {
            job.set_value(position);
        }
        if let Some(message) = fields.message {
            job.set_message(message);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let (Some(registry), Some(span)) = (self.here(), context.span(&id)) else { return };
        if let Some(job) = job_of(registry, &span) {
            job.close();
        }
    }
}

/// Where an event comes from that a `tracing_log::LogTracer` has made of a record of the crate `log`.
struct Origin(Option<String>);

impl Visit for Origin {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// Writes fields as text: the message as it is, others as `key=value`.
#[derive(Debug)]
struct Fields {
    begins: bool,
    /// Whether fields tell where an event of the crate `log` comes from.
    is_bridged: bool,
    text: Text,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let name = field.name();
        if self.is_bridged && name.starts_with("log.") {
            return;
        }
        let space = if std::mem::take(&mut self.begins) { "" } else { " " };
        let _ = match name.strip_prefix("r#").unwrap_or(name) {
            "message" => write!(self.text, "{space}{value:?}"),
            name => write!(self.text, "{space}{name}={value:?}"),
        };
    }
}

/// Reads what the fields of a span say of its job.
#[derive(Debug)]
struct JobFields {
    length: Option<f64>,
    position: Option<f64>,
    message: Option<String>,
    unit: Option<String>,
    others: Fields,
}

impl Default for JobFields {
    fn default() -> Self {
        let others = Fields { begins: true, is_bridged: false, text: Text::default() };
        Self { length: None, position: None, message: None, unit: None, others }
    }
}

impl JobFields {
    fn number(&mut self, field: &Field, value: f64, shown: &dyn Debug) {
        match field.name() {
            LENGTH => self.length = Some(value),
            POSITION => self.position = Some(value),
            _ => self.record_debug(field, shown),
        }
    }

    fn words(&mut self, field: &Field, value: &dyn Debug) -> bool {
        let words = match field.name() {
            MESSAGE => &mut self.message,
            UNIT => &mut self.unit,
            _ => return false,
        };
        let mut text = Text::default();
        let _ = write!(text, "{value:?}");
        *words = Some(text.into());
        true
    }
}

impl Visit for JobFields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.number(field, value, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value as f64, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value as f64, &value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.number(field, value as f64, &value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.number(field, value as f64, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if !self.words(field, &format_args!("{value}")) {
            self.others.record_str(field, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let is_number = matches!(field.name(), LENGTH | POSITION); // said in no number's type
        if !is_number && !self.words(field, value) {
            self.others.record_debug(field, value);
        }
    }
}
