//! Who works on what.

use sqlx::AssertSqlSafe;

use super::row::{columns, job};
use super::{Job, JobKey, JobKind, JobState, Jobs, Millis, Priority};
use crate::store::{Dialect, StoreError};

/// What a worker would take.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// About this.
    pub kind: JobKind,
    /// Of this priority alone; without one the highest first.
    pub priority: Option<Priority>,
    /// Not of these tenants: they have as much as they may.
    pub not_of: &'a [String],
    /// The process that takes it, and may take what a broker gave to it.
    pub owner: &'a str,
    /// It counts as dead when it has given no sign of life for so long.
    pub lease_ms: i64,
}

impl Jobs {
    /// Take the next job that is due, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim(&self, wanted: Wanted<'_>, now: Millis) -> Result<Option<Job>, StoreError> {
        let tenants: String =
            (0..wanted.not_of.len()).map(|n| format!(" AND tenant <> ${}", n + 8)).collect();
        let priority = match wanted.priority {
            None => "",
            Some(Priority::Normal) => " AND priority = 0",
            Some(Priority::High) => " AND priority = 1",
        };
        let lock = match self.store.dialect {
            Dialect::Sqlite => "",
            Dialect::Postgres => " FOR UPDATE SKIP LOCKED",
        };
        let statement = format!(
            "UPDATE jobs SET state = $1, owner = $2, lease_until = $3, attempts = attempts + 1, started_at = $4, updated_at = $4, progress = NULL \
             WHERE (tenant, id) IN (SELECT tenant, id FROM jobs WHERE kind = $5 AND state = $6 AND run_after <= $4 \
             AND holder IN ('', $2, $7){priority}{tenants} ORDER BY priority DESC, place LIMIT 1{lock}) RETURNING {}",
            columns!()
        );
        let mut query = sqlx::query(AssertSqlSafe(statement))
            .bind(JobState::Processing.name())
            .bind(wanted.owner)
            .bind(now + wanted.lease_ms)
            .bind(now)
            .bind(wanted.kind.name())
            .bind(JobState::Queued.name())
            .bind("");
        for tenant in wanted.not_of {
            query = query.bind(tenant);
        }
        let row = query.fetch_optional(&self.store.write).await.map_err(StoreError::of("claiming a job"))?;
        row.as_ref().map(job).transpose()
    }

    /// When the next job of this kind is due that is not yet, for whoever found none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_due(
        &self,
        kind: JobKind,
        owner: &str,
        now: Millis,
    ) -> Result<Option<Millis>, StoreError> {
        let statement = "SELECT MIN(run_after) FROM jobs WHERE kind = $1 AND state = $2 AND run_after > $3 AND holder IN ('', $4)";
        sqlx::query_scalar::<_, Option<i64>>(statement)
            .bind(kind.name())
            .bind(JobState::Queued.name())
            .bind(now)
            .bind(owner)
            .fetch_one(&self.store.read)
            .await
            .map_err(StoreError::of("looking for the next job"))
    }

    /// A sign of life of `owner` for all that it works on; those of them that somebody wants cancelled.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn renew(&self, owner: &str, lease_ms: i64, now: Millis) -> Result<Vec<JobKey>, StoreError> {
        use sqlx::Row as _;
        let failed = StoreError::of("renewing the lease of jobs");
        let rows = sqlx::query(
            "UPDATE jobs SET lease_until = $1 WHERE owner = $2 AND state = $3 RETURNING tenant, id, cancel",
        )
        .bind(now + lease_ms)
        .bind(owner)
        .bind(JobState::Processing.name())
        .fetch_all(&self.store.write)
        .await
        .map_err(&failed)?;
        let mut cancelled = Vec::new();
        for row in rows {
            if row.try_get::<i64, _>("cancel").map_err(&failed)? != 0 {
                let text = |name| row.try_get::<String, _>(name).map_err(&failed);
                cancelled.push(JobKey { tenant: text("tenant")?.into(), id: text("id")?.into() });
            }
        }
        Ok(cancelled)
    }

    /// What dead processes worked on waits again: what processes named `node` had (this one is the only one of that name), and
    /// whatever nobody gave a sign of life for. Says how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_back(&self, node: &str, owner: &str, now: Millis) -> Result<u64, StoreError> {
        // A job of a broker's comes again with its message, to whoever gets that.
        let statement = "UPDATE jobs SET state = $1, owner = NULL, lease_until = NULL, updated_at = $2, \
                         holder = CASE WHEN holder = '' THEN '' ELSE 'broker' END \
                         WHERE state = $3 AND (lease_until < $2 OR (owner LIKE $4 AND owner <> $5))";
        let done = sqlx::query(statement)
            .bind(JobState::Queued.name())
            .bind(now)
            .bind(JobState::Processing.name())
            .bind(format!("{node}/%"))
            .bind(owner)
            .execute(&self.store.write)
            .await
            .map_err(StoreError::of("taking back the jobs of dead processes"))?;
        Ok(done.rows_affected())
    }

    /// The broker gave this job to `owner`: it is this process's to do, unless it is done or under way elsewhere. Says how it stands.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold(&self, key: &JobKey, owner: &str, now: Millis) -> Result<Option<Job>, StoreError> {
        sqlx::query("UPDATE jobs SET holder = $1, updated_at = $2 WHERE tenant = $3 AND id = $4 AND state = $5 AND holder <> ''")
            .bind(owner)
            .bind(now)
            .bind(&*key.tenant)
            .bind(&*key.id)
            .bind(JobState::Queued.name())
            .execute(&self.store.write)
            .await
            .map_err(StoreError::of("taking a job from the broker"))?;
        self.get(key).await
    }

    /// What this process has of the broker's and has not begun is the broker's again: the connection is lost, and others may get it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn let_go(&self, owner: &str, queue_of: JobKind, now: Millis) -> Result<(), StoreError> {
        sqlx::query("UPDATE jobs SET holder = 'broker', updated_at = $1 WHERE holder = $2 AND kind = $3 AND state = $4")
            .bind(now)
            .bind(owner)
            .bind(queue_of.name())
            .bind(JobState::Queued.name())
            .execute(&self.store.write)
            .await
            .map_err(StoreError::of("giving jobs back to the broker"))?;
        Ok(())
    }
}
