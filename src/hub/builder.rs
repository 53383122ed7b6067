//! The hub's options, and the start of a hub.

use std::borrow::Cow;
#[cfg(feature = "terminal")]
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as StdToSocketAddrs};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io, panic};

use tokio::net::ToSocketAddrs;
use tokio::runtime::{self, Handle};

use crate::handshake::{Request, Rules};
use crate::hub::driver::bind::bind;
use crate::hub::driver::listener::Listener;
use crate::hub::driver::state::Driver;
use crate::hub::engine::admission::{Admission, FollowRule};
use crate::hub::engine::parts::Engine;
use crate::hub::error::SpawnError;
use crate::hub::handle::Hub;
use crate::hub::id::IdSource;
use crate::hub::limits::{Limits, Overflow, Retention, Timeouts};
use crate::hub::shared::descriptors::Capacity;
use crate::hub::shared::state::{EndOnDrop, Shared};
use crate::page::Page;
#[cfg(feature = "terminal")]
use crate::progress::terminal::draw::Terminal;

/// The options of a [`Hub`], made by [`Hub::builder`].
///
/// ```
/// use stepcast::Hub;
///
/// let hub = Hub::builder()
///     .allow_origin("https://dashboard.example")
///     .keep_header("user-agent")
///     .spawn_blocking("127.0.0.1:0")?;
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until it spawns"]
#[expect(clippy::struct_excessive_bools, reason = "each is an option by itself")]
pub struct HubBuilder {
    limits: Limits,
    timeouts: Timeouts,
    overflow: Overflow,
    retention: Retention,
    authorize_follow: Option<FollowRule>,
    rules: Rules,
    page: Page,
    frame_ancestors: Box<str>,
    keep_headers: Vec<String>,
    proxies: Vec<IpAddr>,
    greet: bool,
    echo: bool,
    freshness: Duration,
    allow_remote: bool,
    events_from_start: bool,
    #[cfg(feature = "terminal")]
    terminal: bool,
    runtime: Option<Handle>,
    watch: Watch,
}

impl fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubBuilder")
            .field("limits", &self.limits)
            .field("timeouts", &self.timeouts)
            .field("overflow", &self.overflow)
            .field("retention", &self.retention)
            .field("rules", &self.rules)
            .field("allow_remote", &self.allow_remote)
            .finish_non_exhaustive()
    }
}

impl HubBuilder {
    pub(crate) fn new() -> Self {
        Self {
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            overflow: Overflow::default(),
            retention: Retention::default(),
            authorize_follow: None,
            rules: Rules::default(),
            page: Page::default(),
            frame_ancestors: "'self'".into(),
            keep_headers: Vec::new(),
            proxies: Vec::new(),
            greet: true,
            echo: false,
            freshness: Duration::from_millis(250),
            allow_remote: false,
            events_from_start: false,
            #[cfg(feature = "terminal")]
            terminal: false,
            runtime: None,
            watch: Watch::NONE,
        }
    }

    /// Sets the limits on clients and memory.
    ///
    /// ```
    /// # use stepcast::{Hub, Limits};
    /// let builder = Hub::builder().limits(Limits::default().clients(10));
    /// ```
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how long the hub waits for its peers.
    ///
    /// ```
    /// # use stepcast::{Hub, Timeouts};
    /// # use std::time::Duration;
    /// let builder = Hub::builder().timeouts(Timeouts::default().stall(Duration::from_secs(3)));
    /// ```
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Sets what happens to a client that falls too far behind. Default: the client skips the
    /// oldest messages.
    ///
    /// ```
    /// # use stepcast::{Hub, Overflow};
    /// let builder = Hub::builder().overflow(Overflow::Disconnect);
    /// ```
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Sets how much of each feed's log the hub keeps for late joiners.
    ///
    /// ```
    /// # use stepcast::{Hub, Retention};
    /// let builder = Hub::builder().retention(Retention::default().messages(1000));
    /// ```
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Decides which clients may follow which feed by naming it in the URL, such as `/feed/run/42`.
    /// The rule gets the feed's name and the request. If it returns `false`, the request is refused
    /// with 403. Without a rule, every client may follow every feed. [`Hub::follow`] does not ask
    /// the rule.
    ///
    /// The rule runs on the hub's thread: a rule that blocks holds up every viewer. It is asked
    /// only about valid feed names. A panic in the rule costs the request: the answer is 500, or on
    /// `stepcast.v1` an `error` with the code `failed`. The hub logs an error and reports
    /// [`Event::Refused`](crate::Event::Refused) with status 500.
    ///
    /// ```
    /// # use stepcast::Hub;
    /// let builder = Hub::builder().authorize_follow(|feed, request| {
    ///     feed.starts_with("public/") || request.header("x-user").is_some()
    /// });
    /// ```
    pub fn authorize_follow(
        mut self,
        rule: impl Fn(&str, &Request) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.authorize_follow = Some(Arc::new(rule));
        self
    }

