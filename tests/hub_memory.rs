//! What a hub has allocated for its peers, compared with what it counts of it in `Stats::memory`, whatever the
//! peers do.
#![cfg(target_os = "linux")]

mod support;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::support::peer::{Peer, event, until};
use crate::support::wire::PATIENCE;
use socket2::{Domain, Socket, Type};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use stepcast::{Client, Event, Hub, HubBuilder, Limits, Retention, Timeouts};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What is allocated is that of all tests: they run one after the other.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that are allocated and not freed.
fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// The most that may be allocated for each byte that is counted.
const FACTOR: f64 = 1.5;

/// What is allocated, and what a hub counts.
fn held(hub: &Hub) -> [usize; 2] {
    [allocated(), hub.stats().memory]
}

/// What has been allocated since then is counted.
fn assert_counted(what: &str, hub: &Hub, before: [usize; 2]) {
    let after = held(hub);
    let [allocated, counted] = [0, 1].map(|i| after[i].saturating_sub(before[i]) as f64);
    println!("{what}: {:.2} of {counted} bytes counted", allocated / counted);
    assert!(allocated <= FACTOR * counted, "{what}: {allocated} bytes, and {counted} counted");
    assert!(counted <= 3.0 * allocated, "{what}: {allocated} bytes, and {counted} counted");
}

const LONG: Duration = Duration::from_secs(600);

/// A hub that cuts nobody for being slow.
fn patient() -> HubBuilder {
    let timeouts =
        Timeouts::default().handshake(LONG).keepalive(LONG).stall(LONG).frame(LONG).close(LONG);
    Hub::builder().timeouts(timeouts).freshness(Duration::ZERO)
}

/// A peer that has nothing of its own in this process, and little room in the kernel.
fn connect(address: SocketAddr, head: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(head.as_bytes()).unwrap();
    socket
}

fn first_byte(mut socket: &TcpStream) {
    socket.read_exact(&mut [0]).unwrap();
}

const UPGRADE: &str = "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A client of the plain wire that has been admitted.
fn plain(hub: &Hub, path: &str) -> TcpStream {
    let head = format!("GET {path} HTTP/1.1\r\n{UPGRADE}\r\n");
    let socket = connect(hub.local_addr().unwrap(), &head);
    first_byte(&socket);
    socket
}

/// A client on `stepcast.v1` that has been admitted and follows these feeds.
fn v1(hub: &Hub, feeds: &str) -> TcpStream {
    let head = format!("GET / HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Protocol: stepcast.v1\r\n\r\n");
    let mut socket = connect(hub.local_addr().unwrap(), &head);
    first_byte(&socket);
    let clients = hub.client_count();
    let hello = format!("{{\"hello\":{{\"feeds\":{feeds}}}}}{:126}", "");
    let length = u16::try_from(hello.len()).unwrap().to_be_bytes();
    let mask = [0; 4];
    let frame = [&[0x81, 0xfe][..], &length, &mask, hello.as_bytes()].concat();
    socket.write_all(&frame).unwrap();
    until("the hello to be heard", || hub.client_count() == clients + 1);
    socket
}

/// A client on each wire, of a feed.
fn one_of_each(hub: &Hub, feed: &str) -> [TcpStream; 2] {
    [plain(hub, &format!("/feed/{feed}")), v1(hub, &format!("{{\"{feed}\":{{}}}}"))]
}

