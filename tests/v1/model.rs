//! A hub and a client on `stepcast.v1` under schedules drawn at random, against a model that keeps everything: what the
//! client has in the end is all of it in order, but for what gaps have told it, and the latest values.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::Duration;

use crate::support::follower::{Entry, Follower, Has};
use proptest::prelude::*;
use serde_json::json;
use stepcast::{ClientId, Feed, Hub, Limits};

const FEEDS: [&str; 3] = ["", "a", "b"];
const KEYS: [&str; 3] = ["x", "y", "z"];
/// About fifty messages.
const BOUND: usize = 4096;

#[derive(Debug, Clone)]
enum Op {
    Send(usize, usize),
    Set(usize, usize),
    Mail(usize),
    MailSet(usize),
    Follow(usize),
    Unfollow(usize),
    /// Both at once, without waiting for an answer.
    Refollow(usize),
    /// Reads what has come.
    Read,
    Ack,
    /// The program loses sight of the client, and it of the hub.
    Cut,
    Resume,
    /// Comes back while the connection before is still there, and stays.
    TakeOver,
    /// The oldest of those that were taken over ends.
    DropOld,
    Restart,
    Flood(usize),
    FloodMail,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (feed, key) = (|| 0..FEEDS.len(), || 0..KEYS.len());
    let op = prop_oneof![
        6 => (feed(), 1..5_usize).prop_map(|(feed, count)| Op::Send(feed, count)),
        4 => (feed(), key()).prop_map(|(feed, key)| Op::Set(feed, key)),
        4 => (1..5_usize).prop_map(Op::Mail),
        3 => key().prop_map(Op::MailSet),
        3 => feed().prop_map(Op::Follow),
        2 => feed().prop_map(Op::Unfollow),
        1 => feed().prop_map(Op::Refollow),
        4 => Just(Op::Read),
        2 => Just(Op::Ack),
        3 => Just(Op::Cut),
        4 => Just(Op::Resume),
        2 => Just(Op::TakeOver),
        1 => Just(Op::DropOld),
        1 => Just(Op::Restart),
        1 => feed().prop_map(Op::Flood),
        1 => Just(Op::FloodMail),
    ];
    prop::collection::vec(op, 10..60)
}

/// What has been pushed to a feed, or to a mailbox.
#[derive(Debug, Default)]
struct Pushed {
    sent: usize,
    values: BTreeMap<String, String>,
    /// How many had been sent when the client asked for it.
    followed_at: usize,
}

struct Run {
    hub: Hub,
    feeds: Vec<Feed>,
    client: Follower,
    pushed: [Pushed; FEEDS.len()],
    mailed: Pushed,
    old: Vec<TcpStream>,
    values: usize,
    gaps: usize,
}

fn start() -> (Hub, Vec<Feed>) {
    let hub = Hub::builder()
        .limits(Limits::default().feed(BOUND).mailbox(BOUND))
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let feeds = FEEDS.iter().map(|name| match *name {
        "" => hub.everyone(),
        name => hub.feed(name).unwrap(),
    });
    let feeds = feeds.collect();
    (hub, feeds)
}

impl Run {
    fn new() -> Self {
        let (hub, feeds) = start();
        Self {
            hub,
            feeds,
            client: Follower::of(&["", "a"]),
            pushed: Default::default(),
            mailed: Pushed::default(),
            old: Vec::new(),
            values: 0,
            gaps: 0,
        }
    }

    fn id(&self) -> Option<ClientId> {
        self.client.id()
    }

    fn send(&mut self, feed: usize, count: usize) {
        for _ in 0..count {
            self.feeds[feed].send(self.pushed[feed].sent.to_string()).unwrap();
            self.pushed[feed].sent += 1;
        }
    }

    /// A client that has been one can be sent to whether it is there or not.
    fn mail(&mut self, count: usize) {
        let Some(id) = self.id() else { return };
        for _ in 0..count {
            self.hub.send(id, self.mailed.sent.to_string()).unwrap();
            self.mailed.sent += 1;
        }
    }

