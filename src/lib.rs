//! Push the progress of a running computation to browsers over WebSocket, from inside its loop.
//!
//! A program that already runs a model links this crate in. A [`Hub`] listens, keeps track of its
//! clients, and delivers messages. The model's loop calls [`Hub::send`] (to one browser),
//! [`Hub::broadcast`] (to all) and [`Feed::set`] (a latest value, such as progress, which late
//! joiners get too). The calls are synchronous, work from any thread, and never wait for viewers.
//! Each run can have a feed of its own ([`Hub::feed`]). The [glossary](crate#words) explains the
//! words of these pages.
//!
//! ```
//! use stepcast::Hub;
//!
//! let hub = Hub::spawn_blocking("127.0.0.1:0")?; // or Hub::spawn(..).await? in tokio
//! for url in hub.urls() {
//!     println!("watch at {url}");
//! }
//! let viewers = hub.everyone();
//! for step in 1..=100 {
//!     // model.step();
//!     let _ = viewers.set("progress", format!(r#"{{"progress":{step},"total":100}}"#));
//! }
//! hub.broadcast("converged");
//! # Ok::<(), stepcast::SpawnError>(())
//! ```
//!
//! # Jobs
//!
//! A [`Job`] is the progress of one piece of work. The loop counts, and the hub looks ten times a
//! second: viewers see position, rate, ETA and how the job ended, late joiners too.
//!
//! ```
//! # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
//! hub.set_title("Gray-Scott, F = 0.04");
//! let feed_rate = hub.parameter("feed rate", 0.04).range(0.0..=0.1); // viewers move it
//! let job = hub.job("time loop").total(1000).unit("steps").cancellable().start();
//! for _ in 0..1000 {
//!     if job.is_cancelled() {
//!         job.cancelled(); // a viewer has asked for it
//!         break;
//!     }
//!     let _f = feed_rate.get();
//!     // model.step(f);
//!     job.inc(1); // one atomic addition
//! }
//! job.finish();
//! # Ok::<(), stepcast::SpawnError>(())
//! ```
//!
//! | call | what it costs the loop |
//! |---|---|
//! | [`Job::inc`] | one relaxed atomic addition |
//! | [`LocalCounter::inc`], [`ProgressIterator::progress_with`] | a relaxed load and store |
//! | [`Job::is_cancelled`], [`Parameter::get`] | one relaxed load |
//! | [`Series::push`], [`Job::metric`] | a few plain stores; once in sixteen points a lock |
//! | [`Job::field`] | one relaxed load; a copy when the sampler has asked |
//! | [`Job::set_message`], [`Job::println`] | a lock for some lines, and the text |
//!
//! The feed `stepcast/run` tells viewers of the run. A page follows it with the module `/run.js`,
//! which the hub serves:
//!
//! ```js
//! import { connect } from 'http://localhost:8002/stepcast.js';
//! import { followRun } from 'http://localhost:8002/run.js';
//!
//! const run = followRun(connect());
//! run.on('change', () => {
//!   for (const { title, id, eta } of run.state.children()) console.log(title, run.state.fraction(id), eta);
//!   for (const { name, x, y } of run.series.values()) console.log(name, x.at(-1), y[0]?.at(-1));
//! });
//! ```
//!
//! The hub's own page shows the run. A script asks `http://localhost:8002/jobs` and gets JSON, or
//! `/events` and gets lines of JSON until it goes.
//!
//! # What a browser sees
//!
//! **Any WebSocket client** will do: `new WebSocket('ws://localhost:8002')` and `onmessage` are
//! enough in a browser. The first message is `{"type":1,"body":<id>}`: the client's [`ClientId`], a
//! plain number. The browser carries the id in the HTTP request that starts a run, and the run
//! pushes to that id ([`Hub::send`], [`Hub::set`]). All later messages arrive as they were sent:
//! text as text, bytes as binary. A browser follows the feed of one run at
//! `ws://localhost:8002/feed/run/42`.
//!
//! **The hub's page** (feature `page`, on by default) is at the hub's own address, and at
//! `http://localhost:8002/feed/run/42` for a feed. The first shows the run: jobs, series, fields,
//! parameters and the log. Where there is no job, text with numeric `progress` and `total`, sent or
//! set, moves the progress bar. Other latest values are rows of a table. Bytes are drawn as a heat map if they are two little-endian
//! `u32`, `ny` and `nx`, and then `ny * nx` `f32` by rows. [`HubBuilder::page`] serves a page of
//! yours instead.
//!
//! **The browser's client library**, which the hub serves at `/stepcast.js`, follows the run
//! through reloads, lost networks and closed lids:
//!
//! ```js
//! import { connect } from 'http://localhost:8002/stepcast.js';
//!
//! const hub = connect();
//! hub.on('message', ({ data }) => console.log(data));           // each message once, in order
//! hub.on('gap', ({ from, to, why }) => console.log('missed', from, to, why));
//! hub.feed('run/42').on('value', ({ key, data }) => console.log(key, data));
//! hub.on('status', ({ state, reason }) => console.log(state, reason)); // 'open', 'finished', ..
//! await hub.fetch('/run', { method: 'POST' }); // starts a run, with this client's id in a header
//! ```
//!
//! The library speaks `stepcast.v1`. On this wire a client keeps its id through reloads, and
//! messages for a client that is away wait for it ([`Timeouts::grace`], 2 min). A run that nobody
//! waits for any more can end by itself: [`Hub::gone_token`] is cancelled when a client has gone
//! for good, but not while it is in a tunnel. `docs/protocol.md` describes the wire for authors of
//! other clients.
//!
//! # In practice
//!
//! A viewer must not end a run, so programs ignore the result of `send`. A busy port need not end
//! the run either:
//!
//! ```
//! use stepcast::Hub;
//!
//! let hub = Hub::spawn_blocking("127.0.0.1:8002").unwrap_or_else(|error| {
//!     eprintln!("no live view: {error}");
//!     Hub::disabled() // every push goes nowhere and costs nothing
//! });
//! ```
//!
//! | case | what to do |
//! |---|---|
//! | an address for this machine | `127.0.0.1:8002`, or `localhost:8002`: the hub listens at every address of that name, and it is an error if another program has one of them |
//! | an address for other machines | `0.0.0.0:8002`, or `[::]:8002` for IPv6 too, and [`HubBuilder::allow_remote`]; [`Hub::urls`] then also has the machine's own address and its name |
//! | a program on a remote machine | `ssh -L 8002:localhost:8002 that-machine`, and open `http://localhost:8002/` here; the hub stays on `127.0.0.1` there |
//! | a proxy in front of the hub | `docs/proxies.md` has tested lines for four usual proxies |
//! | a struct, a `&[f64]` | [`Message::json(&values)?`](Message::json) sends JSON; numbers that are not finite become `null` |
//! | a large array | as bytes: `values.iter().flat_map(\|value\| value.to_le_bytes()).collect::<Vec<u8>>()`, in the browser `new Float64Array(data)` |
//! | formatting costs more than the step | [`Hub::broadcast_with`] and [`Feed::set_with`] make a message only where somebody can get it |
//! | a model inside a tokio task | nothing: the hub has a thread of its own, so a task that computes for hours does not keep viewers waiting |
//! | MPI | one rank has the hub, the others [`Hub::disabled`] |
//! | `fork`, Python's `multiprocessing` | in a child every handle is that of a disabled hub, and the parent's viewers are untouched |
//! | two runs by one name | [`Hub::create_feed`] refuses the second |
//! | memory after a flood stays with glibc | `mimalloc` or `jemalloc` gives it back; see `docs/architecture.md`, "Memory that the allocator keeps" |
//!
//! # What the program can rely on
//!
//! - **The model never waits.** A push takes a lock for some lines and appends to a queue: no
//!   waiting, no I/O, no cost per viewer. A slow, stalled or hostile viewer costs the model
//!   nothing.
//! - **Memory is bounded**, in bytes, per client and in all ([`Limits`]). By default 4 MiB of
//!   messages and 4 MiB of values wait for one client, each feed keeps 8 MiB, and all together have
//!   256 MiB. A slow client skips to newer messages, and the hub counts the skipped ones
//!   ([`ClientInfo::skipped`], [`Hub::stats`]). Other policies are [`Overflow::Refuse`] and
//!   [`Overflow::Disconnect`]; a program that would rather wait has [`Hub::send_timeout`].
//! - **The program keeps its files.** Connections leave a quarter of the process's file descriptors
//!   to the program.
//! - **Viewers see fresh values.** At most 250 ms of unread data is in flight to each viewer
//!   ([`HubBuilder::freshness`]). A viewer that reads 50 KB/s of 1 MB/s sees values that are at
//!   most 0.4 s old; without this window they would be 3 s old.
//! - **Delivery costs what the network costs.** A message to one of thousands of viewers takes 1.03
//!   to 1.15 times a bare `send(2)`, and an idle viewer takes 0.75 KiB (`docs/performance.md`,
//!   beside six other servers).
//! - **Order.** Messages from one thread, to one client and to everyone, arrive in the order of the
//!   calls.
//! - **Reconnecting clients miss nothing that is kept.** After any cut, a client of `stepcast.v1`
//!   gets every kept message exactly once, in order. A gap reports the messages that it missed. In
//!   the end it has the newest of all values.
//! - **Strict protocol.** All 301 cases of the Autobahn suite's groups 1 to 7, 9 and 10 pass in
//!   both roles, none of them "non-strict" (`.ci/run`).
//! - **Other people's clients.** Chromium, Node's own `WebSocket`, npm's `ws`, Python's
//!   `websockets` and tungstenite each pass one list of checks, tungstenite with 200 clients at
//!   once (`.ci/interop`). The page and its client are tried in Firefox, too (`.ci/browser`).
//! - **Strangers stay out.** A page of another site cannot connect, not even to a hub on
//!   `localhost`: the hub checks `Origin` and `Host` by default ([`HubBuilder::allow_origin`],
//!   [`HubBuilder::allow_host`]). Ids are unguessable and never given twice. An address that other
//!   machines can reach needs [`HubBuilder::allow_remote`]. Everybody who gets in may watch: login
//!   and TLS are still missing.
//! - **The end is orderly.** The hub ends within a deadline, delivers first, and leaves nothing
//!   behind. The next section says what viewers see; each of its rows is a test.
//!
//! # Endings
//!
//! A hub ends once: with its last handle, by [`Hub::finish`], [`Hub::fail`] or [`Hub::shutdown`],
//! or with the process. Its viewers get the messages pushed before, then how it ended:
//!
//! | how | `stepcast.v1` | plain wire |
//! |---|---|---|
//! | finished, with a message | `bye` 4503: does not come back | Close 1000 |
//! | failed, with a reason | `bye` 4504: does not come back | Close 1011 |
//! | ended, without a message | `bye` 4000: comes back, since the program may start again | Close 1001 |
//!
//! The end of the program decides what viewers see:
//!
//! | the program | viewers see | what to do |
//! |---|---|---|
//! | returns from `main`, with `?` too; with `#[tokio::main]` on many threads or one, with `Runtime::block_on` | ended | `hub.finish("converged")` says more |
//! | calls `finish` or `fail` before that | finished, failed | |
//! | panics, and the panic drops the last handle | failed, with the panic's text (a panic by [`resume_unwind`](std::panic::resume_unwind) has none) | |
//! | panics, and a handle is left (a `static`, a thread) | ended | a panic hook with a [`WeakHub`] that calls `fail` |
//! | returns while a `static`, a thread or a panic hook holds a handle | ended ¹ | a [`WeakHub`] there, so that the last handle is dropped |
//! | joins a thread that reads [`Events`] | ended; with a [`Hub`] in that thread it waits for ever | a [`WeakHub`] there, and `finish` or `drop` before the join |
//! | [`std::process::exit`] on the main thread | ended ¹ | |
//! | [`std::process::exit`] on another thread | connection lost | [`Hub::shutdown_blocking`] before it |
//! | Ctrl-C, `SIGTERM` | connection lost | `HubBuilder::finish_on_signal` (feature `signal`, Unix): ended, with the signal's name |
//! | panics with `panic = "abort"` | connection lost | a panic hook with a [`WeakHub`] that calls `fail`, then `shutdown_blocking` |
//! | [`std::process::abort`], `SIGKILL`, a crash | connection lost | [`Hub::flush`] after messages that must arrive |
//! | drops the runtime that runs the hub ([`HubBuilder::runtime`]) | connection lost | `hub.shutdown().await` before |
//!
//! If the program calls neither `finish` nor `fail` nor `shutdown`, the end waits at most a second
//! for slow viewers.
//!
//! ¹ On Linux with glibc, and on macOS, if the main thread spawned the hub or cloned a handle of
//! it. On Windows and with musl the connection is lost: call `finish` or `shutdown_blocking`.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | client, viewer | a browser or another program that is connected to the hub |
//! | feed | a named stream of messages; clients follow and unfollow it ([`Feed`]) |
//! | everyone's feed | the feed without a name, which a client follows that names no other ([`Hub::everyone`]) |
//! | log | the messages [sent](Feed::send) to a feed, in order |
//! | latest value | the newest message [set](Feed::set) for a key; slow clients skip earlier ones |
//! | late joiner | a client that begins to follow a feed after messages were pushed ([`Retention`]) |
//! | mailbox | the messages that wait for one client alone ([`Limits::mailbox`]) |
//! | `stepcast.v1` | the WebSocket subprotocol of the client library, with acknowledgements and reconnects |
//! | plain wire | WebSocket without a subprotocol, as `new WebSocket(url)` speaks it |
//! | away, gone | a client on `stepcast.v1` that lost its connection is away; it comes back within [`Timeouts::grace`], or it is gone |
//!
//! # Parts that stand alone
//!
//! [`codec`] is RFC 6455 framing as a `tokio_util` decoder and encoder. [`handshake`] is the HTTP
//! upgrade before it. Both work without I/O, for servers and for clients.
//!
//! # Requirements and features
//!
//! The crate needs Rust 1.89, or 1.85 without the feature `simd`. It is written for Linux, macOS
//! and Windows, and so far built and tested on Linux. It has no `unsafe` (`forbid`), and 45
//! transitive dependencies with default features.
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `page` | yes | the page and the browser's client library, at the hub's own address |
//! | `simd` | yes | masking with AVX2 where the processor has it |
//! | `log` | no | `Hub::logger`: records of the crate `log` are lines of the run's log |
//! | `rayon` | no | `ParallelProgressIterator`: a job counts the items of rayon's parallel iterators |
//! | `signal` | no | `HubBuilder::finish_on_signal` (Unix): Ctrl-C and SIGTERM deliver and say goodbye first |
//! | `terminal` | no | `HubBuilder::terminal`: jobs as bars in the terminal that started the program |
//! | `tracing-layer` | no | `Hub::tracing_layer`: `tracing`'s events are lines of the run's log, spans with a length are jobs |

