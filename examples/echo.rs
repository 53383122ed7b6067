//! Sends back what it gets: the hub's connection code, as a conformance test sees it.
//!
//!     cargo run --release --example echo -- 127.0.0.1:9001

use stepcast::{Event, Hub, Limits};

fn main() -> Result<(), stepcast::SpawnError> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8002".to_owned());
    // The Autobahn suite sends messages of 16 MiB, one in 65 537 frames, and many at once: far
    // more than the defaults let a browser do.
    let limits = Limits::default()
        .inbound_message(16 << 20)
        .inbound_fragments(65_537)
        .inbound_per_second(u32::MAX)
        .mailbox(64 << 20)
        .events(65_536);
    let hub = Hub::builder().limits(limits).without_greeting().spawn_thread(address)?;
    let mut events = hub.events();
    println!("echoing at {}", hub.url());
    while let Some(event) = events.recv_blocking() {
        if let Event::Message { id, message } = event {
            let _ = hub.send(id, message);
        }
    }
    Ok(())
}
