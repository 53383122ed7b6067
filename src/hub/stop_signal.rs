//! Ctrl-C and SIGTERM end the hub, and then do what they would have done.
//!
//! A handler cannot be taken back, so that one is installed once for the process, which lets a signal end the
//! process while no hub of the process is to hear it.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::goodbye::Goodbye;
use super::shared::Shared;
use super::{LINGER, process_end};

const SIGNALS: [(i32, &str); 2] = [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM")];

static PROCESS: Mutex<Option<Process>> = Mutex::new(None);

struct Process {
    /// How many hubs listen.
    hubs: usize,
    /// Whether a signal ends the process at once: no hub listens, or one has been heard already.
    at_once: Arc<AtomicBool>,
    /// The signal that was heard; zero: none.
    heard: Arc<AtomicUsize>,
}

/// A hub that listens; when this is dropped, after its end, a signal that was heard ends the process.
pub(super) struct Listening {
    at_once: Arc<AtomicBool>,
    heard: Arc<AtomicUsize>,
}

/// Listens on the runtime in whose context this is called.
///
/// # Errors
///
/// The operating system's.
pub(super) fn listen() -> io::Result<(Listening, [(Signal, &'static str); 2])> {
    let mut process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    if process.is_none() {
        let (at_once, heard) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        for (number, _) in SIGNALS {
            // In this order: the second signal finds what the first has set.
            flag::register_conditional_default(number, Arc::clone(&at_once))?;
            flag::register(number, Arc::clone(&at_once))?;
            let value = usize::try_from(number).unwrap_or_default();
            flag::register_usize(number, Arc::clone(&heard), value)?;
        }
        *process = Some(Process { hubs: 0, at_once, heard });
    }
    let signals = [
        (signal(SignalKind::interrupt())?, SIGNALS[0].1),
        (signal(SignalKind::terminate())?, SIGNALS[1].1),
    ];
    let Some(Process { hubs, at_once, heard }) = &mut *process else { unreachable!("it was made") };
    *hubs += 1;
    if heard.load(Ordering::SeqCst) == 0 {
        at_once.store(false, Ordering::SeqCst);
    }
    let listening = Listening { at_once: Arc::clone(at_once), heard: Arc::clone(heard) };
    Ok((listening, signals))
}

/// Ends the hub when a signal comes.
pub(super) async fn end_on(mut signals: [(Signal, &'static str); 2], shared: Arc<Shared>) {
    let name = poll_fn(|cx| {
        for (signal, name) in &mut signals {
            if signal.poll_recv(cx).is_ready() {
                return Poll::Ready(*name);
            }
        }
        Poll::Pending
    })
    .await;
    shared.request_shutdown(LINGER, Goodbye::ended_by(name));
}

impl Drop for Listening {
    fn drop(&mut self) {
        {
            let mut process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(process) = &mut *process else { return };
            process.hubs -= 1;
            if process.hubs == 0 {
                self.at_once.store(true, Ordering::SeqCst);
            }
        }
        let heard = self.heard.load(Ordering::SeqCst);
        let is_it = |(number, _): &&(i32, &str)| usize::try_from(*number) == Ok(heard);
        if let Some((number, name)) = SIGNALS.iter().find(is_it) {
            process_end::end_all(|| Goodbye::ended_by(name)); // other hubs of the process
            let _ = low_level::emulate_default_handler(*number);
        }
    }
}
