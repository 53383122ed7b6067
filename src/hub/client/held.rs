//! What feeds keep for clients on `stepcast.v1` that are away and may come back.

use std::collections::HashMap;

use slab::Slab;

use crate::hub::id::ClientId;

/// Where a client that is away stood in a feed.
#[derive(Debug)]
pub(crate) struct Stand {
    /// The feed's place among the engine's logs, and its alias: another feed may have the place by now.
    pub(crate) place: u32,
    pub(crate) alias: u32,
    /// The position of the first message that the client may not have.
    pub(crate) from: u64,
}

/// Clients that are away, and where each stood: in as many feeds as it may follow at most.
#[derive(Debug, Default)]
pub(crate) struct Held {
    clients: HashMap<ClientId, usize>,
    stands: Slab<Box<[Stand]>>,
}

impl Held {
    pub(crate) fn insert(&mut self, id: ClientId, stands: Vec<Stand>) {
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

    /// Where the client at this index stood.
    pub(crate) fn at(&self, index: usize) -> impl Iterator<Item = &Stand> {
        self.stands.get(index).into_iter().flatten()
    }

    /// In how many feeds the client at this index stood. `None`: there are no more clients.
    pub(crate) fn stands(&self, index: usize) -> Option<usize> {
        let is_one = index < self.stands.capacity();
        is_one.then(|| self.stands.get(index).map_or(0, |stands| stands.len()))
    }
}
