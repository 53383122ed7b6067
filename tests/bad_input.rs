//! Bad input, and what it gets: each row, and each item of it, is a test. In this file a test's name
//! begins with its row's word; beside most of them a viewer looks on who must not notice.
//!
//! | input | tests |
//! |---|---|
//! | any protocol violation | `a_violation_*` |
//! | garbage, a TLS hello, HTTP/1.0, the preface of HTTP/2, a slow drip, 1 MiB of header | `a_request_*`; what it costs: `bad_input_floods`: `a_flood_of_requests_of_a_mebibyte_*`, `a_request_a_byte_at_a_time_*`; `bad_input_churn`: `a_crowd_*` |
//! | a peer that never reads | `never_reading_*`; more in `hub_slow` |
//! | a peer that vanishes | `vanishing_*` |
//! | pings, pongs, messages, empty continuations, a fragment for each byte, without end | `bad_input_floods`: `a_flood_of_*`, `a_flood_that_the_limits_permit_*` |
//! | a byte at a time | `bad_input_floods`: `a_message_a_byte_at_a_time_*`, `a_request_a_byte_at_a_time_*` |
//! | data after a Close, a Close that is not answered, sockets half closed | `closing_*` |
//! | `send` to who is not there | `bad_input_send`: `sending_to_an_unknown_or_gone_id_*` |
//! | 10 000 connections that come and go | `bad_input_churn`: `ten_thousand_connections_*` |
//! | the listener meets `EMFILE` | `bad_input_descriptors`: `out_of_descriptors_*` |
//! | a panic in a thread that holds a `Hub` | `panicking_*` |
//! | `shutdown` with every peer stuck | `bad_input_shutdown`: `shutdown_*` |

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::bystander::{Bystander, send_until_cut};
use crate::support::peer::{Peer, event, exchange, until};
use crate::support::wire::PATIENCE;
use stepcast::codec::{Control, ControlPayload, Incoming};
use stepcast::{ClientId, DisconnectReason, Event, Events, Hub, Limits, Message, Timeouts};

const CLOSE: Duration = Duration::from_millis(300);
const PATIENT: Duration = Duration::from_secs(600);

fn hub() -> Hub {
    Hub::spawn_blocking("127.0.0.1:0").unwrap()
}

fn hub_with(timeouts: Timeouts) -> Hub {
    Hub::builder().timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap()
}

fn reason_for(events: &mut Events, client: ClientId) -> DisconnectReason {
    event(events, |event| match event {
        Event::Gone { id, reason } if id == client => Some(reason),
        _ => None,
    })
}

/// How much later than its deadline something may be seen on a machine that is busy elsewhere.
const SLACK: Duration = Duration::from_secs(4);

/// What the hub's milliseconds, and its looking at the clock once a turn, leave of the deadline.
fn not_before(deadline: Duration, started: Instant) {
    let took = started.elapsed();
    assert!(took >= deadline * 9 / 10, "{took:?}, where there were {deadline:?}");
}

fn not_long_after(deadline: Duration, started: Instant) {
    let took = started.elapsed();
    assert!(took < deadline + SLACK, "{took:?}, where there were {deadline:?}");
}

// ---- violations ----

/// A frame with a masking key of zeros, which leaves the payload as it is.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// A frame's head with its length in two bytes, or in eight.
fn head_16(first: u8, length: u16) -> Vec<u8> {
    [&[first, 0xfe], &length.to_be_bytes()[..], &[0; 4]].concat()
}

fn head_64(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xff], &length.to_be_bytes()[..], &[0; 4]].concat()
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    masked(0x88, &[&code.to_be_bytes(), reason].concat())
}

