//! Accepts connections, and never stops at an error.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use socket2::Socket;
use sys::Incoming;
use tokio::net::TcpStream;

use crate::hub::primitives::journal::Journal;
use crate::hub::primitives::warnings::Warnings;

/// The pause of the listener after an error, in milliseconds: doubled each time.
const FIRST_PAUSE: u64 = 10;
const LONGEST_PAUSE: u64 = 1000;

/// Sets a socket's options. Small messages leave at once instead of waiting for the peer's
/// acknowledgement. The kernel takes only what it can soon send, so newer messages do not wait
/// there behind older ones. Such a socket has room again as soon as its peer has read a little, so
/// a slow reader does not look like one that has stopped.
fn prepare(socket: &Socket) {
    let _ = socket.set_tcp_nodelay(true);
    #[cfg(target_vendor = "apple")]
    let _ = socket.set_nosigpipe(true); // elsewhere a flag of each write: see `socket`
    #[cfg(any(target_os = "android", target_os = "linux"))]
    {
        /// Keeps the network busy between two wake-ups.
        const UNSENT: u32 = 16 * 1024;
        let _ = socket.set_tcp_notsent_lowat(UNSENT);
    }
}

/// Prepares a listening socket where connections inherit its options, so no accept has to set them.
pub(crate) fn prepare_listening(socket: &Socket) {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    prepare(socket);
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    let _ = socket;
}

/// Prepares an accepted connection where connections do not inherit the listener's options.
pub(crate) fn prepare_accepted(stream: &TcpStream) {
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    prepare(&socket2::SockRef::from(stream));
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = stream;
}

/// The hub's listener, at all of its addresses. No error ends it: when the program has used up all
/// descriptors, the listener waits until some are free.
pub(crate) struct Listener {
    /// One for each address.
    incoming: Box<[Incoming]>,
    /// The address whose turn it is. The addresses take turns, so a flood at one does not keep out
    /// clients of another.
    next: usize,
    /// The end of a pause, in the driver's milliseconds.
    paused_until: u64,
    pause: u64,
    warnings: Warnings,
}

impl Listener {
    pub(crate) fn new(sockets: Vec<std::net::TcpListener>) -> io::Result<Self> {
        let incoming = sockets.into_iter().map(Incoming::new).collect::<io::Result<_>>()?;
        Ok(Self { incoming, next: 0, paused_until: 0, pause: 0, warnings: Warnings::default() })
    }

    /// Ends listening, even in a child process that was forked meanwhile and holds the socket: the
    /// port is free then.
    pub(crate) fn close(self) {
        for incoming in &self.incoming {
            let _ = incoming.socket().shutdown(Shutdown::Both);
        }
    }

    /// The end of the pause after an error, if there is a pause.
    pub(crate) fn resumes_at(&self, now: u64) -> Option<u64> {
        (now < self.paused_until).then_some(self.paused_until)
    }

    /// Accepts the next connection.
    pub(crate) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
        now: u64,
        journal: &Arc<Journal>,
    ) -> Poll<(TcpStream, SocketAddr)> {
        while now >= self.paused_until {
            match self.poll_each(cx) {
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
                                    "no connection accepted; the hub retries"
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

    /// Accepts the next connection, or an error, at any address. If nobody is there, every address
    /// wakes the task.
    fn poll_each(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        for _ in 0..self.incoming.len() {
            let at = self.next;
            self.next = (at + 1) % self.incoming.len();
            if let Poll::Ready(accepted) = self.incoming[at].poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }
}

/// The accept queue on Linux. An accept that finds nobody costs its kernel as much as a successful
/// one, since it makes the new socket before it looks: ten times the cost of looking first.
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

    pub(crate) struct Incoming {
        listener: AsyncFd<TcpListener>,
        /// Whether to look before accepting: the connection just accepted may have been the last.
        look_first: bool,
        #[cfg(test)]
        pub(crate) tried: usize,
    }

    impl Incoming {
        #[allow(
            deprecated,
            reason = "what replaces it is `unsafe`, for owners whose descriptor is not open, or changes; a `TcpListener` is none"
        )]
        pub(crate) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
            let listener = TcpListener::from_std(listener);
            Ok(Self {
                listener: AsyncFd::with_interest(listener, Interest::READABLE)?,
                look_first: false,
                #[cfg(test)]
                tried: 0,
            })
        }

        pub(crate) fn socket(&self) -> SockRef<'_> {
            SockRef::from(self.listener.get_ref())
        }

        pub(crate) fn poll_accept(
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
                            // The stream is not assumed to be readable, as one that tokio accepts
                            // is.
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
        found != Ok(0) // if `poll` fails, `accept` tells
    }
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
mod sys {
    use std::io;
    use std::net::SocketAddr;
    use std::task::{Context, Poll};

    use socket2::SockRef;
    use tokio::net::{TcpListener, TcpStream};

    pub(crate) struct Incoming(TcpListener);

    impl Incoming {
        pub(crate) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
            TcpListener::from_std(listener).map(Self)
        }

        pub(crate) fn socket(&self) -> SockRef<'_> {
            SockRef::from(&self.0)
        }

        pub(crate) fn poll_accept(
            &mut self,
            cx: &mut Context<'_>,
        ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
            self.0.poll_accept(cx)
        }
    }
}

/// Whether an error concerns only a connection that was gone before it was accepted. The next
/// connection is another.
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
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::hub::driver::bind::bind;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn whoever_waits_is_accepted_whoever_comes_then_wakes_and_nobody_is_accepted_in_vain() {
        let sockets = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let mut listener = Listener::new(sockets).unwrap();
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
            assert_eq!(listener.incoming[0].tried, accepted);
        }
    }

    #[tokio::test]
    async fn addresses_take_turns_so_that_a_flood_at_one_keeps_nobody_out_at_another() {
        let sockets = bind(&["127.0.0.1:0", "127.0.0.2:0"].map(|a| a.parse().unwrap())).unwrap();
        let at: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let mut listener = Listener::new(sockets).unwrap();
        let journal = Journal::new();
        let mut clients = Vec::new();
        for address in [at[0]; 20].into_iter().chain([at[1]; 2]) {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let mut order = Vec::new();
        let accepts = async {
            for _ in &clients {
                let (stream, _) = poll_fn(|cx| listener.poll_accept(cx, 0, &journal)).await;
                order.push(stream.local_addr().unwrap());
            }
        };
        timeout(PATIENCE, accepts).await.expect("all clients are accepted");
        let second: Vec<_> = (0..order.len()).filter(|index| order[*index] == at[1]).collect();
        assert!(second.len() == 2 && second[1] < 4, "{second:?}");
        // When nobody is there, a client wakes whichever address it comes to.
        for address in [at[1], at[0]] {
            let accepts = tokio::spawn(async move {
                let accepted = poll_fn(|cx| listener.poll_accept(cx, 0, &Journal::new())).await;
                (listener, accepted)
            });
            tokio::task::yield_now().await; // now it waits
            clients.push(TcpStream::connect(address).await.unwrap());
            let accepted = timeout(PATIENCE, accepts).await;
            listener = accepted.expect("an address that wakes").unwrap().0;
        }
    }

    #[tokio::test]
    async fn a_connection_sends_at_once_and_the_kernel_takes_little_ahead() {
        let listener = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap().remove(0);
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
