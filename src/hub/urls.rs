//! The URLs under which browsers reach a hub.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::handshake::machine_name;

/// The URLs of a hub that listens on these addresses, those for browsers on this machine first. The
/// host rule lets all of them in.
pub(crate) fn of(addresses: &[SocketAddr]) -> Vec<String> {
    let has_v4 = addresses.iter().any(SocketAddr::is_ipv4);
    let mut urls = Urls::default();
    for &address in addresses {
        let port = address.port();
        match address.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => urls.add_all_v4(port),
            // The same as at `bind`: that IPv6 socket takes IPv4, too.
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) if !has_v4 => {
                urls.add_all_v4(port);
                urls.add_own(UNROUTED_V6.into(), port);
            }
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
                urls.add_own(Ipv6Addr::LOCALHOST.into(), port); // unless IPv6 is switched off
                urls.add_own(UNROUTED_V6.into(), port);
            }
            ip => urls.add(ip, port),
        }
    }
    for address in addresses.iter().filter(|address| address.ip().is_unspecified()) {
        if let Some(name) = machine_name() {
            urls.add_host(name, address.port());
        }
    }
    urls.0
}

/// Addresses that documents use, and no machine has (RFC 5737, RFC 3849).
const UNROUTED_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const UNROUTED_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

#[derive(Default)]
struct Urls(Vec<String>);

impl Urls {
    fn add_all_v4(&mut self, port: u16) {
        self.add(Ipv4Addr::LOCALHOST.into(), port);
        self.add_own(UNROUTED_V4.into(), port);
    }

    /// Adds the address by which this machine reaches another one.
    fn add_own(&mut self, other: IpAddr, port: u16) {
        if let Ok(own) = address_towards(other) {
            self.add(own, port);
        }
    }

    /// Adds an address, but for one of IPv6 that means something on one of the machine's networks
    /// only: no URL can say which.
    fn add(&mut self, ip: IpAddr, port: u16) {
        match ip {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {}
            _ => self.add_url(format!("http://{}/", SocketAddr::new(ip, port))),
        }
    }

    fn add_host(&mut self, name: &str, port: u16) {
        self.add_url(format!("http://{name}:{port}/"));
    }

    fn add_url(&mut self, url: String) {
        if !self.0.contains(&url) {
            self.0.push(url);
        }
    }
}

/// The address of this machine that goes with the route to another one. Connecting a UDP socket
/// looks the route up, and sends nothing.
fn address_towards(other: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match other {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((other, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(addresses: &[&str]) -> Vec<String> {
        let parsed: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        of(&parsed)
    }

    #[test]
    fn an_address_that_is_the_machines_own_is_a_url_as_it_is() {
        let addresses = ["127.0.0.1:8002", "[::1]:8002", "192.0.2.7:80"];
        let expected = addresses.map(|address| format!("http://{address}/"));
        assert_eq!(urls(&addresses), expected);
    }

    #[test]
    fn an_address_of_one_network_of_the_machine_has_no_url() {
        assert!(urls(&["[fe80::1%2]:8002"]).is_empty());
    }

    #[test]
    fn all_addresses_of_both_families_have_the_loopback_address_of_each() {
        let urls = urls(&["0.0.0.0:8002", "[::]:8002"]);
        assert_eq!(urls[0], "http://127.0.0.1:8002/");
        let has_v6 = UdpSocket::bind("[::1]:0").is_ok();
        assert_eq!(urls.contains(&"http://[::1]:8002/".to_owned()), has_v6, "{urls:?}");
    }
}