/// Every way to break RFC 6455 that a server can see, and the two limits: what it is, what is sent,
/// and the code of the Close that it gets. Messages are limited to 1000 bytes in 3 frames.
fn violations() -> Vec<(String, Vec<u8>, u16)> {
    let begun = || masked(0x01, b"begun");
    let mut all: Vec<(String, Vec<u8>, u16)> = Vec::new();
    let mut add = |code, what: &str, bytes: Vec<u8>| all.push((what.to_owned(), bytes, code));

    // 5.2: "MUST be 0 unless an extension is negotiated"; before the rest of the frame has come.
    for bit in [0x40, 0x20, 0x10] {
        add(1002, &format!("reserved bit {bit:#x} of a text"), masked(0x81 | bit, b""));
        add(1002, &format!("reserved bit {bit:#x} of a ping"), masked(0x89 | bit, b""));
        add(1002, &format!("reserved bit {bit:#x} of a close"), masked(0x88 | bit, b""));
        let frames = [begun(), masked(0x80 | bit, b"")].concat();
        add(1002, &format!("reserved bit {bit:#x} of a continuation"), frames);
        add(1002, &format!("reserved bit {bit:#x}, and no more"), vec![0x82 | bit]);
    }
    // 5.2: "If an unknown opcode is received".
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        add(1002, &format!("opcode {opcode:#x}"), masked(0x80 | opcode, b""));
        add(1002, &format!("opcode {opcode:#x}, unfinished"), masked(opcode, b""));
    }
    // 5.1: "The server MUST close the connection upon receiving a frame that is not masked."
    for first in [0x81, 0x82, 0x88, 0x89, 0x8a] {
        add(1002, &format!("{first:#x} without a mask"), vec![first, 0x00]);
    }
    add(1002, "a continuation without a mask", [begun(), vec![0x80, 0x00]].concat());
    // 5.5: control frames "MUST have a payload length of 125 bytes or less and MUST NOT be
    // fragmented".
    for opcode in [0x8, 0x9, 0xa] {
        add(1002, &format!("control {opcode:#x} in fragments"), masked(opcode, b""));
        add(1002, &format!("control {opcode:#x} of 126 bytes"), head_16(0x80 | opcode, 126));
        add(1002, &format!("control {opcode:#x} of 125 bytes, long"), head_16(0x80 | opcode, 125));
        add(1002, &format!("control {opcode:#x} of 65536 bytes"), head_64(0x80 | opcode, 65536));
    }
    // 5.4
    add(1002, "a continuation of nothing", masked(0x80, b""));
    add(1002, "an unfinished continuation of nothing", masked(0x00, b""));
    for first in [0x81, 0x82, 0x01, 0x02] {
        let frames = [begun(), masked(first, b"another")].concat();
        add(1002, &format!("{first:#x} inside another message"), frames);
    }
    let frames = [begun(), masked(0x80, b""), masked(0x80, b"")].concat();
    add(1002, "a continuation after the last one", frames);
    let frames = [begun(), masked(0x89, b""), masked(0x81, b"")].concat();
    add(1002, "a text inside another, behind a ping", frames);
    // 5.2: "the minimal number of bytes MUST be used to encode the length", "the most significant
    // bit MUST be 0".
    add(1002, "0 in two bytes", head_16(0x82, 0));
    add(1002, "125 in two bytes", head_16(0x82, 125));
    add(1002, "125 in eight bytes", head_64(0x82, 125));
    add(1002, "65535 in eight bytes", head_64(0x82, 65535));
    add(1002, "a length with the highest bit", head_64(0x82, (1 << 63) + 200));
    add(1002, "the largest length of all", head_64(0x82, u64::MAX));
    // 5.5.1, 7.4
    add(1002, "a close with half a code", masked(0x88, &[0x03]));
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        add(1002, &format!("a close with code {code}"), close(code, b""));
    }
    // 8.1
    let bad_texts: [(&str, &[u8]); 7] = [
        ("a byte that never occurs", b"\xff"),
        ("a continuation byte alone", b"\x80"),
        ("a character that is cut off", b"ab\xe2\x82"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("an overlong form", b"\xc0\xaf"),
        ("an overlong form of three bytes", b"\xe0\x80\xaf"),
        ("more than U+10FFFF", b"\xf4\x90\x80\x80"),
    ];
    for (what, text) in bad_texts {
        add(1007, &format!("{what} in a text"), masked(0x81, text));
        add(1007, &format!("{what} in a reason"), close(1000, text));
        let frames = [begun(), masked(0x80, text)].concat();
        add(1007, &format!("{what} in a continuation"), frames);
    }
    let frames = [masked(0x01, b"\xe2\x82"), masked(0x80, b"")].concat();
    add(1007, "a character that the last, empty frame leaves cut off", frames);
    add(
        1007,
        "a character cut off by another",
        [masked(0x01, b"\xe2"), masked(0x80, b"a")].concat(),
    );
    add(
        1007,
        "a bad byte of a text that is not complete",
        masked(0x81, &[b'x'; 100])[..6].to_vec(),
    );
    if let Some((_, bytes, _)) = all.last_mut() {
        bytes.push(0xff);
    }
    let mut add = |code, what: &str, bytes: Vec<u8>| all.push((what.to_owned(), bytes, code));
    // 7.4.1: 1009, and before any of it has come.
    add(1009, "a text above the limit", head_16(0x81, 1001));
    add(1009, "a message above the limit of 64 KiB", head_64(0x82, 65536));
    add(1009, "a message of half of all there is", head_64(0x82, u64::MAX >> 1));
    let half = [head_16(0x02, 600), vec![0; 600]].concat();
    add(1009, "fragments above the limit", [half, head_16(0x80, 401)].concat());
    add(1009, "a message in too many frames", masked(0x00, b"").repeat(3));
    if let Some((_, bytes, _)) = all.last_mut() {
        bytes.splice(..0, begun());
    }
    all
}

