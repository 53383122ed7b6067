//! What the end of the process means for its hubs.
//!
//! A hub ends with its last handle, but a handle in a `static`, in a thread that is not joined, or in
//! a panic hook is never dropped. So every hub is registered here, and a thread-local value of the
//! main thread ends those that are left: the main thread's thread-local values are dropped when it
//! leaves the process, by returning from `main` or by [`std::process::exit`]. That holds with glibc
//! and on macOS. With musl they are not dropped at all, and on Windows when no other thread lives any
//! more: there, nothing is watched.
//!
//! A panic hook keeps the text of a thread's last panic, since a destructor cannot see it.

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

/// A hub begins: it is among those that end with the process.
pub(crate) fn register(shared: &Arc<Shared>) {
    HUBS.with(|hubs| {
        hubs.retain(|hub| hub.strong_count() > 0);
        hubs.push(Arc::downgrade(shared));
    });
    remember_panics();
    watch();
}

/// Ends every hub of the process that is left, and waits for that, at most a second for all of them.
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
    /// The process whose end is seen. In a child of `fork` it is another.
    static WATCHED: RefCell<Option<Process>> = const { RefCell::new(None) };
    static AT_EXIT: AtExit = const { AtExit { process: Cell::new(0) } };
}

/// Where the thread-local values of the main thread are dropped while the other threads live.
const HAS_EXIT: bool =
    cfg!(any(all(target_os = "linux", not(target_env = "musl")), target_vendor = "apple"));

/// The end of the process is seen from now on, if this is its main thread.
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
    /// Zero on other threads. A child of `fork` inherits this value, and watches for hubs of its own.
    process: Cell<u32>,
}

impl Drop for AtExit {
    fn drop(&mut self) {
        if self.process.get() == std::process::id() {
            // A panic here would abort the process. (What waits for the end is the program's code.)
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

/// A panic that runs the hook. Nothing tells when it is caught, and a panic by `resume_unwind` runs no hook: so the text is the
/// reason of a drop for a while only, and an older panic's is not.
struct LastPanic {
    text: Box<str>,
    until: Instant,
}

/// How long the drops of the values before the last handle may take, after the hook.
const UNWINDS: Duration = Duration::from_secs(1);

/// The thread has this much time to come to the next handle.
fn renew(last: &mut Option<LastPanic>, within: Duration) {
    if let Some(last) = last {
        last.until = Instant::now() + within;
    }
}

fn with_last_panic<R>(run: impl FnOnce(&mut Option<LastPanic>) -> R) -> Option<R> {
    LAST_PANIC.try_with(|last| last.try_borrow_mut().ok().map(|mut last| run(&mut last))).ok()?
}

/// Keeps the text of each thread's last panic from now on. The hook that was there is called then.
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

/// What the last handle says when it is dropped.
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

/// Waits for the hub's end on a thread of the runtime that may be kept waiting, so that a runtime
/// that is dropped does: at most a second. Whether the runtime took that on.
pub(crate) fn wait_on(runtime: &tokio::runtime::Handle, shared: &Arc<Shared>) -> bool {
    let hub = Arc::clone(shared);
    let wait = move || hub.end.wait_blocking(LINGER + GRACE);
    // Where the system has no thread for it, tokio panics.
    let waits = panic::catch_unwind(AssertUnwindSafe(|| runtime.spawn_blocking(wait)));
    // A runtime that is being dropped already takes nothing.
    waits.is_ok_and(|waits| !waits.is_finished()) || shared.end.wait_blocking(Duration::ZERO)
}
