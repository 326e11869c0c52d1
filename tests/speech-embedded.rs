//! The model inside the binary on real telephone speech, without time.

#![cfg(feature = "embedded-model")]

#[path = "speech-support/drive.rs"]
mod drive;
#[path = "speech-support/mod.rs"]
mod support;

use std::sync::{Arc, OnceLock};

use sidetone::audio::Samples;
use sidetone::media::leg::Leg;
use sidetone::speech::batch::{Batch, BatchError, BatchOptions, transcribe};
use sidetone::speech::recogniser::{Request, SpeechModel};
use sidetone::speech::resample::Resampler;
use sidetone::speech::scheduler::Class;
use sidetone::speech::session::Session;
use sidetone::speech::transcript::Transcript;
use sidetone::speech::{ModelFile, SpeechConfig, SpeechEngine, TranscriptEvent};
use support::{hush, noise, prompt, prompts, word_errors};
use tokio_util::sync::CancellationToken;

fn model() -> Arc<dyn SpeechModel> {
    static MODEL: OnceLock<Arc<dyn SpeechModel>> = OnceLock::new();
    MODEL.get_or_init(|| ModelFile::embedded().unwrap().load().unwrap()).clone()
}

fn engine() -> SpeechEngine {
    SpeechEngine::start(SpeechConfig { workers: 2, ..SpeechConfig::default() }, model()).unwrap()
}

fn transcribed(channels: &[&[i16]]) -> Vec<TranscriptEvent> {
    let mut events = batch(&engine(), 8_000, channels).unwrap().events;
    events.sort_by_key(|e| (e.leg, e.utterance));
    events
}

fn batch(engine: &SpeechEngine, rate: u32, channels: &[&[i16]]) -> Result<Batch, BatchError> {
    let options = BatchOptions { language: "en", prompt: None, class: Class::Job };
    let mut audio = Samples::new(rate, channels);
    transcribe(engine, &mut audio, options, &CancellationToken::new(), &mut |_| {})
}

fn padded(pcm: &[i16]) -> Vec<i16> {
    [&hush(4_000, 1)[..], pcm, &hush(8_000, 2)[..]].concat()
}

fn text(events: &[TranscriptEvent]) -> String {
    events.iter().map(|e| e.text.as_str()).collect::<Vec<_>>().join(" ")
}

/// 16 kHz, -1 to 1.
fn wide(pcm: &[i16]) -> Vec<f32> {
    let mut resampler = Resampler::new(8_000).unwrap();
    let samples: Vec<f32> = pcm.iter().map(|&s| f32::from(s) / 32_768.0).collect();
    let mut out = Vec::new();
    resampler.push(&samples, &mut out);
    resampler.finish(&mut out);
    out
}

/// What is pushed at once may hold the pause and the end of an utterance, and the start of the next.
#[test]
fn what_is_heard_is_no_matter_of_how_much_comes_at_once() {
    let said = [padded(&prompt("hello-world").pcm), padded(&prompt("vm-goodbye").pcm)].concat();
    for part in [320, 4_800, 6_400, 12_800, 16_000, 32_000, said.len() * 2] {
        let mut recogniser = model().recogniser().unwrap();
        let mut leg = drive::Driven::new(&mut *recogniser);
        leg.hear_in_parts(&said, part);
        assert_eq!(leg.text(), "hello world goodbye", "{part} samples at a time");
    }
}

#[test]
fn prompts_come_out_word_for_word() {
    let (mut errors, mut words) = (0, 0);
    for prompt in prompts() {
        let heard = text(&transcribed(&[&padded(&prompt.pcm)]));
        let (wrong, of) = word_errors(&prompt.text, &heard);
        if wrong > 0 {
            eprintln!("{}: {heard:?} instead of {:?}", prompt.name, prompt.text);
        }
        errors += wrong;
        words += of;
    }
    assert!(errors as f64 <= 0.05 * words as f64, "{errors} of {words} words wrong");
}

/// Words wrong if the prompts are one leg's, one after the other, and the model is told what was said last or is not.
fn wrong_in_a_row(carries: bool) -> (usize, usize) {
    let mut recogniser = model().recogniser().unwrap();
    let mut driven = drive::Driven::new(recogniser.as_mut());
    driven.session = Session::new(Leg::Caller, "en".into(), 0.0, 1, drive::config()).with_carry(carries);
    let prompts = prompts();
    let pcm: Vec<i16> = prompts.iter().flat_map(|prompt| padded(&prompt.pcm)).collect();
    driven.hear(&pcm);
    let said = prompts.iter().map(|prompt| prompt.text.as_str()).collect::<Vec<_>>().join(" ");
    word_errors(&said, &driven.text())
}

/// It was trained on single prompts, with nothing before them: to be told costs it time, and gains it nothing.
#[test]
fn told_what_was_said_last_the_model_in_the_binary_errs_neither_more_nor_less() {
    let ((without, words), (with, _)) = (wrong_in_a_row(false), wrong_in_a_row(true));
    eprintln!("{without} of {words} words wrong, {with} if it is told");
    assert!(!model().carries_text());
    assert!(without as f64 <= 0.05 * words as f64, "{without} of {words}");
    assert!(with.abs_diff(without) <= words / 50, "then it is worth another look: {with}, {without}");
}

