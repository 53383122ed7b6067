//! What all connections of one driver share: the window they read, the scratch space, the answers
//! to requests, the accounts.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use slab::Slab;

use super::budget::Charge;
use super::client::{Client, Details};
use super::connection::{Follow, Follows, Inbound, refused};
use super::events::{DisconnectReason, Event};
use super::log::{BEHIND, Cursor, Item, Kept, Log};
use super::queue::{Entry, Queue};
use super::session::Sessions;
use super::shared::Shared;
use super::topic::{Topic, Topics};
use super::{ClientId, FeedError, Overflow, Retention, Timeouts};
use crate::codec::{self, Message, MessageCodec, Role};
use crate::handshake::{Refusal, Request, Rules, Status, Upgrade};
use crate::page::Page;
use crate::wire::plain;
use crate::wire::v1::{self, Greeting, Had, Lines};

/// [`Timeouts`] in the driver's milliseconds.
pub(crate) struct Deadlines {
    pub(crate) handshake: u64,
    pub(crate) keepalive: u64,
    pub(crate) pong: u64,
    pub(crate) stall: u64,
    pub(crate) frame: u64,
    pub(crate) close: u64,
    pub(crate) grace: u64,
    pub(crate) tick: u64,
}

pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}

impl From<&Timeouts> for Deadlines {
    fn from(timeouts: &Timeouts) -> Self {
        Self {
            handshake: millis(timeouts.handshake),
            keepalive: millis(timeouts.keepalive),
            pong: millis(timeouts.pong),
            stall: millis(timeouts.stall),
            frame: millis(timeouts.frame),
            close: millis(timeouts.close),
            grace: millis(timeouts.grace),
            tick: millis(timeouts.tick()),
        }
    }
}

/// Who may connect, and what else a request gets.
pub(crate) struct Reception {
    pub(crate) rules: Rules,
    pub(crate) page: Page,
    pub(crate) keep_headers: Vec<String>,
    /// Addresses that many clients share, which are not counted.
    pub(crate) proxies: Vec<IpAddr>,
    /// Whether a client is told its id.
    pub(crate) greet: bool,
    /// Whether a client is sent back what it sends.
    pub(crate) echo: bool,
    /// For how many milliseconds' worth a client's window is; zero: there is none.
    pub(crate) freshness: u32,
    /// Who may follow which feed by naming it.
    pub(crate) may_follow: Option<MayFollow>,
}

/// The program's rule for that.
pub(crate) type MayFollow = Arc<dyn Fn(&str, &Request) -> bool + Send + Sync>;

/// Room for a 101 and the greeting behind it.
const RESPONSE: usize = 256;

/// What a request that is not refused gets.
pub(crate) enum Answer {
    Page(Bytes),
    /// The 101 of a client that says then who it is, and what it follows.
    UpgradeToV1(Vec<u8>),
    /// The 101, and what the client follows.
    Upgrade(Vec<u8>, Arc<Topic>),
}

pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) timeouts: Deadlines,
    reception: Reception,
    /// Milliseconds since the driver's start, taken once a turn.
    pub(crate) now: u64,
    /// The feeds that the driver knows; everyone's is the first.
    pub(crate) logs: Slab<Log>,
    /// Stamps below this have been made visible: what was pushed with them may be delivered.
    pub(crate) upto: u64,
    pub(crate) scratch: BytesMut,
    /// The room of everyone's queue that is not in use.
    room: Queue,
    /// The room of the list of feeds with news that is not in use.
    news: Vec<Arc<Topic>>,
    /// That of the list of clients with mail.
    pub(crate) keys: Vec<usize>,
    /// Feeds whose newest part was pushed after the driver took its stamp.
    pub(crate) hidden: Vec<usize>,
    /// Feeds that were read, or lost a follower, since it was last looked for what can go.
    pub(crate) touched: Vec<usize>,
    pub(crate) retention: Kept,
    pub(crate) sessions: Sessions,
    /// How many clients there were when the hub began to end.
    pub(crate) at_end: usize,
    /// Boxed as connections keep it, so that it changes hands without being made anew.
    spare: Option<Box<Inbound>>,
    codec_limits: codec::Limits,
    per_address: HashMap<IpAddr, usize>,
}

