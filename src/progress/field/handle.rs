//! The handle to a field, and what a job shows as fields.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::progress::cell::Cell;
use crate::progress::field::copy::{FieldError, FieldValue};
use crate::progress::field::state::State;
use crate::progress::field::table::FIELDS_MAX;
use crate::progress::job::Job;
use crate::progress::text::cut;

/// A two-dimensional array of the model, which viewers see as a heat map: see [`Job::add_field`].
///
/// A clone means the same field.
///
/// ```
/// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let job = hub.job("time loop").start();
/// let u = job.add_field("u").unit("mol/l").x(0.0..=2.5).y(0.0..=1.0);
/// let values = vec![0.0_f32; 3 * 4];
/// u.set([3, 4], &values)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Field {
    /// `None`: nobody sees the field.
    shown: Option<(Arc<Cell>, Arc<State>)>,
}

impl Field {
    fn change(self, change: impl FnOnce(&State)) -> Self {
        if let Some((_, state)) = &self.shown {
            change(state);
        }
        self
    }

    /// Sets the unit of the values, up to 256 bytes.
    ///
    /// ```
    /// let _field = stepcast::Job::disabled().add_field("T").unit("K");
    /// ```
    #[must_use]
    pub fn unit(self, unit: impl Into<Cow<'static, str>>) -> Self {
        self.change(|state| state.set_unit(unit.into()))
    }

    /// Says where the left edge of the first column is, and the right edge of the last.
    ///
    /// ```
    /// let _field = stepcast::Job::disabled().add_field("T").x(0.0..=2.5);
    /// ```
    #[must_use]
    pub fn x(self, x: RangeInclusive<f64>) -> Self {
        let x = [*x.start(), *x.end()];
        self.change(|state| state.set_extent(|extent| extent.x = x))
    }

    /// Says where the outer edges of the first row and of the last are.
    ///
    /// ```
    /// let _field = stepcast::Job::disabled().add_field("T").y(0.0..=1.0);
    /// ```
    #[must_use]
    pub fn y(self, y: RangeInclusive<f64>) -> Self {
        let y = [*y.start(), *y.end()];
        self.change(|state| state.set_extent(|extent| extent.y = y))
    }

    /// Shows values of the shape `[ny, nx]`, row by row, as [`Job::field`] does.
    ///
    /// # Errors
    ///
    /// The shape has no value, is not that of `values`, or the values take more than 16 MiB. Each
    /// call checks that. Viewers keep what they have.
    ///
    /// ```
    /// use stepcast::{FieldError, Job};
    ///
    /// let field = Job::disabled().add_field("u");
    /// let refused = FieldError::Length { ny: 2, nx: 2, got: 3 };
    /// assert_eq!(field.set([2, 2], &[0.0, 1.0, 2.0]), Err(refused));
    /// ```
    pub fn set<T: FieldValue>(&self, shape: [usize; 2], values: &[T]) -> Result<(), FieldError> {
        match &self.shown {
            Some((cell, state)) => state.put(shape, values, || cell.position()),
            None => crate::progress::field::copy::check::<T>(shape, values.len()),
        }
    }
}

impl Job {
    /// Shows a two-dimensional array as it is now: `f32` or `f64`, row by row, of the shape
    /// `[ny, nx]`. It is a heat map on the page, with this name.
    ///
    /// The model may call this at every step. While somebody watches fields, one call of each tenth
    /// of a second copies the values, on the caller's thread; while nobody does, one call of each
    /// second, so that a viewer who comes later finds them, up to a second old. Every other call
    /// compares the name and reads one flag. The latest copy wins. Fields that have more than an eighth
    /// of [`Limits::memory`](crate::Limits::memory) together are copied in turn.
    ///
    /// A run shows 64 fields. A shape that is not that of the values, or values above 16 MiB, are
    /// not shown; the log says so once. [`add_field`](Job::add_field) makes a field that returns the
    /// error, and that has a unit and edges.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let (ny, nx) = (128, 256);
    /// let u = vec![0.0_f32; ny * nx];
    /// let job = hub.job("time loop").total(1000).start();
    /// for _ in 0..1000 {
    ///     // model.step(&mut u);
    ///     job.field("u", [ny, nx], &u);
    ///     job.inc(1);
    /// }
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    #[inline]
    pub fn field<T: FieldValue>(&self, name: &str, shape: [usize; 2], values: &[T]) {
        let Some(cell) = self.cell_here() else { return };
        let Some(state) = self.field_named(cell, name) else { return };
        if let Err(error) = state.put(shape, values, || cell.position()) {
            state.warn(error);
        }
    }

    /// Returns the field with this name, up to 256 bytes. It is announced to viewers at once.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("time loop").start();
    /// let temperature = job.add_field("T").unit("K");
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn add_field(&self, name: impl Into<Cow<'static, str>>) -> Field {
        let shown = self.cell_here().and_then(|cell| {
            let state = self.field_named(cell, &name.into())?;
            Some((Arc::clone(cell), Arc::clone(state)))
        });
        Field { shown }
    }

    #[inline]
    fn field_named<'a>(&self, cell: &'a Cell, name: &str) -> Option<&'a Arc<State>> {
        let name = cut(name);
        let field = cell.fields.get_or_add(name, FIELDS_MAX, || {
            let state = State::new(&cell.base, cell.about.id, name.to_owned().into());
            if let Some(registry) = self.registry() {
                registry.add_field(&state);
            }
            state
        });
        if let (None, Some(registry)) = (field, self.registry()) {
            registry.note_without_place();
        }
        field
    }
}
