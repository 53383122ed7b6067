//! Pushes that wait for room: nobody skips, and nobody waits longer than it said.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::peer::{Peer, beside, until};
use crate::support::wire::PATIENCE;
use stepcast::{Hub, Limits, Overflow, SendError, Timeouts};
use tokio::runtime::Builder;

const PATIENT: Duration = Duration::from_secs(600);

/// A hub that keeps little for each client, and waits long for it.
fn hub() -> Hub {
    let limits = Limits::default().mailbox(256 * 1024).feed(256 * 1024);
    let timeouts = Timeouts::default().stall(PATIENT).frame(PATIENT).keepalive(PATIENT);
    Hub::builder().limits(limits).timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap()
}

fn numbered(number: u32) -> Vec<u8> {
    let mut message = vec![0; 32 * 1024];
    message[..4].copy_from_slice(&number.to_le_bytes());
    message
}

fn number_of(peer: &mut Peer) -> u32 {
    u32::from_le_bytes(peer.message().as_bytes()[..4].try_into().unwrap())
}

#[test]
fn a_client_that_reads_slowly_gets_all_and_the_program_is_slowed_down_to_it() {
    let hub = hub();
    let mut peer = Peer::connect(&hub);
    let id = peer.id;
    let sender = {
        let hub = hub.clone();
        thread::spawn(move || {
            for number in 0..600 {
                hub.send_timeout_blocking(id, numbered(number), PATIENCE).unwrap();
                assert!(hub.stats().memory <= 1 << 20, "{}", hub.stats().memory);
            }
        })
    };
    for number in 0..600 {
        if number % 100 == 0 {
            thread::sleep(Duration::from_millis(20)); // slow on purpose
        }
        assert_eq!(number_of(&mut peer), number);
    }
    sender.join().unwrap();
    assert_eq!(hub.stats().skipped, 0);
}

#[test]
fn at_a_feed_the_slowest_follower_counts_and_nobody_skips() {
    let hub = hub();
    for feed in [hub.feed("run").unwrap(), hub.everyone()] {
        let path = if feed.name().is_empty() { "/" } else { "/feed/run" };
        let mut slow = Peer::connect_at(&hub, path);
        let mut fast = Peer::connect_at(&hub, path);
        let reader =
            thread::spawn(move || (0..600).for_each(|n| assert_eq!(number_of(&mut fast), n)));
        let sender = thread::spawn(move || {
            for number in 0..600 {
                feed.send_timeout_blocking(numbered(number), PATIENCE).unwrap();
            }
        });
        for number in 0..600 {
            if number % 100 == 0 {
                thread::sleep(Duration::from_millis(20)); // slow on purpose
            }
            assert_eq!(number_of(&mut slow), number);
        }
        sender.join().unwrap();
        reader.join().unwrap();
    }
    assert_eq!(hub.stats().skipped, 0);
}

#[test]
fn a_peer_that_takes_nothing_or_drips_holds_nobody_past_the_deadline() {
    use std::io::Read;
    let hub = hub();
    let feed = hub.feed("run").unwrap();
    let silent = Peer::connect_at(&hub, "/feed/run");
    let dripping = Peer::connect_at(&hub, "/feed/run");
    let (silent_id, dripping_id) = (silent.id, dripping.id);
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&stop);
    let dripper = thread::spawn(move || {
        let mut socket = dripping.into_socket();
        while !done.load(Ordering::Relaxed) && socket.read(&mut [0; 1]).is_ok() {
            thread::sleep(Duration::from_millis(50)); // a byte now and then
        }
    });
    let within = Duration::from_millis(300);
    let timed_out = |push: &dyn Fn() -> Result<(), SendError>| {
        let started = Instant::now();
        loop {
            let waited = Instant::now();
            match push() {
                Ok(()) => assert!(started.elapsed() < PATIENCE, "never full"),
                Err(error) => {
                    assert_eq!(error, SendError::TimedOut);
                    let waited = waited.elapsed();
                    assert!(
                        waited >= within && waited < within + Duration::from_secs(3),
                        "{waited:?}"
                    );
                    return;
                }
            }
        }
    };
    timed_out(&|| hub.send_timeout_blocking(silent_id, numbered(0), within));
    timed_out(&|| hub.send_timeout_blocking(dripping_id, numbered(0), within));
    timed_out(&|| feed.send_timeout_blocking(numbered(0), within));
    stop.store(true, Ordering::Relaxed);
    drop(silent);
    dripper.join().unwrap();
}

