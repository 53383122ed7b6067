//! What a peer sends: from the socket's bytes to requests, messages and control frames.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder;

use crate::codec::{CloseCode, CloseFrame, CodecError, Control, ControlPayload, Incoming, Message};
use crate::handshake::{Refusal, Status};
use crate::hub::conn::phase::{Connection, Open, Over, Phase, Step, asks_head};
use crate::hub::engine::intake::{Inbound, Intake};
use crate::hub::engine::parts::Engine;
use crate::hub::events::DisconnectReason;
use crate::hub::primitives::budget::Charge;

/// Reads of one socket before the others have their turn, and bytes.
const READS: usize = 4;
const READ_BYTES: usize = Intake::SCRATCH;

impl Connection {
    pub(super) fn read(&mut self, engine: &mut Engine) -> Step {
        let mut scratch = engine.intake.take_scratch();
        let result = self.read_into(&mut scratch, engine);
        engine.intake.keep_scratch(scratch);
        result
    }

    pub(super) fn read_into(&mut self, scratch: &mut BytesMut, engine: &mut Engine) -> Step {
        self.hear_unheard(engine);
        let mut bytes = 0;
        for _ in 0..READS {
            if self.has_broken_the_rules() {
                return Ok(()); // until the Close has gone out
            }
            if engine.intake.work == 0 || bytes >= READ_BYTES {
                break;
            }
            scratch.clear();
            scratch.reserve(Intake::SCRATCH);
            let mut cx = Context::from_waker(&self.waker);
            match self.transport.poll_read(&mut cx, scratch) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(count)) if count > 0 => {
                    bytes += count;
                    engine.shared.counters.bytes_in.add(count as u64);
                    self.received(scratch, engine)?;
                }
                Poll::Ready(Ok(_)) => return self.end_of_stream(engine),
                Poll::Ready(Err(_)) => return self.lost(engine),
            }
        }
        self.waker.wake_by_ref(); // there may be more: after the others
        Ok(())
    }

    /// Looks at what came before, and there was no time for.
    pub(super) fn hear_unheard(&mut self, engine: &mut Engine) {
        if let Phase::Open(Open { v1: Some(v1), .. }) = &mut self.phase {
            let text = std::mem::take(&mut v1.unheard);
            if !text.is_empty() {
                self.said(&text, engine);
            }
        }
        let inbound = match &self.phase {
            Phase::Open(Open { inbound, .. }) | Phase::Leaving { inbound, .. } => inbound,
            Phase::Newcomer(newcomer) => &newcomer.inbound,
            _ => return,
        };
        let is_unheard = inbound.as_ref().is_some_and(|inbound| inbound.is_unheard);
        if is_unheard && !self.has_broken_the_rules() {
            self.decode(&mut BytesMut::new(), engine);
        }
    }

    /// The peer has ended its side. Who has asked for something, or has closed, may do that and
    /// still take its answer.
    pub(super) fn end_of_stream(&mut self, engine: &mut Engine) -> Step {
        match &mut self.phase {
            Phase::Ending(ending) if !ending.ours => {
                ending.theirs = true;
                Ok(())
            }
            _ => self.lost(engine),
        }
    }

    /// The connection broke, or ended where it should not have.
    pub(super) fn lost(&mut self, engine: &mut Engine) -> Step {
        self.depart(engine, DisconnectReason::Lost);
        self.end(engine);
        Err(Over)
    }

    pub(super) fn received(&mut self, bytes: &mut BytesMut, engine: &mut Engine) -> Step {
        match &mut self.phase {
            Phase::Handshake(handshake) => {
                // Nearly all come in one piece, which need not be copied.
                let mut kept = std::mem::take(&mut handshake.buffer);
                let in_one_piece = kept.is_empty();
                if !in_one_piece {
                    kept.extend_from_slice(bytes);
                }
                let received = if in_one_piece { bytes } else { &mut kept };
                let is_head = asks_head(received);
                match handshake.reader.read(received) {
                    Ok(None) => {
                        let buffer = if in_one_piece { received[..].into() } else { kept };
                        // Bounded by their number; what they take is not to be what pushes need.
                        let none = || Charge::none(&engine.shared.inbound);
                        let charge = handshake.charge.get_or_insert_with(none);
                        if charge.set(buffer.capacity()) {
                            handshake.buffer = buffer;
                        } else {
                            let address = handshake.address;
                            let reason =
                                "no memory for a request that comes in pieces now; try again later";
                            self.refuse(
                                &Refusal::new(Status::Unavailable, reason),
                                is_head,
                                address,
                                engine,
                            );
                        }
                        Ok(())
                    }
                    Ok(Some(request)) => {
                        let address = handshake.address;
                        self.answer(&request, address, engine);
                        if received.is_empty() { Ok(()) } else { self.received(received, engine) }
                    }
                    Err(refusal) => {
                        let address = handshake.address;
                        self.refuse(&refusal, is_head, address, engine);
                        Ok(())
                    }
                }
            }
            Phase::Open(open) => {
                open.hear_at(engine.clock.now);
                open.pinged_at = None;
                self.decode(bytes, engine);
                Ok(())
            }
            Phase::Newcomer(_) | Phase::Leaving { .. } => {
                self.decode(bytes, engine);
                Ok(())
            }
            Phase::Ending(_) => Ok(()),
        }
    }

    pub(super) fn inbound(&mut self) -> &mut Option<Box<Inbound>> {
        match &mut self.phase {
            Phase::Open(Open { inbound, .. }) | Phase::Leaving { inbound, .. } => inbound,
            Phase::Newcomer(newcomer) => &mut newcomer.inbound,
            _ => unreachable!("frames are decoded while open and while leaving"),
        }
    }

    pub(super) fn decode(&mut self, bytes: &mut BytesMut, engine: &mut Engine) {
        let kept = self.inbound().take();
        let mut begins = kept.is_none();
        let mut inbound = kept.unwrap_or_else(|| engine.intake.take_inbound());
        let mut partial = std::mem::take(&mut inbound.buffer);
        let source = if partial.is_empty() {
            &mut *bytes
        } else {
            partial.extend_from_slice(bytes);
            bytes.clear();
            &mut partial
        };
        inbound.is_unheard = false;
        loop {
            if engine.intake.work == 0 {
                inbound.is_unheard = !source.is_empty();
                break;
            }
            match inbound.codec.decode(source) {
                Ok(None) => break,
                Ok(Some(incoming)) => {
                    engine.intake.work = engine.intake.work.saturating_sub(1);
                    begins |= matches!(incoming, Incoming::Message(_));
                    self.incoming(incoming, engine);
                    // Of who has broken the rules, or has closed, nothing more is looked at (RFC 6455, section 7.1.7).
                    if self.has_broken_the_rules() || matches!(self.phase, Phase::Ending(_)) {
                        return;
                    }
                }
                Err(error) => return self.violation(&error, engine),
            }
        }
        let left = if partial.is_empty() { &bytes[..] } else { &partial[..] };
        // What is kept for a connection is no more than it needs: not the block it was read into,
        // and not more than the decoder asks for ahead.
        if partial.is_empty() || left.len() < partial.capacity() / 3 {
            partial = BytesMut::from(left);
        }
        inbound.buffer = partial;
        if inbound.buffer.is_empty() && inbound.codec.is_idle() {
            inbound.charge.set(0);
            inbound.buffer = BytesMut::new();
            engine.intake.keep_inbound(inbound);
            return;
        }
        // What there was no time for is late by the hub's doing.
        if begins || inbound.is_unheard {
            inbound.since = engine.clock.now;
        }
        let held = size_of::<Inbound>() + inbound.buffer.capacity() + inbound.codec.allocated();
        // The driver then has those make way whose message began first.
        engine.intake.is_crowded |= !inbound.charge.set(held);
        *self.inbound() = Some(inbound);
    }

    /// Since when a message is arriving, if one is.
    pub(crate) fn arriving_since(&self) -> Option<u64> {
        let inbound = match &self.phase {
            Phase::Open(Open { inbound, .. }) | Phase::Leaving { inbound, .. } => inbound,
            Phase::Newcomer(newcomer) => &newcomer.inbound,
            _ => return None,
        };
        inbound.as_ref().map(|inbound| inbound.since)
    }

    /// Other messages need the memory of the one that is arriving.
    pub(crate) fn give_up_arriving(&mut self, engine: &mut Engine) -> Step {
        let reason = "there is no memory for this message now";
        self.fail_arriving(CloseFrame::new(CloseCode::TRY_AGAIN_LATER, reason), engine)
    }

    /// The message that is arriving takes too long.
    pub(super) fn time_out_arriving(&mut self, engine: &mut Engine) -> Step {
        let within = engine.clock.timeouts.frame;
        let reason = format!(
            "a message took longer than {within} ms to arrive; send it at once, or raise `Timeouts::frame`"
        );
        self.fail_arriving(CloseFrame::new(CloseCode::POLICY, &reason), engine)
    }

    pub(super) fn fail_arriving(&mut self, close: CloseFrame, engine: &mut Engine) -> Step {
        if self.arriving_since().is_none() {
            return Ok(()); // it has come, or the connection has ended
        }
        *self.inbound() = None;
        self.fail(close, engine);
        self.flush(engine)
    }

    /// Whether it is to be closed for what the client did.
    pub(super) fn has_broken_the_rules(&self) -> bool {
        matches!(&self.phase, Phase::Open(Open { leave: Some(leave), .. }) if leave.is_violation)
    }

    /// One message or control frame.
    pub(super) fn incoming(&mut self, incoming: Incoming, engine: &mut Engine) {
        if let Phase::Newcomer(_) = &self.phase {
            return self.incoming_of_newcomer(incoming, engine);
        }
        let Phase::Open(open) = &mut self.phase else {
            // Leaving: after our Close only the peer's counts (RFC 6455, section 1.4).
            if let Incoming::Control(Control::Close(_)) = incoming {
                self.end(engine);
            }
            return;
        };
        if let Incoming::Control(Control::Pong(payload)) = &incoming {
            // It says what it has: that it was asked for, and is as often as it was.
            let pong = payload.as_bytes();
            if !open.is_v1() && open.pace.answer_with(pong, engine.freshness(), engine.clock.now) {
                open.held_since = None;
                return;
            }
        }
        let is_v1 = open.is_v1();
        let (more, is_lines) = match &incoming {
            Incoming::Message(message) => (
                engine.intake.more_for(message.len()),
                is_v1 && matches!(message, Message::Text(_)),
            ),
            Incoming::Control(_) => (0, false),
        };
        // Of lines each counts by itself.
        if !self.count(more + usize::from(!is_lines), engine) {
            return;
        }
        let Phase::Open(open) = &mut self.phase else { return };
        match incoming {
            Incoming::Message(message) if is_v1 => match message.as_text() {
                Some(text) => self.said(text, engine),
                None => self.heard_bytes(&message.into_bytes(), engine),
            },
            Incoming::Message(message) => engine.tell_message(open.client.id, None, &message),
            Incoming::Control(Control::Ping(payload)) => {
                // While the socket takes them, every ping is answered; then only the newest.
                if self.outbox.as_ref().is_some_and(|outbox| outbox.has_pong())
                    && self.write_outbox(engine).is_err()
                {
                    return;
                }
                // A copy: it may wait, and is a slice of a large block.
                let payload = Bytes::copy_from_slice(payload.as_bytes());
                self.owe(engine.clock.now).pong(ControlPayload::new(payload).unwrap_or_default());
            }
            Incoming::Control(Control::Pong(_)) => {}
            Incoming::Control(Control::Close(frame)) => {
                // RFC 6455, 5.5.1: "the endpoint typically echos the status code it received";
                // not the reason, which would reflect the peer's text.
                let echo = frame.as_ref().map(|frame| CloseFrame::new(frame.code(), ""));
                let copy = frame.map(|frame| CloseFrame::new(frame.code(), frame.reason()));
                self.depart(engine, DisconnectReason::Closed(copy));
                self.owe(engine.clock.now).close_now(echo);
                self.end(engine);
            }
        }
    }

    /// So much of what the client said counts in its rate, of which it is not to use more. Whether it has not.
    pub(super) fn count(&mut self, cost: usize, engine: &mut Engine) -> bool {
        let used = match &mut self.phase {
            Phase::Open(open) => &mut open.used,
            Phase::Newcomer(newcomer) => &mut newcomer.used,
            _ => return true,
        };
        if cost == 0 || engine.intake.is_within_rate(used, cost) {
            return true;
        }
        self.fail(
            CloseFrame::new(CloseCode::POLICY, "too many messages a second; send fewer"),
            engine,
        );
        false
    }

    /// One message or control frame before the client has said hello.
    pub(super) fn incoming_of_newcomer(&mut self, incoming: Incoming, engine: &mut Engine) {
        if !self.count(1, engine) {
            return;
        }
        match incoming {
            Incoming::Message(message) => {
                self.hello(message.as_text().unwrap_or_default(), engine);
            }
            Incoming::Control(Control::Close(frame)) => {
                self.owe(engine.clock.now)
                    .close(frame.map(|frame| CloseFrame::new(frame.code(), "")));
                self.end(engine);
            }
            Incoming::Control(_) => {} // a pong can wait until it is somebody
        }
    }

    pub(super) fn violation(&mut self, error: &CodecError, engine: &mut Engine) {
        let code = error.close_code().unwrap_or(CloseCode::PROTOCOL_ERROR);
        // The hub's options have other names than the codec's, which the error names.
        let reason = match error {
            CodecError::FrameTooLarge { limit } | CodecError::MessageTooLarge { limit } => format!(
                "a message was longer than the {limit} bytes allowed; raise `Limits::inbound_message`, or send less"
            ),
            CodecError::TooManyFragments { limit } => format!(
                "a message came in more than the {limit} fragments allowed; raise `Limits::inbound_fragments`, or send fewer"
            ),
            other => other.to_string(),
        };
        self.fail(CloseFrame::new(code, &reason), engine);
    }

    /// RFC 6455, 7.1.7, "Fail the WebSocket Connection": a Close with the code, after what was
    /// pushed to the client before, and then the end. Nothing more is read.
    pub(super) fn fail(&mut self, close: CloseFrame, engine: &mut Engine) {
        if let Some(client) = self.client() {
            engine.tell_failed(client.id, &close);
        }
        match self.phase {
            Phase::Open(_) => {
                let deadline = engine.clock.now + engine.clock.timeouts.close;
                self.prepare_to_leave(engine, close, deadline, true);
            }
            Phase::Newcomer(_) => {
                self.owe(engine.clock.now).close(Some(close));
                self.end(engine);
            }
            _ => self.end(engine), // our own Close is under way
        }
    }
}
