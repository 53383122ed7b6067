//! A hub whose listener meets `EMFILE`, because its process has run out of file descriptors: in a
//! process of its own, with few.
#![cfg(target_os = "linux")]

mod peer;

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use peer::{Peer, until};
use stepcast::Hub;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const CHILD: &str = "STEPCAST_TEST_FEW_DESCRIPTORS";

/// Counts the warnings: the hub says once that it cannot accept, each time that this begins.
struct Warnings;

static WARNINGS: AtomicU64 = AtomicU64::new(0);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn event(&self, _: &Event<'_>) {
        WARNINGS.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn until_warned(times: u64) {
    until("the hub to have tried, and failed", || WARNINGS.load(Ordering::Relaxed) == times);
}

/// Takes all descriptors but as many.
fn hoard(but: usize) -> Vec<File> {
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    files.truncate(files.len() - but);
    files
}

/// Where the system says how much processor time the hub's thread has taken.
fn stat_of_hub() -> File {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let mut stats = tasks.map(|task| task.unwrap().path().join("stat"));
    let path = stats.find(|path| fs::read_to_string(path).unwrap().contains("(stepcast)"));
    File::open(path.unwrap()).unwrap()
}

/// That time in hundredths of a second, without another descriptor.
fn time_taken(mut stat: &File) -> u64 {
    let mut text = String::new();
    stat.rewind().unwrap();
    stat.read_to_string(&mut text).unwrap();
    let fields: Vec<_> = text.split(' ').collect();
    fields[13].parse::<u64>().unwrap() + fields[14].parse::<u64>().unwrap()
}

fn out_of_descriptors() {
    tracing::subscriber::set_global_default(Warnings).unwrap();
    let hub = Hub::spawn_thread("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();

    // Nobody is connected, so nothing but its own clock makes the hub try again.
    let files = hoard(1);
    let waiting = TcpStream::connect(address).unwrap();
    until_warned(1);
    drop(files);
    let mut first = Peer::upgrade(waiting, address);

    // Those connected are served meanwhile, and the hub does not spin.
    let stat = stat_of_hub();
    let files = hoard(1);
    let waiting = TcpStream::connect(address).unwrap();
    until_warned(2);
    let before = time_taken(&stat);
    for _ in 0..10 {
        hub.broadcast("goes on");
        assert_eq!(first.text(), "goes on");
        thread::sleep(Duration::from_millis(50)); // half a second in which it has little to do
        assert_eq!(WARNINGS.load(Ordering::Relaxed), 2, "it says so once");
    }
    let taken = time_taken(&stat) - before;
    assert!(taken < 20, "{taken} hundredths of a second");
    drop(files);
    let mut second = Peer::upgrade(waiting, address);
    hub.broadcast("all in");
    assert_eq!((first.text(), second.text()), ("all in".into(), "all in".into()));
}

#[test]
fn out_of_descriptors_the_hub_serves_whom_it_has_does_not_spin_and_accepts_again_later() {
    if std::env::var_os(CHILD).is_some() {
        return out_of_descriptors();
    }
    let name =
        "out_of_descriptors_the_hub_serves_whom_it_has_does_not_spin_and_accepts_again_later";
    let status = Command::new("sh")
        .args(["-c", r#"ulimit -n 48; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert!(status.success());
}
