//! The border to whatever turns audio into words.

use std::time::Duration;

use thiserror::Error;

/// What is asked of a recogniser besides the audio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Language code, or `auto`.
    pub language: String,
    /// Text that went before, to lean on.
    pub prompt: Option<String>,
    /// More audio of this utterance will follow, so that speed matters more than the last word.
    pub partial: bool,
}

/// A recognised word.
#[derive(Clone, Debug, PartialEq)]
pub struct HypothesisWord {
    /// Without surrounding spaces, never empty.
    pub text: String,
    /// Seconds from the start of the audio.
    pub start: f64,
    /// Seconds from the start of the audio, at least `start` and at most its length.
    pub end: f64,
    /// Probability, 0 to 1.
    pub p: f32,
}

/// What a recogniser makes of a piece of audio.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hypothesis {
    /// In order; times never go back. Empty if nothing was heard.
    pub words: Vec<HypothesisWord>,
    /// Mean natural logarithm of the token probabilities; 0 without words.
    pub avg_logprob: f32,
    /// Language code of the words: the one asked for, or the one found.
    pub language: String,
}

/// Below this mean log probability Whisper's own reference calls a decode failed.
const LOGPROB_FLOOR: f32 = -1.0;
/// The same three words this often is a decoder that loops, not a speaker.
const LOOPED_TRIGRAMS: usize = 3;
/// No speaker is faster than this.
const WORDS_PER_SECOND: f64 = 7.0;

impl Hypothesis {
    /// Whether the words can be what was said in `seconds` of audio: likely enough, not looping, not too many.
    pub fn is_plausible(&self, seconds: f64) -> bool {
        let texts: Vec<&str> = self.words.iter().map(|w| w.text.as_str()).collect();
        let loops = texts
            .windows(3)
            .any(|t| t[0] != t[1] && texts.windows(3).filter(|u| *u == t).count() > LOOPED_TRIGRAMS);
        self.avg_logprob >= LOGPROB_FLOOR && !loops && texts.len() as f64 <= 3.0 + WORDS_PER_SECOND * seconds
    }
}

/// Why audio was not recognised.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum RecogniseError {
    /// The model knows no such language.
    #[error(
        "model {model} knows no language {language:?}: set speech.language to one it knows, or to \"auto\""
    )]
    UnknownLanguage {
        /// The model.
        model: String,
        /// What was asked for.
        language: String,
    },
    /// The working memory of a recogniser could not be had.
    #[error("model {model}: no working memory for one more recogniser: lower speech.workers ({reason})")]
    NoState {
        /// The model.
        model: String,
        /// What the library says.
        reason: String,
    },
    /// The library gave up on a piece of audio.
    #[error("model {model}: {seconds:.1} s of audio could not be recognised: {reason}")]
    Failed {
        /// The model.
        model: String,
        /// Length of the audio.
        seconds: f64,
        /// What the library says.
        reason: String,
    },
    /// The recogniser panicked, which is a bug.
    #[error("model {model}: the recogniser panicked; its worker goes on with a fresh one")]
    Panicked {
        /// The model.
        model: String,
    },
}

/// A loaded model: shared by all workers, makes one [`Recogniser`] for each.
pub trait SpeechModel: Send + Sync {
    /// Its name, for logs and transcripts.
    fn name(&self) -> &str;

    /// The longest utterance that it is good at, if shorter than what the settings allow.
    fn longest_utterance(&self) -> Option<Duration> {
        None
    }

    /// Whether it knows other languages than English.
    fn is_multilingual(&self) -> bool {
        true
    }

    /// Working memory and all for one worker; called on the worker's own thread, where the result stays.
    fn recogniser(&self) -> Result<Box<dyn Recogniser>, RecogniseError>;
}

/// What one worker recognises with. Nothing of one call to [`recognise`](Recogniser::recognise) shows in the next.
pub trait Recogniser {
    /// Recognise `audio`: mono, 16 kHz, -1 to 1.
    fn recognise(&mut self, audio: &[f32], request: &Request) -> Result<Hypothesis, RecogniseError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hypothesis(text: &str, avg_logprob: f32) -> Hypothesis {
        let word = |text: &str| HypothesisWord { text: text.into(), start: 0.0, end: 0.1, p: 0.5 };
        Hypothesis { words: text.split_whitespace().map(word).collect(), avg_logprob, language: "en".into() }
    }

    #[test]
    fn loops_floods_and_guesses_are_not_believed() {
        assert!(hypothesis("", 0.0).is_plausible(1.0));
        assert!(hypothesis("five five five five five", -0.2).is_plausible(2.0));
        assert!(hypothesis("no no thank you thank you thank you", -0.5).is_plausible(2.0));
        assert!(
            !hypothesis("thank you very thank you very thank you very thank you very", -0.1)
                .is_plausible(5.0)
        );
        assert!(
            !hypothesis("one two three four five six seven eight nine ten eleven", -0.1).is_plausible(1.0)
        );
        assert!(!hypothesis("well", -1.5).is_plausible(1.0));
    }
}
