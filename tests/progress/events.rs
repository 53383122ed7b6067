//! `GET /events`: the run as lines of JSON.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use stepcast::{Hub, HubBuilder, Level, Limits, SendError, Timeouts};

use crate::support::peer::{exchange, until};
use crate::viewer::Viewer;

const PATIENCE: Duration = Duration::from_secs(30);

/// A script that follows the run.
struct Script {
    lines: BufReader<TcpStream>,
    head: String,
}

impl Script {
    fn of(hub: &Hub) -> Self {
        Self::at(hub, "/events")
    }

    fn at(hub: &Hub, path: &str) -> Self {
        let mut socket = TcpStream::connect(hub.local_addr().unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut script = Self { lines: BufReader::new(socket), head: String::new() };
        while !script.head.ends_with("\r\n\r\n") {
            assert_ne!(script.lines.read_line(&mut script.head).unwrap(), 0, "{}", script.head);
        }
        script
    }

    /// The next line; `None`: the end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.lines.read_line(&mut line).unwrap();
        (count > 0).then(|| line.strip_suffix('\n').expect("a whole line").to_owned())
    }

    /// The next object; `None`: the end.
    fn object(&mut self) -> Option<Value> {
        loop {
            let line = self.line()?;
            if line.is_empty() {
                continue; // the hub lives
            }
            assert!(line.starts_with("{\"at\":17") || line.starts_with("{\"at\":18"), "{line}");
            let object: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(object.as_object().unwrap().len(), 2, "{line}");
            return Some(object);
        }
    }

    /// Reads until an object has this kind and is as it should be.
    fn until(&mut self, kind: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        loop {
            let object = self.object().unwrap_or_else(|| panic!("no {kind} before the end"));
            if object.get(kind).is_some_and(&is_right) {
                return object;
            }
        }
    }

    /// Reads the last line, and the end behind it.
    fn end(&mut self) -> Value {
        let end = self.until("end", |_| true);
        assert_eq!(self.line(), None);
        end["end"].clone()
    }
}

fn builder() -> HubBuilder {
    Hub::builder()
}

#[test]
fn a_script_is_given_the_state_and_then_what_changes_until_the_hub_ends() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    hub.set_title("Gray-Scott");
    let job = hub.job("time loop").total(100).start();
    let f = hub.parameter("feed rate", 0.04);
    let mut early = Viewer::of(&hub);
    early.until("the parameter", |viewer| !viewer.parameters.is_empty());
    let mut script = Script::of(&hub);
    for part in ["200 OK", "application/x-ndjson", "no-store", "X-Accel-Buffering: no"] {
        assert!(script.head.contains(part), "{}", script.head);
    }
    assert!(!script.head.contains("Content-Length"), "{}", script.head);
    let mut state: Vec<String> = (0..3)
        .map(|_| {
            let object = script.object().unwrap();
            object.as_object().unwrap().keys().find(|key| *key != "at").unwrap().clone()
        })
        .filter(|kind| kind != "report")
        .collect();
    state.sort_unstable();
    assert!(state.contains(&"job".to_owned()), "{state:?}");
    job.inc(41);
    let report = script.until("report", |report| report["progress"] == 41);
    assert!(report["at"].as_u64() > Some(1_764_000_000_000));
    hub.log(Level::Info, "restart written");
    script.until("log", |log| log["text"] == "restart written");
    let id = *early.parameters.keys().next().unwrap();
    drop(f);
    script.until("removed", |removed| *removed == json!(format!("parameter/{id}")));
    job.finish();
    script.until("job", |job| job["status"] == "completed");
    hub.finish("Converged: \"4\"");
    assert_eq!(script.end(), json!({"how": "finished", "reason": "Converged: \"4\""}));
}

#[test]
fn the_last_line_says_how_the_hub_ended() {
    for (how, reason) in [("failed", "NaN in T"), ("ended", "the hub has ended")] {
        let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
        let job = hub.job("time loop").start();
        let mut script = Script::of(&hub);
        script.until("job", |job| job["status"] == "working");
        if how == "failed" {
            hub.fail(reason);
        } else {
            hub.shutdown_blocking(PATIENCE);
        }
        let last = if how == "failed" { "failed" } else { "abandoned" };
        script.until("job", |job| job["status"] == last);
        assert_eq!(script.end(), json!({"how": how, "reason": reason}));
        drop(job);
    }
}

#[test]
fn a_script_asks_for_lines_of_a_level_and_above() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut script = Script::at(&hub, "/events?x=1&level=warn");
    for level in [Level::Trace, Level::Info, Level::Warn, Level::Error] {
        for _ in 0..1500 {
            hub.log(level, level.name());
        }
    }
    let mut levels = Vec::new();
    while levels.len() < 3000 {
        let line = script.until("log", |_| true);
        levels.push(line["log"]["level"].as_str().unwrap().to_owned());
    }
    assert!(levels[..1500].iter().all(|level| level == "warn"));
    assert!(levels[1500..].iter().all(|level| level == "error"));
    hub.job("the next").start().finish();
    script.until("job", |job| job["title"] == "the next");
    let wrong = b"GET /events?level=loud HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = exchange(hub.local_addr().unwrap(), wrong);
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("warn"), "{answer}");
}

