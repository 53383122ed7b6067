//! Writes what a client is owed: from mailbox and feed to the socket's bytes.

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::hub::conn::outbox::{Outbox, PARTS, gather};
use crate::hub::conn::phase::{Connection, Over, Phase, Step};
use crate::hub::conn::transport::Transport;
use crate::hub::engine::follows::{Mailed, Owed};
use crate::hub::engine::parts::Engine;
use crate::hub::feed::batch::Batch;
use crate::hub::feed::item;
use crate::hub::feed::stamp::Stamp;
use crate::hub::limits::Overflow;
use crate::hub::primitives::moment::Moment;
use crate::wire::{Frame, Wire};

/// The most that a connection takes up at once of what its client is owed. Taken-up messages are
/// written even if newer ones come.
pub(super) const TAKE_BYTES: usize = 64 * 1024;
const TAKE_FRAMES: usize = 64;

/// The number of feeds looked at per take-up: each message is the oldest in all feeds of a client.
/// The rest of a message's cost equals `LOOKS_OF_MESSAGE` feeds.
const TAKE_LOOKS: usize = 4096;
const LOOKS_OF_MESSAGE: usize = 8;

/// The number of take-ups before other connections have their turn.
const TAKES: usize = 8;

impl Connection {
    pub(super) fn owe(&mut self, now: u64) -> &mut Outbox {
        self.outbox.get_or_insert_with(|| Box::new(Outbox::new(now)))
    }

    /// Notes that the mailbox holds something.
    pub(crate) fn mark_mail(&mut self) {
        if let Phase::Open(open) = &mut self.phase {
            open.has_mail = true;
        }
    }

    /// Writes what the client is owed, until all is written or the socket is full.
    pub(crate) fn write(&mut self, engine: &mut Engine) -> Step {
        let written = self.write_owed(engine);
        self.charge_lines(engine);
        written
    }

    fn write_owed(&mut self, engine: &mut Engine) -> Step {
        self.catch_up(engine);
        let mut alone = false;
        for _ in 0..TAKES {
            if !self.write_outbox(engine)? {
                return Ok(());
            }
            match &mut self.phase {
                Phase::Open(_) => match self.take_up(engine, alone)? {
                    TakenUp::Shared => alone = false,
                    TakenUp::Alone => alone = true,
                    TakenUp::Nothing => return Ok(()),
                },
                Phase::Ending(ending) => {
                    if !ending.ours {
                        let mut cx = Context::from_waker(&self.waker);
                        if self.transport.poll_end(&mut cx).is_pending() {
                            return Ok(());
                        }
                        ending.ours = true;
                    }
                    return if ending.theirs { Err(Over) } else { Ok(()) };
                }
                _ => return Ok(()),
            }
        }
        self.waker.wake_by_ref(); // there may be more: after the others
        Ok(())
    }

    /// Moves a client that has fallen off the window to the window's middle, or closes it. Skipped
    /// messages are noticed and counted even while the client's socket is full.
    pub(super) fn catch_up(&mut self, engine: &mut Engine) {
        let Phase::Open(open) = &mut self.phase else { return };
        let skipped = open.follows.catch_up(&engine.feeds);
        if skipped > 0 {
            engine.shared.count_skipped(&open.client, skipped);
            if engine.shared.overflow == Overflow::Disconnect {
                self.end_too_slow(engine);
            }
        }
    }

    /// Writes the outbox. Returns whether the outbox is empty now.
    pub(super) fn write_outbox(&mut self, engine: &mut Engine) -> Result<bool, Over> {
        match self.transport.poll_flush(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => self.lost(engine)?,
            Poll::Pending => return Ok(false),
        }
        let Some(outbox) = &mut self.outbox else { return Ok(true) };
        let mut cx = Context::from_waker(&self.waker);
        let was_blocked = outbox.is_blocked();
        match outbox.poll_write(&mut self.transport, &mut cx, engine.clock.now) {
            Poll::Ready(Ok(count)) => {
                engine.shared.counters.bytes_out.add(count as u64);
                if let Phase::Open(open) = &mut self.phase {
                    open.sent_at = Moment::at(engine.clock.now);
                    // A slow reader may have much to read before the ping, so the ping's time
                    // starts anew.
                    if let Some(at) = open.pinged_at.as_mut().filter(|_| was_blocked && count > 0) {
                        *at = Moment::at(engine.clock.now);
                    }
                }
            }
            Poll::Ready(Err(_)) => {
                self.lost(engine)?;
            }
            Poll::Pending => {}
        }
        let Some(outbox) = &mut self.outbox else { return Ok(true) };
        let empty = outbox.is_empty();
        if let Phase::Open(open) = &mut self.phase {
            if outbox.take_ping_left() {
                open.pinged_at = Some(Moment::at(engine.clock.now));
            }
            let waiting = u32::try_from(outbox.bytes()).unwrap_or(u32::MAX);
            open.client.writing.store(waiting, Ordering::Relaxed);
        }
        if empty && !outbox.is_closing() {
            self.outbox = None;
        } else if !empty {
            outbox.count(&engine.shared.outboxes);
        }
        Ok(empty)
    }

