//! How a client's stream comes to its end.

use std::convert::Infallible;

use super::unpack::BadAudio;
use super::wire::Gone;

/// Why a stream ends.
#[derive(Debug)]
pub(in crate::api) enum End {
    /// The client is done.
    Done,
    /// The client has gone.
    Gone,
    /// Nothing came for too long, where that counts.
    Silence,
    /// A message was too long.
    TooLong,
    /// What came is no audio, or not of the protocol: why.
    Bad(String),
    /// The server stops.
    Stopping,
}

impl End {
    /// What a loop without an end came to.
    pub(in crate::api) fn of(outcome: Result<Infallible, Self>) -> Self {
        match outcome {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<BadAudio> for End {
    fn from(bad: BadAudio) -> Self {
        Self::Bad(bad.to_string())
    }
}
