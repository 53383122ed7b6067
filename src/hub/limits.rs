//! Limits on clients, timeouts, retention, and what happens on overflow.

use std::time::Duration;

use crate::hub::error::SpawnError;

/// The least that `Limits::memory` can be: a socket's outbox and some messages.
const LEAST_MEMORY: usize = 64 * 1024;

/// The longest of `Timeouts`. Browsers have timers up to 24.8 days, and the hub counts moments
/// modulo 49 days.
const LONGEST: Duration = Duration::from_secs(20 * 24 * 60 * 60);

/// Bounds on clients and on the memory that the hub keeps for them.
///
/// The maximum of a number, such as `usize::MAX`, means no limit. Only `mailbox`, `feed` and
/// `feeds` can be 0. Any other limit that lets nothing through, such as 0 clients, is
/// [`SpawnError::BadOption`] when the hub is spawned.
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
        /// Sets the most clients, including clients that are away. One more client is refused with
        /// 503. Default 10 000. A client that is away makes way for a new client. The hub first
        /// chooses one that is away from the new client's address, else one from the address with
        /// the most clients away.
        ///
        /// Each connection takes a file descriptor, and many systems let a process open 1024 by
        /// default (`ulimit -n`). The hub leaves a quarter of them to the program: at least 64 (but
        /// not more than half) and at most 4096. The connections of all hubs of the process share
        /// the rest, first come, first served.
        ///
        /// If the rest is less than `clients` and [`handshakes`](Self::handshakes) together, the
        /// hub lowers both and logs a warning when it is spawned.
        /// [`Stats::most_clients`](crate::Stats::most_clients) returns the lowered number. With
        /// 1024 descriptors a hub has 576 clients and 192 handshakes. The hub reads the process's
        /// limit when it is spawned, and every second while it has connections, so a program may
        /// raise it later. A program that needs more descriptors for itself sets `clients` lower.
        clients: usize = "50";
        /// Sets the most clients from one IPv4 address, or from one IPv6 network of 64 bits. One
        /// more client is refused with 503, or on `stepcast.v1` with code 4000. Default 256, room
        /// for an office behind one address.
        ///
        /// Clients that are away count, and make way for new clients from their address. The client
        /// with the shortest connected time goes first. Loopback addresses are not counted, nor are
        /// the addresses of a [`trusted_proxy`](crate::HubBuilder::trusted_proxy).
        clients_per_address: usize = "4";
        /// Sets the most connections that are not clients: their request is incomplete, or the
        /// answer to it is still being written. Default 1024.
        ///
        /// One more connection is accepted, and the address with most such connections loses its
        /// oldest. So silent peers cannot keep others out, nor can a peer that connects without
        /// pause. An IPv6 network of 64 bits counts as one address here, and so does this machine.
        handshakes: usize = "64";
        /// Sets the most bytes in one message from a client. A larger message closes the connection
        /// with 1009. Default 64 KiB, plenty for commands.
        inbound_message: usize = "1024";
        /// Sets the most frames in one message from a client. One more frame closes the connection
        /// with 1009. Default 128: browsers do not fragment messages within the size limit.
        inbound_fragments: usize = "1";
        /// Sets the most bytes of a request with its headers, up to 1 MiB. A longer request is
        /// refused with 431. Default 16 KiB: browsers send about 600 bytes, and all cookies of the
        /// host. Programs on all ports of `localhost` share their cookies.
        request_head: usize = "64 * 1024";
        /// Sets the most messages, pings and pongs per second from one client, on average. Twice as
        /// many may come at once. A higher rate closes the connection with 1008. Default 1000: a
        /// mouse sends 125.
        ///
        /// A message counts once more for each 4 KiB, or for each sixteenth of
        /// [`inbound_message`](Self::inbound_message) if that is more. On `stepcast.v1` each line
        /// counts, and each feed that the line names. Answers to the hub's own pings do not count.
        inbound_per_second: u32 = "20";
        /// Sets the most bytes in one pushed message. A larger message is refused at the call.
        /// Default 64 MiB.
        outbound_message: usize = "1 << 20";
        /// Sets the most bytes that wait for one client alone. Beyond this limit
        /// [`Overflow`](crate::Overflow) decides. Default 4 MiB, ten thousand small messages.
        ///
        /// Each message counts its payload and 256 bytes, which the hub needs beside the payload.
        /// One larger message is kept if it waits alone.
        ///
        /// Values that were [set](crate::Hub::set) for the client have as many bytes again. Each
        /// value counts with twice its key and 384 bytes. A value beyond the limit is refused at
        /// the call, unless it waits alone.
        mailbox: usize = "64 * 1024";
        /// Sets the most bytes of one feed's log, for slow clients and late joiners. Everyone's
        /// feed has the same limit. Default 8 MiB.
        ///
        /// Each message counts its payload and 256 bytes. A client that falls further behind skips
        /// to the middle of the log. One larger message is kept alone. Pushes that the hub has not
        /// yet taken over share a quarter of [`memory`](Self::memory) across all feeds.
        feed: usize = "32 << 20";
        /// Sets the most bytes of one feed's latest values. Each value counts with twice its key
        /// and 384 bytes. A value beyond the limit is refused at the call. Default 16 MiB.
        latest: usize = "1 << 20";
        /// Sets the most keys of one feed's latest values, and of the values that wait for one
        /// client. One more key is refused at the call. [`Feed::remove`](crate::Feed::remove) frees
        /// a key. Default 1024.
        keys: usize = "16";
        /// Sets the most feeds with a name. Default 10 000. For one more, a feed without handles
        /// makes way. If every feed has a handle, [`Hub::feed`](crate::Hub::feed) returns a feed
        /// that takes nothing. Clients that name feeds by their URL can make half as many.
        feeds: usize = "100";
        /// Sets the most feeds that one client follows. One more is refused. On `stepcast.v1` a
        /// line that names more feeds is refused whole. Default 64.
        feeds_per_client: usize = "4";
        /// Sets the most events that wait in one [`Events`](crate::Events). Further events are
        /// counted as [`Event::Missed`](crate::Event::Missed). Default 1024.
        events: usize = "16";
        /// Sets the most bytes held for all clients together: queues, feeds, frames being written,
        /// and messages from clients. Default 256 MiB.
        ///
        /// Beyond the limit [`Hub::send`](crate::Hub::send) refuses. With
        /// [`Overflow::SkipOldest`](crate::Overflow::SkipOldest) the fullest mailboxes lose their
        /// older half, and then the longest feeds do. After that the hub gives up the connection
        /// that has taken nothing for longest.
        ///
        /// Parts of the limit are bounded by themselves, each by a quarter:
        ///
        /// - `mailbox`, `feed` and `latest` count for a quarter at most.
        /// - The mail of all clients that are away has a quarter. When it is full, a push to such a
        ///   client is refused. With [`Overflow::SkipOldest`](crate::Overflow::SkipOldest) the
        ///   clients with most mail then lose its older half. With the other policies, if too many
        ///   leave with mail, the clients with most mail are [gone](crate::Event::Gone).
        /// - Messages from clients have a quarter, of which half is for events not taken and for
        ///   long paths and headers. If arriving messages fill the rest, the connections whose
        ///   messages began first are closed with 1013.
        /// - Frames copied for connections with full sockets have a quarter. Beyond it, and over
        ///   the whole limit, the connections that have taken nothing for longest are given up
        ///   first.
        ///
        /// The hub allocates at most 1.5 bytes for each counted byte, whatever clients do. Memory
        /// that is bounded by numbers of things is not counted, such as 0.75 KiB for each idle
        /// client. The table of bounds in `docs/architecture.md` lists all of it. An allocator may
        /// keep more memory than is allocated: see "Memory that the allocator keeps" there.
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
    /// Returns these limits in the units that the hub counts in.
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

