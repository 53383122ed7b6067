//! What the caller pays: pushes from a plain thread on one core, while the hub's thread and its
//! clients are on the other; beside tokio's broadcast channel and a bare write to an eventfd.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use stepcast::codec::Message;
use stepcast::{Hub, Limits};
use tokio::sync::broadcast;

use crate::rounds::Spread;
use crate::sys;

/// Where the caller runs, and where everything else does.
const CALLER: usize = 0;
const OTHERS: usize = 1;

/// Calls that are timed together while the hub is awake.
const BATCH: usize = 16;

/// Longer than the hub goes on looking by itself.
const UNTIL_ASLEEP: Duration = Duration::from_millis(14);

pub struct Options {
    pub clients: Vec<usize>,
    pub receivers: Vec<usize>,
    /// How often each single call is timed, and how many batches are.
    pub calls: usize,
    /// How many messages each of eight threads sends, and how often that is timed.
    pub from_each: usize,
    pub turns: usize,
}

fn text() -> Message {
    Message::from("s".repeat(64))
}

/// The median of what a call took, in nanoseconds, without what asking the clock takes.
fn median(mut times: Vec<u64>, calls: usize) -> f64 {
    times.sort_unstable();
    let mut looking: Vec<u64> = (0..1001).map(|_| nanoseconds(|| ())).collect();
    looking.sort_unstable();
    times[times.len() / 2].saturating_sub(looking[looking.len() / 2]) as f64 / calls as f64
}

fn nanoseconds(call: impl FnOnce()) -> u64 {
    let started = Instant::now();
    call();
    started.elapsed().as_nanos() as u64
}

/// A hub whose thread is on the other core.
pub fn hub(builder: stepcast::HubBuilder) -> Hub {
    sys::pin(OTHERS);
    let hub = builder.spawn_blocking("127.0.0.1:0").expect("a port");
    // It has been started; what it starts with is on its own thread.
    sys::pin(CALLER);
    hub
}

/// The clients' process, gone with this.
pub struct Drain(Child);

