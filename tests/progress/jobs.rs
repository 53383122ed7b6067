//! The states of jobs, as viewers see them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};
use stepcast::{Hub, Job, JobStatus, Level};

use crate::support::peer::{exchange, until};
use crate::viewer::Viewer;

fn hub() -> Hub {
    Hub::spawn_blocking("127.0.0.1:0").unwrap()
}

#[test]
fn a_late_viewer_sees_what_an_early_one_sees() {
    let hub = hub();
    hub.set_title("Gray-Scott, F = 0.04");
    hub.describe(&json!({"F": 0.04})).unwrap();
    let mut early = Viewer::of(&hub);
    let job = hub.job("time loop").total(1000).unit("steps").start();
    let solve = job.child("solve").start();
    early.until("the child", |viewer| viewer.job("solve").is_some());
    job.inc(412);
    job.set_message("assembling");
    solve.finish_with_message("4 iterations");
    let is_told = |viewer: &Viewer| {
        let job = viewer.job("time loop");
        viewer.reports.values().any(|report| report["progress"] == 412)
            && job.is_some_and(|job| job["message"] == "assembling")
            && viewer.job("solve").is_some_and(|solve| solve["status"] == "completed")
            && viewer.run["ended"]["completed"] == 1
    };
    early.until("the state", is_told);
    let mut late = Viewer::of(&hub);
    late.until("the state", is_told);
    assert_eq!(late.jobs, early.jobs);
    assert_eq!(late.run, early.run);
    let job = late.job("time loop").unwrap();
    assert_eq!((&job["total"], &job["unit"]), (&json!(1000), &json!("steps")));
    assert_eq!(late.job("solve").unwrap()["parent"], job["id"]);
    assert_eq!(late.run["title"], "Gray-Scott, F = 0.04");
    assert_eq!(late.run["description"], json!({"F": 0.04}));
    assert_eq!(late.run["pid"], std::process::id());
}

#[test]
fn the_way_a_job_ends_is_told() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let done = hub.job("done").total(10).start();
    done.inc(7);
    done.finish_with_message("converged");
    done.fail("too late");
    drop(hub.job("dropped").start());
    let panics = catch_unwind(AssertUnwindSafe(|| {
        let _job = hub.job("panics").start();
        panic!("on purpose");
    }));
    assert!(panics.is_err());
    let early_return = || -> Result<(), std::num::ParseIntError> {
        let job = hub.job("returns early").start();
        let _: u64 = "x".parse()?;
        job.finish();
        Ok(())
    };
    assert!(early_return().is_err());
    hub.job("fails").start().fail("NaN in T at step 413");
    let stopped = hub.job("stopped").total(10).start();
    stopped.inc(3);
    stopped.cancelled();
    for (title, status, message) in [
        ("done", "completed", json!("converged")),
        ("dropped", "abandoned", Value::Null),
        ("panics", "failed", json!("panicked")),
        ("returns early", "abandoned", Value::Null),
        ("fails", "failed", json!("NaN in T at step 413")),
        ("stopped", "cancelled", Value::Null),
    ] {
        viewer.until_status(title, status);
        assert_eq!(viewer.job(title).unwrap()["message"], message, "{title}");
    }
    assert_eq!(viewer.job("done").unwrap()["progress"], 10, "finished is at the total");
    assert_eq!(viewer.job("stopped").unwrap()["progress"], 3, "stopped is where it was");
    assert_eq!(done.status(), JobStatus::Completed);
}

#[test]
fn the_end_of_a_job_ends_its_children_and_one_more_child_at_once() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let run = hub.job("run").start();
    let phase = run.child("phase").start();
    let solve = phase.child("solve").start();
    let done = phase.child("done").start();
    done.finish();
    run.finish();
    assert_eq!(
        [&phase, &solve, &done, &run].map(Job::status),
        [JobStatus::Abandoned, JobStatus::Abandoned, JobStatus::Completed, JobStatus::Completed]
    );
    let late = run.child("late").start();
    assert_eq!(late.status(), JobStatus::Abandoned);
    viewer.until_status("late", "abandoned");
    viewer.until_status("solve", "abandoned");
}

