//! The outbox: what one connection has still to write. The outbox holds the frame begun, a control
//! lane, and the frames after it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::codec::{self, CloseFrame, Control, ControlPayload};
use crate::hub::conn::socket::Sink;
use crate::hub::primitives::budget::{Budget, Charge};
use crate::wire::Frame;

/// The most parts in one vectored write. The standard library passes at most 1024 to Linux in one
/// call; from 64 on the call itself is a small part of the cost.
pub(crate) const PARTS: usize = 64;

/// The bytes that a connection owes its peer. An outbox exists only while it holds bytes.
///
/// The frame begun is always finished first, since a frame cannot be taken back. Control frames
/// come next, so a Pong does not wait behind data; data comes last. The control lane has one place
/// for each kind: a newer Ping's Pong replaces a Pong not yet begun (RFC 6455, section 5.5.3). A
/// peer that sends pings and does not read therefore makes nothing grow.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    begun: Frame,
    pong: Option<ControlPayload>,
    ping: Option<ControlPayload>,
    queue: VecDeque<Frame>,
    /// Sent after everything else; then the connection's writing ends.
    close: Option<Close>,
    /// When the frame begun was begun, and when bytes last left, in the driver's milliseconds.
    pub(crate) begun_at: u64,
    pub(crate) progress_at: u64,
    /// Whether a ping has left since the last [`take_ping_left`](Self::take_ping_left).
    ping_left: bool,
    /// Whether the socket was full at the last write.
    blocked: bool,
    /// Bytes of frames that this connection alone holds and that are counted nowhere else. Bytes
    /// that have left stay counted until all of these frames have left.
    own: usize,
    /// The bytes counted for this outbox, once it waits for its socket. Most outboxes leave at once
    /// and are not counted.
    charge: Option<Charge>,
    /// Whether a flush waits for the frames in this outbox.
    marked: bool,
}

#[derive(Debug, Clone)]
enum Close {
    Waiting(Option<CloseFrame>),
    Begun,
}

impl Outbox {
    pub(crate) fn new(now: u64) -> Self {
        Self { begun_at: now, progress_at: now, ..Self::default() }
    }

    /// Appends a data frame.
    pub(crate) fn push(&mut self, frame: Frame) {
        if !frame.is_empty() {
            self.queue.push_back(frame);
        }
    }

    /// Appends a frame that was made for this connection alone.
    pub(crate) fn push_own(&mut self, frame: Frame) {
        self.own += frame.len();
        self.push(frame);
    }

    /// Appends a frame whose payload is counted elsewhere.
    pub(crate) fn push_with_own_head(&mut self, frame: Frame) {
        self.own += frame.head_len();
        self.push(frame);
    }

    /// Sets the rest of a frame whose first bytes were written elsewhere.
    pub(crate) fn begin(&mut self, rest: Frame) {
        self.begun = rest;
    }

    /// Sets the rest of such a frame that was made for this connection alone.
    pub(crate) fn begin_own(&mut self, rest: Frame) {
        self.own += rest.len();
        self.begin(rest);
    }

    /// Counts the memory of an outbox that waits for its socket: the outbox itself, its list of
    /// frames, and its own frames. Shared frames are counted where they are shared.
    pub(crate) fn count(&mut self, budget: &Arc<Budget>) {
        let bytes = size_of::<Self>() + self.queue.capacity() * size_of::<Frame>() + self.own;
        self.charge.get_or_insert_with(|| Charge::none(budget)).set(bytes);
    }

    pub(crate) fn pong(&mut self, payload: ControlPayload) {
        if self.close.is_none() {
            self.pong = Some(payload);
        }
    }

    pub(crate) fn has_pong(&self) -> bool {
        self.pong.is_some()
    }

    pub(crate) fn ping(&mut self, payload: ControlPayload) {
        if self.close.is_none() {
            self.ping = Some(payload);
        }
    }

    /// Queues a Close behind the queued data.
    pub(crate) fn close(&mut self, frame: Option<CloseFrame>) {
        if self.close.is_none() {
            self.close = Some(Close::Waiting(frame));
        }
    }

