//! The command line: one file a command.

mod bench;
mod call;
mod check;
mod client;
mod config;
mod convert;
mod jobs;
mod limits;
mod models;
mod output;
mod reload;
mod replay;
mod riva;
mod say;
mod serve;
mod transcribe;
mod vitals;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::api::{BindRefused, KeyError};
use crate::calls::fitness::Unfit;
use crate::config::{ConfigError, ENV_OURS, Settings, Sources};
use crate::telemetry::log::LogError;
use output::OutputError;

/// Exit codes: 0 good, 1 failed, 2 usage (clap's own), 64 bad configuration (`EX_USAGE` of sysexits.h).
const EXIT_CONFIG: u8 = 64;

/// A real-time media server beside Asterisk: hears, records and transcribes every call.
#[derive(Debug, Parser)]
#[command(name = "sidetone", version, about, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Args)]
struct SettingsArgs {
    /// Settings file; without it, config/sidetone.toml or /etc/sidetone/sidetone.toml if there is one.
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "SIDETONE_CONFIG",
        help_heading = "Settings"
    )]
    config: Option<PathBuf>,
    /// One setting, over file and environment; may be repeated.
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE", help_heading = "Settings")]
    set: Vec<String>,
}

impl SettingsArgs {
    fn load(&self) -> Result<Settings, ConfigError> {
        // Other programs' variables need be no text.
        let text = |(name, value): (OsString, OsString)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        };
        let environment =
            std::env::vars_os().map(text).filter(|(name, _)| name.starts_with(ENV_OURS)).collect();
        let settings = Sources { file: self.config.clone(), environment, flags: self.set.clone() }.load()?;
        crate::telemetry::log::check(&settings.log.level)
            .map_err(|error| ConfigError::Invalid(vec![error.to_string()]))?;
        Ok(settings)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run: hear the calls that Asterisk hands over, until stopped.
    Serve,
    /// Doctor: settings, disk, model, Asterisk, its modules, and a tone through the media path.
    Check(check::CheckArgs),
    /// Text of recordings.
    Transcribe(transcribe::TranscribeArgs),
    /// Audio files from one kind to another: gsm wav wav49 ulaw alaw g722 sln … sln192 opus.
    Convert(convert::ConvertArgs),
    /// A text to an audio file, spoken.
    Say(say::SayArgs),
    /// A text spoken to a telephone by a running server, followed to its end.
    Call(call::CallArgs),
    /// Jobs of a running server: list, show, retry, cancel.
    Jobs(jobs::JobsArgs),
    /// A capture through the same media path as live calls: recording, report, transcript.
    Replay(replay::ReplayArgs),
    /// Speech models: what there is, pull some, see whether they are whole.
    Models(models::ModelsArgs),
    /// Settings: all of them with their help, those in force, or those of another system taken over.
    Config(config::ConfigArgs),
    /// Size this machine: the streams that it carries without a loss, and what they cost.
    Bench(bench::BenchArgs),
    /// Follow calls and their transcripts in the terminal, live.
    Watch(watch::WatchArgs),
}

/// Parse the command line, run the command, say how it went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) if error.downcast_ref().is_some_and(OutputError::is_reader_gone) => ExitCode::SUCCESS,
        Err(error) => {
            output::tell(in_words(&error));
            ExitCode::from(if is_bad_config(&error) { EXIT_CONFIG } else { 1 })
        }
    }
}

/// Values of settings that only the part concerned can judge count like those that `config` refuses.
fn is_bad_config(error: &anyhow::Error) -> bool {
    error.chain().any(|e| {
        e.is::<ConfigError>()
            || e.is::<KeyError>()
            || e.is::<BindRefused>()
            || e.is::<LogError>()
            || e.is::<Unfit>()
    })
}

/// The error and its causes. Many errors name their cause where it reads best: it is not said again then.
fn in_words(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !words.contains(&cause) {
            let between = if words.is_empty() { "" } else { ": " };
            words = format!("{words}{between}{cause}");
        }
    }
    words
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Serve => serve::run(&cli.settings),
        Command::Check(args) => check::run(args, &cli.settings),
        Command::Transcribe(args) => transcribe::run(args, &cli.settings),
        Command::Convert(args) => convert::run(args, &cli.settings),
        Command::Say(args) => say::run(args, &cli.settings),
        Command::Call(args) => call::run(args, &cli.settings),
        Command::Jobs(args) => jobs::run(args, &cli.settings),
        Command::Replay(args) => replay::run(args, &cli.settings),
        Command::Models(args) => models::run(args, &cli.settings),
        Command::Config(args) => config::run(args, &cli.settings),
        Command::Bench(args) => bench::run(args, &cli.settings),
        Command::Watch(args) => watch::run(args, &cli.settings),
    }
}

/// For commands whose user waits for their result: of the log only what went wrong, unless the settings ask for more.
fn init_quiet_log(settings: &Settings) -> Result<(), LogError> {
    let level = if settings.log.level == "info" { "warn" } else { &settings.log.level };
    crate::telemetry::log::init(level, &settings.log.format).map(drop)
}

/// The runtime for control work (media and speech have threads of their own).
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    // Only the first call installs; whoever installed one before us did just the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?)
}
