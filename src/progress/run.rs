//! What the program says of the run.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::handshake::machine_name;
use crate::progress::line::Object;

/// The run: its name, where and since when it runs, and what the program wants known of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    pub(crate) title: String,
    /// In milliseconds since 1970.
    pub(crate) started: u64,
    pub(crate) host: String,
    pub(crate) pid: u32,
    /// JSON: parameters, a version, the command line.
    pub(crate) description: Option<String>,
    /// When the work was done, in milliseconds since 1970.
    pub(crate) done: Option<u64>,
    /// How the run has ended, and with what message.
    pub(crate) end: Option<(&'static str, Box<str>)>,
}

impl Run {
    /// A run of this process, which began at this time.
    pub(crate) fn here(started: u64) -> Self {
        Self {
            started,
            host: machine_name().unwrap_or_default().to_owned(),
            pid: std::process::id(),
            ..Self::default()
        }
    }

    pub(crate) fn write(&self, ends: &Ends, refused: u64, now: u64, out: &mut Vec<u8>) {
        let mut run = Object::begin(out, "run");
        run.text("title", &self.title);
        run.whole("started", self.started);
        run.whole("at", now);
        run.text("host", &self.host);
        run.whole("pid", self.pid.into());
        if let Some(description) = &self.description {
            run.json("description", description);
        }
        let mut counts = run.object("ended");
        let ends = [
            ("completed", &ends.completed),
            ("failed", &ends.failed),
            ("cancelled", &ends.cancelled),
            ("abandoned", &ends.abandoned),
        ];
        for (name, count) in ends {
            counts.whole(name, count.load(Ordering::Relaxed));
        }
        counts.end();
        if let Some(done) = self.done {
            run.whole("done", done);
        }
        if let Some((how, reason)) = &self.end {
            let mut end = run.object("end");
            end.text("how", how);
            end.text("reason", reason);
            end.end();
        }
        if refused > 0 {
            run.whole("refused", refused);
        }
        run.end();
    }
}

/// How many jobs have ended, by the way they did.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) completed: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) abandoned: AtomicU64,
}
