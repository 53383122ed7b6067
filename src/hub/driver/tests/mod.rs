//! Tests of the driver, with a listener and sockets of their own.

mod admission;
mod sleeping;

use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep_until};

use crate::codec::{CloseCode, CloseFrame};
use crate::hub::conn::phase::Connection;
use crate::hub::conn::transport::Transport;
use crate::hub::driver::bind::bind;
use crate::hub::driver::delivery::{CALLS, LOOK_FIRST, LOOK_FOR, TAKES, look_for};
use crate::hub::driver::listener::Listener;
use crate::hub::driver::state::{Driver, STEPS, WALK};
use crate::hub::driver::task::Turn;
use crate::hub::engine::feeds::TRIM;
use crate::hub::events::{DisconnectReason, Event};
use crate::hub::feed::item::Kept;
use crate::hub::feed::log::Log;
use crate::hub::feed::queue::Entry;
use crate::hub::feed::topic::Topic;
use crate::hub::goodbye::Goodbye;
use crate::hub::id::ClientId;
use crate::hub::limits::{Limits, Timeouts};
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::primitives::moment::millis;
use crate::hub::shared::state::{Command, EndOnDrop, Shared};
use crate::hub::testing::fixtures::{engine, upgrade_of};
use crate::progress::job::JobBuilder;

const PATIENCE: Duration = Duration::from_secs(20);

struct Stand {
    driver: Driver,
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Runtime,
}

impl Stand {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let engine = engine(limits, &Timeouts::default());
        let shared = Arc::clone(&engine.shared);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let sockets = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let context = runtime.enter();
        let mut driver = Driver::new(engine, Listener::new(sockets).unwrap());
        driver.slice = PATIENCE; // how slow the machine is does not matter here
        drop(context);
        Self { driver, shared, address, runtime }
    }

    /// The runtime looks at the sockets; then one turn.
    fn turn(&mut self) -> Turn {
        self.runtime.block_on(async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let turn = poll_fn(|cx| Poll::Ready(self.driver.turn(cx)));
            tokio::task::unconstrained(turn).await // as the driver runs
        })
    }

    #[track_caller]
    fn turn_until(&mut self, holds: impl Fn(&Self) -> bool) -> Turn {
        let started = Instant::now();
        loop {
            let turn = self.turn();
            if holds(self) {
                return turn;
            }
            assert!(started.elapsed() < PATIENCE, "waited in vain");
        }
    }

    fn connect(&mut self, count: usize) -> Vec<TcpStream> {
        let sockets: Vec<_> = (0..count).map(|_| self.upgrade()).collect();
        self.turn_until(|stand| stand.shared.registry.count() == count);
        sockets
    }

    /// Clients that follow the feed of this name, beside those that there are.
    fn connect_at(&mut self, name: &str, count: usize) -> Vec<TcpStream> {
        let there = self.shared.registry.count();
        let connect = |_| {
            let socket = TcpStream::connect(self.address).unwrap();
            ask_for(&socket, &format!("/feed/{name}"));
            socket
        };
        let sockets: Vec<_> = (0..count).map(connect).collect();
        self.turn_until(|stand| stand.shared.registry.count() == there + count);
        sockets
    }

    /// A client on `stepcast.v1` that follows these feeds.
    fn connect_v1(&mut self, feeds: &[Arc<Topic>]) -> TcpStream {
        let there = self.shared.registry.count();
        let mut socket = TcpStream::connect(self.address).unwrap();
        let wire = "Sec-WebSocket-Protocol: stepcast.v1\r\nConnection:";
        socket.write_all(upgrade_of("/").replace("Connection:", wire).as_bytes()).unwrap();
        let names: Vec<_> = feeds.iter().map(|feed| format!("\"{}\":{{}}", feed.name())).collect();
        let hello = format!("{{\"hello\":{{\"feeds\":{{{}}}}}}}", names.join(","));
        let hello = format!("{hello:<126}"); // so that its length has two bytes
        let length = u16::try_from(hello.len()).unwrap().to_be_bytes();
        let head = [&[0x81, 0xfe][..], &length, &[0; 4]].concat();
        socket.write_all(&[&head, hello.as_bytes()].concat()).unwrap();
        self.turn_until(|stand| stand.shared.registry.count() == there + 1);
        socket
    }

    fn log_of(&self, topic: &Topic) -> &Log {
        &self.driver.engine.feeds.logs[topic.place()]
    }

    /// Somebody who connects from this address, as far as the driver is told.
    fn come_from(&mut self, ip: [u8; 4]) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let _context = self.runtime.enter();
        let accepted = tokio::net::TcpStream::from_std(accepted).unwrap();
        self.driver.add_connection(accepted.into(), (ip, 1).into());
        socket
    }

    fn upgrade(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        ask(&socket);
        socket
    }
}

fn ask(socket: &TcpStream) {
    ask_for(socket, "/");
}

fn ask_for(mut socket: &TcpStream, path: &str) {
    socket.write_all(upgrade_of(path).as_bytes()).unwrap();
}

#[test]
fn those_who_come_and_go_leave_nothing_in_a_feed_that_nobody_pushes_to() {
    let mut stand = Stand::new();
    let topic = stand.shared.topics.get("quiet").unwrap();
    let engine = &mut stand.driver.engine;
    let place = engine.feeds.log_of(&topic);
    for serial in 0..1000 {
        engine.follow(place, ConnId::new(7, serial));
        engine.feeds.unfollow(place);
    }
    assert_eq!(engine.feeds.logs[place].followers.len(), 1000);
    assert_eq!(stand.driver.sweep_followers(place), 1000);
    assert_eq!(stand.driver.engine.feeds.logs[place].followers.len(), 0);
}

