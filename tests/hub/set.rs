//! Latest values for one client: who is behind gets the newest, in order, and memory is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::peer::{Peer, until};
use crate::support::wire::PATIENCE;
use stepcast::{ClientId, Hub, Limits, SendError, Timeouts};

const PATIENT: Duration = Duration::from_secs(600);
const LARGE: usize = 40 << 20; // more than the sockets hold

/// A hub whose stalled clients are not cut while a test looks at them.
fn hub(limits: Limits) -> Hub {
    let timeouts = Timeouts::default().stall(PATIENT).frame(PATIENT).keepalive(PATIENT);
    Hub::builder().limits(limits).timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap()
}

/// A client that is in the middle of a large message, so that nothing else can be under way.
fn stalled(hub: &Hub) -> Peer {
    let peer = Peer::connect(hub);
    hub.send(peer.id, vec![0; LARGE]).unwrap();
    until("it to be taken up", || {
        let waiting = hub.client(peer.id).unwrap().info().queued_bytes;
        waiting > 0 && waiting < LARGE
    });
    peer
}

#[test]
fn a_stalled_client_that_is_set_a_key_many_times_gets_the_newest_when_it_reads_again() {
    let hub = hub(Limits::default());
    let mut peer = stalled(&hub);
    let before = hub.stats().memory; // all of the large message, until its last byte has left
    for step in 1..=10_000 {
        hub.set(peer.id, "progress", format!("step {step}")).unwrap();
        hub.set(peer.id, "residual", format!("1e-{step}")).unwrap();
        if step == 5000 {
            hub.send(peer.id, "half of it").unwrap();
            hub.set(peer.id, "half", "reached").unwrap();
        }
        assert!(hub.stats().memory < before + 3000, "{}", hub.stats().memory);
    }
    assert_eq!(
        hub.stats().memory - before,
        3 * 384 + 2 * (4 + 8 + 8) + 10 + 7 + 8 + 256 + 10,
        "they are counted"
    );
    assert_eq!(peer.message().len(), LARGE);
    for text in ["half of it", "reached", "step 10000", "1e-10000"] {
        assert_eq!(peer.text(), text);
    }
    hub.set(peer.id, "progress", "over").unwrap();
    assert_eq!(peer.text(), "over");
    until("the memory to be free", || hub.stats().memory == 0);
    assert_eq!(hub.stats().skipped, 0);
}

#[test]
fn what_one_thread_sets_and_sends_to_one_and_to_all_arrives_in_its_order() {
    const COUNT: usize = 20_000;
    /// No further ahead of the client than this: who is far behind gets values first.
    const AHEAD: usize = 400;
    let hub = hub(Limits::default().keys(COUNT).mailbox(32 << 20));
    let mut peer = Peer::connect(&hub);
    let (sender, id) = (hub.clone(), peer.id);
    let read = Arc::new(AtomicUsize::new(0));
    let so_far = Arc::clone(&read);
    let sender = thread::spawn(move || {
        for number in 0..COUNT {
            while number > so_far.load(Ordering::Relaxed) + AHEAD {
                thread::yield_now();
            }
            // In no pattern that the sizes of batches could follow.
            let text = number.to_string();
            match number * number % 7 {
                0 => sender.set(id, &text, text.clone()).unwrap(),
                1 => sender.send(id, text).unwrap(),
                2 => sender.broadcast(text),
                _ => sender.everyone().set(&(number % 500).to_string(), text).unwrap(),
            }
            if number % 256 == 0 {
                thread::yield_now();
            }
        }
    });
    let mut last = 0;
    for number in (0..COUNT).filter(|number| matches!(number * number % 7, 0..=2)) {
        // Of what was set for all only the newest may come.
        let next = loop {
            let next: usize = peer.text().parse().unwrap();
            assert!(next >= last);
            last = next;
            read.store(next, Ordering::Relaxed);
            if matches!(next * next % 7, 0..=2) {
                break next;
            }
        };
        assert_eq!(next, number);
    }
    sender.join().unwrap();
}

