//! The end of a connection: how a client leaves, and how its socket is closed.

use std::sync::atomic::Ordering;

use crate::codec::{CloseCode, CloseFrame};
use crate::hub::conn::phase::{Connection, Ending, Open, Over, PendingClose, Phase, Step};
use crate::hub::engine::parts::Engine;
use crate::hub::events::{DisconnectReason, is_of_too_much};
use crate::wire::Wire;

impl Connection {
    /// Ends the client's part of the connection: nobody can send to the client, and everybody is
    /// told. A client that may come back, or has another connection, stays registered.
    pub(super) fn depart(&mut self, engine: &mut Engine, reason: DisconnectReason) {
        self.unfollow_feeds(engine);
        let Phase::Open(open) = &self.phase else { return };
        if open.is_v1() {
            if !open.client.is_on(self.id) {
                return;
            }
            // A client whose end is decided cannot come back, however its connection ends first.
            let is_decided = open.closing.is_some() && open.client.mailbox.lock().ended;
            if reason.may_come_back() && !is_decided {
                engine.hold(&open.client, open.follows.iter(), open.pace.unanswered());
                return engine.detach(&open.client, reason);
            }
        }
        engine.dismiss(&open.client, reason);
    }

    pub(super) fn unfollow_feeds(&self, engine: &mut Engine) {
        if let Phase::Open(open) = &self.phase {
            open.follows.iter().for_each(|follow| engine.feeds.unfollow(follow.place()));
        }
    }

    /// Starts a close by the hub. The Close goes out when the client has everything pushed before
    /// this call, or at `deadline`.
    pub(crate) fn begin_close(
        &mut self,
        engine: &mut Engine,
        close: CloseFrame,
        deadline: u64,
    ) -> Step {
        self.prepare_close(engine, close, deadline, false);
        self.write(engine)
    }

    /// Closes the connection because the hub ends, at `by` at the latest.
    pub(crate) fn close_at_the_end(&mut self, engine: &mut Engine, by: u64) -> Step {
        let Some(goodbye) = engine.goodbye() else { return Ok(()) };
        match self.phase {
            // The request may still be answered.
            Phase::Handshake(_) | Phase::Pending(_) => return Ok(()),
            Phase::Newcomer(_) => self.say_goodbye(&goodbye, Wire::V1, engine),
            _ if self.is_stranger() => return Err(Over),
            _ => {
                self.prepare_close(engine, goodbye.close(), by, false);
                if let Phase::Open(Open { closing: Some(closing), .. }) = &mut self.phase {
                    // A client whose end was decided earlier keeps its own reason.
                    closing.hub_ends = closing.close == goodbye.close();
                }
            }
        }
        self.write(engine)
    }

    pub(super) fn prepare_close(
        &mut self,
        engine: &Engine,
        close: CloseFrame,
        deadline: u64,
        is_violation: bool,
    ) {
        if let Phase::Open(open) = &mut self.phase {
            // The mailbox takes no mail that would not be delivered. The mail of a client that may
            // come back waits for that client.
            if !(is_violation && open.is_v1() && is_of_too_much(close.code())) {
                let mut mailbox = open.client.mailbox.lock();
                (mailbox.closed, mailbox.ended) = (true, true);
            }
            let upto = engine.shared.stamps.load(Ordering::Relaxed);
            open.has_mail = true; // the mailbox may hold mail that the driver has not heard of yet
            let closing = PendingClose { close, upto, deadline, is_violation, hub_ends: false };
            match &mut open.closing {
                // A violation replaces the reason and keeps the earlier deadline.
                Some(old) if is_violation => (old.close, old.is_violation) = (closing.close, true),
                Some(_) => {}
                None => open.closing = Some(Box::new(closing)),
            }
        }
    }

    /// Closes a client that is too slow: at once, since a slow client would not read more.
    pub(crate) fn drop_too_slow(&mut self, engine: &mut Engine) -> Step {
        self.end_too_slow(engine);
        self.write(engine)
    }

    /// Sends the Close, since the client has everything it was owed.
    pub(super) fn send_close(&mut self, closing: PendingClose, engine: &mut Engine) {
        if self.is_events() {
            let goodbye = engine.goodbye().filter(|_| closing.hub_ends);
            let end = goodbye.as_deref().map_or(("closed", closing.close.reason()), |g| {
                (g.how().unwrap_or("ended"), g.reason())
            });
            return self.end_events(end, DisconnectReason::ByHub, engine);
        }
        let close = match (engine.goodbye(), &self.phase) {
            (Some(goodbye), Phase::Open(open)) if closing.hub_ends && !closing.is_violation => {
                self.farewell_at_the_end(&goodbye, open.wire, engine)
            }
            _ => self.farewell(closing.close.clone(), engine),
        };
        if closing.is_violation {
            self.depart(engine, DisconnectReason::Violation(closing.close));
            self.owe(engine.clock.now).close(Some(close));
            self.end(engine);
            self.waker.wake_by_ref(); // to read again
        } else {
            self.depart(engine, DisconnectReason::ByHub);
            self.owe(engine.clock.now).close(Some(close));
            let deadline = engine.clock.now + engine.clock.timeouts.close;
            self.phase = Phase::Closing { deadline, inbound: self.inbound().take() };
        }
    }

    pub(super) fn end(&mut self, engine: &mut Engine) {
        let is_stranger = self.is_stranger();
        let deadline = match self.phase {
            Phase::Ending(Ending { deadline, .. }) | Phase::Closing { deadline, .. } => deadline,
            _ => engine.clock.now + engine.clock.timeouts.close,
        };
        self.phase = Phase::Ending(Ending { deadline, ours: false, theirs: false, is_stranger });
    }

    /// Gives the connection up, whatever the client is owed.
    pub(crate) fn abort(&mut self, engine: &mut Engine, reason: DisconnectReason) {
        self.depart(engine, reason);
        self.transport.abort();
    }

    pub(super) fn end_too_slow(&mut self, engine: &mut Engine) {
        if let Some(outbox) = &mut self.outbox {
            outbox.give_up_queue();
        }
        if self.is_events() {
            return self.end_events(("closed", "too slow"), DisconnectReason::TooSlow, engine);
        }
        let close = self.farewell(CloseFrame::new(CloseCode::TRY_AGAIN_LATER, "too slow"), engine);
        self.depart(engine, DisconnectReason::TooSlow);
        self.owe(engine.clock.now).close(Some(close));
        self.end(engine);
    }
}
