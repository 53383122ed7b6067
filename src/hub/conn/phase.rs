//! The state of a connection: its phases, and what each keeps.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;

use bytes::BytesMut;

use crate::codec::CloseFrame;
use crate::handshake::{HeadLimits, RequestReader};
use crate::hub::client::state::{ClientState, Details};
use crate::hub::conn::outbox::Outbox;
use crate::hub::conn::pace::Pace;
use crate::hub::conn::transport::Transport;
use crate::hub::engine::admission::{KeptRequest, Later};
use crate::hub::engine::follows::Follows;
use crate::hub::engine::intake::{Inbound, Used};
use crate::hub::engine::parts::Engine;
use crate::hub::feed::item::Cursor;
use crate::hub::feed::place::FeedPlace;
use crate::hub::feed::seq::Seq;
use crate::hub::feed::stamp::Stamp;
use crate::hub::primitives::budget::Charge;
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::primitives::moment::Moment;
use crate::hub::shared::state::Shared;
use crate::wire::Wire;
use crate::wire::v1::Lines;

/// The work done for one client before others have their turn, in the units of the client's rate.
const WORK: usize = 64;

pub(crate) struct Connection {
    pub(super) transport: Transport,
    /// Puts this connection on the driver's ready list.
    pub(super) waker: Waker,
    pub(super) outbox: Option<Box<Outbox>>,
    pub(super) id: ConnId,
    pub(super) phase: Phase,
}

pub(super) enum Phase {
    Handshake(Box<Handshake>),
    Pending(Box<Pending>),
    Newcomer(Box<Newcomer>),
    Open(Open),
    Closing { deadline: u64, inbound: Option<Box<Inbound>> },
    Ending(Ending),
}

/// A connection whose request is not complete.
pub(super) struct Handshake {
    pub(super) reader: RequestReader,
    pub(super) buffer: BytesMut,
    /// The bytes counted for the buffer, once the buffer holds something.
    pub(super) charge: Option<Charge>,
    pub(super) address: SocketAddr,
    pub(super) deadline: u64,
}

/// A connection whose request waits for the program's verdict.
pub(super) struct Pending {
    pub(super) verdict: Later,
    pub(super) request: KeptRequest,
    pub(super) address: SocketAddr,
    /// The deadline of the handshake, which began before the program was asked.
    pub(super) deadline: u64,
    /// The bytes that came behind the request, from one read. Nothing more is read before the
    /// answer.
    pub(super) early: BytesMut,
    pub(super) charge: Option<Charge>,
}

/// A client's connection.
pub(super) struct Open {
    pub(super) client: Arc<ClientState>,
    /// The client's place in each feed it follows.
    pub(super) follows: Follows,
    /// Whether the driver's list of clients with something to send has this connection.
    pub(super) listed: bool,
    /// Whether the client's mailbox may hold something. The mailbox itself knows; the connection
    /// remembers it, so a step for a client without mail takes no lock.
    pub(super) has_mail: bool,
    pub(super) heard_at: Moment,
    /// When the client was last sent something.
    pub(super) sent_at: Moment,
    /// When the last unanswered ping left.
    pub(super) pinged_at: Option<Moment>,
    /// How much of its rate the client had used when it was last heard.
    pub(super) used: Used,
    pub(super) inbound: Option<Box<Inbound>>,
    pub(super) closing: Option<Box<PendingClose>>,
    /// How much may be in flight to the client.
    pub(super) pace: Pace,
    /// Since when the client waits for something that its window holds back.
    pub(super) held_since: Option<Moment>,
    pub(super) wire: Wire,
    /// On `stepcast.v1`: the state that few clients have, and the number of invalid lines. The latter
    /// is the least level of lines of the log for `GET /events`, which has no invalid lines.
    pub(super) v1: Option<Box<V1>>,
    pub(super) errors: u8,
}

impl Open {
    pub(super) fn new(
        client: Arc<ClientState>,
        follows: Follows,
        wire: Wire,
        engine: &Engine,
    ) -> Self {
        Self {
            client,
            follows,
            listed: false,
            has_mail: false,
            heard_at: Moment::at(engine.clock.now),
            sent_at: Moment::at(engine.clock.now),
            pinged_at: None,
            used: Used::default(),
            inbound: None,
            closing: None,
            pace: Pace::new(engine.freshness()),
            held_since: None,
            wire,
            v1: None,
            errors: 0,
        }
    }

