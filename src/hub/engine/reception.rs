//! The reception: what a request gets, and how its sender becomes a client and stops being one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use crate::codec::CloseFrame;
use crate::handshake::{Refusal, Request, Status, Upgrade};
use crate::hub::client::addresses::Place;
use crate::hub::client::state::{ClientState, Details};
use crate::hub::engine::admission::{Admission, Answer, KeptRequest, Later, Verdict};
use crate::hub::engine::parts::Engine;
use crate::hub::error::FeedError;
use crate::hub::events::{DisconnectReason, Event};
use crate::hub::feed::topic::{self, By, Topic, Topics};
use crate::hub::id::ClientId;
use crate::hub::primitives::budget::Charge;
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::primitives::moment::millis;
use crate::hub::primitives::program;
use crate::page;
use crate::progress::log::Level;
use crate::progress::tell::{RUN, SERIES};
use crate::wire::v1::{self, Greeting, Lines};
use crate::wire::{Wire, plain};

/// The rule has panicked: only the client that asked for the feed is affected.
struct Panicked;

const RULE_PANICKED: &str = "the program's rule about this feed panicked";

/// The capacity for a 101 and the greeting behind it.
const RESPONSE: usize = 256;

/// The bytes of each client's request that are kept uncounted: the number of clients bounds them.
/// More bytes are counted in the share of what clients have sent.
const KEPT_UNCOUNTED: usize = 1024;

impl Engine {
    /// Decides what a request gets. The program's rule about clients is asked, unless its verdict is
    /// there: the hub may have become full, or begun to end, since the rule was asked.
    pub(crate) fn decide(
        &mut self,
        request: &Request,
        verdict: Option<Verdict>,
        address: SocketAddr,
    ) -> Result<Answer, Refusal> {
        let Admission { rules, page, proxies, frame_ancestors, .. } = &self.admission;
        let origin = rules.judge(request, proxies.contains(&address.ip().to_canonical()))?;
        #[cfg(feature = "page")]
        if !request.wants_upgrade() && matches!(request.method(), "GET" | "HEAD") {
            if let Some(script) = page::script_at(request.path()) {
                let shared = origin.map_err(|refusal| self.tell_refused(address, &refusal)).is_ok();
                return script.answer(request.headers("if-none-match"), shared).map(Answer::Page);
            }
        }
        origin?;
        if !request.wants_upgrade() {
            return match (request.method(), request.path()) {
                ("OPTIONS", _) => page::options(),
                ("GET" | "HEAD", "/jobs") => page::state(self.shared.jobs.state()),
                ("GET", "/events") => return self.decide_events(request, verdict, address),
                ("HEAD", "/events") => page::events().map(|head| vec![head]),
                ("GET" | "HEAD", path) => match feed_of(path)? {
                    Some(name) if topic::check_name(&name).is_err() => {
                        Err(Refusal::not_found(path))
                    }
                    _ => page.response(path, frame_ancestors),
                },
                (method, _) => Err(Refusal::method_not_allowed(method)),
            }
            .map(Answer::Page);
        }
        let upgrade = Upgrade::from_request(request)?;
        let feed = feed_of(request.path())?;
        let is_v1 = upgrade.offered_protocols().any(|offered| offered == v1::PROTOCOL);
        if let Some(later) = self.judge_client(request, verdict, address)? {
            return Ok(Answer::Later(later));
        }
        let mut response = Vec::with_capacity(RESPONSE);
        if self.farewell.is_some() {
            upgrade.put_answer(is_v1.then_some(v1::PROTOCOL), &mut response);
            return Ok(Answer::Goodbye(response, if is_v1 { Wire::V1 } else { Wire::Plain }));
        }
        if is_v1 {
            upgrade.put_answer(Some(v1::PROTOCOL), &mut response);
            return Ok(Answer::UpgradeToV1(response));
        }
        let topic = match feed {
            None => Arc::clone(self.shared.topics.everyone()),
            Some(name) => {
                topic::check_name(&name).map_err(|_| Refusal::not_found(request.path()))?;
                self.feed_at(&name, request)?
            }
        };
        // The plain wire has no subprotocol, so it agrees to none that is offered.
        upgrade.put_answer(None, &mut response);
        Ok(Answer::Upgrade(response, topic))
    }

    /// Decides what `GET /events` gets.
    fn decide_events(
        &mut self,
        request: &Request,
        verdict: Option<Verdict>,
        address: SocketAddr,
    ) -> Result<Answer, Refusal> {
        let level = request
            .query()
            .and_then(|query| query.split('&').find_map(|option| option.strip_prefix("level=")));
        let least = level.map_or(Some(Level::Trace), Level::named).ok_or_else(|| {
            let reason = "expected level to be trace, debug, info, warn or error";
            Refusal::new(Status::BadRequest, reason)
        })?;
        if self.farewell.is_some() {
            return Err(Refusal::new(Status::Unavailable, "the hub is shutting down"));
        }
        if let Some(later) = self.judge_client(request, verdict, address)? {
            return Ok(Answer::Later(later));
        }
        let head = page::events()?;
        let topics = (self.feed_at(RUN, request)?, self.feed_at(SERIES, request).ok());
        Ok(Answer::Events(head, topics, least))
    }