#[test]
fn times_lie_where_the_speech_is() {
    let prompt = prompt("agent-pass");
    let events = transcribed(&[&padded(&prompt.pcm)]);
    let (first, last) = (&events[0], &events[events.len() - 1]);
    let length = prompt.pcm.len() as f64 / 8_000.0;
    assert!((0.4..0.9).contains(&first.start), "{first:?}");
    assert!((length - 0.3..length + 0.6).contains(&last.end), "{last:?}");
    for event in &events {
        assert!(event.words.iter().all(|w| w.start >= event.start && w.end <= event.end && w.start <= w.end));
        assert!(event.words.windows(2).all(|w| w[0].end <= w[1].start));
        assert!(event.words.iter().all(|w| w.stable && (0.0..=1.0).contains(&w.confidence)));
        // Speech begins with its first word and ends with its last one.
        let (Some(first), Some(last)) = (event.words.first(), event.words.last()) else {
            panic!("{event:?}")
        };
        assert!(first.start - event.start < 0.2 && event.end - last.end < 0.3, "{event:?}");
    }
}

#[test]
fn two_channels_are_two_speakers() {
    let (left, right) =
        (padded(&prompt("hello-world").pcm), padded(&prompt("cannot-complete-as-dialed").pcm));
    let length = left.len().max(right.len());
    let (left, right) = (padded_to(left, length), padded_to(right, length));
    let transcript = Transcript::new(None, length as f64 / 8_000.0, 2, "m", transcribed(&[&left, &right]));
    let text = transcript.to_text();
    assert!(text.contains("caller: hello world"), "{text}");
    assert!(text.contains("callee: your call cannot be completed as dialed"), "{text}");
}

fn padded_to(mut pcm: Vec<i16>, length: usize) -> Vec<i16> {
    pcm.resize(length, 0);
    pcm
}

#[test]
fn nothing_is_heard_in_silence_noise_and_tones() {
    let tone = |a: f64, b: f64| -> Vec<i16> {
        let wave = |i: usize, hz: f64| (i as f64 * hz * std::f64::consts::TAU / 8_000.0).sin() * 6_000.0;
        let on = |i: usize| i % 16_000 < 8_000;
        (0..64_000).map(|i| if on(i) { (wave(i, a) + wave(i, b)) as i16 } else { 0 }).collect()
    };
    let quiet = [
        ("digital silence", vec![0; 40_000]),
        ("line noise", hush(80_000, 3)),
        ("noise at -50 dB", noise(80_000, 4, 180)),
        ("noise at -30 dB", noise(80_000, 5, 1_800)),
        ("ring-back", tone(440.0, 480.0)),
        ("busy", tone(480.0, 620.0)),
        ("European ring-back", tone(425.0, 425.0)),
        ("dial tone", tone(350.0, 440.0)),
        ("DTMF 5", tone(770.0, 1_336.0)),
    ];
    for (what, pcm) in quiet {
        assert_eq!(text(&transcribed(&[&pcm])), "", "{what}");
    }
}

#[test]
fn what_a_recogniser_heard_before_does_not_show() {
    let request = Request { language: "en".into(), prompt: None, partial: false };
    let pieces: Vec<Vec<f32>> = prompts().iter().map(|p| wide(&p.pcm)).collect();
    let mut used = model().recogniser().unwrap();
    for (index, piece) in pieces.iter().enumerate() {
        // A longer and a shorter window, a prompt and a piece cut off in the middle go before.
        let other = &pieces[(index + 3) % pieces.len()];
        let prompted = Request { prompt: Some("please enter your password".into()), ..request.clone() };
        used.recognise(other, &prompted).unwrap();
        used.recognise(&other[..other.len() / 2], &request).unwrap();
        used.recognise(&[&other[..], &piece[..], &other[..]].concat(), &request).unwrap();
        let after = used.recognise(piece, &request).unwrap();
        let alone = model().recogniser().unwrap().recognise(piece, &request).unwrap();
        assert_eq!(after, alone, "{}", prompts()[index].name);
    }
}

#[test]
fn a_snippet_of_any_length_is_taken() {
    let request = Request { language: "en".into(), prompt: None, partial: true };
    let mut recogniser = model().recogniser().unwrap();
    for samples in [0, 1, 100, 1_600, 3_000, 40_000] {
        recogniser.recognise(&vec![0.0; samples], &request).unwrap();
    }
}

#[test]
fn three_channels_and_no_rate_are_refused() {
    let engine = engine();
    let none: &[i16] = &[];
    assert!(matches!(batch(&engine, 8_000, &[none, none, none]), Err(BatchError::Channels { count: 3 })));
    assert!(matches!(batch(&engine, 0, &[none]), Err(BatchError::Rate(_))));
    assert_eq!(batch(&engine, 8_000, &[none]).unwrap(), Batch::default());
}
