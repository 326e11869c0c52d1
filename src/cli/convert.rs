//! `sidetone convert`: audio files from one kind to another, one or a folder full.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::{SettingsArgs, output};
use crate::audio::convert::{Channels, Conversion, Converted, Target, convert};
use crate::audio::{AudioFile, Format, Limits};

mod asterisk;

use asterisk::Asterisk;

#[derive(Debug, Args)]
pub(super) struct ConvertArgs {
    /// A file: WAV (PCM, float, G.711, GSM), FLAC, MP3, Opus in Ogg, or, without a header, .ulaw .alaw .gsm .g722 .sln … .sln192.
    /// Or a folder: all such files in it and below.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file to write, its kind told by its extension (wav, wav16, wav49, ulaw, alaw, gsm, g722, sln … sln192, opus, ogg); with a folder
    /// as IN, the folder to write to.
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Kind to write, as an extension; needed for folders.
    #[arg(long, value_name = "EXTENSION", value_parser = target)]
    to: Option<Target>,
    /// What files are whose contents and name do not say: an extension, such as `ulaw`.
    #[arg(long, value_name = "EXTENSION", value_parser = super::transcribe::extension)]
    from: Option<Format>,
    /// Samples a second, where the kind has a choice; without it those of IN.
    #[arg(long, value_name = "HZ")]
    rate: Option<u32>,
    /// Which channel to take; without it all of them, mixed where the kind to write has one only.
    #[arg(long, value_enum)]
    channel: Option<Channel>,
    /// Who converts: `sidetone`, with codecs of its own, or `asterisk`, on its machine, by its Manager Interface (`[ami]`).
    #[arg(long, value_enum, default_value_t = By::Sidetone)]
    by: By,
    /// Files converted at a time; without it as many as there are processors.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Replace files that are there.
    #[arg(long, short)]
    force: bool,
    /// No progress bar, and no line a file.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Channel {
    /// The first: in recordings of Sidetone, the caller.
    Left,
    /// The second: the callee.
    Right,
    /// The mean of all.
    Mix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Sidetone,
    Asterisk,
}

fn target(name: &str) -> Result<Target, String> {
    Target::of_name(name).map_err(|error| error.to_string())
}

struct Job {
    input: PathBuf,
    output: PathBuf,
    target: Target,
}

