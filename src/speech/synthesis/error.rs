//! Why nothing is said.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why nothing is said.
#[derive(Debug, thiserror::Error)]
pub enum SynthesisError {
    /// Nothing to say.
    #[error("there is no text: say something, in letters or digits")]
    NoText,
    /// Too much to say.
    #[error("the text has {chars} characters, {most} are taken (tts.max_chars): send it in pieces")]
    TextTooLong {
        /// Its length.
        chars: usize,
        /// The most.
        most: usize,
    },
    /// No pace that can be spoken at.
    #[error("a speed of {speed} is none: use 0.25 to {most}, 1 being the voice's own")]
    Speed {
        /// As asked for.
        speed: f64,
        /// The fastest.
        most: f64,
    },
    /// A voice or language whose name cannot be one.
    #[error("{name:?} is no name of a {what}: letters, digits, spaces, `-`, `_`, `+`, `.` and brackets are")]
    BadName {
        /// Voice or language.
        what: &'static str,
        /// As given.
        name: String,
    },
    /// The engine does not know the voice or the language.
    #[error("{engine} has no voice {voice:?}: {reason}")]
    UnknownVoice {
        /// The engine.
        engine: &'static str,
        /// As asked for.
        voice: String,
        /// What it says, or where it was looked for.
        reason: String,
    },
    /// The program is not there.
    #[error("cannot run {} ({source}): install it (`apt-get install espeak-ng`), or set tts.program to where it is", program.display())]
    NoProgram {
        /// Its name.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The program ended with an error, or the server said no.
    #[error("{engine} did not speak: {reason}")]
    Failed {
        /// The engine.
        engine: &'static str,
        /// What it says.
        reason: String,
    },
    /// The server is away or overloaded: later it may speak.
    #[error("{engine} cannot be reached or is busy: {reason} ({})", if *engine == "riva" { "riva.url" } else { "tts.url" })]
    Unavailable {
        /// The engine.
        engine: &'static str,
        /// What is known.
        reason: String,
    },
    /// It took too long.
    #[error("{engine} did not speak within {after:?} (tts.timeout_ms)")]
    Timeout {
        /// The engine.
        engine: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// What came is no audio.
    #[error("what {engine} gave is no audio: {reason}")]
    NotAudio {
        /// The engine.
        engine: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Audio of no length.
    #[error("{engine} said nothing: the voice may not know this script")]
    Silent {
        /// The engine.
        engine: &'static str,
    },
    /// The folder cannot be used.
    #[error("cannot use {} for what was spoken: {source}", folder.display())]
    Cache {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl SynthesisError {
    /// Whether whoever asked is to blame: the same request fails again.
    pub fn is_request(&self) -> bool {
        matches!(
            self,
            Self::NoText
                | Self::TextTooLong { .. }
                | Self::Speed { .. }
                | Self::BadName { .. }
                | Self::UnknownVoice { .. }
        )
    }

    /// Whether the same request may well succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Timeout { .. })
    }
}
