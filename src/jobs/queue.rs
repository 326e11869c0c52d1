//! Where jobs wait: taken in, taken out, and what came of them written down.
//!
//! Two engines bring a job to a worker. `embedded`: it lies in the database, and the next free worker takes it. `rabbitmq`: it lies
//! in the broker's queue as well, and the process that the broker delivers it to does it, so that many machines share the work. All else
//! (order, retries, cancelling, results) is the same.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::shared::Mirror;
use crate::clock;
use crate::crash::{self, Step};
use crate::store::StoreError;
use crate::store::jobs::{
    Cancelled, Inserted, Job, JobKey, JobKind, Jobs, Millis, NewJob, NewLetter, Priority, Route, Settled,
    Transport, Wanted,
};

/// So many jobs of high priority go in a row while others wait; then one of the others has its turn, so that it does not wait for ever.
pub const HIGH_IN_A_ROW: u32 = 4;
/// A process that gave no sign of life for this long counts as dead: several renewals may be late on a busy machine.
pub const LEASE: Duration = Duration::from_secs(60);
/// Where other processes may bring jobs, they are looked for this often.
const LOOK: Duration = Duration::from_secs(1);

/// Milliseconds since 1970.
pub fn now_ms() -> Millis {
    clock::timestamp().as_millisecond()
}

/// What brings jobs to a worker.
pub trait Engine: Send + Sync {
    /// Its name in the settings.
    fn name(&self) -> &'static str;

    /// The broker's queue for new jobs of this kind, if they go by a broker.
    fn queue_of(&self, kind: JobKind, priority: Priority) -> Option<String>;

    /// The broker's queue for results of this kind, where its messages do not name one.
    fn results_of(&self, kind: JobKind) -> Option<String>;

    /// Nothing more comes of this job, and that is written down.
    fn over(&self, key: &JobKey);

    /// A letter was written that this engine may have to deliver.
    fn wrote(&self);
}

/// Jobs lie in the database alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Embedded;

impl Engine for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn queue_of(&self, _: JobKind, _: Priority) -> Option<String> {
        None
    }

    fn results_of(&self, _: JobKind) -> Option<String> {
        None
    }

    fn over(&self, _: &JobKey) {}

    fn wrote(&self) {}
}

/// A job that somebody asks for here.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Its id; without one it gets one of ours.
    pub id: Option<Arc<str>>,
    /// What it is about.
    pub kind: JobKind,
    /// Who goes first.
    pub priority: Priority,
    /// What is asked for.
    pub payload: Value,
    /// Where the result is POSTed to.
    pub webhook: Option<String>,
}

/// The queue; cheap to clone.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    jobs: Jobs,
    engine: Arc<dyn Engine>,
    /// This process among all that use the database: the node's name, and which of its runs.
    owner: String,
    node: String,
    alone: bool,
    bells: HashMap<JobKind, Bell>,
    running: Mutex<HashMap<JobKey, CancellationToken>>,
    letters: Notify,
    /// Who else is told of every change.
    mirror: OnceLock<Mirror>,
}

/// Rings when there may be something to do.
#[derive(Default)]
struct Bell {
    notify: Notify,
    high_in_a_row: AtomicU32,
}

