//! One connected client as the callers' threads see it, and the table of clients.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::hub::client::mail::Mail;
use crate::hub::error::FollowError;
use crate::hub::feed::stamp::Stamp;
use crate::hub::feed::topic::{Change, Topic, Topics};
use crate::hub::id::ClientId;
use crate::hub::primitives::budget::{Budget, Charge};
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::primitives::lock::{Guard, Lock};
use crate::hub::primitives::moment::millis;

/// A description of one client, by [`Client::info`](crate::Client::info).
///
/// ```
/// let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// for client in hub.clients() {
///     let info = client.info();
///     println!("{} from {}, {} bytes behind", info.id, info.address, info.queued_bytes);
/// }
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientInfo {
    /// The client's id.
    pub id: ClientId,
    /// The address that the client connects from, or did last if it is away. With a proxy between,
    /// it is the proxy's address.
    pub address: SocketAddr,
    /// Whether the client has a connection now. A client on `stepcast.v1` may be away and come
    /// back.
    pub connected: bool,
    /// The path and query of the client's first request.
    pub path: String,
    /// The time of the client's first request.
    pub since: SystemTime,
    /// The bytes that wait for this client alone and are not yet handed to the operating system,
    /// plus the broadcast messages being written to it.
    pub queued_bytes: usize,
    /// The number of messages that the client skipped because it was too far behind.
    pub skipped: u64,
    /// The headers of the client's first request that
    /// [`HubBuilder::keep_header`](crate::HubBuilder::keep_header) names, in that order. Headers
    /// that the client did not send are left out.
    pub headers: Vec<(String, String)>,
}

/// A connected client. Small, since there are many: parts that few clients need are boxed.
#[derive(Debug)]
pub(crate) struct ClientState {
    pub(crate) id: ClientId,
    /// The client's connection, a packed [`ConnId`], or [`AWAY`].
    connection: AtomicU64,
    /// The time of the first connection, in milliseconds of Unix time.
    since: u64,
    details: Option<Box<Details>>,
    pub(crate) mailbox: Lock<Mailbox>,
    rare: Lock<Rare>,
    /// Whether the client survives its connection.
    has_session: AtomicBool,
    /// The bytes that the driver has taken up for the client and not yet written.
    pub(crate) writing: AtomicU32,
    pub(crate) skipped: AtomicU64,
}

/// The client has no connection.
const AWAY: u64 = u64::MAX;

/// The parts that are seldom used, under one lock.
#[derive(Debug)]
struct Rare {
    /// The feeds that the client has to follow; the driver makes it follow them.
    follows: Wants,
    /// The address that the client connects from, or did last.
    from: Address,
}

/// A [`SocketAddr`] in fewer bytes: without the flow label, which does not identify a client.
#[derive(Debug, Clone, Copy)]
struct Address {
    ip: [u8; 16],
    scope: u32,
    port: u16,
    is_v4: bool,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let (ip, scope) = match address {
            SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(v6) => (*v6.ip(), v6.scope_id()),
        };
        Self { ip: ip.octets(), scope, port: address.port(), is_v4: address.is_ipv4() }
    }
}

