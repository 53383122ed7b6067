//! Events of a hub, for its program.

use std::fmt;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use futures_core::Stream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::codec::{CloseCode, CloseFrame, Message};
use crate::hub::id::ClientId;
use crate::hub::primitives::lock::Lock;
use crate::hub::primitives::process::Process;
use crate::hub::primitives::program;

/// An event at a hub.
///
/// ```
/// use stepcast::{DisconnectReason, Event};
///
/// fn say(event: Event) -> String {
///     match event {
///         Event::Connected { id } => format!("{id} is here"),
///         Event::Gone { id, reason } => format!("{id} has left: {reason}"),
///         other => format!("{other:?}"),
///     }
/// }
///
/// let id = "4711".parse().unwrap();
/// let left = Event::Gone { id, reason: DisconnectReason::Lost };
/// assert_eq!(say(left), "4711 has left: connection lost");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A client has connected. From now on the program can send it messages.
    Connected {
        /// The client's id.
        id: ClientId,
    },
    /// A client on `stepcast.v1` has lost its connection, or the hub closed the connection because
    /// the client sent too much. The client may come back. Messages sent to it meanwhile wait for
    /// it.
    Detached {
        /// The client's id.
        id: ClientId,
        /// The way in which the connection was lost.
        reason: DisconnectReason,
    },
    /// A client has come back, with the same id.
    Resumed {
        /// The client's id.
        id: ClientId,
    },
    /// A client has sent a message.
    #[non_exhaustive]
    Message {
        /// The client's id.
        id: ClientId,
        /// The name of the feed that the message is about, if the client on `stepcast.v1` named
        /// one. The name of everyone's feed is empty.
        feed: Option<String>,
        /// The message.
        message: Message,
    },
    /// A client has gone for good; its id will not come again.
    ///
    /// On the plain wire that is the end of its connection. On `stepcast.v1` the client has said
    /// so, or has not come back within [`Timeouts::grace`](crate::Timeouts::grace) of
    /// [`Event::Detached`].
    Gone {
        /// The client's id.
        id: ClientId,
        /// The reason.
        reason: DisconnectReason,
    },
    /// A request was refused. The event also reports a feed that a client on `stepcast.v1` did not
    /// get because the program's rule panicked. Browsers hide the text of the answer, so the text
    /// is here and in the log.
    #[non_exhaustive]
    Refused {
        /// The address that the request came from.
        address: SocketAddr,
        /// The HTTP status of the answer.
        status: u16,
        /// The reason, in one line.
        reason: String,
    },
    /// The number of events that were dropped because the program did not read them in time.
    Missed(u64),
}

/// The reason why a client is no longer connected.
///
/// ```
/// use stepcast::{CloseCode, CloseFrame, DisconnectReason};
///
/// let reason = DisconnectReason::Closed(Some(CloseFrame::new(CloseCode::GOING_AWAY, "")));
/// let reloaded = matches!(&reason, DisconnectReason::Closed(Some(close)) if close.code().get() == 1001);
/// assert!(reloaded);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The client closed the connection, with this code and reason if it gave any.
    Closed(Option<CloseFrame>),
    /// The connection was lost without a Close: code 1006 in the API of browsers (RFC 6455,
    /// section 7.1.5).
    Lost,
    /// The client broke the protocol or a limit. The hub closed the connection with this code and
    /// reason.
    Violation(CloseFrame),
    /// The client did not answer a ping, or read nothing of its pending data, for too long.
    TimedOut,
    /// The client fell too far behind; see [`Overflow::Disconnect`](crate::Overflow::Disconnect).
    /// Or the client was away, and there was no memory for its mail; see
    /// [`Limits::memory`](crate::Limits::memory).
    TooSlow,
    /// The program closed the connection, by [`Hub::disconnect`](crate::Hub::disconnect) or by
    /// ending the hub.
    ByHub,
}