#[test]
fn a_turn_takes_a_bounded_number_of_steps_of_each_kind_and_says_that_there_is_more() {
    let mut stand = Stand::new();
    let count = STEPS + 6;
    let sockets: Vec<_> = (0..count).map(|_| TcpStream::connect(stand.address).unwrap()).collect();
    let turn = stand.turn_until(|stand| !stand.driver.connections.is_empty());
    assert_eq!(stand.driver.connections.len(), STEPS);
    assert!(matches!(turn, Turn::More), "more to accept");
    stand.turn_until(|stand| stand.driver.connections.len() == count);
    while !matches!(stand.turn(), Turn::Rest) {}

    sockets.iter().for_each(ask);
    let turn = stand.turn_until(|stand| stand.shared.registry.count() > 0);
    assert_eq!(stand.shared.registry.count(), STEPS);
    assert!(matches!(turn, Turn::More), "more that are ready");
    stand.turn_until(|stand| stand.shared.registry.count() == count);
    while !matches!(stand.turn(), Turn::Rest) {}

    stand.shared.broadcast("x".into());
    assert!(matches!(stand.turn(), Turn::More), "more to hand out to");
    assert!(!stand.driver.calling.is_empty());
    stand.turn_until(|stand| stand.driver.calling.is_empty());
}

#[test]
fn a_feed_that_is_pushed_to_without_pause_leaves_the_others_their_turns() {
    let mut stand = Stand::new();
    let _hot_viewers = stand.connect_at("hot", 3 * STEPS);
    let _quiet_viewers = stand.connect_at("quiet", CALLS);
    let [hot, quiet] = ["hot", "quiet"].map(|name| stand.shared.topics.get(name).unwrap());
    let push = |stand: &Stand, topic| stand.shared.push(topic, "x".into(), false).unwrap();
    push(&stand, &hot);
    stand.turn();
    for _ in 0..20 {
        push(&stand, &hot);
        push(&stand, &quiet);
        stand.turn();
        assert!(stand.log_of(&hot).followers.is_calling(), "or this test shows nothing");
        assert!(!stand.log_of(&quiet).followers.is_calling(), "all have been served");
    }
}

#[test]
fn a_feed_that_calls_alone_has_the_whole_turn() {
    let mut stand = Stand::new();
    let _viewers = stand.connect_at("run", 2 * STEPS);
    let run = stand.shared.topics.get("run").unwrap();
    stand.shared.push(&run, "x".into(), false).unwrap();
    let written = |stand: &Stand| stand.shared.counters.bytes_out.get();
    let before = written(&stand);
    stand.turn();
    assert_eq!(written(&stand) - before, 3 * STEPS as u64);
    assert!(stand.log_of(&run).followers.is_calling());
    stand.turn();
    assert!(!stand.log_of(&run).followers.is_calling());
}

#[test]
fn a_step_of_a_client_with_many_feeds_takes_up_some_of_their_messages_however_small_they_are() {
    let mut stand = Stand::new();
    stand.driver.engine.admission.freshness = 0; // no window
    let feeds: Vec<_> =
        (0..64).map(|n| stand.shared.topics.get(&format!("{n}")).unwrap()).collect();
    let _viewer = stand.connect_v1(&feeds);
    while !matches!(stand.turn(), Turn::Rest) {}
    for feed in feeds.iter().cycle().take(1600) {
        stand.shared.push(feed, "x".into(), false).unwrap();
    }
    stand.driver.take_pushes();
    assert!(!stand.driver.engine.feeds.is_taking_over());
    let before = stand.shared.counters.bytes_out.get();
    let slot = stand.shared.registry.all()[0].slot();
    stand.driver.step(slot, Connection::write);
    let at_once = stand.shared.counters.bytes_out.get() - before;
    stand.turn_until(|stand| stand.driver.calling.is_empty() && stand.driver.owed.is_empty());
    let all = stand.shared.counters.bytes_out.get() - before;
    assert!(all > 1600 * 10 && at_once > 0 && at_once < all / 3, "{at_once} of {all} bytes");
}

#[test]
fn a_burst_is_taken_over_in_parts_delivered_in_order_and_holds_up_nobody() {
    let mut stand = Stand::new();
    let mut viewer = stand.connect(1).remove(0);
    viewer.set_nonblocking(true).unwrap();
    let run = stand.shared.topics.get("run").unwrap();
    for _ in 0..3 * TAKES {
        stand.shared.push(&run, "x".into(), false).unwrap();
    }
    stand.shared.broadcast("after the burst".into());
    let newcomer = stand.upgrade();
    let written = stand.shared.counters.bytes_out.get();
    let mut turns = 0;
    let mut came_at = None;
    loop {
        turns += 1;
        assert!(matches!(stand.turn(), Turn::More));
        if came_at.is_none() && stand.shared.registry.count() == 2 {
            came_at = Some(turns);
        }
        if !stand.driver.engine.feeds.is_taking_over() {
            break;
        }
        let greeting = 129 + 29; // the newcomer's, at most
        let delivered = stand.shared.counters.bytes_out.get() - written;
        assert!(delivered <= greeting + 100, "{delivered}: the order is that of the calls");
    }
    assert!(turns > 3, "{turns}");
    assert!(came_at.is_some_and(|at| at < turns), "who comes is not kept waiting");
    stand.turn_until(|stand| stand.driver.calling.is_empty() && stand.driver.owed.is_empty());
    let mut bytes = Vec::new();
    let _ = viewer.read_to_end(&mut bytes); // until nothing is there
    assert!(bytes.ends_with(b"after the burst"));
    drop(newcomer);
}