    /// Notes that the client was heard at this time.
    pub(super) fn hear_at(&mut self, now: u64) {
        self.used = self.used.after(self.heard_at.passed(now));
        self.heard_at = Moment::at(now);
    }
}

/// A close that waits until the client has what was pushed before it.
pub(super) struct PendingClose {
    pub(super) close: CloseFrame,
    /// Messages stamped before this number go before the Close.
    pub(super) upto: Stamp,
    pub(super) deadline: u64,
    /// Whether the client broke the rules: then nothing more is read.
    pub(super) is_violation: bool,
    /// Whether the connection is closed because the hub ends.
    pub(super) hub_ends: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Ending {
    pub(super) deadline: u64,
    /// Whether the hub's side of the stream has ended, and the peer's.
    pub(super) ours: bool,
    pub(super) theirs: bool,
    /// Whether the connection never was a client's.
    pub(super) is_stranger: bool,
}

/// Whether a request, complete or not, is a `HEAD`, whose answer has no content.
pub(super) fn asks_head(received: &[u8]) -> bool {
    received.starts_with(b"HEAD ")
}

/// The connection is over: its place can be given away.
pub(crate) struct Over;

pub(super) type Step = Result<(), Over>;

impl Connection {
    /// Creates a connection with this id, whose request has to be complete by `deadline`.
    pub(crate) fn new(
        transport: Transport,
        address: SocketAddr,
        waker: Waker,
        id: ConnId,
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
        Self { transport, waker, outbox: None, id, phase }
    }

    /// Whether the connection is not, and never was, a client's: it sends its request or takes the
    /// answer.
    pub(crate) fn is_stranger(&self) -> bool {
        match &self.phase {
            Phase::Handshake(_) | Phase::Pending(_) | Phase::Newcomer(_) => true,
            Phase::Ending(ending) => ending.is_stranger,
            _ => false,
        }
    }

    /// Whether the connection was a client's and only has to end.
    pub(crate) fn is_parting(&self) -> bool {
        match &self.phase {
            Phase::Closing { .. } => true,
            Phase::Ending(ending) => !ending.is_stranger,
            _ => false,
        }
    }

    /// Whether the peer has no answer to its request yet.
    pub(crate) fn is_in_handshake(&self) -> bool {
        matches!(self.phase, Phase::Handshake(_) | Phase::Pending(_))
    }

    /// Returns the client, while the connection is open.
    pub(crate) fn client(&self) -> Option<&Arc<ClientState>> {
        match &self.phase {
            Phase::Open(open) => Some(&open.client),
            _ => None,
        }
    }

    pub(crate) fn id(&self) -> ConnId {
        self.id
    }

    /// Whether everything stamped before `upto` has left, or never will. `drains` remembers, until
    /// then, that all of it has been taken up.
    pub(crate) fn has_left(&mut self, upto: Stamp, drains: &mut bool, engine: &Engine) -> bool {
        if self.is_stranger() {
            return true;
        }
        let outbox = self.outbox.as_mut().filter(|outbox| !outbox.is_empty());
        if *drains {
            let has_taken_all = outbox.is_none_or(|outbox| !outbox.is_marked());
            return has_taken_all && !self.transport.is_unflushed();
        }
        if let Phase::Open(open) = &self.phase {
            if open.follows.is_owed(&open.client, true, &engine.feeds, upto) {
                return false;
            }
        }
        *drains = true;
        // An outbox is filled only when empty, so later messages go into another outbox.
        outbox.map(|outbox| outbox.mark()).is_none() && !self.transport.is_unflushed()
    }