    /// Lets in pages of this origin, such as `https://app.example`, beside pages of the hub's own
    /// host. May be called several times.
    ///
    /// - A host name alone stands for any scheme and port.
    /// - `"null"` is the origin of a page opened from disk.
    /// - `"vscode-webview://*"` is any origin of that scheme. `http` and `https` cannot be named in
    ///   this way. There are no other wildcards.
    ///
    /// ```
    /// # use stepcast::Hub;
    /// let builder = Hub::builder().allow_origin("https://app.example").allow_origin("null");
    /// ```
    pub fn allow_origin(mut self, origin: &str) -> Self {
        self.rules = self.rules.allow_origin(origin);
        self
    }

    /// Accepts requests for this host name, beside `localhost`, the machine's own name and IP
    /// addresses. A port is ignored, and wildcards are not supported. May be called several times.
    ///
    /// The check of host names stops "DNS rebinding", where a stranger's page reaches the hub by a
    /// name that the stranger points to this machine.
    ///
    /// ```
    /// # use stepcast::Hub;
    /// let builder = Hub::builder().allow_host("sim.lab.example");
    /// ```
    pub fn allow_host(mut self, host: &str) -> Self {
        self.rules = self.rules.allow_host(host);
        self
    }

    /// Lets every browser watch that can reach the address. A hub needs this on an address that
    /// other machines can reach. The rules on origins and hosts stay.
    ///
    /// ```
    /// # use stepcast::Hub;
    /// let hub = Hub::builder().allow_remote().spawn_blocking("0.0.0.0:0")?;
    /// assert!(Hub::spawn_blocking("0.0.0.0:0").is_err());
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn allow_remote(mut self) -> Self {
        self.allow_remote = true;
        self
    }

    /// Serves this page at `/` instead of the crate's own page, which is then not served at
    /// `/feed/..` either.
    ///
    /// The content security policy of this page is [`frame_ancestors`](Self::frame_ancestors)
    /// alone. The page itself says what its scripts may do (`<meta
    /// http-equiv="Content-Security-Policy">`).
    ///
    /// ```
    /// # use stepcast::Hub;
    /// let builder = Hub::builder().page("<!doctype html><title>my run</title>");
    /// ```
    pub fn page(mut self, html: impl Into<Cow<'static, str>>) -> Self {
        self.page = Page::custom(html.into());
        self
    }

    /// Lets pages of these sources show the hub's page in a frame, such as a dashboard or a
    /// notebook. The sources are those of the directive `frame-ancestors` (Content Security Policy
    /// Level 3, section 6.4.2). Default `'self'`: pages of the hub's own address.
    ///
    /// A text that would end the directive or the header is ignored: one with `;`, `,` or a control
    /// character.
    ///
    /// ```
    /// # use stepcast::Hub;
    /// let builder = Hub::builder().frame_ancestors("'self' https://dashboard.example");
    /// ```
    pub fn frame_ancestors(mut self, sources: &str) -> Self {
        if !sources.contains(|c: char| matches!(c, ';' | ',') || !matches!(c, ' '..='~')) {
            self.frame_ancestors = sources.into();
        }
        self
    }

