//! Taking jobs in: those that come at the same time share one commit.

use serde_json::Value;
use sqlx::{Any, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::outbox::{self, NewLetter};
use super::{JobKey, JobKind, JobState, Jobs, Millis, Priority, Route};
use crate::store::{Store, StoreError};

/// Jobs in one commit: enough that the disk is not waited for a job, few enough that the first does not wait for the last.
const TOGETHER: usize = 256;
/// Jobs that wait to be written before whoever brings more has to wait: memory is bounded by this many payloads.
const WAITING: usize = 1_024;

/// A job to be.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// What it will be known by.
    pub key: JobKey,
    /// What it is about.
    pub kind: JobKind,
    /// Who goes first.
    pub priority: Priority,
    /// What is asked for.
    pub payload: Value,
    /// Where it came from and where its result goes.
    pub route: Route,
    /// Not before this time.
    pub run_after: Millis,
    /// Whose it is to do (`holder` in the table).
    pub holder: String,
    /// What is sent because of it, in the same commit.
    pub letter: Option<NewLetter>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is there now.
    New,
    /// It was there before, and is as it was.
    Known,
}

struct Waiting {
    job: NewJob,
    now: Millis,
    done: oneshot::Sender<Result<Inserted, StoreError>>,
}

/// The task that writes them.
#[derive(Clone)]
pub(super) struct Inserter(mpsc::Sender<Waiting>);

impl Inserter {
    pub(super) fn start(store: Store) -> Self {
        let (sender, mut waiting) = mpsc::channel::<Waiting>(WAITING);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(TOGETHER);
            while waiting.recv_many(&mut batch, TOGETHER).await > 0 {
                let outcome = write(&store, &batch).await;
                match outcome {
                    Ok(inserted) => {
                        for (one, inserted) in batch.drain(..).zip(inserted) {
                            // Whoever asked may be gone; the job is there all the same.
                            let _ = one.done.send(Ok(inserted));
                        }
                    }
                    // One that the database refuses must not take the others with it.
                    Err(error) if batch.len() > 1 => {
                        tracing::debug!(%error, "jobs are written one by one");
                        for one in batch.drain(..) {
                            let outcome = write(&store, std::slice::from_ref(&one)).await;
                            let _ = one.done.send(outcome.map(|inserted| inserted[0]));
                        }
                    }
                    Err(error) => {
                        if let Some(one) = batch.pop() {
                            let _ = one.done.send(Err(error));
                        }
                    }
                }
            }
        });
        Self(sender)
    }
}

async fn write(store: &Store, batch: &[Waiting]) -> Result<Vec<Inserted>, StoreError> {
    let failed = StoreError::of("taking in jobs");
    let mut commit = store.write.begin().await.map_err(&failed)?;
    let mut inserted = Vec::with_capacity(batch.len());
    for one in batch {
        inserted.push(insert(store, &mut commit, &one.job, one.now).await?);
    }
    commit.commit().await.map_err(&failed)?;
    Ok(inserted)
}

async fn insert(
    store: &Store,
    commit: &mut Transaction<'static, Any>,
    job: &NewJob,
    now: Millis,
) -> Result<Inserted, StoreError> {
    let done = sqlx::query(
        "INSERT INTO jobs (tenant, id, kind, state, priority, place, run_after, holder, attempts, cancel, payload, route, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, $9, $10, $11, $11) ON CONFLICT (tenant, id) DO NOTHING",
    )
    .bind(&*job.key.tenant)
    .bind(&*job.key.id)
    .bind(job.kind.name())
    .bind(JobState::Queued.name())
    .bind(i64::from(job.priority == Priority::High))
    .bind(store.next_place(now))
    .bind(job.run_after)
    .bind(&*job.holder)
    .bind(job.payload.to_string())
    .bind(serde_json::to_string(&job.route).unwrap_or_else(|_| "{}".into()))
    .bind(now)
    .execute(&mut **commit)
    .await
    .map_err(StoreError::of("taking in jobs"))?;
    if done.rows_affected() == 0 {
        return Ok(Inserted::Known);
    }
    if let Some(letter) = &job.letter {
        outbox::write(store, commit, &job.key, letter, now).await?;
    }
    Ok(Inserted::New)
}

impl Jobs {
    /// Take a job in; once this answers it is on the disk.
    ///
    /// # Errors
    /// [`StoreError`]: it is not there.
    pub async fn insert(&self, job: NewJob, now: Millis) -> Result<Inserted, StoreError> {
        let (done, outcome) = oneshot::channel();
        let gone = || StoreError::Closed;
        self.insert.0.send(Waiting { job, now, done }).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }
}
