//! What clients on the wire `stepcast.v1` say: how much of it is heard, and what it costs the hub.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::lines::{V1, untimed};
use crate::support::peer::{event, until};
use crate::support::wire;
use serde_json::json;
use stepcast::{DisconnectReason, Event, Hub, Limits, Overflow, Timeouts};

fn hub() -> Hub {
    Hub::spawn_blocking("127.0.0.1:0").unwrap()
}

#[test]
fn a_line_that_names_more_than_a_client_may_follow_is_refused_whole_and_asks_no_rule() {
    let asked = Arc::new(Mutex::new(0));
    let rule = Arc::clone(&asked);
    let hub = Hub::builder()
        .authorize_follow(move |_, _| {
            *rule.lock().unwrap() += 1;
            true
        })
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let named = |count: usize| -> serde_json::Map<_, _> {
        (0..count).map(|number| (number.to_string(), json!({}))).collect()
    };
    let mut client = V1::connect(&hub, &json!({"feeds": named(5000)}));
    let error = client.line("error");
    assert_eq!((&error["code"], error.get("feed")), (&json!("full"), None));
    assert!(hub.stats().bytes_out < 1000, "the answer to 5000 names is short");
    client.say(&json!({"follow": named(65)}));
    assert_eq!(client.line("error")["code"], "full");
    client.say(&json!({"unfollow": named(65).keys().collect::<Vec<_>>()}));
    assert_eq!(client.line("error")["code"], "full");
    assert_eq!((hub.stats().feeds, *asked.lock().unwrap()), (0, 0));
    client.say(&json!({"follow": named(64)}));
    for _ in 0..64 {
        assert_eq!(client.line("feed")["how"], "snapshot");
    }
    assert_eq!((hub.stats().feeds, *asked.lock().unwrap()), (64, 64));
}

#[test]
fn what_is_answered_and_not_read_counts_in_the_hubs_memory() {
    let limits = Limits::default().inbound_per_second(u32::MAX);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    hub.send(client.id, vec![0; 32 << 20]).unwrap(); // which it does not read
    until("it to be under way", || hub.stats().bytes_out > 100_000);
    let before = hub.stats().memory;
    let names: serde_json::Map<_, _> = (0..60).map(|n| (format!("\n{n}"), json!({}))).collect();
    client.say(&json!({"follow": names}));
    // Far more than what else is counted for a full socket.
    until("the answers to be counted", || hub.stats().memory > before + 4000);
    client.cut();
    until("them to be let go", || hub.stats().memory < before + 4000);
}

