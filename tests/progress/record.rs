//! Recordings of a run.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stepcast::{Hub, Level};

use crate::support::log::Log;
use crate::support::peer::until;
use crate::support::wire::PATIENCE;

fn hub() -> Hub {
    Hub::spawn_blocking("127.0.0.1:0").unwrap()
}

/// What was recorded. A write takes this long. Clones share it.
#[derive(Debug, Clone, Default)]
struct Tape(Arc<Mutex<Vec<u8>>>, Duration);

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        thread::sleep(self.1);
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tape {
    /// The lines so far. Each has its moment in front.
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let (whole, rest) = text.rsplit_once('\n').unwrap_or_default();
        assert_eq!(rest, "", "a line is written whole");
        let line = |line: &str| {
            assert!(line.starts_with("{\"at\":1"), "{line}");
            serde_json::from_str(line).unwrap()
        };
        whole.lines().map(line).collect()
    }

    fn has(&self, is: impl Fn(&Value) -> bool) -> bool {
        self.lines().iter().any(is)
    }
}

/// The states that a job was recorded in.
fn path(lines: &[Value], title: &str) -> Vec<String> {
    let jobs = lines.iter().map(|line| &line["job"]).filter(|job| job["title"] == title);
    let mut path: Vec<_> = jobs.map(|job| job["status"].as_str().unwrap().to_owned()).collect();
    path.dedup();
    path
}

#[test]
fn a_recording_without_a_viewer_has_the_run_from_its_call_to_its_end() {
    let (hub, tape) = (hub(), Tape::default());
    hub.set_title("Gray-Scott");
    let early = hub.job("spin-up").total(10).start();
    early.inc(3);
    hub.record(tape.clone()).unwrap();
    until("a report", || tape.has(|line| line["report"]["progress"] == 3));
    let job = hub.job("time loop").total(1000).start();
    let limiter = hub.parameter("limiter", true);
    hub.log(Level::Warn, "the step was halved");
    until("the line", || tape.has(|line| line["job"]["title"] == "time loop"));
    job.inc(412);
    until("the line", || tape.has(|line| line["report"]["progress"] == 412));
    drop(limiter);
    until("the line", || tape.has(|line| line["removed"].is_string()));
    early.finish();
    hub.finish("converged");
    drop(hub);
    let lines = tape.lines();
    assert_eq!(lines[0]["run"]["title"], "Gray-Scott");
    assert_eq!(path(&lines, "spin-up"), ["working", "completed"]);
    assert_eq!(path(&lines, "time loop"), ["working", "abandoned"]);
    assert!(tape.has(|line| line["log"]["text"] == "the step was halved"));
    let end = &lines.last().unwrap()["end"];
    assert_eq!((&end["how"], &end["reason"]), (&"finished".into(), &"converged".into()));
    assert_eq!(lines.iter().filter(|line| line.get("end").is_some()).count(), 1);
    // A report that was held back has its own moment.
    let at: Vec<_> = lines.iter().filter(|line| line.get("report").is_none()).collect();
    assert!(at.windows(2).all(|two| two[0]["at"].as_u64() <= two[1]["at"].as_u64()));
}

#[test]
fn a_recording_that_begins_late_begins_with_the_whole_state() {
    let (hub, early, late) = (hub(), Tape::default(), Tape::default());
    hub.record(early.clone()).unwrap();
    let phases = hub.phases([("spin-up", 1.0), ("time loop", 20.0)]);
    phases[0].begin();
    phases[0].finish();
    let _limiter = hub.parameter("limiter", true);
    until("the state", || {
        path(&early.lines(), "spin-up").last().is_some_and(|state| state == "completed")
    });
    let residual = hub.series("residual");
    residual.push(1.0, 0.5);
    // The point comes with the series, or after it.
    let has_point =
        |line: &Value| line["series"]["y"] == json!([0.5]) || line["points"][0][4] == json!([0.5]);
    until("the point", || early.has(has_point));
    hub.record(late.clone()).unwrap();
    until("the line", || late.has(|line| line["job"]["title"] == "time loop"));
    let lines = late.lines();
    assert!(lines[0].get("run").is_some(), "{:?}", lines[0]);
    assert_eq!(path(&lines, "spin-up"), ["completed"]);
    assert_eq!(path(&lines, "time loop"), ["queued"]);
    assert!(late.has(|line| line["parameter"]["name"] == "limiter"));
    assert!(late.has(|line| line["series"]["y"] == json!([0.5])));
    residual.push(2.0, 0.25);
    until("the next point", || late.has(|line| line["points"][0][4] == json!([0.25])));
}

