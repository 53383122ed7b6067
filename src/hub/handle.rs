//! The handle to a hub: each call in short, and the file that does its work.

use std::fmt;
use std::mem;
use std::net::SocketAddr;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::codec::Message;
use crate::hub::client_handle::Client;
use crate::hub::ending::process_end;
use crate::hub::error::{FeedError, FlushError, FollowError, SendError};
use crate::hub::events::{Events, Listeners};
use crate::hub::feed::topic::{self, By, Topics};
use crate::hub::feed_handle::Feed;
use crate::hub::goodbye::{GRACE, Goodbye, LINGER};
use crate::hub::id::ClientId;
use crate::hub::primitives::journal;
use crate::hub::primitives::lock::Lock;
use crate::hub::shared::state::Shared;
use crate::hub::shared::waiters::{block_on_within, push_blocking};
use crate::hub::stats::Stats;
use crate::hub::urls;

/// A running server inside your program that pushes messages to browsers.
///
/// A `Hub` is a handle: cloning it is cheap, and every clone means the same hub. All push calls are
/// synchronous and work from any thread, inside or outside a runtime. They do not block, do no I/O,
/// and cost the same for one viewer and for ten thousand. A slow viewer skips messages, without
/// effect on the others.
///
/// The hub ends when its last handle is dropped, or by [`finish`](Hub::finish), [`fail`](Hub::fail)
/// or [`shutdown`](Hub::shutdown). The crate's documentation has a [table of
/// endings](crate#endings). On a thread outside any runtime, the last drop waits until the last
/// messages have been delivered, at most a second. Inside a runtime, the drop does not hold up
/// the thread: the end of the runtime or of the process waits as long.
///
/// In a child process made by `fork`, as by Python's `multiprocessing`, every handle is that of a
/// [disabled](Hub::disabled) hub: pushes go nowhere, a drop returns at once, and the parent's hub
/// goes on. The child holds copies of the parent's sockets for as long as it lives. The end of the
/// hub frees the port all the same. But if the parent is killed, its port stays taken until the
/// child ends.
///
/// ```
/// use stepcast::Hub;
///
/// let hub = Hub::spawn_blocking("127.0.0.1:0")?;
/// for url in hub.urls() {
///     println!("watch at {url}");
/// }
/// let viewers = hub.everyone();
/// for step in 1..=100 {
///     // model.step();
///     let _ = viewers.set("progress", format!(r#"{{"progress":{step},"total":100}}"#));
/// }
/// hub.broadcast("converged");
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
pub struct Hub {
    /// `None` where it is disabled.
    pub(crate) inner: Option<Arc<Inner>>,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    /// Where it listens: one address at least.
    addresses: Box<[SocketAddr]>,
    /// Whether a browser finds a page there.
    has_page: bool,
    thread: Lock<Option<JoinHandle<()>>>,
    /// How long the end may take when nobody says.
    shutdown: Duration,
}

impl Hub {
    /// Returns a hub without a server: every push goes nowhere and costs nothing, and no client
    /// ever connects. It is for runs without viewers, and for all but one of the processes of an
    /// MPI run.
    ///
    /// ```
    /// use stepcast::Hub;
    ///
    /// let hub = Hub::spawn_blocking("127.0.0.1:99999").unwrap_or_else(|error| {
    ///     eprintln!("no live view: {error}");
    ///     Hub::disabled()
    /// });
    /// hub.broadcast("into the void");
    /// assert!(hub.local_addr().is_none());
    /// ```
    pub const fn disabled() -> Self {
        Self { inner: None }
    }

    pub(crate) fn new(
        shared: Arc<Shared>,
        addresses: Box<[SocketAddr]>,
        has_page: bool,
        thread: Option<JoinHandle<()>>,
        shutdown: Duration,
    ) -> Self {
        process_end::register(&shared);
        let thread = Lock::new(thread);
        let inner = Inner { shared, addresses, has_page, thread, shutdown };
        Self { inner: Some(Arc::new(inner)) }
    }