#[test]
fn a_chain_of_many_children_ends_without_recursion() {
    let hub = hub();
    let mut jobs = vec![hub.job("0").start()];
    for depth in 1..20_000 {
        let child = jobs[depth - 1].child("deeper").start();
        jobs.push(child);
    }
    jobs[0].cancel();
    assert!(jobs[19_999].is_cancelled());
    jobs[0].finish();
    assert_eq!(jobs[19_999].status(), JobStatus::Abandoned);
}

#[test]
fn the_last_state_of_every_job_comes_before_the_end_of_the_run() {
    for (fails, status) in [(false, "abandoned"), (true, "failed")] {
        let hub = hub();
        let mut viewer = Viewer::of(&hub);
        let open = hub.job("open").total(10).start();
        let full = hub.job("full").total(10).start();
        viewer.until("both", |viewer| viewer.jobs.len() == 2);
        open.inc(4);
        full.inc(10);
        hub.log(Level::Error, "the last line");
        if fails {
            hub.fail("diverged");
        } else {
            hub.finish("converged");
        }
        viewer.until_status("open", status);
        viewer.until_status("full", if fails { "failed" } else { "completed" });
        viewer.until("the last line", |viewer| !viewer.log.is_empty());
        assert_eq!(viewer.job("open").unwrap()["progress"], 4);
        assert_eq!(viewer.log[0]["text"], "the last line");
        let told = &viewer.job("open").unwrap()["message"];
        assert_eq!(*told, if fails { json!("diverged") } else { Value::Null });
        open.finish(); // too late
        assert_ne!(open.status(), JobStatus::Completed);
    }
}

#[test]
fn a_viewer_cancels_what_may_be_cancelled_and_all_below_it() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let search = hub.job("search").cancellable().start();
    let part = search.child("part").start();
    let stays = hub.job("stays").start();
    viewer.until("all", |viewer| viewer.jobs.len() == 3);
    let token = part.cancel_token();
    for (id, code) in [(viewer.id("stays"), "forbidden"), (999, "unknown")] {
        viewer.command(&json!({"cancel": {"id": id}}));
        viewer.until("a refusal", |viewer| !viewer.errors.is_empty());
        let error = viewer.errors.pop().unwrap();
        assert_eq!((&error["code"], &error["feed"]), (&json!(code), &json!("stepcast/run")));
    }
    for wrong in [json!("cancel"), json!({"cancel": 3}), json!({"cancel": {"id": -1}}), json!({})] {
        viewer.command(&wrong);
        viewer.until("a refusal", |viewer| !viewer.errors.is_empty());
        assert_eq!(viewer.errors.pop().unwrap()["code"], "malformed", "{wrong}");
    }
    assert!(!search.is_cancelled() && !token.is_cancelled());
    let id = viewer.id("search");
    viewer.command(&json!({"cancel": {"id": id}}));
    viewer.until_status("search", "cancelling");
    assert!(search.is_cancelled() && part.is_cancelled() && !stays.is_cancelled());
    assert!(token.is_cancelled() && search.cancel_token().is_cancelled());
    assert!(search.check_cancelled().is_err());
    search.cancelled();
    viewer.until_status("search", "cancelled");
    let path = viewer.path.iter().filter(|(seen, _)| *seen == id);
    let path: Vec<&str> = path.map(|(_, status)| status.as_str()).collect();
    assert_eq!(path, ["working", "cancelling", "cancelled"]);
    let by = viewer.client.id.to_string();
    assert!(viewer.log.iter().any(|line| line["text"] == format!("search: cancelled by {by}")));
    // A job that reaches its end first has completed.
    let quick = hub.job("quick").cancellable().start();
    quick.cancel();
    quick.finish();
    viewer.until_status("quick", "completed");
}

