//! The cost of a push where each message is a string that the model allocates, beside the cost of a
//! message that needs no memory: a loop without pause on one core, the hub and its viewer on the other.
//!
//! The hub's thread frees nothing of its own here that the model's thread has not allocated. Where both need the
//! same part of the allocator, the model's thread sleeps in its lock: the kernel counts these sleeps.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stepcast::codec::Message;
use stepcast::{Hub, Limits};

use crate::calls::{self, Drain};
use crate::sys;

/// The name of the `#[global_allocator]`: see `main`.
pub const ALLOCATOR: &str = if cfg!(feature = "mimalloc") { "mimalloc" } else { "the system's" };

/// How the messages are pushed, whether somebody gets them.
pub const CASES: [(&str, bool); 7] = [
    ("broadcast", false),
    ("broadcast", true),
    ("feed.send", false),
    ("feed.send", true),
    ("feed.set", false),
    ("feed.set", true),
    ("send", true), // to nobody it is an error
];

/// Where the messages come from.
pub const KINDS: [&str; 2] = ["format!", "static"];

/// The name of a case, without spaces.
pub fn name(call: &str, is_viewed: bool, kind: &str) -> String {
    format!("{call}.{}.{kind}", if is_viewed { "one" } else { "nobody" })
}

fn message(kind: &str, step: usize) -> Message {
    match kind {
        "static" => Message::from_static(r#"{"progress":4711,"total":100000,"residual":3.2e-7}"#),
        _ => Message::from(format!(r#"{{"progress":{step},"total":100000,"residual":3.2e-7}}"#)),
    }
}

pub fn run(pushes: usize) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    for (call, is_viewed) in CASES {
        for kind in KINDS {
            let name = name(call, is_viewed, kind);
            let hub = calls::hub(Hub::builder().limits(Limits::default().clients(1)));
            let _drain = is_viewed.then(|| Drain::start(&hub, 1, 0));
            let push = pusher(&hub, call);
            (0..1000).for_each(|step| push(message(kind, step))); // what both begin with
            let flushed = hub.flush_blocking(Duration::from_secs(5));
            flushed.unwrap_or_else(|error| panic!("{name}: {error}"));
            let (slept, skipped) = (sys::sleeps(), hub.stats().skipped);
            let started = Instant::now();
            (0..pushes).for_each(|step| push(message(kind, step)));
            let time = started.elapsed().as_nanos() as f64 / pushes as f64;
            let slept = (sys::sleeps() - slept) as f64 * 1e5 / pushes as f64;
            let skipped = (hub.stats().skipped - skipped) as f64;
            for (figure, value) in [("ns", time), ("sleeps", slept), ("skipped", skipped)] {
                figures.insert(format!("{name}.{figure}"), value);
            }
        }
    }
    figures
}

fn pusher(hub: &Hub, call: &str) -> Box<dyn Fn(Message)> {
    let client = hub.clients().first().map(|client| client.id());
    let (hub, feed) = (hub.clone(), hub.feed("run").expect("a name"));
    match (call, client) {
        ("broadcast", _) => Box::new(move |message| hub.broadcast(message)),
        ("send", Some(id)) => Box::new(move |message| hub.send(id, message).expect("room")),
        _ => {
            if let Some(id) = client {
                hub.follow(id, &feed).expect("both are there");
            }
            match call {
                "feed.set" => Box::new(move |message| feed.set("progress", message).expect("room")),
                _ => Box::new(move |message| feed.send(message).expect("room")),
            }
        }
    }
}
