//! Every option at its extremes: the hub serves, or says at its start what to give instead.

use std::time::Duration;

use crate::support::lines::V1;
use crate::support::peer;
use crate::support::peer::Peer;
use serde_json::json;
use stepcast::{Hub, HubBuilder, Limits, Retention, SendError, SpawnError, Timeouts};

const MAX: usize = usize::MAX;

/// Spawns it, and does a little of all that a hub does.
fn serves(option: &str, builder: HubBuilder) {
    let hub =
        builder.spawn_blocking("127.0.0.1:0").unwrap_or_else(|error| panic!("{option}: {error}"));
    let mut peer = Peer::connect(&hub);
    hub.broadcast("a");
    assert_eq!(peer.text(), "a", "{option}");
    hub.send(peer.id, "b").unwrap();
    assert_eq!(peer.text(), "b", "{option}");
    hub.everyone().set("key", "c").unwrap();
    assert_eq!(peer.text(), "c", "{option}");
    hub.set(peer.id, "key", "d").unwrap();
    assert_eq!(peer.text(), "d", "{option}");
    let feed = hub.feed("run").unwrap();
    if option == "feeds" {
        assert_eq!(feed.send("e"), Err(SendError::TooManyFeeds { limit: 0 }));
    } else {
        feed.send("e").unwrap();
        hub.follow(peer.id, &feed).unwrap_or_default();
    }
    peer.send("f");
    peer::until("the message to come", || hub.stats().received == 1);
    peer.finish();
}

