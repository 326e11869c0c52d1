//! One call: what was said and when, against what was told and when.

use serde_json::Value;

use crate::Seen;
use crate::audio::follow;
use crate::speech::word_errors;
use crate::support::lab::Lab;
use crate::support::server::{Recorded, Sidetone};
use crate::text::normalised;

/// A frame of 10 ms with more than this is speech: 1 % of full scale, RMS.
const LOUD: f64 = 327.0;
/// An utterance's speech lies within its `start` and `end`, give or take this much. Seconds.
const EDGE: f64 = 0.3;

pub type Spread = Vec<f64>;

/// Figures of one call, or of several. Times in seconds.
#[derive(Debug, Default)]
pub struct Measured {
    pub errors: usize,
    pub words: usize,
    pub first_partials: Spread,
    pub finals: Spread,
    /// Longest of each utterance that had two events.
    pub pauses: Spread,
    /// Prompts without any utterance.
    pub unheard: usize,
}

impl Measured {
    pub fn add(&mut self, other: Measured) {
        self.errors += other.errors;
        self.words += other.words;
        self.first_partials.extend(other.first_partials);
        self.finals.extend(other.finals);
        self.pauses.extend(other.pauses);
        self.unheard += other.unheard;
    }
}

/// Measure a call of which all is known.
pub fn call(
    lab: &Lab,
    server: &Sidetone,
    call: &Value,
    seen: &[Seen],
    says: [&[&str]; 2],
    verbose: bool,
) -> Measured {
    let recorded = server.recorded(call);
    let mut all = Measured::default();
    for (leg, says) in says.into_iter().enumerate() {
        let name = ["caller", "callee"][leg];
        let spoken = |s: &&Seen| {
            s.event["call_id"] == call["call_id"]
                && s.event["leg"] == name
                && s.event["type"].as_str().is_some_and(|t| t.starts_with("transcript."))
        };
        let events: Vec<&Seen> = seen.iter().filter(spoken).collect();
        let prompts: Vec<&str> = says.iter().copied().filter(|p| p.parse::<f64>().is_err()).collect();
        all.add(words(lab, &prompts, &events, verbose));
        all.add(times(lab, &prompts, &recorded, leg, &events));
    }
    all
}

fn words(lab: &Lab, prompts: &[&str], events: &[&Seen], verbose: bool) -> Measured {
    let said = normalised(&prompts.iter().map(|p| lab.prompt_text(p)).collect::<Vec<_>>().join(" "));
    let finals = events.iter().filter(|s| s.event["type"] == "transcript.final");
    let heard = normalised(&finals.filter_map(|s| s.event["text"].as_str()).collect::<Vec<_>>().join(" "));
    let (errors, words) = word_errors(&said, &heard);
    if verbose && errors > 0 {
        println!("{errors} of {words} wrong\n  said  {said}\n  heard {heard}");
    }
    Measured { errors, words, ..Measured::default() }
}

fn times(lab: &Lab, prompts: &[&str], recorded: &Recorded, leg: usize, events: &[&Seen]) -> Measured {
    let rate = f64::from(recorded.rate);
    let samples = &recorded.legs[leg];
    let began: jiff::Timestamp =
        recorded.report["started_at"].as_str().and_then(|t| t.parse().ok()).expect("a start in the report");
    let wall = |second: f64| crate::seconds(began) + second;

    let mut measured = Measured::default();
    // Seconds of the loud frames of all prompts, each where it lies in the recording.
    let mut loud = Vec::new();
    let mut from = 0;
    for prompt in prompts {
        let end = from + follow(&samples[from..], &lab.prompt_as_snooped(prompt)).end;
        let length = lab.prompt_samples(prompt).len() + 800;
        let begin = end.saturating_sub(length).max(from);
        let mine = loud_frames(&samples[begin..end], rate).map(|s| s + begin as f64 / rate);
        let mine: Vec<f64> = mine.collect();
        let heard = |second: &f64| events.iter().any(|s| covers(&s.event, *second));
        measured.unheard += usize::from(!mine.iter().any(heard));
        loud.extend(mine);
        from = end;
    }

    let finals = events.iter().filter(|s| s.event["type"] == "transcript.final");
    for last in finals {
        let number = &last.event["utterance"];
        let mine: Vec<&&Seen> = events.iter().filter(|s| s.event["utterance"] == *number).collect();
        let speech: Vec<f64> = loud.iter().copied().filter(|second| covers(&last.event, *second)).collect();
        let (Some(first_word), Some(last_word)) = (speech.first(), speech.last()) else { continue };
        measured.first_partials.extend(mine.first().map(|s| s.at - wall(*first_word)));
        measured.finals.push(last.at - wall(*last_word + 0.01));
        // A frame lasts 10 ms; after the last one nobody waits for a partial.
        let pause = mine.windows(2).map(|two| two[1].at.min(wall(*last_word)) - two[0].at);
        measured.pauses.extend(pause.filter(|p| *p > 0.0).max_by(f64::total_cmp));
    }
    measured
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
