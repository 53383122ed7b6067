//! The process that a hub was spawned in.
//!
//! A child made by `fork` has a copy of everything but the threads. In the child no driver runs,
//! and a lock that another thread held at the fork is held for ever. Every handle therefore checks
//! the process first, and in a child behaves as a handle of a [disabled](crate::Hub::disabled) hub.

use forkguard::Guard;

#[cfg(all(feature = "signal", unix))]
use crate::hub::primitives::stop_flags;

/// The process that this value was made in. The comparison costs one relaxed load: `pthread_atfork`
/// counts the forks. (Asking the kernel for the process id takes some 170 ns: five pushes.)
#[derive(Debug, Clone)]
pub(crate) struct Process(Option<Guard>);

impl Process {
    pub(crate) fn current() -> Self {
        // This fails where there is no memory for one more handler.
        Self(Guard::try_new().ok())
    }

    /// Whether this runs in another process: a child that was forked since.
    #[inline]
    pub(crate) fn is_another(&self) -> bool {
        let is_another = self.0.as_ref().is_some_and(|guard| guard.clone().detected_fork());
        if is_another {
            in_a_child();
        }
        is_another
    }
}

#[cold]
fn in_a_child() {
    #[cfg(all(feature = "signal", unix))]
    stop_flags::forget_the_parents();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_not_another_to_itself() {
        let process = Process::current();
        assert!(process.0.is_some() && !process.is_another() && !process.is_another());
    }
}
