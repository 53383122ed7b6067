//! One connection, from its first byte to its last: a state machine with one owner of both halves
//! of its socket.
//!
//! | phase | what it reads | what it writes | ends by |
//! |---|---|---|---|
//! | handshake | the request's head | nothing | a 101 (open), any other answer (ending), the handshake timeout |
//! | open | frames | what the client is owed | the client's Close or a violation (ending), the hub's Close (leaving), a timeout, an error |
//! | leaving | frames, of which only a Close counts | the Close | the client's Close (ending), the close timeout |
//! | ending | anything, which is thrown away | what is left, then the end of the stream | the client's end of the stream, the close timeout |
//!
//! The hub ends its side of the TCP connection first and then reads until the client has ended its
//! own (RFC 6455, section 7.1.1), so that no reset overtakes the Close.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_util::codec::Decoder;
use tokio_util::io::poll_read_buf;

use super::budget::Charge;
use super::client::Client;
use super::engine::Engine;
use super::events::DisconnectReason;
use super::feed::{self, Batch};
use super::limits::Overflow;
use super::outbox::{Outbox, poll_write_parts};
use super::queue::Entry;
use crate::codec::{
    CloseCode, CloseFrame, CodecError, Control, ControlPayload, Incoming, MessageCodec,
};
use crate::handshake::{HeadLimits, Refusal, Request, RequestReader};

/// Reads of one socket before the others have their turn.
const READS: usize = 4;

/// How much a connection takes up at once of what it is owed: what has been taken up is written
/// even if newer messages come.
const TAKE_BYTES: usize = 64 * 1024;
const TAKE_FRAMES: usize = 64;

pub(crate) struct Connection {
    stream: TcpStream,
    /// Puts this connection on the driver's ready list.
    waker: Waker,
    pub(crate) address: SocketAddr,
    outbox: Option<Box<Outbox>>,
    phase: Phase,
}

enum Phase {
    Handshake(Box<Handshake>),
    Open(Open),
    Leaving { deadline: u64, inbound: Option<Box<Inbound>> },
    Ending { deadline: u64, ended: bool },
}

/// A request that is not complete.
struct Handshake {
    /// By when it is to be complete.
    deadline: u64,
    reader: RequestReader,
    buffer: BytesMut,
}

/// A client.
struct Open {
    client: Arc<Client>,
    /// Its position in everyone's feed.
    cursor: u64,
    /// Whether its mailbox may hold something.
    has_mail: bool,
    heard_at: u64,
    ping: Ping,
    /// When, at the permitted rate, its last inbound message would have been due, in microseconds.
    inbound_due: u64,
    inbound: Option<Box<Inbound>>,
    /// To be sent once it has what it is owed.
    leave: Option<Box<CloseFrame>>,
}

#[derive(Clone, Copy)]
enum Ping {
    None,
    Waiting,
    Left(u64),
}

/// What an inbound message that is not complete needs; a connection without one has none.
pub(crate) struct Inbound {
    codec: MessageCodec,
    buffer: BytesMut,
    charge: Charge,
}

impl Inbound {
    pub(crate) fn new(codec: MessageCodec, charge: Charge) -> Self {
        Self { codec, buffer: BytesMut::new(), charge }
    }
}

/// The connection is over: its place can be given away.
pub(crate) struct Over;

type Step = Result<(), Over>;

impl Connection {
    pub(crate) fn new(
        stream: TcpStream,
        address: SocketAddr,
        waker: Waker,
        handshake_by: u64,
    ) -> Self {
        let handshake = Handshake {
            deadline: handshake_by,
            reader: RequestReader::new(HeadLimits::default()),
            buffer: BytesMut::new(),
        };
        Self { stream, waker, address, outbox: None, phase: Phase::Handshake(Box::new(handshake)) }
    }

    pub(crate) fn in_handshake(&self) -> bool {
        matches!(self.phase, Phase::Handshake(_))
    }

    /// Whether its request is to be complete by then, and is not: the connection that was in this
    /// one's place before had another deadline.
    pub(crate) fn in_handshake_until(&self, deadline: u64) -> bool {
        matches!(&self.phase, Phase::Handshake(handshake) if handshake.deadline == deadline)
    }

    /// The client, while the connection is open.
    pub(crate) fn client(&self) -> Option<&Arc<Client>> {
        match &self.phase {
            Phase::Open(open) => Some(&open.client),
            _ => None,
        }
    }

    /// Whether it has been handed everything there is, as far as `live`.
    pub(crate) fn is_caught_up(&self, live: u64) -> bool {
        match &self.phase {
            Phase::Open(open) => open.cursor == live,
            _ => true,
        }
    }

