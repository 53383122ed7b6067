//! Code of the program's that the hub runs, or that runs it: destructors of payloads, and wakers.

mod support;

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::support::lines::V1;
use crate::support::peer::{Peer, until};
use crate::support::wire;
use bytes::Bytes;
use serde_json::json;
use stepcast::handshake::Request;
use stepcast::{Hub, Limits, Message};

/// A payload whose destructor calls the hub, and then panics.
struct Lent {
    hub: Hub,
    dropped: Arc<AtomicUsize>,
    bytes: Vec<u8>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let hub = &self.hub;
        for client in hub.clients() {
            let _ = (hub.set(client.id(), "dropped", "one"), hub.gone_token(client.id()));
        }
        let _ = (hub.stats(), hub.feed("run").map(|feed| feed.name().len()));
        self.dropped.fetch_add(1, Ordering::Relaxed);
        resume_unwind(Box::new("on purpose")); // a panic, without a line about it
    }
}

struct Lender {
    hub: Hub,
    lent: usize,
    dropped: Arc<AtomicUsize>,
}

impl Lender {
    fn new(hub: &Hub) -> Self {
        Self { hub: hub.clone(), lent: 0, dropped: Arc::default() }
    }

    fn lend(&mut self, bytes: usize) -> Message {
        self.lent += 1;
        let (hub, dropped) = (self.hub.clone(), Arc::clone(&self.dropped));
        Message::Binary(Bytes::from_owner(Lent { hub, dropped, bytes: vec![7; bytes] }))
    }
}

/// A payload that says on which thread it is dropped.
struct Traced(String, mpsc::Sender<ThreadId>);

impl AsRef<[u8]> for Traced {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.1.send(thread::current().id());
    }
}

/// Freed by the hub's thread, payloads would have the two threads meet in the allocator's lock.
#[test]
fn in_a_hot_loop_small_payloads_are_dropped_by_the_thread_that_pushes_them() {
    let (asked, is_held) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let rule = move |_: &str, _: &Request| {
        let _ = (asked.send(()), released.lock().unwrap().recv());
        true
    };
    let hub = Hub::builder().authorize_follow(rule).spawn_blocking("127.0.0.1:0").unwrap();
    let (mut all, feed) = (Peer::connect(&hub), hub.feed("run").unwrap());
    let (sender, dropped) = mpsc::channel();
    thread::scope(|scope| {
        let run = scope.spawn(|| Peer::connect_at(&hub, "/feed/run"));
        is_held.recv().unwrap(); // from now on every loop is faster than the hub
        let mut pushes = 0;
        let mut traced = || {
            pushes += 1;
            let text = Traced(format!("message {pushes}"), sender.clone());
            Message::Binary(Bytes::from_owner(text))
        };
        for _ in 0..100 {
            hub.broadcast(traced());
            feed.send(traced()).unwrap();
            hub.send(all.id, traced()).unwrap();
        }
        let here = dropped.try_iter().filter(|id| *id == thread::current().id()).count();
        assert!(here > 200, "{here} of 300");
        drop(release);
        let mut run = run.join().unwrap();
        let expect = |peer: &mut Peer, number: usize| {
            assert_eq!(peer.message().as_bytes(), format!("message {number}").as_bytes());
        };
        for number in (1..300).step_by(3) {
            expect(&mut all, number);
            expect(&mut run, number + 1);
            expect(&mut all, number + 2);
        }
    });
}