impl Engine {
    /// How much is read at once.
    pub(crate) const SCRATCH: usize = 64 * 1024;

    pub(crate) fn new(
        shared: Arc<Shared>,
        timeouts: &Timeouts,
        retention: &Retention,
        reception: Reception,
    ) -> Self {
        let limits = &shared.limits;
        let codec_limits = codec::Limits::default()
            .max_frame(limits.inbound_message)
            .max_message(limits.inbound_message)
            .max_fragments(limits.inbound_fragments);
        let retention = Kept { messages: retention.messages, age: millis(retention.age) };
        // On the plain wire nobody who comes late is given everyone's log: see `keep_everyones`.
        let of_everyone = Kept { messages: 0, age: 0 };
        let mut logs = Slab::new();
        let everyone = Arc::clone(shared.topics.everyone());
        let place = logs.insert(Log::new(Arc::clone(&everyone), limits.feed, of_everyone));
        everyone.place.store(place, Ordering::Relaxed);
        Self {
            timeouts: timeouts.into(),
            reception,
            now: 0,
            logs,
            upto: 0,
            scratch: BytesMut::new(),
            room: Queue::default(),
            news: Vec::new(),
            keys: Vec::new(),
            hidden: Vec::new(),
            touched: Vec::new(),
            retention,
            sessions: Sessions::new(),
            at_end: 0,
            spare: None,
            codec_limits,
            per_address: HashMap::new(),
            shared,
        }
    }

    // ---- requests ----

    /// What a request gets.
    pub(crate) fn decide(&self, request: &Request, address: SocketAddr) -> Result<Answer, Refusal> {
        #[cfg(feature = "page")]
        if request.path() == crate::page::SCRIPT
            && request.method() == "GET"
            && !request.wants_upgrade()
        {
            return crate::page::script(request.header("if-none-match")).map(Answer::Page);
        }
        self.reception.rules.check(request)?;
        if !request.wants_upgrade() {
            if request.method() != "GET" {
                return Err(Refusal::method_not_allowed(request.method()));
            }
            return match request.path() {
                "/" => self.reception.page.response().map(Answer::Page),
                path => Err(Refusal::not_found(path)),
            };
        }
        let upgrade = Upgrade::from_request(request)?;
        let feed = feed_of(request.path())?;
        let limits = &self.shared.limits;
        // Who is away has to make way: see `admit_as`.
        if self.shared.registry.count() >= limits.clients && !self.sessions.is_anybody_away() {
            return Err(Refusal::full("clients", limits.clients));
        }
        if self.count_at(address) >= limits.clients_per_address {
            return Err(Refusal::full("clients from one address", limits.clients_per_address));
        }
        let mut response = Vec::with_capacity(RESPONSE);
        if upgrade.offered_protocols().any(|offered| offered == v1::PROTOCOL) {
            upgrade.put_answer(Some(v1::PROTOCOL), &mut response);
            return Ok(Answer::UpgradeToV1(response));
        }
        let topic = match feed {
            None => Arc::clone(self.shared.topics.everyone()),
            Some(name) => {
                if self.reception.may_follow.as_ref().is_some_and(|may| !may(&name, request)) {
                    return Err(Refusal::new(Status::Forbidden, "this feed is not for you"));
                }
                self.shared.topics.get_for_client(&name).map_err(|error| match error {
                    FeedError::TooMany { limit } => Refusal::full("feeds", limit),
                    FeedError::InvalidName => Refusal::not_found(request.path()),
                })?
            }
        };
        // The plain wire has no subprotocol: one that is offered is not agreed to.
        upgrade.put_answer(None, &mut response);
        Ok(Answer::Upgrade(response, topic))
    }

    fn count_at(&self, address: SocketAddr) -> usize {
        self.per_address.get(&address.ip()).copied().unwrap_or(0)
    }

    /// Makes a client of whoever sent this request.
    pub(crate) fn admit(
        &mut self,
        request: &Request,
        address: SocketAddr,
        key: usize,
        topic: Arc<Topic>,
    ) -> Arc<Client> {
        self.admit_as(self.details_of(request), address, key, Some(topic))
    }

