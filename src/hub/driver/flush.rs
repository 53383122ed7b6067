//! Flushes: a caller waits until everything pushed before has been handed to the operating system.
//!
//! A flush is a stamp. A connection has passed the flush when it has taken up everything stamped
//! before, and the outbox that held the last of that is empty. Later pushes are stamped higher and
//! fill later outboxes, so a hot feed does not keep a flush waiting.
//!
//! The driver walks all connections when a flush begins, some in each turn, and then looks at a
//! connection only after a step of it. Flushes that begin together share a walk and the newest of
//! their stamps. Flushes requested during a walk wait for its end.

use std::collections::HashMap;
use std::time::Instant;

use slab::Slab;

use crate::hub::conn::phase::Connection;
use crate::hub::engine::parts::Engine;
use crate::hub::error::FlushError;
use crate::hub::feed::stamp::Stamp;
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::shared::flush::Flush;

/// The connections that a walk looks at in one turn.
const WALK: usize = 1024;

/// The flushes that the driver knows.
#[derive(Debug, Default)]
pub(crate) struct Flushes {
    /// Flushes whose pushes are not all taken over: no connection can answer for them yet.
    early: Vec<Flush>,
    /// Groups of flushes that began together. The last group may still be walking.
    under_way: Vec<UnderWay>,
}

/// A group of flushes that began together.
#[derive(Debug)]
struct UnderWay {
    flushes: Vec<Flush>,
    /// The newest stamp of the group.
    upto: Stamp,
    /// The connections that the group waits for, by their place.
    waiting: HashMap<usize, Waiting>,
    /// The place of the next connection to look at. `None`: the walk is over.
    walk: Option<usize>,
}

impl UnderWay {
    fn new(flushes: Vec<Flush>) -> Self {
        let upto = flushes.iter().map(|flush| flush.upto).max().unwrap_or_default();
        Self { flushes, upto, waiting: HashMap::new(), walk: Some(0) }
    }

    /// Looks at the next connections of the walk, if any are left.
    fn go_on_walking(&mut self, connections: &mut Slab<Connection>, engine: &Engine) {
        let Some(from) = self.walk else { return };
        let end = connections.capacity();
        let to = end.min(from + WALK);
        for slot in from..to {
            let Some(connection) = connections.get_mut(slot) else { continue };
            let mut drains = false;
            if !connection.has_left(self.upto, &mut drains, engine) {
                self.waiting.insert(slot, Waiting { id: connection.id(), drains });
            }
        }
        self.walk = Some(to).filter(|to| *to < end);
    }

    /// The number of connections that the group may wait for, of `clients` in all.
    fn left(&self, clients: usize) -> usize {
        if self.walk.is_some() { clients } else { self.waiting.len() }
    }

    fn is_done(&self) -> bool {
        self.walk.is_none() && self.waiting.is_empty()
    }
}

#[derive(Debug)]
struct Waiting {
    id: ConnId,
    /// Whether everything has been taken up: then the outbox of that moment has to empty.
    drains: bool,
}

impl Flushes {
    pub(crate) fn is_empty(&self) -> bool {
        self.early.is_empty() && self.under_way.is_empty()
    }

    /// Whether a flush has not yet begun with all connections.
    pub(crate) fn is_beginning(&self) -> bool {
        !self.early.is_empty() || self.is_walking()
    }

    fn is_walking(&self) -> bool {
        self.under_way.last().is_some_and(|under_way| under_way.walk.is_some())
    }

    /// Begins the flushes whose pushes are all taken over, if no walk is under way.
    pub(crate) fn begin(&mut self, connections: &mut Slab<Connection>, engine: &Engine) {
        self.early.append(&mut engine.shared.flushes.take());
        if !self.early.is_empty() && !self.is_walking() {
            let is_taken_over = |flush: &Flush| flush.upto <= engine.feeds.upto;
            let (due, early): (Vec<_>, _) =
                std::mem::take(&mut self.early).into_iter().partition(is_taken_over);
            self.early = early;
            if !due.is_empty() {
                self.under_way.push(UnderWay::new(due));
            }
        }
        if let Some(last) = self.under_way.last_mut() {
            last.go_on_walking(connections, engine);
        }
    }