    /// Does not send clients their id when they connect. This is for programs with a protocol of
    /// their own. The program learns of clients from [`Hub::events`].
    ///
    /// ```
    /// # use stepcast::Hub;
    /// let builder = Hub::builder().without_greeting();
    /// ```
    pub fn without_greeting(mut self) -> Self {
        self.greet = false;
        self
    }

    /// Sends each client's messages back to it in order, as conformance tests expect of a server.
    /// Hidden, since it is not part of the crate's purpose.
    #[doc(hidden)]
    pub fn echo(mut self) -> Self {
        self.echo = true;
        self.freshness = Duration::ZERO; // its pings are not what was sent
        self
    }

    /// Sets how much unread data may be in flight to each client: as much as the client reads in
    /// this time, plus one round trip. Default 250 ms. The window is at least 8 KiB and at most 1
    /// MiB, whatever the time. Zero turns the window off: then the network takes as much as it can,
    /// which can be minutes of data.
    ///
    /// Newer values cannot replace data in flight. So this time is also how old a slow client's
    /// view may become.
    ///
    /// The hub measures a client's progress by Pings, sent about a quarter of the window apart.
    /// Every WebSocket client answers Pings by itself (RFC 6455, section 5.5.2).
    ///
    /// ```
    /// # use stepcast::Hub;
    /// # use std::time::Duration;
    /// let builder = Hub::builder().freshness(Duration::from_millis(100));
    /// ```
    pub fn freshness(mut self, time: Duration) -> Self {
        self.freshness = time;
        self
    }

    /// Keeps the value of this request header for every client, in
    /// [`ClientInfo::headers`](crate::ClientInfo::headers). May be called several times.
    ///
    /// ```
    /// # use stepcast::Hub;
    /// let builder = Hub::builder().keep_header("user-agent");
    /// ```
    pub fn keep_header(mut self, name: &str) -> Self {
        self.keep_headers.push(name.to_owned());
        self
    }

    /// Trusts a proxy, on this machine or another. May be called several times. `docs/proxies.md`
    /// has the configuration for usual proxies.
    ///
    /// - The host in the proxy's `X-Forwarded-Host` or `Forwarded` header stands for `Host`, and is
    ///   let in. So a page under another name than the hub's can open its socket. The proxy must
    ///   answer only to names of yours, and must overwrite these headers.
    /// - The proxy's address is not counted for [`Limits::clients_per_address`], since all clients
    ///   behind the proxy share it.
    ///
    /// ```
    /// # use stepcast::Hub;
    /// let builder = Hub::builder().trusted_proxy([10, 0, 0, 7]);
    /// ```
    pub fn trusted_proxy(mut self, address: impl Into<IpAddr>) -> Self {
        self.proxies.push(address.into().to_canonical());
        self
    }

    /// Keeps the events from the hub's start on for the first call of [`Hub::events`]. So the
    /// program does not miss a client that connects between `spawn` and that call.
    ///
    /// Until then the hub keeps at most [`Limits::events`], as for every reader.
    /// [`Event::Missed`](crate::Event::Missed) counts further events.
    ///
    /// ```
    /// # use stepcast::Hub;
    /// let hub = Hub::builder().events_from_start().spawn_blocking("127.0.0.1:0")?;
    /// // .. the model is read from disk, and viewers connect ..
    /// let events = hub.events();
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn events_from_start(mut self) -> Self {
        self.events_from_start = true;
        self
    }

