//! The stream below a connection: a TCP socket, or any stream that a server hands over.
//!
//! Every difference between the two is decided here. Calls on a TCP socket are not dynamic, so TCP
//! costs nothing extra.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use crate::hub::conn::socket::{self, Sink};

/// A stream that is not the hub's own socket: TLS, a Unix socket, a connection of another server.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(crate) enum Transport {
    Tcp(TcpStream),
    #[cfg_attr(not(test), expect(dead_code, reason = "the hub's own listener has TCP alone"))]
    Boxed(Boxed),
}

/// A stream of another kind. Its peer may be a socket that raises `SIGPIPE`: whoever hands it over
/// has that signal ignored, as Rust programs do.
pub(crate) struct Boxed {
    stream: Box<dyn Stream>,
    /// Whether the stream may hold bytes that it has taken and not passed on.
    is_unflushed: bool,
}

impl Boxed {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, parts))?;
        self.is_unflushed = true;
        if let Poll::Ready(flushed) = self.poll_flush(cx) {
            flushed?;
        }
        Poll::Ready(socket::some(sent))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl From<TcpStream> for Transport {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl Transport {
    #[cfg(test)]
    pub(crate) fn boxed(stream: impl Stream + 'static) -> Self {
        Self::Boxed(Boxed { stream: Box::new(stream), is_unflushed: false })
    }

    /// Reads available bytes, as far as `buffer` has room. Returns their number, zero at the end.
    ///
    /// # Errors
    ///
    /// The stream's errors.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => poll_read_buf(Pin::new(stream), cx, buffer),
            Self::Boxed(boxed) => poll_read_buf(Pin::new(&mut boxed.stream), cx, buffer),
        }
    }

    /// Writes as [`Sink::poll_send`] does, but asks the kernel first: see
    /// [`socket::poll_send_at_once`].
    ///
    /// # Errors
    ///
    /// The stream's errors.
    pub(crate) fn poll_send_at_once(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => socket::poll_send_at_once(stream, cx, parts),
            Self::Boxed(boxed) => boxed.poll_send(cx, parts),
        }
    }

    /// Has the stream pass on what it has taken: TLS may hold encrypted bytes while its socket is
    /// full. A TCP socket holds none.
    ///
    /// # Errors
    ///
    /// The stream's errors.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Boxed(boxed) => boxed.poll_flush(cx),
        }
    }

    /// Whether the stream may hold bytes that it has taken and not passed on.
    pub(crate) fn is_unflushed(&self) -> bool {
        matches!(self, Self::Boxed(boxed) if boxed.is_unflushed)
    }

    /// Ends the hub's side of the stream, so the peer reads the end behind the last bytes.
    ///
    /// A failure is not returned: the peer has gone then, and the next read says so.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(stream) => {
                let _ = SockRef::from(&*stream).shutdown(Shutdown::Write);
                Poll::Ready(())
            }
            Self::Boxed(boxed) => Pin::new(&mut boxed.stream).poll_shutdown(cx).map(drop),
        }
    }

    /// Has the kernel end the connection if the peer does not acknowledge bytes for so long: a peer
    /// that is never expected to say anything may be gone unnoticed. Linux alone can do so.
    pub(crate) fn expect_acknowledgements(&self, within: Duration) {
        #[cfg(any(target_os = "android", target_os = "linux"))]
        if let Self::Tcp(stream) = self {
            let _ = SockRef::from(stream).set_tcp_user_timeout(Some(within));
        }
        #[cfg(not(any(target_os = "android", target_os = "linux")))]
        let _ = within;
    }

    /// Makes the drop of this stream reset the connection. Otherwise the kernel would go on holding
    /// bytes for a peer that reads nothing. Of a boxed stream this is the business of its drop.
    pub(crate) fn abort(&self) {
        let Self::Tcp(stream) = self else { return };
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        // Resets at once, even where a child process forked meanwhile holds the socket. (`shutdown`
        // would first tell the peer that all has been sent.)
        #[cfg(any(target_os = "android", target_os = "linux"))]
        let _ = rustix::net::connect_unspec(stream);
    }
}

impl Sink for Transport {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => stream.poll_send(cx, parts),
            Self::Boxed(boxed) => boxed.poll_send(cx, parts),
        }
    }
}