#[test]
fn each_line_each_name_and_each_4_kib_count_in_the_rate() {
    let hub = Hub::builder()
        .limits(Limits::default().inbound_per_second(100))
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let follow: serde_json::Map<_, _> = (0..60).map(|n| (format!("\n{n}"), json!({}))).collect();
    let too_many: serde_json::Map<_, _> = (0..65).map(|n| (n.to_string(), json!({}))).collect();
    let cases = [
        (r#"{"text":"x"}"#.to_owned() + &"\n{\"later\":0}".repeat(99), 1),
        (json!({"follow": follow}).to_string(), 2),
        (json!({"unfollow": follow.keys().collect::<Vec<_>>()}).to_string(), 2),
        (json!({"text": "x".repeat(40_000)}).to_string(), 14),
        ("\n".repeat(100), 150),
        (json!({"follow": too_many}).to_string(), 150),
    ];
    for (text, within) in cases {
        // Of so many it has enough, however slow the machine is; and of many times as many too much, however fast.
        let mut client = V1::connect(&hub, &json!({"feeds": {}}));
        assert_eq!(client.hello["limits"]["rate"], 100);
        for _ in 0..within {
            client.say_text(&text);
        }
        client.say_text(r#"{"hello":0}"#);
        let answers = std::iter::repeat_with(|| client.any_line()["error"]["code"].clone());
        let last = { answers }.find(|code| code != "invalid" && code != "full").unwrap();
        assert_eq!(last, "malformed", "{text:.40}");
        for _ in 0..20 * within {
            let _ = client.try_say_text(&text);
        }
        let close = client.close_frame();
        assert_eq!(
            (close.code().get(), close.reason()),
            (1008, "too many messages a second; send fewer")
        );
    }
}

#[test]
fn a_client_that_said_too_much_is_the_same_when_it_comes_back_and_has_its_mail() {
    let limits = Limits::default().inbound_per_second(100).inbound_message(4096);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let too_fast = "{\"later\":0}\n".repeat(300);
    let too_long = json!({"text": "x".repeat(5000)}).to_string();
    for (text, code) in [(too_fast, 1008), (too_long, 1009)] {
        let mut events = hub.events();
        let mut client = V1::connect(&hub, &json!({"feeds": {}}));
        hub.send(client.id, "before").unwrap();
        client.line("text");
        client.say_text(&text);
        assert_eq!(client.close_code(), code);
        let reason = event(&mut events, |event| match event {
            Event::Detached { id, reason } if id == client.id => Some(reason),
            Event::Gone { id, reason, .. } if id == client.id => panic!("{reason:?}"),
            _ => None,
        });
        assert!(matches!(reason, DisconnectReason::Violation(_)), "{reason:?}");
        hub.send(client.id, "meanwhile").unwrap();
        let mut back = client.identity().come_back(&hub, json!({"seq": 1}), json!({}));
        assert_eq!((&back.hello["resumed"], back.id), (&json!(true), client.id));
        assert_eq!(untimed(back.line("text")), json!([0, 2, "meanwhile"]));
        // One whose end the program has decided on does not come back.
        hub.disconnect(back.id, "done").unwrap();
        let _ = back.try_say_text(&text);
        let mut new = back.identity().come_back(&hub, json!({"seq": 2}), json!({}));
        assert!(new.hello["resumed"] == false || new.close_code() == 4501);
    }
}

#[test]
fn who_has_asked_for_more_than_its_rate_in_its_hello_can_go_on_at_once() {
    let limits = Limits::default().inbound_per_second(10); // and 20 at once
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let feeds: serde_json::Map<_, _> = (0..60).map(|n| (n.to_string(), json!({}))).collect();
    let mut client = V1::connect(&hub, &json!({"feeds": feeds}));
    client.say_text(r#"{"hello":0}"#);
    (0..60).for_each(|_| drop(client.line("feed")));
    assert_eq!(client.line("error")["code"], "malformed");
}

#[test]
fn answers_to_one_line_are_as_many_as_its_socket_takes() {
    let limits = Limits::default().feeds_per_client(250);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    let feeds: serde_json::Map<_, _> = (0..250).map(|n| (format!("{n:0250}"), json!({}))).collect();
    client.say(&json!({"follow": feeds})); // with answers of 70 KB
    client.say_text(r#"{"hello":0}"#);
    (0..250).for_each(|_| drop(client.line("feed")));
    assert_eq!(client.line("error")["code"], "malformed", "it has not been closed");
}

#[test]
fn a_newcomer_that_sends_control_frames_without_end_is_closed() {
    let hub = hub();
    let mut newcomer = V1::upgrade(&hub);
    newcomer.flood(b"\x8a\x80\0\0\0\0", 5000);
    assert_eq!(newcomer.close_code(), 1008);
}

/// Its script answers what the hub asks, and acknowledges nothing.
#[test]
fn a_client_that_reads_its_mail_and_never_acknowledges_it_gets_all_of_it() {
    for freshness in [Duration::from_millis(250), Duration::ZERO] {
        let hub = Hub::builder()
            .limits(Limits::default().mailbox(4000))
            .overflow(Overflow::Refuse)
            .freshness(freshness)
            .spawn_blocking("127.0.0.1:0")
            .unwrap();
        let mut client = V1::connect(&hub, &json!({"feeds": {}}));
        for number in 1..=500 {
            let message = format!("{number:0100}");
            hub.send_timeout_blocking(client.id, message.clone(), wire::PATIENCE).unwrap();
            assert_eq!(untimed(client.line("text")), json!([0, number, message]));
        }
        let most = 2 * (4000 + 200);
        assert!(hub.stats().memory < most, "{} of {most}", hub.stats().memory);
    }
}

#[test]
fn an_answered_ping_acknowledges_the_mail_before_it_and_not_what_comes_after() {
    let hub = Hub::builder()
        .limits(Limits::default().mailbox(1000))
        .overflow(Overflow::Refuse)
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let mut events = hub.events();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    for number in 1..=20 {
        hub.send_timeout_blocking(client.id, format!("{number:0200}"), wire::PATIENCE).unwrap();
        assert_eq!(client.line("text")[1], number);
    }
    // The last is not among what it has said that it has.
    let before = client.cut();
    event(&mut events, |event| matches!(event, Event::Detached { .. }).then_some(()));
    let mut client = before.come_back(&hub, json!({}), json!({}));
    let gap = client.line("gap");
    let read = gap["to"].as_u64().unwrap();
    assert_eq!(gap, json!({"alias": 0, "from": 1, "to": read, "why": "expired"}));
    assert!((10..20).contains(&read), "{read}");
    for number in read + 1..=20 {
        assert_eq!(client.line("text")[1], number);
    }
}

#[test]
fn an_answered_ping_acknowledges_nothing_that_was_given_between_the_ping_and_its_answer() {
    let hub = hub();
    let mut events = hub.events();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    for number in 1..=6 {
        hub.send(client.id, format!("{number:02000}")).unwrap();
        hub.flush_blocking(wire::PATIENCE).unwrap(); // it has all six when it reads the first
    }
    let (heard, mut read) = (hub.stats().bytes_in, 0);
    while client.pings == 0 {
        client.read_on();
        read += std::iter::from_fn(|| client.read_line()).count();
    }
    assert!(read < 6, "asked too late for this test");
    until("the answer to be heard", || hub.stats().bytes_in > heard);
    let before = client.cut();
    event(&mut events, |event| matches!(event, Event::Detached { .. }).then_some(()));
    let mut client = before.come_back(&hub, json!({}), json!({}));
    assert_eq!(client.line("gap")["to"], read);
    for number in read + 1..=6 {
        assert_eq!(client.line("text")[1], number);
    }
}

#[test]
fn answers_to_the_hubs_pings_do_not_count_in_the_rate() {
    for freshness in [Duration::from_millis(250), Duration::ZERO] {
        let hub = Hub::builder()
            .limits(Limits::default().inbound_per_second(1))
            .timeouts(Timeouts::default().keepalive(Duration::from_millis(50)))
            .freshness(freshness)
            .spawn_blocking("127.0.0.1:0")
            .unwrap();
        let mut client = V1::connect(&hub, &json!({"feeds": {}}));
        for number in 1..=200 {
            hub.send(client.id, "x".repeat(4000)).unwrap();
            assert_eq!(client.line("text")[1], number);
        }
        let pings = client.pings;
        while client.pings < pings + 5 {
            client.read_on(); // with nothing else to be said
        }
        hub.send(client.id, "still there").unwrap();
        assert_eq!(client.line("text")[3], "still there");
    }
}

#[test]
fn a_program_that_permits_large_messages_need_not_raise_the_rate_for_them() {
    let hub = Hub::builder()
        .limits(Limits::default().inbound_message(16 << 20))
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {}}));
    client.say(&json!({"text": "x".repeat(15 << 20)}));
    for _ in 0..100 {
        client.say(&json!({"text": ""}));
    }
    until("all of them to be heard", || hub.stats().received == 101);
    assert!(hub.client(client.id).is_some());
}
