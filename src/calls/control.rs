//! What users may do to a live call: the driver does it, the API asks for it.

use futures_util::future::BoxFuture;

/// Commands to the driver.
pub trait CallControl: Send + Sync {
    /// Hang the call up.
    fn hangup<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>>;
    /// Write marked silence from now on.
    fn pause_recording<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>>;
    /// Write audio again.
    fn resume_recording<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>>;
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The call is not live (any more).
    #[error("the call is not live")]
    NotLive,
    /// An earlier process had the call, and it is not known yet whether it lives.
    #[error("the call is not taken up yet")]
    NotTakenUp,
    /// The call is not such that this can be done, for example not recorded.
    #[error("{0}")]
    NotPossible(String),
    /// Asterisk, or a part of ours, did not do it.
    #[error("{0}")]
    Failed(String),
}
