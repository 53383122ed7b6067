//! Push the progress of a running computation to browsers over WebSocket, from inside its loop.
//!
//! A program that already runs a model links this crate in. A [`Hub`] listens, keeps track of who
//! is connected, and delivers; the model's loop calls [`Hub::send`] (to one browser),
//! [`Hub::broadcast`] (to all) and [`Feed::set`] (a state, such as progress, which late joiners get
//! too). The calls are synchronous, work from any thread, and do not block whatever viewers do.
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
//! # What a browser sees
//!
//! Any WebSocket client will do. The first message is `{"type":1,"body":<id>}`: the client's
//! [`ClientId`], a plain number, which the browser carries in a later HTTP request so that the
//! program knows whom to send to. All that follows is what was sent, as it was sent: text as text,
//! bytes as binary. Opened as a page, the hub's address shows the run (feature `page`, on by
//! default).
//!
//! # What the program can rely on
//!
//! - A push appends to a queue and returns: no waiting, no I/O, no cost per viewer.
//! - What is kept for viewers is bounded in bytes ([`Limits`]); who falls behind skips, and how
//!   much is counted ([`ClientInfo::skipped`]). Other policies: [`Overflow`].
//! - What one thread pushes, to one client and to everyone, arrives in the order of the calls.
//! - Pages of other sites are kept out by default, and what other machines can reach has to be
//!   said ([`HubBuilder::allow_remote`]).
//! - The hub ends within a deadline, delivers first, and leaves nothing behind.
//!
//! # Endings
//!
//! A hub ends once: with its last handle, by [`Hub::finish`], [`Hub::fail`] or [`Hub::shutdown`], or
//! with the process. Its viewers get what was pushed before, then how it ended:
//!
//! | how | `stepcast.v1` | plain wire |
//! |---|---|---|
//! | finished, with a message | `bye` 4503: does not come back | Close 1000 |
//! | failed, with a reason | `bye` 4504: does not come back | Close 1011 |
//! | ended, without a word | `bye` 4000: comes back, since the program may start again | Close 1001 |
//!
//! What ends a program decides what viewers see:
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
//! | [`std::process::abort`], `SIGKILL`, a crash | connection lost | [`Hub::flush`] after what must not be lost |
//! | its runtime is dropped, where [`HubBuilder::runtime`] runs the hub there | connection lost | `hub.shutdown().await` before |
//!
//! Without a word from the program the end waits a second at most for viewers that are slow.
//!
//! ¹ On Linux with glibc, and on macOS, if the main thread has begun the hub or cloned a handle of
//! it. On Windows and with musl the connection is lost: call `finish` or `shutdown_blocking`.
//!
//! # Parts that stand alone
//!
//! [`codec`] is RFC 6455 framing as a `tokio_util` decoder and encoder, [`handshake`] the HTTP
//! upgrade before it: both without I/O, for servers and for clients.

pub mod codec;
pub mod handshake;
mod hub;
mod page;
mod wire;

pub use codec::{CloseCode, CloseFrame, Json, Message, Text};
pub use hub::{
    Client, ClientId, ClientInfo, DisconnectReason, Event, Events, Feed, FeedError, FlushError,
    FollowError, Hub, HubBuilder, InvalidClientId, Limits, Overflow, RefusedPushes, Retention,
    SendError, SpawnError, Stats, Timeouts, WeakHub,
};

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
