//! How the queue stands, and how many work on it.

use axum::Json;
use axum::body::Bytes;
use axum::extract::Path as UrlPath;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Jobs, failed};
use crate::api::auth::Principal;
use crate::api::problem::Problem;
use crate::clock;
use crate::config::MOST_WORKERS;
use crate::store::jobs::{JobKind, JobState, Priority};

/// How many jobs there are of each kind and state, how long the oldest waits, and who works.
pub(in crate::api) async fn stats(Jobs(api): Jobs, principal: Principal) -> Result<Json<Value>, Problem> {
    let counts = api.service.queue().jobs().counts(principal.tenant.as_deref()).await.map_err(failed)?;
    let now = clock::timestamp().as_millisecond();
    let mut kinds = Map::new();
    for kind in JobKind::ALL {
        let of = |state: JobState, priority: Option<Priority>| {
            let these = counts.iter().filter(move |count| {
                count.kind == *kind
                    && count.state == state
                    && priority.is_none_or(|only| only == count.priority)
            });
            these.map(|count| count.count).sum::<i64>()
        };
        let oldest = counts.iter().filter(|count| count.kind == *kind && count.state == JobState::Queued);
        let oldest = oldest.map(|count| (now - count.oldest) as f64 / 1_000.0).fold(0.0, f64::max);
        let states: Map<String, Value> =
            JobState::ALL.iter().map(|state| (state.name().into(), of(*state, None).into())).collect();
        let workers = api.service.workers(*kind).map(|workers| {
            let (total, busy) = (workers.number(), workers.busy());
            json!({ "total": total, "active": busy, "idle": total.saturating_sub(busy) })
        });
        let one = json!({
            "jobs": states,
            "waiting": {
                "normal": of(JobState::Queued, Some(Priority::Normal)),
                "high": of(JobState::Queued, Some(Priority::High)),
                "oldest_seconds": oldest,
            },
            "workers": workers,
        });
        kinds.insert(kind.name().into(), one);
    }
    Ok(Json(json!({ "engine": api.service.queue().engine().name(), "kinds": kinds })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Wanted {
    workers: usize,
}

/// Have so many workers of a kind from now on.
pub(in crate::api) async fn set_workers(
    Jobs(api): Jobs,
    principal: Principal,
    UrlPath(kind): UrlPath<String>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(
            format!("The body is not the JSON of a number of workers: {error}."),
            "Send {\"workers\": 4}.",
        )
    })?;
    if principal.tenant.is_some() {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "not-for-tenants",
            "Workers are everybody's",
            "The key is one tenant's.",
            "Use a key of tenant `*`.",
        ));
    }
    let workers = JobKind::of_name(&kind).and_then(|kind| api.service.workers(kind));
    let Some(workers) = workers else {
        let kinds: Vec<_> = api.service.all_workers().map(|workers| workers.kind().name()).collect();
        return Err(Problem::bad_request(
            format!("`{kind}` is no kind of job that is done here."),
            format!("Use one of {}.", kinds.join(", ")),
        ));
    };
    if wanted.workers > MOST_WORKERS {
        return Err(Problem::bad_request(
            format!("{} workers are too many.", wanted.workers),
            format!("Ask for {MOST_WORKERS} at most."),
        ));
    }
    workers.set_number(wanted.workers);
    tracing::info!(kind, workers = wanted.workers, "the number of workers was changed");
    Ok(Json(json!({ "kind": kind, "workers": workers.number(), "active": workers.busy() })))
}
