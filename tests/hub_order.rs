//! What comes before what, on a runtime that stands still until the test lets it go: so several
//! things happen between two looks of the hub, as they do when it is busy.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::support::peer::{Peer, until};
use crate::support::wire::PATIENCE;
use bytes::Bytes;
use stepcast::codec::{Control, ControlPayload, Incoming};
use stepcast::{Hub, HubBuilder, Limits, Timeouts};
use tokio::runtime::{Builder, Runtime};

struct Stepped {
    runtime: Runtime, // dropped first, which ends the hub
    hub: Hub,
    /// A connection beside the hub, by which the runtime wakes the test.
    poke: (TcpStream, tokio::net::TcpStream),
}

impl Stepped {
    fn new(builder: HubBuilder) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let hub = builder.runtime(runtime.handle().clone()).spawn_blocking("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        far.set_nonblocking(true).unwrap();
        let far = {
            let _context = runtime.enter();
            tokio::net::TcpStream::from_std(far).unwrap()
        };
        Self { runtime, hub, poke: (near, far) }
    }

    /// Lets the hub go while this works.
    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.runtime.block_on(async { tokio::task::spawn_blocking(work).await.unwrap() })
    }

    fn connect(&self) -> Peer {
        let hub = self.hub.clone();
        self.run(move || Peer::connect(&hub))
    }

    /// Does this when the hub has been told of everything that its sockets hold, and has not looked.
    fn before_the_hub_looks(&mut self, work: impl FnOnce(&Hub)) {
        self.poke.0.write_all(b"x").unwrap();
        let (poke, hub) = (&self.poke.1, &self.hub);
        self.runtime.block_on(async {
            poke.readable().await.unwrap();
            work(hub);
        });
        self.poke.1.try_read(&mut [0]).unwrap();
    }
}

#[test]
fn what_was_pushed_before_a_violation_is_seen_goes_before_its_close() {
    let mut stepped = Stepped::new(Hub::builder());
    let mut peer = stepped.connect();
    peer.socket.write_all(&[0xff; 2]).unwrap();
    let id = peer.id;
    stepped.before_the_hub_looks(|hub| {
        hub.send(id, "one").unwrap();
        hub.broadcast("two");
        hub.send(id, "three").unwrap();
    });
    stepped.run(move || {
        assert_eq!([peer.text(), peer.text(), peer.text()], ["one", "two", "three"]);
        assert_eq!(peer.close_code(), 1002);
    });
}

#[test]
fn another_clients_violation_does_not_change_the_order_of_what_a_client_gets() {
    let mut stepped = Stepped::new(Hub::builder());
    let (mut bad, mut good) = (stepped.connect(), stepped.connect());
    bad.socket.write_all(&[0xff; 2]).unwrap();
    good.control(Control::Ping(ControlPayload::new(Bytes::from_static(b"?")).unwrap()));
    let id = good.id;
    stepped.before_the_hub_looks(|hub| {
        hub.send(id, "one").unwrap();
        hub.broadcast("two");
    });
    let mut texts = Vec::new();
    stepped.run(move || {
        while texts.len() < 2 {
            match good.recv() {
                Incoming::Message(message) => texts.push(message.as_text().unwrap().to_owned()),
                Incoming::Control(control) => assert!(matches!(control, Control::Pong(_))),
            }
        }
        assert_eq!(texts, ["one", "two"]);
        assert_eq!(bad.close_code(), 1002);
    });
}

#[test]
fn what_was_pushed_to_all_and_to_one_before_disconnecting_it_goes_before_the_close() {
    let stepped = Stepped::new(Hub::builder());
    let (mut peer, mut without_mail) = (stepped.connect(), stepped.connect());
    stepped.hub.broadcast("one");
    stepped.hub.send(peer.id, "two").unwrap();
    stepped.hub.broadcast("three");
    stepped.hub.disconnect(without_mail.id, "").unwrap();
    stepped.hub.disconnect(peer.id, "").unwrap();
    stepped.run(move || {
        assert_eq!([peer.text(), peer.text(), peer.text()], ["one", "two", "three"]);
        assert_eq!(peer.close_code(), 1000);
        assert_eq!([without_mail.text(), without_mail.text()], ["one", "three"]);
        assert_eq!(without_mail.close_code(), 1000);
    });
}

/// What has been taken up for a client that does not read is kept whatever comes, and is little.
#[test]
fn little_is_taken_up_for_a_client_that_does_not_read() {
    const MAILBOX: usize = 256 * 1024;
    let patience = Timeouts::default().stall(PATIENCE * 9).frame(PATIENCE * 9);
    let limits = Limits::default().mailbox(MAILBOX);
    let stepped = Stepped::new(Hub::builder().limits(limits).timeouts(patience));
    let (stalled, mut other) = (stepped.connect(), stepped.connect());
    let id = stalled.id;
    let mut rounds_behind = 0;
    while rounds_behind < 3 {
        for _ in 0..220 {
            stepped.hub.send(id, vec![0; 1024]).unwrap();
        }
        // Two turns at least: the hub answers in the one after the pushes.
        for _ in 0..2 {
            other = stepped.run(move || {
                other.control(Control::Ping(ControlPayload::default()));
                assert!(matches!(other.recv(), Incoming::Control(Control::Pong(_))));
                other
            });
        }
        let queued = stepped.hub.client(id).unwrap().info().queued_bytes;
        assert!(queued <= MAILBOX + 64 * 1024 + 2048, "{queued}");
        rounds_behind += usize::from(queued > 0);
    }
    drop(stalled);
}

