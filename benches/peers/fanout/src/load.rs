//! What is done with a server and its clients, and what it cost the server.
//!
//! A *session* starts a server, connects the clients, and goes through some works with them. It is a process
//! of its own, and tells its figures as lines of a name and a number.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::clients::{Clients, Dialect, PATIENCE, Wait};
use crate::sys;

/// One work of a session, as in `rate:64:30`.
#[derive(Clone, Debug)]
pub enum Work {
    /// Memory, with nothing going on.
    Idle,
    /// So many messages of this size, at so many per second.
    Rate { size: usize, count: usize, per_second: usize },
    /// One burst of so many messages, to clients that have just connected.
    First { size: usize, count: usize },
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
            ("first", &[size, count]) => Self::First { size, count },
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
/// is like in that moment is the same for both. First bursts come before all else, once. Then each has
/// the works that are to warm it up. Tells what each took in
/// CPU, with what it did just after a piece, and what the second took beside the first: of all pieces together, for what is
/// done in every fifth of them counts, too.
pub fn duel(both: [Options; 2], warm: &[Work], turns: usize) {
    /// Handshakes in a piece.
    const PIECE: usize = 200;
    sys::raise_descriptors();
    sys::pin(both[0].core);
    let clients = both[0].clients;
    let is_first = |work: &Work| matches!(work, Work::First { .. });
    let (firsts, works): (Vec<_>, Vec<_>) = both[0].works.iter().cloned().partition(is_first);
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
    let mut work_piece = |work: &Work, turn: usize, both: &mut [Session; 2]| {
        let (name, messages) = match *work {
            Work::First { size, count } => (format!("first.{size}"), count),
            Work::Rate { size, count, .. } => (format!("rate.{size}"), count),
            Work::Burst { size, millis: 0 } => (format!("burst.{size}"), BURST),
            _ => panic!("a work that is not always the same"),
        };
        piece(name, turn, both, &|side| {
            side.go_through(work);
            messages * clients
        });
    };
    firsts.iter().for_each(|work| work_piece(work, 0, &mut both));
    for side in &mut both {
        warm.iter().for_each(|work| side.go_through(work));
    }
    for turn in 0..turns {
        works.iter().for_each(|work| work_piece(work, turn, &mut both));
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
            self.server.wait_for(self.clients.count());
        }
    }

    fn go_through(&mut self, work: &Work) {
        let Self { server, clients, figures, .. } = self;
        match *work {
            Work::Idle => {
                std::thread::sleep(Duration::from_millis(300));
                let grown = sys::resident(server.pid()).saturating_sub(self.resident) as f64;
                figures.insert("idle".to_owned(), grown / 1024.0 / clients.count() as f64);
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
            Work::First { size, count } => {
                let name = format!("first.{size}");
                bursts(&name, (size, count), Duration::ZERO, server, clients, figures);
            }
            Work::Burst { size, millis } => {
                let (name, time) = (format!("burst.{size}"), Duration::from_millis(millis));
                bursts(&name, (size, BURST), time, server, clients, figures);
            }
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
        let deliveries = (self.count * clients.count()) as f64;
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

/// Bursts of so many messages until the time is up, one at least, the next when all clients have the one before.
fn bursts(
    name: &str,
    (size, count): (usize, usize),
    time: Duration,
    server: &mut Server,
    clients: &mut Clients,
    figures: &mut BTreeMap<String, f64>,
) {
    let (cpu, started) = (sys::process_cpu(server.pid()), Instant::now());
    let (mut bursts, mut reads) = (0, 0);
    while bursts == 0 || started.elapsed() < time {
        server.tell(&format!("burst {size} {count}"));
        clients.receive(count, size, Wait::Nap);
        server.hear();
        bursts += 1;
        reads += clients.reads;
    }
    let (spent, took) = (sys::process_cpu(server.pid()) - cpu, started.elapsed());
    let deliveries = (bursts * count * clients.count()) as f64;
    figures.insert(format!("{name}.cpu"), spent as f64 / 1e3 / deliveries);
    figures.insert(format!("{name}.per_second"), deliveries / took.as_secs_f64());
    figures.insert(format!("{name}.reads"), reads as f64 / deliveries);
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
