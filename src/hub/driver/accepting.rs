//! New connections, and those that make way for them.

use std::net::SocketAddr;
use std::task::{Context, Poll};

use crate::handshake::HeadLimits;
use crate::hub::conn::phase::{Connection, Over};
use crate::hub::conn::transport::Transport;
use crate::hub::driver::listener;
use crate::hub::driver::state::{Driver, STEPS, find};
use crate::hub::primitives::conn_id::ConnId;

impl Driver {
    /// Whether there may be more to accept.
    pub(super) fn accept(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..STEPS {
            let Some(listener) = &mut self.listener else { return false };
            let (now, journal) = (self.engine.clock.now, &self.engine.shared.journal);
            let Poll::Ready((stream, mut address)) = listener.poll_accept(cx, now, journal) else {
                return false;
            };
            // On a socket for both, an IPv4 address comes as a part of IPv6.
            address.set_ip(address.ip().to_canonical());
            listener::prepare_accepted(&stream);
            self.take_in(stream.into(), address);
        }
        true
    }

    /// One connection more, for which others make way where there are too many.
    pub(super) fn take_in(&mut self, transport: Transport, address: SocketAddr) {
        let ticked = self.has_to_tick();
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        self.serial = self.serial.wrapping_add(1);
        let deadline = self.engine.clock.now + self.engine.clock.timeouts.handshake;
        let waker = self.ready.waker(key);
        let head = HeadLimits::default().bytes(self.engine.shared.limits.request_head);
        let id = ConnId::new(key, self.serial);
        entry.insert(Connection::new(transport, address, waker, id, deadline, head));
        if !ticked {
            self.next_tick = self.engine.clock.now + self.engine.clock.timeouts.tick;
        }
        self.strangers.enter(key, address.ip());
        self.engine.shared.descriptors.count(self.connections.len());
        // Looked at after the others: its request comes a moment later, as a rule.
        self.todo.push_back(key);
        let room = self.engine.shared.room();
        if self.strangers.len() > room.handshakes {
            self.end_a_stranger(room.handshakes);
        }
        // Where other hubs have taken what clients here had, one who asks is still heard.
        if self.connections.len() > room.all()
            && !self.end_oldest_parting()
            && self.strangers.len() > 1
        {
            self.end_a_stranger(1);
        }
    }

    /// A connection that is not a client's makes way for newer ones: real requests take milliseconds, so that peers
    /// who send nothing, or take no answer, keep nobody out. One from the place that most are from, so that a peer
    /// who opens them without pause does not keep out those whose requests take longer.
    pub(super) fn end_a_stranger(&mut self, limit: usize) {
        if let Some(key) = self.strangers.who_makes_way() {
            self.step(key, |connection, engine| connection.make_way(limit, engine));
        }
    }

    /// The oldest connection that is a client's no more makes way: peers who say goodbye and keep their sockets
    /// take no more of them than there may be connections. Whether there was one.
    pub(super) fn end_oldest_parting(&mut self) -> bool {
        self.forget_parted();
        let Some(id) = self.parting.pop_front() else { return false };
        self.step(id.place(), |_, _| Err(Over));
        true
    }

    /// Passes over the oldest ones that have ended.
    pub(super) fn forget_parted(&mut self) {
        while let Some(id) = self.parting.front() {
            if find(&self.connections, *id).is_some() {
                return;
            }
            self.parting.pop_front();
        }
    }
}
