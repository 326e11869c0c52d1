//! `sidetone serve`: puts the parts together and runs them.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub(super) mod jobs;
pub(super) mod redis;

use super::reload::Reloader;
use super::{SettingsArgs, limits, vitals};
use crate::api::{self, AppState, Auth, LivePolicy, LiveSpeech, TranscriptionPolicy, Transcriptions};
use crate::asterisk::ami::{AmiClient, AmiConfig, AmiTls};
use crate::asterisk::ari::{self, AriClient, AriConfig, AriError, SocketConfig};
use crate::asterisk::version::AsteriskVersion;
use crate::calls::archive::Archive;
use crate::calls::catch_up::CatchUp;
use crate::calls::detect::Detector;
use crate::calls::directory::CallDirectory;
use crate::calls::fitness::Unfit;
use crate::calls::hub::{EventHub, HubConfig};
use crate::calls::overload;
use crate::calls::server::{CallServer, Connection, End};
use crate::calls::services::Services;
use crate::calls::sessions::SessionStore;
use crate::calls::speech::{Expectations, vocabulary};
use crate::calls::transport::Transport;
use crate::config::Settings;
use crate::media::codec::Codec;
use crate::net::plane::{PlaneConfig, RtpPlane};
use crate::net::stream::Doors;
use crate::recording::{Recorder, RecorderConfig};
use crate::speech::ladder::Rung;
use crate::speech::{ModelFile, NoModel, SpeechConfig, SpeechEngine, model};
use crate::store::Store;
use crate::telemetry::log::LogLevel;
use crate::telemetry::metric;
use crate::telemetry::readiness::{Dependency, Health, ReadinessBoard};

/// Calls of the past that are kept in mind, those among them that the database does not have yet.
const RECENT_CALLS: usize = 1_000;

pub(super) fn run(source: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let settings = source.load()?;
    let level = crate::telemetry::log::init(&settings.log.level, &settings.log.format)?;
    super::runtime()?.block_on(serve(settings, source.clone(), level))
}

