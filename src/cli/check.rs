//! `sidetone check`: is everything there that a call needs? Each finding names its remedy.

mod ports;
mod services;
mod tone;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{SettingsArgs, in_words, output};
use crate::api::{Auth, check_bind};
use crate::asterisk::ami::{AmiClient, AmiNotice};
use crate::asterisk::ari::AriClient;
use crate::calls::transport::Transport;
use crate::config::Settings;
use crate::recording::free_mib;
use crate::speech::{english_only, model};

/// Asterisk modules without which no call is heard.
const MODULES: [&str; 4] =
    ["res_stasis_snoop.so", "app_stasis.so", "res_ari_channels.so", "res_ari_bridges.so"];

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The findings as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    Warning,
    Bad,
}

#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    message: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, what: &'static str, verdict: Verdict, message: impl Into<String>) {
        self.0.push(Finding { what, verdict, message: message.into() });
    }

    fn result(&mut self, what: &'static str, outcome: Result<String, String>) {
        match outcome {
            Ok(message) => self.add(what, Verdict::Good, message),
            Err(message) => self.add(what, Verdict::Bad, message),
        }
    }
}

pub(super) fn run(args: &CheckArgs, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let mut findings = Findings::default();
    let loaded = load(settings);
    let bad_config = loaded.is_err();
    match loaded {
        Ok(settings) => {
            findings.add("configuration", Verdict::Good, "valid");
            super::runtime()?.block_on(look(&settings, &mut findings));
        }
        Err(error) => findings.add("configuration", Verdict::Bad, in_words(&error)),
    }
    let bad = findings.0.iter().any(|f| f.verdict == Verdict::Bad);
    if args.json {
        let all = serde_json::json!({ "good": !bad, "findings": findings.0 });
        output::line(serde_json::to_string_pretty(&all)?)?;
    } else {
        for finding in &findings.0 {
            let mark = match finding.verdict {
                Verdict::Good => "good   ",
                Verdict::Warning => "warning",
                Verdict::Bad => "BAD    ",
            };
            output::line(format_args!("{mark}  {:<14} {}", finding.what, finding.message))?;
        }
    }
    Ok(match (bad_config, bad) {
        (true, _) => ExitCode::from(super::EXIT_CONFIG),
        (_, true) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// The settings, with what `serve` would refuse of them besides.
fn load(settings: &SettingsArgs) -> anyhow::Result<Settings> {
    let settings = settings.load()?;
    check_bind(settings.http.bind, &Auth::from_keys(&settings.http.keys)?)?;
    Ok(settings)
}

async fn look(settings: &Settings, findings: &mut Findings) {
    disk(settings, findings);
    speech_model(settings, findings);
    if let Some(outcome) = super::riva::look(settings).await {
        findings.result("riva", outcome);
    }
    ports::look(settings, findings).await;
    asterisk(settings, findings).await;
    manager(settings, findings).await;
    services::look(settings, findings).await;
    voice(settings, findings).await;
}

fn disk(settings: &Settings, findings: &mut Findings) {
    let data = &settings.node.data;
    let probe = data.join(".sidetone-check");
    let written = std::fs::create_dir_all(data)
        .and_then(|()| std::fs::write(&probe, b"x"))
        .and_then(|()| std::fs::remove_file(&probe));
    if let Err(error) = written {
        let remedy = "let this user write there, or set node.data to another folder";
        findings.add("data folder", Verdict::Bad, format!("{}: {error}; {remedy}", data.display()));
        return;
    }
    match free_mib(data) {
        Ok(free) if free < settings.recording.min_free_mib => findings.add(
            "data folder",
            Verdict::Bad,
            format!(
                "{}: {free} MiB free, recording.min_free_mib asks for {}",
                data.display(),
                settings.recording.min_free_mib
            ),
        ),
        Ok(free) => {
            // Two legs of 16-bit samples at 8 kHz: 32 kB a second.
            let hours = free * 1_048_576 / 32_000 / 3_600;
            findings.add(
                "data folder",
                Verdict::Good,
                format!("{}: {free} MiB free, {hours} hours of calls", data.display()),
            );
        }
        Err(_) => {
            findings.add("data folder", Verdict::Warning, format!("{}: free space unknown", data.display()))
        }
    }
}

fn speech_model(settings: &Settings, findings: &mut Findings) {
    match model::find(settings) {
        Ok(None) if !settings.riva.url.is_empty() => {
            findings.add("speech model", Verdict::Good, "off (speech.model): Riva alone transcribes")
        }
        Ok(None) => {
            findings.add("speech model", Verdict::Warning, "off (speech.model): calls are not transcribed")
        }
        Ok(Some(model)) => match (model.verify(), model.warning()) {
            (Err(error), _) => findings.add("speech model", Verdict::Bad, error.to_string()),
            (Ok(shape), _) if shape.is_english_only() && settings.speech.language != "en" => findings.add(
                "speech model",
                Verdict::Warning,
                english_only(&model.name, &settings.speech.language),
            ),
            (Ok(_), Some(warning)) => {
                findings.add("speech model", Verdict::Warning, format!("{}: {warning}", model.name))
            }
            (Ok(_), None) => findings.add("speech model", Verdict::Good, model.name),
        },
        Err(error) => findings.add("speech model", Verdict::Bad, error.to_string()),
    }
}

/// The Manager Interface, where it is used.
async fn manager(settings: &Settings, findings: &mut Findings) {
    let Some(config) = super::serve::ami_config(settings) else { return };
    let (client, mut notices) = match AmiClient::connect(config) {
        Ok(made) => made,
        Err(error) => return findings.add("manager", Verdict::Bad, error.to_string()),
    };
    match notices.next().await {
        Some(AmiNotice::Connected { version, .. }) => {
            findings.add("manager", Verdict::Good, format!("AMI {version} at {}", settings.ami.url));
        }
        Some(AmiNotice::Disconnected { reason }) => findings.add("manager", Verdict::Bad, reason.to_string()),
        Some(AmiNotice::Event(_)) | None => {}
    }
    drop(client);
    notices.closed().await;
}

/// Text to speech: whether the engine says a word. Calls go on without it.
async fn voice(settings: &Settings, findings: &mut Findings) {
    let speaker = |config| super::say::speaker(config, settings);
    let voice = match super::say::config(settings).map(speaker).transpose() {
        Ok(Some(voice)) => voice,
        Ok(None) => return findings.add("text to speech", Verdict::Good, "off (tts.engine)"),
        Err(error) => return findings.add("text to speech", Verdict::Warning, error.to_string()),
    };
    match voice.probe().await {
        Ok(()) => findings.add("text to speech", Verdict::Good, voice.engine()),
        Err(error) => findings.add("text to speech", Verdict::Warning, error.to_string()),
    }
}

async fn asterisk(settings: &Settings, findings: &mut Findings) {
    // An application of its own, of a new name each time: the running Sidetone's stays untouched, and one that an earlier check
    // left behind, known to Asterisk though nobody holds it, is not taken for ours before our event socket is open.
    let mut config = super::serve::ari_config(settings);
    config.app = format!("{}-check-{}", settings.ari.app, uuid::Uuid::now_v7().simple());
    let client = match AriClient::new(config) {
        Ok(client) => client,
        Err(error) => return findings.add("asterisk", Verdict::Bad, error.to_string()),
    };
    let version = match client.asterisk_info().await {
        Ok(info) => info.version,
        Err(error) => return findings.add("asterisk", Verdict::Bad, error.to_string()),
    };
    findings.add("asterisk", Verdict::Good, format!("{version} at {}", settings.ari.url));
    for fault in version.capabilities().known_bad {
        findings.add("version", Verdict::Warning, format!("{fault}; a later release mends it"));
    }
    let transport = Transport::of(settings);
    for module in MODULES.iter().chain(transport.modules()) {
        match client.module(module).await {
            Ok(Some(found)) if found.is_running() => {}
            Ok(_) => findings.add(
                "module",
                Verdict::Bad,
                format!("{module} is not loaded in Asterisk: `module load {module}`, and see modules.conf"),
            ),
            Err(error) => findings.add("module", Verdict::Warning, format!("{module}: {error}")),
        }
    }
    let (format, setting) = transport.format(settings);
    match transport.unfit(&client, &version, format).await {
        Ok(None) if transport != Transport::Rtp => {
            findings.add(
                "media path",
                Verdict::Warning,
                format!("{format} over {}: not tried", settings.media.transport),
            );
        }
        Ok(None) => findings.result("media path", tone::arrives(settings, &client).await),
        Ok(Some(unfit)) => findings.add(setting, Verdict::Bad, unfit.to_string()),
        Err(error) => findings.add(setting, Verdict::Bad, error.to_string()),
    }
}
