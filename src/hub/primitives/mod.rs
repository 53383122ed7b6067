//! The base of all layers, which knows nothing of a hub: locks, budgets, the bell, and the walls
//! between the hub and the program's own code.

pub(crate) mod bell;
pub(crate) mod budget;
pub(crate) mod conn_id;
pub(crate) mod journal;
pub(crate) mod lock;
pub(crate) mod moment;
pub(crate) mod per_process;
pub(crate) mod process;
pub(crate) mod program;
#[cfg(all(feature = "signal", unix))]
pub(crate) mod stop_flags;
pub(crate) mod sync;
pub(crate) mod warnings;
