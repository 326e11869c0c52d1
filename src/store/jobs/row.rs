//! Rows as jobs.

use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Job, JobKey, JobKind, JobState, Priority};
use crate::store::StoreError;

/// What [`job`] reads.
macro_rules! columns {
    () => {
        "tenant, id, kind, state, priority, place, run_after, attempts, payload, route, memo, progress, result, error, created_at, \
         updated_at, started_at, finished_at"
    };
}
pub(super) use columns;

pub(super) fn job(row: &AnyRow) -> Result<Job, StoreError> {
    let wrong = StoreError::of("reading a job");
    let text = |name: &str| row.try_get::<String, _>(name).map_err(&wrong);
    let number = |name: &str| row.try_get::<i64, _>(name).map_err(&wrong);
    let maybe_text = |name: &str| row.try_get::<Option<String>, _>(name).map_err(&wrong);
    let maybe_number = |name: &str| row.try_get::<Option<i64>, _>(name).map_err(&wrong);
    Ok(Job {
        key: JobKey { tenant: text("tenant")?.into(), id: text("id")?.into() },
        kind: known("kind of job", JobKind::of_name, &text("kind")?)?,
        state: known("state of a job", JobState::of_name, &text("state")?)?,
        priority: if number("priority")? > 0 { Priority::High } else { Priority::Normal },
        place: number("place")?,
        run_after: number("run_after")?,
        attempts: u32::try_from(number("attempts")?).unwrap_or(u32::MAX),
        payload: json("payload", &text("payload")?)?,
        route: json("route", &text("route")?)?,
        memo: maybe_text("memo")?.map(|memo| json("memo", &memo)).transpose()?,
        progress: row.try_get::<Option<f64>, _>("progress").map_err(&wrong)?,
        result: maybe_text("result")?.map(|result| json("result", &result)).transpose()?,
        error: maybe_text("error")?,
        created_at: number("created_at")?,
        updated_at: number("updated_at")?,
        started_at: maybe_number("started_at")?,
        finished_at: maybe_number("finished_at")?,
    })
}

pub(super) fn json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|_| StoreError::Unknown { what, value: text.chars().take(200).collect() })
}

/// What a name of ours stands for, in a database that a later version may have written.
pub(super) fn known<T>(
    what: &'static str,
    of_name: impl Fn(&str) -> Option<T>,
    name: &str,
) -> Result<T, StoreError> {
    of_name(name).ok_or_else(|| StoreError::Unknown { what, value: name.to_owned() })
}
