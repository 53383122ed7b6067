//! One connected client as the callers' threads see it, and the table of them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::engine::millis;
use super::lock::Lock;
use super::mail::Mail;
use super::moment::low_half;
use super::topic::{Topic, Topics};
use super::{ClientId, FollowError};

/// What is known about one connected client.
///
/// ```
/// let hub = stepcast::Hub::spawn_thread("127.0.0.1:0")?;
/// for client in hub.clients() {
///     println!("{} from {}, {} bytes behind", client.id, client.address, client.queued_bytes);
/// }
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientInfo {
    /// Its id.
    pub id: ClientId,
    /// Where it connects from; a proxy's address where there is one between.
    pub address: SocketAddr,
    /// The path and query of its request.
    pub path: String,
    /// When it connected.
    pub since: SystemTime,
    /// Bytes pushed to it alone and not yet handed to the operating system, together with the
    /// broadcast messages that are being written to it.
    pub queued_bytes: usize,
    /// Messages that it did not get because it was too far behind.
    pub skipped: u64,
    /// The request headers named by
    /// [`HubBuilder::keep_header`](crate::HubBuilder::keep_header), in that order, where it sent them.
    pub headers: Vec<(String, String)>,
}

/// A connected client. Small, since there are many: what most clients do not have is boxed.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    /// Its connection's place in the driver's table (no table has 2^32).
    key: AtomicU32,
    pub(crate) address: SocketAddr,
    /// In milliseconds of Unix time.
    since: u64,
    details: Option<Box<Details>>,
    pub(crate) mailbox: Lock<Mailbox>,
    /// What it is to follow; the driver sees to it that it does.
    follows: Lock<Wants>,
    /// Bytes that the driver has taken up for it and not yet written.
    pub(crate) writing: AtomicU32,
    pub(crate) skipped: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Details {
    /// Empty for `/`.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// What waits for one client alone. It costs nothing while it is empty, and it has messages exactly
/// while the driver has been told that it has.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    pub(crate) mail: Option<Box<Mail>>,
    /// Set when the client has gone: nothing is taken any more.
    pub(crate) closed: bool,
    /// Whether the driver has been told that what the client is to follow has changed. (It is here because there
    /// is room.)
    pub(crate) refollow: bool,
}

/// What a client is to follow.
#[derive(Debug, Default)]
enum Wants {
    /// The feed that it came for, as most do for as long as they are there.
    First(Arc<Topic>),
    #[expect(clippy::box_collection, reason = "a pointer in each client, of which most have none")]
    Several(Box<Vec<Wanted>>),
    /// It has gone.
    #[default]
    Gone,
}

impl Wants {
    /// The list of them, to be changed; `None` when it has gone.
    fn list(&mut self) -> Option<&mut Vec<Wanted>> {
        if let Self::First(topic) = self {
            let topic = Arc::clone(topic);
            *self = Self::Several(Box::new(vec![Wanted::by_itself(topic)]));
        }
        match self {
            Self::Several(list) => Some(list),
            _ => None,
        }
    }
}

/// A feed that a client is to follow.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) topic: Arc<Topic>,
    /// What was stamped from here on it is to have, whatever else is kept.
    pub(crate) stamp: u64,
    /// Whether the driver has not seen this yet. It may have followed the feed before, and have
    /// stopped in between: it begins anew then.
    pub(crate) fresh: bool,
    /// Whether the program wants it, and not only the client itself.
    told: bool,
}

impl Wanted {
    fn by_itself(topic: Arc<Topic>) -> Self {
        Self { topic, stamp: u64::MAX, fresh: false, told: false }
    }
}

