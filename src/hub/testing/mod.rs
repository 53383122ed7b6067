//! Fixtures of unit tests, a naive model of a hub to compare with, and the model for loom.

pub(crate) mod fixtures;
#[cfg(stepcast_loom)]
pub(crate) mod model;
mod payloads;
pub(crate) mod reference;
