//! What others may do to a hub, and how long it waits for them.

use std::time::Duration;

use crate::hub::error::SpawnError;

/// The least that `Limits::memory` can be: a socket's outbox and some messages.
const LEAST_MEMORY: usize = 64 * 1024;

/// The longest of `Timeouts`. Browsers have timers up to 24.8 days, and the hub counts moments modulo 49 days.
const LONGEST: Duration = Duration::from_secs(20 * 24 * 60 * 60);

/// What clients may do to a hub, and how much the hub keeps for them.
///
/// The maximum of a number, such as `usize::MAX`, means that there is no limit. A limit that lets nothing through,
/// such as 0 clients, is [`SpawnError::BadOption`] when the hub is spawned: of the limits only `mailbox`, `feed` and
/// `feeds` can be 0.
///
/// ```
/// use stepcast::{Hub, Limits};
///
/// let limits = Limits::default().clients(50).inbound_message(4 * 1024);
/// let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0")?;
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    pub(crate) clients: usize,
    pub(crate) clients_per_address: usize,
    pub(crate) handshakes: usize,
    pub(crate) inbound_message: usize,
    pub(crate) inbound_fragments: usize,
    pub(crate) request_head: usize,
    pub(crate) inbound_per_second: u32,
    pub(crate) outbound_message: usize,
    pub(crate) mailbox: usize,
    pub(crate) feed: usize,
    pub(crate) latest: usize,
    pub(crate) keys: usize,
    pub(crate) feeds: usize,
    pub(crate) feeds_per_client: usize,
    pub(crate) events: usize,
    pub(crate) memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 10_000,
            clients_per_address: 256,
            handshakes: 1024,
            inbound_message: 64 * 1024,
            inbound_fragments: 128,
            request_head: 16 * 1024,
            inbound_per_second: 1000,
            outbound_message: 64 * 1024 * 1024,
            mailbox: 4 * 1024 * 1024,
            feed: 8 * 1024 * 1024,
            latest: 16 * 1024 * 1024,
            keys: 1024,
            feeds: 10_000,
            feeds_per_client: 64,
            events: 1024,
            memory: 256 * 1024 * 1024,
        }
    }
}

/// Writes the chained setters of [`Limits`] and [`Timeouts`].
macro_rules! setters {
    ($of:ident; $($(#[$doc:meta])* $name:ident: $type:ty = $example:literal;)*) => {
        $($(#[$doc])*
        ///
        #[doc = concat!(
            "```\n# use std::time::Duration;\n# use stepcast::", stringify!($of), ";\n",
            "let changed = ", stringify!($of), "::default().", stringify!($name), "(", $example, ");\n",
            "assert_ne!(changed, ", stringify!($of), "::default());\n```",
        )]
        #[must_use] pub fn $name(mut self, $name: $type) -> Self {
            self.$name = $name;
            self
        })*
    };
}

