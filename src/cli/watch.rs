//! `sidetone watch`: calls and their transcripts in the terminal, words appearing in place as they are said.

mod note;
mod screen;

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use futures_util::StreamExt;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use screen::Screen;

use super::{SettingsArgs, output};
use crate::config::Settings;

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Only this call.
    #[arg(long, value_name = "CALL_ID")]
    call: Option<String>,
    /// Address of the server; without it, the one in the settings.
    #[arg(long, value_name = "ws://HOST:PORT")]
    url: Option<String>,
    /// API key, where the server asks for one.
    #[arg(long, env = "SIDETONE_KEY", hide_env_values = true)]
    key: Option<String>,
    /// End once this many calls have ended.
    #[arg(long, value_name = "N")]
    calls: Option<u64>,
    /// Print no partials, only finished lines.
    #[arg(long)]
    finals_only: bool,
}

pub(super) fn run(args: &WatchArgs, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let settings = settings.load()?;
    super::runtime()?.block_on(follow(args, &settings))
}

async fn follow(args: &WatchArgs, settings: &Settings) -> anyhow::Result<ExitCode> {
    let base = args.url.clone().unwrap_or_else(|| format!("ws://{}", settings.http.bind));
    let path = match &args.call {
        Some(call) => format!("/ws/calls/{call}/events"),
        None => "/ws/events".to_owned(),
    };
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let mut request = url.as_str().into_client_request().with_context(|| format!("not a URL: {url}"))?;
    if let Some(key) = &args.key {
        request.headers_mut().insert("Authorization", format!("Bearer {key}").parse()?);
    }
    let (mut socket, _) = tokio_tungstenite::connect_async(request)
        .await
        .with_context(|| format!("cannot follow {url}: is `sidetone serve` running there?"))?;

    let terminal = console::Term::stdout();
    let mut screen = Screen::for_terminal(&terminal, !args.finals_only);
    let mut ended = 0;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let event: Value = serde_json::from_str(&text).context("the server sent what is not JSON")?;
                    let drawn = screen.show(&event, terminal.size_checked());
                    output::text(&drawn)?;
                    ended += u64::from(event["type"] == "call.ended");
                    if args.calls.is_some_and(|n| ended >= n) {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                // The one call that was followed is over.
                Some(Ok(Message::Close(Some(frame)))) if frame.code == CloseCode::Normal => return Ok(ExitCode::SUCCESS),
                Some(Ok(Message::Close(_))) | None => anyhow::bail!("the server closed the connection"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("the connection to the server broke"),
            },
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
    }
}
