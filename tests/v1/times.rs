//! When messages and values were sent, as clients on `stepcast.v1` are told.

use std::thread::sleep;
use std::time::{Duration, SystemTime};

use crate::support::lines::V1;
use crate::support::peer::event;
use serde_json::json;
use stepcast::{Event, Hub};

/// The time at the hub, as it tells a client that comes.
fn now(hub: &Hub) -> u64 {
    V1::connect(hub, &json!({"feeds": {}})).hello["now"].as_u64().unwrap()
}

#[test]
fn what_was_sent_while_a_client_was_away_has_the_time_at_which_it_was_sent() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let run = hub.feed("run").unwrap();
    let mut witness = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    witness.line("feed");
    let mut client = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    let had = json!({"seq": client.line("feed")["seq"]});
    let mut events = hub.events();
    let away = client.cut();
    event(&mut events, |event| matches!(event, Event::Detached { .. }).then_some(()));

    let before = now(&hub);
    hub.send(away.id, "mail").unwrap();
    hub.set(away.id, "key", "a value in the mail").unwrap();
    run.send("message").unwrap();
    run.set("key", "value").unwrap();
    run.send(vec![7]).unwrap();
    run.set("bytes", vec![8]).unwrap();
    (0..2).for_each(|_| drop(witness.binary()));
    let after = now(&hub);
    while now(&hub) < after + 1000 {
        sleep(Duration::from_millis(20));
    }

    let mut back = away.come_back(&hub, json!({"seq": 0}), json!({"run": had}));
    let mut times = Vec::new();
    while times.len() < 4 {
        times.extend(back.any_line().get("text").map(|text| text[2].as_u64().unwrap()));
    }
    for _ in 0..2 {
        times.push(u64::from_be_bytes(back.binary()[13..21].try_into().unwrap()));
    }
    // The mail's is exact to the 512th part of the grace.
    let exact = 120_000 / 512 + 1;
    assert!(times.iter().all(|at| (before..=after + exact).contains(at)), "{times:?}");

    let late = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let told =
        u128::from(late.hello["base"].as_u64().unwrap() + late.hello["now"].as_u64().unwrap());
    assert!(told <= unix && unix < told + 60_000, "{told} at {unix}");
}
