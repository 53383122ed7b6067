//! The end of a hub that nobody ended: of its process, by a signal or otherwise.

pub(crate) mod process_end;
#[cfg(all(feature = "signal", unix))]
pub(crate) mod stop_signal;