// RFC 6455, 7.1.7: "An endpoint ... SHOULD send a Close frame with an appropriate status code
// before proceeding to Fail the WebSocket Connection."
#[test]
fn a_violation_is_answered_with_its_code_and_the_end_and_others_notice_nothing() {
    let limits = Limits::default().inbound_message(1000).inbound_fragments(3);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let bystander = Bystander::of(&hub);
    let violations = violations();
    assert!(violations.len() > 80);
    for byte_by_byte in [false, true] {
        for (what, bytes, code) in &violations {
            let mut events = hub.events();
            let mut peer = Peer::connect(&hub);
            if byte_by_byte {
                for byte in bytes {
                    peer.socket.write_all(&[*byte]).unwrap();
                }
            } else {
                peer.socket.write_all(bytes).unwrap();
            }
            assert_eq!(peer.close_code(), *code, "{what}");
            assert!(peer.rest().is_empty(), "{what}: more after the Close");
            let told = reason_for(&mut events, peer.id);
            let right = matches!(&told, DisconnectReason::Violation(c) if c.code().get() == *code);
            assert!(right, "{what}: {told:?}");
            assert!(hub.client(peer.id).is_none(), "{what}: still a client");
        }
    }
    bystander.noticed_nothing();
}

#[test]
fn a_violation_by_a_peer_that_never_reads_the_close_is_over_at_the_close_deadline() {
    let hub = hub_with(Timeouts::default().close(CLOSE).stall(PATIENT));
    let bystander = Bystander::of(&hub);
    let mut events = hub.events();
    let mut peer = Peer::connect(&hub);
    hub.send(peer.id, vec![0; 16 << 20]).unwrap(); // more than its socket takes
    until("its socket to be full", || {
        hub.client(peer.id).is_some_and(|client| client.info().queued_bytes < 16 << 20)
    });
    let started = Instant::now();
    peer.socket.write_all(&masked(0x83, b"")).unwrap();
    let told = reason_for(&mut events, peer.id);
    assert!(matches!(told, DisconnectReason::Violation(_)), "{told:?}");
    not_before(CLOSE, started);
    until("what it was owed to be let go", || hub.stats().memory < 1 << 20);
    peer.gone();
    bystander.noticed_nothing();
}

// ---- requests ----

const HANDSHAKE: Duration = Duration::from_millis(400);

fn hub_of_short_handshakes() -> Hub {
    hub_with(Timeouts::default().handshake(HANDSHAKE).close(HANDSHAKE))
}

/// What these bytes get, which comes with the end of the stream, in time.
fn answer_to(address: SocketAddr, bytes: &[u8]) -> String {
    let started = Instant::now();
    let answer = exchange(address, bytes);
    not_long_after(HANDSHAKE, started);
    answer
}

fn is_refused(answer: &str, status: u16) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} "))
        && answer.to_ascii_lowercase().contains("\r\nconnection: close")
}

/// Numbers without a pattern, the same in every run (xorshift).
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
}

