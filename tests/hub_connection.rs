//! The connection, item by item of RFC 6455 and of what others got wrong: close, ping, limits,
//! deadlines.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::peer::{Peer, event, until};
use crate::support::wire::PATIENCE;
use bytes::Bytes;
use stepcast::codec::{CloseCode, CloseFrame, Control, ControlPayload, Frame, Incoming, OpCode};
use stepcast::{DisconnectReason, Event, Hub, Limits, SendError, Timeouts};

fn hub() -> Hub {
    Hub::spawn_blocking("127.0.0.1:0").unwrap()
}

fn hub_with(timeouts: Timeouts) -> Hub {
    Hub::builder().timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap()
}

fn payload(bytes: &'static [u8]) -> ControlPayload {
    ControlPayload::new(Bytes::from_static(bytes)).unwrap()
}

fn reason_of_disconnect(events: &mut stepcast::Events) -> DisconnectReason {
    event(events, |event| match event {
        Event::Gone { reason, .. } => Some(reason),
        _ => None,
    })
}

// ---- closing ----

// RFC 6455, 5.5.1: "If an endpoint receives a Close frame and did not previously send a Close
// frame, the endpoint MUST send a Close frame in response. (When sending a Close frame in
// response, the endpoint typically echos the status code it received.)"
#[test]
fn a_close_is_answered_with_its_code_and_without_its_reason() {
    for code in [1000, 1001, 3000, 4999] {
        let hub = hub();
        let mut events = hub.events();
        let mut peer = Peer::connect(&hub);
        let close = CloseFrame::new(CloseCode::new(code).unwrap(), "had enough");
        peer.control(Control::Close(Some(close.clone())));
        let answer = peer.close_frame().unwrap();
        assert_eq!((answer.code().get(), answer.reason()), (code, ""));
        assert_eq!(reason_of_disconnect(&mut events), DisconnectReason::Closed(Some(close)));
    }
}

#[test]
fn a_close_without_a_code_is_answered_without_one() {
    let hub = hub();
    let mut peer = Peer::connect(&hub);
    peer.control(Control::Close(None));
    assert_eq!(peer.close_frame(), None);
    assert!(peer.rest().is_empty());
}

#[test]
fn disconnecting_a_client_delivers_what_it_was_sent_before() {
    let hub = hub();
    let mut events = hub.events();
    let (mut peer, mut other) = (Peer::connect(&hub), Peer::connect(&hub));
    for number in 0..200 {
        hub.send(peer.id, number.to_string()).unwrap();
    }
    hub.disconnect(peer.id, "").unwrap();
    for number in 0..200 {
        assert_eq!(peer.text(), number.to_string());
    }
    assert_eq!(peer.close_code(), 1000);
    assert_eq!(reason_of_disconnect(&mut events), DisconnectReason::ByHub);
    assert!(hub.disconnect(peer.id, "").is_err());
    hub.broadcast("goes on");
    assert_eq!(other.text(), "goes on");
}

// RFC 6455, 7.1.5: "If ... no Close control frame was received by the endpoint (such as could
// occur if the underlying transport connection is lost), The WebSocket Connection Close Code is
// considered to be 1006."
#[test]
fn a_connection_that_ends_without_a_close_is_lost() {
    let hub = hub();
    let mut events = hub.events();
    let peer = Peer::connect(&hub);
    drop(peer);
    assert_eq!(reason_of_disconnect(&mut events), DisconnectReason::Lost);
}

// ---- violations ----

#[test]
fn what_was_pushed_before_a_violation_goes_before_its_close() {
    let hub = hub();
    let mut peer = Peer::connect(&hub);
    hub.send(peer.id, "before").unwrap();
    peer.socket.write_all(&[0xff; 2]).unwrap();
    assert_eq!(peer.text(), "before");
    assert_eq!(peer.close_code(), 1002);
}

