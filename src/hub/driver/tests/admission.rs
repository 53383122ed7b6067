//! Tests of a rule about clients whose verdicts come later.

use std::cell::OnceCell;
use std::sync::mpsc::{self, Receiver};

use tokio::sync::oneshot;

use super::*;
use crate::handshake::{Refusal, Status};
use crate::hub::engine::admission::Verdict;

/// A question to the rule: the request's path, and where the verdict goes.
type Question = (String, oneshot::Sender<Verdict>);

impl Stand {
    /// A hub with a rule that hands its questions on.
    fn asking(limits: Limits) -> (Self, Receiver<Question>) {
        let mut stand = Self::with(limits);
        let (questions, asked) = mpsc::channel();
        stand.driver.engine.admission.authorize = Some(Box::new(move |request| {
            let (verdict, later) = oneshot::channel();
            let _ = questions.send((request.path().to_owned(), verdict));
            later
        }));
        (stand, asked)
    }

    /// Takes turns until the rule is asked.
    #[track_caller]
    fn turn_until_asked(&mut self, asked: &Receiver<Question>) -> oneshot::Sender<Verdict> {
        let question = OnceCell::new();
        self.turn_until(|_| asked.try_recv().is_ok_and(|asked| question.set(asked).is_ok()));
        question.into_inner().unwrap().1
    }

    /// Takes turns until this has come, and returns all that has come.
    #[track_caller]
    fn turn_until_read(&mut self, mut socket: &TcpStream, awaited: &str) -> String {
        socket.set_nonblocking(true).unwrap();
        let (mut bytes, started) = (Vec::new(), Instant::now());
        loop {
            self.turn();
            let _ = socket.read_to_end(&mut bytes); // until nothing is there
            let text = String::from_utf8_lossy(&bytes);
            if text.contains(awaited) {
                return text.into_owned();
            }
            assert!(started.elapsed() < PATIENCE, "waited in vain: {text}");
        }
    }

    fn turn_until_rest(&mut self) {
        while !matches!(self.turn(), Turn::Rest) {}
    }

    /// Moves the driver's clock on, to a tick.
    fn pass(&mut self, time: Duration) {
        self.driver.epoch -= time;
        self.driver.next_tick = millis(self.driver.epoch.elapsed());
    }

    /// Whether nothing is left of peers that were not let in.
    #[track_caller]
    fn assert_free(&self) {
        assert_eq!((self.driver.connections.len(), self.driver.strangers.len()), (0, 0));
        assert_eq!(self.shared.budget.used(), 0);
    }
}

/// Sends a request that is long enough to be counted.
fn ask_at_length(mut socket: &TcpStream) {
    let long = format!("Cookie: {}\r\nConnection:", "x".repeat(4000));
    socket.write_all(upgrade_of("/").replace("Connection:", &long).as_bytes()).unwrap();
}

#[test]
fn a_verdict_that_comes_later_from_another_thread_lets_a_client_in_or_refuses_it() {
    let (stand, asked) = Stand::asking(Limits::default());
    let Stand { driver, shared, address, runtime } = stand;
    let hub = thread::spawn(move || runtime.block_on(driver.run()));
    let rule = thread::spawn(move || {
        let runtime = Builder::new_current_thread().build().unwrap();
        for (path, answer) in asked {
            let refusal = Refusal::new(Status::Forbidden, "not for you");
            let verdict = if path == "/" { Ok(()) } else { Err(refusal) };
            runtime.block_on(async {
                tokio::task::yield_now().await; // a query of a database
                answer.send(verdict).unwrap();
            });
        }
    });
    let answer_at = |path| {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        ask_for(&socket, path);
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).unwrap();
        (socket, answer)
    };
    let (refused, (client, switched)) = (answer_at("/feed/run").1, answer_at("/"));
    assert_eq!([&refused, &switched], [b"HTTP/1.1 403", b"HTTP/1.1 101"]);
    assert_eq!(shared.registry.count(), 1);
    drop(client);
    shared.request_shutdown(PATIENCE, Goodbye::ended());
    hub.join().unwrap();
    rule.join().unwrap();
}

#[test]
fn a_peer_that_waits_for_its_verdict_is_a_stranger_whose_request_is_counted_and_holds_up_nobody() {
    let (mut stand, asked) = Stand::asking(Limits::default().handshakes(1));
    let waiting = TcpStream::connect(stand.address).unwrap();
    ask_at_length(&waiting);
    let first = stand.turn_until_asked(&asked);
    assert_eq!((stand.driver.strangers.len(), stand.shared.registry.count()), (1, 0));
    assert!(stand.shared.kept.used() > 4000);
    stand.turn_until_rest();

    let newer = stand.upgrade();
    let second = stand.turn_until_asked(&asked);
    assert!(first.is_closed(), "the oldest stranger makes way");
    assert_eq!((stand.driver.strangers.len(), stand.shared.kept.used()), (1, 0));
    second.send(Ok(())).unwrap();
    assert!(stand.turn_until_read(&newer, "{\"").starts_with("HTTP/1.1 101 "));
    assert_eq!((stand.driver.strangers.len(), stand.shared.registry.count()), (0, 1));
}

