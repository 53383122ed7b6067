//! Writing to sockets: every byte that the hub sends over TCP leaves here.
//!
//! A write to a peer that has gone fails with `EPIPE`. On Unix the kernel also raises `SIGPIPE`,
//! whose default action ends the process. Rust programs ignore that signal, but C, C++ and Fortran
//! programs that link the hub do not. Each write therefore suppresses the signal: by a flag where
//! the system has one, and by a socket option on Apple's systems (see `listener::prepare`).

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// `MSG_NOSIGNAL`.
const NO_SIGNAL: i32 = if cfg!(any(target_os = "android", target_os = "linux")) {
    0x4000
} else if cfg!(target_os = "freebsd") {
    0x2_0000
} else if cfg!(any(target_os = "dragonfly", target_os = "netbsd", target_os = "openbsd")) {
    0x400
} else {
    0
};

/// The writer below an outbox.
pub(crate) trait Sink {
    /// Writes some of these parts as soon as the socket has room. Returns the number of bytes
    /// written.
    ///
    /// A full socket registers the task.
    ///
    /// # Errors
    ///
    /// The socket's errors, and [`io::ErrorKind::WriteZero`] where the socket reports success with
    /// zero bytes.
    fn poll_send(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>])
    -> Poll<io::Result<usize>>;
}

impl Sink for TcpStream {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered: usize = parts.iter().map(|part| part.len()).sum();
        loop {
            ready!(self.poll_write_ready(cx))?;
            let mut sent = 0;
            let result = self.try_io(Interest::WRITABLE, || {
                sent = send(self, parts)?;
                // A socket that took only a part is full. As in tokio's own writes, an error here
                // clears tokio's readiness, which saves the call that would find out. The socket's
                // next event comes when it has room again.
                let is_full = cfg!(any(target_os = "android", target_os = "linux"));
                if is_full && 0 < sent && sent < offered {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(())
            });
            match result {
                Err(error) if sent == 0 && is_passing(&error) => {}
                Err(error) if sent == 0 => return Poll::Ready(Err(error)),
                _ => return Poll::Ready(some(sent)),
            }
        }
    }
}

/// Writes as [`Sink::poll_send`] does, but asks the kernel first, and tokio only when the kernel
/// takes nothing. Tokio keeps a socket's state elsewhere in memory: with thousands of sockets,
/// fetching it is a thirtieth of a delivery.
pub(crate) fn poll_send_at_once(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    parts: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match send(stream, parts) {
        Ok(sent) => Poll::Ready(some(sent)),
        Err(error) if is_passing(&error) => stream.poll_send(cx, parts),
        Err(error) => Poll::Ready(Err(error)),
    }
}

/// Whether the same write may succeed later.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

pub(crate) fn some(sent: usize) -> io::Result<usize> {
    if sent == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(sent) }
}

/// Makes one write that neither waits nor raises a signal. `send` costs the kernel less than
/// `sendmsg`, and one message to many clients is a `send`.
fn send(stream: &TcpStream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let socket = SockRef::from(stream);
    match parts {
        [only] => socket.send_with_flags(only, NO_SIGNAL),
        several => socket.send_vectored_with_flags(several, NO_SIGNAL),
    }
}
