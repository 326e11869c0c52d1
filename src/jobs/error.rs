//! Why an attempt came to nothing.

use std::time::Duration;

use serde_json::Value;

/// Why an attempt came to nothing, and so what is to become of the job.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// It may work next time: a server that is away, a full disk.
    #[error("{0}")]
    Transient(String),
    /// It will never work.
    #[error("{reason}")]
    Permanent {
        /// Why.
        reason: String,
        /// What there is all the same.
        result: Option<Value>,
    },
    /// It may work, no earlier than after this time; attempts are counted by whoever says so.
    #[error("{reason}")]
    Again {
        /// The pause.
        after: Duration,
        /// Why.
        reason: String,
        /// Whether this was an attempt at all.
        counts: bool,
    },
    /// Nobody wants it any more.
    #[error("cancelled")]
    Cancelled,
    /// The server stops; the next start goes on with it.
    #[error("the server stops")]
    Stopped,
}

impl JobError {
    /// A reason for which it will never work.
    pub fn permanent(reason: impl std::fmt::Display) -> Self {
        Self::Permanent { reason: reason.to_string(), result: None }
    }

    /// A reason for which it may work next time.
    pub fn transient(reason: impl std::fmt::Display) -> Self {
        Self::Transient(reason.to_string())
    }
}
