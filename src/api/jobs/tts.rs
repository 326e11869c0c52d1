//! `/tts/call`, `/tts/status/{job_id}`: texts spoken to people's telephones.

use axum::Json;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize as _;
use serde_json::Value;

use super::submit::{bad, each, read, refused, submission, submit};
use super::{Jobs, VisibleJob};
use crate::api::auth::Principal;
use crate::api::problem::Problem;
use crate::jobs::{JobError, TtsAsked, shape};
use crate::store::jobs::JobKind;

/// One call, or a list of them.
pub(in crate::api) async fn call(
    Jobs(api): Jobs,
    principal: Principal,
    body: Bytes,
) -> Result<Response, Problem> {
    let Some(calls) = &api.calls else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no-calls",
            "No calls are placed here",
            "This server has no Asterisk Manager Interface, or nothing that speaks.",
            "Set ami.user, its password, and tts.engine.",
        ));
    };
    let submissions = each(&body, |value| {
        let (message, tenant) = read(&api, &principal, JobKind::TtsCall, value)?;
        let asked = TtsAsked::deserialize(&message.payload).map_err(|error| bad(&error))?;
        let length = asked.text.chars().count();
        if asked.text.trim().is_empty() || length > calls.most_chars {
            return Err(bad(&format!("`text` has {length} characters, and takes 1 to {}", calls.most_chars)));
        }
        calls
            .caller
            .check(&tenant, &asked.phone_number)
            .map_err(|error| refused(&JobError::permanent(error)))?;
        Ok(submission(message, tenant, JobKind::TtsCall))
    })?;
    submit(&api, submissions, body.trim_ascii_start().first() == Some(&b'[')).await
}

/// What became of a call.
pub(in crate::api) async fn status(VisibleJob { job, .. }: VisibleJob) -> Json<Value> {
    Json(shape::call(&job))
}
