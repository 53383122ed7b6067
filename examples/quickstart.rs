//! The smallest program: computes pi and shows its progress.
//!
//!     cargo run --release --example quickstart

use stepcast::Hub;

fn main() -> Result<(), stepcast::SpawnError> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8002".to_owned());
    let hub = Hub::spawn_blocking(address)?;
    for url in hub.urls() {
        println!("watch at {url}");
    }

    // The area under 4 / (1 + x^2) from 0 to 1, in 1000 parts of 20 million strips each.
    let (parts, strips) = (1000, 20_000_000);
    let width = 1.0 / (f64::from(parts) * f64::from(strips));
    let mut area = 0.0;
    let viewers = hub.everyone();
    for part in 0..parts {
        for strip in 0..strips {
            let x = (f64::from(part) * f64::from(strips) + f64::from(strip) + 0.5) * width;
            area += 4.0 / (1.0 + x * x) * width;
        }
        let progress = part + 1;
        let state = format!(r#"{{"progress":{progress},"total":{parts},"area":{area}}}"#);
        let _ = viewers.set("progress", state); // a viewer must not end a run
    }
    hub.finish(&format!("pi is {area}"));
    Ok(())
}
