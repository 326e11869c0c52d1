//! `sidetone watch`: calls and their transcripts in the terminal, words appearing in place as they are said.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use futures_util::StreamExt;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::SettingsArgs;
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

    let mut screen = Screen::new(!args.finals_only);
    let mut ended = 0;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let event: Value = serde_json::from_str(&text).context("the server sent what is not JSON")?;
                    screen.show(&event)?;
                    ended += u64::from(event["type"] == "call.ended");
                    if args.calls.is_some_and(|n| ended >= n) {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                Some(Ok(Message::Close(_))) | None => anyhow::bail!("the server closed the connection"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("the connection to the server broke"),
            },
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// The lines being spoken now, at the bottom of the terminal; finished ones scroll up above them.
struct Screen {
    partials: bool,
    colours: bool,
    open: Vec<OpenLine>,
    drawn: usize,
    /// Short numbers for calls, since ids are long.
    calls: HashMap<String, usize>,
}

struct OpenLine {
    key: (String, String),
    text: String,
}

impl Screen {
    fn new(partials: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self {
            partials: partials && terminal,
            colours: terminal && std::env::var_os("NO_COLOR").is_none(),
            open: Vec::new(),
            drawn: 0,
            calls: HashMap::new(),
        }
    }

    fn show(&mut self, event: &Value) -> std::io::Result<()> {
        let call = event["call_id"].as_str().unwrap_or_default().to_owned();
        let leg = event["leg"].as_str().unwrap_or_default().to_owned();
        let next = self.calls.len() + 1;
        let number = *self.calls.entry(call.clone()).or_insert(next);
        let key = (call, leg);
        match event["type"].as_str().unwrap_or_default() {
            "transcript.partial" if self.partials => {
                let text = self.spoken(number, event, true);
                match self.open.iter_mut().find(|line| line.key == key) {
                    Some(line) => line.text = text,
                    None => self.open.push(OpenLine { key, text }),
                }
                self.redraw(None)
            }
            "transcript.partial" => Ok(()),
            "transcript.final" => {
                self.open.retain(|line| line.key != key);
                let text = self.spoken(number, event, false);
                if event["text"].as_str().is_none_or(str::is_empty) {
                    return self.redraw(None);
                }
                self.redraw(Some(text))
            }
            kind => {
                if kind == "call.ended" {
                    self.open.retain(|line| line.key.0 != key.0);
                }
                let note = self.paint("2", &format!("call {number}  {kind}{}", detail(event)));
                self.redraw(Some(note))
            }
        }
    }

    fn spoken(&self, number: usize, event: &Value, partial: bool) -> String {
        let leg = event["leg"].as_str().unwrap_or_default();
        let colour = if leg == "caller" { "36" } else { "33" };
        let at = event["start"].as_f64().unwrap_or_default();
        let text = if partial {
            self.partial_text(event)
        } else {
            event["text"].as_str().unwrap_or_default().to_owned()
        };
        format!("call {number} {at:7.2} s  {} {text}", self.paint(colour, &format!("{leg:>6}:")))
    }

    /// Stable words as they are, the rest dimmed: they may still change.
    fn partial_text(&self, event: &Value) -> String {
        let Some(words) = event["words"].as_array() else {
            return event["text"].as_str().unwrap_or_default().to_owned();
        };
        let painted = words.iter().map(|word| {
            let text = word["text"].as_str().unwrap_or_default();
            if word["stable"] == true { text.to_owned() } else { self.paint("2", text) }
        });
        painted.collect::<Vec<_>>().join(" ") + " …"
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn redraw(&mut self, finished: Option<String>) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.drawn > 0 {
            // Up over the open lines, then clear to the end of the screen.
            write!(out, "\x1b[{}F\x1b[J", self.drawn)?;
        }
        if let Some(line) = finished {
            writeln!(out, "{line}")?;
        }
        for line in &self.open {
            writeln!(out, "{}", line.text)?;
        }
        self.drawn = self.open.len();
        out.flush()
    }
}

fn detail(event: &Value) -> String {
    let shown = ["caller", "number", "leg", "outcome", "reason", "path", "digit", "duration_s", "error"];
    shown
        .iter()
        .filter_map(|key| match &event[*key] {
            Value::Null => None,
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(format!("  {key} {text}")),
            other => Some(format!("  {key} {other}")),
        })
        .collect()
}