impl DisconnectReason {
    /// Whether a client on `stepcast.v1` may come back: neither the client nor the program has ended
    /// for good, and the client kept to the protocol, though perhaps not to its rate.
    pub(crate) fn may_come_back(&self) -> bool {
        match self {
            Self::Lost | Self::TimedOut | Self::TooSlow | Self::Closed(None) => true,
            Self::Closed(Some(close)) => close.code() != CloseCode::NORMAL,
            Self::Violation(close) => is_of_too_much(close.code()),
            Self::ByHub => false,
        }
    }
}

/// Whether a client is closed with this for saying more than it may, and not for saying it wrong.
pub(crate) fn is_of_too_much(code: CloseCode) -> bool {
    matches!(code, CloseCode::POLICY | CloseCode::TOO_BIG | CloseCode::TRY_AGAIN_LATER)
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(Some(close)) => {
                write!(f, "closed by the client with {} {:?}", close.code().get(), close.reason())
            }
            Self::Closed(None) => f.write_str("closed by the client"),
            Self::Lost => f.write_str("connection lost"),
            Self::Violation(close) => {
                write!(f, "closed with {}: {}", close.code().get(), close.reason())
            }
            Self::TimedOut => f.write_str("timed out"),
            Self::TooSlow => f.write_str("too slow"),
            Self::ByHub => f.write_str("closed by the hub"),
        }
    }
}

/// A hub's events in order, from [`Hub::events`](crate::Hub::events) on; also a [`Stream`]. With
/// [`HubBuilder::events_from_start`](crate::HubBuilder::events_from_start) they begin with the hub.
///
/// At most [`Limits::events`](crate::Limits::events) wait for the reader. The newest beyond that
/// are dropped, and [`Event::Missed`] has their number. The hub never waits for the reader. The
/// events end with `None` when the hub has ended.
///
/// ```
/// let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let mut events = hub.events();
/// drop(hub);
/// assert!(events.recv_blocking().is_none());
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    missed: Arc<AtomicU64>,
    process: Process,
}

impl Events {
    /// Waits for the next event. Returns `None` when the hub has ended and all events were read,
    /// and in a forked child.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no event is lost: the next call returns it.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let hub = stepcast::Hub::spawn("127.0.0.1:0").await?;
    /// let mut events = hub.events();
    /// hub.shutdown().await;
    /// assert!(events.recv().await.is_none());
    /// # Ok::<(), stepcast::SpawnError>(()) }).unwrap();
    /// ```
    pub async fn recv(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Waits for the next event, and blocks the thread meanwhile. Do not call this in an async
    /// task: it would block the task's thread.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let mut events = hub.events();
    /// std::thread::spawn(move || {
    ///     while let Some(event) = events.recv_blocking() {
    ///         println!("{event:?}");
    ///     }
    /// });
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn recv_blocking(&mut self) -> Option<Event> {
        let unpark = Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) });
        let waker = Waker::from(Arc::clone(&unpark));
        let mut cx = Context::from_waker(&waker);
        // Where this blocks a task's thread the task's budget must not make it wait for ever.
        let mut recv = pin!(tokio::task::unconstrained(self.recv()));
        loop {
            if let Poll::Ready(event) = recv.as_mut().poll(&mut cx) {
                return event;
            }
            while !unpark.woken.swap(false, Ordering::Acquire) {
                thread::park();
            }
        }
    }

    /// Returns the next event if one is waiting.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// assert!(hub.events().try_recv().is_none());
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn try_recv(&mut self) -> Option<Event> {
        if self.process.is_another() {
            return None; // who would tell of more is not in this process
        }
        self.receiver.try_recv().ok().or_else(|| self.take_missed())
    }

    /// Polls for the next event, as the [`Stream`] does.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// # let mut events = hub.events();
    /// let next = std::future::poll_fn(|cx| events.poll_recv(cx));
    /// # drop(next);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.process.is_another() {
            return Poll::Ready(None);
        }
        // The missed events came after all that wait, so they are told when the queue is empty.
        match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(Some(event)),
            Poll::Pending if !self.receiver.is_empty() => Poll::Pending, // the task is to yield
            empty => self.take_missed().map_or(empty, |missed| Poll::Ready(Some(missed))),
        }
    }

    fn take_missed(&self) -> Option<Event> {
        match self.missed.swap(0, Ordering::SeqCst) {
            0 => None,
            missed => Some(Event::Missed(missed)),
        }
    }
}

