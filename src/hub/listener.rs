//! Accepting connections, for ever.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

use super::SpawnError;
use super::journal::Journal;
use super::warnings::Warnings;
use sys::Incoming;

/// Connections that the kernel keeps for us while we are busy: those of a thousand viewers who
/// reload at once. Linux cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// How long to leave the listener alone after an error, in milliseconds: doubled each time.
const FIRST_PAUSE: u64 = 10;
const LONGEST_PAUSE: u64 = 1000;

/// Opens a listening socket.
pub(crate) fn bind(address: SocketAddr) -> Result<std::net::TcpListener, SpawnError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // On Unix: connections of an earlier run that linger must not keep the port. On Windows
        // the option means something else, and there the port is free at once.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        #[cfg(any(target_os = "android", target_os = "linux"))]
        prepare(&socket); // which every connection inherits, so that no accept has to
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|error| SpawnError::Bind { address, error })
}

/// Has small messages leave at once instead of waiting for the peer's acknowledgement, and the kernel
/// take only what it can soon send: newer messages do not wait in it behind older ones, and a
/// socket says that it takes more as soon as its peer has read a little, so that a slow reader is not
/// taken for one that has stopped.
fn prepare(socket: &Socket) {
    let _ = socket.set_tcp_nodelay(true);
    #[cfg(target_vendor = "apple")]
    let _ = socket.set_nosigpipe(true); // elsewhere a flag of each write: see `socket`
    #[cfg(any(target_os = "android", target_os = "linux"))]
    {
        /// Enough for the network to be kept busy between two wake-ups.
        const UNSENT: u32 = 16 * 1024;
        let _ = socket.set_tcp_notsent_lowat(UNSENT);
    }
}

/// Where connections do not take after the listener, each is prepared by itself.
pub(crate) fn prepare_accepted(stream: &TcpStream) {
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    prepare(&socket2::SockRef::from(stream));
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = stream;
}

/// The hub's listener. No error ends it: where the program has taken all descriptors, it waits until some are free.
pub(crate) struct Listener {
    incoming: Incoming,
    /// Not before this time, in the driver's milliseconds.
    paused_until: u64,
    pause: u64,
    warnings: Warnings,
}

