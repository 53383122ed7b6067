//! The clients: one thread that reads all sockets and checks every byte.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use crate::{message, sys};

/// Handshakes at once.
const IN_FLIGHT: usize = 64;

/// How long anything may take before it is given up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Any key does: the servers' answers are not the subject.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The first byte of a ping.
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// What the clients know about the server that they talk to.
#[derive(Clone, Copy)]
pub struct Dialect {
    /// Bytes of a frame's payload before the message.
    prefix: usize,
    opcode: u8,
    pub has_channels: bool,
    /// Lines of JSON (`stepcast.v1`), several in a frame.
    pub has_lines: bool,
}

impl Dialect {
    pub fn of(kind: &str) -> Self {
        match kind {
            // An operation, a subscription, and a time (foxglove.sdk.v1, "message data").
            "foxglove" => Self { prefix: 13, opcode: 2, has_channels: true, has_lines: false },
            kind => {
                let has_lines = kind.ends_with("-v1");
                Self { prefix: 0, opcode: 1, has_channels: false, has_lines }
            }
        }
    }
}

/// What a client on `stepcast.v1` says first.
const HELLO: &[u8] = br#"{"hello":{"feeds":{"":{}}}}"#;

/// How the clients wait for what comes.
#[derive(Clone, Copy, PartialEq)]
pub enum Wait {
    /// They look all the time: what is measured is when something comes.
    Spin,
    /// They sleep outside of the kernel's queue, so that the server does not pay for waking them.
    Nap,
    /// They are woken, and leave the core to others meanwhile.
    Block,
}

struct Client {
    fd: RawFd,
    /// The next message it is to get.
    next: u64,
    /// What has come of a frame that is not complete.
    rest: Vec<u8>,
}

/// A frame as the first client got it, and when it was published.
struct Known {
    frame: Vec<u8>,
    stamp: u64,
}

pub struct Clients {
    pub dialect: Dialect,
    all: Vec<Client>,
    epoll: sys::Epoll,
    keys: Vec<usize>,
    buffer: Vec<u8>,
    /// The messages of this run, and the number of the first.
    known: Vec<Known>,
    first: u64,
    size: usize,
    /// Frames that are yet to come.
    missing: usize,
    pub reads: usize,
    /// In microseconds.
    pub latencies: Vec<u32>,
}