#[test]
fn with_nobody_there_nobody_is_waited_for() {
    let hub = hub();
    let feed = hub.feed("run").unwrap();
    let started = Instant::now();
    for number in 0..2000 {
        feed.send_timeout_blocking(numbered(number), PATIENCE).unwrap();
        hub.everyone().send_timeout_blocking(numbered(number), PATIENCE).unwrap();
    }
    assert!(started.elapsed() < PATIENCE);
    let gone = "4711".parse().unwrap();
    let error = hub.send_timeout_blocking(gone, "x", PATIENCE);
    assert_eq!(error, Err(SendError::NoSuchClient(gone)));
}

#[test]
fn who_waits_for_a_client_that_leaves_or_a_hub_that_ends_is_told() {
    let hub = hub();
    let peer = Peer::connect(&hub);
    let id = peer.id;
    let fill = |hub: Hub| {
        thread::spawn(move || {
            loop {
                if let Err(error) = hub.send_timeout_blocking(id, numbered(0), PATIENCE) {
                    return error;
                }
            }
        })
    };
    let waiting = fill(hub.clone());
    until("the mailbox to be full", || {
        hub.client(id).is_some_and(|client| client.info().queued_bytes > 200 * 1024)
    });
    drop(peer);
    assert_eq!(waiting.join().unwrap(), SendError::NoSuchClient(id));

    let peer = Peer::connect(&hub);
    let feed = hub.feed("run").unwrap();
    hub.follow(peer.id, &feed).unwrap();
    let waiting = thread::spawn(move || {
        loop {
            if let Err(error) = feed.send_timeout_blocking(numbered(0), PATIENCE) {
                return error;
            }
        }
    });
    until("the feed to be full", || hub.stats().memory > 200 * 1024);
    hub.shutdown_blocking(Duration::from_millis(100));
    assert_eq!(waiting.join().unwrap(), SendError::ShutDown);
    drop(peer);
}