#[test]
fn feeds_of_one_message_count_as_more_than_that_and_what_is_between_goes_with_the_hub() {
    let mut stand = Stand::new();
    let feeds: Vec<_> = (0..TAKES / 4)
        .map(|number| stand.shared.topics.get(&number.to_string()).unwrap())
        .collect();
    for feed in &feeds {
        stand.shared.push(feed, "x".into(), false).unwrap();
    }
    stand.turn();
    assert!(stand.driver.engine.feeds.is_taking_over());
    stand.turn_until(|stand| !stand.driver.engine.feeds.is_taking_over());
    for _ in 0..2 * TAKES {
        stand.shared.push(&feeds[0], "x".into(), false).unwrap();
    }
    stand.turn();
    assert!(stand.driver.engine.feeds.is_taking_over());
    let Stand { driver, shared, .. } = stand;
    drop(driver);
    drop(EndOnDrop(Arc::clone(&shared)));
    assert_eq!(shared.budget.used(), 0);
}

#[test]
fn what_thousands_of_hot_feeds_have_taken_over_is_bounded_and_everyones_is_not_cut_for_it() {
    const FEEDS: usize = 1000;
    let limits = Limits::default().memory(64 << 20);
    let mut stand = Stand::with(limits);
    let viewer = stand.connect(1);
    let feeds: Vec<_> =
        (0..FEEDS).map(|number| stand.shared.topics.get(&number.to_string()).unwrap()).collect();
    let push = |number: usize| {
        let (feed, text) = (&feeds[number % FEEDS], format!("{}", number / FEEDS));
        stand.shared.push(feed, text.into(), false).unwrap();
    };
    (0..FEEDS).for_each(push); // from here on all of them are known to be hot
    for number in 0..200 * FEEDS {
        push(number);
        if number < 300 {
            stand.shared.broadcast("to everyone".into());
        }
    }
    let waits = |feed: &Arc<Topic>| feed.inbox.lock().queue.len();
    let all = feeds.iter().map(waits).sum::<usize>();
    let most = (64 << 20) / 4 / Entry::cost(&"".into());
    assert!(all <= most && all > most / 3, "{all} messages wait of {most}");
    assert_eq!(waits(stand.shared.topics.everyone()), 300);
    for feed in &feeds {
        let mut queue = std::mem::take(&mut feed.inbox.lock().queue);
        let newest = std::iter::from_fn(|| queue.pop()).last().unwrap();
        assert_eq!(newest.message.as_text(), Some("199"), "the oldest make room");
    }
    drop(viewer);
}

#[test]
fn a_feed_that_nobody_has_stays_until_all_of_it_has_been_taken_over() {
    let mut stand = Stand::new();
    stand.driver.engine.feeds.retention = Kept { messages: 0, age: 0 };
    let run = stand.shared.topics.get("run").unwrap();
    for _ in 0..2 * TAKES {
        stand.shared.push(&run, "x".into(), false).unwrap();
    }
    stand.shared.drop_handle(&run);
    stand.turn();
    assert!(stand.driver.engine.feeds.is_taking_over());
    stand.driver.engine.trim(run.place(), u64::MAX);
    stand.turn_until(|stand| !stand.driver.engine.feeds.is_taking_over());
    stand.turn_until(|stand| stand.shared.topics.count() == 0);
}

#[test]
fn followers_that_have_gone_are_taken_out_of_a_feed_that_nobody_pushes_to() {
    let mut stand = Stand::new();
    let run = stand.shared.topics.get("run").unwrap();
    drop(stand.connect_at("run", 40));
    stand.turn_until(|stand| stand.log_of(&run).followers.count() == 0);
    assert_eq!(stand.log_of(&run).followers.len(), 40, "or this test shows nothing");
    stand.turn_until(|stand| stand.log_of(&run).followers.len() == 0); // at the next tick
}

#[test]
fn a_round_that_takes_several_turns_marks_all_clients_before_it_delivers() {
    let mut stand = Stand::new();
    let viewers = stand.connect(3);
    let ids: Vec<_> = stand.shared.registry.all().iter().map(|client| client.id).collect();
    for id in ids {
        stand.shared.send(id, "first".into()).unwrap();
    }
    stand.shared.broadcast("second".into());
    let mut left = 2;
    assert!(
        stand
            .driver
            .engine
            .feeds
            .take_feeds(stand.driver.engine.clock.now, &mut usize::MAX.clone())
    );
    stand.driver.mark_told(&mut left);
    stand.driver.deliver();
    assert!(stand.driver.engine.feeds.is_taking_over());
    stand.turn_until(|stand| {
        !stand.driver.engine.feeds.is_taking_over() && stand.driver.owed.is_empty()
    });
    for mut viewer in viewers {
        viewer.set_nonblocking(true).unwrap();
        let mut bytes = Vec::new();
        let _ = viewer.read_to_end(&mut bytes);
        assert!(bytes.ends_with(b"\x81\x05first\x81\x06second"), "{bytes:?}");
    }
}

