//! Peers that send as much as they can, or as little at a time: what it costs the hub, in processor
//! time and memory, and that others are on time meanwhile. Processor time is that of the hub's own
//! thread, so that a busy machine changes little. The bars are several times what a debug build
//! takes.
#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio_util::codec::Decoder;

use crate::support::bystander::cpu::Metered;
use crate::support::bystander::{Bystander, send_until_cut};
use crate::support::peer::{Peer, event, exchange, until};
use stepcast::codec::{self, Control, Incoming, MessageCodec, Role};
use stepcast::{DisconnectReason, Event, Hub, Limits, Timeouts};

/// A frame with a masking key of zeros.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0], payload].concat()
}

/// Sends these bytes again and again until the hub takes no more of them, also while it closes:
/// whoever floods does not stop for that. Returns the code that they get.
fn flood(frames: &[u8]) -> u16 {
    let close = Duration::from_millis(300);
    let limits = Limits::default().events(10_000); // room for more than it may send
    let timeouts = Timeouts::default().close(close);
    let metered = Metered::spawn(Hub::builder().limits(limits).timeouts(timeouts));
    let hub = &metered.hub;
    let mut events = hub.events();
    let bystander = Bystander::of(hub);
    let mut peer = Peer::connect(hub);
    let chunk = frames.repeat((64 * 1024 / frames.len()).max(1));
    let (before, started) = (metered.used(), Instant::now());
    let (mut most, mut told) = (0, None);
    send_until_cut(&mut peer.socket, &chunk, || {
        most = most.max(hub.stats().memory);
        while let Some(event) = events.try_recv() {
            if let Event::Gone { reason, .. } = event {
                told = Some((reason, started.elapsed()));
            }
        }
    });
    let taken = Duration::from_nanos(hub.stats().bytes_in); // at a nanosecond for each byte
    let used = metered.used_since(before);
    assert!(used < Duration::from_millis(300) + taken, "{used:?} for {taken:?}");
    assert!(most < 512 << 10, "{most} bytes were held"); // the events of two seconds, of 193 bytes each
    bystander.noticed_nothing();
    // It may have been told after the last look.
    let (reason, when) = told.unwrap_or_else(|| {
        event(&mut events, |event| match event {
            Event::Gone { reason, .. } => Some((reason, started.elapsed())),
            _ => None,
        })
    });
    assert!(when < Duration::from_secs(3), "it was cut after {when:?}");
    match reason {
        DisconnectReason::Violation(close) => close.code().get(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_flood_of_pings_is_cut_with_1008() {
    assert_eq!(flood(&masked(0x89, &[b'p'; 125])), 1008);
}

#[test]
fn a_flood_of_pongs_is_cut_with_1008() {
    assert_eq!(flood(&masked(0x8a, b"")), 1008);
}

#[test]
fn a_flood_of_messages_is_cut_with_1008() {
    assert_eq!(flood(&masked(0x82, b"")), 1008);
}

#[test]
fn a_flood_of_messages_in_fragments_is_cut_with_1008() {
    assert_eq!(flood(&[masked(0x01, b"a"), masked(0x80, b"b")].concat()), 1008);
}

#[test]
fn a_flood_of_empty_continuations_is_cut_with_1009() {
    assert_eq!(flood(&[masked(0x01, b""), masked(0x00, b"").repeat(10_000)].concat()), 1009);
}

#[test]
fn a_flood_of_fragments_of_a_byte_is_cut_with_1009() {
    assert_eq!(flood(&[masked(0x01, b"x"), masked(0x00, b"x").repeat(9_000)].concat()), 1009);
}

/// The processor's time that decoding these frames takes this thread, on the machine as it is now.
fn decoding(frames: &[u8]) -> Duration {
    let used = || {
        let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    };
    let limits = codec::FrameLimits::default().fragments(usize::MAX);
    let mut codec = MessageCodec::new(Role::Server, limits);
    let (before, mut buffer) = (used(), BytesMut::new());
    for read in frames.chunks(64 * 1024) {
        buffer.extend_from_slice(read);
        while codec.decode(&mut buffer).unwrap().is_some() {}
    }
    used().saturating_sub(before)
}

/// What the limits permit costs a bounded time for each frame, and the others have their turns.
#[test]
fn a_flood_that_the_limits_permit_costs_little_for_each_frame_and_holds_up_nobody() {
    // One message each, longer than what could be copied for every frame of it.
    let fragments = |each: &[u8]| {
        [masked(0x01, b"x"), masked(0x00, each).repeat(599_998), masked(0x80, b"x")].concat()
    };
    for (what, frames) in [
        ("pings", masked(0x89, &[b'p'; 125]).repeat(40_000)),
        ("pongs", masked(0x8a, b"").repeat(3_000_000)), // a second of its time
        ("messages", masked(0x81, b"").repeat(400_000)),
        ("fragments of a byte", fragments(b"x")),
        ("empty fragments", fragments(b"")),
    ] {
        let limits = Limits::default()
            .inbound_per_second(u32::MAX)
            .inbound_fragments(usize::MAX)
            .inbound_message(1 << 20);
        let metered = Metered::spawn(Hub::builder().limits(limits));
        let hub = &metered.hub;
        let mut peer = Peer::connect(hub);
        let mut socket = peer.socket.try_clone().unwrap();
        let reading = thread::spawn(move || peer.gone()); // takes what is answered
        // First what is quickly read, until the system has widened the window: then there is
        // always more to read of the frames that take the hub longer than their sender.
        let mut large = vec![0x82, 0xfe, 0xea, 0x60, 0, 0, 0, 0];
        large.resize(8 + 60_000, 0);
        socket.write_all(&large.repeat(600)).unwrap();
        until("the large ones to be read", || hub.stats().received == 600);
        let bystander = Bystander::of(hub);
        let (before, received) = (metered.used(), hub.stats().bytes_in);
        socket.write_all(&frames).unwrap();
        let mut most = 0;
        until("all frames to be read", || {
            most = most.max(hub.stats().memory);
            hub.stats().bytes_in >= received + frames.len() as u64
        });
        let (used, alone) = (metered.used_since(before), decoding(&frames));
        // A ping is answered, by one write for the pings of one read at least.
        let bar = if what == "pings" { 25 } else { 8 };
        assert!(used < alone * bar, "{what}: {used:?}, where the codec alone takes {alone:?}");
        assert!(most < 2 << 20, "{what}: {most} bytes were held"); // a message, and the room it grows into
        bystander.noticed_nothing();
        socket.shutdown(Shutdown::Both).unwrap();
        reading.join().unwrap();
    }
}

/// Pings of a peer that does not read: one answer is kept, however many were asked for.
#[test]
fn a_flood_of_pings_by_who_never_reads_makes_nothing_grow() {
    let limits = Limits::default().inbound_per_second(u32::MAX).mailbox(64 << 20);
    let metered = Metered::spawn(Hub::builder().limits(limits));
    let hub = &metered.hub;
    let mut peer = Peer::connect(hub);
    for _ in 0..32 {
        hub.send(peer.id, vec![0; 1 << 20]).unwrap(); // fills the socket
    }
    let before = hub.stats().memory;
    let flood = masked(0x89, &[b'p'; 125]).repeat(50_000);
    let received = hub.stats().bytes_in;
    peer.socket.write_all(&flood).unwrap();
    until("all pings to be read", || hub.stats().bytes_in >= received + flood.len() as u64);
    // What has been read at once waits for its turns; and then there is one partial frame at most.
    assert!(hub.stats().memory <= before + (128 << 10));
    until("them to be looked at", || hub.stats().memory <= before + 1024);
    assert!(hub.client(peer.id).unwrap().info().queued_bytes <= 33 << 20);
    // Then it reads: the data, and far fewer Pongs than pings.
    let (mut data, mut pongs) = (0, 0);
    while data < 32 {
        match peer.recv() {
            Incoming::Message(_) => data += 1,
            Incoming::Control(Control::Pong(_)) => pongs += 1,
            other @ Incoming::Control(_) => panic!("{other:?}"),
        }
    }
    assert!(pongs < 25_000, "{pongs}");
}

/// Sends 600 bytes, each on its own once the one before has been read, and returns what one costs,
/// in the best and in the worst of three rounds: on a busy machine a wake-up may cost several times
/// as much.
fn one_at_a_time(metered: &Metered, socket: &mut TcpStream) -> (Duration, Duration) {
    let rounds = [(); 3].map(|()| {
        let before = metered.used();
        for _ in 0..200 {
            let received = metered.hub.stats().bytes_in;
            socket.write_all(b"x").unwrap();
            until("the byte to be read", || metered.hub.stats().bytes_in > received);
        }
        metered.used_since(before) / 200
    });
    (rounds.into_iter().min().unwrap(), rounds.into_iter().max().unwrap())
}

#[test]
fn a_message_a_byte_at_a_time_costs_the_same_for_each_however_much_has_come() {
    const LENGTH: usize = 4 << 20;
    let limits = Limits::default().inbound_message(LENGTH);
    let metered = Metered::spawn(Hub::builder().limits(limits));
    let hub = &metered.hub;
    let mut peer = Peer::connect(hub);
    for kind in [0x81, 0x82] {
        let head = [&[kind, 0xff][..], &(LENGTH as u64).to_be_bytes(), &[0; 4]].concat();
        peer.socket.write_all(&head).unwrap();
        let (_, first) = one_at_a_time(&metered, &mut peer.socket);
        let received = hub.stats().bytes_in;
        peer.socket.write_all(&vec![b'x'; LENGTH - 1200]).unwrap();
        until("most of it", || hub.stats().bytes_in >= received + LENGTH as u64 - 1200);
        let (last, _) = one_at_a_time(&metered, &mut peer.socket);
        assert!(last < first * 3, "{first:?} for one of the first, {last:?} for one of the last");
        assert!(hub.stats().memory < 2 * LENGTH, "{}", hub.stats().memory);
    }
    until("both messages", || hub.stats().received == 2);
    until("their memory to be free", || hub.stats().memory < 16 << 10);
}

#[test]
fn a_request_a_byte_at_a_time_costs_the_same_for_each_however_much_has_come() {
    let metered = Metered::spawn(Hub::builder());
    let hub = &metered.hub;
    let mut socket = TcpStream::connect(hub.local_addr().unwrap()).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.write_all(b"GET /").unwrap();
    let (_, first) = one_at_a_time(&metered, &mut socket);
    let received = hub.stats().bytes_in;
    let most = format!(" HTTP/1.1\r\n{}", format!("X: {}\r\n", "y".repeat(110)).repeat(60));
    socket.write_all(most.as_bytes()).unwrap();
    until("most of it", || hub.stats().bytes_in >= received + most.len() as u64);
    let (last, _) = one_at_a_time(&metered, &mut socket);
    assert!(last < first * 3, "{first:?} for one of the first, {last:?} for one of the last");
}

/// What comes after the first 8 KiB is thrown away unseen.
#[test]
fn a_flood_of_requests_of_a_mebibyte_costs_little_for_each() {
    let metered = Metered::spawn(Hub::builder());
    let hub = &metered.hub;
    let bystander = Bystander::of(hub);
    let before = metered.used();
    let in_one_line = format!("GET /{}", "x".repeat(1 << 20));
    let in_many = format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat((1 << 20) / 6));
    for head in [in_one_line, in_many] {
        for _ in 0..50 {
            let answer = exchange(hub.local_addr().unwrap(), head.as_bytes());
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        }
    }
    let for_each = metered.used_since(before) / 100;
    assert!(for_each < Duration::from_millis(5), "{for_each:?} for each");
    bystander.noticed_nothing();
}
