//! The concurrent core, tried by loom in every order of its threads' steps that the memory model
//! allows, with a bound on how often one interrupts another: two callers and the driver.
//!
//! Run by `.ci/run loom`. A push that the driver sleeps over shows as a deadlock.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use loom::thread;

use crate::hub::engine::parts::Engine;
use crate::hub::feed::stamp::Stamp;
use crate::hub::feed::topic::{Topic, Topics};
use crate::hub::id::ClientId;
use crate::hub::limits::{Limits, Overflow, Retention, Timeouts};
use crate::hub::shared::state::Shared;
use crate::hub::testing::fixtures::engine_with;
use crate::hub::testing::reference::{self, Reader};

/// How often a thread is interrupted where it need not be.
const INTERRUPTIONS: usize = 2;

struct Stand {
    engine: Engine,
    shared: Arc<Shared>,
    reader: Reader,
    id: ClientId,
    received: Vec<u8>,
}

impl Stand {
    /// One client that follows everyone's feed; nothing of the others' logs is kept.
    fn new(retention: &Retention) -> Self {
        let mut engine =
            engine_with(Limits::default(), Overflow::default(), &Timeouts::default(), retention);
        let shared = Arc::clone(&engine.shared);
        let everyone = Arc::clone(shared.topics.everyone());
        let reader = Reader::admit(&mut engine, 0, 1, everyone);
        Self { id: reader.client.id, engine, shared, reader, received: Vec::new() }
    }

    /// A turn, and the client reads all that it is owed: messages of one byte.
    fn turn(&mut self) {
        let Self { engine, reader, .. } = self;
        reference::turn(engine, std::iter::once(&mut *reader));
        let frames = reader.read(engine, usize::MAX);
        self.received.extend(frames.chunks(3).map(|frame| frame[2]));
        // All that has been read is let go, as when the driver has a moment.
        reference::turn_end(engine);
    }

    /// A turn that takes over so much at most, and the client reads all that it may have.
    fn part(&mut self, mut most: usize) {
        if self.engine.feeds.take_feeds(self.engine.clock.now, &mut most) {
            return self.turn();
        }
        let frames = self.reader.read(&mut self.engine, usize::MAX);
        self.received.extend(frames.chunks(3).map(|frame| frame[2]));
    }

    /// Turns, with sleep between, until this holds.
    fn run_until(&mut self, mut holds: impl FnMut(&mut Self) -> bool) {
        loom::future::block_on(async {
            loop {
                let shared = Arc::clone(&self.shared);
                let mut looked = false;
                poll_fn(|cx| {
                    shared.bell.register(cx.waker());
                    self.turn();
                    looked = holds(self);
                    Poll::Ready(())
                })
                .await;
                if looked {
                    return;
                }
                if self.engine.feeds.has_hidden() || self.reader.has_mail {
                    continue;
                }
                let mut rested = false;
                poll_fn(|_| {
                    if std::mem::replace(&mut rested, true) || !shared.fall_asleep() {
                        return Poll::Ready(());
                    }
                    Poll::Pending
                })
                .await;
                shared.bell.rise();
            }
        });
    }
}

fn nothing_kept() -> Retention {
    Retention::default().messages(0).age(Duration::ZERO)
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(INTERRUPTIONS);
    builder.max_branches = 100_000;
    builder.check(model);
}

fn push(shared: &Shared, topic: &Arc<Topic>, byte: u8) {
    shared.push(topic, vec![byte].into(), false).unwrap();
}

fn caller(stand: &Stand, call: impl FnOnce(&Shared) + 'static) -> thread::JoinHandle<()> {
    let shared = Arc::clone(&stand.shared);
    thread::spawn(move || call(&shared))
}

/// All pushes go to the one client, so that it has to have as many as the stamps count.
fn has_all_before_the_stamp(stand: &mut Stand) -> bool {
    assert_eq!(
        stand.received.len() as u64,
        stand.engine.feeds.upto.get(),
        "found in its turn, and not before"
    );
    let of = |byte| stand.received.iter().position(|received| *received == byte);
    assert!(of(2).is_none() || of(1) < of(2) && of(1).is_some(), "one thread's order");
    stand.received.len() == 3
}

#[test]
fn what_is_sent_to_one_and_to_all_is_in_order_and_not_slept_over() {
    check(|| {
        let mut stand = Stand::new(&nothing_kept());
        let id = stand.id;
        caller(&stand, move |shared| {
            shared.send(id, vec![1].into()).unwrap();
            shared.broadcast(vec![2].into());
        });
        caller(&stand, |shared| shared.broadcast(vec![3].into()));
        stand.run_until(has_all_before_the_stamp);
    });
}

#[test]
fn what_is_sent_to_all_and_to_one_is_in_order_and_not_slept_over() {
    check(|| {
        let mut stand = Stand::new(&nothing_kept());
        let id = stand.id;
        caller(&stand, move |shared| {
            shared.broadcast(vec![1].into());
            shared.send(id, vec![2].into()).unwrap();
        });
        caller(&stand, move |shared| shared.send(id, vec![3].into()).unwrap());
        stand.run_until(has_all_before_the_stamp);
    });
}