impl Client {
    pub(crate) fn new(
        id: ClientId,
        key: usize,
        address: SocketAddr,
        details: Details,
        topic: Option<Arc<Topic>>,
    ) -> Self {
        let plain = details.path.is_empty() && details.headers.is_empty();
        Self {
            id,
            key: AtomicU32::new(low_half(key as u64)),
            address,
            since: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis),
            details: (!plain).then(|| Box::new(details)),
            mailbox: Lock::default(),
            follows: Lock::new(topic.map_or_else(|| Wants::Several(Box::default()), Wants::First)),
            writing: AtomicU32::new(0),
            skipped: AtomicU64::new(0),
        }
    }

    pub(crate) fn key(&self) -> usize {
        self.key.load(Ordering::Relaxed) as usize
    }

    /// It has another connection.
    pub(crate) fn set_key(&self, key: usize) {
        self.key.store(low_half(key as u64), Ordering::Relaxed);
    }

    /// Adds a feed, whose handle it takes over, to what it is to follow: it is followed at once, and the driver need not
    /// be told. Whether it was not there.
    ///
    /// # Errors
    ///
    /// It has gone, or follows `limit` feeds already.
    pub(crate) fn follow_at_once(
        &self,
        topic: &Arc<Topic>,
        limit: usize,
    ) -> Result<bool, FollowError> {
        let mut follows = self.follows.lock();
        let follows = follows.list().ok_or(FollowError::NoSuchClient(self.id))?;
        if follows.iter().any(|known| Arc::ptr_eq(&known.topic, topic)) {
            return Ok(false);
        }
        if follows.len() >= limit {
            return Err(FollowError::TooMany { limit });
        }
        follows.reserve_exact(1); // many clients have one
        follows.push(Wanted::by_itself(Arc::clone(topic)));
        Ok(true)
    }

    /// Takes out what it asked for itself. The handles are the caller's.
    pub(crate) fn unfollow_own(&self) -> Vec<Arc<Topic>> {
        let mut follows = self.follows.lock();
        let Some(follows) = follows.list() else { return Vec::new() };
        let (stay, own) = std::mem::take(follows).into_iter().partition(|wanted| wanted.told);
        *follows = stay;
        let own: Vec<Wanted> = own;
        own.into_iter().map(|wanted| wanted.topic).collect()
    }

    /// A feed that it is to follow, by its name.
    pub(crate) fn topic_named(&self, name: &str) -> Option<Arc<Topic>> {
        let mut follows = self.follows.lock();
        let found = follows.list()?.iter().find(|wanted| wanted.topic.name() == name);
        found.map(|wanted| Arc::clone(&wanted.topic))
    }

    /// Adds a feed to what it is to follow, with a handle of its own, and tells the driver: under
    /// the lock, so that whoever finds it followed can rely on it that the driver has heard of it.
    ///
    /// # Errors
    ///
    /// It has gone, or follows `limit` feeds already.
    pub(crate) fn follow(
        &self,
        topic: &Arc<Topic>,
        stamp: u64,
        limit: usize,
        tell: impl FnOnce(),
    ) -> Result<(), FollowError> {
        let mut follows = self.follows.lock();
        let follows = follows.list().ok_or(FollowError::NoSuchClient(self.id))?;
        if let Some(known) = follows.iter_mut().find(|known| Arc::ptr_eq(&known.topic, topic)) {
            known.told = true;
            return Ok(());
        }
        if follows.len() >= limit {
            return Err(FollowError::TooMany { limit });
        }
        let topic = Topics::clone_handle(topic);
        follows.push(Wanted { topic, stamp, fresh: true, told: true });
        tell();
        Ok(())
    }

    /// Takes a feed, whose handle is the caller's then, from what it is to follow, and tells the
    /// driver, under the lock as above; whether it was there.
    pub(crate) fn unfollow(&self, topic: &Arc<Topic>, tell: impl FnOnce()) -> bool {
        let mut follows = self.follows.lock();
        let Some(follows) = follows.list() else { return false };
        let before = follows.len();
        follows.retain(|known| !Arc::ptr_eq(&known.topic, topic));
        if follows.len() == before {
            return false;
        }
        tell();
        true
    }

    /// The driver: what it is to follow, of which nothing is fresh any more.
    pub(crate) fn follows(&self) -> Vec<Wanted> {
        let mut follows = self.follows.lock();
        let Some(follows) = follows.list() else { return Vec::new() };
        let seen = follows.clone();
        for wanted in follows.iter_mut() {
            wanted.fresh = false;
        }
        seen
    }

    /// It has gone: the handles are the caller's.
    pub(crate) fn unfollow_all(&self) -> Vec<Wanted> {
        let mut follows = std::mem::take(&mut *self.follows.lock());
        follows.list().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn info(&self) -> ClientInfo {
        let waiting = self.mailbox.lock().mail.as_ref().map_or(0, |mail| mail.bytes());
        let details = self.details.as_ref();
        ClientInfo {
            id: self.id,
            address: self.address,
            path: match details {
                Some(details) if !details.path.is_empty() => details.path.clone(),
                _ => "/".to_owned(),
            },
            since: UNIX_EPOCH + Duration::from_millis(self.since),
            queued_bytes: waiting + self.writing.load(Ordering::Relaxed) as usize,
            skipped: self.skipped.load(Ordering::Relaxed),
            headers: details.map_or_else(Vec::new, |details| details.headers.clone()),
        }
    }
}

/// Every connected client by its id.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    clients: RwLock<HashMap<ClientId, Arc<Client>, BuildHasherDefault<IdHasher>>>,
    count: AtomicUsize,
}

impl Registry {
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn get(&self, id: ClientId) -> Option<Arc<Client>> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// All clients, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.clients.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn insert(&self, client: Arc<Client>) {
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        clients.insert(client.id, client);
        self.count.store(clients.len(), Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, id: ClientId) {
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        clients.remove(&id);
        if clients.len() < clients.capacity() / 4 {
            clients.shrink_to_fit();
        }
        self.count.store(clients.len(), Ordering::Relaxed);
    }
}

/// Ids are random already, and not chosen by a peer: they are their own hash.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The map takes its tag from the top seven bits, which are zero in an id of 53 bits.
        self.0 = number ^ number << 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_small() {
        // With the counts of its `Arc` it is 136 bytes: one step more, and between it and what tokio has for its socket,
        // which is aligned to 128, glibc's allocator leaves 90 bytes more of each client unused.
        assert!(size_of::<Client>() <= 120, "{}", size_of::<Client>());
    }
}
