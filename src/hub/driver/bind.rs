//! Listens on every address that the program has given, or that a name stands for.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::hub::driver::listener;
use crate::hub::error::{SpawnError, no_family};

/// The connections that the kernel queues while the hub is busy: those of a thousand viewers that
/// reload at once. Linux cuts the number to `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// The number of free ports tried, until one is free at every address.
const FREE_PORTS: usize = 16;

/// Opens a listening socket at each address. All addresses with port 0 get the same free port. An
/// address of a family that the machine lacks is skipped, unless no other address is left.
pub(crate) fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, SpawnError> {
    let mut distinct: Vec<SocketAddr> = Vec::new();
    for &(mut address) in addresses {
        address.set_ip(address.ip().to_canonical());
        if !distinct.contains(&address) {
            distinct.push(address);
        }
    }
    let only_v6 = distinct.iter().any(SocketAddr::is_ipv4);
    bind_with(&distinct, |address| open(address, only_v6), |socket| Ok(socket.local_addr()?.port()))
}

fn bind_with<T>(
    addresses: &[SocketAddr],
    open: impl Fn(SocketAddr) -> io::Result<T>,
    port: impl Fn(&T) -> io::Result<u16>,
) -> Result<Vec<T>, SpawnError> {
    let mut tried = 0;
    loop {
        tried += 1;
        match bind_once(addresses, &open, &port) {
            // The system chose a port that is taken at another address: try the next one.
            Err(SpawnError::Bind { address, error })
                if tried < FREE_PORTS
                    && error.kind() == ErrorKind::AddrInUse
                    && addresses.iter().all(|given| given.port() != address.port()) => {}
            bound => return bound,
        }
    }
}

fn bind_once<T>(
    addresses: &[SocketAddr],
    open: impl Fn(SocketAddr) -> io::Result<T>,
    port: impl Fn(&T) -> io::Result<u16>,
) -> Result<Vec<T>, SpawnError> {
    let (mut sockets, mut free_port, mut passed_over) = (Vec::new(), 0, None);
    for given in addresses {
        let mut address = *given;
        if given.port() == 0 {
            address.set_port(free_port);
        }
        match open(address).and_then(|socket| Ok((port(&socket)?, socket))) {
            Ok((port, socket)) => {
                sockets.push(socket);
                if given.port() == 0 {
                    free_port = port;
                }
            }
            Err(error) if lacks_family(address, &error) => passed_over = Some((address, error)),
            Err(error) => return Err(SpawnError::Bind { address, error }),
        }
    }
    match passed_over {
        Some((address, error)) if sockets.is_empty() => Err(SpawnError::Bind { address, error }),
        _ => Ok(sockets),
    }
}

