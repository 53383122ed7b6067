//! Accepts new connections, and ends connections that make way for them.

use std::net::SocketAddr;
use std::task::{Context, Poll};

use crate::handshake::HeadLimits;
use crate::hub::conn::phase::{Connection, Over};
use crate::hub::conn::transport::Transport;
use crate::hub::driver::listener;
use crate::hub::driver::state::{Driver, STEPS, find};
use crate::hub::primitives::conn_id::ConnId;

impl Driver {
    /// Accepts connections. Returns whether there may be more to accept.
    pub(super) fn accept(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..STEPS {
            let Some(listener) = &mut self.listener else { return false };
            let (now, journal) = (self.engine.clock.now, &self.engine.shared.journal);
            let Poll::Ready((stream, mut address)) = listener.poll_accept(cx, now, journal) else {
                return false;
            };
            // A dual-stack socket shows an IPv4 address as an IPv6 one.
            address.set_ip(address.ip().to_canonical());
            listener::prepare_accepted(&stream);
            self.add_connection(stream.into(), address);
        }
        true
    }

    /// Adds a connection. Other connections make way if there are too many.
    pub(super) fn add_connection(&mut self, transport: Transport, address: SocketAddr) {
        let ticked = self.has_to_tick();
        let entry = self.connections.vacant_entry();
        let slot = entry.key();
        self.serial = self.serial.wrapping_add(1);
        let deadline = self.engine.clock.now + self.engine.clock.timeouts.handshake;
        let waker = self.ready.waker(slot);
        let head = HeadLimits::default().bytes(self.engine.shared.limits.request_head);
        let id = ConnId::new(slot, self.serial);
        entry.insert(Connection::new(transport, address, waker, id, deadline, head));
        if !ticked {
            self.next_tick = self.engine.clock.now + self.engine.clock.timeouts.tick;
        }
        self.strangers.enter(slot, address.ip());
        self.engine.shared.descriptors.count(self.connections.len());
        // Looked at after the others: the request usually comes a moment later.
        self.todo.push_back(slot);
        let capacity = self.engine.shared.capacity();
        if self.strangers.len() > capacity.handshakes {
            self.end_a_stranger(capacity.handshakes);
        }
        // When other hubs have taken the descriptors that clients here had, a peer that sends a
        // request is still heard.
        if self.connections.len() > capacity.all()
            && !self.end_oldest_parting()
            && self.strangers.len() > 1
        {
            self.end_a_stranger(1);
        }
    }

    /// Ends a connection that is not a client's, in favour of newer ones. Real requests take
    /// milliseconds, so peers that send nothing, or take no answer, keep nobody out. The connection
    /// is from the address that has most of them, so a peer that opens connections without pause
    /// does not keep out peers with slower requests.
    fn end_a_stranger(&mut self, limit: usize) {
        if let Some(slot) = self.strangers.who_makes_way() {
            self.step(slot, |connection, engine| connection.make_way(limit, engine));
        }
    }

    /// Ends the oldest connection that is no longer a client's. Peers that say goodbye and keep
    /// their sockets thus cannot exceed the connection limit. Returns whether there was one.
    fn end_oldest_parting(&mut self) -> bool {
        self.forget_parted();
        let Some(id) = self.parting.pop_front() else { return false };
        self.step(id.slot(), |_, _| Err(Over));
        true
    }

    /// Skips the oldest entries whose connections have ended.
    fn forget_parted(&mut self) {
        while let Some(id) = self.parting.front() {
            if find(&self.connections, *id).is_some() {
                return;
            }
            self.parting.pop_front();
        }
    }
}
