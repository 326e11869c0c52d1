//! `sidetone bench --speech`: how many live legs this machine transcribes while they speak, with the user's model.
//!
//! Real rings, the real engine at the pace of the clock; no packets, and no recording. A number of legs is carried if their finals
//! come in time, their text goes on while they speak, and nothing is missing. What legs say is either the user's own
//! (`--audio`) or a few prompts with the pauses of a conversation, which cost a model as much as any other speech.

mod legs;
mod outcome;
mod track;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use self::legs::Heard;
use self::outcome::{Limit, Outcome, Silent, Step, Window};
use self::track::Track;
use super::search::{Search, Trial};
use super::{BenchArgs, output};
use crate::cli::SettingsArgs;
use crate::cli::serve::speech_config;
use crate::clock;
use crate::speech::recogniser::{Request, SpeechModel};
use crate::speech::{SpeechConfig, SpeechEngine, model};

/// Seconds for which a number of legs is tried if nobody says: some three utterances of each.
const STEP_SECONDS: u64 = 20;
/// Legs at most if nobody says.
const MOST_LEGS: usize = 2_000;
/// Share of the recognisers' time that is left to chance when the first number to try is guessed.
const LEFT: f64 = 0.3;
/// Audio that is recognised to know what recognising costs: seconds.
const WINDOWS: [f64; 4] = [1.0, 2.0, 4.0, 8.0];
/// Each so often, and for so long at least.
const ROUNDS: usize = 3;
/// Legs on which nobody speaks, so many for so long.
const SILENT_LEGS: usize = 200;
const SILENT_SECONDS: u64 = 4;
/// Noise of a line, -50 dB of full scale: loud enough not to pass for silence.
const LINE_NOISE: i16 = 180;

