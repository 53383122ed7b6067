//! A program that forks after it has spawned a hub, as Python's `multiprocessing` does. Such a program is a process of its
//! own here: this test file runs itself again.
#![cfg(unix)]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitStatus, exit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::peer::{Peer, beside, found, until};
use crate::support::wire::PATIENCE;
use fork::Fork;
use rustix::process::{Pid, Signal, kill_process};
use stepcast::codec::Incoming;
use stepcast::{Client, Event, Events, Feed, Hub, HubBuilder, Stats, Timeouts};

const PROGRAM: &str = "STEPCAST_TEST_FORKS";
const FOR_EVER: Duration = Duration::from_secs(3600);

/// Whether this is the program. If not it is run, and has to end well.
fn is_program(name: &str) -> bool {
    if std::env::var_os(PROGRAM).is_some() {
        return true;
    }
    let mut program = Command::new(std::env::current_exe().unwrap());
    let status = program.args(["--exact", name]).env(PROGRAM, "1").status().unwrap();
    assert!(status.success(), "{status}");
    false
}

/// Runs this in a child process, whose exit code it says. Returns the child's number.
fn in_child(child: impl FnOnce() -> i32) -> i32 {
    match fork::fork().unwrap() {
        Fork::Parent(pid) => pid,
        // Nothing of the test's own may run there after this.
        Fork::Child => exit(catch_unwind(AssertUnwindSafe(child)).unwrap_or(101)),
    }
}

/// How a child ended, unless it hangs.
fn end_of(pid: i32) -> ExitStatus {
    let status = found(|| fork::waitpid_nohang(pid).unwrap()).unwrap_or_else(|| {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        panic!("a child hangs");
    });
    ExitStatus::from_raw(status)
}

fn spawn_hub() -> Hub {
    let timeouts = Timeouts::default().keepalive(FOR_EVER).stall(FOR_EVER);
    Hub::builder().timeouts(timeouts).spawn_blocking("127.0.0.1:0").unwrap()
}

fn listening() -> HubBuilder {
    let builder = Hub::builder();
    #[cfg(feature = "signal")]
    let builder = builder.finish_on_signal();
    builder
}

fn spawn_hub_that_listens() -> Hub {
    listening().spawn_blocking("127.0.0.1:0").unwrap()
}

/// What a child does with the handles that it has: each call would hang, fail, or reach the parent's viewers, were
/// it not for the fork.
fn use_handles(hub: &Hub, client: &Client, feed: &Feed, mut events: Events) {
    let id = client.id();
    assert_eq!((client.send("from a child"), client.set("key", "from a child")), (Ok(()), Ok(())));
    assert_eq!((client.follow(feed), client.disconnect("by a child")), (Ok(()), Ok(())));
    assert_eq!((client.info().id, client.info().connected), (id, false));
    assert!(!client.gone_token().is_cancelled());
    hub.broadcast("from a child");
    let (reader, writer) = UnixStream::pair().unwrap();
    assert!(hub.record(writer).is_ok());
    assert_eq!(std::io::read_to_string(reader).unwrap(), "");
    assert_eq!(hub.send(id, "from a child"), Ok(()));
    assert_eq!(hub.set(id, "key", "from a child"), Ok(()));
    assert_eq!(hub.send_timeout_blocking(id, "from a child", FOR_EVER), Ok(()));
    assert_eq!(feed.send("from a child"), Ok(()));
    assert_eq!(feed.set("key", "from a child"), Ok(()));
    assert_eq!(feed.send_timeout_blocking("from a child", FOR_EVER), Ok(()));
    assert_eq!(feed.clone().finish("from a child"), Ok(()));
    assert_eq!(hub.everyone().send("from a child"), Ok(()));
    assert_eq!(hub.feed("another").unwrap().send("from a child"), Ok(()));
    assert_eq!((hub.follow(id, feed), hub.unfollow(id, feed)), (Ok(()), Ok(())));
    assert_eq!((hub.client_count(), hub.clients(), hub.client(id)), (0, vec![], None));
    assert_eq!((hub.local_addr(), hub.url(), hub.stats()), (None, None, Stats::default()));
    assert!(!hub.gone_token(id).is_cancelled());
    assert!(events.try_recv().is_none() && events.recv_blocking().is_none());
    assert!(hub.events().recv_blocking().is_none());
    assert_eq!(hub.disconnect(id, "by a child"), Ok(()));
    hub.shutdown_blocking(FOR_EVER);
}