    /// What is kept of a request.
    pub(crate) fn details_of(&self, request: &Request) -> Details {
        let value = |name: &String| {
            let value = String::from_utf8_lossy(request.header(name)?).into_owned();
            Some((name.clone(), value))
        };
        Details {
            path: if request.target() == "/" { "" } else { request.target() }.to_owned(),
            headers: self.reception.keep_headers.iter().filter_map(value).collect(),
        }
    }

    /// Makes a client, which follows this, or nothing yet.
    pub(crate) fn admit_as(
        &mut self,
        details: Details,
        address: SocketAddr,
        key: usize,
        topic: Option<Arc<Topic>>,
    ) -> Arc<Client> {
        if self.shared.registry.count() >= self.shared.limits.clients {
            self.end_who_is_away_longest();
        }
        let client = Arc::new(Client::new(self.shared.ids.draw(), key, address, details, topic));
        self.enter(address.ip());
        self.shared.registry.insert(Arc::clone(&client));
        self.shared.counters.accepted.add(1);
        tracing::debug!(id = %client.id, %address, "client connected");
        self.shared.listeners.tell(|| Event::Connected { id: client.id });
        client
    }

    /// One client more, or less, at this address, unless many share it.
    pub(crate) fn enter(&mut self, ip: IpAddr) {
        if !ip.is_loopback() && !self.reception.proxies.contains(&ip) {
            *self.per_address.entry(ip).or_default() += 1;
        }
    }