#[test]
fn a_tick_looks_at_so_many_connections_in_a_turn_and_goes_on_in_the_next() {
    let mut stand = Stand::new();
    let count = WALK + 30;
    let _silent: Vec<_> = (0..count).map(|_| TcpStream::connect(stand.address).unwrap()).collect();
    stand.turn_until(|stand| stand.driver.connections.len() == count);
    while !matches!(stand.turn(), Turn::Rest) {}
    let now = stand.driver.epoch.elapsed();
    stand.driver.epoch -= Duration::from_secs(11); // the time for a handshake is over
    stand.driver.next_tick = millis(now + Duration::from_secs(11));
    stand.driver.engine.clock.now = stand.driver.next_tick;
    stand.driver.tick();
    assert_eq!(stand.driver.connections.len(), count - WALK);
    assert!(matches!(stand.turn(), Turn::Rest));
    assert_eq!(stand.driver.connections.len(), 0);
}

#[test]
fn what_is_let_go_and_what_is_commanded_is_done_in_parts() {
    let mut stand = Stand::new();
    let _viewers = stand.connect(STEPS + 5);
    let run = stand.shared.topics.get("run").unwrap();
    stand.driver.engine.feeds.retention = Kept { messages: 0, age: 0 };
    for _ in 0..TRIM + 10 {
        stand.shared.push(&run, "x".into(), false).unwrap();
    }
    stand.turn_until(|stand| !stand.driver.engine.feeds.is_taking_over());
    stand.turn_until(|stand| stand.log_of(&run).bytes() == 0);

    for client in stand.shared.registry.all() {
        let close = CloseFrame::new(CloseCode::NORMAL, "");
        stand.shared.command(Command::Disconnect { id: client.id, close });
    }
    assert!(matches!(stand.turn(), Turn::More));
    assert_eq!(stand.driver.commands.len(), 5);
    stand.turn_until(|stand| stand.shared.registry.count() == 0);
}

#[test]
fn for_a_push_that_waits_a_few_followers_are_asked_in_a_turn_and_none_while_the_slowest_stays() {
    let mut stand = Stand::new();
    let viewers = stand.connect_at("run", 5);
    let run = stand.shared.topics.get("run").unwrap();
    let owed = |stand: &Stand| run.inbox.lock().owed.map(|owed| owed - stand.log_of(&run).bytes());
    let place = run.place();
    let find = |stand: &mut Stand, mut left| stand.driver.find_slowest(place, &mut left);
    assert_eq!([2, 2].map(|left| find(&mut stand, left)), [false, false]);
    assert_eq!(owed(&stand), None, "not all have been asked");
    assert!(find(&mut stand, 2));
    assert_eq!(owed(&stand), Some(0));
    assert!(find(&mut stand, 0), "nobody has moved");
    stand.shared.push(&run, "x".into(), false).unwrap();
    stand.turn_until(|stand| !stand.log_of(&run).followers.is_calling());
    assert!(!find(&mut stand, 4) && find(&mut stand, 1), "all have moved");
    let _one_more = stand.connect_at("run", 1);
    assert!(!find(&mut stand, 5) && find(&mut stand, 1), "the new one may be the slowest");
    drop(viewers);
    stand.turn_until(|stand| stand.log_of(&run).followers.count() == 1);
    assert!(find(&mut stand, 6) && find(&mut stand, 0));
}

#[test]
fn a_client_that_follows_and_unfollows_does_not_keep_the_slowest_follower_from_being_found() {
    let mut stand = Stand::new();
    let _viewers = stand.connect_at("run", 6);
    let run = stand.shared.topics.get("run").unwrap();
    let place = run.place();
    let slot = stand.shared.registry.all()[0].slot();
    let id = stand.driver.connections[slot].id();
    let is_found = (0..10).any(|_| {
        let is_found = stand.driver.find_slowest(place, &mut 2);
        stand.driver.engine.feeds.unfollow_early(place, id);
        stand.driver.engine.follow(place, id);
        is_found
    });
    assert!(is_found && run.inbox.lock().owed == Some(0));
}

