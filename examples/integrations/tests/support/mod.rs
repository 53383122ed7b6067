//! The peers with which the crate's own tests speak to a hub.
#![allow(dead_code, unreachable_pub)] // these programs need a part of it
#![allow(clippy::duration_suboptimal_units)] // the crate's oldest compiler has no `from_mins`

#[path = "../../../../tests/support/lines.rs"]
pub mod lines;
#[path = "../../../../tests/progress/viewer.rs"]
pub mod viewer;
#[path = "../../../../tests/support/wire.rs"]
pub mod wire;