#[test]
fn a_request_of_garbage_gets_400_or_silence_in_time() {
    let hub = hub_of_short_handshakes();
    let bystander = Bystander::of(&hub);
    let address = hub.local_addr().unwrap();
    for garbage in [
        &b"hello\r\n\r\n"[..],
        b"\r\n\r\n\r\n",
        b"\0\0\0\0\0\0\0\0",
        b"\x81\x85\0\0\0\0frame", // a WebSocket frame without a handshake
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\nHost: localhost\n\n",
        b"GET / HTTP/1.1\r\nHost: localhost\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"EHLO mail.example\r\n",
        "GET / HTTP/1.1\r\nHöst: localhost\r\n\r\n".as_bytes(),
        b"GET / HTTP/1.1\r\nHost: localhost\r\nNo colon\r\n\r\n",
    ] {
        let answer = answer_to(address, garbage);
        assert!(is_refused(&answer, 400), "{:?}: {answer}", String::from_utf8_lossy(garbage));
    }
    for seed in 0..200 {
        // A kilobyte that could be anything, and one of letters, which never become a line.
        let anything: Vec<u8> = noise(seed).take(1024).collect();
        let answer = answer_to(address, &anything);
        let refused = [400, 408].iter().any(|status| is_refused(&answer, *status));
        assert!(answer.is_empty() || refused, "seed {seed}: {answer}");
    }
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                assert_eq!(answer_to(address, b""), "", "nothing is answered to nothing");
                let letters = answer_to(address, &[b'x'; 1024]);
                assert!(is_refused(&letters, 408), "{letters}");
            });
        }
    });
    assert_eq!(hub.client_count(), 1);
    bystander.noticed_nothing();
}

#[test]
fn a_request_that_is_a_tls_hello_gets_400_that_says_so() {
    let hub = hub_of_short_handshakes();
    let mut hello = vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    hello.extend(noise(1).take(506));
    // As a browser that was told https:// or wss:// sends it, and its first byte alone.
    for bytes in [&hello[..], &hello[..1]] {
        let answer = answer_to(hub.local_addr().unwrap(), bytes);
        assert!(is_refused(&answer, 400) && answer.contains("TLS"), "{answer}");
    }
}

#[test]
fn a_request_older_than_http_1_0_and_an_upgrade_in_that_get_400() {
    let hub = hub_of_short_handshakes();
    let address = hub.local_addr().unwrap();
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let old = format!("GET / HTTP/1.0\r\nHost: {address}\r\n{upgrade}");
    let answer = answer_to(address, old.as_bytes());
    assert!(is_refused(&answer, 400) && answer.contains("proxy_http_version 1.1"), "{answer}");
    for line in ["GET / HTTP/0.9", "GET /"] {
        // At the end of the line already: whoever waits for an answer to it gets one.
        for rest in ["\r\n".to_owned(), format!("\r\nHost: {address}\r\n{upgrade}")] {
            let answer = answer_to(address, format!("{line}{rest}").as_bytes());
            assert!(is_refused(&answer, 400), "{line}: {answer}");
        }
    }
}

#[test]
fn a_request_that_is_the_http_2_preface_gets_400_that_says_so() {
    let hub = hub_of_short_handshakes();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for bytes in [&preface[..], &preface[..4]] {
        let answer = answer_to(hub.local_addr().unwrap(), bytes);
        assert!(is_refused(&answer, 400) && answer.contains("HTTP/2"), "{answer}");
    }
}

/// A byte now and then does not buy more time, and many who do so keep nobody out.
#[test]
fn a_request_that_drips_is_ended_at_the_handshake_deadline() {
    let hub = hub_of_short_handshakes();
    let bystander = Bystander::of(&hub);
    let address = hub.local_addr().unwrap();
    let started = Instant::now();
    let mut drippers: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
    for dripper in &mut drippers {
        let head = format!("GET / HTTP/1.1\r\nHost: {address}\r\nX: ");
        dripper.write_all(head.as_bytes()).unwrap();
        dripper.set_nonblocking(true).unwrap();
    }
    let mut answers = Vec::new();
    while !drippers.is_empty() {
        drippers.retain_mut(|dripper| {
            let _ = dripper.write(b"x"); // on its own, until nobody takes it any more
            let mut answer = [0; 1024];
            match dripper.read(&mut answer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return true,
                Ok(count) => answers.push(String::from_utf8_lossy(&answer[..count]).into_owned()),
                Err(error) => panic!("a reset in place of an answer: {error}"),
            }
            not_before(HANDSHAKE, started);
            false
        });
        assert!(started.elapsed() < HANDSHAKE + SLACK, "{} are there still", drippers.len());
        thread::sleep(Duration::from_millis(5)); // slow on purpose
    }
    assert!(answers.iter().all(|answer| is_refused(answer, 408)), "{answers:?}");
    assert_eq!(hub.stats().refused, 50);
    bystander.noticed_nothing();
}

