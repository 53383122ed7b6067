//! What a program tells `tracing`, as viewers see it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use stepcast::{Hub, JobStatus, ProgressSpan};
use tracing::field::{Empty, display};
use tracing::subscriber::with_default;
use tracing::{Level, Span, debug, error, event, info, info_span, trace_span, warn};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{Layer, Registry, prelude::*};

use crate::support::log::Log;
use crate::support::peer::{exchange, until};
use crate::viewer::Viewer;

fn hub() -> Hub {
    Hub::spawn_blocking("127.0.0.1:0").unwrap()
}

/// The jobs and lines that a viewer is told of while this runs.
fn told(run: impl FnOnce(&Hub)) -> Viewer {
    let hub = hub();
    with_default(tracing_subscriber::registry().with(hub.tracing_layer()), || run(&hub));
    let mut viewer = Viewer::of(&hub);
    hub.finish("done");
    viewer.until_bye();
    viewer
}

fn texts(viewer: &Viewer) -> Vec<&str> {
    viewer.log.iter().map(|line| line["text"].as_str().unwrap()).collect()
}

#[test]
fn events_are_lines_with_level_target_and_fields() {
    let viewer = told(|_| {
        info!("begins");
        warn!(target: "mesh", cells = 512, file = "a b.vtk", ok = true, "refined");
        error!(error = &std::io::Error::other("full") as &dyn std::error::Error);
        debug!(at = ?(1, 2), shown = %"as is", r#type = 1.5, "two\nlines");
    });
    let lines: Vec<_> = viewer.log.iter().map(|line| (&line["level"], &line["text"])).collect();
    let line = |level: &str, text: &str| (json!(level), json!(text));
    let expected = [
        line("info", "progress::tracing_layer: begins"),
        line("warn", "mesh: refined cells=512 file=\"a b.vtk\" ok=true"),
        line("error", "progress::tracing_layer: error=full"),
        line("debug", "progress::tracing_layer: two\nlines at=(1, 2) shown=as is type=1.5"),
    ];
    assert_eq!(lines, expected.iter().map(|(level, text)| (level, text)).collect::<Vec<_>>());
}

#[test]
fn spans_with_a_length_are_jobs_and_events_in_them_are_their_lines() {
    let mut ids = Vec::new();
    let viewer = told(|_| {
        let run =
            info_span!("run", progress.length = 4, progress.unit = "steps", case = "a").entered();
        info!("of the run");
        trace_span!("no job").in_scope(|| {
            let solve = info_span!("solve", progress.length = Empty, progress.message = %"begins");
            solve.in_scope(|| info_span!("inner").in_scope(|| info!("of the solver")));
            ids = vec![run.job(), solve.job(), Span::current().job()];
            assert!(ids.iter().all(|job| job.status() == JobStatus::Working));
        });
        drop(run);
        info!("of nobody");
    });
    let (run, solve) = (viewer.job("run case=\"a\"").unwrap(), viewer.job("solve").unwrap());
    assert_eq!((&run["total"], &run["unit"]), (&json!(4), &json!("steps")));
    assert_eq!((&solve["parent"], &solve["message"]), (&run["id"], &json!("begins")));
    assert!(solve["total"].is_null() && run["parent"].is_null());
    let jobs: Vec<_> = viewer.log.iter().map(|line| &line["job"]).collect();
    assert_eq!(jobs, [&run["id"], &solve["id"], &Value::Null], "{:?}", viewer.log);
    assert_eq!(viewer.jobs.len(), 2);
}

#[test]
fn a_span_records_the_position_the_length_and_the_message() {
    told(|_| {
        let span = info_span!(
            "read",
            progress.length = Empty,
            progress.position = 400_u64,
            progress.message = Empty,
            rows = Empty
        );
        let job = span.job();
        assert_eq!(job.position(), 400.0);
        span.record("progress.position", 412);
        assert_eq!(job.position(), 412.0);
        span.record("progress.position", 412.5);
        assert_eq!(job.position(), 412.5);
        job.inc(1);
        span.record("progress.length", 1000_usize);
        span.record("progress.message", "half way");
        span.record("rows", 7);
        assert_eq!(job.position(), 413.5);
        let shown = format!("{job:?}");
        assert!(shown.contains("Some(1000.0)"), "{shown}");
        // Nothing that is said wrongly has an effect, or harms.
        for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            span.record("progress.position", wrong);
        }
        span.record("progress.position", "far").record("progress.position", true);
        assert_eq!(job.position(), 413.5);
        span.record("progress.length", -5);
        assert!(format!("{job:?}").contains("total: None"));
        span.record("progress.length", u128::MAX).record("progress.length", i128::MIN);
        span.record("progress.message", display("x".repeat(1 << 20)));
    });
}

#[test]
fn a_span_that_closes_ends_its_job_and_says_how() {
    let viewer = told(|_| {
        let run = |title: &'static str, length: u64, steps: u64| {
            let span =
                info_span!("job", title, progress.length = length, progress.position = Empty);
            for step in 0..steps {
                span.record("progress.position", step);
            }
            span
        };
        drop(run("done", 10, 11));
        drop(run("begins of steps", 10, 10));
        drop(run("left", 10, 5));
        let failed = run("failed", 10, 5);
        failed.job().fail("NaN in T");
        drop(failed);
        drop(info_span!("unknown", progress.length = Empty));
        let panics = catch_unwind(AssertUnwindSafe(|| {
            let _span = run("panics", 10, 11).entered();
            std::panic::resume_unwind(Box::new("on purpose"));
        }));
        assert!(panics.is_err());
        // A handle that is kept does not keep the job open, nor does the span of another thread.
        let kept = run("kept", 1, 1);
        let (job, elsewhere) = (kept.job(), kept.clone());
        std::thread::spawn(move || drop(elsewhere)).join().unwrap();
        assert_eq!(job.status(), JobStatus::Working);
        drop(kept);
        assert_eq!(job.status(), JobStatus::Completed);
    });
    let job = |title: &str| {
        let job = viewer.job(&format!("job title=\"{title}\"")).unwrap();
        (job["status"].as_str().unwrap(), job["progress"].as_f64().unwrap())
    };
    assert_eq!(job("done"), ("completed", 10.0));
    assert_eq!(job("begins of steps"), ("completed", 10.0));
    assert_eq!(job("left"), ("abandoned", 4.0));
    assert_eq!(job("failed"), ("failed", 4.0));
    assert_eq!(job("panics").0, "failed");
    assert_eq!(viewer.job("unknown").unwrap()["status"], "completed");
}

