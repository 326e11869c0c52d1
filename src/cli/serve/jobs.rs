//! The part of `sidetone serve` that does jobs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::{ami_config, redis};
use crate::api::{CallsApi, JobsApi};
use crate::asterisk::ami::{AmiClient, AmiConfig};
use crate::calls::services::Services;
use crate::config::Settings;
use crate::jobs::broker::{Rabbit, RabbitConfig, WorkQueue};
use crate::jobs::call::{AMI_EVENTS, Caller};
use crate::jobs::conversion::{By, ConversionPolicy, Conversions, DialplanPlace};
use crate::jobs::queue::{Embedded, Engine, Queue};
use crate::jobs::roots::Roots;
use crate::jobs::service::{Department, JobService};
use crate::jobs::transcription::{Fetcher, TranscriptionPolicy, Transcriptions, sweep};
use crate::jobs::tts::{self, TtsCalls};
use crate::jobs::worker::Retries;
use crate::speech::NoModel;
use crate::speech::synthesis::Synthesiser;
use crate::store::jobs::{JobKind, Priority};
use crate::store::redis::Redis;
use crate::store::{Dialect, Store};
use crate::telemetry::readiness::{Dependency, Health, ReadinessBoard};

/// `/ready` asks the database this often.
const LOOK: Duration = Duration::from_secs(5);
/// Attempts at a call, those included at which nobody was called: a plan of retries ends before.
const MOST_CALLS: u32 = 1_000;
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn start(
    services: &Arc<Services>,
    store: Store,
    synthesiser: Option<Arc<Synthesiser>>,
    redis: Option<Redis>,
    readiness: &Arc<ReadinessBoard>,
) -> anyhow::Result<Arc<JobsApi>> {
    let settings = &services.settings;
    let rabbit = rabbit(settings)?.map(Rabbit::new);
    let engine: Arc<dyn Engine> = match &rabbit {
        Some(rabbit) => rabbit.clone(),
        None => Arc::new(Embedded),
    };
    let queue = Queue::new(store.jobs(), engine, &settings.node.name);
    let mirror = redis.and_then(|redis| Some((redis::mirror(settings)?, redis)));
    if let Some((mirror, _)) = &mirror {
        queue.tell(mirror.clone());
    }
    let roots = Roots::new(settings.jobs.roots.iter().cloned());
    let most_bytes = settings.jobs.max_file_mib << 20;
    let most_duration = Duration::from_secs(settings.http.max_audio_minutes * 60);
    let conversions = ConversionPolicy { roots: roots.clone(), most_bytes, most_duration };
    let fetcher = Fetcher::new(&settings.transcriptions.fetch_from)?;
    let retries = Retries {
        attempts: settings.jobs.attempts,
        first_pause: Duration::from_millis(settings.jobs.retry_ms),
    };
    let mut departments = vec![Department {
        handler: Arc::new(Conversions::new(by(settings)?, conversions.clone())),
        workers: at_once(settings.conversions.workers),
        retries,
    }];
    let mut transcriptions = None;
    if let Some(engine) = services.speech.clone().filter(|engine| engine.model() != NoModel::NAME) {
        let data = std::path::absolute(&settings.node.data).context("node.data")?;
        let policy = TranscriptionPolicy { roots, most_bytes, most_duration, data };
        std::fs::create_dir_all(policy.uploads())
            .context("cannot make the folder of uploads in node.data")?;
        let handler =
            Transcriptions::new(engine, Arc::new(settings.clone()), policy.clone(), fetcher.clone());
        departments.push(Department {
            handler: Arc::new(handler),
            workers: at_once(settings.transcriptions.workers),
            retries,
        });
        transcriptions = Some(policy);
    }
    let mut calls = None;
    if let (Some(synthesiser), Some(caller)) = (synthesiser, caller(services)?) {
        let tenant = settings.calls.tenant.as_str().into();
        departments.push(Department {
            handler: Arc::new(TtsCalls::new(caller.clone(), synthesiser, tenant)),
            workers: settings.tts_calls.workers,
            // How often a call is tried, its cause decides (`tts_calls.retry`).
            retries: Retries { attempts: MOST_CALLS, ..retries },
        });
        calls = Some(CallsApi { caller, most_chars: settings.tts.max_chars });
    }
    let keep = (settings.jobs.keep_days > 0).then(|| DAY * settings.jobs.keep_days);
    watch(store, readiness.clone());
    let service = JobService::start(queue.clone(), departments, keep, reqwest::Client::new());
    if let Some(policy) = &transcriptions {
        let (queue, folder) = (queue.clone(), policy.uploads());
        service.beside(|stop| async move {
            tokio::select! {
                () = sweep(queue, folder) => {}
                () = stop.cancelled() => {}
            }
        });
    }
    if let Some(calls) = &calls {
        let (caller, queue, tenant) =
            (calls.caller.clone(), queue.clone(), settings.calls.tenant.as_str().into());
        service.beside(|stop| async move {
            tokio::select! {
                () = tts::sweep(caller, queue, tenant) => {}
                () = stop.cancelled() => {}
            }
        });
    }
    if let Some((mirror, redis)) = mirror {
        let jobs = queue.jobs().clone();
        service.beside(|stop| async move {
            tokio::select! {
                () = mirror.run(jobs, redis) => {}
                () = stop.cancelled() => {}
            }
        });
    }
    if let Some(rabbit) = rabbit {
        readiness.expect("broker", "not connected to RabbitMQ yet");
        let numbers = service.all_workers().map(|workers| (workers.kind(), workers.numbers())).collect();
        let readiness = readiness.clone();
        service.beside(|stop| rabbit.run(queue, numbers, readiness, stop));
    }
    Ok(Arc::new(JobsApi {
        service,
        conversions,
        transcriptions,
        calls,
        fetcher,
        tenant: settings.calls.tenant.as_str().into(),
        min_free_mib: settings.recording.min_free_mib,
        most_upload: settings.http.max_upload_mib << 20,
    }))
}

