//! How a program ends, and what its viewers see of that: every row of the table in the crate's
//! documentation, as a program of its own.
//!
//! The test runs itself as these programs, so it has a `main` and no harness: a test of a harness has
//! a thread that is not the main one. A program prints the hub's address, waits for a byte on its
//! standard input, pushes `LAST`, and ends. Each runs ten times, with a viewer on either wire.

#![allow(clippy::unnecessary_wraps)] // the programs all have one type

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use std::{env, io, panic, process, thread};

use crate::support::lines::V1;
use crate::support::peer::{Peer, found};
use crate::support::wire::PATIENCE;
use serde_json::json;
use stepcast::{Event, Hub, WeakHub};
use tokio::runtime::{Builder, Runtime};

const RUNS: usize = 10;

/// Says which program to be.
const PROGRAM: &str = "STEPCAST_TEST_PROGRAM";

/// What viewers are told, after the last message.
enum Told {
    /// 4000, 1001: ended, without a word.
    Ended,
    /// 4503, 1000, with this reason.
    Finished(&'static str),
    /// 4504, 1011, with a reason in which this stands.
    Failed(&'static str),
    /// Nothing: the connection is lost.
    Nothing,
    /// 4000, 1001, after this signal.
    #[cfg(all(feature = "signal", unix))]
    EndedBy(&'static str, rustix::process::Signal),
}

/// How the process ends, as its parent sees it.
enum Exit {
    Code(i32),
    #[cfg(unix)]
    Signal(i32),
}

struct Row {
    name: &'static str,
    program: fn() -> Result<(), io::Error>,
    told: Told,
    exit: Exit,
}

const fn row(
    name: &'static str,
    program: fn() -> Result<(), io::Error>,
    told: Told,
    exit: Exit,
) -> Row {
    Row { name, program, told, exit }
}

const ROWS: &[Row] = &[
    row("main_returns", main_returns, Told::Ended, Exit::Code(0)),
    row("main_returns_an_error", main_returns_an_error, Told::Ended, Exit::Code(1)),
    row("main_panics", main_panics, Told::Failed("diverged at step 41"), Exit::Code(101)),
    row("the_run_finishes", the_run_finishes, Told::Finished("converged"), Exit::Code(0)),
    row("the_run_fails", the_run_fails, Told::Failed("diverged"), Exit::Code(3)),
    row("tokio_main_returns", tokio_main_returns, Told::Ended, Exit::Code(0)),
    row("tokio_main_returns_an_error", tokio_main_fails, Told::Ended, Exit::Code(1)),
    row("tokio_main_panics", tokio_main_panics, Told::Failed("diverged"), Exit::Code(101)),
    row("tokio_main_finishes", tokio_main_finishes, Told::Finished("converged"), Exit::Code(0)),
    row("a_current_thread_main_returns", current_thread_returns, Told::Ended, Exit::Code(0)),
    row("a_current_thread_main_fails", current_thread_fails, Told::Ended, Exit::Code(1)),
    row(
        "a_current_thread_main_panics",
        current_thread_panics,
        Told::Failed("diverged"),
        Exit::Code(101),
    ),
    row("block_on_returns", block_on_returns, Told::Ended, Exit::Code(0)),
    row(
        "a_runtime_is_shut_down_in_the_background",
        shut_down_background,
        Told::Ended,
        Exit::Code(0),
    ),
    row("a_task_holds_the_hub", a_task_holds_the_hub, Told::Ended, Exit::Code(0)),
    row("a_task_that_began_the_hub_holds_it", a_task_began_it, Told::Ended, Exit::Code(0)),
    row("a_static_holds_the_hub", a_static_holds_the_hub, Told::Ended, Exit::Code(0)),
    row("an_events_thread_holds_the_hub", an_events_thread_holds_it, Told::Ended, Exit::Code(0)),
    row(
        "an_events_thread_with_a_weak_handle_is_joined",
        a_weak_events_thread_is_joined,
        Told::Ended,
        Exit::Code(0),
    ),
    row("a_thread_that_computes_holds_the_hub", a_thread_holds_it, Told::Ended, Exit::Code(0)),
    row("a_panic_hook_holds_the_hub", a_panic_hook_holds_it, Told::Ended, Exit::Code(0)),
    row(
        "a_panic_hook_with_a_weak_handle_says_why",
        a_weak_panic_hook_says_why,
        Told::Failed("diverged at step 41"),
        Exit::Code(101),
    ),
    row(
        "a_thread_panics_with_the_last_handle",
        a_thread_panics,
        Told::Failed("diverged"),
        Exit::Code(0),
    ),
    row(
        "a_panic_without_a_text_drops_the_last_handle_after_another_was_caught",
        a_panic_is_resumed,
        Told::Failed("the program panicked"),
        Exit::Code(101),
    ),
    row("main_exits", main_exits, Told::Ended, Exit::Code(7)),
    row("another_thread_exits_after_a_shutdown", another_thread_exits, Told::Ended, Exit::Code(7)),
    row(
        "another_thread_exits_after_its_runtime",
        exits_after_a_runtime,
        Told::Ended,
        Exit::Code(7),
    ),
    row("another_thread_exits_after_a_flush", exits_after_a_flush, Told::Nothing, Exit::Code(7)),
    #[cfg(unix)]
    row("the_process_aborts_after_a_flush", aborts, Told::Nothing, Exit::Signal(6)),
    #[cfg(unix)]
    row(
        "a_panic_hook_says_why_before_an_abort",
        a_panic_aborts,
        Told::Failed("diverged at step 41"),
        Exit::Signal(6),
    ),
    #[cfg(all(feature = "signal", unix))]
    row(
        "ctrl_c_ends_a_hub_that_listens",
        computes_for_ever,
        Told::EndedBy("ended by SIGINT", rustix::process::Signal::INT),
        Exit::Signal(2),
    ),
    #[cfg(all(feature = "signal", unix))]
    row(
        "sigterm_ends_a_hub_that_listens",
        computes_for_ever,
        Told::EndedBy("ended by SIGTERM", rustix::process::Signal::TERM),
        Exit::Signal(15),
    ),
    #[cfg(all(feature = "signal", unix))]
    row(
        "a_signal_ends_the_other_hubs_of_the_process",
        computes_with_two_hubs,
        Told::EndedBy("ended by SIGTERM", rustix::process::Signal::TERM),
        Exit::Signal(15),
    ),
    #[cfg(all(feature = "signal", unix))]
    row(
        "a_signal_after_the_hub_has_ended_is_what_it_was",
        raises_after_the_end,
        Told::Finished("converged"),
        Exit::Signal(15),
    ),
    #[cfg(all(feature = "signal", unix))]
    row(
        "a_signal_ends_a_process_whose_hub_runs_on_a_runtime_that_is_held_up",
        holds_up_the_runtime,
        Told::Nothing,
        Exit::Signal(15),
    ),
    row(
        "a_runtime_that_runs_the_hub_ends_after_a_shutdown",
        a_runtime_that_runs_it,
        Told::Ended,
        Exit::Code(0),
    ),
];

// ---- the programs ----

type Done = Result<(), io::Error>;

/// Tells the address, waits for the viewers, and says the last words.
fn run(hub: &Hub) {
    wait(hub);
    hub.broadcast("LAST");
}

fn wait(hub: &Hub) {
    println!("{}", hub.local_addr().unwrap());
    let mut byte = [0];
    io::stdin().read_exact(&mut byte).unwrap();
}

fn start() -> Hub {
    Hub::spawn_blocking("127.0.0.1:0").unwrap()
}

async fn start_async() -> Hub {
    Hub::spawn("127.0.0.1:0").await.unwrap()
}

fn diverged() -> io::Error {
    io::Error::other("diverged")
}

fn main_returns() -> Done {
    let hub = start();
    run(&hub);
    Ok(())
}

fn main_returns_an_error() -> Done {
    let hub = start();
    run(&hub);
    Err(diverged())
}

fn main_panics() -> Done {
    let hub = start();
    run(&hub);
    panic!("diverged at step {}", 41)
}

fn the_run_finishes() -> Done {
    let hub = start();
    run(&hub);
    hub.finish("converged");
    hub.fail("comes too late");
    Ok(())
}

fn the_run_fails() -> Done {
    let hub = start();
    run(&hub);
    hub.fail(&diverged().to_string());
    process::exit(3)
}

#[tokio::main]
async fn tokio_main_returns() -> Done {
    let hub = start_async().await;
    run(&hub);
    Ok(())
}

#[tokio::main]
async fn tokio_main_fails() -> Done {
    let hub = start_async().await;
    run(&hub);
    Err(diverged())?;
    Ok(())
}

#[tokio::main]
async fn tokio_main_panics() -> Done {
    let hub = start_async().await;
    run(&hub);
    panic!("diverged")
}

#[tokio::main]
async fn tokio_main_finishes() -> Done {
    let hub = start_async().await;
    run(&hub);
    hub.finish("converged");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn current_thread_returns() -> Done {
    let hub = start_async().await;
    run(&hub);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn current_thread_fails() -> Done {
    let hub = start_async().await;
    run(&hub);
    Err(diverged())?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn current_thread_panics() -> Done {
    let hub = start_async().await;
    run(&hub);
    panic!("diverged")
}

fn block_on_returns() -> Done {
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let hub = start_async().await;
        run(&hub);
    });
    Ok(())
}

fn shut_down_background() -> Done {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let hub = start_async().await;
        run(&hub);
    });
    runtime.shutdown_background();
    Ok(())
}

#[tokio::main]
async fn a_task_holds_the_hub() -> Done {
    let hub = start_async().await;
    run(&hub);
    tokio::spawn(async move {
        hub.client_count();
        std::future::pending::<()>().await;
    });
    Ok(())
}

#[tokio::main]
async fn a_task_began_it() -> Done {
    let (done, ran) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let hub = start_async().await;
        run(&hub);
        done.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    ran.await.map_err(io::Error::other)
}

fn a_static_holds_the_hub() -> Done {
    static HUB: OnceLock<Hub> = OnceLock::new();
    run(HUB.get_or_init(start));
    Ok(())
}

fn an_events_thread_holds_it() -> Done {
    let hub = start();
    let (mut events, held) = (hub.events(), hub.clone());
    thread::spawn(move || {
        while let Some(event) = events.recv_blocking() {
            answer(&held, &event);
        }
    });
    run(&hub);
    Ok(())
}

fn answer(hub: &Hub, event: &Event) {
    if let Event::Message { id, message, .. } = event {
        let _ = hub.send(*id, message.clone());
    }
}

fn a_weak_events_thread_is_joined() -> Done {
    let hub = start();
    let (mut events, weak): (_, WeakHub) = (hub.events(), hub.downgrade());
    let commands = thread::spawn(move || {
        while let Some(event) = events.recv_blocking() {
            let Some(hub) = weak.upgrade() else { break };
            answer(&hub, &event);
        }
    });
    run(&hub);
    drop(hub);
    commands.join().unwrap();
    Ok(())
}

fn a_thread_holds_it() -> Done {
    let hub = start();
    let (held, feed) = (hub.clone(), hub.feed("run").unwrap());
    thread::spawn(move || {
        loop {
            let _ = feed.set("clients", held.client_count().to_string());
        }
    });
    run(&hub);
    Ok(())
}

fn a_panic_hook_holds_it() -> Done {
    let hub = start();
    let (held, before) = (hub.clone(), panic::take_hook());
    panic::set_hook(Box::new(move |panic| {
        held.broadcast(panic.to_string());
        before(panic);
    }));
    run(&hub);
    Ok(())
}

fn a_weak_panic_hook_says_why() -> Done {
    static HUB: OnceLock<Hub> = OnceLock::new();
    let hub = HUB.get_or_init(start);
    let (weak, before) = (hub.downgrade(), panic::take_hook());
    panic::set_hook(Box::new(move |panic| {
        if let Some(hub) = weak.upgrade() {
            hub.fail(&panic.to_string());
        }
        before(panic);
    }));
    run(hub);
    panic!("diverged at step 41")
}

fn a_thread_panics() -> Done {
    let hub = start();
    let model = thread::spawn(move || {
        run(&hub);
        panic!("diverged")
    });
    assert!(model.join().is_err());
    Ok(())
}

fn a_panic_is_resumed() -> Done {
    let hub = start();
    run(&hub);
    assert!(panic::catch_unwind(|| panic!("an older one")).is_err());
    thread::sleep(Duration::from_millis(1100)); // longer than its text is kept
    panic::resume_unwind(Box::new("of another thread"))
}

fn main_exits() -> Done {
    let hub = start();
    run(&hub);
    process::exit(7)
}

fn another_thread_exits() -> Done {
    let hub = start();
    let exits = thread::spawn(move || {
        run(&hub);
        hub.shutdown_blocking(Duration::from_secs(1));
        process::exit(7)
    });
    exits.join().unwrap()
}

/// Nobody but the runtime waits here: the main thread does not end.
fn exits_after_a_runtime() -> Done {
    let exits = thread::spawn(|| {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let hub = start_async().await;
            run(&hub);
        });
        drop(runtime);
        process::exit(7)
    });
    exits.join().unwrap()
}

