//! Viewers that do not keep up: the others are on time, memory is bounded, what is skipped is told.

mod support;

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::peer::{Peer, event, until};
use crate::support::slow::Slow;
use crate::support::wire::PATIENCE;
use stepcast::{DisconnectReason, Event, Hub, Limits, Overflow, SendError, Timeouts};

const PATIENT: Duration = Duration::from_secs(600);

/// A hub whose stalled clients are not cut while a test looks at them.
fn patient() -> stepcast::HubBuilder {
    Hub::builder().timeouts(Timeouts::default().stall(PATIENT).frame(PATIENT).keepalive(PATIENT))
}

#[test]
fn a_stalled_client_delays_neither_the_others_nor_the_pushing_thread() {
    let hub = patient().spawn_blocking("127.0.0.1:0").unwrap();
    let stalled = Peer::connect(&hub);
    let mut reader = Peer::connect(&hub);
    let mut pushes = Vec::new();
    for number in 0..300u32 {
        let mut message = vec![0; 256 * 1024]; // 75 MiB in all, none of which is read over there
        message[..4].copy_from_slice(&number.to_le_bytes());
        let started = Instant::now();
        hub.broadcast(message);
        pushes.push(started.elapsed());
        let started = Instant::now();
        let received = reader.message();
        assert_eq!(received.as_bytes()[..4], number.to_le_bytes());
        assert!(started.elapsed() < PATIENCE / 4, "{:?}", started.elapsed());
    }
    // A busy machine holds up one or the other; a push that waited for the stalled client would be
    // held up each time.
    pushes.sort_unstable();
    assert!(pushes[270] < Duration::from_millis(500), "{pushes:?}");
    assert!(pushes[299] < Duration::from_secs(3), "{pushes:?}");
    let info = hub.client(stalled.id).unwrap().info();
    assert!(info.skipped > 0, "{info:?}");
    assert_eq!(hub.client(reader.id).unwrap().info().skipped, 0);
    assert_eq!(hub.stats().skipped, info.skipped);
    // The window, its twin while it is taken over, and what one connection has taken up.
    assert!(hub.stats().memory <= 17 << 20, "{}", hub.stats().memory);
}

#[test]
fn a_client_that_fell_behind_skips_to_the_middle_and_then_gets_everything() {
    let limits = Limits::default().feed(1 << 20);
    let hub = patient().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut slow = Peer::connect(&hub);
    let mut fast = Peer::connect(&hub);
    let total = 4000u32;
    for number in 0..total {
        let mut message = vec![0; 16 * 1024];
        message[..4].copy_from_slice(&number.to_le_bytes());
        hub.broadcast(message);
        assert_eq!(fast.message().as_bytes()[..4], number.to_le_bytes());
    }
    // What arrives is in order; gaps are few, and they add up to what was counted.
    let (mut next, mut gaps, mut skipped) = (0, 0, 0);
    while next < total {
        let number = u32::from_le_bytes(slow.message().as_bytes()[..4].try_into().unwrap());
        assert!(number >= next);
        if number > next {
            gaps += 1;
            skipped += number - next;
        }
        next = number + 1;
    }
    assert!((1..40).contains(&gaps), "{gaps} gaps");
    assert_eq!(hub.client(slow.id).unwrap().info().skipped, u64::from(skipped));
}

#[test]
fn a_full_mailbox_loses_its_older_half_and_says_how_many() {
    let limits = Limits::default().mailbox(256 * 1024);
    let hub = patient().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut peer = Peer::connect(&hub);
    let total = 3000u32;
    for number in 0..total {
        let mut message = vec![0; 16 * 1024];
        message[..4].copy_from_slice(&number.to_le_bytes());
        hub.send(peer.id, message).unwrap();
        assert!(hub.stats().memory < 1 << 20, "{}", hub.stats().memory);
    }
    let skipped = hub.client(peer.id).unwrap().info().skipped;
    assert!(skipped > 0);
    let (mut next, mut missing) = (0, 0);
    while next < total {
        let number = u32::from_le_bytes(peer.message().as_bytes()[..4].try_into().unwrap());
        missing += number - next;
        next = number + 1;
    }
    assert_eq!(u64::from(missing), skipped);
    until("the memory to be free", || hub.stats().memory == 0);
}

