//! Prompts through the live engine in real time: word error rate, latency of the first partial and of the final, and cost.
//!
//! `speech_latency [LEGS [MODEL [LIST DIRECTORY]]]`: LEGS prompts at a time (default 2; 0 takes them as files, as fast as it goes); MODEL as in `speech.model`; LIST has lines
//! `name: text` and DIRECTORY the recordings as `name.ulaw` (default: the prompts in `tests/fixtures/speech`).

#[path = "../tests/speech-support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Duration;

use sidetone::audio::Samples;
use sidetone::clock;
use sidetone::config::Settings;
use sidetone::media::time::{MediaInstant, SampleRate};
use sidetone::speech::batch::{BatchOptions, transcribe};
use sidetone::speech::models::Shelf;
use sidetone::speech::scheduler::Class;
use sidetone::speech::{LegAudio, ModelChoice, SpeechConfig, SpeechEngine, TranscriptEvent, TranscriptKind};
use support::{Collected, LiveLeg, Prompt, hush, listed, prompts, word_errors};
use tokio_util::sync::CancellationToken;

struct Measured {
    errors: usize,
    words: usize,
    first_partial: Option<f64>,
    finals: Vec<f64>,
    gaps: Vec<f64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let legs = args.first().map_or(Ok(2), |n| n.parse())?;
    let choice = ModelChoice::parse(args.get(1).map_or("auto", String::as_str));
    let prompts = match (args.get(2), args.get(3)) {
        (Some(list), Some(directory)) => {
            listed(Path::new(list), |name| Path::new(directory).join(format!("{name}.ulaw")))
        }
        _ => prompts(),
    };
    let Some(model) = choice.resolve(&Shelf::of(&Settings::default()))? else { anyhow::bail!("no model") };
    let engine = SpeechEngine::start(SpeechConfig::default(), model.load()?)?;

    let mut all = Vec::new();
    if legs == 0 {
        let started = clock::now();
        for prompt in &prompts {
            all.push(offline(&engine, prompt)?);
        }
        let seconds: f64 = prompts.iter().map(|p| p.pcm.len() as f64 / 8_000.0).sum();
        println!("{seconds:.1} s of audio in {:.1} s", clock::since(started).as_secs_f64());
    }
    for group in prompts.chunks(legs.max(1)).take(if legs == 0 { 0 } else { usize::MAX }) {
        let running: Vec<_> = group.iter().map(|prompt| run(&engine, prompt)).collect();
        for measured in futures_util::future::join_all(running).await {
            all.push(measured);
        }
    }
    report(&all);
    Ok(())
}

fn offline(engine: &SpeechEngine, prompt: &Prompt) -> anyhow::Result<Measured> {
    let pcm = padded(prompt);
    let options = BatchOptions { language: "en", prompt: None, class: Class::Job };
    let mut audio = Samples::new(8_000, &[&pcm]);
    let events = transcribe(engine, &mut audio, options, &CancellationToken::new(), &mut |_| {})?.events;
    let text = events.iter().map(|e| e.text.as_str()).collect::<Vec<_>>().join(" ");
    let (errors, words) = compared(prompt, &text);
    Ok(Measured { errors, words, first_partial: None, finals: Vec::new(), gaps: Vec::new() })
}

/// A little of a silent line before and behind.
fn padded(prompt: &Prompt) -> Vec<i16> {
    [hush(4_000, 1), prompt.pcm.clone(), hush(8_000, 2)].concat()
}

fn compared(prompt: &Prompt, heard: &str) -> (usize, usize) {
    let (errors, words) = word_errors(&prompt.text, heard);
    if errors > 0 {
        println!("{}: {errors} of {words} wrong\n  said  {}\n  heard {heard}", prompt.name, prompt.text);
    }
    (errors, words)
}

async fn run(engine: &SpeechEngine, prompt: &Prompt) -> Measured {
    let leg = LiveLeg::new(padded(prompt), SampleRate::NARROWBAND, 1);
    let call = leg.clock.clone();
    let collected = Collected::default();
    let listener = engine.listen(LegAudio { call_id: prompt.name.clone(), ..leg.audio() }, collected.sink());
    let spoken = tokio::task::spawn_blocking(move || leg.speak());
    let _ = spoken.await;
    listener.finish().await;

    let since = |instant: MediaInstant, seconds: f64| {
        instant.nanos_since(call.start() + Duration::from_secs_f64(seconds)) as f64 / 1e9
    };
    let events = collected.events();
    let finals: Vec<_> = events.iter().filter(|(_, e)| e.kind == TranscriptKind::Final).collect();
    let text = finals.iter().map(|(_, e)| e.text.as_str()).collect::<Vec<_>>().join(" ");
    let (errors, words) = compared(prompt, &text);
    let same = |w: &&[(MediaInstant, TranscriptEvent)]| w[0].1.utterance == w[1].1.utterance;
    let gap = |w: &[(MediaInstant, TranscriptEvent)]| w[1].0.nanos_since(w[0].0) as f64 / 1e9;
    Measured {
        errors,
        words,
        first_partial: events.first().map(|(at, e)| since(*at, e.start)),
        finals: finals.iter().map(|(at, e)| since(*at, e.end)).collect(),
        gaps: events.windows(2).filter(same).map(gap).collect(),
    }
}

fn report(all: &[Measured]) {
    let errors: usize = all.iter().map(|m| m.errors).sum();
    let words: usize = all.iter().map(|m| m.words).sum();
    let exact = all.iter().filter(|m| m.errors == 0).count();
    println!(
        "{} prompts, {exact} word for word; WER {:.2} % of {words} words",
        all.len(),
        100.0 * errors as f64 / words as f64
    );
    spread("first partial after the start of speech", all.iter().filter_map(|m| m.first_partial).collect());
    spread("final after the end of speech", all.iter().flat_map(|m| m.finals.clone()).collect());
    spread("between two events of an utterance", all.iter().flat_map(|m| m.gaps.clone()).collect());
}

fn spread(what: &str, mut seconds: Vec<f64>) {
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| {
        seconds.get(((seconds.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or(f64::NAN)
    };
    println!(
        "{what}: median {:.3} s, 95 % {:.3} s, worst {:.3} s ({} of them)",
        at(0.5),
        at(0.95),
        at(1.0),
        seconds.len()
    );
}
