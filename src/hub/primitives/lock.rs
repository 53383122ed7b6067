//! Locks that a panic elsewhere cannot make unusable, and under which no code of the program's
//! runs.

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;

use crate::hub::primitives::sync::{Mutex, MutexGuard};

/// A `std` mutex without poisoning.
///
/// The hub holds its locks for a few lines of its own code that leave every invariant whole. A
/// panic in a user's thread that happens to hold a `Hub` must not stop the other threads' pushes.
///
/// Code of the program's, such as the destructor of a payload, may call the hub, so it never runs
/// under a lock. In debug builds [`assert_none_held`] checks that.
#[derive(Debug, Default)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> Guard<MutexGuard<'_, T>> {
        Guard::new(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the value to the holder of the only reference, without waiting.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A held lock.
#[derive(Debug)]
pub(crate) struct Guard<G> {
    guard: G,
    #[cfg(debug_assertions)]
    _held: held::Held,
}

impl<G> Guard<G> {
    pub(crate) fn new(guard: G) -> Self {
        Self {
            guard,
            #[cfg(debug_assertions)]
            _held: held::Held::new(),
        }
    }
}

impl<G: Deref> Deref for Guard<G> {
    type Target = G::Target;

    fn deref(&self) -> &Self::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Guard<G> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.guard
    }
}

/// Checks that no lock is held before code of the program's runs.
///
/// # Panics
///
/// In debug builds, if this thread holds a lock.
pub(crate) fn assert_none_held() {
    #[cfg(debug_assertions)]
    held::assert_none();
}

/// The number of locks that each thread holds.
#[cfg(debug_assertions)]
mod held {
    use std::cell::Cell;
    use std::marker::PhantomData;

    thread_local! {
        static HELD: Cell<usize> = const { Cell::new(0) };
    }

    /// One held lock, which its own thread gives back.
    #[derive(Debug)]
    pub(crate) struct Held(PhantomData<*const ()>);

    impl Held {
        pub(crate) fn new() -> Self {
            let _ = HELD.try_with(|held| held.set(held.get() + 1));
            Self(PhantomData)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            let _ = HELD.try_with(|held| held.set(held.get() - 1));
        }
    }

    pub(crate) fn assert_none() {
        let held = HELD.try_with(Cell::get).unwrap_or_default();
        assert!(held == 0, "code of the program's was about to be run under {held} locks");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(debug_assertions)]
    fn what_is_run_under_a_lock_is_noticed() {
        let (one, other) = (Lock::new(1), Lock::new(2));
        let held = || std::panic::catch_unwind(assert_none_held).is_err();
        assert!(!held());
        let both = (one.lock(), other.lock());
        assert!(held());
        drop(both.0);
        assert!(held());
        drop(both.1);
        assert!(!held());
    }
}
