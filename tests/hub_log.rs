//! What the hub tells the program's log: browsers hide the text of a refusal, and nobody looks at what a push returns.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::log::Log;
use crate::support::peer::{Peer, exchange, until};
use crate::support::wire;
use stepcast::{ClientId, Hub, Limits, Overflow, SendError};
use tokio::runtime::Builder;
use tokio::time::timeout;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// A hub that tells this subscriber.
fn hub_with(subscriber: impl Subscriber + Send + Sync + 'static, limits: Limits) -> Hub {
    let builder = Hub::builder().limits(limits);
    tracing::subscriber::with_default(subscriber, || builder.spawn_blocking("127.0.0.1:0").unwrap())
}

#[test]
fn refused_requests_are_logged_but_not_as_many_as_peers_like() {
    let warnings = Log::warnings();
    let count = |text| warnings.count(text);
    let hub = hub_with(warnings.clone(), Limits::default());
    let address = hub.local_addr().unwrap();

    exchange(address, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    exchange(address, format!("GET /no HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes());
    until("the lines", || count("request refused") == 2);
    assert_eq!((count("status=403"), count("status=404")), (1, 1));
    assert!(count("evil.example") == 1, "the log says what was wrong");

    let mut peer = Peer::connect(&hub);
    peer.frame(stepcast::codec::Frame {
        fin: true,
        opcode: stepcast::codec::OpCode::Continuation,
        payload: bytes::Bytes::new(),
    });
    assert_eq!(peer.close_code(), 1002);
    until("the log", || count("code=1002") == 1);

    let bad = format!("GET /no HTTP/1.1\r\nHost: {address}\r\n\r\n");
    (0..100).for_each(|_| drop(exchange(address, bad.as_bytes())));
    assert!(count("request refused") < 60, "{}", count("request refused"));
    until("a line that says how many had none", || {
        exchange(address, bad.as_bytes());
        count("left_out=") >= 1
    });
}

#[test]
fn each_kind_of_refused_push_is_counted_and_logged_once_with_size_and_limit() {
    let warnings = Log::warnings();
    let lines = || warnings.text();
    let limits = Limits::default()
        .outbound_message(20_000)
        .mailbox(1000)
        .latest(5000)
        .keys(1)
        .memory(1 << 20);
    let builder = Hub::builder().limits(limits).overflow(Overflow::Refuse);
    let hub = tracing::subscriber::with_default(warnings.clone(), || {
        builder.spawn_blocking("127.0.0.1:0").unwrap()
    });
    let peer = Peer::connect(&hub);
    let nobody: ClientId = "4711".parse().unwrap();
    let feed = hub.feed("run").unwrap();
    let large = || vec![0; 20_001];
    for _ in 0..3 {
        assert!(hub.send(peer.id, large()).is_err() && hub.set(peer.id, "k", large()).is_err());
        assert!(feed.send(large()).is_err() && feed.set("k", large()).is_err());
        hub.broadcast(large());
        assert_eq!(hub.send(nobody, "x"), Err(SendError::NoSuchClient(nobody)));
        assert_eq!(hub.set(nobody, "k", "x"), Err(SendError::NoSuchClient(nobody)));
        let value = feed.set("k", vec![0; 6000]).unwrap_err();
        assert!(matches!(value, SendError::TooManyValues { value: 6000.., bytes: 5000, .. }));
        assert!(value.to_string().contains("Limits::latest"), "{value}");
        assert!(feed.set(&"k".repeat(257), "x").is_err());
        let within = Duration::from_millis(1);
        while hub.send(peer.id, vec![0; 9000]) != Err(SendError::Full(peer.id)) {}
        let timed_out = hub.send_timeout_blocking(peer.id, vec![0; 9000], within);
        assert!(matches!(timed_out, Ok(()) | Err(SendError::TimedOut)), "{timed_out:?}");
    }
    feed.finish("the last").unwrap();
    assert_eq!(feed.send("more"), Err(SendError::Finished));
    let counts = hub.stats().refused_pushes;
    assert_eq!((counts.too_large, counts.no_such_client, counts.too_many_values), (15, 6, 3));
    assert_eq!((counts.key_too_long, counts.finished), (3, 1));
    assert!(counts.full >= 3, "{counts:?}");
    hub.shutdown_blocking(Duration::from_millis(10));
    hub.broadcast("late");
    assert_eq!(hub.stats().refused_pushes.shut_down, 1);
    until("the last line", || lines().contains("shut down"));
    for (what, count) in [
        ("bytes=20001 limit=20000", 1),
        ("bytes=6000 limit=5000", 1),
        ("bytes=9000 limit=1000", 1),
        ("bytes=1 limit=256", 1),
        ("a key has at most 256 bytes, got 257", 1),
        ("the feed is finished", 1),
    ] {
        assert_eq!(lines().matches(what).count(), count, "{what}\n{}", lines());
    }
    assert!(!lines().contains(&nobody.to_string()), "that a client has left is no warning");
}

#[test]
fn want_of_memory_is_not_said_to_be_a_full_mailbox() {
    let hub = hub_with(Log::warnings(), Limits::default().memory(64 << 10));
    let peer = Peer::connect(&hub);
    assert_eq!(hub.send(peer.id, vec![0; 70 << 10]), Err(SendError::NoMemory));
    assert_eq!(hub.set(peer.id, "k", vec![0; 70 << 10]), Err(SendError::NoMemory));
    assert_eq!(hub.stats().refused_pushes.no_memory, 2);
}

#[test]
fn a_panic_of_a_payloads_destructor_is_told_to_the_log() {
    struct Bomb;
    impl AsRef<[u8]> for Bomb {
        fn as_ref(&self) -> &[u8] {
            b"bomb"
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("on purpose")); // a panic, without a line about it
        }
    }
    let warnings = Log::warnings();
    let hub = hub_with(warnings.clone(), Limits::default());
    let _peer = Peer::connect(&hub); // while somebody is there the hub looks at times
    let nobody: ClientId = "4711".parse().unwrap();
    let bomb = stepcast::Message::Binary(bytes::Bytes::from_owner(Bomb));
    assert_eq!(hub.send(nobody, bomb), Err(SendError::NoSuchClient(nobody)));
    until("the line", || warnings.count("payload's destructor") > 0);
}

/// A subscriber that waits until it may go on, or panics, or calls the hub.
#[derive(Clone)]
struct Wayward {
    log: Log,
    may_go_on: Arc<Mutex<()>>,
    hub: Arc<Mutex<Option<Hub>>>,
    lines: Arc<AtomicUsize>,
    panics: Arc<AtomicBool>,
}

impl Wayward {
    fn new() -> Self {
        Self {
            log: Log::of(Level::TRACE),
            may_go_on: Arc::default(),
            hub: Arc::default(),
            lines: Arc::default(),
            panics: Arc::default(),
        }
    }
}

impl Subscriber for Wayward {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        drop(self.may_go_on.lock());
        true
    }

    fn event(&self, event: &Event<'_>) {
        self.log.event(event);
        self.lines.fetch_add(1, Ordering::SeqCst);
        if let Some(hub) = &*self.hub.lock().unwrap() {
            hub.broadcast("a line");
            let _ = hub.send("4711".parse().unwrap(), "to nobody"); // which makes a line
        }
        drop(self.may_go_on.lock());
        if self.panics.load(Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("on purpose")); // a panic, without a line about it
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_subscriber_that_blocks_holds_up_no_viewer_no_push_and_the_end_for_a_moment() {
    let wayward = Wayward::new();
    let hub = hub_with(wayward.clone(), Limits::default().outbound_message(10));
    let address = hub.local_addr().unwrap();
    let blocked = wayward.may_go_on.lock().unwrap();
    exchange(address, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    for number in 0..400u32 {
        let mut peer = Peer::connect(&hub); // each is a line, and so is its end
        hub.broadcast("more than ten bytes");
        hub.send(peer.id, number.to_string()).unwrap();
        assert_eq!(peer.text(), number.to_string());
    }
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let end = runtime.block_on(async { timeout(wire::PATIENCE, hub.shutdown()).await });
    drop(blocked);
    end.expect("an end in time");
    let more_than = |least| wayward.lines.load(Ordering::SeqCst) > least;
    until("the lines that there was room for", || more_than(200));
    until("how many there was no room for", || wayward.log.count("lines left out") == 1);
}

#[test]
fn a_subscriber_that_panics_or_calls_the_hub_costs_its_own_lines() {
    let wayward = Wayward::new();
    let hub = hub_with(wayward.clone(), Limits::default());
    *wayward.hub.lock().unwrap() = Some(hub.clone());
    wayward.panics.store(true, Ordering::SeqCst);
    let mut peer = Peer::connect(&hub);
    exchange(hub.local_addr().unwrap(), b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(peer.text(), "a line");
    until("the panics", || hub.stats().panics >= 2);
    *wayward.hub.lock().unwrap() = None;
    drop(peer);
    // What there is to say is said before the end is.
    let before = wayward.lines.load(Ordering::SeqCst);
    let _last = Peer::connect(&hub);
    hub.shutdown_blocking(wire::PATIENCE);
    assert!(wayward.lines.load(Ordering::SeqCst) >= before + 2);
}

/// Holds the last handle of its hub until there is a line, and says how long the drop of it takes.
#[derive(Clone, Default)]
struct Holder {
    hub: Arc<Mutex<Option<Hub>>>,
    took: Arc<Mutex<Option<Duration>>>,
}

impl Subscriber for Holder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, _: &Event<'_>) {
        let last = self.hub.lock().unwrap().take();
        let started = Instant::now();
        drop(last);
        *self.took.lock().unwrap() = Some(started.elapsed());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_subscriber_that_drops_the_last_handle_does_not_wait_for_an_end_that_waits_for_it() {
    // On a machine that is busy one may take long. Waiting for each other would take long each time.
    let is_quick = (0..10).any(|_| {
        let holder = Holder::default();
        let hub = hub_with(holder.clone(), Limits::default());
        let (address, ended) = (hub.local_addr().unwrap(), hub.ended_token());
        *holder.hub.lock().unwrap() = Some(hub);
        exchange(address, format!("GET /no HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes());
        until("the drop", || holder.took.lock().unwrap().is_some());
        assert!(ended.is_cancelled());
        holder.took.lock().unwrap().unwrap() < Duration::from_millis(300)
    });
    assert!(is_quick);
}
