//! RabbitMQ as the engine that brings jobs here: messages are taken as workers have room, kept by the broker until what came of them is
//! written down, and answered by messages.
//!
//! A message becomes a row before anything is done about it, by its id; one that comes again (after a crash, a cut, or by a producer that
//! was not sure) finds its row and is acknowledged with it. What is to be published was written with what caused it (`store::jobs::outbox`)
//! and goes out, confirmed, once the broker is there. So neither side's end at any moment loses a job or does it twice.

mod intake;
mod outgoing;
mod session;
mod topology;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lapin::Acker;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::queue::{Engine, Queue};
use crate::crash::{self, Step};
use crate::store::jobs::{JobKey, JobKind, Priority};
use crate::telemetry::metric;
use crate::telemetry::readiness::{Health, ReadinessBoard};

/// Whoever only looks waits for so long.
const ANSWERS: Duration = Duration::from_secs(10);
/// Longest pause between attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A queue of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkQueue {
    /// What its messages are about.
    pub kind: JobKind,
    /// Who goes first.
    pub priority: Priority,
    /// Its name.
    pub name: String,
    /// Where results go that no message names a place for.
    pub results: Option<String>,
}

/// Which broker, and which queues.
#[derive(Clone)]
pub struct RabbitConfig {
    /// `amqp://…` or `amqps://…`.
    pub url: String,
    /// Certificates of whoever signed the broker's, PEM.
    pub ca: Option<String>,
    /// Whose the jobs of other producers are.
    pub tenant: Arc<str>,
    /// Whether queues that are not there become quorum queues.
    pub quorum: bool,
    /// First pause between attempts to connect.
    pub backoff: Duration,
    /// Queues of work.
    pub work: Vec<WorkQueue>,
}

impl std::fmt::Debug for RabbitConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL holds a password.
        f.debug_struct("RabbitConfig").field("work", &self.work).finish_non_exhaustive()
    }
}

/// Why a broker is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It says so, or nobody listens there.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It does not answer.
    #[error("RabbitMQ does not answer within {} s (rabbitmq.url)", ANSWERS.as_secs())]
    Slow,
}

/// What a broker, or the way to it, has against a connection.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Refused(session::SessionError);

/// Connect once, and see whether it may be used. Queues are left as they are: a server declares them when it starts.
///
/// # Errors
/// [`Unusable`].
pub async fn look(config: &RabbitConfig) -> Result<(), Unusable> {
    match tokio::time::timeout(ANSWERS, session::look(config)).await {
        Ok(seen) => Ok(seen.map_err(Refused)?),
        Err(_) => Err(Unusable::Slow),
    }
}

/// The engine.
#[derive(Debug)]
pub struct Rabbit {
    config: RabbitConfig,
    /// What is to be told to the broker once a job is over: of each message that brought it here.
    receipts: Mutex<HashMap<JobKey, Vec<Acker>>>,
    letters: Notify,
}

impl Rabbit {
    /// Not connected yet.
    pub fn new(config: RabbitConfig) -> Arc<Self> {
        Arc::new(Self { config, receipts: Mutex::default(), letters: Notify::new() })
    }

    /// Be connected, again and again, until `stop` is cancelled. `workers` says how many there are of each kind.
    pub async fn run(
        self: Arc<Self>,
        queue: Queue,
        workers: HashMap<JobKind, watch::Receiver<usize>>,
        readiness: Arc<ReadinessBoard>,
        stop: CancellationToken,
    ) {
        let (mut pause, mut told, mut first) = (self.config.backoff, false, true);
        loop {
            let mut connected = || {
                readiness.set("broker", Health::Ok, "RabbitMQ");
                if !std::mem::replace(&mut first, false) {
                    metric::BROKER_RECONNECTS.add(1);
                }
                tracing::info!("connected to RabbitMQ");
            };
            let (outcome, was_connected) = {
                let mut was = false;
                let mut tell = || {
                    was = true;
                    connected();
                };
                let outcome = session::run(&self, &queue, &workers, &mut tell, &stop).await;
                (outcome, was)
            };
            self.receipts.lock().clear();
            for kind in JobKind::ALL {
                // What they had of the broker's and had not begun, others may get now.
                if let Err(error) = queue.let_go(*kind).await {
                    tracing::warn!(%error, %kind, "jobs of the broker's could not be given back");
                }
            }
            if stop.is_cancelled() {
                return;
            }
            if was_connected {
                (pause, told) = (self.config.backoff, false);
            }
            if let Err(error) = outcome {
                readiness.set("broker", Health::Degraded, error.to_string());
                // One fact, one warning; `/ready` has the latest reason.
                match std::mem::replace(&mut told, true) {
                    false => {
                        tracing::warn!(%error, "no connection to RabbitMQ; what is to be done or told waits")
                    }
                    true => tracing::debug!(%error, "still no connection to RabbitMQ"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn receipt(&self, key: &JobKey, acker: Acker) {
        self.receipts.lock().entry(key.clone()).or_default().push(acker);
    }

    fn held(&self) -> Vec<JobKey> {
        self.receipts.lock().keys().cloned().collect()
    }
}

impl Engine for Rabbit {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn queue_of(&self, kind: JobKind, priority: Priority) -> Option<String> {
        let of_kind = || self.config.work.iter().filter(|work| work.kind == kind);
        let exact = of_kind().find(|work| work.priority == priority);
        exact.or_else(|| of_kind().next()).map(|work| work.name.clone())
    }

    fn results_of(&self, kind: JobKind) -> Option<String> {
        self.config.work.iter().find(|work| work.kind == kind)?.results.clone()
    }

    fn over(&self, key: &JobKey) {
        let receipts = self.receipts.lock().remove(key).unwrap_or_default();
        if receipts.is_empty() {
            return;
        }
        tokio::spawn(async move {
            for receipt in receipts {
                // A connection that is gone took the message with it; it comes again and finds its row.
                if let Err(error) = receipt.ack(lapin::options::BasicAckOptions::default()).await {
                    tracing::debug!(%error, "a message could not be acknowledged: it will come again");
                }
                crash::here(Step::Acknowledged);
            }
        });
    }

    fn wrote(&self) {
        self.letters.notify_one();
    }
}
