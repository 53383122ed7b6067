//! What clients and runs are told when a hub ends. (How whole programs end is in `endings`.)

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Instant;

use crate::support::lines::V1;
use crate::support::peer::{Peer, event, until};
use crate::support::wire::PATIENCE;
use serde_json::{Value, json};
use stepcast::codec::Control;
use stepcast::{DisconnectReason, Event, Hub, SendError, Timeouts};

/// A hub that waits long for clients that do not answer its Close.
fn patient() -> Hub {
    let timeouts = Timeouts::default().close(PATIENCE).shutdown(PATIENCE);
    Hub::builder().timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap()
}

fn v1(hub: &Hub) -> V1 {
    let mut client = V1::connect(hub, &json!({"feeds": {"": {}}}));
    client.line("feed");
    client
}

fn bye(client: &mut V1) -> (Value, String) {
    let bye = client.line("bye");
    (bye["code"].clone(), bye["reason"].as_str().unwrap().to_owned())
}

#[test]
fn the_first_word_says_how_the_hub_ended_after_what_was_pushed_before_it() {
    type End = fn(&Hub);
    let cases: [(End, _, _, _); 3] = [
        (|hub| hub.finish("converged"), 1000, 4503, "converged"),
        (|hub| hub.fail("diverged"), 1011, 4504, "diverged"),
        (|hub| drop(hub.shutdown()), 1001, 4000, "the hub has ended"),
    ];
    for (end, plain_code, v1_code, reason) in cases {
        let hub = patient();
        let (mut plain, mut v1) = (Peer::connect(&hub), v1(&hub));
        hub.broadcast("LAST");
        end(&hub);
        hub.finish("too late");
        hub.fail("too late");
        assert_eq!((plain.text().as_str(), v1.line("text")[3].as_str()), ("LAST", Some("LAST")));
        let close = plain.close_frame().unwrap();
        assert_eq!((close.code().get(), close.reason()), (plain_code, reason));
        assert_eq!(bye(&mut v1), (json!(v1_code), reason.to_owned()));
        assert_eq!(v1.close_code(), v1_code);
        assert_eq!(hub.send(plain.id, ""), Err(SendError::ShutDown));
        drop((plain, v1));
        hub.shutdown_blocking(PATIENCE);
    }
}

#[test]
fn a_long_last_word_is_cut_to_what_each_wire_holds() {
    let hub = patient();
    let (mut plain, mut v1) = (Peer::connect(&hub), v1(&hub));
    hub.finish(&"ü".repeat(10_000));
    assert_eq!(plain.close_frame().unwrap().reason(), "ü".repeat(61));
    assert_eq!(bye(&mut v1).1, "ü".repeat(512));
}

#[test]
fn a_client_that_was_closed_before_keeps_its_own_reason() {
    let hub = patient();
    let (mut plain, mut v1) = (Peer::connect(&hub), v1(&hub));
    hub.disconnect(plain.id, "enough").unwrap();
    hub.disconnect(v1.id, "enough").unwrap();
    hub.fail("diverged");
    assert_eq!(plain.close_frame().unwrap().reason(), "enough");
    assert_eq!(bye(&mut v1), (json!(4501), "enough".to_owned()));
}

/// Where what is owed goes before the Close, the hub ends before the Close is due.
#[test]
fn a_client_that_was_closed_before_and_is_owed_much_keeps_its_own_reason() {
    let hub = patient();
    let (mut plain, mut v1) = (Peer::connect(&hub), v1(&hub));
    for id in [plain.id, v1.id] {
        hub.send(id, vec![0; 16 << 20]).unwrap();
        hub.disconnect(id, "enough").unwrap();
    }
    hub.fail("diverged");
    assert!(plain.message().len() == 16 << 20 && v1.binary().len() > 16 << 20);
    assert_eq!(plain.close_frame().unwrap().reason(), "enough");
    assert_eq!(bye(&mut v1), (json!(4501), "enough".to_owned()));
}

#[test]
fn who_takes_an_answer_does_not_hold_up_the_end() {
    let timeouts = Timeouts::default().close(PATIENCE).stall(PATIENCE).shutdown(PATIENCE);
    let builder = Hub::builder().timeouts(timeouts).page("x".repeat(32 << 20));
    let hub = builder.spawn_blocking("127.0.0.1:0").unwrap();
    let mut asks = TcpStream::connect(hub.local_addr().unwrap()).unwrap();
    asks.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    std::io::Read::read_exact(&mut asks, &mut [0; 8]).unwrap();
    let started = Instant::now();
    hub.shutdown_blocking(PATIENCE);
    assert!(started.elapsed() < PATIENCE / 4, "{:?}", started.elapsed());
}

#[test]
fn clients_that_come_while_the_hub_ends_hear_the_same_goodbye() {
    let hub = patient();
    let mut stays = Peer::connect(&hub); // and keeps the hub from its end
    let (away, newcomer) = (v1(&hub), V1::upgrade(&hub));
    let mut events = hub.events();
    let away = away.cut();
    event(&mut events, |event| matches!(event, Event::Detached { .. }).then_some(()));
    let silent = TcpStream::connect(hub.local_addr().unwrap()).unwrap();
    hub.finish("converged");
    assert_eq!(stays.close_code(), 1000);

    let hears = |mut client: V1| {
        assert_eq!(bye(&mut client), (json!(4503), "converged".to_owned()));
        assert_eq!(client.close_code(), 4503);
    };
    hears(newcomer);
    hears(V1::upgrade(&hub));
    let _ = away; // what it says is not asked any more
    let request = b"GET /feed/run HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut late = TcpStream::connect(hub.local_addr().unwrap()).unwrap();
    late.write_all(request).unwrap();
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut &late, &mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(b"\x03\xe8converged"));
    assert_eq!(hub.stats().feeds, 0);

    // Who asks for nothing does not hold up the end.
    stays.control(Control::Close(None));
    stays.finish();
    drop(late);
    let started = Instant::now();
    hub.shutdown_blocking(PATIENCE);
    assert!(started.elapsed() < PATIENCE / 4, "{:?}", started.elapsed());
    drop(silent);
}

