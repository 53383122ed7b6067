//! Feeds take turns: how much one is pushed to does not decide when the others are delivered.

mod support;

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::peer::{Peer, until};
use crate::support::wire::PATIENCE;
use stepcast::Hub;

/// Reads all these sockets, and looks at nothing, until it is told to stop.
fn drain(sockets: Vec<TcpStream>, stop: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut scratch = vec![0; 64 * 1024];
        for socket in &sockets {
            socket.set_nonblocking(true).unwrap();
        }
        while !stop.load(Ordering::Relaxed) {
            for mut socket in &sockets {
                let _ = socket.read(&mut scratch); // nothing yet, as a rule
            }
        }
    })
}

#[test]
fn a_viewer_of_a_quiet_feed_does_not_wait_for_the_followers_of_a_hot_one() {
    // Nobody is asked what it has read, so that the crowd takes as much as it can.
    let hub = Hub::builder().freshness(Duration::ZERO).spawn_blocking("127.0.0.1:0").unwrap();
    let [hot, quiet] = ["hot", "quiet"].map(|name| hub.feed(name).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let crowd = (0..400).map(|_| Peer::connect_at(&hub, "/feed/hot").into_socket()).collect();
    let draining = drain(crowd, Arc::clone(&stop));
    let mut viewer = Peer::connect_at(&hub, "/feed/quiet");
    let pushing = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                hot.send("before all have the one before").unwrap();
                thread::sleep(Duration::from_micros(100));
            }
        })
    };
    let began = Instant::now();
    for _ in 0..100 {
        quiet.send("now and then").unwrap();
        assert_eq!(viewer.text(), "now and then");
    }
    // A tenth of a second or so; without turns the first of them may not come at all.
    assert!(began.elapsed() < PATIENCE);
    stop.store(true, Ordering::Relaxed);
    pushing.join().unwrap();
    draining.join().unwrap();
}

/// Thousands of feeds that are pushed to without pause are taken over in parts, between which the
/// hub serves others, and all that waits in them is bounded, so that the others' messages come
/// soon.
#[test]
fn nobody_else_waits_for_thousands_of_hot_feeds() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut viewer = Peer::connect(&hub);
    let stop = Arc::new(AtomicBool::new(false));
    let pushing: Vec<_> = (0..2)
        .map(|thread| {
            let stop = Arc::clone(&stop);
            let feed = |number| hub.feed(&format!("{thread}/{number}")).unwrap();
            let feeds: Vec<_> = (0..2000).map(feed).collect();
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for feed in &feeds {
                        let _ = feed.send("without pause"); // there may be no memory left
                    }
                }
            })
        })
        .collect();
    until("much to take over", || hub.stats().memory > 128 << 20);
    let began = Instant::now();
    for _ in 0..10 {
        drop(Peer::connect(&hub));
    }
    // Some tens of milliseconds each; a whole round of taking over takes longer here.
    hub.broadcast("to everyone");
    assert_eq!(viewer.text(), "to everyone");
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    stop.store(true, Ordering::Relaxed);
    for pushing in pushing {
        pushing.join().unwrap();
    }
}
