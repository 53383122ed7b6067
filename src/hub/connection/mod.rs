//! One connection, from its first byte to its last: a state machine with one owner of both halves
//! of its socket.
//!
//! | phase | what it reads | what it writes | ends by |
//! |---|---|---|---|
//! | handshake | the request's head | nothing | a 101 (open), any other answer (ending), the handshake timeout |
//! | newcomer | frames, of which the first has to be a hello (`stepcast.v1` only) | nothing | the hello (open), anything else (ending), the handshake timeout |
//! | open | frames | what the client is owed | the client's Close or a violation (ending), the hub's Close (leaving), a timeout, an error |
//! | leaving | frames, of which only a Close counts | the Close | the client's Close (ending), the close timeout |
//! | ending | anything, which is thrown away | what is left, then the end of the stream | the client's end of the stream, the close timeout |
//!
//! The hub ends its side of the TCP connection first and then reads until the client has ended its
//! own (RFC 6455, section 7.1.1), so that no reset overtakes the Close.

mod follows;
mod reading;
mod v1;
mod writing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::budget::Charge;
use super::client::ClientState;
use super::engine::{Engine, Used};
use super::events::DisconnectReason;
use super::item::Cursor;
use super::moment::Moment;
use super::outbox::Outbox;
use super::pace::Pace;
use super::reception::Answer;
use crate::codec::{CloseCode, CloseFrame, ControlPayload};
use crate::handshake::{HeadLimits, Refusal, Request, RequestReader, Status, Upgrade};
use crate::hub::goodbye::COME_BACK;
use crate::wire::{Wire, v1 as wire_v1};

use follows::Why;
pub(crate) use follows::{Follow, Follows};
pub(crate) use reading::Inbound;
pub(crate) use v1::refused;
use v1::{Newcomer, REFUSED, V1};

/// Messages of one client that are looked at before others have their turn, counted as in its rate.
const WORK: usize = 64;

pub(crate) struct Connection {
    stream: TcpStream,
    /// Puts this connection on the driver's ready list.
    waker: Waker,
    outbox: Option<Box<Outbox>>,
    /// Whether the driver has it on its list of those that are owed something.
    listed: bool,
    /// Its serial number, modulo 2^32: which of those at its place it is.
    serial: u32,
    phase: Phase,
}

enum Phase {
    Handshake(Box<Handshake>),
    Newcomer(Box<Newcomer>),
    Open(Open),
    Leaving { deadline: u64, inbound: Option<Box<Inbound>> },
    Ending(Ending),
}

/// A request that is not complete.
struct Handshake {
    reader: RequestReader,
    buffer: BytesMut,
    /// What is counted of the buffer, once there is something in it.
    charge: Option<Charge>,
    address: SocketAddr,
    deadline: u64,
}

/// A client.
struct Open {
    client: Arc<ClientState>,
    /// Where it stands in what it follows.
    follows: Follows,
    /// Whether its mailbox may hold something.
    has_mail: bool,
    heard_at: Moment,
    /// When it was sent something last.
    sent_at: Moment,
    /// When the last ping left that is not answered.
    pinged_at: Option<Moment>,
    /// How much of its rate it had used when it was heard last.
    used: Used,
    inbound: Option<Box<Inbound>>,
    leave: Option<Box<Leave>>,
    /// How much may be on its way.
    pace: Pace,
    /// Since when it is owed something and may have no more on its way.
    held_since: Option<Moment>,
    wire: Wire,
    /// On `stepcast.v1`: what few have, and how many of its lines were none.
    v1: Option<Box<V1>>,
    errors: u8,
}

impl Open {
    fn new(client: Arc<ClientState>, follows: Follows, wire: Wire, engine: &Engine) -> Self {
        Self {
            client,
            follows,
            has_mail: false,
            heard_at: Moment::at(engine.now),
            sent_at: Moment::at(engine.now),
            pinged_at: None,
            used: Used::default(),
            inbound: None,
            leave: None,
            pace: Pace::new(engine.freshness()),
            held_since: None,
            wire,
            v1: None,
            errors: 0,
        }
    }

