//! The state of each job as a JSON string in Redis, for programs that read it there. The database stays what counts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::jobs::shape;
use crate::store::StoreError;
use crate::store::jobs::{Filter, JobKey, JobKind, JobState, Jobs};
use crate::store::redis::Redis;
use crate::telemetry::metric;

/// Jobs that may wait to be told of while Redis is away; of more the state is told with their next change.
const WAITING: usize = 100_000;
/// Jobs told of at a time.
const TOGETHER: usize = 128;
/// Jobs read at a time.
const PAGE: i64 = 500;
/// After a refusal it is tried again after this long.
const PAUSE: Duration = Duration::from_secs(5);

/// Writes what is newer than what is there: two nodes may tell of a job in either order. What is there may be anybody's.
const NEWER: &str = "local old = redis.pcall('GET', KEYS[1]) \
    if type(old) == 'table' then return -1 end \
    if old then \
        local good, job = pcall(cjson.decode, old) \
        if good and type(job) == 'table' and (tonumber(job.updated_ms) or 0) > tonumber(ARGV[2]) then return 0 end \
    end \
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3]) return 1";

/// Tells Redis of jobs; cheap to clone.
#[derive(Clone)]
pub struct Mirror {
    shared: Arc<Shared>,
}

struct Shared {
    /// `{tenant}`, `{kind}` and `{id}` stand for the job's.
    key: String,
    keep: Duration,
    changed: Mutex<HashSet<JobKey>>,
    bell: Notify,
}

impl Mirror {
    /// Keys are `key` with the job's `{tenant}`, `{kind}` and `{id}` in it, and are kept for `keep` after the job's last change.
    pub fn new(key: &str, keep: Duration) -> Self {
        let shared = Shared { key: key.to_owned(), keep, changed: Mutex::default(), bell: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// This job is another than it was. Returns at once.
    pub fn changed(&self, key: &JobKey) {
        let mut changed = self.shared.changed.lock();
        if changed.len() < WAITING || changed.contains(key) {
            changed.insert(key.clone());
        } else {
            metric::REDIS_UNANSWERED.add_labelled("why", "full", 1);
        }
        drop(changed);
        self.shared.bell.notify_one();
    }

    /// Tell `redis` of what changes in `jobs`, for ever.
    pub async fn run(self, jobs: Jobs, redis: Redis) {
        let mut connection = 0;
        loop {
            tokio::select! {
                () = self.shared.bell.notified() => {}
                // It knows nothing of what happened meanwhile, and may have forgotten all.
                made = redis.connected(connection) => {
                    connection = made;
                    if let Err(error) = self.all(&jobs).await {
                        tracing::debug!(%error, "jobs cannot be read for Redis");
                    }
                }
            }
            loop {
                redis.connected(0).await;
                let batch = self.batch();
                if batch.is_empty() {
                    break;
                }
                if !self.tell(&jobs, &redis, &batch).await {
                    self.shared.changed.lock().extend(batch);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Jobs that are not over, and the last that are.
    async fn all(&self, jobs: &Jobs) -> Result<(), StoreError> {
        for state in JobState::ALL {
            let filter = Filter { state: Some(*state), limit: PAGE, ..Filter::default() };
            if state.is_final() {
                jobs.list(&filter).await?.iter().for_each(|job| self.changed(&job.key));
            } else {
                jobs.each(filter, |job| self.changed(&job.key)).await?;
            }
        }
        Ok(())
    }

    fn batch(&self) -> Vec<JobKey> {
        let mut changed = self.shared.changed.lock();
        let batch: Vec<JobKey> = changed.iter().take(TOGETHER).cloned().collect();
        for key in &batch {
            changed.remove(key);
        }
        batch
    }

    /// Says whether that is done with.
    async fn tell(&self, jobs: &Jobs, redis: &Redis, batch: &[JobKey]) -> bool {
        let mut pipeline = redis::Pipeline::with_capacity(batch.len());
        for key in batch {
            let job = match jobs.get(key).await {
                Ok(Some(job)) => job,
                // Forgotten; what is there goes by itself.
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(%error, "a job cannot be read for Redis");
                    return false;
                }
            };
            let mut shown = match job.kind {
                JobKind::TtsCall => shape::call(&job),
                JobKind::Conversion | JobKind::Transcription => shape::job(&job),
            };
            // The time as people read it cannot be compared as text.
            shown["updated_ms"] = job.updated_at.into();
            let name = self.name(key, job.kind);
            let keep = self.shared.keep.as_millis() as u64;
            let script = pipeline.cmd("EVAL").arg(NEWER).arg(1).arg(name);
            script.arg(shown.to_string()).arg(job.updated_at).arg(keep);
        }
        let Ok(told) = redis.ask_all::<Vec<i64>>(&pipeline).await else { return false };
        let foreign = told.iter().filter(|outcome| **outcome < 0).count();
        if foreign > 0 {
            metric::REDIS_UNANSWERED.add_labelled("why", "refused", foreign as u64);
            tracing::debug!(foreign, "keys of jobs hold something else in Redis, and are left alone");
        }
        true
    }

    fn name(&self, key: &JobKey, kind: JobKind) -> String {
        let pattern = &self.shared.key;
        pattern.replace("{tenant}", &key.tenant).replace("{kind}", kind.name()).replace("{id}", &key.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_their_readers_want_them_and_no_more_wait_than_there_is_room_for() {
        let mirror = Mirror::new("tts:status:{id}", Duration::from_secs(1));
        let key = |id: usize| JobKey { tenant: "acme".into(), id: id.to_string().into() };
        assert_eq!(mirror.name(&key(7), JobKind::TtsCall), "tts:status:7");
        let all = Mirror::new("{tenant}/{kind}/{id}", Duration::from_secs(1));
        assert_eq!(all.name(&key(7), JobKind::Conversion), "acme/conversion/7");
        (0..WAITING + 10).for_each(|id| mirror.changed(&key(id)));
        mirror.changed(&key(0));
        assert_eq!(mirror.shared.changed.lock().len(), WAITING);
        assert_eq!(mirror.batch().len(), TOGETHER);
        assert_eq!(mirror.shared.changed.lock().len(), WAITING - TOGETHER);
    }
}