    /// Runs the hub as a task on this runtime instead of a thread of its own. The runtime must have
    /// I/O and time enabled.
    ///
    /// This is not the default, because a computation that blocks the runtime's threads then keeps
    /// viewers waiting. The hub ends with the runtime. A thread that waits for the hub's end must
    /// let the runtime run.
    ///
    /// ```
    /// # use stepcast::Hub;
    /// let runtime = tokio::runtime::Runtime::new().unwrap();
    /// let hub = Hub::builder().runtime(runtime.handle().clone()).spawn_blocking("127.0.0.1:0")?;
    /// # hub.shutdown_blocking(std::time::Duration::from_secs(1));
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Ends the hub on Ctrl-C (`SIGINT`) and on `SIGTERM` before they end the process (feature
    /// `signal`, Unix only).
    ///
    /// Viewers get everything pushed before, and then the name of the signal: 4000 on
    /// `stepcast.v1`, 1001 on the plain wire, since the program may start again. The hub takes a
    /// second at most. Then the process ends by that signal, as it would have without the hub. A
    /// second signal ends the process at once. After the hub has ended in another way, the signals
    /// end the process as before.
    ///
    /// One thread for all hubs of the process waits for the signals. So a blocked
    /// [`runtime`](Self::runtime) does not hold up the end of the process, but the viewers of a hub
    /// on it get no message.
    ///
    /// A child made by `fork` inherits the handlers, but no hub there handles the first signal: the
    /// second signal ends the child. The first signal ends the child once the child has called any
    /// handle of the hub, such as [`Hub::client_count`], or dropped the last one.
    ///
    /// A program with its own handler for these signals calls [`Hub::shutdown`] there instead. With
    /// both, both handlers run, and the process still ends by the signal.
    ///
    /// ```
    /// # use stepcast::Hub;
    /// let hub = Hub::builder().finish_on_signal().spawn_blocking("127.0.0.1:0")?;
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    #[cfg(all(feature = "signal", unix))]
    pub fn finish_on_signal(mut self) -> Self {
        self.watch = Watch(true);
        self
    }

    /// Shows the run in the terminal that started the program, too: each job as a bar on standard
    /// error, jobs below others indented, and the lines of the log above the bars (feature
    /// `terminal`). Nothing is shown where standard error is no terminal, such as a file.
    ///
    /// There are as many bars as the terminal has lines. Active and new jobs come first, and the last
    /// line counts the others. The last state stays when the hub ends. A thread of its own draws, ten
    /// times a second at most, and only what has changed. Control characters in titles and texts are
    /// escaped.
    ///
    /// What the program prints by itself while bars are shown gets between them:
    /// [`Hub::log`] and [`Job::println`](crate::Job::println) write above the bars.
    ///
    /// ```
    /// let hub = stepcast::Hub::builder().terminal().spawn_blocking("127.0.0.1:0")?;
    /// let job = hub.job("calibrate").total(1000).start();
    /// job.inc(412);
    /// job.println("restart written");
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    #[cfg(feature = "terminal")]
    pub fn terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// Starts the hub from async code; see [`Hub::spawn`].
    ///
    /// # Errors
    ///
    /// As [`Hub::spawn`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, no hub has been started.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let hub = stepcast::Hub::builder().spawn("127.0.0.1:0").await?;
    /// # Ok::<(), stepcast::SpawnError>(()) }).unwrap();
    /// ```
    pub async fn spawn(self, address: impl ToSocketAddrs + fmt::Debug) -> Result<Hub, SpawnError> {
        let given = format!("{address:?}");
        let found = if Handle::try_current().is_ok() {
            look_up(address).await
        } else {
            // Tokio looks up a name on a runtime only. Without one the thread waits.
            let runtime = runtime::Builder::new_current_thread().build();
            runtime.and_then(|runtime| runtime.block_on(look_up(address)))
        };
        self.start(given, found)
    }

    /// Starts the hub from a program without async; see [`Hub::spawn_blocking`].
    ///
    /// # Errors
    ///
    /// As [`Hub::spawn_blocking`].
    ///
    /// ```
    /// let hub = stepcast::Hub::builder().spawn_blocking(("127.0.0.1", 0))?;
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn spawn_blocking(
        self,
        address: impl StdToSocketAddrs + fmt::Debug,
    ) -> Result<Hub, SpawnError> {
        let given = format!("{address:?}");
        self.start(given, address.to_socket_addrs().map(Iterator::collect))
    }

    /// Listens on all addresses that were found for what the program gave.
    fn start(self, given: String, found: io::Result<Vec<SocketAddr>>) -> Result<Hub, SpawnError> {
        let found = found.and_then(|found| match found.as_slice() {
            [] => Err(io::Error::new(io::ErrorKind::NotFound, "no address found")),
            _ => Ok(found),
        });
        let addresses = found.map_err(|error| SpawnError::Address { given, error })?;
        let (limits, timeouts) = (self.limits.checked()?, self.timeouts.checked()?);
        let reachable = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback());
        if let (Some(&address), false) = (reachable, self.allow_remote) {
            return Err(SpawnError::NotLoopback { address });
        }
        let sockets = bind(&addresses)?;
        let addresses: Box<[_]> = sockets
            .iter()
            .map(std::net::TcpListener::local_addr)
            .collect::<io::Result<_>>()
            .map_err(SpawnError::System)?;
        let ids = IdSource::new().map_err(|error| SpawnError::System(io::Error::other(error)))?;
        let mut shared = Shared::new(limits, self.overflow, ids);
        shared.keeps_messages = self.retention.messages > 0 && !self.retention.age.is_zero();
        let shared = Arc::new(shared);
        if self.events_from_start {
            shared.keep_events();
        }
        let has_page = self.page.response("/", &self.frame_ancestors).is_ok();
        let reception = Admission {
            rules: self.rules,
            page: self.page,
            frame_ancestors: self.frame_ancestors,
            keep_headers: self.keep_headers,
            proxies: self.proxies,
            greet: self.greet,
            echo: self.echo,
            freshness: freshness(self.freshness),
            authorize_follow: self.authorize_follow,
            #[cfg(test)]
            authorize: None,
        };
        let engine = Engine::new(Arc::clone(&shared), &timeouts, &self.retention, reception);
        let watch = self.watch;
        let thread = match self.runtime {
            Some(handle) => {
                start_on(&handle, sockets, engine, watch)?;
                None
            }
            None => Some(start_thread(sockets, engine, watch)?),
        };
        for address in &addresses {
            tracing::info!(%address, "hub listening");
        }
        if let Some(Capacity { clients, handshakes }) = shared.descriptors.lack(&shared.limits) {
            tracing::warn!(
                clients,
                handshakes,
                "limits lowered: the process may open too few files; raise `ulimit -n`, or lower \
                `Limits::clients` and `Limits::handshakes`"
            );
        }
        let hub = Hub::new(Arc::clone(&shared), addresses, has_page, thread, timeouts.shutdown);
        #[cfg(feature = "terminal")]
        if self.terminal && io::stderr().is_terminal() {
            show_in(console::Term::buffered_stderr(), &shared).map_err(SpawnError::System)?;
        }
        Ok(hub)
    }
}