#[test]
fn a_key_that_is_set_without_a_pause_arrives_again_and_again_and_never_an_older_value() {
    let hub = hub(Limits::default());
    let (setting, mut peer) = (hub.clone(), Peer::connect(&hub));
    let enough = Arc::new(AtomicBool::new(false));
    let (id, stop) = (peer.id, Arc::clone(&enough));
    let setter = thread::spawn(move || {
        let mut number = 1;
        // To its client's end, too, where the test fails.
        while !stop.load(Ordering::Relaxed) && setting.set(id, "key", number.to_string()).is_ok() {
            number += 1;
        }
        number - 1
    });
    let mut last = 0;
    let mut take = |last: &mut u64| {
        let number: u64 = peer.text().parse().unwrap();
        assert!(*last < number, "{number} after {last}");
        *last = number;
    };
    (0..500).for_each(|_| take(&mut last));
    enough.store(true, Ordering::Relaxed);
    let newest = setter.join().unwrap();
    while last < newest {
        take(&mut last);
    }
}

#[test]
fn values_beyond_the_bounds_are_refused_and_the_ones_before_are_kept() {
    let hub = hub(Limits::default().keys(2).mailbox(1000).outbound_message(LARGE));
    let mut peer = stalled(&hub);
    let id = peer.id;
    let too_large = SendError::TooLarge { bytes: LARGE + 1, limit: LARGE };
    assert_eq!(hub.set(id, "x", vec![0; LARGE + 1]), Err(too_large));
    hub.set(id, "x", "x").unwrap();
    hub.set(id, "y", "y").unwrap();
    let is_too_many = |answer| {
        matches!(answer, Err(SendError::TooManyValues { value: 1.., keys: 2, bytes: 1000 }))
    };
    assert!(is_too_many(hub.set(id, "z", "one key more")));
    assert!(is_too_many(hub.set(id, "x", vec![0; 1000])));
    hub.send(id, "there is room for messages").unwrap();
    assert_eq!(peer.message().len(), LARGE);
    assert_eq!([peer.text(), peer.text()], ["x", "y"]);
    assert_eq!(peer.text(), "there is room for messages");
    hub.set(id, "z", vec![0; 1 << 20]).unwrap();
    assert_eq!(peer.message().len(), 1 << 20, "one that is alone may be large");
    let nobody: ClientId = "4711".parse().unwrap();
    assert_eq!(hub.set(nobody, "x", "x"), Err(SendError::NoSuchClient(nobody)));
    assert_eq!(Hub::disabled().set(id, "x", "x"), Ok(()));
}

#[test]
fn what_was_set_goes_before_the_close_and_after_it_nothing_is_taken() {
    let hub = hub(Limits::default());
    let (mut first, mut second) = (stalled(&hub), Peer::connect(&hub));
    hub.set(first.id, "key", "last").unwrap();
    hub.disconnect(first.id, "").unwrap();
    assert_eq!(hub.set(first.id, "key", "late"), Err(SendError::NoSuchClient(first.id)));
    assert_eq!(first.message().len(), LARGE);
    assert_eq!(first.text(), "last");
    assert_eq!(first.close_code(), 1000);
    drop(first);
    let (id, ending) = (second.id, hub.clone());
    hub.set(id, "key", "last").unwrap();
    let ending = thread::spawn(move || ending.shutdown_blocking(PATIENCE));
    assert_eq!(second.text(), "last");
    assert_eq!(second.close_code(), 1001);
    assert_eq!(hub.set(id, "key", "late"), Err(SendError::ShutDown));
    drop(second);
    ending.join().unwrap();
}

#[test]
fn values_that_wait_for_a_client_go_with_it() {
    let hub = hub(Limits::default());
    let peer = stalled(&hub);
    hub.set(peer.id, "key", vec![0; 1000]).unwrap();
    drop(peer);
    until("it to be gone", || hub.client_count() == 0);
    until("the memory to be free", || hub.stats().memory == 0);
}