impl Limits {
    setters! {
        Limits;
        /// Clients, those included that are away; one more is refused with 503. Default 10 000. A client that is away
        /// makes way for a new one: at the new one's address if there is any, else at the address that most are away from.
        ///
        /// Each connection takes a file descriptor, and many systems let a process open 1024 unless told otherwise
        /// (`ulimit -n`). The hub leaves a quarter of them to the program, at least 64 (but not more than half) and at
        /// most 4096. The connections of all hubs of the process share the rest, first come, first served. Where that is
        /// less than `clients` and [`handshakes`](Self::handshakes) together, both are lower: a warning says so when
        /// the hub is spawned, and [`Stats::most_clients`](crate::Stats::most_clients) is what `clients` is then. Of
        /// 1024 descriptors a hub has 576 clients and 192 handshakes. The hub reads the process's limit when it is
        /// spawned and every second while it has connections, so a program may raise it later. A program that needs
        /// more for itself sets `clients` lower.
        clients: usize = "50";
        /// Clients from one IPv4 address, or from one IPv6 network of 64 bits; one more is refused with 503, or on
        /// `stepcast.v1` with code 4000. Default 256, room for an office behind one address. Clients that are away
        /// count, and make way for new ones from their address: first the one that was connected for the shortest time.
        /// Loopback addresses are not counted, nor are those of a
        /// [`trusted_proxy`](crate::HubBuilder::trusted_proxy).
        clients_per_address: usize = "4";
        /// Connections that are not clients: whose request is not complete, or who are taking the
        /// answer to it. One more is accepted, and the address with most of them loses its oldest: so neither peers
        /// who send nothing nor one that connects without pause keep others out. An IPv6 network of 64 bits counts
        /// as one address here, and so does this machine. Default 1024.
        handshakes: usize = "64";
        /// Bytes in one message from a client; more closes the connection with 1009. Default
        /// 64 KiB, plenty for commands.
        inbound_message: usize = "1024";
        /// Frames that one message from a client may come in; more closes the connection with
        /// 1009. Default 128: browsers do not fragment what fits the message limit.
        inbound_fragments: usize = "1";
        /// Bytes of a request with its headers, 1 MiB at most; one that is longer is refused with 431.
        /// Default 16 KiB: browsers send about 600 bytes, and all cookies of the host. Programs on all
        /// ports of `localhost` share their cookies.
        request_head: usize = "64 * 1024";
        /// Messages, pings and pongs from one client in a second, on average; twice as many may
        /// come at once. More closes the connection with 1008. Default 1000: a mouse sends 125.
        /// A message counts once more for each 4 KiB, or for each sixteenth of
        /// [`inbound_message`](Self::inbound_message) where that is more. On `stepcast.v1` each line counts, and each feed that it names.
        /// Answers to the hub's own pings do not count.
        inbound_per_second: u32 = "20";
        /// Bytes in one pushed message; more is refused at the call. Default 64 MiB.
        outbound_message: usize = "1 << 20";
        /// Bytes waiting for one client alone. Each message is counted with 320 more, which is what it takes
        /// in memory beside its payload. Beyond it
        /// [`Overflow`](crate::Overflow) decides. One larger message is kept alone. Default 4 MiB,
        /// ten thousand small messages.
        /// As many bytes again are for values that were [set](crate::Hub::set) for the client, each counted
        /// with twice its key and 448 more; a value beyond that is refused at the call, unless it is alone.
        mailbox: usize = "64 * 1024";
        /// Bytes of one feed's log, everyone's included, kept for clients that are behind and for
        /// those who come late, each message counted with 320 more. A client that falls further
        /// behind skips to the middle of what is kept. One larger message is kept alone. Where many
        /// feeds are pushed to faster than the hub takes over, what waits in them shares a quarter
        /// of [`memory`](Self::memory). Default 8 MiB.
        feed: usize = "32 << 20";
        /// Bytes of one feed's latest values, each counted with twice its key and 448 more. A value
        /// beyond that is refused at the call. Default 16 MiB.
        latest: usize = "1 << 20";
        /// Keys of one feed's latest values, and of those that wait for one client; one more is refused at
        /// the call. [`Feed::remove`](crate::Feed::remove) frees a key. Default 1024.
        keys: usize = "16";
        /// Feeds that have a name. For one more a feed makes way that nobody has a handle of, and where there is none,
        /// [`Hub::feed`](crate::Hub::feed) gives one that takes nothing. Clients that name feeds by their URL can make half as
        /// many. Default 10 000.
        feeds: usize = "100";
        /// Feeds that one client follows; one more is refused. On `stepcast.v1` a line that names more feeds is
        /// refused whole. Default 64.
        feeds_per_client: usize = "4";
        /// Events waiting in one [`Events`](crate::Events); more are counted as
        /// [`Event::Missed`](crate::Event::Missed). Default 1024.
        events: usize = "16";
        /// Bytes held for all clients together: queues, feeds, frames being written, and what clients have
        /// sent. Beyond it [`Hub::send`](crate::Hub::send) refuses, and with
        /// [`Overflow::SkipOldest`](crate::Overflow::SkipOldest) the fullest mailboxes lose their older half,
        /// and then the longest feeds; then the connection that has taken nothing for longest is given up.
        /// Default 256 MiB.
        ///
        /// `mailbox`, `feed` and `latest` count for a quarter of it at most. Mail for clients that
        /// are away has a quarter, all of it together. Where that is full, a push to such a client
        /// is refused. With [`Overflow::SkipOldest`](crate::Overflow::SkipOldest) those with most
        /// mail then lose the older half of it; with the others, those with most have
        /// [gone](crate::Event::Gone) if too many leave with mail. What clients have sent has a
        /// quarter, of which half is for events not taken and for long paths and headers. Where
        /// messages that are arriving fill the rest, those that began first are closed with 1013.
        /// Frames that were copied for connections whose sockets are full have a quarter; beyond
        /// it, and over the limit, the connections that have taken nothing for longest are given up
        /// first.
        ///
        /// For each byte that is counted the hub has at most 1.5 bytes allocated, whatever clients do. What is
        /// bounded by numbers of things is not counted, such as 0.75 KiB for each idle client: the table of
        /// bounds in `docs/architecture.md` has all of it. An allocator may keep more than is
        /// allocated: see "Memory that the allocator keeps" there.
        memory: usize = "64 << 20";
    }
}