#[test]
fn neither_a_viewer_that_leaves_nor_the_end_of_the_hub_cancels_a_job() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let job = hub.job("search").cancellable().start();
    viewer.until_status("search", "working");
    viewer.client.close(1000);
    hub.shutdown_blocking(std::time::Duration::from_secs(5));
    assert!(!job.is_cancelled() && !job.cancel_token().is_cancelled());
}

#[test]
fn a_total_that_is_unknown_changes_or_is_passed_is_shown_as_it_is() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let job = hub.job("files").start();
    viewer.until_status("files", "working");
    let id = viewer.id("files");
    assert_eq!(viewer.job("files").unwrap().get("total"), None);
    job.set_length(0);
    viewer.until("a total", |viewer| viewer.jobs[&id]["total"] == 0);
    job.set_length(80);
    job.inc_length(3);
    job.inc(100);
    viewer.until("more", |viewer| {
        viewer.jobs[&id]["total"] == 83
            && viewer.reports.get(&id).is_some_and(|r| r["progress"] == 100)
    });
    assert_eq!(viewer.reports[&id].get("eta"), None, "nobody knows");
    job.set_position(40);
    viewer.until("less", |viewer| viewer.reports[&id]["progress"] == 40);
    job.unset_length();
    viewer.until("no total", |viewer| viewer.jobs[&id].get("total").is_none());
}

#[test]
fn a_span_runs_through_numbers_that_are_not_whole() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let days = hub.job("model time").span(-1.5, 365.0).unit("days").start();
    viewer.until_status("model time", "working");
    let id = viewer.id("model time");
    assert_eq!(
        (&viewer.jobs[&id]["origin"], &viewer.jobs[&id]["total"]),
        (&json!(-1.5), &json!(365))
    );
    days.set_value(41.25);
    viewer.until("a report", |viewer| {
        viewer.reports.get(&id).is_some_and(|r| r["progress"] == 41.25)
    });
    days.set_value(f64::NAN);
    days.set_value(f64::INFINITY);
    assert_eq!(days.position(), 41.25, "what is no number changes nothing");
    let odd = hub.job("odd").span(f64::NAN, 1.0).start();
    assert_eq!(odd.position(), 0.0);
    let empty = hub.job("empty").span(2.0, 2.0).start();
    assert_eq!(empty.position(), 2.0);
}

#[test]
fn ten_thousand_short_jobs_are_counted_and_the_newest_are_shown() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    for index in 0..10_000 {
        let job = hub.job(format!("{index}")).start();
        if index % 10 == 0 { job.fail("on purpose") } else { job.finish() }
    }
    viewer.until("the counts", |viewer| {
        let ended = &viewer.run["ended"];
        let is_all = ended["completed"] == 9000 && ended["failed"] == 1000;
        is_all && viewer.job("9999").is_some()
    });
    let mut late = Viewer::of(&hub);
    late.until("the newest", |late| late.job("9999").is_some() && late.jobs.len() >= 1000);
    for viewer in [&late, &viewer] {
        assert!((9001..=10_000).all(|id| viewer.jobs.contains_key(&id)), "the newest are shown");
        assert!(viewer.jobs.len() < 1100, "{}", viewer.jobs.len());
    }
}

#[test]
fn titles_and_messages_are_bounded_and_titles_have_one_line() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let job = hub.job("a\u{1b}[31m\nb").message("x".repeat(10 << 20)).start();
    let long = hub.job("ü".repeat(200)).unit("\0").start();
    viewer.until("both", |viewer| viewer.jobs.len() == 2);
    let shown: Vec<&Value> = viewer.jobs.values().collect();
    assert_eq!(shown[0]["title"], "a [31m b");
    assert_eq!(shown[0]["message"].as_str().unwrap().len(), 4096);
    assert!(shown[0]["message"].as_str().unwrap().ends_with('…'));
    assert!(shown[1]["title"].as_str().unwrap().len() <= 256);
    assert!(hub.describe(&"x".repeat(65 << 10)).is_err());
    drop((job, long));
}