#[test]
fn a_payload_whose_destructor_calls_the_hub_and_panics_costs_nobody_anything() {
    let limits = Limits::default().mailbox(100_000).feed(200_000).keys(2);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut lender = Lender::new(&hub);
    let run = hub.feed("run").unwrap();
    let mut plain = Peer::connect_at(&hub, "/feed/run");
    let mut v1 = V1::connect(&hub, &json!({"feeds": {"": {}, "run": {}}}));
    let stalled = [Peer::connect(&hub), Peer::connect_at(&hub, "/feed/run")];
    for round in 0..40 {
        for bytes in [10, 3000, 6000, 30_000] {
            hub.broadcast(lender.lend(bytes));
            let _ = run.send(lender.lend(bytes));
            for key in ["a", "b", "c"] {
                let _ = (run.set(key, lender.lend(bytes)), hub.set(v1.id, key, lender.lend(bytes)));
            }
            for id in [plain.id, v1.id, stalled[0].id] {
                let _ = hub.send(id, lender.lend(bytes));
            }
            let within = Duration::from_millis(1);
            let _ = hub.send_timeout_blocking(plain.id, lender.lend(bytes), within);
        }
        if round % 10 == 9 {
            // It comes back, and has had all that was kept for it.
            let before = v1.cut();
            hub.send(before.id, lender.lend(90_000)).unwrap();
            v1 = before.come_back(&hub, json!({"seq": 1_000_000}), json!({"": {}}));
        }
    }
    hub.send(plain.id, "the last").unwrap();
    while plain.message().as_text() != Some("the last") {}
    drop((plain, v1, stalled, run));
    let dropped = Arc::clone(&lender.dropped);
    assert!(hub.stats().panics >= dropped.load(Ordering::Relaxed) as u64 / 2);
    let lent = lender.lent;
    lender.hub = Hub::disabled();
    let ending = thread::spawn({
        let hub = hub.clone();
        move || hub.shutdown_blocking(Duration::from_secs(5))
    });
    until("the end", || ending.is_finished());
    until("all payloads to be let go", || dropped.load(Ordering::Relaxed) == lent);
    assert_eq!(hub.stats().memory, 0);
}

#[test]
fn a_rule_whose_destructor_panics_leaves_an_end_that_comes() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            resume_unwind(Box::new("on purpose")); // a panic, without a line about it
        }
    }
    let bomb = Bomb;
    let rule = move |_: &str, _: &_| size_of_val(&bomb) == 0;
    let hub = Hub::builder().authorize_follow(rule).spawn_blocking("127.0.0.1:0").unwrap();
    let (mut peer, before) = (Peer::connect(&hub), hub.stats().panics);
    hub.send(peer.id, "the last").unwrap();
    assert_eq!(peer.text(), "the last");
    drop(peer);
    let ended = hub.ended_token();
    hub.shutdown_blocking(wire::PATIENCE);
    assert!(ended.is_cancelled() && hub.stats().panics > before);
}

#[test]
fn tokens_and_flushes_whose_wakers_panic_cost_neither_the_program_nor_the_hub_anything() {
    struct Bad(AtomicUsize);
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            resume_unwind(Box::new("on purpose")); // a panic, without a line about it
        }
    }
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let (leaves, mut stays) = (Peer::connect(&hub), Peer::connect(&hub));
    let bad = Arc::new(Bad(AtomicUsize::new(0)));
    let woken = || bad.0.load(Ordering::SeqCst);
    let waker = Arc::clone(&bad).into();
    let mut cx = Context::from_waker(&waker);
    hub.send(leaves.id, vec![0; 16 << 20]).unwrap(); // which it does not read
    let mut flushed = Box::pin(hub.flush(Duration::from_millis(50)));
    assert!(flushed.as_mut().poll(&mut cx).is_pending());
    until("the flush to be answered", || woken() == 1);
    let (gone, ended) = (hub.gone_token(leaves.id), hub.ended_token());
    let mut gone = Box::pin(gone.cancelled());
    assert!(gone.as_mut().poll(&mut cx).is_pending());
    drop(leaves);
    until("it to have gone", || woken() == 2);
    hub.broadcast("the hub goes on");
    assert_eq!(stays.text(), "the hub goes on");
    let mut end = Box::pin(ended.cancelled());
    assert!(end.as_mut().poll(&mut cx).is_pending());
    hub.finish("converged");
    assert_eq!((woken(), stays.close_code()), (3, 1000));
}
