//! The clients: one thread that reads all sockets, checks every byte, and says what it cost the
//! server.
//!
//! A *session* starts a server, connects the clients, and goes through some works with them. It is a process
//! of its own, and tells its figures as lines of a name and a number.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{message, sys};

/// Handshakes at once.
const IN_FLIGHT: usize = 64;

/// How long anything may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Any key does: the servers' answers are not the subject.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The first byte of a ping.
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// What the clients know about the server that they talk to.
#[derive(Clone, Copy)]
struct Dialect {
    /// Bytes of a frame's payload before the message.
    prefix: usize,
    opcode: u8,
    has_channels: bool,
    /// Lines of JSON (`stepcast.v1`), several in a frame.
    has_lines: bool,
}

impl Dialect {
    fn of(kind: &str) -> Self {
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

/// One work of a session, as in `rate:64:30`.
#[derive(Clone, Debug)]
pub enum Work {
    /// Memory, with nothing going on.
    Idle,
    /// So many messages of this size, at so many per second.
    Rate { size: usize, count: usize, per_second: usize },
    /// Messages as fast as they go, 64 at once, for so many milliseconds.
    Burst { size: usize, millis: u64 },
    /// A loop of steps of so many microseconds, with a message each.
    Steps { size: usize, count: usize, micros: usize },
}

impl Work {
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let name = parts.next()?;
        let numbers: Option<Vec<usize>> = parts.map(|part| part.parse().ok()).collect();
        Some(match (name, &numbers?[..]) {
            ("idle", []) => Self::Idle,
            ("rate", &[size, count, per_second]) => Self::Rate { size, count, per_second },
            ("burst", &[size, millis]) => Self::Burst { size, millis: millis as u64 },
            ("steps", &[size, count, micros]) => Self::Steps { size, count, micros },
            _ => return None,
        })
    }
}

#[derive(Clone)]
pub struct Options {
    /// The program that the server is a part of: this one, or another build of it.
    pub program: PathBuf,
    pub kind: String,
    pub clients: usize,
    pub works: Vec<Work>,
    /// Where the clients run, the server's publishing thread, and the rest of the server.
    pub core: usize,
    pub server_core: usize,
    pub io_core: usize,
}

pub fn session(options: &Options) {
    sys::raise_descriptors();
    sys::pin(options.core);
    let mut session = Session::start(options);
    session.connect(options.clients);
    for work in &options.works {
        session.go_through(work);
    }
    for (name, value) in session.end() {
        println!("{name} {value}");
    }
}

/// Two servers and their clients, of which one has a short piece of the work and then the other, so that what the machine
/// is like in that moment is the same for both. Before that each has the works that are to warm it up. Tells what each took in
/// CPU, with what it did just after a piece, and what the second took beside the first: of all pieces together, for what is
/// done in every fifth of them counts, too.
pub fn duel(both: [Options; 2], warm: &[Work], turns: usize) {
    /// Handshakes in a piece.
    const PIECE: usize = 200;
    sys::raise_descriptors();
    sys::pin(both[0].core);
    let (clients, works) = (both[0].clients, both[0].works.clone());
    let mut both = both.each_ref().map(Session::start);
    let mut taken = BTreeMap::<String, [f64; 3]>::new(); // the two, and how much it was
    let mut piece =
        |name: String, turn: usize, both: &mut [Session; 2], go: &dyn Fn(&mut Session) -> usize| {
            let sums = taken.entry(name).or_default();
            for side in [turn % 2, 1 - turn % 2] {
                let before = sys::process_cpu(both[side].server.pid());
                let amount = go(&mut both[side]);
                std::thread::sleep(Duration::from_millis(4)); // the answers to its questions, and its looks
                sums[side] += (sys::process_cpu(both[side].server.pid()) - before) as f64;
                sums[2] += amount as f64 / 2.0;
            }
        };
    for turn in 0..clients.div_ceil(PIECE) {
        let count = PIECE.min(clients - turn * PIECE);
        piece("handshake".to_owned(), turn, &mut both, &|side| {
            side.shake_hands(count);
            count
        });
        let greet = |side: &mut Session| {
            side.clients.say_hello(count);
            count
        };
        if both.iter().all(|side| side.clients.dialect.has_lines) {
            piece("hello".to_owned(), turn, &mut both, &greet);
        } else {
            for side in &mut both {
                greet(side);
            }
        }
        both.iter_mut().for_each(|side| side.clients.settle());
    }
    for side in &mut both {
        warm.iter().for_each(|work| side.go_through(work));
    }
    for turn in 0..turns {
        for work in &works {
            let (name, messages) = match *work {
                Work::Rate { size, count, .. } => (format!("rate.{size}"), count),
                Work::Burst { size, millis: 0 } => (format!("burst.{size}"), BURST),
                _ => panic!("a work that is not always the same"),
            };
            piece(name, turn, &mut both, &|side| {
                side.go_through(work);
                messages * clients
            });
        }
    }
    for side in both {
        side.end();
    }
    for (name, [first, second, amount]) in taken {
        // Seconds for a million deliveries are milliseconds for a thousand handshakes.
        println!("{name}.first {}", first / 1e3 / amount);
        println!("{name}.second {}", second / 1e3 / amount);
        println!("{name}.ratio {}", second / first);
    }
}

/// A server and its clients.
struct Session {
    kind: String,
    server: Server,
    clients: Clients,
    /// What it had when it had no client.
    resident: u64,
    figures: BTreeMap<String, f64>,
}

impl Session {
    fn start(options: &Options) -> Self {
        let server = Server::start(options);
        let resident = sys::resident(server.pid());
        let clients = Clients::new(Dialect::of(&options.kind));
        Self { kind: options.kind.clone(), server, clients, resident, figures: BTreeMap::new() }
    }

