//! The driver: the one task that owns the listener and every connection.
//!
//! It works in turns. A turn takes a bounded number of steps of each kind (accept, sockets that
//! are ready, mailboxes, the fan-out of what was broadcast), so that a handshake or a ping does not
//! wait behind a long fan-out; between turns the runtime looks at the sockets. With nothing to do
//! it rests: while pushes keep coming it looks by itself every millisecond, so that a caller in a
//! hot loop does not pay for waking it; after some silence, and soon after a push that came alone, it sleeps until it is rung for.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use slab::Slab;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::handshake::HeadLimits;
use crate::hub::client::addresses::Strangers;
use crate::hub::conn::phase::{Connection, Over};
use crate::hub::driver::flush::Flushes;
use crate::hub::driver::listener;
use crate::hub::driver::listener::Listener;
use crate::hub::engine::feeds::TRIM;
use crate::hub::engine::parts::{Engine, Farewell};
use crate::hub::events::DisconnectReason;
use crate::hub::feed::log::Survey;
use crate::hub::goodbye::Goodbye;
use crate::hub::primitives::bell::ReadyList;
use crate::hub::primitives::moment::millis;
use crate::hub::shared::state::{Command, Shared};
use crate::hub::shared::waiters::{First, Target};

/// Sockets served, of each kind, before the runtime looks at the sockets again.
const STEPS: usize = 64;

/// What a turn takes over of what callers have pushed: messages and values, and as many clients and feeds that have
/// something new.
const TAKES: usize = 2048;

/// Connections, clients and feeds that a tick looks at in one turn.
const WALK: usize = 256;

/// Followers that are asked in a turn where they stand, for pushes that wait until the slowest has room: more than can
/// begin to follow in a turn, so that all are asked in the end.
const SURVEY: usize = 2048;

/// How often relief is given at most, in milliseconds, while it does not bring the hub below its memory limit: it looks at
/// all clients and feeds.
const RELIEF_EVERY: u64 = 10;

/// Bytes written to the followers of one feed before the next feed's turn.
const BYTES_OF_FEED: u64 = 512 << 10;

/// How long serving sockets of one kind goes on in a turn, since one of them may be owed megabytes. The clock is looked at
/// after some sockets, or some bytes.
const SLICE: Duration = Duration::from_millis(1);
const SLICE_STEPS: usize = 8;
const SLICE_BYTES: u64 = 64 << 10;

struct Slice {
    began: Instant,
    steps: usize,
    /// What had been written when the clock was looked at.
    written: u64,
    long: Duration,
}

/// Followers of one feed that are written to before the next feed's: few, so that a feed with few followers waits
/// for few of each other feed; and more than two, since from the third on they share what the second had encoded.
const CALLS: usize = 8;

/// How long after the last push the driver goes on looking by itself, in milliseconds: while they come closer together
/// than that, and after one that came alone. (A look costs as much as two deliveries.)
const LOOK_FOR: u64 = 10;
const LOOK_FIRST: u64 = 2;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_micros(500); // which the runtime's timer rounds up

/// How long to look after a push, where there was none for so long before it.
fn look_for(silence: u64) -> u64 {
    if silence <= LOOK_FOR { LOOK_FOR } else { LOOK_FIRST }
}

pub(crate) struct Driver {
    engine: Engine,
    /// Given up when the hub has ended.
    listener: Option<Listener>,
    connections: Slab<Connection>,
    ready: Arc<ReadyList>,
    /// Keys taken from the ready list, and not yet served.
    todo: VecDeque<usize>,
    /// The room of the ready list that is not in use.
    taken: Vec<usize>,
    /// Keys of connections that are owed something, each once. Who is served and then owed more
    /// stands at the end again, so that nobody is always last.
    owed: VecDeque<usize>,
    /// Commands that have not been carried out yet.
    commands: VecDeque<Command>,
    /// Feeds that have something new, and whose followers are not called yet.
    fresh: VecDeque<usize>,
    /// Whether a client has mail, or other feeds to follow, since the last round ended.
    was_told: bool,
    /// Feeds whose followers are being called, since there is something new.
    calling: VecDeque<usize>,
    /// How many clients are being written what their sockets have not taken.
    blocked: usize,
    /// Connections that are not, and never were, a client's.
    strangers: Strangers,
    /// Keys and serial numbers of connections that are a client's no more, and have not ended yet, oldest first.
    /// Those that have ended are passed over.
    parting: VecDeque<(usize, u32)>,
    /// The serial number of the newest connection: a key may be another connection's by now.
    serial: u32,
    epoch: Instant,
    next_tick: u64,
    /// When there was a push last, and until when it looks for more by itself.
    pushed_at: u64,
    look_until: u64,
    flushes: Flushes,
    /// The hub's end, once that is decided.
    end: Option<End>,
    /// How far the tick has come, if one is under way.
    walk: Option<Walk>,
    /// Whether feeds hold more for nobody than there was time to let go.
    more_to_trim: bool,
    /// When the memory limit is looked after again, since it could not be kept.
    relieve_at: u64,
    /// How many lines of pushes that wait have not been looked at since there may be more room; `usize::MAX`: all.
    unlooked: usize,
    slice: Duration,
    /// Whether the last tick was let pass because the driver had been held up.
    pardoned: bool,
}

/// A tick looks at everything there is, in as many turns as it takes.
enum Walk {
    /// Deadlines, from the connection at this place on.
    Connections(usize),
    /// Clients that have not come back in time.
    Sessions,
    /// Clients that are away, from the one at this place among those on: what is kept for them.
    Held(usize),
    /// What feeds hold for nobody, from the feed at this place on.
    Feeds(usize),
}

