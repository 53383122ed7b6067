//! What feeds keep for clients on `stepcast.v1` that are away and may come back.

use std::collections::HashMap;

use slab::Slab;

use crate::hub::client::state::ClientState;
use crate::hub::engine::follows::Follow;
use crate::hub::engine::parts::Engine;
use crate::hub::id::ClientId;
use crate::hub::primitives::moment::low_half;

/// Where a client that is away stood in a feed.
#[derive(Debug)]
struct Stand {
    /// The feed's place among the engine's logs, and its alias: another feed may have the place by now.
    place: u32,
    alias: u32,
    /// The position of the first message that the client may not have.
    from: u64,
}

/// Clients that are away, and where each stood: in as many feeds as it may follow at most.
#[derive(Debug, Default)]
pub(crate) struct Held {
    clients: HashMap<ClientId, usize>,
    stands: Slab<Box<[Stand]>>,
}

impl Held {
    fn insert(&mut self, id: ClientId, stands: Vec<Stand>) {
        self.forget(id);
        if !stands.is_empty() {
            self.clients.insert(id, self.stands.insert(stands.into_boxed_slice()));
        }
    }

    /// The client is here again, or has gone for good.
    pub(crate) fn forget(&mut self, id: ClientId) {
        let Some(index) = self.clients.remove(&id) else { return };
        self.stands.remove(index);
        if self.clients.len() < self.clients.capacity() / 4 {
            self.clients.shrink_to_fit();
            self.stands.shrink_to_fit();
        }
    }

    /// In how many feeds the client at this index stood. `None`: there are no more clients.
    pub(crate) fn stands(&self, index: usize) -> Option<usize> {
        let is_one = index < self.stands.capacity();
        is_one.then(|| self.stands.get(index).map_or(0, |stands| stands.len()))
    }
}

impl Engine {
    /// The connection of a client that may come back has been lost, with so many bytes under way. What the client has not
    /// received, and what comes from now on, is kept for it, as for one that is behind.
    pub(crate) fn hold<'a>(
        &mut self,
        client: &ClientState,
        follows: impl Iterator<Item = &'a Follow>,
        unanswered: u32,
    ) {
        let mut stands = Vec::new();
        for follow in follows.filter(|follow| Some(follow.place()) != client.mail()) {
            let Some(log) = self.logs.get_mut(follow.place()) else { continue };
            let received = log.window.before(follow.cursor.log, unanswered);
            let from = received.min(log.start(false, u64::MAX, self.upto, self.now).log);
            log.hold(from);
            let place = low_half(follow.place() as u64);
            stands.push(Stand { place, alias: log.topic.alias, from });
        }
        self.held.insert(client.id, stands);
    }

    /// At each tick: the client at this index is still away.
    pub(crate) fn hold_on(&mut self, index: usize) {
        for stand in self.held.stands.get(index).into_iter().flatten() {
            let log = self.logs.get_mut(stand.place as usize);
            if let Some(log) = log.filter(|log| log.topic.alias == stand.alias) {
                log.hold_on(stand.from);
            }
        }
    }
}
