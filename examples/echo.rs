//! An echo server that runs the hub's own connection code, for conformance tests.
//!
//!     cargo run --release --example echo -- 127.0.0.1:9001

use stepcast::{Hub, Limits};

fn main() -> Result<(), stepcast::SpawnError> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8002".to_owned());
    // The Autobahn suite sends messages of 16 MiB, one of them in 65 537 frames, and many at once.
    // That is far above the defaults for browsers.
    let limits = Limits::default()
        .inbound_message(16 << 20)
        .inbound_fragments(65_537)
        .inbound_per_second(u32::MAX)
        .mailbox(64 << 20);
    let hub = Hub::builder().limits(limits).without_greeting().echo().spawn_blocking(&address)?;
    println!("echoing at {address}");
    let mut events = hub.events();
    while events.recv_blocking().is_some() {}
    Ok(())
}
