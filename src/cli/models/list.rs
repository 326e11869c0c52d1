//! `sidetone models list`.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::super::output;
use super::megabytes;
use crate::config::Settings;
use crate::speech::ModelChoice;
use crate::speech::ggml::Shape;
use crate::speech::models::catalogue::{Languages, entry_of};
use crate::speech::models::{CATALOGUE, Entry, Shelf, memory};

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only those that are here, whole or in part.
    #[arg(long)]
    here: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What is there of a model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// Nothing.
    Absent,
    /// Some of it: the next pull goes on from there.
    Partial,
    /// Something that is no such model.
    Damaged,
    /// All of it. That every byte is right is for `verify` to say.
    Here,
}

/// A line of the list. Of what the catalogue does not know, only what its file says.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// Length of the whole file; of a model that is not in the catalogue, of the file that is here.
    bytes: Option<u64>,
    sha256: Option<&'static str>,
    /// How many it knows.
    languages: Option<u32>,
    /// With a recogniser for each core, or for each of `speech.workers`.
    memory_bytes: Option<u64>,
    /// Relative to `large`.
    speed: Option<u32>,
    /// Per cent of LibriSpeech test-clean: the multilingual model of its size, not quantised.
    word_errors: Option<f64>,
    state: State,
    /// Bytes that are here.
    here_bytes: u64,
    /// Whether the settings take it.
    in_use: bool,
}

pub(super) fn run(args: &ListArgs, settings: &Settings) -> anyhow::Result<ExitCode> {
    let shelf = Shelf::of(settings);
    let used = used(settings, &shelf);
    let present = shelf.present();
    let mut rows: Vec<Row> = CATALOGUE.iter().map(|entry| known(entry, &shelf)).collect();
    rows.extend(present.iter().filter(|model| entry_of(&model.name).is_none()).map(|model| {
        let shape = model.layout().ok();
        let languages = shape.map(|shape| languages(&shape));
        Row {
            name: model.name.clone(),
            bytes: Some(model.bytes),
            sha256: None,
            languages,
            memory_bytes: shape.map(|shape| memory::needed(&shape, model.bytes, shelf.states)),
            speed: None,
            word_errors: None,
            state: if shape.is_some() { State::Here } else { State::Damaged },
            here_bytes: model.bytes,
            in_use: false,
        }
    }));
    for row in &mut rows {
        row.in_use = row.state == State::Here && used.as_ref() == Some(&row.name);
    }
    rows.retain(|row| !args.here || row.state != State::Absent);
    if args.json {
        let all = serde_json::json!({ "folder": shelf.folder, "models": rows });
        output::line(serde_json::to_string_pretty(&all)?)?;
    } else {
        output::text(&table(&rows, &shelf, settings, used.is_none()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The name of the pulled model that the settings take, if they take one.
fn used(settings: &Settings, shelf: &Shelf) -> Option<String> {
    match ModelChoice::parse(&settings.speech.model) {
        ModelChoice::Auto => shelf.choose().taken.map(|model| model.name),
        ModelChoice::Named(name) => Some(name),
        ModelChoice::Off | ModelChoice::Path(_) => None,
    }
}

fn known(entry: &Entry, shelf: &Shelf) -> Row {
    let whole = shelf.find(entry.name).and_then(|path| std::fs::metadata(path).ok()).map(|meta| meta.len());
    let (state, here_bytes) = match (whole, shelf.partial(entry.name)) {
        (Some(bytes), _) if bytes == entry.bytes => (State::Here, bytes),
        (_, Some(bytes)) if bytes > 0 => (State::Partial, bytes),
        (Some(bytes), _) => (State::Damaged, bytes),
        (None, _) => (State::Absent, 0),
    };
    let shape = entry.shape();
    Row {
        name: entry.name.to_owned(),
        bytes: Some(entry.bytes),
        sha256: Some(entry.sha256),
        languages: Some(match entry.languages {
            Languages::English => 1,
            Languages::Many => languages(&shape),
        }),
        memory_bytes: Some(memory::needed(&shape, entry.bytes, shelf.states)),
        speed: Some(entry.size.relative_speed()),
        word_errors: Some(entry.size.word_errors()),
        state,
        here_bytes,
        in_use: false,
    }
}

/// Each language has a token of its own behind the 51,765 that all models share, and multilingual ones have one token more.
fn languages(shape: &Shape) -> u32 {
    if shape.is_english_only() { 1 } else { shape.vocabulary - 51_766 }
}

fn table(rows: &[Row], shelf: &Shelf, settings: &Settings, built_in: bool) -> String {
    let mut text = format!(
        "{:<22} {:>8}  {:<13} {:>8} {:>6} {:>7}  here\n",
        "name", "size", "languages", "memory", "speed", "errors"
    );
    for row in rows {
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        let languages = row.languages.map(|n| if n == 1 { "English".into() } else { format!("{n}") });
        let line = format!(
            "{:<22} {:>8}  {:<13} {:>8} {:>6} {:>7}  {}",
            row.name,
            or_dash(row.bytes.map(megabytes)),
            or_dash(languages),
            or_dash(row.memory_bytes.map(megabytes)),
            or_dash(row.speed.map(|speed| format!("{speed}x"))),
            or_dash(row.word_errors.map(|errors| format!("{errors:.2} %"))),
            here(row)
        );
        text += line.trim_end();
        text.push('\n');
    }
    text += &format!(
        "\nIn {}. Memory: with {} recognisers (speech.workers, or one a core); `auto` takes no model that needs more than half of \
         what this machine has{}.\nSpeed: relative to large, on a GPU (OpenAI). Errors: words wrong in read English, of the \
         multilingual model of this size, not quantised (whisper.cpp #2454);\ntelephone calls have several times as many. \
         English-only models do better in English than the others of their size, tiny and base above all (OpenAI).\n",
        shelf.folder.display(),
        shelf.states,
        shelf.memory.map_or_else(String::new, |bytes| format!(" ({})", megabytes(bytes))),
    );
    if built_in && ModelChoice::parse(&settings.speech.model) == ModelChoice::Auto {
        text += "In use is the model in the binary, which is for the demo: `sidetone models pull base.en` gets a real one.\n";
    }
    text
}

fn here(row: &Row) -> String {
    match row.state {
        State::Absent => String::new(),
        State::Partial => {
            let share = row.here_bytes as f64 * 100.0 / row.bytes.unwrap_or(1).max(1) as f64;
            format!("{:.0} %: pull goes on from there", share.min(99.0).floor())
        }
        State::Damaged => "damaged: pull it again".into(),
        State::Here if row.in_use => "here, in use".into(),
        State::Here => "here".into(),
    }
}
