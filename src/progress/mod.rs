//! Jobs: the progress of pieces of work, as a state that the hub samples.
//!
//! Callers write to a job's atomics (`cell`). The sampler reads them some times a second on the
//! hub's thread, estimates rate and ETA (`estimate`), and says in lines of JSON what viewers have to
//! be told. Nothing here knows of connections: the driver puts the lines into a feed.

pub(crate) mod adapter;
pub(crate) mod base;
pub(crate) mod cell;
pub(crate) mod estimate;
pub(crate) mod field;
#[cfg(any(feature = "log", feature = "tracing-layer"))]
pub(crate) mod foreign;
pub(crate) mod job;
pub(crate) mod jobs;
#[cfg(feature = "tracing-layer")]
pub(crate) mod layer;
pub(crate) mod line;
pub(crate) mod log;
#[cfg(feature = "log")]
pub(crate) mod logger;
pub(crate) mod named;
pub(crate) mod observers;
pub(crate) mod outlet;
#[cfg(feature = "rayon")]
pub(crate) mod parallel;
pub(crate) mod parameter;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod sampler;
pub(crate) mod series;
pub(crate) mod status;
pub(crate) mod tell;
#[cfg(feature = "terminal")]
pub(crate) mod terminal;
pub(crate) mod text;
pub(crate) mod writer;

pub use adapter::{Progress, ProgressIterator};
pub use field::copy::{FieldError, FieldValue};
pub use field::handle::Field;
pub use job::{Cancelled, Job, JobBuilder, LocalCounter};
#[cfg(feature = "tracing-layer")]
pub use layer::{HubLayer, ProgressSpan};
pub use log::Level;
#[cfg(feature = "log")]
pub use logger::HubLogger;
#[cfg(feature = "rayon")]
pub use parallel::{ParallelProgress, ParallelProgressIterator};
pub use parameter::{Button, Choice, Parameter, ParameterValue};
pub use series::handle::{Series, SeriesValues};
pub use status::JobStatus;
pub use writer::LogWriter;
