//! A TCP proxy for tests: it stands between one client and a hub, and does to what passes on each of
//! the two ways what a network may.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Weak, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::peer::until;
use super::wire::is_timeout;

/// How often a way looks what it has been told meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// How one way ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The receiver sees an orderly end of the stream; the other way goes on.
    Fin,
    /// Both sides see a reset.
    Reset,
    /// Nothing passes on this way any more, and nobody is told.
    Stall,
}

/// What happens on one way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Way {
    delay: Duration,
    pieces: &'static [usize],
    end: Option<(usize, End)>,
}

impl Way {
    /// Each byte arrives so much later.
    pub fn delayed(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// Written in pieces of these sizes, by turns, with a moment between them in which the receiver
    /// can take the one before.
    pub fn in_pieces(pieces: &'static [usize]) -> Self {
        Self { pieces, ..Self::default() }
    }

    /// So many bytes pass, and then it ends like this.
    pub fn ending(after: usize, end: End) -> Self {
        Self { end: Some((after, end)), ..Self::default() }
    }
}

/// The two sockets of the proxy. They are closed when both ways have ended and not before, so that
/// a reset is one for both sides.
struct Sockets {
    client: TcpStream,
    hub: TcpStream,
    /// Ended by a reset: that no end of the stream is told before it.
    is_reset: AtomicBool,
}

impl Sockets {
    fn reset(&self) {
        self.is_reset.store(true, Ordering::SeqCst);
        for socket in [&self.client, &self.hub] {
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
            // Only wakes the other way's thread: this is told to nobody.
            let _ = socket.shutdown(Shutdown::Read);
        }
    }
}

/// A connection through the proxy, while this exists.
pub struct Link {
    pub up: Passage,
    pub down: Passage,
    sockets: Weak<Sockets>,
}

/// One way of a link: from the client up to the hub, or down from it.
pub struct Passage {
    passed: Arc<AtomicUsize>,
    stalled: Arc<AtomicBool>,
    /// Dropped to end a stall.
    release: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A connection to the hub with the proxy between: the client's end of it, and the proxy's.
pub fn connect(hub: SocketAddr, up: Way, down: Way) -> (TcpStream, Link) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let sockets = Arc::new(Sockets {
        client: listener.accept().unwrap().0,
        hub: TcpStream::connect(hub).unwrap(),
        is_reset: AtomicBool::new(false),
    });
    for socket in [&client, &sockets.client, &sockets.hub] {
        socket.set_nodelay(true).unwrap();
    }
    let weak = Arc::downgrade(&sockets);
    let up = Passage::open(Arc::clone(&sockets), up, true);
    (client, Link { up, down: Passage::open(sockets, down, false), sockets: weak })
}

impl Link {
    /// Waits until both ways have ended by themselves, which says that the hub has let go, too.
    pub fn is_over(&self) {
        until("both ways to have ended", || !self.up.is_open() && !self.down.is_open());
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(sockets) = self.sockets.upgrade() {
            let _ = sockets.client.shutdown(Shutdown::Both);
            let _ = sockets.hub.shutdown(Shutdown::Both);
        }
        for passage in [&mut self.up, &mut self.down] {
            passage.release = None;
            // A panic over there is one of the proxy's, and is shown by itself.
            let _ = passage.thread.take().map(JoinHandle::join);
        }
    }
}

impl Passage {
    /// The bytes that have passed.
    pub fn passed(&self) -> usize {
        self.passed.load(Ordering::SeqCst)
    }

    /// From now on nothing passes.
    pub fn stall(&self) {
        self.stalled.store(true, Ordering::SeqCst);
    }

