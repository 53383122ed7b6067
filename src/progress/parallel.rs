//! Counts the items of rayon's parallel iterators.

use rayon::iter::plumbing::{Consumer, Folder, Producer, ProducerCallback, UnindexedConsumer};
use rayon::iter::{IndexedParallelIterator, ParallelIterator};

use crate::progress::adapter::Progress;
use crate::progress::job::{Job, LocalCounter};

/// Counts the items of a parallel iterator on a job (feature `rayon`).
///
/// Each piece of the work counts for itself, so the threads do not wait for each other.
///
/// ```
/// use rayon::prelude::*;
/// use stepcast::ParallelProgressIterator;
///
/// let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let job = hub.job("cells").total(1000).start();
/// let sum: u64 = (0..1000_u64).into_par_iter().progress_with(&job).sum();
/// assert_eq!((sum, job.position()), (499_500, 1000.0));
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
pub trait ParallelProgressIterator: ParallelIterator {
    /// Counts each item on the job. The end of the iterator does not end the job.
    fn progress_with(self, job: &Job) -> ParallelProgress<Self> {
        ParallelProgress { job: job.clone(), inner: self }
    }
}

impl<I: ParallelIterator> ParallelProgressIterator for I {}

/// A parallel iterator whose items are counted: see [`ParallelProgressIterator`].
#[derive(Debug)]
pub struct ParallelProgress<I> {
    job: Job,
    inner: I,
}

impl<I: ParallelIterator> ParallelIterator for ParallelProgress<I> {
    type Item = I::Item;

    fn drive_unindexed<C: UnindexedConsumer<Self::Item>>(self, consumer: C) -> C::Result {
        self.inner.drive_unindexed(Counted { job: self.job, inner: consumer })
    }

    fn opt_len(&self) -> Option<usize> {
        self.inner.opt_len()
    }
}

impl<I: IndexedParallelIterator> IndexedParallelIterator for ParallelProgress<I> {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn drive<C: Consumer<Self::Item>>(self, consumer: C) -> C::Result {
        self.inner.drive(Counted { job: self.job, inner: consumer })
    }

    fn with_producer<CB: ProducerCallback<Self::Item>>(self, callback: CB) -> CB::Output {
        self.inner.with_producer(Callback { job: self.job, inner: callback })
    }
}

struct Callback<CB> {
    job: Job,
    inner: CB,
}

impl<T, CB: ProducerCallback<T>> ProducerCallback<T> for Callback<CB> {
    type Output = CB::Output;

    fn callback<P: Producer<Item = T>>(self, producer: P) -> CB::Output {
        self.inner.callback(Counted { job: self.job, inner: producer })
    }
}

/// A consumer or a producer whose items are counted.
struct Counted<T> {
    job: Job,
    inner: T,
}

impl<T> Counted<T> {
    fn both(job: Job, (left, right): (T, T)) -> (Self, Self) {
        (Self { job: job.clone(), inner: left }, Self { job, inner: right })
    }
}

impl<P: Producer> Producer for Counted<P> {
    type Item = P::Item;
    type IntoIter = Progress<P::IntoIter>;

    fn into_iter(self) -> Self::IntoIter {
        self.job.wrap_iter(self.inner.into_iter())
    }

    fn min_len(&self) -> usize {
        self.inner.min_len()
    }

    fn max_len(&self) -> usize {
        self.inner.max_len()
    }

    fn split_at(self, index: usize) -> (Self, Self) {
        Self::both(self.job, self.inner.split_at(index))
    }
}

impl<T, C: Consumer<T>> Consumer<T> for Counted<C> {
    type Folder = CountedFolder<C::Folder>;
    type Reducer = C::Reducer;
    type Result = C::Result;

    fn split_at(self, index: usize) -> (Self, Self, Self::Reducer) {
        let (left, right, reducer) = self.inner.split_at(index);
        let (left, right) = Self::both(self.job, (left, right));
        (left, right, reducer)
    }

    fn into_folder(self) -> Self::Folder {
        CountedFolder { counter: self.job.local(), inner: self.inner.into_folder() }
    }

    fn full(&self) -> bool {
        self.inner.full()
    }
}

impl<T, C: UnindexedConsumer<T>> UnindexedConsumer<T> for Counted<C> {
    fn split_off_left(&self) -> Self {
        Self { job: self.job.clone(), inner: self.inner.split_off_left() }
    }

    fn to_reducer(&self) -> Self::Reducer {
        self.inner.to_reducer()
    }
}

struct CountedFolder<F> {
    counter: LocalCounter,
    inner: F,
}

impl<T, F: Folder<T>> Folder<T> for CountedFolder<F> {
    type Result = F::Result;

    #[inline]
    fn consume(self, item: T) -> Self {
        let inner = self.inner.consume(item);
        self.counter.inc(1);
        Self { counter: self.counter, inner }
    }

    fn complete(self) -> F::Result {
        self.inner.complete()
    }

    fn full(&self) -> bool {
        self.inner.full()
    }
}
