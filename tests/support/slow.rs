//! A viewer that reads so many bytes a second and no more, as over a bad mobile connection. It answers
//! pings when it comes to them, as every WebSocket client does. And the model that it looks at, and a proxy between.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use stepcast::codec::{Control, Incoming, Message, MessageCodec};
use stepcast::{ClientId, Hub};
use tokio_util::codec::{Decoder, Encoder};

use super::peer::Peer;
use super::wire::{client_codec, is_timeout};

pub struct Slow {
    peer: Peer,
    per_second: u32,
    codec: MessageCodec,
    received: BytesMut,
    started: Instant,
    /// Bytes that it has read, and that it could have read and were not there.
    pub read: u64,
    pub missed: u64,
}

impl Slow {
    pub fn connect(hub: &Hub, per_second: u32) -> Self {
        Self::new(Peer::connect(hub), per_second)
    }

    pub fn new(peer: Peer, per_second: u32) -> Self {
        peer.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let codec = client_codec();
        let (received, started) = (BytesMut::new(), Instant::now());
        Self { peer, per_second, codec, received, started, read: 0, missed: 0 }
    }

    pub fn id(&self) -> ClientId {
        self.peer.id
    }

    /// Reads for so long, and shows each message when it has been read. It says no when the connection has ended.
    pub fn read_for(&mut self, time: Duration, mut see: impl FnMut(Message)) -> bool {
        let end = Instant::now() + time;
        let mut bytes = [0; 2500];
        while Instant::now() < end {
            let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap();
            let due = u64::from(self.per_second) * passed / 1000;
            let most = due.saturating_sub(self.read + self.missed);
            let most = usize::try_from(most).unwrap().min(bytes.len());
            if most < 500 {
                thread::sleep(Duration::from_millis(1)); // slow on purpose
                continue;
            }
            match self.peer.socket.read(&mut bytes[..most]) {
                Ok(0) => return false,
                Ok(count) => {
                    self.read += count as u64;
                    self.received.extend_from_slice(&bytes[..count]);
                }
                Err(error) if is_timeout(&error) => self.missed += most as u64,
                Err(_) => return false,
            }
            while let Some(incoming) = self.codec.decode(&mut self.received).unwrap() {
                match incoming {
                    Incoming::Message(message) => see(message),
                    Incoming::Control(Control::Ping(payload)) => {
                        let mut pong = BytesMut::new();
                        self.codec.encode(Control::Pong(payload), &mut pong).unwrap();
                        if self.peer.socket.write_all(&pong).is_err() {
                            return false;
                        }
                    }
                    Incoming::Control(_) => return false,
                }
            }
        }
        true
    }
}

/// 1000 values a second of 1 KiB, each of which says when it was set.
pub struct Model {
    ending: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
    began: Instant,
}

impl Model {
    pub fn start(hub: &Hub) -> Self {
        let (ending, everyone) = (Arc::new(AtomicBool::new(false)), hub.everyone());
        let (its_end, began) = (Arc::clone(&ending), Instant::now());
        let thread = thread::spawn(move || {
            while !its_end.load(Ordering::Relaxed) {
                let mut value = began.elapsed().as_micros().to_string();
                value += &" ".repeat(1024 - value.len());
                everyone.set("state", value).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self { ending, thread: Some(thread), began }
    }

    /// How long ago a value was set.
    pub fn age(&self, value: &str) -> Duration {
        let set = Duration::from_micros(value.trim_end().parse().unwrap());
        self.began.elapsed().saturating_sub(set)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        self.thread.take().map(thread::JoinHandle::join);
    }
}

/// A proxy for one connection that takes up to 256 KiB from the hub before the client does.
pub fn greedy_proxy(hub: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let client = listener.accept().unwrap().0;
        let server = TcpStream::connect(hub).unwrap();
        server.set_nodelay(true).unwrap();
        client.set_nodelay(true).unwrap();
        let (mut from_client, mut to_server) =
            (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
        let ahead = Arc::new((Mutex::new(Ahead::default()), Condvar::new()));
        let taken = Arc::clone(&ahead);
        thread::spawn(move || hand_on(client, &taken));
        take_ahead(server, &ahead);
    });
    address
}

#[derive(Default)]
struct Ahead {
    bytes: VecDeque<u8>,
    over: bool,
}

fn take_ahead(mut server: TcpStream, (ahead, changed): &(Mutex<Ahead>, Condvar)) {
    let mut bytes = [0; 16384];
    loop {
        let count = server.read(&mut bytes).unwrap_or(0);
        let full = |ahead: &mut Ahead| ahead.bytes.len() + count > 256 * 1024;
        let mut ahead = changed.wait_while(ahead.lock().unwrap(), full).unwrap();
        ahead.bytes.extend(&bytes[..count]);
        ahead.over = count == 0;
        changed.notify_all();
        if count == 0 {
            return;
        }
    }
}

fn hand_on(mut client: TcpStream, (ahead, changed): &(Mutex<Ahead>, Condvar)) {
    loop {
        let empty = |ahead: &mut Ahead| ahead.bytes.is_empty() && !ahead.over;
        let mut ahead = changed.wait_while(ahead.lock().unwrap(), empty).unwrap();
        let count = ahead.bytes.len().min(4096);
        let bytes: Vec<u8> = ahead.bytes.drain(..count).collect();
        changed.notify_all();
        drop(ahead);
        if bytes.is_empty() || client.write_all(&bytes).is_err() {
            let _ = client.shutdown(Shutdown::Both);
            return;
        }
    }
}