/// Draws the run in this terminal, by a thread of its own.
#[cfg(feature = "terminal")]
fn show_in(term: console::Term, shared: &Shared) -> io::Result<()> {
    let mut terminal = Terminal::new(term);
    let second = Some(Duration::from_secs(1)); // times go on
    shared.observe("stepcast-term", 0, second, move |lines| terminal.take(lines))
}

async fn look_up(address: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host(address).await?.collect())
}

/// In milliseconds: zero only where nothing was wanted.
fn freshness(time: Duration) -> u32 {
    let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    if time.is_zero() { 0 } else { millis.max(1) }
}

/// Whether signals end the hub.
#[derive(Clone, Copy)]
#[cfg(all(feature = "signal", unix))]
struct Watch(bool);

#[cfg(not(all(feature = "signal", unix)))]
#[derive(Clone, Copy)]
struct Watch;

impl Watch {
    #[cfg(all(feature = "signal", unix))]
    const NONE: Self = Self(false);
    #[cfg(not(all(feature = "signal", unix)))]
    const NONE: Self = Self;

    /// Listens for signals until the returned value is dropped, after the hub's end.
    #[cfg(all(feature = "signal", unix))]
    fn begin(self) -> io::Result<Option<crate::hub::ending::stop_signal::Listening>> {
        self.0.then(crate::hub::ending::stop_signal::listen).transpose()
    }

    #[cfg(not(all(feature = "signal", unix)))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as with the feature")]
    fn begin(self) -> io::Result<Option<std::convert::Infallible>> {
        Ok(None)
    }
}

