//! `/api/jobs`, `/api/conversions`, `/api/transcriptions`, `/queue/stats`: work that is done later, or takes long.

mod shape;
mod submit;
mod tts;
mod workers;

use std::io;
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::access::{Params, blocking};
use super::auth::Principal;
use super::problem::Problem;
use super::state::AppState;
use crate::calls::record::is_valid_name;
use crate::config::is_tenant;
use crate::jobs::call::Caller;
use crate::jobs::conversion::ConversionPolicy;
use crate::jobs::service::JobService;
use crate::jobs::transcription::{Fetcher, TranscriptionPolicy};
use crate::store::StoreError;
use crate::store::jobs::{Cancelled, Filter, Job, JobKey, JobKind, JobState};

pub(super) use submit::{convert, transcribe};
pub(super) use tts::{call, status};
pub(super) use workers::{set_workers, stats};

/// Bytes of a body of JSON: as many jobs as are taken at once.
pub(super) const MOST_BYTES: usize = 16 << 20;
/// Jobs of a page unless asked otherwise, and at most.
const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 500;

/// What text-to-speech calls may ask for.
#[derive(Debug)]
pub struct CallsApi {
    /// Knows which numbers may be called.
    pub caller: Caller,
    /// Longest text, characters.
    pub most_chars: usize,
}

/// What the routes of jobs need.
#[derive(Debug)]
pub struct JobsApi {
    /// The queue and the workers.
    pub service: JobService,
    /// What conversions may name.
    pub conversions: ConversionPolicy,
    /// What transcriptions may name, if this server transcribes.
    pub transcriptions: Option<TranscriptionPolicy>,
    /// What calls may ask for, if this server places any.
    pub calls: Option<CallsApi>,
    /// From where files may be fetched.
    pub fetcher: Fetcher,
    /// Whose jobs are that no key says of (`calls.tenant`).
    pub tenant: Arc<str>,
    /// Disk that is left to recordings, MiB.
    pub min_free_mib: u64,
    /// Largest upload, bytes.
    pub most_upload: u64,
}

fn api(state: &AppState) -> Result<Arc<JobsApi>, Problem> {
    state.jobs.clone().ok_or_else(|| {
        let detail = "This server does no jobs.";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-jobs", "No jobs here", detail, "Ask one that does.")
    })
}

fn failed(error: StoreError) -> Problem {
    if let StoreError::Full { .. } = error {
        let words = error.to_string();
        return Problem::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "disk-full",
            "The disk is full",
            words,
            "Make room, then try again.",
        );
    }
    Problem::internal("the database failed", &error)
}

/// Whose job it is to be: that of the key, or, for one that may see all, what the request says.
fn tenant_of(api: &JobsApi, principal: &Principal, asked: Option<&str>) -> Result<Arc<str>, Problem> {
    match (&principal.tenant, asked) {
        (Some(own), None) => Ok(own.clone()),
        (Some(own), Some(asked)) if **own == *asked => Ok(own.clone()),
        (Some(_), Some(asked)) => Err(Problem::bad_request(
            format!("The key is not for tenant `{asked}`."),
            "Leave `tenant` out: jobs are the key's tenant's.",
        )),
        (None, None) => Ok(api.tenant.clone()),
        (None, Some(asked)) if is_tenant(asked) => Ok(asked.into()),
        (None, Some(asked)) => Err(Problem::bad_request(
            format!("`{asked}` is no tenant."),
            "Tenants have letters, digits, `-` and `_`, the first a letter or digit.",
        )),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    limit: Option<i64>,
    kind: Option<JobKind>,
    state: Option<JobState>,
    before: Option<i64>,
    tenant: Option<String>,
    #[serde(rename = "token")]
    _token: Option<IgnoredAny>,
}

/// Jobs that the caller may see, the newest first; `next` is the `before` of the next page.
pub(super) async fn list(
    State(state): State<AppState>,
    principal: Principal,
    Params(params): Params<ListParams>,
) -> Result<Json<Value>, Problem> {
    let api = api(&state)?;
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::bad_request(
            format!("`limit` is {limit}."),
            format!("Ask for 1 to {MAX_LIMIT} jobs, and page on with `before`."),
        ));
    }
    if params.tenant.as_deref().is_some_and(|tenant| !principal.may_see(tenant)) {
        return Ok(Json(json!({ "jobs": [], "next": null })));
    }
    let tenant = principal.tenant.as_deref().map(str::to_owned).or(params.tenant);
    let filter = Filter { tenant, kind: params.kind, state: params.state, before: params.before, limit };
    let jobs = api.service.queue().jobs().list(&filter).await.map_err(failed)?;
    let next = (jobs.len() as i64 == limit).then(|| jobs.last().map(|job| job.place)).flatten();
    let jobs: Vec<Value> = jobs.iter().map(shape::job).collect();
    Ok(Json(json!({ "jobs": jobs, "next": next })))
}