#[test]
fn too_many_messages_pings_or_pongs_a_second_close_with_1008() {
    for first in [0x81, 0x82, 0x89, 0x8a] {
        let limits = Limits::default().inbound_per_second(10);
        let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
        let mut events = hub.events();
        let mut peer = Peer::connect(&hub);
        // Twenty may come at once; of two hundred some are too many on the slowest machine.
        let flood = [first, 0x80, 0, 0, 0, 0].repeat(200);
        peer.socket.write_all(&flood).unwrap();
        assert_eq!(peer.close_code(), 1008, "{first:#x}");
        let told = reason_of_disconnect(&mut events);
        assert!(matches!(told, DisconnectReason::Violation(_)), "{told:?}");
    }
}

// RFC 6455, 1.4: "After sending a control frame indicating the connection should be closed, a peer
// does not send any further data"; what comes from the other side until its Close is discarded.
#[test]
fn after_the_hubs_own_close_only_the_clients_close_counts() {
    let hub = hub();
    let mut events = hub.events();
    let mut peer = Peer::connect(&hub);
    hub.disconnect(peer.id, "").unwrap();
    assert_eq!(peer.close_code(), 1000);
    peer.send("too late");
    peer.control(Control::Ping(payload(b"too late")));
    peer.control(Control::Close(None));
    assert!(peer.rest().is_empty(), "no Pong, and no second Close");
    drop(hub);
    while let Some(event) = events.recv_blocking() {
        assert!(!matches!(event, Event::Message { .. }), "{event:?}");
    }
}

// ---- pings ----

