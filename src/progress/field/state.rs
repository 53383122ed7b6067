//! The state of one field: what it is, whether a copy is asked for, and the last copy.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::hub::primitives::lock::Lock;
use crate::progress::base::Base;
use crate::progress::field::copy::{Extent, FieldError, FieldValue, Head, check, copy};
use crate::progress::line::Object;
use crate::progress::log::Level;
use crate::progress::text::{TITLE_MAX, one_line};

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) id: u64,
    pub(crate) job: u64,
    name: Box<str>,
    /// Whether the sampler wants a copy: the next call makes one.
    is_asked: AtomicBool,
    copy: Lock<Option<Vec<u8>>>,
    rest: Lock<Rest>,
    changes: AtomicU32,
    /// Whether the log says why the field is not shown.
    has_warned: AtomicBool,
    base: Arc<Base>,
}

#[derive(Debug, Default)]
struct Rest {
    unit: Cow<'static, str>,
    extent: Extent,
}

impl State {
    pub(crate) fn new(base: &Arc<Base>, job: u64, name: Cow<'static, str>) -> Arc<Self> {
        Arc::new(Self {
            id: base.next_id(),
            job,
            name: one_line(name, TITLE_MAX).into_owned().into(),
            is_asked: AtomicBool::new(false),
            copy: Lock::default(),
            rest: Lock::default(),
            changes: AtomicU32::new(1),
            has_warned: AtomicBool::new(false),
            base: Arc::clone(base),
        })
    }

    /// A number that another change makes another.
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    pub(crate) fn set_unit(&self, unit: Cow<'static, str>) {
        let unit = one_line(unit, TITLE_MAX);
        self.change(|rest| {
            let has_changed = rest.unit != unit;
            rest.unit = unit;
            has_changed
        });
    }

    pub(crate) fn set_extent(&self, set: impl FnOnce(&mut Extent)) {
        // The next copy says so: viewers need not be told.
        if !self.base.process.is_another() {
            set(&mut self.rest.lock().extent);
        }
    }

    /// `change` says whether it has changed anything.
    fn change(&self, change: impl FnOnce(&mut Rest) -> bool) {
        if !self.base.process.is_another() && change(&mut self.rest.lock()) {
            self.changes.fetch_add(1, Ordering::Release);
            self.base.wake();
        }
    }

    /// Shows the values, row by row, if the sampler has asked for them.
    ///
    /// # Errors
    ///
    /// The shape is no field's, or not that of the values: see [`check`].
    #[inline]
    pub(crate) fn put<T: FieldValue>(
        &self,
        shape: [usize; 2],
        values: &[T],
        position: impl FnOnce() -> f64,
    ) -> Result<(), FieldError> {
        check::<T>(shape, values.len())?;
        if self.is_asked.load(Ordering::Relaxed) {
            self.copy(shape, values, position);
        }
        Ok(())
    }

    #[cold]
    fn copy<T: FieldValue>(&self, shape: [usize; 2], values: &[T], position: impl FnOnce() -> f64) {
        // Of threads that show the field at once, one makes the copy.
        if self.base.process.is_another() || !self.is_asked.swap(false, Ordering::Relaxed) {
            return;
        }
        let extent = self.rest.lock().extent;
        let copy = copy(Head { id: self.id, position: position(), extent }, shape, values);
        let before = self.copy.lock().replace(copy);
        drop(before); // after the lock
    }

    /// Says in the log, once, why the values are not shown.
    #[cold]
    pub(crate) fn warn(&self, error: FieldError) {
        if !self.base.process.is_another() && !self.has_warned.swap(true, Ordering::Relaxed) {
            let text = format!("field {}: {error}", self.name);
            self.base.log(Level::Warn, Some(self.job), text.into());
        }
    }

    /// Says in the log, once, that there is no memory for the values.
    pub(crate) fn warn_of_memory(&self) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            let text =
                format!("field {}: there is no memory for a copy; see Limits::memory", self.name);
            self.base.log(Level::Warn, Some(self.job), text.into());
        }
    }

    /// Has the next call make a copy.
    pub(crate) fn ask(&self) {
        self.is_asked.store(true, Ordering::Relaxed);
    }

    /// Takes the newest copy, if one was made since.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        self.copy.lock().take()
    }

    /// Writes what the field is.
    pub(crate) fn write(&self, slot: u64, out: &mut Vec<u8>) {
        let mut field = Object::begin(out, "field");
        field.whole("slot", slot);
        field.whole("id", self.id);
        field.whole("job", self.job);
        field.text("name", &self.name);
        let rest = self.rest.lock();
        if !rest.unit.is_empty() {
            field.text("unit", &rest.unit);
        }
        field.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> Arc<State> {
        State::new(&Base::new(|| ()), 1, "u".into())
    }

    #[test]
    fn one_copy_is_made_each_time_that_one_is_asked_for() {
        let field = state();
        let put = |value: f32| field.put([1, 1], &[value], || 0.0).unwrap();
        put(0.0);
        assert_eq!(field.take(), None);
        field.ask();
        put(1.0);
        put(2.0);
        assert_eq!(field.take().unwrap()[64..], 1.0_f32.to_le_bytes());
        put(3.0);
        assert_eq!(field.take(), None);
        field.ask();
        put(4.0);
        field.ask();
        put(5.0);
        assert_eq!(field.take().unwrap()[64..], 5.0_f32.to_le_bytes());
        assert_eq!(field.take(), None);
    }

    #[test]
    fn a_shape_is_checked_whether_or_not_a_copy_is_asked_for() {
        let field = state();
        assert!(field.put([2, 2], &[1.0], || 0.0).is_err());
        field.ask();
        assert!(field.put([2, 2], &[1.0], || 0.0).is_err());
        let error = field.put([0, 2], &[1.0], || 0.0).unwrap_err();
        field.warn(error);
        field.warn(error);
        assert_eq!(field.base.take_log().0.len(), 1);
    }
}
