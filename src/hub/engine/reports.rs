//! The hub's log lines about failures: a few of each kind in a second.

use std::sync::Arc;

use crate::hub::primitives::journal::Journal;
use crate::hub::primitives::lock::Lock;
use crate::hub::primitives::program;
use crate::hub::primitives::warnings::Warnings;

pub(crate) struct Reports {
    pub(crate) refused: Warnings,
    pub(crate) failed: Warnings,
    pub(crate) rule_failed: Lock<Warnings>,
    /// Panics in the program's code, and how many of them are logged.
    panicked: Warnings,
    panics: u64,
}

impl Reports {
    pub(crate) fn new(panics: u64) -> Self {
        Self {
            refused: Warnings::default(),
            failed: Warnings::default(),
            rule_failed: Lock::default(),
            panicked: Warnings::default(),
            panics,
        }
    }

    /// Logs panics of the program's code since the last call. A destructor has no log at hand.
    pub(crate) fn tell_of_panics(&mut self, now: u64, journal: &Arc<Journal>) {
        let panics = program::panics();
        if panics != std::mem::replace(&mut self.panics, panics) {
            self.panicked.warn(now, |left_out| {
                journal.write(move || {
                    let what =
                        "a rule, a payload's destructor, a waker or a log subscriber panicked";
                    tracing::error!(panics, left_out, "{what}");
                });
            });
        }
    }
}
