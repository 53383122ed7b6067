//! The messages that feeds keep for `stepcast.v1` clients that are away and may come back.

use std::collections::HashMap;

use slab::Slab;

use crate::hub::feed::place::FeedPlace;
use crate::hub::id::ClientId;

/// The place of a client that is away in a feed's log.
#[derive(Debug)]
pub(crate) struct Stand {
    /// The feed's place among the engine's logs, and its alias, since another feed may have the
    /// place by now.
    pub(crate) place: FeedPlace,
    pub(crate) alias: u32,
    /// The position of the first message that the client may not have.
    pub(crate) from: u64,
}

/// The clients that are away, and their places in the feeds that each followed.
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

    /// Forgets a client that is here again, or has gone for good.
    pub(crate) fn forget(&mut self, id: ClientId) {
        let Some(index) = self.clients.remove(&id) else { return };
        self.stands.remove(index);
        if self.clients.len() < self.clients.capacity() / 4 {
            self.clients.shrink_to_fit();
            self.stands.shrink_to_fit();
        }
    }

    /// Returns the places of the client at this index.
    pub(crate) fn at(&self, index: usize) -> impl Iterator<Item = &Stand> {
        self.stands.get(index).into_iter().flatten()
    }

    /// Returns the number of feeds of the client at this index. `None`: there are no more clients.
    pub(crate) fn stands(&self, index: usize) -> Option<usize> {
        let is_one = index < self.stands.capacity();
        is_one.then(|| self.stands.get(index).map_or(0, |stands| stands.len()))
    }
}
