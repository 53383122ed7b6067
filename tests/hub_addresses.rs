//! Where a hub listens, under which URLs browsers reach it, and how an address that does not work
//! is refused.

mod support;

use std::error::Error;
use std::future::Future;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::pin::pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::support::peer::{Peer, exchange, until};
use crate::support::wire::PATIENCE;
use stepcast::{Hub, Limits, SpawnError};
use tokio::runtime::Runtime;

/// What `localhost` stands for on most machines.
fn localhost(port: u16) -> [SocketAddr; 2] {
    [([127, 0, 0, 1], port).into(), ([0, 0, 0, 0, 0, 0, 0, 1], port).into()]
}

fn has_v6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// The addresses of `localhost` at which a hub listens on this machine.
fn served(hub: &Hub) -> Vec<SocketAddr> {
    let port = hub.local_addr().unwrap().port();
    assert_ne!(port, 0);
    localhost(port).into_iter().filter(|address| address.is_ipv4() || has_v6()).collect()
}

fn with_page() -> stepcast::HubBuilder {
    Hub::builder().page("the page") // with the feature `page` and without
}

// ---- several addresses ----

#[test]
fn a_hub_serves_at_every_address_of_a_name() {
    let hub = Hub::spawn_blocking(&localhost(0)[..]).unwrap();
    assert_eq!(hub.local_addrs(), served(&hub));
    assert!(Hub::disabled().local_addrs().is_empty());
    let mut peers: Vec<_> = served(&hub).into_iter().map(Peer::connect_to).collect();
    hub.broadcast("to all");
    for peer in &mut peers {
        assert_eq!(peer.text(), "to all");
    }
    let ids: Vec<_> = peers.iter().map(|peer| peer.id).collect();
    for (id, peer) in ids.into_iter().zip(&peers) {
        assert_eq!(hub.client(id).unwrap().info().address, peer.socket.local_addr().unwrap());
    }
}

#[test]
fn a_name_of_which_one_address_is_taken_is_an_error_that_says_which() {
    if !has_v6() {
        return;
    }
    for taken in ["127.0.0.1:0", "[::1]:0"] {
        let held = TcpListener::bind(taken).unwrap();
        let taken = held.local_addr().unwrap();
        let error = Hub::spawn_blocking(&localhost(taken.port())[..]).unwrap_err();
        assert!(matches!(error, SpawnError::Bind { address, .. } if address == taken), "{error}");
        let text = error.to_string();
        assert!(text.contains(&taken.to_string()) && text.contains("another program"), "{text}");
    }
}

#[test]
fn a_second_program_with_the_same_name_takes_none_of_its_addresses() {
    let hub = Hub::spawn_blocking(&localhost(0)[..]).unwrap();
    for address in served(&hub) {
        let error = Hub::spawn_blocking(address).unwrap_err();
        let SpawnError::Bind { address: named, error } = error else { panic!("{error}") };
        assert_eq!((named, error.kind()), (address, ErrorKind::AddrInUse));
    }
    // Nor does a part of them.
    let port = hub.local_addr().unwrap().port();
    Hub::spawn_blocking(&localhost(port)[..]).unwrap_err();
}