fn exits_after_a_flush() -> Done {
    let hub = start();
    let exits = thread::spawn(move || {
        run(&hub);
        hub.flush_blocking(PATIENCE).unwrap();
        process::exit(7)
    });
    exits.join().unwrap()
}

#[cfg(unix)]
fn aborts() -> Done {
    let hub = start();
    run(&hub);
    hub.flush_blocking(PATIENCE).unwrap();
    process::abort()
}

/// As with `panic = "abort"`, where the hook is the last that runs.
#[cfg(unix)]
fn a_panic_aborts() -> Done {
    let hub = start();
    let weak = hub.downgrade();
    panic::set_hook(Box::new(move |panic| {
        if let Some(hub) = weak.upgrade() {
            hub.fail(&panic.to_string());
            hub.shutdown_blocking(Duration::from_secs(1));
        }
        process::abort();
    }));
    run(&hub);
    panic!("diverged at step 41")
}

#[cfg(all(feature = "signal", unix))]
fn computes_for_ever() -> Done {
    let hub = Hub::builder().finish_on_signal().spawn_blocking("127.0.0.1:0").unwrap();
    run(&hub);
    loop {
        thread::park();
    }
}

/// The viewers are those of the hub that hears no signal.
#[cfg(all(feature = "signal", unix))]
fn computes_with_two_hubs() -> Done {
    let _listens = Hub::builder().finish_on_signal().spawn_blocking("127.0.0.1:0").unwrap();
    let hub = start();
    run(&hub);
    loop {
        thread::park();
    }
}

