//! The state that a job is in.

/// The state that a job is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobStatus {
    /// The job is announced and has not begun.
    Queued,
    /// The job is under way.
    Working,
    /// The program has paused the job: the time does not count for its rate and ETA.
    Paused,
    /// Somebody has asked for the job's end, and the program has not reacted yet.
    Cancelling,
    /// The job has reached its end.
    Completed,
    /// The job has failed.
    Failed,
    /// The job has ended because somebody asked for that.
    Cancelled,
    /// The program let go of the job without an end.
    Abandoned,
}

impl JobStatus {
    /// Whether this is a final state.
    ///
    /// ```
    /// # use stepcast::JobStatus;
    /// assert!(JobStatus::Failed.is_final() && !JobStatus::Cancelling.is_final());
    /// ```
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Abandoned)
    }

    /// Returns the state's name on the wire.
    ///
    /// ```
    /// # use stepcast::JobStatus;
    /// assert_eq!(JobStatus::Completed.name(), "completed");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Working => "working",
            Self::Paused => "paused",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Abandoned => "abandoned",
        }
    }
}
