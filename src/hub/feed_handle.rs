//! The handle to a feed.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use crate::codec::Message;
use crate::hub::error::SendError;
use crate::hub::feed::topic::{Topic, Topics};
use crate::hub::shared::state::Shared;
use crate::hub::shared::waiters::push_blocking;

/// A handle to a feed: an ordered log of messages and a table of latest values, which clients
/// follow.
///
/// [`Hub::feed`](crate::Hub::feed) returns a feed by its name, and
/// [`Hub::everyone`](crate::Hub::everyone) returns everyone's feed. Cloning a handle is cheap, and
/// every clone means the same feed. A handle does not keep the hub running. Calls other
/// than `send_timeout` do not wait, and all cost the same for any number of followers.
///
/// - [`send`](Feed::send) appends to the log: followers get all messages, in order.
/// - [`set`](Feed::set) replaces the latest value of a key: a slow follower skips intermediate
///   values.
///
/// A late joiner gets the latest value of every key and the retained log
/// ([`Retention`](crate::Retention)), in the order of the calls, and then new messages. No message
/// is missing between, and no message comes twice. Exception: on the plain wire the log of
/// everyone's feed begins with new messages.
///
/// A feed goes away when it has no follower, no handle and no message young enough to be kept. It
/// can also make way for another feed, at [`Limits::feeds`](crate::Limits::feeds).
///
/// ```
/// let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let run = hub.feed("run/42")?;
/// run.send("started")?;
/// for step in 1..=100 {
///     // model.step();
///     run.set("progress", format!(r#"{{"progress":{step},"total":100}}"#))?;
/// }
/// run.finish("converged")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Feed {
    /// `None` where the hub is disabled.
    inner: Option<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    topic: Arc<Topic>,
}

impl Feed {
    /// Takes over a handle that is counted.
    pub(crate) fn new(shared: Arc<Shared>, topic: Arc<Topic>) -> Self {
        Self { inner: Some(Inner { shared, topic }) }
    }

    pub(crate) const fn disabled() -> Self {
        Self { inner: None }
    }

    /// The state behind the handle: none where it is disabled, or another process has it.
    fn live(&self) -> Option<&Inner> {
        self.inner.as_ref().filter(|inner| !inner.shared.process.is_another())
    }

    /// The topic, if the feed is of this hub.
    pub(crate) fn topic_at(&self, hub: &Shared) -> Option<&Arc<Topic>> {
        let inner = self.inner.as_ref()?;
        std::ptr::eq(&raw const *inner.shared, hub).then_some(&inner.topic)
    }