    fn is_open(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    fn open(sockets: Arc<Sockets>, way: Way, is_up: bool) -> Self {
        let (passed, stalled) = (Arc::default(), Arc::default());
        let (release, released) = mpsc::channel();
        let (counted, told) = (Arc::clone(&passed), Arc::clone(&stalled));
        let thread = thread::spawn(move || {
            let ends = (&sockets.client, &sockets.hub);
            let (from, to) = if is_up { ends } else { (ends.1, ends.0) };
            let mut run =
                Run { way, from, to, passed: &counted, pieces: way.pieces.iter().cycle() };
            match run.pass_all(&told) {
                Ended::Stream if sockets.is_reset.load(Ordering::SeqCst) => {}
                Ended::Stream | Ended::AsTold(End::Fin) => {
                    let _ = to.shutdown(Shutdown::Write);
                }
                Ended::Broken | Ended::AsTold(End::Reset) => sockets.reset(),
                Ended::AsTold(End::Stall) => {
                    // Until the link is dropped, or the other way breaks: that is told.
                    while !sockets.is_reset.load(Ordering::SeqCst) {
                        if released.recv_timeout(LOOK) == Err(RecvTimeoutError::Disconnected) {
                            break;
                        }
                    }
                }
                Ended::NotTaken => {} // the other way sees it as well
            }
        });
        Self { passed, stalled, release: Some(release), thread: Some(thread) }
    }
}

/// One way while it is open.
struct Run<'a> {
    way: Way,
    from: &'a TcpStream,
    to: &'a TcpStream,
    passed: &'a AtomicUsize,
    pieces: std::iter::Cycle<std::slice::Iter<'static, usize>>,
}

enum Ended {
    /// The sender ended it.
    Stream,
    /// The sender's side broke.
    Broken,
    /// The receiver's side takes no more.
    NotTaken,
    AsTold(End),
}

impl Run<'_> {
    fn pass_all(&mut self, stalled: &AtomicBool) -> Ended {
        let mut waiting = VecDeque::<(Instant, Vec<u8>)>::new();
        let mut bytes = vec![0; 65536];
        let mut has_ended = false;
        loop {
            if stalled.load(Ordering::SeqCst) {
                return Ended::AsTold(End::Stall);
            }
            let now = Instant::now();
            while waiting.front().is_some_and(|(due, _)| *due <= now) {
                let (_, bytes) = waiting.pop_front().unwrap();
                if let Err(ended) = self.pass(&bytes) {
                    return ended;
                }
            }
            if self.way.end.is_some_and(|(at, _)| self.passed.load(Ordering::SeqCst) >= at) {
                return Ended::AsTold(self.way.end.unwrap().1);
            }
            let wait = waiting.front().map_or(LOOK, |(due, _)| (*due - now).min(LOOK));
            if has_ended {
                if waiting.is_empty() {
                    return Ended::Stream;
                }
                thread::sleep(wait);
                continue;
            }
            self.from.set_read_timeout(Some(wait.max(Duration::from_millis(1)))).unwrap();
            match (&mut &*self.from).read(&mut bytes) {
                Ok(0) => has_ended = true,
                Ok(count) => {
                    waiting.push_back((Instant::now() + self.way.delay, bytes[..count].to_vec()));
                }
                Err(error) if is_timeout(&error) => {}
                Err(_) => return Ended::Broken,
            }
        }
    }

    /// Writes these, up to where the way is to end.
    fn pass(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let passed = self.passed.load(Ordering::SeqCst);
        let room = self.way.end.map_or(usize::MAX, |(at, _)| at - passed);
        let mut rest = &bytes[..bytes.len().min(room)];
        while !rest.is_empty() {
            let piece = self.pieces.next().map_or(rest.len(), |size| rest.len().min(*size));
            (&mut &*self.to).write_all(&rest[..piece]).map_err(|_| Ended::NotTaken)?;
            self.passed.fetch_add(piece, Ordering::SeqCst);
            rest = &rest[piece..];
            if !self.way.pieces.is_empty() {
                thread::sleep(Duration::from_micros(20)); // the moment between pieces
            }
        }
        Ok(())
    }
}
