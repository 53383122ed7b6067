//! A client on `stepcast.v1` whose connection is cut at any byte has in the end what it was sent, each message
//! once and in order, and the latest values.

use std::io;
use std::net::TcpStream;

use crate::support::follower::Follower;
use crate::support::proxy;
use crate::support::proxy::{End, Way};
use serde_json::json;
use stepcast::{ClientId, Feed, Hub, Message};

/// What the program sends in one part of a session: of each kind that there is.
fn push_feed(feed: &Feed, part: usize) {
    feed.send(format!("text {part}")).unwrap();
    feed.set("text", format!("value {part}")).unwrap();
    feed.send(Message::json(&json!({"part": part})).unwrap()).unwrap();
    feed.set("bytes", format!("bytes {part}").into_bytes()).unwrap();
    feed.send(format!("bytes {part}").into_bytes()).unwrap();
    feed.set("json", Message::json(&json!([part])).unwrap()).unwrap();
}

fn push_mail(hub: &Hub, id: ClientId, part: usize) {
    hub.send(id, format!("mail {part}")).unwrap();
    hub.set(id, "own", format!("own {part}")).unwrap();
    hub.send(id, format!("mail bytes {part}").into_bytes()).unwrap();
    hub.set(id, "own bytes", format!("own bytes {part}").into_bytes()).unwrap();
}

fn expected(parts: usize) -> (Vec<String>, Vec<String>) {
    let feed =
        |part| [format!("text {part}"), format!(r#"{{"part":{part}}}"#), format!("bytes {part}")];
    let mail = |part| [format!("mail {part}"), format!("mail bytes {part}")];
    let (feed, mail) = ((0..parts).flat_map(feed), (0..parts).flat_map(mail));
    (feed.chain(["end".to_owned()]).collect(), mail.chain(["mail end".to_owned()]).collect())
}

/// Whether the client has the newest of everything.
fn has_part(client: &Follower, name: &str, part: usize) -> bool {
    client.feeds.get(name).is_some_and(|feed| {
        feed.has_text(&format!("bytes {part}"))
            && feed.values.get("json") == Some(&format!("[{part}]"))
    }) && client.mail.has_text(&format!("mail bytes {part}"))
        && client.mail.values.get("own bytes") == Some(&format!("own bytes {part}"))
}

/// The connection of a session that is cut.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    /// On which the client is new.
    First,
    /// On which it comes back, and is owed much.
    Second,
}

/// A session of which one connection goes through the proxy. How many bytes passed up and down on that one.
fn session(hub: &Hub, name: &str, cut: Cut, up: Way, down: Way) -> (usize, usize) {
    let address = hub.local_addr().unwrap();
    let feed = hub.feed(name).unwrap();
    let mut client = Follower::of(&[name]);
    let mut link = None;
    let mut through_proxy = |client: &mut Follower| -> io::Result<()> {
        let (socket, way) = proxy::connect(address, up, down);
        link = Some(way);
        client.connect(socket, address)
    };
    // Whatever comes of one connection, the next goes on.
    let direct = |client: &mut Follower| {
        client.connect(TcpStream::connect(address).unwrap(), address).expect("the hub to answer");
    };
    push_feed(&feed, 0);
    let first = if cut == Cut::First { through_proxy(&mut client).ok() } else { None };
    if first.is_none() {
        direct(&mut client);
    }
    let id = client.id().unwrap();
    push_mail(hub, id, 0);
    let _ = client.read_until(|client| has_part(client, name, 0));
    let _ = client.ack(); // only now and then, and not of all
    push_feed(&feed, 1);
    push_mail(hub, id, 1);
    let _ = client.read_until(|client| has_part(client, name, 1));
    let _ = client.say(&json!({"text": "I have it"}));
    client.cut();
    push_feed(&feed, 2);
    push_mail(hub, id, 2);
    if cut == Cut::Second {
        let _ = through_proxy(&mut client);
    } else {
        direct(&mut client);
    }
    let _ = client.read_until(|client| has_part(client, name, 2));
    let _ = client.ack();
    client.cut();
    push_feed(&feed, 3);
    push_mail(hub, id, 3);
    direct(&mut client);
    client.read_until(|client| has_part(client, name, 3)).expect("what it was sent");

    // Nothing is new but this.
    client.cut();
    feed.send("end").unwrap();
    hub.send(id, "mail end").unwrap();
    direct(&mut client);
    let at_end =
        |client: &Follower| client.feeds[name].has_text("end") && client.mail.has_text("mail end");
    client.read_until(at_end).expect("what it was sent");

    let (logged, mailed) = expected(4);
    let has = &client.feeds[name];
    assert_eq!((has.texts(), has.gaps()), (logged.iter().map(String::as_str).collect(), 0));
    let mail = &client.mail;
    assert_eq!((mail.texts(), mail.gaps()), (mailed.iter().map(String::as_str).collect(), 0));
    let values = [("bytes", "bytes 3"), ("json", "[3]"), ("text", "value 3")];
    assert!(has.values.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(values), "{has:?}");
    let values = [("own", "own 3"), ("own bytes", "own bytes 3")];
    assert!(mail.values.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(values), "{mail:?}");
    // Who has heard who it is stays that one, and who has been told of a feed goes on in it.
    assert_eq!((client.id(), client.new, has.snapshots), (Some(id), 1, 1));
    let link = link.expect("one connection went through the proxy");
    client.close();
    (link.up.passed(), link.down.passed())
}

/// Every cut of this kind, at every byte of this connection.
fn cut_everywhere(cut: Cut, end: End) {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let (up, down) = session(&hub, "run/whole", cut, Way::default(), Way::default());
    let mut reached = 0;
    for after in 0..up {
        let name = format!("run/u{after:04}");
        let (passed, _) = session(&hub, &name, cut, Way::ending(after, end), Way::default());
        reached += usize::from(passed == after);
    }
    for after in 0..down {
        let name = format!("run/d{after:04}");
        let (_, passed) = session(&hub, &name, cut, Way::default(), Way::ending(after, end));
        reached += usize::from(passed == after);
    }
    // No two sessions are the same to a byte: what shares a frame in one does not in another. One that was shorter
    // than its cut was whole.
    assert!(reached * 3 > (up + down) * 2, "{reached} of {up} and {down}");
}

#[test]
fn a_client_whose_first_connection_ends_at_any_byte_has_everything_once_and_in_order() {
    cut_everywhere(Cut::First, End::Fin);
}

#[test]
fn a_client_whose_first_connection_is_reset_at_any_byte_has_everything_once_and_in_order() {
    cut_everywhere(Cut::First, End::Reset);
}

#[test]
fn a_client_whose_return_ends_at_any_byte_has_everything_once_and_in_order() {
    cut_everywhere(Cut::Second, End::Fin);
}

#[test]
fn a_client_whose_return_is_reset_at_any_byte_has_everything_once_and_in_order() {
    cut_everywhere(Cut::Second, End::Reset);
}
