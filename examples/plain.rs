//! The hub that `plain.html` talks to: open that file from disk, or serve it from anywhere.
//!
//!     cargo run --release --example plain

use stepcast::{Event, Hub};

fn main() -> Result<(), stepcast::SpawnError> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "0.0.0.0:8002".to_owned());
    // Other machines can reach that address, and a page from disk has the origin "null". The hub
    // refuses both by default.
    let hub = Hub::builder().allow_remote().allow_origin("null").spawn_blocking(address)?;
    let mut events = hub.events();
    println!("open examples/plain.html: it connects to {}", hub.url().unwrap_or_default());
    while let Some(event) = events.recv_blocking() {
        if let Event::Connected { id } = event {
            let _ = hub.send(id, format!("hello, client {id}: only you get this message"));
        }
    }
    Ok(())
}
