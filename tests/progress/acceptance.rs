//! What users of other progress libraries complain of, and shall not of this one.

use std::collections::HashSet;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use serde_json::json;
use stepcast::{Hub, JobStatus};

use crate::support::lines::V1;
use crate::viewer::Viewer;

fn hub() -> Hub {
    Hub::spawn_blocking("127.0.0.1:0").unwrap()
}

#[test]
fn sixteen_threads_count_on_one_job_and_lose_nothing() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let job = hub.job("cells").total(1_600_000).start();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| (0..100_000).for_each(|_| job.inc(1)));
        }
    });
    assert_eq!(job.position(), 1_600_000.0);
    viewer.until("all of it", |viewer| {
        viewer.reports.values().any(|report| report["progress"] == 1_600_000)
    });
}

#[test]
fn a_viewer_that_reads_nothing_holds_up_no_call_and_then_gets_the_newest_state() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let job = hub.job("time loop").total(1_000_000).start();
    viewer.until("the job", |viewer| viewer.job("time loop").is_some());
    // The viewer does not read for several samples, in which 40 MB are said.
    let begin = Instant::now();
    let mut said = 0;
    while begin.elapsed() < Duration::from_millis(600) || said < 10_000 {
        said += 1;
        job.set_message(format!("{said} {}", "x".repeat(4000)));
        job.metric("residual", 1.0);
        job.inc(1);
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    job.set_message("the newest");
    viewer.until("the newest state", |viewer| {
        viewer.job("time loop").is_some_and(|job| job["message"] == "the newest")
            && viewer.reports.values().any(|report| report["progress"] == said)
    });
}

#[test]
fn a_cancel_that_races_the_end_leaves_one_final_state() {
    let hub = hub();
    for round in 0..200 {
        let job = hub.job("short").cancellable().start();
        let both = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                both.wait();
                job.cancel();
            });
            both.wait();
            job.finish();
        });
        assert_eq!(job.status(), JobStatus::Completed, "round {round}");
        job.cancelled();
        assert_eq!(job.status(), JobStatus::Completed);
    }
}

#[test]
fn ten_thousand_open_jobs_are_a_bounded_snapshot() {
    let hub = hub();
    let all = hub.job("all").start();
    let jobs: Vec<_> =
        (0..10_000).map(|n| all.child(format!("job {n}")).total(10).start()).collect();
    let mut late = V1::connect(&hub, &json!({"feeds": {"stepcast/run": {}}}));
    let (mut told, mut bytes) = (HashSet::new(), 0);
    let begin = Instant::now();
    while told.len() <= jobs.len() {
        let line = late.any_line();
        bytes += line.to_string().len();
        let job = &line["json"][3]["job"];
        if job["status"] == "working" {
            told.insert(job["id"].as_u64().unwrap()); // some are seen between `queue` and `begin`
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    assert!(bytes < 500 * jobs.len(), "{bytes}");
    // Of one that moves, the position is told, and of no job again what it is.
    jobs[5000].inc(3);
    loop {
        let line = late.any_line();
        let content = &line["json"][3];
        assert!(content.get("job").is_none(), "{line}");
        if content["report"]["progress"] == 3 {
            break;
        }
    }
}

#[test]
fn a_million_metrics_take_a_viewer_a_few_lines() {
    let hub = hub();
    let job = hub.job("time loop").start();
    let begin = Instant::now();
    for n in 0..1_000_000_u32 {
        job.metric("residual", n);
        job.inc(1);
    }
    // Debug builds on a busy machine take some seconds, of which each has ten samples.
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    let hello = json!({"feeds": {"stepcast/series": {}}});
    let mut client = V1::connect(&hub, &hello);
    let (mut bytes, mut n) = (0, 0);
    while n < 1_000_000 {
        let line = client.any_line();
        bytes += line.to_string().len();
        let content = &line["json"][3];
        n = n.max(content["series"]["n"].as_u64().unwrap_or(0));
        n = n.max(content["points"][0][2].as_u64().unwrap_or(0));
    }
    assert!(bytes < 400_000, "{bytes}");
}