    /// All its clients.
    fn connect(&mut self, count: usize) {
        let Self { server, clients, figures, .. } = self;
        let (cpu, started) = (sys::process_cpu(server.pid()), Instant::now());
        clients.connect(server.port, count, None, true);
        let rate = count as f64 / started.elapsed().as_secs_f64();
        figures.insert("handshake.per_second".to_owned(), rate);
        if !clients.dialect.has_channels {
            server.wait_for(count); // some go on with it when they have answered
        }
        let spent = sys::process_cpu(server.pid()) - cpu;
        figures.insert("handshake.cpu".to_owned(), spent as f64 / 1e6 / count as f64 * 1e3);
        clients.subscribe(count);
        server.wait_for(count);
        clients.settle();
    }

    /// So many clients more, who have not said hello.
    fn shake_hands(&mut self, count: usize) {
        self.clients.connect(self.server.port, count, None, false);
        if !self.clients.dialect.has_lines {
            self.server.wait_for(self.clients.all.len());
        }
    }

    fn go_through(&mut self, work: &Work) {
        let Self { server, clients, figures, .. } = self;
        match *work {
            Work::Idle => {
                std::thread::sleep(Duration::from_millis(300));
                let grown = sys::resident(server.pid()).saturating_sub(self.resident) as f64;
                figures.insert("idle".to_owned(), grown / 1024.0 / clients.all.len() as f64);
            }
            Work::Rate { size, count, per_second } => {
                let order = format!("rate {size} {count} {}", 1_000_000 / per_second);
                let run = Run { name: format!("rate.{size}"), count, wait: Wait::Spin };
                run.go(size, &order, server, clients, figures);
            }
            Work::Steps { size, count, micros } => {
                let order = format!("steps {size} {count} {micros}");
                let run = Run { name: format!("steps.{size}"), count, wait: Wait::Block };
                let cost = run.go(size, &order, server, clients, figures);
                let cost: f64 = cost.parse().expect("a number");
                figures.insert(format!("steps.{size}.call"), cost);
            }
            Work::Burst { size, millis } => bursts(size, millis, server, clients, figures),
        }
    }

