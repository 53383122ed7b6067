//! The hub that every client of `.ci/interop` talks to. It does what a client asks for by a command;
//! of anything else it reports what it got, and sends it back. It ends when its input does.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use stepcast::{
    ClientId, CloseFrame, DisconnectReason, Event, Events, Hub, Limits, Message, Timeouts,
};

/// What a client may send in one message; one of the checks sends more.
const LARGEST: usize = 1 << 20;

/// After this much silence the second hub pings, and this long it waits for the answer.
const KEEPALIVE: Duration = Duration::from_millis(200);
const PONG: Duration = Duration::from_secs(1);

/// How long a client of the second hub is left alone: who answers no ping is gone by then.
const QUIET: Duration = Duration::from_millis(2500);

/// The bytes of a client's answer to a ping without a payload: a header of two and the masking key.
const PONG_BYTES: u64 = 6;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Command {
    /// Says whether the client that asks is the one with this id.
    Who { id: ClientId },
    /// Sends a text to one client.
    Send { to: ClientId, text: String },
    /// Sends a text to everyone.
    Broadcast { text: String },
    /// Closes the connection of a client.
    Disconnect { id: ClientId, reason: String },
    /// Says how a client's connection ended, as soon as it has.
    Ended { id: ClientId },
    /// Sends, so many times, something to everyone and then something to each of these clients.
    Rounds { count: usize, to: Vec<ClientId> },
}

fn main() -> Result<(), Box<dyn Error>> {
    let limits =
        Limits::default().inbound_message(LARGEST).mailbox(16 << 20).feed(16 << 20).events(100_000);
    let hub = Hub::builder()
        .limits(limits)
        .page("<!doctype html><title>clients</title>")
        .spawn_blocking("127.0.0.1:0")?;
    let timeouts = Timeouts::default().keepalive(KEEPALIVE).pong(PONG);
    let pinging = Hub::builder().timeouts(timeouts).spawn_blocking("127.0.0.1:0")?;

    let events = hub.events();
    let serving = thread::spawn({
        let hub = hub.clone();
        move || serve(&hub, events)
    });
    let events = pinging.events();
    let counting = thread::spawn({
        let pinging = pinging.clone();
        move || count_pongs(&pinging, events)
    });

    println!("{}", json!({ "hub": hub.url(), "pinging": pinging.url() }));
    io::copy(&mut io::stdin(), &mut io::sink())?;

    let deadline = Instant::now() + Duration::from_secs(5);
    while hub.client_count() + pinging.client_count() > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    let stats = hub.stats();
    pinging.shutdown_blocking(Duration::from_secs(5));
    hub.shutdown_blocking(Duration::from_secs(5));
    counting.join().map_err(|_| "the thread that counts pongs panicked")?;
    if !serving.join().map_err(|_| "the thread that serves panicked")? {
        return Err("not everything that was asked for could be done".into());
    }
    if stats.clients + pinging.stats().clients > 0
        || stats.skipped + stats.refused_pushes.too_large > 0
    {
        return Err(
            format!("there were clients left, or messages that did not go out: {stats:?}").into()
        );
    }
    println!("{} clients, {} messages in, {} out", stats.accepted, stats.received, stats.pushed);
    Ok(())
}

/// Returns whether all went well. What did not is said, and the client that waits for it fails.
fn serve(hub: &Hub, mut events: Events) -> bool {
    let (mut ends, mut well) = (Ends::default(), true);
    while let Some(event) = events.recv_blocking() {
        if let Err(error) = ends.react(hub, event) {
            eprintln!("the hub's program: {error}");
            well = false;
        }
    }
    well
}

/// How connections ended.
#[derive(Default)]
struct Ends {
    known: HashMap<ClientId, DisconnectReason>,
    /// Who waits for it, by whose end it is.
    asked: HashMap<ClientId, ClientId>,
}

impl Ends {
    fn react(&mut self, hub: &Hub, event: Event) -> Result<(), Box<dyn Error>> {
        match event {
            Event::Message { id, message, .. } => match command(&message) {
                None => {
                    hub.send(id, report(&message).to_string())?;
                    hub.send(id, message)?;
                }
                Some(Command::Who { id: named }) => {
                    let known =
                        named == id && hub.client(named).is_some_and(|info| info.id() == id);
                    hub.send(id, json!({ "who": id, "known": known }).to_string())?;
                }
                Some(Command::Send { to, text }) => hub.send(to, text)?,
                Some(Command::Broadcast { text }) => hub.broadcast(text),
                Some(Command::Disconnect { id, reason }) => hub.disconnect(id, &reason)?,
                Some(Command::Ended { id: whose }) => match self.known.get(&whose) {
                    Some(reason) => hub.send(id, how(whose, reason))?,
                    None => {
                        self.asked.insert(whose, id);
                    }
                },
                Some(Command::Rounds { count, to }) => rounds(hub, count, &to)?,
            },
            Event::Gone { id, reason } => {
                if let Some(who) = self.asked.remove(&id) {
                    hub.send(who, how(id, &reason))?;
                }
                self.known.insert(id, reason);
            }
            Event::Missed(count) => return Err(format!("missed {count} events").into()),
            _ => {}
        }
        Ok(())
    }
}

/// The command that a message is, if it is one.
fn command(message: &Message) -> Option<Command> {
    message.as_text().and_then(|text| serde_json::from_str(text).ok())
}

/// What was received, as it was here.
fn report(message: &Message) -> Value {
    let kind = if message.is_text() { "text" } else { "binary" };
    let mut sha1 = String::new();
    for byte in Sha1::digest(message.as_bytes()) {
        let _ = write!(sha1, "{byte:02x}");
    }
    json!({ "got": kind, "bytes": message.len(), "sha1": sha1 })
}

fn how(whose: ClientId, reason: &DisconnectReason) -> String {
    let close = match reason {
        DisconnectReason::Closed(close) => close.as_ref(),
        DisconnectReason::Violation(close) => Some(close),
        _ => None,
    };
    json!({
        "ended": whose,
        "how": reason.to_string(),
        "code": close.map(|close| close.code().get()),
        "reason": close.map(CloseFrame::reason),
    })
    .to_string()
}

/// Everyone's messages and each client's own take turns, texts and bytes among them.
fn rounds(hub: &Hub, count: usize, to: &[ClientId]) -> Result<(), Box<dyn Error>> {
    for round in 0..count {
        if round % 2 == 0 {
            hub.broadcast(format!("第 {round} 轮,所有人"));
        } else {
            hub.broadcast(pattern(round * 100));
        }
        for &id in to {
            hub.send(id, format!("第 {round} 轮,只给 {id}"))?;
        }
    }
    Ok(())
}

/// Bytes that the clients know, too: of all values, and other ones for another length.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 131 + (i >> 8) * 17 + length).to_le_bytes()[0]).collect()
}

/// Leaves each client alone for a while, and then tells it how many pongs it has sent in that time.
/// Only one client at a time, since it is the hub's bytes that are counted.
fn count_pongs(hub: &Hub, mut events: Events) {
    while let Some(event) = events.recv_blocking() {
        if let Event::Connected { id } = event {
            let before = hub.stats();
            thread::sleep(QUIET);
            let after = hub.stats();
            let bytes = after.bytes_in - before.bytes_in;
            let counted = json!({
                "pongs": bytes / PONG_BYTES,
                "other_bytes": bytes % PONG_BYTES,
                "messages": after.received - before.received,
            });
            let _ = hub.send(id, counted.to_string()); // who has been cut sees that by itself
        }
    }
}