impl Listener {
    pub(crate) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        let incoming = Incoming::new(listener)?;
        Ok(Self { incoming, paused_until: 0, pause: 0, warnings: Warnings::default() })
    }

    /// Ends listening, for a child process, too, that was forked meanwhile and holds the socket: the port is free then.
    pub(crate) fn close(self) {
        let _ = self.incoming.socket().shutdown(Shutdown::Both);
    }

    /// When the pause after an error ends, if there is one.
    pub(crate) fn resumes_at(&self, now: u64) -> Option<u64> {
        (now < self.paused_until).then_some(self.paused_until)
    }

    /// The next connection.
    pub(crate) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
        now: u64,
        journal: &Arc<Journal>,
    ) -> Poll<(TcpStream, SocketAddr)> {
        while now >= self.paused_until {
            match self.incoming.poll_accept(cx) {
                Poll::Ready(Ok(accepted)) => {
                    self.pause = 0;
                    return Poll::Ready(accepted);
                }
                Poll::Ready(Err(error)) if is_of_one_connection(&error) => {}
                Poll::Ready(Err(error)) => {
                    if self.pause == 0 {
                        self.warnings.warn(now, |left_out| {
                            let error = error.to_string();
                            journal.write(move || {
                                tracing::warn!(
                                    error,
                                    left_out,
                                    "cannot accept connections; trying again"
                                );
                            });
                        });
                    }
                    self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                    self.paused_until = now + self.pause;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Pending
    }
}

/// What comes in, on Linux. An accept that finds nobody costs its kernel as much as one that does, since it makes the
/// new socket before it looks: ten times what looking first takes.
#[cfg(any(target_os = "android", target_os = "linux"))]
mod sys {
    use std::io;
    use std::net::SocketAddr;
    use std::task::{Context, Poll, ready};

    use mio::net::TcpListener;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use socket2::SockRef;
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;
    use tokio::net::TcpStream;

    pub(super) struct Incoming {
        listener: AsyncFd<TcpListener>,
        /// Whether to look before accepting: somebody has been accepted, and may have been the last.
        look_first: bool,
        #[cfg(test)]
        pub(super) tried: usize,
    }

    impl Incoming {
        #[allow(
            deprecated,
            reason = "what replaces it is `unsafe`, for owners whose descriptor is not open, or changes; a `TcpListener` is none"
        )]
        pub(super) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
            let listener = TcpListener::from_std(listener);
            Ok(Self {
                listener: AsyncFd::with_interest(listener, Interest::READABLE)?,
                look_first: false,
                #[cfg(test)]
                tried: 0,
            })
        }

        pub(super) fn socket(&self) -> SockRef<'_> {
            SockRef::from(self.listener.get_ref())
        }

        pub(super) fn poll_accept(
            &mut self,
            cx: &mut Context<'_>,
        ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
            loop {
                let mut ready = ready!(self.listener.poll_read_ready(cx))?;
                let listener = self.listener.get_ref();
                if !self.look_first || is_anybody_there(listener) {
                    #[cfg(test)]
                    {
                        self.tried += 1;
                    }
                    match listener.accept() {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Poll::Ready(Err(error)),
                        Ok((stream, address)) => {
                            self.look_first = true;
                            // Not taken to be readable, as one that tokio accepts is, but waited for.
                            return Poll::Ready(Ok((TcpStream::from_std(stream.into())?, address)));
                        }
                    }
                }
                self.look_first = false;
                ready.clear_ready();
            }
        }
    }

    fn is_anybody_there(listener: &TcpListener) -> bool {
        let found = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&Timespec::default()));
        found != Ok(0) // where it cannot tell, accepting does
    }
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
mod sys {
    use std::io;
    use std::net::SocketAddr;
    use std::task::{Context, Poll};

    use socket2::SockRef;
    use tokio::net::{TcpListener, TcpStream};

    pub(super) struct Incoming(TcpListener);

    impl Incoming {
        pub(super) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
            TcpListener::from_std(listener).map(Self)
        }

        pub(super) fn socket(&self) -> SockRef<'_> {
            SockRef::from(&self.0)
        }

        pub(super) fn poll_accept(
            &mut self,
            cx: &mut Context<'_>,
        ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
            self.0.poll_accept(cx)
        }
    }
}

/// Errors of a connection that was gone before it was accepted; the next one is another.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_is_accepted_whoever_comes_then_wakes_and_nobody_is_accepted_in_vain() {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let mut listener = Listener::new(socket).unwrap();
        let journal = Journal::new();
        let mut accepted = 0;
        for batch in [3, 1, 70] {
            let mut clients = Vec::new();
            for _ in 0..batch {
                clients.push(TcpStream::connect(address).await.unwrap());
            }
            for client in clients {
                let (_, from) = poll_fn(|cx| listener.poll_accept(cx, 0, &journal)).await;
                assert_eq!(from, client.local_addr().unwrap());
                accepted += 1;
            }
            let more = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx, 0, &journal))).await;
            assert!(more.is_pending());
            #[cfg(any(target_os = "android", target_os = "linux"))]
            assert_eq!(listener.incoming.tried, accepted);
        }
    }

    #[tokio::test]
    async fn a_connection_sends_at_once_and_the_kernel_takes_little_ahead() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.unwrap();
        prepare_accepted(&stream);
        assert!(stream.nodelay().unwrap());
        #[cfg(any(target_os = "android", target_os = "linux"))]
        assert_eq!(socket2::SockRef::from(&stream).tcp_notsent_lowat().unwrap(), 16 * 1024);
    }
}