    /// Returns the feed's name. The name is empty for everyone's feed, and for a disabled hub.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// assert_eq!(hub.feed("run/42")?.name(), "run/42");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn name(&self) -> &str {
        self.inner.as_ref().map_or("", |inner| inner.topic.name())
    }

    /// Appends a message to the feed's log.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`], [`SendError::NoMemory`] if the hub's memory limit is reached,
    /// [`SendError::Finished`] after [`finish`](Feed::finish), [`SendError::ShutDown`], and
    /// [`SendError::TooManyFeeds`] for a feed beyond [`Limits::feeds`](crate::Limits::feeds). None
    /// of these should end a run. A program with nothing to do about an error writes `let _ =
    /// feed.send(..)`.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let feed = hub.feed("run/42")?;
    /// feed.send("restart written at step 1000")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        let Some(Inner { shared, topic }) = self.live() else { return Ok(()) };
        shared.push(topic, message.into(), false)
    }

    /// Appends a message to the log as [`send`](Feed::send) does, and formats it only if somebody
    /// can get it.
    ///
    /// Late joiners get the retained log. So the message is formatted even without viewers, unless
    /// the feed keeps no log ([`Retention`](crate::Retention) of 0 messages) and the hub has no
    /// client. For everyone's feed the message is formatted only if the hub has a client, as by
    /// [`Hub::broadcast_with`](crate::Hub::broadcast_with). For a state,
    /// [`set_with`](Feed::set_with) formats much less.
    ///
    /// The closure runs in this call. It is not called if the hub is disabled or has ended, nor
    /// after [`finish`](Feed::finish).
    ///
    /// # Errors
    ///
    /// As [`send`](Feed::send).
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// # let step = 41;
    /// let feed = hub.feed("run/42")?;
    /// feed.send_with(|| format!("restart written at step {step}"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_with<M: Into<Message>>(&self, make: impl FnOnce() -> M) -> Result<(), SendError> {
        let Some(Inner { shared, topic }) = self.live() else { return Ok(()) };
        shared.push_with(topic, || make().into())
    }

    /// Appends a message to the log, and waits for at most `within` until there is room: until the
    /// slowest follower is at most [`Limits::feed`](crate::Limits::feed) behind with this message.
    /// So nobody skips. Without followers there is always room.
    ///
    /// Waiting pushes to the same feed take turns in the order in which they came. A
    /// [`send`](Feed::send) does not wait for them. The future needs no runtime of its own, and
    /// works in any.
    ///
    /// # Errors
    ///
    /// [`SendError::TimedOut`], and the errors of [`send`](Feed::send) except `NoMemory`. After an
    /// error the message has not been taken.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the message has not been taken.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let hub = stepcast::Hub::spawn("127.0.0.1:0").await?;
    /// let feed = hub.feed("run/42")?;
    /// feed.send_timeout(vec![0; 100_000], Duration::from_secs(5)).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub async fn send_timeout(
        &self,
        message: impl Into<Message>,
        within: Duration,
    ) -> Result<(), SendError> {
        let Some(Inner { shared, topic }) = self.live() else { return Ok(()) };
        shared.push_wait(topic, message.into(), within).await
    }

    /// Appends a message as [`send_timeout`](Feed::send_timeout) does, and blocks the thread
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// As [`send_timeout`](Feed::send_timeout).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let feed = hub.feed("run/42")?;
    /// feed.send_timeout_blocking(vec![0; 100_000], Duration::from_secs(5))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_timeout_blocking(
        &self,
        message: impl Into<Message>,
        within: Duration,
    ) -> Result<(), SendError> {
        push_blocking(within, self.send_timeout(message, within))
    }

    /// Sets the latest value of a key. The new value replaces the previous one, so a key is for a
    /// state such as progress, not for an event.
    ///
    /// A follower gets values in the order in which they were last set, and never an older value
    /// after a newer one. A value that is replaced before it leaves may never be sent. If a
    /// follower is more than 64 KiB behind, values overtake sent messages.
    ///
    /// # Errors
    ///
    /// As [`send`](Feed::send); [`SendError::KeyTooLong`] above 256 bytes; and
    /// [`SendError::TooManyValues`] beyond [`Limits::keys`](crate::Limits::keys) or
    /// [`Limits::latest`](crate::Limits::latest). After an error the previous value is kept.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let feed = hub.feed("run/42")?;
    /// feed.set("residual", format!("{:e}", 3.2e-7))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set(&self, key: &str, message: impl Into<Message>) -> Result<(), SendError> {
        let Some(Inner { shared, topic }) = self.live() else { return Ok(()) };
        shared.set(topic, key, message.into())
    }

    /// Sets the latest value of a key as [`set`](Feed::set) does, and formats few values while
    /// nobody follows the feed.
    ///
    /// - While a client follows the feed, each value is formatted.
    /// - While none does, a value is formatted if the hub has taken over the key's previous value.
    ///   In a hot loop that is about one value a millisecond. In a slower loop each value is
    ///   formatted.
    ///
    /// So a late joiner finds a value that is at most some milliseconds older than the newest, and
    /// gets the newest with the next call. The last value of a hot loop may be left out: report the
    /// loop's end by [`set`](Feed::set).
    ///
    /// The closure runs in this call. It is not called if the hub is disabled or has ended.
    ///
    /// # Errors
    ///
    /// As [`set`](Feed::set).
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let run = hub.feed("run/42")?;
    /// for step in 1..=100_000 {
    ///     // model.step();
    ///     run.set_with("progress", || format!(r#"{{"progress":{step},"total":100000}}"#))?;
    /// }
    /// run.set("progress", r#"{"progress":100000,"total":100000}"#)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_with<M: Into<Message>>(
        &self,
        key: &str,
        make: impl FnOnce() -> M,
    ) -> Result<(), SendError> {
        let Some(Inner { shared, topic }) = self.live() else { return Ok(()) };
        shared.set_with(topic, key, || make().into())
    }

    /// Returns the number of clients that follow the feed. The call is one relaxed load.
    ///
    /// A client that the program has told to [follow](crate::Hub::follow) the feed counts from that
    /// call on, even while it is away. A client on `stepcast.v1` that followed the feed by itself
    /// does not count while it is away: it asks again when it comes back.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// assert_eq!(hub.feed("run/42")?.followers(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "receiver_count")]
    #[doc(alias = "subscribers")]
    pub fn followers(&self) -> usize {
        self.live().map_or(0, |inner| inner.topic.followers())
    }

    /// Removes the latest value of a key. Nothing happens if the key has no value.
    ///
    /// Late joiners no longer get the value, and the key's room is free again. Followers on
    /// `stepcast.v1` that have the value are told to forget it; the plain wire has no keys.
    ///
    /// # Errors
    ///
    /// [`SendError::Finished`] and [`SendError::ShutDown`].
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let feed = hub.feed("run/42")?;
    /// feed.set("phase/7", "meshing")?;
    /// feed.remove("phase/7")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "unset")]
    #[doc(alias = "delete")]
    pub fn remove(&self, key: &str) -> Result<(), SendError> {
        let Some(Inner { shared, topic }) = self.live() else { return Ok(()) };
        shared.remove(topic, key)
    }

    /// Appends the feed's last message and closes the feed. Late joiners get the message as long as
    /// it is kept. Viewers on `stepcast.v1` are told that the feed has ended.
    ///
    /// # Errors
    ///
    /// As [`send`](Feed::send). After an error the feed is not closed.
    ///
    /// ```
    /// # use stepcast::SendError;
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let feed = hub.feed("run/42")?;
    /// feed.finish("converged")?;
    /// assert_eq!(feed.send("more"), Err(SendError::Finished));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn finish(&self, message: impl Into<Message>) -> Result<(), SendError> {
        let Some(Inner { shared, topic }) = self.live() else { return Ok(()) };
        shared.push(topic, message.into(), true)
    }
}

impl Clone for Feed {
    fn clone(&self) -> Self {
        let inner = self.inner.as_ref().map(|Inner { shared, topic }| Inner {
            shared: Arc::clone(shared),
            topic: Topics::clone_handle(topic),
        });
        Self { inner }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(Inner { shared, topic }) = self.live() {
            shared.drop_handle(topic);
        }
    }
}

// As for `Hub`: a panic leaves nothing of it half done.
impl UnwindSafe for Feed {}
impl RefUnwindSafe for Feed {}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Feed").field(&self.name()).finish()
    }
}