impl From<Address> for SocketAddr {
    fn from(Address { ip, scope, port, is_v4 }: Address) -> Self {
        let ip = Ipv6Addr::from(ip);
        match ip.to_ipv4_mapped().filter(|_| is_v4) {
            Some(v4) => (v4, port).into(),
            None => SocketAddrV6::new(ip, port, 0, scope).into(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Details {
    /// Empty for `/`.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// The charge for long details.
    pub(crate) charge: Option<Charge>,
}

impl Details {
    /// The bytes that the details take.
    pub(crate) fn allocated(&self) -> usize {
        let of = |(name, value): &(String, String)| {
            size_of::<(String, String)>() + name.len() + value.capacity()
        };
        self.path.len() + self.headers.iter().map(of).sum::<usize>()
    }
}

/// The mailbox of one client. An empty mailbox costs nothing, and a mailbox has messages that the
/// client has not been handed exactly while the driver has been told of it.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is asked by itself, and a client is small")]
pub(crate) struct Mailbox {
    pub(crate) mail: Option<Box<Mail>>,
    /// Whether the mailbox takes nothing any more: the client has gone, or is being closed.
    pub(crate) closed: bool,
    /// Whether the client is closed for good and cannot come back. A client that is only too slow
    /// can.
    pub(crate) ended: bool,
    /// Whether the client is away: its mail then also counts in
    /// [`Shared::absent`](crate::hub::shared::state::Shared).
    pub(crate) away: bool,
    /// Whether the driver has been told that the feeds to follow have changed. (Here, since the
    /// struct has spare bytes.)
    pub(crate) refollow: bool,
    /// How long the client was away in all, in milliseconds. (Here for the same reason.)
    pub(crate) away_for: u32,
}

impl Mailbox {
    /// The bytes of the mail.
    pub(crate) fn bytes(&self) -> usize {
        self.mail.as_ref().map_or(0, |mail| mail.bytes())
    }

    /// Marks the client as away or back. The waiting bytes move into the share of absent clients,
    /// or out of it.
    pub(crate) fn set_away(&mut self, away: bool, absent: &Budget) {
        if std::mem::replace(&mut self.away, away) != away {
            let change = if away { Budget::add } else { Budget::sub };
            change(absent, self.bytes());
        }
    }

    /// Counts bytes that wait here from now on, whether they fit or not.
    pub(crate) fn count(&self, bytes: usize, [all, absent]: [&Budget; 2]) {
        all.add(bytes);
        if self.away {
            absent.add(bytes);
        }
    }

    /// Frees what this change of a key has replaced.
    pub(crate) fn freed(
        &self,
        replaced: Option<Change>,
        key: &str,
        budgets: [&Budget; 2],
    ) -> Option<Change> {
        self.free(replaced.as_ref().map_or(0, |change| change.cost(key)), budgets);
        replaced
    }

    /// Frees bytes that have waited here.
    pub(crate) fn free(&self, bytes: usize, [all, absent]: [&Budget; 2]) {
        all.sub(bytes);
        if self.away {
            absent.sub(bytes);
        }
    }
}

/// The feeds that a client has to follow. What else says who follows what is derived from this: the
/// cursors of the client's connection, which the driver adds and removes in its next round; each
/// feed's list of followers, which is called when the feed has news; and the count of a topic.
#[derive(Debug, Default)]
enum Wants {
    Nothing,
    /// One feed, which the client came for: most clients never have another.
    One(Arc<Topic>),
    #[expect(clippy::box_collection, reason = "a pointer in each client, of which most have none")]
    Several(Box<Vec<Wanted>>),
    /// The client has gone.
    #[default]
    Gone,
}

impl Wants {
    /// Returns the list of feeds, to be changed; `None` if the client has gone.
    fn list(&mut self) -> Option<&mut Vec<Wanted>> {
        if let Self::Nothing | Self::One(_) = self {
            *self = Self::Several(Box::new(self.all()));
        }
        match self {
            Self::Several(list) => Some(list),
            _ => None,
        }
    }

    fn all(&self) -> Vec<Wanted> {
        match self {
            Self::Nothing | Self::Gone => Vec::new(),
            Self::One(topic) => vec![Wanted::by_itself(Arc::clone(topic))],
            Self::Several(list) => list.to_vec(),
        }
    }
}

/// A feed that a client has to follow.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) topic: Arc<Topic>,
    /// The stamp from which on the client gets everything, whatever else is kept.
    pub(crate) stamp: Stamp,
    /// Whether the driver has not seen this yet. The client may have followed the feed before, and
    /// have stopped in between: it then begins anew.
    pub(crate) fresh: bool,
    /// Whether the program wants the client to follow, and not only the client itself.
    told: bool,
}

impl Wanted {
    fn by_itself(topic: Arc<Topic>) -> Self {
        Self { topic, stamp: Stamp::MAX, fresh: false, told: false }
    }
}

impl ClientState {
    /// Creates a client without a session on this connection.
    pub(crate) fn new(
        id: ClientId,
        connection: ConnId,
        address: SocketAddr,
        details: Details,
        topic: Option<Arc<Topic>>,
    ) -> Self {
        let plain = details.path.is_empty() && details.headers.is_empty();
        if let Some(topic) = &topic {
            topic.add_follower();
        }
        let follows = topic.map_or(Wants::Nothing, Wants::One);
        Self {
            id,
            connection: AtomicU64::new(connection.pack()),
            since: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis),
            details: (!plain).then(|| Box::new(details)),
            mailbox: Lock::default(),
            rare: Lock::new(Rare { follows, from: address.into() }),
            has_session: AtomicBool::new(false),
            writing: AtomicU32::new(0),
            skipped: AtomicU64::new(0),
        }
    }

    /// The slot of the client's connection in the driver's table. A client without one gets a
    /// slot that is always empty.
    pub(crate) fn slot(&self) -> usize {
        ConnId::unpack(self.connection.load(Ordering::Relaxed)).slot()
    }

    /// Whether this connection is the client's.
    pub(crate) fn is_on(&self, connection: ConnId) -> bool {
        self.connection.load(Ordering::Relaxed) == connection.pack()
    }

    /// Moves the client to another connection. Returns the connection before and its address, if
    /// there was one.
    pub(crate) fn move_to(
        &self,
        connection: ConnId,
        address: SocketAddr,
    ) -> Option<(ConnId, SocketAddr)> {
        let before = self.connection.swap(connection.pack(), Ordering::Relaxed);
        let from = std::mem::replace(&mut self.rare.lock().from, address.into());
        (before != AWAY).then(|| (ConnId::unpack(before), from.into()))
    }

    /// How long the client has been connected in all, in milliseconds, if it is connected.
    pub(crate) fn lived(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis);
        now.saturating_sub(self.since).saturating_sub(u64::from(self.mailbox.lock().away_for))
    }

    /// Takes the client off its connection. Returns that connection's address, if there was one.
    pub(crate) fn leave(&self) -> Option<SocketAddr> {
        let before = self.connection.swap(AWAY, Ordering::Relaxed);
        (before != AWAY).then(|| self.address())
    }

    /// Returns the address that the client connects from, or did last.
    pub(crate) fn address(&self) -> SocketAddr {
        self.rare.lock().from.into()
    }

    /// Whether the client survives its connection.
    pub(crate) fn has_session(&self) -> bool {
        self.has_session.load(Ordering::Relaxed)
    }

    /// Makes the client survive its connection from now on.
    pub(crate) fn begin_session(&self) {
        self.has_session.store(true, Ordering::Relaxed);
    }

    /// Adds a feed to those that the client has to follow, and takes over the feed's handle. The
    /// feed is followed at once, so the driver need not be told. Returns whether the feed is new.
    ///
    /// # Errors
    ///
    /// The client has gone, or follows `limit` feeds already.
    pub(crate) fn follow_at_once(
        &self,
        topic: &Arc<Topic>,
        limit: usize,
    ) -> Result<bool, FollowError> {
        let mut rare = self.rare.lock();
        if matches!(rare.follows, Wants::Nothing) && limit > 0 {
            rare.follows = Wants::One(Arc::clone(topic));
            topic.add_follower();
            return Ok(true);
        }
        let follows = rare.follows.list().ok_or(FollowError::NoSuchClient(self.id))?;
        if follows.iter().any(|known| Arc::ptr_eq(&known.topic, topic)) {
            return Ok(false);
        }
        if follows.len() >= limit {
            return Err(FollowError::TooMany { limit });
        }
        follows.push(Wanted::by_itself(Arc::clone(topic)));
        topic.add_follower();
        Ok(true)
    }

    /// Removes the feeds that the client asked for itself. The caller gets their handles, for
    /// [`Shared::drop_follower`].
    pub(crate) fn unfollow_own(&self) -> Vec<Arc<Topic>> {
        let follows = &mut self.rare.lock().follows;
        let (told, own): (Vec<Wanted>, Vec<Wanted>) =
            follows.all().into_iter().partition(|wanted| wanted.told);
        if !own.is_empty() {
            *follows =
                if told.is_empty() { Wants::Nothing } else { Wants::Several(Box::new(told)) };
        }
        own.into_iter().map(|wanted| wanted.topic).collect()
    }

    /// The number of feeds that the client has to follow.
    pub(crate) fn follows_count(&self) -> usize {
        match &self.rare.lock().follows {
            Wants::Nothing | Wants::Gone => 0,
            Wants::One(_) => 1,
            Wants::Several(list) => list.len(),
        }
    }

    /// Returns a feed that the client has to follow, by its name.
    pub(crate) fn topic_named(&self, name: &str) -> Option<Arc<Topic>> {
        let rare = self.rare.lock();
        let topic = match &rare.follows {
            Wants::One(topic) => Some(topic).filter(|topic| topic.name() == name),
            Wants::Several(list) => {
                list.iter().map(|wanted| &wanted.topic).find(|topic| topic.name() == name)
            }
            Wants::Nothing | Wants::Gone => None,
        };
        topic.cloned()
    }

    /// Adds a feed, with a handle of its own, to those that the client has to follow, and tells the
    /// driver. That happens under the lock, so a caller that finds the feed followed can rely on it
    /// that the driver has heard.
    ///
    /// # Errors
    ///
    /// The client has gone, or follows `limit` feeds already.
    pub(crate) fn follow(
        &self,
        topic: &Arc<Topic>,
        stamp: Stamp,
        limit: usize,
        tell: impl FnOnce(),
    ) -> Result<(), FollowError> {
        let mut rare = self.rare.lock();
        let follows = rare.follows.list().ok_or(FollowError::NoSuchClient(self.id))?;
        if let Some(known) = follows.iter_mut().find(|known| Arc::ptr_eq(&known.topic, topic)) {
            known.told = true;
            return Ok(());
        }
        if follows.len() >= limit {
            return Err(FollowError::TooMany { limit });
        }
        let topic = Topics::clone_handle(topic);
        topic.add_follower();
        follows.push(Wanted { topic, stamp, fresh: true, told: true });
        tell();
        Ok(())
    }

    /// Removes a feed from those that the client has to follow, and tells the driver, under the
    /// lock as above. The caller gets the handle, for [`Shared::drop_follower`]. Returns whether
    /// the feed was there.
    pub(crate) fn unfollow(&self, topic: &Arc<Topic>, tell: impl FnOnce()) -> bool {
        let mut rare = self.rare.lock();
        let Some(follows) = rare.follows.list() else { return false };
        let before = follows.len();
        follows.retain(|known| !Arc::ptr_eq(&known.topic, topic));
        if follows.len() == before {
            return false;
        }
        tell();
        true
    }

    /// Returns, to the driver, the feeds to follow, if they have changed.
    pub(crate) fn take_wishes(&self) -> Option<Vec<Wanted>> {
        let changed = std::mem::take(&mut self.mailbox.lock().refollow);
        changed.then(|| self.wishes()) // whose lock those who change them take first
    }

    /// Returns, to the driver, the feeds to follow, and marks none of them as fresh any more.
    pub(crate) fn wishes(&self) -> Vec<Wanted> {
        let follows = &mut self.rare.lock().follows;
        let wanted = follows.all();
        if let Wants::Several(list) = follows {
            list.iter_mut().for_each(|wanted| wanted.fresh = false);
        }
        wanted
    }

    /// Whether the client has to follow this feed.
    #[cfg(test)]
    pub(crate) fn wants(&self, topic: &Arc<Topic>) -> bool {
        self.rare.lock().follows.all().iter().any(|wanted| Arc::ptr_eq(&wanted.topic, topic))
    }

    /// Whether the client has gone for good.
    pub(crate) fn has_gone(&self) -> bool {
        matches!(self.rare.lock().follows, Wants::Gone)
    }

    /// Ends a client that has gone. The caller gets the handles, for [`Shared::drop_follower`].
    pub(crate) fn unfollow_all(&self) -> Vec<Wanted> {
        match std::mem::take(&mut self.rare.lock().follows) {
            Wants::Several(list) => *list,
            other => other.all(),
        }
    }

    pub(crate) fn info(&self) -> ClientInfo {
        let waiting = self.mailbox.lock().mail.as_ref().map_or(0, |mail| mail.waiting_bytes());
        ClientInfo {
            address: self.address(),
            connected: self.connection.load(Ordering::Relaxed) != AWAY,
            queued_bytes: waiting + self.writing.load(Ordering::Relaxed) as usize,
            ..self.fixed_info()
        }
    }

    /// Returns the part of the info that needs no lock. The address is left unspecified.
    pub(crate) fn fixed_info(&self) -> ClientInfo {
        let details = self.details.as_ref();
        ClientInfo {
            id: self.id,
            address: (Ipv6Addr::UNSPECIFIED, 0).into(),
            connected: false,
            path: match details {
                Some(details) if !details.path.is_empty() => details.path.clone(),
                _ => "/".to_owned(),
            },
            since: UNIX_EPOCH + Duration::from_millis(self.since),
            queued_bytes: 0,
            skipped: self.skipped.load(Ordering::Relaxed),
            headers: details.map_or_else(Vec::new, |details| details.headers.clone()),
        }
    }
}

/// Every connected client by its id. Its lock is the standard library's even under loom: in loom's
/// models no client comes or goes.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    clients: RwLock<Clients>,
    count: AtomicUsize,
}

