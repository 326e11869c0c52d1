//! `sidetone jobs`: the jobs of a running server.

use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::client::{Client, ServerArgs};
use super::{SettingsArgs, output};
use crate::store::jobs::{JobKind, JobState};

#[derive(Debug, Args)]
pub(super) struct JobsArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The newest jobs, a line each.
    List {
        /// Only of this kind.
        #[arg(long, value_parser = kind())]
        kind: Option<JobKind>,
        /// Only in this state; the dead letters are those that `failed`.
        #[arg(long, value_parser = state())]
        state: Option<JobState>,
        /// As many at most.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
        limit: u16,
        /// As text, or JSON, a line a job.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// All that is known of one job, as JSON.
    Show {
        /// Its id.
        id: String,
    },
    /// Do jobs once more that failed or were cancelled.
    Retry {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Have jobs not done.
    Cancel {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn kind() -> impl TypedValueParser<Value = JobKind> {
    PossibleValuesParser::new(JobKind::ALL.iter().map(|kind| kind.name()))
        .try_map(|name| JobKind::of_name(&name).ok_or("there is no such kind"))
}

fn state() -> impl TypedValueParser<Value = JobState> {
    PossibleValuesParser::new(JobState::ALL.iter().map(|state| state.name()))
        .try_map(|name| JobState::of_name(&name).ok_or("there is no such state"))
}

pub(super) fn run(args: &JobsArgs, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let settings = settings.load()?;
    // First: it brings what TLS needs.
    let runtime = super::runtime()?;
    let client = Client::new(&args.server, &settings)?;
    runtime.block_on(async {
        match &args.what {
            What::List { kind, state, limit, format } => {
                let mut query = vec![("limit", limit.to_string())];
                query.extend(kind.map(|kind| ("kind", kind.name().to_owned())));
                query.extend(state.map(|state| ("state", state.name().to_owned())));
                let answer = client.get(&["api", "jobs"], &query).await?;
                for job in answer["jobs"].as_array().into_iter().flatten() {
                    match format {
                        Format::Json => output::line(job)?,
                        Format::Text => output::line(line(job))?,
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
            What::Show { id } => {
                let job = client.get(&["api", "jobs", id], &[]).await?;
                output::line(serde_json::to_string_pretty(&job)?)?;
                Ok(ExitCode::SUCCESS)
            }
            What::Retry { ids } => each(&client, ids, "retry").await,
            What::Cancel { ids } => each(&client, ids, "cancel").await,
        }
    })
}

/// The others are tried even if one cannot.
async fn each(client: &Client, ids: &[String], what: &str) -> anyhow::Result<ExitCode> {
    let mut failed = false;
    for id in ids {
        match client.post(&["api", "jobs", id, what], &json!(null)).await {
            Ok(job) => output::line(line(&job))?,
            Err(error) => {
                output::tell(super::in_words(&error));
                failed = true;
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// `2026-11-29 19:40:12  completed   conversion     id  what`.
fn line(job: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let created: String = text(&job["created_at"]).chars().take(19).collect();
    let what = match (&job["error"], job["kind"].as_str()) {
        (Value::String(error), _) => error.clone(),
        (_, Some("conversion")) => text(&job["request"]["output"]),
        (_, Some("tts-call")) => text(&job["request"]["phone_number"]),
        (_, _) => ["path", "url"].iter().map(|name| text(&job["request"][name])).collect(),
    };
    format!(
        "{}  {:<10}  {:<13}  {}  {what}",
        created.replace('T', " "),
        text(&job["status"]),
        text(&job["kind"]),
        text(&job["id"]),
    )
    .trim_end()
    .to_owned()
}
