//! Clients that are away and may come back.
//!
//! Where there is no place for one client more, one that is away makes way: at the address of the new client, if one is
//! away there, else at the address that has most who are away. Of these the one goes that was connected for the shortest
//! time. So sessions that are begun and dropped one after the other push out each other, and not a client that was there.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::ClientId;
use super::addresses::Place;
use super::client::Client;

#[derive(Debug, Default)]
pub(crate) struct Away {
    clients: HashMap<ClientId, Absent>,
    ranks: BTreeSet<Rank>,
    counts: HashMap<Place, usize>,
    /// The same by the count.
    by_count: BTreeSet<(usize, Place)>,
}

#[derive(Debug)]
struct Absent {
    client: Arc<Client>,
    rank: Rank,
    /// Until when it may come back, in the driver's milliseconds.
    until: u64,
}

/// In the order in which clients of a place make way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    place: Place,
    /// For how long it was connected in all, in milliseconds.
    lived: u64,
    /// The client's, which tells apart who was there for as long.
    id: u64,
}

impl Away {
    pub(crate) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// How many are away of those who were at this place last.
    pub(crate) fn count_at(&self, place: Place) -> usize {
        self.counts.get(&place).copied().unwrap_or(0)
    }

    pub(crate) fn insert(&mut self, client: Arc<Client>, lived: u64, until: u64) {
        let (place, id) = (Place::of(client.address().ip()), client.id);
        let rank = Rank { place, lived, id: id.get() };
        if self.clients.insert(id, Absent { client, rank, until }).is_none() {
            self.ranks.insert(rank);
            self.count(place, |count| count + 1);
        }
    }

    /// It has come back, or gone. Until when it might have come back, if it was away.
    pub(crate) fn remove(&mut self, id: ClientId) -> Option<u64> {
        let absent = self.clients.remove(&id)?;
        self.ranks.remove(&absent.rank);
        self.count(absent.rank.place, |count| count - 1);
        Some(absent.until)
    }

    fn count(&mut self, place: Place, change: impl FnOnce(usize) -> usize) {
        let before = self.count_at(place);
        let after = change(before);
        self.by_count.remove(&(before, place));
        if after == 0 {
            self.counts.remove(&place);
        } else {
            self.counts.insert(place, after);
            self.by_count.insert((after, place));
        }
    }

    pub(crate) fn get(&self, id: ClientId) -> Option<&Arc<Client>> {
        self.clients.get(&id).map(|absent| &absent.client)
    }

    /// Who makes way at this place, if anybody is away there.
    pub(crate) fn first_at(&self, place: Place) -> Option<Arc<Client>> {
        let rank = self.ranks.range(Rank { place, lived: 0, id: 0 }..).next()?;
        if rank.place != place {
            return None;
        }
        self.get(ClientId::new(rank.id)?).cloned()
    }

    /// Who makes way for a client that comes to this place.
    pub(crate) fn who_makes_way(&self, place: Place) -> Option<Arc<Client>> {
        let most = || self.first_at(self.by_count.last()?.1);
        self.first_at(place).or_else(most)
    }

    /// Those whose time this says is over, so many at most.
    pub(crate) fn over(&self, most: usize, is_over: impl Fn(u64) -> bool) -> Vec<Arc<Client>> {
        let over = self.clients.values().filter(|absent| is_over(absent.until)).take(most);
        over.map(|absent| Arc::clone(&absent.client)).collect()
    }

    pub(crate) fn shrink(&mut self) {
        if self.clients.len() < self.clients.capacity() / 4 {
            self.clients.shrink_to_fit();
        }
        if self.counts.len() < self.counts.capacity() / 4 {
            self.counts.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.ranks.len(), self.clients.len());
        assert_eq!(self.counts.len(), self.by_count.len());
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
    use crate::hub::client::Details;

    #[test]
    fn at_a_place_who_was_connected_for_the_shortest_time_makes_way_and_elsewhere_the_fullest_place()
     {
        let mut away = Away::default();
        let mut insert = |id, ip: &str, lived| {
            let id = ClientId::new(id).unwrap();
            let address = (ip.parse::<std::net::IpAddr>().unwrap(), 1).into();
            let client = Client::new(id, (0, 0), address, Details::default(), None);
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
