//! Clients on the wire `stepcast.v1`, over real connections: `docs/protocol.md`, sentence by sentence.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::lines::{V1, untimed};
use crate::support::peer;
use crate::support::peer::{event, until};
use crate::support::wire::PATIENCE;
use serde_json::json;
use stepcast::codec::Message;
use stepcast::{DisconnectReason, Event, Hub, Limits, Overflow, Retention, Timeouts};

fn hub() -> Hub {
    Hub::spawn_blocking("127.0.0.1:0").unwrap()
}

#[test]
fn a_new_client_is_told_who_it_is_and_follows_what_it_asked_for() {
    let hub = hub();
    let run = hub.feed("run/42").unwrap();
    run.send("kept").unwrap();
    run.set("state", Message::json(&json!({"step": 41})).unwrap()).unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {"": {}, "run/42": {}}}));
    assert_eq!(client.hello["resumed"], false);
    assert_eq!((&client.hello["ping"], &client.hello["limits"]["feeds"]), (&json!(25), &json!(64)));
    assert_eq!(client.hello["key"].as_str().unwrap().len(), 32);
    assert!(hub.client(client.id).is_some());
    let feed = client.line("feed");
    assert_eq!((&feed["name"], &feed["how"]), (&json!(""), &json!("snapshot")));
    let feed = client.line("feed");
    assert_eq!((&feed["name"], &feed["how"]), (&json!("run/42"), &json!("snapshot")));
    let (alias, seq) = (feed["alias"].clone(), feed["seq"].as_u64().unwrap());
    assert_eq!(untimed(client.line("text")), json!([alias, seq + 1, "kept"]));
    let value = client.line("json");
    assert_eq!((&value[0], &value[3], &value[4]), (&alias, &json!({"step": 41}), &json!("state")));
    run.send(vec![1, 2, 3]).unwrap();
    let frame = client.binary();
    assert_eq!((frame[0], &frame[23..]), (1, &[1, 2, 3][..]));
    assert_eq!(u64::from_be_bytes(frame[5..13].try_into().unwrap()), seq + 2);
}

#[test]
fn lines_that_are_pending_together_share_a_frame() {
    let hub = hub();
    let run = hub.feed("run").unwrap();
    for number in 0..100 {
        run.send(number.to_string()).unwrap();
    }
    let mut client = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    client.line("feed");
    for number in 0..100 {
        assert_eq!(client.line("text")[3], number.to_string());
    }
    assert!(client.frames < 10, "{}", client.frames);
}

#[test]
fn a_client_that_comes_back_goes_on_behind_what_it_has() {
    let hub = hub();
    let run = hub.feed("run").unwrap();
    let mut events = hub.events();
    let mut client = V1::connect(&hub, &json!({"feeds": {"": {}, "run": {}}}));
    client.line("feed");
    client.line("feed");
    run.send("one").unwrap();
    hub.send(client.id, "for you").unwrap();
    let (seq, mail) = (client.line("text")[1].clone(), client.line("text")[1].clone());
    let from = client.local_addr();
    let place_of =
        |id| hub.client(id).map(|client| (client.info().address, client.info().connected)).unwrap();
    let came_with = client.cut();
    let detached = |event| matches!(event, Event::Detached { .. }).then_some(());
    event(&mut events, detached);
    // It is still there for those who push to it.
    assert_eq!(place_of(came_with.id), (from, false));
    for text in ["two", "three"] {
        run.send(text).unwrap();
        hub.broadcast(text);
        hub.send(came_with.id, text).unwrap();
    }
    hub.set(came_with.id, "key", "old").unwrap();
    hub.set(came_with.id, "key", "new").unwrap();
    let mut client = came_with.come_back(
        &hub,
        json!({"seq": mail}),
        json!({"": {"seq": 0}, "run": {"seq": seq}}),
    );
    assert_eq!((&client.hello["resumed"], client.id), (&json!(true), came_with.id));
    assert_eq!(place_of(came_with.id), (client.local_addr(), true), "where it is now");
    assert_ne!(client.local_addr(), from);
    event(&mut events, |event| (event == Event::Resumed { id: came_with.id }).then_some(()));
    assert_eq!(client.line("feed")["how"], "resumed");
    assert_eq!(client.line("feed")["how"], "resumed");
    let mut texts: Vec<_> = (0..7).map(|_| client.line("text")).collect();
    texts.sort_by_key(|text| (text[0].as_u64(), text.get(3).is_some(), text[1].as_u64()));
    let said: Vec<_> = texts.iter().map(|text| text[3].as_str().unwrap()).collect();
    assert_eq!(said, ["two", "three", "new", "two", "three", "two", "three"]);
    assert_eq!(hub.client_count(), 1);
}