fn is_refused(option: &str, value: &str, builder: HubBuilder) {
    let error = builder.spawn_blocking("127.0.0.1:0").map(drop).expect_err(option);
    let SpawnError::BadOption { option: named, value: told, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((*named, told.as_str()), (option, value));
    let text = error.to_string();
    assert!(text.contains(option) && text.contains(value) && text.contains("or more"), "{text}");
}

#[test]
fn a_limit_that_lets_nothing_through_is_refused_at_the_start_by_its_name() {
    let limits = |change: fn(Limits) -> Limits| Hub::builder().limits(change(Limits::default()));
    is_refused("Limits::clients", "0", limits(|l| l.clients(0)));
    is_refused("Limits::clients_per_address", "0", limits(|l| l.clients_per_address(0)));
    is_refused("Limits::handshakes", "0", limits(|l| l.handshakes(0)));
    is_refused("Limits::inbound_message", "0", limits(|l| l.inbound_message(0)));
    is_refused("Limits::inbound_fragments", "0", limits(|l| l.inbound_fragments(0)));
    is_refused("Limits::request_head", "0", limits(|l| l.request_head(0)));
    is_refused("Limits::inbound_per_second", "0", limits(|l| l.inbound_per_second(0)));
    is_refused("Limits::outbound_message", "0", limits(|l| l.outbound_message(0)));
    is_refused("Limits::latest", "0", limits(|l| l.latest(0)));
    is_refused("Limits::keys", "0", limits(|l| l.keys(0)));
    is_refused("Limits::feeds_per_client", "0", limits(|l| l.feeds_per_client(0)));
    is_refused("Limits::events", "0", limits(|l| l.events(0)));
    is_refused("Limits::memory", "0", limits(|l| l.memory(0)));
    is_refused("Limits::memory", "65535", limits(|l| l.memory(65535)));
}

#[test]
fn with_every_limit_at_its_least_a_hub_serves_who_comes() {
    let limits = |change: fn(Limits) -> Limits| Hub::builder().limits(change(Limits::default()));
    serves("clients", limits(|l| l.clients(1)));
    serves("clients_per_address", limits(|l| l.clients_per_address(1)));
    serves("handshakes", limits(|l| l.handshakes(1)));
    serves("inbound_message", limits(|l| l.inbound_message(1)));
    serves("inbound_fragments", limits(|l| l.inbound_fragments(1)));
    serves("inbound_per_second", limits(|l| l.inbound_per_second(1)));
    serves("outbound_message", limits(|l| l.outbound_message(1)));
    serves("mailbox", limits(|l| l.mailbox(0)));
    serves("feed", limits(|l| l.feed(0)));
    serves("latest", limits(|l| l.latest(1000)));
    serves("keys", limits(|l| l.keys(1)));
    serves("feeds", limits(|l| l.feeds(0)));
    serves("feeds_per_client", limits(|l| l.feeds_per_client(1)));
    serves("events", limits(|l| l.events(1)));
    serves("memory", limits(|l| l.memory(65536)));
}

#[test]
fn without_any_limit_a_hub_serves_both_wires() {
    let all = Limits::default().clients(MAX).clients_per_address(MAX).handshakes(MAX);
    let all = all
        .inbound_message(MAX)
        .inbound_fragments(MAX)
        .request_head(MAX)
        .inbound_per_second(u32::MAX);
    let all = all.outbound_message(MAX).mailbox(MAX).feed(MAX).latest(MAX).keys(MAX).feeds(MAX);
    let all = all.feeds_per_client(MAX).events(MAX).memory(MAX);
    serves("all limits", Hub::builder().limits(all.clone()));
    let hub = Hub::builder().limits(all).spawn_blocking("127.0.0.1:0").unwrap();
    let _events = hub.events();
    let v1 = V1::connect(&hub, &json!({"feeds": {"": {}, "run": {}}}));
    for number in ["message", "feeds"].map(|limit| v1.hello["limits"][limit].as_u64().unwrap()) {
        assert!(number < 1 << 53, "{number}");
    }
}

#[test]
fn a_time_in_which_nobody_can_do_anything_is_refused_at_the_start_by_its_name() {
    let short = Duration::from_micros(999);
    let times = |change: fn(Timeouts, Duration) -> Timeouts, time: Duration| {
        Hub::builder().timeouts(change(Timeouts::default(), time))
    };
    for (time, value) in [(Duration::ZERO, "0ns"), (short, "999µs")] {
        is_refused("Timeouts::handshake", value, times(Timeouts::handshake, time));
        is_refused("Timeouts::keepalive", value, times(Timeouts::keepalive, time));
        is_refused("Timeouts::pong", value, times(Timeouts::pong, time));
        is_refused("Timeouts::stall", value, times(Timeouts::stall, time));
        is_refused("Timeouts::frame", value, times(Timeouts::frame, time));
        is_refused("Timeouts::close", value, times(Timeouts::close, time));
    }
    let nobody_waits = Timeouts::default().grace(Duration::ZERO).shutdown(Duration::ZERO);
    serves("grace and shutdown", Hub::builder().timeouts(nobody_waits));
}

#[test]
fn times_without_end_are_times_that_every_timer_can_wait_for() {
    let max = Duration::MAX;
    let times = Timeouts::default().handshake(max).keepalive(max).pong(max).stall(max).frame(max);
    let times = times.close(max).grace(max).shutdown(max);
    serves("all timeouts", Hub::builder().timeouts(times.clone()));
    let hub = Hub::builder().timeouts(times).spawn_blocking("127.0.0.1:0").unwrap();
    let v1 = V1::connect(&hub, &json!({"feeds": {"": {}}}));
    let ping = v1.hello["ping"].as_u64().unwrap();
    assert!(ping > 0 && (ping + 10) * 1000 < 1 << 31, "{ping}");
    hub.flush_blocking(max).unwrap();
    v1.close(1000);
    hub.shutdown_blocking(max);
}

#[test]
fn whatever_is_kept_and_however_fresh_it_is_to_be_a_hub_serves() {
    for retention in [Retention::default().messages(0), Retention::default().messages(MAX)] {
        for age in [Duration::ZERO, Duration::MAX] {
            let builder = Hub::builder().retention(retention.clone().age(age));
            serves("retention", builder.clone());
            let hub = builder.spawn_blocking("127.0.0.1:0").unwrap();
            drop(V1::connect(&hub, &json!({"feeds": {"": {}, "run": {}}})));
        }
    }
    for time in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        serves("freshness", Hub::builder().freshness(time));
    }
}
