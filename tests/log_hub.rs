//! The hub's logger for the crate `log`: what the run's log and the other logger get. The logger is
//! the process's, so this file has one test.
#![cfg(feature = "log")]

#[allow(dead_code)] // one test needs a part of it
#[path = "progress/viewer.rs"]
mod viewer;

mod support;

use std::fmt;
use std::sync::Mutex;

use log::{Level, LevelFilter, Log, Metadata, Record, debug, error, info, trace, warn};
use stepcast::Hub;

use crate::support::peer::{exchange, until};
use crate::viewer::Viewer;

static LINES: Lines = Lines(Mutex::new(Vec::new()));

/// The logger that records are passed on to.
struct Lines(Mutex<Vec<String>>);

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() != "mesh" // a record that is logged all the same comes, too
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!("{} {}", record.target(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {
        self.0.lock().unwrap().push("flushed".to_owned());
    }
}

impl Lines {
    fn has(&self, text: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line.contains(text))
    }
}

/// A value that tells of being formatted.
struct Talks;

impl fmt::Display for Talks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        info!("formatted");
        f.write_str("much")
    }
}

#[test]
fn records_are_lines_but_for_the_hubs_own_and_are_passed_on() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    log::set_boxed_logger(Box::new(hub.logger(&LINES).max_level(LevelFilter::Debug))).unwrap();
    log::set_max_level(LevelFilter::Trace);
    // What hubs say comes from `tracing`, which passes it on while there is no subscriber.
    let other = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    assert!(LINES.has("hub listening"));
    let address = hub.local_addr().unwrap();
    exchange(address, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    until("the request's line", || LINES.has("request refused"));
    drop(other);

    info!("begins");
    warn!(target: "mesh", "refined to {} cells", 512);
    debug!("told {Talks}");
    trace!("too fine");
    error!("{}", "ö".repeat(1 << 20));
    log::logger().flush();
    for text in ["begins", "mesh refined to 512 cells", "told much", "too fine", "flushed"] {
        assert!(LINES.has(text), "{text}");
    }
    let asked = |level, target| {
        log::logger().enabled(&Metadata::builder().level(level).target(target).build())
    };
    assert!(asked(Level::Debug, "mesh") && asked(Level::Trace, "another"));
    assert!(!asked(Level::Trace, "mesh"));

    let mut viewer = Viewer::of(&hub);
    let ended = hub.ended_token();
    hub.finish("done");
    viewer.until_bye();
    let line = |place: usize| {
        let line = &viewer.log[place];
        (line["level"].as_str().unwrap(), line["text"].as_str().unwrap())
    };
    assert_eq!(line(0), ("info", "log_hub: begins"));
    assert_eq!(line(1), ("warn", "mesh: refined to 512 cells"));
    assert_eq!(line(2), ("info", "log_hub: formatted"));
    assert_eq!(line(3), ("debug", "log_hub: told much"));
    assert_eq!(line(4), ("info", "log_hub: formatted"), "once more, by the other logger");
    assert!(line(5).0 == "error" && line(5).1.ends_with("ö…"));
    assert_eq!(viewer.log.len(), 6);

    // The logger does not keep the hub, and still passes on.
    drop(hub);
    assert!(ended.is_cancelled());
    info!("after the end");
    assert!(LINES.has("after the end"));
}
