//! Reads what a peer sends: turns the socket's bytes into requests, messages and control frames.

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

/// The number of reads, and of bytes, from one socket before other sockets have their turn.
const READS: usize = 4;
const READ_BYTES: usize = Intake::SCRATCH;

impl Connection {
    pub(super) fn read(&mut self, engine: &mut Engine) -> Step {
        let mut scratch = engine.intake.take_scratch();
        let result = self.read_into(&mut scratch, engine);
        engine.intake.keep_scratch(scratch);
        result
    }

    fn read_into(&mut self, scratch: &mut BytesMut, engine: &mut Engine) -> Step {
        self.hear_verdict(engine)?;
        self.hear_unheard(engine);
        let mut bytes = 0;
        for _ in 0..READS {
            if self.has_broken_the_rules() {
                return Ok(()); // until the Close has gone out
            }
            if matches!(&self.phase, Phase::Pending(pending) if !pending.early.is_empty()) {
                return Ok(()); // until the verdict has come
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
        self.waker.wake_by_ref(); // the socket may hold more: read after the others had their turn
        Ok(())
    }

    /// Decodes the bytes that arrived earlier and had to wait for the next turn.
    fn hear_unheard(&mut self, engine: &mut Engine) {
        if let Phase::Open(Open { v1: Some(v1), .. }) = &mut self.phase {
            let text = std::mem::take(&mut v1.unheard);
            if !text.is_empty() {
                self.said(&text, engine);
            }
        }
        let inbound = match &self.phase {
            Phase::Open(Open { inbound, .. }) | Phase::Closing { inbound, .. } => inbound,
            Phase::Newcomer(newcomer) => &newcomer.inbound,
            _ => return,
        };
        let is_unheard = inbound.as_ref().is_some_and(|inbound| inbound.is_unheard);
        if is_unheard && !self.has_broken_the_rules() {
            self.decode(&mut BytesMut::new(), engine);
        }
    }

    /// Handles the end of the peer's side of the stream. A peer may end its side after its request
    /// or its Close, and still takes the answer.
    fn end_of_stream(&mut self, engine: &mut Engine) -> Step {
        match &mut self.phase {
            Phase::Ending(ending) if !ending.ours => {
                ending.theirs = true;
                Ok(())
            }
            _ => self.lost(engine),
        }
    }

    /// Ends a connection that broke, or whose stream ended too early.
    pub(super) fn lost(&mut self, engine: &mut Engine) -> Step {
        self.depart(engine, DisconnectReason::Lost);
        self.end(engine);
        Err(Over)
    }

    pub(super) fn received(&mut self, bytes: &mut BytesMut, engine: &mut Engine) -> Step {
        match &mut self.phase {
            Phase::Handshake(handshake) => {
                // Nearly every request comes in one piece, which need not be copied.
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
                        // The number of handshakes is bounded. Their buffers must not use the
                        // memory that pushes need.
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
                        let (address, deadline) = (handshake.address, handshake.deadline);
                        self.answer(&request, None, address, deadline, engine);
                        self.hear_verdict(engine)?;
                        if received.is_empty() { Ok(()) } else { self.received(received, engine) }
                    }
                    Err(refusal) => {
                        let address = handshake.address;
                        self.refuse(&refusal, is_head, address, engine);
                        Ok(())
                    }
                }
            }
            Phase::Pending(pending) => {
                pending.early.extend_from_slice(bytes);
                let none = || Charge::none(&engine.shared.inbound);
                let charge = pending.charge.get_or_insert_with(none);
                if charge.set(pending.early.capacity()) {
                    return Ok(());
                }
                let reason = "no memory for what came behind the request now; wait for the answer";
                self.conclude(Err(Refusal::new(Status::Unavailable, reason)), engine)
            }
            Phase::Open(open) if open.is_events() => Ok(()), // nothing is expected behind the request
            Phase::Open(open) => {
                open.hear_at(engine.clock.now);
                open.pinged_at = None;
                self.decode(bytes, engine);
                Ok(())
            }
            Phase::Newcomer(_) | Phase::Closing { .. } => {
                self.decode(bytes, engine);
                Ok(())
            }
            Phase::Ending(_) => Ok(()),
        }
    }