impl Clients {
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            all: Vec::new(),
            epoll: sys::Epoll::new(),
            keys: Vec::new(),
            buffer: vec![0; 1 << 20],
            known: Vec::new(),
            first: 0,
            size: 0,
            missing: 0,
            reads: 0,
            latencies: Vec::new(),
        }
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Connects so many more, with a few requests under way at any time, and has them say hello at once where that makes
    /// them clients, if they are to.
    pub fn connect(&mut self, port: u16, count: usize, receive_buffer: Option<i32>, greets: bool) {
        let protocol = match self.dialect {
            Dialect { has_channels: true, .. } => "Sec-WebSocket-Protocol: foxglove.sdk.v1\r\n",
            Dialect { has_lines: true, .. } => "Sec-WebSocket-Protocol: stepcast.v1\r\n",
            _ => "",
        };
        let request = format!(
            "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\n{protocol}Sec-WebSocket-Key: {KEY}\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n"
        );
        let started = Instant::now();
        let before = self.all.len();
        let until = before + count;
        let (mut open, mut asked) = (before, vec![false; until]);
        while open < until {
            assert!(started.elapsed() < PATIENCE, "handshakes take too long");
            while self.all.len() < until && self.all.len() - open < IN_FLIGHT {
                let key = self.all.len();
                let fd = sys::connect(port, 1 + (key / 20_000) as u8, receive_buffer);
                let fd = fd.expect("a connection");
                self.epoll.watch_writing(fd, key);
                self.all.push(Client { fd, next: 0, rest: Vec::new() });
            }
            let mut keys = std::mem::take(&mut self.keys);
            self.epoll.wait(100, &mut keys);
            for &key in keys.iter().filter(|key| **key >= before) {
                let fd = self.all[key].fd;
                if !std::mem::replace(&mut asked[key], true) {
                    assert_eq!(sys::send(fd, request.as_bytes()), request.len());
                    self.epoll.now_reading(fd, key);
                    continue;
                }
                let Some(count) = sys::read(fd, &mut self.buffer) else { continue };
                let rest = &mut self.all[key].rest;
                rest.extend_from_slice(&self.buffer[..count]);
                let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else {
                    continue;
                };
                let head = String::from_utf8_lossy(&rest[..end]).into_owned();
                assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
                assert!(head.contains(ACCEPT), "{head}");
                rest.drain(..end + 4);
                if greets && self.dialect.has_lines {
                    say(fd, 0x81, HELLO);
                }
                // From here on it only collects, until it is settled.
                self.epoll.forget(fd);
                open += 1;
            }
            self.keys = keys;
        }
        for (key, client) in self.all.iter().enumerate().skip(before) {
            self.epoll.watch_reading(client.fd, key);
        }
    }

    /// The newest so many say hello, where that makes them clients, as many at a time as shake hands.
    pub fn say_hello(&mut self, count: usize) {
        if !self.dialect.has_lines {
            return;
        }
        let (started, until) = (Instant::now(), self.all.len());
        let (mut next, mut under_way) = (until - count, 0);
        while next < until || under_way > 0 {
            assert!(started.elapsed() < PATIENCE, "answers to a hello take too long");
            while next < until && under_way < IN_FLIGHT {
                say(self.all[next].fd, 0x81, HELLO);
                (next, under_way) = (next + 1, under_way + 1);
            }
            let mut keys = std::mem::take(&mut self.keys);
            self.epoll.wait(100, &mut keys);
            for &key in &keys {
                let Client { fd, rest, .. } = &mut self.all[key];
                let Some(count) = sys::read(*fd, &mut self.buffer) else { continue };
                under_way -= usize::from(rest.is_empty()); // the first bytes of its answer
                rest.extend_from_slice(&self.buffer[..count]);
            }
            self.keys = keys;
        }
    }

    /// The newest so many ask for the channel, where there are channels.
    pub fn subscribe(&mut self, count: usize) {
        if !self.dialect.has_channels {
            return;
        }
        let before = self.all.len() - count;
        for client in &mut self.all[before..] {
            let started = Instant::now();
            let id = loop {
                let text = String::from_utf8_lossy(&client.rest);
                let found = text.split("\"channels\":[{\"id\":").nth(1).and_then(|rest| {
                    let end = rest.find([',', '}'])?;
                    rest[..end].parse::<u64>().ok()
                });
                if let Some(id) = found {
                    break id;
                }
                assert!(started.elapsed() < PATIENCE, "no channel in {text:?}");
                if let Some(count) = sys::read(client.fd, &mut self.buffer) {
                    client.rest.extend_from_slice(&self.buffer[..count]);
                }
            };
            let wish = format!(
                "{{\"op\":\"subscribe\",\"subscriptions\":[{{\"id\":1,\"channelId\":{id}}}]}}"
            );
            say(client.fd, 0x81, wish.as_bytes());
        }
    }

    /// Reads what servers say by themselves, until nothing more comes.
    pub fn settle(&mut self) {
        loop {
            let mut keys = std::mem::take(&mut self.keys);
            self.epoll.wait(100, &mut keys);
            for &key in &keys {
                let client = &mut self.all[key];
                if let Some(count) = sys::read(client.fd, &mut self.buffer) {
                    client.rest.extend_from_slice(&self.buffer[..count]);
                }
            }
            let done = keys.is_empty();
            self.keys = keys;
            if done {
                break;
            }
        }
        for client in &mut self.all {
            let mut at = 0;
            while at < client.rest.len() {
                let (start, len) = header(&client.rest[at..]).expect("whole frames");
                at += start + len;
            }
            assert_eq!(at, client.rest.len(), "whole frames");
            client.rest = Vec::new();
        }
    }

    /// Takes in so many messages of this size for every client.
    pub fn receive(&mut self, count: usize, size: usize, wait: Wait) {
        self.first += self.known.len() as u64;
        self.known.clear();
        self.size = size;
        self.missing = count * self.all.len();
        self.reads = 0;
        self.latencies.clear();
        let mut keys = std::mem::take(&mut self.keys);
        let mut heard = Instant::now();
        while self.missing > 0 {
            self.epoll.wait(if wait == Wait::Block { 100 } else { 0 }, &mut keys);
            for &key in &keys {
                self.read(key, wait != Wait::Nap);
            }
            if !keys.is_empty() {
                heard = Instant::now();
            } else if heard.elapsed() > PATIENCE {
                panic!("{} messages have not come", self.missing);
            } else if wait == Wait::Nap {
                std::thread::sleep(Duration::from_micros(300));
            }
        }
        self.keys = keys;
        assert_eq!(self.known.len(), count);
    }

    /// Reads and looks at nothing but pings.
    fn pass_over(&mut self, key: usize) {
        let client = &mut self.all[key];
        let kept = client.rest.len();
        self.buffer[..kept].copy_from_slice(&client.rest);
        let Some(count) = sys::read(client.fd, &mut self.buffer[kept..]) else { return };
        let bytes = &self.buffer[..kept + count];
        let mut at = 0;
        while let Some((start, len)) = header(&bytes[at..]) {
            let Some(frame) = bytes[at..].get(..start + len) else { break };
            if frame[0] == PING {
                pong(client.fd, &frame[start..]);
            }
            at += start + len;
        }
        client.rest.clear();
        client.rest.extend_from_slice(&bytes[at..]);
    }

    fn read(&mut self, key: usize, timed: bool) {
        let client = &mut self.all[key];
        let kept = client.rest.len();
        self.buffer[..kept].copy_from_slice(&client.rest);
        let Some(count) = sys::read(client.fd, &mut self.buffer[kept..]) else { return };
        let now = if timed { sys::now() } else { 0 };
        self.reads += 1;
        let bytes = &self.buffer[..kept + count];
        let mut at = 0;
        while let Some((start, len)) = header(&bytes[at..]) {
            let Some(frame) = bytes[at..].get(..start + len) else { break };
            if frame[0] == PING {
                pong(client.fd, &frame[start..]);
                at += start + len;
                continue;
            }
            assert_eq!(frame[0], 0x80 | self.dialect.opcode, "one whole frame");
            let payload = &frame[start + self.dialect.prefix..];
            let mut take = |whole: &[u8], payload: &[u8]| {
                let index = (client.next - self.first) as usize;
                let known = match self.known.get(index) {
                    Some(known) => {
                        assert!(
                            known.frame == whole,
                            "message {} is not what others got",
                            client.next
                        );
                        known
                    }
                    None => {
                        let stamp = message::check(payload, client.next, self.size);
                        let stamp = stamp.unwrap_or_else(|| {
                            panic!(
                                "message {}: {:?}",
                                client.next,
                                String::from_utf8_lossy(payload)
                            )
                        });
                        assert_eq!(index, self.known.len());
                        self.known.push(Known { frame: whole.to_vec(), stamp });
                        &self.known[index]
                    }
                };
                if timed {
                    self.latencies.push((now.saturating_sub(known.stamp) / 1000) as u32);
                }
                client.next += 1;
                self.missing = self.missing.checked_sub(1).expect("no more than was published");
            };
            if self.dialect.has_lines {
                // As fast as whole frames, or what is measured is how the kernel fares with a slow reader.
                let ends = memchr::memchr_iter(b'\n', payload).chain([payload.len()]);
                let mut begun = 0;
                for end in ends {
                    let line = &payload[begun..end];
                    begun = end + 1;
                    if let Some(text) = text_of(client.fd, line) {
                        take(line, text);
                    }
                }
            } else {
                take(frame, payload);
            }
            at += start + len;
        }
        client.rest.clear();
        client.rest.extend_from_slice(&bytes[at..]);
    }
}