#[test]
fn pushes_that_wait_at_several_feeds_each_have_their_slowest_follower_found() {
    let mut stand = Stand::new();
    let _viewers = ["a", "b"].map(|name| stand.connect_at(name, 6));
    let mut feeds = ["a", "b"].map(|name| stand.shared.topics.get(name).unwrap());
    feeds.sort_by_key(Arc::as_ptr);
    let [first, second] = &feeds;
    let place = first.place();
    let shared = Arc::clone(&stand.shared);
    let mut waits =
        feeds.each_ref().map(|feed| Box::pin(shared.push_wait(feed, "x".into(), PATIENCE)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waits.iter_mut().all(|wait| wait.as_mut().poll(&mut cx).is_pending()));
    stand.shared.budget.add(stand.shared.limits.memory); // so that both go on waiting
    let is_found = (0..10).any(|_| {
        stand.driver.serve_waiters(3);
        // The slowest one moves on.
        stand.driver.engine.feeds.logs[place].survey.take_if(|survey| survey.is_over);
        second.inbox.lock().owed.is_some()
    });
    assert!(is_found);
}

#[test]
fn all_who_were_closed_before_the_end_are_told_their_own_reason_however_many_they_are() {
    let mut stand = Stand::new();
    let viewers = stand.connect(STEPS + 5);
    for client in stand.shared.registry.all() {
        let close = CloseFrame::new(CloseCode::NORMAL, "enough");
        stand.shared.command(Command::Disconnect { id: client.id, close });
    }
    stand.shared.request_shutdown(PATIENCE, Goodbye::failed("diverged"));
    stand.turn_until(|stand| stand.shared.registry.count() == 0);
    for mut viewer in viewers {
        viewer.set_nonblocking(true).unwrap();
        let mut bytes = Vec::new();
        let _ = viewer.read_to_end(&mut bytes); // until nothing is there
        assert!(bytes.ends_with(b"enough"), "{bytes:?}");
    }
}

#[test]
fn a_hub_that_ends_samples_its_jobs_once_more_and_then_waits_for_its_clients_alone() {
    let mut stand = Stand::new();
    let _viewers = stand.connect(1);
    let registry = Arc::clone(&stand.shared.jobs.registry);
    let _job = JobBuilder::new(Some(registry), "loop".into()).start();
    stand.turn_until(|stand| stand.driver.sampling.next.is_some());
    stand.shared.request_shutdown(Duration::from_secs(600), Goodbye::finished("converged"));
    stand.turn_until(|stand| stand.driver.end.is_some());
    assert_eq!(stand.driver.sampling.next, None, "a past sample would keep the hub awake");
}

#[test]
fn the_state_of_a_job_that_finds_no_memory_is_told_when_there_is_some() {
    let mut stand = Stand::new();
    let _viewers = stand.connect(1);
    let registry = Arc::clone(&stand.shared.jobs.registry);
    let job = JobBuilder::new(Some(registry), "loop".into()).start();
    stand.turn_until(|stand| stand.driver.sampling.next.is_some());
    let rest = stand.shared.limits.memory - stand.shared.budget.used();
    stand.shared.budget.add(rest);
    job.finish();
    let refused = stand.shared.stats().refused_pushes.no_memory;
    stand.turn_until(|stand| stand.shared.stats().refused_pushes.no_memory > refused);
    let told = stand.shared.stats().pushed;
    stand.shared.budget.sub(rest);
    // The job's state, and the run's.
    stand.turn_until(|stand| stand.shared.stats().pushed >= told + 2);
}

#[test]
fn a_command_for_a_client_that_has_gone_does_not_hit_who_has_its_place() {
    let mut stand = Stand::new();
    let _client = stand.connect(1);
    let there = stand.shared.registry.all()[0].clone();
    let gone = ClientId::new(there.id.get() ^ 1).unwrap();
    let close = CloseFrame::new(CloseCode::NORMAL, "");
    stand.shared.command(Command::Disconnect { id: gone, close });
    stand.shared.command(Command::TooSlow { id: gone });
    stand.turn();
    assert!(stand.shared.commands.lock().is_empty());
    assert!(stand.shared.registry.get(there.id).is_some());
}

#[test]
fn who_is_closed_for_good_while_it_is_to_be_closed_for_being_too_slow_is_closed_for_good() {
    let mut stand = Stand::new();
    let _client = stand.connect(1);
    let client = stand.shared.registry.all()[0].clone();
    let too_slow = || {
        client.mailbox.lock().closed = true;
        stand.shared.command(Command::TooSlow { id: client.id });
    };
    too_slow();
    client.mailbox.lock().ended = true;
    let close = CloseFrame::new(CloseCode::NORMAL, "");
    stand.shared.command(Command::Disconnect { id: client.id, close });
    let mut events = stand.shared.listeners.listen(8);
    stand.turn_until(|stand| stand.shared.registry.get(client.id).is_none());
    let gone = Event::Gone { id: client.id, reason: DisconnectReason::ByHub };
    assert_eq!(events.try_recv(), Some(gone));
}

#[test]
fn who_has_come_back_is_not_closed_for_what_it_was_too_slow_for_before() {
    let mut stand = Stand::new();
    let _client = stand.connect(1);
    let client = stand.shared.registry.all()[0].clone();
    stand.shared.command(Command::TooSlow { id: client.id }); // and nothing is closed any more
    stand.turn();
    assert!(stand.shared.commands.lock().is_empty());
    assert!(stand.shared.registry.get(client.id).is_some());
}

#[test]
fn logs_make_way_for_a_push_where_slow_connections_hold_their_share_and_none_is_stuck() {
    let mut stand = Stand::new();
    let run = stand.shared.topics.get("run").unwrap();
    for _ in 0..100 {
        stand.shared.push(&run, "x".repeat(1000).into(), false).unwrap();
    }
    stand.turn_until(|stand| !stand.driver.engine.feeds.is_taking_over());
    let before = stand.log_of(&run).bytes();
    let share = stand.shared.limits.memory / 4 + 1;
    stand.shared.outboxes.add(share); // of connections that take a little now and then
    let rest = stand.shared.limits.memory - stand.shared.budget.used() - 100;
    stand.shared.budget.add(rest);
    let refused = stand.shared.push(&run, "x".repeat(1000).into(), false);
    assert_eq!(refused, Err(crate::hub::error::SendError::NoMemory));
    stand.turn();
    assert!(stand.log_of(&run).bytes() <= before / 2, "{before}");
    stand.shared.push(&run, "x".repeat(1000).into(), false).unwrap();
}

#[test]
fn nobody_who_is_connected_loses_anything_for_the_mail_of_the_absent() {
    const LIMIT: usize = 64 << 20;
    let mut stand = Stand::with(Limits::default().memory(LIMIT).mailbox(LIMIT));
    stand.driver.engine.admission.freshness = 0; // as much as its socket takes
    let run = stand.shared.topics.get("run").unwrap();
    let _stuck = stand.connect_at("run", 1);
    let away = stand.connect_v1(&[]);
    let id = stand.shared.registry.all().iter().find(|c| c.has_session()).unwrap().id;
    let is_away = |stand: &Stand| {
        stand.shared.registry.get(id).is_some_and(|client| client.mailbox.lock().away)
    };
    drop(away);
    stand.turn_until(is_away);
    for _ in 0..13 {
        stand.shared.send(id, vec![0; 1 << 20].into()).unwrap(); // 13 of 16 MiB
    }
    for _ in 0..16 {
        stand.shared.push(&run, vec![0; 1 << 20].into(), false).unwrap(); // more than the socket takes
        stand.turn();
    }
    let is_stuck =
        |stand: &Stand| stand.driver.connections.iter().any(|(_, c)| c.stuck_since().is_some());
    assert!(is_stuck(&stand), "or this test shows nothing");
    stand.driver.epoch -= Duration::from_millis(2 * stand.driver.engine.clock.timeouts.tick);
    stand.shared.outboxes.add(LIMIT / 4 + 1);
    stand.shared.absent.add(4 << 20);
    assert!(stand.shared.absent.is_over() && !stand.shared.budget.is_over());
    stand.turn_until(|stand| !stand.shared.absent.is_tight());
    stand.turn();
    assert_eq!(stand.shared.registry.count(), 2, "the absent one, and the stuck one");
}

#[test]
fn a_flush_waits_for_what_has_not_been_taken_over() {
    let mut stand = Stand::new();
    let _viewer = stand.connect(1);
    let written = stand.shared.counters.bytes_out.get();
    for _ in 0..2 * TAKES {
        stand.shared.broadcast("x".into()); // three bytes each: less than the first window
    }
    let mut flushed = stand.shared.flush(Duration::MAX);
    stand.turn();
    assert!(stand.driver.engine.feeds.is_taking_over(), "or this test shows nothing");
    stand.turn_until(|stand| stand.driver.flushes.is_empty());
    assert_eq!(flushed.try_recv(), Ok(Ok(())));
    let (written, all) = (stand.shared.counters.bytes_out.get() - written, 6 * TAKES as u64);
    assert!(written >= all, "{written} of {all} bytes");
}

#[test]
fn flushes_that_begin_together_look_at_all_connections_once_and_in_parts() {
    let mut stand = Stand::new();
    let _viewers = stand.connect(3);
    while !matches!(stand.turn(), Turn::Rest) {}
    stand.driver.connections.reserve(3000); // places that a walk passes over
    stand.driver.next_tick = u64::MAX; // which would give them up
    let mut flushed: Vec<_> = (0..5).map(|_| stand.shared.flush(Duration::MAX)).collect();
    assert!(matches!(stand.turn(), Turn::More), "the walk is not over");
    assert!(flushed[0].try_recv().is_err());
    let mut later = stand.shared.flush(Duration::MAX);
    stand.turn();
    let begun: Vec<_> = stand.driver.flushes.walks().collect();
    assert_eq!(begun, [5], "the later one waits for the end of the walk");
    stand.turn_until(|stand| stand.driver.flushes.is_empty());
    assert!(flushed.iter_mut().chain([&mut later]).all(|done| done.try_recv() == Ok(Ok(()))));
}

#[test]
fn a_flush_that_nobody_waits_for_any_more_is_forgotten() {
    let mut stand = Stand::new();
    let _stalled = stand.connect(1);
    let id = stand.shared.registry.all()[0].id;
    stand.shared.send(id, vec![0; 16 << 20].into()).unwrap();
    let waits = stand.shared.flush(Duration::MAX);
    stand.turn_until(|stand| !stand.driver.flushes.is_empty());
    drop(waits);
    stand.turn();
    assert!(stand.driver.flushes.is_empty());
}

#[test]
fn from_the_look_at_a_shutdown_on_nothing_is_taken_and_the_deadline_is_kept() {
    let mut stand = Stand::new();
    let _client = stand.connect(1);
    for within in [600_000, 50, 600_000].map(Duration::from_millis) {
        stand.shared.request_shutdown(within, Goodbye::ended());
    }
    stand.turn();
    assert!(stand.shared.topics.everyone().inbox.lock().closed);
    assert!(
        stand.driver.next_deadline().unwrap()
            <= stand.driver.epoch.elapsed() + Duration::from_millis(50)
    );
    stand.turn_until(|stand| stand.driver.connections.is_empty());
}

#[test]
fn the_end_is_told_in_parts_and_so_are_those_given_up_whose_time_is_over() {
    for within in [Duration::from_secs(600), Duration::ZERO] {
        let mut stand = Stand::new();
        let count = WALK + 30;
        let viewers = stand.connect(count);
        while !matches!(stand.turn(), Turn::Rest) {}
        stand.shared.broadcast("before".into());
        stand.shared.request_shutdown(within, Goodbye::ended());
        assert!(matches!(stand.turn(), Turn::More));
        let clients = stand.shared.registry.all();
        let untold = clients.iter().filter(|client| !client.mailbox.lock().ended).count();
        assert_eq!(untold, 30, "{within:?}");
        drop(clients);
        if within.is_zero() {
            stand.turn_until(|stand| stand.driver.connections.is_empty());
            continue;
        }
        stand.turn_until(|stand| stand.shared.registry.count() == 0);
        for mut viewer in viewers {
            viewer.set_nonblocking(true).unwrap();
            let mut bytes = Vec::new();
            let _ = viewer.read_to_end(&mut bytes); // until nothing is there
            assert!(bytes.windows(6).any(|text| text == b"before"), "{bytes:?}");
            assert!(bytes.ends_with(b"the hub has ended"), "{bytes:?}");
        }
    }
}

#[test]
fn a_client_that_was_closed_before_the_end_has_its_own_reason_however_many_there_are() {
    let mut stand = Stand::new();
    let viewers = stand.connect(2 * STEPS);
    for client in stand.shared.registry.all() {
        let close = CloseFrame::new(CloseCode::NORMAL, "own");
        stand.shared.command(Command::Disconnect { id: client.id, close });
    }
    stand.shared.request_shutdown(Duration::from_secs(600), Goodbye::ended());
    assert!(matches!(stand.turn(), Turn::More));
    assert_eq!(stand.driver.commands.len(), STEPS, "in parts");
    stand.turn_until(|stand| stand.driver.commands.is_empty());
    stand.turn();
    for mut viewer in viewers {
        viewer.set_nonblocking(true).unwrap();
        let mut bytes = Vec::new();
        let _ = viewer.read_to_end(&mut bytes); // until nothing is there
        assert!(bytes.ends_with(b"own"), "{bytes:?}");
    }
}

#[test]
fn a_driver_that_is_always_held_up_judges_all_the_same() {
    let mut stand = Stand::new();
    stand.driver.engine.clock.timeouts =
        (&Timeouts::default().handshake(Duration::from_millis(50))).into();
    let _silent = TcpStream::connect(stand.address).unwrap();
    stand.turn_until(|stand| stand.driver.connections.len() == 1);
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(25)); // two ticks and more: what holds it up
        stand.turn();
    }
    assert!(stand.driver.connections.is_empty());
}

