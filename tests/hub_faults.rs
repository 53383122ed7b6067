//! What a network may do to a connection, by a proxy between client and hub: it is cut or falls silent
//! at any byte, comes in pieces, comes late. What arrives is whole, the hub lets go of what is lost,
//! and nobody else notices.

mod support;

use std::collections::HashSet;
use std::io;
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::bystander::Bystander;
use crate::support::peer::{Peer, event, until};
use crate::support::proxy;
use crate::support::proxy::{End, Way};
use stepcast::codec::{CloseCode, CloseFrame, Control, ControlPayload, Incoming};
use stepcast::handshake::ClientRequest;
use stepcast::{Event, Events, Hub, Message, Timeouts};

/// One test at a time: they look at the clock, and at the process's descriptors.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many descriptors the process has, where the system tells.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

// ---- cut anywhere ----

const PATH: &str = "/feed/state";
const STATE: &str = r#"{"step":41}"#;
const ANSWER: &str = "what was asked for";
const PART: usize = 130; // a length of two bytes

/// Who closes a session.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Client,
    Hub,
}

/// The program: it answers what clients say, until the hub ends. It has seen every client come and go,
/// once each, and nothing from a client that the client has not said.
fn program(hub: &Hub) -> JoinHandle<()> {
    let (mut events, hub) = (hub.events(), hub.clone());
    thread::spawn(move || {
        let mut connected = HashSet::new();
        loop {
            match events.recv_blocking() {
                Some(Event::Connected { id }) => assert!(connected.insert(id), "{id} came twice"),
                Some(Event::Gone { id, .. }) => assert!(connected.remove(&id), "{id}"),
                Some(Event::Message { id, message, .. }) => match message.as_text() {
                    // A viewer must not end a run: whoever has gone gets nothing.
                    Some("ask") => {
                        let _ = hub.send(id, ANSWER);
                        let _ = hub.send(id, pattern(PART));
                        let _ = hub.send(id, "");
                    }
                    Some("end it") => {
                        let _ = hub.disconnect(id, "as you wish");
                    }
                    other => panic!("nobody said {other:?}"),
                },
                Some(other) => assert!(matches!(other, Event::Refused { .. }), "{other:?}"),
                None => break,
            }
        }
        assert!(connected.is_empty(), "never said to have gone: {connected:?}");
    })
}

/// A short session with all that there is in one. What comes is what should come, until it breaks.
fn session(hub: &Hub, socket: TcpStream, by: By) -> io::Result<()> {
    let mut peer = Peer::try_upgrade_at(socket, hub.local_addr().unwrap(), PATH)?;
    let next = |peer: &mut Peer| loop {
        match peer.try_recv()? {
            Incoming::Control(Control::Ping(_)) => {} // the session is over before it matters
            incoming => return io::Result::Ok(incoming),
        }
    };
    assert_eq!(next(&mut peer)?, Incoming::Message(STATE.into()));
    peer.try_send("ask")?;
    for expected in [ANSWER.into(), Message::from(pattern(PART)), "".into()] {
        assert_eq!(next(&mut peer)?, Incoming::Message(expected));
    }
    let ping = ControlPayload::new("still there?").unwrap();
    peer.try_control(Control::Ping(ping.clone()))?;
    assert_eq!(next(&mut peer)?, Incoming::Control(Control::Pong(ping)));
    let close = match by {
        By::Client => {
            let close = Control::Close(Some(CloseFrame::new(CloseCode::NORMAL, "seen enough")));
            peer.try_control(close)?;
            next(&mut peer)?
        }
        By::Hub => {
            peer.try_send("end it")?;
            let close = next(&mut peer)?;
            peer.try_control(Control::Close(Some(CloseFrame::new(CloseCode::NORMAL, ""))))?;
            close
        }
    };
    let Incoming::Control(Control::Close(Some(close))) = close else { panic!("got {close:?}") };
    assert_eq!(close.code(), CloseCode::NORMAL);
    let end = peer.try_recv().unwrap_err();
    assert_ne!(end.kind(), io::ErrorKind::TimedOut);
    if end.kind() == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(end) }
}