/// An option that cannot have this value.
fn bad(option: &'static str, value: String, instead: &'static str) -> Result<(), SpawnError> {
    Err(SpawnError::BadOption { option, value, instead })
}

/// Refuses the limits of this list that are 0.
macro_rules! refuse_zero {
    ($limits:ident: $($name:ident)*) => {
        $(if $limits.$name == 0 {
            bad(concat!("Limits::", stringify!($name)), "0".to_owned(), "1 or more")?;
        })*
    };
}

impl Limits {
    /// These limits as the hub counts in them.
    ///
    /// # Errors
    ///
    /// With one of them the hub could serve nobody.
    pub(crate) fn checked(mut self) -> Result<Self, SpawnError> {
        refuse_zero!(self: clients clients_per_address handshakes inbound_message inbound_fragments
            request_head
            inbound_per_second outbound_message latest keys feeds_per_client events);
        if self.memory < LEAST_MEMORY {
            bad("Limits::memory", self.memory.to_string(), "65536 or more, in bytes")?;
        }
        // Clients on `stepcast.v1` are told these two, and every number there is below 2^53.
        let most = usize::try_from((1_u64 << 53) - 1).unwrap_or(usize::MAX);
        self.inbound_message = self.inbound_message.min(most);
        self.feeds_per_client = self.feeds_per_client.min(most);
        Ok(self)
    }
}

/// How long a hub waits for its peers.
///
/// Each is 20 days at most, and a longer one, such as [`Duration::MAX`], counts as 20 days. All but `grace` and
/// `shutdown` are 1 ms at least: a shorter one is [`SpawnError::BadOption`] when the hub is spawned.
///
/// The hub looks at them a few times within the shortest of these, and at most every second, so
/// each may last that much longer.
///
/// ```
/// use std::time::Duration;
/// use stepcast::{Hub, Timeouts};
///
/// let timeouts = Timeouts::default().keepalive(Duration::from_secs(10));
/// let hub = Hub::builder().timeouts(timeouts).spawn_blocking("127.0.0.1:0")?;
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    pub(crate) handshake: Duration,
    pub(crate) keepalive: Duration,
    pub(crate) pong: Duration,
    pub(crate) stall: Duration,
    pub(crate) frame: Duration,
    pub(crate) close: Duration,
    pub(crate) grace: Duration,
    pub(crate) shutdown: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            keepalive: Duration::from_secs(25),
            pong: Duration::from_secs(10),
            stall: Duration::from_secs(10),
            frame: Duration::from_secs(60),
            close: Duration::from_secs(5),
            grace: Duration::from_secs(120),
            shutdown: Duration::from_secs(5),
        }
    }
}

