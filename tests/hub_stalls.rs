//! Connections of which one way falls silent, at a proxy between client and hub: they are cut in
//! time, hold a bounded memory until then, and delay nobody, not even the hub's end.

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::bystander::Bystander;
use crate::support::peer::{Peer, until};
use crate::support::proxy;
use crate::support::proxy::{Link, Way};
use stepcast::codec::Incoming;
use stepcast::{ClientId, DisconnectReason, Event, Hub, HubBuilder, Limits, Timeouts};

const MEMORY: usize = 16 << 20;

/// One test at a time: they look at the clock.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has come over a peer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Nothing comes from the hub any more, and it says nothing.
    Deaf,
    /// Nothing comes from the hub any more, but it goes on talking, which is a sign of life.
    Talking,
    /// It gets all that the hub sends, but nothing that it says arrives, such as pongs.
    Mute,
    /// Both ways are silent.
    Vanished,
}

const FAULTS: [Fault; 4] = [Fault::Deaf, Fault::Talking, Fault::Mute, Fault::Vanished];

/// A client at the far side of a link that has fallen silent.
struct Faulty {
    id: ClientId,
    fault: Fault,
    over: Arc<AtomicBool>,
    link: Option<Link>,
    threads: Vec<JoinHandle<()>>,
}

impl Faulty {
    fn new(hub: &Hub, fault: Fault) -> Self {
        let address = hub.local_addr().unwrap();
        let (socket, link) = proxy::connect(address, Way::default(), Way::default());
        let mut peer = Peer::upgrade(socket, address);
        let (id, over) = (peer.id, Arc::new(AtomicBool::new(false)));
        if fault != Fault::Mute {
            link.down.stall();
        }
        if fault != Fault::Talking {
            link.up.stall();
        }
        let mut threads = Vec::new();
        if fault == Fault::Talking {
            let (mut socket, over) = (peer.socket.try_clone().unwrap(), Arc::clone(&over));
            threads.push(thread::spawn(move || {
                // A short text, masked with zeros; at a pace that no limit is against.
                while std::io::Write::write_all(&mut socket, b"\x81\x82\0\0\0\0ok").is_ok()
                    && !over.load(Ordering::Relaxed)
                {
                    thread::sleep(Duration::from_millis(20));
                }
            }));
        }
        // It takes what comes and answers as any client does, until it is cut.
        threads.push(thread::spawn(move || {
            while let Ok(incoming) = peer.try_recv() {
                let Incoming::Control(control) = incoming else { continue };
                if control.reply().is_some_and(|reply| peer.try_control(reply).is_err()) {
                    break;
                }
            }
        }));
        Self { id, fault, over, link: Some(link), threads }
    }

    fn all(hub: &Hub) -> Vec<Self> {
        (0..12).map(|number| Self::new(hub, FAULTS[number % FAULTS.len()])).collect()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.link = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // its panic has been shown
        }
    }
}

/// Pushes to everyone and to each of these, far more than any of them takes: so does a program that
/// goes on. The memory that the hub held for it is looked at all the while.
fn push_on(hub: &Hub, to: &[Faulty]) -> usize {
    hub.broadcast(vec![0; 16 * 1024]);
    let mut most = 0;
    for faulty in to {
        // What there is no room for is refused, and who has gone gets nothing.
        let _ = hub.send(faulty.id, vec![0; 32 * 1024]);
        most = most.max(hub.stats().memory);
    }
    thread::sleep(Duration::from_millis(5)); // as a model's steps come
    most
}

/// What is broadcast is taken beyond the limit, and makes room for itself in the hub's next turn.
fn assert_bounded(memory: usize) {
    assert!(memory <= MEMORY + (1 << 20), "{memory} bytes held");
}

fn bounded() -> HubBuilder {
    // More than all may hold, if only each were bounded.
    Hub::builder().limits(Limits::default().mailbox(MEMORY / 4).memory(MEMORY))
}

/// None of them is cut while a test looks at them.
fn patient() -> HubBuilder {
    const PATIENT: Duration = Duration::from_secs(600);
    let timeouts = Timeouts::default().stall(PATIENT).frame(PATIENT).keepalive(PATIENT);
    bounded().timeouts(timeouts.pong(PATIENT))
}