    /// Whether its mailbox holds something that it could be looking at: not while its socket is
    /// full, since then the socket will say when.
    pub(crate) fn has_mail_to_take(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.has_mail) && self.outbox.is_none()
    }

    /// Its socket has something to say.
    pub(crate) fn ready(&mut self, engine: &mut Engine, key: usize) -> Step {
        self.read(engine, key)?;
        self.flush(engine)
    }

    // ---- reading ----

    fn read(&mut self, engine: &mut Engine, key: usize) -> Step {
        let mut scratch = std::mem::take(&mut engine.scratch);
        let result = self.read_into(&mut scratch, engine, key);
        scratch.clear();
        engine.scratch = scratch;
        result
    }

    fn read_into(&mut self, scratch: &mut BytesMut, engine: &mut Engine, key: usize) -> Step {
        for _ in 0..READS {
            scratch.clear();
            scratch.reserve(Engine::SCRATCH);
            let mut cx = Context::from_waker(&self.waker);
            match poll_read_buf(std::pin::Pin::new(&mut self.stream), &mut cx, scratch) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(count)) if count > 0 => {
                    engine.shared.counters.bytes_in.add(count as u64);
                    self.received(scratch, engine, key)?;
                }
                Poll::Ready(_) => return self.lost(engine),
            }
        }
        self.waker.wake_by_ref(); // there may be more: after the others
        Ok(())
    }

    /// The peer's stream has ended, or broke.
    fn lost(&mut self, engine: &mut Engine) -> Step {
        self.depart(engine, DisconnectReason::Lost);
        self.end(engine);
        Err(Over)
    }

    fn received(&mut self, bytes: &mut BytesMut, engine: &mut Engine, key: usize) -> Step {
        match &mut self.phase {
            Phase::Handshake(handshake) => {
                handshake.buffer.extend_from_slice(bytes);
                match handshake.reader.read(&mut handshake.buffer) {
                    Ok(None) => Ok(()),
                    Ok(Some(request)) => {
                        let mut early = std::mem::take(&mut handshake.buffer);
                        self.answer(&request, engine, key);
                        if early.is_empty() {
                            Ok(())
                        } else {
                            self.received(&mut early, engine, key)
                        }
                    }
                    Err(refusal) => {
                        self.refuse(&refusal, engine);
                        Ok(())
                    }
                }
            }
            Phase::Open(open) => {
                open.heard_at = engine.now;
                open.ping = Ping::None;
                self.decode(bytes, engine);
                Ok(())
            }
            Phase::Leaving { .. } => {
                self.decode(bytes, engine);
                Ok(())
            }
            Phase::Ending { .. } => Ok(()),
        }
    }

    // ---- handshake ----

    fn answer(&mut self, request: &Request, engine: &mut Engine, key: usize) {
        match engine.decide(request, self.address) {
            Ok(super::engine::Answer::Page(page)) => {
                self.owe(engine.now).push(page.into());
                self.end(engine);
            }
            Ok(super::engine::Answer::Upgrade(response)) => {
                let client = engine.admit(request, self.address, key);
                let greeting = engine.greeting(client.id);
                // One write for both: browsers learn their id with the answer.
                let both: Bytes = [response, greeting].concat().into();
                self.owe(engine.now).push(both.into());
                self.phase = Phase::Open(Open {
                    cursor: engine.window.live(),
                    has_mail: false,
                    heard_at: engine.now,
                    ping: Ping::None,
                    inbound_due: 0,
                    inbound: None,
                    leave: None,
                    client,
                });
            }
            Err(refusal) => self.refuse(&refusal, engine),
        }
    }

    fn refuse(&mut self, refusal: &Refusal, engine: &mut Engine) {
        engine.tell_refused(self.address, refusal);
        self.owe(engine.now).push(refusal.response().into());
        self.end(engine);
    }

    /// The request did not come in time, or newer connections need the place.
    pub(crate) fn give_up_handshake(&mut self, refusal: &Refusal, engine: &mut Engine) -> Step {
        match &self.phase {
            // Browsers open connections ahead of need and may never use them: nothing to answer.
            Phase::Handshake(handshake) if handshake.buffer.is_empty() => Err(Over),
            Phase::Handshake(_) => {
                self.refuse(refusal, engine);
                self.flush(engine)
            }
            _ => Ok(()),
        }
    }

    // ---- frames ----

    fn inbound(&mut self) -> &mut Option<Box<Inbound>> {
        match &mut self.phase {
            Phase::Open(Open { inbound, .. }) | Phase::Leaving { inbound, .. } => inbound,
            _ => unreachable!("frames are decoded while open and while leaving"),
        }
    }

    fn decode(&mut self, bytes: &mut BytesMut, engine: &mut Engine) {
        let mut inbound = self.inbound().take().unwrap_or_else(|| engine.spare_inbound());
        let mut partial = std::mem::take(&mut inbound.buffer);
        let source = if partial.is_empty() {
            &mut *bytes
        } else {
            partial.extend_from_slice(bytes);
            bytes.clear();
            &mut partial
        };
        loop {
            match inbound.codec.decode(source) {
                Ok(None) => break,
                Ok(Some(incoming)) => {
                    if !self.incoming(incoming, engine) {
                        return;
                    }
                }
                Err(error) => return self.violation(&error, engine),
            }
        }
        if partial.is_empty() {
            partial = BytesMut::from(&bytes[..]);
        }
        inbound.buffer = partial;
        let held = inbound.buffer.len() + inbound.codec.buffered();
        if held == 0 && inbound.codec.is_idle() {
            inbound.charge.set(0);
            inbound.buffer = BytesMut::new();
            engine.keep_inbound(inbound);
        } else if inbound.charge.set(held) {
            *self.inbound() = Some(inbound);
        } else {
            let reason = "the hub's memory limit is reached";
            self.fail(CloseFrame::new(CloseCode::TRY_AGAIN_LATER, reason), engine);
        }
    }

    /// One message or control frame; whether to go on decoding.
    fn incoming(&mut self, incoming: Incoming, engine: &mut Engine) -> bool {
        let Phase::Open(open) = &mut self.phase else {
            // Leaving: after our Close only the peer's counts (RFC 6455, section 1.4).
            if let Incoming::Control(Control::Close(_)) = incoming {
                self.end(engine);
                return false;
            }
            return true;
        };
        if !engine.is_within_rate(&mut open.inbound_due) {
            self.fail(CloseFrame::new(CloseCode::POLICY, "too many messages a second"), engine);
            return false;
        }
        match incoming {
            Incoming::Message(message) => engine.tell_message(open.client.id, &message),
            Incoming::Control(Control::Ping(payload)) => {
                // While the socket takes them, every ping is answered; then only the newest.
                if self.outbox.as_ref().is_some_and(|outbox| outbox.has_pong())
                    && self.write_outbox(engine).is_err()
                {
                    return false;
                }
                self.owe(engine.now).pong(payload);
            }
            Incoming::Control(Control::Pong(_)) => {}
            Incoming::Control(Control::Close(frame)) => {
                // RFC 6455, 5.5.1: "the endpoint typically echos the status code it received";
                // not the reason, which would reflect the peer's text.
                let echo = frame.as_ref().map(|frame| CloseFrame::new(frame.code(), ""));
                self.depart(engine, DisconnectReason::Closed(frame));
                self.owe(engine.now).close_now(echo);
                self.end(engine);
                return false;
            }
        }
        true
    }

    fn violation(&mut self, error: &CodecError, engine: &mut Engine) {
        let code = error.close_code().unwrap_or(CloseCode::PROTOCOL_ERROR);
        self.fail(CloseFrame::new(code, &error.to_string()), engine);
    }

    /// RFC 6455, 7.1.7, "Fail the WebSocket Connection": a Close with the code, then the end.
    fn fail(&mut self, close: CloseFrame, engine: &mut Engine) {
        if let Some(client) = self.client() {
            tracing::warn!(id = %client.id, code = close.code().get(), reason = close.reason(), "client failed");
        }
        // What was pushed to it before goes first, as much as is taken up at once.
        if let Phase::Open(open) = &mut self.phase {
            open.has_mail = true;
            engine.take_feed();
            self.take_up(engine);
        }
        self.depart(engine, DisconnectReason::Violation(close.clone()));
        self.owe(engine.now).close(Some(close));
        self.end(engine);
    }

    // ---- leaving ----

    /// The client is no longer one: nobody can send to it, and everybody is told.
    fn depart(&mut self, engine: &mut Engine, reason: DisconnectReason) {
        if let Phase::Open(open) = &self.phase {
            engine.dismiss(&open.client, self.address, reason);
        }
    }

    /// The hub closes: the Close goes out when the client has all it is owed.
    pub(crate) fn leave(&mut self, engine: &mut Engine, close: CloseFrame) -> Step {
        if let Phase::Open(open) = &mut self.phase {
            open.leave = Some(Box::new(close));
            open.has_mail = true;
            engine.take_feed(); // what was pushed before goes before it
        }
        self.flush(engine)
    }

    /// The hub closes a client that is too slow: at once, since it would not take more.
    pub(crate) fn drop_too_slow(&mut self, engine: &mut Engine) -> Step {
        self.end_too_slow(engine);
        self.flush(engine)
    }

    fn start_leaving(&mut self, close: CloseFrame, engine: &mut Engine) {
        self.depart(engine, DisconnectReason::ByHub);
        self.owe(engine.now).close(Some(close));
        let deadline = engine.now + engine.timeouts.close;
        self.phase = Phase::Leaving { deadline, inbound: self.inbound().take() };
    }

    fn end(&mut self, engine: &mut Engine) {
        let deadline = engine.now + engine.timeouts.close;
        self.phase = Phase::Ending { deadline, ended: false };
    }

    /// The driver gives the connection up, whatever it is owed.
    pub(crate) fn abort(&mut self, engine: &mut Engine, reason: DisconnectReason) {
        self.depart(engine, reason);
        // A reset: the kernel would go on holding what it has for a peer that takes nothing.
        let _ = SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO));
    }

    // ---- writing ----

    fn owe(&mut self, now: u64) -> &mut Outbox {
        self.outbox.get_or_insert_with(|| Box::new(Outbox::new(now)))
    }

    /// The driver has heard that the mailbox holds something.
    pub(crate) fn mail(&mut self, engine: &mut Engine) -> Step {
        if let Phase::Open(open) = &mut self.phase {
            open.has_mail = true;
        }
        self.flush(engine)
    }

    /// Writes what the client is owed, until it has all of it or its socket is full.
    pub(crate) fn flush(&mut self, engine: &mut Engine) -> Step {
        if let Phase::Open(open) = &mut self.phase {
            open.has_mail |= engine.mail_unseen;
        }
        self.catch_up(engine);
        loop {
            if !self.write_outbox(engine)? {
                return Ok(());
            }
            match &mut self.phase {
                Phase::Open(_) => match self.take(engine)? {
                    Taken::Some => {}
                    Taken::Nothing => return Ok(()),
                },
                Phase::Ending { ended: ended @ false, .. } => {
                    *ended = true;
                    // If it fails the peer has gone already, which the next read will say.
                    let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
    }

    /// A client that has fallen off the window goes on in its middle, or not at all. That is seen,
    /// and counted, also while its socket is full.
    fn catch_up(&mut self, engine: &mut Engine) {
        let Phase::Open(open) = &mut self.phase else { return };
        if let Some((cursor, skipped)) = engine.window.catch_up(open.cursor) {
            open.cursor = cursor;
            engine.count_skipped(&open.client, skipped);
            if engine.shared.overflow == Overflow::Disconnect {
                self.end_too_slow(engine);
            }
        }
    }

    /// Whether the outbox is empty now.
    fn write_outbox(&mut self, engine: &mut Engine) -> Result<bool, Over> {
        let Some(outbox) = &mut self.outbox else { return Ok(true) };
        let mut cx = Context::from_waker(&self.waker);
        match outbox.poll_write(&mut self.stream, &mut cx, engine.now) {
            Poll::Ready(Ok(count)) => {
                engine.shared.counters.bytes_out.add(count as u64);
            }
            Poll::Ready(Err(_)) => {
                self.lost(engine)?;
            }
            Poll::Pending => {}
        }
        let Some(outbox) = &mut self.outbox else { return Ok(true) };
        let empty = outbox.is_empty();
        if let Phase::Open(open) = &mut self.phase {
            if outbox.take_ping_left() {
                open.ping = Ping::Left(engine.now);
            }
            open.client.writing.store(outbox.bytes(), Ordering::Relaxed);
        }
        if empty && !outbox.is_closing() {
            self.outbox = None;
        }
        Ok(empty)
    }

    /// Takes up the next of what the client is owed, by the order of the stamps.
    fn take(&mut self, engine: &mut Engine) -> Result<Taken, Over> {
        let Phase::Open(open) = &mut self.phase else { return Ok(Taken::Nothing) };
        if !open.has_mail {
            if let Some(batch) = engine.batch.as_ref().filter(|batch| batch.from() == open.cursor) {
                let mut cx = Context::from_waker(&self.waker);
                match write_batch(&mut self.stream, &mut cx, batch) {
                    Ok(0) => {} // the socket is full: take up its part, so that the time counts
                    Ok(written) => {
                        engine.shared.counters.bytes_out.add(written as u64);
                        let (cursor, rest) = batch.after(written);
                        open.cursor = cursor;
                        if !rest.is_empty() {
                            self.owe(engine.now).begin(rest);
                        }
                        return Ok(Taken::Some);
                    }
                    Err(_) => {
                        self.lost(engine)?;
                    }
                }
            }
        }
        self.take_up(engine);
        Ok(if self.outbox.is_some() { Taken::Some } else { Taken::Nothing })
    }

    /// Fills the outbox with the next frames of mailbox and feed, merged.
    fn take_up(&mut self, engine: &mut Engine) {
        let Phase::Open(open) = &mut self.phase else { return };
        let mut outbox = self.outbox.take();
        let (mut bytes, mut frames) = (0, 0);
        while bytes < TAKE_BYTES && frames < TAKE_FRAMES {
            let next = engine.window.get(open.cursor);
            let before = next.map_or(engine.upto, |(stamp, _)| stamp);
            let mail = if open.has_mail { take_mail(open, before) } else { None };
            let frame = match (mail, next) {
                (Some(entry), _) => feed::encode(entry, &engine.shared.budget),
                (None, Some((_, frame))) => {
                    open.cursor += 1;
                    frame.clone()
                }
                (None, None) => break,
            };
            bytes += frame.len();
            frames += 1;
            outbox.get_or_insert_with(|| Box::new(Outbox::new(engine.now))).push(frame);
        }
        if outbox.is_some() {
            self.outbox = outbox;
        } else if let Some(close) = engine.farewell().or_else(|| open.leave.take().map(|c| *c)) {
            if open.has_mail {
                open.leave = Some(Box::new(close)); // first what was pushed a moment ago
            } else {
                self.start_leaving(close, engine);
            }
        }
    }

    fn end_too_slow(&mut self, engine: &mut Engine) {
        self.depart(engine, DisconnectReason::TooSlow);
        let close = CloseFrame::new(CloseCode::TRY_AGAIN_LATER, "too slow");
        self.owe(engine.now).close_now(Some(close));
        self.end(engine);
    }

    // ---- time ----

    /// Looks at every deadline of this connection.
    pub(crate) fn tick(&mut self, engine: &mut Engine) -> Step {
        let now = engine.now;
        if let Phase::Leaving { deadline, .. } | Phase::Ending { deadline, .. } = self.phase {
            return if now < deadline { Ok(()) } else { self.time_out(engine) };
        }
        if let Some(outbox) = &self.outbox {
            let stalled = now >= outbox.progress_at + engine.timeouts.stall;
            let too_long = outbox.in_frame() && now >= outbox.begun_at + engine.timeouts.frame;
            if stalled || too_long {
                return self.time_out(engine);
            }
        }
        let Phase::Open(open) = &mut self.phase else { return Ok(()) };
        match open.ping {
            Ping::Left(at) if now >= at + engine.timeouts.pong => self.time_out(engine),
            Ping::None if now >= open.heard_at + engine.keepalive_of(open.client.id) => {
                open.ping = Ping::Waiting;
                self.owe(now).ping(ControlPayload::default());
                self.flush(engine)
            }
            _ => Ok(()),
        }
    }

    fn time_out(&mut self, engine: &mut Engine) -> Step {
        self.abort(engine, DisconnectReason::TimedOut);
        Err(Over)
    }
}

enum Taken {
    Some,
    Nothing,
}

/// The oldest message in the mailbox, if it was pushed before `stamp`.
fn take_mail(open: &mut Open, before: u64) -> Option<Entry> {
    let mut mailbox = open.client.mailbox.lock();
    let Some(queue) = &mut mailbox.queue else {
        open.has_mail = false;
        return None;
    };
    if queue.next_stamp()? >= before {
        return None;
    }
    let entry = queue.pop();
    if queue.is_empty() {
        mailbox.queue = None;
        open.has_mail = false;
    }
    entry
}

/// Writes as much of the batch as the socket takes: the bytes that left, zero where it is full.
fn write_batch(stream: &mut TcpStream, cx: &mut Context<'_>, batch: &Batch) -> io::Result<usize> {
    let (mut written, mut next) = (0, 0);
    while next < batch.parts.len() {
        let parts = &batch.parts[next..batch.parts.len().min(next + 64)];
        let offered: usize = parts.iter().map(Bytes::len).sum();
        match poll_write_parts(stream, cx, parts.iter()) {
            Poll::Ready(Ok(count)) => {
                written += count;
                if count < offered {
                    return Ok(written);
                }
                next += parts.len();
            }
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Ok(written),
        }
    }
    Ok(written)
}
