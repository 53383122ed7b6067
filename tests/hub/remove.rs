//! Latest values that are removed: who is told, who gets nothing, and whose room is free again.

use crate::support::lines::V1;
use crate::support::peer::{Peer, event, until};
use serde_json::{Value, json};
use stepcast::{Event, Hub, Limits, SendError};

/// What comes up to the message that says so.
fn up_to_end(client: &mut V1) -> Vec<Value> {
    let is_end = |line: &Value| line["text"][3] == "end";
    std::iter::from_fn(|| Some(client.any_line()).filter(|line| !is_end(line))).collect()
}

/// The kind, and the key or the text, of each.
fn short(lines: &[Value]) -> Vec<(&str, &str)> {
    let of = |line: &'_ Value| -> Option<(&'static str, String)> {
        let removed =
            line.get("removed").map(|line| ("removed", line[3].as_str().unwrap().to_owned()));
        removed
            .or_else(|| line.get("text").map(|line| ("text", line[3].as_str().unwrap().to_owned())))
    };
    lines.iter().filter_map(of).map(|(kind, text)| (kind, &*text.leak())).collect()
}

fn hub() -> Hub {
    Hub::spawn_blocking("127.0.0.1:0").unwrap()
}

#[test]
fn followers_are_told_in_order_late_joiners_get_no_removed_value_and_the_plain_wire_gets_nothing() {
    let hub = hub();
    let feed = hub.feed("run").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    let mut peer = Peer::connect_at(&hub, "/feed/run");
    client.line("feed");
    feed.set("a", "1").unwrap();
    feed.set("b", "2").unwrap();
    let stamp = [client.line("text")[1].as_u64(), client.line("text")[1].as_u64()][1];
    feed.remove("a").unwrap();
    let removed = client.line("removed");
    assert!(removed[3] == "a" && removed[1].as_u64() > stamp, "{removed}");
    feed.remove("a").unwrap(); // it has none
    feed.remove("never set").unwrap();
    feed.remove(&"x".repeat(999)).unwrap();
    feed.send("end").unwrap();
    assert!(up_to_end(&mut client).is_empty());
    assert_eq!([peer.text(), peer.text(), peer.text()], ["1", "2", "end"]);

    let mut late = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    assert_eq!(late.line("feed")["how"], "snapshot");
    let lines = up_to_end(&mut late);
    assert_eq!(short(&lines).into_iter().filter(|line| line.0 == "text").count(), 1);
    assert_eq!(short(&lines)[0], ("text", "2"));
    let mut late = Peer::connect_at(&hub, "/feed/run");
    assert_eq!([late.text(), late.text()], ["2", "end"]);

    // A key that has been removed is a key like others.
    feed.set("a", "3").unwrap();
    assert_eq!(client.line("text")[3], "3");
    feed.finish("end").unwrap();
    assert_eq!(feed.remove("a"), Err(SendError::Finished));
}

#[test]
fn a_client_that_comes_back_is_told_only_what_has_become_of_each_key() {
    let hub = hub();
    let mut events = hub.events();
    let feed = hub.feed("run").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    let seq = client.line("feed")["seq"].as_u64().unwrap();
    for key in ["gone", "back", "stays"] {
        feed.set(key, "old").unwrap();
    }
    let set = (0..3).map(|_| client.line("text")[1].as_u64().unwrap()).max();
    let before = client.cut();
    event(&mut events, |event| matches!(event, Event::Detached { .. }).then_some(()));
    feed.remove("gone").unwrap();
    feed.remove("back").unwrap();
    feed.set("back", "new").unwrap();
    feed.set("passing", "by").unwrap();
    feed.remove("passing").unwrap();
    feed.send("end").unwrap();
    let mut client = before.come_back(&hub, json!({}), json!({"run": {"seq": seq, "set": set}}));
    assert_eq!(client.line("feed")["how"], "resumed");
    let lines = up_to_end(&mut client);
    // A client may be told of a key that it never had.
    let lines: Vec<_> = short(&lines).into_iter().filter(|line| line.1 != "passing").collect();
    assert_eq!(lines, [("removed", "gone"), ("text", "new")]);
}