#[test]
fn broadcasts_that_had_to_make_room_before_the_hub_looked_are_counted_for_every_client() {
    let stepped = Stepped::new(Hub::builder().limits(Limits::default().feed(64 * 1024)));
    let mut peers = [stepped.connect(), stepped.connect()];
    for number in 0..100u32 {
        stepped.hub.broadcast([&number.to_le_bytes()[..], &[0; 4092]].concat());
    }
    assert!(stepped.hub.stats().memory <= 64 * 1024 + 4096 + 64, "bounded before the hub looks");
    let hub = stepped.hub.clone();
    stepped.run(move || {
        for peer in &mut peers {
            let first = peer.message().as_bytes()[..4].to_vec();
            let skipped = u64::from(u32::from_le_bytes(first.try_into().unwrap()));
            assert!(skipped > 0);
            assert_eq!(hub.client(peer.id).unwrap().info().skipped, skipped);
            for _ in skipped + 1..100 {
                peer.message();
            }
        }
        until("the memory to be free", || hub.stats().memory == 0);
    });
}

#[test]
fn what_is_waiting_for_a_client_is_told() {
    let stepped = Stepped::new(Hub::builder());
    let mut peer = stepped.connect();
    stepped.hub.send(peer.id, vec![0; 1000]).unwrap();
    assert!(stepped.hub.client(peer.id).unwrap().info().queued_bytes >= 1000, "in the mailbox");
    let hub = stepped.hub.clone();
    stepped.run(move || {
        assert_eq!(peer.message().len(), 1000);
        hub.send(peer.id, vec![0; 40 << 20]).unwrap(); // more than the sockets hold
        until("some of it to leave", || hub.stats().bytes_out > 16 << 10);
        assert!(hub.client(peer.id).unwrap().info().queued_bytes > 1 << 20, "half written");
        assert!(hub.stats().memory >= 40 << 20, "until its last byte has left");
        assert_eq!(peer.message().len(), 40 << 20);
        until("nothing to wait", || hub.client(peer.id).unwrap().info().queued_bytes == 0);
    });
}

/// A peer that sends and sends has its turn, and others have theirs.
#[test]
fn a_peer_that_never_stops_sending_keeps_nobody_waiting() {
    let limits = Limits::default().inbound_per_second(u32::MAX);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut peer = Peer::connect(&hub);
    let mut flooders = Vec::new();
    for _ in 0..2 {
        let mut flooder = Peer::connect(&hub);
        let mut stop = flooder.socket.try_clone().unwrap();
        flooder.socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut flood = Vec::new();
        for _ in 0..64 {
            flood.extend_from_slice(&[0x82, 0xfe, 0x40, 0, 0, 0, 0, 0]);
            flood.extend_from_slice(&[0; 0x4000]);
        }
        let thread = std::thread::spawn(move || while flooder.socket.write_all(&flood).is_ok() {});
        flooders.push((thread, move || {
            stop.shutdown(std::net::Shutdown::Both).unwrap();
            let _ = stop.read(&mut [0]);
        }));
    }
    until("the flood", || hub.stats().received > 100);
    peer.socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    for _ in 0..10 {
        hub.send(peer.id, "x").unwrap();
        assert_eq!(peer.text(), "x");
    }
    for (thread, mut stop) in flooders {
        stop();
        thread.join().unwrap();
    }
}

#[test]
fn what_is_pushed_between_unfollowing_and_following_again_does_not_reach_the_client() {
    let stepped = Stepped::new(Hub::builder());
    let mut peer = stepped.connect();
    let (hub, everyone, run) =
        (&stepped.hub, stepped.hub.everyone(), stepped.hub.feed("run").unwrap());
    hub.follow(peer.id, &run).unwrap();
    run.send("1").unwrap();
    peer = stepped.run(move || {
        assert_eq!(peer.text(), "1");
        peer
    });
    hub.unfollow(peer.id, &everyone).unwrap();
    hub.unfollow(peer.id, &run).unwrap();
    hub.broadcast("not for it");
    run.send("2").unwrap();
    hub.follow(peer.id, &everyone).unwrap();
    hub.follow(peer.id, &run).unwrap();
    hub.broadcast("for it");
    stepped.run(move || {
        // Of the named feed what is kept, as whoever comes gets it.
        assert_eq!([peer.text(), peer.text(), peer.text()], ["1", "2", "for it"]);
    });
}