    fn connect(&mut self) {
        let address = self.hub.local_addr().unwrap();
        let (before, was) = (self.client.resumed, self.id().is_some());
        for (name, pushed) in FEEDS.iter().zip(&mut self.pushed) {
            if !self.client.feeds.contains_key(*name) {
                pushed.followed_at = pushed.sent;
            }
        }
        self.client.connect_directly(address);
        assert_eq!(self.client.resumed > before, was, "this hub knows who it was");
        self.read_until(|client| client.follows() == client.wants.len());
        self.check();
    }

    fn read_until(&mut self, holds: impl FnMut(&Follower) -> bool) {
        self.client.read_until(holds).expect("a connection that nobody cuts");
    }

    /// Another hub, of the same program.
    fn restart(&mut self) {
        self.client.cut();
        self.old.clear();
        self.feeds.clear();
        let (hub, feeds) = start();
        std::mem::replace(&mut self.hub, hub).shutdown_blocking(Duration::from_secs(5));
        self.feeds = feeds;
        (self.pushed, self.mailed) = Default::default();
        // Something that could be taken for what the client has.
        (0..FEEDS.len()).for_each(|feed| self.send(feed, 3));
        self.pushed.iter_mut().for_each(|pushed| pushed.followed_at = pushed.sent);
        let Some(before) = self.client.hello.clone() else { return };
        let snapshots = |client: &Follower| -> Vec<usize> {
            client
                .wants
                .iter()
                .map(|name| client.feeds.get(name).map_or(0, |f| f.snapshots))
                .collect()
        };
        let (new, had) = (self.client.new, snapshots(&self.client));
        self.client.connect_directly(self.hub.local_addr().unwrap());
        let hello = self.client.hello.as_ref().unwrap();
        assert_ne!(hello["epoch"], before["epoch"]);
        assert_eq!(self.client.new, new + 1, "a new client");
        self.read_until(|client| client.follows() == client.wants.len());
        assert!(
            snapshots(&self.client).iter().eq(had.iter().map(|n| n + 1).collect::<Vec<_>>().iter())
        );
        self.client.feeds.values_mut().for_each(|feed| feed.snapshots = 1);
        self.check();
    }

    fn take(&mut self, op: &Op) {
        let connected = self.client.is_connected();
        match *op {
            Op::Send(feed, count) => self.send(feed, count),
            Op::Flood(feed) => self.send(feed, 200),
            Op::Mail(count) => self.mail(count),
            Op::FloodMail => self.mail(200),
            Op::Set(feed, key) => {
                let value = self.next_value();
                self.feeds[feed].set(KEYS[key], value.clone()).unwrap();
                self.pushed[feed].values.insert(KEYS[key].to_owned(), value);
            }
            Op::MailSet(key) => {
                let Some(id) = self.id() else { return };
                let value = self.next_value();
                self.hub.set(id, KEYS[key], value.clone()).unwrap();
                self.mailed.values.insert(KEYS[key].to_owned(), value);
            }
            Op::Follow(feed) => self.follow(feed),
            Op::Unfollow(feed) | Op::Refollow(feed) if connected => {
                let name = FEEDS[feed];
                if !self.client.wants.remove(name) {
                    return;
                }
                self.client.say(&json!({"unfollow": [name]})).unwrap();
                if matches!(op, Op::Refollow(_)) {
                    return self.follow(feed);
                }
                self.read_until(|client| !client.feeds.contains_key(name));
            }
            Op::Read if connected => {
                let told = self.client.told.len();
                self.client.say(&json!({"follow": {"no\nname": {}}})).unwrap();
                self.read_until(|client| client.told.len() > told);
            }
            Op::Ack if connected => self.client.ack().unwrap(),
            Op::Cut => self.client.cut(),
            Op::Resume if !connected => self.connect(),
            Op::TakeOver if connected => {
                self.old.push(self.client.abandon());
                self.connect();
            }
            Op::DropOld if !self.old.is_empty() => drop(self.old.remove(0)),
            Op::Restart => self.restart(),
            _ => {}
        }
        self.check();
    }

