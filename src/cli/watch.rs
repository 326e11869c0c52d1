//! `sidetone watch`: calls and their transcripts in the terminal, words appearing in place as they are said.

mod link;
mod note;
mod screen;

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use console::Term;
use futures_util::StreamExt;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use link::{Link, LinkError, Socket};
use screen::Screen;

use super::client::ServerArgs;
use super::output::OutputError;
use super::{SettingsArgs, output};
use crate::config::Settings;

/// First pause before another attempt to connect; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Only this call.
    #[arg(long, value_name = "CALL_ID")]
    call: Option<String>,
    /// End once this many calls have ended.
    #[arg(long, value_name = "N")]
    calls: Option<u64>,
    /// Print no partials, only finished lines.
    #[arg(long)]
    finals_only: bool,
}

pub(super) fn run(args: &WatchArgs, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let settings = settings.load()?;
    super::runtime()?.block_on(async {
        tokio::select! {
            ended = follow(args, &settings) => ended?,
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn follow(args: &WatchArgs, settings: &Settings) -> anyhow::Result<()> {
    let link = Link::new(&args.server.address(settings), args.call.as_deref(), args.server.key.as_deref())?;
    let terminal = Term::stdout();
    let screen = Screen::for_terminal(&terminal, !args.finals_only);
    let mut watch = Watch { link, terminal, screen, after: None, left: args.calls, pending: HashSet::new() };
    let mut socket = watch.link.open(None).await?;
    while let End::Lost(reason) = watch.show_all(&mut socket).await? {
        let drawn = watch.screen.interrupted(&reason, watch.terminal.size_checked());
        output::text(&drawn)?;
        socket = watch.open_again().await?;
    }
    Ok(())
}

/// Why a connection is over.
enum End {
    /// All that was asked for has been seen.
    Seen,
    /// It broke, or the server stops; the reason.
    Lost(String),
}

struct Watch {
    link: Link,
    terminal: Term,
    screen: Screen,
    /// Cursor of the last event.
    after: Option<u64>,
    /// Calls whose end is waited for still.
    left: Option<u64>,
    /// Calls that have ended, and whose transcripts are caught up.
    pending: HashSet<String>,
}

impl Watch {
    async fn show_all(&mut self, socket: &mut Socket) -> anyhow::Result<End> {
        while self.left != Some(0) {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let event = serde_json::from_str(&text).context("the server sent what is not JSON")?;
                    self.show(&event).await?;
                }
                // The one call that was followed is over.
                Some(Ok(Message::Close(Some(frame)))) if frame.code == CloseCode::Normal => break,
                Some(Ok(Message::Close(Some(frame)))) if !frame.reason.is_empty() => {
                    return Ok(End::Lost(frame.reason.to_string()));
                }
                Some(Ok(Message::Close(_))) | None => {
                    return Ok(End::Lost("the server closed the connection".into()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Ok(End::Lost(format!("the connection broke: {error}"))),
            }
        }
        Ok(End::Seen)
    }

    async fn show(&mut self, event: &Value) -> Result<(), OutputError> {
        if let Some(id) = self.screen.newcomer(event) {
            let record = self.link.record(id).await.unwrap_or_default();
            output::text(&self.screen.joined(id, &record, self.terminal.size_checked()))?;
        }
        output::text(&self.screen.show(event, self.terminal.size_checked()))?;
        self.after = event[self.link.cursor()].as_u64().or(self.after);
        if self.is_last(event) {
            self.left = self.left.map(|left| left.saturating_sub(1));
        }
        Ok(())
    }

    /// Whether nothing follows of the call: its transcript may still be caught up after its end.
    fn is_last(&mut self, event: &Value) -> bool {
        let call = event["call_id"].as_str().unwrap_or_default();
        match event["type"].as_str() {
            Some("call.ended") if event["transcript"] == "pending" => {
                self.pending.insert(call.to_owned());
                false
            }
            Some("call.ended") => true,
            Some("transcript.saved") => self.pending.remove(call),
            _ => false,
        }
    }

    /// Connect as soon as it can be done, unless the server refuses.
    async fn open_again(&self) -> Result<Socket, LinkError> {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            match self.link.open(self.after).await {
                Err(LinkError::Away { .. }) => pause = (pause * 2).min(LONGEST_PAUSE),
                opened_or_refused => return opened_or_refused,
            }
        }
    }
}