#[test]
fn a_forked_childs_handles_are_those_of_a_disabled_hub_at_once_and_the_parents_go_on() {
    let name = "a_forked_childs_handles_are_those_of_a_disabled_hub_at_once_and_the_parents_go_on";
    if !is_program(name) {
        return;
    }
    let (hub, busy) = (spawn_hub(), spawn_hub());
    let mut viewers = [Peer::connect(&hub), Peer::connect(&busy)];
    let [on_hub, on_busy] = [viewers[0].id, viewers[1].id];
    until("both viewers", || hub.client_count() == 1 && busy.client_count() == 1);
    let clients = [hub.client(on_hub).unwrap(), busy.client(on_busy).unwrap()];
    let feed = hub.feed("run").unwrap();
    hub.follow(on_hub, &feed).unwrap();

    // Other threads hold locks as often as they can, so that some are held at the moment of a fork.
    let stop = Arc::new(AtomicBool::new(false));
    let run = |work: Box<dyn Fn() + Send>| {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                work();
            }
        })
    };
    let (everyone, run_feed, sender) = (hub.everyone(), feed.clone(), busy.clone());
    let threads = [
        run(Box::new(move || _ = everyone.send("a step"))),
        run(Box::new(move || _ = run_feed.set("key", "a value"))),
        run(Box::new(move || _ = sender.send(on_busy, "a step"))),
        run({
            let busy = busy.clone();
            Box::new(move || drop((busy.clients(), busy.feed("short"), busy.events())))
        }),
    ];
    for _ in 0..60 {
        // An event waits, which the child is not given.
        let events = hub.events();
        let received = hub.stats().received;
        viewers[0].send("an event");
        until("the event", || hub.stats().received > received);
        let (hub, feed) = (&hub, &feed);
        let pid = in_child(|| {
            use_handles(hub, &clients[0], feed, events);
            use_handles(&busy, &clients[1], &busy.everyone(), busy.events());
            0
        });
        let status = end_of(pid);
        assert!(status.success(), "{status}");
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }

    for (hub, viewer) in [&hub, &busy].into_iter().zip(&mut viewers) {
        hub.broadcast("the parent goes on");
        loop {
            let Incoming::Message(message) = viewer.recv() else { continue };
            assert_ne!(message.as_text(), Some("from a child"));
            if message.as_text() == Some("the parent goes on") {
                break;
            }
        }
        drop(Peer::connect(hub));
    }
}

#[test]
fn the_drop_of_a_childs_last_handle_returns_at_once() {
    if !is_program("the_drop_of_a_childs_last_handle_returns_at_once") {
        return;
    }
    // On a machine that is busy one may take long. Waiting for the hub would take long each time.
    let is_quick = (0..50).any(|_| {
        let hub = spawn_hub();
        let viewer = Peer::connect(&hub);
        let mut last = Some(hub);
        let pid = in_child(|| {
            // The child has a thread of its own, which may have the number of the hub's.
            let (over, is_over) = channel::<()>();
            let own = thread::spawn(move || is_over.recv().is_err());
            let started = Instant::now();
            drop(last.take());
            let quick = started.elapsed() < Duration::from_millis(300);
            drop(over);
            own.join().unwrap();
            i32::from(!quick)
        });
        let status = end_of(pid);
        assert!(matches!(status.code(), Some(0 | 1)), "{status}");
        drop(viewer);
        status.success()
    });
    assert!(is_quick);
}

#[test]
fn the_hubs_end_frees_its_port_and_ends_its_viewers_while_a_forked_child_lives() {
    let name = "the_hubs_end_frees_its_port_and_ends_its_viewers_while_a_forked_child_lives";
    if !is_program(name) {
        return;
    }
    let mut addresses: [SocketAddr; 2] =
        [([127, 0, 0, 1], 0).into(), ([0, 0, 0, 0, 0, 0, 0, 1], 0).into()];
    let hub = listening().spawn_blocking(&addresses[..]).unwrap();
    let port = hub.local_addr().unwrap().port();
    for address in &mut addresses {
        address.set_port(port);
    }
    let mut viewer = Peer::connect(&hub);
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let pid = in_child(|| i32::from(theirs.read(&mut [0]).unwrap() != 1));
    let end = thread::spawn(move || hub.shutdown_blocking(PATIENCE));
    assert_eq!(viewer.close_code(), 1001);
    viewer.socket.shutdown(Shutdown::Both).unwrap(); // of which the child has a copy, too
    end.join().unwrap();
    let again = Hub::spawn_blocking(&addresses[..]).unwrap();
    drop(Peer::connect(&again));
    assert!(fork::waitpid_nohang(pid).unwrap().is_none(), "the child lives");
    ours.write_all(b"x").unwrap();
    assert!(end_of(pid).success());
}

/// Ends a process as a thread of the program's own does that returns from `main`, with a hub that is never dropped.
fn end_with_a_hub(mut says: &UnixStream) -> i32 {
    let hub = spawn_hub();
    let mut events = hub.events();
    let port = hub.local_addr().unwrap().port();
    says.write_all(&port.to_be_bytes()).unwrap();
    while !matches!(events.recv_blocking(), Some(Event::Connected { .. })) {}
    hub.broadcast("LAST");
    std::mem::forget(hub);
    0
}