pub(super) fn run(args: &ConvertArgs, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let asterisk = match args.by {
        By::Sidetone => None,
        By::Asterisk => Some(Asterisk::connect(args, &settings.load()?)?),
    };
    let jobs = if args.input.is_dir() { folder(args)? } else { vec![one(args)?] };
    let channels = match args.channel {
        None => Channels::Keep,
        Some(Channel::Left) => Channels::One(0),
        Some(Channel::Right) => Channels::One(1),
        Some(Channel::Mix) => Channels::Mix,
    };
    let at_once =
        args.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let bar = if args.quiet { ProgressBar::hidden() } else { progress_bar(&jobs) };
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut told = 0;
            let mut progress = |share: f64| {
                let now = (share * 1_000.0) as u64;
                bar.inc(now.saturating_sub(told));
                told = told.max(now);
            };
            let outcome = match &asterisk {
                None => convert_one(args, job, channels, &mut progress),
                Some(asterisk) => asterisk.convert(args, job),
            };
            progress(1.0);
            bar.suspend(|| tell(args, job, &outcome));
            failed.fetch_add(usize::from(outcome.is_err()), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..at_once.min(jobs.len()) {
            scope.spawn(work);
        }
        work();
    });
    bar.finish_and_clear();
    match failed.into_inner() {
        0 => Ok(ExitCode::SUCCESS),
        _ if jobs.len() == 1 => Ok(ExitCode::FAILURE),
        failed => {
            output::tell(format_args!("{failed} of {} files could not be converted", jobs.len()));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn keep_what_is_there(args: &ConvertArgs, job: &Job) -> anyhow::Result<()> {
    if job.output.exists() && !args.force {
        bail!("{} is there already: --force replaces it", job.output.display());
    }
    Ok(())
}

fn convert_one(
    args: &ConvertArgs,
    job: &Job,
    channels: Channels,
    progress: &mut dyn FnMut(f64),
) -> anyhow::Result<Converted> {
    keep_what_is_there(args, job)?;
    let mut source = AudioFile::open(&job.input, args.from, Limits::default())?;
    let conversion = Conversion { target: job.target, rate_hz: args.rate, channels };
    let mut go_on = |share| {
        progress(share);
        true
    };
    Ok(convert(&mut source, &job.output, conversion, &mut go_on)?)
}

fn tell(args: &ConvertArgs, job: &Job, outcome: &anyhow::Result<Converted>) {
    let name = job.input.display();
    match outcome {
        Err(error) => output::tell(format_args!("{name}: {}", super::in_words(error))),
        Ok(done) => {
            if done.flaws.cut_off {
                output::tell(format_args!(
                    "{name}: the file says that there is more audio than there is: what there is was converted"
                ));
            }
            if done.flaws.damaged > 0 {
                output::tell(format_args!(
                    "{name}: {} damaged pieces were left silent or out",
                    done.flaws.damaged
                ));
            }
            if !args.quiet {
                output::tell(format_args!("{name} → {} ({:.1} s)", job.output.display(), done.seconds));
            }
        }
    }
}

fn one(args: &ConvertArgs) -> anyhow::Result<Job> {
    let target = match args.to {
        Some(target) => target,
        None => Target::of_path(&args.output)?,
    };
    Ok(Job { input: args.input.clone(), output: args.output.clone(), target })
}

/// A job for each audio file below the folder, to the same place below the other. Of files that differ in their extension alone, which
/// are one message in several formats as Asterisk keeps them, the largest is converted: it is the least compressed.
fn folder(args: &ConvertArgs) -> anyhow::Result<Vec<Job>> {
    let target = args.to.context("a folder is converted to a kind: name it with --to, as in `--to wav`")?;
    let extension = target.extension();
    let mut of_outputs: BTreeMap<PathBuf, Vec<(u64, PathBuf)>> = BTreeMap::new();
    let mut folders = vec![args.input.clone()];
    while let Some(folder) = folders.pop() {
        let cannot = || format!("cannot read {}", folder.display());
        for entry in std::fs::read_dir(&folder).with_context(cannot)? {
            let path = entry.with_context(cannot)?.path();
            // Links are not followed: one may lead back up, and round for ever.
            let metadata = std::fs::symlink_metadata(&path).with_context(cannot)?;
            if metadata.is_dir() && path != args.output {
                folders.push(path);
            } else if metadata.is_file() && Format::of_name(&path).is_some() {
                let below = path.strip_prefix(&args.input).unwrap_or(&path);
                let output = args.output.join(below).with_extension(extension);
                of_outputs.entry(output).or_default().push((metadata.len(), path));
            }
        }
    }
    if of_outputs.is_empty() {
        bail!("there is no audio file in {}", args.input.display());
    }
    let job = |(output, mut inputs): (PathBuf, Vec<(u64, PathBuf)>)| {
        inputs.sort_by(|(size, path), (other, other_path)| other.cmp(size).then(path.cmp(other_path)));
        let mut inputs = inputs.into_iter().map(|(_, path)| path);
        let input = inputs.next()?;
        for other in inputs.filter(|_| !args.quiet) {
            let (other, input) = (other.display(), input.display());
            output::tell(format_args!("{other}: left out for {input}, the largest of that name"));
        }
        Some(Job { input, output, target })
    };
    Ok(of_outputs.into_iter().filter_map(job).collect())
}

fn progress_bar(jobs: &[Job]) -> ProgressBar {
    let bar = ProgressBar::new(1_000 * jobs.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {eta} left") {
        bar.set_style(style);
    }
    bar
}
