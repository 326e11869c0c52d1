//! What the parties of a call say, and where each word of it ends in the recording.

use crate::audio::position;
use crate::offline::Recognised;
use crate::support::lab::{FRAME, Lab};
use crate::text::normalised;

/// Two parties' lists, as [`Call`](crate::support::callers::Call) takes them: names of prompts, and seconds to wait.
#[derive(Clone, Debug)]
pub struct Script {
    pub caller: Vec<String>,
    pub callee: Vec<String>,
}

/// Between one party's last word and the other's first. Seconds.
const TURN: f64 = 0.7;
/// A call's speech takes no longer, so that each leg of it fits into one of Whisper's windows (30 s) with the silence around it.
const LONGEST: f64 = 25.0;
/// A drawn prompt has so many words, and lasts so many seconds: what a model that cuts at pauses was taught.
const WORDS: std::ops::RangeInclusive<usize> = 2..=16;
const SECONDS: std::ops::Range<f64> = 0.7..6.0;

impl Script {
    /// The demo's call: the lists of `scripts/demo-call`.
    pub fn demo() -> Self {
        let script = include_str!("../../scripts/demo-call");
        let list = |name: &str| {
            let line = script
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix("='")?.strip_suffix('\''));
            line.expect("a list in scripts/demo-call").split('&').map(str::to_owned).collect()
        };
        Self { caller: list("caller"), callee: list("callee") }
    }

    /// A call of prompts drawn from all the stock ones, turn by turn: another one for every `seed`.
    pub fn drawn(lab: &Lab, seed: u64) -> Self {
        let all = sayable(lab);
        let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut script = Self { caller: vec!["0.5".into()], callee: vec!["0.5".into()] };
        let (mut passed, mut turn) = (0.5, 0);
        loop {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let (name, seconds) = &all[(state >> 20) as usize % all.len()];
            if passed + seconds + TURN > LONGEST {
                return script;
            }
            passed += seconds + TURN;
            let (speaks, listens) = match turn % 2 {
                0 => (&mut script.caller, &mut script.callee),
                _ => (&mut script.callee, &mut script.caller),
            };
            speaks.extend([name.clone(), format!("{TURN}")]);
            listens.push(format!("{:.2}", seconds + TURN));
            turn += 1;
        }
    }

    /// The prompts of a list.
    pub fn prompts(list: &[String]) -> Vec<&str> {
        list.iter().map(String::as_str).filter(|entry| entry.parse::<f64>().is_err()).collect()
    }
}

/// Stock prompts whose text says how they are spoken, and their lengths in seconds.
fn sayable(lab: &Lab) -> Vec<(String, f64)> {
    let list = std::fs::read(lab.env("LAB_SOUNDS_TEXT")).expect("the list of prompts");
    let list = String::from_utf8_lossy(&list).into_owned();
    let plain = |text: &str| {
        // Abbreviations are spelled, or not; what is in brackets is a description.
        let spelled = text.split_whitespace().any(|word| word.len() > 1 && word == word.to_uppercase());
        !spelled && !text.contains(['[', '(', '*', '/', '&', '-', '"'])
    };
    let mut all = Vec::new();
    for (name, text) in list.lines().filter_map(|line| line.split_once(':')) {
        let words = normalised(text).split_whitespace().count();
        let file = std::path::Path::new(lab.env("LAB_SOUNDS")).join(name).with_extension("wav");
        if name.contains('/') || !plain(text.trim()) || !WORDS.contains(&words) || !file.is_file() {
            continue;
        }
        let seconds = lab.prompt_samples(name).len() as f64 / 8_000.0;
        if SECONDS.contains(&seconds) {
            all.push((name.to_owned(), seconds));
        }
    }
    assert!(all.len() > 100, "{} prompts to draw from", all.len());
    all
}

/// A prompt where it lies in its leg.
pub struct Placed {
    /// What is said, as it is compared.
    pub text: String,
    /// Samples of the leg: its first and behind its last sounding frame.
    pub begin: usize,
    pub end: usize,
}

/// Each of `prompts` in `leg`, in order, sample for sample; Asterisk, short of time, may have put frames of silence between.
pub fn place(lab: &Lab, leg: &[i16], prompts: &[&str]) -> Vec<Placed> {
    let mut from = 0;
    let placed = prompts.iter().map(|name| {
        let prompt = lab.prompt_as_snooped(name);
        let end = from + crate::audio::follow(&leg[from..], &prompt).end;
        let sounding = |frame: &&[i16]| frame.iter().any(|sample| sample.unsigned_abs() > 64);
        let first = prompt.chunks_exact(FRAME).find(sounding);
        let begin = first.and_then(|frame| position(&leg[from..end], frame)).map_or(from, |at| from + at);
        from = end;
        Placed { text: normalised(&lab.prompt_text(name)), begin, end }
    });
    placed.collect()
}

/// A word that was said.
#[derive(Clone, Debug)]
pub struct Spoken {
    pub text: String,
    /// Where it ends, seconds on the recording's clock. `None` where the model, alone with its prompt, did not hear it.
    pub end: Option<f64>,
}

/// The words of prompts, each with the end that recognising its prompt alone, in one piece, gives it.
pub fn words(placed: &[Placed], recognised: &[Recognised]) -> Vec<Spoken> {
    let mut all = Vec::new();
    for (prompt, offline) in placed.iter().zip(recognised) {
        let said: Vec<&str> = prompt.text.split_whitespace().collect();
        let heard: Vec<&str> = offline.words.iter().map(|(text, _)| text.as_str()).collect();
        let mut ends = vec![None; said.len()];
        for (at, of) in crate::text::aligned(&said, &heard, |at, of| said[at] == heard[of]) {
            ends[at] = Some(offline.words[of].1);
        }
        all.extend(said.iter().zip(ends).map(|(text, end)| Spoken { text: (*text).to_owned(), end }));
    }
    all
}
