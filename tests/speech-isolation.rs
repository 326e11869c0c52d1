//! What a recogniser heard before does not show: on a state that others have used, everybody gets to the last bit what a
//! fresh state gives, in every window and with every setting that is used.
//!
//! A walk over all cases (windows by settings), each against the answer of a state of its own: in it every window follows every
//! window, every setting every setting, and each comes in each window. Words, times, probabilities and language are compared as
//! they print, which tells any two numbers apart.

#![cfg(feature = "embedded-model")]

#[path = "speech-support/drive.rs"]
mod drive;
#[path = "speech-support/mod.rs"]
mod support;
#[path = "../fuzz/src/tiny_model.rs"]
mod tiny_model;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use sidetone::speech::models::Shelf;
use sidetone::speech::recogniser::{Recogniser, Request, SpeechModel};
use sidetone::speech::{ModelChoice, ModelFile, RATE};
use support::prompts;

/// Seconds of audio for the encoder's windows of a stock model, 512, 768, 1024, 1280 and 1500 positions: 50 a second and 64 more, rounded
/// up; and some for the shortest twice.
const STOCK: [f64; 6] = [2.4, 6.5, 11.8, 16.2, 22.0, 27.5];
/// For 256 and 512: all that the model inside looks through, whose utterances last 8 s at most. Two of each.
const SHORT: [f64; 4] = [0.8, 3.0, 4.2, 8.0];

struct Case {
    window: usize,
    setting: usize,
    audio: Vec<f32>,
    request: Request,
}

impl Case {
    fn answer(&self, recogniser: &mut dyn Recogniser) -> String {
        let hypothesis = recogniser.recognise(&self.audio, &self.request).unwrap();
        format!("{hypothesis:?}")
    }
}

/// Every window with each of `settings`, no two with the same audio.
fn cases(windows: &[f64], settings: &[Request]) -> Vec<Case> {
    let spoken: Vec<Vec<f32>> = prompts().iter().map(|prompt| drive::wide(&prompt.pcm)).collect();
    let windows = windows.iter().enumerate();
    let all = windows.flat_map(|(window, seconds)| {
        let spoken = &spoken;
        settings.iter().enumerate().map(move |(setting, request)| {
            let first = (3 * window + 2 * setting) % spoken.len();
            let audio = spoken.iter().cycle().skip(first).flatten().copied();
            let audio = audio.take((seconds * f64::from(RATE)) as usize).collect();
            Case { window, setting, audio, request: request.clone() }
        })
    });
    all.collect()
}

/// Windows so that each follows each, itself included (a de Bruijn sequence of the second order).
fn walk(windows: usize) -> Vec<usize> {
    let mut order = Vec::new();
    for low in 0..windows {
        order.push(low);
        (low + 1..windows).for_each(|high| order.extend([low, high]));
    }
    order.push(order[0]);
    order
}

fn assert_isolated(model: &Arc<dyn SpeechModel>, lengths: &[f64], settings: &[Request]) -> Vec<String> {
    let cases = cases(lengths, settings);
    let fresh: Vec<String> =
        cases.iter().map(|case| case.answer(&mut *model.recogniser().unwrap())).collect();
    let heard: HashSet<&String> = fresh.iter().collect();
    assert!(heard.len() > cases.len() * 3 / 4, "a model that always says the same would hide a leak");

    let (mut windows, mut pairs, mut seen) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut used = model.recogniser().unwrap();
    let mut before: Option<&Case> = None;
    for round in 0..2 {
        for (step, window) in walk(lengths.len()).into_iter().enumerate() {
            // Settings change from step to step in no step with the windows.
            let setting = (2 * round + step / 2 + step * step / 5) % settings.len();
            let index = window * settings.len() + setting;
            let case = &cases[index];
            let answer = case.answer(&mut *used);
            if let Some(before) = before {
                let (was, is) = (&before.request, &case.request);
                assert_eq!(
                    answer, fresh[index],
                    "{:.1} s with {is:?} behind {:.1} s with {was:?}",
                    lengths[window], lengths[before.window]
                );
                windows.insert((before.window, case.window));
                seen.insert(index);
                pairs.insert((before.setting, case.setting));
            }
            before = Some(case);
        }
    }
    let all = |of: usize| of * of;
    assert_eq!(
        (windows.len(), pairs.len()),
        (all(lengths.len()), all(settings.len())),
        "not each behind each"
    );
    assert_eq!(seen.len(), cases.len(), "not each setting in each window");
    fresh
}

fn request(language: &str, partial: bool, prompt: Option<&str>) -> Request {
    Request { language: language.into(), prompt: prompt.map(str::to_owned), partial }
}

#[test]
fn the_model_inside_gives_each_caller_what_a_fresh_state_gives() {
    let model = ModelFile::embedded().unwrap().load().unwrap();
    let prompt = Some("please enter your password followed by the pound key");
    let settings = [
        request("en", true, None),
        request("en", false, None),
        request("en", true, prompt),
        request("en", false, prompt),
    ];
    assert_isolated(&model, &SHORT, &settings);
}

#[test]
fn a_model_of_many_languages_finds_each_callers_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ggml-babbling.bin");
    std::fs::write(&path, tiny_model::TinyModel::babbling().bytes).unwrap();
    let shelf = Shelf { folder: Path::new(".").into(), language: "auto".into(), states: 1, memory: None };
    let model = ModelChoice::Path(path).resolve(&shelf).unwrap().unwrap().load().unwrap();
    assert!(model.is_multilingual());
    let prompt = Some("w1 w2 w3 w4 w5");
    let settings = [
        request("auto", true, None),
        request("auto", false, prompt),
        request("de", false, None),
        request("ja", true, prompt),
    ];
    let answers = assert_isolated(&model, &STOCK, &settings);
    let language = |answer: &String| answer.rsplit("language: ").next().unwrap_or_default().to_owned();
    let found: HashSet<String> = answers.iter().map(language).collect();
    assert!(found.len() > 3, "only {found:?}: what `auto` finds does not depend on the audio");
}
