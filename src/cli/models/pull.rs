//! `sidetone models pull`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::super::{limits, output};
use super::{megabytes, name};
use crate::config::Settings;
use crate::speech::models::catalogue::{entry_of, nearest};
use crate::speech::models::{Pull, Pulled, Shelf, Source, Step};

/// Exit code of a command that SIGINT ended, as shells count it.
const INTERRUPTED: u8 = 130;

#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// Models, as `sidetone models list` has them; with --from also others that lie there as ggml-NAME.bin.
    #[arg(required = true, value_name = "NAME", value_parser = name)]
    names: Vec<String>,
    /// A URL or a folder that has them, in place of speech.models_url.
    #[arg(long, value_name = "URL|DIR")]
    from: Option<String>,
    /// No progress, neither as a bar nor as lines.
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(args: &PullArgs, settings: &Settings) -> anyhow::Result<ExitCode> {
    let shelf = Shelf::of(settings);
    let from = args.from.as_deref().unwrap_or(&settings.speech.models_url);
    let source = Source::parse(from)?;
    // At the usual place there is nothing else, and a name misspelt should not be looked for there.
    if from == Settings::default().speech.models_url
        && let Some(unknown) = args.names.iter().find(|name| entry_of(name).is_none())
    {
        let hint = nearest(unknown).map_or_else(String::new, |name| format!(": did you mean {name}?"));
        bail!(
            "there is no model {unknown}{hint} (`sidetone models list` has them all; others can be had --from a URL or a folder)"
        );
    }
    super::super::runtime()?.block_on(async {
        limits::survive_file_size_limit()?;
        tokio::select! {
            outcome = pull_all(args, settings, &shelf, &source) => outcome,
            _ = tokio::signal::ctrl_c() => {
                output::tell("stopped; what is there is kept, and the same command goes on from there");
                Ok(ExitCode::from(INTERRUPTED))
            }
        }
    })
}

async fn pull_all(
    args: &PullArgs,
    settings: &Settings,
    shelf: &Shelf,
    source: &Source,
) -> anyhow::Result<ExitCode> {
    for name in &args.names {
        let mut pull = Pull::new(name, shelf, source);
        pull.spare = settings.recording.min_free_mib << 20;
        let mut progress = Progress::new(name, args.quiet);
        let outcome = pull.run(&mut |step| progress.show(step)).await;
        progress.end();
        let path = shelf.path(name);
        match outcome? {
            Pulled::AlreadyHere(proof) => {
                output::line(format_args!("{name} is here already: {} {}", path.display(), proof.words()))?;
            }
            Pulled::Now(proof) => {
                output::line(format_args!("{name} is here: {} {}", path.display(), proof.words()))?;
            }
        }
    }
    output::line(what_is_used(settings, shelf))?;
    Ok(ExitCode::SUCCESS)
}

/// Pulling a model is one thing, using it another.
fn what_is_used(settings: &Settings, shelf: &Shelf) -> String {
    match settings.speech.model.as_str() {
        "auto" => {
            let choice = shelf.choose();
            let told: String = choice.passed_over.iter().map(|why| format!("{why}\n")).collect();
            match choice.taken {
                Some(model) => {
                    format!("{told}speech.model = \"auto\" takes {} from the next start on", model.name)
                }
                None => format!(
                    "{told}speech.model = \"auto\" takes the model in the binary, which is for the demo"
                ),
            }
        }
        other => {
            format!("speech.model = {other:?}: set it to a model's name, or to \"auto\", to use another one")
        }
    }
}

/// A bar where there is a terminal; else a line now and then.
struct Progress {
    name: String,
    bar: Option<ProgressBar>,
    quiet: bool,
    total: Option<u64>,
    /// Tenths that were told, or hundreds of megabytes where the total is unknown.
    told: Option<u64>,
}

impl Progress {
    fn new(name: &str, quiet: bool) -> Self {
        Self { name: name.to_owned(), bar: None, quiet, total: None, told: None }
    }

    fn show(&mut self, step: Step) {
        if self.quiet {
            return;
        }
        match step {
            Step::Begin { have, total } => self.begin(have, total),
            Step::At(bytes) => self.at(bytes),
            Step::Again { why, pause } => {
                self.say(&format!("{}: {why}; again in {:.0} s", self.name, pause.as_secs_f64()));
            }
            Step::Afresh(why) => self.say(&format!("{}: {why}", self.name)),
            Step::Checking => self.say(&format!("{}: all is here, checking it", self.name)),
        }
    }

    fn begin(&mut self, have: u64, total: Option<u64>) {
        self.end();
        self.total = total;
        let bar = ProgressBar::no_length();
        if !bar.is_hidden() {
            let template = match total {
                Some(_) => {
                    "{msg} {bar:30} {percent:>3} %  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left"
                }
                None => "{msg} {spinner} {bytes}  {bytes_per_sec}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(self.name.clone());
            bar.update(|state| {
                state.set_pos(have);
                if let Some(total) = total {
                    state.set_len(total);
                }
            });
            bar.reset_eta();
            self.bar = Some(bar);
        } else {
            let of = total.map_or_else(String::new, |total| format!(" of {}", megabytes(total)));
            let from =
                if have > 0 { format!("from {} on", megabytes(have)) } else { "from the start".into() };
            output::tell(format_args!("{}{of}, {from}", self.name));
            self.told = Some(self.mark(have));
        }
    }

    fn at(&mut self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
            return;
        }
        let mark = self.mark(bytes);
        if self.told.is_some_and(|told| mark > told) {
            self.told = Some(mark);
            match self.total {
                Some(_) => output::tell(format_args!("{}: {} %, {}", self.name, mark * 10, megabytes(bytes))),
                None => output::tell(format_args!("{}: {}", self.name, megabytes(bytes))),
            }
        }
    }

    fn mark(&self, bytes: u64) -> u64 {
        match self.total {
            Some(total) => bytes * 10 / total.max(1),
            None => bytes / 100_000_000,
        }
    }

    fn say(&mut self, words: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("sidetone: {words}")),
            None => output::tell(words),
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