    /// Whether the sender of a request may be one more client. Returns the verdict to wait for, if
    /// the program has to decide.
    fn judge_client(
        &self,
        request: &Request,
        verdict: Option<Verdict>,
        address: SocketAddr,
    ) -> Result<Option<Later>, Refusal> {
        if self.farewell.is_none() {
            // Checked again at the hello: many newcomers may be let in before one of them says
            // hello.
            self.check_place(address.ip()).map_err(|(what, limit)| Refusal::full(what, limit))?;
            if !self.has_memory_for(request) {
                let reason = "no memory for so long a request now; shorten its path and headers";
                return Err(Refusal::new(Status::Unavailable, reason));
            }
        }
        match verdict {
            Some(verdict) => verdict.map(|()| None),
            None => Ok(self.admission.ask(request)),
        }
    }

    /// Returns the feed of this valid name for the sender of a request, with one more handle.
    fn feed_at(&self, name: &str, request: &Request) -> Result<Arc<Topic>, Refusal> {
        if !self
            .authorize_follow(name, Some(request))
            .map_err(|Panicked| Refusal::new(Status::InternalError, RULE_PANICKED))?
        {
            return Err(Refusal::new(Status::Forbidden, "this feed is not for you"));
        }
        self.shared.topic(name, By::Client).map_err(|error| match error {
            FeedError::TooMany { limit } => Refusal::full("feeds", limit),
            FeedError::InvalidName | FeedError::Exists => Refusal::not_found(request.path()),
        })
    }

    /// Whether this address has a place for one more client, or a client that is away can make one:
    /// see [`make_place`](Self::make_place).
    ///
    /// # Errors
    ///
    /// The kind of thing that there are too many of, and its limit.
    pub(crate) fn check_place(&self, ip: IpAddr) -> Result<(), (&'static str, usize)> {
        let most = self.shared.capacity().clients;
        if self.connected() >= most {
            return Err(("clients", most)); // or else a client that is away makes way
        }
        if self.clients.addresses.connected_at(ip) >= self.clients.addresses.most_at(ip) {
            return Err(("clients from one address", self.shared.limits.clients_per_address));
        }
        Ok(())
    }

    /// The number of connected clients.
    pub(crate) fn connected(&self) -> usize {
        self.shared.registry.count() - self.clients.sessions.away.len()
    }

    /// Ends clients that are away, where the limit of clients at an address, or in all, is reached.
    fn make_place(&mut self, ip: IpAddr) {
        let place = Place::of(ip);
        let others = self.clients.addresses.connected_at(ip);
        while others + self.clients.sessions.away.count_at(place)
            >= self.clients.addresses.most_at(ip)
        {
            let Some(client) = self.clients.sessions.away.first_at(place) else { break };
            self.dismiss(&client, DisconnectReason::Lost);
        }
        while self.shared.registry.count() >= self.shared.limits.clients {
            let Some(client) = self.clients.sessions.away.who_makes_way(place) else { break };
            self.dismiss(&client, DisconnectReason::Lost);
        }
    }

    /// Makes the sender of this request a client.
    pub(crate) fn admit(
        &mut self,
        request: &Request,
        address: SocketAddr,
        connection: ConnId,
        topic: Arc<Topic>,
    ) -> Arc<ClientState> {
        self.admit_as(self.details_of(request), address, connection, Some(topic))
    }

    /// Returns the details of a request that are kept.
    pub(crate) fn details_of(&self, request: &Request) -> Details {
        let value = |name: &String| {
            let value = String::from_utf8_lossy(request.header(name)?).into_owned();
            Some((name.clone(), value))
        };
        let mut details = Details {
            path: if request.target() == "/" { "" } else { request.target() }.to_owned(),
            headers: self.admission.keep_headers.iter().filter_map(value).collect(),
            charge: None,
        };
        details.charge = self.charge_of(details.allocated());
        details
    }

    /// Copies a request for the program's rules.
    pub(crate) fn keep(&self, request: &Request) -> KeptRequest {
        let charge = self.charge_of(request.allocated());
        KeptRequest { request: request.clone(), _charge: charge }
    }

    /// The charge for `bytes` kept of a request.
    fn charge_of(&self, bytes: usize) -> Option<Charge> {
        (bytes > KEPT_UNCOUNTED).then(|| Charge::of(&self.shared.kept, bytes))
    }