#[test]
fn where_the_policy_is_to_refuse_a_full_mailbox_refuses_and_loses_nothing() {
    let limits = Limits::default().mailbox(256 * 1024);
    let hub =
        patient().limits(limits).overflow(Overflow::Refuse).spawn_blocking("127.0.0.1:0").unwrap();
    let mut peer = Peer::connect(&hub);
    let mut taken = 0u32;
    loop {
        let mut message = vec![0; 16 * 1024];
        message[..4].copy_from_slice(&taken.to_le_bytes());
        match hub.send(peer.id, message) {
            Ok(()) => taken += 1,
            Err(error) => {
                assert_eq!(error, SendError::Full(peer.id));
                break;
            }
        }
    }
    for number in 0..taken {
        assert_eq!(peer.message().as_bytes()[..4], number.to_le_bytes());
    }
    until("room for more", || hub.send(peer.id, "again").is_ok());
    assert_eq!(peer.text(), "again");
    assert_eq!(hub.stats().skipped, 0);
}

#[test]
fn where_the_policy_is_to_disconnect_a_client_that_falls_behind_is_closed() {
    for to_all in [false, true] {
        let limits = Limits::default().mailbox(256 * 1024).feed(256 * 1024);
        let hub = patient()
            .limits(limits)
            .overflow(Overflow::Disconnect)
            .spawn_blocking("127.0.0.1:0")
            .unwrap();
        let mut events = hub.events();
        let mut slow = Peer::connect(&hub);
        let mut fast = Peer::connect(&hub);
        while hub.client(slow.id).is_some() {
            if to_all {
                hub.broadcast(vec![0; 16 * 1024]);
                fast.message();
            } else {
                let _ = hub.send(slow.id, vec![0; 16 * 1024]);
            }
        }
        let reason = event(&mut events, |event| match event {
            Event::Gone { id, reason } if id == slow.id => Some(reason),
            _ => None,
        });
        assert_eq!(reason, DisconnectReason::TooSlow);
        assert_eq!(slow.close_code(), 1013);
        hub.broadcast("goes on");
        while fast.message().as_text() != Some("goes on") {}
    }
}

#[test]
fn over_the_hubs_memory_limit_sending_refuses_and_the_fullest_mailboxes_give_way() {
    let limits = Limits::default().mailbox(4 << 20).memory(8 << 20);
    let hub = patient().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let peers: Vec<_> = (0..8).map(|_| Peer::connect(&hub)).collect();
    let mut refused = 0;
    for _ in 0..2000 {
        for peer in &peers {
            if hub.send(peer.id, vec![0; 64 * 1024]) == Err(SendError::NoMemory) {
                refused += 1;
            }
            assert!(hub.stats().memory <= 8 << 20, "{}", hub.stats().memory);
        }
    }
    assert!(refused > 0);
    assert!(hub.stats().skipped > 0, "the fullest mailboxes gave way");
    drop(peers);
    until("the memory to be free", || hub.stats().memory == 0);
}

/// 50 KB a second, and 8 MiB owed: its pongs come late, since it has to read what is before each ping.
#[test]
fn a_slow_reader_that_goes_on_reading_is_not_cut() {
    let timeouts = Timeouts::default()
        .stall(Duration::from_secs(4))
        .keepalive(Duration::from_secs(1))
        .pong(Duration::from_secs(3));
    let reads = |freshness| {
        let hub = Hub::builder().timeouts(timeouts.clone()).freshness(freshness);
        let hub = hub.spawn_blocking("127.0.0.1:0").unwrap();
        let mut slow = Slow::connect(&hub, 50_000);
        hub.broadcast(vec![0; 300_000]); // which takes six seconds by itself
        for _ in 0..8 << 10 {
            hub.broadcast(vec![0; 1024]);
        }
        assert!(slow.read_for(Duration::from_secs(12), |_| {}), "it was cut");
        assert!(hub.client(slow.id()).is_some());
        assert!(slow.missed < slow.read / 10, "{} of {}", slow.missed, slow.read);
    };
    thread::scope(|scope| {
        scope.spawn(|| reads(Duration::from_millis(250)));
        scope.spawn(|| reads(Duration::ZERO));
    });
}

#[test]
fn stalled_clients_do_not_hold_more_than_the_hubs_memory_limit() {
    let limits = Limits::default().memory(16 << 20);
    let hub = patient().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut stalled = Vec::new();
    for _ in 0..12 {
        // Each gets stuck in a large message of its own, which nobody else holds any more.
        let peer = Peer::connect(&hub);
        hub.send(peer.id, vec![0; 8 << 20]).ok();
        until("it to be stuck, or gone", || {
            hub.client(peer.id).is_none_or(|client| client.info().queued_bytes < 8 << 20)
        });
        hub.broadcast(vec![0; 3 << 20]);
        stalled.push(peer);
    }
    until("the limit to be kept", || hub.stats().memory <= 16 << 20);
    let mut healthy = Peer::connect(&hub);
    until("room for a healthy client", || hub.send(healthy.id, "hello").is_ok());
    while healthy.message().as_text() != Some("hello") {}
}