#[test]
fn a_flood_of_strangers_from_one_address_does_not_keep_out_a_slow_request_from_another() {
    const LIMIT: usize = 8;
    let mut stand = Stand::with(Limits::default().handshakes(LIMIT));
    let slow = stand.come_from([10, 0, 0, 2]);
    let request = upgrade_of("/");
    let (first, second) = request.split_at(40);
    (&slow).write_all(first.as_bytes()).unwrap();
    stand.turn();
    let mut flood = Vec::new();
    for _ in 0..20 * LIMIT {
        flood.push(stand.come_from([10, 0, 0, 1]));
        stand.turn();
        assert!(stand.driver.connections.len() <= LIMIT);
    }
    (&slow).write_all(second.as_bytes()).unwrap();
    stand.turn_until(|stand| stand.shared.registry.count() == 1);
    assert_eq!(stand.driver.strangers.len(), LIMIT - 1);
    drop(flood);
    stand.turn_until(|stand| stand.driver.strangers.len() == 0);
    assert_eq!(stand.driver.connections.len(), 1);
}

#[test]
fn where_other_hubs_have_taken_the_descriptors_one_stranger_is_heard_and_no_client_goes() {
    let mut stand = Stand::new();
    let _clients = stand.connect(12);
    stand.shared.descriptors.set(16, 4); // a quarter of what is left would be three strangers
    let _strangers: Vec<_> = (0..5).map(|_| stand.come_from([10, 0, 0, 1])).collect();
    assert_eq!((stand.driver.strangers.len(), stand.shared.registry.count()), (1, 12));
}

