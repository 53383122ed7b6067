//! What a hub leaves behind when it ends, however stuck its peers are: counted in a process of its
//! own, one test at a time.
#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::support::bystander::cpu::hub_threads;
use crate::support::peer::{Peer, until};
use crate::support::wire::PATIENCE;
use stepcast::codec::Control;
use stepcast::{DisconnectReason, Event, Hub, Limits, Timeouts};
use tokio::runtime::Runtime;

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    drop(Hub::spawn_blocking("127.0.0.1:0").unwrap()); // tokio keeps two descriptors for signals, once for the process
    one
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn no_thread_and_no_socket_is_left_of_a_hub_that_has_ended() {
    let _alone = alone();
    let before = descriptors();
    for round in 0..10 {
        let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
        let peers: Vec<_> = (0..20).map(|_| Peer::connect(&hub)).collect();
        let silent = TcpStream::connect(hub.local_addr().unwrap()).unwrap();
        hub.broadcast(vec![0; 100_000]);
        assert!(!hub_threads().is_empty() && descriptors() > before);
        if round % 2 == 0 {
            hub.shutdown_blocking(Duration::from_millis(50));
            // Though there is a handle still: all that is open is the peers' side.
            until("the hub's thread to have ended", || hub_threads().is_empty());
            assert_eq!(descriptors(), before + 21, "round {round}");
        }
        drop((hub, peers, silent));
        until("the hub's thread to have ended", || hub_threads().is_empty());
        assert_eq!(descriptors(), before, "round {round}");
    }
}

const PATIENT: Duration = Duration::from_secs(600);

/// Peers that are stuck in every way there is, and the hub that waits for them without a deadline
/// of its own.
struct Stuck {
    hub: Hub,
    peers: Vec<Peer>,
    strangers: Vec<TcpStream>,
}

impl Stuck {
    fn new(shutdown: Duration) -> Self {
        let timeouts = Timeouts::default()
            .handshake(PATIENT)
            .keepalive(PATIENT)
            .pong(PATIENT)
            .stall(PATIENT)
            .frame(PATIENT)
            .close(PATIENT)
            .shutdown(shutdown);
        let limits = Limits::default().mailbox(64 << 20);
        let builder = Hub::builder().page("x".repeat(16 << 20)).limits(limits).timeouts(timeouts);
        let hub = builder.spawn_blocking("127.0.0.1:0").unwrap();
        let address = hub.local_addr().unwrap();

        // Strangers: who ask for nothing, for half of something, who take none of their answer, and
        // who have it and stay.
        let requests: [&[u8]; 4] = [
            b"",
            b"GET / HTTP/1.1\r\nHost: ",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"nonsense\r\n\r\n",
        ];
        let strangers = requests.map(|request| {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.write_all(request).unwrap();
            socket
        });

        // Clients: idle ones that will not answer a Close; in the middle of a frame, of a message;
        // who read nothing of what they alone, or all, are owed; who have been closed, who have
        // closed, who have violated, each with a full socket and with an empty one.
        let mut peers: Vec<_> = (0..13).map(|_| Peer::connect(&hub)).collect();
        peers[1].socket.write_all(&[0x82]).unwrap();
        peers[2].socket.write_all(&[0x82, 0xfe, 0x10, 0, 0, 0, 0, 0, 1, 2, 3]).unwrap();
        peers[3].socket.write_all(&[0x01, 0x80, 0, 0, 0, 0]).unwrap();
        let full = [4, 5, 6, 7, 8];
        for index in full {
            hub.send(peers[index].id, vec![0; 16 << 20]).unwrap();
            until("its socket to be full", || {
                let client = hub.client(peers[index].id);
                client.is_some_and(|client| client.info().queued_bytes < 16 << 20)
            });
        }
        for (index, what) in [(6, 0), (7, 1), (8, 2), (9, 0), (10, 1), (11, 2)] {
            match what {
                0 => hub.disconnect(peers[index].id, "").unwrap(),
                1 => peers[index].control(Control::Close(None)),
                _ => peers[index].socket.write_all(&[0xff]).unwrap(),
            }
        }
        until("those who closed to be clients no more", || {
            [7, 9, 10, 11].iter().all(|index| hub.client(peers[*index].id).is_none())
        });
        hub.broadcast(vec![0; 6 << 20]);
        Self { hub, peers, strangers: strangers.into() }
    }
}

/// How long the end may take.
const END: Duration = Duration::from_millis(500);

#[test]
fn shutdown_with_every_peer_stuck_ends_at_its_deadline_and_nothing_is_left() {
    let _alone = alone();
    let runtime = Runtime::new().unwrap();
    let ends: [&dyn Fn(&Hub); 2] =
        [&|hub| hub.shutdown_blocking(END), &|hub| runtime.block_on(hub.shutdown())];
    for end in ends {
        let before = descriptors();
        let Stuck { hub, mut peers, strangers } = Stuck::new(END);
        let mut events = hub.events();
        let connected = hub.client_count();
        let started = Instant::now();
        end(&hub);
        let took = started.elapsed();
        assert!(took >= END * 9 / 10, "{took:?}: it did not wait for those who might still read");
        assert!(took < END + Duration::from_secs(2), "{took:?}");
        assert_eq!((hub.client_count(), hub.stats().memory), (0, 0));
        until("the hub's thread to have ended", || hub_threads().is_empty());
        // All that is open is the peers' side.
        assert_eq!(descriptors(), before + peers.len() + strangers.len());
        // Everybody who was a client is told of, once.
        let mut told = 0;
        while let Some(event) = events.recv_blocking() {
            if let Event::Gone { reason, .. } = event {
                let by_hub = reason == DisconnectReason::ByHub;
                assert!(by_hub || matches!(reason, DisconnectReason::Violation(_)), "{reason:?}");
                told += 1;
            }
        }
        assert_eq!(told, connected);
        // And everybody sees the end.
        peers.iter_mut().for_each(Peer::gone);
        drop((hub, peers, strangers));
        until("the descriptors to be closed", || descriptors() == before);
    }
}

#[test]
fn shutdown_by_dropping_the_last_handle_with_every_peer_stuck_waits_no_longer_than_a_second() {
    let _alone = alone();
    let before = descriptors();
    let Stuck { hub, mut peers, strangers } = Stuck::new(PATIENCE / 2);
    let started = Instant::now();
    drop(hub);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    until("the hub's thread to have ended", || hub_threads().is_empty());
    assert!(started.elapsed() < PATIENCE / 2);
    assert_eq!(descriptors(), before + peers.len() + strangers.len());
    peers.iter_mut().for_each(Peer::gone);
}
