//! What the engine tells its listeners.

use serde::{Deserialize, Serialize};

use crate::media::leg::Leg;

/// A word and where it was said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// As recognised, without surrounding spaces.
    pub text: String,
    /// Seconds on the recording's clock.
    pub start: f64,
    /// Seconds on the recording's clock, at least `start`.
    pub end: f64,
    /// 0 to 1: the geometric mean of the word's token probabilities.
    pub confidence: f64,
    /// Nothing about this word changes any more within its utterance.
    pub stable: bool,
}

/// Whether more revisions of an utterance follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TranscriptKind {
    /// The speaker goes on, or the last word on it is not spoken yet.
    Partial,
    /// The one end of an utterance.
    #[default]
    Final,
}

/// One revision of one utterance. Serialises to the body of `transcript.partial` and `transcript.final`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TranscriptEvent {
    /// Partial or final; the envelope's `type` carries it (read back without one: final).
    #[serde(skip)]
    pub kind: TranscriptKind,
    /// Who speaks.
    pub leg: Leg,
    /// Number of the utterance within its leg, from 1, without holes. Each gets exactly one final.
    pub utterance: u64,
    /// Number of the revision within the utterance, from 1, without holes; the final has the highest.
    pub revision: u64,
    /// Where speech starts, seconds on the recording's clock.
    pub start: f64,
    /// Where the speech heard so far ends, seconds on the recording's clock.
    pub end: f64,
    /// The words, joined as the language writes them.
    pub text: String,
    /// Language code, as `en`.
    pub language: String,
    /// The words, in order; times never go back.
    pub words: Vec<Word>,
}

impl TranscriptEvent {
    /// The `type` of the event envelope.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            TranscriptKind::Partial => "transcript.partial",
            TranscriptKind::Final => "transcript.final",
        }
    }
}

/// The language of a tag: `pt` of `pt-BR`.
pub(crate) fn primary(tag: &str) -> &str {
    tag.split('-').next().unwrap_or(tag)
}

/// Whether `language` is written without spaces between words.
pub(crate) fn is_unspaced(language: &str) -> bool {
    matches!(language, "zh" | "yue" | "ja" | "th" | "lo" | "my" | "km")
}

/// The words as a line of text.
pub(crate) fn join_words(words: &[Word], language: &str) -> String {
    let separator = if is_unspaced(language) { "" } else { " " };
    words.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join(separator)
}

/// Seconds to the millisecond: finer digits would be noise, and make every event longer.
pub(crate) fn to_millis(seconds: f64) -> f64 {
    (seconds * 1_000.0).round() / 1_000.0
}
