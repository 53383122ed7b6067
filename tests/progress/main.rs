//! Jobs, parameters and the log, from a viewer's side and from the program's.

#![allow(clippy::float_cmp)] // what is counted is exact

mod acceptance;
mod adapters;
mod events;
mod jobs;
mod log;
mod parameters;
mod record;
mod series;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tracing-layer")]
mod tracing_layer;
mod viewer;