#[test]
fn a_round_that_takes_several_turns_keeps_the_order_of_the_calls() {
    check(|| {
        let mut stand = Stand::new(&nothing_kept());
        let (id, topic) = (stand.id, stand.shared.topics.get("run").unwrap());
        stand.shared.follow(id, &topic).unwrap();
        stand.turn();
        let callers = [
            caller(&stand, move |shared| {
                push(shared, &topic, 1);
                shared.broadcast(vec![2].into());
            }),
            caller(&stand, move |shared| shared.send(id, vec![3].into()).unwrap()),
        ];
        stand.part(1);
        has_all_before_the_stamp(&mut stand);
        stand.part(1);
        has_all_before_the_stamp(&mut stand);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        stand.run_until(has_all_before_the_stamp);
    });
}

#[test]
fn a_value_for_one_is_in_order_replaced_by_a_newer_one_only_and_not_slept_over() {
    check(|| {
        let mut stand = Stand::new(&nothing_kept());
        let id = stand.id;
        let first = caller(&stand, move |shared| {
            shared.set_for(id, "key", vec![1].into()).unwrap();
            shared.broadcast(vec![2].into());
        });
        let second =
            caller(&stand, move |shared| shared.set_for(id, "key", vec![3].into()).unwrap());
        stand.run_until(|stand| {
            let of = |byte| stand.received.iter().position(|received| *received == byte);
            assert!(of(1).is_none() || of(2).is_none() || of(1) < of(2), "one thread's order");
            let all_pushed = stand.shared.stamps.load(Ordering::Acquire) == Stamp::new(3);
            all_pushed && of(2).is_some() && stand.reader.client.mailbox.lock().mail.is_none()
        });
        [first, second].into_iter().for_each(|caller| caller.join().unwrap());
        assert!(stand.received.len() >= 2 && stand.shared.budget.used() == 0);
    });
}

#[test]
fn who_is_told_to_follow_gets_what_is_pushed_after() {
    check(|| {
        let mut stand = Stand::new(&nothing_kept());
        let id = stand.id;
        for byte in [1, 2] {
            let topic = stand.shared.topics.get("run").unwrap();
            caller(&stand, move |shared| {
                shared.follow(id, &topic).unwrap();
                push(shared, &topic, byte);
            });
        }
        stand.run_until(|stand| stand.received.len() == 2);
    });
}

#[test]
fn who_is_told_to_unfollow_gets_nothing_that_is_pushed_after() {
    check(|| {
        let mut stand = Stand::new(&nothing_kept());
        let (id, topic) = (stand.id, stand.shared.topics.get("run").unwrap());
        stand.shared.follow(id, &topic).unwrap();
        stand.turn();
        let callers = [1, 2].map(|byte| {
            let topic = Topics::clone_handle(&topic);
            caller(&stand, move |shared| {
                shared.unfollow(id, &topic).unwrap();
                push(shared, &topic, byte);
            })
        });
        stand.turn();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        stand.turn();
        stand.turn();
        assert!(stand.received.is_empty());
        assert!(!stand.engine.feeds.has_hidden());
    });
}

#[test]
fn the_driver_and_who_has_a_client_follow_do_not_wait_for_each_other() {
    check(|| {
        let mut stand = Stand::new(&nothing_kept());
        let (id, shared) = (stand.id, Arc::clone(&stand.shared));
        let topics = ["a", "b"].map(|name| shared.topics.get(name).unwrap());
        let calling = caller(&stand, move |shared| {
            topics.iter().for_each(|topic| shared.follow(id, topic).unwrap());
        });
        stand.turn();
        calling.join().unwrap();
        stand.turn();
        assert_eq!(stand.reader.follows.iter().count(), 3, "and both are followed");
    });
}

#[test]
fn a_feed_goes_once_with_its_last_handle() {
    check(|| {
        let mut stand = Stand::new(&nothing_kept());
        for byte in [1, 2] {
            let topic = stand.shared.topics.get("run").unwrap();
            caller(&stand, move |shared| {
                if byte == 1 {
                    push(shared, &topic, byte);
                }
                shared.drop_handle(&topic);
            });
        }
        stand.run_until(|stand| {
            stand.shared.topics.count() == 0 && stand.engine.feeds.logs.len() == 1
        });
        assert_eq!(stand.shared.budget.used(), 0);
    });
}

#[test]
fn a_feed_that_was_pushed_to_and_dropped_is_found_again() {
    check(|| {
        let mut stand = Stand::new(&Retention::default());
        let topic = stand.shared.topics.get("run").unwrap();
        let dropping = caller(&stand, move |shared| shared.drop_handle(&topic));
        let pushing = caller(&stand, |shared| {
            let topic = shared.topics.get("run").unwrap();
            push(shared, &topic, 1);
            shared.drop_handle(&topic);
        });
        stand.turn();
        dropping.join().unwrap();
        pushing.join().unwrap();
        let found = stand.shared.topics.get("run").unwrap();
        stand.shared.follow(stand.id, &found).unwrap();
        stand.turn();
        stand.turn();
        assert_eq!(stand.received, [1]);
    });
}
