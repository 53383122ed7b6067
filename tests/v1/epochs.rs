//! Epochs of feeds: what a client has of a feed counts in the feed's own epoch, whichever hub the
//! client had it from.

use std::time::SystemTime;

use crate::support::lines::V1;
use crate::support::peer::until;
use serde_json::{Value, json};
use stepcast::{Hub, Limits, Retention, SendError};

/// A feed goes with its last handle and its last follower.
fn nothing() -> Retention {
    Retention::default().messages(0)
}

#[test]
fn a_feed_resumes_by_its_own_epoch_without_the_hubs_and_not_by_another() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let run = hub.feed("run").unwrap();
    run.send("first").unwrap();
    run.set("key", "value").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {"run": {}, "": {}}}));
    let mut feeds = [client.line("feed"), client.line("feed")];
    feeds.sort_by_key(|feed| feed["name"].to_string());
    let [everyones, of_run] = feeds;
    assert_eq!(everyones["epoch"], client.hello["epoch"], "everyone's is as old as the hub");
    let [seq, set] = [client.line("text")[1].clone(), client.line("text")[1].clone()];

    let how = |client: &mut V1| {
        let feed = client.line("feed");
        assert_eq!((&feed["name"], &feed["epoch"]), (&json!("run"), &of_run["epoch"]));
        feed["how"].as_str().unwrap().to_owned()
    };
    let has = |epoch: &Value| json!({"epoch": epoch, "seq": seq, "set": set});
    let [own, others] = [has(&of_run["epoch"]), has(&json!("0198c5d2a4b3c687"))];
    // In hello, from another hub or from none.
    for (had, expected) in [(&own, "resumed"), (&others, "snapshot")] {
        let hello = json!({"epoch": "0000000000000001", "feeds": {"run": had}});
        assert_eq!(how(&mut V1::connect(&hub, &hello)), expected);
        let mut client = V1::connect(&hub, &json!({"feeds": {"run": had}}));
        assert_eq!(how(&mut client), expected);
        // And in follow.
        let mut client = V1::connect(&hub, &json!({"feeds": {}}));
        client.say(&json!({"follow": {"run": had}}));
        assert_eq!(how(&mut client), expected);
    }
    // An epoch of the feed's own goes before the hub's.
    let hello = json!({"epoch": client.hello["epoch"], "feeds": {"run": others}});
    assert_eq!(how(&mut V1::connect(&hub, &hello)), "snapshot");
}

#[test]
fn a_client_that_is_ahead_of_the_hub_gets_a_snapshot_at_once_and_all_that_comes_later() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let run = hub.feed("run").unwrap();
    run.send("first").unwrap();
    run.set("key", "value").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    let feed = client.line("feed");
    let [seq, set] = [(); 2].map(|()| client.line("text")[1].as_u64().unwrap());
    let has = |seq, set| json!({"epoch": feed["epoch"], "seq": seq, "set": set});
    for ahead in [has(seq + 40, set), has(seq, set + 40), has(seq + 40, set + 40)] {
        let by_hello = V1::connect(&hub, &json!({"feeds": {"run": ahead}}));
        let mut by_follow = V1::connect(&hub, &json!({"feeds": {}}));
        by_follow.say(&json!({"follow": {"run": ahead}}));
        let mut clients = [by_hello, by_follow];
        for client in &mut clients {
            let begun = client.line("feed");
            assert_eq!((&begun["how"], &begun["seq"]), (&json!("snapshot"), &json!(seq - 1)));
            // The log that is kept and the values: no gap, since nothing of them is left out.
            assert_eq!(client.any_line()["text"][3], "first", "{ahead}");
            assert_eq!(client.any_line()["text"][3], "value", "{ahead}");
        }
        run.set("key", "later").unwrap();
        for client in &mut clients {
            assert_eq!(client.any_line()["text"][3], "later", "{ahead}");
        }
        run.set("key", "value").unwrap();
    }
}

#[test]
fn a_feed_that_a_client_follows_is_not_made_anew_though_it_is_finished_and_others_need_its_place() {
    let builder = Hub::builder().limits(Limits::default().feeds(2)).retention(nothing());
    let hub = builder.spawn_blocking("127.0.0.1:0").unwrap();
    let mut client = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
    let begun = client.line("feed");
    hub.feed("run").unwrap().finish("last").unwrap();
    assert_eq!(client.line("text")[3], "last");
    client.line("ended");
    let _other = hub.feed("other").unwrap();
    let refusal = |name| hub.feed(name).unwrap().send("more").err();
    assert!(matches!(refusal("another"), Some(SendError::TooManyFeeds { .. })));
    assert!(matches!(refusal("run"), Some(SendError::Finished)));
    let told = V1::connect(&hub, &json!({"feeds": {"run": {}}})).line("feed");
    assert_eq!((&told["alias"], &told["epoch"]), (&begun["alias"], &begun["epoch"]));
}

#[test]
fn the_epoch_of_a_feed_that_is_made_anew_is_newer_and_that_of_a_later_hub_too() {
    let epoch_of = |client: &mut V1| client.line("feed")["epoch"].as_str().unwrap().to_owned();
    let builder = Hub::builder().retention(nothing());
    let hub = builder.spawn_blocking("127.0.0.1:0").unwrap();
    let mut epochs = Vec::new();
    for _ in 0..3 {
        let mut client = V1::connect(&hub, &json!({"feeds": {"run": {}}}));
        epochs.push(client.hello["epoch"].as_str().unwrap().to_owned());
        epochs.push(epoch_of(&mut client));
        client.close(1000);
        until("the feed to have gone", || hub.stats().feeds == 0);
    }
    let clock = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let before = clock();
    until("the next millisecond, since epochs are as exact as that", || clock() > before);
    let later = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut client = V1::connect(&later, &json!({"feeds": {"": {}}}));
    epochs.push(epoch_of(&mut client));
    let [begun, first, again, second, and_again, third, last] = epochs.try_into().unwrap();
    assert!(begun == again && begun == and_again);
    let all = [begun, first, second, third, last];
    assert!(all.is_sorted_by(|one, next| one < next), "{all:?}");
    assert!(all.iter().all(|epoch| epoch.len() == 16));
}
