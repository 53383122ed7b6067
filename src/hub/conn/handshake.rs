//! The handshake: a request becomes a client, a page, or a refusal.

use std::net::SocketAddr;
use std::task::Poll;

use bytes::BytesMut;

use crate::handshake::{Refusal, Request, Status, Upgrade};
use crate::hub::conn::phase::{Connection, Newcomer, Open, Over, Pending, Phase, Step, asks_head};
use crate::hub::conn::v1::REFUSED;
use crate::hub::engine::admission::{Answer, Verdict};
use crate::hub::engine::follows::{Follow, Follows};
use crate::hub::engine::intake::Used;
use crate::hub::engine::parts::Engine;
use crate::hub::feed::stamp::Stamp;
use crate::hub::goodbye::COME_BACK;
use crate::wire::{Wire, v1 as wire_v1};

/// Whether a page may be told why it is refused: only after its host and origin passed the rules.
/// Any site may try a socket to this machine, and must not learn from the refusal that a hub runs
/// here. Nor does the script tell such a site.
fn may_be_told(refusal: &Refusal) -> bool {
    matches!(refusal.status(), Status::NotFound | Status::Unavailable)
}

/// Returns the 101 for a client that offers `stepcast.v1`, if the request is valid.
fn upgrade_to_v1(request: &Request) -> Option<Vec<u8>> {
    let upgrade = request.wants_upgrade().then(|| Upgrade::from_request(request).ok())??;
    let is_v1 = upgrade.offered_protocols().any(|offered| offered == wire_v1::PROTOCOL);
    is_v1.then(|| {
        let mut response = Vec::new();
        upgrade.put_answer(Some(wire_v1::PROTOCOL), &mut response);
        response
    })
}

impl Connection {
    // ---- handshake ----

    /// Answers a request, or asks the program about it first.
    pub(super) fn answer(
        &mut self,
        request: &Request,
        verdict: Option<Verdict>,
        address: SocketAddr,
        deadline: u64,
        engine: &mut Engine,
    ) {
        // The handshake's state is freed first, and the client, which is as large, takes its place.
        // Other long-lived allocations are then not kept apart by holes.
        self.end(engine);
        match engine.decide(request, verdict, address) {
            Ok(Answer::Later(verdict)) => {
                let request = engine.keep(request);
                let early = BytesMut::new();
                let pending = Pending { verdict, request, address, deadline, early, charge: None };
                self.phase = Phase::Pending(Box::new(pending));
            }
            Ok(Answer::Page(parts)) => {
                let (outbox, mut parts) = (self.owe(engine.clock.now), parts.into_iter());
                if let Some(head) = parts.next() {
                    outbox.push_own(head.into());
                }
                let parts = parts.filter(|_| !request.is_head());
                for shared in parts {
                    outbox.push(shared.into());
                }
            }
            Ok(Answer::UpgradeToV1(response)) => {
                self.send_at_once(response, engine);
                let newcomer = Newcomer {
                    request: engine.has_rule().then(|| Box::new(engine.keep(request))),
                    details: engine.details_of(request),
                    address,
                    deadline: engine.clock.now + engine.clock.timeouts.handshake,
                    used: Used::default(),
                    inbound: None,
                };
                self.phase = Phase::Newcomer(Box::new(newcomer));
            }
            Ok(Answer::Upgrade(mut both, topic)) => {
                let place = engine.feeds.log_of(&topic);
                let client = engine.admit(request, address, self.id, topic);
                let cursor = engine.feeds.follow(place, self.id, Stamp::MAX, engine.clock.now);
                // One write for the response and the greeting: browsers learn their id with the
                // answer.
                engine.put_greeting(client.id, &mut both);
                self.send_at_once(both, engine);
                let follows = Follows::one(Follow::new(place, cursor));
                self.phase = Phase::Open(Open::new(client, follows, Wire::Plain, engine));
            }
            Ok(Answer::Events(head, topics, least)) => {
                self.begin_events((head, topics, least), request, address, engine);
            }
            Ok(Answer::Goodbye(response, wire)) => {
                self.send_at_once(response, engine);
                if let Some(goodbye) = engine.goodbye() {
                    self.say_goodbye(&goodbye, wire, engine);
                }
            }
            Err(refusal) => match upgrade_to_v1(request).filter(|_| may_be_told(&refusal)) {
                // Browsers show a page no answer to a handshake except the 101.
                Some(response) => {
                    engine.tell_refused(address, &refusal);
                    self.send_at_once(response, engine);
                    let comes_back = refusal.status() == Status::Unavailable;
                    let code = if comes_back { COME_BACK } else { REFUSED };
                    self.turn_away(code, refusal.reason(), engine);
                }
                None => self.refuse(&refusal, request.is_head(), address, engine),
            },
        }
    }

