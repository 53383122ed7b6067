//! Feeds: who follows what, what is kept for those who come late, and when a feed goes away.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::support::peer::{Peer, exchange, until};
use crate::support::wire;
use stepcast::{
    Event, Feed, FeedError, FollowError, Hub, Limits, Message, Retention, SendError, Timeouts,
};

fn hub() -> Hub {
    Hub::spawn_blocking("127.0.0.1:0").unwrap()
}

fn texts(peer: &mut Peer, count: usize) -> Vec<String> {
    (0..count).map(|_| peer.text()).collect()
}

/// Waits until the hub has seen what was pushed before: a client of its own has been sent something.
fn settle(hub: &Hub) {
    let mut peer = Peer::connect(hub);
    hub.send(peer.id, "settled").unwrap();
    while peer.message().as_text() != Some("settled") {}
}

/// What a request to upgrade at this path is answered, if it is refused.
fn refusal(hub: &Hub, path: &str) -> String {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    exchange(hub.local_addr().unwrap(), request.as_bytes())
}

#[test]
fn a_feed_reaches_who_follows_it_and_nobody_else() {
    let hub = hub();
    let (run, other) = (hub.feed("run/42").unwrap(), hub.feed("run/43").unwrap());
    let mut on_run = Peer::connect_at(&hub, "/feed/run/42");
    let mut on_other = Peer::connect_at(&hub, "/feed/run%2F43?since=0");
    let mut on_all = Peer::connect(&hub);
    run.send("for 42").unwrap();
    other.send("for 43").unwrap();
    hub.broadcast("for everyone");
    for peer in [&on_run, &on_other, &on_all] {
        hub.send(peer.id, "for one").unwrap();
    }
    assert_eq!(texts(&mut on_run, 2), ["for 42", "for one"]);
    assert_eq!(texts(&mut on_other, 2), ["for 43", "for one"]);
    assert_eq!(texts(&mut on_all, 2), ["for everyone", "for one"]);
}

#[test]
fn who_comes_late_gets_the_log_and_the_latest_values_in_their_order_and_then_what_comes() {
    let hub = hub();
    let feed = hub.feed("run").unwrap();
    feed.send("started").unwrap();
    for step in 0..100 {
        feed.set("progress", format!("step {step}")).unwrap();
    }
    feed.send("restart written").unwrap();
    feed.set("residual", "1e-3").unwrap();
    settle(&hub);
    let mut first = Peer::connect_at(&hub, "/feed/run");
    let expected = ["started", "step 99", "restart written", "1e-3"];
    assert_eq!(texts(&mut first, 4), expected);
    feed.set("progress", "step 100").unwrap();
    feed.send("ended").unwrap();
    assert_eq!(texts(&mut first, 2), ["step 100", "ended"]);
    let mut second = Peer::connect_at(&hub, "/feed/run");
    let expected = ["started", "restart written", "1e-3", "step 100", "ended"];
    assert_eq!(texts(&mut second, 5), expected);
}

#[test]
fn on_everyones_feed_who_comes_gets_the_latest_values_and_of_the_log_what_comes() {
    let hub = hub();
    let everyone = hub.everyone();
    assert_eq!(everyone.name(), "");
    everyone.set("state", "warming up").unwrap();
    let mut early = Peer::connect(&hub);
    assert_eq!(early.text(), "warming up");
    hub.broadcast("step 1");
    everyone.set("state", "running").unwrap();
    assert_eq!(texts(&mut early, 2), ["step 1", "running"]); // so that the hub has seen it
    let mut late = Peer::connect(&hub);
    everyone.send("step 2").unwrap();
    assert_eq!(texts(&mut late, 2), ["running", "step 2"]);
    assert_eq!(early.text(), "step 2");
}