/// The driver in its own process. A runtime of the program's may be forked with it: there, what the runtime polls, and
/// the sockets, are the parent's, whom closing them by this runtime would disturb.
struct Own(Option<Driver>);

impl Own {
    /// The driver, unless this is another process.
    fn get(&mut self) -> Option<&mut Driver> {
        let driver = self.0.take_if(|driver| driver.engine.shared.process.is_another());
        std::mem::forget(driver);
        self.0.as_mut()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.get();
    }
}

/// The hub's end, which takes as many turns as it needs.
struct End {
    /// By when everything is to have ended.
    by: u64,
    goodbye: Arc<Goodbye>,
    /// Whether that is over: connections are given up, and nobody is let in.
    gives_up: bool,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// What was commanded before comes first: a client that was closed is told its own reason.
    Commands,
    /// Connections, from the one at this place on, are told, or given up.
    Connections(usize),
    /// Clients that are away, among them those that have lost their connections before they were told.
    Away,
    /// What is left are connections that end.
    Told,
}

enum Turn {
    /// There is more to do at once.
    More,
    Rest,
    Ended,
}

impl Driver {
    pub(crate) fn new(engine: Engine, listener: Listener) -> Self {
        let ready = ReadyList::new(Arc::clone(&engine.shared.bell));
        Self {
            engine,
            listener: Some(listener),
            connections: Slab::new(),
            ready,
            todo: VecDeque::new(),
            taken: Vec::new(),
            owed: VecDeque::new(),
            commands: VecDeque::new(),
            fresh: VecDeque::new(),
            was_told: false,
            calling: VecDeque::new(),
            blocked: 0,
            strangers: Strangers::default(),
            parting: VecDeque::new(),
            serial: 0,
            epoch: Instant::now(),
            next_tick: 0,
            pushed_at: 0,
            look_until: 0,
            flushes: Flushes::default(),
            end: None,
            walk: None,
            more_to_trim: false,
            relieve_at: 0,
            unlooked: 0,
            slice: SLICE,
            pardoned: false,
        }
    }

    /// Runs until the hub has been shut down and every connection has ended.
    pub(crate) async fn run(self) {
        let mut timer = Box::pin(sleep_until(self.epoch));
        let mut own = Own(Some(self));
        while let Some(driver) = own.get() {
            match poll_fn(|cx| Poll::Ready(driver.turn(cx))).await {
                Turn::More => tokio::task::yield_now().await,
                Turn::Rest => driver.rest(timer.as_mut()).await,
                Turn::Ended => {
                    if let Some(listener) = driver.listener.take() {
                        listener.close();
                    }
                    return;
                }
            }
        }
        std::future::pending::<()>().await;
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.engine.shared)
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Turn {
        self.engine.shared.bell.register(cx.waker());
        self.engine.clock.now = millis(self.epoch.elapsed());
        self.look_for_shutdown();
        let gives_up = self.go_on_ending();
        let more_to_accept = !gives_up && self.accept(cx);
        self.tick();
        self.serve_ready();
        self.serve_commands();
        self.take_pushes();
        self.deliver();
        self.serve_waiters(SURVEY);
        self.flushes.begin(&mut self.connections, &self.engine);
        self.flushes.answer(self.engine.shared.registry.count());
        let all_told = self.end.as_ref().is_some_and(|end| end.stage == Stage::Told);
        if all_told && self.connections.iter().all(|(_, c)| c.is_in_handshake()) {
            self.flushes.give_up(self.engine.shared.registry.count()); // nobody is left to be looked at
            return Turn::Ended;
        }
        let more = more_to_accept
            || !self.todo.is_empty()
            || !self.commands.is_empty()
            || self.walk.is_some()
            || self.end.as_ref().is_some_and(|end| end.stage != Stage::Told)
            || self.more_to_trim
            || self.unlooked > 0
            || (self.engine.clock.now >= self.relieve_at && self.lacks_memory())
            || !self.owed.is_empty()
            || !self.fresh.is_empty()
            || !self.calling.is_empty()
            || self.engine.feeds.has_hidden()
            || self.flushes.is_beginning();
        if more { Turn::More } else { Turn::Rest }
    }

