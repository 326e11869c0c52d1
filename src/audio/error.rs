//! Why audio cannot be read.

use std::io;
use std::time::Duration;

use super::Format;
use super::wav::WavError;

/// Why a file cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// It cannot be opened, or is a folder.
    #[error("cannot be opened: {0}")]
    Open(#[source] io::Error),
    /// Nothing is in it.
    #[error("the file is empty: nothing was recorded, or the copy failed")]
    Empty,
    /// Reading failed.
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
    /// Neither contents nor name say what it is.
    #[error(
        "not audio of a kind that is read here: WAV, FLAC, MP3, Opus in Ogg, or, named so, .ulaw .alaw .gsm .g722 .sln … .sln192; \
         convert it first (`ffmpeg -i IN OUT.wav`)"
    )]
    Unknown,
    /// A kind that is known, and not read.
    #[error("{what} is not read here; convert it first (`ffmpeg -i IN OUT.wav`)")]
    Unsupported {
        /// The kind.
        what: String,
    },
    /// A WAV file that is none, or of a kind that is not read.
    #[error(transparent)]
    Wav(#[from] WavError),
    /// The contents are not what the file says they are.
    #[error(
        "no {format} that can be decoded: {reason}; it was damaged, or is something else: copy or convert it again"
    )]
    Damaged {
        /// What it should be.
        format: Format,
        /// What is wrong.
        reason: String,
    },
    /// More audio than is taken.
    #[error("the audio is longer than {}, which is all that is taken: cut it into pieces", hours(.most))]
    TooLong {
        /// All that is taken.
        most: Duration,
    },
    /// No sensible rate.
    #[error(
        "{hz} samples a second are not read here, 4000 to 384000 are; the header is damaged, or convert the file first"
    )]
    Rate {
        /// What the header says.
        hz: u32,
    },
}

fn hours(most: &Duration) -> String {
    match most.as_secs() {
        seconds if seconds >= 7_200 => format!("{:.1} hours", seconds as f64 / 3_600.0),
        seconds if seconds >= 120 => format!("{} minutes", seconds / 60),
        seconds => format!("{seconds} seconds"),
    }
}