    /// It is heard at this time.
    fn hear_at(&mut self, now: u64) {
        self.used = self.used.after(self.heard_at.passed(now));
        self.heard_at = Moment::at(now);
    }
}

/// The connection is to be closed when the client has what was pushed to it before.
struct Leave {
    close: CloseFrame,
    /// What was stamped before this goes before the Close.
    upto: u64,
    deadline: u64,
    /// Because of what the client did: then nothing more is read.
    is_violation: bool,
    /// Because the hub ends.
    hub_ends: bool,
}

#[derive(Clone, Copy)]
struct Ending {
    deadline: u64,
    /// Whether our side of the stream has ended, and the peer's.
    ours: bool,
    theirs: bool,
    /// Whether it ends without ever having been a client's.
    is_stranger: bool,
}

/// Whether a request that may not be complete asks for no content in the answer.
fn asks_head(received: &[u8]) -> bool {
    received.starts_with(b"HEAD ")
}

/// Whether a page may be told why it is refused: it has passed the rules about hosts and origins.
/// Any site may try a socket to this machine, and is not to learn from it that a hub runs here, as
/// it is not from the script.
fn may_be_told(refusal: &Refusal) -> bool {
    matches!(refusal.status(), Status::NotFound | Status::Unavailable)
}

/// The 101 for a client that offers `stepcast.v1`, if the request is a right one.
fn upgrade_to_v1(request: &Request) -> Option<Vec<u8>> {
    let upgrade = request.wants_upgrade().then(|| Upgrade::from_request(request).ok())??;
    let is_v1 = upgrade.offered_protocols().any(|offered| offered == wire_v1::PROTOCOL);
    is_v1.then(|| {
        let mut response = Vec::new();
        upgrade.put_answer(Some(wire_v1::PROTOCOL), &mut response);
        response
    })
}

/// The connection is over: its place can be given away.
pub(crate) struct Over;

type Step = Result<(), Over>;

impl Connection {
    /// The connection with this serial number, whose request has to be complete by `deadline`.
    pub(crate) fn new(
        stream: TcpStream,
        address: SocketAddr,
        waker: Waker,
        serial: u32,
        deadline: u64,
        head: HeadLimits,
    ) -> Self {
        let handshake = Handshake {
            reader: RequestReader::new(head),
            buffer: BytesMut::new(),
            charge: None,
            address,
            deadline,
        };
        let phase = Phase::Handshake(Box::new(handshake));
        Self { stream, waker, outbox: None, listed: false, serial, phase }
    }

    /// Whether it is not, and never was, a client's: it asks, or takes the answer.
    pub(crate) fn is_stranger(&self) -> bool {
        match &self.phase {
            Phase::Handshake(_) | Phase::Newcomer(_) => true,
            Phase::Ending(ending) => ending.is_stranger,
            _ => false,
        }
    }

    /// Whether it was a client's, and only has to end.
    pub(crate) fn is_parting(&self) -> bool {
        match &self.phase {
            Phase::Leaving { .. } => true,
            Phase::Ending(ending) => !ending.is_stranger,
            _ => false,
        }
    }

    /// Whether its request is not complete.
    pub(crate) fn is_in_handshake(&self) -> bool {
        matches!(self.phase, Phase::Handshake(_))
    }

    /// The client, while the connection is open.
    pub(crate) fn client(&self) -> Option<&Arc<ClientState>> {
        match &self.phase {
            Phase::Open(open) => Some(&open.client),
            _ => None,
        }
    }

    /// Whether this is the connection of this number.
    pub(crate) fn is(&self, serial: u32) -> bool {
        self.serial == serial
    }

    pub(crate) fn serial(&self) -> u32 {
        self.serial
    }