/// The job of that id, if the caller may see it.
async fn visible(api: &JobsApi, principal: &Principal, id: &str) -> Result<Job, Problem> {
    let jobs = api.service.queue().jobs();
    let job = match (&principal.tenant, is_valid_name(id)) {
        (_, false) => None,
        (Some(own), true) => {
            jobs.get(&JobKey { tenant: own.clone(), id: id.into() }).await.map_err(failed)?
        }
        (None, true) => jobs.find(id).await.map_err(failed)?,
    };
    job.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no-such-job",
            "No such job",
            format!("There is no job `{id}`."),
            "List the jobs with GET /api/jobs; those that are over are forgotten after jobs.keep_days.",
        )
    })
}

/// One job; with how many are before it while it waits.
pub(super) async fn show(
    State(state): State<AppState>,
    principal: Principal,
    UrlPath(id): UrlPath<String>,
) -> Result<Json<Value>, Problem> {
    let api = api(&state)?;
    let job = visible(&api, &principal, &id).await?;
    let mut shown = shape::job(&job);
    if job.state == JobState::Queued {
        shown["ahead"] = api.service.queue().jobs().ahead_of(&job).await.map_err(failed)?.into();
    }
    Ok(Json(shown))
}

/// Have a job not done: 200 if it is cancelled, 202 if whoever works on it is told.
pub(super) async fn cancel(
    State(state): State<AppState>,
    principal: Principal,
    UrlPath(id): UrlPath<String>,
) -> Result<Response, Problem> {
    let api = api(&state)?;
    let job = visible(&api, &principal, &id).await?;
    match api.service.cancel(&job.key).await.map_err(failed)? {
        Cancelled::Done(job) => Ok(Json(shape::job(&job)).into_response()),
        Cancelled::Asked(job) => Ok((StatusCode::ACCEPTED, Json(shape::job(&job))).into_response()),
        Cancelled::Over(job) => Err(over(&job, "cancelled", "It cannot be taken back.")),
        Cancelled::Unknown => Err(over(&job, "cancelled", "It is forgotten.")),
    }
}

/// Do a job once more that failed or was cancelled.
pub(super) async fn retry(
    State(state): State<AppState>,
    principal: Principal,
    UrlPath(id): UrlPath<String>,
) -> Result<Response, Problem> {
    let api = api(&state)?;
    let job = visible(&api, &principal, &id).await?;
    match api.service.retry(&job).await.map_err(failed)? {
        Some(job) => Ok((StatusCode::ACCEPTED, Json(shape::job(&job))).into_response()),
        None => {
            Err(over(&job, "retried", "Only what failed or was cancelled is done again; submit a new job."))
        }
    }
}

fn over(job: &Job, what: &str, remedy: &'static str) -> Problem {
    let detail = format!("Job `{}` is {} and cannot be {what}.", job.key.id, job.state);
    Problem::conflict("not-now", "Not in this state", detail, remedy)
}

/// The transcript that a job made, as it was written.
pub(super) async fn transcript(
    State(state): State<AppState>,
    principal: Principal,
    UrlPath(id): UrlPath<String>,
) -> Result<Response, Problem> {
    let api = api(&state)?;
    let job = visible(&api, &principal, &id).await?;
    let path = job.result.as_ref().and_then(|result| result["transcript_path"].as_str().map(str::to_owned));
    let (true, Some(path)) = (job.kind == JobKind::Transcription, path) else {
        return Err(Problem::no_such_file(
            format!("Job `{}` ({}, {}) has no transcript.", job.key.id, job.kind, job.state),
            "Wait until a transcription is `completed`.",
        ));
    };
    let read =
        blocking("cannot read the transcript", move || std::fs::read(&path).map(|text| (text, path))).await?;
    let (text, path) = read.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Problem::no_such_file("The transcript was removed.", "Submit the file again.")
        }
        _ => Problem::internal("cannot read the transcript", &error),
    })?;
    let kind = match Path::new(&path).extension().and_then(|extension| extension.to_str()) {
        Some("json") => "application/json",
        Some("srt") => "application/x-subrip; charset=utf-8",
        Some("vtt") => "text/vtt; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Body::from(text)).into_response())
}