async fn serve(settings: Settings, source: SettingsArgs, level: LogLevel) -> anyhow::Result<ExitCode> {
    // First of all: until it is taken, this signal ends the process.
    let hangups = signal(SignalKind::hangup())?;
    let metrics = metric::install()?;
    let readiness =
        Arc::new(ReadinessBoard::expecting(["asterisk", "database", "disk", "media", "recording", "speech"]));
    let auth = Auth::from_keys(&settings.http.keys)?;
    api::check_bind(settings.http.bind, &auth)?;
    limits::raise_open_files();
    limits::survive_file_size_limit()?;
    let listener = api::bind(settings.http.bind).await?;
    let vosk_listener = match settings.vosk.bind {
        Some(bind) => Some(api::bind_vosk(bind).await?),
        None => None,
    };
    let _claim = claim(&settings.node.data)?;
    let services = Arc::new(start_parts(settings, &readiness).await?);
    vitals::watch(&services, &readiness);
    let server = Arc::new(CallServer::new(services.clone()));
    detect(&services, &server)?;
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;

    let store = Store::open(&services.settings.store.url, &services.settings.node.data).await?;
    let archive = Archive::new(services.directory.clone(), &store, &services.settings.node.name);
    let archive = Arc::new(archive);
    let filing = tokio::spawn(archive.clone().keep_filing(stop.clone()));
    let mut state =
        AppState::new(services.hub.clone(), archive, server.clone(), readiness.clone(), metrics, auth);
    state.model = services.speech.as_ref().map(|engine| engine.model().into()).unwrap_or_default();
    state.transcriptions = transcriptions(&services)?;
    let redis = redis::start(&services.settings, &readiness)?;
    let spoken_elsewhere = redis.as_ref().map(|redis| redis::speech(&services.settings, redis));
    state.synthesiser = super::say::start(&services.settings, spoken_elsewhere)?;
    state.live = live(&services);
    let jobs = jobs::start(&services, store, state.synthesiser.clone(), redis, &readiness)?;
    state.jobs = Some(jobs.clone());
    let reloader = Reloader { source, in_force: services.settings.clone(), level, auth: state.auth.clone() };
    tokio::spawn(reloader.run(hangups));
    let vosk =
        vosk_listener.map(|listener| tokio::spawn(api::serve_vosk(listener, state.clone(), stop.clone())));
    let http = tokio::spawn(api::serve(listener, state, stop.clone()));
    tracing::info!(address = %services.settings.http.bind, "HTTP and WebSocket");
    if let Some(address) = services.settings.vosk.bind {
        tracing::info!(%address, "vosk-server's protocol");
    }
    tell_connection(&server, readiness.clone());

    let end = run_calls(&services, &server, &readiness, &stop).await;
    stop.cancel();
    // Whatever the rings still hold belongs into the files before the legs' writers go.
    jobs.service.stop().await;
    let recorder = services.clone();
    tokio::task::spawn_blocking(move || {
        recorder.catch_up.stop();
        recorder.recorder.suspend();
    })
    .await?;
    http.await??;
    if let Some(vosk) = vosk {
        vosk.await??;
    }
    filing.await?;
    match end? {
        End::Stopped => {
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        End::Replaced => anyhow::bail!(
            "another client took the Stasis application `{}`: no call would be heard any more. Give each Sidetone an \
             application of its own (ari.app), then start again",
            services.settings.ari.app
        ),
    }
}

/// Have the Manager tell of calls before they come, where there is one.
fn detect(services: &Services, server: &CallServer) -> anyhow::Result<()> {
    let Some(config) = ami_config(&services.settings).filter(|_| services.settings.ami.detect) else {
        return Ok(());
    };
    let (client, notices) =
        AmiClient::connect(AmiConfig { events: crate::calls::detect::AMI_EVENTS.into(), ..config })?;
    let detector = Arc::new(Detector::new(services.hub.clone()));
    server.detect_by(detector.clone());
    tokio::spawn(async move {
        detector.run(notices).await;
        // The connection lasts as long as there is a client.
        drop(client);
    });
    Ok(())
}

async fn run_calls(
    services: &Arc<Services>,
    server: &CallServer,
    readiness: &ReadinessBoard,
    stop: &CancellationToken,
) -> anyhow::Result<End> {
    tokio::select! {
        free = wait_until_free(services, readiness) => free?,
        () = stop.cancelled() => return Ok(End::Stopped),
    }
    let settings = &services.settings.ari;
    let events = ari::connect(
        &services.ari,
        SocketConfig {
            ping_interval: Duration::from_millis(settings.ping_interval_ms),
            backoff_min: Duration::from_millis(settings.backoff_min_ms),
            backoff_max: Duration::from_millis(settings.backoff_max_ms),
            ..SocketConfig::default()
        },
    );
    Ok(server.run(events, stop.clone().cancelled_owned()).await)
}

/// An Asterisk that is not there yet is waited for; an application that is somebody else's, a wrong password, or an Asterisk
/// that cannot send what is configured (`media.transport`, `rtp.format`), is fatal.
async fn wait_until_free(services: &Services, readiness: &ReadinessBoard) -> anyhow::Result<()> {
    let settings = &services.settings.ari;
    let mut pause = Duration::from_millis(settings.backoff_min_ms);
    let mut told = false;
    loop {
        match look_at_asterisk(services).await {
            Ok(None) => return Ok(()),
            Ok(Some(unfit)) => return Err(unfit.into()),
            Err(
                error @ (AriError::AppTaken { .. } | AriError::Unauthorised { .. } | AriError::BadUrl { .. }),
            ) => {
                return Err(error.into());
            }
            Err(error) => {
                // One fact, one warning; `/ready` has the latest reason.
                match std::mem::replace(&mut told, true) {
                    false => tracing::warn!(%error, "waiting for Asterisk"),
                    true => tracing::debug!(%error, "still waiting for Asterisk"),
                }
                readiness.set("asterisk", Health::Failed, error.to_string());
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(settings.backoff_max_ms));
    }
}

/// What this Asterisk cannot do, once the application is free.
async fn look_at_asterisk(services: &Services) -> Result<Option<Unfit>, AriError> {
    let version = services.ari.asterisk_info().await?.version;
    let unfit = services.transport.unfit(&services.ari, &version, services.codec.name()).await?;
    if unfit.is_none() && !services.settings.ari.takeover {
        ari::ensure_app_is_free(&services.ari).await?;
    }
    Ok(unfit)
}

async fn start_parts(settings: Settings, readiness: &Arc<ReadinessBoard>) -> anyhow::Result<Services> {
    let data = settings.node.data.clone();
    let no_data = || no_folder(&data);
    let plane = RtpPlane::start(PlaneConfig {
        bind: settings.rtp.bind,
        shards: settings.rtp.shards,
        receive_buffer: settings.receive_buffer(),
        cpus: settings.rtp.cpus.parse()?,
    })?;
    let recorder = Recorder::start(RecorderConfig {
        writers: settings.recording.writers,
        checkpoint: Duration::from_millis(settings.recording.checkpoint_ms),
        repair_window: Duration::from_millis(settings.rtp.repair_ms),
        min_free_mib: settings.recording.min_free_mib,
    })?;
    let riva = super::riva::start(&settings, readiness)?;
    let (speech, known_speech) = start_speech(&settings, readiness, riva.is_some())?;
    let directory = Arc::new(CallDirectory::open(&data, RECENT_CALLS).with_context(no_data)?);
    let hub = Arc::new(EventHub::new(HubConfig::default(), Some(directory.clone()))?);
    if let (Some(engine), Some(known)) = (&speech, known_speech) {
        overload::tell(engine, hub.clone(), readiness.clone(), known);
    }
    let ari = AriClient::new(ari_config(&settings))?;
    let transport = Transport::of(&settings);
    let (format, setting) = transport.format(&settings);
    let codec = Codec::from_name(format).context(setting)?;
    let doors = Doors::open(transport.doors(&settings)).await?;
    let node = settings.node.name.parse().context("node.name")?;
    let sessions = SessionStore::open(&data).with_context(no_data)?;
    let catch_up =
        CatchUp::start(&data, hub.clone(), directory.clone(), speech.clone(), Expectations::of(&settings))
            .with_context(no_data)?;
    Ok(Services {
        node,
        codec,
        ari,
        transport,
        plane,
        doors,
        recorder,
        speech,
        riva,
        hub,
        directory,
        sessions,
        catch_up,
        settings,
    })
}

fn transcriptions(services: &Services) -> anyhow::Result<Option<Arc<Transcriptions>>> {
    let settings = &services.settings;
    // Files are for the model in this process.
    let is_there = |engine: &Arc<SpeechEngine>| engine.model() != NoModel::NAME;
    let Some(engine) = services.speech.clone().filter(is_there) else { return Ok(None) };
    let policy = TranscriptionPolicy {
        folder: settings.node.data.join("uploads"),
        most_bytes: settings.http.max_upload_mib << 20,
        most_duration: Duration::from_secs(settings.http.max_audio_minutes * 60),
        min_free_mib: settings.recording.min_free_mib,
        expected: Expectations::of(settings),
    };
    let opened = Transcriptions::open(engine, policy).with_context(|| no_folder(&settings.node.data))?;
    Ok(Some(Arc::new(opened)))
}

fn live(services: &Services) -> Option<Arc<LiveSpeech>> {
    let settings = &services.settings;
    let policy = LivePolicy::new(settings.http.max_live_channels, settings.speech.language.clone());
    services.speech.clone().map(|engine| Arc::new(LiveSpeech::new(engine, policy)))
}

fn no_folder(data: &Path) -> String {
    format!("cannot use node.data = {}: choose a folder this user may write to", data.display())
}

/// Make the data folder and take it for this process alone: two servers would mend, resume and remove each other's
/// recordings. The claim ends with the process, however that ends.
fn claim(data: &Path) -> anyhow::Result<File> {
    let made = std::fs::create_dir_all(data).and_then(|()| File::create(data.join(".lock")));
    let lock = made.with_context(|| no_folder(data))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            anyhow::bail!(
                "another Sidetone uses node.data = {}: give each a folder of its own",
                data.display()
            )
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| no_folder(data)),
    }
}