#[test]
fn nothing_is_kept_when_the_last_client_has_gone() {
    let hub = patient().spawn_blocking("127.0.0.1:0").unwrap();
    for _ in 0..3 {
        let stalled = Peer::connect(&hub);
        until("something to be kept for it", || {
            hub.broadcast(vec![0; 128 * 1024]);
            hub.stats().memory > 1 << 20
        });
        drop(stalled);
        until("the client to be gone", || hub.client_count() == 0);
        until("the memory to be free", || hub.stats().memory == 0);
    }
}

#[test]
fn a_message_that_takes_too_long_to_be_taken_is_cut_though_it_moves() {
    let timeouts = Timeouts::default().frame(Duration::from_millis(500));
    let hub = Hub::builder().timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let mut peer = Peer::connect(&hub);
    hub.send(peer.id, vec![0; 60 << 20]).unwrap();
    let mut bytes = vec![0; 64 * 1024];
    let started = Instant::now();
    while hub.client(peer.id).is_some() {
        let _ = peer.socket.read(&mut bytes);
        thread::sleep(Duration::from_millis(10)); // slow on purpose: six seconds and more for all
        assert!(started.elapsed() < Duration::from_secs(5), "still connected");
    }
    let reason = event(&mut events, |event| match event {
        Event::Gone { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(reason, DisconnectReason::TimedOut);
}

/// The kernel would otherwise keep what it holds for a peer that takes nothing.
#[test]
fn a_client_that_is_cut_is_reset_and_what_it_did_not_take_is_let_go() {
    let timeouts = Timeouts::default().stall(Duration::from_millis(200));
    let hub = Hub::builder().timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap();
    let mut peer = Peer::connect(&hub);
    hub.send(peer.id, vec![0; 40 << 20]).unwrap();
    until("the client to be cut", || hub.client(peer.id).is_none());
    let mut bytes = vec![0; 1 << 20];
    let error = loop {
        match peer.socket.read(&mut bytes) {
            Ok(0) => panic!("ended as if all had been sent"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_new_client_is_not_sent_what_is_kept_for_a_slow_one() {
    let hub = patient().spawn_blocking("127.0.0.1:0").unwrap();
    let stalled = Peer::connect(&hub);
    let mut fast = Peer::connect(&hub);
    while hub.stats().memory < 4 << 20 {
        hub.broadcast(vec![0; 1 << 20]);
        fast.message();
    }
    let mut late = Peer::connect(&hub);
    hub.broadcast("live");
    assert_eq!(late.text(), "live");
    drop(stalled);
}

#[test]
fn what_was_kept_for_a_slow_client_is_let_go_when_it_has_it() {
    let hub = patient().spawn_blocking("127.0.0.1:0").unwrap();
    let mut slow = Peer::connect(&hub);
    let mut fast = Peer::connect(&hub);
    let mut count = 0;
    while hub.stats().memory < 4 << 20 {
        hub.broadcast(vec![0; 1 << 20]);
        fast.message();
        count += 1;
    }
    for _ in 0..count {
        slow.message();
    }
    until("the memory to be free", || hub.stats().memory == 0);
}

/// Without `TCP_NODELAY` a second small message waits for the acknowledgement of the first, which
/// the peer's system puts off for 40 ms when the peer has something to say, too.
#[test]
fn small_messages_do_not_wait_for_each_others_acknowledgement() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let mut peer = Peer::connect(&hub);
    let mut times: Vec<_> = (0..25)
        .map(|_| {
            peer.send("?");
            event(&mut events, |event| matches!(event, Event::Message { .. }).then_some(()));
            hub.send(peer.id, "one").unwrap();
            assert_eq!(peer.text(), "one");
            let started = Instant::now();
            hub.send(peer.id, "two").unwrap();
            assert_eq!(peer.text(), "two");
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    assert!(times[12] < Duration::from_millis(20), "{times:?}");
}

#[test]
fn one_message_above_the_hubs_memory_reaches_who_reads_it() {
    let hub =
        patient().limits(Limits::default().memory(1 << 20)).spawn_blocking("127.0.0.1:0").unwrap();
    let mut peer = Peer::connect(&hub);
    hub.broadcast(vec![7; 16 << 20]);
    assert_eq!(peer.message().len(), 16 << 20);
}