#[test]
fn lines_of_the_log_come_in_order_and_what_is_dropped_is_told() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let job = hub.job("loop").start();
    job.println("restart written");
    hub.log(Level::Warn, "the time step was reduced");
    viewer.until("both", |viewer| viewer.log.len() == 2);
    assert_eq!(viewer.log[0]["text"], "restart written");
    assert_eq!(
        viewer.log[0]["job"],
        viewer.job("loop").map_or(Value::Null, |job| job["id"].clone())
    );
    assert_eq!((&viewer.log[1]["level"], viewer.log[1].get("job")), (&json!("warn"), None));
    let text = "x".repeat(1000);
    for line in 0..20_000 {
        hub.log(Level::Info, format!("{line} {text}"));
    }
    viewer.until("the last line", |viewer| {
        viewer
            .log
            .last()
            .is_some_and(|line| line["text"].as_str().is_some_and(|t| t.starts_with("19999 ")))
    });
    let count = |line: &Value| line["lost"].as_u64().unwrap_or(1);
    let skipped = viewer.log[2..].iter().map(count).sum::<u64>();
    assert!(skipped <= 20_000, "{skipped}");
}

#[test]
fn threads_that_count_for_themselves_lose_nothing() {
    let hub = hub();
    let job = hub.job("cells").total(160_000).start();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let counter = job.local();
                for _ in 0..10_000 {
                    counter.inc(1);
                    job.inc(1);
                }
            });
        }
    });
    assert_eq!(job.position(), 160_000.0);
}

#[test]
fn a_job_has_its_place_before_it_begins() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let [spin_up, time_loop] = hub.phases([("spin-up", 1.0), ("time loop", 20.0)]);
    viewer.until("both", |viewer| viewer.jobs.len() == 2);
    assert!(viewer.jobs.values().all(|job| job["status"] == "queued"));
    assert_eq!(viewer.job("time loop").unwrap()["weight"], 20);
    spin_up.begin();
    viewer.until_status("spin-up", "working");
    spin_up.finish();
    time_loop.begin();
    time_loop.pause();
    viewer.until_status("time loop", "paused");
    assert!(viewer.job("time loop").unwrap()["paused_since"].is_u64());
    time_loop.resume();
    viewer.until_status("time loop", "working");
}

#[test]
fn a_viewer_that_comes_during_a_pause_sees_how_far_the_job_is() {
    let hub = hub();
    let job = hub.job("time loop").total(100).start();
    job.inc(40);
    job.pause();
    let mut late = Viewer::of(&hub);
    late.until_status("time loop", "paused");
    let id = late.id("time loop");
    late.until("its position", |late| late.reports.contains_key(&id));
    let report = &late.reports[&id];
    assert_eq!(
        (&report["progress"], report.get("eta"), report.get("rate")),
        (&json!(40), None, None)
    );
    let request = b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(exchange(hub.local_addr().unwrap(), request).contains("\"progress\":40"));
}

#[test]
fn a_job_keeps_no_hub_alive_and_outlives_it() {
    let hub = hub();
    let address = hub.local_addr().unwrap();
    let job = hub.job("loop").start();
    drop(hub);
    assert!(std::net::TcpStream::connect(address).is_err());
    job.inc(1);
    job.finish();
}

#[test]
fn a_disabled_job_does_nothing() {
    let job = Job::disabled();
    job.inc(1);
    job.set_value(3.0);
    job.println("nobody reads this");
    let child = job.child("child").total(3).start();
    child.finish();
    job.cancel();
    assert!(!job.is_cancelled() && job.position() == 0.0);
    assert_eq!(Hub::disabled().track("rows", 0..10).count(), 10);
}

