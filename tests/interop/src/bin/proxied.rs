//! The hub behind each proxy of `.ci/proxies`. Its arguments are its port, and lines of its builder
//! as they are in a program: `.allow_host("run.example")`. It counts, and has finished when a
//! client says so.

use std::env;
use std::error::Error;
use std::time::Duration;

use stepcast::{Event, Hub, Timeouts};

fn main() -> Result<(), Box<dyn Error>> {
    // Well below the time after which the proxies of the tests give a silent connection up.
    let mut builder =
        Hub::builder().timeouts(Timeouts::default().keepalive(Duration::from_millis(200)));
    let mut arguments = env::args().skip(1);
    let port = arguments.next().ok_or("expected a port")?.parse::<u16>()?;
    for line in arguments {
        let call = line.strip_suffix(')').and_then(|line| line.split_once('('));
        builder = match call.map(|(name, argument)| (name, argument.trim_matches('"'))) {
            Some((".allow_host", host)) => builder.allow_host(host),
            Some((".allow_origin", origin)) => builder.allow_origin(origin),
            Some((".trusted_proxy", "[127, 0, 0, 1]")) => builder.trusted_proxy([127, 0, 0, 1]),
            _ => return Err(format!("expected a line of the builder, got {line}").into()),
        };
    }
    let hub = builder.spawn_blocking(("127.0.0.1", port))?;
    let mut events = hub.events();
    hub.everyone().set("progress", r#"{"progress":41,"total":100}"#)?;
    println!("{}", hub.url().ok_or("expected a page")?);
    while let Some(event) = events.recv_blocking() {
        if matches!(event, Event::Message { message, .. } if message.as_text() == Some("finish")) {
            hub.finish("converged");
        }
    }
    Ok(())
}