    /// Whether there is memory for what is kept of a request. A short request is not refused.
    fn has_memory_for(&self, request: &Request) -> bool {
        request.allocated() <= KEPT_UNCOUNTED || !self.shared.kept.is_over()
    }

    /// Makes a client that follows this feed, or none yet.
    pub(crate) fn admit_as(
        &mut self,
        details: Details,
        address: SocketAddr,
        connection: ConnId,
        topic: Option<Arc<Topic>>,
    ) -> Arc<ClientState> {
        self.make_place(address.ip());
        let id = self.shared.ids.draw();
        let client = Arc::new(ClientState::new(id, connection, address, details, topic));
        self.clients.addresses.enter(address.ip());
        self.shared.registry.insert(Arc::clone(&client));
        self.shared.counters.accepted.add(1);
        self.shared.journal.debug(|| move || tracing::debug!(%id, %address, "client connected"));
        self.shared.listeners.tell(|| Event::Connected { id: client.id });
        client
    }

    /// Ends a client: nothing can be sent to it any more, and what waited for it is freed.
    pub(crate) fn dismiss(&mut self, client: &ClientState, reason: DisconnectReason) {
        let address = self.forget_session(client);
        self.shared.registry.remove(client.id);
        let token = self.shared.gone.lock().remove(&client.id);
        // Clients that go with the hub have not left; see `Hub::ended_token`.
        let goes_with_hub = self.farewell.is_some() && reason == DisconnectReason::ByHub;
        if let Some(token) = token.filter(|_| !goes_with_hub) {
            let _ = program::run(|| token.cancel()); // which wakes tasks of the program's
        }
        let waiting = {
            let mut mailbox = client.mailbox.lock();
            (mailbox.closed, mailbox.ended) = (true, true);
            mailbox.free(mailbox.bytes(), self.shared.mail_budgets());
            mailbox.mail.take()
        };
        drop(waiting); // the program's payloads: not under the lock
        client.unfollow_all().iter().for_each(|wanted| self.shared.drop_follower(&wanted.topic));
        if let Some(address) = address {
            self.clients.addresses.leave(address.ip());
        }
        self.tell_log(client.id, &reason, |id, reason| {
            tracing::debug!(%id, reason, "client disconnected");
        });
        self.shared.listeners.tell(|| Event::Gone { id: client.id, reason });
    }

    /// Whether the program has a rule about who may follow what.
    pub(crate) fn has_rule(&self) -> bool {
        self.admission.authorize_follow.is_some()
    }

    /// Whether the program's rule lets the sender of this request follow the feed with this valid
    /// name.
    fn authorize_follow(&self, name: &str, request: Option<&Request>) -> Result<bool, Panicked> {
        let Some(rule) = &self.admission.authorize_follow else { return Ok(true) };
        let Some(request) = request else { return Ok(false) };
        program::run(|| rule(name, request)).map_err(|panic| {
            self.reports.rule_failed.lock().warn(self.clock.now, |left_out| {
                let (feed, panic) = (name.to_owned(), panic.chars().take(512).collect::<String>());
                self.shared.journal.write(move || {
                    tracing::error!(
                        feed,
                        panic,
                        left_out,
                        "the follow rule panicked; the request was refused"
                    );
                });
            });
            Panicked
        })
    }

    /// Returns the feed that a `stepcast.v1` client asks for, with one more handle.
    ///
    /// # Errors
    ///
    /// A code, and the reason.
    pub(crate) fn feed_for(
        &self,
        name: &str,
        request: Option<&Request>,
        address: SocketAddr,
    ) -> Result<Arc<Topic>, (&'static str, String)> {
        if name.is_empty() {
            return Ok(Topics::clone_handle(self.shared.topics.everyone()));
        }
        topic::check_name(name).map_err(|error| refused(&error))?;
        match self.authorize_follow(name, request) {
            Ok(true) => {}
            Ok(false) => return Err(("forbidden", "this feed is not for you".to_owned())),
            Err(Panicked) => {
                self.shared.counters.refused.add(1);
                let status = Status::InternalError.code();
                let event = || Event::Refused { address, status, reason: RULE_PANICKED.to_owned() };
                self.shared.listeners.tell(event);
                return Err(("failed", RULE_PANICKED.to_owned()));
            }
        }
        self.shared.topic(name, By::Client).map_err(|error| refused(&error))
    }

    /// Returns the beginning of the hub's clock, in milliseconds since 1970. The machine's clock is
    /// read anew, so the result is right after that clock was set.
    pub(crate) fn base(&self) -> u64 {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        millis(unix).saturating_sub(self.clock.now)
    }