/// In a runtime that has neither clock nor I/O: the hub sees to both.
#[test]
fn waiting_needs_nothing_of_the_programs_runtime_and_can_be_given_up() {
    let hub = hub();
    let mut peer = Peer::connect(&hub);
    let runtime = Builder::new_current_thread().build().unwrap();
    let mut taken = 0;
    runtime.block_on(async {
        let within = Duration::from_millis(200);
        while hub.send_timeout(peer.id, numbered(taken), within).await.is_ok() {
            taken += 1;
        }
        // Given up before there is room: not taken.
        let mut given_up = Box::pin(hub.send_timeout(peer.id, numbered(u32::MAX), PATIENCE));
        std::future::poll_fn(|cx| {
            assert!(given_up.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    });
    for number in 0..taken {
        assert_eq!(number_of(&mut peer), number);
    }
    hub.send(peer.id, numbered(7)).unwrap();
    assert_eq!(number_of(&mut peer), 7);
}

#[test]
fn waiting_loses_nothing_for_anybody_whatever_the_policy() {
    for overflow in [Overflow::SkipOldest, Overflow::Refuse, Overflow::Disconnect] {
        let limits = Limits::default().mailbox(100 * 1024);
        let hub =
            Hub::builder().limits(limits).overflow(overflow).spawn_blocking("127.0.0.1:0").unwrap();
        let mut peer = Peer::connect(&hub);
        let mut taken = 0;
        while hub
            .send_timeout_blocking(peer.id, numbered(taken), Duration::from_millis(100))
            .is_ok()
        {
            taken += 1;
        }
        for number in 0..taken {
            assert_eq!(number_of(&mut peer), number);
        }
        assert!(hub.client(peer.id).is_some());
    }
}

/// The first of those that wait needs room for a large message; small ones that come later do not take it.
#[test]
fn a_large_message_that_waits_comes_before_small_ones_that_come_later() {
    let hub = hub();
    let mut peer = Peer::connect(&hub);
    let id = peer.id;
    let mut filled = 0;
    while hub.send_timeout_blocking(id, numbered(filled), Duration::from_millis(100)).is_ok() {
        filled += 1;
    }
    let large = {
        let hub = hub.clone();
        thread::spawn(move || hub.send_timeout_blocking(id, vec![1; 200 * 1024], PATIENCE))
    };
    // It has begun to wait when others that come after it do not get through either.
    let waiting = Duration::from_millis(50);
    until("the large one to wait", || {
        hub.send_timeout_blocking(id, vec![2; 1], waiting) == Err(SendError::TimedOut)
    });
    let small = {
        let hub = hub.clone();
        thread::spawn(move || {
            (0..1000).for_each(|_| hub.send_timeout_blocking(id, vec![3; 1], PATIENCE).unwrap());
        })
    };
    let mut lens = Vec::new();
    while lens.iter().filter(|len| **len == (1, 3)).count() < 1000 {
        let message = peer.message();
        lens.push((message.len(), message.as_bytes()[0]));
    }
    large.join().unwrap().unwrap();
    small.join().unwrap();
    let large = lens.iter().position(|len| len.0 == 200 * 1024).expect("it came");
    let small = lens.iter().position(|len| *len == (1, 3)).unwrap();
    assert!(large < small, "{large} {small}");
    assert_eq!(hub.stats().skipped, 0);
}

/// Many wait at a client that takes nothing, and one at a client that reads: a turn looks at a few, and wakes whom it can help.
#[test]
fn pushes_that_wait_are_not_woken_while_there_is_no_room() {
    struct Woken(std::sync::atomic::AtomicUsize);
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let hub = hub();
    let stuck = Peer::connect(&hub);
    let mut busy = Peer::connect(&hub);
    while hub.send_timeout_blocking(stuck.id, numbered(0), Duration::from_millis(100)).is_ok() {}
    let woken = Arc::new(Woken(0.into()));
    let waker = Arc::clone(&woken).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut waits: Vec<_> =
        (0..1000).map(|_| Box::pin(hub.send_timeout(stuck.id, numbered(0), PATIENT))).collect();
    assert!(waits.iter_mut().all(|wait| wait.as_mut().poll(&mut cx).is_pending()));
    for number in 0..1000 {
        hub.send_timeout_blocking(busy.id, number.to_string(), PATIENCE).unwrap();
        assert_eq!(busy.text(), number.to_string());
    }
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    drop(stuck);
    until("the first to be told that the client has gone", || woken.0.load(Ordering::SeqCst) > 0);
    // Each that has been told hands its turn on.
    for mut wait in waits {
        let told = wait.as_mut().poll(&mut cx);
        assert!(matches!(told, std::task::Poll::Ready(Err(SendError::NoSuchClient(_)))));
    }
}

/// The thread that waits is the only one that the hub could run on.
#[test]
fn a_push_that_waits_on_the_thread_that_the_hub_needs_waits_no_longer_than_it_said() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let limits = Limits::default().mailbox(64 * 1024).feed(64 * 1024);
    let builder = Hub::builder().limits(limits).runtime(runtime.handle().clone());
    let hub = builder.spawn_blocking("127.0.0.1:0").unwrap();
    let connecting = hub.clone();
    let peer = beside(&runtime, move || Peer::connect(&connecting));
    runtime.block_on(async {
        let (feed, within) = (hub.feed("run").unwrap(), Duration::from_millis(50));
        hub.send(peer.id, numbered(0)).unwrap();
        hub.send(peer.id, numbered(1)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            hub.send_timeout_blocking(peer.id, numbered(2), within),
            Err(SendError::TimedOut)
        );
        assert_eq!(feed.send_timeout_blocking(numbered(0), within), Err(SendError::TimedOut));
    });
}
