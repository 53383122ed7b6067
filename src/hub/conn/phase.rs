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
use crate::hub::engine::admission::Asked;
use crate::hub::engine::follows::Follows;
use crate::hub::engine::intake::{Inbound, Used};
use crate::hub::engine::parts::Engine;
use crate::hub::feed::item::Cursor;
use crate::hub::primitives::budget::Charge;
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::primitives::moment::Moment;
use crate::hub::shared::state::Shared;
use crate::wire::Wire;
use crate::wire::v1::Lines;

/// Messages of one client that are looked at before others have their turn, counted as in its rate.
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
    Newcomer(Box<Newcomer>),
    Open(Open),
    Leaving { deadline: u64, inbound: Option<Box<Inbound>> },
    Ending(Ending),
}

/// A request that is not complete.
pub(super) struct Handshake {
    pub(super) reader: RequestReader,
    pub(super) buffer: BytesMut,
    /// What is counted of the buffer, once there is something in it.
    pub(super) charge: Option<Charge>,
    pub(super) address: SocketAddr,
    pub(super) deadline: u64,
}

/// A client.
pub(super) struct Open {
    pub(super) client: Arc<ClientState>,
    /// Where it stands in what it follows.
    pub(super) follows: Follows,
    /// Whether the driver has it on its list of those that are owed something.
    pub(super) listed: bool,
    /// Whether its mailbox may hold something.
    pub(super) has_mail: bool,
    pub(super) heard_at: Moment,
    /// When it was sent something last.
    pub(super) sent_at: Moment,
    /// When the last ping left that is not answered.
    pub(super) pinged_at: Option<Moment>,
    /// How much of its rate it had used when it was heard last.
    pub(super) used: Used,
    pub(super) inbound: Option<Box<Inbound>>,
    pub(super) leave: Option<Box<Leave>>,
    /// How much may be on its way.
    pub(super) pace: Pace,
    /// Since when it is owed something and may have no more on its way.
    pub(super) held_since: Option<Moment>,
    pub(super) wire: Wire,
    /// On `stepcast.v1`: what few have, and how many of its lines were none.
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
            leave: None,
            pace: Pace::new(engine.freshness()),
            held_since: None,
            wire,
            v1: None,
            errors: 0,
        }
    }

    /// It is heard at this time.
    pub(super) fn hear_at(&mut self, now: u64) {
        self.used = self.used.after(self.heard_at.passed(now));
        self.heard_at = Moment::at(now);
    }
}

/// The connection is to be closed when the client has what was pushed to it before.
pub(super) struct Leave {
    pub(super) close: CloseFrame,
    /// What was stamped before this goes before the Close.
    pub(super) upto: u64,
    pub(super) deadline: u64,
    /// Because of what the client did: then nothing more is read.
    pub(super) is_violation: bool,
    /// Because the hub ends.
    pub(super) hub_ends: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Ending {
    pub(super) deadline: u64,
    /// Whether our side of the stream has ended, and the peer's.
    pub(super) ours: bool,
    pub(super) theirs: bool,
    /// Whether it ends without ever having been a client's.
    pub(super) is_stranger: bool,
}

/// Whether a request that may not be complete asks for no content in the answer.
pub(super) fn asks_head(received: &[u8]) -> bool {
    received.starts_with(b"HEAD ")
}

/// The connection is over: its place can be given away.
pub(crate) struct Over;

pub(super) type Step = Result<(), Over>;

impl Connection {
    /// The connection of this name, whose request has to be complete by `deadline`.
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

    pub(crate) fn id(&self) -> ConnId {
        self.id
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
            if open.follows.is_owed(&open.client, true, &engine.feeds, upto) {
                return false;
            }
        }
        *drains = true;
        // An outbox is filled only when it is empty, so what is taken up later is in another.
        outbox.map(|outbox| outbox.mark()).is_none()
    }

    /// Whether it follows the feed at this place.
    pub(crate) fn follows(&self, place: usize) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.follows.contains(place))
    }

    /// Shows where it stands in each feed, and how many bytes may be lost with its connection.
    pub(crate) fn cursors(&self, mut see: impl FnMut(usize, Cursor, u32)) {
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
        let Phase::Open(open) = &mut self.phase else { return false };
        !std::mem::replace(&mut open.listed, true)
    }

    /// Follows what the program wants it to follow, if that has changed: how many feeds it has looked at.
    pub(crate) fn follow_as_told(&mut self, engine: &mut Engine) -> usize {
        let Phase::Open(open) = &mut self.phase else { return 0 };
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
        for gone in open.follows.unfollow_unwanted(&open.client, &wanted, feeds, connection) {
            open.take_gone(gone, engine);
        }
        self.follow_all(&wanted, engine);
        wanted.len()
    }

    /// Its turn has come on the driver's list.
    pub(crate) fn take_listed(&mut self, engine: &mut Engine) -> Step {
        if let Phase::Open(open) = &mut self.phase {
            open.listed = false;
        }
        self.flush(engine)
    }

    /// Since when a client has taken nothing of what it is being written, if it is being written.
    pub(crate) fn stuck_since(&self) -> Option<u64> {
        self.client()?;
        self.outbox.as_ref().filter(|outbox| outbox.has_data()).map(|outbox| outbox.progress_at)
    }

    /// Its socket has something to say.
    pub(crate) fn ready(&mut self, engine: &mut Engine) -> Step {
        engine.intake.work = WORK;
        self.read(engine)?;
        self.flush(engine)
    }
}

/// A connection that has been upgraded and has not said yet who it is.
pub(super) struct Newcomer {
    /// For the program's rule about feeds.
    pub(super) request: Option<Box<Asked>>,
    pub(super) details: Details,
    pub(super) address: SocketAddr,
    pub(super) deadline: u64,
    /// How much of its rate it has used.
    pub(super) used: Used,
    pub(super) inbound: Option<Box<Inbound>>,
}

/// What a client on this wire may have beside what all have: who is idle has none of it, unless it came back, or there is
/// a rule.
#[derive(Default)]
pub(super) struct V1 {
    /// The number of the last message of its mailbox that it had when it came back.
    pub(super) had: u64,
    /// What goes before the next messages.
    pub(super) lines: Lines,
    /// Lines that it has said, and there was no time for.
    pub(super) unheard: Box<str>,
    /// What both of them are, between its turns.
    pub(super) charge: Option<Charge>,
    /// A question that is not answered, by how much goes before it, and the number of the last message of its mailbox that
    /// does. Who answers has read that.
    pub(super) asked: Option<(u32, u64)>,
    /// As a newcomer's.
    pub(super) request: Option<Box<Asked>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    pub(super) fn a_connection_is_small() {
        // 184 without what mio checks in debug builds. `docs/performance.md` says what an idle client costs in all.
        assert!(size_of::<Connection>() <= 192, "{}", size_of::<Connection>());
    }
}