/// In one line or in many; the answer arrives though the peer is still sending, and is not lost by
/// a reset.
#[test]
fn a_request_of_a_mebibyte_gets_431() {
    let hub = hub_of_short_handshakes();
    let bystander = Bystander::of(&hub);
    let address = hub.local_addr().unwrap();
    let start = format!("GET / HTTP/1.1\r\nHost: {address}\r\n");
    let heads = [
        format!("GET /{}", "x".repeat(1 << 20)),
        format!("{start}Cookie: {}", "x".repeat(1 << 20)),
        format!("{start}{}", "X: y\r\n".repeat((1 << 20) / 6)),
        format!("{start}{}", "X: 0123456789012345678901234567890\r\n".repeat((1 << 20) / 36)),
    ];
    for head in heads {
        let answer = answer_to(address, head.as_bytes());
        assert!(is_refused(&answer, 431), "{answer}");
        assert!(hub.stats().memory < 64 << 10, "{}", hub.stats().memory);
    }
    bystander.noticed_nothing();
}

// ---- peers that do not read ----

#[test]
fn never_reading_is_cut_at_the_stall_deadline_and_the_others_are_on_time() {
    let stall = Duration::from_millis(500);
    let hub = hub_with(Timeouts::default().stall(stall));
    let mut events = hub.events();
    let bystander = Bystander::of(&hub);
    // One whose socket is full of what all get, one of what it alone gets, and one that is in the
    // middle of a large message.
    let peers: [_; 3] = std::array::from_fn(|_| Peer::connect(&hub));
    let started = Instant::now();
    hub.send(peers[2].id, vec![0; 32 << 20]).unwrap();
    let mut mark = 0;
    while peers.iter().any(|peer| hub.client(peer.id).is_some()) {
        assert!(started.elapsed() < stall + PATIENCE / 2, "still connected");
        if bystander.has_come_to(mark) {
            hub.broadcast(vec![0; 256 << 10]);
            mark = bystander.mark();
        }
        let _ = hub.send(peers[1].id, vec![0; 64 << 10]);
        // The feed and its twin, a mailbox, the large message, and what is being written.
        assert!(hub.stats().memory < 52 << 20, "{}", hub.stats().memory);
        thread::sleep(Duration::from_millis(1)); // paced on purpose
    }
    not_before(stall, started);
    let mut told: Vec<_> = peers.iter().map(|peer| peer.id).collect();
    for _ in 0..3 {
        event(&mut events, |event| match event {
            Event::Gone { id, reason } => {
                assert_eq!(reason, DisconnectReason::TimedOut);
                told.retain(|other| *other != id);
                Some(())
            }
            _ => None,
        });
    }
    assert!(told.is_empty());
    bystander.noticed_nothing();
    until("what they did not read to be let go", || hub.stats().memory == 0);
}

// ---- peers that vanish ----