    /// Queues a Close behind the frame begun, and drops the queued data.
    pub(crate) fn close_now(&mut self, frame: Option<CloseFrame>) {
        self.give_up_queue();
        self.close(frame);
    }

    pub(crate) fn give_up_queue(&mut self) {
        self.queue.clear();
    }

    /// Whether a Close is in line or has been sent: no data may follow.
    pub(crate) fn is_closing(&self) -> bool {
        self.close.is_some()
    }

    pub(crate) fn has_data(&self) -> bool {
        !self.begun.is_empty() || !self.queue.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.has_data()
            && self.pong.is_none()
            && self.ping.is_none()
            && !matches!(self.close, Some(Close::Waiting(_)))
    }

    /// The number of data bytes, begun and queued.
    pub(crate) fn bytes(&self) -> usize {
        self.begun.len() + self.queue.iter().map(Frame::len).sum::<usize>()
    }

    /// Whether a frame has been begun and is not yet written whole.
    pub(crate) fn in_frame(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Whether the socket was full at the last write. Bytes that leave after that are a sign of
    /// life: the peer has read what made room for them.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Marks this outbox for a flush that waits for its frames; see [`is_marked`](Self::is_marked).
    pub(crate) fn mark(&mut self) {
        self.marked = true;
    }

    /// Whether this is the marked outbox, and not a later one.
    pub(crate) fn is_marked(&self) -> bool {
        self.marked
    }

    /// Whether a ping waits to leave.
    pub(crate) fn has_ping(&self) -> bool {
        self.ping.is_some()
    }

    /// Returns whether a ping has left since the last call.
    pub(crate) fn take_ping_left(&mut self) -> bool {
        std::mem::take(&mut self.ping_left)
    }

    /// Encodes the waiting control frames one after the other.
    fn control(&self) -> Bytes {
        let answer = self.pong.clone().map(Control::Pong);
        let question = self.ping.clone().map(Control::Ping);
        let close = match &self.close {
            Some(Close::Waiting(frame)) if self.queue.is_empty() => {
                Some(Control::Close(frame.clone()))
            }
            _ => None,
        };
        let mut frames =
            [answer, question, close].into_iter().flatten().map(|c| codec::server_control(&c));
        match (frames.next(), frames.next()) {
            (None, _) => Bytes::new(),
            (Some(only), None) => only,
            (Some(first), Some(second)) => {
                let mut all = [first, second].concat();
                frames.for_each(|frame| all.extend_from_slice(&frame));
                Bytes::from(all)
            }
        }
    }

    /// Writes until everything has left or the socket is full. Returns the number of bytes that
    /// left.
    ///
    /// A full socket registers the task.
    ///
    /// # Errors
    ///
    /// The socket's errors, and [`io::ErrorKind::WriteZero`] where the socket reports success with
    /// zero bytes.
    pub(crate) fn poll_write(
        &mut self,
        sink: &mut impl Sink,
        cx: &mut Context<'_>,
        now: u64,
    ) -> Poll<io::Result<usize>> {
        let mut total = 0;
        self.blocked = false;
        while !self.is_empty() {
            let control = self.control();
            let parts = self
                .begun
                .parts()
                .chain((!control.is_empty()).then_some(&control))
                .chain(self.queue.iter().flat_map(Frame::parts))
                .map(AsRef::as_ref);
            let mut slices = [IoSlice::new(&[]); PARTS];
            let (filled, _) = gather(&mut slices, parts);
            match sink.poll_send(cx, &slices[..filled]) {
                Poll::Ready(Ok(count)) => {
                    total += count;
                    self.progress_at = now;
                    self.consume(count, &control, now);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.blocked = true;
                    return if total == 0 { Poll::Pending } else { Poll::Ready(Ok(total)) };
                }
            }
        }
        Poll::Ready(Ok(total))
    }

    /// Removes the `count` bytes that have left from the frame begun, `control` and the queue.
    fn consume(&mut self, mut count: usize, control: &Bytes, now: u64) {
        let of_begun = count.min(self.begun.len());
        self.begun.advance(of_begun);
        count -= of_begun;
        if count > 0 && !control.is_empty() {
            let of_control = count.min(control.len());
            count -= of_control;
            self.ping_left |= self.ping.is_some();
            (self.pong, self.ping) = (None, None);
            if self.queue.is_empty() && self.close.is_some() {
                self.close = Some(Close::Begun);
            }
            // A control frame that has begun is finished unchanged.
            self.begun = control.slice(of_control..).into();
            self.begun_at = now;
        }
        while count > 0 {
            let Some(mut frame) = self.queue.pop_front() else { break };
            let of_frame = count.min(frame.len());
            frame.advance(of_frame);
            count -= of_frame;
            self.begun = frame;
            self.begun_at = now;
        }
        if self.begun.is_empty() {
            self.begun = Frame::default(); // an empty slice would hold the whole frame
        }
    }
}

/// Fills the slices with the next parts. Returns the number of parts and of their bytes.
pub(crate) fn gather<'a>(
    slices: &mut [IoSlice<'a>; PARTS],
    parts: impl Iterator<Item = &'a [u8]>,
) -> (usize, usize) {
    let (mut filled, mut offered) = (0, 0);
    for (slice, part) in slices.iter_mut().zip(parts) {
        *slice = IoSlice::new(part);
        filled += 1;
        offered += part.len();
    }
    (filled, offered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::CloseCode;
    use std::task::Waker;

    /// A socket with room for a number of bytes.
    struct Socket {
        room: usize,
        taken: Vec<u8>,
    }

    impl Sink for Socket {
        fn poll_send(
            &mut self,
            _: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut count = 0;
            for part in parts {
                let taken = part.len().min(self.room);
                self.room -= taken;
                self.taken.extend_from_slice(&part[..taken]);
                count += taken;
            }
            if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
        }
    }

    fn write(outbox: &mut Outbox, socket: &mut Socket, room: usize) {
        socket.room = room;
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(result) = outbox.poll_write(socket, &mut cx, 0) {
            result.unwrap();
        }
    }

    fn socket() -> Socket {
        Socket { room: 0, taken: Vec::new() }
    }

    fn frame(text: &'static str) -> Frame {
        Bytes::from_static(text.as_bytes()).into()
    }

    fn payload(text: &'static str) -> ControlPayload {
        ControlPayload::new(Bytes::from_static(text.as_bytes())).unwrap()
    }

    #[test]
    fn what_waits_for_its_socket_is_counted_but_for_what_is_shared() {
        let budget = Budget::new(1 << 20);
        let mut outbox = Outbox::new(0);
        outbox.push(Bytes::from(vec![0; 5000]).into());
        outbox.count(&budget);
        let shared = budget.used();
        assert!((size_of::<Outbox>()..1000).contains(&shared), "{shared}");
        outbox.push_own(Bytes::from(vec![0; 700]).into());
        outbox.push_with_own_head(Frame::new(Bytes::from(vec![0; 20]), Bytes::from(vec![0; 5000])));
        outbox.begin_own(Bytes::from(vec![0; 80]).into());
        outbox.count(&budget);
        assert_eq!(budget.used(), shared + 700 + 20 + 80);
        drop(outbox);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_pong_waits_for_the_frame_begun_but_not_for_the_others() {
        let (mut outbox, mut socket) = (Outbox::new(0), socket());
        outbox.push(frame("first "));
        outbox.push(frame("second"));
        write(&mut outbox, &mut socket, 2);
        outbox.pong(payload("P"));
        write(&mut outbox, &mut socket, 100);
        assert_eq!(socket.taken, b"first \x8a\x01Psecond");
        assert!(outbox.is_empty());
    }

    // RFC 6455, 5.5.3: "If an endpoint receives a Ping frame and has not yet sent Pong frame(s) in
    // response to previous Ping frame(s), the endpoint MAY elect to send a Pong frame for only the
    // most recently processed Ping frame."
    #[test]
    fn only_the_newest_ping_is_answered_while_the_socket_is_full() {
        let (mut outbox, mut socket) = (Outbox::new(0), socket());
        outbox.push(frame("data"));
        write(&mut outbox, &mut socket, 1);
        for text in ["a", "b", "c"] {
            outbox.pong(payload(text));
            write(&mut outbox, &mut socket, 0);
        }
        write(&mut outbox, &mut socket, 100);
        assert_eq!(socket.taken, b"data\x8a\x01c");
    }

    #[test]
    fn nothing_follows_a_close_and_queued_data_goes_before_it() {
        let (mut outbox, mut socket) = (Outbox::new(0), socket());
        outbox.push(frame("data"));
        outbox.close(Some(CloseFrame::new(CloseCode::GOING_AWAY, "")));
        outbox.pong(payload("late"));
        write(&mut outbox, &mut socket, 100);
        assert_eq!(socket.taken, b"data\x88\x02\x03\xe9");
        assert!(outbox.is_empty() && outbox.is_closing());
    }

    #[test]
    fn a_close_for_a_violation_gives_up_what_is_queued_but_not_the_frame_begun() {
        let (mut outbox, mut socket) = (Outbox::new(0), socket());
        outbox.push(frame("first"));
        outbox.push(frame("second"));
        write(&mut outbox, &mut socket, 2);
        outbox.close_now(None);
        write(&mut outbox, &mut socket, 100);
        assert_eq!(socket.taken, b"first\x88\x00");
    }

    #[test]
    fn the_time_of_a_frame_counts_from_its_own_beginning_and_progress_from_the_last_byte() {
        let (mut outbox, mut socket) = (Outbox::new(1), socket());
        let mut cx = Context::from_waker(Waker::noop());
        outbox.push(frame("first"));
        outbox.push(frame("second"));
        for (now, room, begun_at) in [(10, 2, 10), (20, 1, 10), (30, 3, 30), (40, 1, 30)] {
            socket.room = room;
            assert!(outbox.poll_write(&mut socket, &mut cx, now).is_ready());
            assert_eq!((outbox.begun_at, outbox.progress_at), (begun_at, now));
        }
        assert!(outbox.poll_write(&mut socket, &mut cx, 50).is_pending());
        assert_eq!(outbox.progress_at, 40);
    }

    #[test]
    fn wherever_the_socket_stops_the_bytes_are_the_same() {
        for step in 1..30 {
            let (mut outbox, mut socket) = (Outbox::new(0), socket());
            outbox.ping(payload("ping"));
            outbox.pong(payload("pong"));
            outbox.push(Frame::new(Bytes::from_static(b"he"), Bytes::from_static(b"ad")));
            outbox.push(frame("body"));
            outbox.close(None);
            for _ in 0..40 {
                write(&mut outbox, &mut socket, step);
            }
            assert_eq!(socket.taken, b"\x8a\x04pong\x89\x04pingheadbody\x88\x00", "{step}");
            assert!(outbox.is_empty() && outbox.take_ping_left());
        }
    }

    #[test]
    fn what_the_socket_says_is_wrong_is_said_to_the_connection() {
        struct Zero;
        impl Sink for Zero {
            fn poll_send(
                &mut self,
                _: &mut Context<'_>,
                _: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                Poll::Ready(Err(io::ErrorKind::WriteZero.into()))
            }
        }
        let mut outbox = Outbox::new(0);
        outbox.push(frame("data"));
        let result = outbox.poll_write(&mut Zero, &mut Context::from_waker(Waker::noop()), 0);
        let Poll::Ready(Err(error)) = result else { panic!("{result:?}") };
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
    #[test]
    fn a_frame_that_has_left_is_not_held_until_the_next_one_begins() {
        let budget = Budget::new(1000);
        budget.add(5);
        let charge = Charge::adopt(&budget, 5);
        let (mut outbox, mut socket) = (Outbox::new(0), socket());
        outbox.push(charge.attach(Bytes::from_static(b"first")).into());
        outbox.push(frame("second"));
        write(&mut outbox, &mut socket, 5);
        assert_eq!((&socket.taken[..], budget.used()), (&b"first"[..], 0));
    }
}
