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
use crate::hub::goodbye::Goodbye;
use crate::hub::primitives::bell::ReadyList;
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::shared::state::{Command, Shared};

/// How long serving sockets of one kind goes on in a turn, since one of them may be owed megabytes. The clock is looked at
/// after some sockets, or some bytes.
pub(super) const SLICE: Duration = Duration::from_millis(1);

pub(super) const SLICE_STEPS: usize = 8;

pub(super) const SLICE_BYTES: u64 = 64 << 10;

/// Sockets served, of each kind, before the runtime looks at the sockets again.
pub(super) const STEPS: usize = 64;

/// Connections, clients and feeds that a tick looks at in one turn.
pub(super) const WALK: usize = 256;

pub(super) struct Slice {
    pub(super) began: Instant,
    pub(super) steps: usize,
    /// What had been written when the clock was looked at.
    pub(super) written: u64,
    pub(super) long: Duration,
}

pub(crate) struct Driver {
    pub(super) engine: Engine,
    /// Given up when the hub has ended.
    pub(super) listener: Option<Listener>,
    pub(super) connections: Slab<Connection>,
    pub(super) ready: Arc<ReadyList>,
    /// Keys taken from the ready list, and not yet served.
    pub(super) todo: VecDeque<usize>,
    /// The room of the ready list that is not in use.
    pub(super) taken: Vec<usize>,
    /// Keys of connections that are owed something, each once. Who is served and then owed more
    /// stands at the end again, so that nobody is always last.
    pub(super) owed: VecDeque<usize>,
    /// Commands that have not been carried out yet.
    pub(super) commands: VecDeque<Command>,
    /// Feeds that have something new, and whose followers are not called yet.
    pub(super) fresh: VecDeque<usize>,
    /// Whether a client has mail, or other feeds to follow, since the last round ended.
    pub(super) was_told: bool,
    /// Feeds whose followers are being called, since there is something new.
    pub(super) calling: VecDeque<usize>,
    /// How many clients are being written what their sockets have not taken.
    pub(super) blocked: usize,
    /// Connections that are not, and never were, a client's.
    pub(super) strangers: Strangers,
    /// Keys and serial numbers of connections that are a client's no more, and have not ended yet, oldest first.
    /// Those that have ended are passed over.
    pub(super) parting: VecDeque<ConnId>,
    /// The serial number of the newest connection: a key may be another connection's by now.
    pub(super) serial: u32,
    pub(super) epoch: Instant,
    pub(super) next_tick: u64,
    /// When there was a push last, and until when it looks for more by itself.
    pub(super) pushed_at: u64,
    pub(super) look_until: u64,
    pub(super) flushes: Flushes,
    /// The hub's end, once that is decided.
    pub(super) end: Option<End>,
    /// How far the tick has come, if one is under way.
    pub(super) walk: Option<Walk>,
    /// Whether feeds hold more for nobody than there was time to let go.
    pub(super) more_to_trim: bool,
    /// When the memory limit is looked after again, since it could not be kept.
    pub(super) relieve_at: u64,
    /// How many lines of pushes that wait have not been looked at since there may be more room; `usize::MAX`: all.
    pub(super) unlooked: usize,
    pub(super) slice: Duration,
    /// Whether the last tick was let pass because the driver had been held up.
    pub(super) pardoned: bool,
}

/// A tick looks at everything there is, in as many turns as it takes.
pub(super) enum Walk {
    /// Deadlines, from the connection at this place on.
    Connections(usize),
    /// Clients that have not come back in time.
    Sessions,
    /// Clients that are away, from the one at this place among those on: what is kept for them.
    Held(usize),
    /// What feeds hold for nobody, from the feed at this place on.
    Feeds(usize),
}

/// The hub's end, which takes as many turns as it needs.
pub(super) struct End {
    /// By when everything is to have ended.
    pub(super) by: u64,
    pub(super) goodbye: Arc<Goodbye>,
    /// Whether that is over: connections are given up, and nobody is let in.
    pub(super) gives_up: bool,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// What was commanded before comes first: a client that was closed is told its own reason.
    Commands,
    /// Connections, from the one at this place on, are told, or given up.
    Connections(usize),
    /// Clients that are away, among them those that have lost their connections before they were told.
    Away,
    /// What is left are connections that end.
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
        }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.engine.shared)
    }

    /// One step of one connection, if it is still there; it goes when it is over.
    pub(super) fn step(
        &mut self,
        key: usize,
        step: impl FnOnce(&mut Connection, &mut Engine) -> Result<(), Over>,
    ) {
        self.step_one(key, step);
        while let Some(id) = self.engine.clients.sessions.taken_over.pop() {
            if find(&self.connections, id).is_some() {
                self.step_one(id.place(), Connection::be_taken_over);
            }
        }
        if std::mem::take(&mut self.engine.intake.is_crowded) {
            self.give_up_arriving();
        }
    }

    pub(super) fn step_one(
        &mut self,
        key: usize,
        step: impl FnOnce(&mut Connection, &mut Engine) -> Result<(), Over>,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        self.unlooked = usize::MAX;
        let (was_stranger, was_blocked) = (connection.is_stranger(), connection.is_blocked());
        let was_parting = connection.is_parting();
        let result = step(connection, &mut self.engine);
        if result.is_ok() && !was_parting && connection.is_parting() {
            self.parting.push_back(connection.id());
        }
        if was_stranger && (result.is_err() || !connection.is_stranger()) {
            self.strangers.leave(key);
        }
        let is_blocked = result.is_ok() && connection.is_blocked();
        self.blocked = self.blocked + usize::from(is_blocked) - usize::from(was_blocked);
        if result.is_err() {
            self.connections.remove(key);
            self.engine.shared.descriptors.count(self.connections.len());
            if self.connections.is_empty() {
                self.parting.clear();
                self.connections.shrink_to_fit();
            }
        } else if connection.has_more() && connection.list() {
            self.owed.push_back(key);
        }
        if !self.flushes.is_empty() {
            self.flushes.look(key, self.connections.get_mut(key), &self.engine);
        }
    }

    /// What peers have sent takes more than its share of the memory: messages that are arriving make way, those that
    /// began first, until a part of the share is free. Real ones take milliseconds.
    pub(super) fn give_up_arriving(&mut self) {
        let arriving = |(key, connection): (usize, &Connection)| {
            connection.arriving_since().map(|since| (since, key))
        };
        let mut arriving: Vec<_> = self.connections.iter().filter_map(arriving).collect();
        arriving.sort_unstable();
        for (_, key) in arriving {
            if !self.engine.shared.inbound.is_tight() {
                return;
            }
            self.step_one(key, Connection::give_up_arriving);
        }
    }

    /// Bytes that have been handed to sockets so far.
    pub(super) fn written(&self) -> u64 {
        self.engine.shared.counters.bytes_out.get()
    }

    pub(super) fn slice(&self) -> Slice {
        Slice { began: Instant::now(), steps: 0, written: self.written(), long: self.slice }
    }

    /// Whether one step more is to be the last of this kind in this turn.
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

/// The connection of this name, unless its place is another's by now.
pub(super) fn find(connections: &Slab<Connection>, id: ConnId) -> Option<&Connection> {
    connections.get(id.place()).filter(|connection| connection.id() == id)
}
