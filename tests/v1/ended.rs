//! How clients on `stepcast.v1` learn that the program has finished a feed.

use crate::support::lines::{V1, untimed};
use serde_json::{Value, json};
use stepcast::{Hub, Limits};

/// The next lines up to the end of a feed, without their times; the last of them is the end.
fn up_to_end(client: &mut V1) -> Vec<Value> {
    let mut lines = Vec::new();
    loop {
        lines.push(client.any_line());
        if lines.last().is_some_and(|line| line.get("ended").is_some()) {
            return lines;
        }
    }
}

fn finished(hub: &Hub) -> stepcast::Feed {
    let run = hub.feed("run").unwrap();
    run.send("first").unwrap();
    run.set("key", "value").unwrap();
    run.finish("last").unwrap();
    run
}

#[test]
fn the_end_of_a_feed_comes_after_all_else_to_who_is_there_comes_late_or_comes_back() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut there = V1::connect(&hub, &json!({"feeds": {"run": {}, "": {}}}));
    (0..2).for_each(|_| drop(there.line("feed")));
    let _run = finished(&hub);
    let mut late = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    late.line("feed");
    let mut first = None;
    for client in [&mut there, &mut late] {
        let lines = up_to_end(client);
        let texts: Vec<_> = lines[..3].iter().map(|line| line["text"][3].as_str()).collect();
        assert_eq!((texts, lines.len()), (vec![Some("first"), Some("value"), Some("last")], 4));
        let [last, end] = [&lines[2]["text"], &lines[3]["ended"]];
        assert_eq!((&end[0], end[2].is_u64(), end.as_array().unwrap().len()), (&last[0], true, 3));
        assert_eq!(first.get_or_insert_with(|| end.clone()), end);
    }

    // Who has had it is not told again, and who has not is.
    let seq =
        up_to_end(&mut V1::connect(&hub, &json!({"feeds": {"run": {}}})))[3]["text"][1].clone();
    let end = first.unwrap();
    let feeds = json!({"run": {"seq": seq, "set": end[1]}});
    let mut back = late.cut().come_back(&hub, json!({"seq": 0}), feeds);
    assert_eq!(back.line("feed")["how"], "resumed");
    hub.send(back.id, "mail").unwrap();
    assert_eq!(untimed(back.line("text")), json!([0, 1, "mail"]));
    let before = json!({"run": {"seq": seq, "set": end[1].as_u64().unwrap() - 2}});
    let mut back = back.cut().come_back(&hub, json!({"seq": 1}), before);
    assert_eq!((&back.line("feed")["how"], &back.line("ended")), (&json!("resumed"), &end));

    // The feed that everyone follows ends as well.
    hub.everyone().finish("for all").unwrap();
    assert_eq!((&there.line("text")[3], &there.line("ended")[0]), (&json!("for all"), &json!(1)));
}

#[test]
fn what_is_missing_at_the_end_of_a_feed_is_told_before_the_end() {
    let limits = Limits::default().memory(4 << 20);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let run = hub.feed("run").unwrap();
    // It reads nothing, so its cursor stays where it is.
    let mut slow = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    let begun = slow.line("feed")["seq"].as_u64().unwrap();
    for number in 0..2000 {
        let _ = run.send(format!("{number} {:4000}", ""));
    }
    run.finish("last").unwrap();
    let mut seq = begun;
    loop {
        let line = slow.any_line();
        if let Some(text) = line.get("text") {
            assert_eq!(text[1], seq + 1);
            seq += 1;
        } else if let Some(gap) = line.get("gap") {
            assert_eq!(gap["from"], seq + 1);
            seq = gap["to"].as_u64().unwrap();
        } else {
            assert!(line.get("ended").is_some(), "{line}");
            break;
        }
    }
    let hello = json!({"epoch": slow.hello["epoch"], "feeds": {"run": {"seq": seq}}});
    let mut late = V1::connect(&hub, &hello);
    assert_eq!(late.line("feed")["how"], "resumed");
    assert!(late.any_line().get("ended").is_some(), "that was the newest");
}
