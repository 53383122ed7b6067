//! The bell: how callers' threads and sockets wake the driver.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Wake, Waker};

use crate::hub::primitives::lock::Lock;
use crate::hub::primitives::sync::{AtomicBool, RwLock};

/// The driver's bell.
///
/// A caller first makes its work visible under a lock (a queue's), then rings. Before the driver
/// sleeps, it first says so, then looks at every such queue under its lock. Whichever of the two
/// takes the lock second sees what the other did before, so no push is slept over. A ring while the
/// driver is awake costs one load.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    asleep: AtomicBool,
    driver: RwLock<Option<Waker>>,
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
        // Waking takes the kernel twenty microseconds. The driver first checks whether this is its
        // waker, with a lock that both may hold.
        let driver = self.driver.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(driver) = &*driver {
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
        self.driver.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    #[cfg(test)]
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// Sets the driver's waker.
    pub(crate) fn register(&self, waker: &Waker) {
        let known = self.driver.read().unwrap_or_else(PoisonError::into_inner);
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            drop(known);
            let mut driver = self.driver.write().unwrap_or_else(PoisonError::into_inner);
            *driver = Some(waker.clone());
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