/// Ends as [`recv`](Events::recv) does, and goes on ending when polled again.
///
/// ```
/// use futures_util::StreamExt;
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let hub = stepcast::Hub::spawn("127.0.0.1:0").await?;
/// let events = hub.events();
/// hub.shutdown().await;
/// assert_eq!(events.count().await, 0);
/// # Ok::<(), stepcast::SpawnError>(()) }).unwrap();
/// ```
impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_recv(cx)
    }
}

struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// The hub's side: everybody who listens.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    any: AtomicBool,
    list: Lock<List>,
}

#[derive(Debug, Default)]
struct List {
    ended: bool,
    /// Told when the lock is not held: a reader's waker is code of the program's.
    listeners: Arc<Vec<Listener>>,
}

#[derive(Debug, Clone)]
struct Listener {
    sender: mpsc::Sender<Event>,
    missed: Arc<AtomicU64>,
}

impl Listener {
    /// Whether the reader is still there.
    fn tell(&self, event: &Event) -> bool {
        self.tell_missed();
        match self.sender.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.miss();
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }

    fn miss(&self) {
        self.missed.fetch_add(1, Ordering::SeqCst);
        // The reader may have emptied its queue a moment ago, and wait.
        self.tell_missed();
    }

    /// Puts the number of those missed in its place, if there is room.
    fn tell_missed(&self) {
        if self.missed.load(Ordering::SeqCst) > 0 && self.sender.capacity() > 0 {
            match self.missed.swap(0, Ordering::SeqCst) {
                0 => {} // the reader has just seen it
                missed => {
                    if self.sender.try_send(Event::Missed(missed)).is_err() {
                        self.missed.fetch_add(missed, Ordering::SeqCst);
                    }
                }
            }
        }
    }
}

impl Listeners {
    pub(crate) fn listen(&self, capacity: usize) -> Events {
        let (sender, receiver) = mpsc::channel(capacity.clamp(1, 1 << 20));
        let missed = Arc::new(AtomicU64::new(0));
        let mut list = self.list.lock();
        if !list.ended {
            let listener = Listener { sender, missed: Arc::clone(&missed) };
            Arc::make_mut(&mut list.listeners).push(listener);
            self.any.store(true, Ordering::Relaxed);
        }
        Events { receiver, missed, process: Process::current() }
    }

    /// Whether anybody listens: where nobody does, an event is not even made.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if !self.any() {
            return;
        }
        let event = event();
        let mut has_left = false;
        for listener in self.all().iter() {
            has_left |= program::run(|| !listener.tell(&event)).unwrap_or(false);
        }
        if has_left {
            let mut list = self.list.lock();
            let stay = list.listeners.iter().filter(|listener| !listener.sender.is_closed());
            let stay = Arc::new(stay.cloned().collect::<Vec<_>>());
            self.any.store(!stay.is_empty(), Ordering::Relaxed);
            let before = std::mem::replace(&mut list.listeners, stay);
            drop(list);
            program::let_go(before);
        }
    }

    fn all(&self) -> Arc<Vec<Listener>> {
        Arc::clone(&self.list.lock().listeners)
    }

    /// Counts an event for which there is no memory.
    pub(crate) fn miss(&self) {
        for listener in self.all().iter() {
            let _ = program::run(|| listener.miss());
        }
    }

    /// Ends every [`Events`].
    pub(crate) fn end(&self) {
        let listeners = {
            let mut list = self.list.lock();
            list.ended = true;
            self.any.store(false, Ordering::Relaxed);
            std::mem::take(&mut list.listeners)
        };
        // One by one: each wakes its reader, and a waker that panics must not keep others asleep.
        Arc::unwrap_or_clone(listeners).into_iter().for_each(program::let_go);
    }
}

