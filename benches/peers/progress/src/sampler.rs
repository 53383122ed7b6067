//! The cost of open jobs for the hub's own thread.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use stepcast::Hub;

use crate::viewers;

/// The nanoseconds of CPU, and the sleeps, of the newest of the process's threads that hubs run on.
fn hub_thread() -> (u64, u64) {
    let tasks = fs::read_dir("/proc/self/task").expect("the threads");
    let mut ids: Vec<u64> =
        tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect();
    ids.sort_unstable();
    let of = |id: &u64, file: &str| fs::read_to_string(format!("/proc/self/task/{id}/{file}"));
    let is_hub = |id: &&u64| of(id, "comm").is_ok_and(|name| name.trim() == "stepcast");
    let id = ids.iter().rev().find(is_hub).expect("the hub's thread");
    let cpu = of(id, "schedstat").expect("a thread");
    let cpu = cpu.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds");
    let status = of(id, "status").expect("a thread");
    let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    (cpu, sleeps.and_then(|count| count.trim().parse().ok()).expect("a count"))
}

/// Jobs that are open, of which some move between two samples, and somebody watches.
pub fn many_jobs(time: Duration) {
    let hub = Hub::spawn_blocking("127.0.0.1:0").expect("a free port");
    let run = hub.job("all").start();
    let jobs: Vec<_> =
        (0..10_000).map(|n| run.child(format!("job {n}")).total(1000).start()).collect();
    let _watching = viewers::watch(&hub, 1);
    std::thread::sleep(Duration::from_secs(1)); // the snapshot is delivered
    let ((before, _), started, mut first) = (hub_thread(), Instant::now(), 0);
    while started.elapsed() < time {
        (first..first + 100).for_each(|n| jobs[n % jobs.len()].inc(1));
        first += 100;
        std::thread::sleep(Duration::from_millis(100));
    }
    let share = (hub_thread().0 - before) as f64 / started.elapsed().as_nanos() as f64;
    println!(
        "\n10 000 open jobs, 100 of which move between two samples, 1 viewer: {:.2} % of a core",
        100.0 * share
    );
}

/// A job that moves while nobody watches.
pub fn at_rest(time: Duration) {
    let hub = Hub::spawn_blocking("127.0.0.1:0").expect("a free port");
    let job = hub.job("time loop").total(1 << 40).start();
    std::thread::sleep(Duration::from_secs(2));
    let ((cpu, sleeps), started) = (hub_thread(), Instant::now());
    while started.elapsed() < time {
        job.inc(1);
        job.metric("loss", 0.25);
        std::thread::yield_now();
    }
    let (cpu_after, sleeps_after) = hub_thread();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "A job and a series that move without pause, nobody watches: {:.1} wake-ups a second, {:.4} % of a core",
        (sleeps_after - sleeps) as f64 / seconds,
        (cpu_after - cpu) as f64 / seconds / 1e7,
    );
}

/// The bytes that one viewer of a job and three series is sent.
pub fn bytes_for_a_viewer(time: Duration) {
    let hub = Hub::spawn_blocking("127.0.0.1:0").expect("a free port");
    let job = hub.job("time loop").total(1 << 40).unit("steps").start();
    let watching = viewers::watch(&hub, 1);
    let series: Vec<_> = ["residual", "energy", "mass"].map(|name| job.series(name)).into();
    let begin = Instant::now();
    let turn = |until: Duration| {
        while begin.elapsed() < until {
            job.inc(1);
            let x = job.position();
            for (n, series) in series.iter().enumerate() {
                series.push(x, (x * 0.001 + n as f64).sin() / 3.0);
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    };
    turn(Duration::from_secs(1)); // the series are announced
    let before = watching.bytes.load(Ordering::Relaxed);
    turn(Duration::from_secs(1) + time);
    let bytes = watching.bytes.load(Ordering::Relaxed) - before;
    println!(
        "One job and three series, each viewer: {:.0} bytes a second",
        bytes as f64 / time.as_secs_f64()
    );
}
