//! Looking at jobs.

use sqlx::{AssertSqlSafe, Row as _};

use super::row::{columns, job, known};
use super::{Job, JobKey, JobKind, JobState, Jobs, Millis, Priority};
use crate::store::StoreError;

/// Which jobs to show; the newest first.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this tenant; without it, of all.
    pub tenant: Option<String>,
    /// About this.
    pub kind: Option<JobKind>,
    /// So far.
    pub state: Option<JobState>,
    /// Accepted before the job of this place.
    pub before: Option<i64>,
    /// So many at most.
    pub limit: i64,
}

/// How many jobs of one kind and priority are in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// About this.
    pub kind: JobKind,
    /// So far.
    pub state: JobState,
    /// Of this priority.
    pub priority: Priority,
    /// So many.
    pub count: i64,
    /// When the oldest of them was accepted.
    pub oldest: Millis,
}

impl Jobs {
    /// A job, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, key: &JobKey) -> Result<Option<Job>, StoreError> {
        let statement = concat!("SELECT ", columns!(), " FROM jobs WHERE tenant = $1 AND id = $2");
        let row = sqlx::query(statement)
            .bind(&*key.tenant)
            .bind(&*key.id)
            .fetch_optional(&self.store.read)
            .await
            .map_err(StoreError::of("looking for a job"))?;
        row.as_ref().map(job).transpose()
    }

    /// The job of this id, whosever it is; of several the newest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find(&self, id: &str) -> Result<Option<Job>, StoreError> {
        let statement =
            concat!("SELECT ", columns!(), " FROM jobs WHERE id = $1 ORDER BY place DESC LIMIT 1");
        let row = sqlx::query(statement)
            .bind(id)
            .fetch_optional(&self.store.read)
            .await
            .map_err(StoreError::of("looking for a job"))?;
        row.as_ref().map(job).transpose()
    }

    /// The newest job whose id is `prefix`, a `-` and more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn latest_of(&self, tenant: &str, prefix: &str) -> Result<Option<Job>, StoreError> {
        // `.` comes right after `-`.
        let statement = concat!(
            "SELECT ",
            columns!(),
            " FROM jobs WHERE tenant = $1 AND id > $2 AND id < $3 ORDER BY place DESC LIMIT 1"
        );
        let row = sqlx::query(statement)
            .bind(tenant)
            .bind(format!("{prefix}-"))
            .bind(format!("{prefix}."))
            .fetch_optional(&self.store.read)
            .await
            .map_err(StoreError::of("looking for a job"))?;
        row.as_ref().map(job).transpose()
    }

    /// Those that `filter` lets through, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Job>, StoreError> {
        let mut conditions = Vec::new();
        let texts = [
            ("tenant", filter.tenant.clone()),
            ("kind", filter.kind.map(|kind| kind.name().to_owned())),
            ("state", filter.state.map(|state| state.name().to_owned())),
        ];
        let texts: Vec<_> = texts.into_iter().filter_map(|(column, value)| Some((column, value?))).collect();
        for (n, (column, _)) in texts.iter().enumerate() {
            conditions.push(format!("{column} = ${}", n + 3));
        }
        conditions.push("place < $1".into());
        let statement = format!(
            "SELECT {} FROM jobs WHERE {} ORDER BY place DESC LIMIT $2",
            columns!(),
            conditions.join(" AND ")
        );
        let mut query =
            sqlx::query(AssertSqlSafe(statement)).bind(filter.before.unwrap_or(i64::MAX)).bind(filter.limit);
        for (_, value) in texts {
            query = query.bind(value);
        }
        let rows = query.fetch_all(&self.store.read).await.map_err(StoreError::of("listing jobs"))?;
        rows.iter().map(job).collect()
    }

    /// All that `filter` lets through, the newest first, read as many at a time as its limit says.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn each(&self, mut filter: Filter, mut take: impl FnMut(Job)) -> Result<(), StoreError> {
        loop {
            let page = self.list(&filter).await?;
            let last = page.last().map(|job| job.place).filter(|_| page.len() as i64 >= filter.limit);
            page.into_iter().for_each(&mut take);
            match last {
                Some(_) => filter.before = last,
                None => return Ok(()),
            }
        }
    }

    /// How many there are, by kind, state and priority.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn counts(&self, tenant: Option<&str>) -> Result<Vec<Counts>, StoreError> {
        let failed = StoreError::of("counting jobs");
        let of = if tenant.is_some() { " WHERE tenant = $1" } else { "" };
        // By tenant first, so that an index (`jobs_counted`) has all of it.
        let statement = format!(
            "SELECT kind, state, priority, CAST(SUM(count) AS BIGINT) AS count, MIN(oldest) AS oldest FROM \
             (SELECT tenant, kind, state, priority, COUNT(*) AS count, MIN(created_at) AS oldest \
             FROM jobs{of} GROUP BY tenant, kind, state, priority) AS of_tenants GROUP BY kind, state, priority"
        );
        let mut query = sqlx::query(AssertSqlSafe(statement));
        if let Some(tenant) = tenant {
            query = query.bind(tenant);
        }
        let rows = query.fetch_all(&self.store.read).await.map_err(&failed)?;
        let counts = rows.iter().map(|row| {
            let text = |name| row.try_get::<String, _>(name).map_err(&failed);
            let number = |name| row.try_get::<i64, _>(name).map_err(&failed);
            Ok(Counts {
                kind: known("kind of job", JobKind::of_name, &text("kind")?)?,
                state: known("state of a job", JobState::of_name, &text("state")?)?,
                priority: if number("priority")? > 0 { Priority::High } else { Priority::Normal },
                count: number("count")?,
                oldest: number("oldest")?,
            })
        });
        counts.collect()
    }

    /// How many stand before this one of those that wait: of its kind, of a higher priority or of the same and accepted before it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ahead_of(&self, job: &Job) -> Result<i64, StoreError> {
        let statement = "SELECT COUNT(*) FROM jobs WHERE kind = $1 AND state = 'queued' AND (priority > $2 OR (priority = $2 AND place < $3))";
        sqlx::query_scalar(statement)
            .bind(job.kind.name())
            .bind(i64::from(job.priority == Priority::High))
            .bind(job.place)
            .fetch_one(&self.store.read)
            .await
            .map_err(StoreError::of("counting the jobs before one"))
    }
}
