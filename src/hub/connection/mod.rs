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

mod reading;
mod writing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::net::TcpStream;

use super::client::Client;
use super::engine::{Answer, Engine};
use super::events::DisconnectReason;
use super::outbox::Outbox;
use crate::codec::{CloseCode, CloseFrame, ControlPayload};
use crate::handshake::{HeadLimits, Refusal, Request, RequestReader};

pub(crate) use reading::Inbound;

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

/// The connection is over: its place can be given away.
pub(crate) struct Over;

type Step = Result<(), Over>;

impl Connection {
    pub(crate) fn new(stream: TcpStream, address: SocketAddr, waker: Waker) -> Self {
        let handshake = Handshake {
            reader: RequestReader::new(HeadLimits::default()),
            buffer: BytesMut::new(),
        };
        Self { stream, waker, address, outbox: None, phase: Phase::Handshake(Box::new(handshake)) }
    }

    pub(crate) fn in_handshake(&self) -> bool {
        matches!(self.phase, Phase::Handshake(_))
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
    // ---- handshake ----

    fn answer(&mut self, request: &Request, engine: &mut Engine, key: usize) {
        match engine.decide(request, self.address) {
            Ok(Answer::Page(page)) => {
                self.owe(engine.now).push(page.into());
                self.end(engine);
            }
            Ok(Answer::Upgrade(response)) => {
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
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
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
