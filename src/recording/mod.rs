//! Recordings: stereo WAV files, exact to the sample, that survive a crash.
//!
//! While a call runs its file is `<call>.wav.part` with a header brought up to date every checkpoint, and its gaps stand in
//! `<call>.wav.part.gaps`. A killed process loses what the legs' rings held: the repair window, and the last write's
//! worth. [`Recorder`] serves many recordings with few threads; [`repair`] mends what a crash left; [`report`] says what is
//! in a file and what is missing from it. Nothing here ever makes a receiver wait: a recording that cannot keep up or
//! cannot be written loses samples, says so, and leaves the others alone.
//!
//! The pure parts ([`interleave`], [`gaps`]) know no file and no clock. [`writer::OpenRecording`] can be driven
//! without threads, at any speed: `sidetone replay` does.

mod error;
pub mod gaps;
pub mod interleave;
mod journal;
pub mod part;
mod pool;
pub mod repair;
pub mod report;
mod space;
#[cfg(test)]
mod tests;
pub mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use crate::audio::wav;
pub use error::RecordingError;
pub use pool::{Lag, Recorder, RecordingHandle};
pub use space::free_mib;

use crate::media::clock::CallClock;
use crate::media::report::Gap;
use crate::media::ring::Ring;
use report::Span;

/// How recordings are written.
#[derive(Clone, Debug)]
pub struct RecorderConfig {
    /// Writer threads, at least 1; each serves many recordings.
    pub writers: usize,
    /// Headers are brought up to date, and the disk told to keep what was written, this often.
    pub checkpoint: Duration,
    /// Late packets mend the recording for this long: it is written this far behind the legs' heads.
    pub repair_window: Duration,
    /// With less free disk than this, MiB, no recording begins.
    pub min_free_mib: u64,
}

impl Default for RecorderConfig {
    fn default() -> Self {
        Self {
            writers: 2,
            checkpoint: Duration::from_secs(1),
            repair_window: Duration::from_secs(2),
            min_free_mib: 64,
        }
    }
}

/// Called once, on a thread of the recorder, when a recording fails after it began.
pub type OnFailure = Arc<dyn Fn(RecordingError) + Send + Sync>;

/// What to record.
#[derive(Clone)]
pub struct RecordingSpec {
    /// For logs and errors.
    pub call_id: String,
    /// The finished file, `….wav`; folders are made. While open it is `….wav.part`.
    pub path: PathBuf,
    /// Frame 0 is its origin.
    pub clock: Arc<CallClock>,
    /// Left and right; `None` is silence.
    pub legs: [Option<Arc<Ring>>; 2],
    /// Go on with the file an earlier process left. The clock must be that call's ([`CallClock::resumed`]).
    pub resume: bool,
    /// Told when the recording fails.
    pub on_failure: OnFailure,
}

impl std::fmt::Debug for RecordingSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordingSpec")
            .field("call_id", &self.call_id)
            .field("path", &self.path)
            .field("resume", &self.resume)
            .finish_non_exhaustive()
    }
}

/// A recording that is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The `.wav` file.
    pub path: PathBuf,
    /// Stereo frames in it.
    pub frames: u64,
    /// Frames a second.
    pub sample_rate: u32,
    /// Of the whole file, lower-case hexadecimal.
    pub sha256: String,
    /// Call sample of frame 0.
    pub origin: i64,
    /// Wall-clock time of frame 0.
    pub started_at: jiff::Timestamp,
    /// Per leg, in order: what is not received audio. Samples of the recording.
    pub gaps: [Vec<Gap>; 2],
    /// Where it was paused.
    pub paused: Vec<Span>,
}