type Clients = HashMap<ClientId, Arc<ClientState>, BuildHasherDefault<IdHasher>>;

impl Registry {
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Locks the table for reading: no client comes or goes while this is held. The lock is taken
    /// before a mailbox and the locks under it, never after them, and not twice: a writer may wait
    /// in between.
    pub(crate) fn read(&self) -> Guard<RwLockReadGuard<'_, Clients>> {
        Guard::new(self.clients.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self) -> Guard<RwLockWriteGuard<'_, Clients>> {
        Guard::new(self.clients.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn get(&self, id: ClientId) -> Option<Arc<ClientState>> {
        self.read().get(&id).cloned()
    }

    /// Returns all clients, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<ClientState>> {
        self.read().values().cloned().collect()
    }

    pub(crate) fn insert(&self, client: Arc<ClientState>) {
        let mut clients = self.write();
        clients.insert(client.id, client);
        self.count.store(clients.len(), Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, id: ClientId) {
        let _gone; // dropped after the lock
        let mut clients = self.write();
        _gone = clients.remove(&id);
        if clients.len() < clients.capacity() / 4 {
            clients.shrink_to_fit();
        }
        self.count.store(clients.len(), Ordering::Relaxed);
    }
}

/// Hashes an id to itself: ids are random already, and not chosen by a peer.
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
    fn an_address_is_the_same_in_fewer_bytes() {
        for text in ["1.2.3.4:5", "[::ffff:1.2.3.4]:5", "[2001:db8::1]:65535", "[fe80::1%3]:80"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(SocketAddr::from(Address::from(address)), address, "{text}");
        }
    }

    #[test]
    fn a_client_is_small() {
        // With the counts of its `Arc` a client is 136 bytes. One step more, and glibc's allocator
        // would leave 90 bytes unused between each client and what tokio has for its socket, which
        // is aligned to 128.
        assert!(size_of::<ClientState>() <= 120, "{}", size_of::<ClientState>());
    }
}
