//! Adapters that count what passes through them: items, bytes.

use std::io::{self, BufRead, IoSlice, Read, Seek, SeekFrom, Write};
use std::iter::FusedIterator;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

use crate::progress::job::{Job, LocalCounter};

/// Counts an iterator's items on a job.
///
/// ```
/// use stepcast::ProgressIterator;
///
/// let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let job = hub.job("rows").total(512).start();
/// for row in (0..512).progress_with(&job) {
///     // solve(row);
/// }
/// assert_eq!(job.position(), 512.0);
/// job.finish();
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
pub trait ProgressIterator: Iterator + Sized {
    /// Counts each item on the job. The end of the iterator does not end the job.
    fn progress_with(self, job: &Job) -> Progress<Self> {
        job.wrap_iter(self)
    }
}

impl<I: Iterator> ProgressIterator for I {}

/// What passes through this iterator, reader, writer or stream is counted on a job:
/// [`Job::wrap_iter`], [`Job::wrap_read`] and their kin make one.
///
/// An iterator and a stream count their items, a reader and a writer their bytes. A reader or
/// writer that seeks sets the job's position. An asynchronous one has to be [`Unpin`].
#[derive(Debug)]
pub struct Progress<T> {
    counter: LocalCounter,
    inner: T,
    /// Whether the job ends with the iterator.
    finishes: bool,
}

impl Job {
    /// Counts the items of an iterator on this job, as
    /// [`progress_with`](ProgressIterator::progress_with) does.
    ///
    /// ```
    /// let job = stepcast::Job::disabled();
    /// assert_eq!(job.wrap_iter(0..512).count(), 512);
    /// ```
    pub fn wrap_iter<I: Iterator>(&self, items: I) -> Progress<I> {
        self.wrap(items)
    }

    /// Counts the bytes that are read.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("read the mesh").total(5).unit("B").start();
    /// let mesh = std::io::read_to_string(job.wrap_read(&b"1 2 3"[..]))?;
    /// assert_eq!(job.position(), 5.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wrap_read<R: Read>(&self, reader: R) -> Progress<R> {
        self.wrap(reader)
    }

    /// Counts the bytes that are written.
    ///
    /// ```
    /// # use std::io::Write;
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("write the mesh").unit("B").start();
    /// job.wrap_write(Vec::new()).write_all(b"1 2 3")?;
    /// assert_eq!(job.position(), 5.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wrap_write<W: Write>(&self, writer: W) -> Progress<W> {
        self.wrap(writer)
    }

    /// Counts the bytes that are read asynchronously.
    ///
    /// ```
    /// # use tokio::io::AsyncReadExt;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let mut mesh = String::new();
    /// stepcast::Job::disabled().wrap_async_read(&b"1 2 3"[..]).read_to_string(&mut mesh).await?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn wrap_async_read<R: AsyncRead + Unpin>(&self, reader: R) -> Progress<R> {
        self.wrap(reader)
    }

    /// Counts the bytes that are written asynchronously.
    ///
    /// ```
    /// # use tokio::io::AsyncWriteExt;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// stepcast::Job::disabled().wrap_async_write(Vec::new()).write_all(b"1 2 3").await?;
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    pub fn wrap_async_write<W: AsyncWrite + Unpin>(&self, writer: W) -> Progress<W> {
        self.wrap(writer)
    }

    /// Counts the items of a stream.
    ///
    /// ```
    /// # use futures_util::{StreamExt, stream};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let items = stepcast::Job::disabled().wrap_stream(stream::iter(0..512));
    /// assert_eq!(items.count().await, 512);
    /// # });
    /// ```
    pub fn wrap_stream<S: Stream + Unpin>(&self, stream: S) -> Progress<S> {
        self.wrap(stream)
    }

    fn wrap<T>(&self, inner: T) -> Progress<T> {
        Progress { counter: self.local(), inner, finishes: false }
    }
}

impl<T> Progress<T> {
    /// Finishes the job when the iterator ends.
    pub(crate) fn finishing(self) -> Self {
        Self { finishes: true, ..self }
    }

    /// Returns the iterator, reader, writer or stream.
    ///
    /// ```
    /// let job = stepcast::Job::disabled();
    /// assert_eq!(job.wrap_iter(0..512).into_inner(), 0..512);
    /// ```
    pub fn into_inner(self) -> T {
        self.inner
    }

    #[cold]
    fn end(&self) {
        if self.finishes {
            self.counter.job().finish();
        }
    }

    #[inline]
    fn passed<I>(&self, item: Option<I>) -> Option<I> {
        if item.is_some() {
            self.counter.inc(1);
        } else {
            self.end();
        }
        item
    }

    fn moved(&self, bytes: usize) {
        self.counter.inc(bytes as u64);
    }
}

impl<I: Iterator> Iterator for Progress<I> {
    type Item = I::Item;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let item = self.inner.next();
        self.passed(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl<I: DoubleEndedIterator> DoubleEndedIterator for Progress<I> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let item = self.inner.next_back();
        self.passed(item)
    }
}

impl<I: ExactSizeIterator> ExactSizeIterator for Progress<I> {}
impl<I: FusedIterator> FusedIterator for Progress<I> {}

impl<R: Read> Read for Progress<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.moved(read);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Progress<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.inner.consume(bytes);
        self.moved(bytes);
    }
}

impl<W: Write> Write for Progress<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.moved(written);
        Ok(written)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.inner.write_vectored(slices)?;
        self.moved(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<S: Seek> Seek for Progress<S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = self.inner.seek(to)?;
        self.counter.job().set_position(position);
        Ok(position)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Progress<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        self.moved(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<R: AsyncBufRead + Unpin> AsyncBufRead for Progress<R> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().inner).poll_fill_buf(cx)
    }

    fn consume(mut self: Pin<&mut Self>, bytes: usize) {
        Pin::new(&mut self.inner).consume(bytes);
        self.moved(bytes);
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Progress<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.moved(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, slices))?;
        self.moved(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncSeek + Unpin> AsyncSeek for Progress<S> {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.inner).start_seek(to)
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let position = ready!(Pin::new(&mut self.inner).poll_complete(cx))?;
        self.counter.job().set_position(position);
        Poll::Ready(Ok(position))
    }
}

impl<S: Stream + Unpin> Stream for Progress<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(Pin::new(&mut self.inner).poll_next(cx));
        Poll::Ready(self.passed(item))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}
