//! What viewers have to be told of the run, and in which feed.

/// The feed that tells of the run: its jobs, its log and what the program says of it.
pub(crate) const RUN: &str = "stepcast/run";

/// The feed of what the run measures: each series with its history, and new points.
pub(crate) const SERIES: &str = "stepcast/series";

/// The feed of the run's fields.
pub(crate) const FIELDS: &str = "stepcast/fields";

/// What viewers have to be told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tell {
    /// A value, its removal, or a message of the feed of the run.
    Set {
        key: String,
        line: String,
    },
    Remove {
        key: String,
    },
    Send {
        line: String,
    },
    /// A series with its history. If it is not new, viewers that have the series know all of it.
    SetSeries {
        key: String,
        line: String,
        is_new: bool,
    },
    /// New points of series.
    Points {
        line: String,
    },
    /// What a field is, and its newest copy.
    SetField {
        key: String,
        line: String,
    },
    SetData {
        key: String,
        bytes: Vec<u8>,
    },
    /// The copy that another field had made before.
    DropData {
        key: String,
    },
}

impl Tell {
    /// Whether this is part of the state, which a late viewer is told, too.
    pub(crate) fn is_state(&self) -> bool {
        !matches!(self, Self::Send { .. })
    }
}