/// Followers join, by URL and by call, while a thread sends as fast as it can: each gets a run of
/// numbers without a hole and without a repeat, and the latest values never go back.
#[test]
fn joining_leaves_no_hole_and_repeats_nothing() {
    let retention = Retention::default().messages(50);
    let hub = Hub::builder().retention(retention).spawn_blocking("127.0.0.1:0").unwrap();
    let feed = hub.feed("run").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let sender = {
        let (feed, stop) = (feed.clone(), Arc::clone(&stop));
        thread::spawn(move || {
            for number in 0u32.. {
                if stop.load(Ordering::Relaxed) {
                    return number;
                }
                feed.send(format!("n {number}")).unwrap();
                feed.set("v", format!("v {number}")).unwrap();
                if number % 16 == 0 {
                    thread::sleep(Duration::from_micros(200)); // a rate that viewers keep up with
                }
            }
            unreachable!("it is told to stop long before")
        })
    };
    for round in 0..40 {
        let mut peer = if round % 2 == 0 {
            Peer::connect_at(&hub, "/feed/run")
        } else {
            let peer = Peer::connect_at(&hub, "/feed/quiet");
            hub.follow(peer.id, &feed).unwrap();
            peer
        };
        let (mut next, mut value) = (None, None);
        let mut count = 0;
        // Three hundred at least: of a value that is set all the time there may be none among so many.
        while count < 300 || next.is_none() || value.is_none() {
            count += 1;
            assert!(count < 100_000, "{next:?} {value:?}");
            let text = peer.text();
            let number: u32 = text[2..].parse().unwrap();
            if text.starts_with('n') {
                assert!(next.is_none_or(|next| next == number), "{next:?} {number}");
                next = Some(number + 1);
            } else {
                assert!(value.is_none_or(|value| value < number), "{value:?} {number}");
                value = Some(number);
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    sender.join().unwrap();
}

#[test]
fn the_program_has_clients_follow_feeds_and_unfollow_them() {
    let hub = hub();
    let (a, b) = (hub.feed("a").unwrap(), hub.feed("b").unwrap());
    let mut peer = Peer::connect(&hub);
    a.send("a1").unwrap();
    hub.follow(peer.id, &a).unwrap();
    hub.follow(peer.id, &a).unwrap();
    hub.follow(peer.id, &b).unwrap();
    assert_eq!(peer.text(), "a1");
    b.send("b1").unwrap();
    a.send("a2").unwrap();
    hub.broadcast("all");
    assert_eq!(texts(&mut peer, 3), ["b1", "a2", "all"]);
    hub.unfollow(peer.id, &a).unwrap();
    a.send("a3").unwrap();
    b.send("b2").unwrap();
    hub.unfollow(peer.id, &hub.everyone()).unwrap();
    hub.broadcast("to all others");
    b.send("b3").unwrap();
    assert_eq!(texts(&mut peer, 2), ["b2", "b3"]);
    // Again: its log is new to who comes again.
    hub.follow(peer.id, &a).unwrap();
    assert_eq!(texts(&mut peer, 3), ["a1", "a2", "a3"]);
}

/// The program and the hub's thread have the same locks, and each takes them in its own time.
#[test]
fn following_and_unfollowing_without_a_pause_does_not_stop_anybody() {
    let (over, is_over) = mpsc::channel();
    thread::spawn(move || {
        let hub = hub();
        let (feed, mut peer) = (hub.feed("a").unwrap(), Peer::connect(&hub));
        for _ in 0..20_000 {
            hub.follow(peer.id, &feed).unwrap();
            hub.unfollow(peer.id, &feed).unwrap();
        }
        hub.follow(peer.id, &feed).unwrap();
        feed.send("still there").unwrap();
        assert_eq!(peer.text(), "still there");
        over.send(()).unwrap();
    });
    is_over.recv_timeout(wire::PATIENCE).expect("nobody waits for another");
}

#[test]
fn what_one_thread_pushes_to_several_feeds_and_to_one_client_comes_in_its_order() {
    let hub = hub();
    let feeds: Vec<Feed> = (0..5).map(|n| hub.feed(&format!("feed {n}")).unwrap()).collect();
    let mut peer = Peer::connect(&hub);
    for feed in &feeds {
        hub.follow(peer.id, feed).unwrap();
    }
    for number in 0..3000usize {
        let text = number.to_string();
        match number % 7 {
            5 => hub.broadcast(text),
            6 => hub.send(peer.id, text).unwrap(),
            feed => feeds[feed].send(text).unwrap(),
        }
    }
    for number in 0..3000usize {
        assert_eq!(peer.text(), number.to_string());
    }
}

#[test]
fn a_rule_decides_who_may_follow_what_by_its_url_and_not_what_the_program_does() {
    let hub = Hub::builder()
        .authorize_follow(|feed, request| {
            feed.starts_with("public/") || request.header("x-user") == Some(&b"ada"[..])
        })
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let answer = refusal(&hub, "/feed/secret");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(hub.stats().feeds, 0, "a refused request makes no feed");
    let mut peer = Peer::connect_at(&hub, "/feed/public/a");
    let secret = hub.feed("secret").unwrap();
    hub.follow(peer.id, &secret).unwrap();
    secret.send("told").unwrap();
    assert_eq!(peer.text(), "told");
}

#[test]
fn names_that_are_none_are_errors_for_the_program_and_404_on_the_path() {
    let hub = hub();
    for name in ["", "a\nb", "\u{7f}", &"x".repeat(257)] {
        assert_eq!(hub.feed(name).unwrap_err(), FeedError::InvalidName, "{name:?}");
    }
    let long = format!("/feed/{}", "x".repeat(257));
    for path in ["/feed/", "/feed", "/feeds/a", "/feed/a%0Ab", "/feed/a%7", "/feed/%FF", &long] {
        let answer = refusal(&hub, path);
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
    assert_eq!(hub.stats().feeds, 0);
    assert_eq!(hub.feed("步骤").unwrap().name(), "步骤");
    let feed = hub.feed("步骤").unwrap();
    let mut peer = Peer::connect_at(&hub, "/feed/%E6%AD%A5%e9%aa%a4");
    feed.send("found").unwrap();
    assert_eq!(peer.text(), "found");
}

#[test]
fn beyond_the_limits_one_more_is_refused_and_the_others_stay() {
    let limits = Limits::default().feeds(4).feeds_per_client(2).keys(3).latest(2000);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let mut peer = Peer::connect_at(&hub, "/feed/a"); // its first
    let (b, c) = (hub.feed("b").unwrap(), hub.feed("c").unwrap());
    hub.follow(peer.id, &b).unwrap();
    assert_eq!(hub.follow(peer.id, &c), Err(FollowError::TooMany { limit: 2 }));
    let a = hub.feed("a").unwrap();
    a.send("of a").unwrap();
    c.send("of c").unwrap();
    b.send("of b").unwrap();
    assert_eq!(texts(&mut peer, 2), ["of a", "of b"]);

    let d = hub.feed("d").unwrap();
    let none = hub.feed("e").unwrap();
    let too_many = Err(SendError::TooManyFeeds { limit: 4 });
    assert_eq!(none.send("x"), too_many);
    assert_eq!(none.set("key", "x"), too_many);
    assert_eq!(none.finish("x"), too_many);
    assert_eq!(none.send_timeout_blocking("x", Duration::from_secs(20)), too_many);
    assert_eq!(hub.follow(peer.id, &none), Err(FollowError::TooManyFeeds { limit: 4 }));
    assert_eq!((none.name(), hub.stats().feeds_refused), ("e", 1));
    assert!(refusal(&hub, "/feed/e").starts_with("HTTP/1.1 503 "));
    drop(Peer::connect_at(&hub, "/feed/b")); // one that there is

    for key in ["x", "y", "z"] {
        d.set(key, "1").unwrap();
    }
    let is_too_many = |answer| {
        matches!(answer, Err(SendError::TooManyValues { value: 1.., keys: 3, bytes: 2000 }))
    };
    assert!(is_too_many(d.set("w", "1")));
    assert!(is_too_many(d.set("x", "2".repeat(2000))));
    d.set("y", "2").unwrap();
    settle(&hub);
    let mut peer = Peer::connect_at(&hub, "/feed/d");
    assert_eq!(texts(&mut peer, 3), ["1", "1", "2"], "the value before is kept");
}

#[test]
fn a_feed_of_another_hub_is_refused() {
    let (one, two) = (hub(), hub());
    let peer = Peer::connect(&one);
    let feed = two.feed("a").unwrap();
    assert_eq!(one.follow(peer.id, &feed), Err(FollowError::OtherHub));
    assert_eq!(one.unfollow(peer.id, &feed), Err(FollowError::OtherHub));
    let gone = "4711".parse().unwrap();
    assert_eq!(one.follow(gone, &one.everyone()), Err(FollowError::NoSuchClient(gone)));
}

#[test]
fn the_last_message_is_for_those_who_come_late_too_and_the_last() {
    let hub = hub();
    let feed = hub.feed("run").unwrap();
    let mut early = Peer::connect_at(&hub, "/feed/run");
    feed.send("step 1").unwrap();
    feed.finish("converged").unwrap();
    assert_eq!(feed.send("more"), Err(SendError::Finished));
    assert_eq!(feed.set("key", "more"), Err(SendError::Finished));
    assert_eq!(feed.finish("twice"), Err(SendError::Finished));
    assert_eq!(hub.feed("run").unwrap().send("more"), Err(SendError::Finished));
    let mut late = Peer::connect_at(&hub, "/feed/run");
    for peer in [&mut early, &mut late] {
        assert_eq!(texts(peer, 2), ["step 1", "converged"]);
        hub.send(peer.id, "still a client").unwrap();
        assert_eq!(peer.text(), "still a client");
    }
}

#[test]
fn what_is_kept_is_bounded_in_messages() {
    let retention = Retention::default().messages(5);
    let hub = Hub::builder().retention(retention).spawn_blocking("127.0.0.1:0").unwrap();
    let feed = hub.feed("run").unwrap();
    (0..100).for_each(|number| feed.send(format!("{number}")).unwrap());
    settle(&hub);
    let mut peer = Peer::connect_at(&hub, "/feed/run");
    assert_eq!(texts(&mut peer, 5), ["95", "96", "97", "98", "99"]);
}

#[test]
fn what_is_kept_is_bounded_in_bytes_and_one_larger_message_is_kept_alone() {
    let limits = Limits::default().feed(100_000);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let feed = hub.feed("run").unwrap();
    for number in 0..20u8 {
        feed.send(vec![number; 20_000]).unwrap();
        settle(&hub);
    }
    let mut peer = Peer::connect_at(&hub, "/feed/run");
    let first = peer.message().as_bytes()[0];
    assert!(first >= 16, "{first}");
    for number in first + 1..20 {
        assert_eq!(peer.message().as_bytes()[0], number);
    }
    feed.send(vec![99; 5 << 20]).unwrap();
    settle(&hub);
    let mut late = Peer::connect_at(&hub, "/feed/run");
    assert_eq!(late.message(), Message::from(vec![99; 5 << 20]));
}

#[test]
fn what_is_kept_is_bounded_in_age_and_then_the_feed_goes_away() {
    let retention = Retention::default().age(Duration::from_millis(400));
    let timeouts = Timeouts::default().close(Duration::from_millis(500)); // looks every 100 ms
    let hub = Hub::builder()
        .retention(retention)
        .timeouts(timeouts)
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let feed = hub.feed("run").unwrap();
    feed.send("old").unwrap();
    let mut peer = Peer::connect_at(&hub, "/feed/run");
    assert_eq!(peer.text(), "old");
    until("the old message to be gone", || hub.stats().memory == 0);
    let mut late = Peer::connect_at(&hub, "/feed/run");
    feed.finish("new").unwrap();
    assert_eq!((peer.text(), late.text()), ("new".into(), "new".into()));

    drop(feed);
    assert_eq!(hub.stats().feeds, 1, "it is followed");
    drop((peer, late));
    until("the feed to be gone, and then its memory", || {
        let stats = hub.stats();
        (stats.feeds, stats.memory) == (0, 0)
    });
    // It is another feed of that name now.
    hub.feed("run").unwrap().send("again").unwrap();
    assert_eq!(Peer::connect_at(&hub, "/feed/run").text(), "again");
}

#[test]
fn a_feed_that_nobody_has_is_kept_as_long_as_its_messages() {
    let hub = hub();
    hub.feed("run").unwrap().finish("the result").unwrap();
    settle(&hub);
    for _ in 0..3 {
        assert_eq!(Peer::connect_at(&hub, "/feed/run").text(), "the result");
        settle(&hub);
    }
}

#[test]
fn at_the_limit_closed_feeds_make_way_and_the_newest_are_there_for_late_joiners() {
    let hub =
        Hub::builder().limits(Limits::default().feeds(10)).spawn_blocking("127.0.0.1:0").unwrap();
    let open = hub.feed("open").unwrap();
    open.send("of the open one").unwrap();
    let mut peer = Peer::connect_at(&hub, "/feed/run/0");
    for run in 0..1000 {
        let feed = hub.feed(&format!("run/{run}")).unwrap();
        feed.set("state", format!("state {run}")).unwrap();
        feed.finish(format!("result {run}")).unwrap();
        drop(feed);
        if run % 5 == 0 {
            settle(&hub);
        }
    }
    assert_eq!((hub.stats().feeds, hub.stats().feeds_refused), (10, 0));
    assert_eq!(texts(&mut peer, 2), ["state 0", "result 0"], "it was followed all the time");
    assert_eq!(Peer::connect_at(&hub, "/feed/open").text(), "of the open one");
    for run in 993..1000 {
        let mut late = Peer::connect_at(&hub, &format!("/feed/run/{run}"));
        assert_eq!(texts(&mut late, 2), [format!("state {run}"), format!("result {run}")]);
    }
    // What has made way is gone: some hundred bytes are left of each of the ten.
    until("what has made way to be gone", || hub.stats().memory < 10 * 2000);
}

#[test]
fn feeds_that_come_and_go_leave_nothing() {
    let retention = Retention::default().age(Duration::ZERO);
    let timeouts = Timeouts::default().close(Duration::from_millis(50));
    let hub = Hub::builder()
        .retention(retention)
        .timeouts(timeouts)
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    for number in 0..1_000_000 {
        let feed = hub.feed(&format!("run/{number}")).unwrap();
        if number % 10_000 == 0 {
            until("those that were pushed to to be gone", || hub.stats().feeds < 5_000);
        }
        if number % 10 == 0 {
            feed.send("started").unwrap();
        }
        if number % 20 == 0 {
            feed.set("progress", "1").unwrap();
        }
    }
    until("all feeds to be gone", || hub.stats().feeds == 0);
    until("all memory to be free", || hub.stats().memory == 0);
    assert_eq!(hub.stats().feeds_refused, 0);
    let mut peer = Peer::connect(&hub);
    hub.broadcast("goes on");
    assert_eq!(peer.text(), "goes on");
}

#[test]
fn a_feed_keeps_no_hub_alive_and_says_so() {
    let hub = hub();
    let (address, feed, everyone) =
        (hub.local_addr().unwrap(), hub.feed("run").unwrap(), hub.everyone());
    feed.send("before").unwrap();
    drop(hub);
    until("the hub to be gone", || TcpStream::connect(address).is_err());
    assert_eq!(feed.send("after"), Err(SendError::ShutDown));
    assert_eq!(feed.clone().set("key", "after"), Err(SendError::ShutDown));
    assert_eq!(everyone.set("key", "after"), Err(SendError::ShutDown));
}

#[test]
fn a_disabled_hub_has_feeds_that_go_nowhere() {
    let hub = Hub::disabled();
    let feed = hub.feed("run").unwrap();
    assert_eq!(hub.feed("").unwrap_err(), FeedError::InvalidName);
    feed.send("x").unwrap();
    feed.set("key", "x").unwrap();
    hub.everyone().finish("x").unwrap();
    let id = "4711".parse().unwrap();
    hub.follow(id, &feed).unwrap();
    hub.unfollow(id, &feed).unwrap();
}

/// The memory limit holds for feeds, too, however many: what is kept gives way to what comes.
#[test]
fn over_the_hubs_memory_limit_feeds_give_up_what_they_keep() {
    let limits = Limits::default().memory(4 << 20);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").unwrap();
    let feeds: Vec<Feed> = (0..64).map(|n| hub.feed(&format!("{n}")).unwrap()).collect();
    for round in 0..40u8 {
        for feed in &feeds {
            // 40 MiB in all. Where the hub's thread has to make room first, it does so at once.
            until("room", || match feed.send(vec![round; 16 * 1024]) {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error, SendError::NoMemory);
                    false
                }
            });
            assert!(hub.stats().memory <= 4 << 20, "{}", hub.stats().memory);
        }
    }
    until("room again", || feeds[0].send("goes on").is_ok());
    let mut peer = Peer::connect_at(&hub, "/feed/0");
    while peer.message().as_text() != Some("goes on") {}
}

#[test]
fn a_slow_follower_of_a_feed_skips_and_the_others_do_not_notice() {
    let limits = Limits::default().feed(1 << 20);
    let timeouts = Timeouts::default().stall(Duration::from_secs(600));
    let hub =
        Hub::builder().limits(limits).timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap();
    let feed = hub.feed("run").unwrap();
    let mut slow = Peer::connect_at(&hub, "/feed/run");
    let mut fast = Peer::connect_at(&hub, "/feed/run");
    for number in 0..2000u32 {
        let mut message = vec![0; 16 * 1024];
        message[..4].copy_from_slice(&number.to_le_bytes());
        feed.send(message).unwrap();
        assert_eq!(fast.message().as_bytes()[..4], number.to_le_bytes());
    }
    let (mut next, mut skipped) = (0, 0);
    while next < 2000 {
        let number = u32::from_le_bytes(slow.message().as_bytes()[..4].try_into().unwrap());
        skipped += u64::from(number - next);
        next = number + 1;
    }
    assert!(skipped > 0);
    assert_eq!(hub.client(slow.id).unwrap().info().skipped, skipped);
    assert_eq!(hub.client(fast.id).unwrap().info().skipped, 0);
}

#[test]
fn a_rule_that_panics_costs_the_request_and_is_asked_about_names_only() {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let hub = Hub::builder()
        .authorize_follow(move |feed, _| {
            seen.lock().unwrap().push(feed.to_owned());
            assert!(feed != "run", "no rule for this one");
            true
        })
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let mut events = hub.events();
    let before = Peer::connect(&hub);
    let long = format!("/feed/{}", "x".repeat(6000));
    for path in ["/feed/", &long] {
        assert!(refusal(&hub, path).starts_with("HTTP/1.1 404 "));
    }
    assert!(asked.lock().unwrap().is_empty());
    let answer = refusal(&hub, "/feed/run");
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    let status = |event| match event {
        Event::Refused { status, .. } => Some(status),
        _ => None,
    };
    let mut refused = std::iter::from_fn(|| events.recv_blocking()).filter_map(status);
    assert_eq!([refused.next(), refused.next(), refused.next()], [404, 404, 500].map(Some));
    let mut after = Peer::connect_at(&hub, "/feed/other");
    hub.feed("other").unwrap().send("it goes on").unwrap();
    assert_eq!(after.text(), "it goes on");
    assert_eq!((hub.client_count(), hub.stats().refused), (2, 3));
    drop(before);
}
