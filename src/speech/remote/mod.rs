//! The border to a speech service elsewhere that takes audio as it is spoken, and what stands before it.
//!
//! A service gets one stream an utterance, from the moment that the leg's own detector and gates take it for speech until they
//! see its end: a silent leg costs the service nothing, words keep the recording's exact clock, numbers and guards are those of
//! any other engine, and what has to be sent again after a cut is one utterance at the most. Within its stream the service cuts
//! as it likes: what it calls final there stands.
//!
//! [`leg`] is the state machine (sans-IO), [`words`] makes words of what services say; the service itself does the IO.

pub mod leg;
pub mod words;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

/// What recognises a leg's speech.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Whisper, in this process.
    #[default]
    Whisper,
    /// NVIDIA Riva, elsewhere.
    Riva,
}

impl Engine {
    /// As in the settings and the dialplan.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whisper => "whisper",
            Self::Riva => "riva",
        }
    }
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        [Self::Whisper, Self::Riva]
            .into_iter()
            .find(|engine| engine.name() == name)
            .ok_or_else(|| UnknownEngine(name.to_owned()))
    }
}

/// There is no such engine.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no speech engine `{0}`: use whisper or riva")]
pub struct UnknownEngine(String);

/// What becomes of speech that the service does not recognise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// The model in this process takes it.
    #[default]
    Local,
    /// Nothing for now: its place in the transcript is owed.
    None,
}

/// How a service is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteConfig {
    /// What becomes of speech that it does not recognise.
    pub fallback: Fallback,
    /// Audio sent at a time.
    pub chunk: Duration,
    /// After the end of an utterance its last words are waited for this long.
    pub final_timeout: Duration,
    /// An utterance that the service failed at is tried again for this long.
    pub retry_for: Duration,
}

impl Default for RemoteConfig {
    fn default() -> Self {
        Self {
            fallback: Fallback::Local,
            chunk: Duration::from_millis(100),
            final_timeout: Duration::from_secs(3),
            retry_for: Duration::from_secs(3),
        }
    }
}

/// What a stream is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRequest {
    /// Language code, or `auto`.
    pub language: String,
    /// Words and phrases to expect, separated by commas.
    pub vocabulary: Option<Arc<str>>,
}

/// A word as the service says it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceWord {
    /// Its text.
    pub text: String,
    /// Seconds from the stream's first sample.
    pub start: f64,
    /// Seconds from the stream's first sample.
    pub end: f64,
    /// Probability, if the service tells one.
    pub p: Option<f32>,
}

/// What the service makes of a stretch of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamResult {
    /// The text, with whatever punctuation the service gives.
    pub text: String,
    /// The words with their times; empty if it tells none.
    pub words: Vec<ServiceWord>,
    /// Nothing of it changes any more, and what follows is another stretch.
    pub is_final: bool,
    /// Probability of the whole, or how likely an interim result is to stay as it is; if told.
    pub p: Option<f32>,
    /// Language code of Whisper's that was found, if told.
    pub language: Option<String>,
}

/// One answer of the service: consecutive stretches, the first directly behind the last final one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamHeard {
    /// In the order of time.
    pub results: Vec<StreamResult>,
    /// Seconds of the stream that the answer covers, if told.
    pub processed: Option<f64>,
}

/// What comes of a stream. [`Ended`](StreamNews::Ended) or [`Failed`](StreamNews::Failed) is the last of it.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamNews {
    /// The service heard something.
    Heard(StreamHeard),
    /// It has said all it had to say.
    Ended,
    /// It will say no more.
    Failed(StreamError),
}

/// Why a stream came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct StreamError {
    /// It may go better if tried again.
    pub is_passing: bool,
    /// What happened, and the remedy if one is known.
    pub reason: String,
}

/// Takes what comes of a stream, in order; has to be quick.
pub type NewsSink = Box<dyn Fn(StreamNews) + Send + Sync>;

/// A service that recognises streams. Nothing here blocks.
pub trait StreamingService: Send + Sync {
    /// Which one it is.
    fn engine(&self) -> Engine;

    /// How it is to be used.
    fn config(&self) -> RemoteConfig;

    /// `false` while it is known to be out of reach.
    fn is_up(&self) -> bool;

    /// Begin a stream. `news` is called until the last of it, or until the stream is dropped.
    fn open(&self, request: &StreamRequest, news: NewsSink) -> Box<dyn AudioStream>;
}

/// A stream under way. Dropping it ends it without more ado.
pub trait AudioStream: Send {
    /// The next audio: mono, 16 bit, 16 kHz.
    fn push(&mut self, pcm: Vec<i16>);

    /// No more audio comes; what is still to be said is waited for.
    fn close(&mut self);
}

impl fmt::Debug for dyn StreamingService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.engine().name())
    }
}
