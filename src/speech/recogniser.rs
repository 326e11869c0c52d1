//! The border to whatever turns audio into words.

use std::time::Duration;

use thiserror::Error;

use super::gate::Reason;

mod phrases;

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
    /// Probability that nobody speaks, of recognisers that tell: 0 to 1.
    pub no_speech: Option<f32>,
    /// Language code of the words: the one asked for, or the one found.
    pub language: String,
}

/// What is known of the audio that words are said to be in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// Its length.
    pub seconds: f64,
    /// Of that, what is voiced.
    pub voiced: f64,
    /// It may be music.
    pub unclear: bool,
}

/// Below this mean log probability Whisper's own reference calls a decode failed.
const LOGPROB_FLOOR: f32 = -1.0;
/// Words that a model is surer of than this are not a guess.
const LOGPROB_SURE: f32 = -0.5;
/// From here on, Whisper's own reference believes a model that says that nobody speaks, if it is not sure of its words.
const NO_SPEECH: f32 = 0.6;
/// The same three words this often is a decoder that loops, not a speaker.
const LOOPED_TRIGRAMS: usize = 3;
/// Nor is the same word this often in a row: telephone numbers have fewer equal digits.
const LOOPED_WORDS: usize = 10;
/// Of so many runs of three words, at most so many times the same: text that packs to less than 1/2.4, which Whisper's own
/// reference calls failed, has less.
const MANY_TRIGRAMS: usize = 12;
const REPEATED: f64 = 2.5;
/// No speaker is faster than this.
const WORDS_PER_SECOND: f64 = 7.0;
/// The detector misses a third of a voice at the most.
const MISSED: f64 = 1.5;
/// Less voiced audio than this is weak evidence for a sentence.
const SHORT: f64 = 0.35;

impl Hypothesis {
    /// Why the words cannot be what was said in the audio; `None` if they can.
    pub fn doubt(&self, evidence: &Evidence) -> Option<Reason> {
        let texts: Vec<&str> = self.words.iter().map(|w| w.text.as_str()).collect();
        if texts.is_empty() {
            return None;
        }
        let silent = self.no_speech.is_some_and(|p| p >= NO_SPEECH);
        let unsure = self.avg_logprob < LOGPROB_SURE;
        let weak = silent || unsure || evidence.unclear || evidence.voiced < SHORT;
        // Half a second's grace: detectors are slow to wake.
        let time = evidence.seconds.min(MISSED * evidence.voiced + 0.5);
        if self.avg_logprob < LOGPROB_FLOOR || evidence.unclear && unsure {
            Some(Reason::Unlikely)
        } else if silent && unsure {
            Some(Reason::NoSpeech)
        } else if loops(&texts) {
            Some(Reason::Repetition)
        } else if texts.len() as f64 > 3.0 + WORDS_PER_SECOND * time {
            Some(Reason::Flood)
        } else if weak && phrases::is_made_up(&texts.join(" ")) {
            Some(Reason::Phrase)
        } else {
            None
        }
    }
}

fn loops(texts: &[&str]) -> bool {
    let trigrams = || texts.windows(3);
    let looped = trigrams().any(|t| t[0] != t[1] && trigrams().filter(|u| *u == t).count() > LOOPED_TRIGRAMS);
    let stuck = texts.windows(LOOPED_WORDS).any(|run| run.iter().all(|text| *text == run[0]));
    let all = trigrams().count();
    let distinct = trigrams().collect::<std::collections::HashSet<_>>().len();
    looped || stuck || all >= MANY_TRIGRAMS && all as f64 > REPEATED * distinct as f64
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

    /// Whether it does better if it is told what was said before, as models do that were trained so. Each token of it costs as much as one
    /// that is spoken.
    fn carries_text(&self) -> bool {
        false
    }

    /// Whether to try it once before the first request, so that its cost is known.
    fn is_probed(&self) -> bool {
        false
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
        let words = text.split_whitespace().map(word).collect();
        Hypothesis { words, avg_logprob, no_speech: None, language: "en".into() }
    }

    fn doubt(text: &str, avg_logprob: f32, seconds: f64) -> Option<Reason> {
        hypothesis(text, avg_logprob).doubt(&Evidence { seconds, voiced: seconds * 0.8, unclear: false })
    }

    #[test]
    fn loops_floods_and_guesses_are_not_believed() {
        assert_eq!(doubt("", 0.0, 1.0), None);
        assert_eq!(doubt("five five five five five", -0.2, 2.0), None);
        assert_eq!(doubt("no no thank you thank you thank you", -0.5, 2.0), None);
        let looped = "thank you very thank you very thank you very thank you very";
        assert_eq!(doubt(looped, -0.1, 5.0), Some(Reason::Repetition));
        assert_eq!(doubt(&"go ".repeat(10), -0.1, 5.0), Some(Reason::Repetition));
        let quick = "one two three four five six seven eight nine ten eleven";
        assert_eq!(doubt(quick, -0.1, 1.0), Some(Reason::Flood));
        assert_eq!(doubt(quick, -0.1, 2.0), None);
        assert_eq!(doubt("well", -1.5, 1.0), Some(Reason::Unlikely));
    }

    #[test]
    fn more_words_than_the_voiced_time_has_room_for_are_not_believed() {
        let said = hypothesis("please hold the line while i try to find the person you called", -0.2);
        let evidence = Evidence { seconds: 3.0, voiced: 2.0, unclear: false };
        assert_eq!(said.doubt(&evidence), None);
        assert_eq!(said.doubt(&Evidence { voiced: 0.3, ..evidence }), Some(Reason::Flood));
    }

    #[test]
    fn a_phrase_that_models_make_up_is_believed_unless_the_evidence_is_weak() {
        let evidence = Evidence { seconds: 1.2, voiced: 0.7, unclear: false };
        for text in [
            "Thank you.",
            "Thanks for watching!",
            "Untertitel der Amara.org-Community",
            "시청해주셔서 감사합니다.",
        ] {
            assert_eq!(hypothesis(text, -0.2).doubt(&evidence), None, "{text}");
            assert_eq!(hypothesis(text, -0.7).doubt(&evidence), Some(Reason::Phrase), "{text}");
            let short = Evidence { voiced: 0.25, ..evidence };
            assert_eq!(hypothesis(text, -0.2).doubt(&short), Some(Reason::Phrase), "{text}");
        }
        // Weak evidence alone is no reason either.
        assert_eq!(hypothesis("thank you, Anna", -0.7).doubt(&evidence), None);
    }

    #[test]
    fn a_model_that_hears_nobody_is_believed_where_it_is_not_sure_of_its_words() {
        let evidence = Evidence { seconds: 2.0, voiced: 1.0, unclear: false };
        let said =
            |p, avg_logprob| Hypothesis { no_speech: Some(p), ..hypothesis("hello there", avg_logprob) };
        assert_eq!(said(0.9, -0.7).doubt(&evidence), Some(Reason::NoSpeech));
        assert_eq!(said(0.9, -0.2).doubt(&evidence), None);
        assert_eq!(said(0.3, -0.7).doubt(&evidence), None);
        let unclear = Evidence { unclear: true, ..evidence };
        assert_eq!(said(0.0, -0.7).doubt(&unclear), Some(Reason::Unlikely));
        assert_eq!(said(0.0, -0.3).doubt(&unclear), None);
    }
}