#[test]
fn what_is_acknowledged_is_not_kept_and_what_is_not_comes_again() {
    let hub = hub();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    for text in ["a", "b", "c"] {
        hub.send(client.id, text).unwrap();
        assert_eq!(client.line("text")[3], text);
    }
    assert!(hub.stats().memory > 0);
    client.say(&json!({"ack": {"seq": 2}}));
    // It says that it has nothing, as after a reload: what was acknowledged is gone.
    until("the acknowledgement", || hub.stats().memory < 600);
    let mut client = client.cut().come_back(&hub, json!({}), json!({}));
    let gap = client.line("gap");
    assert_eq!(gap, json!({"alias": 0, "from": 1, "to": 2, "why": "expired"}));
    assert_eq!(untimed(client.line("text")), json!([0, 3, "c"]));
    client.say(&json!({"ack": {"seq": 3}}));
    until("nothing to be kept", || hub.stats().memory == 0);
}

#[test]
fn a_full_mailbox_of_which_the_acknowledgement_was_lost_makes_room_for_who_comes_back_with_it() {
    let limits = Limits::default().mailbox(10 * (34 + 256));
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    for number in 0..10 {
        hub.send(client.id, format!("{number}: {}", "x".repeat(30))).unwrap();
        client.line("text");
    }
    // It has said so, and believes that it has been heard.
    let mut client = client.cut().come_back(&hub, json!({"seq": 10}), json!({}));
    for number in 10..20 {
        hub.send(client.id, format!("{number}: {}", "x".repeat(30))).unwrap();
    }
    assert_eq!(client.line("text")[1], 11);
}

#[test]
fn who_comes_back_when_nothing_is_kept_of_what_it_missed_is_told_so_at_once() {
    let hub = Hub::builder()
        .retention(Retention::default().messages(0))
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let mut events = hub.events();
    let run = hub.feed("run").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    let seq = client.line("feed")["seq"].as_u64().unwrap();
    let epoch = client.hello["epoch"].clone();
    client.close(1000); // for good: nothing is kept for it
    event(&mut events, |event| matches!(event, Event::Gone { .. }).then_some(()));
    run.send("missed").unwrap();
    until("what it missed to be let go", || hub.stats().memory == 0);
    let hello = json!({"epoch": epoch, "feeds": {"run": {"seq": seq}}});
    let mut client = V1::connect(&hub, &hello);
    assert_eq!(client.line("feed")["how"], "resumed");
    assert_eq!(client.line("gap")["from"], seq + 1);
}

#[test]
fn a_client_that_the_program_has_closed_stays_closed_when_it_comes_back_before_it_is_told() {
    let hub = hub();
    let client = V1::connect(&hub, &json!({"feeds": {}}));
    // It reads nothing: the Close waits behind this.
    hub.send(client.id, vec![0; 32 << 20]).unwrap();
    hub.disconnect(client.id, "done").unwrap();
    let mut back = client.identity().come_back(&hub, json!({}), json!({}));
    assert!(back.hello["resumed"] == false || back.close_code() == 4501);
    until("the client to be gone", || hub.client(client.id).is_none());
    drop(client);
}

#[test]
fn the_end_of_who_was_closed_takes_nothing_from_what_has_its_mailboxs_place() {
    let retention = Retention::default().messages(0).age(Duration::from_millis(10));
    let hub = Hub::builder().retention(retention).spawn_blocking("127.0.0.1:0").unwrap();
    let feeds = hub.stats().feeds;
    let closed = V1::connect(&hub, &json!({"feeds": {}}));
    hub.send(closed.id, vec![0; 32 << 20]).unwrap(); // which it does not read
    hub.disconnect(closed.id, "done").unwrap();
    // Its mailbox goes before its connection does.
    let mut new = closed.identity().come_back(&hub, json!({}), json!({"fresh": {}}));
    assert_eq!(new.hello["resumed"], false);
    assert_eq!(new.line("feed")["name"], "fresh");
    drop(closed);
    hub.feed("fresh").unwrap().send("here").unwrap();
    assert_eq!(new.line("text")[3], "here");
    new.close(1000);
    until("the feed to be gone", || hub.stats().feeds == feeds);
}

#[test]
fn a_client_that_was_sent_nothing_yet_has_a_mailbox_all_the_same() {
    let hub = hub();
    let mut events = hub.events();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    client.say(&json!({"ack": {"seq": 5}}));
    let before = client.cut();
    until_detached(&mut events);
    hub.set(before.id, "key", "old").unwrap();
    hub.set(before.id, "key", "new").unwrap();
    let mut client = before.come_back(&hub, json!({}), json!({}));
    let value = client.line("text");
    assert_eq!((&value[0], &value[3], &value[4]), (&json!(0), &json!("new"), &json!("key")));
    hub.send(client.id, "first").unwrap();
    assert_eq!(untimed(client.line("text")), json!([0, 1, "first"]));
}

#[test]
fn what_a_client_that_is_there_misses_of_its_mailbox_it_was_too_slow_for() {
    let limits = Limits::default().mailbox(1000);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    let last = 20_000;
    for number in 1..=last {
        hub.send(client.id, number.to_string()).unwrap();
    }
    let (mut next, mut gaps) = (1, 0);
    while next <= last {
        let line = client.any_line();
        if let Some(gap) = line.get("gap") {
            assert_eq!((&gap["from"], &gap["why"]), (&json!(next), &json!("slow")));
            next = gap["to"].as_u64().unwrap() + 1;
            gaps += 1;
        } else {
            assert_eq!(untimed(line["text"].clone()), json!([0, next, next.to_string()]));
            client.say(&json!({"ack": {"seq": next}}));
            next += 1;
        }
    }
    assert!(gaps > 0, "a thousand bytes held twenty thousand messages");
}

