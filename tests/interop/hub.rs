//! The program of `run.py`. It pushes numbered steps until a line comes in, and then finishes its
//! feed. After a second line it ends the hub.

use std::error::Error;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use std::{io, thread};

use serde_json::json;
use stepcast::{Event, Hub, Limits, Message};

fn main() -> Result<(), Box<dyn Error>> {
    let limits = Limits::default().feed(256 << 10);
    let hub = Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0")?;
    let mut events = hub.events();
    println!("{}", hub.url().ok_or("no address")?);
    let id = loop {
        if let Event::Connected { id } = events.recv_blocking().ok_or("nobody came")? {
            break id;
        }
    };

    let (sender, lines) = mpsc::channel();
    thread::spawn(move || io::stdin().lines().try_for_each(|line| sender.send(line)));
    let run = hub.feed("run")?;
    let told = hub.feed("told")?;
    hub.follow(id, &told)?;
    let mut step = 0;
    while let Err(RecvTimeoutError::Timeout) = lines.recv_timeout(Duration::from_millis(1)) {
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

    lines.recv()??;
    hub.finish("Converged.");
    Ok(())
}

/// A message of each kind, by turns: text, JSON, and bytes that take a frame of some size.
fn numbered(step: usize) -> Result<Message, serde_json::Error> {
    Ok(match step % 3 {
        0 => step.to_string().into(),
        1 => Message::json(&json!({ "step": step }))?,
        _ => format!("{step:02000}").into_bytes().into(),
    })
}