#[cfg(all(feature = "signal", unix))]
fn raises_after_the_end() -> Done {
    let hub = Hub::builder().finish_on_signal().spawn_blocking("127.0.0.1:0").unwrap();
    run(&hub);
    hub.finish("converged");
    hub.shutdown_blocking(PATIENCE);
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)?;
    loop {
        thread::park();
    }
}

#[cfg(all(feature = "signal", unix))]
fn holds_up_the_runtime() -> Done {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let hub = Hub::builder().finish_on_signal().runtime(runtime.handle().clone());
    let hub = hub.spawn_blocking("127.0.0.1:0").unwrap();
    println!("{}", hub.local_addr().unwrap());
    runtime.block_on(async {
        let (read, has_read) = tokio::sync::oneshot::channel();
        thread::spawn(move || read.send(io::stdin().read_exact(&mut [0])));
        has_read.await.unwrap().unwrap();
        hub.broadcast("LAST");
        hub.flush(PATIENCE).await.unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)?;
        loop {
            thread::park(); // a model that computes and never awaits
        }
    })
}

fn a_runtime_that_runs_it() -> Done {
    let runtime = Runtime::new()?;
    let hub = Hub::builder().runtime(runtime.handle().clone());
    let hub = hub.spawn_blocking("127.0.0.1:0").unwrap();
    runtime.block_on(async {
        run(&hub);
        hub.shutdown().await;
    });
    Ok(())
}