/// How to reach Asterisk, from the settings.
pub(super) fn ari_config(settings: &Settings) -> AriConfig {
    AriConfig {
        url: settings.ari.url.clone(),
        user: settings.ari.user.clone(),
        password: settings.ari.password.clone(),
        app: settings.ari.app.clone(),
        request_timeout: Duration::from_millis(settings.ari.request_timeout_ms),
        media_address: settings.rtp.asterisk_address,
    }
}

/// How to reach Asterisk's Manager Interface, from the settings; `None` where it is not used.
pub(super) fn ami_config(settings: &Settings) -> Option<AmiConfig> {
    let ami = &settings.ami;
    (!ami.user.is_empty()).then(|| AmiConfig {
        url: ami.url.clone(),
        user: ami.user.clone(),
        password: ami.password.clone(),
        tls: AmiTls { ca_file: ami.ca_file.clone() },
        request_timeout: Duration::from_millis(ami.request_timeout_ms),
        ..AmiConfig::default()
    })
}

/// The engine, and what `/ready` says of it while it has no more to do than it can. `has_riva`: there is another one besides.
fn start_speech(
    settings: &Settings,
    readiness: &ReadinessBoard,
    has_riva: bool,
) -> anyhow::Result<(Option<Arc<SpeechEngine>>, Option<Dependency>)> {
    let Some(model) = model::find(settings)? else {
        if has_riva {
            readiness.set("speech", Health::Ok, "no model in this process (speech.model): Riva alone");
            let config = SpeechConfig { workers: 1, ..speech_config(settings) };
            return Ok((Some(Arc::new(SpeechEngine::start(config, Arc::new(NoModel))?)), None));
        }
        readiness.set("speech", Health::Ok, "off (speech.model)");
        return Ok((None, None));
    };
    let engine = SpeechEngine::start(speech_config(settings), model.load()?)?;
    let known = known_model(&model);
    readiness.put("speech", known.clone());
    if let Some(warning) = engine.deaf_to(&settings.speech.language) {
        tracing::warn!(model = model.name, "{warning}");
    }
    tell_vocabularies(&engine, settings);
    Ok((Some(Arc::new(engine)), Some(known)))
}

