//! How a hub starts and ends, with tokio and without.

mod support;

use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::peer::{Peer, until};
use crate::support::wire::PATIENCE;
use stepcast::{DisconnectReason, Event, Hub, SendError, SpawnError, Timeouts};
use tokio::runtime::{Builder, Runtime};

fn is_handle<T: Clone + Send + Sync + 'static>(_: &T) {}

#[test]
fn a_hub_is_a_handle_that_any_thread_can_have() {
    is_handle(&Hub::disabled());
}

/// The model computes in a task that never awaits; the viewer gets what it pushes all the same.
fn a_model_that_never_awaits(runtime: &Runtime) {
    runtime.block_on(async {
        let hub = Hub::spawn("127.0.0.1:0").await.unwrap();
        let (done, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let viewer = {
            let (hub, done, stop) = (hub.clone(), Arc::clone(&done), Arc::clone(&stop));
            thread::spawn(move || {
                let mut peer = Peer::connect(&hub);
                done.store(true, Ordering::Release);
                let mut ages = Vec::new();
                for _ in 0..20 {
                    let sent: u128 = peer.text().parse().unwrap();
                    let age = since_epoch() - sent;
                    ages.push(Duration::from_micros(u64::try_from(age).unwrap()));
                }
                stop.store(true, Ordering::Release);
                ages.sort_unstable();
                ages
            })
        };
        // From here on nothing awaits: the computation has the runtime's thread for itself.
        let started = Instant::now();
        let mut pushed = started;
        let mut work = 1u64;
        while !stop.load(Ordering::Acquire) {
            assert!(started.elapsed() < PATIENCE, "nothing was delivered");
            work = std::hint::black_box(work.wrapping_mul(6_364_136_223_846_793_005) + 1);
            if done.load(Ordering::Acquire) && pushed.elapsed() > Duration::from_millis(20) {
                pushed = Instant::now();
                hub.broadcast(since_epoch().to_string());
            }
        }
        // A machine that is busy elsewhere holds up one or the other; a hub that had to wait for the
        // model would be late with all.
        let ages = viewer.join().unwrap();
        assert!(ages[10] < Duration::from_millis(100), "a viewer waited {ages:?}");
    });
}

fn since_epoch() -> u128 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros()
}

#[test]
fn viewers_are_served_within_100_ms_while_a_current_thread_runtime_computes() {
    a_model_that_never_awaits(&Builder::new_current_thread().enable_all().build().unwrap());
}

#[test]
fn viewers_are_served_within_100_ms_while_a_multi_thread_runtime_computes() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    a_model_that_never_awaits(&runtime);
}

#[test]
fn a_hub_runs_on_a_runtime_that_it_is_given_and_ends_with_it() {
    for runtime in [
        Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
        Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap(),
    ] {
        let hub =
            Hub::builder().runtime(runtime.handle().clone()).spawn_blocking("127.0.0.1:0").unwrap();
        let mut peer = Peer::connect(&hub);
        hub.send(peer.id, "one").unwrap();
        hub.broadcast("two");
        assert_eq!((peer.text(), peer.text()), ("one".into(), "two".into()));
        runtime.shutdown_timeout(PATIENCE);
        peer.gone();
        assert_eq!(hub.send(peer.id, "x"), Err(SendError::ShutDown));
        assert_eq!(hub.client_count(), 0);
        hub.shutdown_blocking(PATIENCE); // nothing to wait for
    }
}

#[test]
fn shutting_down_delivers_what_was_pushed_and_closes_with_1001() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut peers: Vec<_> = (0..5).map(|_| Peer::connect(&hub)).collect();
    for number in 0..100 {
        hub.broadcast(number.to_string());
        hub.send(peers[0].id, format!("own {number}")).unwrap();
    }
    let first = peers[0].id;
    let ending = {
        let hub = hub.clone();
        thread::spawn(move || hub.shutdown_blocking(PATIENCE))
    };
    for (index, peer) in peers.iter_mut().enumerate() {
        for number in 0..100 {
            assert_eq!(peer.text(), number.to_string());
            if index == 0 {
                assert_eq!(peer.text(), format!("own {number}"));
            }
        }
        let close = peer.close_frame().unwrap();
        assert_eq!(close.code().get(), 1001);
        peer.control(stepcast::codec::Control::Close(Some(close)));
        peer.rest();
        peer.finish();
    }
    ending.join().unwrap();
    assert_eq!(hub.send(first, "x"), Err(SendError::ShutDown));
    hub.broadcast("x");
    hub.broadcast("x");
    assert_eq!(hub.stats().refused_pushes.shut_down, 3);
    assert!(TcpStream::connect(hub.local_addr().unwrap()).is_err(), "still listening");
}

