//! One connected client as the callers' threads see it, and the table of them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::hub::client::mail::Mail;
use crate::hub::error::FollowError;
use crate::hub::feed::topic::{Change, Topic, Topics};
use crate::hub::id::ClientId;
use crate::hub::primitives::budget::{Budget, Charge};
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::primitives::lock::{Guard, Lock};
use crate::hub::primitives::moment::{low_half, millis};

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

/// A connected client. Small, since there are many: what most clients do not have is boxed.
#[derive(Debug)]
pub(crate) struct ClientState {
    pub(crate) id: ClientId,
    /// Its connection, a packed [`ConnId`], or [`AWAY`].
    connection: AtomicU64,
    /// In milliseconds of Unix time.
    since: u64,
    details: Option<Box<Details>>,
    pub(crate) mailbox: Lock<Mailbox>,
    rare: Lock<Rare>,
    /// The place of its mailbox among the driver's logs, or one of the following.
    mail: AtomicU32,
    /// Bytes that the driver has taken up for it and not yet written.
    pub(crate) writing: AtomicU32,
    pub(crate) skipped: AtomicU64,
}

/// It has no connection.
const AWAY: u64 = u64::MAX;

/// In the place of its mailbox's place: it has no session, but is its connection; it has, and was never sent anything.
const NO_SESSION: u32 = u32::MAX;
const NO_MAIL: u32 = u32::MAX - 1;

/// What is looked at rarely, under one lock.
#[derive(Debug)]
struct Rare {
    /// What it is to follow; the driver sees to it that it does.
    follows: Wants,
    /// Where it connects from, or did last.
    from: Address,
}

/// A [`SocketAddr`] in fewer bytes: without the flow label, which says nothing about who it is.
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
    /// What is counted of them, where they are long.
    pub(crate) charge: Option<Charge>,
}

impl Details {
    /// Bytes that they take.
    pub(crate) fn allocated(&self) -> usize {
        let of = |(name, value): &(String, String)| {
            size_of::<(String, String)>() + name.len() + value.capacity()
        };
        self.path.len() + self.headers.iter().map(of).sum::<usize>()
    }
}

/// What waits for one client alone. It costs nothing while it is empty, and it has messages exactly
/// while the driver has been told that it has.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is asked by itself, and a client is small")]
pub(crate) struct Mailbox {
    pub(crate) mail: Option<Box<Mail>>,
    /// Nothing is taken any more: the client has gone, or is being closed.
    pub(crate) closed: bool,
    /// Closed for good, so that the client cannot come back. A client that is only too slow can.
    pub(crate) ended: bool,
    /// The client is away: what waits here counts in [`Shared::absent`](crate::hub::shared::state::Shared),
    /// too.
    pub(crate) away: bool,
    /// Whether the driver has been told that what the client is to follow has changed. (It is here because there
    /// is room.)
    pub(crate) refollow: bool,
    /// For how long it was away in all, in milliseconds. (Here for the same reason.)
    pub(crate) away_for: u32,
}

impl Mailbox {
    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.mail.as_ref().map_or(0, |mail| mail.bytes())
    }

    /// The client goes away, or comes back: what waits moves into the share of absent clients, or
    /// out of it.
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

/// What a client is to follow.
#[derive(Debug, Default)]
enum Wants {
    Nothing,
    /// One feed, which it came for, as most do for as long as they are there.
    One(Arc<Topic>),
    #[expect(clippy::box_collection, reason = "a pointer in each client, of which most have none")]
    Several(Box<Vec<Wanted>>),
    /// It has gone.
    #[default]
    Gone,
}