    fn next_value(&mut self) -> String {
        self.values += 1;
        self.values.to_string()
    }

    fn follow(&mut self, feed: usize) {
        let (name, begun) = (FEEDS[feed], self.client.begun);
        if !self.client.wants.insert(name.to_owned()) || !self.client.is_connected() {
            return;
        }
        self.pushed[feed].followed_at = self.pushed[feed].sent;
        self.client.say(&json!({"follow": {name: {}}})).unwrap();
        self.read_until(|client| client.begun > begun);
    }

    /// Every message that came is the one that was sent as this number: with the gaps, of which the client knows that
    /// they begin and end where messages do, this leaves nothing out.
    fn check(&mut self) {
        for (name, pushed) in FEEDS.iter().zip(&self.pushed) {
            if let Some(has) = self.client.feeds.get(*name) {
                assert_eq!(has.snapshots, 1, "{name:?} goes on where it was");
                let first = check_log(has);
                assert!(
                    first.is_none_or(|first| first <= pushed.followed_at),
                    "{name:?}: {first:?}"
                );
            }
        }
        let first = check_log(&self.client.mail);
        assert!(first.is_none_or(|first| first == 0), "the mailbox begins with its first message");
    }

    fn finish(mut self) -> usize {
        if !self.client.is_connected() {
            self.connect();
        }
        for (feed, pushed) in self.feeds.iter().zip(&mut self.pushed) {
            feed.finish(pushed.sent.to_string()).unwrap();
            pushed.sent += 1;
        }
        self.mail(1);
        let (pushed, mailed) = (&self.pushed, &self.mailed);
        let is_whole = |client: &Follower| {
            let mut feeds =
                FEEDS.iter().zip(pushed).filter(|(name, _)| client.wants.contains(**name));
            feeds.all(|(name, pushed)| {
                let has = &client.feeds[*name];
                has.ended && is_all(has, pushed)
            }) && is_all(&client.mail, mailed)
        };
        while !is_whole(&self.client) {
            self.client.ack().unwrap(); // or there is no room for more
            self.client.read().expect("a connection that nobody cuts");
        }
        self.check();
        self.gaps =
            self.client.mail.gaps() + self.client.feeds.values().map(Has::gaps).sum::<usize>();
        self.client.close();
        self.old.clear(); // or the hub would wait for them when it is dropped
        self.gaps
    }
}

/// Which message the log begins with, if one has come or is known to be missing.
fn check_log(has: &Has) -> Option<usize> {
    let mut base = None;
    for entry in &has.log {
        if let Entry::Message(number, text) = entry {
            let of_this = i64::try_from(*number).unwrap() - text.parse::<i64>().unwrap();
            assert_eq!(*base.get_or_insert(of_this), of_this, "{text} as number {number}");
        }
    }
    let first = match has.log.first()? {
        Entry::Message(number, _) | Entry::Gap(number, _) => number,
    };
    usize::try_from(i64::try_from(*first).unwrap() - base?).ok()
}

fn is_all(has: &Has, pushed: &Pushed) -> bool {
    has.values == pushed.values && has.has_text(&(pushed.sent - 1).to_string())
}

#[test]
fn whatever_happens_a_client_has_all_in_order_or_is_told_what_is_missing() {
    let config = ProptestConfig {
        cases: 64,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    };
    let seed = proptest::test_runner::TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(config, seed);
    let gaps = std::cell::Cell::new(0);
    let result = runner.run(&ops(), |ops| {
        let mut run = Run::new();
        for op in &ops {
            run.take(op);
        }
        gaps.set(gaps.get() + run.finish());
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(gaps.get() > 10, "clients have been behind: {}", gaps.get());
}
