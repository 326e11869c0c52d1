//! Why there was no call.

use std::path::PathBuf;

use jiff::Timestamp;

use super::do_not_call::DoNotCallError;
use super::number::NumberError;
use crate::asterisk::ami::AmiError;

/// What the journal says when it cannot keep what it is told.
pub type JournalError = Box<dyn std::error::Error + Send + Sync>;

/// There was no call, or its outcome could not be kept. What a call came to that was placed is no error but an
/// [`super::Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The job's id cannot be a channel's.
    #[error("{id:?} cannot be the id of a channel: use 1 to 100 letters, digits, `-` and `_`")]
    BadId {
        /// As given.
        id: String,
    },
    /// The number may not be called, or is none.
    #[error(transparent)]
    Number(#[from] NumberError),
    /// The number is on the tenant's list.
    #[error("{number} is on the list of numbers that are not called")]
    DoNotCall {
        /// E.164, or an extension.
        number: String,
    },
    /// The list cannot be read.
    #[error(transparent)]
    DoNotCallList(#[from] DoNotCallError),
    /// Not at this hour.
    #[error("no calls at this hour (tts_calls.hours, days and time_zone): the next may be placed at {next}")]
    Hours {
        /// When calls may be placed again.
        next: Timestamp,
    },
    /// The audio cannot be put where Asterisk finds it.
    #[error("cannot put the audio into {} for Asterisk: {reason} (tts_calls.audio_folder)", folder.display())]
    Audio {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Calls by ARI without ARI.
    #[error("tts_calls.by is `ari`, and ARI is not connected: use `ami`")]
    NoAri,
    /// This very attempt is under way.
    #[error("{id} is under way already")]
    UnderWay {
        /// The channel's id.
        id: String,
    },
    /// Asterisk cannot be told, or said no: certainly nobody was called.
    #[error("nobody was called: {reason}")]
    NotPlaced {
        /// Why.
        reason: String,
        /// Whether it may well work later.
        is_transient: bool,
    },
    /// The intention could not be kept, so nobody was called; or the outcome could not, and [`super::Caller::resume`] has it again.
    #[error("cannot keep what becomes of {id}: {source}")]
    Journal {
        /// The channel's id.
        id: String,
        /// What the journal says.
        source: JournalError,
    },
}

impl CallError {
    /// Whether the same may well work later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotPlaced { is_transient, .. } => *is_transient,
            // A full disk has room again, a file is mended, an hour passes.
            Self::Hours { .. } | Self::Audio { .. } | Self::DoNotCallList(_) | Self::Journal { .. } => true,
            Self::BadId { .. }
            | Self::Number(_)
            | Self::DoNotCall { .. }
            | Self::NoAri
            | Self::UnderWay { .. } => false,
        }
    }

    pub(super) fn not_placed(error: &AmiError) -> Self {
        Self::NotPlaced { reason: error.to_string(), is_transient: error.is_transient() }
    }
}
