//! What the live transcript lacks of a leg: time to be transcribed from the call's recording.

use serde::{Deserialize, Serialize};

/// A stretch of one leg that nobody has recognised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwedSpan {
    /// Where it starts, seconds on the recording's clock.
    pub start: f64,
    /// Where it ends, seconds on the recording's clock, at least `start`.
    pub end: f64,
    /// The number of its utterance, if subscribers have been told of it by a partial: its one final is still to come. `None`:
    /// nobody knows of any utterance in it.
    pub utterance: Option<u64>,
}