/// Reads, without keeping anything, until this has come.
fn read_to(mut socket: &TcpStream, end: &[u8]) {
    let mut bytes = [0; 16 << 10];
    let mut kept = 0;
    loop {
        let count = socket.read(&mut bytes[kept..]).unwrap();
        assert!(count > 0, "the stream ended");
        let there = kept + count;
        if bytes[..there].windows(end.len()).any(|window| window == end) {
            return;
        }
        let from = there.saturating_sub(end.len());
        bytes.copy_within(from..there, 0);
        kept = there - from;
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn a_page_is_not_copied_for_those_who_ask_for_it_and_do_not_read_it() {
    const PEERS: usize = 200;
    let _alone = alone();
    for head in [GET, "GET /stepcast.js HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let hub = patient().page("x".repeat(5 << 20)).spawn_blocking("127.0.0.1:0").unwrap();
        let before = allocated();
        let peers: Vec<_> = (0..PEERS).map(|_| connect(hub.local_addr().unwrap(), head)).collect();
        peers.iter().for_each(first_byte);
        let each = (allocated() - before) / PEERS;
        assert!(each < 4096, "{each} bytes for each");
    }
}

/// Keeps all that is pushed, up to the limits.
fn keeper() -> HubBuilder {
    patient().retention(Retention::default().messages(usize::MAX).age(LONG))
}

#[test]
fn messages_count_what_they_take_however_small_and_on_both_wires() {
    let _alone = alone();
    for len in [1, 30, 1000] {
        let hub = keeper().spawn_blocking("127.0.0.1:0").unwrap();
        let feed = hub.feed("run").unwrap();
        let readers = one_of_each(&hub, "run");
        let before = held(&hub);
        // Just above a power of two, where there is most spare room, the bytes of half, text of the others.
        for number in 0..4200 {
            if number % 2 == 0 {
                feed.send("x".repeat(len)).unwrap();
            } else {
                feed.send(vec![b'x'; len]).unwrap();
            }
        }
        feed.send("the end").unwrap();
        for reader in &readers {
            read_to(reader, b"the end");
        }
        assert_counted(&format!("messages of {len}"), &hub, before);
    }
}

#[test]
fn values_count_what_they_and_their_keys_take() {
    let _alone = alone();
    for len in [1, 100] {
        let limits = Limits::default().keys(10_000);
        let hub = keeper().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
        let feed = hub.feed("run").unwrap();
        let readers = one_of_each(&hub, "run");
        let before = held(&hub);
        for number in 0..4200 {
            feed.set(&format!("{number}"), "x".repeat(len)).unwrap();
        }
        feed.set("last", "the end").unwrap();
        for reader in &readers {
            read_to(reader, b"the end");
        }
        assert_counted(&format!("values of {len}"), &hub, before);
    }
}

/// A frame of so many bytes, as a client sends it.
fn frame_of(len: u16) -> Vec<u8> {
    let [high, low] = len.to_be_bytes();
    let mut frame = vec![0x82, 0xfe, high, low, 0, 0, 0, 0];
    frame.resize(frame.len() + usize::from(len), 0);
    frame
}

#[test]
fn messages_that_never_end_take_a_quarter_of_the_memory_and_fail_no_push_and_no_honest_message() {
    const MEMORY: usize = 8 << 20;
    let _alone = alone();
    let limits = Limits::default().memory(MEMORY).inbound_per_second(u32::MAX);
    let hub = patient().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let feed = hub.feed("run").unwrap();
    let mut honest = Peer::connect(&hub);
    let (message, bytes) = (frame_of(60_000), 60_000 * 3 / 4);
    let mut hostile = Vec::new();
    for number in 0..150_u32 {
        let mut peer = Peer::connect(&hub);
        let before = hub.stats().bytes_in;
        peer.socket.write_all(&message[..bytes]).unwrap();
        until("it to be read", || hub.stats().bytes_in >= before + bytes as u64);
        hostile.push(peer);
        assert!(hub.stats().memory < MEMORY / 4 + (256 << 10), "{}", hub.stats().memory);
        feed.send(vec![0; 1000]).unwrap();
        // Begun when there is no room, and ended after that.
        honest.socket.write_all(&message[..50_000]).unwrap();
        until("it to be read", || hub.stats().bytes_in >= before + bytes as u64 + 50_000);
        honest.socket.write_all(&message[50_000..]).unwrap();
        let id = honest.id;
        event(&mut events, |event| {
            matches!(event, Event::Message { id: by, .. } if by == id).then_some(())
        });
        assert!(number < 50 || hub.client_count() < number as usize, "nobody has made way");
    }
    assert_eq!(hostile[0].close_code(), 1013);
}

#[test]
fn events_that_nobody_takes_leave_room_for_messages_that_arrive() {
    const MEMORY: usize = 8 << 20;
    let _alone = alone();
    let limits = Limits::default().memory(MEMORY).events(1 << 20).inbound_per_second(u32::MAX);
    let hub = patient().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let mut peer = Peer::connect(&hub);
    for number in 1..=300 {
        peer.send(vec![0; 60_000]);
        until("the message", || hub.stats().received == number);
        assert!(hub.stats().memory <= MEMORY / 8, "{}", hub.stats().memory);
    }
    let missed: u64 = std::iter::from_fn(|| events.try_recv())
        .map(|event| if let Event::Missed(count) = event { count } else { 0 })
        .sum();
    assert!((270..300).contains(&missed), "{missed}");
}

#[test]
fn a_message_that_takes_too_long_to_arrive_closes_the_connection_though_pings_come_between() {
    let _alone = alone();
    let timeouts = Timeouts::default().frame(Duration::from_millis(200));
    let hub = Hub::builder().timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap();
    let (part, ping) = ([0x01, 0x80, 0, 0, 0, 0], [0x89, 0x80, 0, 0, 0, 0]);
    let mut peer = Peer::connect(&hub);
    peer.socket.write_all(&part).unwrap();
    let mut other = peer.socket.try_clone().unwrap();
    let trickle = thread::spawn(move || {
        while other.write_all(&ping).is_ok() {
            thread::sleep(Duration::from_millis(5)); // a peer that is never silent
        }
    });
    assert_eq!(peer.close_code(), 1008);
    drop(peer);
    hub.shutdown_blocking(PATIENCE);
    trickle.join().unwrap();
}

#[test]
fn long_paths_and_headers_are_counted_and_refused_where_there_is_no_memory_for_them() {
    const MEMORY: usize = 4 << 20;
    const LEN: usize = 3000;
    let _alone = alone();
    let limits = Limits::default().memory(MEMORY).clients_per_address(1000);
    let builder = patient().limits(limits).keep_header("x-one").keep_header("X-One");
    let hub = builder.authorize_follow(|_, _| true).spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();
    let head = |more: &str| {
        let (path, header) = ("p".repeat(LEN), "h".repeat(LEN));
        format!("GET /?{path} HTTP/1.1\r\n{UPGRADE}X-One: {header}\r\n{more}\r\n")
    };
    // The path, and the header as often as it is kept. On `stepcast.v1` the rule needs the request, too.
    for (more, each) in [("", 3 * LEN), ("Sec-WebSocket-Protocol: stepcast.v1\r\n", 5 * LEN)] {
        let before = held(&hub);
        let refused = || usize::try_from(hub.stats().refused).unwrap();
        let refused_before = refused();
        // One is answered before the next one asks: a head that has come in part counts, too, and
        // where many ask at once the hub may have the later ones first.
        let mut peers = Vec::new();
        let mut taken = 0;
        for number in 1..=100 {
            let peer = connect(address, &head(more));
            first_byte(&peer);
            peers.push(peer);
            if refused() == refused_before {
                taken = number;
            } else {
                assert_eq!(refused() - refused_before, number - taken, "those that came last");
            }
        }
        let room = MEMORY / 8 / each;
        assert!((room - 1..=room + 1).contains(&taken), "{taken} are taken, with room for {room}");
        assert!(hub.stats().memory < MEMORY / 8 + 16 * LEN, "{}", hub.stats().memory);
        assert_counted("heads", &hub, before);
        // Who asks for less is let in.
        drop(plain(&hub, "/?short"));
        drop(peers);
        until("all to be gone", || hub.stats().memory == 0);
    }
    // Requests that come in pieces have a quarter.
    let (before, refused) = (held(&hub), hub.stats().refused);
    let head = format!("GET /?{} HTTP/1.1\r\n", "x".repeat(7000));
    let pieces: Vec<_> = (0..200).map(|_| connect(address, &head)).collect();
    until("some to be refused", || hub.stats().refused > refused + 40);
    assert!(hub.stats().memory <= MEMORY / 4 + 2 * LEN, "{}", hub.stats().memory);
    assert_counted("requests in pieces", &hub, before);
    drop(pieces);
}

/// All at once: messages of a byte and large ones, on feeds and in mailboxes, few and many feeds and keys, clients on
/// both wires that read nothing, pages that are not read, messages and requests that do not end, long paths.
#[test]
fn whatever_peers_do_no_more_is_allocated_than_one_and_a_half_times_what_is_counted() {
    const MEMORY: usize = 24 << 20;
    let _alone = alone();
    let limits = Limits::default().memory(MEMORY).keys(100_000).clients_per_address(1000);
    let builder = keeper().limits(limits).page("x".repeat(5 << 20));
    let hub = builder.spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();
    let readers = one_of_each(&hub, "run");
    let run = hub.feed("run").unwrap();
    let feeds: Vec<_> = (0..300).map(|n| hub.feed(&format!("feed {n}")).unwrap()).collect();
    let follow_all = (0..50).map(|n| format!("\"feed {n}\":{{}}")).collect::<Vec<_>>().join(",");
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.extend(one_of_each(&hub, "run"));
        slow.push(v1(&hub, &format!("{{\"run\":{{}},{follow_all}}}")));
    }
    let mut arriving: Vec<_> = (0..40).map(|_| plain(&hub, "/")).collect();
    let pages: Vec<_> = (0..40).map(|_| connect(address, GET)).collect();
    pages.iter().for_each(first_byte);
    for feed in &feeds {
        feed.send("the first").unwrap(); // what a feed takes is bounded by their number
    }
    run.send("the beginning").unwrap();
    for reader in &readers {
        read_to(reader, b"the beginning");
    }
    let clients: Vec<_> = hub.clients().iter().map(Client::id).collect();

    let before = held(&hub);
    let mut worst: f64 = 0.0;
    let mut long = Vec::new();
    for round in 0..100_usize {
        for number in 0..100 {
            let _ = run.send("x");
            let _ = run.set(&format!("{}", round * 20 + number % 20), "x");
            if number % 10 == 0 {
                let _ = run.send(vec![0; 2000]);
            }
        }
        for feed in &feeds {
            let _ = feed.send("x");
        }
        for id in &clients {
            let _ = hub.send(*id, "x");
            let _ = hub.set(*id, &format!("{}", round % 10), vec![1]);
        }
        if let Some(peer) = arriving.get_mut(round % 40) {
            let _ = peer.write_all(&frame_of(60_000)[..1000 * (1 + round / 2)]);
        }
        if round < 60 {
            long.push(connect(
                address,
                &format!("GET /?{} HTTP/1.1\r\n{UPGRADE}\r\n", "x".repeat(7000)),
            ));
            long.push(connect(address, &format!("GET /?{} HTTP/1.1\r\n", "x".repeat(7000))));
        }
        let end = format!("the end of round {round}.");
        until("it to be taken", || run.send(end.clone()).is_ok());
        for reader in &readers {
            read_to(reader, end.as_bytes());
        }
        let [allocated, counted] = held(&hub);
        let (allocated, counted) = (allocated - before[0], counted - before[1]);
        if counted > 4 << 20 {
            let factor = allocated as f64 / counted as f64;
            worst = worst.max(factor);
            assert!(factor < FACTOR, "{allocated} bytes, and {counted} counted, in round {round}");
        }
    }
    let most = held(&hub)[1];
    println!("at most {worst:.2} of what is counted, {most} bytes in the end, {:?}", hub.stats());
    assert!(worst > 0.0 && most > 12 << 20, "{most} bytes are not much");
}

#[test]
fn connections_that_take_nothing_make_way_before_a_feed_loses_anything() {
    const MEMORY: usize = 8 << 20;
    const TICK: Duration = Duration::from_millis(10);
    let _alone = alone();
    let limits = Limits::default().memory(MEMORY);
    let timeouts = Timeouts::default().keepalive(LONG).stall(LONG).frame(LONG).pong(5 * TICK);
    let builder = keeper().limits(limits).timeouts(timeouts);
    let hub = builder.spawn_blocking("127.0.0.1:0").unwrap();
    let kept = hub.feed("kept").unwrap();
    for number in 0..1100 {
        kept.send(format!("kept {number:01000}")).unwrap();
    }
    // Who follows two feeds has its lines joined for itself.
    let stuck: Vec<_> = (0..60).map(|_| v1(&hub, r#"{"a":{},"b":{}}"#)).collect();
    let feeds = ["a", "b"].map(|name| hub.feed(name).unwrap());
    for _ in 0..150 {
        for feed in &feeds {
            feed.send("x".repeat(1000)).unwrap();
        }
    }
    // All have something to write, and nothing is taken for a while: a connection that has just begun
    // to take nothing is not given up.
    until("they to be stuck", || {
        let written = hub.stats().bytes_out;
        thread::sleep(10 * TICK); // at least
        let is_written = |client: &Client| client.info().queued_bytes > 0;
        hub.clients().iter().all(is_written) && hub.stats().bytes_out == written
    });
    let connected = || hub.clients().iter().filter(|client| client.info().connected).count();
    assert_eq!(connected(), 60);
    // A feed has a quarter of the memory: two are sure to want more than is left.
    let late = ["late", "later"].map(|name| hub.feed(name).unwrap());
    until("room to be made", || {
        for feed in &late {
            let _ = feed.send("x".repeat(10_000));
        }
        connected() < 60
    });
    let first = format!("kept {:01000}", 0);
    let reader = plain(&hub, "/feed/kept");
    read_to(&reader, first.as_bytes());
    // The hub has served another since, so that all have gone who make way: no more than need be. The
    // others fit in a quarter of the memory, with what each has taken up: 64 KiB and a frame of 16 KiB.
    let left = connected() - 1;
    let fit = [80 << 10, 64 << 10].map(|each| MEMORY / 4 / each);
    assert!((fit[0]..=fit[1]).contains(&left), "{left} are left, and not {fit:?}");
    drop(stuck);
}
