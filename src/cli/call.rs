//! `sidetone call`: a text spoken to a telephone by a running server, followed to its end.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Map, Value};

use super::client::{Client, ServerArgs};
use super::{SettingsArgs, output};

/// The server is asked how far the call is this often.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct CallArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// What to say.
    text: String,
    /// Whom to call.
    #[arg(long, value_name = "NUMBER")]
    to: String,
    /// Language of the text; without it the one of `tts.language`.
    #[arg(long, value_name = "CODE")]
    language: Option<String>,
    /// The engine's voice.
    #[arg(long)]
    voice: Option<String>,
    /// Before calls of usual priority.
    #[arg(long)]
    urgent: bool,
    /// Print the job's id and do not wait.
    #[arg(long)]
    no_wait: bool,
}

pub(super) fn run(args: &CallArgs, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let settings = settings.load()?;
    // First: it brings what TLS needs.
    let runtime = super::runtime()?;
    let client = Client::new(&args.server, &settings)?;
    let mut body = Map::new();
    body.insert("text".into(), args.text.as_str().into());
    body.insert("phone_number".into(), args.to.as_str().into());
    body.insert("priority".into(), if args.urgent { "high" } else { "normal" }.into());
    for (name, value) in [("language", &args.language), ("voice", &args.voice)] {
        if let Some(value) = value {
            body.insert(name.into(), value.as_str().into());
        }
    }
    runtime.block_on(async {
        let answer = client.post(&["tts", "call"], &Value::Object(body)).await?;
        let id = answer["id"].as_str().context("the server gave no id")?.to_owned();
        if args.no_wait {
            output::line(&id)?;
            return Ok(ExitCode::SUCCESS);
        }
        output::tell(format_args!("job {id}; `sidetone jobs cancel {id}` hangs up"));
        follow(&client, &id).await
    })
}

async fn follow(client: &Client, id: &str) -> anyhow::Result<ExitCode> {
    let mut last = String::new();
    loop {
        let job = client.get(&["tts", "status", id], &[]).await?;
        let text = |name: &str| job[name].as_str().unwrap_or_default();
        let status = match (text("status"), job["progress"].as_f64()) {
            ("queued", _) if !text("not_before").is_empty() => {
                format!("waits until {} ({})", text("not_before"), text("error"))
            }
            ("processing", Some(share)) if share >= 0.7 => "speaking".into(),
            ("processing", Some(share)) if share >= 0.5 => "answered".into(),
            ("processing", Some(share)) if share >= 0.3 => "ringing".into(),
            ("processing", Some(share)) if share > 0.0 => "dialling".into(),
            (status, _) => status.to_owned(),
        };
        match text("status") {
            "completed" => {
                output::line(outcome(&job["result"]))?;
                return Ok(ExitCode::SUCCESS);
            }
            "failed" => {
                output::line(format_args!("failed: {}", text("error")))?;
                return Ok(ExitCode::FAILURE);
            }
            "cancelled" => bail!("cancelled"),
            _ if status != last => output::tell(&status),
            _ => {}
        }
        last = status;
        tokio::time::sleep(LOOK).await;
    }
}

fn outcome(result: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().replace('_', " ");
    let played = &result["playback"];
    match played["seconds"].as_f64() {
        Some(seconds) => format!(
            "{}, played {} ({seconds:.1} s), ended by {}",
            text(&result["outcome"]),
            text(&played["played"]),
            text(&result["ended_by"])
        ),
        None => text(&result["outcome"]),
    }
}
