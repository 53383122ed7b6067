//! The places that clients come from, and the number of clients at each.
//!
//! An IPv4 address is one place. So is an IPv6 network of 64 bits, which is the least that one
//! customer of a provider has. This machine is a place, and so is each proxy that the program
//! trusts. Any number of clients may share these, so no limit of an address counts there.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};

/// The place that a client or connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(Ipv6Addr);

impl Place {
    pub(crate) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if ip.is_loopback() => Self(Ipv6Addr::LOCALHOST),
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped()),
            IpAddr::V6(v6) => Self(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        }
    }
}

/// The number of connected clients at each place.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// [`Limits::clients_per_address`](crate::hub::limits::Limits::clients_per_address).
    most: usize,
    proxies: Vec<IpAddr>,
    connected: HashMap<Place, usize>,
}

impl Addresses {
    pub(crate) fn new(most: usize, proxies: Vec<IpAddr>) -> Self {
        Self { most, proxies, connected: HashMap::new() }
    }

    /// The most clients at an address; addresses that many share have no limit.
    pub(crate) fn most_at(&self, ip: IpAddr) -> usize {
        if ip.is_loopback() || self.proxies.contains(&ip) { usize::MAX } else { self.most }
    }

    pub(crate) fn connected_at(&self, ip: IpAddr) -> usize {
        self.connected.get(&Place::of(ip)).copied().unwrap_or(0)
    }

    /// Counts a client that has connected.
    pub(crate) fn enter(&mut self, ip: IpAddr) {
        *self.connected.entry(Place::of(ip)).or_default() += 1;
    }

    pub(crate) fn leave(&mut self, ip: IpAddr) {
        let place = Place::of(ip);
        if let Some(count) = self.connected.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.connected.remove(&place);
            }
        }
        if self.connected.len() < self.connected.capacity() / 4 {
            self.connected.shrink_to_fit();
        }
    }
}

/// The number that says when a member of a place makes way, and then the member's own number. The
/// least goes first.
pub(crate) type Rank = (u64, u64);

/// The members of each place, in the order in which they make way.
///
/// The place with most members loses its first member when one has to make way. A place that floods
/// the hub thus loses its own members, and a place with few keeps them. Each change takes time in
/// the logarithm of the number of members.
#[derive(Debug, Default)]
pub(crate) struct Crowds {
    members: BTreeSet<(Place, Rank)>,
    sizes: HashMap<Place, Size>,
    by_size: BTreeSet<(Size, Place)>,
}

/// The number of members of a place, and which goes first. Of places with equal numbers, the
/// greatest is the one whose first member goes first.
type Size = (usize, Reverse<Rank>);

impl Crowds {
    pub(crate) fn insert(&mut self, place: Place, rank: Rank) {
        if self.members.insert((place, rank)) {
            let size = self.sizes.get(&place);
            let (count, first) = size.map_or((0, rank), |&(count, Reverse(first))| (count, first));
            self.resize(place, Some((count + 1, Reverse(first.min(rank)))));
        }
    }

    pub(crate) fn remove(&mut self, place: Place, rank: Rank) {
        if self.members.remove(&(place, rank)) {
            let left = self.count_at(place) - 1;
            let first = self.members.range((place, (0, 0))..).next().filter(|(at, _)| *at == place);
            self.resize(place, first.map(|(_, first)| (left, Reverse(*first))));
        }
    }

    fn resize(&mut self, place: Place, size: Option<Size>) {
        let before = match size {
            Some(size) => self.sizes.insert(place, size),
            None => self.sizes.remove(&place),
        };
        if let Some(before) = before {
            self.by_size.remove(&(before, place));
        }
        if let Some(size) = size {
            self.by_size.insert((size, place));
        }
    }

    pub(crate) fn count_at(&self, place: Place) -> usize {
        self.sizes.get(&place).map_or(0, |(count, _)| *count)
    }

    /// Returns the first member of this place.
    pub(crate) fn first_at(&self, place: Place) -> Option<Rank> {
        self.sizes.get(&place).map(|(_, Reverse(first))| *first)
    }

    /// Returns the first member of the place with most members.
    pub(crate) fn first_of_most(&self) -> Option<Rank> {
        self.by_size.last().map(|((_, Reverse(first)), _)| *first)
    }

    pub(crate) fn shrink(&mut self) {
        if self.sizes.len() < self.sizes.capacity() / 4 {
            self.sizes.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.sizes.len(), self.by_size.len());
        assert_eq!(self.sizes.values().map(|(count, _)| count).sum::<usize>(), self.members.len());
        self.members.len()
    }
}