    /// Whether the client follows the feed at this place.
    pub(crate) fn follows(&self, place: FeedPlace) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.follows.contains(place))
    }

    /// Shows the client's cursor in each feed, and how many bytes may be lost with the connection.
    pub(crate) fn cursors(&self, mut see: impl FnMut(FeedPlace, Cursor, u32)) {
        if let Phase::Open(open) = &self.phase {
            let under_way = if open.is_v1() { open.pace.unanswered() } else { 0 };
            open.follows.iter().for_each(|follow| see(follow.place(), follow.cursor, under_way));
        }
    }

    pub(crate) fn count_skipped(&self, shared: &Shared, skipped: u64) {
        if let Phase::Open(open) = &self.phase {
            shared.count_skipped(&open.client, skipped);
        }
    }

    /// Whether the client is owed something that its socket or its window does not take now.
    pub(crate) fn is_blocked(&self) -> bool {
        let Phase::Open(open) = &self.phase else { return false };
        open.held_since.is_some() || self.outbox.is_some() || self.transport.is_unflushed()
    }

    /// Whether the client's mailbox may hold something, or the client is to leave, and the
    /// connection can act on that. A connection whose socket or window is full cannot: the socket,
    /// or an answer, will wake it.
    pub(crate) fn has_more(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.has_mail || open.closing.is_some())
            && !self.is_blocked()
    }

    /// Whether the driver has to list this connection: it is a client's, and not listed yet.
    pub(crate) fn list(&mut self) -> bool {
        let Phase::Open(open) = &mut self.phase else { return false };
        !std::mem::replace(&mut open.listed, true)
    }

    /// Follows what the program wants the client to follow, if that has changed. Returns the number
    /// of feeds looked at.
    pub(crate) fn follow_as_told(&mut self, engine: &mut Engine) -> usize {
        let Phase::Open(open) = &mut self.phase else { return 0 };
        if open.is_events() {
            return open.client.take_wishes().map_or(0, |wishes| wishes.len()); // follows the run alone
        }
        if !open.is_v1() {
            return open.follows.follow_as_told(
                &open.client,
                &mut engine.feeds,
                self.id,
                engine.clock.now,
            );
        }
        let Some(wanted) = open.client.take_wishes() else { return 0 };
        let connection = self.id;
        let feeds = &mut engine.feeds;
        for gone in open.follows.unfollow_unwanted(&wanted, feeds, connection) {
            open.note_unfollowed(gone, engine);
        }
        self.follow_all(&wanted, engine);
        wanted.len()
    }

    /// Writes for a connection whose turn has come on the driver's list.
    pub(crate) fn write_listed(&mut self, engine: &mut Engine) -> Step {
        if let Phase::Open(open) = &mut self.phase {
            open.listed = false;
        }
        self.write(engine)
    }

    /// Returns the time since which a client has taken nothing of a write that waits.
    pub(crate) fn stuck_since(&self) -> Option<u64> {
        self.client()?;
        self.outbox.as_ref().filter(|outbox| outbox.has_data()).map(|outbox| outbox.progress_at)
    }

    /// Handles a readiness event of the connection's socket.
    pub(crate) fn ready(&mut self, engine: &mut Engine) -> Step {
        engine.intake.work = WORK;
        self.read(engine)?;
        self.write(engine)
    }
}

/// An upgraded connection that has not said hello yet.
pub(super) struct Newcomer {
    /// The request, for the program's rule about feeds.
    pub(super) request: Option<Box<KeptRequest>>,
    pub(super) details: Details,
    pub(super) address: SocketAddr,
    pub(super) deadline: u64,
    /// How much of its rate the newcomer has used.
    pub(super) used: Used,
    pub(super) inbound: Option<Box<Inbound>>,
}

/// The `stepcast.v1` state that few clients need. An idle client has none, unless it came back or a
/// rule about feeds exists.
#[derive(Default)]
pub(super) struct V1 {
    /// The lines that go before the next messages.
    pub(super) lines: Lines,
    /// Lines from the client that the hub has not had time to read.
    pub(super) unheard: Box<str>,
    /// The bytes counted for `lines` and `unheard` between the connection's turns.
    pub(super) charge: Option<Charge>,
    /// An unanswered question: how many bytes go before it, and the number of the last mailbox
    /// message before it. An answer says that the client has read that message.
    pub(super) asked: Option<(u32, Seq)>,
    /// The request, as in [`Newcomer`].
    pub(super) request: Option<Box<KeptRequest>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_small() {
        // 184 without mio's debug checks. `docs/performance.md` says what an idle client costs in
        // all.
        assert!(size_of::<Connection>() <= 192, "{}", size_of::<Connection>());
    }
}
