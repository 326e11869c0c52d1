//! Those who do the jobs: so many of each kind, changed while they run.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::JobError;
use super::queue::{Queue, Taken, now_ms};
use crate::clock;
use crate::config::MOST_WORKERS;
use crate::crash::{self, Step};
use crate::store::jobs::{Job, JobKind, Settled};
use crate::telemetry::metric;

/// While the database does not answer it is asked this often.
const PAUSE: Duration = Duration::from_secs(2);
/// Progress is written down no more often than this: it is for people.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What does the jobs of one kind.
pub trait Handler: Send + Sync + 'static {
    /// Which kind.
    fn kind(&self) -> JobKind;

    /// Do one. The same job may have been begun before, by this process or by one that died: what is done twice must have the effect of
    /// what is done once.
    fn run<'a>(&'a self, job: &'a Job, attempt: &'a Attempt) -> BoxFuture<'a, Result<Value, JobError>>;

    /// This job is done, and that is written down: what was kept for another attempt may go.
    fn done(&self, _job: &Job) {}

    /// Tenants that have as much as they may for now.
    fn saturated(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What a handler may tell and has to heed while it works.
#[derive(Debug)]
pub struct Attempt {
    /// Nobody wants the job any more.
    pub cancel: CancellationToken,
    /// The server stops.
    pub stop: CancellationToken,
    progress: watch::Sender<f64>,
    memory: Memory,
}

struct Memory {
    queue: Queue,
    job: Job,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Memory").field(&self.job.key).finish()
    }
}

impl Attempt {
    /// The share that is done, 0 to 1; whoever asks for the job sees it a second later.
    pub fn progress(&self, share: f64) {
        self.progress.send_replace(share);
    }

    /// A way to tell it from a thread of one's own.
    pub fn progress_teller(&self) -> watch::Sender<f64> {
        self.progress.clone()
    }

    /// Waits until nobody waits for this attempt any more, and says why.
    pub async fn given_up(&self) -> JobError {
        tokio::select! {
            () = self.cancel.cancelled() => JobError::Cancelled,
            () = self.stop.cancelled() => JobError::Stopped,
        }
    }

    /// Note what the next attempt has to know should this process die now. Nothing that relies on it may be done before.
    ///
    /// # Errors
    /// [`JobError::Transient`]: it is not noted.
    pub async fn note(&self, memo: &Value) -> Result<(), JobError> {
        match self.memory.queue.note(&self.memory.job.key, memo).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(JobError::transient("somebody else has taken this job meanwhile")),
            Err(error) => Err(JobError::transient(error)),
        }
    }
}

/// How often and how soon a job that failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// So often in all.
    pub attempts: u32,
    /// The first pause; each is four times the one before, up to an hour.
    pub first_pause: Duration,
}

impl Retries {
    const LONGEST: Duration = Duration::from_secs(3_600);

    /// The pause after attempt number `attempts`, counted from 1; `None` after the last.
    pub fn pause_after(&self, attempts: u32) -> Option<Duration> {
        let times = 4u32.saturating_pow(attempts.saturating_sub(1));
        (attempts < self.attempts).then(|| self.first_pause.saturating_mul(times).min(Self::LONGEST))
    }
}

/// The workers of one kind.
pub struct Workers {
    kind: JobKind,
    number: watch::Sender<usize>,
    busy: Arc<watch::Sender<usize>>,
    run: Arc<Run>,
    /// Worker tasks that exist, those that end after their job included.
    alive: Mutex<usize>,
}

struct Run {
    queue: Queue,
    handler: Arc<dyn Handler>,
    retries: Retries,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers")
            .field("kind", &self.kind)
            .field("number", &self.number())
            .finish_non_exhaustive()
    }
}

impl Workers {
    /// Start `number` workers on the jobs of `handler`'s kind; they end when `stop` is cancelled.
    pub fn start(
        queue: Queue,
        handler: Arc<dyn Handler>,
        number: usize,
        retries: Retries,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let kind = handler.kind();
        let run = Arc::new(Run { queue, handler, retries, stop, tasks: TaskTracker::new() });
        let workers = Arc::new(Self {
            kind,
            number: watch::Sender::new(0),
            busy: Arc::new(watch::Sender::new(0)),
            run,
            alive: Mutex::new(0),
        });
        workers.set_number(number);
        workers
    }

    /// Which kind.
    pub fn kind(&self) -> JobKind {
        self.kind
    }

    /// How many there are to be.
    pub fn number(&self) -> usize {
        *self.number.borrow()
    }

    /// Told whenever there are to be others.
    pub fn numbers(&self) -> watch::Receiver<usize> {
        self.number.subscribe()
    }

    /// How many have a job.
    pub fn busy(&self) -> usize {
        *self.busy.borrow()
    }

