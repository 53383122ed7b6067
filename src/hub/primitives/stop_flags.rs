//! Whether a signal ends the process at once, or hubs of the process hear it first.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use crate::hub::primitives::per_process::PerProcess;

/// The flags that the handlers read and write. A child of `fork` inherits both.
pub(crate) static FLAGS: LazyLock<Flags> = LazyLock::new(|| Flags {
    at_once: Arc::new(AtomicBool::new(true)),
    heard: Arc::default(),
    are_registered: AtomicBool::new(false),
});

pub(crate) static LISTENERS: PerProcess<Listeners> = PerProcess::new();

pub(crate) struct Flags {
    /// Whether a signal ends the process at once: no hub listens, or one signal has been heard
    /// already.
    pub(crate) at_once: Arc<AtomicBool>,
    /// The signal that was heard; zero: none.
    pub(crate) heard: Arc<AtomicUsize>,
    pub(crate) are_registered: AtomicBool,
}

#[derive(Default)]
pub(crate) struct Listeners {
    /// The number of hubs that listen.
    pub(crate) hubs: usize,
    pub(crate) has_thread: bool,
}

/// Forgets the parent's hubs, in a child of `fork` that used a handle of one: such a hub hears no
/// signal here.
pub(crate) fn forget_the_parents() {
    if FLAGS.at_once.load(Ordering::SeqCst) {
        return;
    }
    LISTENERS.with(|listeners| {
        if listeners.hubs == 0 {
            FLAGS.at_once.store(true, Ordering::SeqCst);
        }
    });
}
