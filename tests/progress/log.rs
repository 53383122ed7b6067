//! Lines of other loggers, which become lines of the run's log.

use std::io::Write;

use stepcast::{Hub, Level};
use tracing::subscriber::with_default;

use crate::viewer::Viewer;

#[test]
fn what_is_written_is_told_with_its_level_and_job() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut viewer = Viewer::of(&hub);
    let job = hub.job("time loop").start();
    writeln!(hub.log_writer(Level::Warn), "of the run").unwrap();
    write!(job.log_writer(Level::Debug), "of the job").unwrap();
    viewer.until("the lines", |viewer| viewer.log.len() == 2 && viewer.job("time loop").is_some());
    let (run, of_job) = (&viewer.log[0], &viewer.log[1]);
    assert_eq!((&run["level"], &run["text"]), (&"warn".into(), &"of the run".into()));
    assert!(run["job"].is_null());
    assert_eq!((&of_job["level"], &of_job["text"]), (&"debug".into(), &"of the job".into()));
    assert_eq!(of_job["job"], viewer.id("time loop"));
}

#[test]
fn a_writer_keeps_no_hub_running_and_no_job_open_and_never_fails() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let job = hub.job("time loop").start();
    let (mut of_hub, mut of_job) = (hub.log_writer(Level::Info), job.log_writer(Level::Info));
    drop(job);
    let mut viewer = Viewer::of(&hub);
    viewer.until_status("time loop", "abandoned");
    let ended = hub.ended_token();
    drop(hub);
    assert!(ended.is_cancelled());
    for _ in 0..100 {
        of_hub.write_all(&vec![b'x'; 100_000]).unwrap();
        of_job.write_all(&vec![b'\n'; 10_000]).unwrap();
    }
    writeln!(Hub::disabled().log_writer(Level::Info), "nowhere").unwrap();
    writeln!(stepcast::Job::disabled().log_writer(Level::Info), "nowhere").unwrap();
}

#[test]
fn the_formatter_of_tracing_writes_into_the_log() {
    let hub = Hub::spawn_blocking("127.0.0.1:0").unwrap();
    let mut viewer = Viewer::of(&hub);
    let log = hub.log_writer(Level::Info);
    let formatter = tracing_subscriber::fmt().without_time().with_writer(move || log.clone());
    with_default(formatter.finish(), || {
        tracing::info!(step = 400, "restart written");
        tracing::warn!("the time step was reduced");
    });
    viewer.until("the lines", |viewer| viewer.log.len() == 2);
    let text = |place: usize| viewer.log[place]["text"].as_str().unwrap();
    assert_eq!(text(0), " INFO progress::log: restart written step=400");
    assert_eq!(text(1), " WARN progress::log: the time step was reduced");
}