#[test]
fn a_script_asks_for_the_state_of_the_run() {
    let hub = hub();
    let state = || -> Value {
        let request = b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let answer = exchange(hub.local_addr().unwrap(), request);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/json"), "{head}");
        serde_json::from_str(body).unwrap()
    };
    assert_eq!(state()["jobs"], json!([]));
    let job = hub.job("time loop").total(100).start();
    let done = job.child("done").start();
    done.finish();
    job.inc(41);
    let _f = hub.parameter("feed rate", 0.04);
    until("the state", || {
        let state = state();
        let jobs = state["jobs"].as_array().unwrap();
        jobs.len() == 2
            && jobs[0]["progress"] == 41
            && jobs[1]["status"] == "completed"
            && state["parameters"][0]["value"] == 0.04
            && state["run"]["ended"]["completed"] == 1
    });
    let request = b"GET /jobs HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert!(exchange(hub.local_addr().unwrap(), request).starts_with("HTTP/1.1 403"));
}

#[test]
fn jobs_that_end_together_are_all_shown_as_ended() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let run = hub.job("run").start();
    let parts: Vec<Job> = (0..1500).map(|index| run.child(format!("{index}")).start()).collect();
    viewer.until("all", |viewer| viewer.jobs.len() == 1501);
    run.finish();
    viewer.until("all ends", |viewer| viewer.jobs.values().all(|job| job["ended"].is_u64()));
    let mut late = Viewer::of(&hub);
    late.until("all of them", |late| late.jobs.len() == 1501);
    assert!(late.jobs.values().all(|job| job["ended"].is_u64()));
    drop(parts);
}

#[test]
fn a_part_that_is_done_has_completed_when_the_run_finishes() {
    let hub = hub();
    let run = hub.job("run").start();
    let solve = run.child("solve").total(100).start();
    let rest = run.child("rest").total(100).start();
    solve.inc(100);
    hub.finish("converged");
    assert_eq!(solve.status(), JobStatus::Completed);
    assert_eq!([run.status(), rest.status()], [JobStatus::Abandoned; 2]);
}

#[test]
fn a_job_is_cancelled_once_however_often_viewers_ask() {
    let hub = hub();
    let mut viewer = Viewer::of(&hub);
    let job = hub.job("search").cancellable().start();
    viewer.until_status("search", "working");
    let id = viewer.id("search");
    for _ in 0..20 {
        viewer.command(&json!({"cancel": {"id": id}}));
    }
    viewer.until_status("search", "cancelling");
    let late = job.child("late").start();
    assert!(late.is_cancelled() && late.status() == JobStatus::Cancelling);
    hub.log(Level::Info, "the last");
    let is_last = |line: &Value| line["text"] == "the last";
    viewer.until("the last", |viewer| viewer.log.iter().any(is_last));
    assert_eq!(viewer.log.len(), 2, "{:?}", viewer.log);
}

#[test]
fn who_comes_when_the_work_is_done_sees_what_the_others_saw() {
    let hub = hub();
    let mut early = Viewer::of(&hub);
    let job = hub.job("time loop").total(10).start();
    let other = hub.job("output").start();
    job.inc(10);
    job.println("restart written");
    job.metric("residual", 0.25);
    hub.done();
    let is_done = |viewer: &Viewer| viewer.run["done"].is_u64() && viewer.log.len() == 1;
    early.until("the end of the work", is_done);
    let lingers = std::thread::spawn({
        let hub = hub.clone();
        move || hub.linger_blocking(Hub::LINGER)
    });
    let mut late = Viewer::of(&hub);
    late.until("the end of the work", is_done);
    late.until_status("output", "abandoned");
    early.until_status("output", "abandoned");
    assert_eq!((&late.jobs, &late.log), (&early.jobs, &early.log));
    assert_eq!(late.job("time loop").unwrap()["status"], "completed");
    assert_eq!(other.status(), JobStatus::Abandoned);
    hub.finish("converged");
    lingers.join().unwrap(); // which did not wait for ten minutes
    let end = json!({"how": "finished", "reason": "converged"});
    late.until("the end of the run", |viewer| viewer.run["end"] == end);
}