#[test]
fn the_hubs_end_frees_every_address_and_limits_count_all_of_them_together() {
    let limits = Limits::default().clients(1);
    let hub = Hub::builder().limits(limits).spawn_blocking(&localhost(0)[..]).unwrap();
    let addresses = served(&hub);
    let peer = Peer::connect_to(addresses[0]);
    for address in &addresses {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let answer = exchange(*address, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    drop(peer);
    hub.shutdown_blocking(PATIENCE);
    for address in addresses {
        assert!(TcpStream::connect(address).is_err(), "still listening at {address}");
    }
}

#[test]
fn all_addresses_of_ipv6_serve_ipv4_too() {
    if !has_v6() {
        return;
    }
    let hub = Hub::builder().allow_remote().spawn_blocking("[::]:0").unwrap();
    for address in served(&hub) {
        let peer = Peer::connect_to(address);
        assert_eq!(hub.client(peer.id).unwrap().info().address, peer.socket.local_addr().unwrap());
    }
}

#[test]
fn each_address_that_others_can_reach_needs_a_rule() {
    let any = |texts: &[&str]| -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    for addresses in [
        any(&["0.0.0.0:0"]),
        any(&["[::]:0"]),
        any(&["[::ffff:0.0.0.0]:0"]),
        any(&["127.0.0.1:0", "0.0.0.0:0"]),
        any(&["127.0.0.1:0", "[::1]:0", "[::]:0"]),
    ] {
        let error = Hub::spawn_blocking(&addresses[..]).unwrap_err();
        assert!(matches!(error, SpawnError::NotLoopback { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("127.0.0.1") && text.contains("allow_remote"), "{text}");
        let runtime = Runtime::new().unwrap();
        runtime.block_on(Hub::spawn(&addresses[..])).unwrap_err();
    }
}

// ---- errors ----

/// None of these is looked up by the network.
const NO_ADDRESSES: [&str; 7] =
    ["8002", "localhost", "127.0.0.1", "", ":8002", "127.0.0.1:99999", "localhost:http"];

#[test]
fn an_address_that_is_none_is_an_error_that_quotes_it_and_shows_a_right_one() {
    let runtime = Runtime::new().unwrap();
    for given in NO_ADDRESSES {
        let quoted = format!("{given:?}");
        let in_tokio = runtime.block_on(Hub::spawn(given)).unwrap_err();
        for error in
            [Hub::spawn_blocking(given).unwrap_err(), in_tokio, at_once(given).unwrap_err()]
        {
            assert!(matches!(error, SpawnError::Address { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains(&quoted) && text.contains("\"127.0.0.1:8002\""), "{text}");
        }
    }
    let error = Hub::spawn_blocking(&[][..] as &[SocketAddr]).unwrap_err();
    assert!(error.to_string().contains("no address found"), "{error}");
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Hub::spawn_blocking(address).unwrap_err();
    assert!(
        matches!(&error, SpawnError::Bind { error, .. } if error.kind() == ErrorKind::AddrInUse)
    );
    let text = error.to_string();
    assert!(text.contains(&address.to_string()) && text.contains("port 0"), "{text}");
}

#[test]
fn what_main_prints_of_an_error_is_its_text_and_the_systems_error_is_its_source() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    for error in [
        Hub::spawn_blocking("8002").unwrap_err(),
        Hub::spawn_blocking(taken.local_addr().unwrap()).unwrap_err(),
    ] {
        let source = error.source().expect("what the system said").to_string();
        let text = format!("{error:?}"); // as `fn main() -> Result<(), SpawnError>` prints it
        assert_eq!(text, error.to_string());
        assert!(text.contains(&source), "{text}");
    }
}

// ---- without tokio ----

/// Spawns a hub as an executor other than tokio does. The first poll has to give the result.
fn at_once(address: impl tokio::net::ToSocketAddrs + std::fmt::Debug) -> Result<Hub, SpawnError> {
    let spawned = pin!(Hub::spawn(address));
    match spawned.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(spawned) => spawned,
        Poll::Pending => panic!("waits"),
    }
}

#[test]
fn a_hub_spawns_outside_tokio_at_any_address() {
    at_once("127.0.0.1:0").unwrap();
    at_once(("localhost", 0)).unwrap();
    let hub = at_once("localhost:0").unwrap();
    let mut peer = Peer::connect(&hub);
    hub.broadcast("served");
    assert_eq!(peer.text(), "served");
}

// ---- URLs ----

fn host_of(url: &str) -> &str {
    url.strip_prefix("http://").and_then(|url| url.strip_suffix('/')).expect("a URL")
}

/// Opens a URL as a browser does: the page, and then the page's socket.
fn open(hub: &Hub, url: &str) {
    let host = host_of(url);
    let port = hub.local_addr().unwrap().port();
    // Where the machine does not know its own name, it is asked for by its address.
    let reached = host.to_socket_addrs().ok().and_then(|mut found| {
        found.find(|address| TcpStream::connect_timeout(address, Duration::from_secs(5)).is_ok())
    });
    assert!(reached.is_some() || host.parse::<SocketAddr>().is_err(), "no way to {url}");
    let address = reached.unwrap_or_else(|| ([127, 0, 0, 1], port).into());
    let page = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let answer = exchange(address, page.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("the page"), "{url} {answer}");
    let upgrade = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let before = hub.client_count();
    let mut socket = TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut socket, upgrade.as_bytes()).unwrap();
    until("the page's socket to be let in", || hub.client_count() == before + 1);
    drop(socket);
    until("the page's socket to be gone", || hub.client_count() == before);
}

#[test]
fn every_url_of_a_hub_can_be_opened() {
    for given in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0", "[::1]:0", "localhost:0"] {
        if given.starts_with('[') && !has_v6() {
            continue;
        }
        let hub = with_page().allow_remote().spawn_blocking(given).unwrap();
        let urls = hub.urls();
        assert_eq!(hub.url().as_ref(), urls.first());
        assert!(!urls.is_empty(), "{given}");
        for url in urls {
            open(&hub, &url);
        }
    }
    let hub = with_page().allow_remote().spawn_blocking(&any()[..]).unwrap();
    for url in hub.urls() {
        open(&hub, &url);
    }
}

/// All addresses of both families, each with a socket of its own.
fn any() -> [SocketAddr; 2] {
    [([0, 0, 0, 0], 0).into(), ([0; 8], 0).into()]
}

#[test]
fn the_urls_of_a_loopback_hub_are_its_addresses() {
    let hub = with_page().spawn_blocking("127.0.0.1:0").unwrap();
    let port = hub.local_addr().unwrap().port();
    assert_eq!(hub.url().unwrap(), format!("http://127.0.0.1:{port}/"));
    assert_eq!(hub.urls().len(), 1);
    let hub = with_page().spawn_blocking(&localhost(0)[..]).unwrap();
    let urls: Vec<_> = served(&hub).iter().map(|address| format!("http://{address}/")).collect();
    assert_eq!(hub.urls(), urls);
}

/// The address by which this machine reaches others, if there is a way to any.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("198.51.100.1:9").ok()?;
    Some(socket.local_addr().unwrap().ip())
}

#[test]
fn the_urls_of_a_hub_on_all_addresses_begin_with_loopback_and_name_the_machine_to_others() {
    for given in ["0.0.0.0:0", "[::]:0"] {
        if given.starts_with('[') && !has_v6() {
            continue;
        }
        let hub = with_page().allow_remote().spawn_blocking(given).unwrap();
        let port = hub.local_addr().unwrap().port();
        let urls = hub.urls();
        assert_eq!(urls[0], format!("http://127.0.0.1:{port}/"));
        assert_eq!(hub.url().unwrap(), urls[0]);
        if let Some(own) = own_address() {
            assert!(urls.contains(&format!("http://{own}:{port}/")), "{urls:?}");
        }
        if cfg!(unix) {
            let name = Command::new("uname").arg("-n").output().unwrap().stdout;
            let name = String::from_utf8(name).unwrap();
            assert_eq!(urls.last().unwrap(), &format!("http://{}:{port}/", name.trim()));
        }
        let distinct: std::collections::HashSet<_> = urls.iter().collect();
        assert_eq!(distinct.len(), urls.len(), "{urls:?}");
    }
}

#[test]
fn a_hub_without_a_page_has_no_url() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let has_page = exchange(address, request.as_bytes()).starts_with("HTTP/1.1 200 ");
    assert_eq!(hub.url().is_some(), has_page);
    assert_eq!(hub.urls().is_empty(), !has_page);
    assert!(with_page().spawn_blocking("127.0.0.1:0").unwrap().url().is_some());
}