    /// Looks at one connection, which may have gone.
    pub(crate) fn look(
        &mut self,
        slot: usize,
        mut connection: Option<&mut Connection>,
        engine: &Engine,
    ) {
        for UnderWay { upto, waiting, .. } in &mut self.under_way {
            let Some(state) = waiting.get_mut(&slot) else { continue };
            let there = connection.as_deref_mut().filter(|there| there.id() == state.id);
            if there.is_none_or(|there| there.has_left(*upto, &mut state.drains, engine)) {
                waiting.remove(&slot);
            }
        }
    }

    /// Answers the flushes that are done, or have waited long enough.
    pub(crate) fn answer(&mut self, clients: usize) {
        if self.is_empty() {
            return;
        }
        let now = Instant::now();
        self.answer_if(clients, |flush| now >= flush.by);
    }

    /// Answers all flushes: the hub has ended.
    pub(crate) fn give_up(&mut self, clients: usize) {
        self.answer_if(clients, |_| true);
    }

    /// Answers the flushes that are over. `clients` is the number of all clients: an early flush
    /// waits for all of them.
    fn answer_if(&mut self, clients: usize, is_over: impl Fn(&Flush) -> bool) {
        let is_due = |flush: &Flush| is_over(flush) || !flush.answer.is_awaited();
        let take = |flushes: &mut Vec<Flush>, is_due: &dyn Fn(&Flush) -> bool| {
            let (due, rest): (Vec<_>, _) =
                std::mem::take(flushes).into_iter().partition(|flush| is_due(flush));
            *flushes = rest;
            due
        };
        let early = take(&mut self.early, &is_due);
        let mut due: Vec<_> = early.into_iter().map(|flush| (flush, clients)).collect();
        self.under_way.retain_mut(|under_way| {
            let (is_done, left) = (under_way.is_done(), under_way.left(clients));
            let over = take(&mut under_way.flushes, &|flush| is_done || is_due(flush));
            due.extend(over.into_iter().map(|flush| (flush, left)));
            !under_way.flushes.is_empty()
        });
        for (flush, left) in due {
            // Without a client nothing has to leave.
            let outcome = match left {
                0 => Ok(()),
                clients => Err(FlushError::TimedOut { clients }),
            };
            flush.answer.give(outcome);
        }
    }

    /// The number of flushes in each group.
    #[cfg(test)]
    pub(crate) fn walks(&self) -> impl Iterator<Item = usize> + '_ {
        self.under_way.iter().map(|under_way| under_way.flushes.len())
    }

    /// The earliest deadline of the flushes.
    pub(crate) fn first_deadline(&self) -> Option<Instant> {
        let under_way = self.under_way.iter().flat_map(|under_way| &under_way.flushes);
        self.early.iter().chain(under_way).map(|flush| flush.by).min()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};

    use super::*;

    /// Counts how often it is woken, and panics.
    struct Bad(AtomicUsize);

    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("a waker that panics");
        }
    }

    #[test]
    fn flushes_that_go_with_a_driver_wake_whoever_waits_and_a_panic_in_that_ends_there() {
        let mut flushes = Flushes::default();
        let bad = Arc::new(Bad(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&bad));
        let mut waits: Vec<_> = (0..4)
            .map(|number| {
                let (flush, mut waits) = Flush::new(Stamp::FIRST, Instant::now());
                match number % 2 {
                    0 => flushes.early.push(flush),
                    _ => flushes.under_way.push(UnderWay::new(vec![flush])),
                }
                let poll = Pin::new(&mut waits).poll(&mut Context::from_waker(&waker));
                assert!(poll.is_pending());
                waits
            })
            .collect();
        drop(flushes);
        assert_eq!(bad.0.load(Ordering::SeqCst), 4);
        assert!(waits.iter_mut().all(|wait| wait.try_recv().is_err()));
    }
}