#[test]
fn a_wrong_key_or_epoch_makes_a_new_client_and_the_old_one_stays() {
    let hub = hub();
    let client = V1::connect(&hub, &json!({"feeds": {}}));
    let (id, key, epoch) =
        (client.hello["id"].clone(), client.hello["key"].clone(), client.hello["epoch"].clone());
    let other = V1::connect(&hub, &json!({"feeds": {}}));
    for wrong in [
        json!({"id": id, "key": "00000000000000000000000000000000", "epoch": epoch, "feeds": {}}),
        json!({"id": id, "key": key, "epoch": "0000000000000000", "feeds": {}}),
        json!({"id": id, "epoch": epoch, "feeds": {}}),
        json!({"id": 1, "key": key, "epoch": epoch, "feeds": {}}),
        json!({"id": id, "key": other.hello["key"], "epoch": epoch, "feeds": {}}),
    ] {
        let other = V1::connect(&hub, &wrong);
        assert_eq!(other.hello["resumed"], false);
        assert_ne!(other.id, client.id);
    }
    assert!(hub.client(client.id).is_some());
}

#[test]
fn who_is_taken_over_is_told_for_good_and_its_end_does_not_touch_the_new_one() {
    let hub = hub();
    let mut events = hub.events();
    let mut old = V1::connect(&hub, &json!({"feeds": {"": {}}}));
    assert_eq!(old.line("feed")["how"], "snapshot");
    let mut new = old.identity().come_back(&hub, json!({}), json!({"": {}}));
    assert_eq!(new.hello["resumed"], true);
    assert_eq!(old.line("bye")["code"], 4500);
    assert_eq!(old.close_code(), 4500);
    drop(old);
    hub.send(new.id, "still there").unwrap();
    hub.broadcast("to all");
    assert_eq!(new.line("feed")["how"], "snapshot");
    let texts = [new.line("text")[3].clone(), new.line("text")[3].clone()];
    assert!(texts.contains(&json!("still there")) && texts.contains(&json!("to all")), "{texts:?}");
    assert_eq!(hub.client_count(), 1);
    while let Some(event) = events.try_recv() {
        assert!(!matches!(event, Event::Detached { .. } | Event::Gone { .. }), "{event:?}");
    }
}

