//! What the hub logs, in a process of its own: browsers hide the text of a refusal, so the log has it.

mod peer;

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use peer::{Peer, exchange, until};
use stepcast::{Hub, Limits};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps the warnings, each as one line.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
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
fn refusals_are_logged_but_not_as_many_as_peers_like_and_what_is_only_counted_is_logged_once() {
    let warnings = Warnings::default();
    tracing::subscriber::set_global_default(warnings.clone()).unwrap();
    let count =
        |what: &str| warnings.0.lock().unwrap().iter().filter(|line| line.contains(what)).count();
    let limits = Limits::default().outbound_message(10);
    let hub = Hub::builder().limits(limits).spawn_thread("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();

    exchange(address, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    exchange(address, format!("GET /no HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes());
    assert_eq!(count("request refused"), 2);
    assert_eq!((count("status=403"), count("status=404")), (1, 1));
    assert!(count("evil.example") == 1, "the log says what was wrong");

    let mut peer = Peer::connect(&hub);
    let _ = hub.send(peer.id, "more than ten bytes"); // an error that the caller sees
    assert_eq!(count("broadcast not sent"), 0);
    (0..3).for_each(|_| hub.broadcast("more than ten bytes"));
    assert_eq!(count("broadcast not sent"), 1);

    peer.frame(stepcast::codec::Frame {
        fin: true,
        opcode: stepcast::codec::OpCode::Continuation,
        payload: bytes::Bytes::new(),
    });
    assert_eq!(peer.close_code(), 1002);
    until("the log", || count("code=1002") == 1);

    let bad = format!("GET /no HTTP/1.1\r\nHost: {address}\r\n\r\n");
    (0..100).for_each(|_| drop(exchange(address, bad.as_bytes())));
    assert!((3..60).contains(&count("request refused")), "{}", count("request refused"));
    until("a line that says how many had none", || {
        exchange(address, bad.as_bytes());
        count("left_out=") >= 1
    });

    hub.shutdown_blocking(Duration::from_secs(1));
    (0..3).for_each(|_| hub.broadcast("late"));
    assert_eq!(count("after the hub's end"), 1);
}
