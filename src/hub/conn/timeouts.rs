//! The deadlines of a connection.

use crate::codec::ControlPayload;
use crate::hub::conn::pace::{TURNS, turn_of};
use crate::hub::conn::phase::{Connection, Open, Over, Phase, Step};
use crate::hub::engine::parts::Engine;
use crate::hub::events::DisconnectReason;
use crate::hub::primitives::moment::Moment;
use crate::wire::Wire;

impl Connection {
    // ---- time ----

    /// Checks every deadline of this connection.
    pub(crate) fn tick(&mut self, engine: &mut Engine) -> Step {
        let now = engine.clock.now;
        if let Some(outbox) = &self.outbox {
            let stalled = now >= outbox.progress_at + engine.clock.timeouts.stall;
            let too_long =
                outbox.in_frame() && now >= outbox.begun_at + engine.clock.timeouts.frame;
            if !outbox.is_empty() && (stalled || too_long) {
                return self.time_out(engine);
            }
        }
        if self.arriving_since().is_some_and(|since| now >= since + engine.clock.timeouts.frame) {
            return self.time_out_arriving(engine);
        }
        let open = match &mut self.phase {
            Phase::Open(open) => open,
            Phase::Handshake(handshake) => {
                let late = now >= handshake.deadline;
                return if late { self.time_out_handshake(engine) } else { Ok(()) };
            }
            Phase::Pending(pending) => {
                let late = now >= pending.deadline;
                return if late { self.time_out_pending(engine) } else { Ok(()) };
            }
            Phase::Newcomer(newcomer) => {
                let late = now >= newcomer.deadline;
                return if late { self.time_out_newcomer(engine) } else { Ok(()) };
            }
            Phase::Closing { deadline, .. } => {
                return if now < *deadline { Ok(()) } else { self.time_out(engine) };
            }
            Phase::Ending(ending) => {
                // A peer that still takes an answer, such as a large page, has the timeout from its
                // last byte on.
                let taking =
                    self.outbox.as_ref().map_or(0, |o| o.progress_at + engine.clock.timeouts.close);
                return if now < taking.max(ending.deadline) {
                    Ok(())
                } else {
                    self.time_out(engine)
                };
            }
        };
        if open.closing.as_ref().is_some_and(|closing| now >= closing.deadline) {
            return self.time_out(engine);
        }
        // A client may need the frame timeout to read a message that is longer than any window.
        let patience = if open.pace.is_in_a_long_message() {
            engine.clock.timeouts.frame
        } else {
            engine.clock.timeouts.stall
        };
        if open.held_since.is_some_and(|since| since.passed(now) >= patience) {
            return self.time_out(engine);
        }
        if let Some(at) = open.pinged_at {
            return if at.passed(now) >= engine.clock.timeouts.pong {
                self.time_out(engine)
            } else {
                Ok(())
            };
        }
        let keepalive = keepalive_of(engine, self.id.serial());
        let silent = open.heard_at.passed(now) >= keepalive;
        match open.wire {
            Wire::V1 if silent || open.sent_at.passed(now) >= keepalive => {
                open.pinged_at = Some(Moment::at(now));
                let numbers = open.pace.numbers(now);
                open.lines().ping(numbers);
                open.asked(engine);
                self.write(engine)
            }
            // Keeps a plain connection alive when the client talks and the hub is silent: proxies
            // cut connections that are silent in one direction.
            Wire::Plain
                if (silent || open.sent_at.passed(now) >= keepalive)
                    && !self.outbox.as_ref().is_some_and(|outbox| outbox.has_ping()) =>
            {
                open.pace.pinged();
                self.owe(now).ping(ControlPayload::default());
                self.write(engine)
            }
            Wire::Events if open.sent_at.passed(now) >= keepalive => self.keep_events_alive(engine),
            _ => Ok(()),
        }
    }

    fn time_out(&mut self, engine: &mut Engine) -> Step {
        let reason = match &self.phase {
            Phase::Open(Open { closing: Some(closing), .. }) if closing.is_violation => {
                DisconnectReason::Violation(closing.close.clone())
            }
            Phase::Open(Open { closing: Some(_), .. }) => DisconnectReason::ByHub,
            _ => DisconnectReason::TimedOut,
        };
        self.abort(engine, reason);
        Err(Over)
    }
}

/// The time after which this client is pinged: up to a fifth earlier than configured, spread by the
/// connection's serial number.
fn keepalive_of(engine: &Engine, serial: u32) -> u64 {
    let keepalive = engine.clock.timeouts.keepalive;
    keepalive - keepalive / 5 * u64::from(turn_of(serial)) / u64::from(TURNS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::limits::{Limits, Timeouts};
    use crate::hub::testing::fixtures::engine;

    #[test]
    fn clients_are_pinged_at_different_times_within_a_fifth() {
        let keepalive = std::time::Duration::from_secs(16);
        let engine = engine(Limits::default(), &Timeouts::default().keepalive(keepalive));
        let mut times: Vec<_> = (0..64).map(|serial| keepalive_of(&engine, serial)).collect();
        times.sort_unstable();
        times.dedup();
        assert_eq!((times.len(), times.last()), (16, Some(&16_000)));
        assert!(times[0] >= 16_000 * 4 / 5, "{times:?}");
    }
}
