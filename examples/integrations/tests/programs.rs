//! Each program with a viewer, who sees its jobs move and end, and stops it.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use support::viewer::Viewer;
use support::wire::PATIENCE;

const OPTIMIZE: &str = env!("CARGO_BIN_EXE_optimize");
const ORBIT: &str = env!("CARGO_BIN_EXE_orbit");
const PARALLEL: &str = env!("CARGO_BIN_EXE_parallel");
const TRAIN: &str = env!("CARGO_BIN_EXE_train");

struct Program {
    process: Child,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Program {
    /// Starts a program with so much work, and reads where it can be watched.
    fn start(path: &str, work: &str) -> Self {
        let mut command = Command::new(path);
        let mut process =
            command.args(["127.0.0.1:0", work]).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.strip_prefix("watch at http://").and_then(|url| url.strip_suffix("/\n"));
        let address = address.and_then(|address| address.parse().ok());
        Self { process, output, address: address.unwrap_or_else(|| panic!("no address: {line}")) }
    }

    /// Asks for the state of the run as a script does.
    fn state(&self) -> Value {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = self.address;
        let request = format!("GET /jobs HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        serde_json::from_str(body).unwrap()
    }

    /// Returns the first state for which this holds.
    fn until(&self, mut holds: impl FnMut(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let state = self.state();
            if holds(&state) {
                return state;
            }
            assert!(begun.elapsed() < PATIENCE, "{state}");
        }
    }

    /// Returns the rest of what the program printed, once it has ended well.
    fn end(mut self) -> String {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        assert!(self.process.wait().unwrap().success(), "{rest}");
        rest
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it has ended, unless the test has failed
        let _ = self.process.wait();
    }
}

/// Returns the first entry of a list whose member is this.
fn find<'a>(state: &'a Value, list: &str, member: &str, wanted: &str) -> Option<&'a Value> {
    state[list].as_array()?.iter().find(|entry| entry[member] == wanted)
}

/// Watches a program to its end. Returns the job of this title as it was left, and what the program
/// printed.
fn watch(path: &str, work: &str, title: &str) -> (Value, String) {
    let program = Program::start(path, work);
    let mut viewer = Viewer::at(program.address);
    viewer.until_status(title, "completed");
    let job = viewer.job(title).unwrap().clone();
    assert_eq!(job["progress"], job["total"], "{job}");
    (job, program.end())
}

/// Cancels a program that would run for long, once its job of this title has moved, and these series
/// have points.
fn stop(path: &str, work: &str, title: &str, series: &[&str]) {
    let program = Program::start(path, work);
    let mut viewer = Viewer::at(program.address);
    let has_moved = |viewer: &Viewer| {
        let id = viewer.job(title).map(|job| job["id"].as_u64().unwrap());
        let report = id.and_then(|id| viewer.reports.get(&id));
        report.is_some_and(|report| report["progress"].as_f64() > Some(0.0))
    };
    viewer.until("progress", has_moved);
    let state = program.until(|state| {
        let mut shown = series.iter().map(|name| find(state, "series", "name", name));
        shown.all(|series| series.is_some_and(|series| series["n"].as_u64() > Some(0)))
    });
    let job = find(&state, "jobs", "title", title);
    assert_eq!(job.expect("the job")["status"], "working", "{state}");

    viewer.command(&json!({"cancel": {"id": viewer.id(title)}}));
    viewer.until_status(title, "cancelled");
    let _ = program.end();
}

#[test]
fn an_optimization_ends_as_converged_with_fewer_iterations_than_it_may_take() {
    let (job, printed) = watch(OPTIMIZE, "100000", "Nelder-Mead");
    assert_eq!(job["message"], "Solver converged");
    assert!(job["total"].as_u64() < Some(500), "{job}");
    assert!(printed.contains("Solver converged"), "{printed}");
}

#[test]
fn a_parallel_computation_is_counted_by_rows() {
    let (job, printed) = watch(PARALLEL, "1000", "rows");
    assert_eq!(job["total"], 1000);
    assert!(printed.starts_with("the area is 1.5"), "{printed}");
}

#[test]
fn an_integration_is_shown_in_the_time_of_its_model() {
    let (job, printed) = watch(ORBIT, "4", "time");
    assert_eq!(job["total"], 4);
    assert!(printed.contains("accepted steps"), "{printed}");
}

#[test]
fn a_training_shows_its_epochs_and_their_batches() {
    let program = Program::start(TRAIN, "20");
    let mut viewer = Viewer::at(program.address);
    viewer.until_status("training", "completed");
    let training = viewer.job("training").unwrap();
    assert_eq!((&training["progress"], &training["total"]), (&json!(20), &json!(20)));
    let batches = viewer.jobs.values().filter(|job| job["parent"] == training["id"]);
    assert_eq!(batches.filter(|batches| batches["progress"] == 40).count(), 20);
    let _ = program.end();
}

#[test]
fn a_viewer_moves_the_learning_rate_and_the_training_follows() {
    let program = Program::start(TRAIN, "1000000");
    let mut viewer = Viewer::at(program.address);
    let is_whole = |rate: &Value| rate["name"] == "learning rate" && rate["max"] == 0.1;
    viewer.until("the parameter", |viewer| viewer.parameters.values().any(is_whole));
    let id = *viewer.parameters.keys().next().unwrap();
    viewer.command(&json!({"set": {"id": id, "value": 0}}));
    viewer.until("the value", |viewer| viewer.parameters[&id]["value"] == 0);

    let mut before = Value::Null;
    program.until(|state| {
        let Some(loss) = find(state, "series", "name", "loss") else { return false };
        let stays = loss["n"] != before["n"] && loss["y"] == before["y"];
        before = loss.clone();
        stays
    });
}

#[test]
fn a_viewer_stops_an_optimization() {
    stop(OPTIMIZE, "2000000", "Nelder-Mead", &["best cost"]);
}

#[test]
fn a_viewer_stops_a_parallel_computation() {
    stop(PARALLEL, "50000", "rows", &[]);
}

#[test]
fn a_viewer_stops_an_integration() {
    stop(ORBIT, "100000", "time", &["energy drift"]);
}

#[test]
fn a_viewer_stops_a_training() {
    stop(TRAIN, "1000000", "training", &["loss", "accuracy"]);
}