pub(super) fn run(args: &BenchArgs, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let mut settings = settings.load()?;
    crate::cli::init_quiet_log(&settings)?;
    settings.speech.model = args.model.clone().unwrap_or(settings.speech.model);
    let found = model::find(&settings)?.context("speech.model is off: name a model with --model")?;
    let tracks = match &args.audio {
        Some(path) => Track::of_file(path)?,
        None => vec![Track::of_prompts()?],
    };
    let progress = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {msg}")?);
    progress.enable_steady_tick(Duration::from_millis(200));
    progress.set_message(format!("loading {}", found.name));
    let runtime = crate::cli::runtime()?;
    let bench = Bench {
        model: found.load()?,
        config: speech_config(&settings),
        language: settings.speech.language.clone(),
        ring_slots: settings.rtp.ring_seconds as usize * 100,
        length: Duration::from_secs(args.step.unwrap_or(STEP_SECONDS)),
        tracks,
    };

    progress.set_message("recognising pieces of audio");
    let windows = bench.windows()?;
    progress.set_message(format!("listening to {SILENT_LEGS} legs on which nobody speaks"));
    let silent = runtime.block_on(bench.silent())?;
    let most = args.max.unwrap_or(MOST_LEGS).min(MOST_LEGS);
    let mut search = match args.legs {
        Some(legs) => Search::of_one(legs.into()),
        None => Search::new(bench.guess(&windows).clamp(1, most), most),
    };
    let (mut carried, mut failed) = (None, None);
    while let Some(legs) = search.next() {
        let before = carried.as_ref().map_or(0, |step: &Step| step.legs);
        progress.set_message(format!("{legs} legs speak ({before} were carried)"));
        let mut step = runtime.block_on(bench.speak(legs))?;
        if step.limit.is_some() && args.legs.is_none() {
            // One stutter of a busy machine is not its limit.
            step = runtime.block_on(bench.speak(legs))?;
        }
        if step.limit.is_none() {
            search.note(legs, Trial::Carried);
            carried = Some(step);
        } else {
            search.note(legs, Trial::Failed);
            failed = Some(step);
        }
    }
    progress.finish_and_clear();

    let outcome = Outcome {
        legs: carried.as_ref().map_or(0, |step| step.legs),
        limit: failed.as_ref().and_then(|step| step.limit).unwrap_or(Limit::Asked),
        carried,
        failed,
        model: found.name.clone(),
        windows,
        silent,
        talks: bench.talks(),
        partial_ms: bench.config.partial_step.as_millis() as u64,
        hangover_ms: bench.config.hangover.as_millis() as u64,
        workers: bench.workers(),
        processors: std::thread::available_parallelism()?.get(),
    };
    if args.json {
        output::line(serde_json::to_string_pretty(&outcome)?)?;
    } else {
        output::text(&outcome.in_words())?;
        if args.audio.is_none() && found.is_demo() {
            output::tell(
                "that is of the built-in model, which is far smaller than any of use: `sidetone models pull base.en`, then again",
            );
        }
    }
    let asked_in_vain = args.legs.is_some() && outcome.carried.is_none();
    Ok(if asked_in_vain { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Bench {
    model: Arc<dyn SpeechModel>,
    config: SpeechConfig,
    language: String,
    ring_slots: usize,
    length: Duration,
    tracks: Vec<Track>,
}

impl Bench {
    fn workers(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if self.config.workers == 0 { cores } else { self.config.workers }
    }

    /// Share of the time for which a leg speaks.
    fn talks(&self) -> f64 {
        self.tracks.iter().map(|track| track.voiced).sum::<f64>() / self.tracks.len() as f64
    }

    /// What recognising costs, of one recogniser alone and of all side by side.
    fn windows(&self) -> anyhow::Result<Vec<Window>> {
        let alone = self.time(1)?;
        let together = self.time(self.workers())?;
        let each = WINDOWS.into_iter().zip(alone).zip(together);
        Ok(each.map(|((seconds, alone_ms), together_ms)| Window { seconds, alone_ms, together_ms }).collect())
    }

    /// Milliseconds for each of [`WINDOWS`], with so many recognisers at it: each goes on until the last one is through, so that none is
    /// measured beside one that is idle.
    fn time(&self, recognisers: usize) -> anyhow::Result<Vec<f64>> {
        let audio = WINDOWS.map(Track::speech);
        let through = AtomicUsize::new(0);
        let run = || -> anyhow::Result<Vec<f64>> {
            let mut recogniser = self.model.recogniser()?;
            let request = Request { language: self.language.clone(), prompt: None, partial: true };
            recogniser.recognise(&audio[0], &request)?;
            let mut spent = vec![0.0; audio.len()];
            for _ in 0..ROUNDS {
                for (piece, spent) in audio.iter().zip(&mut spent) {
                    let begun = clock::now();
                    recogniser.recognise(piece, &request)?;
                    *spent += clock::since(begun).as_secs_f64() * 1_000.0 / ROUNDS as f64;
                }
            }
            through.fetch_add(1, Ordering::AcqRel);
            while through.load(Ordering::Acquire) < recognisers {
                recogniser.recognise(&audio[0], &request)?;
            }
            Ok(spent)
        };
        let outcomes: Vec<anyhow::Result<Vec<f64>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..recognisers)
                .map(|_| {
                    scope.spawn(|| {
                        let outcome = run();
                        // Nobody waits for one that failed.
                        through.fetch_add(if outcome.is_err() { recognisers } else { 0 }, Ordering::AcqRel);
                        outcome
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a recogniser panicked")))
                .collect()
        });
        let mut mean = vec![0.0; WINDOWS.len()];
        for outcome in outcomes {
            for (mean, one) in mean.iter_mut().zip(outcome?) {
                *mean += one / recognisers as f64;
            }
        }
        Ok(mean)
    }

    /// The number of legs to try first: a leg that speaks has a piece of 4 s, which is a middling one, recognised each step or
    /// as soon as the last one is done, and a recogniser does no more than its time allows.
    fn guess(&self, windows: &[Window]) -> usize {
        let cost =
            windows.iter().find(|window| window.seconds >= 4.0).map_or(1.0, |window| window.together_ms);
        let step = (self.config.partial_step.as_secs_f64() * 1_000.0).max(1.5 * cost);
        let busy = self.talks().max(0.01) * cost / step;
        ((1.0 - LEFT) * self.workers() as f64 / busy) as usize
    }

    fn engine(&self) -> anyhow::Result<SpeechEngine> {
        Ok(SpeechEngine::start(self.config.clone(), self.model.clone())?)
    }

    async fn heard(&self, tracks: &[Track], legs: usize, length: Duration) -> anyhow::Result<Heard> {
        // An engine of its own: what the scheduler learnt of too many legs is not this number's fault.
        let engine = self.engine()?;
        let heard = legs::speak(&engine, tracks, &self.language, legs, length, self.ring_slots).await;
        tokio::task::spawn_blocking(move || drop(engine)).await?;
        heard
    }

    async fn speak(&self, legs: usize) -> anyhow::Result<Step> {
        let heard = self.heard(&self.tracks, legs, self.length).await?;
        Ok(Step::new(&heard, legs, self.talks(), &self.config))
    }

    async fn silent(&self) -> anyhow::Result<Silent> {
        let length = Duration::from_secs(SILENT_SECONDS);
        let mut percent = [0.0; 2];
        for (percent, amplitude) in percent.iter_mut().zip([0, LINE_NOISE]) {
            let heard = self.heard(&[Track::silent(amplitude)], SILENT_LEGS, length).await?;
            let spent = heard.listening + heard.recognising;
            *percent = 100.0 * spent.as_secs_f64() / length.as_secs_f64() / SILENT_LEGS as f64;
        }
        let [silence_percent_per_leg, noise_percent_per_leg] = percent;
        Ok(Silent { silence_percent_per_leg, noise_percent_per_leg })
    }
}
