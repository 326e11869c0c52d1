//! `/api/jobs`, `/api/conversions`, `/api/transcriptions`, `/queue/stats`: work that is done later, or takes long.

mod submit;
mod tts;
mod workers;

use std::io;
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path as UrlPath};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::access::{Params, blocking, listed, page_length};
use super::auth::Principal;
use super::problem::Problem;
use super::state::AppState;
use crate::calls::record::is_valid_name;
use crate::config::is_tenant;
use crate::jobs::call::Caller;
use crate::jobs::conversion::ConversionPolicy;
use crate::jobs::service::JobService;
use crate::jobs::shape;
use crate::jobs::transcription::{Fetcher, TranscriptionPolicy};
use crate::store::StoreError;
use crate::store::jobs::{Cancelled, Filter, Job, JobKey, JobKind, JobState};

pub(super) use submit::{convert, transcribe};
pub(super) use tts::{call, status};
pub(super) use workers::{set_workers, stats};

/// Bytes of a body of JSON: as many jobs as are taken at once.
pub(super) const MOST_BYTES: usize = 16 << 20;

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

/// What does the jobs, on a server that does any.
pub(super) struct Jobs(Arc<JobsApi>);

impl FromRequestParts<AppState> for Jobs {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        state.jobs.clone().map(Self).ok_or_else(|| {
            let detail = "This server does no jobs.";
            let remedy = "Ask one that does.";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-jobs", "No jobs here", detail, remedy)
        })
    }
}

/// The job named in the path, if the caller may see it.
pub(super) struct VisibleJob {
    api: Arc<JobsApi>,
    job: Job,
}

impl FromRequestParts<AppState> for VisibleJob {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Jobs(api) = Jobs::from_request_parts(parts, state).await?;
        let principal = Principal::from_request_parts(parts, state).await?;
        let UrlPath(id) = UrlPath::<String>::from_request_parts(parts, state).await?;
        let jobs = api.service.queue().jobs();
        let job = match (&principal.tenant, is_valid_name(&id)) {
            (_, false) => None,
            (Some(own), true) => {
                let key = JobKey { tenant: own.clone(), id: id.as_str().into() };
                jobs.get(&key).await.map_err(failed)?
            }
            (None, true) => jobs.find(&id).await.map_err(failed)?,
        };
        let job = job.ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_FOUND,
                "no-such-job",
                "No such job",
                format!("There is no job `{id}`."),
                "List the jobs with GET /api/jobs; those that are over are forgotten after jobs.keep_days.",
            )
        })?;
        Ok(Self { api, job })
    }
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
    limit: Option<usize>,
    kind: Option<JobKind>,
    state: Option<JobState>,
    before: Option<i64>,
    tenant: Option<String>,
    #[serde(rename = "token")]
    _token: Option<IgnoredAny>,
}

/// Jobs that the caller may see, the newest first; `next` is the `before` of the next page.
pub(super) async fn list(
    Jobs(api): Jobs,
    principal: Principal,
    Params(params): Params<ListParams>,
) -> Result<Json<Value>, Problem> {
    let limit = page_length(params.limit, "jobs")?;
    let Some(tenant) = listed(&principal, params.tenant) else {
        return Ok(Json(json!({ "jobs": [], "next": null })));
    };
    let filter =
        Filter { tenant, kind: params.kind, state: params.state, before: params.before, limit: limit as i64 };
    let jobs = api.service.queue().jobs().list(&filter).await.map_err(failed)?;
    let next = (jobs.len() == limit).then(|| jobs.last().map(|job| job.place)).flatten();
    let jobs: Vec<Value> = jobs.iter().map(shape::job).collect();
    Ok(Json(json!({ "jobs": jobs, "next": next })))
}

/// One job; with how many are before it while it waits.
pub(super) async fn show(VisibleJob { api, job }: VisibleJob) -> Result<Json<Value>, Problem> {
    let mut shown = shape::job(&job);
    if job.state == JobState::Queued {
        shown["ahead"] = api.service.queue().jobs().ahead_of(&job).await.map_err(failed)?.into();
    }
    Ok(Json(shown))
}

/// Have a job not done: 200 if it is cancelled, 202 if whoever works on it is told.
pub(super) async fn cancel(VisibleJob { api, job }: VisibleJob) -> Result<Response, Problem> {
    match api.service.cancel(&job.key).await.map_err(failed)? {
        Cancelled::Done(job) => Ok(Json(shape::job(&job)).into_response()),
        Cancelled::Asked(job) => Ok((StatusCode::ACCEPTED, Json(shape::job(&job))).into_response()),
        Cancelled::Over(job) => Err(over(&job, "cancelled", "It cannot be taken back.")),
        Cancelled::Unknown => Err(over(&job, "cancelled", "It is forgotten.")),
    }
}

/// Do a job once more that failed or was cancelled.
pub(super) async fn retry(VisibleJob { api, job }: VisibleJob) -> Result<Response, Problem> {
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
pub(super) async fn transcript(VisibleJob { job, .. }: VisibleJob) -> Result<Response, Problem> {
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
