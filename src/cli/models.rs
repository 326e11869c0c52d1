//! `sidetone models`: what there is, pull some, see whether they are whole.

mod list;
mod pull;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{SettingsArgs, output};
use crate::speech::models::{Shelf, is_name, verify};

#[derive(Debug, Args)]
pub(super) struct ModelsArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// All models of the catalogue and all that are here: size, languages, memory, speed, errors, and which one is in use.
    List(list::ListArgs),
    /// Pull models: goes on where it stopped, checks what came, and only then gives it its name.
    Pull(pull::PullArgs),
    /// Read models through: structure, every weight, checksum. Exit code 1 if one is bad.
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Models, `base.en` say; without any, all that are here.
    #[arg(value_name = "NAME", value_parser = name)]
    names: Vec<String>,
    /// The findings as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ModelsArgs, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let settings = settings.load()?;
    super::init_quiet_log(&settings)?;
    match &args.what {
        What::List(args) => list::run(args, &settings),
        What::Pull(args) => pull::run(args, &settings),
        What::Verify(args) => verify_all(args, &Shelf::of(&settings)),
    }
}

fn verify_all(args: &VerifyArgs, shelf: &Shelf) -> anyhow::Result<ExitCode> {
    let names = match args.names.as_slice() {
        [] => shelf.present().into_iter().map(|model| model.name).collect(),
        names => names.to_vec(),
    };
    if names.is_empty() && !args.json {
        output::line(format_args!(
            "no models in {}: `sidetone models pull base.en` gets one",
            shelf.folder.display()
        ))?;
    }
    let (mut findings, mut bad) = (Vec::new(), false);
    for name in &names {
        let (good, proof, message) = match shelf.find(name) {
            None => (
                false,
                None,
                format!("is not in {}: `sidetone models pull {name}` gets it", shelf.folder.display()),
            ),
            Some(path) => match verify(name, &path) {
                Ok(proof) => (true, Some(proof), proof.words().to_owned()),
                Err(fault) => (
                    false,
                    None,
                    format!(
                        "{}: {fault}. `sidetone models pull {name}` gets it again; if the file is one of your own, rename it",
                        path.display()
                    ),
                ),
            },
        };
        bad |= !good;
        if args.json {
            findings
                .push(serde_json::json!({ "name": name, "good": good, "proof": proof, "message": message }));
        } else {
            output::line(format_args!("{}  {name:<22} {message}", if good { "good" } else { "BAD " }))?;
        }
    }
    if args.json {
        output::line(serde_json::to_string_pretty(
            &serde_json::json!({ "good": !bad, "models": findings }),
        )?)?;
    }
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A model's name as people write it: also the name of its file.
fn name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix(".bin").unwrap_or(text);
    let name = name.strip_prefix("ggml-").unwrap_or(name);
    if is_name(name) {
        return Ok(name.to_owned());
    }
    Err("a model's name has letters, digits, `.`, `-` and `_`, as in `base.en-q5_1`".to_owned())
}

/// Megabytes, as file managers count them.
fn megabytes(bytes: u64) -> String {
    match bytes {
        ..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
