//! Where clients come from, and how many from each place.
//!
//! An IPv4 address is one place, and so is an IPv6 network of 64 bits, which is the least that one customer of a provider
//! has. This machine is a place, and each proxy that the program trusts is one: as many share these as there are, so that
//! no limit of an address counts there.

use std::collections::HashMap;
use std::net::IpAddr;

/// Where somebody comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(u128);

impl Place {
    pub(crate) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if ip.is_loopback() => Self(1),
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().to_bits()),
            IpAddr::V6(v6) => Self(v6.to_bits() >> 64 << 64),
        }
    }
}

/// How many clients are connected from each place.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// [`Limits::clients_per_address`](super::Limits::clients_per_address).
    most: usize,
    proxies: Vec<IpAddr>,
    connected: HashMap<Place, usize>,
}

impl Addresses {
    pub(crate) fn new(most: usize, proxies: Vec<IpAddr>) -> Self {
        Self { most, proxies, connected: HashMap::new() }
    }

    /// How many clients there may be at an address; none is too many where many share it.
    pub(crate) fn most_at(&self, ip: IpAddr) -> usize {
        if ip.is_loopback() || self.proxies.contains(&ip) { usize::MAX } else { self.most }
    }

    pub(crate) fn connected_at(&self, ip: IpAddr) -> usize {
        self.connected.get(&Place::of(ip)).copied().unwrap_or(0)
    }

    /// One connected client more, or less.
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

#[cfg(test)]
mod tests {
    use super::*;

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