#[test]
fn who_says_goodbye_and_keeps_the_socket_makes_way_for_newer_connections() {
    let mut stand = Stand::with(Limits::default().clients(2).handshakes(3));
    let mut sockets = stand.connect(1); // who stays
    for _ in 0..20 {
        let mut socket = stand.upgrade();
        stand.turn_until(|stand| stand.shared.registry.count() == 2);
        socket.write_all(b"\x88\x80\0\0\0\0").unwrap();
        stand.turn_until(|stand| stand.shared.registry.count() == 1);
        sockets.push(socket);
        assert!(stand.driver.connections.len() <= 5);
    }
    assert_eq!((stand.driver.connections.len(), stand.driver.parting.len()), (5, 4));
}

/// The frame begun is finished, since it cannot be taken back. The messages behind it are not sent.
#[test]
fn a_client_that_closes_gets_the_close_before_what_has_not_begun() {
    let mut stand = Stand::new();
    let (mut peer, ours) = tokio::io::duplex(1000); // less than a frame
    stand.driver.add_connection(Transport::boxed(ours), ([10, 0, 0, 1], 1).into());
    stand.runtime.block_on(peer.write_all(upgrade_of("/").as_bytes())).unwrap();
    stand.turn_until(|stand| stand.shared.registry.count() == 1);
    let mut received = Vec::with_capacity(1000);
    stand.runtime.block_on(peer.read_buf(&mut received)).unwrap(); // the greeting
    let id = stand.shared.registry.all()[0].id;
    for _ in 0..100 {
        stand.shared.send(id, vec![0; 1024].into()).unwrap();
    }
    stand.turn_until(|stand| stand.driver.connections.iter().any(|(_, c)| c.is_blocked()));
    stand.runtime.block_on(peer.write_all(b"\x88\x80\0\0\0\0")).unwrap();
    stand.turn_until(|stand| stand.shared.registry.count() == 0);
    received.clear();
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < PATIENCE, "waited in vain");
        stand.turn();
        let mut read = pin!(peer.read_buf(&mut received));
        let poll = read.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(0) = poll.map(Result::unwrap) {
            break;
        }
    }
    let frame = [&b"\x82\x7e\x04\0"[..], &[0; 1024], b"\x88\0"].concat();
    assert!(received == frame, "{} bytes", received.len());
}