/// Connections that are not, and never were, a client's, by their places.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    /// The place and the number of each connection, by its slot in the driver's table.
    from: HashMap<usize, (Place, u64)>,
    /// The same connections by place: made when one has to make way, and kept while at least half
    /// as many are left. Keeping it always would cost 2 % of each handshake.
    crowds: Option<Crowds>,
    /// The number of connections when `crowds` was made.
    at_most: usize,
    /// The number of the next connection.
    next: u64,
}

impl Strangers {
    pub(crate) fn len(&self) -> usize {
        self.from.len()
    }

    /// Adds a connection in this slot of the driver's table.
    pub(crate) fn enter(&mut self, key: usize, ip: IpAddr) {
        let (place, number) = (Place::of(ip), self.next);
        self.next += 1;
        self.from.insert(key, (place, number));
        if let Some(crowds) = &mut self.crowds {
            crowds.insert(place, (number, key as u64));
        }
    }

    /// Removes a connection that has become a client's, or has gone.
    pub(crate) fn leave(&mut self, key: usize) {
        let Some((place, number)) = self.from.remove(&key) else { return };
        if self.from.len() < self.at_most / 2 {
            self.crowds = None;
        }
        if let Some(crowds) = &mut self.crowds {
            crowds.remove(place, (number, key as u64));
        }
    }

    /// Returns the connection that makes way for a new one: the oldest of the place with most
    /// connections.
    pub(crate) fn who_makes_way(&mut self) -> Option<usize> {
        let crowds = self.crowds.get_or_insert_with(|| {
            self.at_most = self.from.len();
            let mut crowds = Crowds::default();
            for (&key, &(place, number)) in &self.from {
                crowds.insert(place, (number, key as u64));
            }
            crowds
        });
        crowds.first_of_most().and_then(|(_, key)| usize::try_from(key).ok())
    }

    pub(crate) fn shrink(&mut self) {
        if self.from.len() < self.from.capacity() / 4 {
            self.from.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_stranger_of_the_place_with_most_makes_way_and_of_equal_places_the_oldest_of_all()
    {
        let ip = |ip: &str| ip.parse::<IpAddr>().unwrap();
        let (few, many) = (ip("10.0.0.9"), ip("10.0.0.1"));
        let mut strangers = Strangers::default();
        assert_eq!(strangers.who_makes_way(), None);
        for (key, ip) in [(4, few), (9, many), (2, many), (7, many)] {
            strangers.enter(key, ip);
        }
        for key in [9, 2, 4, 7] {
            assert_eq!(strangers.who_makes_way(), Some(key));
            strangers.leave(key);
        }
        assert_eq!(strangers.who_makes_way(), None);
    }

    #[test]
    fn a_flood_from_one_place_leaves_the_strangers_of_the_others_alone() {
        const LIMIT: usize = 100;
        let mut strangers = Strangers::default();
        let place = |number: usize| IpAddr::from([10, 0, 1, u8::try_from(number).unwrap()]);
        for key in 0..20 {
            strangers.enter(key, place(key / 2));
        }
        for key in 20..5000 {
            strangers.enter(key, IpAddr::from([10, 0, 0, 1]));
            if strangers.len() > LIMIT {
                let gone = strangers.who_makes_way().unwrap();
                assert_eq!(gone, key + 20 - LIMIT);
                strangers.leave(gone);
            }
        }
        assert_eq!(strangers.crowds.as_ref().map(Crowds::len), Some(LIMIT));
        // What is kept for that goes when the flood is over, and is made again for the next.
        for key in 5000 - LIMIT + 20..5000 {
            strangers.leave(key);
        }
        assert!(strangers.crowds.is_none());
        assert_eq!((strangers.len(), strangers.who_makes_way()), (20, Some(0)));
        assert_eq!(strangers.crowds.as_ref().map(Crowds::len), Some(20));
    }

    fn place(ip: &str) -> Place {
        Place::of(ip.parse().unwrap())
    }

    #[test]
    fn a_place_is_an_ipv4_address_or_an_ipv6_network_of_64_bits_or_this_machine() {
        assert_ne!(place("10.0.0.1"), place("10.0.0.2"));
        assert_eq!(place("10.0.0.1"), place("::ffff:10.0.0.1"));
        assert_eq!(place("2001:db8::1"), place("2001:db8:0:0:ffff::2"));
        assert_ne!(place("2001:db8::1"), place("2001:db8:0:1::1"));
        assert_eq!(place("127.0.0.1"), place("::1"));
    }
}
