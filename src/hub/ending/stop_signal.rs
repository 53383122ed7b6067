//! Ctrl-C and SIGTERM end the hub, and then do what they would have done.
//!
//! A handler cannot be removed. So one is installed once for the process, and a signal ends the
//! process as long as no hub listens. A thread waits for a signal and ends all hubs. The thread
//! starts with the first hub that listens, and needs neither a runtime nor a hub's own thread,
//! which may be held up.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::hub::ending::process_end;
use crate::hub::goodbye::Goodbye;
use crate::hub::primitives::process::Process;
use crate::hub::primitives::stop_flags::{FLAGS, LISTENERS};

const SIGNALS: [(i32, &str); 2] = [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM")];

/// A hub that listens, until this is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    process: Process,
}

/// Listens for signals.
///
/// # Errors
///
/// The operating system's errors.
pub(crate) fn listen() -> io::Result<Listening> {
    LISTENERS.with(|listeners| {
        if !listeners.has_thread {
            start()?;
            listeners.has_thread = true;
        }
        listeners.hubs += 1;
        if FLAGS.heard.load(Ordering::SeqCst) == 0 {
            FLAGS.at_once.store(false, Ordering::SeqCst);
        }
        Ok(Listening { process: Process::current() })
    })
}

/// Installs the handlers, and starts the thread that they notify.
fn start() -> io::Result<()> {
    let flags = &*FLAGS;
    flags.heard.store(0, Ordering::SeqCst); // which a child may have inherited
    if !flags.are_registered.swap(true, Ordering::SeqCst) {
        for (number, _) in SIGNALS {
            // In this order: the handler of a second signal finds what the first one set.
            flag::register_conditional_default(number, Arc::clone(&flags.at_once))?;
            flag::register(number, Arc::clone(&flags.at_once))?;
            let value = usize::try_from(number).unwrap_or_default();
            flag::register_usize(number, Arc::clone(&flags.heard), value)?;
        }
    }
    let (rings, bell) = UnixStream::pair()?;
    thread::Builder::new().name("stepcast-signal".to_owned()).spawn(move || serve(bell))?;
    for (number, _) in SIGNALS {
        low_level::pipe::register(number, rings.try_clone()?)?; // after what it tells of
    }
    Ok(())
}

/// Waits for a signal, ends all hubs of the process, and then the process.
fn serve(mut bell: UnixStream) {
    loop {
        // A child of `fork` rings this bell, too, but sets only its own flags.
        match bell.read(&mut [0; 64]) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
            _ => {}
        }
        let heard = FLAGS.heard.load(Ordering::SeqCst);
        let is_it = |(number, _): &&(i32, &str)| usize::try_from(*number) == Ok(heard);
        if let Some((number, name)) = SIGNALS.iter().find(is_it) {
            process_end::end_all(|| Goodbye::ended_by(name));
            let _ = low_level::emulate_default_handler(*number);
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if self.process.is_another() {
            return;
        }
        LISTENERS.with(|listeners| {
            listeners.hubs -= 1;
            if listeners.hubs == 0 {
                FLAGS.at_once.store(true, Ordering::SeqCst);
            }
        });
    }
}