#[test]
fn who_unfollows_and_follows_again_and_again_is_listed_once() {
    let mut stand = Stand::new();
    let _client = stand.connect(1);
    let id = stand.shared.registry.all()[0].id;
    let feed = stand.shared.topics.get("run").unwrap();
    for _ in 0..100 {
        stand.shared.follow(id, &feed).unwrap();
        stand.turn();
        stand.shared.unfollow(id, &feed).unwrap();
        stand.turn();
    }
    stand.shared.follow(id, &feed).unwrap();
    stand.turn();
    let place = feed.place();
    let log = &stand.driver.engine.feeds.logs[place];
    assert_eq!((log.followers.len(), log.followers.count()), (1, 1));
}

/// A stream that is not a TCP socket is a client like any other, also where it takes a little at a
/// time.
#[test]
fn a_client_on_any_stream_gets_all_and_its_close_is_answered_before_the_end() {
    let mut stand = Stand::new();
    let (mut peer, ours) = tokio::io::duplex(1000);
    stand.driver.add_connection(Transport::boxed(ours), ([10, 0, 0, 1], 1).into());
    let mut received = Vec::new();
    let mut turn_until =
        |stand: &mut Stand, peer: &mut DuplexStream, holds: &dyn Fn(&[u8]) -> bool| {
            let started = Instant::now();
            while !holds(&received) {
                assert!(started.elapsed() < PATIENCE, "waited in vain");
                stand.turn();
                let mut read = pin!(peer.read_buf(&mut received));
                let poll = read.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                if let Poll::Ready(count) = poll {
                    if count.unwrap() == 0 {
                        return received.clone(); // the end
                    }
                }
            }
            received.clone()
        };
    let write = |stand: &Stand, peer: &mut DuplexStream, bytes: &[u8]| {
        stand.runtime.block_on(peer.write_all(bytes)).unwrap();
    };
    write(&stand, &mut peer, upgrade_of("/").as_bytes());
    let greeted = turn_until(&mut stand, &mut peer, &|got| got.ends_with(b"}"));
    assert!(greeted.starts_with(b"HTTP/1.1 101 "), "{greeted:?}");
    stand.shared.broadcast(vec![7; 50_000].into());
    stand.shared.broadcast("last".into());
    let got = turn_until(&mut stand, &mut peer, &|got| got.ends_with(b"\x81\x04last"));
    assert!(got.windows(50_000).any(|bytes| bytes.iter().all(|byte| *byte == 7)));
    write(&stand, &mut peer, b"\x88\x82\0\0\0\0\x03\xe8"); // 1000
    let got = turn_until(&mut stand, &mut peer, &|_| false);
    assert!(got.ends_with(b"\x88\x02\x03\xe8"), "then the end");
    drop(peer);
    stand.turn_until(|stand| stand.driver.connections.is_empty());
}

/// Holds what it has taken until its gate is open, as TLS does while its socket is full.
struct Gated {
    inner: DuplexStream,
    held: Vec<u8>,
    gate: Arc<Mutex<(bool, Option<Waker>)>>,
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl AsyncWrite for Gated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, held, gate } = &mut *self;
        let mut gate = gate.lock().unwrap();
        if !gate.0 {
            gate.1 = Some(cx.waker().clone());
            return Poll::Pending;
        }
        while !held.is_empty() {
            let written = ready!(Pin::new(&mut *inner).poll_write(cx, held))?;
            held.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[test]
fn what_a_stream_has_taken_and_not_passed_on_is_flushed_when_it_can_be_and_counts_as_not_sent() {
    let mut stand = Stand::new();
    let (mut peer, inner) = tokio::io::duplex(1000);
    let gate = Arc::new(Mutex::new((true, None::<Waker>)));
    let gated = Gated { inner, held: Vec::new(), gate: Arc::clone(&gate) };
    stand.driver.add_connection(Transport::boxed(gated), ([10, 0, 0, 1], 1).into());
    stand.runtime.block_on(peer.write_all(upgrade_of("/").as_bytes())).unwrap();
    stand.turn_until(|stand| stand.shared.registry.count() == 1);
    let mut greeting = [0; 1000];
    let _ = stand.runtime.block_on(peer.read(&mut greeting)).unwrap();

    gate.lock().unwrap().0 = false;
    stand.shared.broadcast("late".into());
    let mut flushed = stand.shared.flush(PATIENCE);
    stand.turn_until(|_| gate.lock().unwrap().1.is_some());
    assert!(stand.driver.connections.iter().all(|(_, connection)| connection.is_blocked()));
    assert!(flushed.try_recv().is_err(), "it has not left");
    let waker = {
        let mut gate = gate.lock().unwrap();
        gate.0 = true;
        gate.1.take().unwrap()
    };
    waker.wake();
    let mut outcome = None;
    let started = Instant::now();
    while outcome.is_none() {
        assert!(started.elapsed() < PATIENCE, "waited in vain");
        stand.turn();
        outcome = flushed.try_recv().ok();
    }
    assert_eq!(outcome, Some(Ok(())));
    let mut message = [0; 6];
    stand.runtime.block_on(peer.read_exact(&mut message)).unwrap();
    assert_eq!(message, *b"\x81\x04late");
}
