//! The same model on the same recording once the call is over.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sidetone::config::Settings;
use sidetone::speech::models::Shelf;
use sidetone::speech::recogniser::{Recogniser, Request};
use sidetone::speech::resample::Resampler;
use sidetone::speech::{ModelChoice, RATE};

use crate::said::Placed;
use crate::text::normalised;

/// What is cut out with a prompt before and behind it, as far as the prompts next to it leave room. Seconds.
const AROUND: f64 = 0.25;
/// What Whisper looks at in one piece at most, and a little less.
const WINDOW: f64 = 29.0;

/// Words with their ends, seconds on the recording's clock.
#[derive(Clone, Debug, Default)]
pub struct Recognised {
    pub words: Vec<(String, f64)>,
}

impl Recognised {
    pub fn text(&self) -> String {
        self.words.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// The model that the server under test has.
pub struct Offline {
    recogniser: Box<dyn Recogniser>,
    model: String,
}

impl Offline {
    /// `model` as in `speech.model`.
    pub fn new(model: &str) -> Self {
        let shelf = Shelf::of(&Settings::default());
        let found =
            ModelChoice::parse(model).resolve(&shelf).expect("the model").expect("a model, not `off`");
        let recogniser = found.load().expect("the model").recogniser().expect("memory for the model");
        Self { recogniser, model: model.to_owned() }
    }

    /// Each prompt, cut out of the leg, in one piece.
    pub fn prompts(&mut self, leg: &[i16], rate: u32, placed: &[Placed]) -> Vec<Recognised> {
        let around = (AROUND * f64::from(rate)) as usize;
        let each = placed.iter().enumerate().map(|(index, prompt)| {
            let before = index.checked_sub(1).map_or(0, |before| placed[before].end);
            let behind = placed.get(index + 1).map_or(leg.len(), |behind| behind.begin);
            let from = prompt.begin.saturating_sub(around).max(before).min(prompt.begin);
            let to = (prompt.end + around).min(behind).max(prompt.end);
            self.piece(leg, rate, from, to)
        });
        each.collect()
    }

    /// The leg in one piece; `None` if it is too long for one.
    pub fn leg(&mut self, leg: &[i16], rate: u32) -> Option<Recognised> {
        let fits = leg.len() as f64 / f64::from(rate) <= WINDOW;
        fits.then(|| self.piece(leg, rate, 0, leg.len()))
    }

    fn piece(&mut self, leg: &[i16], rate: u32, from: usize, to: usize) -> Recognised {
        let narrow: Vec<f32> = leg[from..to].iter().map(|&s| f32::from(s) / 32_768.0).collect();
        let mut resampler = Resampler::new(rate).expect("a rate that calls have");
        let mut wide = Vec::with_capacity(narrow.len() * RATE as usize / rate as usize);
        resampler.push(&narrow, &mut wide);
        resampler.finish(&mut wide);
        let request = Request { language: "en".into(), prompt: None, partial: false };
        let hypothesis = self.recogniser.recognise(&wide, &request).expect("the model recognises");
        let at = from as f64 / f64::from(rate);
        let words = hypothesis.words.iter().flat_map(|word| {
            let end = at + word.end;
            normalised(&word.text).split_whitespace().map(|text| (text.to_owned(), end)).collect::<Vec<_>>()
        });
        Recognised { words: words.collect() }
    }

    /// What `sidetone transcribe`, as a user runs it, makes of the recording: caller, callee.
    pub fn transcribed(&self, wav: &Path) -> [String; 2] {
        let output = Command::new(env!("CARGO_BIN_EXE_sidetone"))
            .args(["transcribe", "--quiet", "--format", "json", "--model", &self.model])
            .arg(wav)
            .output()
            .expect("sidetone transcribe");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let transcript: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        ["caller", "callee"].map(|speaker| {
            let all = transcript["utterances"].as_array().into_iter().flatten();
            let own = all.filter(|utterance| utterance["speaker"] == speaker);
            let texts: Vec<&str> = own.filter_map(|utterance| utterance["text"].as_str()).collect();
            normalised(&texts.join(" "))
        })
    }
}
