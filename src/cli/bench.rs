//! `sidetone bench`: how many streams this machine carries without a loss, and what they cost.
//!
//! Real sockets, the real receive plane and, with `--record`, the real recorder; the load comes from this process too, over
//! the loopback interface. So the figure is what the machine carries beside its own load generator, and a lower bound of what
//! it carries when the packets come from elsewhere. With `--speech` it is legs that speak, see [`speech`].

mod machine;
mod search;
mod speech;
mod step;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, value_parser};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{SettingsArgs, limits, output};
use crate::net::load::MAX_STREAMS;
use search::{Search, Trial};
use step::{Bench, Limit, Step};

/// Streams tried first, and at most if nobody says.
const FIRST: usize = 250;
const MOST: usize = 20_000;
/// Seconds for which a number of streams is tried if nobody says.
const STEP_SECONDS: u64 = 3;

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// Seconds for which each number of streams, or legs, is tried; without it 3, or 20.
    #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u64).range(1..=600))]
    step: Option<u64>,
    /// Streams, or legs, at most; without it 20000, or 2000.
    #[arg(long, value_name = "N", value_parser = streams)]
    max: Option<usize>,
    /// Try this number of streams and no other; the exit code is 1 if they are not carried without a loss.
    #[arg(long, value_name = "N", conflicts_with = "max", value_parser = streams)]
    streams: Option<usize>,
    /// Receive threads; without it rtp.shards.
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=16))]
    shards: Option<u16>,
    /// Record the streams, two a call, below this folder; the files are removed afterwards.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// How many live legs are transcribed while they speak, with the model of the settings, in place of streams received.
    #[arg(long, conflicts_with_all = ["streams", "shards", "record"])]
    speech: bool,
    /// Try this number of legs and no other; the exit code is 1 if their transcripts do not keep up.
    #[arg(long, value_name = "N", requires = "speech", conflicts_with = "max", value_parser = value_parser!(u16).range(1..=2_000))]
    legs: Option<u16>,
    /// What the legs say, over and over: a recording of your own calls, each channel a leg. Without it prompts, with pauses.
    #[arg(long, value_name = "FILE", requires = "speech")]
    audio: Option<PathBuf>,
    /// Model, as in speech.model.
    #[arg(long, requires = "speech")]
    model: Option<String>,
    /// The result as JSON.
    #[arg(long)]
    json: bool,
}

fn streams(text: &str) -> Result<usize, String> {
    let n: usize = text.parse().map_err(|_| "a number of streams is expected".to_owned())?;
    if (1..=MAX_STREAMS).contains(&n) { Ok(n) } else { Err(format!("use 1 to {MAX_STREAMS}")) }
}

/// What was found.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Streams carried without a loss.
    streams: usize,
    /// What they cost; absent if not even the fewest were carried.
    carried: Option<Step>,
    /// The fewest that were not; absent if all were.
    failed: Option<Step>,
    /// What more streams would have met with.
    limit: Limit,
    /// Receive threads.
    shards: usize,
    /// Processors.
    processors: usize,
    /// Whether they were recorded.
    recorded: bool,
    /// Seconds of audio that a leg's ring keeps, and KiB that it takes once all of it was used.
    ring_seconds: u32,
    ring_kib: u64,
}

pub(super) fn run(args: &BenchArgs, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    if args.speech {
        return speech::run(args, settings);
    }
    let settings = settings.load()?;
    super::init_quiet_log(&settings)?;
    limits::raise_open_files();
    let runtime = super::runtime()?;
    let shards = args.shards.map_or(settings.rtp.shards, usize::from);
    let mut bench = Bench::new(
        &settings,
        shards,
        Duration::from_secs(args.step.unwrap_or(STEP_SECONDS)),
        args.record.as_deref(),
    )?;

    let progress = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {msg}")?);
    progress.enable_steady_tick(Duration::from_millis(200));
    let mut search = match args.streams {
        Some(n) => Search::of_one(n),
        None => {
            let most = args.max.unwrap_or(MOST);
            Search::new(FIRST.min(most), most)
        }
    };
    let (mut carried, mut failed) = (None, None);
    let mut limit = Limit::Asked;
    while let Some(n) = search.next() {
        progress.set_message(told(n, carried.as_ref()));
        if let Some(beyond) = bench.beyond(n) {
            limit = beyond;
            search.note(n, Trial::Failed);
            continue;
        }
        let step = runtime.block_on(bench.run(n))?;
        let step = match step.limit {
            // One stutter of a busy machine is not its limit.
            Some(_) if args.streams.is_none() => runtime.block_on(bench.run(n))?,
            _ => step,
        };
        match step.limit {
            None => {
                search.note(n, Trial::Carried);
                carried = Some(step);
            }
            Some(met) => {
                search.note(n, Trial::Failed);
                limit = met;
                failed = Some(step);
            }
        }
    }
    progress.finish_and_clear();

    let outcome = Outcome {
        streams: carried.as_ref().map_or(0, |step| step.streams),
        carried,
        failed,
        limit,
        shards,
        processors: std::thread::available_parallelism()?.get(),
        recorded: args.record.is_some(),
        ring_seconds: settings.rtp.ring_seconds,
        ring_kib: bench.ring_kib(),
    };
    if args.json {
        output::line(serde_json::to_string_pretty(&outcome)?)?;
    } else {
        output::text(&outcome.in_words())?;
    }
    let asked_in_vain = args.streams.is_some() && outcome.carried.is_none();
    Ok(if asked_in_vain { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn told(n: usize, carried: Option<&Step>) -> String {
    match carried {
        Some(step) => format!("trying {n} streams ({} were carried without a loss)", step.streams),
        None => format!("trying {n} streams"),
    }
}

impl Outcome {
    fn in_words(&self) -> String {
        let what = if self.recorded { "G.711 streams, recorded" } else { "G.711 streams" };
        let mut text = format!("{} {what}, 50 packets a second each, without a loss\n", self.streams);
        if let Some(step) = &self.carried {
            text += &format!(
                "  receiving      {:.1} % of one core a thousand streams: {:.0} packets per core-second\n",
                step.receive_percent_per_stream * 1_000.0,
                step.packets_per_core_second
            );
            if self.recorded {
                text += &format!(
                    "  recording      {:.1} % of one core a thousand streams, {} files of {:.1} s\n",
                    step.record_percent_per_stream * 1_000.0,
                    step.recordings,
                    step.seconds
                );
            }
            text += &format!(
                "  memory         {:.0} KiB a leg after {:.0} s; its ring of {} s grows to {} KiB\n",
                step.kib_per_leg, step.seconds, self.ring_seconds, self.ring_kib
            );
            text += &format!("  load           {:.0} % of one core for sending\n", step.send_percent);
        }
        text += &format!("  limit          {}\n", self.limit.in_words());
        if let Some(step) = &self.failed {
            text += &format!(
                "  at {} streams  {} of {} packets lost, {} of them dropped by the kernel; sender up to {:.0} ms late\n",
                step.streams, step.lost, step.sent, step.kernel_drops, step.sender_behind_ms
            );
        }
        text +=
            &format!("  machine        {} processors, {} receive threads\n", self.processors, self.shards);
        text
    }
}
