//! Mail for clients that are away takes a quarter of the hub's memory at most: the living have the
//! rest.

use crate::support::lines::{Identity, V1};
use crate::support::peer::{Peer, event, until};
use serde_json::json;
use stepcast::{DisconnectReason, Event, Events, Hub, Limits, Overflow, SendError};

const MEMORY: usize = 8 << 20;
const SHARE: usize = MEMORY / 4;
/// What the living take meanwhile.
const LIVING: usize = 128 << 10;

fn spawn(overflow: Overflow) -> Hub {
    let limits = Limits::default().memory(MEMORY);
    Hub::builder().overflow(overflow).limits(limits).spawn_blocking("127.0.0.1:0").unwrap()
}

fn lost(hub: &Hub, events: &mut Events, clients: Vec<V1>) -> Vec<Identity> {
    let absent: Vec<_> = clients.into_iter().map(V1::cut).collect();
    for _ in &absent {
        event(events, |event| matches!(event, Event::Detached { .. }).then_some(()));
    }
    assert_eq!(hub.client_count(), absent.len() + 1, "they may come back");
    absent
}

fn connect(hub: &Hub, count: usize) -> Vec<V1> {
    (0..count).map(|_| V1::connect(hub, &json!({"feeds": {}}))).collect()
}

#[test]
fn mail_for_clients_that_are_away_leaves_the_rest_of_the_memory_to_the_living() {
    for overflow in [Overflow::SkipOldest, Overflow::Refuse, Overflow::Disconnect] {
        let hub = spawn(overflow);
        let mut events = hub.events();
        let mut living = Peer::connect(&hub);
        let clients = connect(&hub, 30);
        let absent = lost(&hub, &mut events, clients);
        let mut refused = 0;
        for round in 0..100 {
            for client in &absent {
                match hub.send(client.id, format!("{round} {:10000}", "")) {
                    Ok(()) => {}
                    Err(SendError::NoMemory) => refused += 1,
                    Err(other) => panic!("{other}"),
                }
                let memory = hub.stats().memory;
                assert!(memory <= SHARE + LIVING, "{overflow:?}: {memory} bytes");
            }
            assert_eq!(hub.send(living.id, format!("{round}")), Ok(()), "{overflow:?}");
            assert_eq!(living.text(), format!("{round}"));
        }
        assert!(refused > 0, "{overflow:?}");
        assert_eq!(hub.stats().refused_pushes.no_memory, refused);
        if overflow != Overflow::SkipOldest {
            let value = hub.set(absent[0].id, "key", "x".repeat(10_000));
            assert_eq!(value, Err(SendError::NoMemory), "values are mail, too");
            // A client that comes back is living: its mail leaves the share, and makes room in it.
            let mut back = absent[0].come_back(&hub, json!({}), json!({}));
            assert!(back.line("text")[3].as_str().unwrap().starts_with("0 "));
            assert_eq!(hub.send(absent[1].id, "x".repeat(10_000)), Ok(()));
            continue;
        }
        // The oldest have made room: the newest come.
        until("room to be made", || hub.send(absent[0].id, "the newest").is_ok());
        let mut back = absent[0].come_back(&hub, json!({}), json!({}));
        let told = back.line("gap");
        assert_eq!(told["from"], 1, "{told}");
        while back.line("text")[3] != "the newest" {}
    }
}

#[test]
fn what_clients_had_not_acknowledged_when_they_were_lost_counts_in_the_share_of_absent_clients() {
    for overflow in [Overflow::SkipOldest, Overflow::Refuse] {
        let hub = spawn(overflow);
        let mut events = hub.events();
        let mut living = Peer::connect(&hub);
        let clients = connect(&hub, 50);
        for client in &clients {
            for _ in 0..10 {
                hub.send(client.id, "x".repeat(10_000)).unwrap();
            }
        }
        assert!(hub.stats().memory > 2 * SHARE);
        let absent: Vec<_> = clients.into_iter().map(V1::cut).collect();
        if overflow == Overflow::Refuse {
            // What was taken is not lost for a client that may come back: some may not.
            let reason = event(&mut events, |event| match event {
                Event::Gone { reason, .. } => Some(reason),
                _ => None,
            });
            assert_eq!(reason, DisconnectReason::TooSlow);
        }
        until("the share to be kept", || {
            let clients = hub.clients();
            let connected = clients.iter().filter(|client| client.info().connected).count();
            connected == 1 && hub.stats().memory <= SHARE + LIVING
        });
        assert!(hub.stats().memory > SHARE / 4, "more than need be was lost");
        assert!(overflow == Overflow::Refuse || hub.client_count() == absent.len() + 1);
        hub.send(living.id, "x".repeat(SHARE)).unwrap();
        assert_eq!(living.text().len(), SHARE);
    }
}