#[test]
fn a_hub_that_a_child_spawns_ends_with_the_child() {
    if !is_program("a_hub_that_a_child_spawns_ends_with_the_child") {
        return;
    }
    let parents = spawn_hub(); // so that the end of this thread is watched, in the parent
    let viewers_of_child = |depth| {
        let (mut ours, childs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let pid = in_child(|| match depth {
            0 => end_with_a_hub(&childs),
            _ => i32::from(!end_of(in_child(|| end_with_a_hub(&childs))).success()),
        });
        let mut port = [0; 2];
        ours.read_exact(&mut port).unwrap();
        let mut viewer = Peer::connect_to(([127, 0, 0, 1], u16::from_be_bytes(port)).into());
        assert_eq!((viewer.text().as_str(), viewer.close_code()), ("LAST", 1001));
        viewer.finish();
        assert!(end_of(pid).success());
    };
    viewers_of_child(0);
    viewers_of_child(1);
    drop(Peer::connect(&parents));
}

#[test]
fn children_spawn_hubs_of_their_own_and_end_while_threads_of_the_parent_do_the_same() {
    let name = "children_spawn_hubs_of_their_own_and_end_while_threads_of_the_parent_do_the_same";
    if !is_program(name) {
        return;
    }
    // The standard library has a lock around the start and the end of a thread, which a child may inherit locked. So
    // no thread of the parent starts or ends meanwhile, and what is done once in a process has been done.
    let begun = Arc::new(Barrier::new(4));
    for _ in 0..3 {
        let begun = Arc::clone(&begun);
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let spawn_and_end = async || {
                let builder = listening().runtime(runtime.handle().clone());
                let hub = builder.spawn("127.0.0.1:0").await.unwrap();
                hub.shutdown().await; // a drop would have a thread of the runtime's wait
            };
            runtime.block_on(spawn_and_end());
            begun.wait();
            loop {
                runtime.block_on(spawn_and_end());
            }
        });
    }
    begun.wait();
    for _ in 0..200 {
        let pid = in_child(|| {
            std::mem::forget(spawn_hub_that_listens());
            0
        });
        let status = end_of(pid);
        assert!(status.success(), "{status}");
    }
}

#[test]
fn a_runtime_that_a_child_drops_leaves_the_parents_hub_and_its_viewers_alone() {
    if !is_program("a_runtime_that_a_child_drops_leaves_the_parents_hub_and_its_viewers_alone") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let hub =
        Hub::builder().runtime(runtime.handle().clone()).spawn_blocking("127.0.0.1:0").unwrap();
    let address = hub.local_addr().unwrap();
    let mut viewer = beside(&runtime, move || Peer::connect_to(address));
    // Other threads hold locks of the hub as often as they can.
    let stop = Arc::new(AtomicBool::new(false));
    let pushes = {
        let (stop, feed) = (Arc::clone(&stop), hub.everyone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = feed.set("key", "a value");
            }
        })
    };
    let mut runtime = Some(runtime);
    for _ in 0..60 {
        let status = end_of(in_child(|| {
            drop(runtime.take());
            0
        }));
        assert!(status.success(), "{status}");
    }
    stop.store(true, Ordering::Relaxed);
    pushes.join().unwrap();
    let runtime = runtime.unwrap();
    hub.broadcast("the parent goes on");
    beside(&runtime, move || {
        while viewer.text() != "the parent goes on" {}
        drop(Peer::connect_to(address));
    });
}

#[cfg(feature = "signal")]
#[test]
fn a_child_that_has_called_a_handle_ends_with_the_first_signal_and_the_parent_hears_none() {
    let name =
        "a_child_that_has_called_a_handle_ends_with_the_first_signal_and_the_parent_hears_none";
    if !is_program(name) {
        return;
    }
    let hub = spawn_hub_that_listens();
    for _ in 0..20 {
        let (mut ours, mut childs) = UnixStream::pair().unwrap();
        let pid = in_child(|| {
            assert_eq!(hub.client_count(), 0);
            childs.write_all(b"x").unwrap();
            thread::sleep(FOR_EVER);
            0
        });
        ours.read_exact(&mut [0]).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        assert_eq!(end_of(pid).signal(), Some(15));
    }
    drop(Peer::connect(&hub));
}