#[test]
fn a_client_that_comes_back_from_before_a_removal_that_is_forgotten_begins_anew() {
    let hub = hub();
    let mut events = hub.events();
    let feed = hub.feed("run").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    let seq = client.line("feed")["seq"].as_u64().unwrap();
    feed.set("first", "x").unwrap();
    let set = client.line("text")[1].as_u64();
    let before = client.cut();
    event(&mut events, |event| matches!(event, Event::Detached { .. }).then_some(()));
    let mut peer = Peer::connect_at(&hub, "/feed/run");
    assert_eq!(peer.text(), "x");
    feed.remove("first").unwrap();
    for number in 0..300 {
        feed.set(&format!("{number}"), "x").unwrap();
        assert_eq!(peer.text(), "x", "the hub knows it");
        feed.remove(&format!("{number}")).unwrap();
    }
    feed.send("end").unwrap();
    assert_eq!(peer.text(), "end");
    let mut client = before.come_back(&hub, json!({}), json!({"run": {"seq": seq, "set": set}}));
    assert_eq!(client.line("feed")["how"], "snapshot");
    assert!(up_to_end(&mut client).is_empty());
}

#[test]
fn the_room_of_a_removed_key_is_free_at_once_and_a_run_that_sets_and_removes_goes_on_for_ever() {
    let limits = Limits::default().keys(2).latest(2000);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let feed = hub.feed("run").unwrap();
    let mut peer = Peer::connect_at(&hub, "/feed/run");
    for number in 0..20_000 {
        feed.set(&format!("{number}"), "x".repeat(1000)).unwrap();
        if number % 100 == 0 {
            while peer.text() != "x".repeat(1000) {}
        }
        feed.remove(&format!("{number}")).unwrap();
    }
    drop(peer);
    // At most 256 removals are remembered.
    until("what was removed to be let go", || hub.stats().memory < 300 * 500);
    feed.set("a", "1").unwrap();
    feed.set("b", "2").unwrap();
    assert!(matches!(feed.set("c", "3"), Err(SendError::TooManyValues { .. })));
    feed.remove("a").unwrap();
    feed.set("c", "3").unwrap();
}

#[test]
fn a_value_for_one_client_is_removed_for_it_alone() {
    let hub = hub();
    let mut client = V1::connect(&hub, &json!({"feeds": {"": {}}}));
    client.line("feed");
    let mut peer = Peer::connect(&hub);
    for id in [client.id, peer.id] {
        hub.set(id, "key", "value").unwrap();
    }
    assert_eq!((client.line("text")[3].clone(), peer.text()), ("value".into(), "value".into()));
    hub.remove(client.id, "key").unwrap();
    let removed = client.line("removed");
    assert_eq!((&removed[0], &removed[3]), (&0.into(), &"key".into()));
    hub.remove(peer.id, "key").unwrap(); // it has it, and the plain wire has no keys
    for id in [client.id, peer.id] {
        hub.send(id, "end").unwrap();
    }
    assert_eq!((client.line("text")[3].clone(), peer.text()), ("end".into(), "end".into()));
    // What waits behind much is removed on the plain wire, too.
    hub.send(peer.id, vec![0; 16 << 20]).unwrap();
    until("it to be under way", || hub.stats().bytes_out > 100_000);
    hub.set(peer.id, "key", "waits").unwrap();
    hub.remove(peer.id, "key").unwrap();
    hub.send(peer.id, "end").unwrap();
    assert_eq!((peer.message().len(), peer.text()), (16 << 20, "end".into()));
    let nobody = "4711".parse().unwrap();
    assert_eq!(hub.remove(nobody, "key"), Err(SendError::NoSuchClient(nobody)));
    let disabled = Hub::disabled();
    disabled.remove(nobody, "key").unwrap();
    disabled.everyone().remove("key").unwrap();
}
