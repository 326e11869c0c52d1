//! What came of an attempt, and what people decide about a job.

use serde_json::Value;
use sqlx::Any;
use sqlx::any::AnyArguments;
use sqlx::query::Query;

use super::outbox::{self, NewLetter};
use super::row::{columns, job};
use super::{Job, JobKey, JobState, Jobs, Millis};
use crate::store::StoreError;

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Settled {
    /// Done.
    Completed {
        /// With this.
        result: Value,
    },
    /// Given up.
    Failed {
        /// Why.
        error: String,
        /// What there is all the same.
        result: Option<Value>,
    },
    /// Not wanted any more.
    Cancelled,
    /// Once more, later.
    Again {
        /// Not before this time.
        after: Millis,
        /// Why; `None` keeps what stands there.
        error: Option<String>,
        /// Whether this was an attempt at all: what only waits for its hour was none.
        counts: bool,
    },
}

/// What became of the wish to cancel.
#[derive(Clone, Debug, PartialEq)]
pub enum Cancelled {
    /// Nobody had begun it.
    Done(Job),
    /// Whoever works on it is told.
    Asked(Job),
    /// It was over before.
    Over(Job),
    /// There is none.
    Unknown,
}

impl Jobs {
    /// Write down what came of an attempt, with the letters that tell others, if `owner` still has the job; says whether it had.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is written.
    pub async fn settle(
        &self,
        key: &JobKey,
        owner: &str,
        settled: &Settled,
        letters: &[NewLetter],
        now: Millis,
    ) -> Result<bool, StoreError> {
        let failed = StoreError::of("writing down what came of a job");
        let (state, run_after, result, error, uncount) = match settled {
            Settled::Completed { result } => (JobState::Completed, None, Some(result.to_string()), None, 0),
            Settled::Failed { error, result } => {
                (JobState::Failed, None, result.as_ref().map(Value::to_string), Some(error.clone()), 0)
            }
            Settled::Cancelled => (JobState::Cancelled, None, None, None, 0),
            Settled::Again { after, error, counts } => {
                (JobState::Queued, Some(*after), None, error.clone(), i64::from(!counts))
            }
        };
        let mut commit = self.store.write.begin().await.map_err(&failed)?;
        let statement = "UPDATE jobs SET state = $1, run_after = COALESCE($2, run_after), result = $3, \
                         error = CASE WHEN $1 = 'completed' THEN NULL ELSE COALESCE($4, error) END, \
                         attempts = attempts - $5, finished_at = $6, updated_at = $7, owner = NULL, \
                         holder = CASE WHEN $1 = 'queued' AND holder <> '' THEN 'broker' ELSE holder END, \
                         lease_until = NULL, progress = CASE WHEN $1 = 'completed' THEN 1.0 ELSE progress END, \
                         memo = CASE WHEN $1 = 'queued' THEN memo ELSE NULL END \
                         WHERE tenant = $8 AND id = $9 AND state = 'processing' AND owner = $10";
        let finished = state.is_final().then_some(now);
        let done = sqlx::query(statement)
            .bind(state.name())
            .bind(run_after)
            .bind(result)
            .bind(error)
            .bind(uncount)
            .bind(finished)
            .bind(now)
            .bind(&*key.tenant)
            .bind(&*key.id)
            .bind(owner)
            .execute(&mut *commit)
            .await
            .map_err(&failed)?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        for letter in letters {
            outbox::write(&self.store, &mut commit, key, letter, now).await?;
        }
        commit.commit().await.map_err(&failed)?;
        Ok(true)
    }

    /// Note what the attempt has to remember should this process die; says whether the job is still `owner`'s.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is noted, and nothing may be done that relied on it.
    pub async fn note(
        &self,
        key: &JobKey,
        owner: &str,
        memo: &Value,
        now: Millis,
    ) -> Result<bool, StoreError> {
        let statement = "UPDATE jobs SET memo = $1, updated_at = $2 WHERE tenant = $3 AND id = $4 AND owner = $5 AND state = 'processing'";
        let done = sqlx::query(statement)
            .bind(memo.to_string())
            .bind(now)
            .bind(&*key.tenant)
            .bind(&*key.id)
            .bind(owner)
            .execute(&self.store.write)
            .await
            .map_err(StoreError::of("noting how far a job is"))?;
        Ok(done.rows_affected() > 0)
    }

