//! Payloads of the program's are let go under no lock, whatever lets them go.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::codec::Message;
use crate::hub::client::state::{ClientState, Details};
use crate::hub::engine::follows::Follows;
use crate::hub::engine::parts::Engine;
use crate::hub::error::SendError;
use crate::hub::events::DisconnectReason;
use crate::hub::feed::item::Cursor;
use crate::hub::feed::queue::BURST;
use crate::hub::feed::seq::Seq;
use crate::hub::limits::{Limits, Overflow, Retention, Timeouts};
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::shared::state::{EndOnDrop, Shared};
use crate::hub::testing::fixtures::{address, engine_with, everyone, upgrade};
use crate::wire::Wire;
use crate::wire::v1::Hello;

/// A payload whose destructor needs every lock that there is, and panics.
struct Lent {
    shared: Arc<Shared>,
    client: Arc<ClientState>,
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
        // Debug builds have looked before that no lock is held: in others this would wait for ever.
        let shared = &self.shared;
        self.dropped.fetch_add(1, Ordering::Relaxed);
        let _ = (shared.stats(), shared.topics.all(), shared.topics.everyone().inbox.lock());
        let _ = (self.client.info(), self.client.has_gone());
        shared.registry.insert(Arc::clone(&self.client));
        drop((shared.mail.lock(), shared.news.lock(), shared.commands.lock()));
        resume_unwind(Box::new("on purpose")); // a panic, without a line about it
    }
}

/// A hub without a driver, and one client of each wire.
struct Stand {
    engine: Engine,
    plain: Arc<ClientState>,
    v1: Arc<ClientState>,
    dropped: Arc<AtomicUsize>,
}

impl Stand {
    fn new(limits: Limits, overflow: Overflow) -> Self {
        let mut engine = engine_with(limits, overflow, &Timeouts::default(), &Retention::default());
        let (request, from) = (upgrade(), address("10.0.0.1:1"));
        let plain = engine.admit(&request, from, ConnId::new(0, 1), everyone(&engine));
        let begun =
            engine.begin_session(&Hello::default(), Details::default(), from, ConnId::new(1, 2));
        Self { engine, plain, v1: begun.client, dropped: Arc::default() }
    }

    fn small() -> Self {
        Self::new(Limits::default().mailbox(1000).feed(1000).keys(1), Overflow::SkipOldest)
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.engine.shared)
    }

    fn lent(&self, bytes: usize) -> Message {
        Message::Binary(Bytes::from_owner(Lent {
            shared: self.shared(),
            client: Arc::clone(&self.plain),
            dropped: Arc::clone(&self.dropped),
            bytes: vec![0; bytes],
        }))
    }

    /// How many were dropped since this was last asked.
    fn dropped(&self) -> usize {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    fn send(&self, client: &ClientState, bytes: usize) -> Result<(), SendError> {
        self.engine.shared.send(client.id, self.lent(bytes))
    }

    fn set(&self, client: &ClientState, key: &str) -> Result<(), SendError> {
        self.engine.shared.set_for(client.id, key, self.lent(500))
    }
}

#[test]
fn what_a_push_replaces_evicts_or_refuses_is_let_go_under_no_lock() {
    for overflow in [Overflow::SkipOldest, Overflow::Refuse, Overflow::Disconnect] {
        let stand = Stand::new(Limits::default().mailbox(1000).keys(1), overflow);
        let shared = stand.shared();
        let _ = [stand.send(&stand.plain, 900), stand.send(&stand.plain, 900)];
        assert_eq!(stand.dropped(), 1, "{overflow:?}");
        let values = ["a", "a", "b"].map(|key| stand.set(&stand.v1, key).is_ok());
        assert_eq!((values, stand.dropped()), ([true, true, false], 2));
        stand.plain.mailbox.lock().closed = true;
        assert!(stand.send(&stand.plain, 9).is_err() && stand.set(&stand.plain, "a").is_err());
        assert_eq!(stand.dropped(), 2, "to one who has gone");
        let nobody = "4711".parse().unwrap();
        assert!(shared.send(nobody, stand.lent(9)).is_err());
        assert!(shared.set_for(nobody, "a", stand.lent(9)).is_err());
        assert!(stand.set(&stand.v1, &"x".repeat(999)).is_err());
        assert_eq!(stand.dropped(), 3, "to nobody");
        shared.budget.add(shared.limits.memory);
        assert!(stand.send(&stand.v1, 9).is_err() && stand.set(&stand.v1, "a").is_err());
        assert_eq!(stand.dropped(), 2, "for want of memory");
    }
    let stand = Stand::new(
        Limits::default().feed(1000).keys(1).outbound_message(1000),
        Overflow::SkipOldest,
    );
    let shared = stand.shared();
    let feed = shared.topics.get("run").unwrap();
    let push = |bytes| shared.push(&feed, stand.lent(bytes), false);
    assert_eq!([push(900), push(900)], [Ok(()), Ok(())]);
    assert_eq!(stand.dropped(), 1, "evicted from a feed");
    assert!(push(1001).is_err());
    (0..2).for_each(|_| shared.broadcast(stand.lent(900)));
    shared.broadcast(stand.lent(1001));
    assert_eq!(stand.dropped(), 3, "too large, and evicted from everyone's");
    assert!(shared.set(&feed, "a", stand.lent(9)).is_ok());
    assert!(shared.set(&feed, "a", stand.lent(9)).is_ok());
    assert!(shared.set(&feed, "b", stand.lent(9)).is_err());
    assert_eq!(stand.dropped(), 2, "replaced in a feed, and refused by it");
    shared.push(&feed, stand.lent(9), true).unwrap();
    assert_eq!(stand.dropped(), 1, "evicted by a feed's last");
    assert_eq!((push(9), stand.dropped()), (Err(SendError::Finished), 1));
    shared.closed.store(true, Ordering::Relaxed);
    assert_eq!((push(9), stand.dropped()), (Err(SendError::ShutDown), 1));
    shared.broadcast(stand.lent(9));
    assert!(stand.send(&stand.v1, 9).is_err() && stand.set(&stand.v1, "a").is_err());
    assert_eq!(stand.dropped(), 3, "after the end");
}

