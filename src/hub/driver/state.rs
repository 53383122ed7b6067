//! The driver's state, and one step of one connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use crate::hub::client::addresses::Strangers;
use crate::hub::conn::phase::{Connection, Over};
use crate::hub::driver::flush::Flushes;
use crate::hub::driver::listener::Listener;
use crate::hub::engine::parts::Engine;
use crate::hub::feed::place::FeedPlace;
use crate::hub::goodbye::Goodbye;
use crate::hub::primitives::bell::ReadyList;
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::shared::run_feeds::RunFeeds;
use crate::hub::shared::state::{Command, Shared};
use crate::progress::sampler::Watched;
use crate::progress::tell::Tell;

/// How long one turn serves sockets of one kind, since one of them may be owed megabytes. The clock
/// is read after some sockets, or some bytes.
const SLICE: Duration = Duration::from_millis(1);

const SLICE_STEPS: usize = 8;

const SLICE_BYTES: u64 = 64 << 10;

/// The number of sockets of each kind served before the runtime polls the sockets again.
pub(super) const STEPS: usize = 64;

/// The connections, clients and feeds that a tick looks at in one turn.
pub(super) const WALK: usize = 256;

pub(super) struct Slice {
    pub(super) began: Instant,
    pub(super) steps: usize,
    /// The bytes written when the clock was last read.
    pub(super) written: u64,
    pub(super) long: Duration,
}

pub(crate) struct Driver {
    pub(super) engine: Engine,
    /// The listener, dropped when the hub has ended.
    pub(super) listener: Option<Listener>,
    pub(super) connections: Slab<Connection>,
    pub(super) ready: Arc<ReadyList>,
    /// Slots taken from the ready list and not yet served.
    pub(super) todo: VecDeque<usize>,
    /// The spare buffer of the ready list.
    pub(super) taken: Vec<usize>,
    /// Slots of connections that are owed something, each once. A connection that is served and
    /// then owed more goes to the end again, so nobody is always last.
    pub(super) owed: VecDeque<usize>,
    /// Commands that have not been carried out yet.
    pub(super) commands: VecDeque<Command>,
    /// Feeds with news whose followers are not called yet.
    pub(super) fresh: VecDeque<FeedPlace>,
    /// Whether a client has mail, or other feeds to follow, since the last round ended.
    pub(super) was_told: bool,
    /// Feeds with news whose followers are being called.
    pub(super) calling: VecDeque<FeedPlace>,
    /// The number of clients with a write that their sockets have not taken.
    pub(super) blocked: usize,
    /// Connections that are not, and never were, a client's.
    pub(super) strangers: Strangers,
    /// Ids of connections that are no longer a client's and have not ended yet, oldest first.
    /// Entries of ended connections are skipped.
    pub(super) parting: VecDeque<ConnId>,
    /// The serial number of the newest connection: a slot may be another connection's by now.
    pub(super) serial: u32,
    pub(super) epoch: Instant,
    pub(super) next_tick: u64,
    /// When the last push was, and until when the driver looks for more by itself.
    pub(super) pushed_at: u64,
    pub(super) look_until: u64,
    pub(super) flushes: Flushes,
    /// The hub's end, once it is decided.
    pub(super) end: Option<End>,
    /// The progress of the tick, if one is under way.
    pub(super) walk: Option<Walk>,
    /// Whether feeds hold more unneeded messages than there was time to drop.
    pub(super) more_to_trim: bool,
    /// When the memory limit is checked again, since it could not be kept.
    pub(super) relieve_at: u64,
    /// The lines of waiting pushes not looked at since room may have been made; `usize::MAX`: all.
    pub(super) unlooked: usize,
    pub(super) slice: Duration,
    /// Whether the last tick was skipped because the driver had been held up.
    pub(super) pardoned: bool,
    pub(super) sampling: Sampling,
}

/// When the jobs are sampled next, and where the result goes.
#[derive(Debug, Default)]
pub(super) struct Sampling {
    /// The feeds, once there is something to tell.
    pub(super) feeds: Option<RunFeeds>,
    /// The time of the next sample; `None`: when something has changed.
    pub(super) next: Option<u64>,
    /// The time of the last sample.
    pub(super) last: u64,
    /// What clients followed at the last look.
    pub(super) watched: Watched,
    /// The spare list of what is to be told.
    pub(super) tell: Vec<Tell>,
}

