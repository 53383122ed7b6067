//! A client on `stepcast.v1` that has lost its connection is kept all that it has not received, as one that is behind.

use std::time::Duration;

use crate::support::follower::Follower;
use crate::support::peer::{Peer, event};
use crate::support::proxy::{End, Way};
use crate::support::{peer, proxy, wire};
use stepcast::{Event, Feed, Hub, Limits, Timeouts};

/// Far more than what is kept for late joiners.
const MANY: usize = 2000;

fn push(feed: &Feed, numbers: std::ops::Range<usize>) {
    for number in numbers {
        feed.send(format!("line {number} of a log, as long as such a line is as a rule")).unwrap();
    }
}

/// Reads messages, after which what is kept for nobody has gone, or goes at the next tick.
fn read(watcher: &mut Peer, numbers: std::ops::Range<usize>) {
    for number in numbers {
        assert!(watcher.text().starts_with(&format!("line {number} ")));
    }
}

/// Comes back, and gets all of them, with no gap.
fn comes_back(client: &mut Follower, hub: &Hub, name: &str, all: usize) {
    client.connect_directly(hub.local_addr().unwrap());
    let last = format!("line {} of a log, as long as such a line is as a rule", all - 1);
    client.read_until(|client| client.feeds[name].has_text(&last)).expect("what it missed");
    let has = &client.feeds[name];
    assert_eq!((has.texts().len(), has.gaps(), has.snapshots), (all, 0, 1));
}

#[test]
fn a_client_that_was_away_while_much_was_sent_gets_all_of_it() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let feed = hub.feed("run").unwrap();
    let mut watcher = Peer::connect_at(&hub, "/feed/run");
    let mut client = Follower::of(&["run"]);
    client.connect_directly(hub.local_addr().unwrap());
    push(&feed, 0..10);
    client.read_until(|client| client.feeds["run"].texts().len() == 10).unwrap();
    for times in 0..3 {
        client.cut();
        event(&mut events, |event| matches!(event, Event::Detached { .. }).then_some(()));
        let (from, to) = (10 + times * MANY, 10 + (times + 1) * MANY);
        for part in (from..to).step_by(MANY / 4) {
            push(&feed, part..part + MANY / 4);
            read(&mut watcher, if part == 10 { 0..part + MANY / 4 } else { part..part + MANY / 4 });
        }
        comes_back(&mut client, &hub, "run", to);
    }
}

#[test]
fn what_was_under_way_when_nobody_was_told_of_the_cut_comes_again() {
    // Longer than a busy machine keeps a client of this test from running.
    let timeouts = Timeouts::default().stall(Duration::from_secs(2));
    let hub = Hub::builder().timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let feed = hub.feed("run").unwrap();
    let mut watcher = Peer::connect_at(&hub, "/feed/run");
    let mut client = Follower::of(&["run"]);
    let address = hub.local_addr().unwrap();
    let (socket, link) = proxy::connect(address, Way::default(), Way::ending(1 << 20, End::Stall));
    client.connect(socket, address).unwrap();
    push(&feed, 0..10);
    client.read_until(|client| client.feeds["run"].texts().len() == 10).unwrap();
    link.down.stall();
    push(&feed, 10..MANY);
    read(&mut watcher, 0..MANY);
    event(&mut events, |event| matches!(event, Event::Detached { .. }).then_some(()));
    push(&feed, MANY..2 * MANY);
    read(&mut watcher, MANY..2 * MANY);
    client.cut();
    comes_back(&mut client, &hub, "run", 2 * MANY);
}

#[test]
fn what_was_under_way_to_a_client_that_was_not_behind_comes_again() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let feed = hub.feed("run").unwrap();
    let mut client = Follower::of(&["run"]);
    client.connect_directly(hub.local_addr().unwrap());
    client.read_until(|client| client.feeds["run"].snapshots == 1).unwrap();
    for number in 0..600 {
        feed.send(number.to_string()).unwrap(); // less than the first window, all together
    }
    hub.flush_blocking(wire::PATIENCE).unwrap();
    client.cut(); // and has read none of them
    event(&mut events, |event| matches!(event, Event::Detached { .. }).then_some(()));
    client.connect_directly(hub.local_addr().unwrap());
    client.read_until(|client| client.feeds["run"].has_text("599")).expect("what it missed");
    let has = &client.feeds["run"];
    assert_eq!((has.texts().len(), has.gaps()), (600, 0));
}

#[test]
fn nothing_is_kept_for_a_client_that_has_gone_for_good() {
    let timeouts =
        Timeouts::default().grace(Duration::from_millis(100)).close(Duration::from_millis(100));
    let limits = Limits::default();
    let hub =
        Hub::builder().timeouts(timeouts).limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut events = hub.events();
    let feed = hub.feed("run").unwrap();
    let mut client = Follower::of(&["run"]);
    client.connect_directly(hub.local_addr().unwrap());
    client.cut();
    event(&mut events, |event| matches!(event, Event::Detached { .. }).then_some(()));
    push(&feed, 0..MANY);
    event(&mut events, |event| matches!(event, Event::Gone { .. }).then_some(()));
    // The newest 300, for late joiners.
    peer::until("the rest to be let go", || hub.stats().memory < 301 * 400);
}