/// The timeouts of a hub: the times that it waits for its peers.
///
/// Each timeout is 20 days at most: a longer one, such as [`Duration::MAX`], counts as 20 days. All
/// but `grace` and `shutdown` are 1 ms at least: a shorter one is [`SpawnError::BadOption`] when
/// the hub is spawned.
///
/// The hub checks timeouts a few times within the shortest of them, and at least once a second. A
/// timeout may fire that much late.
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
        /// Sets the time from accepting a connection to its complete request. Default 10 s.
        handshake: Duration = "Duration::from_secs(3)";
        /// Sets the silence of the client, or of the hub towards it, after which the hub sends a
        /// ping. Default 25 s: proxies commonly cut a connection after 60 s of silence. The hub
        /// pings each client up to a fifth earlier, so that clients that connected together are not
        /// pinged together.
        keepalive: Duration = "Duration::from_secs(15)";
        /// Sets the time from sending a ping to receiving any byte from the client. After it the
        /// hub cuts the connection. Default 10 s.
        pong: Duration = "Duration::from_secs(5)";
        /// Sets the time that a client may read nothing while data waits for it. After it the hub
        /// cuts the connection and drops the data. Default 10 s.
        stall: Duration = "Duration::from_secs(30)";
        /// Sets the time for one message to be written to one client, from its first byte to its
        /// last. One message from a client has the same time to arrive. A message that takes longer
        /// closes the connection with 1008. Default 60 s.
        frame: Duration = "Duration::from_secs(300)";
        /// Sets the time for the closing handshake. Before it, a client that the program closes has
        /// the same time to read its pending messages. A peer that is sent an answer or the page
        /// may read nothing for as long. Default 5 s.
        close: Duration = "Duration::from_secs(1)";
        /// Sets the time that a client on `stepcast.v1` has to reconnect after it lost its
        /// connection. After it the client is gone. Meanwhile its mailbox collects messages, within
        /// its share of [`Limits::memory`]. Default 2 min.
        grace: Duration = "Duration::from_secs(600)";
        /// Sets the time that a hub goes on delivering after
        /// [`Hub::shutdown`](crate::Hub::shutdown), or after its last handle was dropped. Default 5
        /// s; at most 1 s if the dropping thread waits for the end.
        shutdown: Duration = "Duration::from_secs(30)";
    }

    /// Returns these times in the units that the hub counts in.
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

/// The retention of a feed: the part of its log that the hub keeps for late joiners.
///
/// A slow client that is connected can have more than that, up to
/// [`Limits::feed`](crate::Limits::feed).
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
        /// Sets the most messages of the log that are kept. The newest are kept. Default 300.
        messages: usize = "10";
        /// Sets the greatest age of a kept message. A feed that has no follower and no handle goes
        /// away when its newest message is older. Default 5 min.
        age: Duration = "Duration::from_secs(60)";
    }
}

/// The policy for a client whose mailbox is full, or that falls too far behind a feed.
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
    /// The client skips the older half of its pending messages. This is the default: a viewer wants
    /// the newest. [`ClientInfo::skipped`](crate::ClientInfo::skipped) and
    /// [`Stats::skipped`](crate::Stats::skipped) count the skipped messages.
    #[default]
    SkipOldest,
    /// [`Hub::send`](crate::Hub::send) returns [`SendError::Full`](crate::SendError::Full), and
    /// nothing sent to one client is lost. Broadcasts are not refused: a slow client skips them.
    Refuse,
    /// The client is disconnected, with close code 1013. Messages that the hub itself cannot take
    /// over in time are skipped for all clients.
    Disconnect,
}