#[test]
fn shutting_down_waits_no_longer_than_it_was_told() {
    let timeouts = Timeouts::default().shutdown(Duration::from_millis(300));
    let hub = Hub::builder().timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap();
    // Peers that never answer a Close, and one that reads nothing of what fills its socket.
    let mut peers: Vec<_> = (0..3).map(|_| Peer::connect(&hub)).collect();
    for _ in 0..64 {
        let _ = hub.send(peers[0].id, vec![0u8; 1 << 20]);
    }
    let started = Instant::now();
    Runtime::new().unwrap().block_on(hub.shutdown());
    let took = started.elapsed();
    // The driver's clock counts whole milliseconds.
    assert!(took >= Duration::from_millis(299) && took < PATIENCE / 2, "{took:?}");
    assert_eq!(hub.stats().memory, 0);
    peers.iter_mut().for_each(Peer::gone);
}

#[test]
fn shutting_down_within_any_time_at_all_waits_for_every_reader() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut peer = Peer::connect(&hub);
    hub.broadcast(vec![7; 20 << 20]); // more than the sockets hold
    let ending = thread::spawn(move || hub.shutdown_blocking(Duration::MAX));
    assert_eq!(peer.message().len(), 20 << 20);
    assert_eq!(peer.close_code(), 1001);
    drop(peer);
    ending.join().unwrap();
}

#[test]
fn a_connection_that_never_asked_for_anything_does_not_hold_up_the_end() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let silent = TcpStream::connect(hub.local_addr().unwrap()).unwrap();
    drop(Peer::connect(&hub)); // accepted after it
    let started = Instant::now();
    hub.shutdown_blocking(PATIENCE / 2);
    assert!(started.elapsed() < PATIENCE / 4, "{:?}", started.elapsed());
    drop(silent);
}

#[test]
fn a_client_that_is_cut_by_the_end_is_told_of() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let peer = Peer::connect(&hub);
    hub.send(peer.id, vec![0; 40 << 20]).unwrap(); // which it does not read
    hub.shutdown_blocking(Duration::from_millis(100));
    let mut reasons = Vec::new();
    while let Some(event) = events.recv_blocking() {
        if let Event::Gone { reason, .. } = event {
            reasons.push(reason);
        }
    }
    assert_eq!(reasons, [DisconnectReason::ByHub]);
}

#[test]
fn an_earlier_end_than_the_one_asked_for_first_counts() {
    let patient = Timeouts::default().shutdown(PATIENCE).close(PATIENCE);
    let hub = Hub::builder().timeouts(patient).spawn_blocking("127.0.0.1:0").unwrap();
    let _peer = Peer::connect(&hub); // never answers the Close
    let ending = {
        let hub = hub.clone();
        thread::spawn(move || hub.shutdown_blocking(PATIENCE))
    };
    let someone = "4711".parse().unwrap();
    until("the end to have begun", || hub.send(someone, "") == Err(SendError::ShutDown));
    let started = Instant::now();
    hub.shutdown_blocking(Duration::from_millis(100));
    ending.join().unwrap();
    assert!(started.elapsed() < PATIENCE / 4, "{:?}", started.elapsed());
}

#[test]
fn an_async_shutdown_on_a_runtime_that_was_given_waits_for_the_end() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let short = Timeouts::default().shutdown(Duration::from_millis(100));
    let hub = Hub::builder()
        .timeouts(short)
        .runtime(runtime.handle().clone())
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let mut peer = Peer::connect(&hub); // never answers the Close
    runtime.block_on(hub.shutdown());
    assert_eq!(hub.client_count(), 0);
    assert!(TcpStream::connect(hub.local_addr().unwrap()).is_err(), "still listening");
    peer.gone();
}

#[test]
fn an_async_shutdown_can_be_awaited_on_a_current_thread_runtime() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let hub = Hub::spawn("127.0.0.1:0").await.unwrap();
        let clone = hub.clone();
        tokio::join!(hub.shutdown(), clone.shutdown());
    });
}

#[test]
fn dropping_the_last_handle_delivers_and_closes_and_dropping_another_does_not() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut peer = Peer::connect(&hub);
    drop(hub.clone());
    hub.broadcast("the last words");
    let reader = thread::spawn(move || {
        assert_eq!(peer.text(), "the last words");
        assert_eq!(peer.close_code(), 1001);
        peer.control(stepcast::codec::Control::Close(None));
        peer.rest();
    });
    drop(hub);
    reader.join().unwrap();
}

