//! What all connections of one driver share: the window they read, the scratch space, the answers
//! to requests, the accounts.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use super::budget::Charge;
use super::client::{Client, Details};
use super::connection::Inbound;
use super::events::{DisconnectReason, Event};
use super::feed::{self, Batch, Window};
use super::queue::{Entry, Queue};
use super::shared::Shared;
use super::{ClientId, Overflow, Timeouts};
use crate::codec::{self, Message, MessageCodec, Role};
use crate::handshake::{Refusal, Request, Rules, Upgrade};
use crate::page::Page;
use crate::wire::plain;

/// [`Timeouts`] in the driver's milliseconds.
pub(crate) struct Deadlines {
    pub(crate) handshake: u64,
    pub(crate) keepalive: u64,
    pub(crate) pong: u64,
    pub(crate) stall: u64,
    pub(crate) frame: u64,
    pub(crate) close: u64,
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
}

/// What a request that is not refused gets.
pub(crate) enum Answer {
    Page(Bytes),
    /// The 101.
    Upgrade(Bytes),
}

pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) timeouts: Deadlines,
    reception: Reception,
    /// Milliseconds since the driver's start, taken once a turn.
    pub(crate) now: u64,
    /// Everyone's feed.
    pub(crate) window: Window,
    /// What most clients are owed in the pass that is going on.
    pub(crate) batch: Option<Batch>,
    /// Stamps below this have been made visible: what was pushed with them may be delivered.
    pub(crate) upto: u64,
    pub(crate) scratch: BytesMut,
    /// The feed's queue while it is taken over; then its room, which is not in use.
    taken: Queue,
    /// Whether anything was taken over since the driver last asked.
    pub(crate) news: bool,
    /// Messages lost before they could be taken over, not yet counted for the clients.
    pub(crate) lost: u64,
    /// Boxed as connections keep it, so that it changes hands without being made anew.
    spare: Option<Box<Inbound>>,
    codec_limits: codec::Limits,
    per_address: HashMap<IpAddr, usize>,
}

impl Engine {
    /// How much is read at once.
    pub(crate) const SCRATCH: usize = 64 * 1024;

    pub(crate) fn new(shared: Arc<Shared>, timeouts: &Timeouts, reception: Reception) -> Self {
        let limits = &shared.limits;
        let codec_limits = codec::Limits::default()
            .max_frame(limits.inbound_message)
            .max_message(limits.inbound_message)
            .max_fragments(limits.inbound_fragments);
        Self {
            timeouts: timeouts.into(),
            reception,
            now: 0,
            window: Window::new(limits.feed),
            batch: None,
            upto: 0,
            scratch: BytesMut::new(),
            taken: Queue::default(),
            news: false,
            lost: 0,
            spare: None,
            codec_limits,
            per_address: HashMap::new(),
            shared,
        }
    }

    // ---- requests ----

    /// What a request gets.
    pub(crate) fn decide(&self, request: &Request, address: SocketAddr) -> Result<Answer, Refusal> {
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
        if request.path() != "/" {
            return Err(Refusal::not_found(request.path()));
        }
        let limits = &self.shared.limits;
        if self.shared.registry.count() >= limits.clients {
            return Err(Refusal::full("clients", limits.clients));
        }
        if self.count_at(address) >= limits.clients_per_address {
            return Err(Refusal::full("clients from one address", limits.clients_per_address));
        }
        // The plain wire has no subprotocol: one that is offered is not agreed to.
        match upgrade.accept(None) {
            Ok(response) => Ok(Answer::Upgrade(response)),
            Err(_) => unreachable!("only a named subprotocol can fail to have been offered"),
        }
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
    ) -> Arc<Client> {
        let value = |name: &String| {
            let value = String::from_utf8_lossy(request.header(name)?).into_owned();
            Some((name.clone(), value))
        };
        let details = Details {
            path: request.target().to_owned(),
            headers: self.reception.keep_headers.iter().filter_map(value).collect(),
        };
        let client = Arc::new(Client::new(self.shared.ids.draw(), key, address, details));
        let ip = address.ip();
        if !ip.is_loopback() && !self.reception.proxies.contains(&ip) {
            *self.per_address.entry(ip).or_default() += 1;
        }
        self.shared.registry.insert(Arc::clone(&client));
        self.shared.counters.accepted.add(1);
        tracing::debug!(id = %client.id, %address, "client connected");
        self.shared.listeners.tell(|| Event::Connected { id: client.id });
        client
    }

