//! Values of the whole process that a child of `fork` does not share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::hub::primitives::moment::low_half;

/// A value of the whole process, behind a lock. A child of `fork` begins with a new value behind
/// another lock: a thread that the child does not have may hold the parent's lock for ever.
#[derive(Debug)]
pub(crate) struct PerProcess<T> {
    /// A process uses one slot, and its child the next: enough for seven generations of children.
    slots: [Mutex<Option<(u32, T)>>; 8],
}

impl<T: Default> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: [const { Mutex::new(None) }; 8] }
    }

    /// Runs this under the lock.
    pub(crate) fn with<R>(&self, run: impl FnOnce(&mut T) -> R) -> R {
        let generation = generation();
        let mut slot = self.slots[generation as usize % self.slots.len()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &mut *slot {
            Some((of, value)) if *of == generation => run(value),
            other => run(&mut other.insert((generation, T::default())).1),
        }
    }
}

/// A number that a process does not share with its parent: how many of its ancestors have asked for
/// theirs.
fn generation() -> u32 {
    /// The id of the process that asked last, and its number in the low half.
    static LAST: AtomicU64 = AtomicU64::new(0);
    let id = u64::from(std::process::id()) << 32;
    let last = LAST.load(Ordering::Relaxed);
    if last >> 32 << 32 == id {
        return low_half(last);
    }
    let own = id | u64::from(low_half(last).wrapping_add(1));
    match LAST.compare_exchange(last, own, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => low_half(own),
        Err(own) => low_half(own), // of another thread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_child_has_a_lock_and_a_value_of_its_own_while_a_thread_of_the_parent_holds_the_parents() {
        use std::os::unix::process::ExitStatusExt;
        use std::process::{ExitStatus, exit};
        use std::thread;
        use std::time::{Duration, Instant};

        use fork::{Fork, fork, waitpid_nohang};
        use rustix::process::{Pid, Signal, kill_process};

        static VALUE: PerProcess<u32> = PerProcess::new();
        // The child of a child does the same.
        fn ask(depth: u32) -> bool {
            VALUE.with(|value| {
                let is_new = std::mem::replace(value, 41) == 0;
                is_new && (depth == 3 || in_child(|| ask(depth + 1)))
            })
        }
        fn in_child(child: impl FnOnce() -> bool) -> bool {
            let Fork::Parent(pid) = fork().unwrap() else { exit(i32::from(!child())) };
            let by = Instant::now() + Duration::from_secs(20);
            loop {
                match waitpid_nohang(pid).unwrap() {
                    Some(status) => return ExitStatus::from_raw(status).success(),
                    None if Instant::now() < by => thread::sleep(Duration::from_millis(1)),
                    None => kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap(),
                }
            }
        }
        assert!(ask(0));
        assert_eq!(VALUE.with(|value| *value), 41);
    }
}