#[test]
fn a_connection_cut_at_any_byte_of_either_way_leaves_nothing_and_disturbs_nobody() {
    let _alone = alone();
    drop(Hub::spawn_blocking("127.0.0.1:0").unwrap()); // tokio keeps two for signals, once for the process
    let before = descriptors();
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();
    let state = hub.feed("state").unwrap();
    state.set("state", STATE).unwrap();
    let program = program(&hub);
    let bystander = Bystander::of(&hub);
    until("the bystander to be there", || hub.client_count() == 1);
    let settled = descriptors();

    let run = |by, up, down| {
        let (socket, link) = proxy::connect(address, up, down);
        let result = session(&hub, socket, by);
        link.is_over();
        until("the client to be gone", || hub.client_count() == 1);
        (result, link.up.passed(), link.down.passed())
    };
    let mut cut = 0;
    let mut look = |what: String, after: usize, passed: usize, result: io::Result<()>| {
        // No two sessions are the same to a byte: ids differ in length, and the hub may ping. One
        // that is shorter is whole.
        assert!(passed == after || result.is_ok(), "{what}: {passed} of {after}, {result:?}");
        cut += usize::from(passed == after);
    };
    for by in [By::Client, By::Hub] {
        let (whole, up, down) = run(by, Way::default(), Way::default());
        whole.expect("a session that nothing happens to");
        for end in [End::Fin, End::Reset] {
            for after in 0..=up {
                let (result, passed, _) = run(by, Way::ending(after, end), Way::default());
                look(format!("{by:?} {end:?} up"), after, passed, result);
            }
            for after in 0..=down {
                let (result, _, passed) = run(by, Way::default(), Way::ending(after, end));
                look(format!("{by:?} {end:?} down"), after, passed, result);
            }
        }
    }
    assert!(cut > 2000, "{cut}");
    until("what was lost to be closed", || descriptors() <= settled);
    bystander.noticed_nothing();
    until("the bystander to be gone", || hub.client_count() == 0);
    drop(state);
    // What a feed without followers keeps is its latest value, for as long as there is a handle.
    until("the memory to be free", || hub.stats().memory == 0);
    assert_eq!((hub.stats().clients, hub.stats().feeds), (0, 0));
    hub.shutdown_blocking(Duration::from_secs(5));
    program.join().expect("the program to have seen what it should");
    drop(hub);
    until("all to be closed", || descriptors() <= before);
}

/// The same session falls silent: nothing more passes on the one way, and nobody is told.
#[test]
fn a_connection_that_falls_silent_anywhere_is_let_go_in_time() {
    let _alone = alone();
    let (quick, patient) = (Duration::from_millis(400), Duration::from_secs(1));
    let timeouts = Timeouts::default().handshake(quick).close(quick).keepalive(quick);
    let timeouts = timeouts.pong(patient).stall(patient);
    // A second more for a machine that is busy elsewhere.
    let deadline = quick + patient + patient + Duration::from_secs(1);
    let hub = Hub::builder().timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();
    let state = hub.feed("state").unwrap();
    state.set("state", STATE).unwrap();
    let program = program(&hub);
    let bystander = Bystander::of(&hub);
    until("the bystander to be there", || hub.client_count() == 1);
    let settled = descriptors();
    let (up, down) = {
        let (socket, link) = proxy::connect(address, Way::default(), Way::default());
        session(&hub, socket, By::Hub).expect("a session that nothing happens to");
        (link.up.passed(), link.down.passed())
    };

    // Not at each byte: every one takes a second or two, and four descriptors while it does.
    let ups = (0..up).step_by(7).map(|at| (at, true));
    let downs = (0..down).step_by(7).map(|at| (at, false));
    let silenced = |(at, is_up)| {
        let (silent, open) = (Way::ending(at, End::Stall), Way::default());
        let (up, down) = if is_up { (silent, open) } else { (open, silent) };
        let (socket, link) = proxy::connect(address, up, down);
        let hub = hub.clone();
        (at, is_up, link, thread::spawn(move || session(&hub, socket, By::Hub)))
    };
    let begun: Vec<_> = ups.chain(downs).map(silenced).collect();
    let started = Instant::now();
    let request = ClientRequest::new(&address.to_string(), PATH).unwrap().encode().len();
    let in_handshake = (0..request).step_by(7).count();
    let clients = 2 + begun.len() - in_handshake;
    until("the others to be clients", || hub.stats().accepted == clients as u64);
    until("all of them to be gone", || hub.client_count() == 1);
    // The hub's end of each is closed: the proxy has two, and the client's is its own to close.
    let most = settled + 3 * begun.len();
    until("all connections to be let go", || descriptors() <= most);
    assert!(started.elapsed() < deadline, "{:?}", started.elapsed());
    for (at, is_up, link, session) in begun {
        let passed = if is_up { link.up.passed() } else { link.down.passed() };
        drop(link);
        let result = session.join().expect("nothing but what should come");
        assert!(result.is_err() || passed < at, "whole, but silent after {at}"); // as above
    }
    bystander.noticed_nothing();
    drop(state);
    until("the memory to be free", || hub.client_count() == 0 && hub.stats().memory == 0);
    hub.shutdown_blocking(Duration::from_secs(5));
    program.join().expect("the program to have seen what it should");
}