#[test]
fn peers_that_fall_silent_are_cut_in_time_and_hold_a_bounded_memory_until_then() {
    let _alone = alone();
    let (keepalive, pong) = (Duration::from_millis(400), Duration::from_secs(1));
    let stall = Duration::from_secs(1);
    // A second more for a machine that is busy elsewhere.
    let deadline = keepalive + pong + stall + Duration::from_secs(1);
    let timeouts = Timeouts::default().keepalive(keepalive).pong(pong).stall(stall);
    let hub = bounded().timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let bystander = Bystander::of(&hub);
    // With little pushed to them, and with more than they take.
    for is_pushed_to in [false, true] {
        let mut faulty = Faulty::all(&hub);
        // Who talks is alive, until it is owed what it does not take.
        faulty.retain(|faulty| is_pushed_to || faulty.fault != Fault::Talking);
        let mut open: HashSet<_> = faulty.iter().map(|faulty| faulty.id).collect();
        let started = Instant::now();
        while !open.is_empty() {
            if is_pushed_to {
                assert_bounded(push_on(&hub, &faulty));
            } else {
                thread::yield_now();
            }
            while let Some(event) = events.try_recv() {
                let Event::Gone { id, reason } = event else { continue };
                assert!(!open.remove(&id) || reason == DisconnectReason::TimedOut, "{reason}");
            }
            let left: Vec<_> = faulty.iter().filter(|f| open.contains(&f.id)).collect();
            assert!(
                started.elapsed() < deadline || left.is_empty(),
                "still there: {:?}",
                left.iter().map(|faulty| faulty.fault).collect::<Vec<_>>()
            );
        }
        until("only the bystander to be left", || hub.client_count() == 1);
    }
    bystander.noticed_nothing();
    until("the memory to be free", || hub.client_count() == 0 && hub.stats().memory == 0);
}

#[test]
fn peers_that_have_fallen_silent_delay_nobody_else() {
    const LOOK: Duration = Duration::from_millis(1500);
    let _alone = alone();
    let hub = patient().spawn_blocking("127.0.0.1:0").unwrap();
    let p99 = |faulty: &[Faulty]| {
        let bystander = Bystander::of(&hub);
        let started = Instant::now();
        while started.elapsed() < LOOK {
            assert_bounded(push_on(&hub, faulty));
        }
        let late = bystander.noticed_nothing();
        late[late.len() * 99 / 100]
    };
    let without = p99(&[]);
    let faulty = Faulty::all(&hub);
    let bound = Duration::from_millis(50).max(without * 5);
    // A machine that is busy elsewhere may hold up a look; a hub that is held up by its peers is so
    // at every look.
    let mut with = Vec::new();
    while with.last().is_none_or(|with| *with > bound) {
        assert!(with.len() < 5, "{with:?} with them, {without:?} without");
        with.push(p99(&faulty));
    }
    for Faulty { id, fault, .. } in &faulty {
        let there = hub.client(*id).unwrap_or_else(|| panic!("{fault:?} has gone"));
        assert!(*fault == Fault::Mute || there.info().skipped > 0, "{fault:?} took all");
    }
    println!("p99 {without:?} without them, {with:?} with them");
}

#[test]
fn a_hub_ends_on_time_while_peers_are_silent() {
    const WITHIN: Duration = Duration::from_millis(500);
    let _alone = alone();
    let hub = patient().spawn_blocking("127.0.0.1:0").unwrap();
    let faulty = Faulty::all(&hub);
    let of = |fault| faulty.iter().find(|faulty| faulty.fault == fault).unwrap();
    let is_full = |fault| hub.client(of(fault).id).is_some_and(|client| client.info().skipped > 0);
    until("them to be behind", || {
        push_on(&hub, &faulty);
        is_full(Fault::Deaf) && is_full(Fault::Vanished)
    });
    let started = Instant::now();
    hub.shutdown_blocking(WITHIN);
    let took = started.elapsed();
    assert!(took < WITHIN + Duration::from_secs(1), "{took:?}");
    assert!(took >= WITHIN, "{took:?}: they cannot have taken what they were owed");
    assert_eq!((hub.client_count(), hub.stats().memory), (0, 0));
}