#[test]
fn a_run_can_tell_a_client_that_left_from_a_hub_that_ends() {
    let hub = patient();
    let mut events = hub.events();
    let (leaves, stays, away) = (Peer::connect(&hub), Peer::connect(&hub), v1(&hub));
    let [left, there, lost] = [leaves.id, stays.id, away.id].map(|id| hub.gone_token(id));
    let ended = hub.ended_token();
    drop(leaves);
    until("it to have gone", || left.is_cancelled());
    away.cut();
    event(&mut events, |event| matches!(event, Event::Detached { .. }).then_some(()));
    assert!(!ended.is_cancelled());

    let ending = {
        let hub = hub.clone();
        thread::spawn(move || hub.shutdown_blocking(PATIENCE))
    };
    until("the end to begin", || ended.is_cancelled());
    let mut stays = stays;
    stays.close_code();
    stays.control(Control::Close(None));
    stays.finish();
    ending.join().unwrap();
    let reasons: Vec<_> = std::iter::from_fn(|| events.recv_blocking())
        .filter_map(|event| match event {
            Event::Gone { reason, .. } => Some(reason),
            _ => None,
        })
        .collect();
    assert_eq!(reasons, [DisconnectReason::ByHub, DisconnectReason::ByHub]);
    assert!(!there.is_cancelled() && !lost.is_cancelled());
    assert!(!hub.gone_token(stays.id).is_cancelled(), "it has not left");
    assert!(hub.ended_token().is_cancelled());
}

#[test]
fn the_token_of_the_end_is_the_programs_own() {
    let hub = patient();
    hub.ended_token().cancel();
    assert!(!hub.ended_token().is_cancelled());
    assert!(!Hub::disabled().ended_token().is_cancelled());
}

#[test]
fn a_runtime_that_ends_with_its_hub_is_an_end_and_no_client_has_left() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let hub =
        Hub::builder().runtime(runtime.handle().clone()).spawn_blocking("127.0.0.1:0").unwrap();
    let peer = Peer::connect(&hub);
    let (gone, ended) = (hub.gone_token(peer.id), hub.ended_token());
    drop(runtime);
    until("the end", || ended.is_cancelled());
    assert!(!gone.is_cancelled());
}

#[test]
fn a_weak_handle_and_events_keep_no_hub_alive() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let (weak, mut events) = (hub.downgrade(), hub.events());
    let same = weak.clone().upgrade().unwrap();
    assert_eq!(same.local_addr(), hub.local_addr());
    let reader = thread::spawn(move || while events.recv_blocking().is_some() {});
    drop((hub, same));
    reader.join().unwrap();
    assert!(weak.upgrade().is_none());
    assert!(Hub::disabled().downgrade().upgrade().is_some());
}

#[test]
fn a_hub_is_let_go_by_a_weak_handle_in_whatever_order() {
    // The thread that has upgraded is the last to hold the hub.
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut peer = Peer::connect(&hub);
    let weak = hub.downgrade();
    let held = weak.upgrade().unwrap();
    drop(hub);
    held.broadcast("LAST");
    let reader = thread::spawn(move || drop(held));
    assert_eq!((peer.text().as_str(), peer.close_code()), ("LAST", 1001));
    peer.finish();
    reader.join().unwrap();
    assert!(weak.upgrade().is_none());
}

type Wait<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Counts how often it is woken, and may do so badly.
struct Rings {
    count: AtomicUsize,
    badly: bool,
}

impl Wake for Rings {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        assert!(!self.badly, "a waker that panics");
    }
}

#[test]
fn a_waker_that_panics_at_the_end_of_the_hub_keeps_no_other_task_asleep() {
    let hub = patient();
    let mut stays = Peer::connect(&hub); // and keeps the hub from its end
    let rings = |badly| Arc::new(Rings { count: AtomicUsize::new(0), badly });
    let rings: Vec<_> = (0..64).map(|number| rings(number % 2 == 0)).collect();
    let mut waits: Vec<Wait<'_>> = Vec::new();
    waits.extend(rings.iter().map(|_| Box::pin(hub.shutdown()) as _));
    let mut polls = || {
        let poll = |(wait, rings): (&mut Wait<'_>, &Arc<Rings>)| {
            let waker = Waker::from(Arc::clone(rings));
            wait.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        };
        waits.iter_mut().zip(&rings).map(poll).collect::<Vec<_>>()
    };
    assert_eq!(polls(), [false; 64]);
    for _ in 0..1000 {
        let _ = pin!(hub.shutdown()).poll(&mut Context::from_waker(Waker::noop())); // and gives up
    }
    stays.close_code();
    stays.control(Control::Close(None));
    stays.finish();
    let all_are_woken = || rings.iter().all(|rings| rings.count.load(Ordering::SeqCst) == 1);
    until("each to be woken", all_are_woken);
    assert_eq!(polls(), [true; 64]);
}