impl Wants {
    /// The list of them, to be changed; `None` when it has gone.
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

impl ClientState {
    /// A client on this connection, a place in the driver's table and a serial number, without a session.
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
            mail: AtomicU32::new(NO_SESSION),
            writing: AtomicU32::new(0),
            skipped: AtomicU64::new(0),
        }
    }

    /// The place of its connection in the driver's table, where nothing is if it has none.
    pub(crate) fn key(&self) -> usize {
        ConnId::unpack(self.connection.load(Ordering::Relaxed)).place()
    }

    /// Whether this connection is its own.
    pub(crate) fn is_on(&self, connection: ConnId) -> bool {
        self.connection.load(Ordering::Relaxed) == connection.pack()
    }

    /// It has another connection: the one before, if it had one, and from where that was.
    pub(crate) fn move_to(
        &self,
        connection: ConnId,
        address: SocketAddr,
    ) -> Option<(ConnId, SocketAddr)> {
        let before = self.connection.swap(connection.pack(), Ordering::Relaxed);
        let from = std::mem::replace(&mut self.rare.lock().from, address.into());
        (before != AWAY).then(|| (ConnId::unpack(before), from.into()))
    }

    /// For how long it has been connected in all, in milliseconds, if it is connected.
    pub(crate) fn lived(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis);
        now.saturating_sub(self.since).saturating_sub(u64::from(self.mailbox.lock().away_for))
    }

    /// It has no connection any more: where that was from, if it had one.
    pub(crate) fn leave(&self) -> Option<SocketAddr> {
        let before = self.connection.swap(AWAY, Ordering::Relaxed);
        (before != AWAY).then(|| self.address())
    }

    /// Where it connects from, or did last.
    pub(crate) fn address(&self) -> SocketAddr {
        self.rare.lock().from.into()
    }

    /// Whether it survives its connection.
    pub(crate) fn has_session(&self) -> bool {
        self.mail.load(Ordering::Relaxed) != NO_SESSION
    }

    /// It survives its connection from now on.
    pub(crate) fn begin_session(&self) {
        self.mail.store(NO_MAIL, Ordering::Relaxed);
    }

    /// The place of its mailbox among the driver's logs.
    pub(crate) fn mail(&self) -> Option<usize> {
        let place = self.mail.load(Ordering::Relaxed);
        (place < NO_MAIL).then_some(place as usize)
    }

    pub(crate) fn set_mail(&self, place: usize) {
        self.mail.store(low_half(place as u64), Ordering::Relaxed);
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

    /// Takes out what it asked for itself. The handles are the caller's, for
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

    /// How many feeds it is to follow.
    pub(crate) fn follows_count(&self) -> usize {
        match &self.rare.lock().follows {
            Wants::Nothing | Wants::Gone => 0,
            Wants::One(_) => 1,
            Wants::Several(list) => list.len(),
        }
    }

    /// A feed that it is to follow, by its name.
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

    /// Takes a feed, whose handle is the caller's then, for [`Shared::drop_follower`], from what it
    /// is to follow, and tells the driver, under the lock as above; whether it was there.
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

    /// The driver: what it is to follow, if that has changed.
    pub(crate) fn take_wishes(&self) -> Option<Vec<Wanted>> {
        let changed = std::mem::take(&mut self.mailbox.lock().refollow);
        changed.then(|| self.wishes()) // whose lock those who change them take first
    }

    /// The driver: what it is to follow, of which nothing is fresh any more.
    pub(crate) fn wishes(&self) -> Vec<Wanted> {
        let follows = &mut self.rare.lock().follows;
        let wanted = follows.all();
        if let Wants::Several(list) = follows {
            list.iter_mut().for_each(|wanted| wanted.fresh = false);
        }
        wanted
    }

    /// Whether it has gone for good.
    pub(crate) fn has_gone(&self) -> bool {
        matches!(self.rare.lock().follows, Wants::Gone)
    }

    /// It has gone: the handles are the caller's, for [`Shared::drop_follower`].
    pub(crate) fn unfollow_all(&self) -> Vec<Wanted> {
        match std::mem::take(&mut self.rare.lock().follows) {
            Wants::Several(list) => *list,
            other => other.all(),
        }
    }

    pub(crate) fn info(&self) -> ClientInfo {
        let waiting = self.mailbox.lock().bytes();
        ClientInfo {
            address: self.address(),
            connected: self.connection.load(Ordering::Relaxed) != AWAY,
            queued_bytes: waiting + self.writing.load(Ordering::Relaxed) as usize,
            ..self.fixed_info()
        }
    }

    /// The part that needs no lock. The address is left unspecified.
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

/// Every connected client by its id. Its lock is the standard library's under loom, too, in whose models nobody comes or
/// goes.
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

    /// The clients as they are, for a moment: nobody comes or goes while this is held. It is taken before a mailbox
    /// and whatever is taken under that, never behind them, and not twice: who comes next may be one who writes.
    pub(crate) fn read(&self) -> Guard<RwLockReadGuard<'_, Clients>> {
        Guard::new(self.clients.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self) -> Guard<RwLockWriteGuard<'_, Clients>> {
        Guard::new(self.clients.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn get(&self, id: ClientId) -> Option<Arc<ClientState>> {
        self.read().get(&id).cloned()
    }

    /// All clients, in no order.
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
    fn an_address_is_the_same_in_fewer_bytes() {
        for text in ["1.2.3.4:5", "[::ffff:1.2.3.4]:5", "[2001:db8::1]:65535", "[fe80::1%3]:80"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(SocketAddr::from(Address::from(address)), address, "{text}");
        }
    }

    #[test]
    fn a_client_is_small() {
        // With the counts of its `Arc` it is 136 bytes: one step more, and between it and what tokio has for its socket,
        // which is aligned to 128, glibc's allocator leaves 90 bytes more of each client unused.
        assert!(size_of::<ClientState>() <= 120, "{}", size_of::<ClientState>());
    }
}
