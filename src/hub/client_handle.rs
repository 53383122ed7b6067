//! The handle to a client.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::codec::Message;
use crate::hub::client::state::{ClientInfo, ClientState};
use crate::hub::error::{FollowError, SendError};
use crate::hub::feed_handle::Feed;
use crate::hub::id::ClientId;
use crate::hub::shared::state::Shared;
use crate::hub::shared::waiters::push_blocking;

/// A handle to one client, made by [`Hub::client`](crate::Hub::client).
///
/// Each call does what the call of [`Hub`](crate::Hub) with the same name does for this client's
/// id. After the client has gone, pushes return [`SendError::NoSuchClient`].
///
/// Cloning a handle is cheap, and every clone means the same client. A handle does not keep the hub
/// running. Handles are equal if they mean the same client. In a map, use the client's
/// [`id`](Client::id) as the key.
///
/// ```
/// use stepcast::{Client, SendError};
///
/// /// What a request has started, for the client that asked for it.
/// fn run(client: &Client) -> Result<(), SendError> {
///     client.send("started")?;
///     for step in 1..=100 {
///         // model.step();
///         client.set("progress", format!(r#"{{"progress":{step},"total":100}}"#))?;
///     }
///     client.send("converged")
/// }
///
/// let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let id = "4711".parse().unwrap(); // from the request
/// if let Some(client) = hub.client(id) {
///     std::thread::spawn(move || run(&client));
/// }
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    state: Arc<ClientState>,
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>, state: Arc<ClientState>) -> Self {
        Self { shared, state }
    }

    /// The hub, unless another process has it.
    fn live(&self) -> Option<&Shared> {
        Some(&*self.shared).filter(|shared| !shared.process.is_another())
    }

    /// Returns the client's id.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let ids: Vec<_> = hub.clients().iter().map(|client| client.id()).collect();
    /// assert!(ids.is_empty());
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn id(&self) -> ClientId {
        self.state.id
    }

    /// Returns what is known about the client: now, or at its end if it has gone.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// for client in hub.clients() {
    ///     println!("{} is {} bytes behind", client.id(), client.info().queued_bytes);
    /// }
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn info(&self) -> ClientInfo {
        match self.live() {
            Some(_) => self.state.info(),
            None => self.state.fixed_info(), // whoever held a lock is not in this process
        }
    }

    /// Sends a message; see [`Hub::send`](crate::Hub::send).
    ///
    /// # Errors
    ///
    /// As [`Hub::send`](crate::Hub::send).
    ///
    /// ```
    /// # fn of(client: &stepcast::Client) -> Result<(), stepcast::SendError> {
    /// client.send("step 41 of 100")?;
    /// # Ok(()) }
    /// ```
    pub fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.live().map_or(Ok(()), |shared| shared.send(self.id(), message.into()))
    }

    /// Sends a message, and waits until the client's mailbox has room for it; see
    /// [`Hub::send_timeout`](crate::Hub::send_timeout).
    ///
    /// # Errors
    ///
    /// As [`Hub::send_timeout`](crate::Hub::send_timeout).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the message has not been taken.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # async fn of(client: &stepcast::Client) -> Result<(), stepcast::SendError> {
    /// client.send_timeout(vec![0; 100_000], Duration::from_secs(5)).await?;
    /// # Ok(()) }
    /// ```
    pub async fn send_timeout(
        &self,
        message: impl Into<Message>,
        within: Duration,
    ) -> Result<(), SendError> {
        let Some(shared) = self.live() else { return Ok(()) };
        shared.send_timeout(self.id(), message.into(), within).await
    }

    /// Sends a message as [`send_timeout`](Client::send_timeout) does, and blocks the thread
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Hub::send_timeout`](crate::Hub::send_timeout).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn of(client: &stepcast::Client) -> Result<(), stepcast::SendError> {
    /// client.send_timeout_blocking(vec![0; 100_000], Duration::from_secs(5))?;
    /// # Ok(()) }
    /// ```
    pub fn send_timeout_blocking(
        &self,
        message: impl Into<Message>,
        within: Duration,
    ) -> Result<(), SendError> {
        push_blocking(within, self.send_timeout(message, within))
    }

    /// Sets the latest value of a key for the client; see [`Hub::set`](crate::Hub::set).
    ///
    /// # Errors
    ///
    /// As [`Hub::set`](crate::Hub::set).
    ///
    /// ```
    /// # fn of(client: &stepcast::Client) -> Result<(), stepcast::SendError> {
    /// client.set("residual", format!("{:e}", 3.2e-7))?;
    /// # Ok(()) }
    /// ```
    pub fn set(&self, key: &str, message: impl Into<Message>) -> Result<(), SendError> {
        self.live().map_or(Ok(()), |shared| shared.set_for(self.id(), key, message.into()))
    }

    /// Removes the latest value of a key for the client; see [`Hub::remove`](crate::Hub::remove).
    ///
    /// # Errors
    ///
    /// As [`Hub::remove`](crate::Hub::remove).
    ///
    /// ```
    /// # fn of(client: &stepcast::Client) -> Result<(), stepcast::SendError> {
    /// client.remove("residual")?;
    /// # Ok(()) }
    /// ```
    pub fn remove(&self, key: &str) -> Result<(), SendError> {
        self.live().map_or(Ok(()), |shared| shared.remove_for(self.id(), key))
    }

    /// Makes the client follow a feed; see [`Hub::follow`](crate::Hub::follow).
    ///
    /// # Errors
    ///
    /// As [`Hub::follow`](crate::Hub::follow).
    ///
    /// ```
    /// # fn of(client: &stepcast::Client, run: &stepcast::Feed) -> Result<(), stepcast::FollowError> {
    /// client.follow(run)?;
    /// # Ok(()) }
    /// ```
    pub fn follow(&self, feed: &Feed) -> Result<(), FollowError> {
        let Some(shared) = self.live() else { return Ok(()) };
        shared.follow(self.id(), feed.topic_at(shared).ok_or(FollowError::OtherHub)?)
    }

    /// Makes the client unfollow a feed; see [`Hub::unfollow`](crate::Hub::unfollow).
    ///
    /// # Errors
    ///
    /// As [`Hub::follow`](crate::Hub::follow).
    ///
    /// ```
    /// # fn of(client: &stepcast::Client, run: &stepcast::Feed) -> Result<(), stepcast::FollowError> {
    /// client.unfollow(run)?;
    /// # Ok(()) }
    /// ```
    pub fn unfollow(&self, feed: &Feed) -> Result<(), FollowError> {
        let Some(shared) = self.live() else { return Ok(()) };
        shared.unfollow(self.id(), feed.topic_at(shared).ok_or(FollowError::OtherHub)?)
    }

    /// Returns a token that is cancelled when the client has gone for good; see
    /// [`Hub::gone_token`](crate::Hub::gone_token).
    ///
    /// ```
    /// # async fn step() {}
    /// # async fn of(client: &stepcast::Client) {
    /// let gone = client.gone_token();
    /// while !gone.is_cancelled() {
    ///     step().await;
    /// }
    /// # }
    /// ```
    pub fn gone_token(&self) -> CancellationToken {
        self.live().map_or_else(CancellationToken::new, |shared| shared.gone_token(self.id()))
    }

    /// Closes the client's connection after its pending messages; see
    /// [`Hub::disconnect`](crate::Hub::disconnect).
    ///
    /// # Errors
    ///
    /// As [`Hub::disconnect`](crate::Hub::disconnect).
    ///
    /// ```
    /// # fn of(client: &stepcast::Client) -> Result<(), stepcast::SendError> {
    /// client.disconnect("the run is over")?;
    /// # Ok(()) }
    /// ```
    pub fn disconnect(&self, reason: &str) -> Result<(), SendError> {
        self.live().map_or(Ok(()), |shared| shared.disconnect(self.id(), reason))
    }
}

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }
}

impl Eq for Client {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.id().get()).finish()
    }
}

// As for `Hub`: a panic leaves nothing of it half done.
impl UnwindSafe for Client {}
impl RefUnwindSafe for Client {}