pub mod codec;
pub mod handshake;
mod hub;
mod page;
mod progress;
mod wire;

pub use codec::{CloseCode, CloseFrame, Json, Message, Text};
pub use hub::{
    Client, ClientId, ClientInfo, DisconnectReason, Event, Events, Feed, FeedError, FlushError,
    FollowError, Hub, HubBuilder, InvalidClientId, Limits, Overflow, RefusedPushes, Retention,
    SendError, SpawnError, Stats, Timeouts, WeakHub,
};

pub use progress::{
    Button, Cancelled, Choice, Field, FieldError, FieldValue, Job, JobBuilder, JobStatus, Level,
    LocalCounter, LogWriter, Parameter, ParameterValue, Progress, ProgressIterator, Series,
    SeriesValues,
};

#[cfg(feature = "log")]
pub use progress::HubLogger;

#[cfg(feature = "tracing-layer")]
pub use progress::{HubLayer, ProgressSpan};

#[cfg(feature = "rayon")]
pub use progress::{ParallelProgress, ParallelProgressIterator};

/// The door of `fuzz/`: one line of a client on `stepcast.v1`, which may name so many feeds.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn fuzz_line(line: &str, most: usize) {
    wire::fuzzing::check_line(line, most);
}

/// The README's programs are compiled and run, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