/// What the hub's thread frees has the two threads meet in the allocator's lock.
#[test]
fn in_a_hot_loop_small_payloads_are_let_go_by_the_call_that_pushes_them_and_under_no_lock() {
    let stand = Stand::new(Limits::default(), Overflow::SkipOldest);
    let shared = stand.shared();
    let feed = shared.topics.get("run").unwrap();
    let pushes: [&dyn Fn(usize); 3] = [
        &|bytes| shared.push(&feed, stand.lent(bytes), false).unwrap(),
        &|bytes| shared.broadcast(stand.lent(bytes)),
        &|bytes| stand.send(&stand.plain, bytes).unwrap(),
    ];
    for push in pushes {
        (0..BURST).for_each(|_| push(100));
        assert_eq!(stand.dropped(), 0, "no loop as yet");
        for bytes in [1, 100, 4095] {
            push(bytes);
            assert_eq!(stand.dropped(), 1, "{bytes}");
        }
        push(4096);
        assert_eq!(stand.dropped(), 0, "shared");
    }
}

#[test]
fn what_the_driver_takes_over_writes_and_trims_is_let_go_under_no_lock() {
    for bytes in [100, 5000] {
        let mut stand = Stand::small();
        let shared = stand.shared();
        let feed = shared.topics.get("run").unwrap();
        for _ in 0..2 {
            shared.push(&feed, stand.lent(bytes), false).unwrap();
            shared.set(&feed, "a", stand.lent(bytes)).unwrap();
            stand.engine.take_news();
        }
        let place = stand.engine.feeds.log_of(&feed);
        let upto = stand.engine.feeds.upto;
        stand.engine.feeds.logs[place].followers.add(ConnId::new(0, 1));
        for wire in [Wire::Plain, Wire::V1] {
            for _ in 0..2 {
                let log = &mut stand.engine.feeds.logs[place];
                log.batch(Cursor::default(), upto, wire, true, &shared.budget);
            }
        }
        stand.engine.feeds.logs[place].halve();
        shared.topics.drop_handle(&feed);
        stand.engine.clock.now += 1 << 40;
        stand.engine.feeds.unfollow_early(place, ConnId::new(0, 1));
        stand.engine.trim(place, u64::MAX);
        assert_eq!(shared.topics.count(), 0);
        assert_eq!(stand.dropped(), 4, "{bytes}");
    }
}

#[test]
fn what_waits_for_a_client_is_let_go_under_no_lock() {
    // It is handed its mail, which stays, and acknowledges it.
    let mut stand = Stand::small();
    let take = |stand: &mut Stand| {
        stand.engine.take_news();
        let upto = stand.engine.feeds.upto;
        Follows::none().next(&stand.v1, &mut true, &stand.engine.feeds, upto).is_some()
    };
    stand.send(&stand.v1, 5000).unwrap();
    assert!(take(&mut stand));
    stand.send(&stand.v1, 900).unwrap();
    assert!(!take(&mut stand), "there is no room");
    let acknowledge = |stand: &Stand, number| {
        let evicted = stand.v1.mailbox.lock().mail.as_mut().unwrap().acknowledge(Seq::new(number));
        stand.shared().budget.sub(evicted.bytes);
    };
    acknowledge(&stand, 0);
    assert_eq!(stand.dropped(), 0);
    acknowledge(&stand, 1);
    assert!(take(&mut stand));
    assert_eq!(stand.dropped(), 1);
    acknowledge(&stand, 2);
    assert_eq!((stand.dropped(), stand.shared().budget.used()), (1, 0));
    // Values make way for newer ones; and the client goes.
    stand.set(&stand.v1, "b").unwrap();
    assert!(take(&mut stand));
    stand.set(&stand.v1, "a").unwrap();
    assert!(take(&mut stand));
    assert_eq!(stand.dropped(), 1);
    for (client, drops) in [(Arc::clone(&stand.plain), 2), (Arc::clone(&stand.v1), 3)] {
        stand.send(&client, 900).unwrap();
        stand.set(&client, "a").unwrap();
        stand.engine.dismiss(&client, DisconnectReason::Lost);
        assert_eq!(stand.dropped(), drops);
    }
    // The memory limit is reached.
    let mut stand = Stand::new(Limits::default().memory(100_000), Overflow::SkipOldest);
    let shared = stand.shared();
    (0..8).for_each(|_| stand.send(&stand.plain, 2000).unwrap());
    shared.budget.add(75_000);
    stand.engine.relieve();
    assert!(stand.dropped() > 0);
    // The hub ends.
    let feed = shared.topics.get("run").unwrap();
    shared.budget.sub(75_000);
    stand.dropped();
    shared.push(&feed, stand.lent(9), false).unwrap();
    shared.set(&feed, "a", stand.lent(9)).unwrap();
    shared.broadcast(stand.lent(9));
    stand.send(&stand.v1, 9).unwrap();
    stand.set(&stand.v1, "a").unwrap();
    drop(EndOnDrop(Arc::clone(&shared)));
    assert!(stand.dropped() > 5, "and what was left for the other");
}