    /// Writes the first line for a client on `stepcast.v1`.
    pub(crate) fn greet_v1(&self, lines: &mut Lines, id: ClientId, resumed: bool) {
        let limits = &self.shared.limits;
        lines.hello(&Greeting {
            id: id.get(),
            key: &self.shared.ids.session_key_of(id),
            epoch: self.shared.topics.epoch(),
            resumed,
            base: self.base(),
            now: self.clock.now,
            ping: self.clock.timeouts.keepalive.div_ceil(1000),
            message: limits.inbound_message,
            feeds: limits.feeds_per_client,
            rate: limits.inbound_per_second,
        });
    }

    /// Writes the greeting that a client gets first.
    pub(crate) fn put_greeting(&self, id: ClientId, out: &mut Vec<u8>) {
        if self.admission.greet {
            plain::put_greeting(id.get(), out);
        }
    }

    pub(crate) fn tell_refused(&mut self, address: SocketAddr, refusal: &Refusal) {
        self.shared.counters.refused.add(1);
        let (status, reason) = (refusal.status().code(), refusal.reason());
        self.reports.refused.warn(self.clock.now, |left_out| {
            let reason = reason.to_owned();
            self.shared.journal.write(move || {
                tracing::warn!(%address, status, reason, left_out, "request refused");
            });
        });
        let event = || Event::Refused { address, status, reason: reason.to_owned() };
        self.shared.listeners.tell(event);
    }

    /// Writes a debug line.
    pub(crate) fn tell_log(
        &self,
        id: ClientId,
        reason: &DisconnectReason,
        line: impl FnOnce(ClientId, String) + Send + 'static,
    ) {
        self.shared.journal.debug(|| {
            let reason = reason.to_string();
            move || line(id, reason)
        });
    }

    /// Logs that a client broke a rule and is closed.
    pub(crate) fn tell_failed(&mut self, id: ClientId, close: &CloseFrame) {
        let (code, reason) = (close.code().get(), close.reason());
        self.reports.failed.warn(self.clock.now, |left_out| {
            let reason = reason.to_owned();
            self.shared.journal.write(move || {
                tracing::warn!(%id, code, reason, left_out, "client closed for breaking the protocol or a limit");
            });
        });
    }

    /// The client's window as a time, in milliseconds. Zero: no window.
    pub(crate) fn freshness(&self) -> u32 {
        self.admission.freshness
    }
}

/// Returns the code and the reason for a client that does not get a feed.
fn refused(error: &FeedError) -> (&'static str, String) {
    let code = match error {
        FeedError::InvalidName | FeedError::Exists => "invalid",
        FeedError::TooMany { .. } => "full",
    };
    (code, error.to_string())
}

/// Returns the feed that a path names: `None` for `/`, which is everyone's feed.
fn feed_of(path: &str) -> Result<Option<String>, Refusal> {
    if path == "/" {
        return Ok(None);
    }
    let name = path.strip_prefix("/feed/").and_then(percent_decode);
    name.map(Some).ok_or_else(|| Refusal::not_found(path))
}

/// Decodes percent escapes (RFC 3986, 2.1). `None` for an invalid escape, and for a result that is
/// not UTF-8.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::error::SendError;
    use crate::hub::limits::{Limits, Timeouts};
    use crate::hub::testing::fixtures::{address, engine, everyone, upgrade};

    #[test]
    fn one_address_has_so_many_places_until_one_leaves_and_this_machine_and_proxies_any_number() {
        let mut engine = engine(Limits::default().clients_per_address(2), &Timeouts::default());
        let (far, other, own) =
            (address("10.0.0.1:1"), address("10.0.0.2:1"), address("127.0.0.1:1"));
        let request = upgrade();
        let first = engine.admit(&request, far, ConnId::new(0, 0), everyone(&engine));
        engine.admit(&request, address("10.0.0.1:2"), ConnId::new(1, 0), everyone(&engine));
        let proxy = address("10.0.0.9:1");
        (2..6).for_each(|key| {
            drop(engine.admit(&request, own, ConnId::new(key, 0), everyone(&engine)));
        });
        (6..9).for_each(|key| {
            drop(engine.admit(&request, proxy, ConnId::new(key, 0), everyone(&engine)));
        });
        let refusal = engine.decide(&request, None, far).err().expect("a refusal");
        assert_eq!(refusal.status().code(), 503);
        for welcome in [other, own, proxy] {
            assert!(engine.decide(&request, None, welcome).is_ok(), "{welcome}");
        }
        engine.dismiss(&first, DisconnectReason::Lost);
        assert!(engine.decide(&request, None, far).is_ok());
    }

    #[test]
    fn a_client_that_is_dismissed_takes_nothing_more_and_frees_what_it_had() {
        let mut engine = engine(Limits::default(), &Timeouts::default());
        let client =
            engine.admit(&upgrade(), address("127.0.0.1:1"), ConnId::new(0, 0), everyone(&engine));
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
}
