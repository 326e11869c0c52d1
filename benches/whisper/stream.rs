//! Audio files as live legs, for `benches/whisper/compare`: `streaming --model FILE WAV…`.
//!
//! Each file (mono) is a leg that speaks at the pace of the clock, `--at-once` of them at a time, through ring and engine as in a
//! call. Prints one JSON object: the words of each file, and the processor time of the engine's threads.

#[path = "../../src/cli/bench/machine.rs"]
#[allow(dead_code, reason = "the command needs the rest of it")]
mod machine;
#[path = "../../tests/speech-support/mod.rs"]
mod support;

// What `machine` is tested with.
#[allow(unused_imports, reason = "for its tests")]
use sidetone::clock;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use serde_json::json;
use sidetone::audio::{AudioFile, Limits, PcmSource};
use sidetone::config::Settings;
use sidetone::media::time::SampleRate;
use sidetone::speech::models::Shelf;
use sidetone::speech::{LegAudio, ModelChoice, SpeechConfig, SpeechEngine, TranscriptKind};
use support::{Collected, LiveLeg};

#[derive(Parser)]
#[command(about = "Audio files as live legs")]
struct Args {
    /// Mono.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// As in speech.model.
    #[arg(long, default_value = "auto")]
    model: String,
    /// Legs at a time.
    #[arg(long, default_value_t = 4)]
    at_once: usize,
    /// Recognising threads; 0 for as many as processor cores.
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// As in speech.partial_ms.
    #[arg(long, default_value_t = 500)]
    partial_ms: u64,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let model = ModelChoice::parse(&args.model).resolve(&Shelf::of(&Settings::default()))?;
    let config = SpeechConfig {
        workers: args.workers,
        partial_step: Duration::from_millis(args.partial_ms),
        ..SpeechConfig::default()
    };
    let engine = SpeechEngine::start(config, model.context("no model")?.load()?)?;
    let legs = args.files.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let before = ["asr-", "asr-listen"].map(machine::time_of_threads);
    let mut told = Vec::new();
    for (index, group) in legs.chunks(args.at_once.max(1)).enumerate() {
        let running = group.iter().enumerate().map(|(at, (rate, pcm))| {
            let name = format!("leg-{}", index * args.at_once + at);
            run(&engine, name, *rate, pcm.clone())
        });
        told.extend(futures_util::future::join_all(running).await);
    }
    let after = ["asr-", "asr-listen"].map(machine::time_of_threads);
    let [all, listening] = [0, 1].map(|n| (after[n] - before[n]).as_secs_f64());
    let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
    let report = json!({
        "cpu_seconds": all,
        "listening_seconds": listening,
        "partials": sum(|told| told.partials),
        "finals": sum(|told| told.finals),
        "missed_slots": sum(|told| told.missed_slots),
        "unfinished": sum(|told| told.unfinished),
        "texts": told.iter().map(|told| &told.text).collect::<Vec<_>>(),
    });
    println!("{report}");
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<(SampleRate, Vec<i16>)> {
    let name = || path.display().to_string();
    let mut file = AudioFile::open(path, None, Limits::default()).with_context(name)?;
    let spec = file.spec();
    anyhow::ensure!(spec.channels == 1, "{}: {} channels, and a leg has one", name(), spec.channels);
    let rate = SampleRate::new(spec.rate_hz).with_context(name)?;
    let (mut all, mut piece) = (Vec::new(), vec![0; 65_536]);
    loop {
        match file.read(&mut piece).with_context(name)? {
            0 => return Ok((rate, all)),
            frames => all.extend_from_slice(&piece[..frames]),
        }
    }
}

struct Told {
    text: String,
    partials: u64,
    finals: u64,
    missed_slots: u64,
    unfinished: u64,
}

async fn run(engine: &SpeechEngine, name: String, rate: SampleRate, pcm: Vec<i16>) -> Told {
    // A second of silence, as a call has it: the last utterance ends by its hangover.
    let pcm = [pcm, vec![0; rate.hz() as usize]].concat();
    let leg = LiveLeg::new(pcm, rate, 1);
    let collected = Collected::default();
    let listener = engine.listen(LegAudio { call_id: name, ..leg.audio() }, collected.sink());
    tokio::task::spawn_blocking(move || leg.speak()).await.expect("the leg speaks");
    let report = tokio::time::timeout(Duration::from_secs(60), listener.finish()).await.expect("an end");
    let events = collected.events();
    let finals = events.iter().filter(|(_, event)| event.kind == TranscriptKind::Final);
    Told {
        text: finals.map(|(_, event)| event.text.as_str()).collect::<Vec<_>>().join(" "),
        partials: report.partials,
        finals: report.finals,
        missed_slots: report.missed_slots,
        unfinished: report.unfinished,
    }
}
