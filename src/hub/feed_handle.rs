//! A feed in the hands of the program.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use crate::codec::Message;
use crate::hub::error::SendError;
use crate::hub::feed::topic::{Topic, Topics};
use crate::hub::shared::state::Shared;
use crate::hub::shared::waiters::push_blocking;

/// A handle to a feed: an ordered log of messages and a table of latest values, for those who
/// follow it.
///
/// It is had by [`Hub::feed`](crate::Hub::feed), or for everyone's feed by
/// [`Hub::everyone`](crate::Hub::everyone). Cloning it is cheap, and every clone means the same
/// feed. Calls do not block, whatever the followers do, and cost the same for any number of them.
///
/// - What is [sent](Feed::send) is a log: followers get all of it, in order.
/// - What is [set](Feed::set) is the latest value of a key: a follower that is behind gets only
///   the newest.
///
/// Who begins to follow a feed gets the latest value of every key and the log that is kept
/// ([`Retention`](crate::Retention)), in the order in which they were pushed, and then what comes;
/// nothing is missing between, and nothing comes twice. On the plain wire the log of everyone's feed
/// begins with what comes.
///
/// A feed goes away when nobody follows it, no handle is left, and nothing in its log is young
/// enough to be kept; or when it makes way for another, at [`Limits::feeds`](crate::Limits::feeds). A handle does not
/// keep the hub running.
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

    /// What is behind the handle, unless there is nothing, or another process has it.
    fn live(&self) -> Option<&Inner> {
        self.inner.as_ref().filter(|inner| !inner.shared.process.is_another())
    }

    /// The topic, if the feed is of this hub.
    pub(crate) fn topic_at(&self, hub: &Shared) -> Option<&Arc<Topic>> {
        let inner = self.inner.as_ref()?;
        std::ptr::eq(&raw const *inner.shared, hub).then_some(&inner.topic)
    }

    /// Its name; empty for everyone's feed, and where the hub is disabled.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// assert_eq!(hub.feed("run/42")?.name(), "run/42");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn name(&self) -> &str {
        self.inner.as_ref().map_or("", |inner| inner.topic.name())
    }

    /// Appends a message to the log.
    ///
    /// # Errors
    ///
    /// [`SendError::TooLarge`], [`SendError::NoMemory`] where the hub's memory limit is reached,
    /// [`SendError::Finished`] after [`finish`](Feed::finish), [`SendError::ShutDown`]. None of
    /// these should end a run: a program that has nothing to do about it writes `let _ =
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

    /// Appends a message to the log, as [`send`](Feed::send), and makes the message only if
    /// somebody can get it.
    ///
    /// Late joiners get the retained log. So the message is made also while nobody watches, unless
    /// the feed keeps none ([`Retention`](crate::Retention) of 0 messages) and the hub has no
    /// client. Of everyone's feed it is made if the hub has a client, as by
    /// [`Hub::broadcast_with`](crate::Hub::broadcast_with). For a state,
    /// [`set_with`](Feed::set_with) makes much less.
    ///
    /// The closure runs in this call. It is not called where the hub is disabled or has ended, nor
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

    /// Appends a message to the log, and waits until there is room for it: until the slowest follower is
    /// no more than [`Limits::feed`](crate::Limits::feed) behind with it, so that nobody skips.
    /// It takes `within` at most. With nobody following there is always room.
    ///
    /// Pushes that wait at the same feed have their turns in the order in which they came. A [`send`](Feed::send) does not
    /// wait for them.
    ///
    /// It needs no runtime of its own, and works in any.
    ///
    /// # Errors
    ///
    /// [`SendError::TimedOut`], and those of [`send`](Feed::send) but for `NoMemory`. The message
    /// has not been taken then.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, the message has not been taken.
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

    /// As [`send_timeout`](Feed::send_timeout), for a program without async: the thread waits.
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

    /// Sets the latest value of a key, which replaces the one before: for what is a state and not
    /// an event, such as progress.
    ///
    /// A follower gets the values in the order in which they were set last, and none that is older than one it
    /// has had. A value that is set again before it has left may never be sent. To a follower that is more than 64 KiB
    /// behind values go before what was sent.
    ///
    /// # Errors
    ///
    /// As [`send`](Feed::send), [`SendError::KeyTooLong`] above 256 bytes, and [`SendError::TooManyValues`] beyond
    /// [`Limits::keys`](crate::Limits::keys) and [`Limits::latest`](crate::Limits::latest): the
    /// value before is kept then.
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

    /// Sets the latest value of a key, as [`set`](Feed::set), and makes few values while nobody
    /// follows the feed.
    ///
    /// - While a client follows the feed each value is made.
    /// - While none does, a value is made if the hub has taken over the key's value before. In a
    ///   hot loop that is about one value a millisecond. In a loop that is slower each value is
    ///   made. So late joiners find a value that is at most some milliseconds older than the
    ///   newest, and get the newest by the next call. As the last value of a hot loop may be left
    ///   out, say how the loop ended by [`set`](Feed::set).
    ///
    /// The closure runs in this call. It is not called where the hub is disabled or has ended.
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

    /// Returns how many clients follow the feed: one relaxed load.
    ///
    /// A client that is told to [follow](crate::Hub::follow) it counts from that call on. A client
    /// on `stepcast.v1` that is away counts if the program has told it to follow; what it asked for
    /// itself it asks for again when it comes back.
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

    /// Removes the latest value of a key. A key that has no value is left alone.
    ///
    /// Late joiners do not get the value any more, and the key's room is free again. Followers on
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

    /// Appends the feed's last message. Who comes late gets it as long as it is kept; from this call
    /// on nothing else is taken. Viewers on `stepcast.v1` are told that the feed has ended.
    ///
    /// # Errors
    ///
    /// As [`send`](Feed::send): then the feed is not closed.
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