#[cfg(test)]
mod tests {
    use std::panic;

    use super::*;

    fn connected(number: u64) -> Event {
        Event::Connected { id: ClientId::new(number).unwrap() }
    }

    fn drain(events: &mut Events) -> Vec<String> {
        std::iter::from_fn(|| events.try_recv())
            .map(|event| match event {
                Event::Connected { id } => id.to_string(),
                Event::Missed(count) => format!("missed {count}"),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_is_not_taken_in_time_is_counted_and_told_in_its_place() {
        let listeners = Listeners::default();
        let mut events = listeners.listen(2);
        (1..=5).for_each(|n| listeners.tell(|| connected(n)));
        assert_eq!(drain(&mut events), ["1", "2", "missed 3"]);
        listeners.tell(|| connected(6));
        assert_eq!(drain(&mut events), ["6"]);
    }

    /// A reader that has emptied its queue while an event was being counted as missed sleeps until
    /// the next one comes: which must not be missed as well.
    #[test]
    fn a_reader_is_told_what_it_missed_as_soon_as_there_is_room() {
        let listeners = Listeners::default();
        let mut events = listeners.listen(2);
        events.missed.fetch_add(1, Ordering::SeqCst);
        listeners.tell(|| connected(7));
        let queued: Vec<_> = std::iter::from_fn(|| events.receiver.try_recv().ok()).collect();
        assert_eq!(queued, [Event::Missed(1), connected(7)]);
        listeners.miss();
        assert_eq!(events.receiver.try_recv(), Ok(Event::Missed(1)));
    }

    #[test]
    fn where_nobody_listens_no_event_is_made() {
        let listeners = Listeners::default();
        listeners.tell(|| panic!("made an event for nobody"));
        let events = listeners.listen(2);
        drop(events);
        listeners.tell(|| connected(1)); // finds that the listener has gone
        listeners.tell(|| panic!("made an event for nobody"));
    }

    #[test]
    fn listening_after_the_end_ends_at_once() {
        let listeners = Listeners::default();
        let mut before = listeners.listen(2);
        listeners.tell(|| connected(1));
        listeners.end();
        assert!(matches!(before.recv_blocking(), Some(Event::Connected { .. })));
        assert!(before.recv_blocking().is_none());
        assert!(listeners.listen(2).recv_blocking().is_none());
    }

    /// A waker that needs the lock, and panics.
    struct Wayward(Arc<Listeners>, AtomicU64);

    impl Wake for Wayward {
        fn wake(self: Arc<Self>) {
            self.1.fetch_add(1, Ordering::Relaxed);
            drop(self.0.listen(1));
            panic::resume_unwind(Box::new("on purpose")); // a panic, without a line about it
        }
    }

    #[test]
    fn a_waker_that_panics_or_listens_keeps_no_other_from_its_events_and_from_the_end() {
        let listeners = Arc::new(Listeners::default());
        let mut readers = [(); 3].map(|()| {
            let wayward = Arc::new(Wayward(Arc::clone(&listeners), AtomicU64::new(0)));
            (listeners.listen(4), wayward)
        });
        let mut poll = |count: u64, ready: fn(&Poll<Option<Event>>) -> bool| {
            for (events, wayward) in &mut readers {
                assert_eq!(wayward.1.load(Ordering::Relaxed), count);
                let waker = Waker::from(Arc::clone(wayward));
                let mut cx = Context::from_waker(&waker);
                assert!(ready(&events.poll_recv(&mut cx)));
                let _ = events.poll_recv(&mut cx);
            }
        };
        poll(0, Poll::is_pending);
        listeners.tell(|| connected(1));
        poll(1, |event| matches!(event, Poll::Ready(Some(Event::Connected { .. }))));
        listeners.miss();
        poll(2, |event| matches!(event, Poll::Ready(Some(Event::Missed(1)))));
        listeners.end();
        poll(3, |event| matches!(event, Poll::Ready(None)));
    }
}