    /// Whether all that was stamped before this has left, or will not. `drains`: whether all of it has
    /// been taken up, which is remembered until then.
    pub(crate) fn has_left(&mut self, upto: u64, drains: &mut bool, engine: &Engine) -> bool {
        if self.is_stranger() {
            return true;
        }
        let outbox = self.outbox.as_mut().filter(|outbox| !outbox.is_empty());
        if *drains {
            return outbox.is_none_or(|outbox| !outbox.is_marked());
        }
        if let Phase::Open(open) = &self.phase {
            if open.follows.is_owed(&open.client, true, engine, upto) {
                return false;
            }
        }
        *drains = true;
        // An outbox is filled only when it is empty, so what is taken up later is in another.
        outbox.map(|outbox| outbox.mark()).is_none()
    }

    /// Whether this is the connection of this number and follows the feed at this place.
    pub(crate) fn follows(&self, place: usize, serial: u32) -> bool {
        let follows = || matches!(&self.phase, Phase::Open(open) if open.follows.contains(place));
        self.serial == serial && follows()
    }

    /// Shows where it stands in each feed, and how many bytes may be lost with its connection.
    pub(crate) fn cursors(&self, mut see: impl FnMut(usize, Cursor, u32)) {
        if let Phase::Open(open) = &self.phase {
            let under_way = if open.is_v1() { open.pace.unanswered() } else { 0 };
            open.follows.iter().for_each(|follow| see(follow.place(), follow.cursor, under_way));
        }
    }

    pub(crate) fn count_skipped(&self, engine: &Engine, skipped: u64) {
        if let Phase::Open(open) = &self.phase {
            engine.count_skipped(&open.client, skipped);
        }
    }