    /// Takes up the next messages that the client is owed, in stamp order. `alone` says that the
    /// last take-up was for this client alone, whose cursor then may be nobody else's.
    pub(super) fn take_up(&mut self, engine: &mut Engine, alone: bool) -> Result<TakenUp, Over> {
        let now = engine.clock.now;
        let Phase::Open(open) = &mut self.phase else { return Ok(TakenUp::Nothing) };
        if open.is_v1() && open.has_mail {
            open.make_mail_room(engine);
        }
        if let Some(lines) = open.take_lines() {
            open.sent_at = Moment::at(now);
            self.send_at_once(lines, engine);
            return Ok(TakenUp::Shared); // the cursor stays where it was
        }
        let wire = open.wire;
        let closing = open.closing.as_deref();
        let upto = closing.map_or(engine.feeds.upto, |closing| closing.upto.min(engine.feeds.upto));
        // After a violation nothing more is read, so no answer could open the window.
        let room = if closing.is_some_and(|closing| closing.is_violation) {
            usize::MAX
        } else {
            open.pace.room()
        };
        if room == 0 && open.follows.is_owed(&open.client, open.has_mail, &engine.feeds, upto) {
            open.held_since.get_or_insert(Moment::at(engine.clock.now));
            let asked = self.take_and_ask(0, engine);
            return Ok(if asked { TakenUp::Alone } else { TakenUp::Nothing });
        }
        open.held_since = None;
        if !open.has_mail && open.closing.is_none() {
            // A client that follows one feed may share its messages with others.
            let only = match wire {
                Wire::Events => None, // lines are made for each client
                Wire::Plain => open.follows.only(),
                Wire::V1 => open.follows.only_owed(&engine.feeds).filter(|follow| {
                    let log = engine.feeds.get(follow.place());
                    let next = log.and_then(|log| log.number_at(follow.cursor.log));
                    !next.is_some_and(|next| follow.misses(next)) // a gap has to be announced first
                }),
            };
            let budget = &engine.shared.budget;
            let batch = only.and_then(|follow| {
                let place = follow.place();
                let log = engine.feeds.logs.get_mut(place)?;
                Some((place, log.batch(follow.cursor, engine.feeds.upto, wire, !alone, budget)?))
            });
            if let Some((place, batch)) = batch {
                let stretch = open.pace.stretch(self.id.serial());
                let end = batch.within(room.min(stretch), open.pace.long());
                let is_cut = end < batch.within(room, usize::MAX);
                let question = open.pace.question(end, engine.clock.now, self.id.serial());
                let question = question.map(|question| question.frame(wire));
                let mut cx = Context::from_waker(&self.waker);
                match write_batch(&mut self.transport, &mut cx, batch, end, question.as_ref()) {
                    Ok(0) => {} // the socket is full: take up the part, so the time counts
                    Ok(written) => {
                        engine.shared.counters.bytes_out.add(written as u64);
                        let of_batch = written.min(end);
                        let (cursor, rest) = batch.after(of_batch);
                        let is_all = batch.is_all_up_to(end);
                        open.sent_at = Moment::at(now);
                        if let Some(follow) = open.follows.at(place) {
                            follow.cursor = cursor;
                            if wire == Wire::V1 {
                                let last = engine
                                    .feeds
                                    .get(place)
                                    .and_then(|log| log.window.number_before(cursor.log));
                                follow.see(last.unwrap_or_default());
                            }
                        }
                        let taken = of_batch + rest.len();
                        let asked = question.as_ref().map_or(0, Bytes::len);
                        if asked > 0 && written <= end {
                            self.begin(rest, engine.clock.now);
                            self.take_and_ask(taken, engine);
                            return Ok(TakenUp::Shared);
                        }
                        open.pace.take(taken);
                        if let Some(question) = question {
                            open.asked(engine);
                            let mut rest: Frame = question.into();
                            rest.advance(written - end);
                            self.begin(rest, engine.clock.now);
                        } else {
                            self.begin(rest, engine.clock.now);
                        }
                        return Ok(match written == end + asked {
                            true if is_all => TakenUp::Nothing,
                            true if is_cut => TakenUp::Alone, // few clients go on from this cursor
                            _ => TakenUp::Shared,
                        });
                    }
                    Err(_) => {
                        self.lost(engine)?;
                    }
                }
            }
        }
        let has_taken = if wire == Wire::Events {
            self.take_up_events(engine, upto)
        } else {
            self.take_up_by_stamp(engine, upto, room);
            false
        };
        Ok(if has_taken || self.outbox.is_some() { TakenUp::Alone } else { TakenUp::Nothing })
    }

    /// Sends bytes that nothing goes before. The rest that the socket does not take counts as
    /// begun, so nothing overtakes it. On a broken connection the rest is everything, and the next
    /// write reports the failure.
    pub(super) fn send_at_once(&mut self, mut bytes: Vec<u8>, engine: &Engine) {
        let mut cx = Context::from_waker(&self.waker);
        let slices = [IoSlice::new(&bytes)];
        if let Poll::Ready(Ok(count)) = self.transport.poll_send_at_once(&mut cx, &slices) {
            engine.shared.counters.bytes_out.add(count as u64);
            bytes.drain(..count);
        }
        if !bytes.is_empty() {
            self.owe(engine.clock.now).begin_own(bytes.into());
        }
    }

