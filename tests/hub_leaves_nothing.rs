//! What a hub leaves behind, counted in a process of its own.
#![cfg(target_os = "linux")]

mod peer;

use std::fs;
use std::time::Duration;

use peer::{Peer, until};
use stepcast::Hub;

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn no_thread_and_no_socket_is_left_of_a_hub_that_has_ended() {
    let before = (threads(), descriptors());
    for round in 0..10 {
        let hub = Hub::spawn_thread("127.0.0.1:0").unwrap();
        let peers: Vec<_> = (0..20).map(|_| Peer::connect(&hub)).collect();
        let silent = std::net::TcpStream::connect(hub.local_addr().unwrap()).unwrap();
        hub.broadcast(vec![0; 100_000]);
        assert!(threads() > before.0 && descriptors() > before.1);
        if round % 2 == 0 {
            hub.shutdown_blocking(Duration::from_millis(50));
            // Though there is a handle still: all that is open is the peers' side.
            assert_eq!(threads(), before.0);
            assert_eq!(descriptors(), before.1 + 21, "round {round}");
        }
        drop((hub, peers, silent));
        until("threads to be as they were", || threads() == before.0);
        assert_eq!(descriptors(), before.1, "round {round}");
    }
}