/// Opens a listening socket. `[::]` takes IPv4, too, unless `only_v6`: the default differs between
/// systems.
fn open(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // On Unix, lingering connections of an earlier run must not keep the port. On Windows the
    // option means something else, and the port is free at once.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_nonblocking(true)?;
    listener::prepare_listening(&socket);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether the machine lacks the family of an address. Where IPv6 is switched off, as in many
/// containers, `[::1]` is still an address of `localhost`, but no interface has it.
fn lacks_family(address: SocketAddr, error: &io::Error) -> bool {
    let is_localhost = address.ip() == Ipv6Addr::LOCALHOST || address.ip() == Ipv4Addr::LOCALHOST;
    error.raw_os_error() == Some(no_family())
        || is_localhost && error.kind() == ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Binds on a machine where `open` says what an address gives. Free ports are 4001, 4002, and
    /// so on. What was bound, or the error's text, and what was tried.
    fn on_a_machine(
        texts: &[&str],
        refuses: impl Fn(SocketAddr) -> Option<io::Error>,
    ) -> (Result<Vec<String>, String>, Vec<String>) {
        let (tried, free_port) = (RefCell::new(Vec::new()), RefCell::new(4000));
        let open = |mut address: SocketAddr| {
            tried.borrow_mut().push(address.to_string());
            if let Some(error) = refuses(address) {
                return Err(error);
            }
            if address.port() == 0 {
                *free_port.borrow_mut() += 1;
                address.set_port(*free_port.borrow());
            }
            Ok(address)
        };
        let bound = bind_with(&addresses(texts), open, |address| Ok(address.port()));
        let bound = bound.map(|all| all.iter().map(SocketAddr::to_string).collect());
        (bound.map_err(|error| error.to_string()), tried.into_inner())
    }

    fn ports(sockets: &[TcpListener]) -> Vec<u16> {
        sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect()
    }

    #[test]
    fn port_0_is_one_free_port_for_every_address() {
        let sockets = bind(&addresses(&["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"])).unwrap();
        let ports = ports(&sockets);
        assert!(ports[0] != 0 && ports == [ports[0]; 3], "{ports:?}");
    }

    #[test]
    fn a_free_port_that_is_taken_at_another_address_makes_way_for_another_free_port() {
        let taken = |address: SocketAddr| {
            (address.is_ipv6() && address.port() < 4003).then(|| ErrorKind::AddrInUse.into())
        };
        let (bound, _) = on_a_machine(&["127.0.0.1:0", "[::1]:0"], taken);
        assert_eq!(bound.unwrap(), ["127.0.0.1:4003", "[::1]:4003"]);
    }

    #[test]
    fn the_search_for_a_port_that_is_free_at_every_address_ends() {
        let taken = |address: SocketAddr| address.is_ipv6().then(|| ErrorKind::AddrInUse.into());
        let (bound, tried) = on_a_machine(&["127.0.0.1:0", "[::1]:0"], taken);
        let text = bound.unwrap_err();
        assert!(text.contains("[::1]:4016"), "{text}");
        assert_eq!(tried.len(), 2 * FREE_PORTS);
    }

    #[test]
    fn a_port_that_the_program_has_named_is_tried_once() {
        let taken = |address: SocketAddr| address.is_ipv6().then(|| ErrorKind::AddrInUse.into());
        let (bound, tried) = on_a_machine(&["127.0.0.1:8002", "[::1]:8002"], taken);
        let text = bound.unwrap_err();
        assert!(text.contains("[::1]:8002") && text.contains("in use"), "{text}");
        assert_eq!(tried, ["127.0.0.1:8002", "[::1]:8002"]);
    }

    #[test]
    fn an_address_of_a_family_that_the_machine_lacks_is_passed_over() {
        let unknown = || io::Error::from_raw_os_error(no_family());
        let switched_off = || io::Error::from(ErrorKind::AddrNotAvailable);
        for lacking in [unknown, switched_off] {
            let no_v6 = |address: SocketAddr| address.is_ipv6().then(lacking);
            let (bound, _) = on_a_machine(&["[::1]:0", "127.0.0.1:0"], no_v6);
            assert_eq!(bound.unwrap(), ["127.0.0.1:4001"]);
            // Nothing is left: an error, which says what to do.
            let (bound, _) = on_a_machine(&["[::1]:8002"], no_v6);
            let text = bound.unwrap_err();
            assert!(text.contains("[::1]:8002") && text.contains("use 127.0.0.1"), "{text}");
        }
        // What is not this machine's is no lack of a family.
        let elsewhere = |address: SocketAddr| address.is_ipv6().then(switched_off);
        let (bound, _) = on_a_machine(&["127.0.0.1:0", "[2001:db8::1]:0"], elsewhere);
        assert!(bound.unwrap_err().contains("[2001:db8::1]"));
    }

    #[test]
    fn an_address_that_is_named_twice_is_one() {
        let port = ports(&bind(&addresses(&["127.0.0.1:0"])).unwrap())[0];
        let mapped = format!("[::ffff:127.0.0.1]:{port}");
        let twice = format!("127.0.0.1:{port}");
        let sockets = bind(&addresses(&[&twice, &mapped, &twice])).unwrap();
        assert_eq!(ports(&sockets), [port]);
        assert!(sockets[0].local_addr().unwrap().is_ipv4());
    }

    #[test]
    fn all_addresses_of_ipv6_are_those_of_ipv4_too_unless_these_are_named() {
        let both = bind(&addresses(&["[::]:0"])).unwrap();
        assert!(!socket2::SockRef::from(&both[0]).only_v6().unwrap());
        let each = bind(&addresses(&["0.0.0.0:0", "[::]:0"])).unwrap();
        assert_eq!(each.len(), 2);
        assert!(socket2::SockRef::from(&each[1]).only_v6().unwrap());
    }
}