    /// Have so many from now on, at most [`MOST_WORKERS`]; those too many end after the job that they have.
    pub fn set_number(&self, number: usize) {
        let number = number.min(MOST_WORKERS);
        let mut alive = self.alive.lock();
        self.number.send_replace(number);
        for index in *alive..number {
            let (run, numbers, busy) = (self.run.clone(), self.number.subscribe(), self.busy.clone());
            self.run.tasks.spawn(async move { run.work(index, numbers, &busy).await });
        }
        // Workers of higher numbers wait until they are wanted again.
        *alive = (*alive).max(number);
    }

    /// Wait until all have ended; after `stop`.
    pub async fn ended(&self) {
        self.run.tasks.close();
        self.run.tasks.wait().await;
    }
}

impl Run {
    async fn work(&self, index: usize, mut numbers: watch::Receiver<usize>, busy: &watch::Sender<usize>) {
        let mut failing = false;
        loop {
            let wanted = tokio::select! {
                wanted = numbers.wait_for(|number| index < *number) => wanted.is_ok(),
                () = self.stop.cancelled() => false,
            };
            if !wanted {
                return;
            }
            let not_of = || self.handler.saturated();
            let taken = tokio::select! {
                taken = self.queue.take(self.handler.kind(), &not_of) => taken,
                _ = numbers.wait_for(|number| index >= *number) => continue,
                () = self.stop.cancelled() => return,
            };
            match taken {
                Ok(taken) => {
                    failing = false;
                    busy.send_modify(|busy| *busy += 1);
                    self.attempt(taken).await;
                    busy.send_modify(|busy| *busy -= 1);
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, kind = %self.handler.kind(), "no job can be taken");
                    }
                    self.pause(PAUSE).await;
                }
            }
        }
    }

    async fn attempt(&self, taken: Taken) {
        let Taken { job, cancel } = taken;
        let begun = clock::now();
        let settled = if job.attempts > self.retries.attempts.max(1) + CRASHES {
            // Each attempt ended with the process that made it: it is not made for ever.
            let error = format!(
                "it was begun {} times and never came to an end: each time the process died",
                job.attempts - 1
            );
            Settled::Failed { error, result: None }
        } else {
            let outcome = self.run(&job, cancel).await;
            crash::here(Step::Done);
            self.verdict(&job, outcome)
        };
        metric::JOB_SECONDS.record_labelled("kind", job.kind.name(), clock::since(begun).as_secs_f64());
        if let Settled::Failed { error, .. } = &settled {
            tracing::warn!(job = %job.key, kind = %job.kind, attempts = job.attempts, error, "a job failed");
        }
        // The work is done: it must not be lost because the disk is full just now.
        let mut told = false;
        while let Err(error) = self.queue.settle(&job, settled.clone()).await {
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(job = %job.key, %error, "what came of a job cannot be written down yet");
            }
            if self.pause(PAUSE).await {
                return;
            }
        }
        if matches!(settled, Settled::Completed { .. }) {
            self.handler.done(&job);
        }
    }

    async fn run(&self, job: &Job, cancel: CancellationToken) -> Result<Value, JobError> {
        let progress = watch::Sender::new(0.0);
        let mut news = progress.subscribe();
        let memory = Memory { queue: self.queue.clone(), job: job.clone() };
        let attempt = Attempt { cancel, stop: self.stop.clone(), progress, memory };
        let tell = async {
            loop {
                if news.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                let share = *news.borrow_and_update();
                let jobs = self.queue.jobs();
                if let Err(error) = jobs.progress(&job.key, self.queue.owner(), share, now_ms()).await {
                    tracing::debug!(job = %job.key, %error, "progress could not be written down");
                }
                self.queue.changed(&job.key);
                tokio::time::sleep(PROGRESS_EVERY).await;
            }
        };
        tokio::select! {
            outcome = self.handler.run(job, &attempt) => outcome,
            () = tell => unreachable!("it never ends"),
        }
    }

    fn verdict(&self, job: &Job, outcome: Result<Value, JobError>) -> Settled {
        let again = |pause: Duration, error, counts| Settled::Again {
            after: now_ms().saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX)),
            error,
            counts,
        };
        match outcome {
            Ok(result) => Settled::Completed { result },
            Err(JobError::Cancelled) => Settled::Cancelled,
            Err(JobError::Stopped) => again(Duration::ZERO, None, false),
            Err(JobError::Permanent { reason, result }) => Settled::Failed { error: reason, result },
            Err(JobError::Again { after, reason, counts }) => again(after, Some(reason), counts),
            Err(JobError::Transient(reason)) => match self.retries.pause_after(job.attempts) {
                Some(pause) => {
                    tracing::info!(job = %job.key, kind = %job.kind, attempts = job.attempts, ?pause, reason, "a job is tried again");
                    again(pause, Some(reason), true)
                }
                None => Settled::Failed {
                    error: format!("{reason} (attempt {} of {})", job.attempts, self.retries.attempts),
                    result: None,
                },
            },
        }
    }

    /// Says whether the server stops.
    async fn pause(&self, pause: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pause) => false,
            () = self.stop.cancelled() => true,
        }
    }
}

/// A process may die for other reasons than the job that it works on, this often on top of the attempts.
const CRASHES: u32 = 3;
