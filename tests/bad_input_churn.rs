//! What comes and goes leaves nothing behind: counted in a process of its own, one test at a time.
#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::support::bystander::Bystander;
use crate::support::bystander::cpu::hub_threads;
use crate::support::peer::{Peer, until};
use crate::support::wire::PATIENCE;
use socket2::SockRef;
use stepcast::codec::Control;
use stepcast::{Hub, Limits, Timeouts};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those of this process but the log's, which stays for a while after the last record.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    // A thread that has ended meanwhile has no name.
    let name =
        |task: io::Result<fs::DirEntry>| fs::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).filter(|name| name.trim_end() != "stepcast-log").count()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The memory that this process has, in KiB.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Ends it with a reset in place of an orderly end, as a program that is killed may.
fn reset(socket: &TcpStream) {
    SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
}

fn request(address: SocketAddr) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A connection that goes before it is a client's, each at another point.
fn goes_in_mid_handshake(address: SocketAddr, number: usize) {
    let mut socket = TcpStream::connect(address).unwrap();
    let request = request(address);
    let sent = match number / 2 % 5 {
        0 => &[],
        1 => &request.as_bytes()[..1],
        2 => &request.as_bytes()[..request.len() / 2],
        3 => &request.as_bytes()[..request.len() - 1],
        _ => request.as_bytes(), // it goes with the answer under way
    };
    socket.write_all(sent).unwrap();
    if number % 2 == 0 {
        reset(&socket);
    }
}

/// A client that goes again, each in another way.
fn goes_as_a_client(hub: &Hub, number: usize) {
    let mut peer = Peer::connect(hub);
    hub.send(peer.id, "hello").unwrap();
    match number % 6 {
        0 => {
            peer.control(Control::Close(None));
            while !matches!(peer.recv(), stepcast::codec::Incoming::Control(_)) {}
        }
        1 => reset(&peer.socket),
        2 => peer.socket.write_all(&[0x82, 0xfe, 0x10]).unwrap(), // in the middle of a frame
        3 => {
            // And in the middle of a message, of which the hub holds a part.
            peer.socket
                .write_all(&[&[0x02, 0xfe, 0x10, 0, 0, 0, 0, 0], &[0; 5000][..]].concat())
                .unwrap();
            reset(&peer.socket);
        }
        4 => peer.socket.write_all(&[0xff]).unwrap(), // a violation
        _ => {
            let _ = peer.socket.read(&mut [0; 16]);
        }
    }
}

#[test]
fn ten_thousand_connections_half_of_them_in_mid_handshake_leave_nothing() {
    const ROUNDS: usize = 20;
    const EACH: usize = 500;
    let _alone = alone();
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();
    let before = (threads(), descriptors());
    let mut after_warming_up = 0;
    let mut clients = 0;
    for round in 0..ROUNDS {
        thread::scope(|scope| {
            for half in 0..2 {
                let hub = &hub;
                scope.spawn(move || {
                    for number in 0..EACH / 2 {
                        if half == 0 {
                            goes_in_mid_handshake(address, number);
                        } else {
                            goes_as_a_client(hub, number);
                        }
                    }
                });
            }
        });
        clients += EACH / 2;
        until("all clients to be gone", || hub.client_count() == 0);
        until("their memory to be free", || hub.stats().memory == 0);
        until("their descriptors to be closed", || descriptors() == before.1);
        until("no thread more than before", || threads() <= before.0);
        if round == ROUNDS / 4 {
            after_warming_up = resident();
        }
    }
    let grown = resident().saturating_sub(after_warming_up);
    assert!(grown < 400, "{grown} KiB more than after a quarter of them");
    assert!(hub.stats().accepted >= clients as u64);
    // And it goes on.
    let mut peer = Peer::connect(&hub);
    hub.broadcast("goes on");
    assert_eq!(peer.text(), "goes on");
}

/// Strangers with as much of a head as there may be, and clients with as much of a message: what
/// they have the hub hold is bounded, the newest strangers have the places, and it is let go.
#[test]
fn a_crowd_in_the_middle_of_something_holds_a_bounded_memory_which_is_let_go() {
    const CROWD: usize = 400; // each with two descriptors in this process, of which 1024 are usual
    let _alone = alone();
    let limits = Limits::default().handshakes(CROWD / 2).clients_per_address(CROWD);
    let timeouts = Timeouts::default().handshake(PATIENCE).keepalive(PATIENCE);
    let hub =
        Hub::builder().limits(limits).timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();
    let bystander = Bystander::of(&hub);
    let before = (descriptors(), resident());

    let head = format!("GET /{}", "x".repeat(8000));
    let connect = |_| {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(head.as_bytes()).unwrap();
        socket
    };
    let strangers: Vec<_> = (0..CROWD).map(connect).collect();
    until("the older half to have made way", || descriptors() == before.0 + CROWD * 3 / 2);
    drop(strangers);
    until("all to be gone", || descriptors() == before.0);

    // A few bytes of a frame take no more than a little, though they were read into much.
    let mut clients: Vec<_> = (0..CROWD / 2).map(|_| Peer::connect(&hub)).collect();
    let idle = resident();
    for client in &mut clients {
        client.socket.write_all(&[0x82, 0xfe, 0x10, 0, 0, 0, 0, 0, 1, 2, 3]).unwrap();
    }
    until("their parts to be held", || hub.stats().memory >= CROWD / 2 * 3);
    let grown = resident().saturating_sub(idle);
    assert!(grown < 4 << 10, "{grown} KiB for {CROWD} times a few bytes");
    drop(clients);
    until("all to be gone", || descriptors() == before.0 && hub.client_count() == 1);

    let mut half = vec![0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    half.resize(60_000, 0);
    let mut clients: Vec<_> = (0..CROWD / 2).map(|_| Peer::connect(&hub)).collect();
    for client in &mut clients {
        client.socket.write_all(&half).unwrap();
    }
    until("their parts to be held", || hub.stats().memory >= CROWD / 2 * 59_900);
    assert!(hub.stats().memory < CROWD / 2 * 65_536 + (1 << 20), "{}", hub.stats().memory);
    let grown = resident().saturating_sub(before.1);
    assert!(grown < 48 << 10, "{grown} KiB for {} KiB", CROWD / 2 * 64);
    drop(clients);
    until("all to be gone", || descriptors() == before.0 && hub.client_count() == 1);
    bystander.noticed_nothing();
    until("the memory to be free", || hub.stats().memory == 0);
    let threads = hub_threads().len();
    drop(hub);
    until("the hub's thread to have ended", || hub_threads().len() == threads - 1);
}