/// Sends a short frame, masked with zeros.
fn say(fd: RawFd, first: u8, payload: &[u8]) {
    let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).expect("short"), 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    assert_eq!(sys::send(fd, &frame), frame.len());
}

/// Answers a ping, as every client has to.
fn pong(fd: RawFd, payload: &[u8]) {
    say(fd, PONG, payload);
}

/// The text in a line that has one: `{"text":[1,42,"..."]}`. A question is answered, and has none.
fn text_of(fd: RawFd, line: &[u8]) -> Option<&[u8]> {
    if let Some(value) = line.strip_prefix(br#"{"ping":"#) {
        say(fd, 0x81, &[br#"{"pong":"#, value].concat());
        return None;
    }
    let start = line.windows(2).position(|two| two == b",\"").expect("a text") + 2;
    Some(line[start..].strip_suffix(b"\"]}").expect("a text"))
}

/// Where a server's frame has its payload, and how long that is, if the header is whole.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    assert!(bytes.get(1).is_none_or(|second| second & 0x80 == 0), "a server does not mask");
    match *bytes {
        [_, 126, high, low, ..] => Some((4, usize::from(u16::from_be_bytes([high, low])))),
        [_, 126 | 127, ..] => None,
        [_, len, ..] => Some((2, usize::from(len))),
        _ => None,
    }
}

/// Clients of a server in another process, which only read, some of them not even that. Ends when
/// its input does.
pub fn drain(port: u16, count: usize, stopped: usize, core: usize) {
    sys::raise_descriptors();
    sys::pin(core);
    let mut clients = Clients::new(Dialect::of("stepcast"));
    clients.connect(port, stopped, Some(2048), true);
    for client in &clients.all {
        clients.epoll.forget(client.fd);
    }
    clients.connect(port, count - stopped, None, true);
    println!("ready");
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_line(&mut String::new());
        std::process::exit(0);
    });
    loop {
        let mut keys = std::mem::take(&mut clients.keys);
        clients.epoll.wait(-1, &mut keys);
        for &key in &keys {
            clients.pass_over(key);
        }
        clients.keys = keys;
    }
}