/// From now on the peer's system throws away whatever arrives on this connection: it acknowledges
/// nothing, and does not even answer with a reset. So it is with a peer whose cable has been pulled.
///
/// Where there is no such filter the peer only reads nothing and answers nothing, which to the hub
/// is much the same: it does not see what a peer's system acknowledges.
fn vanish(peer: &Peer) {
    #[cfg(target_os = "linux")]
    {
        /// `BPF_RET | BPF_K` with 0: of no packet anything is kept.
        const NOTHING: socket2::SockFilter = socket2::SockFilter::new(0x06, 0, 0, 0);
        let _ = socket2::SockRef::from(&peer.socket).attach_filter(&[NOTHING]);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = peer;
}

const KEEPALIVE: Duration = Duration::from_millis(300);
const PONG: Duration = Duration::from_millis(600); // enough for who is there, on a busy machine

fn hub_that_pings() -> Hub {
    hub_with(Timeouts::default().keepalive(KEEPALIVE).pong(PONG).stall(PATIENT).frame(PATIENT))
}

#[test]
fn vanishing_while_nothing_is_said_is_found_by_keepalive_and_who_answers_stays() {
    let hub = hub_that_pings();
    let mut events = hub.events();
    let (peer, mut other) = (Peer::connect(&hub), Peer::connect(&hub));
    let started = Instant::now();
    vanish(&peer);
    let id = other.id;
    let answering = thread::spawn(move || {
        let mut answered = 0;
        while let Incoming::Control(Control::Ping(ping)) = other.recv() {
            other.control(Control::Pong(ping));
            answered += 1;
        }
        answered
    });
    assert_eq!(reason_for(&mut events, peer.id), DisconnectReason::TimedOut);
    // A ping is up to a fifth early.
    not_before(KEEPALIVE * 4 / 5 + PONG, started);
    not_long_after(KEEPALIVE + PONG, started);
    hub.send(id, "end").expect("who answers to be there");
    assert!(answering.join().unwrap() > 0);
}

/// What an empty socket takes is no sign of life: it takes small messages for minutes. One peer's
/// cable has been pulled; the other's system is there, but its program hangs.
#[test]
fn vanishing_is_found_by_keepalive_though_messages_still_leave_for_it() {
    let hub = hub_that_pings();
    let mut events = hub.events();
    let bystander = Bystander::of(&hub); // whose messages all get
    let (pulled, hanging) = (Peer::connect(&hub), Peer::connect(&hub));
    vanish(&pulled);
    let started = Instant::now();
    for _ in 0..2 {
        let (id, reason) = event(&mut events, |event| match event {
            Event::Gone { id, reason } => Some((id, reason)),
            _ => None,
        });
        assert!([pulled.id, hanging.id].contains(&id));
        assert_eq!(reason, DisconnectReason::TimedOut);
    }
    not_long_after(KEEPALIVE + PONG, started);
    bystander.noticed_nothing();
}

#[test]
fn vanishing_in_the_middle_of_a_large_message_is_found_at_the_stall_deadline() {
    let hub = hub_with(Timeouts::default().stall(Duration::from_millis(300)));
    let mut events = hub.events();
    let bystander = Bystander::of(&hub);
    let peer = Peer::connect(&hub);
    vanish(&peer);
    let started = Instant::now();
    hub.send(peer.id, vec![0; 32 << 20]).unwrap();
    assert_eq!(reason_for(&mut events, peer.id), DisconnectReason::TimedOut);
    not_long_after(Duration::from_millis(300), started);
    until("what it was owed to be let go", || hub.stats().memory < 1 << 20);
    bystander.noticed_nothing();
}

// ---- closing ----

fn hub_that_closes() -> Hub {
    hub_with(Timeouts::default().close(CLOSE))
}

/// The hub has let go of its socket: who still writes to it is told so by its own system.
fn let_go(socket: &mut TcpStream, started: Instant) {
    until("the socket to be let go", || socket.write_all(b"x").is_err());
    not_long_after(CLOSE, started);
}

#[test]
fn closing_and_then_sending_data_is_not_looked_at_and_not_answered() {
    let hub = hub();
    let mut events = hub.events();
    let mut peer = Peer::connect(&hub);
    peer.control(Control::Close(None));
    peer.send("too late");
    peer.control(Control::Ping(ControlPayload::default()));
    peer.socket.write_all(&[0xff; 100]).unwrap();
    assert_eq!(peer.close_frame(), None);
    assert!(peer.rest().is_empty(), "nothing, and no Pong, follows the Close (5.5.1)");
    peer.finish();
    assert_eq!(reason_for(&mut events, peer.id), DisconnectReason::Closed(None));
    drop(hub);
    while let Some(event) = events.recv_blocking() {
        assert!(!matches!(event, Event::Message { .. }), "{event:?}");
    }
}

// RFC 6455, 7.1.1: "the server ... is supposed to close the TCP connection first" (so that it
// holds the TIME_WAIT state). A reset would throw the Close away that is under way.
#[test]
fn closing_and_then_sending_much_data_still_gets_the_answer_and_no_reset() {
    let hub = hub();
    let mut peer = Peer::connect(&hub);
    peer.control(Control::Close(None));
    // More than the socket's buffers hold, so that the hub has to have read it.
    let data = vec![0u8; 8 << 20];
    let mut socket = peer.socket.try_clone().unwrap();
    let writer = thread::spawn(move || socket.write_all(&data));
    assert_eq!(peer.close_frame(), None);
    assert!(peer.rest().is_empty());
    writer.join().unwrap().expect("the hub to read what comes after the Close");
}

#[test]
fn closing_and_then_sending_data_without_end_is_over_at_the_close_deadline() {
    let hub = hub_that_closes();
    let bystander = Bystander::of(&hub);
    // After its own Close, after the hub's, after a violation, and after a request that is refused.
    let mut sockets: Vec<_> = (0..3).map(|_| Peer::connect(&hub)).collect();
    sockets[0].control(Control::Close(None));
    hub.disconnect(sockets[1].id, "").unwrap();
    sockets[2].socket.write_all(&masked(0x83, b"")).unwrap();
    let mut sockets: Vec<_> = sockets.into_iter().map(Peer::into_socket).collect();
    let mut refused = TcpStream::connect(hub.local_addr().unwrap()).unwrap();
    refused.write_all(b"nonsense\r\n\r\n").unwrap();
    sockets.push(refused);
    let started = Instant::now();
    thread::scope(|scope| {
        for socket in &mut sockets {
            scope.spawn(move || {
                // Masked binary frames of 1000 bytes, which a hub that looked at them would take.
                let frames = [head_16(0x82, 1000), vec![0; 1000]].concat().repeat(32);
                send_until_cut(socket, &frames, || {});
                not_long_after(CLOSE, started);
            });
        }
    });
    not_before(CLOSE, started);
    bystander.noticed_nothing();
}

#[test]
fn closing_that_is_never_answered_is_over_at_the_close_deadline() {
    let hub = hub_that_closes();
    let mut events = hub.events();
    let mut peer = Peer::connect(&hub);
    let started = Instant::now();
    hub.disconnect(peer.id, "enough").unwrap();
    let close = peer.close_frame().unwrap();
    assert_eq!((close.code().get(), close.reason()), (1000, "enough"));
    assert_eq!(reason_for(&mut events, peer.id), DisconnectReason::ByHub);
    peer.gone();
    not_before(CLOSE, started);
    not_long_after(CLOSE, started);
}

#[test]
fn closing_while_much_is_owed_to_who_reads_none_of_it_is_over_at_the_close_deadline() {
    let hub = hub_with(Timeouts::default().close(CLOSE).stall(PATIENT).frame(PATIENT));
    let mut events = hub.events();
    // Who closes, and whom the hub closes.
    for by_hub in [false, true] {
        let mut peer = Peer::connect(&hub);
        hub.send(peer.id, vec![0; 16 << 20]).unwrap();
        until("its socket to be full", || {
            hub.client(peer.id).is_some_and(|client| client.info().queued_bytes < 16 << 20)
        });
        let started = Instant::now();
        if by_hub {
            hub.disconnect(peer.id, "").unwrap();
        } else {
            peer.control(Control::Close(None));
        }
        let reason = reason_for(&mut events, peer.id);
        let expected =
            if by_hub { DisconnectReason::ByHub } else { DisconnectReason::Closed(None) };
        assert_eq!(reason, expected);
        until("what it was owed to be let go", || hub.stats().memory == 0);
        let_go(&mut peer.socket, started);
    }
}

/// A peer that ends its side says that it sends no more: in the middle of something that is the
/// end, and where it is owed an answer it gets that first.
#[test]
fn closing_one_side_of_the_socket_ends_the_other_whatever_came_before() {
    let hub = hub();
    let mut events = hub.events();
    let bystander = Bystander::of(&hub);
    let address = hub.local_addr().unwrap();
    for asked in ["", "G", "GET / HTTP/1.1\r\nHost: "] {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(asked.as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(socket.read(&mut [0; 16]).unwrap_or(0), 0, "{asked:?}");
    }
    let frame = masked(0x82, b"0123456789");
    let fragment = masked(0x02, b"0123456789");
    for sent in [&b""[..], &frame[..1], &frame[..5], &frame[..12], &frame, &fragment] {
        let mut peer = Peer::connect(&hub);
        peer.socket.write_all(sent).unwrap();
        peer.finish();
        assert_eq!(reason_for(&mut events, peer.id), DisconnectReason::Lost, "{sent:x?}");
        peer.gone();
    }
    bystander.noticed_nothing();
}

#[test]
fn closing_without_ending_ones_side_of_the_socket_is_over_at_the_close_deadline() {
    let hub = hub_that_closes();
    let mut peer = Peer::connect(&hub);
    let started = Instant::now();
    peer.control(Control::Close(None));
    assert_eq!(peer.close_frame(), None);
    assert!(peer.rest().is_empty());
    let_go(&mut peer.socket, started); // the peer stays half open
    // And so for who has been answered, or refused.
    for request in ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "nonsense\r\n\r\n"] {
        let mut socket = TcpStream::connect(hub.local_addr().unwrap()).unwrap();
        let started = Instant::now();
        socket.write_all(request.as_bytes()).unwrap();
        socket.read_to_end(&mut Vec::new()).unwrap();
        let_go(&mut socket, started);
    }
}

// ---- panics ----

/// Whose destructor panics once: a payload that a program lends.
struct Bomb<'a>(&'a AtomicBool, [u8; 1000]);

