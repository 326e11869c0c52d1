//! Taking jobs in. Once a request is answered with 202 its job is on the disk.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::try_join_all;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{Jobs, JobsApi, MOST_BYTES, failed, tenant_of};
use crate::api::auth::Principal;
use crate::api::problem::Problem;
use crate::api::transcriptions::{UploadPolicy, receive};
use crate::jobs::queue::Submission;
use crate::jobs::transcription::{TranscriptionAsked, Upload};
use crate::jobs::{ConversionAsked, JobError, Message, conversion};
use crate::store::jobs::{Inserted, JobKind};

/// Jobs taken at once.
const MOST_AT_ONCE: usize = 10_000;

/// One conversion, or a list of them.
pub(in crate::api) async fn convert(
    Jobs(api): Jobs,
    principal: Principal,
    body: Bytes,
) -> Result<Response, Problem> {
    let submissions = each(&body, |value| {
        let (message, tenant) = read(&api, &principal, JobKind::Conversion, value)?;
        let asked = ConversionAsked::deserialize(&message.payload).map_err(|error| bad(&error))?;
        conversion::check(&api.conversions, &tenant, &asked).map_err(|error| refused(&error))?;
        Ok(submission(message, tenant, JobKind::Conversion))
    })?;
    submit(&api, submissions, body.trim_ascii_start().first() == Some(&b'[')).await
}

/// One transcription of a file named by path or URL, or a list of them; or an upload, as a form.
pub(in crate::api) async fn transcribe(
    Jobs(api): Jobs,
    principal: Principal,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Some(policy) = &api.transcriptions else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no-model",
            "Nothing can be transcribed here",
            "This server has no speech model.",
            "Set speech.model.",
        ));
    };
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data") {
        return upload(&api, &principal, &headers, body).await;
    }
    let body = axum::body::to_bytes(body, MOST_BYTES).await.map_err(|error| {
        Problem::bad_request(
            format!("The body cannot be read: {error}."),
            "Send at most 16 MiB of JSON; files go as a form.",
        )
    })?;
    let submissions = each(&body, |value| {
        let (message, tenant) = read(&api, &principal, JobKind::Transcription, value)?;
        let asked = TranscriptionAsked::parse(&message.payload).map_err(|reason| bad(&reason))?;
        if asked.upload.is_some() {
            return Err(bad(&"`upload` is not for requests: send the file as a form, in the field `file`"));
        }
        if let Some(path) = &asked.path {
            let opened = policy.roots.open(&tenant, path, policy.most_bytes);
            opened.map_err(|error| refused(&JobError::permanent(error)))?;
        }
        if let Some(url) = &asked.url {
            api.fetcher.check(url).map_err(|error| refused(&JobError::permanent(error)))?;
        }
        Ok(submission(message, tenant, JobKind::Transcription))
    })?;
    submit(&api, submissions, body.trim_ascii_start().first() == Some(&b'[')).await
}

/// A form: `file`, and the fields of the JSON.
async fn upload(
    api: &Arc<JobsApi>,
    principal: &Principal,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Some(policy) = &api.transcriptions else { return Err(bad(&"no speech model")) };
    let uploads = UploadPolicy {
        folder: policy.uploads(),
        most_bytes: api.most_upload,
        min_free_mib: api.min_free_mib,
    };
    let (kept, fields) =
        receive::form(&uploads, receive::Keep::Named, headers, body).await.map_err(Problem::from)?;
    let submitted = async {
        let mut value = serde_json::Map::new();
        for (name, text) in fields {
            value.insert(name, text.into());
        }
        let upload = Upload { file: kept.name.clone(), name: kept.client_name.clone().unwrap_or_default() };
        value.insert("upload".into(), json!(upload));
        let (message, tenant) = read(api, principal, JobKind::Transcription, value.into())?;
        TranscriptionAsked::parse(&message.payload).map_err(|reason| bad(&reason))?;
        submit(api, vec![submission(message, tenant, JobKind::Transcription)], false).await
    };
    let outcome = submitted.await;
    if outcome.is_err() {
        crate::jobs::transcription::remove_upload(policy, &Upload { file: kept.name, name: String::new() });
    }
    outcome
}

pub(super) fn each(
    body: &[u8],
    mut of: impl FnMut(Value) -> Result<Submission, Problem>,
) -> Result<Vec<Submission>, Problem> {
    let value: Value = serde_json::from_slice(body).map_err(|error| bad(&error))?;
    let values = match value {
        Value::Array(values) => values,
        value => vec![value],
    };
    if values.is_empty() || values.len() > MOST_AT_ONCE {
        return Err(Problem::bad_request(
            format!("The list has {} jobs.", values.len()),
            format!("Send 1 to {MOST_AT_ONCE}."),
        ));
    }
    values.into_iter().map(&mut of).collect()
}

pub(super) fn read(
    api: &JobsApi,
    principal: &Principal,
    kind: JobKind,
    mut value: Value,
) -> Result<(Message, Arc<str>), Problem> {
    // Whose it is, is no part of what is to be done.
    let tenant = value.as_object_mut().and_then(|fields| fields.remove("tenant"));
    let tenant = tenant_of(api, principal, tenant.as_ref().and_then(Value::as_str))?;
    let message = Message::of_value(kind, value).map_err(|error| bad(&error))?;
    Ok((message, tenant))
}

pub(super) fn submission(message: Message, tenant: Arc<str>, kind: JobKind) -> Submission {
    let Message { id, priority, webhook, payload } = message;
    Submission { tenant, id, kind, priority, payload, webhook }
}

/// 202 for what is new, 200 for an id that is there already.
pub(super) async fn submit(
    api: &JobsApi,
    submissions: Vec<Submission>,
    is_list: bool,
) -> Result<Response, Problem> {
    let queue = api.service.queue();
    let done = try_join_all(submissions.into_iter().map(|one| queue.submit(one))).await.map_err(failed)?;
    let shown = |(inserted, key): &(Inserted, crate::store::jobs::JobKey)| {
        let status = if *inserted == Inserted::New { "queued" } else { "known" };
        json!({ "id": &*key.id, "status": status, "url": format!("/api/jobs/{}", key.id) })
    };
    if is_list {
        let jobs: Vec<Value> = done.iter().map(shown).collect();
        return Ok((StatusCode::ACCEPTED, Json(json!({ "jobs": jobs }))).into_response());
    }
    let Some(one) = done.first() else { return Err(bad(&"no job")) };
    let status = if one.0 == Inserted::New { StatusCode::ACCEPTED } else { StatusCode::OK };
    let mut shown = shown(one);
    if one.0 == Inserted::Known
        && let Some(job) = queue.jobs().get(&one.1).await.map_err(failed)?
    {
        shown["status"] = job.state.name().into();
    }
    let mut response = (status, Json(shown)).into_response();
    if let Ok(place) = HeaderValue::try_from(format!("/api/jobs/{}", one.1.id)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

pub(super) fn bad(reason: &dyn std::fmt::Display) -> Problem {
    Problem::bad_request(format!("This is no job: {reason}."), "See docs/jobs.md for what to send.")
}

pub(super) fn refused(error: &JobError) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "cannot-be-done",
        "This job could never be done",
        error.to_string(),
        "Correct what it names.",
    )
}
