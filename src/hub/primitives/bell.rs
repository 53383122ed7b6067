//! How callers' threads and sockets make the driver look.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Wake, Waker};

use crate::hub::primitives::lock::Lock;
use crate::hub::primitives::sync::{AtomicBool, RwLock};

/// The driver's bell.
///
/// A caller first makes its work visible under a lock (a queue's), then rings. The driver, before
/// it sleeps, first says that it does, then looks at every such queue under its lock. Whichever of
/// the two takes that lock second sees what the other did before, so no push is slept over, and a
/// ring while the driver is awake costs one load.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    asleep: AtomicBool,
    driver: RwLock<Option<Waker>>,
}

impl Bell {
    /// Callers: there is something new in a queue.
    pub(crate) fn ring(&self) {
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake_driver();
        }
    }

    /// Sockets and rare commands: the driver has to look now, asleep or not.
    pub(crate) fn wake_driver(&self) {
        // Waking takes the kernel twenty microseconds, and what the driver does first is look whether this is its
        // waker: a lock that both may have.
        let driver = self.driver.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(driver) = &*driver {
            driver.wake_by_ref();
        }
    }

    /// The driver: from now on it has to be rung for.
    ///
    /// An exchange and not a store, here and below, so that the flag's values have one order with
    /// those of [`ring`](Self::ring) in the model that loom has of them, too. It is not done often.
    pub(crate) fn sleep(&self) {
        self.asleep.swap(true, Ordering::Relaxed);
    }

    /// The driver: it looks by itself.
    pub(crate) fn rise(&self) {
        self.asleep.swap(false, Ordering::Relaxed);
    }

    /// The driver has gone: there is nobody to wake.
    pub(crate) fn forget(&self) {
        self.driver.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    #[cfg(test)]
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// The driver: whom to wake.
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
    keys: Lock<Vec<usize>>,
    bell: Arc<Bell>,
}

impl ReadyList {
    pub(crate) fn new(bell: Arc<Bell>) -> Arc<Self> {
        Arc::new(Self { keys: Lock::default(), bell })
    }

    /// The waker for the connection at `key`. A key may be of a connection that has gone, and may
    /// come twice: looking once too often is harmless.
    pub(crate) fn waker(self: &Arc<Self>, key: usize) -> Waker {
        Waker::from(Arc::new(SocketWaker { key, list: Arc::clone(self) }))
    }

    /// Exchanges the list for an empty one, whose room is kept in use.
    pub(crate) fn swap(&self, empty: &mut Vec<usize>) {
        std::mem::swap(&mut *self.keys.lock(), empty);
    }
}

struct SocketWaker {
    key: usize,
    list: Arc<ReadyList>,
}

impl Wake for SocketWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let was_empty = {
            let mut keys = self.list.keys.lock();
            keys.push(self.key);
            keys.len() == 1
        };
        if was_empty {
            self.list.bell.wake_driver();
        }
    }
}
