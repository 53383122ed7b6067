//! A program with a logger of the crate `log`, such as `env_logger`, and without a `tracing`
//! subscriber reads what the hub says. The logger is the process's, so this file has one test.

mod support;

use std::sync::Mutex;

use crate::support::peer::{exchange, until};
use log::{LevelFilter, Log, Metadata, Record};
use stepcast::{Hub, SendError};

static LINES: Lines = Lines(Mutex::new(Vec::new()));

struct Lines(Mutex<Vec<String>>);

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!("{} {} {}", record.level(), record.target(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

impl Lines {
    fn has(&self, texts: &[&str]) -> bool {
        let has_all = |line: &String| texts.iter().all(|text| line.contains(text));
        self.0.lock().unwrap().iter().any(has_all)
    }
}

#[test]
fn a_logger_of_the_crate_log_is_told_of_refusals() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(LevelFilter::Info);
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    assert!(LINES.has(&["INFO stepcast", "hub listening"]));
    exchange(hub.local_addr().unwrap(), b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    until("the request's line", || {
        LINES.has(&["WARN stepcast", "request refused", "evil.example"])
    });
    let nobody = "4711".parse().unwrap();
    assert_eq!(hub.send(nobody, "x"), Err(SendError::NoSuchClient(nobody)));
    until("the push's line", || LINES.has(&["stepcast", "no client 4711"]));
}