    pub(super) fn inbound(&mut self) -> &mut Option<Box<Inbound>> {
        match &mut self.phase {
            Phase::Open(Open { inbound, .. }) | Phase::Closing { inbound, .. } => inbound,
            Phase::Newcomer(newcomer) => &mut newcomer.inbound,
            _ => unreachable!("frames are decoded while open and while closing"),
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
                    // After a violation or a Close, no further frame is looked at (RFC 6455,
                    // section 7.1.7).
                    if self.has_broken_the_rules() || matches!(self.phase, Phase::Ending(_)) {
                        return;
                    }
                }
                Err(error) => return self.violation(&error, engine),
            }
        }
        let left = if partial.is_empty() { &bytes[..] } else { &partial[..] };
        // A connection keeps only the memory it needs: not the block that its bytes were read into,
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
        // Bytes that the hub had no time for do not count against the client's frame timeout.
        if begins || inbound.is_unheard {
            inbound.since = engine.clock.now;
        }
        let held = size_of::<Inbound>() + inbound.buffer.capacity() + inbound.codec.allocated();
        // A crowded intake makes the driver give up the messages that began first.
        engine.intake.is_crowded |= !inbound.charge.set(held);
        *self.inbound() = Some(inbound);
    }

    /// Returns the time since which a message is arriving, if a message is arriving.
    pub(crate) fn arriving_since(&self) -> Option<u64> {
        let inbound = match &self.phase {
            Phase::Open(Open { inbound, .. }) | Phase::Closing { inbound, .. } => inbound,
            Phase::Newcomer(newcomer) => &newcomer.inbound,
            _ => return None,
        };
        inbound.as_ref().map(|inbound| inbound.since)
    }

    /// Gives up the arriving message, because other messages need its memory.
    pub(crate) fn give_up_arriving(&mut self, engine: &mut Engine) -> Step {
        let reason = "there is no memory for this message now";
        self.fail_arriving(CloseFrame::new(CloseCode::TRY_AGAIN_LATER, reason), engine)
    }

    /// Fails the connection, because the arriving message takes too long.
    pub(super) fn time_out_arriving(&mut self, engine: &mut Engine) -> Step {
        let within = engine.clock.timeouts.frame;
        let reason = format!(
            "a message took longer than {within} ms to arrive; send it at once, or raise `Timeouts::frame`"
        );
        self.fail_arriving(CloseFrame::new(CloseCode::POLICY, &reason), engine)
    }

    fn fail_arriving(&mut self, close: CloseFrame, engine: &mut Engine) -> Step {
        if self.arriving_since().is_none() {
            return Ok(()); // the message is complete, or the connection has ended
        }
        *self.inbound() = None;
        self.fail(close, engine);
        self.write(engine)
    }

    /// Whether the connection is to be closed because the client broke the rules.
    pub(super) fn has_broken_the_rules(&self) -> bool {
        let Phase::Open(open) = &self.phase else { return false };
        open.closing.as_ref().is_some_and(|closing| closing.is_violation)
    }

    /// Handles one message or control frame.
    pub(super) fn incoming(&mut self, incoming: Incoming, engine: &mut Engine) {
        if let Phase::Newcomer(_) = &self.phase {
            return self.incoming_of_newcomer(incoming, engine);
        }
        let Phase::Open(open) = &mut self.phase else {
            // Closing: after the hub's Close only the peer's Close counts (RFC 6455, section 1.4).
            if let Incoming::Control(Control::Close(_)) = incoming {
                self.end(engine);
            }
            return;
        };
        if let Incoming::Control(Control::Pong(payload)) = &incoming {
            // An answer costs none of the client's rate: the hub asked for it, and sets how often.
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
        // Each line of a `stepcast.v1` text counts by itself.
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
                // Every ping is answered while the socket takes the pongs; after that only the
                // newest ping is.
                if self.outbox.as_ref().is_some_and(|outbox| outbox.has_pong())
                    && self.write_outbox(engine).is_err()
                {
                    return;
                }
                // A copy, since the pong may wait and the payload is a slice of a large block.
                let payload = Bytes::copy_from_slice(payload.as_bytes());
                self.owe(engine.clock.now).pong(ControlPayload::new(payload).unwrap_or_default());
            }
            Incoming::Control(Control::Pong(_)) => {}
            Incoming::Control(Control::Close(frame)) => {
                // RFC 6455, 5.5.1: "the endpoint typically echos the status code it received". The
                // reason is not echoed: it is the peer's own text.
                let echo = frame.as_ref().map(|frame| CloseFrame::new(frame.code(), ""));
                let copy = frame.map(|frame| CloseFrame::new(frame.code(), frame.reason()));
                self.depart(engine, DisconnectReason::Closed(copy));
                self.owe(engine.clock.now).close_now(echo);
                self.end(engine);
            }
        }
    }

    /// Charges `cost` to the client's rate. Returns whether the client is within its rate.
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

    /// Handles one message or control frame of a newcomer, which has not said hello yet.
    fn incoming_of_newcomer(&mut self, incoming: Incoming, engine: &mut Engine) {
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
            Incoming::Control(_) => {} // no pong is due before the hello
        }
    }

    fn violation(&mut self, error: &CodecError, engine: &mut Engine) {
        let code = error.close_code().unwrap_or(CloseCode::PROTOCOL_ERROR);
        // The codec's error names the codec's options; the hub's options have other names.
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

    /// Fails the connection (RFC 6455, 7.1.7, "Fail the WebSocket Connection"). The client gets
    /// what was pushed before, then a Close with the code, then the end. Nothing more is read.
    pub(super) fn fail(&mut self, close: CloseFrame, engine: &mut Engine) {
        if let Some(client) = self.client() {
            engine.tell_failed(client.id, &close);
        }
        match self.phase {
            Phase::Open(_) => {
                let deadline = engine.clock.now + engine.clock.timeouts.close;
                self.prepare_close(engine, close, deadline, true);
            }
            Phase::Newcomer(_) => {
                self.owe(engine.clock.now).close(Some(close));
                self.end(engine);
            }
            _ => self.end(engine), // the hub's own Close is under way
        }
    }
}