#[test]
fn dropping_the_last_handle_outside_a_runtime_waits_at_most_a_second() {
    // On a busy machine one drop may take longer. Without the limit each would.
    let is_in_time = (0..5).any(|_| {
        let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
        let mut peer = Peer::connect(&hub); // never answers the Close
        let started = Instant::now();
        drop(hub);
        let took = started.elapsed();
        peer.gone();
        assert!(took > Duration::from_millis(500), "{took:?}");
        took < Duration::from_millis(1500)
    });
    assert!(is_in_time);
}

#[test]
fn dropping_the_last_handle_in_a_runtime_does_not_hold_up_its_thread() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    // On a busy machine one drop may take longer. One that waits for the end would each time.
    let is_quick = (0..5).any(|_| {
        let (mut peer, took) = runtime.block_on(async {
            let hub = Hub::spawn("127.0.0.1:0").await.unwrap();
            let peer = Peer::connect(&hub);
            hub.broadcast("the last words");
            let started = Instant::now();
            drop(hub);
            (peer, started.elapsed())
        });
        assert_eq!(peer.text(), "the last words");
        assert_eq!(peer.close_code(), 1001);
        took < Duration::from_millis(400)
    });
    assert!(is_quick);
}

/// A program's last message is not lost by returning from `main`: this test runs itself again, as
/// a program that pushes one message and returns.
#[test]
fn a_programs_last_message_is_not_lost_by_returning_from_main() {
    const ADDRESS_FILE: &str = "STEPCAST_TEST_ADDRESS_FILE";
    if let Ok(file) = std::env::var(ADDRESS_FILE) {
        let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
        std::fs::write(&file, hub.local_addr().unwrap().to_string()).unwrap();
        until("a viewer", || hub.client_count() > 0);
        hub.broadcast("the result");
        return; // drops the hub; the test harness then ends the process
    }
    let file = std::env::temp_dir().join(format!("stepcast-{}", std::process::id()));
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_programs_last_message_is_not_lost_by_returning_from_main"])
        .env(ADDRESS_FILE, &file)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut address = None;
    until("the program's address", || {
        address = std::fs::read_to_string(&file).ok().and_then(|text| text.parse().ok());
        address.is_some()
    });
    let mut peer = Peer::connect_to(address.unwrap());
    assert_eq!(peer.text(), "the result");
    assert_eq!(peer.close_code(), 1001);
    assert!(program.wait().unwrap().success());
    std::fs::remove_file(file).unwrap();
}

/// A hub on the program's own runtime is held up by what the program computes there. Whoever
/// answered in time is not to be cut for that.
#[test]
fn a_hub_that_was_held_up_does_not_cut_those_who_answered() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let timeouts =
        Timeouts::default().keepalive(Duration::from_millis(100)).pong(Duration::from_millis(200));
    let hub = Hub::builder()
        .timeouts(timeouts)
        .runtime(runtime.handle().clone())
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let address = hub.local_addr().unwrap();
    let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
    thread::spawn(move || {
        let mut peer = Peer::connect_to(address);
        while let stepcast::codec::Incoming::Control(stepcast::codec::Control::Ping(ping)) =
            peer.recv()
        {
            peer.control(stepcast::codec::Control::Pong(ping));
            if answered.send(()).is_err() {
                return;
            }
        }
    });
    let mut events = hub.events();
    let mut until_answered = || {
        while answers.try_recv().is_ok() {} // earlier ones
        let answer = async { tokio::time::timeout(PATIENCE, answers.recv()).await };
        runtime.block_on(answer).expect("a ping").expect("an answer");
    };
    until_answered();
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(500)); // nobody drives the runtime
        until_answered(); // a tick has passed, which looks at every deadline
    }
    while let Some(event) = events.try_recv() {
        assert!(!matches!(event, Event::Gone { .. }), "{event:?}");
    }
}

#[test]
fn a_runtime_that_lacks_what_the_hub_needs_is_an_error() {
    for runtime in [
        Builder::new_multi_thread().worker_threads(1).build().unwrap(),
        Builder::new_multi_thread().worker_threads(1).enable_io().build().unwrap(),
        Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap(),
    ] {
        let builder = Hub::builder().runtime(runtime.handle().clone());
        let error = builder.spawn_blocking("127.0.0.1:0").unwrap_err();
        assert!(matches!(error, SpawnError::Runtime), "{error}");
        assert!(error.to_string().contains("enable_all"), "{error}");
    }
}