    pub(crate) fn leave(&mut self, ip: IpAddr) {
        if let Some(count) = self.per_address.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&ip);
            }
        }
    }

    /// Ends being a client: nothing can be sent to it any more, and what waited for it is freed.
    pub(crate) fn dismiss(&mut self, client: &Client, reason: DisconnectReason) {
        let ip = self.forget_session(client);
        self.shared.registry.remove(client.id);
        let token = self.shared.gone.lock().remove(&client.id);
        if let Some(token) = token {
            token.cancel(); // which may run code of the program's
        }
        let waiting = {
            let mut mailbox = client.mailbox.lock();
            mailbox.closed = true;
            mailbox.mail.take()
        };
        self.shared.budget.sub(waiting.map_or(0, |mail| mail.bytes()));
        client.unfollow_all().iter().for_each(|wanted| self.shared.drop_handle(&wanted.topic));
        if let Some(ip) = ip {
            self.leave(ip);
        }
        tracing::debug!(id = %client.id, %reason, "client disconnected");
        self.shared.listeners.tell(|| Event::Gone { id: client.id, reason });
    }

    /// Whether the program has a rule about who may follow what.
    pub(crate) fn has_rule(&self) -> bool {
        self.reception.may_follow.is_some()
    }

    /// The feed that a client on `stepcast.v1` asks for, with one handle more. `Err`: a code, and why not.
    pub(crate) fn feed_for(
        &self,
        name: &str,
        request: Option<&Request>,
    ) -> Result<Arc<Topic>, (&'static str, String)> {
        if name.is_empty() {
            return Ok(Topics::clone_handle(self.shared.topics.everyone()));
        }
        let may = |rule: &MayFollow| request.is_some_and(|request| rule(name, request));
        if !self.reception.may_follow.as_ref().is_none_or(may) {
            return Err(("forbidden", "this feed is not for you".to_owned()));
        }
        self.shared.topics.get_for_client(name).map_err(|error| refused(&error))
    }

    /// A new follower of a feed on `stepcast.v1`; see [`Log::resume`].
    pub(crate) fn resume(
        &mut self,
        place: usize,
        (key, serial): (usize, u32),
        had: Option<Had>,
        stamp: u64,
    ) -> (Cursor, u64, bool) {
        let log = &mut self.logs[place];
        log.followers.add(key, serial);
        log.resume(had, stamp, self.now)
    }

    /// What a client on `stepcast.v1` is told first of all.
    pub(crate) fn greet_v1(&self, lines: &mut Lines, id: ClientId, key: &[u8], resumed: bool) {
        let limits = &self.shared.limits;
        lines.hello(&Greeting {
            id: id.get(),
            key,
            epoch: &self.sessions.epoch,
            resumed,
            ping: self.timeouts.keepalive.div_ceil(1000),
            message: limits.inbound_message,
            feeds: limits.feeds_per_client,
        });
    }

    /// What a client gets first of all.
    pub(crate) fn put_greeting(&self, id: ClientId, out: &mut Vec<u8>) {
        if self.reception.greet {
            plain::put_greeting(id.get(), out);
        }
    }

    pub(crate) fn tell_refused(&self, address: SocketAddr, refusal: &Refusal) {
        self.shared.counters.refused.add(1);
        let (status, reason) = (refusal.status().code(), refusal.reason());
        tracing::warn!(%address, status, reason, "request refused");
        let event = || Event::Refused { address, status, reason: reason.to_owned() };
        self.shared.listeners.tell(event);
    }

    /// For how many milliseconds' worth a client's window is; zero: there is none.
    pub(crate) fn freshness(&self) -> u32 {
        self.reception.freshness
    }

    // ---- inbound ----

    #[expect(clippy::unnecessary_box_returns, reason = "the box is what is handed on")]
    pub(crate) fn spare_inbound(&mut self) -> Box<Inbound> {
        self.spare.take().unwrap_or_else(|| {
            let codec = MessageCodec::new(Role::Server, self.codec_limits);
            Box::new(Inbound::new(codec, Charge::none(&self.shared.budget)))
        })
    }

    /// Keeps one for the next connection that has something to decode.
    pub(crate) fn keep_inbound(&mut self, inbound: Box<Inbound>) {
        self.spare = Some(inbound);
    }

    /// Whether one more inbound message is within the rate, which has room for a burst of two
    /// seconds' worth (the "virtual scheduling" form of the generic cell rate algorithm, ITU-T
    /// I.371).
    pub(crate) fn is_within_rate(&self, due: &mut u64) -> bool {
        let now = self.now.saturating_mul(1000);
        let interval = 1_000_000 / u64::from(self.shared.limits.inbound_per_second.max(1));
        *due = now.max(*due) + interval;
        *due - now <= 2_000_000
    }

    /// One inbound message was asked for by the hub, and does not count in the rate.
    pub(crate) fn take_back(&self, due: &mut u64) {
        let interval = 1_000_000 / u64::from(self.shared.limits.inbound_per_second.max(1));
        *due = due.saturating_sub(interval);
    }

    /// A client has sent a message: whoever listens is told.
    pub(crate) fn tell_message(&self, id: ClientId, message: &Message) {
        self.shared.counters.received.add(1);
        if self.shared.listeners.any() {
            let bytes = message.len();
            // The last quarter is for what viewers are owed.
            let budget = &self.shared.budget;
            if !budget.is_tight() && budget.try_add(bytes) {
                let charge = Charge::adopt(&self.shared.budget, bytes);
                let message = copy_with(message, |bytes| charge.attach(bytes));
                self.shared.listeners.tell(|| Event::Message { id, message });
            } else {
                self.shared.listeners.miss();
            }
        }
        if self.reception.echo {
            let _ = self.shared.send(id, copy_with(message, |bytes| bytes));
        }
    }

    // ---- accounts ----

    pub(crate) fn count_skipped(&self, client: &Client, skipped: u64) {
        client.skipped.fetch_add(skipped, Ordering::Relaxed);
        self.shared.counters.skipped.add(skipped);
    }

    /// When this client is to be pinged: up to a fifth earlier than said, by its id.
    pub(crate) fn keepalive_of(&self, id: ClientId) -> u64 {
        let keepalive = self.timeouts.keepalive;
        keepalive - keepalive / 5 * (id.get() % 16) / 16
    }

    // ---- feeds ----

    /// Takes over what callers have pushed to feeds, and makes it and the mail that was pushed before
    /// it deliverable. Returns the feeds that have something for their followers, and the keys of
    /// clients that have mail or other feeds to follow.
    pub(crate) fn take_news(&mut self) -> (Vec<usize>, Vec<usize>) {
        // The stamp first: whatever was stamped before it is in its inbox, and that inbox's feed is
        // among the news, by the time that these are looked at.
        self.upto = self.shared.stamps.load(Ordering::Acquire);
        let mut fresh = std::mem::take(&mut self.hidden);
        let hidden = fresh.len();
        let mut news = std::mem::take(&mut self.news);
        std::mem::swap(&mut *self.shared.news.lock(), &mut news);
        for topic in news.drain(..) {
            let place = self.log_of(&topic);
            self.take_inbox(&topic, place);
            if !fresh[..hidden].contains(&place) {
                fresh.push(place);
            }
        }
        self.news = news;
        for place in &fresh {
            let Some(log) = self.logs.get_mut(*place) else { continue };
            log.reveal(self.upto);
            if !log.window.all_visible() || !log.latest.all_before(self.upto) {
                self.hidden.push(*place);
            }
        }
        // After the feeds: who is told to follow one has all that is pushed to it after that.
        let mut keys = std::mem::take(&mut self.keys);
        keys.clear();
        std::mem::swap(&mut *self.shared.mail.lock(), &mut keys);
        (fresh, keys)
    }

    /// Whether something has been taken over that may not be delivered yet.
    pub(crate) fn has_hidden(&self) -> bool {
        !self.hidden.is_empty()
    }

    /// The place of a feed, which it is given if it has none.
    pub(crate) fn log_of(&mut self, topic: &Arc<Topic>) -> usize {
        let place = topic.place.load(Ordering::Relaxed);
        if self.logs.get(place).is_some_and(|log| Arc::ptr_eq(&log.topic, topic)) {
            return place;
        }
        let log = Log::new(Arc::clone(topic), self.shared.limits.feed, self.retention);
        let place = self.logs.insert(log);
        topic.place.store(place, Ordering::Relaxed);
        place
    }

    fn take_inbox(&mut self, topic: &Topic, place: usize) {
        // Two queues take turns as everyone's, so that a hot loop does not grow a new one each time.
        // The others get an empty one: room that a burst leaves in a feed is counted nowhere.
        let empty =
            if topic.is_everyones() { std::mem::take(&mut self.room) } else { Queue::default() };
        let (mut queue, lost, values, newest) = {
            let mut inbox = topic.inbox.lock();
            inbox.told = false;
            let queue = std::mem::replace(&mut inbox.queue, empty);
            let values = inbox.latest.as_mut().map(|latest| latest.take_pending());
            (queue, std::mem::take(&mut inbox.lost), values.unwrap_or_default(), inbox.newest)
        };
        let log = &mut self.logs[place];
        log.lost += lost;
        let mut number = newest - queue.len() as u64;
        while let Some(entry) = queue.pop() {
            number += 1;
            log.push(number, entry, self.now, &self.shared.budget);
        }
        if topic.is_everyones() {
            self.room = queue;
        }
        for (key, entry) in values {
            log.set(key, entry, &self.shared.budget);
        }
    }

    /// A new follower of a feed; where it begins: it is to have what was stamped from `stamp` on.
    pub(crate) fn follow(&mut self, place: usize, key: usize, serial: u32, stamp: u64) -> Cursor {
        let log = &mut self.logs[place];
        log.followers.add(key, serial);
        log.start(log.topic.is_everyones(), stamp, self.now)
    }

    /// A follower less, which may follow the feed again: it is not to be listed twice then.
    pub(crate) fn unfollow_early(&mut self, place: usize, key: usize, serial: u32) {
        if let Some(log) = self.logs.get_mut(place) {
            log.followers.forget(key, serial);
        }
        self.unfollow(place);
    }

    /// A follower less, whose connection is no client's any more.
    pub(crate) fn unfollow(&mut self, place: usize) {
        if let Some(log) = self.logs.get_mut(place) {
            log.followers.count -= 1;
            self.touched.push(place);
        }
    }

    /// A feed has something new: its followers are called. Where messages were lost before they could be taken
    /// over, or many have gone, all that are listed are shown at once, with how many were lost; who is said to be no follower is
    /// taken from the list. Whether the call begins, and is not one that was under way.
    pub(crate) fn call_followers(
        &mut self,
        place: usize,
        mut is_one: impl FnMut(&Self, usize, u32, u64) -> bool,
    ) -> bool {
        let Some(log) = self.logs.get_mut(place) else { return false };
        let lost = std::mem::take(&mut log.lost);
        if lost > 0 || log.followers.is_littered() {
            let mut followers = std::mem::take(&mut log.followers);
            followers.retain(|key, serial| is_one(self, key, serial, lost));
            if let Some(log) = self.logs.get_mut(place) {
                log.followers = followers;
            }
        }
        if self.touched.last() != Some(&place) {
            self.touched.push(place);
        }
        self.logs.get_mut(place).is_some_and(|log| log.followers.call())
    }

    /// Whether a client has so much of logs before it that it gets the latest values first.
    pub(crate) fn is_behind(&self, follows: &Follows) -> bool {
        let before =
            |follow: &Follow| Some(self.logs.get(follow.place)?.bytes_before(follow.cursor));
        follows.iter().filter_map(before).sum::<usize>() > BEHIND
    }

    /// The oldest that is there of what a client follows, or the oldest value if these go first, if it was
    /// stamped before `upto`: stamp, message, where the client stands, and where after it.
    pub(crate) fn oldest(
        &self,
        follows: &Follows,
        upto: u64,
        values_first: bool,
    ) -> Option<(u64, &Item, Follow, Cursor)> {
        let next = |follow: &Follow| {
            let log = self.logs.get(follow.place)?;
            let (stamp, item, cursor) = log.next(follow.cursor, upto, values_first)?;
            let waits = values_first && cursor.log != follow.cursor.log;
            (stamp < upto).then_some(((waits, stamp), item, *follow, cursor))
        };
        let first = follows.iter().filter_map(next).min_by_key(|(order, ..)| *order);
        first.map(|((_, stamp), item, follow, cursor)| (stamp, item, follow, cursor))
    }

    /// Lets go what a feed holds for nobody, where its follower furthest behind is at `needed`; and the feed, if
    /// nobody has it and nothing young is in it.
    pub(crate) fn trim(&mut self, place: usize, needed: u64) {
        let Some(log) = self.logs.get_mut(place) else { return };
        log.trim(needed.min(log.window.live()), self.now);
        if !log.topic.is_everyones()
            && log.is_over(self.now)
            && self.shared.topics.retire(&log.topic)
        {
            self.logs.remove(place);
            if self.logs.len() < self.logs.capacity() / 4 {
                self.logs.shrink_to_fit();
            }
        }
    }

    // ---- memory ----

    /// Over the hub's memory limit: the fullest mailboxes lose their older half, and if that is not
    /// enough the longest logs.
    pub(crate) fn relieve(&mut self) {
        if self.shared.overflow == Overflow::SkipOldest {
            self.relieve_mailboxes();
        } // else what was taken is not to be lost
        // Of a mailbox nothing is to be lost where the policy says so.
        let may_lose = |log: &Log| {
            self.shared.overflow == Overflow::SkipOldest || log.topic.alias != v1::MAILBOX
        };
        let logs = self.logs.iter().filter(|(_, log)| may_lose(log));
        let mut longest: Vec<_> = logs.map(|(place, log)| (log.bytes(), place)).collect();
        longest.sort_unstable();
        while let Some((_, place)) = longest.pop() {
            if !self.shared.budget.is_tight() {
                return;
            }
            self.logs[place].halve();
        }
    }

    fn relieve_mailboxes(&self) {
        let mut full: Vec<_> = self.shared.registry.all();
        let log_of = |client: &Client| client.mailbox.lock().mail.as_ref().map(|m| m.log.bytes());
        full.retain(|client| log_of(client).is_some());
        full.sort_by_cached_key(|client| std::cmp::Reverse(log_of(client)));
        for client in full {
            if !self.shared.budget.is_tight() {
                return;
            }
            let evicted = {
                let mut mailbox = client.mailbox.lock();
                let Some(mail) = &mut mailbox.mail else { continue };
                let evicted = mail.log.make_room(0, mail.log.bytes());
                mail.lost += evicted.len() as u64; // which is kept, though nothing else may be
                evicted
            };
            let bytes = evicted.iter().map(|entry| Entry::cost(&entry.message)).sum();
            self.shared.budget.sub(bytes);
            self.count_skipped(&client, evicted.len() as u64);
        }
    }
}