    /// The state behind the handle: none where it is disabled, or another process has it.
    pub(crate) fn live(&self) -> Option<&Arc<Inner>> {
        self.inner.as_ref().filter(|inner| !inner.shared.process.is_another())
    }

    fn shared(&self) -> Option<&Shared> {
        self.live().map(|inner| &*inner.shared)
    }

    /// Returns the first of [`local_addrs`](Hub::local_addrs), or `None` if the hub is
    /// [disabled](Hub::disabled).
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// assert_ne!(hub.local_addr().unwrap().port(), 0);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs().first().copied()
    }

    /// Returns all addresses that the hub listens on. The list is empty if the hub is
    /// [disabled](Hub::disabled).
    ///
    /// ```
    /// let hub = stepcast::Hub::spawn_blocking("localhost:0")?;
    /// for address in hub.local_addrs() {
    ///     assert!(address.ip().is_loopback());
    /// }
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn local_addrs(&self) -> &[SocketAddr] {
        self.live().map_or(&[], |inner| &inner.addresses)
    }

    /// Returns the URL of the hub's page for a browser on this machine, such as
    /// `http://127.0.0.1:8002/`. It is the first of [`urls`](Hub::urls), or `None` if there are
    /// none.
    ///
    /// ```
    /// # let hub = stepcast::Hub::builder().page("").spawn_blocking("127.0.0.1:0")?;
    /// assert!(hub.url().unwrap().starts_with("http://127.0.0.1:"));
    /// assert_eq!(stepcast::Hub::disabled().url(), None);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn url(&self) -> Option<String> {
        self.urls().into_iter().next()
    }

    /// Returns every URL of the hub's page. URLs for this machine come first.
    ///
    /// For a hub on `0.0.0.0` or `[::]` the list has the loopback address, the addresses by which
    /// this machine reaches others, and the machine's name. Other machines may not know that name.
    /// The list is empty if the hub is [disabled](Hub::disabled), or has no page (neither the
    /// feature `page` nor [`HubBuilder::page`](crate::HubBuilder::page)).
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// for url in hub.urls() {
    ///     println!("watch at {url}");
    /// }
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn urls(&self) -> Vec<String> {
        process_end::watch();
        match self.live() {
            Some(inner) if inner.has_page => urls::of(&inner.addresses),
            _ => Vec::new(),
        }
    }

    /// Sends a message to one client, without blocking.
    ///
    /// Messages from one thread to one client, and to everyone, arrive in the order of the calls.
    /// For a latest value, such as progress, use [`set`](Hub::set).
    ///
    /// # Errors
    ///
    /// [`SendError`]: the client has left, the client is too far behind and the policy is to
    /// refuse, the message is too large, or the hub has ended. None of these should end a run. A
    /// program with nothing to do about an error writes `let _ = hub.send(..)`.
    ///
    /// ```
    /// use stepcast::{ClientId, Hub, SendError};
    ///
    /// let hub = Hub::spawn_blocking("127.0.0.1:0")?;
    /// let id: ClientId = "4711".parse().unwrap(); // from the request that started the run
    /// assert_eq!(hub.send(id, "step 41 of 100"), Err(SendError::NoSuchClient(id)));
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn send(&self, id: ClientId, message: impl Into<Message>) -> Result<(), SendError> {
        self.shared().map_or(Ok(()), |shared| shared.send(id, message.into()))
    }

    /// Sets the latest value of a key for one client, without blocking. The new value replaces the
    /// previous one, so a key is for a state such as progress, not for an event.
    ///
    /// A slow client gets only the newest value of each key, and never an older value after a newer
    /// one. A value that is replaced before it leaves is never sent, and not counted as skipped.
    /// The hub forgets a value after it has left.
    ///
    /// Values and [sent](Hub::send) or [broadcast](Hub::broadcast) messages arrive in the order of
    /// the calls. For a value the last `set` counts. A value that is set all the time may arrive
    /// before earlier messages, so that it arrives at all.
    ///
    /// # Errors
    ///
    /// As [`send`](Hub::send), except that a mailbox full of messages still has room for values.
    /// [`SendError::TooManyValues`] beyond [`Limits::keys`](crate::Limits::keys) or
    /// [`Limits::mailbox`](crate::Limits::mailbox), which counts a second time for the values
    /// alone. One larger value is taken if no other value waits. Values do not make room for each
    /// other: after an error the previous value is kept.
    ///
    /// ```
    /// use stepcast::{ClientId, Hub, SendError};
    ///
    /// let hub = Hub::spawn_blocking("127.0.0.1:0")?;
    /// let id: ClientId = "4711".parse().unwrap(); // from the request that started the run
    /// for step in 1..=100 {
    ///     // model.step();
    ///     let _ = hub.set(id, "progress", format!(r#"{{"progress":{step},"total":100}}"#));
    /// }
    /// assert_eq!(hub.set(id, "state", "done"), Err(SendError::NoSuchClient(id)));
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn set(
        &self,
        id: ClientId,
        key: &str,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        self.shared().map_or(Ok(()), |shared| shared.set_for(id, key, message.into()))
    }

    /// Removes the latest value of a key for one client. A value that still waits for the client is
    /// not sent. A client on `stepcast.v1` that has the value is told to forget it.
    ///
    /// # Errors
    ///
    /// [`SendError::NoSuchClient`], [`SendError::ShutDown`], and [`SendError::TooManyValues`] if
    /// [`Limits::keys`](crate::Limits::keys) changes already wait for the client.
    ///
    /// ```
    /// # use stepcast::ClientId;
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// # let id: ClientId = "4711".parse().unwrap();
    /// let _ = hub.remove(id, "progress");
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn remove(&self, id: ClientId, key: &str) -> Result<(), SendError> {
        self.shared().map_or(Ok(()), |shared| shared.remove_for(id, key))
    }

    /// Sends a message to one client, and waits for at most `within` until its mailbox has room.
    /// This is for a program that wants back-pressure from the client.
    ///
    /// Waiting pushes to the same client take turns in the order in which they came. A
    /// [`send`](Hub::send) does not wait for them. The future needs no runtime of its own, and
    /// works in any.
    ///
    /// # Errors
    ///
    /// [`SendError::TimedOut`], and the errors of [`send`](Hub::send) except `Full` and `NoMemory`.
    /// After an error the message has not been taken.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the message has not been taken.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use stepcast::{ClientId, Hub};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let hub = Hub::spawn("127.0.0.1:0").await?;
    /// # let id: ClientId = "4711".parse().unwrap();
    /// if let Err(error) = hub.send_timeout(id, vec![0; 100_000], Duration::from_secs(5)).await {
    ///     eprintln!("goes on without: {error}");
    /// }
    /// # Ok::<(), stepcast::SpawnError>(()) }).unwrap();
    /// ```
    pub async fn send_timeout(
        &self,
        id: ClientId,
        message: impl Into<Message>,
        within: Duration,
    ) -> Result<(), SendError> {
        let Some(shared) = self.shared() else { return Ok(()) };
        shared.send_timeout(id, message.into(), within).await
    }

    /// Sends a message as [`send_timeout`](Hub::send_timeout) does, and blocks the thread
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](Hub::send_timeout).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use stepcast::{ClientId, Hub, SendError};
    /// # let hub = Hub::spawn_blocking("127.0.0.1:0")?;
    /// let id: ClientId = "4711".parse().unwrap();
    /// let gone = hub.send_timeout_blocking(id, "step 41", Duration::from_secs(5));
    /// assert_eq!(gone, Err(SendError::NoSuchClient(id)));
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn send_timeout_blocking(
        &self,
        id: ClientId,
        message: impl Into<Message>,
        within: Duration,
    ) -> Result<(), SendError> {
        push_blocking(within, self.send_timeout(id, message, within))
    }

    /// Sends a message to every connected client, without blocking. Late joiners do not get the
    /// message.
    ///
    /// The call costs the same for any number of clients, and almost nothing without clients.
    /// [`broadcast_with`](Hub::broadcast_with) then also saves the formatting.
    ///
    /// [`Stats::refused_pushes`] counts a message above
    /// [`Limits::outbound_message`](crate::Limits::outbound_message), or after the hub's end. For
    /// every push, the hub logs each kind of refusal once, and then every ten seconds at most.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// hub.broadcast("converged");
    /// hub.broadcast(vec![0u8, 1, 2]);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn broadcast(&self, message: impl Into<Message>) {
        if let Some(shared) = self.shared() {
            shared.broadcast(message.into());
        }
    }

    /// Sends a message as [`broadcast`](Hub::broadcast) does, and formats it only if a client is
    /// there.
    ///
    /// The closure runs in this call. It is not called if the hub is [disabled](Hub::disabled) or
    /// has ended.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// # let residual = 3.2e-7;
    /// hub.broadcast_with(|| format!(r#"{{"residual":{residual:e}}}"#));
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn broadcast_with<M: Into<Message>>(&self, make: impl FnOnce() -> M) {
        if let Some(shared) = self.shared() {
            shared.broadcast_with(|| make().into());
        }
    }

    /// Returns the feed with this name, and makes it if there is none. Clients follow the feed by
    /// the path `/feed/` and its name, percent-encoded where needed. The program can also have
    /// clients [follow](Hub::follow) it.
    ///
    /// # Errors
    ///
    /// [`FeedError::InvalidName`]: the name is empty, longer than 256 bytes, or has control
    /// characters. A bad name from outside is no reason to end a run.
    ///
    /// # At the limit
    ///
    /// At [`Limits::feeds`](crate::Limits::feeds) the new feed takes the place of another. A
    /// finished feed goes first: the one without a handle for longest, even before its
    /// [`Retention`](crate::Retention) is over. Next goes the open feed without a handle for
    /// longest. A client that follows a feed counts as a handle.
    ///
    /// If all feeds are in use, the new feed takes nothing: its pushes return
    /// [`SendError::TooManyFeeds`]. The hub logs an error, and [`Stats::feeds_refused`] counts the
    /// feed.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let feed = hub.feed("run/42")?;
    /// feed.send("started")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "topic")]
    #[doc(alias = "channel")]
    #[doc(alias = "room")]
    pub fn feed(&self, name: &str) -> Result<Feed, FeedError> {
        process_end::watch();
        match self.live() {
            Some(inner) => {
                let topic = inner.shared.topic_or_none(name)?;
                Ok(Feed::new(Arc::clone(&inner.shared), topic))
            }
            None => topic::check_name(name).map(|()| Feed::disabled()),
        }
    }

    /// Makes a new feed with this name, and refuses a name whose feed the program already has. So
    /// two runs with the same name do not mix their messages. `create_feed` is to
    /// [`feed`](Hub::feed) as [`File::create_new`](std::fs::File::create_new) is to `File::create`.
    ///
    /// Clients that already wait for the feed by its name do not take the name.
    ///
    /// # Errors
    ///
    /// - [`FeedError::Exists`]: the program has asked for a feed with this name, and the feed is
    ///   still there. A feed stays for a while after its last handle: see [`Feed`].
    /// - [`FeedError::TooMany`]: at [`Limits::feeds`](crate::Limits::feeds) no feed can make way.
    /// - [`FeedError::InvalidName`], as [`feed`](Hub::feed).
    ///
    /// ```
    /// # use stepcast::FeedError;
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let run = hub.create_feed("run/1")?;
    /// assert_eq!(hub.create_feed("run/1").unwrap_err(), FeedError::Exists);
    /// assert_eq!(hub.feed("run/1")?.name(), run.name()); // on purpose
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_feed(&self, name: &str) -> Result<Feed, FeedError> {
        process_end::watch();
        match self.live() {
            Some(inner) => {
                let topic = inner.shared.topic(name, By::ProgramFirst)?;
                Ok(Feed::new(Arc::clone(&inner.shared), topic))
            }
            None => topic::check_name(name).map(|()| Feed::disabled()),
        }
    }

    /// Returns everyone's feed, to which [`broadcast`](Hub::broadcast) sends. Every client follows
    /// it that names no other feed. A new client gets the feed's latest values, and the messages
    /// that come after it joined.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// hub.everyone().set("state", "warming up")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn everyone(&self) -> Feed {
        self.live().map_or(Feed::disabled(), |inner| {
            let topic = Topics::clone_handle(inner.shared.topics.everyone());
            Feed::new(Arc::clone(&inner.shared), topic)
        })
    }

    /// Makes a client follow a feed, beside the feeds that it follows already. A second call for
    /// the same feed changes nothing.
    ///
    /// # Errors
    ///
    /// [`FollowError`]: the client has left; it follows
    /// [`Limits::feeds_per_client`](crate::Limits::feeds_per_client) already, and goes on with
    /// those; the feed is another hub's; or the hub has ended.
    ///
    /// ```
    /// use stepcast::{ClientId, FollowError, Hub};
    ///
    /// # let hub = Hub::spawn_blocking("127.0.0.1:0")?;
    /// let run = hub.feed("run/42")?;
    /// let id: ClientId = "4711".parse().unwrap(); // from the request that started the run
    /// assert_eq!(hub.follow(id, &run), Err(FollowError::NoSuchClient(id)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn follow(&self, id: ClientId, feed: &Feed) -> Result<(), FollowError> {
        let Some(shared) = self.shared() else { return Ok(()) };
        shared.follow(id, feed.topic_at(shared).ok_or(FollowError::OtherHub)?)
    }

    /// Makes a client unfollow a feed. The client does not get messages pushed to the feed after
    /// this call.
    ///
    /// # Errors
    ///
    /// As [`follow`](Hub::follow).
    ///
    /// ```
    /// # use stepcast::{ClientId, FollowError, Hub};
    /// # let hub = Hub::spawn_blocking("127.0.0.1:0")?;
    /// # let run = hub.feed("run/42")?;
    /// # let id: ClientId = "4711".parse().unwrap();
    /// let _ = hub.unfollow(id, &run);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unfollow(&self, id: ClientId, feed: &Feed) -> Result<(), FollowError> {
        let Some(shared) = self.shared() else { return Ok(()) };
        shared.unfollow(id, feed.topic_at(shared).ok_or(FollowError::OtherHub)?)
    }

    /// Returns the number of clients, including clients that are away and may come back. The call
    /// is one relaxed load. [`broadcast_with`](Hub::broadcast_with) and [`Feed::set_with`] check by
    /// themselves whether anybody watches.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// assert_eq!(hub.client_count(), 0);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn client_count(&self) -> usize {
        self.shared().map_or(0, |shared| shared.registry.count())
    }

    /// Returns a handle to every client, in no order. The list includes clients that are away and
    /// may come back.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// for client in hub.clients() {
    ///     println!("{} skipped {} messages", client.id(), client.info().skipped);
    /// }
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn clients(&self) -> Vec<Client> {
        let Some(inner) = self.live() else { return Vec::new() };
        let states = inner.shared.registry.all().into_iter();
        states.map(|state| Client::new(Arc::clone(&inner.shared), state)).collect()
    }

    /// Returns a handle to one client, if it is connected, or away and may come back.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let id = "4711".parse().unwrap(); // from the request that started the run
    /// match hub.client(id) {
    ///     Some(client) => client.send("the run has started")?,
    ///     None => eprintln!("no client {id} is connected"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn client(&self, id: ClientId) -> Option<Client> {
        let inner = self.live()?;
        let state = inner.shared.registry.get(id)?;
        Some(Client::new(Arc::clone(&inner.shared), state))
    }

    /// Returns a token that is cancelled when this client has gone for good. With it a run can end
    /// when nobody waits for its result.
    ///
    /// On `stepcast.v1` a client that lost its connection has
    /// [`Timeouts::grace`](crate::Timeouts::grace) to come back before it has gone. On the plain
    /// wire a client goes with its connection. For a client that is not there the token is
    /// cancelled already.
    ///
    /// The hub's end does not cancel the token, and a token requested after that end is not
    /// cancelled either. The end of the hub only ends the view of the run;
    /// [`ended_token`](Hub::ended_token) reports it.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let gone = hub.gone_token("4711".parse().unwrap());
    /// for step in 0..1000 {
    ///     if gone.is_cancelled() {
    ///         break; // nobody waits for the result
    ///     }
    ///     // model.step();
    /// }
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn gone_token(&self, id: ClientId) -> CancellationToken {
        match self.shared() {
            Some(shared) => shared.gone_token(id),
            None => CancellationToken::new(), // nobody is ever there, and no run is to end for that
        }
    }

    /// Returns a token that is cancelled when the hub begins to end, for whatever reason. From then
    /// on pushes fail.
    ///
    /// A run need not end with its view: it can go on and write its results.
    ///
    /// ```
    /// let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let ended = hub.ended_token();
    /// assert!(!ended.is_cancelled());
    /// hub.finish("converged");
    /// assert!(ended.is_cancelled());
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn ended_token(&self) -> CancellationToken {
        match self.shared() {
            Some(shared) => shared.ended.child_token(), // whose `cancel` is its own
            None => CancellationToken::new(),
        }
    }

    /// Closes the connection of one client, with code 1000 and the first 123 bytes of this reason.
    ///
    /// The client first gets the messages pushed before, for which it has
    /// [`Timeouts::close`](crate::Timeouts::close). From this call on nothing can be sent to the
    /// client.
    ///
    /// # Errors
    ///
    /// [`SendError::NoSuchClient`], also if the client is being closed already, and
    /// [`SendError::ShutDown`].
    ///
    /// ```
    /// # use stepcast::{ClientId, Hub};
    /// # let hub = Hub::spawn_blocking("127.0.0.1:0")?;
    /// # let id: ClientId = "4711".parse().unwrap();
    /// let _ = hub.disconnect(id, "the run is over");
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn disconnect(&self, id: ClientId, reason: &str) -> Result<(), SendError> {
        self.shared().map_or(Ok(()), |shared| shared.disconnect(id, reason))
    }

    /// Returns the events from now on: clients that come and go, their messages, and refused
    /// requests. [`HubBuilder::events_from_start`](crate::HubBuilder::events_from_start) adds
    /// earlier events to the first call.
    ///
    /// Events cost nothing until this is called. See [`Events`] for their bounds. [`Events`] do not
    /// keep the hub alive. A thread that reads events and pushes holds a
    /// [`WeakHub`](crate::WeakHub), whose documentation has an example.
    ///
    /// ```
    /// use stepcast::Event;
    ///
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let mut events = hub.events();
    /// std::thread::spawn(move || {
    ///     while let Some(event) = events.recv_blocking() {
    ///         if let Event::Message { id, message, .. } = event {
    ///             println!("{id} says {:?}", message.as_text());
    ///         }
    ///     }
    /// });
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn events(&self) -> Events {
        process_end::watch();
        match self.shared() {
            Some(shared) => shared.events(),
            None => Listeners::default().listen(1),
        }
    }

    /// Returns the hub's counters, from its start to now.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// println!("{:?}", hub.stats());
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.shared().map_or_else(Stats::default, Shared::stats)
    }

    /// Ends the hub and waits for its end. Pushes fail from this call on.
    ///
    /// The hub takes no new clients. Connected clients get the messages pushed before, then a Close
    /// with code 1001. The hub cuts clients that have not read them within
    /// [`Timeouts::shutdown`](crate::Timeouts::shutdown).
    ///
    /// # Cancel safety
    ///
    /// The call itself ends the hub; the future only waits for the end. A dropped future cancels
    /// nothing.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let hub = stepcast::Hub::spawn("127.0.0.1:0").await?;
    /// hub.broadcast("done");
    /// hub.shutdown().await;
    /// # Ok::<(), stepcast::SpawnError>(()) }).unwrap();
    /// ```
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + '_ {
        if let Some(inner) = self.live() {
            inner.shared.request_shutdown(inner.shutdown, Goodbye::ended());
        }
        async {
            if let Some(inner) = self.live() {
                inner.shared.end.wait().await;
                inner.join();
            }
        }
    }

    /// Ends the hub because the run has finished, with a message for its viewers, and returns at
    /// once.
    ///
    /// Clients get the messages pushed before, then this message. On `stepcast.v1` they get its
    /// first 1024 bytes with code 4503, and do not come back. On the plain wire they get its first
    /// 123 bytes with code 1000.
    ///
    /// The first call that ends a hub decides how it ended; later calls do not change that. To wait
    /// for the end, drop the last handle or call [`shutdown`](Hub::shutdown).
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// hub.broadcast(r#"{"residual":1e-9}"#);
    /// hub.finish("converged after 41 steps");
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn finish(&self, message: &str) {
        if let Some(inner) = self.live() {
            inner.shared.request_shutdown(inner.shutdown, Goodbye::finished(message));
        }
    }

    /// Ends the hub because the run has failed, with the reason for its viewers, and returns at
    /// once.
    ///
    /// As [`finish`](Hub::finish), with code 4504 on `stepcast.v1` and 1011 on the plain wire.
    ///
    /// If a panic drops the last handle, the hub fails by itself with the panic's text. For that,
    /// the first hub of a process installs a panic hook. The hook keeps the text for the thread
    /// (1024 bytes), and then calls the previous hook. The text is used for a second after its
    /// panic, since the thread may have caught the panic. Without a text the reason is `the program
    /// panicked`: a panic by [`resume_unwind`](std::panic::resume_unwind) calls no hook.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// # fn run(_: &stepcast::Hub) -> Result<(), std::io::Error> { Err(std::io::ErrorKind::StorageFull.into()) }
    /// if let Err(error) = run(&hub) {
    ///     hub.fail(&error.to_string());
    /// }
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn fail(&self, message: &str) {
        if let Some(inner) = self.live() {
            inner.shared.request_shutdown(inner.shutdown, Goodbye::failed(message));
        }
    }

    /// Tells viewers that the work is done, and keeps the hub up for those who come after.
    ///
    /// Open jobs end as [`finish`](Hub::finish) ends them. All viewers see the same, whenever they
    /// come: the jobs, the log, the series. End the hub later, with [`finish`](Hub::finish) or
    /// [`fail`](Hub::fail). A plain program waits in [`linger_blocking`](Hub::linger_blocking).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let hub = stepcast::Hub::spawn("127.0.0.1:0").await?;
    /// # let linger = Duration::from_millis(10);
    /// let job = hub.job("time loop").start();
    /// // the work
    /// hub.done();
    /// // For ten minutes (`Hub::LINGER`), or until something else ends the hub.
    /// let _ = tokio::time::timeout(linger, hub.ended_token().cancelled()).await;
    /// hub.finish("converged after 41 steps");
    /// # Ok::<(), stepcast::SpawnError>(()) }).unwrap();
    /// ```
    pub fn done(&self) {
        if let Some(inner) = self.live() {
            inner.shared.jobs.end(None);
            inner.shared.jobs.say_done();
        }
    }

    /// Says that the work is [`done`](Hub::done), and blocks the thread: for so long, or until the hub
    /// is ended by another call or a signal.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// # let linger = Duration::from_millis(10);
    /// hub.job("time loop").start().finish();
    /// hub.linger_blocking(linger); // ten minutes: `Hub::LINGER`
    /// hub.finish("converged after 41 steps");
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn linger_blocking(&self, within: Duration) {
        self.done();
        if let Some(inner) = self.live() {
            let _ = block_on_within(within, inner.shared.ended.cancelled());
        }
    }

    /// A good time for a hub to stay when the work is [`done`](Hub::done): ten minutes.
    ///
    /// ```
    /// assert_eq!(stepcast::Hub::LINGER.as_secs(), 600);
    /// ```
    pub const LINGER: Duration = Duration::from_secs(10 * 60);

    /// Waits for at most `within` until everything pushed before this call has been handed to the
    /// operating system, for every connected client.
    ///
    /// The operating system delivers that data even if the process is killed the next moment. Later
    /// messages do not count, nor do messages that a slow client skips, nor clients that are away
    /// or leave meanwhile. A flush walks all clients once and costs pushes nothing.
    ///
    /// # Errors
    ///
    /// [`FlushError::TimedOut`] has the number of clients that have not read everything. Their
    /// messages stay in the queue. [`FlushError::ShutDown`] means that the hub has ended.
    ///
    /// # Cancel safety
    ///
    /// The call itself starts the flush; the future only waits. A dropped future changes nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let hub = stepcast::Hub::spawn("127.0.0.1:0").await?;
    /// hub.broadcast("checkpoint written");
    /// if let Err(error) = hub.flush(Duration::from_secs(1)).await {
    ///     eprintln!("goes on: {error}");
    /// }
    /// # Ok::<(), stepcast::SpawnError>(()) }).unwrap();
    /// ```
    pub fn flush(
        &self,
        within: Duration,
    ) -> impl Future<Output = Result<(), FlushError>> + Send + use<> {
        let flushed = self.shared().map(|shared| shared.flush(within));
        async {
            match flushed {
                Some(flushed) => flushed.await.unwrap_or(Err(FlushError::ShutDown)),
                None => Ok(()),
            }
        }
    }

    /// Flushes as [`flush`](Hub::flush) does, and blocks the thread meanwhile.
    ///
    /// # Errors
    ///
    /// As [`flush`](Hub::flush).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// hub.broadcast("the last words");
    /// hub.flush_blocking(Duration::from_secs(1)).unwrap();
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn flush_blocking(&self, within: Duration) -> Result<(), FlushError> {
        let flushed = block_on_within(within, self.flush(within));
        flushed.unwrap_or(Err(FlushError::TimedOut { clients: self.client_count() }))
    }

    /// Ends the hub as [`shutdown`](Hub::shutdown) does within this time, and blocks the thread
    /// meanwhile.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// hub.broadcast("done");
    /// hub.shutdown_blocking(Duration::from_secs(2));
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn shutdown_blocking(&self, within: Duration) {
        if let Some(inner) = self.live() {
            inner.shared.request_shutdown(within, Goodbye::ended());
            inner.wait(within);
        }
    }
}

