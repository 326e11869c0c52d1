//! One call: what was said and when, against what was told and when.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Seen;
use crate::offline::Offline;
use crate::said::{self, Placed, Script, Spoken};
use crate::speech::word_errors;
use crate::support::lab::Lab;
use crate::support::server::Sidetone;
use crate::text::{aligned, normalised};

/// A frame of 10 ms with more than this is speech: 1 % of full scale, RMS.
const LOUD: f64 = 327.0;
/// An utterance's speech lies within its `start` and `end`, give or take this much. Seconds.
const EDGE: f64 = 0.3;
/// A word that is told lies where it was said, give or take this much: else it is another one of the same text. Seconds.
const NEAR: f64 = 1.0;

pub type Spread = Vec<f64>;

/// Wrong words (substituted, added, left out) of so many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Errors {
    pub wrong: usize,
    pub words: usize,
}

impl Errors {
    fn of(said: &str, heard: &str) -> Self {
        let (wrong, words) = word_errors(said, heard);
        Self { wrong, words }
    }

    fn add(&mut self, other: Self) {
        self.wrong += other.wrong;
        self.words += other.words;
    }

    /// 0 to 1, or more.
    pub fn rate(self) -> f64 {
        self.wrong as f64 / self.words.max(1) as f64
    }
}

/// Figures of one call, or of several. Times in seconds.
#[derive(Debug, Default)]
pub struct Measured {
    pub finals_wer: Errors,
    /// Words as they read when they were first told to be stable.
    pub stable_wer: Errors,
    /// Of the words that were stable before their final, those that are wrong.
    pub early_wer: Errors,
    pub transcribe_wer: Errors,
    pub prompts_wer: Errors,
    pub legs_wer: Errors,
    pub first_partials: Spread,
    pub finals: Spread,
    /// From a word's end to the first event with it, and to the first in which it is stable.
    pub shown: Spread,
    pub stable: Spread,
    /// Words that no event has where they were said, and words whose end is not known.
    pub untold: usize,
    pub unplaced: usize,
    /// Longest of each utterance that had two events.
    pub pauses: Spread,
    /// Prompts without any utterance.
    pub unheard: usize,
    /// Stable words that changed or went; utterances that do not have revisions 1, 2, 3 … and one final.
    pub revised: usize,
    pub disorder: usize,
}

impl Measured {
    pub fn add(&mut self, other: Measured) {
        self.finals_wer.add(other.finals_wer);
        self.stable_wer.add(other.stable_wer);
        self.early_wer.add(other.early_wer);
        self.transcribe_wer.add(other.transcribe_wer);
        self.prompts_wer.add(other.prompts_wer);
        self.legs_wer.add(other.legs_wer);
        self.first_partials.extend(other.first_partials);
        self.finals.extend(other.finals);
        self.shown.extend(other.shown);
        self.stable.extend(other.stable);
        self.untold += other.untold;
        self.unplaced += other.unplaced;
        self.pauses.extend(other.pauses);
        self.unheard += other.unheard;
        self.revised += other.revised;
        self.disorder += other.disorder;
    }
}

/// What is measured with.
pub struct Bench<'a> {
    pub lab: &'a Lab,
    pub server: &'a Sidetone,
    pub offline: &'a mut Offline,
    pub verbose: bool,
}

/// A leg of a call of which all is known.
struct LegSeen<'a> {
    samples: &'a [i16],
    rate: f64,
    /// Wall clock of sample 0.
    began: f64,
    /// By utterance, in order.
    utterances: BTreeMap<u64, Vec<&'a Seen>>,
    placed: Vec<Placed>,
}