// ---- in pieces, and late ----

/// Messages of these sizes go both ways, and are what they were.
fn talk(hub: &Hub, events: &mut Events, peer: &mut Peer, sizes: &[usize]) {
    let id = peer.id;
    for &size in sizes {
        hub.send(id, pattern(size)).unwrap();
        hub.broadcast("x".repeat(size));
        peer.send(pattern(size));
        peer.send("y".repeat(size));
    }
    let ping = ControlPayload::new("after all of it").unwrap();
    peer.control(Control::Ping(ping.clone()));
    for &size in sizes {
        let expected = [Message::from(pattern(size)), "x".repeat(size).into()];
        assert!(next_messages(peer, &ping) == expected, "what comes of {size} bytes");
        for expected in [Message::from(pattern(size)), "y".repeat(size).into()] {
            let said = event(events, |event| match event {
                Event::Message { id: by, message, .. } if by == id => Some(message),
                Event::Gone { id: gone, .. } if gone == id => panic!("{event:?}"),
                Event::Missed(_) => panic!("{event:?}"),
                _ => None,
            });
            assert!(said == expected, "what the hub has of {size} bytes");
        }
    }
    peer.control(Control::Close(Some(CloseFrame::new(CloseCode::NORMAL, ""))));
    assert_eq!(peer.close_code(), 1000);
    peer.rest();
    until("the client to be gone", || hub.client_count() == 0);
    until("the memory to be free", || hub.stats().memory == 0);
}

/// The next two messages. The answer to the ping comes anywhere between.
fn next_messages(peer: &mut Peer, ping: &ControlPayload) -> [Message; 2] {
    [(), ()].map(|()| {
        loop {
            match peer.recv() {
                Incoming::Message(message) => return message,
                Incoming::Control(Control::Pong(answer)) => assert_eq!(answer, *ping),
                Incoming::Control(other) => assert!(matches!(other, Control::Ping(_)), "{other:?}"),
            }
        }
    })
}

#[test]
fn what_comes_in_single_bytes_or_odd_pieces_is_whole_on_both_sides() {
    let _alone = alone();
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let short: &[usize] = &[0, 1, 125, 126, 300];
    let long: &[usize] = &[0, 125, 126, 4095, 4096, 65535, 65536];
    for (pieces, sizes) in
        [(&[1][..], short), (&[1, 2, 3, 5, 7], short), (&[1, 1447, 3, 2896, 13], long)]
    {
        let way = Way::in_pieces(pieces);
        let (socket, _link) = proxy::connect(hub.local_addr().unwrap(), way, way);
        let mut peer = Peer::upgrade(socket, hub.local_addr().unwrap());
        talk(&hub, &mut events, &mut peer, sizes);
    }
}

#[test]
fn what_is_delayed_both_ways_is_whole_and_in_order() {
    const DELAY: Duration = Duration::from_millis(60);
    let _alone = alone();
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let way = Way::delayed(DELAY);
    let started = Instant::now();
    let (socket, _link) = proxy::connect(hub.local_addr().unwrap(), way, way);
    let mut peer = Peer::upgrade(socket, hub.local_addr().unwrap());
    assert!(started.elapsed() >= DELAY * 2, "it was not delayed");
    for number in 0..200 {
        hub.broadcast(format!("{number}"));
        hub.send(peer.id, format!("{number} for one")).unwrap();
    }
    for number in 0..200 {
        assert_eq!(peer.text(), format!("{number}"));
        assert_eq!(peer.text(), format!("{number} for one"));
    }
    talk(&hub, &mut events, &mut peer, &[0, 125, 126, 65535, 65536, 1, 2, 3]);
}
