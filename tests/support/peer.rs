//! A WebSocket client for tests: a blocking socket with a deadline on every read, so that a test
//! waits for what it expects and never for a guessed time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use stepcast::codec::{
    CloseFrame, Control, Frame, FrameCodec, FrameLimits, Incoming, Message, Role,
};
use stepcast::{ClientId, Event, Events, Hub};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::codec::Encoder;

use super::wire::{PATIENCE, Wire, is_timeout};

/// How long a look follows on the other without a pause.
const BRIEFLY: Duration = Duration::from_millis(50);

pub struct Peer {
    wire: Wire,
    pub id: ClientId,
}

impl Deref for Peer {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Peer {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

impl Peer {
    /// Connects to a hub and takes the greeting.
    pub fn connect(hub: &Hub) -> Self {
        Self::connect_to(hub.local_addr().unwrap())
    }

    pub fn connect_to(address: SocketAddr) -> Self {
        Self::upgrade(TcpStream::connect(address).unwrap(), address)
    }

    /// Connects to another path, such as a feed's.
    pub fn connect_at(hub: &Hub, path: &str) -> Self {
        let address = hub.local_addr().unwrap();
        Self::upgrade_at(TcpStream::connect(address).unwrap(), address, path)
    }

    /// Upgrades a connection that is there.
    pub fn upgrade(socket: TcpStream, address: SocketAddr) -> Self {
        Self::upgrade_at(socket, address, "/")
    }

    fn upgrade_at(socket: TcpStream, address: SocketAddr, path: &str) -> Self {
        Self::try_upgrade_at(socket, address, path).unwrap()
    }

    /// Upgrades a connection that may break.
    pub fn try_upgrade_at(socket: TcpStream, address: SocketAddr, path: &str) -> io::Result<Self> {
        let wire = Wire::upgrade(socket, address, path, None)?;
        let mut peer = Self { wire, id: ClientId::new(1).unwrap() };
        let Incoming::Message(greeting) = peer.try_recv()? else { panic!("expected a greeting") };
        let greeting = greeting.as_text().expect("a text");
        let id = greeting.strip_prefix(r#"{"type":1,"body":"#).and_then(|s| s.strip_suffix('}'));
        peer.id = id.expect("a greeting").parse().unwrap();
        Ok(peer)
    }

    /// What comes next, but for a Ping with a payload: that one asks how far this has read, and is
    /// answered.
    pub fn recv(&mut self) -> Incoming {
        self.try_recv().unwrap()
    }

    /// What comes next on a connection that may break. A ping that carries something is answered, as
    /// every client does by itself, and passed over; an empty one is there to see who is alive, which is
    /// for the test to say.
    pub fn try_recv(&mut self) -> io::Result<Incoming> {
        loop {
            match self.wire.next()? {
                Incoming::Control(Control::Ping(ping)) if !ping.as_bytes().is_empty() => {
                    // If the hub has gone, what is read next says so.
                    let _ = self.try_control(Control::Pong(ping));
                }
                incoming => return Ok(incoming),
            }
        }
    }

    /// Returns the next message. Where the hub has been held up for long, it asks before that
    /// whether this client lives, which is answered.
    pub fn message(&mut self) -> Message {
        let started = Instant::now();
        loop {
            match self.recv() {
                Incoming::Message(message) => return message,
                Incoming::Control(Control::Ping(ping)) if started.elapsed() < PATIENCE => {
                    let _ = self.try_control(Control::Pong(ping));
                }
                other @ Incoming::Control(_) => panic!("expected a message, got {other:?}"),
            }
        }
    }

    pub fn text(&mut self) -> String {
        self.message().as_text().expect("a text").to_owned()
    }

    /// The next Close, whatever data and pings come before it.
    pub fn close_frame(&mut self) -> Option<CloseFrame> {
        let started = Instant::now();
        loop {
            if let Incoming::Control(Control::Close(frame)) = self.recv() {
                return frame;
            }
            assert!(started.elapsed() < PATIENCE, "no Close within {PATIENCE:?}");
        }
    }

    pub fn close_code(&mut self) -> u16 {
        self.close_frame().expect("a code").code().get()
    }

    pub fn send(&mut self, message: impl Into<Message>) {
        self.try_send(message).unwrap();
    }

    pub fn try_send(&mut self, message: impl Into<Message>) -> io::Result<()> {
        self.wire.write([message.into()])
    }

    pub fn control(&mut self, control: Control) {
        self.try_control(control).unwrap();
    }

    pub fn try_control(&mut self, control: Control) -> io::Result<()> {
        self.wire.write([control])
    }

    pub fn frame(&mut self, frame: Frame) {
        let mut bytes = BytesMut::new();
        FrameCodec::new(Role::Client, FrameLimits::default()).encode(frame, &mut bytes).unwrap();
        self.socket.write_all(&bytes).unwrap();
    }

    /// Reads to the end of the stream, which must come without a reset; the bytes are returned.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = self.received.split().to_vec();
        self.socket.read_to_end(&mut rest).expect("the end of the stream, not a reset");
        rest
    }

    /// Waits until the connection has ended, one way or the other.
    pub fn gone(&mut self) {
        let mut bytes = [0; 16384];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_timeout(&error) => panic!("still connected after {PATIENCE:?}"),
                Err(_) => return,
            }
        }
    }

    pub fn into_socket(self) -> TcpStream {
        self.wire.socket
    }

    pub fn finish(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }
}

/// Sends these bytes on a connection of their own and returns all that comes back.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("an answer and the end of the stream");
    String::from_utf8(answer).unwrap()
}

/// Looks again and again until this finds something. `None`: it found nothing in time.
pub fn found<T>(mut find: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        let found = find();
        if found.is_some() || started.elapsed() > PATIENCE {
            return found;
        }
        if started.elapsed() < BRIEFLY {
            thread::yield_now();
        } else {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Waits until this holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let held = found(|| holds().then_some(()));
    assert!(held.is_some(), "waited {PATIENCE:?} for {what}");
}

/// The next event that this finds something in.
#[track_caller]
pub fn event<T>(events: &mut Events, mut find: impl FnMut(Event) -> Option<T>) -> T {
    let found = found(|| std::iter::from_fn(|| events.try_recv()).find_map(&mut find));
    found.unwrap_or_else(|| panic!("waited {PATIENCE:?} for an event"))
}

/// Runs this on a thread of its own, and meanwhile the hub on this one. Returns what it returns.
#[track_caller]
pub fn beside<T: Send + 'static>(
    runtime: &Runtime,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (over, is_over) = oneshot::channel::<()>();
    let thread = thread::spawn(move || {
        let _over = over; // dropped after the work, and after a panic
        work()
    });
    let _ = runtime.block_on(async { timeout(PATIENCE, is_over).await }).expect("work that ends");
    thread.join().unwrap()
}