#[cfg(feature = "signal")]
#[test]
fn a_hub_that_a_child_spawns_hears_of_the_childs_signals_and_the_parents_hub_does_not() {
    let name = "a_hub_that_a_child_spawns_hears_of_the_childs_signals_and_the_parents_hub_does_not";
    if !is_program(name) {
        return;
    }
    let parents = spawn_hub_that_listens();
    for _ in 0..5 {
        let (mut ours, mut childs) = UnixStream::pair().unwrap();
        let pid = in_child(|| {
            let hub = spawn_hub_that_listens();
            assert_eq!(parents.client_count(), 0);
            childs.write_all(&hub.local_addr().unwrap().port().to_be_bytes()).unwrap();
            thread::sleep(FOR_EVER);
            0
        });
        let mut port = [0; 2];
        ours.read_exact(&mut port).unwrap();
        let mut viewer = Peer::connect_to(([127, 0, 0, 1], u16::from_be_bytes(port)).into());
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        let close = viewer.close_frame().unwrap();
        assert_eq!((close.code().get(), close.reason()), (1001, "ended by SIGTERM"));
        viewer.finish();
        assert_eq!(end_of(pid).signal(), Some(15));
    }
    drop(Peer::connect(&parents));
}

#[test]
fn a_viewer_that_takes_nothing_is_reset_at_once_while_a_forked_child_lives() {
    let name = "a_viewer_that_takes_nothing_is_reset_at_once_while_a_forked_child_lives";
    if !is_program(name) {
        return;
    }
    let hub = spawn_hub();
    let mut viewer = Peer::connect(&hub);
    hub.send(viewer.id, vec![0; 32 << 20]).unwrap();
    until("it to be under way", || hub.stats().bytes_out > 100_000);
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let pid = in_child(|| i32::from(theirs.read(&mut [0]).unwrap() != 1));
    hub.shutdown_blocking(Duration::from_millis(50));
    let mut bytes = [0; 16384];
    let error = loop {
        match viewer.socket.read(&mut bytes) {
            Ok(count) => assert!(count > 0, "an end, as if all had been sent"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(fork::waitpid_nohang(pid).unwrap().is_none(), "the child lives");
    ours.write_all(b"x").unwrap();
    assert!(end_of(pid).success());
}

#[test]
fn a_forked_childs_jobs_and_parameters_do_nothing_and_hang_nowhere() {
    if !is_program("a_forked_childs_jobs_and_parameters_do_nothing_and_hang_nowhere") {
        return;
    }
    let hub = spawn_hub();
    let job = hub.job("loop").total(1000).start();
    let log = job.log_writer(stepcast::Level::Info);
    let (load, own, field) = (hub.series("load"), hub.series("own"), job.add_field("v"));
    own.push(0.0, 1.0);
    #[cfg(feature = "tracing-layer")]
    let subscriber = tracing::Dispatch::new(tracing_subscriber::layer::SubscriberExt::with(
        tracing_subscriber::registry(),
        hub.tracing_layer(),
    ));
    let limiter = hub.parameter("limiter", true);
    let stop = Arc::new(AtomicBool::new(false));
    let busy = {
        let (stop, job, limiter) = (Arc::clone(&stop), job.clone(), limiter.clone());
        let load = load.clone();
        thread::spawn(move || {
            for step in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                job.set_message(step.to_string());
                job.println("a line");
                job.metric("loss", 0.5);
                job.field("u", [1, 1], &[0.5_f32]);
                load.push(0.0, [0.5, 0.25]);
                drop(job.child("part").start());
                limiter.set(step % 2 == 0);
            }
        })
    };
    for _ in 0..100 {
        let pid = in_child(|| {
            job.inc(1);
            job.set_message("from a child");
            job.println("from a child");
            // More than a ring of points takes.
            for n in 0..100 {
                job.metric("loss", 0.5);
                job.metric(&format!("of a child {n}"), 0.5);
                job.field("u", [1, 1], &[0.5_f32]);
                load.push(0.0, [0.5, 0.25]);
                own.push(0.0, 0.5);
                field.set([1, 1], &[0.5_f32]).unwrap();
            }
            hub.series("from a child").push(0.0, 1.0);
            let level = stepcast::Level::Info;
            writeln!(log.clone(), "from a child").unwrap();
            writeln!(job.log_writer(level), "from a child").unwrap();
            writeln!(hub.log_writer(level), "from a child").unwrap();
            #[cfg(feature = "tracing-layer")]
            tracing::dispatcher::with_default(&subscriber, || {
                let span = tracing::info_span!("child", progress.length = 1);
                span.in_scope(|| tracing::info!("from a child"));
            });
            job.local().inc(1);
            limiter.set(false);
            drop(job.child("from a child").start());
            drop((limiter.get(), job.cancel_token(), job.position(), hub.job("other").start()));
            job.fail("from a child");
            0
        });
        let status = end_of(pid);
        assert!(status.success(), "{status}");
    }
    stop.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    job.finish();
    assert_eq!(job.status(), stepcast::JobStatus::Completed);
}
