//! A model for tests and simulations: it knows a recording by heart, and what is said in it at what time.
//!
//! It finds the audio that it is handed in the recording by its first samples, so that whatever lies between (rings,
//! segmenter, scheduler, workers) is tried in earnest. The recording has to be 16 kHz, and nowhere twice the same: add a
//! little noise to its silence.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::RATE;
use super::recogniser::{Hypothesis, HypothesisWord, RecogniseError, Recogniser, Request, SpeechModel};

const NAME: &str = "scripted";
/// So many samples are what a place in the recording is known by.
const KEY: usize = 16;

/// A word of the script: its text, where it starts and where it ends, seconds into the recording.
pub type ScriptedWord = (String, f64, f64);

/// What [`ScriptedModel`] is to take for its work, by the length of the audio.
pub type ScriptedCost = fn(Duration) -> Duration;

/// A model that recites.
pub struct ScriptedModel {
    script: Arc<Script>,
    cost: ScriptedCost,
}

/// What is said in a recording, and how to find a piece of audio in it.
pub struct Script {
    places: HashMap<[i16; KEY], usize>,
    words: Vec<ScriptedWord>,
}

impl ScriptedModel {
    /// A model that knows `recording` (16 kHz) and its `words`, in order, and works without taking time.
    pub fn new(recording: &[i16], words: Vec<ScriptedWord>) -> Self {
        Self::with_cost(recording, words, |_| Duration::ZERO)
    }

    /// The same, but each piece of audio keeps its worker busy for `cost`.
    pub fn with_cost(recording: &[i16], words: Vec<ScriptedWord>, cost: ScriptedCost) -> Self {
        Self { script: Arc::new(Script::new(recording, words)), cost }
    }
}

impl SpeechModel for ScriptedModel {
    fn name(&self) -> &str {
        NAME
    }

    fn recogniser(&self) -> Result<Box<dyn Recogniser>, RecogniseError> {
        Ok(Box::new(ScriptedRecogniser { script: self.script.clone(), cost: self.cost }))
    }
}

struct ScriptedRecogniser {
    script: Arc<Script>,
    cost: ScriptedCost,
}

impl Recogniser for ScriptedRecogniser {
    fn recognise(&mut self, audio: &[f32], request: &Request) -> Result<Hypothesis, RecogniseError> {
        let seconds = audio.len() as f64 / f64::from(RATE);
        std::thread::sleep((self.cost)(Duration::from_secs_f64(seconds)));
        let from = self.script.place_of(audio).ok_or_else(|| RecogniseError::Failed {
            model: NAME.to_owned(),
            seconds,
            reason: "audio that is not in the script".to_owned(),
        })?;
        Ok(Hypothesis {
            words: self.script.recite(from, seconds),
            avg_logprob: -0.1,
            no_speech: None,
            language: request.language.clone(),
        })
    }
}

impl Script {
    /// The script of `recording` (16 kHz) with its `words`, in order.
    pub fn new(recording: &[i16], words: Vec<ScriptedWord>) -> Self {
        let places = recording.array_windows().enumerate().map(|(at, key)| (*key, at)).collect();
        Self { places, words }
    }

    /// Seconds into the recording at which `audio` starts.
    pub fn place_of(&self, audio: &[f32]) -> Option<f64> {
        let mut key = [0; KEY];
        for (to, from) in key.iter_mut().zip(audio.get(..KEY)?) {
            *to = (from * 32_768.0).round() as i16;
        }
        self.places.get(&key).map(|&at| at as f64 / f64::from(RATE))
    }

    /// The words that begin in `seconds` from `from` on; one that goes on behind that is heard wrongly, as models do.
    pub fn recite(&self, from: f64, seconds: f64) -> Vec<HypothesisWord> {
        let to = from + seconds;
        let heard = self.words.iter().filter(|(_, start, _)| (from..to).contains(start));
        let word = |(text, start, end): &ScriptedWord| HypothesisWord {
            text: if *end > to { format!("{text}~") } else { text.clone() },
            start: start - from,
            end: end.min(to) - from,
            p: 0.9,
        };
        heard.map(word).collect()
    }
}
