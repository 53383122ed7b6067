//! The end of the process ends its hubs.
//!
//! A hub ends with its last handle. A handle in a `static`, in a thread that is not joined, or in a
//! panic hook is never dropped. So every hub is registered here, and a thread-local value of the
//! main thread ends the hubs that are left. The thread-local values of the main thread are dropped
//! when `main` returns, and by [`std::process::exit`]. That holds with glibc and on macOS. With
//! musl the values are not dropped at all, and on Windows only when no other thread lives. There,
//! nothing is watched.
//!
//! A panic hook keeps the text of a thread's last panic, since a destructor cannot see the text.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::hub::goodbye::{GRACE, Goodbye, LINGER, cut};
use crate::hub::primitives::per_process::PerProcess;
use crate::hub::primitives::process::Process;
use crate::hub::primitives::program::message_of;
use crate::hub::shared::state::Shared;

static HUBS: PerProcess<Vec<Weak<Shared>>> = PerProcess::new();

/// Registers a hub that begins, so it ends with the process.
pub(crate) fn register(shared: &Arc<Shared>) {
    HUBS.with(|hubs| {
        hubs.retain(|hub| hub.strong_count() > 0);
        hubs.push(Arc::downgrade(shared));
    });
    remember_panics();
    watch();
}

/// Ends every hub of the process, and waits for their ends: a second at most for all of them.
pub(crate) fn end_all(goodbye: impl Fn() -> Goodbye) {
    let hubs: Vec<_> = HUBS.with(|hubs| hubs.iter().filter_map(Weak::upgrade).collect());
    for hub in &hubs {
        hub.request_shutdown(LINGER, goodbye());
    }
    let by = Instant::now() + LINGER + GRACE;
    for hub in &hubs {
        hub.end.wait_blocking(by.saturating_duration_since(Instant::now()));
    }
}

// ---- the main thread ----

thread_local! {
    /// The process whose end is watched. A child of `fork` is another process.
    static WATCHED: RefCell<Option<Process>> = const { RefCell::new(None) };
    static AT_EXIT: AtExit = const { AtExit { process: Cell::new(0) } };
}

/// Whether this system drops the main thread's thread-local values while other threads live.
const HAS_EXIT: bool =
    cfg!(any(all(target_os = "linux", not(target_env = "musl")), target_vendor = "apple"));

/// Watches for the end of the process from now on, if this is its main thread.
pub(crate) fn watch() {
    let is_new = WATCHED.try_with(|watched| {
        let mut watched = watched.borrow_mut();
        let is_new = watched.as_ref().is_none_or(Process::is_another);
        if is_new {
            *watched = Some(Process::current());
        }
        is_new
    });
    if is_new == Ok(true) && HAS_EXIT && is_main_thread() {
        let _ = AT_EXIT.try_with(|at_exit| at_exit.process.set(std::process::id()));
    }
}

struct AtExit {
    /// Zero on other threads. A child of `fork` inherits this value, and watches its own hubs.
    process: Cell<u32>,
}

impl Drop for AtExit {
    fn drop(&mut self) {
        if self.process.get() == std::process::id() {
            // A panic here would abort the process, and code of the program's waits for the end.
            let _ = panic::catch_unwind(|| end_all(Goodbye::ended));
        }
    }
}

#[cfg(target_os = "linux")]
fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

#[cfg(not(target_os = "linux"))]
fn is_main_thread() -> bool {
    thread::current().name() == Some("main")
}

// ---- panics ----

thread_local! {
    static LAST_PANIC: RefCell<Option<LastPanic>> = const { RefCell::new(None) };
}

/// A panic that ran the hook. Nothing says when a panic is caught, and a panic by `resume_unwind`
/// runs no hook. So the text counts as the reason of a drop only for a while.
struct LastPanic {
    text: Box<str>,
    until: Instant,
}

/// How long after the hook the last handle may be dropped: other values are dropped before.
const UNWINDS: Duration = Duration::from_secs(1);

/// Gives the thread this much time until it drops the next handle.
fn renew(last: &mut Option<LastPanic>, within: Duration) {
    if let Some(last) = last {
        last.until = Instant::now() + within;
    }
}

fn with_last_panic<R>(run: impl FnOnce(&mut Option<LastPanic>) -> R) -> Option<R> {
    LAST_PANIC.try_with(|last| last.try_borrow_mut().ok().map(|mut last| run(&mut last))).ok()?
}

/// Keeps the text of each thread's last panic from now on, and then calls the earlier hook.
fn remember_panics() {
    /// Not a `Once`, which a child of `fork` would wait for.
    static IS_SET: AtomicBool = AtomicBool::new(false);
    // While the thread panics the hook cannot be exchanged.
    if thread::panicking() || IS_SET.swap(true, Ordering::Relaxed) {
        return;
    }
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let until = Instant::now() + UNWINDS;
        with_last_panic(|last| *last = Some(LastPanic { text: text_of(panic).into(), until }));
        before(panic);
        with_last_panic(|last| renew(last, UNWINDS)); // a backtrace takes long
    }));
}

fn text_of(panic: &PanicHookInfo<'_>) -> String {
    let message = message_of(panic.payload());
    let message = cut(&message, Goodbye::MAX_REASON);
    match panic.location() {
        Some(at) => format!("panic at {}:{}: {message}", at.file(), at.line()),
        None => format!("panic: {message}"),
    }
}

/// Returns the goodbye of a hub whose last handle is dropped.
pub(crate) fn goodbye_of_a_drop() -> Goodbye {
    if !thread::panicking() {
        return Goodbye::ended();
    }
    let text = with_last_panic(|last| {
        *last = last.take().filter(|last| Instant::now() < last.until);
        renew(last, LINGER + GRACE + UNWINDS); // another hub's handle may be dropped after this one
        last.as_ref().map(|last| last.text.clone())
    });
    Goodbye::failed(text.flatten().as_deref().unwrap_or("the program panicked"))
}

/// Waits for the hub's end on a blocking thread of the runtime, a second at most. A runtime that is
/// dropped waits for that thread. Returns whether the runtime took the task.
pub(crate) fn wait_on(runtime: &tokio::runtime::Handle, shared: &Arc<Shared>) -> bool {
    let hub = Arc::clone(shared);
    let wait = move || hub.end.wait_blocking(LINGER + GRACE);
    // tokio panics if the system has no thread for the task.
    let waits = panic::catch_unwind(AssertUnwindSafe(|| runtime.spawn_blocking(wait)));
    // A runtime that is being dropped takes no task.
    waits.is_ok_and(|waits| !waits.is_finished()) || shared.end.wait_blocking(Duration::ZERO)
}
