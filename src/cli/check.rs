//! `sidetone check`: is everything there that a call needs? Each finding names its remedy.

use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{SettingsArgs, output};
use crate::asterisk::ari::{
    self, AriClient, AriError, BridgeKind, ExternalMedia, HangupReason, SocketConfig,
};
use crate::config::{ConfigError, Settings};
use crate::recording::free_mib;
use crate::speech::{ModelChoice, english_only};

/// Asterisk modules without which no call is heard.
const MODULES: [&str; 5] =
    ["chan_rtp.so", "res_stasis_snoop.so", "app_stasis.so", "res_ari_channels.so", "res_ari_bridges.so"];
/// The tone is played for this long at most; half a second of packets is proof enough.
const LISTEN: Duration = Duration::from_secs(3);
const PACKETS_OF_PROOF: usize = 25;

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
    let loaded = settings.load();
    let bad_config = loaded.is_err();
    match loaded {
        Ok(settings) => {
            findings.add("configuration", Verdict::Good, "valid");
            super::runtime()?.block_on(look(&settings, &mut findings));
        }
        Err(
            error @ (ConfigError::Unreadable { .. }
            | ConfigError::Malformed { .. }
            | ConfigError::UnknownKey { .. }),
        ) => {
            findings.add("configuration", Verdict::Bad, error.to_string());
        }
        Err(error) => findings.add("configuration", Verdict::Bad, error.to_string()),
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

async fn look(settings: &Settings, findings: &mut Findings) {
    disk(settings, findings);
    model(settings, findings);
    findings.result("http port", free_tcp(settings.http.bind));
    asterisk(settings, findings).await;
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

fn model(settings: &Settings, findings: &mut Findings) {
    match ModelChoice::parse(&settings.speech.model).resolve(&settings.node.data) {
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

fn free_tcp(bind: SocketAddr) -> Result<String, String> {
    match std::net::TcpListener::bind(bind) {
        Ok(_) => Ok(format!("http.bind = {bind} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(format!("http.bind = {bind} is in use: by a running Sidetone, or choose another port"))
        }
        Err(error) => Err(format!("http.bind = {bind}: {error}")),
    }
}

async fn asterisk(settings: &Settings, findings: &mut Findings) {
    // An application of its own: the running Sidetone's stays untouched.
    let mut config = super::serve::ari_config(settings);
    config.app = format!("{}-check", settings.ari.app);
    let client = match AriClient::new(config) {
        Ok(client) => client,
        Err(error) => return findings.add("asterisk", Verdict::Bad, error.to_string()),
    };
    match client.asterisk_info().await {
        Ok(info) => {
            findings.add("asterisk", Verdict::Good, format!("{} at {}", info.version, settings.ari.url))
        }
        Err(error) => return findings.add("asterisk", Verdict::Bad, error.to_string()),
    }
    for module in MODULES {
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
    findings.result("media path", tone_arrives(settings, &client).await);
}

/// Have Asterisk play a tone to a port of ours, and count what comes.
async fn tone_arrives(settings: &Settings, client: &AriClient) -> Result<String, String> {
    // Sidetone itself may be running on the configured port: another one on the same address shows the same path.
    let socket = UdpSocket::bind((settings.rtp.bind.ip(), 0)).map_err(|e| format!("rtp.bind: {e}"))?;
    let port = socket.local_addr().map_err(|e| e.to_string())?.port();
    let host = SocketAddr::new(settings.rtp.advertise.unwrap_or(settings.rtp.bind.ip()), port);
    let events = ari::connect(client, SocketConfig::default());
    let id = format!("sidetone-check-{}", uuid::Uuid::now_v7().simple());
    let outcome = listen_to_tone(client, &id, host, socket).await;
    // Whatever was made goes, in this order; 404 counts as done.
    let gone = [client.hangup(&id, HangupReason::Normal).await, client.delete_bridge(&id).await];
    events.close().await;
    let packets = outcome.map_err(|e| e.to_string())?;
    if let Some(error) = gone.into_iter().find_map(Result::err) {
        return Err(format!("the check's own leg {id} could not be removed: {error}"));
    }
    if packets < PACKETS_OF_PROOF {
        return Err(format!(
            "Asterisk was told to send RTP to {host}, {packets} packets came: is rtp.advertise the address at which \
             Asterisk reaches this machine, does a firewall stand between?"
        ));
    }
    Ok(format!("a tone from Asterisk arrives at {host}"))
}

async fn listen_to_tone(
    client: &AriClient,
    id: &str,
    host: SocketAddr,
    socket: UdpSocket,
) -> Result<usize, AriError> {
    // The application exists once our event socket is open; Asterisk drops a leg that comes before.
    let opened = crate::clock::now();
    while client.application(&client.config().app).await?.is_none() && crate::clock::since(opened) < LISTEN {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.create_bridge(id, id, BridgeKind::Mixing).await?;
    let leg = ExternalMedia { channel_id: id, external_host: host, format: "ulaw", data: "check" };
    client.external_media(&leg).await?;
    let entering = crate::clock::now();
    loop {
        match client.add_channel(id, id).await {
            // Not in Stasis yet: its start is a matter of milliseconds.
            Err(AriError::NotInStasis { .. }) if crate::clock::since(entering) < LISTEN => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => break other?,
        }
    }
    client.play_on_bridge(id, "tone:dial", &format!("{id}-tone")).await?;
    let counted = tokio::task::spawn_blocking(move || count_packets(&socket));
    Ok(counted.await.unwrap_or(0))
}

fn count_packets(socket: &UdpSocket) -> usize {
    let begun = crate::clock::now();
    let mut packets = 0;
    let mut buffer = [0; 2_048];
    while packets < PACKETS_OF_PROOF && crate::clock::since(begun) < LISTEN {
        let left = LISTEN.saturating_sub(crate::clock::since(begun)).max(Duration::from_millis(1));
        if socket.set_read_timeout(Some(left)).is_err() {
            break;
        }
        packets += usize::from(socket.recv(&mut buffer).is_ok_and(|length| length >= 12));
    }
    packets
}