    /// Ends being a client: nothing can be sent to it any more, and what waited for it is freed.
    pub(crate) fn dismiss(
        &mut self,
        client: &Client,
        address: SocketAddr,
        reason: DisconnectReason,
    ) {
        self.shared.registry.remove(client.id);
        let waiting = {
            let mut mailbox = client.mailbox.lock();
            mailbox.closed = true;
            mailbox.queue.take()
        };
        self.shared.budget.sub(waiting.map_or(0, |queue| queue.bytes()));
        if let Some(count) = self.per_address.get_mut(&address.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address.ip());
            }
        }
        tracing::debug!(id = %client.id, %reason, "client disconnected");
        self.shared.listeners.tell(|| Event::Disconnected { id: client.id, reason });
    }

    /// What a client gets first of all.
    pub(crate) fn greeting(&self, id: ClientId) -> Bytes {
        if self.reception.greet { plain::greeting(id.get()) } else { Bytes::new() }
    }

    pub(crate) fn tell_refused(&self, address: SocketAddr, refusal: &Refusal) {
        self.shared.counters.refused.add(1);
        let (status, reason) = (refusal.status().code(), refusal.reason());
        tracing::warn!(%address, status, reason, "request refused");
        let event = || Event::Refused { address, status, reason: reason.to_owned() };
        self.shared.listeners.tell(event);
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

    /// Takes over what callers have pushed to everyone's feed, and makes it and the mail that was
    /// pushed before it deliverable.
    pub(crate) fn take_feed(&mut self) {
        // The stamp first: all that was stamped before it is in its queue by the time that the
        // queue's lock has been taken.
        self.upto = self.shared.stamps.load(Ordering::Relaxed);
        {
            let mut feed = self.shared.feed.lock();
            std::mem::swap(&mut feed.queue, &mut self.taken);
            self.lost += std::mem::take(&mut feed.lost);
        }
        self.news |= !self.taken.is_empty();
        while let Some(entry) = self.taken.pop() {
            let (stamp, cost) = (entry.stamp, Entry::cost(&entry.message));
            self.window.push(stamp, cost, feed::encode(entry, &self.shared.budget));
        }
        self.window.reveal(self.upto);
    }

    /// Over the hub's memory limit: the fullest mailboxes lose their older half.
    pub(crate) fn relieve(&self) {
        if self.shared.overflow != Overflow::SkipOldest {
            return; // what was taken is not to be lost
        }
        let mut full: Vec<_> = self.shared.registry.all();
        full.retain(|client| client.mailbox.lock().queue.is_some());
        full.sort_by_cached_key(|client| {
            std::cmp::Reverse(client.mailbox.lock().queue.as_ref().map_or(0, |queue| queue.bytes()))
        });
        for client in full {
            if !self.shared.budget.is_tight() {
                return;
            }
            let evicted = {
                let mut mailbox = client.mailbox.lock();
                let Some(queue) = &mut mailbox.queue else { continue };
                let evicted = queue.make_room(0, queue.bytes());
                if queue.is_empty() {
                    mailbox.queue = None;
                }
                evicted
            };
            let bytes = evicted.iter().map(|entry| Entry::cost(&entry.message)).sum();
            self.shared.budget.sub(bytes);
            self.count_skipped(&client, evicted.len() as u64);
        }
    }
}

/// A copy: what is decoded is a slice of a block that others' bytes are in, too.
fn copy_with(message: &Message, map: impl FnOnce(Bytes) -> Bytes) -> Message {
    let bytes = map(Bytes::copy_from_slice(message.as_bytes()));
    match message {
        Message::Text(_) => match codec::Text::try_from(bytes) {
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

    fn engine(limits: Limits, timeouts: &Timeouts) -> Engine {
        let shared = Shared::new(limits, Overflow::default(), IdSource::new().unwrap());
        let reception = Reception {
            rules: Rules::default(),
            page: Page::default(),
            keep_headers: Vec::new(),
            proxies: vec![[10, 0, 0, 9].into()],
            greet: true,
            echo: false,
        };
        Engine::new(Arc::new(shared), timeouts, reception)
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
        let first = engine.admit(&request, far, 0);
        engine.admit(&request, address("10.0.0.1:2"), 1);
        let proxy = address("10.0.0.9:1");
        (2..6).for_each(|key| drop(engine.admit(&request, own, key)));
        (6..9).for_each(|key| drop(engine.admit(&request, proxy, key)));
        let refusal = engine.decide(&request, far).err().expect("a refusal");
        assert_eq!(refusal.status().code(), 503);
        for welcome in [other, own, proxy] {
            assert!(engine.decide(&request, welcome).is_ok(), "{welcome}");
        }
        engine.dismiss(&first, far, DisconnectReason::Lost);
        assert!(engine.decide(&request, far).is_ok());
    }

    #[test]
    fn a_client_that_is_dismissed_takes_nothing_more_and_frees_what_it_had() {
        let mut engine = engine(Limits::default(), &Timeouts::default());
        let client = engine.admit(&upgrade(), address("127.0.0.1:1"), 0);
        engine.shared.send(client.id, "waiting".into()).unwrap();
        engine.dismiss(&client, address("127.0.0.1:1"), DisconnectReason::Lost);
        assert_eq!((engine.shared.budget.used(), engine.shared.registry.count()), (0, 0));
        // Who found it a moment before is told, too.
        engine.shared.registry.insert(Arc::clone(&client));
        let late = engine.shared.send(client.id, "late".into());
        assert_eq!(late, Err(SendError::NoSuchClient(client.id)));
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
        let clients: Vec<_> =
            (0..4).map(|key| engine.admit(&request, address("127.0.0.1:1"), key)).collect();
        for (client, count) in clients.iter().zip([10, 25, 20, 24]) {
            for _ in 0..count {
                engine.shared.send(client.id, vec![0; 1000 - 64].into()).unwrap();
            }
        }
        let waiting = || {
            let bytes =
                |client: &Arc<Client>| client.mailbox.lock().queue.as_ref().unwrap().bytes();
            clients.iter().map(bytes).collect::<Vec<_>>()
        };
        engine.relieve();
        assert_eq!(waiting(), [10_000, 12_000, 20_000, 24_000]);
        assert_eq!(engine.shared.budget.used(), 66_000);
        assert_eq!(clients[1].info().skipped, 13);
        assert_eq!(engine.shared.stats().skipped, 13);
        engine.relieve();
        assert_eq!(waiting(), [10_000, 12_000, 20_000, 24_000], "there is no need any more");
    }
}
