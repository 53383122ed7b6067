//! The driver: the one task that owns the listener and every connection.

mod accepting;
pub(crate) mod bind;
mod delivery;
mod end;
mod flush;
pub(crate) mod listener;
mod relief;
mod serving;
pub(crate) mod state;
mod task;
#[cfg(test)]
mod tests;
mod tick;
mod waiting;