    fn end(mut self) -> BTreeMap<String, f64> {
        let skipped: u64 = self.server.ask("quit").parse().expect("a number");
        assert_eq!(skipped, 0, "messages that {} lost", self.kind);
        self.figures
    }
}

/// A run of messages, from the order to the last delivery.
struct Run {
    name: String,
    count: usize,
    wait: Wait,
}

impl Run {
    /// What the server says at its end.
    fn go(
        &self,
        size: usize,
        order: &str,
        server: &mut Server,
        clients: &mut Clients,
        figures: &mut BTreeMap<String, f64>,
    ) -> String {
        let (cpu, started) = (sys::process_cpu(server.pid()), Instant::now());
        server.tell(order);
        clients.receive(self.count, size, self.wait);
        let (spent, took) = (sys::process_cpu(server.pid()) - cpu, started.elapsed());
        let answer = server.hear();
        let mut put = |what: &str, value| figures.insert(format!("{}.{what}", self.name), value);
        let deliveries = (self.count * clients.all.len()) as f64;
        put("cpu", spent as f64 / 1e3 / deliveries);
        put("per_second", deliveries / took.as_secs_f64());
        put("reads", clients.reads as f64 / deliveries);
        let latencies = &mut clients.latencies;
        latencies.sort_unstable();
        let at = |share: f64| f64::from(latencies[((latencies.len() - 1) as f64 * share) as usize]);
        put("p50", at(0.5));
        put("p99", at(0.99));
        put("max", at(1.0));
        answer
    }
}

/// Messages in a burst.
const BURST: usize = 64;

/// Bursts of 64 until the time is up, the next when all clients have the one before.
fn bursts(
    size: usize,
    millis: u64,
    server: &mut Server,
    clients: &mut Clients,
    figures: &mut BTreeMap<String, f64>,
) {
    let (cpu, started) = (sys::process_cpu(server.pid()), Instant::now());
    let (mut bursts, mut reads) = (0, 0);
    while bursts == 0 || started.elapsed() < Duration::from_millis(millis) {
        server.tell(&format!("burst {size} {BURST}"));
        clients.receive(BURST, size, Wait::Nap);
        server.hear();
        bursts += 1;
        reads += clients.reads;
    }
    let (spent, took) = (sys::process_cpu(server.pid()) - cpu, started.elapsed());
    let deliveries = (bursts * BURST * clients.all.len()) as f64;
    figures.insert(format!("burst.{size}.cpu"), spent as f64 / 1e3 / deliveries);
    figures.insert(format!("burst.{size}.per_second"), deliveries / took.as_secs_f64());
    figures.insert(format!("burst.{size}.reads"), reads as f64 / deliveries);
}

/// The server's process.
struct Server {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    port: u16,
}

impl Server {
    fn start(options: &Options) -> Self {
        let mut process = Command::new(&options.program)
            .args(["server", "--kind", &options.kind])
            .args(["--clients", &options.clients.to_string()])
            .args(["--core", &options.server_core.to_string()])
            .args(["--io-core", &options.io_core.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let input = process.stdin.take().expect("it is piped");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut server = Self { process, input, output, port: 0 };
        let line = server.hear();
        server.port = line.strip_prefix("port ").and_then(|p| p.parse().ok()).expect("a port");
        server
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }

    fn tell(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).expect("it listens");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        assert!(line.ends_with('\n'), "the server has ended");
        line.trim_end().to_owned()
    }

    fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.hear()
    }

    /// Until it knows so many clients.
    fn wait_for(&mut self, clients: usize) {
        let (started, all) = (Instant::now(), clients.to_string());
        while self.ask("clients") != all {
            assert!(started.elapsed() < PATIENCE, "clients that the server does not know");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

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
    dialect: Dialect,
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
    reads: usize,
    /// In microseconds.
    latencies: Vec<u32>,
}

impl Clients {
    fn new(dialect: Dialect) -> Self {
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

    /// Connects so many more, with a few requests under way at any time, and has them say hello at once where that makes
    /// them clients, if they are to.
    fn connect(&mut self, port: u16, count: usize, receive_buffer: Option<i32>, greets: bool) {
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
    fn say_hello(&mut self, count: usize) {
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
    fn subscribe(&mut self, count: usize) {
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
    fn settle(&mut self) {
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
    fn receive(&mut self, count: usize, size: usize, wait: Wait) {
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
