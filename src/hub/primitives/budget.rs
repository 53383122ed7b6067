//! The number of bytes that the hub holds for all its clients.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use crate::hub::primitives::program;

/// The bytes held for clients: entries in queues, frames being written, incomplete inbound
/// messages, events nobody has taken. Each byte is counted once, however many clients share it,
/// from when it is made to when its last holder drops it.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    limit: usize,
    /// The budget that this one is a share of. What is counted here is counted there, too, whether
    /// it fits there or not.
    whole: Option<Arc<Self>>,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit, whole: None })
    }

    /// Makes a part of this budget with a limit of its own: the whole limit divided by `parts`.
    pub(crate) fn share(self: &Arc<Self>, parts: usize) -> Arc<Self> {
        let (used, limit) = (AtomicUsize::new(0), self.limit / parts);
        Arc::new(Self { used, limit, whole: Some(Arc::clone(self)) })
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.used() > self.limit
    }

    /// Whether less than a quarter of the limit is free, which relief has to change.
    pub(crate) fn is_tight(&self) -> bool {
        self.used() > self.limit - self.limit / 4
    }

    /// Counts `bytes` whether they fit or not: for memory that has a bound of its own.
    pub(crate) fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Relaxed);
        if let Some(whole) = &self.whole {
            whole.add(bytes);
        }
    }

    /// Whether `bytes` more fit.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) <= self.limit
    }

    /// Counts `bytes` if they fit.
    pub(crate) fn try_add(&self, bytes: usize) -> bool {
        let add = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        let fits = self.used.fetch_update(Relaxed, Relaxed, add).is_ok();
        if let (true, Some(whole)) = (fits, &self.whole) {
            whole.add(bytes);
        }
        fits
    }

    pub(crate) fn sub(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
        if let Some(whole) = &self.whole {
            whole.sub(bytes);
        }
    }
}

/// Some bytes of the budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    pub(crate) fn none(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Counts bytes whether they fit or not: for memory that has a bound of its own.
    pub(crate) fn of(budget: &Arc<Budget>, bytes: usize) -> Self {
        budget.add(bytes);
        Self::adopt(budget, bytes)
    }

    /// Counts the bytes that the charge will be [attached](Self::attach) to.
    pub(crate) fn of_owner(budget: &Arc<Budget>, bytes: &Bytes) -> Self {
        Self::of(budget, bytes.len() + size_of::<Charged>())
    }

    /// Takes over bytes that are already counted.
    pub(crate) fn adopt(budget: &Arc<Budget>, bytes: usize) -> Self {
        Self { budget: Arc::clone(budget), bytes }
    }

    /// Changes the amount. Returns whether the budget is still within its limit.
    pub(crate) fn set(&mut self, bytes: usize) -> bool {
        match bytes.cmp(&self.bytes) {
            Ordering::Greater => self.budget.add(bytes - self.bytes),
            Ordering::Less => self.budget.sub(self.bytes - bytes),
            Ordering::Equal => {}
        }
        self.bytes = bytes;
        !self.budget.is_over()
    }

    /// Returns these bytes, counted until their last clone or slice is dropped.
    pub(crate) fn attach(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Charged { bytes, _charge: self })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.sub(self.bytes);
    }
}

struct Charged {
    bytes: Bytes,
    _charge: Charge,
}

impl Drop for Charged {
    fn drop(&mut self) {
        // The bytes may be what the program has pushed.
        program::let_go(std::mem::take(&mut self.bytes));
    }
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_bytes_are_counted_once_until_the_last_slice_is_gone() {
        let budget = Budget::new(100);
        budget.add(5);
        let bytes = Charge::adopt(&budget, 5).attach(Bytes::from_static(b"hello"));
        let (clone, slice) = (bytes.clone(), bytes.slice(1..3));
        drop((bytes, clone));
        assert_eq!(budget.used(), 5);
        assert_eq!(slice, "el");
        drop(slice);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_does_not_fit_is_not_counted() {
        let budget = Budget::new(10);
        assert!(budget.try_add(10));
        assert!(!budget.try_add(1));
        assert_eq!(budget.used(), 10);
        assert!(!budget.try_add(usize::MAX - 10));
    }

    #[test]
    fn a_share_is_counted_in_the_whole_and_has_a_limit_of_its_own() {
        let budget = Budget::new(100);
        let share = budget.share(4);
        assert!(share.try_add(25) && !share.try_add(1));
        let mut charge = Charge::of(&share, 1);
        assert_eq!((share.is_over(), budget.is_over(), budget.used()), (true, false, 26));
        assert!(!charge.set(2) && charge.set(0));
        budget.add(80); // what is counted in a share is counted, though the whole is full
        share.sub(25);
        assert!(share.try_add(25) && budget.is_over());
        drop(charge);
        assert_eq!((share.used(), budget.used()), (25, 105));
    }

    #[test]
    fn what_does_not_fit_is_never_seen_by_another_thread() {
        let budget = Budget::new(100);
        budget.add(60);
        std::thread::scope(|scope| {
            let looker = scope.spawn(|| (0..500_000).any(|_| budget.is_over()));
            while !looker.is_finished() {
                assert!(!budget.try_add(64));
            }
            assert!(!looker.join().unwrap(), "over, though nothing was added");
        });
    }
}
