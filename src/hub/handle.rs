//! The handle that callers have: what each call does, in short, and where.

use std::fmt;
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
use crate::hub::events::Events;
use crate::hub::feed::topic::{self, By, Topics};
use crate::hub::feed_handle::Feed;
use crate::hub::goodbye::{GRACE, Goodbye, LINGER};
use crate::hub::id::ClientId;
use crate::hub::primitives::lock::Lock;
use crate::hub::shared::state::Shared;
use crate::hub::stats::Stats;
use crate::hub::urls;

/// A running server inside your program, which pushes messages to browsers.
///
/// It is a handle: cloning it is cheap, and every clone means the same hub. All calls that push are
/// synchronous and work from any thread, inside or outside a runtime. They do not block, do no I/O,
/// and cost the same for one viewer and for ten thousand: what a viewer does not read in time is
/// skipped for that viewer alone.
///
/// The hub ends when its last handle is dropped, or by [`finish`](Hub::finish), [`fail`](Hub::fail) or
/// [`shutdown`](Hub::shutdown). On a thread outside any runtime dropping it waits, for a second at
/// most, until the last messages have been delivered. Inside a runtime it does not hold up the
/// thread: there the runtime, when it is dropped, or the end of the process waits as long. The
/// crate's documentation has a [table of endings](crate#endings).
///
/// In a child process made by `fork`, as by Python's `multiprocessing`, every handle is that of a
/// [disabled](Hub::disabled) hub: pushes go nowhere, a drop returns at once, and the parent's hub goes
/// on. (The child holds copies of the parent's sockets for as long as it lives. The hub's end frees the
/// port all the same, but a parent that is killed leaves it taken until the child has ended.)
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
    shared: Arc<Shared>,
    /// Where it listens: one address at least.
    addresses: Box<[SocketAddr]>,
    /// Whether a browser finds a page there.
    has_page: bool,
    thread: Lock<Option<JoinHandle<()>>>,
    /// How long the end may take when nobody says.
    shutdown: Duration,
}

impl Hub {
    /// A hub that is not there: every push goes nowhere and costs nothing, nobody is ever
    /// connected. For runs without viewers, and for all but one of the processes of an MPI run.
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

    /// What is behind the handle, unless there is nothing, or another process has it.
    fn live(&self) -> Option<&Arc<Inner>> {
        self.inner.as_ref().filter(|inner| !inner.shared.process.is_another())
    }

    fn shared(&self) -> Option<&Shared> {
        self.live().map(|inner| &*inner.shared)
    }