/// A ping is for silence of one side: a client that is heard from is there, and no proxy cuts a hub that says something.
#[test]
fn while_both_sides_say_something_nobody_is_pinged() {
    let hub = hub_with(Timeouts::default().keepalive(Duration::from_millis(600)));
    loop {
        let mut peer = Peer::connect(&hub);
        let (started, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
        while started.elapsed() < Duration::from_millis(1200) {
            peer.send("here");
            hub.send(peer.id, "so am I").unwrap();
            std::thread::sleep(Duration::from_millis(20)); // paced on purpose
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        hub.send(peer.id, "end").unwrap();
        if longest < Duration::from_millis(200) {
            while peer.text() != "end" {}
            return;
        } // else this test was held up, and has been silent
    }
}

// RFC 6455, 5.5.3: "A Pong frame sent in response to a Ping frame must have identical
// 'Application data' as found in the message body of the Ping frame being replied to."
#[test]
fn a_ping_is_answered_with_its_payload_though_the_program_sends_nothing() {
    let hub = hub();
    let mut peer = Peer::connect(&hub);
    for bytes in [&b""[..], b"hello", &[0xfe; 125]] {
        peer.control(Control::Ping(payload(bytes)));
        match peer.recv() {
            Incoming::Control(Control::Pong(pong)) => assert_eq!(pong, payload(bytes)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_ping_of_a_burst_is_answered_while_the_socket_takes_the_answers() {
    let hub = hub();
    let mut peer = Peer::connect(&hub);
    let mut burst = Vec::new();
    for number in 0..50 {
        burst.extend_from_slice(&[0x89, 0x81, 0, 0, 0, 0, number]);
    }
    peer.socket.write_all(&burst).unwrap();
    for number in 0..50 {
        match peer.recv() {
            Incoming::Control(Control::Pong(pong)) => assert_eq!(pong.as_bytes(), [number]),
            other => panic!("{other:?}"),
        }
    }
}

// RFC 6455, 5.5.3: "A Pong frame MAY be sent unsolicited. ... A response to an unsolicited Pong
// frame is not expected."
#[test]
fn an_unsolicited_pong_is_no_reason_for_anything() {
    let hub = hub();
    let mut peer = Peer::connect(&hub);
    peer.control(Control::Pong(payload(b"by the way")));
    hub.send(peer.id, "next").unwrap();
    assert_eq!(peer.text(), "next");
}

#[test]
fn a_silent_client_is_pinged_and_lives_on_when_it_answers() {
    let timeouts =
        Timeouts::default().keepalive(Duration::from_millis(100)).pong(Duration::from_secs(10));
    let hub = hub_with(timeouts);
    let mut peer = Peer::connect(&hub);
    for _ in 0..3 {
        match peer.recv() {
            Incoming::Control(Control::Ping(ping)) => peer.control(Control::Pong(ping)),
            other => panic!("{other:?}"),
        }
    }
    hub.send(peer.id, "still here").unwrap();
    while !matches!(peer.recv(), Incoming::Message(_)) {}
}

// ---- bytes however they come ----

#[test]
fn a_message_that_comes_byte_by_byte_is_the_same_message() {
    let hub = hub();
    let mut events = hub.events();
    let mut peer = Peer::connect(&hub);
    peer.socket.set_nodelay(true).unwrap();
    let text = "dribbled 中文";
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 1, 2, 3, 4];
    frame.extend(text.bytes().enumerate().map(|(i, byte)| byte ^ [1, 2, 3, 4][i % 4]));
    for _ in 0..3 {
        for byte in &frame {
            peer.socket.write_all(&[*byte]).unwrap();
        }
        // Whole, and the next one's beginning with it.
        peer.socket.write_all(&[&frame[..], &frame[..5]].concat()).unwrap();
        peer.socket.write_all(&frame[5..]).unwrap();
    }
    for _ in 0..9 {
        let message = event(&mut events, |event| match event {
            Event::Message { message, .. } => Some(message),
            _ => None,
        });
        assert_eq!(message.as_text(), Some(text));
    }
    until("the memory of partial messages to be free", || hub.stats().memory == 0);
}

#[test]
fn fragments_with_a_ping_between_them_are_one_message() {
    let hub = hub();
    let mut events = hub.events();
    let mut peer = Peer::connect(&hub);
    let frame = |fin, opcode, payload| Frame { fin, opcode, payload: Bytes::from_static(payload) };
    peer.frame(frame(false, OpCode::Text, b"one "));
    peer.frame(frame(true, OpCode::Ping, b"?"));
    peer.frame(frame(false, OpCode::Continuation, b"two "));
    peer.frame(frame(true, OpCode::Continuation, b"three"));
    let message = event(&mut events, |event| match event {
        Event::Message { message, .. } => Some(message),
        _ => None,
    });
    assert_eq!(message.as_text(), Some("one two three"));
    assert!(matches!(peer.recv(), Incoming::Control(Control::Pong(_))));
}

#[test]
fn frames_that_come_with_the_request_are_not_lost() {
    let hub = hub();
    let mut events = hub.events();
    let address = hub.local_addr().unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    let mut bytes = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    socket.write_all(&bytes).unwrap();
    let text = event(&mut events, |event| match event {
        Event::Message { message, .. } => message.as_text().map(str::to_owned),
        _ => None,
    });
    assert_eq!(text, "hi");
}

/// The answer and the greeting arrive in one segment: a browser knows its id with the handshake.
#[test]
fn the_greeting_comes_in_the_same_write_as_the_101() {
    use std::io::Read;
    let hub = hub();
    let address = hub.local_addr().unwrap();
    for _ in 0..20 {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut bytes = [0; 4096];
        let count = socket.read(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..count]);
        assert!(
            text.starts_with("HTTP/1.1 101 ") && text.contains(r#"{"type":1,"body":"#),
            "{text}"
        );
    }
}

/// A request with these frames behind it, and the first thing that comes back.
fn answer_to_request_with(frames: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let hub = hub();
    let address = hub.local_addr().unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(&[request.as_bytes(), frames].concat()).unwrap();
    let mut bytes = vec![0; 4096];
    let count = socket.read(&mut bytes).unwrap();
    bytes.truncate(count);
    bytes
}

#[test]
fn what_comes_with_the_request_is_answered_after_it() {
    for frames in [&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i'][..], &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]]
    {
        let answer = answer_to_request_with(frames);
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{text}");
        assert!(text.contains(r#"{"type":1,"body":"#), "{text}");
    }
}

#[test]
fn a_peer_that_ends_its_side_after_it_has_asked_still_gets_its_answer() {
    use std::io::Read;
    let hub = Hub::builder().page("the page").spawn_blocking("127.0.0.1:0").unwrap();
    for _ in 0..20 {
        let mut socket = TcpStream::connect(hub.local_addr().unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("the page"), "{answer:?}");

        let mut peer = Peer::connect(&hub);
        peer.control(Control::Close(Some(CloseFrame::new(CloseCode::NORMAL, ""))));
        peer.finish();
        assert_eq!(peer.close_code(), 1000);
        assert!(peer.rest().is_empty());
    }
}

#[test]
fn a_client_that_is_slow_is_disconnected_all_the_same_while_broadcasts_go_on() {
    let hub = hub_with(Timeouts::default().close(Duration::from_millis(500)));
    let mut peer = Peer::connect(&hub);
    let mut asked = false;
    until("the client to be gone", || {
        hub.broadcast(vec![0; 64 * 1024]);
        let full = hub.client(peer.id).is_some_and(|client| client.info().queued_bytes > 0);
        if full && !std::mem::replace(&mut asked, true) {
            hub.disconnect(peer.id, "go").unwrap();
        }
        hub.client(peer.id).is_none()
    });
    peer.gone();
}

#[test]
fn a_violation_and_the_end_of_the_stream_behind_it_are_a_violation() {
    for behind in [&b""[..], &[0x88, 0x80, 0, 0, 0, 0]] {
        let hub = hub();
        let mut events = hub.events();
        let mut peer = Peer::connect(&hub);
        peer.socket.write_all(&[&[0x83, 0x80, 0, 0, 0, 0], behind].concat()).unwrap();
        peer.finish();
        assert_eq!(peer.close_code(), 1002);
        assert!(peer.rest().is_empty());
        let told = reason_of_disconnect(&mut events);
        assert!(matches!(told, DisconnectReason::Violation(_)), "{told:?}");
    }
}

#[test]
fn a_violation_of_a_client_that_is_to_leave_counts() {
    let hub = hub();
    let mut events = hub.events();
    let mut peer = Peer::connect(&hub);
    hub.send(peer.id, vec![0; 16 << 20]).unwrap(); // which it has to have before it leaves
    until("the socket to be full", || {
        hub.client(peer.id).is_some_and(|c| c.info().queued_bytes < 16 << 20)
    });
    hub.disconnect(peer.id, "enough").unwrap();
    peer.socket.write_all(&[0x83, 0x80, 0, 0, 0, 0]).unwrap();
    peer.send("after the violation");
    assert_eq!(peer.message().len(), 16 << 20);
    assert!(matches!(peer.close_code(), 1000 | 1002)); // by which of the two was seen first
    drop(peer);
    drop(hub);
    while let Some(event) = events.recv_blocking() {
        assert!(!matches!(event, Event::Message { .. }), "{event:?}");
    }
}

#[test]
fn what_would_not_reach_a_client_that_is_to_leave_is_refused() {
    let hub = hub_with(Timeouts::default().close(PATIENCE));
    let mut peer = Peer::connect(&hub);
    hub.send(peer.id, vec![0; 16 << 20]).unwrap(); // which it has to have before it leaves
    until("the socket to be full", || {
        hub.client(peer.id).is_some_and(|c| c.info().queued_bytes < 16 << 20)
    });
    hub.disconnect(peer.id, "enough").unwrap();
    let refused = Err(SendError::NoSuchClient(peer.id));
    assert_eq!(hub.send(peer.id, "too late"), refused);
    assert_eq!(hub.disconnect(peer.id, "twice"), refused);
    assert!(hub.client(peer.id).is_some(), "it still is one");
    assert_eq!(peer.message().len(), 16 << 20);
    assert_eq!(peer.close_frame().unwrap().reason(), "enough");
}

#[test]
fn who_talks_and_is_told_nothing_is_pinged_since_proxies_cut_a_silent_hub() {
    let hub = hub_with(Timeouts::default().keepalive(Duration::from_millis(300)));
    let mut peer = Peer::connect(&hub);
    let mut talking = peer.socket.try_clone().unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = talking.write_all(&[0x81, 0x80, 0, 0, 0, 0]);
                std::thread::sleep(Duration::from_millis(20)); // so often it says something
            }
        });
        let pings = (0..2).map(|_| peer.try_recv()).collect::<Vec<_>>();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        for ping in pings {
            assert!(matches!(ping.unwrap(), Incoming::Control(Control::Ping(_))));
        }
    });
}