    /// Whether a client is owed what its socket, or its window, does not take now.
    pub(crate) fn is_blocked(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.held_since.is_some() || self.outbox.is_some())
    }

    /// Whether its mailbox may hold something, or it is to leave, and it could do something about
    /// that. (Not while its socket or its window is full: the socket, or an answer, will say when.)
    pub(crate) fn has_more(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.has_mail || open.leave.is_some())
            && !self.is_blocked()
    }

    /// Whether the driver is to list it: it is a client, and not listed yet.
    pub(crate) fn list(&mut self) -> bool {
        matches!(self.phase, Phase::Open(_)) && !std::mem::replace(&mut self.listed, true)
    }

    /// Follows what the program wants it to follow, if that has changed: how many feeds it has looked at.
    pub(crate) fn follow_as_told(&mut self, engine: &mut Engine, key: usize) -> usize {
        let Phase::Open(open) = &mut self.phase else { return 0 };
        if !open.is_v1() {
            return open.follows.follow_as_told(&open.client, engine, key, self.serial);
        }
        let Some(wanted) = open.client.take_wishes() else { return 0 };
        let connection = (key, self.serial);
        for gone in open.follows.unfollow_unwanted(&open.client, &wanted, engine, connection) {
            open.take_gone(gone, engine);
        }
        self.follow_all(&wanted, engine, key);
        wanted.len()
    }

    /// Its turn has come on the driver's list.
    pub(crate) fn take_listed(&mut self, engine: &mut Engine) -> Step {
        self.listed = false;
        self.flush(engine)
    }

    /// Since when a client has taken nothing of what it is being written, if it is being written.
    pub(crate) fn stuck_since(&self) -> Option<u64> {
        self.client()?;
        self.outbox.as_ref().filter(|outbox| outbox.has_data()).map(|outbox| outbox.progress_at)
    }

    /// Its socket has something to say.
    pub(crate) fn ready(&mut self, engine: &mut Engine, key: usize) -> Step {
        engine.work = WORK;
        self.read(engine, key)?;
        self.flush(engine)
    }

    // ---- handshake ----

    fn answer(&mut self, request: &Request, address: SocketAddr, engine: &mut Engine, key: usize) {
        // The handshake's state goes first, and the client, which is as large, takes its place: others that stay
        // are not kept apart by what was free between them.
        self.end(engine);
        match engine.decide(request, address) {
            Ok(Answer::Page(parts)) => {
                let (outbox, mut parts) = (self.owe(engine.now), parts.into_iter());
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
                    request: engine.asked_of(request),
                    details: engine.details_of(request),
                    address,
                    key,
                    deadline: engine.now + engine.timeouts.handshake,
                    used: Used::default(),
                    inbound: None,
                };
                self.phase = Phase::Newcomer(Box::new(newcomer));
            }
            Ok(Answer::Upgrade(mut both, topic)) => {
                let place = engine.log_of(&topic);
                let client = engine.admit(request, address, (key, self.serial), topic);
                let cursor = engine.follow(place, key, self.serial, u64::MAX);
                // One write for both: browsers learn their id with the answer.
                engine.put_greeting(client.id, &mut both);
                self.send_at_once(both, engine);
                let follows = Follows::one(Follow::new(place, cursor));
                self.phase = Phase::Open(Open::new(client, follows, Wire::Plain, engine));
            }
            Ok(Answer::Goodbye(response, wire)) => {
                self.send_at_once(response, engine);
                if let Some(goodbye) = engine.goodbye.clone() {
                    self.say_goodbye(&goodbye, wire, engine);
                }
            }
            Err(refusal) => match upgrade_to_v1(request).filter(|_| may_be_told(&refusal)) {
                // Browsers show a page no answer to a handshake but the 101.
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

    /// Answers a request with a refusal, to `HEAD` without content.
    fn refuse(
        &mut self,
        refusal: &Refusal,
        is_head: bool,
        address: SocketAddr,
        engine: &mut Engine,
    ) {
        engine.tell_refused(address, refusal);
        let answer = if is_head { refusal.response_to_head() } else { refusal.response() };
        self.owe(engine.now).push_own(answer.into());
        self.end(engine);
    }

    /// The request did not come in time.
    fn time_out_handshake(&mut self, engine: &mut Engine) -> Step {
        match self.asking() {
            Some(address) => {
                let is_head =
                    matches!(&self.phase, Phase::Handshake(asks) if asks_head(&asks.buffer));
                self.refuse(&Refusal::timeout(), is_head, address, engine);
                self.flush(engine)
            }
            // Browsers open connections ahead of need and may never use them: nothing to answer.
            None => Err(Over),
        }
    }

    /// Newer connections need the place of one that is not a client's.
    pub(crate) fn make_way(&mut self, limit: usize, engine: &mut Engine) -> Step {
        if let Some(address) = self.asking() {
            engine.tell_refused(address, &Refusal::full("handshakes in progress", limit));
        }
        Err(Over)
    }

    /// Who has begun a request.
    fn asking(&self) -> Option<SocketAddr> {
        match &self.phase {
            Phase::Handshake(handshake) if !handshake.buffer.is_empty() => Some(handshake.address),
            _ => None,
        }
    }

    // ---- leaving ----

    /// The connection is no client any more: nobody can send to it, and everybody is told; unless the client may come
    /// back, or has another connection.
    fn depart(&mut self, engine: &mut Engine, reason: DisconnectReason) {
        self.leave_feeds(engine);
        let Phase::Open(open) = &self.phase else { return };
        if open.is_v1() {
            if !open.client.is_on(self.serial) {
                return;
            }
            // Whose end has been decided on does not come back, however its connection ends before.
            if reason.may_come_back() && open.leave.is_none() {
                engine.hold(&open.client, open.follows.iter(), open.pace.unanswered());
                return engine.detach(&open.client, reason);
            }
        }
        engine.dismiss(&open.client, reason);
    }

    fn leave_feeds(&self, engine: &mut Engine) {
        if let Phase::Open(open) = &self.phase {
            open.follows.iter().for_each(|follow| engine.unfollow(follow.place()));
        }
    }

    /// The hub closes: the Close goes out when the client has what was pushed before this call,
    /// for which it has until `deadline`.
    pub(crate) fn leave(&mut self, engine: &mut Engine, close: CloseFrame, deadline: u64) -> Step {
        self.prepare_to_leave(engine, close, deadline, false);
        self.flush(engine)
    }

    /// The hub ends, at the latest at `by`.
    pub(crate) fn leave_at_the_end(&mut self, engine: &mut Engine, by: u64) -> Step {
        let Some(goodbye) = engine.goodbye.clone() else { return Ok(()) };
        match self.phase {
            Phase::Handshake(_) => return Ok(()), // it may still hear it
            Phase::Newcomer(_) => self.say_goodbye(&goodbye, Wire::V1, engine),
            _ if self.is_stranger() => return Err(Over),
            _ => {
                self.prepare_to_leave(engine, goodbye.close(), by, false);
                if let Phase::Open(Open { leave: Some(leave), .. }) = &mut self.phase {
                    // A client whose end was decided on before keeps its own reason.
                    leave.hub_ends = leave.close == goodbye.close();
                }
            }
        }
        self.flush(engine)
    }

    fn prepare_to_leave(
        &mut self,
        engine: &Engine,
        close: CloseFrame,
        deadline: u64,
        is_violation: bool,
    ) {
        if let Phase::Open(open) = &mut self.phase {
            // Nothing is taken any more that would not be delivered.
            {
                let mut mailbox = open.client.mailbox.lock();
                (mailbox.closed, mailbox.ended) = (true, true);
            }
            let upto = engine.shared.stamps.load(Ordering::Relaxed);
            open.has_mail = true; // perhaps something that the driver has not heard of yet
            let leave = Leave { close, upto, deadline, is_violation, hub_ends: false };
            match &mut open.leave {
                // What it did counts, and when it was to leave anyway.
                Some(old) if is_violation => (old.close, old.is_violation) = (leave.close, true),
                Some(_) => {}
                None => open.leave = Some(Box::new(leave)),
            }
        }
    }

    /// The hub closes a client that is too slow: at once, since it would not take more.
    pub(crate) fn drop_too_slow(&mut self, engine: &mut Engine) -> Step {
        self.end_too_slow(engine);
        self.flush(engine)
    }

    /// The client has what it was owed.
    fn start_leaving(&mut self, leave: Leave, engine: &mut Engine) {
        let close = match (&engine.goodbye, &self.phase) {
            (Some(goodbye), Phase::Open(open)) if leave.hub_ends && !leave.is_violation => {
                self.farewell_at_the_end(goodbye, open.wire, engine)
            }
            _ => self.farewell(leave.close.clone(), engine),
        };
        if leave.is_violation {
            self.depart(engine, DisconnectReason::Violation(leave.close));
            self.owe(engine.now).close(Some(close));
            self.end(engine);
            self.waker.wake_by_ref(); // to read again
        } else {
            self.depart(engine, DisconnectReason::ByHub);
            self.owe(engine.now).close(Some(close));
            let deadline = engine.now + engine.timeouts.close;
            self.phase = Phase::Leaving { deadline, inbound: self.inbound().take() };
        }
    }

    fn end(&mut self, engine: &mut Engine) {
        let is_stranger = self.is_stranger();
        let deadline = match self.phase {
            Phase::Ending(Ending { deadline, .. }) | Phase::Leaving { deadline, .. } => deadline,
            _ => engine.now + engine.timeouts.close,
        };
        self.phase = Phase::Ending(Ending { deadline, ours: false, theirs: false, is_stranger });
    }

    /// The driver gives the connection up, whatever it is owed.
    pub(crate) fn abort(&mut self, engine: &mut Engine, reason: DisconnectReason) {
        self.depart(engine, reason);
        // A reset: the kernel would go on holding what it has for a peer that takes nothing.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        // At once, even where a child process, forked meanwhile, holds the socket. (`shutdown` would say first that
        // all has been sent.)
        #[cfg(any(target_os = "android", target_os = "linux"))]
        let _ = rustix::net::connect_unspec(&self.stream);
    }

    fn end_too_slow(&mut self, engine: &mut Engine) {
        if let Some(outbox) = &mut self.outbox {
            outbox.give_up_queue();
        }
        let close = self.farewell(CloseFrame::new(CloseCode::TRY_AGAIN_LATER, "too slow"), engine);
        self.depart(engine, DisconnectReason::TooSlow);
        self.owe(engine.now).close(Some(close));
        self.end(engine);
    }

    // ---- time ----

    /// Looks at every deadline of this connection.
    pub(crate) fn tick(&mut self, engine: &mut Engine) -> Step {
        let now = engine.now;
        if let Some(outbox) = &self.outbox {
            let stalled = now >= outbox.progress_at + engine.timeouts.stall;
            let too_long = outbox.in_frame() && now >= outbox.begun_at + engine.timeouts.frame;
            if !outbox.is_empty() && (stalled || too_long) {
                return self.time_out(engine);
            }
        }
        if self.arriving_since().is_some_and(|since| now >= since + engine.timeouts.frame) {
            return self.time_out_arriving(engine);
        }
        let open = match &mut self.phase {
            Phase::Open(open) => open,
            Phase::Handshake(handshake) => {
                let late = now >= handshake.deadline;
                return if late { self.time_out_handshake(engine) } else { Ok(()) };
            }
            Phase::Newcomer(newcomer) => {
                let late = now >= newcomer.deadline;
                return if late { self.time_out_newcomer(engine) } else { Ok(()) };
            }
            Phase::Leaving { deadline, .. } => {
                return if now < *deadline { Ok(()) } else { self.time_out(engine) };
            }
            Phase::Ending(ending) => {
                // Who is still taking an answer, such as a large page, has time from its last byte on.
                let taking =
                    self.outbox.as_ref().map_or(0, |o| o.progress_at + engine.timeouts.close);
                return if now < taking.max(ending.deadline) {
                    Ok(())
                } else {
                    self.time_out(engine)
                };
            }
        };
        if open.leave.as_ref().is_some_and(|leave| now >= leave.deadline) {
            return self.time_out(engine);
        }
        // A message that is longer than any window takes its own time to be read.
        let patience = if open.pace.is_in_a_long_message() {
            engine.timeouts.frame
        } else {
            engine.timeouts.stall
        };
        if open.held_since.is_some_and(|since| since.passed(now) >= patience) {
            return self.time_out(engine);
        }
        if let Some(at) = open.pinged_at {
            return if at.passed(now) >= engine.timeouts.pong {
                self.time_out(engine)
            } else {
                Ok(())
            };
        }
        let keepalive = engine.keepalive_of(self.serial);
        let silent = open.heard_at.passed(now) >= keepalive;
        match open.wire {
            Wire::V1 if silent || open.sent_at.passed(now) >= keepalive => {
                open.pinged_at = Some(Moment::at(now));
                let numbers = open.pace.numbers(now);
                open.lines().ping(numbers);
                open.asked(engine);
                self.flush(engine)
            }
            // A client that talks and is told nothing: proxies cut where one side has been silent.
            Wire::Plain
                if (silent || open.sent_at.passed(now) >= keepalive)
                    && !self.outbox.as_ref().is_some_and(|outbox| outbox.has_ping()) =>
            {
                open.pace.pinged();
                self.owe(now).ping(ControlPayload::default());
                self.flush(engine)
            }
            _ => Ok(()),
        }
    }

    fn time_out(&mut self, engine: &mut Engine) -> Step {
        let reason = match &self.phase {
            Phase::Open(Open { leave: Some(leave), .. }) if leave.is_violation => {
                DisconnectReason::Violation(leave.close.clone())
            }
            Phase::Open(Open { leave: Some(_), .. }) => DisconnectReason::ByHub,
            _ => DisconnectReason::TimedOut,
        };
        self.abort(engine, reason);
        Err(Over)
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        // 184 without what mio checks in debug builds. `docs/performance.md` says what an idle client costs in all.
        assert!(size_of::<Connection>() <= 192, "{}", size_of::<Connection>());
    }
}