/// What places calls, where there is a Manager Interface to follow them by.
fn caller(services: &Services) -> anyhow::Result<Option<Caller>> {
    let Some(config) = ami_config(&services.settings) else { return Ok(None) };
    let (client, notices) = AmiClient::connect(AmiConfig { events: AMI_EVENTS.into(), ..config })?;
    let caller = Caller::new(&services.settings, client, notices, Some(services.ari.clone()));
    caller.map(Some).map_err(|wrong| anyhow::anyhow!(wrong.join("; ")))
}

/// The broker, where one is configured.
pub(in crate::cli) fn rabbit(settings: &Settings) -> anyhow::Result<Option<RabbitConfig>> {
    if settings.jobs.engine != "rabbitmq" {
        return Ok(None);
    }
    let own = &settings.rabbitmq;
    let ca = own.ca_file.as_ref().map(|path| {
        std::fs::read_to_string(path)
            .with_context(|| format!("cannot read rabbitmq.ca_file = {}", path.display()))
    });
    let work = |kind, priority, name: &str, results: &str| WorkQueue {
        kind,
        priority,
        name: name.to_owned(),
        results: (!results.is_empty()).then(|| results.to_owned()),
    };
    let (conversions, transcriptions) = (&settings.conversions, &settings.transcriptions);
    let calls = &settings.tts_calls;
    Ok(Some(RabbitConfig {
        url: own.url.clone(),
        ca: ca.transpose()?,
        tenant: own.tenant.as_str().into(),
        quorum: own.queue_type == "quorum",
        backoff: Duration::from_millis(own.backoff_ms),
        work: vec![
            work(JobKind::Conversion, Priority::Normal, &conversions.queue, &conversions.results),
            work(JobKind::TtsCall, Priority::Normal, &calls.queue, &calls.results),
            work(JobKind::TtsCall, Priority::High, &calls.priority_queue, &calls.results),
            work(JobKind::Transcription, Priority::Normal, &transcriptions.queue, &transcriptions.results),
        ],
    }))
}

fn by(settings: &Settings) -> anyhow::Result<By> {
    let conversions = &settings.conversions;
    let timeout = Duration::from_secs(conversions.timeout_s);
    let ami = |timeout| {
        let config = ami_config(settings).context("conversions.by needs ami.user")?;
        // A long file takes Asterisk longer than an answer usually does.
        let config = AmiConfig { request_timeout: config.request_timeout.max(timeout), ..config };
        let (client, notices) = AmiClient::connect(config)?;
        tokio::spawn(follow(notices));
        anyhow::Ok(client)
    };
    Ok(match conversions.by.as_str() {
        "asterisk" => By::Asterisk(ami(timeout)?),
        "dialplan" => By::Dialplan {
            ami: ami(Duration::ZERO)?,
            place: DialplanPlace {
                context: conversions.context.clone(),
                extension: conversions.extension.clone(),
            },
            timeout,
        },
        _ => By::Sidetone,
    })
}

/// Notices have to be taken; what they say is in the log.
async fn follow(mut notices: crate::asterisk::ami::AmiNotices) {
    while notices.next().await.is_some() {}
}

fn at_once(setting: usize) -> usize {
    match setting {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        number => number,
    }
}

fn watch(store: Store, readiness: Arc<ReadinessBoard>) {
    let kind = match store.dialect() {
        Dialect::Sqlite => "SQLite",
        Dialect::Postgres => "PostgreSQL",
    };
    if store.was_there() {
        readiness.put("database", Dependency::new(Health::Ok, kind));
    } else {
        readiness.set("database", Health::Degraded, "it was away at the start");
    }
    tokio::spawn(async move {
        loop {
            match store.ping().await {
                Ok(()) => readiness.put("database", Dependency::new(Health::Ok, kind)),
                Err(error) => readiness.set("database", Health::Degraded, error.to_string()),
            }
            tokio::time::sleep(LOOK).await;
        }
    });
}
