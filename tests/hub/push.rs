//! What is pushed arrives: to whom, in which order, as what.

use std::thread;

use crate::support::peer::{Peer, until};
use stepcast::{Hub, Limits, Message, SendError, Text};

fn hub() -> Hub {
    Hub::spawn_blocking("127.0.0.1:0").unwrap()
}

#[test]
fn a_client_is_told_its_id_first_of_all_and_can_be_sent_to_by_it() {
    let hub = hub();
    let (mut first, mut second) = (Peer::connect(&hub), Peer::connect(&hub));
    assert_ne!(first.id, second.id);
    hub.send(second.id, "for the second").unwrap();
    hub.send(first.id, "for the first").unwrap();
    assert_eq!(first.text(), "for the first");
    assert_eq!(second.text(), "for the second");
}

#[test]
fn a_broadcast_reaches_everyone() {
    let hub = hub();
    let mut peers: Vec<_> = (0..20).map(|_| Peer::connect(&hub)).collect();
    hub.broadcast("to all");
    for peer in &mut peers {
        assert_eq!(peer.text(), "to all");
    }
}

#[test]
fn every_kind_of_message_arrives_as_what_it_was() {
    let hub = hub();
    let mut peer = Peer::connect(&hub);
    hub.broadcast("static");
    let owned = String::from("owned");
    hub.send(peer.id, &owned).unwrap();
    drop(owned);
    hub.broadcast(Text::from("shared 中文"));
    hub.broadcast(vec![0u8, 255]);
    hub.broadcast(bytes::Bytes::from_static(&[1, 2, 3]));
    hub.broadcast("");
    let expected: [Message; 6] = [
        "static".into(),
        "owned".into(),
        "shared 中文".into(),
        vec![0u8, 255].into(),
        vec![1u8, 2, 3].into(),
        "".into(),
    ];
    for message in expected {
        assert_eq!(peer.message(), message);
    }
}

#[test]
fn every_length_form_arrives_whole_and_so_does_a_large_message() {
    let hub = hub();
    let mut peer = Peer::connect(&hub);
    for len in [0, 1, 125, 126, 255, 256, 4095, 4096, 65_535, 65_536, 1 << 20, 20 << 20] {
        let payload: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
        hub.broadcast(payload.clone());
        assert_eq!(peer.message().as_bytes(), payload, "{len}");
        hub.send(peer.id, payload.clone()).unwrap();
        assert_eq!(peer.message().as_bytes(), payload, "{len}");
    }
}

#[test]
fn what_one_thread_sends_to_one_client_and_to_everyone_arrives_in_its_order() {
    // Room for all of it: the thread may be far ahead of the viewer.
    let limits = Limits::default().mailbox(32 << 20).feed(32 << 20);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut peer = Peer::connect(&hub);
    let id = peer.id;
    let sender = {
        let hub = hub.clone();
        thread::spawn(move || {
            for number in 0..20_000 {
                // In no pattern that the sizes of batches could follow.
                if number * number % 7 < 3 {
                    hub.send(id, number.to_string()).unwrap();
                } else {
                    hub.broadcast(number.to_string());
                }
                if number % 256 == 0 {
                    thread::yield_now();
                }
            }
        })
    };
    for number in 0..20_000 {
        assert_eq!(peer.text(), number.to_string());
    }
    sender.join().unwrap();
}

/// More clients than the hub serves in one turn, so that broadcasts come in the middle of its walk
/// over them.
#[test]
fn broadcasts_that_come_while_others_are_handed_out_reach_every_one_of_many_clients() {
    let hub = hub();
    let mut peers: Vec<_> = (0..200).map(|_| Peer::connect(&hub)).collect();
    for number in (0..200).step_by(2) {
        let before = hub.stats().bytes_out;
        hub.broadcast(number.to_string());
        until("the hub to have begun", || hub.stats().bytes_out > before);
        hub.broadcast((number + 1).to_string());
    }
    for peer in &mut peers {
        for number in 0..200 {
            assert_eq!(peer.text(), number.to_string());
        }
    }
    assert_eq!(hub.stats().skipped, 0);
}

#[test]
fn many_threads_push_at_once_and_each_ones_order_is_kept() {
    let hub = hub();
    let mut peers: Vec<_> = (0..4).map(|_| Peer::connect(&hub)).collect();
    let ids: Vec<_> = peers.iter().map(|peer| peer.id).collect();
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let (hub, ids) = (&hub, &ids);
            scope.spawn(move || {
                for number in 0..1000u64 {
                    if number % 3 == 0 {
                        for id in ids {
                            hub.send(*id, format!("{thread} {number}")).unwrap();
                        }
                    } else {
                        hub.broadcast(format!("{thread} {number}"));
                    }
                }
            });
        }
        for peer in &mut peers {
            scope.spawn(move || {
                let mut next = [0u64; 4];
                for _ in 0..4 * 1000 {
                    let text = peer.text();
                    let (thread, number) = text.split_once(' ').unwrap();
                    let thread: usize = thread.parse().unwrap();
                    assert_eq!(number.parse::<u64>().unwrap(), next[thread]);
                    next[thread] += 1;
                }
            });
        }
    });
}

#[test]
fn a_client_starts_at_the_live_end() {
    let hub = hub();
    let mut early = Peer::connect(&hub);
    hub.broadcast("before");
    assert_eq!(early.text(), "before");
    let mut late = Peer::connect(&hub);
    hub.broadcast("after");
    assert_eq!(late.text(), "after");
    assert_eq!(early.text(), "after");
}

#[test]
fn a_message_above_the_limit_is_refused_at_the_call_and_counted() {
    let limits = Limits::default().outbound_message(10);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut peer = Peer::connect(&hub);
    let too_large = SendError::TooLarge { bytes: 11, limit: 10 };
    assert_eq!(hub.send(peer.id, "elevenbytes"), Err(too_large));
    hub.broadcast("elevenbytes");
    hub.broadcast("ten bytes.");
    assert_eq!(peer.text(), "ten bytes.");
    assert_eq!(hub.stats().refused_pushes.too_large, 2);
}

#[test]
fn a_disabled_hub_takes_every_call() {
    let hub = Hub::disabled();
    hub.broadcast("x");
    let id = "1".parse().unwrap();
    assert_eq!(hub.send(id, "x"), Ok(()));
    assert_eq!(hub.disconnect(id, "bye"), Ok(()));
    assert_eq!((hub.client_count(), hub.clients().len()), (0, 0));
    assert_eq!((hub.url(), hub.urls(), hub.local_addr()), (None, vec![], None));
    assert!(hub.events().recv_blocking().is_none());
    assert_eq!(hub.stats(), stepcast::Stats::default());
    hub.shutdown_blocking(std::time::Duration::from_secs(1));
}
#[test]
fn clients_that_have_gone_leave_no_descriptor_and_no_memory() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    for _ in 0..5 {
        let peers: Vec<_> = (0..50).map(|_| Peer::connect(&hub)).collect();
        for peer in &peers {
            hub.send(peer.id, vec![0; 1000]).unwrap();
        }
        hub.broadcast(vec![0; 100_000]);
        drop(peers);
        until("all clients to be gone", || hub.client_count() == 0);
        until("their memory to be free", || hub.stats().memory == 0);
    }
    assert_eq!(hub.stats().accepted, 250);
}