#[test]
fn a_script_that_reads_nothing_is_told_how_many_lines_it_has_missed_and_gets_the_newest_state() {
    const BATCHES: u64 = 40;
    let limits = Limits::default().feed(4 << 20);
    let timeouts = Timeouts::default().stall(Duration::from_secs(600));
    let hub = builder().limits(limits).timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap();
    let job = hub.job("time loop").start();
    let mut script = Script::of(&hub);
    let mut viewer = Viewer::of(&hub);
    let text = "x".repeat(10_000);
    for batch in 1..=BATCHES {
        (1..64).for_each(|_| hub.log(Level::Info, text.clone()));
        job.set_position(batch);
        let last = format!("batch {batch}");
        hub.log(Level::Info, last.clone());
        viewer.until("the batch", |viewer| viewer.log.last().is_some_and(|l| l["text"] == last));
        viewer.log.clear();
        assert!(hub.stats().memory < 16 << 20, "{}", hub.stats().memory);
    }
    hub.log(Level::Info, "the last line");
    let (mut lines, mut lost, mut reports) = (0, 0, Vec::new());
    loop {
        let object = script.object().unwrap();
        if let Some(report) = object.get("report") {
            reports.push(report["progress"].as_u64().unwrap());
        }
        let Some(log) = object.get("log") else { continue };
        if log["text"] == "the last line" {
            break;
        }
        let missed = log.get("lost").and_then(Value::as_u64);
        lost += missed.unwrap_or(0);
        lines += u64::from(missed.is_none());
    }
    assert!(lost > 0, "or this test shows nothing");
    assert_eq!(lines + lost, 64 * BATCHES);
    while reports.last() != Some(&BATCHES) {
        reports.push(script.until("report", |_| true)["report"]["progress"].as_u64().unwrap());
    }
    assert!(reports.is_sorted() && reports.len() < 40, "{reports:?}");
}

#[test]
fn the_rules_are_those_for_sockets() {
    let limits = Limits::default().clients(1);
    let hub =
        builder().limits(limits).authorize_follow(|_, request| request.query() != Some("secret"));
    let hub = hub.spawn_blocking("127.0.0.1:0").unwrap();
    let ask = |path: &str, more: &str| {
        let request = format!("GET {path} HTTP/1.1\r\n{more}\r\n");
        exchange(hub.local_addr().unwrap(), request.as_bytes())
    };
    assert!(ask("/events", "Host: evil.example\r\n").starts_with("HTTP/1.1 403"));
    let foreign = "Host: localhost\r\nOrigin: http://evil.example\r\n";
    assert!(ask("/events", foreign).starts_with("HTTP/1.1 403"));
    assert!(ask("/events?secret", "Host: localhost\r\n").starts_with("HTTP/1.1 403"));
    let head = "HEAD /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = exchange(hub.local_addr().unwrap(), head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
    let post = "POST /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(exchange(hub.local_addr().unwrap(), post.as_bytes()).starts_with("HTTP/1.1 405"));
    let script = Script::of(&hub);
    assert_eq!(hub.stats().clients, 1);
    assert!(ask("/events", "Host: localhost\r\n").starts_with("HTTP/1.1 503"));
    drop(script);
    until("it has gone", || hub.stats().clients == 0);
    let mut next = Script::of(&hub);
    let client = &hub.clients()[0];
    let refused = hub.send(client.id(), "for it alone");
    assert!(matches!(refused, Err(SendError::NoSuchClient(_))), "{refused:?}");
    hub.broadcast("for all sockets");
    client.disconnect("enough").unwrap();
    assert_eq!(next.end(), json!({"how": "closed", "reason": "enough"}));
}

#[test]
fn an_empty_line_says_that_the_hub_lives() {
    let timeouts = Timeouts::default().keepalive(Duration::from_secs(1));
    let hub = builder().timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap();
    let mut script = Script::of(&hub);
    assert_eq!(script.line().as_deref(), Some(""));
    let mut socket = script.lines.get_ref().try_clone().unwrap();
    socket.write_all(b"what nobody has asked for").unwrap();
    assert_eq!(script.line().as_deref(), Some(""));
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut rest = [0; 64];
    match socket.read(&mut rest) {
        Ok(count) => assert!(rest[..count].iter().all(|byte| *byte == b'\n')),
        Err(error) => assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)),
    }
}

#[test]
fn a_script_has_the_series_with_what_was_before_it() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let job = hub.job("time loop").start();
    let residual = job.series("residual");
    residual.push(1.0, 0.5);
    let mut early = Script::of(&hub);
    early.until("series", |line| line["name"] == "residual");
    residual.push(2.0, 0.25);
    early.until("points", |points| points[0][4].as_array().unwrap().contains(&json!(0.25)));
    let mut late = Script::of(&hub);
    let series = late.until("series", |line| line["name"] == "residual");
    if series["n"] != 2 {
        late.until("points", |points| points[0][2] == 2);
    }
}
