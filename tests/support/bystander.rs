//! Who must notice nothing of what others do, and what they cost the hub.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use stepcast::Hub;
use stepcast::codec::{Control, Incoming};

use super::peer::Peer;
use super::wire::{PATIENCE, is_timeout};

/// A viewer that is sent numbered broadcasts all the while, and looks at each when it comes.
pub struct Bystander {
    stop: Arc<AtomicBool>,
    /// Messages that were pushed, and those of them that it has looked at.
    pushed: Arc<AtomicU64>,
    seen: Arc<AtomicU64>,
    pushing: JoinHandle<u64>,
    reading: JoinHandle<Vec<Duration>>,
}

impl Bystander {
    pub fn of(hub: &Hub) -> Self {
        let (stop, epoch) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let (pushed, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut peer = Peer::connect(hub);
        let looked_at = Arc::clone(&seen);
        let reading = thread::spawn(move || {
            let mut late = Vec::new();
            loop {
                let text = match peer.recv() {
                    Incoming::Message(message) => match message.as_text() {
                        Some(text) => text.to_owned(),
                        None => continue, // what a test pushes beside the numbers
                    },
                    Incoming::Control(Control::Ping(ping)) => {
                        peer.control(Control::Pong(ping));
                        continue;
                    }
                    Incoming::Control(other) => panic!("the bystander got {other:?}"),
                };
                if text == "end" {
                    return late;
                }
                let (number, sent) = text.split_once(' ').unwrap();
                assert_eq!(number, late.len().to_string(), "the bystander missed something");
                let sent = Duration::from_micros(sent.parse().unwrap());
                late.push(epoch.elapsed().saturating_sub(sent));
                looked_at.fetch_add(1, Ordering::Relaxed);
            }
        });
        let pushing = {
            let (hub, stop, pushed) = (hub.clone(), Arc::clone(&stop), Arc::clone(&pushed));
            thread::spawn(move || {
                for number in 0.. {
                    hub.broadcast(format!("{number} {}", epoch.elapsed().as_micros()));
                    pushed.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(2)); // as a model's steps come
                    if stop.load(Ordering::Relaxed) {
                        hub.broadcast("end");
                        return number + 1;
                    }
                }
                unreachable!("numbers do not end")
            })
        };
        Self { stop, pushed, seen, pushing, reading }
    }

    /// How many numbers there will have been when it has certainly seen what was pushed before this
    /// call, by whomever: who pushes more than it can read makes it skip.
    pub fn mark(&self) -> u64 {
        self.pushed.load(Ordering::Relaxed) + 2
    }

    pub fn has_come_to(&self, mark: u64) -> bool {
        self.seen.load(Ordering::Relaxed) >= mark
    }

    /// It missed nothing and was on time. A machine that is busy elsewhere holds up a message now
    /// and then; a hub that is kept busy by others would be late with all of them. How late each was
    /// is returned, sorted.
    pub fn noticed_nothing(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let pushed = self.pushing.join().unwrap();
        let mut late = self.reading.join().expect("the bystander to have gone on");
        assert_eq!(late.len() as u64, pushed, "the bystander missed something");
        late.sort_unstable();
        let (typical, worst) = (late[late.len() / 2], late[late.len() - 1]);
        assert!(typical < Duration::from_millis(250), "typically {typical:?} late");
        assert!(worst < Duration::from_secs(3), "{worst:?} late");
        late
    }
}

/// Sends these bytes again and again, until the hub takes no more of them because it has cut the
/// connection, and looks at something in between.
pub fn send_until_cut(socket: &mut TcpStream, bytes: &[u8], mut between: impl FnMut()) {
    let started = Instant::now();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    loop {
        match socket.write_all(bytes) {
            Ok(()) => between(),
            Err(error) if is_timeout(&error) => panic!("neither read nor cut"),
            Err(_) => return,
        }
        assert!(started.elapsed() < PATIENCE, "it was never cut");
    }
}

/// The processor time that a hub's thread takes.
#[cfg(target_os = "linux")]
pub mod cpu {
    use std::collections::HashSet;
    use std::fs;
    use std::path::PathBuf;
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use stepcast::{Hub, HubBuilder};

    use super::super::peer::until;

    /// A hub with the file that says what its thread has used.
    pub struct Metered {
        pub hub: Hub,
        schedstat: PathBuf,
    }

    /// The threads with the name that a hub gives its own.
    pub fn hub_threads() -> HashSet<PathBuf> {
        let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        let is_hubs = |task: &PathBuf| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "stepcast\n")
        };
        tasks.filter(is_hubs).collect()
    }

    impl Metered {
        pub fn spawn(builder: HubBuilder) -> Self {
            // One at a time, or they could not be told apart: so for all hubs of a test file.
            static ONE: Mutex<()> = Mutex::new(());
            let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
            let before = hub_threads();
            let hub = builder.spawn_blocking("127.0.0.1:0").unwrap();
            let mut new = None;
            until("the hub's thread to have its name", || {
                new = hub_threads().difference(&before).next().cloned();
                new.is_some()
            });
            Self { hub, schedstat: new.unwrap().join("schedstat") }
        }

        /// The time on a processor so far, however long it waited for one.
        pub fn used(&self) -> Duration {
            let text = fs::read_to_string(&self.schedstat).unwrap();
            Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
        }

        pub fn used_since(&self, before: Duration) -> Duration {
            self.used().saturating_sub(before)
        }
    }
}