// ---- what is seen of them ----

/// One run of a program, and what its viewers see of it.
fn watch(row: &Row) {
    let mut program = Command::new(env::current_exe().unwrap())
        .env(PROGRAM, row.name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address: SocketAddr = line.trim().parse().unwrap();
    let mut plain = Peer::connect_to(address);
    let mut v1 = V1::connect_to(address, &json!({"feeds": {"": {}}}));
    v1.line("feed");
    program.stdin.take().unwrap().write_all(b"x").unwrap();

    assert_eq!(plain.text(), "LAST");
    assert_eq!(v1.line("text")[3], "LAST");
    let told = match row.told {
        Told::Ended => Some((1001, 4000, "the hub has ended")),
        Told::Finished(reason) => Some((1000, 4503, reason)),
        Told::Failed(reason) => Some((1011, 4504, reason)),
        Told::Nothing => None,
        #[cfg(all(feature = "signal", unix))]
        Told::EndedBy(reason, signal) => {
            let id = i32::try_from(program.id()).unwrap();
            rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), signal)
                .unwrap();
            Some((1001, 4000, reason))
        }
    };
    if let Some((code, v1_code, reason)) = told {
        let is_it = |told: &str| match row.told {
            Told::Failed(_) => told.contains(reason), // and says where it was
            _ => told == reason,
        };
        let close = plain.close_frame().expect("a code");
        assert!(close.code().get() == code && is_it(close.reason()), "{close:?}");
        let bye = v1.line("bye");
        assert_eq!((&bye["code"], bye["retry"].is_u64()), (&json!(v1_code), v1_code == 4000));
        assert!(is_it(bye["reason"].as_str().unwrap()), "{bye}");
        assert_eq!(v1.close_code(), v1_code);
    } else {
        assert!(plain.try_recv().is_err());
        v1.gone();
    }
    drop((plain, v1));
    let status = end_of(&mut program);
    let as_expected = match row.exit {
        Exit::Code(code) => status.code() == Some(code),
        #[cfg(unix)]
        Exit::Signal(signal) => ExitStatusExt::signal(&status) == Some(signal),
    };
    assert!(as_expected, "{status}");
}

