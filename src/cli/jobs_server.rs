//! The part of `sidetone serve` that does jobs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::serve::ami_config;
use crate::api::JobsApi;
use crate::asterisk::ami::{AmiClient, AmiConfig};
use crate::calls::services::Services;
use crate::config::Settings;
use crate::jobs::broker::{Rabbit, RabbitConfig, WorkQueue};
use crate::jobs::conversion::{By, ConversionPolicy, Conversions, DialplanPlace};
use crate::jobs::queue::{Embedded, Engine, Queue};
use crate::jobs::roots::Roots;
use crate::jobs::service::{Department, JobService};
use crate::jobs::transcription::{Fetcher, TranscriptionPolicy, Transcriptions};
use crate::jobs::worker::Retries;
use crate::speech::NoModel;
use crate::store::jobs::{JobKind, Priority};
use crate::store::{Dialect, Store};
use crate::telemetry::readiness::{Dependency, Health, ReadinessBoard};

/// `/ready` asks the database this often.
const LOOK: Duration = Duration::from_secs(5);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) async fn start(
    services: &Arc<Services>,
    readiness: &Arc<ReadinessBoard>,
) -> anyhow::Result<Arc<JobsApi>> {
    let settings = &services.settings;
    let store = Store::open(&settings.store.url, &settings.node.data).await?;
    let rabbit = rabbit(settings)?;
    let engine: Arc<dyn Engine> = match &rabbit {
        Some(rabbit) => rabbit.clone(),
        None => Arc::new(Embedded),
    };
    let queue = Queue::new(store.jobs(), engine, &settings.node.name);
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
    let keep = (settings.jobs.keep_days > 0).then(|| DAY * settings.jobs.keep_days);
    watch(store, readiness.clone());
    let service = JobService::start(queue.clone(), departments, keep, reqwest::Client::new()).await?;
    if let Some(rabbit) = rabbit {
        readiness.set("broker", Health::Degraded, "not connected to RabbitMQ yet");
        let numbers = service.all_workers().map(|workers| (workers.kind(), workers.numbers())).collect();
        let readiness = readiness.clone();
        service.beside(|stop| rabbit.run(queue, numbers, readiness, stop));
    }
    Ok(Arc::new(JobsApi {
        service,
        conversions,
        transcriptions,
        fetcher,
        tenant: settings.calls.tenant.as_str().into(),
        min_free_mib: settings.recording.min_free_mib,
        most_upload: settings.http.max_upload_mib << 20,
    }))
}

fn rabbit(settings: &Settings) -> anyhow::Result<Option<Arc<Rabbit>>> {
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
    Ok(Some(Rabbit::new(RabbitConfig {
        url: own.url.clone(),
        ca: ca.transpose()?,
        tenant: own.tenant.as_str().into(),
        quorum: own.queue_type == "quorum",
        backoff: Duration::from_millis(own.backoff_ms),
        work: vec![
            work(JobKind::Conversion, Priority::Normal, &conversions.queue, &conversions.results),
            work(JobKind::Transcription, Priority::Normal, &transcriptions.queue, &transcriptions.results),
        ],
    })))
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
