//! Clients that are away and may come back.
//!
//! A client that is away makes way if there is no place for a new client. The client that goes is
//! one at the new client's address, if any is away there, else one at the address with most clients
//! away. Of these the client that was connected for the shortest time goes. Sessions that are begun
//! and dropped one after the other thus push out each other, and not a client that was there for
//! long.

use std::collections::HashMap;
use std::sync::Arc;

use crate::hub::client::addresses::{Crowds, Place, Rank};
use crate::hub::client::state::ClientState;
use crate::hub::id::ClientId;

#[derive(Debug, Default)]
pub(crate) struct Away {
    clients: HashMap<ClientId, Absent>,
    crowds: Crowds,
}

#[derive(Debug)]
struct Absent {
    client: Arc<ClientState>,
    place: Place,
    /// How long the client was connected in all, in milliseconds, and its id.
    rank: Rank,
    /// The time until which the client may come back, in the driver's milliseconds.
    until: u64,
}

impl Away {
    /// The number of clients that are away and were last at this place.
    pub(crate) fn count_at(&self, place: Place) -> usize {
        self.crowds.count_at(place)
    }

    pub(crate) fn insert(&mut self, client: Arc<ClientState>, lived: u64, until: u64) {
        let (place, id) = (Place::of(client.address().ip()), client.id);
        let rank = (lived, id.get());
        let absent = Absent { client, place, rank, until };
        if self.clients.insert(id, absent).is_none() {
            self.crowds.insert(place, rank);
        }
    }

    /// Removes a client that has come back, or gone. Returns the time until which it might have
    /// come back, if it was away.
    pub(crate) fn remove(&mut self, id: ClientId) -> Option<u64> {
        let absent = self.clients.remove(&id)?;
        self.crowds.remove(absent.place, absent.rank);
        Some(absent.until)
    }

    pub(crate) fn get(&self, id: ClientId) -> Option<&Arc<ClientState>> {
        self.clients.get(&id).map(|absent| &absent.client)
    }

    fn of(&self, rank: Rank) -> Option<Arc<ClientState>> {
        self.get(ClientId::new(rank.1)?).cloned()
    }

    /// Returns the clients that have mail and its size in bytes, largest first.
    pub(crate) fn fullest(&self) -> Vec<(usize, Arc<ClientState>)> {
        let mail = |absent: &Absent| {
            let bytes = absent.client.mailbox.lock().bytes();
            (bytes > 0).then(|| (bytes, Arc::clone(&absent.client)))
        };
        let mut clients: Vec<_> = self.clients.values().filter_map(mail).collect();
        clients.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        clients
    }

    /// Returns the client that makes way at this place, if any is away there.
    pub(crate) fn first_at(&self, place: Place) -> Option<Arc<ClientState>> {
        self.of(self.crowds.first_at(place)?)
    }

    /// Returns the client that makes way for a client at this place.
    pub(crate) fn who_makes_way(&self, place: Place) -> Option<Arc<ClientState>> {
        self.of(self.crowds.first_at(place).or_else(|| self.crowds.first_of_most())?)
    }

    /// Returns at most `most` clients whose time `is_over` says is over.
    pub(crate) fn over(&self, most: usize, is_over: impl Fn(u64) -> bool) -> Vec<Arc<ClientState>> {
        let over = self.clients.values().filter(|absent| is_over(absent.until)).take(most);
        over.map(|absent| Arc::clone(&absent.client)).collect()
    }

    pub(crate) fn shrink(&mut self) {
        if self.clients.len() < self.clients.capacity() / 4 {
            self.clients.shrink_to_fit();
        }
        self.crowds.shrink();
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.clients.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::client::state::Details;
    use crate::hub::primitives::conn_id::ConnId;

    #[test]
    fn at_a_place_who_was_connected_for_the_shortest_time_makes_way_and_elsewhere_the_fullest_place()
     {
        let mut away = Away::default();
        let mut insert = |id, ip: &str, lived| {
            let id = ClientId::new(id).unwrap();
            let address = (ip.parse::<std::net::IpAddr>().unwrap(), 1).into();
            let client = ClientState::new(id, ConnId::new(0, 0), address, Details::default(), None);
            away.insert(Arc::new(client), lived, 0);
        };
        insert(1, "10.0.0.1", 90_000);
        insert(2, "10.0.0.2", 3);
        insert(3, "10.0.0.2", 1);
        insert(4, "10.0.0.2", 2);
        let place = |ip: &str| Place::of(ip.parse().unwrap());
        let next = |away: &Away, ip| away.who_makes_way(place(ip)).map(|client| client.id.get());
        assert_eq!(next(&away, "10.0.0.1"), Some(1), "its own first");
        assert_eq!(next(&away, "10.0.0.2"), Some(3));
        assert_eq!(next(&away, "10.0.0.3"), Some(3));
        for (gone, left, then) in [(3, 2, Some(4)), (4, 1, Some(2)), (2, 0, Some(1)), (1, 0, None)]
        {
            assert_eq!(away.remove(ClientId::new(gone).unwrap()), Some(0));
            assert_eq!((away.count_at(place("10.0.0.2")), next(&away, "10.0.0.2")), (left, then));
        }
        assert_eq!((away.len(), away.remove(ClientId::new(1).unwrap())), (0, None));
    }
}
