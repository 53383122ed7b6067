//! The handle to a series, and what a job measures.

use std::borrow::Cow;
use std::sync::Arc;

use crate::progress::job::Job;
use crate::progress::registry::Registry;
use crate::progress::series::state::{LINES_MAX, State};
use crate::progress::text::{TITLE_MAX, one_line};

/// The metrics of one job. [`Job::metric`] ignores another name.
const METRICS_MAX: usize = 256;

/// The values of one point: a number, or an array or slice of up to 16 numbers, one for each line.
pub trait SeriesValues: sealed::Values {}
impl SeriesValues for f64 {}
impl SeriesValues for f32 {}
impl<const N: usize> SeriesValues for [f64; N] {}
impl SeriesValues for &[f64] {}

mod sealed {
    pub trait Values: Copy {
        fn lend<T>(&self, lend: impl FnOnce(&[f64]) -> T) -> T;
    }

    impl Values for f64 {
        #[inline]
        fn lend<T>(&self, lend: impl FnOnce(&[f64]) -> T) -> T {
            lend(std::slice::from_ref(self))
        }
    }

    impl Values for f32 {
        #[inline]
        fn lend<T>(&self, lend: impl FnOnce(&[f64]) -> T) -> T {
            lend(&[f64::from(*self)])
        }
    }

    impl<const N: usize> Values for [f64; N] {
        #[inline]
        fn lend<T>(&self, lend: impl FnOnce(&[f64]) -> T) -> T {
            lend(self)
        }
    }

    impl Values for &[f64] {
        #[inline]
        fn lend<T>(&self, lend: impl FnOnce(&[f64]) -> T) -> T {
            lend(self)
        }
    }
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
    /// Makes a series of this job, or of the whole run.
    pub(crate) fn new(
        registry: Option<&Arc<Registry>>,
        job: Option<u64>,
        name: Cow<'static, str>,
    ) -> Self {
        Self { state: registry.map(|registry| registry.make_series(job, name)) }
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
    /// The call takes a few tens of nanoseconds. It takes no lock but once in sixteen points, or
    /// where several threads push to one series; it reads no clock, and does not wake the hub.
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
    /// Makes a series of this job, with a name of up to 256 bytes. It is announced to viewers at
    /// once.
    ///
    /// A run shows 1000 series. The series of jobs that are shown no more make way for new ones; the
    /// log says if one finds no place.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("time loop").start();
    /// let residual = job.series("residual");
    /// residual.push(1.0, 0.25);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn series(&self, name: impl Into<Cow<'static, str>>) -> Series {
        match self.cell_here() {
            Some(cell) => Series::new(self.registry(), Some(cell.about.id), name.into()),
            None => Series { state: None },
        }
    }

    /// Adds a value to the series with this name, at the job's position. The first call makes the
    /// series.
    ///
    /// It takes a few nanoseconds more than [`Series::push`] for each name that the job has. A job
    /// has up to 256 names; further ones are ignored.
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
        let series = cell.metrics.get_or_add(name, METRICS_MAX, || {
            let (id, name) = (Some(cell.about.id), name.to_owned().into());
            match self.registry() {
                Some(registry) => registry.make_series(id, name),
                None => State::new(&cell.base, id, name, 0), // which nobody sees
            }
        });
        if let Some(series) = series {
            y.lend(|ys| series.push(cell.position(), ys));
        }
    }
}
