//! The driver: the one task that owns the listener and every connection.
//!
//! [`state::Driver`] is its state, and `task` the order of work in a turn. The other files are the
//! kinds of work.

mod accepting;
pub(crate) mod bind;
mod delivery;
mod end;
mod flush;
pub(crate) mod listener;
mod relief;
mod sampling;
mod serving;
pub(crate) mod state;
mod task;
#[cfg(test)]
mod tests;
mod tick;
mod waiting;