impl Drain {
    pub fn start(hub: &Hub, clients: usize, stopped: usize) -> Self {
        let port = hub.local_addr().expect("it listens").port();
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args(["drain", "--port", &port.to_string(), "--clients", &clients.to_string()])
            .args(["--stopped", &stopped.to_string(), "--core", &OTHERS.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let output = process.stdout.take().expect("it is piped");
        let drain = Self(process);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("text");
        assert_eq!((line.as_str(), hub.client_count()), ("ready\n", clients));
        drain
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn run(options: &Options) -> BTreeMap<String, f64> {
    sys::raise_descriptors();
    sys::pin(CALLER);
    let mut figures = BTreeMap::new();
    let mut put = |name: String, value| figures.insert(name, value);
    for &clients in &options.clients {
        let hub = hub(Hub::builder().limits(Limits::default().clients(clients.max(10))));
        let _drain = Drain::start(&hub, clients, 0);
        let id = hub.clients()[0].id();
        let awake = |push: &dyn Fn(Message)| {
            let batch = |_| {
                thread::sleep(Duration::from_millis(2)); // less than the hub goes on looking for while they come so
                let messages: Vec<Message> = (0..BATCH).map(|_| text()).collect();
                nanoseconds(|| messages.into_iter().for_each(push))
            };
            let _warm: u64 = (0..4).map(batch).sum();
            median((0..options.calls * 2).map(batch).collect(), BATCH)
        };
        put(format!("broadcast.awake.{clients}"), awake(&|message| hub.broadcast(message)));
        put(
            format!("send.awake.{clients}"),
            awake(&|message| hub.send(id, message).expect("room")),
        );
        // The same time spent on what no other thread has seen: what a busy second core, and cold
        // caches, do to a caller in any case.
        let own = Mutex::new(VecDeque::new());
        put(
            format!("own.awake.{clients}"),
            awake(&|message| {
                let mut own = own.lock().expect("no panic");
                own.push_back(message);
                if own.len() > BATCH {
                    own.pop_front();
                }
            }),
        );
        if clients > 100 {
            continue; // it would not be asleep in time
        }
        let (bare, tokio) = (Sleeper::start(), Receivers::start(10));
        let names = ["eventfd", "broadcast.asleep", "send.asleep", "tokio.asleep"];
        let mut times = [vec![], vec![], vec![], vec![]];
        for turn in 0..options.calls * names.len() {
            // Each comes after each of the others equally often.
            let which = (turn + turn / names.len()) % names.len();
            thread::sleep(UNTIL_ASLEEP);
            let message = text();
            times[which].push(match which {
                0 => nanoseconds(|| bare.wake()),
                1 => nanoseconds(|| hub.broadcast(message)),
                2 => nanoseconds(|| hub.send(id, message).expect("room")),
                _ => nanoseconds(|| tokio.send(message)),
            });
        }
        for (name, times) in names.iter().zip(times) {
            put(format!("{name}.{clients}"), median(times, 1));
        }
    }
    for &receivers in &options.receivers {
        let tokio = Receivers::start(receivers);
        let time = |_| {
            tokio.wait_until_all_wait();
            let message = text();
            nanoseconds(|| tokio.send(message))
        };
        put(
            format!("tokio.waiting.{receivers}"),
            median((0..options.calls).map(time).collect(), 1),
        );
    }
    eight(options.from_each, options.turns, &mut put);
    figures
}

/// The same from eight threads at once, on all cores; and of tokio's channel just before or after.
fn eight(from_each: usize, turns: usize, put: &mut impl FnMut(String, f64) -> Option<f64>) {
    let hub = hub(Hub::builder());
    let _drain = Drain::start(&hub, 1, 0);
    let tokio = Receivers::start(1);
    let of_hub = || from_eight(from_each, &|message| hub.broadcast(message));
    let of_tokio = || from_eight(from_each, &|message| tokio.send(message));
    let (mut wall, mut cpu) = ([vec![], vec![], vec![]], [vec![], vec![], vec![]]);
    for turn in 0..turns {
        let first = (turn % 2 == 0).then(of_hub);
        let theirs = of_tokio();
        let ours = first.unwrap_or_else(of_hub);
        for (figures, ours, theirs) in [(&mut wall, ours.0, theirs.0), (&mut cpu, ours.1, theirs.1)]
        {
            let row = [ours, theirs, ours / theirs];
            figures.iter_mut().zip(row).for_each(|(column, figure)| column.push(figure));
        }
    }
    for (what, figures) in [("wall", wall), ("cpu", cpu)] {
        for (name, column) in ["hub", "tokio", "ratio"].iter().zip(figures) {
            let median = Spread::of(column).expect("a turn at least").median;
            put(format!("eight.{name}.{what}"), median);
        }
    }
}

/// What a call takes, in nanoseconds of all of them together, and of each one's CPU.
fn from_eight(from_each: usize, push: &(dyn Fn(Message) + Sync)) -> (f64, f64) {
    const THREADS: usize = 8;
    let go = AtomicBool::new(false);
    let used = AtomicU64::new(0);
    let mut wall = 0;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (go, used) = (&go, &used);
                scope.spawn(move || {
                    sys::pin(thread % 2);
                    let messages: Vec<Message> = (0..from_each).map(|_| text()).collect();
                    while !go.load(Ordering::Relaxed) {
                        thread::yield_now();
                    }
                    let before = sys::thread_cpu();
                    messages.into_iter().for_each(push);
                    used.fetch_add(sys::thread_cpu() - before, Ordering::Relaxed);
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(20));
        wall = nanoseconds(|| {
            go.store(true, Ordering::Relaxed);
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        });
    });
    let calls = (THREADS * from_each) as f64;
    (wall as f64 / calls, used.into_inner() as f64 / calls)
}

/// A thread that sleeps in an epoll, as a runtime does, until its eventfd is written to.
struct Sleeper {
    bell: Arc<sys::EventFd>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sleeper {
    fn start() -> Self {
        let (bell, ending) = (Arc::new(sys::EventFd::new()), Arc::new(AtomicBool::new(false)));
        let (its_bell, its_end) = (Arc::clone(&bell), Arc::clone(&ending));
        let thread = thread::spawn(move || {
            sys::pin(OTHERS);
            let mut epoll = sys::Epoll::new();
            epoll.watch_reading(its_bell.fd(), 0);
            while !its_end.load(Ordering::Relaxed) {
                epoll.wait(-1, &mut Vec::new());
                its_bell.read();
            }
        });
        Self { bell, ending, thread: Some(thread) }
    }

    fn wake(&self) {
        self.bell.write();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        self.bell.write();
        self.thread.take().map(JoinHandle::join);
    }
}

/// Tasks on a runtime of their own that receive from tokio's broadcast channel.
struct Receivers {
    sender: broadcast::Sender<Message>,
    count: usize,
    received: Arc<AtomicU64>,
    sent: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

impl Receivers {
    fn start(count: usize) -> Self {
        let (sender, _) = broadcast::channel(1024);
        let received = Arc::new(AtomicU64::new(0));
        let receivers: Vec<_> = (0..count).map(|_| sender.subscribe()).collect();
        let counter = Arc::clone(&received);
        let thread = thread::spawn(move || {
            sys::pin(OTHERS);
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.expect("a runtime").block_on(async {
                let tasks: Vec<_> = receivers
                    .into_iter()
                    .map(|mut receiver| {
                        let counter = Arc::clone(&counter);
                        tokio::spawn(async move {
                            loop {
                                match receiver.recv().await {
                                    Ok(_) => counter.fetch_add(1, Ordering::Relaxed),
                                    Err(broadcast::error::RecvError::Lagged(_)) => continue,
                                    Err(broadcast::error::RecvError::Closed) => return,
                                };
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    let _ = task.await;
                }
            });
        });
        Self { sender, count, received, sent: AtomicU64::new(0), thread: Some(thread) }
    }

    fn send(&self, message: Message) {
        let _ = self.sender.send(message);
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// All have what was sent, and have had the time to wait again.
    fn wait_until_all_wait(&self) {
        let all = self.sent.load(Ordering::Relaxed) * self.count as u64;
        while self.received.load(Ordering::Relaxed) < all {
            thread::sleep(Duration::from_micros(100));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        self.sender = broadcast::channel(1).0; // the last one: its receivers are told
        self.thread.take().map(JoinHandle::join);
    }
}