fn start_on(
    handle: &Handle,
    sockets: Vec<std::net::TcpListener>,
    engine: Engine,
    watch: Watch,
) -> Result<(), SpawnError> {
    let _context = handle.enter();
    // Tokio says that a driver is missing by panicking, and says so here instead of in the task.
    let listener = panic::catch_unwind(|| {
        drop(tokio::time::sleep(Duration::ZERO));
        Listener::new(sockets)
    });
    let listener = listener.map_err(|_| SpawnError::Runtime)?.map_err(SpawnError::System)?;
    let watch = watch.begin().map_err(SpawnError::System)?;
    let ending = (EndOnDrop(Arc::clone(&engine.shared)), watch); // dropped in this order
    handle.spawn(async move {
        let _ending = ending; // dropped last, when no socket is left
        // Its turns are bounded, and it yields between them by itself.
        tokio::task::unconstrained(Driver::new(engine, listener).run()).await;
    });
    Ok(())
}

fn start_thread(
    sockets: Vec<std::net::TcpListener>,
    engine: Engine,
    watch: Watch,
) -> Result<JoinHandle<()>, SpawnError> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(SpawnError::System)?;
    let listener = {
        let _context = runtime.enter();
        Listener::new(sockets)
    };
    let watch = watch.begin();
    let runtime = Background(Some(runtime));
    let listener = listener.map_err(SpawnError::System)?;
    let watch = watch.map_err(SpawnError::System)?;
    let ending = (EndOnDrop(Arc::clone(&engine.shared)), watch); // dropped in this order
    let run = move || {
        let _ending = ending; // dropped last, when no socket is left
        let mut runtime = runtime;
        if let Some(runtime) = runtime.0.take() {
            runtime.block_on(tokio::task::unconstrained(Driver::new(engine, listener).run()));
        }
    };
    thread::Builder::new().name("stepcast".to_owned()).spawn(run).map_err(SpawnError::System)
}

/// A runtime that may be dropped inside another one: where its thread could not be started.
struct Background(Option<runtime::Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Hub {
    /// Starts a hub that listens on `address`, from async code.
    ///
    /// The hub has a thread of its own for its I/O, so viewers do not wait for a model that
    /// computes inside a task and never awaits. [`HubBuilder::runtime`] changes that.
    ///
    /// Port 0 means a free port, which [`local_addr`](Hub::local_addr) returns. The hub listens on
    /// all addresses of a name such as `localhost` (`127.0.0.1` and `[::1]`), or of a slice. With
    /// port 0 they share one free port. The hub skips IPv6 or IPv4 addresses if the machine lacks
    /// that family. `[::]` alone takes IPv4, too.
    ///
    /// Outside tokio the lookup of a name blocks the thread.
    ///
    /// # Errors
    ///
    /// [`SpawnError`], whose text says what to do. Usual causes: the hub cannot listen on one of
    /// the addresses, or other machines can reach the address and [`HubBuilder::allow_remote`] was
    /// not called.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, no hub has been started.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let hub = stepcast::Hub::spawn("127.0.0.1:0").await?;
    /// hub.broadcast("started");
    /// hub.shutdown().await;
    /// # Ok::<(), stepcast::SpawnError>(()) }).unwrap();
    /// ```
    pub async fn spawn(address: impl ToSocketAddrs + fmt::Debug) -> Result<Self, SpawnError> {
        Self::builder().spawn(address).await
    }

    /// Starts a hub that listens on `address`, from a program without async.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Hub::spawn).
    ///
    /// ```
    /// let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// hub.broadcast("started");
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn spawn_blocking(address: impl StdToSocketAddrs + fmt::Debug) -> Result<Self, SpawnError> {
        Self::builder().spawn_blocking(address)
    }

    /// Returns the options of a new hub, with their defaults.
    ///
    /// ```
    /// # use stepcast::{Hub, Overflow};
    /// let hub = Hub::builder().overflow(Overflow::Refuse).spawn_blocking("127.0.0.1:0")?;
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn builder() -> HubBuilder {
        HubBuilder::new()
    }
}