#[test]
fn after_the_grace_period_a_client_has_gone_and_a_run_can_hang_on_that() {
    let timeouts =
        Timeouts::default().grace(Duration::from_millis(200)).close(Duration::from_millis(100));
    let hub = Hub::builder().timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let client = V1::connect(&hub, &json!({"feeds": {}}));
    let (id, gone) = (client.id, hub.gone_token(client.id));
    hub.send(id, "waiting").unwrap();
    let before = client.cut();
    event(&mut events, |event| matches!(event, Event::Detached { .. }).then_some(()));
    assert!(!gone.is_cancelled());
    let reason = event(&mut events, |event| match event {
        Event::Gone { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(reason, DisconnectReason::Lost);
    assert!(gone.is_cancelled() && hub.gone_token(id).is_cancelled());
    assert_eq!((hub.client_count(), hub.stats().memory), (0, 0));
    let back = before.come_back(&hub, json!({}), json!({}));
    assert_eq!(back.hello["resumed"], false);
}

#[test]
fn a_client_that_closes_for_good_is_gone_at_once() {
    let hub = hub();
    let client = V1::connect(&hub, &json!({"feeds": {}}));
    let gone = hub.gone_token(client.id);
    client.close(1000);
    until("it to be gone", || gone.is_cancelled());
    assert_eq!(hub.client_count(), 0);
}

#[test]
fn what_is_no_line_is_an_error_and_the_tenth_closes() {
    let hub = hub();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    client.say_text("not json");
    assert_eq!(client.line("error")["code"], "malformed");
    client.say_text(r#"{"later":1}"#); // of a later version
    for _ in 0..9 {
        client.say_text("{}");
        assert_eq!(client.line("error")["code"], "malformed");
    }
    assert_eq!(client.line("bye")["code"], 4502);
    assert_eq!(client.close_code(), 4502);
}

#[test]
fn a_feed_that_is_not_for_a_client_is_refused_and_the_others_stay() {
    let hub = Hub::builder()
        .authorize_follow(|feed, _| feed != "secret")
        .limits(Limits::default().feeds_per_client(2))
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {"a": {}}}));
    assert_eq!(client.line("feed")["name"], "a");
    client.say(&json!({"follow": {"secret": {}}}));
    assert_eq!(client.line("error")["code"], "forbidden");
    client.say(&json!({"follow": {"a\nb": {}}}));
    assert_eq!(client.line("error")["code"], "invalid");
    client.say(&json!({"follow": {"b": {}}}));
    assert_eq!(client.line("feed")["name"], "b");
    client.say(&json!({"follow": {"c": {}}}));
    assert_eq!(client.line("error")["code"], "full");
    client.say(&json!({"unfollow": ["b"]}));
    client.line("unfollowed");
    hub.feed("a").unwrap().send("still").unwrap();
    assert_eq!(client.line("text")[3], "still");
}

#[test]
fn who_leaves_a_feed_and_asks_for_it_again_at_once_is_told_of_both() {
    let hub = hub();
    let run = hub.feed("run").unwrap();
    run.send("kept").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    let alias = client.line("feed")["alias"].clone();
    assert_eq!(client.line("text")[3], "kept");
    client.say_text("{\"unfollow\":[\"run\"]}\n{\"follow\":{\"run\":{}}}");
    assert_eq!(client.line("unfollowed"), json!({"alias": alias}));
    assert_eq!(client.line("feed")["how"], "snapshot");
    assert_eq!(client.line("text")[3], "kept");
}

#[test]
fn the_program_can_have_a_client_follow_and_hears_what_it_says() {
    let hub = hub();
    let mut events = hub.events();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    let run = hub.feed("run").unwrap();
    hub.follow(client.id, &run).unwrap();
    run.send("here").unwrap();
    assert_eq!(client.line("feed")["name"], "run");
    assert_eq!(client.line("text")[3], "here");
    hub.unfollow(client.id, &run).unwrap();
    client.line("unfollowed");
    client.say(&json!({"text": "stop"}));
    client.say(&json!({"json": {"rate": 0.5}}));
    let mut said = || {
        event(&mut events, |event| match event {
            Event::Message { message, .. } => Some(message),
            _ => None,
        })
    };
    assert_eq!(said(), Message::from("stop"));
    assert_eq!(said(), Message::json_text(r#"{"rate":0.5}"#).unwrap());
}

#[test]
fn a_message_says_which_feed_it_is_about_and_one_about_a_feed_that_is_not_followed_is_refused() {
    let hub = hub();
    let mut events = hub.events();
    let mut client = V1::connect(&hub, &json!({"feeds": {"": {}, "run": {}}}));
    let mut aliases = BTreeMap::new();
    for _ in 0..2 {
        let feed = client.line("feed");
        let alias = u32::try_from(feed["alias"].as_u64().unwrap()).unwrap();
        aliases.insert(feed["name"].as_str().unwrap().to_owned(), alias);
    }
    let (all, run) = (aliases[""], aliases["run"]);
    let bytes_to = |alias: u32| [&[1][..], &alias.to_be_bytes(), b"bytes"].concat();
    client.say(&json!({"text": "about run", "to": run}));
    client.say(&json!({"to": all, "json": {"to": run}}));
    client.say_bytes(bytes_to(run));
    client.say_bytes(bytes_to(0));
    client.say(&json!({"text": "about none", "to": 0}));
    client.say(&json!({"text": "not taken", "to": 99}));
    client.say_bytes(bytes_to(99));
    client.say_bytes(b"\x02of a later version".to_vec());
    client.say(&json!({"unfollow": ["run"]}));
    client.say(&json!({"text": "too late", "to": run}));
    client.say(&json!({"text": "last"}));
    let said: Vec<_> = (0..6)
        .map(|_| {
            event(&mut events, |event| match event {
                Event::Message { feed, message, .. } => Some((feed, message)),
                _ => None,
            })
        })
        .collect();
    let (of_run, bytes) = (Some("run".to_owned()), || Message::from(b"bytes".to_vec()));
    let expected = [
        (of_run.clone(), Message::from("about run")),
        (Some(String::new()), Message::json(&json!({"to": run})).unwrap()),
        (of_run, bytes()),
        (None, bytes()),
        (None, "about none".into()),
        (None, "last".into()),
    ];
    assert_eq!(said, expected);
    for alias in [99, 99, run] {
        if alias == run {
            client.line("unfollowed");
        }
        let error = client.line("error");
        assert_eq!((&error["code"], error["feed"].is_null()), (&json!("unknown"), true));
        assert!(error["reason"].as_str().unwrap().ends_with(&format!("not {alias}")), "{error}");
    }
    // It goes on, however often that happens.
    (0..20).for_each(|_| client.say(&json!({"text": "not taken", "to": 99})));
    (0..20).for_each(|_| assert_eq!(client.line("error")["code"], "unknown"));
}

#[test]
fn a_hub_that_ends_says_when_to_come_back_and_a_program_that_is_done_says_so() {
    let hub = hub();
    let mut one = V1::connect(&hub, &json!({"feeds": {}}));
    let mut other = V1::connect(&hub, &json!({"feeds": {}}));
    hub.disconnect(one.id, "the run is over").unwrap();
    let bye = one.line("bye");
    assert_eq!((&bye["code"], &bye["reason"]), (&json!(4501), &json!("the run is over")));
    assert_eq!(one.close_code(), 4501);
    hub.broadcast("last");
    hub.shutdown_blocking(Duration::from_secs(5));
    let bye = other.line("bye");
    assert_eq!(bye["code"], 4000);
    assert!(bye["retry"].as_u64().unwrap() < 2000);
    assert_eq!(other.close_code(), 4000);
}

#[test]
fn who_does_not_say_hello_is_turned_away() {
    let hub = Hub::builder()
        .timeouts(Timeouts::default().handshake(Duration::from_millis(200)))
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let mut silent = V1::upgrade(&hub);
    assert_eq!(silent.line("bye")["code"], 4502);
    let mut rude = V1::upgrade(&hub);
    rude.say(&json!({"text": "hi"}));
    assert_eq!(rude.line("bye")["code"], 4502);
    assert_eq!(rude.close_code(), 4502);
    assert_eq!(hub.client_count(), 0);
}

#[test]
fn who_is_away_makes_way_for_who_comes() {
    let hub =
        Hub::builder().limits(Limits::default().clients(3)).spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let stays = V1::connect(&hub, &json!({"feeds": {}}));
    for _ in 0..10 {
        V1::connect(&hub, &json!({"feeds": {}})).cut();
        event(&mut events, |event| matches!(event, Event::Detached { .. }).then_some(()));
    }
    assert_eq!(hub.client_count(), 3);
    let plain = peer::Peer::connect(&hub);
    assert!(hub.client(stays.id).is_some() && hub.client(plain.id).is_some());
}

#[test]
fn a_feed_that_is_left_and_asked_for_again_in_one_breath_begins_anew() {
    let hub = hub();
    let run = hub.feed("run").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    client.line("feed");
    client.say_text("{\"unfollow\":[\"run\"]}\n{\"follow\":{\"run\":{}}}");
    client.line("unfollowed");
    assert_eq!(client.line("feed")["name"], "run");
    run.send("still").unwrap();
    assert_eq!(client.line("text")[3], "still");
}

#[test]
fn who_asks_and_reads_nothing_is_closed_before_the_answers_grow() {
    let limits = Limits::default().inbound_per_second(u32::MAX);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    let names: Vec<String> =
        (0..60).map(|number| format!("\n{number}{}", "x".repeat(900))).collect();
    let wishes: serde_json::Map<_, _> =
        names.iter().map(|name| (name.clone(), json!({}))).collect();
    while client.try_say(&json!({"follow": wishes})).is_ok() {
        assert!(hub.stats().memory < 1 << 20, "{}", hub.stats().memory);
    }
    let reason = event(&mut events, |event| match event {
        Event::Detached { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(matches!(reason, DisconnectReason::Violation(_)), "{reason:?}");
}

/// Each is refused, so that what is refused says where in all that was asked it stands.
#[test]
fn answers_that_a_full_socket_takes_in_parts_come_whole_and_in_the_order_of_the_questions() {
    let limits = Limits::default().inbound_per_second(u32::MAX).feeds_per_client(100);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    let name = |number: usize| format!("\n{}", 1_000_000 - number); // not as they would be sorted
    let mut asked = 0;
    while hub.client(client.id).unwrap().info().queued_bytes == 0 {
        let wishes: Vec<_> =
            (asked..asked + 100).map(|n| format!("{}:{{}}", json!(name(n)))).collect();
        let received = hub.stats().bytes_in;
        client.say_text(&format!(r#"{{"follow":{{{}}}}}"#, wishes.join(",")));
        until("it to be heard", || hub.stats().bytes_in > received);
        asked += 100;
        assert!(asked < 900_000, "what its socket does not take is kept nowhere");
    }
    for number in 0..asked {
        assert_eq!(client.line("error")["feed"], name(number));
    }
    hub.send(client.id, "still there").unwrap();
    assert_eq!(client.line("text")[3], "still there");
}

fn until_detached(events: &mut stepcast::Events) {
    event(events, |event| matches!(event, Event::Detached { .. }).then_some(()));
}

fn until_gone(events: &mut stepcast::Events) {
    event(events, |event| matches!(event, Event::Gone { .. }).then_some(()));
}

#[test]
fn a_client_that_the_program_closes_does_not_come_back_though_its_connection_is_lost_first() {
    let hub = hub();
    let mut events = hub.events();
    let client = V1::connect(&hub, &json!({"feeds": {}}));
    hub.send(client.id, vec![0; 32 << 20]).unwrap(); // which it does not take
    until("it to be under way", || {
        hub.client(client.id).is_some_and(|c| c.info().queued_bytes > 1 << 20)
    });
    hub.disconnect(client.id, "enough").unwrap();
    let before = client.cut();
    until_gone(&mut events);
    assert_eq!(before.come_back(&hub, json!({}), json!({})).hello["resumed"], false);
}

#[test]
fn what_was_broadcast_while_nobody_was_there_is_told_as_missed() {
    let timeouts =
        Timeouts::default().grace(Duration::from_millis(50)).close(Duration::from_millis(50));
    let hub = Hub::builder().timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let mut client = V1::connect(&hub, &json!({"feeds": {"": {}}}));
    client.line("feed");
    hub.broadcast("a");
    let seq = client.line("text")[1].as_u64().unwrap();
    let before = client.cut();
    until_gone(&mut events);
    for _ in 0..5 {
        hub.broadcast("to nobody");
    }
    let mut client = before.come_back(&hub, json!({}), json!({"": {"seq": seq}}));
    assert_eq!(client.line("feed")["how"], "resumed");
    hub.broadcast("b");
    let gap = client.line("gap");
    assert_eq!((&gap["from"], &gap["to"]), (&json!(seq + 1), &json!(seq + 5)));
    assert_eq!(client.line("text")[3], "b");
}

#[test]
fn what_the_program_had_a_client_follow_while_it_was_away_holds_and_so_does_what_comes_after() {
    let hub = hub();
    let mut events = hub.events();
    let client = V1::connect(&hub, &json!({"feeds": {}}));
    let (a, b) = (hub.feed("a").unwrap(), hub.feed("b").unwrap());
    let before = client.cut();
    until_detached(&mut events);
    hub.follow(before.id, &a).unwrap();
    let mut client = before.come_back(&hub, json!({}), json!({}));
    assert_eq!(client.line("feed")["name"], "a");
    hub.follow(client.id, &b).unwrap();
    assert_eq!(client.line("feed")["name"], "b");
    hub.unfollow(client.id, &a).unwrap();
    client.line("unfollowed");
}

#[test]
fn a_feed_that_a_client_has_left_while_it_was_away_is_not_begun_again() {
    let hub = hub();
    let feeds = ["left", "kept", "told"].map(|name| hub.feed(name).unwrap());
    let mut client = V1::connect(&hub, &json!({"feeds": {"left": {}, "kept": {}, "told": {}}}));
    let of = |client: &mut V1| client.line("feed")["name"].as_str().unwrap().to_owned();
    for _ in &feeds {
        of(&mut client);
    }
    hub.follow(client.id, &feeds[2]).unwrap(); // the program wants that one, too
    let mut client = client.cut().come_back(&hub, json!({}), json!({"kept": {}}));
    let mut names = [of(&mut client), of(&mut client)];
    names.sort();
    assert_eq!(names, ["kept", "told"]);
    for feed in &feeds {
        feed.send(feed.name().to_owned()).unwrap();
    }
    let mut texts = [client.line("text"), client.line("text")].map(|line| line[3].clone());
    texts.sort_by_key(ToString::to_string);
    assert_eq!(texts, ["kept", "told"]);
}

#[test]
fn who_comes_back_follows_what_the_rule_says_then() {
    let open = Arc::new(AtomicBool::new(true));
    let rule = Arc::clone(&open);
    let hub = Hub::builder()
        .authorize_follow(move |feed, _| feed != "run" || rule.load(Ordering::Relaxed))
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {"run": {}, "other": {}}}));
    client.line("feed");
    client.line("feed");
    open.store(false, Ordering::Relaxed);
    let mut client = client.cut().come_back(&hub, json!({}), json!({"run": {}, "other": {}}));
    let mut answers = [client.any_line(), client.any_line()].map(|line| line.to_string());
    answers.sort();
    assert!(answers[0].contains("forbidden") && answers[1].contains("other"), "{answers:?}");
    hub.feed("run").unwrap().send("secret").unwrap();
    hub.feed("other").unwrap().send("for all").unwrap();
    assert_eq!(client.line("text")[3], "for all");
}

#[test]
fn what_the_program_asks_for_while_a_hello_is_answered_holds() {
    type Act = Box<dyn FnOnce() + Send>;
    // The rule is asked in the middle of it.
    let act: Arc<Mutex<Option<Act>>> = Arc::default();
    let rule = Arc::clone(&act);
    let hub = Hub::builder()
        .authorize_follow(move |_, _| {
            rule.lock().unwrap().take().into_iter().for_each(|act| act());
            true
        })
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let [left, own, begun] = ["left", "own", "begun"].map(|name| hub.feed(name).unwrap());
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    hub.follow(client.id, &left).unwrap();
    assert_eq!(client.line("feed")["name"], "left");
    let (id, before) = (client.id, client.cut());
    *act.lock().unwrap() = Some(Box::new({
        let (hub, left, begun) = (hub.clone(), left.clone(), begun.clone());
        move || {
            hub.unfollow(id, &left).unwrap();
            hub.follow(id, &begun).unwrap();
        }
    }));
    let mut client = before.come_back(&hub, json!({}), json!({"own": {}}));
    assert!(act.lock().unwrap().is_none());
    assert_eq!(client.line("feed")["name"], "own");
    assert_eq!(client.line("feed")["name"], "begun");
    for feed in [&left, &own, &begun, &left, &own, &begun] {
        feed.send(feed.name().to_owned()).unwrap();
    }
    let mut texts = [(); 4].map(|()| client.line("text")[3].clone().to_string());
    texts.sort();
    assert_eq!(texts, [r#""begun""#, r#""begun""#, r#""own""#, r#""own""#]);
}

#[test]
fn values_that_one_client_was_given_are_kept_for_it_and_bounded() {
    let hub =
        Hub::builder().limits(Limits::default().keys(10)).spawn_blocking("127.0.0.1:0").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    for number in 0..100 {
        hub.set(client.id, &number.to_string(), "value").unwrap();
        assert_eq!(client.line("text")[4], number.to_string());
    }
    until("the older ones to be let go", || hub.stats().memory < 10 * 600);
    let mut client = client.cut().come_back(&hub, json!({}), json!({}));
    for number in 90..100 {
        assert_eq!(client.line("text")[4], number.to_string());
    }
}

#[test]
fn a_value_that_one_client_is_set_without_pause_comes_meanwhile() {
    let hub = hub();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    let (id, is_read) = (client.id, AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let end = Instant::now() + PATIENCE; // or a failure would wait for this thread
            while !is_read.load(Ordering::Relaxed) && Instant::now() < end {
                hub.set(id, "key", "value").unwrap();
            }
        });
        for _ in 0..3 {
            assert_eq!(client.line("text")[4], "key");
        }
        is_read.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_was_sent_before_a_disconnect_comes_before_it_also_where_there_was_no_room_for_it() {
    let hub = Hub::builder()
        .overflow(Overflow::Refuse)
        .limits(Limits::default().mailbox(11_000))
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    let text = "x".repeat(1500);
    for _ in 0..6 {
        hub.send(client.id, text.clone()).unwrap();
        client.line("text");
    }
    for _ in 0..5 {
        hub.send(client.id, text.clone()).unwrap(); // nothing has been acknowledged: it waits
    }
    hub.disconnect(client.id, "done").unwrap();
    client.say(&json!({"ack": {"seq": 6}}));
    for number in 7..=11 {
        assert_eq!(client.line("text")[1], number);
    }
    assert_eq!(client.line("bye")["reason"], "done");
}

#[test]
fn json_of_several_lines_is_one_line() {
    let hub = hub();
    let mut client = V1::connect(&hub, &json!({"feeds": {"": {}}}));
    client.line("feed");
    hub.broadcast(Message::json_text("{\n  \"a\":\r\n  [1,\n2]\n}").unwrap());
    assert_eq!(client.line("json")[3], json!({"a": [1, 2]}));
}

#[test]
fn numbers_that_json_does_not_have_arrive_as_null() {
    let hub = hub();
    let mut client = V1::connect(&hub, &json!({"feeds": {"": {}}}));
    client.line("feed");
    hub.broadcast(Message::json(&[f64::NAN, 0.5, f64::INFINITY]).unwrap());
    assert_eq!(client.line("json")[3], json!([null, 0.5, null]));
}

#[test]
fn who_was_too_slow_and_comes_back_can_be_sent_to_again() {
    let hub = Hub::builder()
        .limits(Limits::default().mailbox(1000))
        .overflow(Overflow::Disconnect)
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let mut events = hub.events();
    let client = V1::connect(&hub, &json!({"feeds": {}}));
    // It reads nothing, and acknowledges nothing.
    while hub.send(client.id, "x".repeat(100)).is_ok() {}
    event(&mut events, |event| matches!(event, Event::Detached { .. }).then_some(()));
    let mut back = client.identity().come_back(&hub, json!({}), json!({}));
    assert_eq!(back.hello["resumed"], true);
    assert_eq!(back.line("text")[1], 1);
    back.say(&json!({"ack": {"seq": 1}}));
    until("it to be sent to", || hub.send(back.id, "again").is_ok());
    drop(client);
}

#[test]
fn who_finds_the_hub_full_may_come_back_and_nobody_gets_in_by_anothers_id() {
    let hub =
        Hub::builder().limits(Limits::default().clients(1)).spawn_blocking("127.0.0.1:0").unwrap();
    let mut late = [V1::upgrade(&hub), V1::upgrade(&hub)];
    let there = V1::connect(&hub, &json!({"feeds": {}}));
    let (id, epoch) = (there.hello["id"].clone(), there.hello["epoch"].clone());
    late[0].say(&json!({"hello": {"feeds": {}}}));
    late[1].say(&json!({"hello": {"id": id, "epoch": epoch, "feeds": {}}}));
    for client in &mut late {
        assert_eq!(client.line("bye")["code"], 4000);
        assert_eq!(client.close_code(), 4000);
    }
    assert_eq!(hub.client_count(), 1);
}

#[test]
fn who_overflows_its_mailbox_while_it_is_away_is_said_to_have_been_too_slow() {
    let hub = Hub::builder()
        .overflow(Overflow::Disconnect)
        .limits(Limits::default().mailbox(1000))
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let mut events = hub.events();
    let away = V1::connect(&hub, &json!({"feeds": {}})).cut();
    until_detached(&mut events);
    while hub.send(away.id, "x".repeat(100)).is_ok() {}
    let gone = event(&mut events, |event| match event {
        Event::Gone { id, reason } => Some((id, reason)),
        _ => None,
    });
    assert_eq!(gone, (away.id, DisconnectReason::TooSlow));
}

#[test]
fn who_is_closed_by_the_program_while_it_is_too_slow_does_not_come_back() {
    let hub = Hub::builder()
        .overflow(Overflow::Disconnect)
        .limits(Limits::default().mailbox(1000))
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    for _ in 0..20 {
        let client = V1::connect(&hub, &json!({"feeds": {}}));
        while hub.send(client.id, "x".repeat(100)).is_ok() {}
        hub.disconnect(client.id, "enough").expect("it is not gone: it may come back");
        let gone = hub.gone_token(client.id);
        until("it to be gone", || gone.is_cancelled());
    }
}

/// RFC 6455, section 7.1.7: nothing that comes after what fails the connection is processed.
#[test]
fn what_comes_in_one_packet_behind_a_violation_is_not_looked_at() {
    let hub = hub();
    let mut events = hub.events();
    let malformed = "\n{}".repeat(10);
    let late = r#"{"text":"late"}"#;
    let hello = r#"{"hello":{"feeds":{}}}"#;
    for texts in [
        [hello, &malformed[1..], late],
        [&format!("{hello}{malformed}\n{late}"), late, late],
        [hello, &format!("{}\n{late}", &malformed[1..]), late],
    ] {
        let mut client = V1::upgrade(&hub);
        client.say_at_once(&texts);
        assert_eq!(client.close_code(), 4502);
        let reason = event(&mut events, |event| match event {
            Event::Gone { reason, .. } => Some(reason),
            Event::Message { message, .. } => panic!("{message:?}"),
            _ => None,
        });
        assert!(matches!(reason, DisconnectReason::Violation(_)), "{reason:?}");
    }
}

#[test]
fn who_asks_for_what_it_follows_is_told_where_it_stands_and_given_nothing_twice() {
    let hub = hub();
    let run = hub.feed("run").unwrap();
    run.send("one").unwrap();
    run.set("state", "first").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    let mut feed = client.line("feed");
    feed["seq"] = client.line("text")[1].clone();
    feed["how"] = "resumed".into();
    assert_eq!(client.line("text")[3], "first");
    client.say(&json!({"follow": {"run": {}}}));
    assert_eq!(client.line("feed"), feed);
    run.send("two").unwrap();
    assert_eq!(client.line("text")[3], "two");

    // What the program has it follow it can ask for, too.
    let told = hub.feed("told").unwrap();
    hub.follow(client.id, &told).unwrap();
    assert_eq!(client.line("feed")["how"], "snapshot");
    client.say(&json!({"follow": {"told": {}}}));
    assert_eq!(client.line("feed")["how"], "resumed");
    told.send("three").unwrap();
    assert_eq!(client.line("text")[3], "three");
}

#[test]
fn who_follows_as_much_as_it_may_makes_no_feed_and_asks_no_rule() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let rule = Arc::clone(&asked);
    let hub = Hub::builder()
        .authorize_follow(move |feed, _| {
            rule.lock().unwrap().push(feed.to_owned());
            true
        })
        .limits(Limits::default().feeds_per_client(2))
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {"a": {}, "b": {}}}));
    client.line("feed");
    client.line("feed");
    for name in ["c", "d"] {
        client.say(&json!({"follow": {name: {}}}));
        let error = client.line("error");
        assert_eq!((&error["code"], &error["feed"]), (&json!("full"), &json!(name)));
    }
    client.say(&json!({"follow": {"a": {}}}));
    assert_eq!(client.line("feed")["how"], "resumed", "which it follows already");
    assert_eq!(
        (hub.stats().feeds, &asked.lock().unwrap()[..2]),
        (2, &["a".to_owned(), "b".to_owned()][..])
    );
}

#[test]
fn a_rule_that_panics_costs_a_client_the_feed_that_it_asked_for() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let hub = Hub::builder()
        .authorize_follow(move |feed, _| {
            count.fetch_add(1, Ordering::Relaxed);
            assert!(feed != "run", "no rule for this one");
            true
        })
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let mut events = hub.events();
    let mut client = V1::connect(&hub, &json!({"feeds": {"run": {}, "\n": {}}}));
    let mut codes = [(); 2].map(|()| client.line("error")["code"].clone());
    codes.sort_by_key(ToString::to_string);
    assert_eq!((codes, asked.load(Ordering::Relaxed)), ([json!("failed"), json!("invalid")], 1));
    client.say(&json!({"follow": {"run": {}}}));
    assert_eq!(client.line("error")["code"], "failed");
    let refused = |event: &Event| matches!(event, Event::Refused { status: 500, .. });
    assert!(std::iter::from_fn(|| events.recv_blocking()).any(|event| refused(&event)));
    client.say(&json!({"follow": {"other": {}}}));
    assert_eq!(client.line("feed")["name"], "other");
    hub.feed("other").unwrap().send("it goes on").unwrap();
    assert_eq!(client.line("text")[3], "it goes on");
}