    /// Puts the rest of a frame that has been begun before everything else.
    pub(super) fn begin(&mut self, rest: Frame, now: u64) {
        if !rest.is_empty() {
            self.owe(now).begin(rest);
        }
    }

    /// Notes that `bytes` have been taken up, and puts a question behind them if one is due.
    /// Returns whether one was.
    fn take_and_ask(&mut self, bytes: usize, engine: &Engine) -> bool {
        let Phase::Open(open) = &mut self.phase else { return false };
        let wire = open.wire;
        let question = open.pace.question(bytes, engine.clock.now, self.id.serial());
        open.pace.take(bytes);
        let Some(question) = question else { return false };
        open.asked(engine);
        self.owe(engine.clock.now).push_own(question.frame(wire).into());
        true
    }

    /// Fills the outbox with the next frames of mailbox and feed, merged.
    fn take_up_by_stamp(&mut self, engine: &mut Engine, upto: Stamp, room: usize) {
        let Phase::Open(open) = &mut self.phase else { return };
        if open.is_v1() {
            return self.take_up_lines(engine, upto, room);
        }
        let mut outbox = None;
        let (mut bytes, mut frames) = (0, 0);
        let most = TAKE_FRAMES.min(messages_at_once(open.follows.count()));
        while bytes < TAKE_BYTES.min(room) && frames < most {
            let feeds = &engine.feeds;
            let frame = match open.follows.next(&open.client, &mut open.has_mail, feeds, upto) {
                Some(Owed::Mail(Mailed { message: Some(message), cost, emptied, .. })) => {
                    if let Some(emptied) = emptied {
                        engine.feeds.keep_mail(emptied);
                    }
                    item::keep(message, cost, &engine.shared.budget).into_frame()
                }
                Some(Owed::Feed { item, follow, after, .. }) => {
                    open.follows.set_cursor(follow.place(), after);
                    item.frame()
                }
                _ => break,
            };
            bytes += frame.len();
            frames += 1;
            outbox.get_or_insert_with(|| Box::new(Outbox::new(engine.clock.now))).push(frame);
        }
        if outbox.is_some() {
            self.outbox = outbox;
            self.take_and_ask(bytes, engine);
        } else {
            self.close_if_due(engine);
        }
    }

    /// Fills the outbox on the wire `stepcast.v1`.
    fn take_up_lines(&mut self, engine: &mut Engine, upto: Stamp, room: usize) {
        let Phase::Open(open) = &self.phase else { return };
        let messages = messages_at_once(open.follows.count());
        let bytes = TAKE_BYTES.min(room);
        if let Some((outbox, bytes)) = self.take_up_v1(engine, upto, bytes, messages) {
            self.outbox = Some(outbox);
            self.take_and_ask(bytes, engine);
        } else {
            self.close_if_due(engine);
        }
    }

    /// Starts the close, if the client has everything that goes before its Close.
    pub(super) fn close_if_due(&mut self, engine: &mut Engine) {
        let Phase::Open(open) = &mut self.phase else { return };
        let Some(closing) = &open.closing else { return };
        // Mail accepted from the program goes before the Close, also mail the window held back.
        if !closing.is_violation && open.is_v1() && open.mail_waits() {
            open.held_since.get_or_insert(Moment::at(engine.clock.now)); // until an answer
            return;
        }
        if let Some(closing) = open.closing.take_if(|closing| engine.feeds.upto >= closing.upto) {
            self.send_close(*closing, engine);
        }
    }
}

/// The number of messages that a client with this many feeds takes up at once.
fn messages_at_once(feeds: usize) -> usize {
    (TAKE_LOOKS / (LOOKS_OF_MESSAGE + feeds)).max(1)
}

pub(super) enum TakenUp {
    /// Messages shared with every client at the same cursor.
    Shared,
    /// Messages put together for this client.
    Alone,
    Nothing,
}

/// Writes as much of the batch, up to `end`, and of the frame after it as the socket takes. Returns
/// the number of bytes that left, zero for a full socket.
fn write_batch(
    transport: &mut Transport,
    cx: &mut Context<'_>,
    batch: &Batch,
    end: usize,
    after: Option<&Bytes>,
) -> io::Result<usize> {
    let mut parts = batch.parts_up_to(end).chain(after.map(AsRef::as_ref)).peekable();
    let mut written = 0;
    while parts.peek().is_some() {
        let mut slices = [IoSlice::new(&[]); PARTS];
        let (filled, offered) = gather(&mut slices, parts.by_ref());
        match transport.poll_send_at_once(cx, &slices[..filled]) {
            Poll::Ready(Ok(count)) => {
                written += count;
                if count < offered {
                    break;
                }
            }
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => break,
        }
    }
    Ok(written)
}
