//! `/api/calls`: the list, one call, its report, and commands to it.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::access::{Params, VisibleCall, listed, page_length};
use super::auth::Principal;
use super::problem::Problem;
use super::recording;
use super::state::AppState;
use crate::calls::archive::NotRemoved;
use crate::calls::control::ControlError;
use crate::calls::directory::{CallQuery, Cursor, RemoveError};
use crate::calls::record::{CallRecord, CallState, FileStatus};

/// A filter that is misspelt must not pass for none: unknown names are refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    limit: Option<usize>,
    state: Option<CallState>,
    #[serde(default)]
    q: String,
    before: Option<String>,
    tenant: Option<String>,
    /// The key may come so: see [`auth`](super::auth).
    #[serde(rename = "token")]
    _token: Option<IgnoredAny>,
}

/// Calls that the caller may see, newest first; `next` is the `before` of the next page.
pub(super) async fn list(
    State(state): State<AppState>,
    principal: Principal,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let before = params.before.as_deref().map(str::parse::<Cursor>).transpose().map_err(|_| {
        Problem::bad_request("`before` is not a cursor.", "Give the `next` of the page before, unchanged.")
    })?;
    let limit = page_length(params.limit, "calls")?;
    let Some(tenant) = listed(&principal, params.tenant) else {
        return Ok(Json(json!({ "calls": [], "next": null })).into_response());
    };
    let query = CallQuery {
        tenant,
        state: params.state,
        text: Some(params.q.trim().to_owned()).filter(|text| !text.is_empty()),
        before,
        limit,
    };
    let page = state.archive.list(&query).await?;
    let calls: Vec<&CallRecord> = page.calls.iter().map(|record| &**record).collect();
    Ok(Json(json!({ "calls": calls, "next": page.next.map(|next| next.to_string()) })).into_response())
}

/// One call.
pub(super) async fn show(VisibleCall(record): VisibleCall) -> Json<CallRecord> {
    Json(CallRecord::clone(&record))
}

/// The integrity report, as written beside the recording.
pub(super) async fn report(
    State(state): State<AppState>,
    VisibleCall(record): VisibleCall,
) -> Result<Response, Problem> {
    let files = state.directory.files(&record).map_err(|_| Problem::no_such_call(&record.call_id))?;
    match tokio::fs::read(files.report()).await {
        Ok(json) => Ok(([(header::CONTENT_TYPE, "application/json")], Body::from(json)).into_response()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let kept = match record.report.status {
                FileStatus::Ready => state.archive.report(&record).await?,
                _ => None,
            };
            let kept = kept.ok_or_else(|| no_report(&record))?;
            Ok(([(header::CONTENT_TYPE, "application/json")], Body::from(kept)).into_response())
        }
        Err(error) => Err(Problem::internal("cannot read the report", &error)),
    }
}

fn no_report(record: &CallRecord) -> Problem {
    match record.report.status {
        FileStatus::Open | FileStatus::Paused => recording::still_recording(),
        FileStatus::Off => recording::not_recorded(record),
        FileStatus::Ready | FileStatus::Pending => Problem::no_such_file(
            "The report is not on this disk any more.",
            "Look where recordings are moved or backed up to.",
        ),
        FileStatus::Failed => {
            Problem::no_such_file("The report could not be made.", "The call's `error` says why.")
        }
    }
}

/// Remove an ended call and its files.
pub(super) async fn remove(
    State(state): State<AppState>,
    VisibleCall(record): VisibleCall,
) -> Result<StatusCode, Problem> {
    if record.is_ended() {
        state.control.forget(&record.call_id).await;
    }
    let removed = state.archive.remove(&record.call_id).await;
    let removed = match removed {
        Err(NotRemoved::Store(error)) => return Err(error.into()),
        Err(NotRemoved::Directory(error)) => Err(error),
        Ok(()) => Ok(()),
    };
    match removed {
        Ok(()) => {
            tracing::info!(call_id = record.call_id, tenant = record.tenant, "call removed on request");
            Ok(StatusCode::NO_CONTENT)
        }
        Err(RemoveError::Unknown(id)) => Err(Problem::no_such_call(&id)),
        Err(RemoveError::NotEnded(_)) => Err(Problem::conflict(
            "call-not-over",
            "The call is not over",
            "Only ended calls can be removed.",
            "Hang it up with POST …/hangup, and wait for its state `ended`.",
        )),
        Err(error @ RemoveError::Files { .. }) => {
            Err(Problem::internal("cannot remove the call's files", &error))
        }
    }
}

/// Hang the call up.
pub(super) async fn hangup(
    State(state): State<AppState>,
    VisibleCall(record): VisibleCall,
) -> Result<StatusCode, Problem> {
    commanded(state.control.hangup(&record.call_id).await)
}

/// Marked silence from now on.
pub(super) async fn pause_recording(
    State(state): State<AppState>,
    VisibleCall(record): VisibleCall,
) -> Result<StatusCode, Problem> {
    commanded(state.control.pause_recording(&record.call_id).await)
}

/// Audio again.
pub(super) async fn resume_recording(
    State(state): State<AppState>,
    VisibleCall(record): VisibleCall,
) -> Result<StatusCode, Problem> {
    commanded(state.control.resume_recording(&record.call_id).await)
}

fn commanded(done: Result<(), ControlError>) -> Result<StatusCode, Problem> {
    done.map(|()| StatusCode::NO_CONTENT).map_err(refusal)
}

/// Why a command was not carried out.
pub(super) fn refusal(error: ControlError) -> Problem {
    match error {
        ControlError::NotLive => Problem::conflict(
            "call-not-live",
            "The call is not live",
            "The call is over, or ending.",
            "GET the call to see its state.",
        ),
        ControlError::NotTakenUp => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "call-not-taken-up",
            "The call is not taken up yet",
            "The server was started again, and has not learnt from Asterisk yet whether the call lives.",
            "Try again in a second; /ready shows how the connection to Asterisk stands.",
        )
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("1")),
        ControlError::NotPossible(why) => {
            Problem::conflict("not-possible", "Not with this call", why, "GET the call to see its state.")
        }
        ControlError::Failed(why) => {
            tracing::warn!(error = why, "a command to a call failed");
            Problem::new(
                StatusCode::BAD_GATEWAY,
                "command-failed",
                "The command was not carried out",
                why,
                "Look at /ready, and try again.",
            )
        }
    }
}
