//! Pushes that make their message only where somebody can get it, and how many follow a feed.

use std::cell::Cell;
use std::time::Duration;

use crate::support::lines::V1;
use crate::support::peer::{Peer, until};
use serde_json::json;
use stepcast::{Hub, Limits, Retention, SendError};

fn hub() -> Hub {
    Hub::spawn_blocking("127.0.0.1:0").unwrap()
}

/// Makes messages, and counts them.
#[derive(Default)]
struct Maker(Cell<usize>);

impl Maker {
    fn make(&self) -> String {
        self.0.set(self.0.get() + 1);
        format!("made {}", self.0.get())
    }

    /// How many were made since this was last asked.
    fn made(&self) -> usize {
        self.0.take()
    }
}

#[test]
fn nothing_is_made_for_a_hub_that_is_disabled_or_has_ended_nor_for_a_feed_that_is_finished() {
    let maker = Maker::default();
    let disabled = Hub::disabled();
    let feed = disabled.feed("run").unwrap();
    disabled.broadcast_with(|| maker.make());
    feed.send_with(|| maker.make()).unwrap();
    feed.set_with("key", || maker.make()).unwrap();
    assert_eq!((maker.made(), feed.followers()), (0, 0));

    let hub = hub();
    let feed = hub.feed("run").unwrap();
    feed.finish("done").unwrap();
    assert_eq!(feed.send_with(|| maker.make()), Err(SendError::Finished));
    assert_eq!(feed.set_with("key", || maker.make()), Err(SendError::Finished));
    let other = hub.feed("other").unwrap();
    hub.shutdown_blocking(Duration::from_secs(5));
    hub.broadcast_with(|| maker.make());
    assert_eq!(other.send_with(|| maker.make()), Err(SendError::ShutDown));
    assert_eq!(other.set_with("key", || maker.make()), Err(SendError::ShutDown));
    assert_eq!(maker.made(), 0);
    let refused = hub.stats().refused_pushes;
    assert_eq!((refused.finished, refused.shut_down), (2, 3));
}

#[test]
fn a_broadcast_is_made_if_there_is_a_client_and_the_closure_may_call_the_hub() {
    let (hub, maker) = (hub(), Maker::default());
    hub.broadcast_with(|| maker.make());
    hub.everyone().send_with(|| maker.make()).unwrap();
    assert_eq!(maker.made(), 0);
    let mut peer = Peer::connect(&hub);
    hub.broadcast_with(|| {
        hub.broadcast("inside");
        hub.everyone().set("key", "value").unwrap();
        maker.make()
    });
    assert_eq!([peer.text(), peer.text(), peer.text()], ["inside", "value", "made 1"]);
    hub.everyone().send_with(|| maker.make()).unwrap();
    assert_eq!(peer.text(), "made 2");
}

#[test]
fn what_is_sent_is_made_for_late_joiners_unless_the_feed_keeps_nothing_for_them() {
    let maker = Maker::default();
    let keeps = hub();
    let feed = keeps.feed("run").unwrap();
    feed.send_with(|| maker.make()).unwrap();
    assert_eq!(Peer::connect_at(&keeps, "/feed/run").text(), "made 1");

    maker.made();
    let hub = Hub::builder().retention(Retention::default().messages(0));
    let hub = hub.spawn_blocking("127.0.0.1:0").unwrap();
    let feed = hub.feed("run").unwrap();
    feed.send_with(|| maker.make()).unwrap();
    assert_eq!(maker.made(), 0);
    let mut peer = Peer::connect_at(&hub, "/feed/run");
    feed.send_with(|| maker.make()).unwrap();
    assert_eq!(peer.text(), "made 1");
}

#[test]
fn a_late_joiner_finds_a_value_that_was_made_while_nobody_followed_and_gets_each_newest_from_then_on()
 {
    let (hub, maker) = (hub(), Maker::default());
    let feed = hub.feed("run").unwrap();
    // It takes as many calls as pass while the hub looks several times.
    until("some values to be made", || {
        feed.set_with("key", || maker.make()).unwrap();
        maker.0.get() == 5
    });
    let mut peer = Peer::connect_at(&hub, "/feed/run");
    assert_eq!(peer.text(), "made 5");
    assert_eq!(feed.followers(), 1);
    for number in 6..200 {
        feed.set_with("key", || maker.make()).unwrap();
        assert_eq!(maker.0.get(), number);
    }
    let newest = maker.0.get();
    until("the newest", || peer.text() == format!("made {newest}"));
}

#[test]
fn who_follows_a_feed_is_counted_from_the_call_on_and_until_it_has_gone() {
    let hub = Hub::builder().limits(Limits::default().feeds_per_client(2));
    let hub = hub.spawn_blocking("127.0.0.1:0").unwrap();
    let (run, other) = (hub.feed("run").unwrap(), hub.feed("other").unwrap());
    let count = || (run.followers(), other.followers(), hub.everyone().followers());
    let peer = Peer::connect_at(&hub, "/feed/run");
    let second = Peer::connect(&hub);
    assert_eq!(count(), (1, 0, 1));
    hub.follow(peer.id, &other).unwrap();
    hub.follow(peer.id, &other).unwrap();
    hub.follow(second.id, &run).unwrap();
    assert!(hub.follow(second.id, &other).is_err(), "more than it may");
    assert_eq!(count(), (2, 1, 1));
    hub.unfollow(peer.id, &other).unwrap();
    hub.unfollow(peer.id, &other).unwrap();
    assert_eq!(count(), (2, 0, 1));
    hub.disconnect(second.id, "").unwrap();
    until("it to go", || count() == (1, 0, 0));
    drop(peer);
    until("the other to go", || count() == (0, 0, 0));
}

#[test]
fn a_client_that_is_away_counts_where_the_program_has_told_it_to_follow() {
    let hub = hub();
    let (asked, told) = (hub.feed("asked").unwrap(), hub.feed("told").unwrap());
    let count = || (asked.followers(), told.followers());
    let feeds = json!({"asked": {}, "told": {}});
    let client = V1::connect(&hub, &json!({"feeds": feeds}));
    until("it to follow", || count() == (1, 1));
    hub.follow(client.id, &told).unwrap();
    let identity = client.cut();
    until("it to be away", || count() == (0, 1));
    let mut back = identity.come_back(&hub, json!({}), feeds);
    until("it to be back", || count() == (1, 1));
    back.say(&json!({"unfollow": ["asked", "told"]}));
    until("it to follow neither", || count() == (0, 0));
    back.say(&json!({"follow": {"asked": {}}}));
    until("it to follow again", || count() == (1, 0));
    back.close(1000);
    until("it to go", || count() == (0, 0));
}