/// The feed that a path names: none for `/`, which is everyone's.
fn feed_of(path: &str) -> Result<Option<String>, Refusal> {
    if path == "/" {
        return Ok(None);
    }
    let name = path.strip_prefix("/feed/").and_then(percent_decode);
    name.map(Some).ok_or_else(|| Refusal::not_found(path))
}

/// RFC 3986, 2.1. `None` for an escape that is none, and for what is not UTF-8 then.
fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

/// A copy: what is decoded is a slice of a block that others' bytes are in, too.
fn copy_with(message: &Message, map: impl FnOnce(Bytes) -> Bytes) -> Message {
    let bytes = map(Bytes::copy_from_slice(message.as_bytes()));
    match message {
        Message::Text(_) | Message::Json(_) => match codec::Text::try_from(bytes) {
            Ok(text) if matches!(message, Message::Json(_)) => Message::Json(text),
            Ok(text) => Message::Text(text),
            Err(_) => unreachable!("a copy of valid text is valid"),
        },
        Message::Binary(_) => Message::Binary(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::{HeadLimits, RequestReader};
    use crate::hub::id::IdSource;
    use crate::hub::{Limits, Overflow, SendError};
    use crate::wire::Wire;

    fn engine(limits: Limits, timeouts: &Timeouts) -> Engine {
        let shared = Shared::new(limits, Overflow::default(), IdSource::new().unwrap());
        let reception = Reception {
            rules: Rules::default(),
            page: Page::default(),
            keep_headers: Vec::new(),
            proxies: vec![[10, 0, 0, 9].into()],
            greet: true,
            echo: false,
            freshness: 250,
            may_follow: None,
        };
        Engine::new(Arc::new(shared), timeouts, &Retention::default(), reception)
    }

    fn everyone(engine: &Engine) -> Arc<Topic> {
        Arc::clone(engine.shared.topics.everyone())
    }

    fn upgrade() -> Request {
        let head = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let mut reader = RequestReader::new(HeadLimits::default());
        reader.read(&mut BytesMut::from(head)).unwrap().unwrap()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_has_so_many_places_until_one_leaves_and_this_machine_and_proxies_any_number() {
        let mut engine = engine(Limits::default().clients_per_address(2), &Timeouts::default());
        let (far, other, own) =
            (address("10.0.0.1:1"), address("10.0.0.2:1"), address("127.0.0.1:1"));
        let request = upgrade();
        let first = engine.admit(&request, far, 0, everyone(&engine));
        engine.admit(&request, address("10.0.0.1:2"), 1, everyone(&engine));
        let proxy = address("10.0.0.9:1");
        (2..6).for_each(|key| drop(engine.admit(&request, own, key, everyone(&engine))));
        (6..9).for_each(|key| drop(engine.admit(&request, proxy, key, everyone(&engine))));
        let refusal = engine.decide(&request, far).err().expect("a refusal");
        assert_eq!(refusal.status().code(), 503);
        for welcome in [other, own, proxy] {
            assert!(engine.decide(&request, welcome).is_ok(), "{welcome}");
        }
        engine.dismiss(&first, DisconnectReason::Lost);
        assert!(engine.decide(&request, far).is_ok());
    }

    #[test]
    fn a_client_that_is_dismissed_takes_nothing_more_and_frees_what_it_had() {
        let mut engine = engine(Limits::default(), &Timeouts::default());
        let client = engine.admit(&upgrade(), address("127.0.0.1:1"), 0, everyone(&engine));
        engine.shared.send(client.id, "waiting".into()).unwrap();
        engine.shared.set_for(client.id, "key", "waiting".into()).unwrap();
        engine.dismiss(&client, DisconnectReason::Lost);
        assert_eq!((engine.shared.budget.used(), engine.shared.registry.count()), (0, 0));
        // Who found it a moment before is told, too.
        engine.shared.registry.insert(Arc::clone(&client));
        let gone = Err(SendError::NoSuchClient(client.id));
        assert_eq!(engine.shared.send(client.id, "late".into()), gone);
        assert_eq!(engine.shared.set_for(client.id, "key", "late".into()), gone);
    }

    #[test]
    fn the_rate_has_room_for_two_seconds_worth_at_once_and_then_for_its_own() {
        let mut engine = engine(Limits::default().inbound_per_second(10), &Timeouts::default());
        let mut due = 0;
        assert!((0..20).all(|_| engine.is_within_rate(&mut due)));
        assert!(!engine.is_within_rate(&mut due));
        (engine.now, due) = (100_000, 0);
        assert!((0..20).all(|_| engine.is_within_rate(&mut due)));
        for _ in 0..100 {
            engine.now += 100;
            assert!(engine.is_within_rate(&mut due));
        }
        assert!(!engine.is_within_rate(&mut due));
    }

    #[test]
    fn clients_are_pinged_at_different_times_within_a_fifth() {
        let keepalive = std::time::Duration::from_secs(16);
        let engine = engine(Limits::default(), &Timeouts::default().keepalive(keepalive));
        let times: Vec<_> =
            (16..32).map(|number| engine.keepalive_of(ClientId::new(number).unwrap())).collect();
        assert_eq!(times[0], 16_000);
        assert!(times.windows(2).all(|pair| pair[1] < pair[0]), "{times:?}");
        assert!(times[15] >= 16_000 * 4 / 5);
    }

    #[test]
    fn over_the_memory_limit_the_fullest_mailbox_gives_half_and_those_after_it_only_if_need_be() {
        let mut engine = engine(Limits::default().memory(100_000), &Timeouts::default());
        let request = upgrade();
        let clients: Vec<_> = (0..4)
            .map(|key| engine.admit(&request, address("127.0.0.1:1"), key, everyone(&engine)))
            .collect();
        for (client, count) in clients.iter().zip([10, 25, 20, 24]) {
            for _ in 0..count {
                engine.shared.send(client.id, vec![0; 1000 - 64].into()).unwrap();
            }
        }
        engine.shared.set_for(clients[1].id, "k", vec![0; 1000 - 194].into()).unwrap();
        let waiting = || {
            let bytes = |client: &Arc<Client>| client.mailbox.lock().mail.as_ref().unwrap().bytes();
            clients.iter().map(bytes).collect::<Vec<_>>()
        };
        engine.relieve();
        assert_eq!(waiting(), [10_000, 13_000, 20_000, 24_000], "values stay");
        assert_eq!(engine.shared.budget.used(), 67_000);
        assert_eq!(clients[1].info().skipped, 13);
        assert_eq!(engine.shared.stats().skipped, 13);
        engine.relieve();
        assert_eq!(waiting(), [10_000, 13_000, 20_000, 24_000], "there is no need any more");
    }

    #[test]
    fn a_burst_leaves_no_room_in_a_feed_and_relief_frees_what_a_batch_holds() {
        let mut engine = engine(Limits::default().memory(1 << 20), &Timeouts::default());
        let topic = engine.shared.topics.get("run").unwrap();
        for _ in 0..1000 {
            engine.shared.push(&topic, vec![0; 500].into(), false).unwrap();
        }
        engine.take_news();
        assert_eq!(topic.inbox.lock().queue.capacity(), 0);
        let place = engine.log_of(&topic);
        let log = &mut engine.logs[place];
        log.followers.add(0, 1);
        for _ in 0..2 {
            log.batch(Cursor::default(), engine.upto, Wire::Plain, &engine.shared.budget);
        }
        engine.shared.budget.add(700 << 10); // others'
        let before = (engine.shared.budget.used(), engine.logs[place].bytes());
        engine.relieve();
        let freed = before.1 - engine.logs[place].bytes();
        assert!(freed > 50_000, "{freed}");
        assert_eq!(engine.shared.budget.used(), before.0 - freed);
        engine.trim(place, u64::MAX);
        for _ in 0..9 {
            engine.relieve();
            engine.shared.budget.add(100 << 10);
        }
        assert!(engine.logs[place].window.capacity() < 100);
    }
}