    /// Tell how far a job is, 0 to 1.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn progress(
        &self,
        key: &JobKey,
        owner: &str,
        share: f64,
        now: Millis,
    ) -> Result<(), StoreError> {
        let statement = "UPDATE jobs SET progress = $1, updated_at = $2 WHERE tenant = $3 AND id = $4 AND owner = $5 AND state = 'processing'";
        sqlx::query(statement)
            .bind(share)
            .bind(now)
            .bind(&*key.tenant)
            .bind(&*key.id)
            .bind(owner)
            .execute(&self.store.write)
            .await
            .map_err(StoreError::of("telling how far a job is"))?;
        Ok(())
    }

    /// Have a job not done: at once if nobody has begun it; else whoever works on it is told with its next sign of life.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel(
        &self,
        key: &JobKey,
        letters: &[NewLetter],
        now: Millis,
    ) -> Result<Cancelled, StoreError> {
        const DOING: &str = "cancelling a job";
        let at_once = concat!(
            "UPDATE jobs SET state = 'cancelled', finished_at = $1, updated_at = $1, memo = NULL \
             WHERE tenant = $2 AND id = $3 AND state = 'queued' RETURNING ",
            columns!()
        );
        let told = concat!(
            "UPDATE jobs SET cancel = 1, updated_at = $1 WHERE tenant = $2 AND id = $3 AND state = 'processing' RETURNING ",
            columns!()
        );
        loop {
            let of = |statement| sqlx::query(statement).bind(now).bind(&*key.tenant).bind(&*key.id);
            if let Some(job) = self.decide(DOING, of(at_once), key, letters, now).await? {
                return Ok(Cancelled::Done(job));
            }
            if let Some(job) = self.decide(DOING, of(told), key, &[], now).await? {
                return Ok(Cancelled::Asked(job));
            }
            match self.get(key).await? {
                None => return Ok(Cancelled::Unknown),
                Some(job) if job.state.is_final() => return Ok(Cancelled::Over(job)),
                // It went from the one to the other between the looks.
                Some(_) => {}
            }
        }
    }

    /// Do a job once more that failed or was cancelled, from its first attempt; `None` where it did neither. `holder` and `letter` as for a
    /// new one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retry(
        &self,
        key: &JobKey,
        holder: &str,
        letter: Option<&NewLetter>,
        now: Millis,
    ) -> Result<Option<Job>, StoreError> {
        let statement = concat!(
            "UPDATE jobs SET state = 'queued', attempts = 0, cancel = 0, run_after = $1, updated_at = $1, finished_at = NULL, result = NULL, \
             holder = $2 WHERE tenant = $3 AND id = $4 AND state IN ('failed', 'cancelled') RETURNING ",
            columns!()
        );
        let query = sqlx::query(statement).bind(now).bind(holder).bind(&*key.tenant).bind(&*key.id);
        self.decide(
            "beginning a job anew",
            query,
            key,
            letter.map(std::slice::from_ref).unwrap_or_default(),
            now,
        )
        .await
    }

    /// What people decide about a job, and the letters that tell of it, in one commit; the job, if `change` applied to it.
    async fn decide(
        &self,
        doing: &'static str,
        change: Query<'_, Any, AnyArguments>,
        key: &JobKey,
        letters: &[NewLetter],
        now: Millis,
    ) -> Result<Option<Job>, StoreError> {
        let failed = StoreError::of(doing);
        let mut commit = self.store.write.begin().await.map_err(&failed)?;
        let Some(row) = change.fetch_optional(&mut *commit).await.map_err(&failed)? else { return Ok(None) };
        for letter in letters {
            outbox::write(&self.store, &mut commit, key, letter, now).await?;
        }
        commit.commit().await.map_err(&failed)?;
        job(&row).map(Some)
    }

    /// Forget jobs that were over before `before`, as many as `most`; says how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget(&self, before: Millis, most: i64) -> Result<u64, StoreError> {
        let statement = "DELETE FROM jobs WHERE (tenant, id) IN (SELECT tenant, id FROM jobs \
                         WHERE state IN ('completed', 'failed', 'cancelled') AND finished_at < $1 LIMIT $2)";
        let done = sqlx::query(statement)
            .bind(before)
            .bind(most)
            .execute(&self.store.write)
            .await
            .map_err(StoreError::of("forgetting old jobs"))?;
        Ok(done.rows_affected())
    }
}