impl Bench<'_> {
    /// Measure a call of which all is known.
    pub fn call(&mut self, call: &Value, seen: &[Seen], script: &Script) -> Measured {
        let recorded = self.server.recorded(call);
        let began = recorded.report["started_at"].as_str().and_then(|time| time.parse().ok());
        let began = crate::seconds(began.expect("a start in the report"));
        let path = call["recording"]["path"].as_str().expect("a recording");
        let transcribed = self.offline.transcribed(&self.server.data().join(path));
        let mut all = Measured::default();
        for (leg, list) in [&script.caller, &script.callee].into_iter().enumerate() {
            let name = ["caller", "callee"][leg];
            let mine = seen.iter().filter(|s| {
                let event = &s.event;
                let is_transcript =
                    event["type"].as_str().is_some_and(|kind| kind.starts_with("transcript."));
                is_transcript && event["call_id"] == call["call_id"] && event["leg"] == name
            });
            let mut utterances: BTreeMap<u64, Vec<&Seen>> = BTreeMap::new();
            for seen in mine {
                let number = seen.event["utterance"].as_u64().expect("a number");
                utterances.entry(number).or_default().push(seen);
            }
            let samples = &recorded.legs[leg][..];
            let placed = said::place(self.lab, samples, &Script::prompts(list));
            let leg_seen = LegSeen { samples, rate: f64::from(recorded.rate), began, utterances, placed };
            all.add(self.leg(&leg_seen, &transcribed[leg], recorded.rate));
        }
        all
    }

    fn leg(&mut self, leg: &LegSeen<'_>, transcribed: &str, rate: u32) -> Measured {
        let prompts = self.offline.prompts(leg.samples, rate, &leg.placed);
        let whole = self.offline.leg(leg.samples, rate);
        let said = leg.placed.iter().map(|prompt| prompt.text.as_str()).collect::<Vec<_>>().join(" ");
        let spoken = said::words(&leg.placed, &prompts);
        let finals: Vec<&str> = leg.finals().filter_map(|seen| seen.event["text"].as_str()).collect();
        let heard = normalised(&finals.join(" "));
        let alone = prompts.iter().map(|prompt| prompt.text()).collect::<Vec<_>>().join(" ");
        let mut all = Measured {
            finals_wer: Errors::of(&said, &heard),
            transcribe_wer: Errors::of(&said, transcribed),
            prompts_wer: Errors::of(&said, &alone),
            legs_wer: whole.map_or_else(Errors::default, |whole| Errors::of(&said, &whole.text())),
            unplaced: spoken.iter().filter(|word| word.end.is_none()).count(),
            ..Measured::default()
        };
        if self.verbose && (all.finals_wer.wrong > 0 || all.transcribe_wer.wrong > 0) {
            println!(
                "  said       {said}\n  finals     {heard}\n  transcribe {transcribed}\n  by prompts {alone}"
            );
        }
        leg.stability(&said, &spoken, &mut all);
        leg.words(&spoken, &mut all);
        leg.utterances(&mut all);
        all
    }
}