impl AsRef<[u8]> for Bomb<'_> {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

impl Drop for Bomb<'_> {
    fn drop(&mut self) {
        assert!(!self.0.swap(false, Ordering::Relaxed), "on purpose");
    }
}

#[test]
fn panicking_threads_that_hold_a_hub_stop_neither_it_nor_the_pushes_of_others() {
    let hub = hub();
    let bystander = Bystander::of(&hub);
    let mut peer = Peer::connect(&hub);
    let id = peer.id;
    for _ in 0..20 {
        let hub = hub.clone();
        let run = thread::spawn(move || {
            let _mine = hub.clone();
            hub.send(id, "last words").unwrap();
            panic!("on purpose");
        });
        assert!(run.join().is_err());
    }
    hub.send(id, "goes on").unwrap();
    let mut words = 0;
    loop {
        match peer.text().as_str() {
            "last words" => words += 1,
            "goes on" => break,
            _ => {} // for all
        }
    }
    assert_eq!(words, 20);
    bystander.noticed_nothing();
}

#[test]
fn panicking_while_a_message_is_made_pushes_nothing_and_holds_up_nobody() {
    struct Never;
    impl From<Never> for Message {
        fn from(_: Never) -> Self {
            panic!("on purpose")
        }
    }
    let hub = hub();
    let mut peer = Peer::connect(&hub);
    for _ in 0..3 {
        assert!(panic::catch_unwind(|| hub.broadcast(Never)).is_err());
        assert!(panic::catch_unwind(|| hub.send(peer.id, Never)).is_err());
        let rows = || -> Vec<u8> { (0u8..10).map(|row| 10 / (5 - row)).collect() };
        assert!(panic::catch_unwind(|| hub.broadcast(rows())).is_err());
    }
    assert_eq!((hub.stats().pushed, hub.stats().memory), (0, 0));
    hub.broadcast("one");
    hub.send(peer.id, "two").unwrap();
    assert_eq!((peer.text(), peer.text()), ("one".into(), "two".into()));
}

