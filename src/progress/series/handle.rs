//! The handle to a series, and what a job measures.

use std::borrow::Cow;
use std::sync::Arc;

use crate::progress::cell::Cell;
use crate::progress::job::Job;
use crate::progress::series::state::{LINES_MAX, State};
use crate::progress::text::{TITLE_MAX, cut, one_line};

/// The most series of one job.
const OF_JOB_MAX: usize = 256;

/// The values of one point, one for each line: a number, or an array or slice of up to 16.
pub trait SeriesValues: sealed::Values {}

mod sealed {
    use crate::progress::series::state::LINES_MAX;

    pub trait Values: Copy {
        fn lend<T>(&self, lend: impl FnOnce(&[f64]) -> T) -> T;
    }

    /// Lends values that are converted. More than a point may have stay too many.
    pub(super) fn lend_as<V: Copy, T>(
        values: &[V],
        convert: impl Fn(V) -> f64,
        lend: impl FnOnce(&[f64]) -> T,
    ) -> T {
        let mut all = [0.0; LINES_MAX + 1];
        let count = values.len().min(all.len());
        for (place, value) in all.iter_mut().zip(values) {
            *place = convert(*value);
        }
        lend(&all[..count])
    }
}

macro_rules! values {
    ($($number:ty: $convert:expr;)*) => {$(
        impl SeriesValues for $number {}
        impl sealed::Values for $number {
            #[inline]
            fn lend<T>(&self, lend: impl FnOnce(&[f64]) -> T) -> T {
                lend(&[$convert(*self)])
            }
        }
    )*};
}

values! {
    f64: f64::from;
    f32: f64::from;
    i32: f64::from;
    u32: f64::from;
    i64: |whole: i64| whole as f64;
    u64: |whole: u64| whole as f64;
    usize: |whole: usize| whole as f64;
}

macro_rules! lists {
    ($([$($of:tt)*] $list:ty;)*) => {$(
        impl<$($of)*> SeriesValues for $list {}
        impl<$($of)*> sealed::Values for $list {
            #[inline]
            fn lend<T>(&self, lend: impl FnOnce(&[f64]) -> T) -> T {
                lend(&self[..])
            }
        }
    )*};
}

lists! {
    [const N: usize] [f64; N];
    [const N: usize] &[f64; N];
    [] &[f64];
    [] &Vec<f64>;
}

macro_rules! lists_of_f32 {
    ($([$($of:tt)*] $list:ty;)*) => {$(
        impl<$($of)*> SeriesValues for $list {}
        impl<$($of)*> sealed::Values for $list {
            #[inline]
            fn lend<T>(&self, lend: impl FnOnce(&[f64]) -> T) -> T {
                sealed::lend_as(&self[..], f64::from, lend)
            }
        }
    )*};
}

lists_of_f32! {
    [const N: usize] [f32; N];
    [const N: usize] &[f32; N];
    [] &[f32];
    [] &Vec<f32>;
}

/// What the model measures at each step, which viewers see as a plot: see [`Job::series`] and
/// [`Hub::series`](crate::Hub::series).
///
/// The hub keeps the whole run in bounded memory: least, greatest and last value of up to 2048
/// stretches of x. So viewers who come late see all of it. A clone means the same series.
///
/// ```
/// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let job = hub.job("time loop").total(1000).start();
/// let residual = job.series("residual");
/// let velocity = job.series("velocity").unit("m/s").lines(["u", "v"]);
/// for step in 0..1000 {
///     // model.step();
///     residual.push(step as f64, 1.0 / (1.0 + step as f64));
///     velocity.push(step as f64, [0.5, -0.25]);
///     job.inc(1);
/// }
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Series {
    /// `None`: nobody sees the series.
    state: Option<Arc<State>>,
}

impl Series {
    pub(crate) fn new(state: Option<&Arc<State>>) -> Self {
        Self { state: state.map(Arc::clone) }
    }

    fn change(self, change: impl FnOnce(&State)) -> Self {
        if let Some(state) = &self.state {
            change(state);
        }
        self
    }

    /// Sets the unit of the values, up to 256 bytes.
    ///
    /// ```
    /// let _series = stepcast::Job::disabled().series("pressure").unit("Pa");
    /// ```
    #[must_use]
    pub fn unit(self, unit: impl Into<Cow<'static, str>>) -> Self {
        self.change(|state| state.set_unit(unit.into()))
    }

    /// Names the values of a point, up to 16 names of up to 256 bytes.
    ///
    /// ```
    /// let _series = stepcast::Job::disabled().series("velocity").lines(["u", "v", "w"]);
    /// ```
    #[must_use]
    pub fn lines<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        let short = |name: N| one_line(name.into().into(), TITLE_MAX).into_owned().into();
        self.change(|state| state.set_lines(names.into_iter().take(LINES_MAX).map(short).collect()))
    }

    /// Adds a point: one value, or one for each line, at `x`.
    ///
    /// Values have 7 digits that count, as an `f32` has: to see a drift of 1e-9, push the difference.
    ///
    /// The call takes a few tens of nanoseconds. It takes no lock but once in sixteen points, or
    /// where several threads push to one series; it reads no clock, and wakes a hub only that sleeps
    /// because no job is open.
    ///
    /// Nothing is dropped. An x below that of the point before begins a new segment. Values that are
    /// not finite are kept as what they are, and the log says where the first one came; where x is
    /// not finite, the x before stands in. The first point decides how many lines there are: a point
    /// with another number of values is not taken, and the log says so once.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let energy = hub.job("time loop").start().series("energy");
    /// energy.push(0.5, 17.0);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    #[inline]
    pub fn push<V: SeriesValues>(&self, x: f64, y: V) {
        if let Some(state) = &self.state {
            y.lend(|ys| state.push(x, ys));
        }
    }
}

impl Job {
    /// Returns the series of this job that has this name, up to 256 bytes. The first call makes it,
    /// and announces it to viewers.
    ///
    /// A job has 256 series, and a run shows 1000. The series of jobs that have ended make way for new
    /// ones, the oldest first; the log says if one finds no place.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("time loop").start();
    /// let residual = job.series("residual");
    /// residual.push(1.0, 0.25);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn series(&self, name: impl AsRef<str>) -> Series {
        let cell = self.cell_here();
        Series::new(cell.and_then(|cell| self.series_named(cell, name.as_ref())))
    }

    /// Adds a value to the series with this name, at the job's position. The first call makes the
    /// series.
    ///
    /// It takes a few nanoseconds more than [`Series::push`] for each series that the job has. Threads
    /// that count on one job, and add to one metric, may see its position in another order: x then
    /// goes back, and a segment begins.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("training").total(100).start();
    /// for epoch in 0..100 {
    ///     job.metric("loss", 1.0 / (1.0 + epoch as f64));
    ///     job.inc(1);
    /// }
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    #[doc(alias = "set_postfix")]
    #[inline]
    pub fn metric<V: SeriesValues>(&self, name: &str, y: V) {
        let Some(cell) = self.cell_here() else { return };
        if let Some(series) = self.series_named(cell, name) {
            y.lend(|ys| series.push(cell.position(), ys));
        }
    }

    #[inline]
    fn series_named<'a>(&self, cell: &'a Cell, name: &str) -> Option<&'a Arc<State>> {
        let (name, registry) = (cut(name), self.registry()?);
        let make = || registry.make_series(Some(cell.about.id), name);
        let series = cell.series.get_or_add(name, OF_JOB_MAX, make);
        if series.is_none() {
            registry.note_without_place();
        }
        series
    }
}