/// The stages of a tick. A tick looks at everything, in as many turns as it takes.
pub(super) enum Walk {
    /// Deadlines, from the connection in this slot on.
    Connections(usize),
    /// Clients that have not come back in time.
    Sessions,
    /// The messages kept for clients that are away, from this place among them on.
    Held(usize),
    /// The unneeded messages of feeds, from the feed at this place on.
    Feeds(usize),
}

/// The hub's end, which takes as many turns as it needs.
pub(super) struct End {
    /// The time by which everything has to end.
    pub(super) by: u64,
    pub(super) goodbye: Arc<Goodbye>,
    /// Whether that time is over: connections are given up, and nobody is let in.
    pub(super) gives_up: bool,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Earlier commands come first: a client that was closed is told its own reason.
    Commands,
    /// Connections, from the one in this slot on, are told, or given up.
    Connections(usize),
    /// Clients that are away, also those that lost their connections before they were told.
    Away,
    /// Only connections that end are left.
    Told,
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
            sampling: Sampling::default(),
        }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.engine.shared)
    }

    /// Makes one step of one connection, if it is still there. A connection that is over is
    /// removed.
    pub(super) fn step(
        &mut self,
        slot: usize,
        step: impl FnOnce(&mut Connection, &mut Engine) -> Result<(), Over>,
    ) {
        self.step_one(slot, step);
        while let Some(id) = self.engine.clients.sessions.taken_over.pop() {
            if find(&self.connections, id).is_some() {
                self.step_one(id.slot(), Connection::be_taken_over);
            }
        }
        if std::mem::take(&mut self.engine.intake.is_crowded) {
            self.give_up_arriving();
        }
    }

    fn step_one(
        &mut self,
        slot: usize,
        step: impl FnOnce(&mut Connection, &mut Engine) -> Result<(), Over>,
    ) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        self.unlooked = usize::MAX;
        let (was_stranger, was_blocked) = (connection.is_stranger(), connection.is_blocked());
        let was_parting = connection.is_parting();
        let result = step(connection, &mut self.engine);
        if result.is_ok() && !was_parting && connection.is_parting() {
            self.parting.push_back(connection.id());
        }
        if was_stranger && (result.is_err() || !connection.is_stranger()) {
            self.strangers.leave(slot);
        }
        let is_blocked = result.is_ok() && connection.is_blocked();
        self.blocked = self.blocked + usize::from(is_blocked) - usize::from(was_blocked);
        if result.is_err() {
            self.connections.remove(slot);
            self.engine.shared.descriptors.count(self.connections.len());
            if self.connections.is_empty() {
                self.parting.clear();
                self.connections.shrink_to_fit();
            }
        } else if connection.has_more() && connection.list() {
            self.owed.push_back(slot);
        }
        if !self.flushes.is_empty() {
            self.flushes.look(slot, self.connections.get_mut(slot), &self.engine);
        }
    }

    /// Relieves arriving messages that exceed their share of the memory. Those that began first are
    /// given up, until a part of the share is free. Real messages arrive within milliseconds.
    pub(super) fn give_up_arriving(&mut self) {
        let arriving = |(slot, connection): (usize, &Connection)| {
            connection.arriving_since().map(|since| (since, slot))
        };
        let mut arriving: Vec<_> = self.connections.iter().filter_map(arriving).collect();
        arriving.sort_unstable();
        for (_, slot) in arriving {
            if !self.engine.shared.inbound.is_tight() {
                return;
            }
            self.step_one(slot, Connection::give_up_arriving);
        }
    }

    /// The bytes handed to sockets so far.
    pub(super) fn written(&self) -> u64 {
        self.engine.shared.counters.bytes_out.get()
    }

    pub(super) fn slice(&self) -> Slice {
        Slice { began: Instant::now(), steps: 0, written: self.written(), long: self.slice }
    }

    /// Whether the next step has to be the last of this kind in this turn.
    pub(super) fn is_over(&self, slice: &mut Slice) -> bool {
        slice.steps += 1;
        let written = self.written();
        if slice.steps % SLICE_STEPS != 0 && written - slice.written < SLICE_BYTES {
            return false;
        }
        slice.written = written;
        slice.began.elapsed() >= slice.long
    }
}

/// Returns the connection with this id, unless its slot is another's by now.
pub(super) fn find(connections: &Slab<Connection>, id: ConnId) -> Option<&Connection> {
    connections.get(id.slot()).filter(|connection| connection.id() == id)
}
