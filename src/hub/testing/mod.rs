//! What tests compare with: a naive model of a hub, and what loom tries.

pub(crate) mod fixtures;
#[cfg(stepcast_loom)]
pub(crate) mod model;
mod payloads;
pub(crate) mod reference;
