//! Sending to who is not there, or not any more, in a process of its own, which has its own log: a
//! program that goes on sending to a browser that has been closed is the normal case.

mod support;

use std::time::{Duration, Instant};

use crate::support::log::Log;
use crate::support::peer::{Peer, until};
use stepcast::{ClientId, Hub, SendError};
use tracing::Level;

/// What one of these calls takes, in the best of many rounds: others have the processor, too.
fn time_of(mut call: impl FnMut()) -> Duration {
    const CALLS: u32 = 200;
    let round = |_| {
        let started = Instant::now();
        (0..CALLS).for_each(|_| call());
        started.elapsed() / CALLS
    };
    (0..200).map(round).min().unwrap()
}

#[test]
fn sending_to_an_unknown_or_gone_id_is_an_error_cheap_and_logged_once() {
    // What a push to the one client of another hub takes.
    let works = {
        let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
        let (peer, message) = (Peer::connect(&hub), bytes::Bytes::from(vec![0; 1000]));
        time_of(|| hub.send(peer.id, message.clone()).unwrap())
    };
    let log = Log::of(Level::TRACE);
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    // Enough that looking through all of them would be seen.
    let mut peers: Vec<_> = (0..200).map(|_| Peer::connect(&hub)).collect();
    let gone = peers.pop().unwrap().id;
    until("one to be gone", || hub.client_count() == peers.len());
    let unknown: ClientId = "4711".parse().unwrap();
    until("the clients' coming and going to be logged", || log.count("") >= 202);
    let logged = log.count("");

    for id in [gone, unknown] {
        assert_eq!(hub.send(id, "x"), Err(SendError::NoSuchClient(id)));
        assert_eq!(hub.send(id, vec![0; 1000]), Err(SendError::NoSuchClient(id)));
        assert_eq!(hub.disconnect(id, "x"), Err(SendError::NoSuchClient(id)));
        assert!(hub.client(id).is_none());
    }
    let message = bytes::Bytes::from(vec![0; 1000]);
    for id in [gone, unknown] {
        let fails = time_of(|| assert!(hub.send(id, message.clone()).is_err()));
        assert!(fails < works * 3, "{fails:?}, where a push that works takes {works:?}");
    }
    // One line for the kind, and one more where this took ten seconds.
    let lines = log.count("") - logged;
    assert!(lines <= 2, "{lines} lines for thousands of calls");
}
