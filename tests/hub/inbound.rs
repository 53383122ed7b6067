//! What clients send and ask: requests that are refused, messages, what is known about a client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::peer::{Peer, event, exchange, until};
use crate::support::wire::PATIENCE;
use futures_util::StreamExt;
use stepcast::{Event, Hub, Limits, Timeouts};

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn hub() -> Hub {
    Hub::spawn_blocking("127.0.0.1:0").unwrap()
}

/// Sends a head, checks the answer's status, and returns it with the event that was told.
fn refused(hub: &Hub, head: &str, status: u16) -> String {
    let mut events = hub.events();
    let answer = exchange(hub.local_addr().unwrap(), head.as_bytes());
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}\n{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close"), "{answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(body.trim_end().lines().count(), 1, "{answer}");
    let (told, reason) = event(&mut events, |event| match event {
        Event::Refused { status, reason, .. } => Some((status, reason)),
        _ => None,
    });
    assert_eq!(told, status);
    assert_eq!(body.trim_end(), reason);
    answer
}

#[test]
fn every_refusal_is_an_http_answer_that_says_what_was_wrong_and_an_event() {
    let hub = hub();
    let host = hub.local_addr().unwrap();
    let cases = [
        (400, "nonsense\r\n\r\n".to_owned()),
        (400, format!("GET / HTTP/1.0\r\nHost: {host}\r\n{UPGRADE}\r\n")),
        (400, format!("GET / HTTP/1.1\r\n{UPGRADE}\r\n")),
        (403, format!("GET / HTTP/1.1\r\nHost: evil.example\r\n{UPGRADE}\r\n")),
        (403, "GET / HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n".to_owned()),
        (
            403,
            format!(
                "GET / HTTP/1.1\r\nHost: {host}\r\nOrigin: https://evil.example\r\n{UPGRADE}\r\n"
            ),
        ),
        (403, format!("GET / HTTP/1.1\r\nHost: {host}\r\nOrigin: null\r\n{UPGRADE}\r\n")),
        (404, format!("GET /nothing HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        (404, format!("GET /nothing HTTP/1.1\r\nHost: {host}\r\n{UPGRADE}\r\n")),
        (405, format!("POST / HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        (413, format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\n")),
        (431, format!("GET /{} HTTP/1.1\r\n", "x".repeat(17_000))),
    ];
    for (status, head) in cases {
        refused(&hub, &head, status);
    }
    let old = UPGRADE.replace(": 13", ": 8");
    let answer = refused(&hub, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n{old}\r\n"), 426);
    assert!(answer.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{answer}");
    assert_eq!(hub.stats().refused, 13);
    assert_eq!(hub.client_count(), 0);
}

#[test]
fn pages_of_the_same_host_and_of_listed_origins_come_in() {
    let hub = Hub::builder()
        .allow_origin("https://app.example")
        .allow_origin("null")
        .allow_host("sim.lab.example")
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let host = hub.local_addr().unwrap();
    let mut events = hub.events();
    let mut sockets = Vec::new(); // kept, so that no client's leaving is told
    for (host, origin) in [
        (host.to_string(), "http://127.0.0.1:3000"),
        ("localhost:1".to_owned(), "https://localhost"),
        ("sim.lab.example".to_owned(), "http://sim.lab.example:8080"),
        (host.to_string(), "https://app.example"),
        (host.to_string(), "null"),
    ] {
        let mut socket = TcpStream::connect(hub.local_addr().unwrap()).unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n{UPGRADE}\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        sockets.push(socket);
        event(&mut events, |event| match event {
            Event::Connected { .. } => Some(()),
            other => panic!("{host} {origin}: {other:?}"),
        });
    }
}

#[test]
fn one_client_more_than_the_limit_is_refused_with_503_until_one_leaves() {
    let hub =
        Hub::builder().limits(Limits::default().clients(2)).spawn_blocking("127.0.0.1:0").unwrap();
    let first = Peer::connect(&hub);
    let _second = Peer::connect(&hub);
    let host = hub.local_addr().unwrap();
    refused(&hub, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n{UPGRADE}\r\n"), 503);
    drop(first);
    until("a place", || hub.client_count() == 1);
    Peer::connect(&hub);
}

#[test]
fn a_request_that_does_not_come_in_time_is_ended() {
    let timeout = Duration::from_millis(200);
    let short = Timeouts::default().handshake(timeout).close(timeout);
    let hub = Hub::builder().timeouts(short).spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();
    assert_eq!(exchange(address, b""), "", "nothing is answered to nothing");
    refused(&hub, "GET / HTTP/1.1\r\nHost: ", 408);
}

/// The place of a connection that has gone is given to the next: its time is not.
#[test]
fn every_connection_has_the_whole_time_for_its_request_whoever_was_in_its_place() {
    let short = Timeouts::default().handshake(Duration::from_secs(1));
    let hub = Hub::builder().page("").timeouts(short).spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();
    let started = Instant::now();
    let mut silent = TcpStream::connect(address).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(address, format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes());
    std::thread::sleep(Duration::from_millis(600).saturating_sub(started.elapsed())); // of its second
    let late = TcpStream::connect(address).unwrap();
    (&late).write_all(b"GET ").unwrap();
    // The silent one's time runs out, and in the same look at all connections so would the late
    // one's if it were that of the first.
    assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0);
    let head = format!("/ HTTP/1.1\r\nHost: {address}\r\n\r\n");
    (&late).write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 15];
    (&late).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[test]
fn peers_who_send_nothing_do_not_keep_others_out() {
    let hub = Hub::builder()
        .limits(Limits::default().handshakes(10))
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let address = hub.local_addr().unwrap();
    let mut silent: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut peer = Peer::connect(&hub);
    hub.send(peer.id, "in").unwrap();
    assert_eq!(peer.text(), "in");
    // The oldest had to go, one for each above the limit; the newest still have their turn.
    // (Whether the viewer was above it, too, depends on when its request came.)
    for old in &mut silent[..90] {
        old.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(old.read(&mut [0]).unwrap(), 0);
    }
    for new in &mut silent[91..] {
        new.set_read_timeout(Some(PATIENCE)).unwrap();
        new.write_all(format!("GET /x HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).unwrap();
        let mut answer = [0; 12];
        new.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 404");
    }
}

#[test]
fn the_first_reader_has_the_events_from_the_start_if_the_program_wants_that() {
    let limits = Limits::default().events(2);
    let hub = Hub::builder().limits(limits).events_from_start();
    let hub = hub.spawn_blocking("127.0.0.1:0").unwrap();
    let peers: Vec<_> = (0..4).map(|_| Peer::connect(&hub)).collect();
    let (mut first, mut second) = (hub.events(), hub.events());
    let mut next = || first.recv_blocking().unwrap();
    assert_eq!(next(), Event::Connected { id: peers[0].id });
    assert_eq!(next(), Event::Connected { id: peers[1].id });
    assert_eq!(next(), Event::Missed(2));
    assert_eq!(second.try_recv(), None);
    let late = Peer::connect(&hub);
    assert_eq!(next(), Event::Connected { id: late.id });
    assert_eq!(second.recv_blocking(), Some(Event::Connected { id: late.id }));
}

#[tokio::test]
async fn events_are_a_stream_that_ends_with_the_hub() {
    let hub = Hub::spawn("127.0.0.1:0").await.unwrap();
    let (connected, address) = (hub.events(), hub.local_addr().unwrap());
    exchange(address, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    hub.shutdown().await;
    let told: Vec<_> = connected.collect().await;
    assert!(matches!(told[..], [Event::Refused { status: 403, .. }]), "{told:?}");
}

#[test]
fn a_clients_messages_are_events() {
    let hub = hub();
    let mut events = hub.events();
    let mut peer = Peer::connect(&hub);
    let id = peer.id;
    let connected = event(&mut events, |event| match event {
        Event::Connected { id } => Some(id),
        _ => None,
    });
    assert_eq!(connected, id);
    peer.send("start");
    peer.send(vec![1u8, 2, 3]);
    peer.send("");
    peer.send("x".repeat(64 * 1024));
    let mut next = || {
        event(&mut events, |event| match event {
            Event::Message { id: from, message, .. } => {
                assert_eq!(from, id);
                Some(message)
            }
            _ => None,
        })
    };
    assert_eq!(next().as_text(), Some("start"));
    assert_eq!(next().as_bytes(), [1, 2, 3]);
    assert_eq!(next().as_text(), Some(""));
    assert_eq!(next().len(), 64 * 1024);
    assert_eq!(hub.stats().received, 4);
}

/// By the name that it has at the hub: the codec's options have others.
#[test]
fn who_sends_too_much_is_told_which_option_of_the_hub_that_is() {
    let limits = Limits::default().inbound_message(100).inbound_fragments(2);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    // Headers of frames with a key of zeros: 101 bytes at once, 100 and then 1, three frames of none.
    let at_once = [0x82, 0x80 + 101, 0, 0, 0, 0].to_vec();
    let together = [&[0x02, 0x80 + 100][..], &[0; 4 + 100], &[0x80, 0x81, 0, 0, 0, 0]].concat();
    let frames = [[0x02, 0x80, 0, 0, 0, 0], [0x00, 0x80, 0, 0, 0, 0], [0x00, 0x80, 0, 0, 0, 0]];
    let cases = [
        (at_once, "Limits::inbound_message"),
        (together, "Limits::inbound_message"),
        (frames.concat(), "Limits::inbound_fragments"),
    ];
    for (bytes, option) in cases {
        let mut peer = Peer::connect(&hub);
        peer.socket.write_all(&bytes).unwrap();
        let close = peer.close_frame().unwrap();
        assert!(close.reason().contains(option), "{}", close.reason());
    }
}

#[test]
fn an_echo_hub_sends_back_what_comes_as_what_it_was_and_in_its_order() {
    let hub = Hub::builder().echo().spawn_blocking("127.0.0.1:0").unwrap();
    let mut peer = Peer::connect(&hub);
    peer.send("text 中文");
    peer.send(vec![1u8, 2, 3]);
    peer.send("");
    assert_eq!(peer.text(), "text 中文");
    assert_eq!(peer.message(), vec![1u8, 2, 3].into());
    assert_eq!(peer.text(), "");
}

#[test]
fn a_hub_without_greeting_sends_nothing_that_was_not_pushed() {
    let hub = Hub::builder().without_greeting().spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: {address}\r\n{UPGRADE}\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    until("the client", || hub.client_count() == 1);
    hub.broadcast("first");
    let mut answer = Vec::new();
    while !answer.ends_with(b"first") {
        let mut bytes = [0; 1024];
        let count = socket.read(&mut bytes).unwrap();
        answer.extend_from_slice(&bytes[..count]);
    }
    assert!(answer.ends_with(b"\r\n\r\n\x81\x05first"), "{answer:?}");
}

#[test]
fn events_that_nobody_takes_are_bounded_and_counted() {
    let limits = Limits::default().events(10).inbound_per_second(u32::MAX);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let mut peer = Peer::connect(&hub);
    for number in 0..1000 {
        peer.send(format!("{number}"));
    }
    until("all messages", || hub.stats().received == 1000);
    until("the messages 0 to 8 to be all that is held", || hub.stats().memory == 9 * (1 + 192));
    let mut told = 0;
    let missed = loop {
        match events.try_recv() {
            Some(Event::Missed(count)) => break count,
            Some(_) => told += 1,
            None => panic!("nothing was missed"),
        }
    };
    assert_eq!((told, missed), (10, 991)); // the connection, and a thousand messages
    until("the memory of the events to be free", || hub.stats().memory == 0);
}

#[test]
fn what_is_known_about_a_client_is_what_it_sent() {
    let hub = Hub::builder().keep_header("user-agent").spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let address = hub.local_addr().unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    let head = format!(
        "GET /?run=7 HTTP/1.1\r\nHost: {address}\r\nUser-Agent: browser\r\nCookie: secret\r\n{UPGRADE}\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let id = event(&mut events, |event| match event {
        Event::Connected { id } => Some(id),
        _ => None,
    });
    let info = hub.client(id).unwrap().info();
    assert_eq!(info.id, id);
    assert_eq!(info.address, socket.local_addr().unwrap());
    assert_eq!(info.path, "/?run=7");
    assert!(info.since.elapsed().unwrap() < Duration::from_secs(60));
    assert_eq!((info.queued_bytes, info.skipped), (0, 0));
    assert_eq!(info.headers, [("user-agent".to_owned(), "browser".to_owned())]);
    assert_eq!(hub.clients().len(), 1);
}

#[cfg(feature = "page")]
#[test]
fn a_browser_that_opens_the_address_gets_the_page_with_a_nonce_of_its_own() {
    let hub = hub();
    let address = hub.local_addr().unwrap();
    let get = || exchange(address, format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes());
    let nonce = |answer: &str| {
        let policy = answer.split("script-src 'nonce-").nth(1).expect("a policy");
        policy.split('\'').next().unwrap().to_owned()
    };
    let (first, second) = (get(), get());
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
    assert!(first.contains("\r\nContent-Type: text/html; charset=utf-8\r\n"), "{first}");
    assert!(first.contains(&format!("<script type=\"module\" nonce=\"{}\">", nonce(&first))));
    for rule in
        ["default-src 'none'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'"]
    {
        assert!(first.contains(rule), "{rule}");
    }
    let policy = first.lines().find(|line| line.starts_with("Content-Security-Policy")).unwrap();
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert!(!first.contains("{{nonce}}"));
    assert_ne!(nonce(&first), nonce(&second));
}

#[test]
#[cfg(feature = "page")]
fn the_page_of_a_feed_is_the_hubs_own_which_finds_the_hubs_root() {
    let get = |hub: &Hub, path: &str| {
        let address = hub.local_addr().unwrap();
        let answer =
            exchange(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].to_owned(), body.to_owned())
    };
    let hub = hub();
    for (path, root) in [
        ("/", "./"),
        ("/feed/run", "../"),
        ("/feed/run/42?x=1/2", "../../"),
        ("/feed/run%2F42", "../"),
        ("/feed/a/b/c", "../../../"),
    ] {
        let (status, page) = get(&hub, path);
        assert_eq!(status, "200", "{path}");
        assert!(page.contains(&format!("import('{root}page.js')")), "{path}");
        assert!(!page.contains("{{root}}"), "{path}");
    }
    let long = format!("/feed/{}", "x".repeat(257));
    for path in ["/feed", "/feed/", "/feed/a%0Ab", "/feed/%ff", "/feeds/run", &long] {
        assert_eq!(get(&hub, path).0, "404", "{path}");
    }
    let custom = Hub::builder().page("<p>mine").spawn_blocking("127.0.0.1:0").unwrap();
    assert_eq!(get(&custom, "/"), ("200".to_owned(), "<p>mine".to_owned()));
    assert_eq!(get(&custom, "/feed/run").0, "404");
}

#[test]
#[cfg(feature = "page")]
fn the_browsers_client_is_shared_with_pages_that_may_connect_and_sent_once_to_who_has_it() {
    let hub = Hub::builder().allow_origin("app.example").spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();
    let get = |more: &str| {
        let head = format!("GET /stepcast.js HTTP/1.1\r\nHost: {address}\r\n{more}\r\n");
        exchange(address, head.as_bytes())
    };
    // A browser keeps it from those pages, but for the hub's own behind a proxy that changes Host.
    for origin in ["http://elsewhere.example", "null"] {
        let answer = get(&format!("Origin: {origin}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\r\nVary: Origin"));
        assert!(!answer.contains("Access-Control-Allow-Origin"), "{answer}");
    }
    assert_eq!(hub.stats().refused, 2);
    let rebound = "GET /stepcast.js HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n";
    assert!(exchange(address, rebound.as_bytes()).starts_with("HTTP/1.1 403 "));
    let answer = get("Origin: https://app.example\r\n");
    let (head, script) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 ") && script.contains("export function connect"),
        "{head}"
    );
    assert!(head.contains("\r\nAccess-Control-Allow-Origin: *"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/javascript"), "{head}");
    assert!(head.contains("\r\nCross-Origin-Resource-Policy: same-origin"), "{head}");
    let tag = head.lines().find_map(|line| line.strip_prefix("ETag: ")).expect("a tag");
    let known = get(&format!("If-None-Match: \"other\", {tag}\r\n"));
    assert!(known.starts_with("HTTP/1.1 304 ") && known.ends_with("\r\n\r\n"), "{known}");
    assert!(get("If-None-Match: \"other\"\r\n").starts_with("HTTP/1.1 200 "));
    // As proxies that compress pass it on; on another line; any.
    let apache = format!("{}-gzip\"", tag.trim_end_matches('"'));
    for known in
        [format!("W/{tag}"), apache, format!("\"a,b\"\r\nIf-None-Match: {tag}"), "*".to_owned()]
    {
        let answer = get(&format!("If-None-Match: {known}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 304 "), "{known}: {answer}");
    }
    for other in [format!("W/W/{tag}"), tag.replace('"', ""), tag.replacen('"', "\"0", 1)] {
        let answer = get(&format!("If-None-Match: {other}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{other}: {answer}");
    }
}

/// Head and content of an answer.
fn parts(hub: &Hub, request: &str) -> (String, String) {
    let answer = exchange(hub.local_addr().unwrap(), request.as_bytes());
    let (head, content) = answer.split_once("\r\n\r\n").expect(request);
    (head.to_owned(), content.to_owned())
}

#[test]
fn head_is_answered_as_get_is_without_content() {
    let hub = Hub::builder().page("<p>my own").spawn_blocking("127.0.0.1:0").unwrap();
    let long = "x".repeat(17_000);
    for (path, host) in [
        ("/", "localhost"),
        ("/nothing", "localhost"),
        ("/", "evil.example"),
        ("/", ""),
        ("/feed#", "localhost"),
        (&format!("/{long}"), "localhost"),
    ] {
        let request = |method| format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let (of_get, content) = parts(&hub, &request("GET"));
        assert!(!content.is_empty(), "{of_get}");
        assert_eq!(parts(&hub, &request("HEAD")), (of_get, String::new()));
    }
}

#[test]
#[cfg(feature = "page")]
fn the_script_too_is_answered_to_head() {
    let request = |method| format!("{method} /stepcast.js HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (of_get, content) = parts(&hub(), &request("GET"));
    assert!(of_get.contains(&format!("Content-Length: {}", content.len())));
    assert_eq!(parts(&hub(), &request("HEAD")), (of_get, String::new()));
}

#[test]
fn the_health_checks_of_proxies_find_the_hub_well() {
    let hub = Hub::builder().page("<p>my own").spawn_blocking("127.0.0.1:0").unwrap();
    // HAProxy's `option httpchk`, alone and with a method; others; before them, what an old client leaves.
    for (status, request) in [
        (204, "OPTIONS / HTTP/1.0\r\n\r\n"),
        (204, "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (200, "HEAD / HTTP/1.0\r\n\r\n"),
        (200, "GET / HTTP/1.0\r\nUser-Agent: check\r\n\r\n"),
        (200, "\r\nGET / HTTP/1.1\r\nHost: localhost:\r\n\r\n"),
        (200, "GET http://localhost/ HTTP/1.1\r\nHost: proxy\r\n\r\n"),
    ] {
        let (head, _) = parts(&hub, request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {head}");
        let allow = head.contains("\r\nAllow: GET, HEAD, OPTIONS");
        let length = head.contains("\r\nContent-Length:");
        assert_eq!((allow, length), (status == 204, status == 200), "{head}");
    }
    assert_eq!(hub.stats().refused, 0);
}

#[test]
fn a_proxy_that_is_trusted_says_which_host_was_asked_for() {
    let headers =
        "Host: backend\r\nOrigin: https://app.example\r\nX-Forwarded-Host: app.example\r\n";
    let socket = format!("GET / HTTP/1.1\r\n{headers}{UPGRADE}\r\n");
    let answer = |hub: &Hub| {
        let mut stream = TcpStream::connect(hub.local_addr().unwrap()).unwrap();
        stream.write_all(socket.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        String::from_utf8(status.to_vec()).unwrap()
    };
    let trusting =
        Hub::builder().trusted_proxy([127, 0, 0, 1]).spawn_blocking("127.0.0.1:0").unwrap();
    assert_eq!(answer(&trusting), "HTTP/1.1 101");
    let other = Hub::builder().trusted_proxy([10, 0, 0, 7]).spawn_blocking("127.0.0.1:0").unwrap();
    assert_eq!(answer(&other), "HTTP/1.1 403");
}

#[test]
fn the_size_of_a_head_is_an_option() {
    let with = |bytes| {
        let limits = Limits::default().request_head(bytes);
        Hub::builder().limits(limits).page("").spawn_blocking("127.0.0.1:0").unwrap()
    };
    let cookie = "x".repeat(9000);
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n");
    for (bytes, status) in [(request.len(), 200), (request.len() - 1, 431), (16 * 1024, 200)] {
        let (head, _) = parts(&with(bytes), &request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes}: {head}");
    }
}

#[test]
fn which_pages_may_frame_the_hubs_is_an_option_and_cannot_break_the_header() {
    let policy = |hub: &Hub| {
        let (head, _) = parts(hub, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(head.contains("\r\nX-Content-Type-Options: nosniff"), "{head}");
        let line = head.lines().find(|line| line.starts_with("Content-Security-Policy: "));
        line.expect(&head).rsplit(&[':', ';'][..]).next().unwrap().trim().to_owned()
    };
    let own = || Hub::builder().page("<p>my own");
    let with =
        |sources| policy(&own().frame_ancestors(sources).spawn_blocking("127.0.0.1:0").unwrap());
    assert_eq!(policy(&own().spawn_blocking("127.0.0.1:0").unwrap()), "frame-ancestors 'self'");
    assert_eq!(with("'none'"), "frame-ancestors 'none'");
    for bad in ["'none'; script-src *", "a\r\nSet-Cookie: b", "a, b", "\u{fc}"] {
        assert_eq!(with(bad), "frame-ancestors 'self'", "{bad}");
    }
    if cfg!(feature = "page") {
        let hub =
            Hub::builder().frame_ancestors("app.example").spawn_blocking("127.0.0.1:0").unwrap();
        assert_eq!(policy(&hub), "frame-ancestors app.example");
    }
}

#[test]
fn a_client_on_v1_that_is_refused_is_told_why_by_a_bye_unless_it_is_another_sites() {
    let hub =
        Hub::builder().limits(Limits::default().clients(1)).spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();
    let ask = |path: &str, origin: &str| {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nOrigin: {origin}\r\n{UPGRADE}\
             Sec-WebSocket-Protocol: stepcast.v1\r\n\r\n"
        );
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let here = format!("http://{address}");
    let mut events = hub.events();
    let answer = ask("/nothing", &here);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains(r#"{"bye":{"code":4505,"reason":"expected a path"#), "{answer}");
    event(&mut events, |event| matches!(event, Event::Refused { .. }).then_some(()));
    // A browser shows other sites no answer of HTTP, so they do not learn that there is a hub. The
    // page's own client asks by OPTIONS, with which a browser sends the origin.
    for path in ["/", "/nothing"] {
        let answer = ask(path, "https://evil.example");
        assert!(answer.starts_with("HTTP/1.1 403 ") && !answer.contains("bye"), "{answer}");
        event(&mut events, |event| {
            matches!(event, Event::Refused { status: 403, .. }).then_some(())
        });
        let head = format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: {address}\r\nOrigin: http://run.example\r\n\r\n"
        );
        let answer = exchange(address, head.as_bytes());
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains(".allow_origin("),
            "{answer}"
        );
    }
    let _only = Peer::connect(&hub);
    until("one is connected", || hub.client_count() == 1);
    let answer = ask("/", &here);
    assert!(answer.contains("{\"bye\":{\"code\":4000,"), "{answer}");
}

#[test]
fn a_page_of_the_users_own_is_served_in_its_place_and_runs_what_it_likes() {
    let hub = Hub::builder().page("<p>my own").spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();
    let head = format!("GET /?a=b HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let answer = exchange(address, head.as_bytes());
    assert!(answer.ends_with("\r\n\r\n<p>my own"), "{answer}");
    let policy = answer.lines().find_map(|line| line.strip_prefix("Content-Security-Policy: "));
    assert_eq!(policy, Some("frame-ancestors 'self'"), "{answer}");
}

#[cfg(not(feature = "page"))]
#[test]
fn without_the_page_the_address_is_not_found() {
    let hub = hub();
    let host = hub.local_addr().unwrap();
    refused(&hub, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 404);
}

#[test]
fn loopback_addresses_are_not_counted_on_a_socket_for_both_kinds_either() {
    let builder = Hub::builder().allow_remote().limits(Limits::default().clients_per_address(1));
    let Ok(hub) = builder.spawn_blocking("[::]:0") else { return }; // a machine without IPv6
    let port = hub.local_addr().unwrap().port();
    let addresses = [([127, 0, 0, 1], port).into(), ([127, 0, 0, 1], port).into()];
    let peers = addresses.map(Peer::connect_to);
    assert_eq!(hub.client_count(), 2);
    let clients = hub.clients();
    assert!(clients.iter().all(|client| client.info().address.is_ipv4()), "{clients:?}");
    drop(peers);
}

/// Tokio lets a task do a number of things before it has to yield; a task that never does must
/// still get all events.
#[test]
fn a_task_that_never_awaits_gets_every_event() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for blocking in [false, true] {
        runtime.block_on(async {
            let hub = Hub::spawn("127.0.0.1:0").await.unwrap();
            let mut events = hub.events();
            let mut peer = Peer::connect(&hub);
            for _ in 0..500 {
                peer.send("x");
            }
            until("all messages", || hub.stats().received == 500);
            for number in 0..501 {
                let event = if blocking { events.recv_blocking() } else { events.try_recv() };
                assert!(event.is_some(), "event {number}");
            }
        });
    }
}