    /// Returns the address that the hub listens on, the first of [`local_addrs`](Hub::local_addrs);
    /// `None` where the hub is [disabled](Hub::disabled).
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// assert_ne!(hub.local_addr().unwrap().port(), 0);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs().first().copied()
    }

    /// Returns all addresses that the hub listens on; none where the hub is
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
    /// `http://127.0.0.1:8002/`: the first of [`urls`](Hub::urls). `None` where nothing is to be
    /// opened.
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

    /// Returns every URL under which browsers can open the hub's page, those for this machine
    /// first.
    ///
    /// A hub on `0.0.0.0` or `[::]` has the loopback address, the addresses by which this machine
    /// reaches others, and the machine's name, which other machines may know or not. The list is
    /// empty where nothing is to be opened: the hub is [disabled](Hub::disabled), or has no page
    /// (without the feature `page` and [`HubBuilder::page`]).
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

    /// Sends a message to one client.
    ///
    /// It does not block, whatever the client does. Messages from one thread to one client, and to
    /// everyone, arrive in the order of the calls. For a state, of which only the newest counts, there
    /// is [`set`](Hub::set).
    ///
    /// # Errors
    ///
    /// [`SendError`]: the client has left, is too far behind and the policy is to refuse, the
    /// message is too large, or the hub has ended. None of these should end a run: a program that
    /// has nothing to do about it writes `let _ = hub.send(..)`.
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

    /// Sets the latest value of a key for one client, which replaces the one before: for what is a
    /// state and not an event, such as progress.
    ///
    /// It does not block, whatever the client does. A client that is behind gets only the newest value
    /// of each key, and none that is older than one it has had. What is replaced before it has left is
    /// never sent, nor counted as skipped; what has left is forgotten. Values are in the order of the
    /// calls with what is [sent](Hub::send) and [broadcast](Hub::broadcast), by when they were set last;
    /// one that is set again all the time may come before what was pushed meanwhile, so that it comes.
    ///
    /// # Errors
    ///
    /// As [`send`](Hub::send), but that a mailbox full of messages has room for values all the same, and
    /// they make no room for each other: [`SendError::TooManyValues`] beyond [`Limits::keys`] and
    /// [`Limits::mailbox`], which counts for the values by themselves once more (one larger value is
    /// taken when it is alone). The value before is kept then.
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

    /// Removes the latest value of a key for one client: a value that waits for the client is not sent any
    /// more, and a client on `stepcast.v1` that has a value is told to forget it.
    ///
    /// # Errors
    ///
    /// [`SendError::NoSuchClient`], [`SendError::ShutDown`], and [`SendError::TooManyValues`] where
    /// [`Limits::keys`] changes wait for the client already.
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

    /// Sends a message to one client, and waits until its mailbox has room for it: for a program that
    /// wants to be slowed down to what the client reads. It takes `within` at most.
    ///
    /// Pushes that wait for the same client have their turns in the order in which they came. A [`send`](Hub::send) does not
    /// wait for them.
    ///
    /// It needs no runtime of its own, and works in any.
    ///
    /// # Errors
    ///
    /// [`SendError::TimedOut`], and those of [`send`](Hub::send) but for `Full` and `NoMemory`. The message has not been taken then.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, the message has not been taken.
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

    /// As [`send_timeout`](Hub::send_timeout), for a program without async: the thread waits.
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
        crate::hub::shared::waiters::push_blocking(within, self.send_timeout(id, message, within))
    }

    /// Sends a message to every client that is connected; who comes later does not get it.
    ///
    /// It does not block, whatever the clients do, and costs the same for any number of them. With
    /// nobody connected it costs almost nothing; [`broadcast_with`](Hub::broadcast_with) saves the
    /// message's making, too. What is above [`Limits::outbound_message`], or comes after the hub's
    /// end, is counted in [`Stats::refused_pushes`]. As for every push, the log is told of each
    /// kind of refusal once, and then every ten seconds at most.
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

    /// Sends a message to every client that is connected, as [`broadcast`](Hub::broadcast), and
    /// makes the message only if there is a client: a loop formats nothing while nobody watches.
    ///
    /// The closure runs in this call, and is not called where the hub is [disabled](Hub::disabled)
    /// or has ended.
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

    /// The feed of this name, which is made if there is none. Clients follow it by the path
    /// `/feed/` and its name, percent-encoded where need be, or because the program has them
    /// [follow](Hub::follow) it.
    ///
    /// # Errors
    ///
    /// [`FeedError::InvalidName`]: the name is empty, longer than 256 bytes or has control characters. A name that is
    /// written into the program has none of that; another is no reason to end a run.
    ///
    /// Where there are [`Limits::feeds`] already, the finished feed goes first that has been
    /// without a handle for longest, also before its [`Retention`] is over; then the open feed of
    /// which this is true. A client that follows a feed has a handle. Where all feeds are in use,
    /// the new one takes nothing: its pushes return [`SendError::TooManyFeeds`], there is an error
    /// in the log, and [`Stats::feeds_refused`] counts it.
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

    /// Makes a feed of this name for the program alone to push to: two runs that chose the same
    /// name do not mix their messages unseen. As [`File::create_new`](std::fs::File::create_new) is
    /// to `File::create`.
    ///
    /// Clients that wait for the feed by its name do not take the name.
    ///
    /// # Errors
    ///
    /// - [`FeedError::Exists`]: the program has asked for a feed of this name, and that is still
    ///   there. A feed stays for a while after its last handle: see [`Feed`].
    /// - [`FeedError::TooMany`]: at [`Limits::feeds`] no feed can make way.
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

    /// Everyone's feed, which all follow who name no other: [`broadcast`](Hub::broadcast) sends to
    /// it. Whoever comes gets its latest values, and of its log what comes then.
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

    /// Has a client follow a feed, beside what it follows already. Following it twice is following it once.
    ///
    /// # Errors
    ///
    /// [`FollowError`]: the client has left, or follows [`Limits::feeds_per_client`] already, and
    /// goes on with those; the feed is another hub's; or the hub has ended.
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

    /// Has a client follow a feed no more. What is pushed to the feed after this call does not
    /// reach it.
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

    /// How many clients there are, those included that are away and may come back: one relaxed
    /// load. [`broadcast_with`](Hub::broadcast_with) and [`Feed::set_with`] ask by themselves
    /// whether anybody watches.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// assert_eq!(hub.client_count(), 0);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn client_count(&self) -> usize {
        self.shared().map_or(0, |shared| shared.registry.count())
    }

    /// Returns a handle to every client, in no order; also to those that are away and may come
    /// back.
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

    /// Returns a handle to one client, if it is there, or away and may come back.
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

    /// A token that is cancelled when this client has gone for good, for a run that is to end then. On the wire
    /// `stepcast.v1` a client whose connection is lost has [`Timeouts::grace`] to come back before it
    /// has gone; on the plain wire it goes with its connection. Of a client that is not there it is cancelled already.
    ///
    /// The hub's end does not cancel it, nor is a token cancelled that is asked for after that: what ends is the view of the
    /// run, and [`ended_token`](Hub::ended_token) says so.
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

    /// Returns a token that is cancelled when the hub begins to end, whoever ended it: from then on pushes fail.
    ///
    /// A run that nobody waits for can end with [`gone_token`](Hub::gone_token); one whose view
    /// ends may go on, and write its results.
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

    /// Closes the connection of one client, with code 1000 and this reason (of which 123 bytes are
    /// sent), after it has been sent what was pushed to it before, for which it has
    /// [`Timeouts::close`]. From this call on nothing can be sent to it.
    ///
    /// # Errors
    ///
    /// [`SendError::NoSuchClient`], also where it is being closed already, and
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

    /// What happens from now on: clients that come and go, their messages, refused requests.
    /// [`HubBuilder::events_from_start`] has the first call return what has happened before it,
    /// too.
    ///
    /// Events cost nothing until this is called. See [`Events`] for its bounds.
    /// [`Events`] keep no hub alive; a thread that reads them and pushes holds a [`WeakHub`], which has
    /// an example.
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
            None => crate::hub::events::Listeners::default().listen(1),
        }
    }

    /// What the hub has done so far.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// println!("{:?}", hub.stats());
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.shared().map_or_else(Stats::default, Shared::stats)
    }

    /// Ends the hub and waits for its end: no new clients; those connected get what was pushed
    /// before, then a Close with code 1001; whoever has not taken it within
    /// [`Timeouts::shutdown`] is cut. Pushes fail from the call on.
    ///
    /// # Cancel safety
    ///
    /// The call ends the hub, the future waits for that: dropped, nobody waits.
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

    /// Ends the hub because the run has finished, with a message for its viewers, and returns at once.
    ///
    /// It is [`shutdown`](Hub::shutdown) with a last word: clients get what was pushed before, then the
    /// message, of which clients on `stepcast.v1` are told 1024 bytes (code 4503; they do not come back)
    /// and clients on the plain wire 123 (code 1000). The first call that ends a hub says how it ended;
    /// later ones do not change that. Wait for the end by dropping the last handle or by `shutdown`.
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

    /// Ends the hub because the run has failed, with the reason for its viewers, and returns at once.
    ///
    /// As [`finish`](Hub::finish), with code 4504 on `stepcast.v1` and 1011 on the plain wire. When the last handle
    /// is dropped by a panic the hub does this by itself, with the panic's text: the first hub of a
    /// process puts a panic hook before the one that is there, which keeps that text for the
    /// thread (1024 bytes) and then calls the other. Without a text the reason is `the program panicked`: a panic by
    /// [`resume_unwind`](std::panic::resume_unwind) calls no hook. A text is told for a second after its panic, which
    /// the thread may have caught.
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

    /// Waits until everything pushed before this call has been handed to the operating system, for every
    /// client that is connected; at most `within`.
    ///
    /// The operating system goes on delivering what it has when the process is killed the next moment.
    /// Messages pushed later do not count, nor do clients that are away or leave meanwhile, nor
    /// messages that a slow client skips. A flush walks all clients once and costs pushes nothing.
    ///
    /// # Errors
    ///
    /// [`FlushError::TimedOut`] says for how many clients something still waits: clients that do not read. It stays in
    /// line for them. [`FlushError::ShutDown`] says that the hub has ended.
    ///
    /// # Cancel safety
    ///
    /// The call asks, the future waits: dropped, nobody waits.
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

    /// As [`flush`](Hub::flush), for a program without async: the thread waits.
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
        let flushed = crate::hub::shared::waiters::block_on_within(within, self.flush(within));
        flushed.unwrap_or(Err(FlushError::TimedOut { clients: self.client_count() }))
    }

    /// As [`shutdown`](Hub::shutdown), for a program without async, within this time.
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
            // The thread is the parent's. Its number may be that of one that the child has begun since, which a handle
            // would let go.
            return std::mem::forget(self.thread.get_mut().take());
        }
        let on_hub_thread =
            self.thread.lock().as_ref().is_some_and(|t| t.thread().id() == thread::current().id());
        let goodbye = process_end::goodbye_of_a_drop();
        if on_hub_thread || crate::hub::primitives::journal::is_log_thread() {
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