/// Of long vocabularies the model takes the end.
fn tell_vocabularies(engine: &SpeechEngine, settings: &Settings) {
    let own = settings.speech.tenants.iter().filter_map(|(name, tenant)| {
        Some((format!("speech.tenants.{name}.vocabulary"), tenant.vocabulary.as_deref()?))
    });
    let all = std::iter::once(("speech.vocabulary".to_owned(), settings.speech.vocabulary.as_slice()));
    for (setting, words) in all.chain(own) {
        if let Some(cut) = engine.left_out_of(&vocabulary(words)) {
            tracing::warn!(
                setting,
                left_out = cut,
                "the vocabulary is longer than what the model takes: its end is used"
            );
        }
    }
}

fn known_model(model: &ModelFile) -> Dependency {
    let known = Dependency::new(Health::Ok, "transcribing")
        .with("model", model.name.clone())
        .with("rung", Rung::Calm.number());
    match model.warning() {
        Some(warning) => {
            tracing::warn!(model = model.name, "{warning}");
            known.warn(warning)
        }
        None => known,
    }
}

/// How to recognise, from the settings.
pub(super) fn speech_config(settings: &Settings) -> SpeechConfig {
    SpeechConfig {
        workers: settings.speech.workers,
        partial_step: Duration::from_millis(settings.speech.partial_ms),
        hangover: Duration::from_millis(settings.speech.hangover_ms),
        max_utterance: Duration::from_millis(settings.speech.max_utterance_ms),
        max_lag: Duration::from_millis(settings.speech.max_lag_ms),
        refuse_calls: settings.speech.refuse_calls,
        carry_text: settings.speech.carry_text,
        ..SpeechConfig::default()
    }
}

fn tell_connection(server: &CallServer, readiness: Arc<ReadinessBoard>) {
    let mut connection = server.connection();
    tokio::spawn(async move {
        let mut warned_of = None;
        loop {
            match &*connection.borrow_and_update() {
                Connection::Up(version) => {
                    let is_news = warned_of.replace(version.clone()).as_ref() != Some(version);
                    readiness.put("asterisk", known_asterisk(version, is_news));
                }
                Connection::Unfit(reason) | Connection::Down(reason) => {
                    readiness.set("asterisk", Health::Failed, reason.clone());
                }
            }
            if connection.changed().await.is_err() {
                return;
            }
        }
    });
}

fn known_asterisk(version: &AsteriskVersion, is_news: bool) -> Dependency {
    let known = Dependency::new(Health::Ok, "connected").with("version", version.to_string());
    let faults = version.capabilities().known_bad;
    if is_news {
        for fault in &faults {
            tracing::warn!(%version, "this Asterisk: {fault}; a later release mends it");
        }
    }
    if faults.is_empty() { known } else { known.warn(faults.join("; ")) }
}

fn stop_on_signals(stop: CancellationToken) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    Ok(())
}