#[test]
fn without_a_verdict_a_request_is_refused_when_its_handshake_is_over() {
    let (mut stand, asked) = Stand::asking(Limits::default());
    let (slow, silent) = (stand.upgrade(), stand.upgrade());
    let answers = [stand.turn_until_asked(&asked), stand.turn_until_asked(&asked)];
    stand.pass(Duration::from_secs(9));
    stand.turn_until_rest();
    assert!(answers.iter().all(|answer| !answer.is_closed()), "there is a second left");
    stand.pass(Duration::from_secs(2));
    let [first, second] = [&slow, &silent].map(|peer| stand.turn_until_read(peer, "in time"));
    assert!(first.starts_with("HTTP/1.1 503 ") && second.starts_with("HTTP/1.1 503 "), "{first}");
    assert!(answers.iter().all(oneshot::Sender::is_closed));
    drop((slow, silent));
    stand.turn_until(|stand| stand.driver.connections.is_empty());
    stand.assert_free();
}

#[test]
fn a_rule_that_ends_without_a_verdict_refuses() {
    let (mut stand, asked) = Stand::asking(Limits::default());
    let peer = stand.upgrade();
    drop(stand.turn_until_asked(&asked));
    assert!(stand.turn_until_read(&peer, "without a verdict").starts_with("HTTP/1.1 500 "));
}

#[test]
fn a_peer_that_leaves_before_its_verdict_is_freed_at_once() {
    let (mut stand, asked) = Stand::asking(Limits::default());
    let peer = TcpStream::connect(stand.address).unwrap();
    ask_at_length(&peer);
    let answer = stand.turn_until_asked(&asked);
    drop(peer);
    stand.turn_until(|_| answer.is_closed());
    stand.assert_free();
}

#[test]
fn what_comes_before_the_verdict_waits_for_it_within_a_bound() {
    let (mut stand, asked) = Stand::asking(Limits::default());
    let mut peer = TcpStream::connect(stand.address).unwrap();
    let early: Vec<u8> = (0..20).flat_map(|n| [0x81, 0x81, 0, 0, 0, 0, b'a' + n]).collect();
    peer.write_all(&[upgrade_of("/").as_bytes(), &early].concat()).unwrap();
    let answer = stand.turn_until_asked(&asked);
    peer.set_nonblocking(true).unwrap();
    let mut sent = 0; // until neither the hub nor the sockets take more
    let mut full = 0;
    while full < 5 {
        stand.turn();
        let before = sent;
        while let Ok(count) = peer.write(&[0x8a, 0x80, 0, 0, 0, 0].repeat(1000)) {
            sent += count;
        }
        full = if sent == before { full + 1 } else { 0 };
    }
    let held = stand.shared.inbound.used();
    assert!((early.len()..=64 << 10).contains(&held), "{held} of {sent}");
    answer.send(Ok(())).unwrap();
    stand.turn_until(|stand| stand.shared.counters.received.get() == 20);
}

#[test]
fn the_end_of_a_hub_does_not_wait_for_verdicts_and_a_verdict_that_comes_is_heard() {
    let (mut stand, asked) = Stand::asking(Limits::default());
    let client = stand.upgrade(); // which does not answer the Close
    stand.turn_until_asked(&asked).send(Ok(())).unwrap();
    stand.turn_until(|stand| stand.shared.registry.count() == 1);
    let [heard, refused, unheard] = [(); 3].map(|()| {
        let peer = stand.upgrade();
        (peer, stand.turn_until_asked(&asked))
    });
    stand.shared.request_shutdown(PATIENCE, Goodbye::ended());
    stand.turn_until_read(&client, "the hub has ended");
    heard.1.send(Ok(())).unwrap();
    refused.1.send(Err(Refusal::new(Status::Forbidden, "not for you"))).unwrap();
    let goodbye = stand.turn_until_read(&heard.0, "the hub has ended");
    assert!(goodbye.starts_with("HTTP/1.1 101 "), "{goodbye}");
    let refusal = stand.turn_until_read(&refused.0, "not for you");
    assert!(!refusal.contains("the hub has ended"), "{refusal}");
    drop((client, heard.0, refused.0));
    let started = Instant::now();
    while !matches!(stand.turn(), Turn::Ended) {
        assert!(started.elapsed() < PATIENCE / 2, "a verdict is waited for");
    }
    drop(stand);
    assert!(unheard.1.is_closed());
}