/// A payload may be the program's own memory, and run its code when it is dropped: where a push
/// makes room, that is in the middle of the push.
#[test]
fn panicking_destructors_of_messages_that_make_room_reach_no_push_and_leak_no_memory() {
    static ARMED: AtomicBool = AtomicBool::new(false);
    let bomb = || bytes::Bytes::from_owner(Bomb(&ARMED, [0; 1000]));
    let limits = Limits::default().mailbox(8 << 10);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut peer = Peer::connect(&hub);
    // Full, so that what is sent waits in its mailbox and is dropped by the pushes that follow.
    until("its socket to be full", || {
        hub.send(peer.id, vec![0; 4 << 20]).unwrap();
        hub.client(peer.id).unwrap().info().skipped > 0
    });
    let before = hub.stats().panics;
    for _ in 0..50 {
        ARMED.store(true, Ordering::Relaxed);
        hub.send(peer.id, bomb()).unwrap();
        ARMED.store(false, Ordering::Relaxed);
        // Another thread's push goes on, within a time: it is not waiting for a lock.
        let (hub, id) = (hub.clone(), peer.id);
        let other = thread::spawn(move || hub.send(id, "next"));
        until("the other thread's push", || other.is_finished());
        assert_eq!(other.join().unwrap(), Ok(()));
    }
    assert!(hub.stats().panics > before, "no destructor ran in a push");
    hub.send(peer.id, "the last").unwrap();
    while peer.message().as_text() != Some("the last") {}
    until("the memory to be free", || hub.stats().memory == 0);
}

#[test]
fn panicking_with_the_last_handle_ends_the_hub_as_dropping_it_does() {
    struct Report(Hub);
    impl Drop for Report {
        fn drop(&mut self) {
            self.0.broadcast("the run has failed");
        }
    }
    let report = Report(hub());
    let address = report.0.local_addr().unwrap();
    let mut peer = Peer::connect(&report.0);
    let run = thread::spawn(move || {
        let _report = report;
        panic!("on purpose");
    });
    assert_eq!(peer.text(), "the run has failed");
    assert_eq!(peer.close_code(), 1011);
    peer.control(Control::Close(None));
    assert!(peer.rest().is_empty());
    drop(peer);
    assert!(run.join().is_err());
    assert!(TcpStream::connect(address).is_err(), "still listening");
}
