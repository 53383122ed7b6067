//! Many clients that say as much as they may, or more: an honest viewer is told things as soon as without them.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::bystander::Bystander;
use crate::support::lines::V1;
use crate::support::peer::until;
use serde_json::json;
use stepcast::Hub;
use stepcast::codec::{Message, MessageCodec, Role};
use tokio_util::codec::Encoder;

const HOSTILE: usize = 32;

/// One after the other: each loads the machine.
fn by_itself() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So much later than without them, for a debug build on a busy machine.
const LATER: Duration = Duration::from_millis(100);

fn frame(text: &str) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    let mut codec = MessageCodec::new(Role::Client, stepcast::codec::FrameLimits::default());
    codec.encode(Message::from(text.to_owned()), &mut bytes).unwrap();
    bytes.to_vec()
}

/// Lines, names of feeds, bytes, control frames: what counts as some 16 messages for each of so `many`.
fn kinds(many: usize) -> [Vec<u8>; 4] {
    let names = r#"{"follow":{"a":{},"b":{}}}
{"unfollow":["a","b"]}
"#;
    let bytes = frame(&json!({"text": "x".repeat(60_000)}).to_string());
    [
        frame(&"{\"text\":\"\"}\n".repeat(16 * many)),
        frame(&names.repeat(3 * many)),
        bytes.repeat(many.div_ceil(16)),
        b"\x8a\x80\0\0\0\0".repeat(16 * many),
    ]
}

/// How late an honest viewer is told, in the median, while this goes on.
fn lateness(hub: &Hub, meanwhile: impl FnOnce()) -> Duration {
    let bystander = Bystander::of(hub);
    meanwhile();
    let late = bystander.noticed_nothing();
    late[late.len() / 2]
}

fn alone() -> Duration {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    lateness(&hub, || thread::sleep(Duration::from_secs(1)))
}

#[test]
fn clients_that_say_as_much_as_they_may_leave_an_honest_viewers_delay_where_it_was() {
    let _turn = by_itself();
    let without = alone();
    for kind in kinds(1) {
        let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
        let mut hostile: Vec<_> =
            (0..HOSTILE).map(|_| V1::connect(&hub, &json!({"feeds": {}}))).collect();
        let with = lateness(&hub, || {
            let started = Instant::now();
            // 50 times a second: 800 of the 1000.
            for round in 0..50 {
                for client in &mut hostile {
                    client.flood(&kind, 1);
                }
                let due = Duration::from_millis(20) * round;
                thread::sleep(due.saturating_sub(started.elapsed()));
            }
        });
        assert!(with <= without + LATER, "{with:?} late, and {without:?} without them");
        until("the viewer to be gone", || hub.client_count() <= HOSTILE);
        assert_eq!(hub.client_count(), HOSTILE, "they were within their rate");
    }
}

#[test]
fn clients_that_say_far_more_than_they_may_leave_an_honest_viewers_delay_where_it_was() {
    let _turn = by_itself();
    let without = alone();
    for kind in kinds(250) {
        let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
        let over = AtomicBool::new(false);
        let with = thread::scope(|scope| {
            scope.spawn(|| {
                // Who is closed comes back, and does it again.
                while !over.load(Ordering::Relaxed) {
                    let clients = (0..HOSTILE).map(|_| V1::connect(&hub, &json!({"feeds": {}})));
                    for mut client in clients.collect::<Vec<_>>() {
                        client.flood(&kind, 4);
                    }
                }
            });
            lateness(&hub, || {
                thread::sleep(Duration::from_secs(1));
                over.store(true, Ordering::Relaxed);
            })
        });
        assert!(with <= without + LATER, "{with:?} late, and {without:?} without them");
    }
}