#[test]
fn nothing_is_recorded_while_nothing_changes() {
    let (hub, tape) = (hub(), Tape::default());
    let job = hub.job("long step").start();
    hub.record(tape.clone()).unwrap();
    until("the line", || tape.has(|line| line.get("report").is_some()));
    job.set_message("assembling");
    until("the line", || tape.has(|line| line["job"]["message"] == "assembling"));
    let before = tape.lines().len();
    thread::sleep(Duration::from_millis(500)); // five samples
    // One report says that the job is idle.
    assert!(tape.lines().len() <= before + 1, "{:?}", tape.lines());
}

#[test]
fn the_end_that_is_recorded_is_the_hubs() {
    for (end, how, reason) in [
        ((|hub| hub.fail("NaN in T")) as fn(&Hub), "failed", "NaN in T"),
        (|hub| hub.shutdown_blocking(PATIENCE), "ended", "the hub has ended"),
        (|_| (), "ended", "the hub has ended"),
    ] {
        let (hub, tape) = (hub(), Tape(Arc::default(), Duration::from_millis(50)));
        hub.record(tape.clone()).unwrap();
        end(&hub);
        drop(hub);
        let lines = tape.lines();
        let end = &lines.last().unwrap()["end"];
        assert_eq!((&end["how"], &end["reason"]), (&how.into(), &reason.into()), "{lines:?}");
    }
}

#[test]
fn a_runtime_that_goes_ends_the_recording() {
    let tape = Tape::default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let hub = runtime.block_on(async {
        let hub = Hub::builder().runtime(tokio::runtime::Handle::current());
        hub.spawn("127.0.0.1:0").await.unwrap()
    });
    hub.record(tape.clone()).unwrap();
    until("a line", || !tape.lines().is_empty());
    drop(runtime);
    assert_eq!(tape.lines().last().unwrap()["end"]["how"], "ended");
    assert!(hub.record(tape).is_err(), "the hub has ended");
    assert!(Hub::disabled().record(Tape::default()).is_ok());
}

/// A disk that takes nothing until it is told to.
#[derive(Clone, Default)]
struct Stuck(Arc<(Mutex<bool>, Condvar)>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (free, frees) = &*self.0;
        let stuck = free.lock().unwrap();
        drop(frees.wait_timeout_while(stuck, 3 * PATIENCE, |free| !*free));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_hangs_holds_up_neither_another_recording_nor_the_end_for_long() {
    let (hub, stuck, tape) = (hub(), Stuck::default(), Tape::default());
    hub.record(stuck.clone()).unwrap();
    hub.record(tape.clone()).unwrap();
    let job = hub.job("time loop").start();
    until("the line", || tape.has(|line| line["job"]["title"] == "time loop"));
    job.inc(1);
    let begun = Instant::now();
    drop((job, hub));
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert_eq!(tape.lines().last().unwrap()["end"]["how"], "ended");
    *stuck.0.0.lock().unwrap() = true;
    stuck.0.1.notify_all();
}

struct Bad(fn() -> io::Result<usize>);

impl Write for Bad {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        (self.0)()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[test]
fn a_writer_that_fails_or_panics_ends_its_recording_with_one_warning() {
    let log = Log::warnings();
    let hub = tracing::subscriber::with_default(log.clone(), hub);
    let tape = Tape::default();
    hub.record(Bad(|| Err(io::ErrorKind::StorageFull.into()))).unwrap();
    hub.record(Bad(|| panic!("in the writer"))).unwrap();
    hub.record(tape.clone()).unwrap();
    let job = hub.job("time loop").start();
    until("the warnings", || log.count("recording of the run ended early") == 2);
    assert_eq!(log.count("in the writer"), 1, "{}", log.text());
    job.set_message("goes on");
    until("the line", || tape.has(|line| line["job"]["message"] == "goes on"));
    job.finish();
    drop(hub);
    assert_eq!(log.count("recording"), 2, "{}", log.text());
    assert!(tape.lines().last().unwrap().get("end").is_some());
}
