//! What a hub has allocated for its peers, compared with what it counts of it in `Stats::memory`, whatever the
//! peers do.
#![cfg(target_os = "linux")]

mod peer;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use peer::PATIENCE;
use socket2::{Domain, Socket, Type};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use stepcast::{Hub, HubBuilder, Timeouts};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What is allocated is that of all tests: they run one after the other.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that are allocated and not freed.
fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

const LONG: Duration = Duration::from_secs(600);

/// A hub that cuts nobody for being slow.
fn patient() -> HubBuilder {
    let timeouts =
        Timeouts::default().handshake(LONG).keepalive(LONG).stall(LONG).frame(LONG).close(LONG);
    Hub::builder().timeouts(timeouts).freshness(Duration::ZERO)
}

/// A peer that has nothing of its own in this process, and little room in the kernel.
fn connect(address: SocketAddr, head: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(head.as_bytes()).unwrap();
    socket
}

fn first_byte(mut socket: &TcpStream) {
    socket.read_exact(&mut [0]).unwrap();
}

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn a_page_is_not_copied_for_those_who_ask_for_it_and_do_not_read_it() {
    const PEERS: usize = 200;
    let _alone = alone();
    for head in [GET, "GET /stepcast.js HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let hub = patient().page("x".repeat(5 << 20)).spawn_thread("127.0.0.1:0").unwrap();
        let before = allocated();
        let peers: Vec<_> = (0..PEERS).map(|_| connect(hub.local_addr().unwrap(), head)).collect();
        peers.iter().for_each(first_byte);
        let each = (allocated() - before) / PEERS;
        assert!(each < 4096, "{each} bytes for each");
    }
}