#[test]
fn the_filters_of_a_subscriber_choose_and_what_they_leave_out_is_not_formatted() {
    struct Counts(AtomicUsize);
    impl fmt::Debug for Counts {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fetch_add(1, Ordering::Relaxed);
            f.write_str("counted")
        }
    }
    let (hub, counts) = (hub(), Counts(AtomicUsize::new(0)));
    let mut viewer = Viewer::of(&hub);
    let layer = hub.tracing_layer().with_target(false).with_filter(LevelFilter::INFO);
    // Another layer is told of everything.
    let all = Log::of(Level::TRACE);
    with_default(tracing_subscriber::registry().with(layer).with(Sibling(all.clone())), || {
        let outer = info_span!("outer", progress.length = 2).entered();
        let hidden = trace_span!("hidden", progress.length = 2, field = ?counts).entered();
        assert!(format!("{:?}", hidden.job()).contains("outer"));
        debug!(?counts, "hidden");
        info!(?counts, "shown");
        drop((hidden, outer));
    });
    assert_eq!(counts.0.load(Ordering::Relaxed), 2 + 1, "once by this layer");
    viewer.until("the line", |viewer| !viewer.log.is_empty());
    assert_eq!(texts(&viewer), ["shown counts=counted"]);
    viewer.until_status("outer", "abandoned");
    assert_eq!((viewer.jobs.len(), viewer.log.len()), (1, 1));
}

/// A layer that keeps all events as text.
struct Sibling(Log);

impl<S: tracing::Subscriber> Layer<S> for Sibling {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        tracing::Subscriber::event(&self.0, event);
    }
}

#[test]
fn lines_of_the_hub_do_not_come_back_to_it() {
    let (first, all) = (hub(), Log::of(Level::TRACE));
    let layers = || tracing_subscriber::registry().with(first.tracing_layer());
    with_default(layers().with(Sibling(all.clone())), || {
        let second = hub();
        exchange(second.local_addr().unwrap(), b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        until("the hub's line", || all.count("request refused") == 1);
        // As `tracing_log::LogTracer` makes events of what a hub tells the crate `log`.
        event!(target: "log", Level::INFO, message = "bridged", log.target = "stepcast::hub", log.line = 7);
        event!(target: "log", Level::INFO, message = "bridged", log.target = "solver", log.line = 7);
        event!(target: "log", Level::INFO, "not bridged");
    });
    let mut viewer = Viewer::of(&first);
    first.finish("done");
    viewer.until_bye();
    assert_eq!(texts(&viewer), ["solver: bridged", "log: not bridged"]);
}

#[test]
fn a_layer_keeps_no_hub_running_and_several_hubs_are_told() {
    let (one, other) = (hub(), hub());
    let both = tracing_subscriber::registry()
        .with(one.tracing_layer())
        .with(Some(other.tracing_layer()))
        .with(Hub::disabled().tracing_layer());
    let (mut viewer, mut other_viewer) = (Viewer::of(&one), Viewer::of(&other));
    with_default(both, || {
        let outer = info_span!("outer", progress.length = 3).entered();
        let inner = info_span!("inner", progress.length = 3, progress.position = 1).entered();
        info!("of both");
        for viewer in [&mut viewer, &mut other_viewer] {
            viewer
                .until("the line", |viewer| viewer.log.len() == 1 && viewer.job("inner").is_some());
            assert_eq!(viewer.job("inner").unwrap()["parent"], viewer.id("outer"));
            assert_eq!(viewer.log[0]["job"], viewer.id("inner"));
        }
        let ended = one.ended_token();
        drop(one);
        assert!(ended.is_cancelled());
        info!("after the end");
        inner.record("progress.position", 2);
        drop((inner, outer));
        let _late = info_span!("late", progress.length = 3).entered();
        info!("later");
    });
    other_viewer.until_status("inner", "completed");
    other_viewer.until("the line", |viewer| viewer.log.len() == 3);
}

#[test]
fn a_flood_of_events_is_bounded_in_memory() {
    let viewer = told(|_| {
        for number in 0..20_000 {
            info!(number, large = "x".repeat(1000));
        }
        info!(larger = "ö".repeat(1 << 20), "the last");
    });
    let last = viewer.log.last().unwrap()["text"].as_str().unwrap();
    assert!(last.contains("the last larger=\"öö") && last.ends_with('…'));
    assert!(last.len() <= 16 * 1024 && viewer.log.len() < 10_000);
}

#[test]
fn without_a_layer_the_job_of_a_span_is_disabled() {
    let span = info_span!("nobody", progress.length = 3);
    span.job().inc(1);
    assert_eq!(span.job().position(), 0.0);
    with_default(Registry::default(), || {
        let span = info_span!("nobody", progress.length = 3);
        span.job().inc(1);
        assert_eq!((span.job().position(), Span::none().job().position()), (0.0, 0.0));
    });
}
