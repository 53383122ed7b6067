//! A hub that does what it is told on its input, one object a line, and says on its output when that
//! is done and what happens at it. It ends when its input does. By its second address, the cable, it is
//! reached on a way that can be cut.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use stepcast::{ClientId, Event, Events, Feed, FeedError, Hub, Limits, Message};
use tokio::io::{AsyncReadExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::watch;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Command {
    /// Sends a message to one client, or to a feed.
    Send {
        to: Place,
        what: What,
    },
    /// Sets the latest value of a key.
    Set {
        to: Place,
        key: String,
        what: What,
    },
    /// Removes the latest value of a key.
    Remove {
        to: Place,
        key: String,
    },
    /// Sends so many texts of so many bytes to a feed: their numbers, from 1 on.
    Number {
        feed: String,
        count: usize,
        bytes: usize,
    },
    /// Ends all connections that go by the cable. Nobody gets through until it is mended.
    Cut,
    Mend,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Place {
    Client(ClientId),
    Feed(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Text(String),
    Json(Value),
    Bytes(Vec<u8>),
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    let limits = Limits::default().events(100_000);
    let hub = Hub::builder().limits(limits).spawn_blocking(address)?;
    let events = hub.events();
    let telling = thread::spawn(move || tell(events));
    let is_cut = watch::Sender::new(false);
    let cable = cable(hub.local_addr().ok_or("the hub has no address")?, is_cut.subscribe())?;
    println!("{}", json!({ "hub": hub.url(), "cable": format!("http://{cable}/") }));

    for line in io::stdin().lines() {
        perform(&hub, &is_cut, serde_json::from_str(&line?)?)?;
        println!(r#"{{"done":true}}"#);
    }
    hub.shutdown_blocking(Duration::from_secs(10));
    telling.join().map_err(|_| "the thread that tells of events panicked")?;
    Ok(())
}

fn perform(
    hub: &Hub,
    is_cut: &watch::Sender<bool>,
    command: Command,
) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Send { to: Place::Client(id), what } => hub.send(id, what.message()?)?,
        Command::Send { to: Place::Feed(name), what } => feed(hub, &name)?.send(what.message()?)?,
        Command::Set { to: Place::Client(id), key, what } => hub.set(id, &key, what.message()?)?,
        Command::Set { to: Place::Feed(name), key, what } => {
            feed(hub, &name)?.set(&key, what.message()?)?;
        }
        Command::Remove { to: Place::Client(id), key } => hub.remove(id, &key)?,
        Command::Remove { to: Place::Feed(name), key } => feed(hub, &name)?.remove(&key)?,
        Command::Number { feed: name, count, bytes } => {
            let feed = feed(hub, &name)?;
            for number in 1..=count {
                feed.send(format!("{number:0bytes$}"))?;
            }
        }
        Command::Cut => is_cut.send(true)?,
        Command::Mend => is_cut.send(false)?,
    }
    Ok(())
}

fn feed(hub: &Hub, name: &str) -> Result<Feed, FeedError> {
    if name.is_empty() { Ok(hub.everyone()) } else { hub.feed(name) }
}

impl What {
    fn message(self) -> Result<Message, serde_json::Error> {
        Ok(match self {
            Self::Text(text) => text.into(),
            Self::Json(value) => Message::json(&value)?,
            Self::Bytes(bytes) => bytes.into(),
        })
    }
}

/// Says what happens, and at which millisecond.
fn tell(mut events: Events) {
    let begun = Instant::now();
    while let Some(event) = events.recv_blocking() {
        let mut told = match event {
            Event::Connected { id } => json!({ "event": "connected", "id": id }),
            Event::Detached { id, .. } => json!({ "event": "detached", "id": id }),
            Event::Resumed { id } => json!({ "event": "resumed", "id": id }),
            Event::Gone { id, .. } => json!({ "event": "gone", "id": id }),
            Event::Message { id, feed, message, .. } => {
                let what = match &message {
                    Message::Text(text) => json!({ "text": text.as_str() }),
                    Message::Json(json) => json!({ "json": json.as_str() }),
                    Message::Binary(bytes) => json!({ "bytes": bytes.as_ref() }),
                    other => json!({ "other": format!("{other:?}") }),
                };
                json!({ "event": "message", "id": id, "feed": feed, "what": what })
            }
            other => json!({ "event": format!("{other:?}") }),
        };
        told["at"] = json!(begun.elapsed().as_millis());
        println!("{told}");
    }
}

/// Returns the address of a way to the hub that ends, and lets nobody through, while it is cut.
fn cable(hub: SocketAddr, is_cut: watch::Receiver<bool>) -> io::Result<SocketAddr> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        runtime.block_on(async {
            loop {
                if let Ok((near, _)) = listener.accept().await {
                    tokio::spawn(pass(near, hub, is_cut.clone()));
                }
            }
        });
    });
    Ok(address)
}

/// One connection by the cable.
async fn pass(mut near: TcpStream, hub: SocketAddr, mut is_cut: watch::Receiver<bool>) {
    if *is_cut.borrow() {
        // Node's socket is not told of an end before its request has left.
        let _ = near.read(&mut [0; 1024]).await;
        return;
    }
    let Ok(mut far) = TcpStream::connect(hub).await else { return };
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    tokio::select! {
        _ = is_cut.wait_for(|is_cut| *is_cut) => {}
        _ = copy_bidirectional(&mut near, &mut far) => {}
    }
}