impl Queue {
    /// The queue of the process `node` over `jobs`, brought to workers by `engine`.
    pub fn new(jobs: Jobs, engine: Arc<dyn Engine>, node: &str) -> Self {
        let owner = format!("{node}/{}", uuid::Uuid::now_v7().simple());
        let alone = jobs.store().dialect() == crate::store::Dialect::Sqlite;
        let bells = JobKind::ALL.iter().map(|kind| (*kind, Bell::default())).collect();
        let shared = Shared {
            jobs,
            engine,
            owner,
            node: node.to_owned(),
            alone,
            bells,
            running: Mutex::default(),
            letters: Notify::new(),
            mirror: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Tell `mirror` of every job that changes here. Once.
    pub fn tell(&self, mirror: Mirror) {
        // A second one would be a mistake of the start, and nothing is lost by it.
        let _ = self.shared.mirror.set(mirror);
    }

    /// This job is another than it was.
    pub fn changed(&self, key: &JobKey) {
        if let Some(mirror) = self.shared.mirror.get() {
            mirror.changed(key);
        }
    }

    /// The jobs, to look at.
    pub fn jobs(&self) -> &Jobs {
        &self.shared.jobs
    }

    /// This process among all that use the database.
    pub fn owner(&self) -> &str {
        &self.shared.owner
    }

    /// What brings jobs to workers.
    pub fn engine(&self) -> &dyn Engine {
        &*self.shared.engine
    }

    /// Take a job in. Once this answers it is on the disk and will be done; an id that is known gives the job that is there.
    ///
    /// # Errors
    /// [`StoreError`]: it is not taken in.
    pub async fn submit(&self, asked: Submission) -> Result<(Inserted, JobKey), StoreError> {
        let id = asked.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string().into());
        let key = JobKey { tenant: asked.tenant, id };
        let queue = self.shared.engine.queue_of(asked.kind, asked.priority);
        let now = now_ms();
        let letter = queue.as_ref().map(|queue| job_letter(&key, queue, &asked.payload, now));
        let route = Route {
            queue,
            results: self.shared.engine.results_of(asked.kind),
            webhook: asked.webhook,
            correlation_id: None,
        };
        let by_broker = letter.is_some();
        let job = NewJob {
            key: key.clone(),
            kind: asked.kind,
            priority: asked.priority,
            payload: asked.payload,
            route,
            run_after: now,
            holder: if by_broker { "broker".into() } else { String::new() },
            letter,
        };
        let inserted = self.shared.jobs.insert(job, now).await?;
        crash::here(Step::Stored);
        self.changed(&key);
        match by_broker {
            true => self.wrote_letters(),
            false => self.ring(asked.kind),
        }
        Ok((inserted, key))
    }

    /// There may be something to do about `kind`.
    pub fn ring(&self, kind: JobKind) {
        self.shared.bells[&kind].notify.notify_waiters();
    }

    fn wrote_letters(&self) {
        self.shared.letters.notify_waiters();
        self.shared.engine.wrote();
    }

    /// Wait until a letter may have been written.
    pub async fn letters_written(&self) {
        self.shared.letters.notified().await;
    }

    /// The next job about `kind`, waited for; not of the tenants that `not_of` names when it is asked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take(
        &self,
        kind: JobKind,
        not_of: &(dyn Fn() -> Vec<String> + Sync),
    ) -> Result<Taken, StoreError> {
        let bell = &self.shared.bells[&kind];
        loop {
            // Before looking, so that what comes while it is looked is heard.
            let rung = bell.notify.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if let Some(job) = self.claim(kind, bell, &not_of()).await? {
                crash::here(Step::Claimed);
                self.changed(&job.key);
                // There may be more than one for the next worker.
                bell.notify.notify_one();
                let cancel = CancellationToken::new();
                self.shared.running.lock().insert(job.key.clone(), cancel.clone());
                return Ok(Taken { job, cancel });
            }
            let due = self.shared.jobs.next_due(kind, &self.shared.owner, now_ms()).await?;
            let until_due = due.map(|due| Duration::from_millis(u64::try_from(due - now_ms()).unwrap_or(0)));
            // A tenant that had as much as it may gives room without a ring.
            let longest =
                if self.shared.alone && not_of().is_empty() { Duration::from_secs(60) } else { LOOK };
            let pause = until_due.map_or(longest, |due| due.min(longest));
            let _ = tokio::time::timeout(pause, rung).await;
        }
    }

