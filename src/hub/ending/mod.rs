//! The end of hubs with their process: by a signal, or by the end of the main thread.

pub(crate) mod process_end;
#[cfg(all(feature = "signal", unix))]
pub(crate) mod stop_signal;