impl Timeouts {
    setters! {
        Timeouts;
        /// From accepting a connection to its complete request. Default 10 s.
        handshake: Duration = "Duration::from_secs(3)";
        /// Silence of the client, or of the hub towards it, after which a client is sent a ping. Default 25 s: proxies commonly cut after
        /// 60 s of silence. A client is pinged up to a fifth earlier, so that those who came
        /// together are not pinged together.
        keepalive: Duration = "Duration::from_secs(15)";
        /// From the ping's leaving to any byte from the client; then it is cut. Default 10 s.
        pong: Duration = "Duration::from_secs(5)";
        /// How long a client that is owed data may take none of it; then it is cut without
        /// waiting for what it is owed. Default 10 s.
        stall: Duration = "Duration::from_secs(30)";
        /// How long one message may take to be written to one client, from its first byte to its last, and
        /// how long one from a client may take to arrive: one that takes longer closes the connection with
        /// 1008. Default 60 s.
        frame: Duration = "Duration::from_secs(300)";
        /// How long the closing handshake may take; before it, how long a client that is closed by
        /// the program may take for what it is owed; and how long a peer that is sent an answer
        /// or the page may take none of it. Default 5 s.
        close: Duration = "Duration::from_secs(1)";
        /// How long a client on `stepcast.v1` whose connection is lost may take to come back; then it has gone. Its
        /// mailbox collects what it is sent meanwhile, within its share of [`Limits::memory`].
        /// Default 2 min.
        grace: Duration = "Duration::from_secs(600)";
        /// How long a hub goes on delivering that ends by [`Hub::shutdown`](crate::Hub::shutdown),
        /// or because its last handle was dropped. Default 5 s; at most 1 s where the dropping
        /// thread waits for it.
        shutdown: Duration = "Duration::from_secs(30)";
    }

    /// These times as the hub counts in them.
    ///
    /// # Errors
    ///
    /// With one of them the hub would cut everybody at once.
    pub(crate) fn checked(mut self) -> Result<Self, SpawnError> {
        let least = Duration::from_millis(1);
        let names = [
            ("Timeouts::handshake", &mut self.handshake, least),
            ("Timeouts::keepalive", &mut self.keepalive, least),
            ("Timeouts::pong", &mut self.pong, least),
            ("Timeouts::stall", &mut self.stall, least),
            ("Timeouts::frame", &mut self.frame, least),
            ("Timeouts::close", &mut self.close, least),
            ("Timeouts::grace", &mut self.grace, Duration::ZERO),
            ("Timeouts::shutdown", &mut self.shutdown, Duration::ZERO),
        ];
        for (option, time, least) in names {
            if *time < least {
                bad(option, format!("{time:?}"), "1 ms or more; the default is a good start")?;
            }
            *time = (*time).min(LONGEST);
        }
        Ok(self)
    }

    /// How often to look: several times within the shortest timeout.
    pub(crate) fn tick(&self) -> Duration {
        [self.handshake, self.keepalive, self.pong, self.stall, self.frame, self.close]
            .into_iter()
            .min()
            .map_or(Duration::from_secs(1), |shortest| shortest / 5)
            .clamp(Duration::from_millis(5), Duration::from_secs(1))
    }
}

/// What a feed keeps for those who come late.
///
/// Who is connected and behind can have more than that: what [`Limits::feed`](crate::Limits::feed)
/// has room for.
///
/// ```
/// use std::time::Duration;
/// use stepcast::{Hub, Retention};
///
/// let retention = Retention::default().messages(1000).age(Duration::from_secs(3600));
/// let hub = Hub::builder().retention(retention).spawn_blocking("127.0.0.1:0")?;
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    pub(crate) messages: usize,
    pub(crate) age: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { messages: 300, age: Duration::from_secs(5 * 60) }
    }
}

impl Retention {
    setters! {
        Retention;
        /// The newest messages of the log: so many at most. Default 300.
        messages: usize = "10";
        /// No older ones than this. A feed that nobody follows and nobody has a handle of goes away
        /// when its newest message is older. Default 5 min.
        age: Duration = "Duration::from_secs(60)";
    }
}

/// What happens when a client's mailbox is full, or when it falls too far behind the broadcasts.
///
/// ```
/// use stepcast::{Hub, Overflow};
///
/// let hub = Hub::builder().overflow(Overflow::Refuse).spawn_blocking("127.0.0.1:0")?;
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// The client loses the older half of what waits for it, which is counted in
    /// [`ClientInfo::skipped`](crate::ClientInfo::skipped) and in the hub's stats. The default: a
    /// viewer wants the newest.
    #[default]
    SkipOldest,
    /// [`Hub::send`](crate::Hub::send) returns [`SendError::Full`](crate::SendError::Full) and
    /// nothing is lost. Broadcasts, which nobody could refuse, skip.
    Refuse,
    /// The client is disconnected, with close code 1013. (What the hub itself cannot take over in
    /// time is skipped for all.)
    Disconnect,
}
