//! Everything about jobs that one server runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::queue::{Queue, now_ms};
use super::worker::{Handler, Retries, Workers};
use crate::store::StoreError;
use crate::store::jobs::{Cancelled, Job, JobKey, JobKind, JobState};
use crate::telemetry::metric;

/// Jobs are counted this often for `/metrics`.
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// Old jobs are looked for this often, and forgotten so many at a time.
const FORGET_EVERY: Duration = Duration::from_secs(600);
const FORGET_AT_A_TIME: i64 = 1_000;
const DAY_MS: i64 = 86_400_000;

/// What does one kind of job, and with how many workers to begin.
pub struct Department {
    /// What does it.
    pub handler: Arc<dyn Handler>,
    /// Workers.
    pub workers: usize,
    /// How often and how soon it tries again.
    pub retries: Retries,
}

/// The queue and those who work on it.
pub struct JobService {
    queue: Queue,
    workers: BTreeMap<JobKind, Arc<Workers>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for JobService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobService").field("workers", &self.workers).finish_non_exhaustive()
    }
}

impl JobService {
    /// Start all `departments` on `queue`; jobs that are over are forgotten after `keep`.
    pub fn start(
        queue: Queue,
        departments: Vec<Department>,
        keep: Option<Duration>,
        webhooks: reqwest::Client,
    ) -> Self {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let workers = departments.into_iter().map(|department| {
            let Department { handler, workers, retries } = department;
            let workers = Workers::start(queue.clone(), handler, workers, retries, stop.clone());
            (workers.kind(), workers)
        });
        let workers = workers.collect();
        let until = |work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = work => {}
                    () = stop.cancelled() => {}
                }
            });
        };
        until(Box::pin(queue.clone().keep_alive()));
        until(Box::pin(count(queue.clone())));
        if let Some(keep) = keep {
            until(Box::pin(forget(queue.clone(), keep)));
        }
        tasks.spawn(super::post::deliver(queue.clone(), webhooks, stop.clone()));
        Self { queue, workers, stop, tasks }
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The workers of a kind, if this server does such jobs.
    pub fn workers(&self, kind: JobKind) -> Option<&Arc<Workers>> {
        self.workers.get(&kind)
    }

    /// All workers.
    pub fn all_workers(&self) -> impl Iterator<Item = &Arc<Workers>> {
        self.workers.values()
    }

    /// Run `work` beside the jobs; it ends when the token that it is given is cancelled, and is waited for then.
    pub fn beside<F: Future<Output = ()> + Send + 'static>(&self, work: impl FnOnce(CancellationToken) -> F) {
        self.tasks.spawn(work(self.stop.clone()));
    }

    /// Have a job not done.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel(&self, key: &JobKey) -> Result<Cancelled, StoreError> {
        self.queue.cancel(key).await
    }

    /// Do a job once more that failed or was cancelled.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retry(&self, job: &Job) -> Result<Option<Job>, StoreError> {
        self.queue.retry(job).await
    }

    /// Stop: nothing more is begun, what runs is broken off where that loses nothing, and the next start goes on with it.
    pub async fn stop(&self) {
        self.stop.cancel();
        for workers in self.workers.values() {
            workers.ended().await;
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.queue.jobs().store().close().await;
    }
}

async fn count(queue: Queue) {
    loop {
        match queue.jobs().counts(None).await {
            Ok(counts) => {
                for kind in JobKind::ALL {
                    for state in JobState::ALL {
                        let of = counts.iter().filter(|count| count.kind == *kind && count.state == *state);
                        let sum: i64 = of.map(|count| count.count).sum();
                        metric::JOBS.set_labelled_twice(
                            ("kind", kind.name()),
                            ("state", state.name()),
                            sum as f64,
                        );
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "jobs cannot be counted"),
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

async fn forget(queue: Queue, keep: Duration) {
    let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX).max(DAY_MS);
    loop {
        loop {
            match queue.jobs().forget(now_ms().saturating_sub(keep), FORGET_AT_A_TIME).await {
                Ok(0) => break,
                Ok(jobs) => tracing::info!(jobs, "old jobs are forgotten"),
                Err(error) => {
                    tracing::warn!(%error, "old jobs cannot be forgotten");
                    break;
                }
            }
        }
        tokio::time::sleep(FORGET_EVERY).await;
    }
}
