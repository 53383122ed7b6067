//! The program of `run.py`. It pushes numbered steps to its first client and to all until that
//! client has it finish the feed `run`, and then has it end. It also ends when its input does.

use std::error::Error;
use std::time::Duration;
use std::{io, process, thread};

use serde_json::json;
use stepcast::{Event, Events, Hub, Limits, Message};

fn main() -> Result<(), Box<dyn Error>> {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        process::exit(1);
    });
    let limits = Limits::default().feed(256 << 10).inbound_per_second(100);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0")?;
    let mut events = hub.events();
    println!("{}", hub.url().ok_or("no address")?);
    let id = loop {
        if let Event::Connected { id } = events.recv_blocking().ok_or("nobody came")? {
            break id;
        }
    };

    let run = hub.feed("run")?;
    let told = hub.feed("told")?;
    hub.follow(id, &told)?;
    let mut step = 0;
    while !has_said(&mut events, Some("run"), &"finish".into()) {
        thread::sleep(Duration::from_millis(1));
        step += 1;
        hub.broadcast(numbered(step)?);
        run.send(numbered(step)?)?;
        run.set("step", step.to_string())?;
        run.set(&(step % 7).to_string(), numbered(step)?)?;
        run.remove(&((step + 3) % 7).to_string())?;
        told.set("step", step.to_string())?;
        if step % 3 == 0 {
            hub.send(id, numbered(step)?)?;
            hub.set(id, "step", numbered(step)?)?;
        }
        if step % 100 == 0 {
            println!("{step}");
        }
    }
    run.finish("converged")?;
    hub.send(id, "the last")?;
    println!("{step} in all");

    while !has_said(&mut events, None, &b"end".into()) {
        thread::sleep(Duration::from_millis(1));
    }
    hub.finish("Converged.");
    Ok(())
}

/// Whether the next event is this message, about this feed.
fn has_said(events: &mut Events, about: Option<&str>, what: &Message) -> bool {
    matches!(events.try_recv(), Some(Event::Message { feed, message, .. })
        if feed.as_deref() == about && message == *what)
}

/// A message of each kind, by turns: text, JSON, and bytes that take a frame of some size.
fn numbered(step: usize) -> Result<Message, serde_json::Error> {
    Ok(match step % 3 {
        0 => step.to_string().into(),
        1 => Message::json(&json!({ "step": step }))?,
        _ => format!("{step:02000}").into_bytes().into(),
    })
}