fn end_of(program: &mut Child) -> ExitStatus {
    found(|| program.try_wait().unwrap()).unwrap_or_else(|| {
        let _ = program.kill();
        panic!("the program has not ended");
    })
}

/// Runs the rows whose name has one of these in it, and says how many failed.
fn main() -> Result<ExitCode, io::Error> {
    if let Ok(name) = env::var(PROGRAM) {
        let row = ROWS.iter().find(|row| row.name == name).expect("a program");
        return (row.program)().map(|()| ExitCode::SUCCESS);
    }
    let arguments: Vec<_> = env::args().skip(1).collect();
    let has_flag = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let wanted = |row: &&Row| {
        let mut names = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
        let is_named = |name: &String| {
            if has_flag("--exact") { row.name == name } else { row.name.contains(name.as_str()) }
        };
        !has_flag("--ignored") && (names.peek().is_none() || names.any(is_named))
    };
    let mut failed = 0;
    for row in ROWS.iter().filter(wanted) {
        if has_flag("--list") {
            println!("{}: test", row.name);
            continue;
        }
        let good = thread::scope(|scope| {
            let runs: Vec<_> = (0..RUNS).map(|_| scope.spawn(|| watch(row))).collect();
            runs.into_iter().map(|run| usize::from(run.join().is_ok())).sum::<usize>()
        });
        println!("test {} ... {good} of {RUNS}", row.name);
        failed += usize::from(good < RUNS);
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
