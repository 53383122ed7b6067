//! A mutex that a panic elsewhere cannot make unusable.

use std::sync::PoisonError;

use super::sync::{Mutex, MutexGuard};

/// `std`'s mutex without poisoning.
///
/// The hub holds its locks for a few lines of its own code that leave every invariant whole; a
/// panic in the thread of a user who happens to hold a `Hub` must not stop the other threads' pushes.
#[derive(Debug, Default)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is inside, for who has the only reference: nothing is waited for.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}
