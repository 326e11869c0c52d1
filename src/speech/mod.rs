//! Speech to text of both parties of a call while they speak.
//!
//! The way of a leg's audio: ring → [`resample`] to 16 kHz → [`vad`] → [`gate`] against what only sounds like speech →
//! [`segment`] into utterances → [`session`] decides what to have recognised when → [`scheduler`] orders the work of all legs → a worker's [`recogniser`] → [`agreement`]
//! turns successive hypotheses into words that stand → [`event`]. Everything but [`engine`] (threads, clock, rings) is
//! sans-IO and runs under simulated time. [`batch`] takes whole files through the same parts; [`transcript`] is what a
//! call leaves behind.

pub mod agreement;
#[cfg(feature = "whisper")]
mod align;
pub mod batch;
mod carry;
pub mod catch_up;
pub mod cost;
pub mod dispatch;
pub mod engine;
pub mod event;
pub mod gate;
pub mod ggml;
pub mod ladder;
pub mod language;
pub mod load;
mod lost;
pub mod model;
pub mod models;
pub mod owed;
pub mod recogniser;
pub mod remote;
#[cfg(feature = "riva")]
pub mod riva;
pub mod scheduler;
pub mod scripted;
pub mod segment;
pub mod session;
pub mod synthesis;
pub mod transcript;
pub mod vad;
#[cfg(feature = "whisper")]
mod whisper;

pub use crate::media::resample;
pub use engine::{FinishReport, LegAudio, LegListener, SpeechConfig, SpeechEngine, SpeechError};
pub use event::{TranscriptEvent, TranscriptKind, Word};
pub use model::{ModelChoice, ModelError, ModelFile, NoModel, english_only};
pub use owed::OwedSpan;
pub use remote::Engine;

/// The rate of the PCM that recognisers take, samples a second.
pub const RATE: u32 = 16_000;
