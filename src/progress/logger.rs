//! A logger for the crate `log` whose records become lines of the log.

use std::fmt::{self, Write};
use std::sync::Arc;

use log::{LevelFilter, Log, Metadata, Record};

use crate::progress::base::Base;
use crate::progress::foreign::{Text, is_own};
use crate::progress::log::Level;

/// Shows what a program tells the crate [`log`]: records become lines of the run's log, with their
/// level and target. [`Hub::logger`](crate::Hub::logger) makes one.
///
/// Each record is passed on to another logger, too, which decides for itself what it writes. The run's
/// log gets records up to [`max_level`](Self::max_level), but no lines of the hub's own.
///
/// The logger does not keep its hub running, and may be the process's logger. A program with
/// `tracing` and the feature `tracing-layer` needs one of both: `tracing_log::LogTracer` makes events
/// of records.
///
/// ```
/// use log::LevelFilter;
///
/// # struct Terminal;
/// # impl log::Log for Terminal {
/// #     fn enabled(&self, _: &log::Metadata<'_>) -> bool { true }
/// #     fn log(&self, record: &log::Record<'_>) { eprintln!("{}", record.args()) }
/// #     fn flush(&self) {}
/// # }
/// # fn env_logger() -> Terminal { Terminal }
/// let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let terminal = env_logger(); // such as `env_logger::Builder::from_default_env().build()`
/// log::set_boxed_logger(Box::new(hub.logger(terminal)))?;
/// log::set_max_level(LevelFilter::Info);
///
/// log::info!("restart written");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct HubLogger<L> {
    base: Option<Arc<Base>>,
    max_level: LevelFilter,
    next: L,
}

impl<L> HubLogger<L> {
    pub(crate) fn new(base: Option<&Arc<Base>>, next: L) -> Self {
        Self { base: base.map(Arc::clone), max_level: LevelFilter::Info, next }
    }

    /// Sets the finest level of the records that the run's log gets. Default
    /// [`Info`](LevelFilter::Info). No logger gets records above `log::max_level`.
    ///
    /// ```
    /// # let terminal = log::logger();
    /// let logger = stepcast::Hub::disabled().logger(terminal).max_level(log::LevelFilter::Debug);
    /// ```
    #[must_use]
    pub fn max_level(mut self, level: LevelFilter) -> Self {
        self.max_level = level;
        self
    }

    /// Where a record goes to, if it becomes a line.
    fn base_for(&self, metadata: &Metadata<'_>) -> Option<&Base> {
        let is_line = metadata.level() <= self.max_level && !is_own(metadata.target());
        let base = self.base.as_deref().filter(|_| is_line)?;
        (!base.process.is_another()).then_some(base)
    }
}

impl<L: Log> Log for HubLogger<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.base_for(metadata).is_some() || self.next.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(base) = self.base_for(record.metadata()) {
            let mut text = Text::of(record.target());
            let _ = write!(text, "{}", record.args());
            base.log(level_of(record.level()), None, text.into());
        }
        self.next.log(record);
    }

    fn flush(&self) {
        self.next.flush();
    }
}

fn level_of(level: log::Level) -> Level {
    match level {
        log::Level::Error => Level::Error,
        log::Level::Warn => Level::Warn,
        log::Level::Info => Level::Info,
        log::Level::Debug => Level::Debug,
        log::Level::Trace => Level::Trace,
    }
}

impl<L> fmt::Debug for HubLogger<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubLogger").field("max_level", &self.max_level).finish_non_exhaustive()
    }
}