    async fn claim(&self, kind: JobKind, bell: &Bell, not_of: &[String]) -> Result<Option<Job>, StoreError> {
        let wanted = |priority| Wanted {
            kind,
            priority,
            not_of,
            owner: &self.shared.owner,
            lease_ms: LEASE.as_millis() as i64,
        };
        if bell.high_in_a_row.load(Ordering::Relaxed) >= HIGH_IN_A_ROW
            && let Some(job) = self.shared.jobs.claim(wanted(Some(Priority::Normal)), now_ms()).await?
        {
            bell.high_in_a_row.store(0, Ordering::Relaxed);
            return Ok(Some(job));
        }
        let job = self.shared.jobs.claim(wanted(None), now_ms()).await?;
        match job.as_ref().map(|job| job.priority) {
            Some(Priority::High) => drop(bell.high_in_a_row.fetch_add(1, Ordering::Relaxed)),
            Some(Priority::Normal) => bell.high_in_a_row.store(0, Ordering::Relaxed),
            None => {}
        }
        Ok(job)
    }

    /// Write down what came of an attempt, and tell those who want to know.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is written; the job is this process's still.
    pub async fn settle(&self, job: &Job, settled: Settled) -> Result<(), StoreError> {
        let now = now_ms();
        let letters = self.letters_of(job, &settled, now);
        let is_final = !matches!(settled, Settled::Again { .. });
        let ours = self.shared.jobs.settle(&job.key, &self.shared.owner, &settled, &letters, now).await?;
        crash::here(Step::Settled);
        self.changed(&job.key);
        self.shared.running.lock().remove(&job.key);
        if !ours {
            tracing::warn!(job = %job.key, "somebody else has taken this job meanwhile: what came of it here does not count");
        }
        if ours && !letters.is_empty() {
            self.wrote_letters();
        }
        // Whatever comes next of it, the message that brought it here has done its work.
        self.shared.engine.over(&job.key);
        if ours && !is_final {
            self.ring(job.kind);
        }
        Ok(())
    }

    fn letters_of(&self, job: &Job, settled: &Settled, now: Millis) -> Vec<NewLetter> {
        if let Settled::Again { after, .. } = settled {
            return job
                .route
                .queue
                .iter()
                .map(|queue| job_letter(&job.key, queue, &job.payload, *after))
                .collect();
        }
        let body = result_body(job, settled).to_string();
        let mut letters = result_letters(job, &body, now);
        // What nobody will try again lies where somebody looks.
        if let (Settled::Failed { error, .. }, Some(queue)) = (settled, &job.route.queue) {
            let headers = [
                ("x-sidetone-reason".to_owned(), error.clone()),
                ("message_id".to_owned(), job.key.id.to_string()),
            ];
            letters.push(NewLetter {
                transport: Transport::Queue,
                address: dead(queue),
                headers: headers.into(),
                body: job.payload.to_string(),
                run_after: now,
            });
        }
        letters
    }

