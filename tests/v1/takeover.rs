//! The end of a connection that was another's before is nobody's business any more, and what a client had at one hub means
//! nothing at the next.

use std::net::TcpStream;

use crate::support::follower::Follower;
use crate::support::peer::{event, until};
use crate::support::proxy;
use crate::support::proxy::Way;
use stepcast::{DisconnectReason, Event, Hub, Message};

/// More than the sockets on the way hold.
const LARGE: usize = 32 << 20;

/// The old connection hangs in a write to a client that reads nothing, its client comes back by another, and only then does
/// the old one break.
#[test]
fn the_late_end_of_a_connection_that_was_taken_over_does_not_touch_the_new_one() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();
    let mut events = hub.events();
    let run = hub.feed("run").unwrap();
    let mut client = Follower::of(&["run"]);
    let (socket, link) = proxy::connect(address, Way::default(), Way::default());
    client.connect(socket, address).unwrap();
    client.read_until(|client| client.follows() == 1).unwrap();
    let id = client.id().unwrap();
    let gone = hub.gone_token(id);
    let stuck = client.abandon();
    link.down.stall();
    run.send(vec![b'x'; LARGE]).unwrap();
    until("the old one to be in the middle of a message", || {
        hub.client(id).unwrap().info().queued_bytes > 0
    });

    client.connect(TcpStream::connect(address).unwrap(), address).unwrap();
    assert_eq!((client.id(), client.resumed), (Some(id), 1));
    client.read_until(|client| client.feeds["run"].log.len() == 1).unwrap();
    // The hub has the old one still, which waits to be told.
    drop(link);
    drop(stuck);
    hub.send(id, "mail").unwrap();
    run.send("after").unwrap();
    run.set("state", "new").unwrap();
    // Whoever comes next may be given the place of the old one.
    let mut other = Follower::of(&["run"]);
    other.connect(TcpStream::connect(address).unwrap(), address).unwrap();
    client
        .read_until(|client| {
            client.mail.has_text("mail")
                && client.feeds["run"].has_text("after")
                && client.feeds["run"].values.contains_key("state")
        })
        .unwrap();
    assert!(!gone.is_cancelled() && client.new == 1);
    assert_eq!(hub.client_count(), 2);
    while let Some(event) = events.try_recv() {
        assert!(!matches!(event, Event::Detached { .. } | Event::Gone { .. }), "{event:?}");
    }
    // And its own end is still one.
    client.close();
    let ended = event(&mut events, |event| match event {
        Event::Gone { id: ended, reason } => Some((ended, reason)),
        Event::Detached { .. } => panic!("{event:?}"),
        _ => None,
    });
    assert!(ended.0 == id && matches!(ended.1, DisconnectReason::Closed(_)), "{ended:?}");
    assert!(gone.is_cancelled());
}

#[test]
fn at_another_hub_a_client_is_a_new_one_and_every_feed_begins_anew() {
    let mut client = Follower::of(&["", "run"]);
    let mut ids = Vec::new();
    for start in 0..5 {
        // The same program again, with the same feeds and numbers.
        let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
        let run = hub.feed("run").unwrap();
        for number in 0..10 {
            run.send(format!("{start} {number}")).unwrap();
            run.set("state", Message::from(format!("{start} {number}"))).unwrap();
        }
        client.connect_directly(hub.local_addr().unwrap());
        assert_eq!((client.new, client.resumed), (start + 1, 0));
        assert_eq!(client.hello.as_ref().unwrap()["resumed"], false);
        let id = client.id().unwrap();
        assert!(!ids.contains(&id));
        ids.push(id);
        hub.send(id, format!("mail {start}")).unwrap();
        hub.broadcast(format!("all {start}"));
        client
            .read_until(|client| {
                client.follows() == 2
                    && client.feeds["run"].texts().len() == 10
                    && !client.feeds["run"].values.is_empty()
                    && !client.feeds[""].log.is_empty()
                    && !client.mail.log.is_empty()
            })
            .unwrap();
        let run = &client.feeds["run"];
        assert!(run.texts().iter().all(|text| text.starts_with(&format!("{start} "))), "{run:?}");
        assert_eq!(run.values["state"], format!("{start} 9"));
        assert_eq!((run.snapshots, client.feeds[""].snapshots), (start + 1, start + 1));
        assert_eq!(client.feeds[""].texts(), [format!("all {start}")]);
        assert_eq!(client.mail.texts(), [format!("mail {start}")]);
        client.cut();
    }
}
