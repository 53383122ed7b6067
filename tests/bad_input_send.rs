//! Sending to who is not there, or not any more, in a process of its own, which has its own log: a
//! program that goes on sending to a browser that has been closed is the normal case.

mod peer;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use peer::{Peer, until};
use stepcast::{ClientId, Hub, SendError};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Counts all that is logged, at every level.
struct Count;

static LOGGED: AtomicU64 = AtomicU64::new(0);

impl Subscriber for Count {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("stepcast")
    }

    fn event(&self, _: &Event<'_>) {
        LOGGED.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

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
        let hub = Hub::spawn_thread("127.0.0.1:0").unwrap();
        let (peer, message) = (Peer::connect(&hub), bytes::Bytes::from(vec![0; 1000]));
        time_of(|| hub.send(peer.id, message.clone()).unwrap())
    };
    tracing::subscriber::set_global_default(Count).unwrap();
    let hub = Hub::spawn_thread("127.0.0.1:0").unwrap();
    // Enough that looking through all of them would be seen.
    let mut peers: Vec<_> = (0..200).map(|_| Peer::connect(&hub)).collect();
    let gone = peers.pop().unwrap().id;
    until("one to be gone", || hub.client_count() == peers.len());
    let unknown: ClientId = "4711".parse().unwrap();
    until("the clients' coming and going to be logged", || LOGGED.load(Ordering::Relaxed) >= 202);
    let logged = LOGGED.load(Ordering::Relaxed);

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
    let lines = LOGGED.load(Ordering::Relaxed) - logged;
    assert!(lines <= 2, "{lines} lines for thousands of calls");
}
