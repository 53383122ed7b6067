//! A flush: what was pushed before has been handed to the operating system.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::lines::V1;
use crate::support::peer::{Peer, until};
use crate::support::wire::PATIENCE;
use serde_json::json;
use stepcast::{FlushError, Hub, Limits};
use tokio::runtime::{Builder, Runtime};

const MIB: usize = 1 << 20;

fn hub() -> Hub {
    let limits = Limits::default().mailbox(64 * MIB);
    Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap()
}

/// Reads so many bytes of messages, slowly, and then the rest.
fn read(mut peer: Peer, mut bytes: usize, pause: Duration) -> Peer {
    while bytes > 0 {
        bytes -= peer.message().len();
        thread::sleep(pause);
    }
    peer
}

#[test]
fn a_flush_returns_when_all_has_left_for_every_client_that_reads_on_either_wire() {
    let hub = hub();
    let idle = Peer::connect(&hub);
    let readers: Vec<_> = (0..5).map(|_| Peer::connect(&hub)).collect();
    let mut v1 = V1::connect(&hub, &json!({"feeds": {"": {}}}));
    v1.line("feed");
    let ids: Vec<_> = readers.iter().map(|peer| peer.id).collect();
    let everybody: Vec<_> = ids.iter().chain([&v1.id, &idle.id]).copied().collect();
    hub.flush_blocking(Duration::ZERO).unwrap_or_else(|error| panic!("{error}, and nothing waits"));
    thread::scope(|scope| {
        for _ in 0..200 {
            for id in &ids {
                hub.send(*id, vec![7; 64 << 10]).unwrap();
            }
            hub.send(v1.id, "x".repeat(1 << 10)).unwrap();
        }
        hub.broadcast("to all");
        let bytes = 200 * (64 << 10) + "to all".len();
        // They stay when they have it all.
        let read = |peer| scope.spawn(move || read(peer, bytes, Duration::ZERO));
        let _readers: Vec<_> = readers.into_iter().map(read).collect();
        scope.spawn(|| (0..=200).for_each(|_| drop(v1.line("text"))));
        hub.flush_blocking(PATIENCE).unwrap();
        for id in everybody {
            assert_eq!(hub.client(id).unwrap().info().queued_bytes, 0);
        }
    });
}

#[test]
fn clients_that_do_not_read_are_counted_when_the_time_is_up() {
    let hub = hub();
    let stalled: Vec<_> = (0..2).map(|_| Peer::connect(&hub)).collect();
    let mut reads = Peer::connect(&hub);
    for peer in &stalled {
        hub.send(peer.id, vec![0; 32 * MIB]).unwrap();
    }
    hub.send(reads.id, "read").unwrap();
    let within = Duration::from_millis(100);
    let started = Instant::now();
    assert_eq!(hub.flush_blocking(within), Err(FlushError::TimedOut { clients: 2 }));
    assert!(started.elapsed() >= within && started.elapsed() < PATIENCE / 2);
    assert_eq!(reads.text(), "read");
    let runtime = Runtime::new().unwrap();
    assert_eq!(runtime.block_on(hub.flush(within)), Err(FlushError::TimedOut { clients: 2 }));
    // Those who leave do not count any more, either for a flush that has begun, as the second answer says.
    let waits = hub.flush(PATIENCE);
    hub.flush_blocking(within).unwrap_err();
    drop(stalled);
    runtime.block_on(waits).unwrap();
    hub.flush_blocking(PATIENCE).unwrap();
}

#[test]
fn a_flush_is_not_kept_waiting_by_what_is_pushed_after_it() {
    // Where nobody is asked what it has read, something waits for their sockets all the time.
    let hub = Hub::builder().freshness(Duration::ZERO).spawn_blocking("127.0.0.1:0").unwrap();
    let done = AtomicBool::new(false);
    // They are behind all the time, so that something of theirs is always being written.
    let slow: Vec<_> = (0..4).map(|_| Peer::connect(&hub)).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                hub.broadcast(vec![7; 10_000]);
            }
        });
        for mut peer in slow {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    peer.message();
                    thread::sleep(Duration::from_micros(500));
                }
            });
        }
        until("them to be behind", || hub.stats().skipped > 0);
        for _ in 0..5 {
            let flushed = hub.flush_blocking(PATIENCE);
            if flushed.is_err() {
                done.store(true, Ordering::Relaxed);
            }
            flushed.unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_flush_of_a_hub_that_has_ended_says_so() {
    let hub = hub();
    let stalled = Peer::connect(&hub);
    hub.send(stalled.id, vec![0; 32 * MIB]).unwrap();
    let waits = hub.flush(PATIENCE);
    drop(hub.flush(PATIENCE)); // nobody waits for this one
    hub.shutdown_blocking(Duration::from_millis(50));
    let runtime = Runtime::new().unwrap();
    assert_eq!(runtime.block_on(waits), Err(FlushError::TimedOut { clients: 1 }));
    assert_eq!(hub.flush_blocking(PATIENCE), Err(FlushError::ShutDown));
    assert_eq!(Hub::disabled().flush_blocking(Duration::ZERO), Ok(()));
}

#[test]
fn a_flush_while_the_hub_ends_still_waits_for_those_who_read() {
    let hub = hub();
    let peer = Peer::connect(&hub);
    hub.send(peer.id, vec![0; 32 * MIB]).unwrap();
    let reader = thread::spawn(move || {
        let mut peer = read(peer, 32 * MIB, Duration::ZERO);
        peer.close_code()
    });
    hub.finish("converged");
    let _ = hub.flush_blocking(PATIENCE); // the hub may have ended before
    assert_eq!(reader.join().unwrap(), 1000);
}

#[test]
fn a_flush_that_holds_up_the_runtime_of_its_hub_ends_in_its_time_all_the_same() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let hub =
        Hub::builder().runtime(runtime.handle().clone()).spawn_blocking("127.0.0.1:0").unwrap();
    let flushed = runtime.block_on(async { hub.flush_blocking(Duration::from_millis(50)) });
    assert_eq!(flushed, Err(FlushError::TimedOut { clients: 0 }));
    assert_eq!(runtime.block_on(hub.flush(PATIENCE)), Ok(()));
    drop(runtime);
    assert_eq!(hub.flush_blocking(PATIENCE), Err(FlushError::ShutDown));
}
