//! The bell: how callers' threads and sockets wake the driver.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};

use crate::hub::primitives::lock::Lock;
use crate::hub::primitives::sync::AtomicBool;

/// The driver's bell.
///
/// A caller first makes its work visible under a lock (a queue's), then rings. Before the driver
/// sleeps, it first says so, then looks at every such queue under its lock. Whichever of the two
/// takes the lock second sees what the other did before, so no push is slept over. A ring while the
/// driver is awake costs one load.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    asleep: AtomicBool,
    driver: Lock<Option<Arc<Waker>>>,
}

impl Bell {
    /// Rings for a caller that has put something into a queue.
    pub(crate) fn ring(&self) {
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake_driver();
        }
    }

    /// Wakes the driver, asleep or not, for sockets and rare commands.
    pub(crate) fn wake_driver(&self) {
        // Without the lock: waking takes the kernel twenty microseconds, and a runtime that tells
        // `tracing` of its wakers may get here again.
        let driver = self.driver.lock().clone();
        if let Some(driver) = driver {
            driver.wake_by_ref();
        }
    }

    /// Marks the driver as asleep: from now on callers have to ring.
    ///
    /// An exchange and not a store, here and below, so the flag's values have one order with those
    /// of [`ring`](Self::ring) in loom's model, too. The call is rare.
    pub(crate) fn sleep(&self) {
        self.asleep.swap(true, Ordering::Relaxed);
    }

    /// Marks the driver as awake: it looks by itself.
    pub(crate) fn rise(&self) {
        self.asleep.swap(false, Ordering::Relaxed);
    }

    /// Forgets the driver, which has gone.
    pub(crate) fn forget(&self) {
        let gone = self.driver.lock().take();
        drop(gone);
    }

    #[cfg(test)]
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Sets the driver's waker.
    pub(crate) fn register(&self, waker: &Waker) {
        let is_known = self.driver.lock().as_ref().is_some_and(|known| known.will_wake(waker));
        if !is_known {
            let waker = Arc::new(waker.clone());
            let gone = self.driver.lock().replace(waker);
            drop(gone);
        }
    }
}

/// The connections whose sockets have become readable or writable.
#[derive(Debug)]
pub(crate) struct ReadyList {
    slots: Lock<Vec<usize>>,
    bell: Arc<Bell>,
}

impl ReadyList {
    pub(crate) fn new(bell: Arc<Bell>) -> Arc<Self> {
        Arc::new(Self { slots: Lock::default(), bell })
    }

    /// Returns the waker for the connection at `slot`. A slot may belong to a connection that has
    /// gone, and may come twice: an extra look is harmless.
    pub(crate) fn waker(self: &Arc<Self>, slot: usize) -> Waker {
        Waker::from(Arc::new(SocketWaker { slot, list: Arc::clone(self) }))
    }

    /// Exchanges the list for an empty one, whose capacity is reused.
    pub(crate) fn swap(&self, empty: &mut Vec<usize>) {
        std::mem::swap(&mut *self.slots.lock(), empty);
    }
}

struct SocketWaker {
    slot: usize,
    list: Arc<ReadyList>,
}

impl Wake for SocketWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let was_empty = {
            let mut slots = self.list.slots.lock();
            slots.push(self.slot);
            slots.len() == 1
        };
        if was_empty {
            self.list.bell.wake_driver();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// A waker that rings the bell itself whatever is done to it, as one that tells a subscriber
    /// which writes into the run's log.
    struct Ringing {
        bell: Arc<Bell>,
        wakes: Arc<AtomicUsize>,
    }

    impl Wake for Ringing {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            if self.wakes.fetch_add(1, Ordering::Relaxed) < 10 {
                self.bell.wake_driver();
            }
        }
    }

    impl Drop for Ringing {
        fn drop(&mut self) {
            self.bell.wake_driver();
        }
    }

    #[test]
    fn a_waker_may_ring() {
        let (over, is_over) = mpsc::channel();
        thread::spawn(move || {
            let (bell, wakes) = (Arc::<Bell>::default(), Arc::<AtomicUsize>::default());
            for _ in 0..3 {
                let (bell, wakes) = (Arc::clone(&bell), Arc::clone(&wakes));
                let ringing = Ringing { bell: Arc::clone(&bell), wakes };
                bell.register(&Waker::from(Arc::new(ringing)));
            }
            bell.sleep();
            bell.ring();
            bell.forget();
            over.send(wakes.load(Ordering::Relaxed)).unwrap();
        });
        assert!(is_over.recv_timeout(Duration::from_secs(20)).expect("no deadlock") > 10);
    }
}