impl Clone for Hub {
    fn clone(&self) -> Self {
        process_end::watch();
        Self { inner: self.inner.clone() }
    }
}

// A panic in a caller's thread leaves nothing of the hub half done: its locks are held for lines of
// its own code only, and do not poison.
impl UnwindSafe for Hub {}
impl RefUnwindSafe for Hub {}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("address", &self.local_addr())
            .field("clients", &self.client_count())
            .finish()
    }
}

impl Inner {
    /// Waits for the end that has been asked for within this time.
    fn wait(&self, within: Duration) {
        // The driver's own deadline ends it; the rest is for a machine that is busy elsewhere.
        if self.shared.end.wait_blocking(within.saturating_add(GRACE)) {
            self.join();
        }
    }

    /// Waits for the thread, which has nothing left to do.
    fn join(&self) {
        let thread = self.thread.lock().take();
        if let Some(thread) = thread.filter(|own| own.thread().id() != thread::current().id()) {
            let _ = thread.join(); // it panicked: the end came all the same
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.shared.process.is_another() {
            // The thread is the parent's. A thread that the child has begun may have its number, and
            // the handle's drop would detach that thread.
            return mem::forget(self.thread.get_mut().take());
        }
        let on_hub_thread =
            self.thread.lock().as_ref().is_some_and(|t| t.thread().id() == thread::current().id());
        let goodbye = process_end::goodbye_of_a_drop();
        if on_hub_thread || journal::is_log_thread() {
            return self.shared.request_shutdown(self.shutdown, goodbye);
        }
        let short = self.shutdown.min(LINGER);
        if let Ok(runtime) = Handle::try_current() {
            // A thread of a runtime must not be held up, unless the runtime ends as well.
            self.shared.request_shutdown(self.shutdown, goodbye);
            let has_thread = self.thread.lock().is_some();
            if !process_end::wait_on(&runtime, &self.shared) && has_thread {
                self.wait(short);
            }
        } else {
            self.shared.request_shutdown(short, goodbye);
            self.wait(short);
        }
    }
}