impl LegSeen<'_> {
    fn wall(&self, second: f64) -> f64 {
        self.began + second
    }

    fn finals(&self) -> impl Iterator<Item = &Seen> {
        let is_final = |seen: &&&Seen| seen.event["type"] == "transcript.final";
        self.utterances.values().flatten().filter(is_final).copied()
    }

    /// Do stable words stay as they are, and what did they say when they were first shown as stable?
    fn stability(&self, said: &str, spoken: &[Spoken], all: &mut Measured) {
        let mut first_stable = Vec::new();
        for events in self.utterances.values() {
            let mut stood: Vec<&Value> = Vec::new();
            for (index, seen) in events.iter().enumerate() {
                let is_last = index + 1 == events.len();
                let is_final = seen.event["type"] == "transcript.final";
                let in_order = seen.event["revision"] == index as u64 + 1 && is_final == is_last;
                all.disorder += usize::from(!in_order);
                if is_final && index > 0 {
                    let early = texts(&stood).join(" ");
                    let early: Vec<&str> = early.split_whitespace().collect();
                    all.early_wer.add(early_errors(&early, spoken, &seen.event));
                }
                let words: Vec<&Value> = seen.event["words"].as_array().into_iter().flatten().collect();
                let same = |a: &Value, b: &Value| ["text", "start", "end"].iter().all(|key| a[key] == b[key]);
                let stable: Vec<&Value> =
                    words.iter().copied().take_while(|word| word["stable"] == true).collect();
                let kept = stood.iter().zip(&stable).take_while(|(was, is)| same(was, is)).count();
                all.revised += stood.len() - kept;
                // Behind the last stable word none is stable.
                all.revised += words[stable.len()..].iter().filter(|word| word["stable"] == true).count();
                first_stable.extend(texts(stable.get(stood.len()..).unwrap_or_default()));
                if stable.len() >= stood.len() {
                    stood = stable;
                }
            }
        }
        all.stable_wer = Errors::of(said, &first_stable.join(" "));
    }

    /// When was each word first shown, and when did it stand?
    fn words(&self, spoken: &[Spoken], all: &mut Measured) {
        let known: Vec<(&str, f64)> =
            spoken.iter().filter_map(|word| Some((word.text.as_str(), word.end?))).collect();
        let mut shown = vec![None; known.len()];
        let mut stable = vec![None; known.len()];
        for seen in self.utterances.values().flatten() {
            let mut told = Vec::new();
            for word in seen.event["words"].as_array().into_iter().flatten() {
                let end = word["end"].as_f64().unwrap_or(f64::NAN);
                let text = normalised(word["text"].as_str().unwrap_or_default());
                let each = text.split_whitespace().map(|text| (text.to_owned(), end, word["stable"] == true));
                told.extend(each);
            }
            let is_it =
                |at: usize, of: usize| known[at].0 == told[of].0 && (known[at].1 - told[of].1).abs() < NEAR;
            for (at, of) in aligned(&known, &told, is_it) {
                let late = seen.at - self.wall(known[at].1);
                shown[at].get_or_insert(late);
                if told[of].2 {
                    stable[at].get_or_insert(late);
                }
            }
        }
        all.untold += stable.iter().filter(|late| late.is_none()).count();
        all.shown.extend(shown.into_iter().flatten());
        all.stable.extend(stable.into_iter().flatten());
    }

    /// First partials, finals and the pauses between, and the prompts of which nothing was told.
    fn utterances(&self, all: &mut Measured) {
        // Seconds of the loud frames of all prompts.
        let mut loud = Vec::new();
        for prompt in &self.placed {
            let frames = loud_frames(&self.samples[prompt.begin..prompt.end], self.rate);
            let mine: Vec<f64> = frames.map(|second| second + prompt.begin as f64 / self.rate).collect();
            let heard =
                |second: &f64| self.utterances.values().flatten().any(|seen| covers(&seen.event, *second));
            all.unheard += usize::from(!mine.iter().any(heard));
            loud.extend(mine);
        }
        for events in self.utterances.values() {
            let Some(last) = events.last().filter(|seen| seen.event["type"] == "transcript.final") else {
                continue;
            };
            let mut speech = loud.iter().copied().filter(|second| covers(&last.event, *second));
            let Some(first_word) = speech.next() else { continue };
            let last_word = speech.last().unwrap_or(first_word);
            all.first_partials.push(events[0].at - self.wall(first_word));
            // A frame lasts 10 ms; after the last one nobody waits for a partial.
            all.finals.push(last.at - self.wall(last_word + 0.01));
            let pause = events.windows(2).map(|two| two[1].at.min(self.wall(last_word)) - two[0].at);
            all.pauses.extend(pause.filter(|pause| *pause > 0.0).max_by(f64::total_cmp));
        }
    }
}

/// Errors in the words that stood before their utterance's last event, against as much of what was said in the utterance as
/// makes the fewest of them: the rest was not shown yet.
fn early_errors(early: &[&str], spoken: &[Spoken], last: &Value) -> Errors {
    let within = |word: &&Spoken| word.end.is_some_and(|end| covers(last, end));
    let said: Vec<&str> = spoken.iter().filter(within).map(|word| word.text.as_str()).collect();
    let heard = early.join(" ");
    let wrong = (0..=said.len()).map(|count| word_errors(&said[..count].join(" "), &heard).0).min();
    Errors { wrong: wrong.unwrap_or(0), words: early.len() }
}

fn texts(words: &[&Value]) -> Vec<String> {
    words.iter().map(|word| normalised(word["text"].as_str().unwrap_or_default())).collect()
}

/// Whether the utterance of `event` is about this second.
fn covers(event: &Value, second: f64) -> bool {
    let at = |name: &str| event[name].as_f64().unwrap_or(f64::NAN);
    second >= at("start") - EDGE && second <= at("end") + EDGE
}

fn loud_frames(samples: &[i16], rate: f64) -> impl Iterator<Item = f64> {
    let frame = (rate / 100.0) as usize;
    let loud = |frame: &[i16]| {
        let power: f64 = frame.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / frame.len() as f64;
        power.sqrt() > LOUD
    };
    samples.chunks(frame).enumerate().filter(move |(_, f)| loud(f)).map(|(at, _)| at as f64 / 100.0)
}

/// The value below which this share of the sorted `values` lies.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let last = values.len().max(1) - 1;
    values.get((last as f64 * share).ceil() as usize).copied().unwrap_or(f64::NAN)
}