    /// Answers a request that waits for the program's verdict, if the verdict has come.
    pub(super) fn hear_verdict(&mut self, engine: &mut Engine) -> Step {
        let Phase::Pending(pending) = &mut self.phase else { return Ok(()) };
        let Poll::Ready(verdict) = pending.verdict.poll(&self.waker) else { return Ok(()) };
        self.conclude(verdict, engine)
    }

    /// Answers a request by this verdict. Then reads what has come behind the request.
    pub(super) fn conclude(&mut self, verdict: Verdict, engine: &mut Engine) -> Step {
        let Phase::Pending(pending) = &mut self.phase else { return Ok(()) };
        let Pending { address, deadline, .. } = **pending;
        let (request, mut early) =
            (pending.request.request.clone(), std::mem::take(&mut pending.early));
        self.answer(&request, Some(verdict), address, deadline, engine);
        if early.is_empty() {
            return Ok(());
        }
        self.waker.wake_by_ref(); // to read again
        self.received(&mut early, engine)
    }

    /// Answers a request for which no verdict has come in time.
    pub(super) fn time_out_pending(&mut self, engine: &mut Engine) -> Step {
        let reason = "the program's rule about clients gave no verdict in time; try again later";
        self.conclude(Err(Refusal::new(Status::Unavailable, reason)), engine)?;
        self.write(engine)
    }

    /// Answers a request with a refusal; a `HEAD` request gets no content.
    pub(super) fn refuse(
        &mut self,
        refusal: &Refusal,
        is_head: bool,
        address: SocketAddr,
        engine: &mut Engine,
    ) {
        engine.tell_refused(address, refusal);
        let answer = if is_head { refusal.response_to_head() } else { refusal.response() };
        self.owe(engine.clock.now).push_own(answer.into());
        self.end(engine);
    }

    /// Ends a handshake whose request did not come in time.
    pub(super) fn time_out_handshake(&mut self, engine: &mut Engine) -> Step {
        match self.asking() {
            Some(address) => {
                let is_head =
                    matches!(&self.phase, Phase::Handshake(asks) if asks_head(&asks.buffer));
                self.refuse(&Refusal::timeout(), is_head, address, engine);
                self.write(engine)
            }
            // Browsers open connections ahead of need and may never use them: nothing to answer.
            None => Err(Over),
        }
    }

    /// Closes a connection that is not a client's, because newer connections need its place.
    pub(crate) fn make_way(&mut self, limit: usize, engine: &mut Engine) -> Step {
        if let Some(address) = self.asking() {
            engine.tell_refused(address, &Refusal::full("handshakes in progress", limit));
        }
        Err(Over)
    }

    /// Returns the address of a peer that has begun a request.
    pub(super) fn asking(&self) -> Option<SocketAddr> {
        match &self.phase {
            Phase::Handshake(handshake) if !handshake.buffer.is_empty() => Some(handshake.address),
            Phase::Pending(pending) => Some(pending.address),
            _ => None,
        }
    }
}