    /// Waits until there may be something to do.
    async fn rest(&mut self, mut timer: Pin<&mut Sleep>) {
        let bell = Arc::clone(&self.engine.shared.bell);
        let mut rested = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut rested, true) {
                return Poll::Ready(());
            }
            let mut wake_at = self.next_deadline();
            if self.engine.clock.now < self.look_until {
                let look = self.epoch.elapsed() + LOOK_EVERY;
                wake_at = Some(wake_at.map_or(look, |at| at.min(look)));
            } else if !self.engine.shared.fall_asleep() {
                return Poll::Ready(());
            }
            if let Some(at) = wake_at {
                timer.as_mut().reset(self.epoch + at);
                return timer.as_mut().poll(cx);
            }
            Poll::Pending
        })
        .await;
        bell.rise();
    }

    fn next_deadline(&self) -> Option<Duration> {
        let tick = self.has_to_tick().then_some(self.next_tick);
        let accept = self.listener.as_ref().and_then(|l| l.resumes_at(self.engine.clock.now));
        let waits = self.engine.shared.waiters.first_deadline();
        let waits = waits.into_iter().chain(self.flushes.first_deadline()).min().map(|deadline| {
            // Rounded up, so that it is over by then.
            1 + self.engine.clock.now
                + millis(deadline.saturating_duration_since(std::time::Instant::now()))
        });
        let relief = self.lacks_memory().then_some(self.relieve_at);
        let end_by = self.end.as_ref().map(|end| end.by);
        [tick, accept, end_by, waits, relief].into_iter().flatten().min().map(Duration::from_millis)
    }

    // ---- pushes that wait ----

    /// Wakes the first of those that wait at a client or a feed, where there is room for it. Asks so many followers at most.
    fn serve_waiters(&mut self, mut survey: usize) {
        let shared = self.shared();
        let (lines, joined) = shared.waiters.look();
        if lines == 0 {
            self.unlooked = 0;
            return;
        }
        shared.waiters.expire(std::time::Instant::now(), STEPS);
        // Only what connections take, and what is let go, makes room.
        self.unlooked = if joined { lines } else { self.unlooked.min(lines) };
        let most = STEPS.min(self.unlooked);
        let mut is_known = true;
        for first in shared.waiters.firsts(most) {
            match self.has_answer(&first, &mut survey) {
                Some(true) => shared.waiters.call(&first),
                Some(false) => {}
                None => {
                    shared.waiters.look_again_at(&first); // first of all, in the next turn
                    is_known = false;
                    break;
                }
            }
        }
        self.unlooked = if is_known { self.unlooked - most } else { lines };
    }

    /// Whether a push that waits gets an answer now. `None`: the followers of its feed have not all been asked yet.
    fn has_answer(&mut self, first: &First, left: &mut usize) -> Option<bool> {
        let shared = self.shared();
        match &first.target {
            Target::Client(id) => Some(shared.has_answer_at_client(*id, first.cost)),
            Target::Feed(topic) => {
                let place = topic.place.load(Ordering::Relaxed);
                let log = self.engine.feeds.get(place);
                let is_known = log.is_some_and(|log| Arc::ptr_eq(&log.topic, topic));
                if is_known && !self.find_slowest(place, left) {
                    return None;
                }
                Some(shared.has_answer_at_feed(topic, first.cost))
            }
        }
    }

    /// Finds out what the slowest follower of a feed has not been handed, and tells callers. Asks `left` followers at most:
    /// whether these were enough. While the slowest does not move nobody else is asked.
    fn find_slowest(&mut self, place: usize, left: &mut usize) -> bool {
        let Self { engine, connections, .. } = self;
        let position = |(key, serial): (usize, u32)| {
            let connection = connections.get(key).filter(|c| c.follows(place, serial))?;
            let mut position = None;
            connection.cursors(|at, cursor, _| {
                if at == place {
                    position = Some(cursor.log);
                }
            });
            position
        };
        let between = engine.feeds.bytes_between(place);
        let Some(log) = engine.feeds.get_mut(place) else { return true };
        let mut survey = match log.survey.take() {
            // Where nobody follows it, what is taken over makes room.
            Some(survey)
                if survey.is_over && survey.slowest.and_then(position) == Some(survey.least) =>
            {
                log.survey = Some(survey);
                return true;
            }
            Some(survey) if !survey.is_over => survey,
            _ => Survey::of(&mut log.followers),
        };
        while log.followers.is_asking() {
            if *left == 0 {
                log.survey = Some(survey);
                return false;
            }
            *left -= 1;
            let Some(follower) = log.followers.next_asked() else { continue };
            if let Some(position) = position(follower).filter(|position| *position < survey.least) {
                (survey.slowest, survey.least) = (Some(follower), position);
            }
        }
        survey.is_over = true;
        log.tell_owed(survey.least, between);
        log.survey = Some(survey);
        true
    }

    /// Whether there is anything that time changes: a connection, a client that may come back, or a feed that has a name.
    fn has_to_tick(&self) -> bool {
        !self.connections.is_empty()
            || !self.engine.clients.sessions.is_empty()
            || self.engine.feeds.logs.len() > 1
    }

    // ---- accepting ----

    /// Whether there may be more to accept.
    fn accept(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..STEPS {
            let Some(listener) = &mut self.listener else { return false };
            let (now, journal) = (self.engine.clock.now, &self.engine.shared.journal);
            let Poll::Ready((stream, mut address)) = listener.poll_accept(cx, now, journal) else {
                return false;
            };
            // On a socket for both, an IPv4 address comes as a part of IPv6.
            address.set_ip(address.ip().to_canonical());
            listener::prepare_accepted(&stream);
            self.take_in(stream, address);
        }
        true
    }

    /// One connection more, for which others make way where there are too many.
    fn take_in(&mut self, stream: TcpStream, address: SocketAddr) {
        let ticked = self.has_to_tick();
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        self.serial = self.serial.wrapping_add(1);
        let deadline = self.engine.clock.now + self.engine.clock.timeouts.handshake;
        let waker = self.ready.waker(key);
        let head = HeadLimits::default().bytes(self.engine.shared.limits.request_head);
        entry.insert(Connection::new(stream, address, waker, self.serial, deadline, head));
        if !ticked {
            self.next_tick = self.engine.clock.now + self.engine.clock.timeouts.tick;
        }
        self.strangers.enter(key, address.ip());
        self.engine.shared.descriptors.count(self.connections.len());
        // Looked at after the others: its request comes a moment later, as a rule.
        self.todo.push_back(key);
        let room = self.engine.shared.room();
        if self.strangers.len() > room.handshakes {
            self.end_a_stranger(room.handshakes);
        }
        // Where other hubs have taken what clients here had, one who asks is still heard.
        if self.connections.len() > room.all()
            && !self.end_oldest_parting()
            && self.strangers.len() > 1
        {
            self.end_a_stranger(1);
        }
    }

    /// A connection that is not a client's makes way for newer ones: real requests take milliseconds, so that peers
    /// who send nothing, or take no answer, keep nobody out. One from the place that most are from, so that a peer
    /// who opens them without pause does not keep out those whose requests take longer.
    fn end_a_stranger(&mut self, limit: usize) {
        if let Some(key) = self.strangers.who_makes_way() {
            self.step(key, |connection, engine| connection.make_way(limit, engine));
        }
    }

    /// The oldest connection that is a client's no more makes way: peers who say goodbye and keep their sockets
    /// take no more of them than there may be connections. Whether there was one.
    fn end_oldest_parting(&mut self) -> bool {
        self.forget_parted();
        let Some((key, _)) = self.parting.pop_front() else { return false };
        self.step(key, |_, _| Err(Over));
        true
    }

    /// Passes over the oldest ones that have ended.
    fn forget_parted(&mut self) {
        while let Some(&(key, serial)) = self.parting.front() {
            if self.connections.get(key).is_some_and(|connection| connection.is(serial)) {
                return;
            }
            self.parting.pop_front();
        }
    }

    // ---- serving ----

    /// One step of one connection, if it is still there; it goes when it is over.
    fn step(
        &mut self,
        key: usize,
        step: impl FnOnce(&mut Connection, &mut Engine) -> Result<(), Over>,
    ) {
        self.step_one(key, step);
        while let Some((key, serial)) = self.engine.clients.sessions.taken_over.pop() {
            if self.connections.get(key).is_some_and(|connection| connection.is(serial)) {
                self.step_one(key, Connection::be_taken_over);
            }
        }
        if std::mem::take(&mut self.engine.intake.is_crowded) {
            self.give_up_arriving();
        }
    }

    /// What peers have sent takes more than its share of the memory: messages that are arriving make way, those that
    /// began first, until a part of the share is free. Real ones take milliseconds.
    fn give_up_arriving(&mut self) {
        let arriving = |(key, connection): (usize, &Connection)| {
            connection.arriving_since().map(|since| (since, key))
        };
        let mut arriving: Vec<_> = self.connections.iter().filter_map(arriving).collect();
        arriving.sort_unstable();
        for (_, key) in arriving {
            if !self.engine.shared.inbound.is_tight() {
                return;
            }
            self.step_one(key, Connection::give_up_arriving);
        }
    }

    fn step_one(
        &mut self,
        key: usize,
        step: impl FnOnce(&mut Connection, &mut Engine) -> Result<(), Over>,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        self.unlooked = usize::MAX;
        let (was_stranger, was_blocked) = (connection.is_stranger(), connection.is_blocked());
        let was_parting = connection.is_parting();
        let result = step(connection, &mut self.engine);
        if result.is_ok() && !was_parting && connection.is_parting() {
            self.parting.push_back((key, connection.serial()));
        }
        if was_stranger && (result.is_err() || !connection.is_stranger()) {
            self.strangers.leave(key);
        }
        let is_blocked = result.is_ok() && connection.is_blocked();
        self.blocked = self.blocked + usize::from(is_blocked) - usize::from(was_blocked);
        if result.is_err() {
            self.connections.remove(key);
            self.engine.shared.descriptors.count(self.connections.len());
            if self.connections.is_empty() {
                self.parting.clear();
                self.connections.shrink_to_fit();
            }
        } else if connection.has_more() && connection.list() {
            self.owed.push_back(key);
        }
        if !self.flushes.is_empty() {
            self.flushes.look(key, self.connections.get_mut(key), &self.engine);
        }
    }

    /// Bytes that have been handed to sockets so far.
    fn written(&self) -> u64 {
        self.engine.shared.counters.bytes_out.get()
    }

    fn slice(&self) -> Slice {
        Slice { began: Instant::now(), steps: 0, written: self.written(), long: self.slice }
    }

    /// Whether one step more is to be the last of this kind in this turn.
    fn is_over(&self, slice: &mut Slice) -> bool {
        slice.steps += 1;
        let written = self.written();
        if slice.steps % SLICE_STEPS != 0 && written - slice.written < SLICE_BYTES {
            return false;
        }
        slice.written = written;
        slice.began.elapsed() >= slice.long
    }

    fn serve_ready(&mut self) {
        self.ready.swap(&mut self.taken);
        self.todo.extend(self.taken.drain(..));
        let mut slice = self.slice();
        for _ in 0..STEPS {
            let Some(key) = self.todo.pop_front() else { return };
            self.step(key, |connection, engine| connection.ready(engine, key));
            if self.is_over(&mut slice) {
                return;
            }
        }
    }

    fn serve_commands(&mut self) {
        self.commands.extend(self.engine.shared.commands.lock().drain(..));
        for _ in 0..STEPS {
            let Some(command) = self.commands.pop_front() else { return };
            let (Command::Disconnect { id, .. } | Command::TooSlow { id }) = command;
            let Some(client) = self.engine.shared.registry.get(id) else { continue };
            let (closed, ended) = {
                let mailbox = client.mailbox.lock();
                (mailbox.closed, mailbox.ended)
            };
            let is_too_slow = matches!(command, Command::TooSlow { .. });
            if is_too_slow && (ended || !closed) {
                continue; // the program has closed it for good since, or it has come back
            }
            // Where it is now: it may have come back since.
            let key = client.key();
            let there = self.connections.get(key).and_then(Connection::client);
            if there.is_none_or(|there| there.id != id) {
                let reason =
                    if is_too_slow { DisconnectReason::TooSlow } else { DisconnectReason::ByHub };
                self.engine.end_detached(id, reason);
            } else {
                self.step(key, |connection, engine| match command {
                    Command::Disconnect { close, .. } => {
                        let deadline = engine.clock.now + engine.clock.timeouts.close;
                        connection.leave(engine, close, deadline)
                    }
                    Command::TooSlow { .. } => connection.drop_too_slow(engine),
                });
            }
        }
    }

    fn take_pushes(&mut self) {
        if self.engine.clock.now >= self.relieve_at && self.lacks_memory() {
            self.relieve();
        }
        // All are marked before any is written to: what was pushed to one of them and then to
        // everyone is merged in that order, whoever's turn comes first.
        let mut left = TAKES;
        if self.engine.feeds.take_feeds(self.engine.clock.now, &mut left) {
            self.mark_told(&mut left);
        }
        self.call_fresh();
    }

    /// Marks the clients that the round has been told of, and ends it when all are.
    fn mark_told(&mut self, left: &mut usize) {
        while *left > 0 {
            let Some(key) = self.engine.feeds.next_told() else { return self.end_round() };
            *left -= 1;
            self.was_told = true;
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.mark_mail();
            let followed = connection.follow_as_told(&mut self.engine, key);
            *left = left.saturating_sub(followed);
            if connection.list() {
                self.owed.push_back(key);
            }
        }
    }

    fn end_round(&mut self) {
        let mut fresh = self.engine.feeds.end_round();
        if !fresh.is_empty() {
            self.unlooked = usize::MAX;
        }
        if !fresh.is_empty() || std::mem::take(&mut self.was_told) {
            let now = self.engine.clock.now;
            let silence = now.saturating_sub(std::mem::replace(&mut self.pushed_at, now));
            self.look_until = now + look_for(silence);
        }
        self.fresh.extend(fresh.drain(..));
        self.engine.feeds.keep_fresh(fresh);
    }

    /// Calls the followers of feeds that have something new.
    fn call_fresh(&mut self) {
        for _ in 0..TAKES {
            let Some(place) = self.fresh.pop_front() else { return };
            self.call_followers(place);
        }
    }

    /// A feed has something new: everyone who follows it is called.
    fn call_followers(&mut self, place: usize) {
        let (connections, shared) = (&self.connections, self.shared());
        let begins = self.engine.feeds.call_followers(place, |key, serial, lost| {
            let connection = connections.get(key).filter(|c| c.follows(place, serial));
            connection.map(|connection| connection.count_skipped(&shared, lost)).is_some()
        });
        if begins {
            self.calling.push_back(place);
        }
    }

    /// Whether a push was refused for want of memory, or the limit is exceeded.
    fn lacks_memory(&self) -> bool {
        let shared = &self.engine.shared;
        shared.starved.load(Ordering::Relaxed) || shared.budget.is_over() || shared.absent.is_over()
    }

    /// Makes room where the hub's memory limit is reached. What has been copied for connections that do not take it
    /// is theirs, and they make way first where that is much. Then the fullest mailboxes and the longest logs do, and
    /// then the connection that has taken nothing for longest, which may be what a large message waits for.
    fn relieve(&mut self) {
        let shared = self.shared();
        self.unlooked = usize::MAX;
        if self.engine.relieve_absent() {
            return; // there is more to be had in the next turn
        }
        if !shared.starved.load(Ordering::Relaxed) && !shared.budget.is_over() {
            return self.relieve_later(); // only the absent had to lose something
        }
        if shared.outboxes.is_over() {
            self.give_up_stuck(|_| shared.outboxes.is_over());
            if !shared.outboxes.is_over() && !shared.budget.is_over() {
                shared.starved.store(false, Ordering::Relaxed);
                return; // nobody else has to lose anything
            }
        }
        if self.engine.relieve() {
            return;
        }
        shared.starved.store(false, Ordering::Relaxed);
        if shared.budget.is_over() {
            self.give_up_stuck(|given_up| given_up == 0);
        }
        self.relieve_later();
    }

    fn relieve_later(&mut self) {
        if self.engine.shared.budget.is_tight() || self.engine.shared.absent.is_tight() {
            self.relieve_at = self.engine.clock.now + RELIEF_EVERY;
        }
    }

    /// Gives up connections that have taken nothing of what they are being written, those first that have taken
    /// nothing for longest, while there is `more` to do, given how many have been.
    fn give_up_stuck(&mut self, more: impl Fn(usize) -> bool) {
        // Not those that are only in the middle of a message.
        let before = self.engine.clock.now.saturating_sub(self.engine.clock.timeouts.tick);
        let stuck = |(key, connection): (usize, &Connection)| {
            Some((connection.stuck_since().filter(|since| *since < before)?, key))
        };
        let mut stuck: Vec<_> = self.connections.iter().filter_map(stuck).collect();
        stuck.sort_unstable();
        for (given_up, (_, key)) in stuck.into_iter().enumerate() {
            if !more(given_up) {
                return;
            }
            self.step(key, |connection, engine| {
                connection.abort(engine, DisconnectReason::TooSlow);
                Err(Over)
            });
        }
    }

    /// Writes to those who are owed something.
    fn deliver(&mut self) {
        let mut slice = self.slice();
        for _ in 0..STEPS.min(self.owed.len()) {
            let Some(key) = self.owed.pop_front() else { break };
            self.step(key, Connection::take_listed);
            if self.is_over(&mut slice) {
                break;
            }
        }
        self.call();
        // When all have all, what is not kept for others can go at once; else at the next tick.
        let all_served = self.owed.is_empty() && self.fresh.is_empty() && self.calling.is_empty();
        self.more_to_trim = false;
        if all_served && self.blocked == 0 && !self.engine.feeds.has_hidden() {
            // What is under way to a client with a session may have to be sent again: the tick asks for that.
            if self.engine.clients.sessions.is_empty() {
                if self.engine.feeds.has_touched() {
                    self.unlooked = usize::MAX;
                }
                self.more_to_trim = self.engine.feeds.trim_touched(WALK, self.engine.clock.now);
            }
        }
    }

    /// Writes to followers of feeds that have something new. Feeds take turns: a feed that is pushed to without pause
    /// always has followers left to call.
    fn call(&mut self) {
        let (mut left, mut slice) = (STEPS, self.slice());
        while left > 0 && slice.steps < STEPS {
            let Some(place) = self.calling.pop_front() else { return };
            let most = left.min(CALLS);
            let (calls, is_over) = self.call_some(place, most, &mut slice);
            left -= calls.max(1);
            if !is_over {
                self.calling.push_back(place);
            }
        }
    }

    /// Writes to the next followers of one feed: how many were called, and whether all have been.
    fn call_some(&mut self, place: usize, most: usize, slice: &mut Slice) -> (usize, bool) {
        let begun = self.written();
        for calls in 0..most {
            if self.written() - begun > BYTES_OF_FEED {
                return (calls, self.is_called(place));
            }
            let called =
                self.engine.feeds.get_mut(place).and_then(|log| log.followers.next_called());
            let Some((key, serial)) = called else { return (calls, true) };
            if self.connections.get(key).is_some_and(|c| c.follows(place, serial)) {
                self.step(key, Connection::flush);
            }
            if self.is_over(slice) {
                slice.steps = STEPS;
                return (calls + 1, self.is_called(place));
            }
        }
        (most, self.is_called(place))
    }

    /// Whether no follower of a feed is left to be called: then the feed is not in the queue, and its next news puts it there.
    fn is_called(&self, place: usize) -> bool {
        !self.engine.feeds.get(place).is_some_and(|log| log.followers.is_calling())
    }

    /// Takes out of a feed the followers that have gone, where they are many: if nobody pushes to it, nobody else does.
    /// How many were looked at.
    fn sweep_followers(&mut self, place: usize) -> usize {
        let Some(log) = self.engine.feeds.get_mut(place) else { return 0 };
        if !log.followers.is_littered() {
            return 0;
        }
        let mut seen = 0;
        log.followers.retain(|key, serial| {
            seen += 1;
            self.connections.get(key).is_some_and(|c| c.follows(place, serial))
        });
        seen
    }

    // ---- time ----

    fn tick(&mut self) {
        if self.walk.is_some() {
            return self.go_on_walking();
        }
        if self.engine.clock.now < self.next_tick {
            return;
        }
        // Held up for a whole tick, this thread has not read what its peers sent in time. It does
        // that now and judges at the next tick; but only once, or it might never judge.
        let held_up = self.engine.clock.now >= self.next_tick + self.engine.clock.timeouts.tick;
        self.next_tick = self.engine.clock.now + self.engine.clock.timeouts.tick;
        if held_up && !std::mem::replace(&mut self.pardoned, true) {
            return;
        }
        self.pardoned = false;
        self.engine.reports.tell_of_panics(self.engine.clock.now, &self.engine.shared.journal);
        self.engine.shared.descriptors.look();
        let connections = &self.connections;
        self.strangers.shrink();
        let is_there = |&(key, serial): &(usize, u32)| {
            connections.get(key).is_some_and(|connection| connection.is(serial))
        };
        self.parting.retain(is_there);
        if self.parting.len() < self.parting.capacity() / 4 {
            self.parting.shrink_to_fit();
        }
        if self.connections.len() < self.connections.capacity() / 4 {
            self.connections.shrink_to_fit();
        }
        self.engine.feeds.begin_needed();
        self.walk = Some(Walk::Connections(0));
        self.go_on_walking();
    }

    /// Looks at the next deadlines, and at the next feeds when all connections have been looked at.
    fn go_on_walking(&mut self) {
        self.unlooked = usize::MAX;
        let mut left = WALK;
        while let Some(walk) = self.walk.take() {
            if left == 0 {
                self.walk = Some(walk);
                return;
            }
            self.walk = match walk {
                Walk::Connections(key) if key < self.connections.capacity() => {
                    left -= 1;
                    self.step(key, Connection::tick);
                    if let Some(connection) = self.connections.get(key) {
                        let engine = &mut self.engine;
                        connection.cursors(|place, cursor, unanswered| {
                            engine.feeds.need(place, cursor, unanswered);
                        });
                    }
                    Some(Walk::Connections(key + 1))
                }
                Walk::Connections(_) => Some(Walk::Sessions),
                Walk::Sessions => {
                    let ended = self.engine.expire_sessions(left);
                    let is_over = ended < left;
                    left -= ended;
                    Some(if is_over { Walk::Held(0) } else { Walk::Sessions })
                }
                Walk::Held(index) => match self.engine.clients.held.stands(index) {
                    Some(feeds) => {
                        left = left.saturating_sub(1 + feeds / 8);
                        self.engine.hold_on(index);
                        Some(Walk::Held(index + 1))
                    }
                    None => Some(Walk::Feeds(0)),
                },
                Walk::Feeds(place) if place < self.engine.feeds.logs.capacity() => {
                    let seen = self.sweep_followers(place);
                    let dropped = self.engine.feeds.trim_needed(place, self.engine.clock.now);
                    left = left.saturating_sub(1 + (seen + dropped) / 8);
                    Some(Walk::Feeds(place + usize::from(dropped < TRIM)))
                }
                Walk::Feeds(_) => {
                    self.engine.feeds.end_needed();
                    None
                }
            };
        }
    }

    // ---- the end ----

    fn look_for_shutdown(&mut self) {
        let shared = self.shared();
        let Some((by, goodbye)) = shared.shutdown.lock().clone() else { return };
        let left = by.saturating_duration_since(std::time::Instant::now());
        let by = self.engine.clock.now + millis(left);
        if let Some(end) = &mut self.end {
            end.by = end.by.min(by);
            return;
        }
        // Commands that were given before, and then none.
        self.commands.extend(shared.commands.lock().drain(..));
        shared.topics.everyone().inbox.lock().closed = true;
        shared.topics.all().iter().for_each(|topic| topic.inbox.lock().closed = true);
        self.end = Some(End { by, goodbye, gives_up: false, stage: Stage::Commands });
    }

    /// Does the next part of the hub's end, if it is ending: whether the time for it is over.
    ///
    /// Each connection is told once. Who is let in meanwhile is told with the answer; who has a connection that was let in
    /// before, and becomes a client in a place that has been passed, was told as a newcomer.
    fn go_on_ending(&mut self) -> bool {
        let Some(end) = &mut self.end else { return false };
        let by = end.by;
        let is_late = self.engine.clock.now >= by;
        if end.stage == Stage::Commands && (self.commands.is_empty() || is_late) {
            // New clients are told the same from now on.
            self.engine.farewell = Some(Farewell {
                goodbye: Arc::clone(&end.goodbye),
                clients: self.engine.shared.registry.count(),
            });
            end.stage = Stage::Connections(0);
        }
        if is_late && !std::mem::replace(&mut end.gives_up, true) {
            end.stage = Stage::Connections(0);
        }
        let (mut stage, gives_up) = (end.stage, end.gives_up);
        if gives_up {
            self.flushes.give_up(self.engine.shared.registry.count());
        }
        if let Stage::Connections(from) = stage {
            stage = self.end_connections(from, by, gives_up);
        }
        if stage == Stage::Away && self.engine.end_away_clients(WALK) < WALK {
            stage = Stage::Told;
        }
        if let Some(end) = &mut self.end {
            end.stage = stage;
        }
        gives_up
    }

    /// Tells the next connections that the hub ends, or gives them up.
    fn end_connections(&mut self, from: usize, by: u64, gives_up: bool) -> Stage {
        let mut slice = self.slice();
        for key in from..self.connections.capacity().min(from + WALK) {
            self.step(key, |connection, engine| {
                connection.leave_at_the_end(engine, by)?;
                if gives_up {
                    connection.abort(engine, DisconnectReason::ByHub);
                    return Err(Over);
                }
                Ok(())
            });
            if self.is_over(&mut slice) {
                return Stage::Connections(key + 1);
            }
        }
        let to = from + WALK;
        if to < self.connections.capacity() { Stage::Connections(to) } else { Stage::Away }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::pin::pin;
    use std::thread;

    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::codec::{CloseCode, CloseFrame};
    use crate::handshake::Rules;
    use crate::hub::driver::bind::bind;
    use crate::hub::engine::admission::Reception;
    use crate::hub::events::Event;
    use crate::hub::feed::item::Kept;
    use crate::hub::feed::log::Log;
    use crate::hub::feed::queue::Entry;
    use crate::hub::feed::topic::Topic;
    use crate::hub::id::ClientId;
    use crate::hub::id::IdSource;
    use crate::hub::limits::{Limits, Overflow, Retention, Timeouts};
    use crate::hub::shared::state::Ending;
    use crate::page::Page;

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
            let ids = IdSource::new().unwrap();
            let shared = Arc::new(Shared::new(limits, Overflow::default(), ids));
            let reception = Reception {
                rules: Rules::default(),
                page: Page::default(),
                keep_headers: Vec::new(),
                proxies: Vec::new(),
                frame_ancestors: "'self'".into(),
                greet: true,
                echo: false,
                freshness: 250,
                authorize_follow: None,
            };
            let engine = Engine::new(
                Arc::clone(&shared),
                &Timeouts::default(),
                &Retention::default(),
                reception,
            );
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
            socket.write_all(request_for("/").replace("Connection:", wire).as_bytes()).unwrap();
            let names: Vec<_> =
                feeds.iter().map(|feed| format!("\"{}\":{{}}", feed.name())).collect();
            let hello = format!("{{\"hello\":{{\"feeds\":{{{}}}}}}}", names.join(","));
            let hello = format!("{hello:<126}"); // so that its length has two bytes
            let length = u16::try_from(hello.len()).unwrap().to_be_bytes();
            let head = [&[0x81, 0xfe][..], &length, &[0; 4]].concat();
            socket.write_all(&[&head, hello.as_bytes()].concat()).unwrap();
            self.turn_until(|stand| stand.shared.registry.count() == there + 1);
            socket
        }

        fn log_of(&self, topic: &Topic) -> &Log {
            &self.driver.engine.feeds.logs[topic.place.load(Ordering::Relaxed)]
        }

        /// Somebody who connects from this address, as far as the driver is told.
        fn come_from(&mut self, ip: [u8; 4]) -> TcpStream {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            accepted.set_nonblocking(true).unwrap();
            let _context = self.runtime.enter();
            let accepted = tokio::net::TcpStream::from_std(accepted).unwrap();
            self.driver.take_in(accepted, (ip, 1).into());
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
        socket.write_all(request_for(path).as_bytes()).unwrap();
    }

    fn request_for(path: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    }

    #[test]
    fn those_who_come_and_go_leave_nothing_in_a_feed_that_nobody_pushes_to() {
        let mut stand = Stand::new();
        let topic = stand.shared.topics.get("quiet").unwrap();
        let engine = &mut stand.driver.engine;
        let place = engine.feeds.log_of(&topic);
        for serial in 0..1000 {
            engine.follow(place, 7, serial);
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
        let sockets: Vec<_> =
            (0..count).map(|_| TcpStream::connect(stand.address).unwrap()).collect();
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
        let key = stand.shared.registry.all()[0].key();
        stand.driver.step(key, Connection::flush);
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
        drop(Ending(Arc::clone(&shared)));
        assert_eq!(shared.budget.used(), 0);
    }

    #[test]
    fn what_thousands_of_hot_feeds_have_taken_over_is_bounded_and_everyones_is_not_cut_for_it() {
        const FEEDS: usize = 1000;
        let limits = Limits::default().memory(64 << 20);
        let mut stand = Stand::with(limits);
        let viewer = stand.connect(1);
        let feeds: Vec<_> = (0..FEEDS)
            .map(|number| stand.shared.topics.get(&number.to_string()).unwrap())
            .collect();
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
        stand.driver.engine.trim(run.place.load(Ordering::Relaxed), u64::MAX);
        stand.turn_until(|stand| !stand.driver.engine.feeds.is_taking_over());
        stand.turn_until(|stand| stand.shared.topics.count() == 0);
    }

    #[test]
    fn followers_that_have_gone_are_taken_out_of_a_feed_that_nobody_pushes_to() {
        let mut stand = Stand::new();
        let run = stand.shared.topics.get("run").unwrap();
        drop(stand.connect_at("run", 40));
        stand.turn_until(|stand| stand.log_of(&run).followers.count == 0);
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
        let _silent: Vec<_> =
            (0..count).map(|_| TcpStream::connect(stand.address).unwrap()).collect();
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
    fn for_a_push_that_waits_a_few_followers_are_asked_in_a_turn_and_none_while_the_slowest_stays()
    {
        let mut stand = Stand::new();
        let viewers = stand.connect_at("run", 5);
        let run = stand.shared.topics.get("run").unwrap();
        let owed =
            |stand: &Stand| run.inbox.lock().owed.map(|owed| owed - stand.log_of(&run).bytes());
        let place = run.place.load(Ordering::Relaxed);
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
        stand.turn_until(|stand| stand.log_of(&run).followers.count == 1);
        assert!(find(&mut stand, 6) && find(&mut stand, 0));
    }

    #[test]
    fn a_client_that_follows_and_unfollows_does_not_keep_the_slowest_follower_from_being_found() {
        let mut stand = Stand::new();
        let _viewers = stand.connect_at("run", 6);
        let run = stand.shared.topics.get("run").unwrap();
        let place = run.place.load(Ordering::Relaxed);
        let key = stand.shared.registry.all()[0].key();
        let serial = stand.driver.connections[key].serial();
        let is_found = (0..10).any(|_| {
            let is_found = stand.driver.find_slowest(place, &mut 2);
            stand.driver.engine.feeds.unfollow_early(place, key, serial);
            stand.driver.engine.follow(place, key, serial);
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
        let place = first.place.load(Ordering::Relaxed);
        let shared = Arc::clone(&stand.shared);
        let mut waits =
            feeds.each_ref().map(|feed| Box::pin(shared.push_wait(feed, "x".into(), PATIENCE)));
        let mut cx = Context::from_waker(std::task::Waker::noop());
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

    // The bell's two rules; see `Bell`.
    #[test]
    fn the_driver_looks_once_more_after_it_has_said_that_it_sleeps() {
        let mut stand = Stand::new();
        let _client = stand.connect(1);
        while !matches!(stand.turn(), Turn::Rest) {}
        let Stand { driver, shared, runtime, .. } = &mut stand;
        driver.look_until = 0;
        let context = runtime.enter();
        let mut timer = Box::pin(sleep_until(driver.epoch));
        drop(context);

        // Pushed while the driver is awake, so that nobody rings: the driver must not sleep.
        shared.broadcast("x".into());
        let up_at_once = runtime.block_on(async {
            let mut rest = pin!(driver.rest(timer.as_mut()));
            poll_fn(|cx| Poll::Ready(rest.as_mut().poll(cx).is_ready())).await
        });
        assert!(up_at_once);
        assert!(!shared.bell.is_asleep());

        // It says so before it looks: here it cannot look yet.
        let news = shared.news.lock();
        thread::scope(|scope| {
            let resting = scope.spawn(move || {
                runtime.block_on(async {
                    tokio::time::timeout(PATIENCE, driver.rest(timer.as_mut())).await
                })
            });
            let started = Instant::now();
            while !shared.bell.is_asleep() && started.elapsed() < PATIENCE {
                thread::yield_now();
            }
            let asleep = shared.bell.is_asleep();
            drop(news);
            resting.join().unwrap().unwrap();
            assert!(asleep);
        });
    }

    #[test]
    fn it_goes_on_looking_for_pushes_that_come_close_together_but_hardly_after_one_alone() {
        let mut stand = Stand::new();
        let _client = stand.connect(1);
        stand.driver.epoch -= Duration::from_secs(1); // so long nothing has been pushed
        let looks_for = |stand: &mut Stand| {
            stand.shared.broadcast("now".into());
            stand.turn();
            stand.driver.look_until - stand.driver.engine.clock.now
        };
        assert_eq!(looks_for(&mut stand), LOOK_FIRST);
        stand.driver.pushed_at = u64::MAX; // just now, however slow the machine is
        assert_eq!(looks_for(&mut stand), LOOK_FOR);
        assert_eq!([0, 10, 11].map(look_for), [LOOK_FOR, LOOK_FOR, LOOK_FIRST]);
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
        let request = request_for("/");
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
        let place = feed.place.load(Ordering::Relaxed);
        let log = &stand.driver.engine.feeds.logs[place];
        assert_eq!((log.followers.len(), log.followers.count), (1, 1));
    }
}