    /// Have a job not done.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel(&self, key: &JobKey) -> Result<Cancelled, StoreError> {
        let now = now_ms();
        let job = self.shared.jobs.get(key).await?;
        let letters =
            job.map(|job| result_letters(&job, &result_body(&job, &Settled::Cancelled).to_string(), now));
        let done = self.shared.jobs.cancel(key, &letters.unwrap_or_default(), now).await?;
        self.changed(key);
        match &done {
            Cancelled::Done(_) => {
                self.wrote_letters();
                self.shared.engine.over(key);
            }
            Cancelled::Asked(_) => {
                if let Some(running) = self.shared.running.lock().get(key) {
                    running.cancel();
                }
            }
            Cancelled::Over(_) | Cancelled::Unknown => {}
        }
        Ok(done)
    }

    /// Do a job once more that failed or was cancelled; `None` where it did neither.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retry(&self, job: &Job) -> Result<Option<Job>, StoreError> {
        let now = now_ms();
        let letter = job.route.queue.as_ref().map(|queue| job_letter(&job.key, queue, &job.payload, now));
        let holder = if letter.is_some() { "broker" } else { "" };
        let again = self.shared.jobs.retry(&job.key, holder, letter.as_ref(), now).await?;
        if again.is_some() {
            self.changed(&job.key);
            match letter {
                Some(_) => self.wrote_letters(),
                None => self.ring(job.kind),
            }
        }
        Ok(again)
    }

    /// What an attempt has to remember should this process die. Nothing that relies on it may be done before this answers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note(&self, key: &JobKey, memo: &Value) -> Result<bool, StoreError> {
        self.shared.jobs.note(key, &self.shared.owner, memo, now_ms()).await
    }

    /// What died with other processes is taken up, at once and for ever; and a sign of life, so that this one is not thought dead, and what
    /// others cancelled is cancelled here.
    pub async fn keep_alive(self) {
        loop {
            match self.recover().await {
                Ok(0) => {}
                Ok(jobs) => {
                    tracing::warn!(jobs, "jobs of a process that died wait again");
                    JobKind::ALL.iter().for_each(|kind| self.ring(*kind));
                }
                Err(error) => tracing::warn!(%error, "the jobs of dead processes could not be looked for"),
            }
            tokio::time::sleep(LEASE / 6).await;
            match self.shared.jobs.renew(&self.shared.owner, LEASE.as_millis() as i64, now_ms()).await {
                Ok(cancelled) => {
                    let running = self.shared.running.lock();
                    cancelled.iter().filter_map(|key| running.get(key)).for_each(CancellationToken::cancel);
                }
                Err(error) => tracing::warn!(%error, "no sign of life could be given for running jobs"),
            }
        }
    }

    /// What this process has of the broker's and has not begun is the broker's again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn let_go(&self, kind: JobKind) -> Result<(), StoreError> {
        self.shared.jobs.let_go(&self.shared.owner, kind, now_ms()).await
    }

    /// What earlier runs of this node worked on when they died, and others that give no sign of life, waits again; says how many jobs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recover(&self) -> Result<u64, StoreError> {
        self.shared.jobs.take_back(&self.shared.node, &self.shared.owner, now_ms()).await
    }
}

/// The dead letters of a broker's queue of work.
pub fn dead(queue: &str) -> String {
    format!("{queue}.dead")
}

/// A job that a worker has.
#[derive(Debug)]
pub struct Taken {
    /// The job.
    pub job: Job,
    /// Cancelled when nobody wants it any more.
    pub cancel: CancellationToken,
}

fn job_letter(key: &JobKey, queue: &str, payload: &Value, at: Millis) -> NewLetter {
    let headers = [("message_id", &*key.id), ("x-sidetone-tenant", &*key.tenant)];
    NewLetter {
        transport: Transport::Queue,
        address: queue.to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        body: payload.to_string(),
        run_after: at,
    }
}

/// What is told of a job that is over: its id, how it ended, and all that its kind says of it.
fn result_body(job: &Job, settled: &Settled) -> Value {
    let mut body = json!({
        "id": &*job.key.id,
        "tenant": &*job.key.tenant,
        "kind": job.kind.name(),
        "attempts": job.attempts,
    });
    let (status, error, result) = match settled {
        Settled::Completed { result } => ("completed", None, Some(result)),
        Settled::Failed { error, result } => ("failed", Some(error), result.as_ref()),
        Settled::Cancelled => ("cancelled", None, None),
        Settled::Again { error, .. } => ("queued", error.as_ref(), None),
    };
    if let (Some(fields), Some(Value::Object(more))) = (body.as_object_mut(), result) {
        fields.extend(more.clone());
    }
    body["status"] = status.into();
    if let Some(error) = error {
        body["error"] = error.as_str().into();
    }
    body
}

fn result_letters(job: &Job, body: &str, now: Millis) -> Vec<NewLetter> {
    let mut headers = std::collections::BTreeMap::from([("message_id".to_owned(), job.key.id.to_string())]);
    if let Some(id) = &job.route.correlation_id {
        headers.insert("correlation_id".into(), id.clone());
    }
    let letter = |transport, address: &String| NewLetter {
        transport,
        address: address.clone(),
        headers: headers.clone(),
        body: body.to_owned(),
        run_after: now,
    };
    let queue = job.route.results.as_ref().map(|queue| letter(Transport::Queue, queue));
    let webhook = job.route.webhook.as_ref().map(|url| letter(Transport::Webhook, url));
    queue.into_iter().chain(webhook).collect()
}
