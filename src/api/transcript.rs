//! `/api/calls/{id}/transcript`: as stored once the call is over, as far as it has come while it lives.

use std::io::ErrorKind;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::access::{Params, VisibleCall, blocking};
use super::problem::Problem;
use super::state::AppState;
use crate::calls::hub::ReadError;
use crate::calls::record::{CallRecord, FileStatus};
use crate::calls::transcript;
use crate::speech::transcript::Transcript;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Json,
    /// `text` is what the command line calls it.
    #[serde(alias = "text")]
    Txt,
    Srt,
    Vtt,
}

#[derive(Deserialize)]
pub(super) struct FormatParams {
    format: Option<Format>,
}

/// By `?format=`, else by `Accept`, else JSON.
pub(super) async fn negotiated(
    State(state): State<AppState>,
    call: VisibleCall,
    Params(params): Params<FormatParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let accepted = || {
        let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
        accept.split(',').find_map(|kind| match kind.split(';').next()?.trim() {
            "application/json" | "*/*" => Some(Format::Json),
            "text/plain" => Some(Format::Txt),
            "application/x-subrip" => Some(Format::Srt),
            "text/vtt" => Some(Format::Vtt),
            _ => None,
        })
    };
    show(state, call, params.format.or_else(accepted).unwrap_or(Format::Json)).await
}

/// `/transcript.json`
pub(super) async fn json(State(state): State<AppState>, call: VisibleCall) -> Result<Response, Problem> {
    show(state, call, Format::Json).await
}

/// `/transcript.txt`
pub(super) async fn text(State(state): State<AppState>, call: VisibleCall) -> Result<Response, Problem> {
    show(state, call, Format::Txt).await
}

/// `/transcript.srt`
pub(super) async fn srt(State(state): State<AppState>, call: VisibleCall) -> Result<Response, Problem> {
    show(state, call, Format::Srt).await
}

/// `/transcript.vtt`
pub(super) async fn vtt(State(state): State<AppState>, call: VisibleCall) -> Result<Response, Problem> {
    show(state, call, Format::Vtt).await
}

async fn show(
    state: AppState,
    VisibleCall(record): VisibleCall,
    format: Format,
) -> Result<Response, Problem> {
    let files = state.directory.files(&record).map_err(|_| Problem::no_such_call(&record.call_id))?;
    let transcript = match tokio::fs::read(files.transcript()).await {
        Ok(stored) => serde_json::from_slice(&stored)
            .map_err(|error| Problem::internal("the stored transcript cannot be read", &error))?,
        Err(error) if error.kind() == ErrorKind::NotFound => match stored(&state, &record).await? {
            Some(stored) => stored,
            None => so_far(&state, &record).await?,
        },
        Err(error) => return Err(Problem::internal("cannot read the transcript", &error)),
    };
    let (kind, body) = match format {
        Format::Json => ("application/json", transcript.to_json()),
        Format::Txt => ("text/plain; charset=utf-8", transcript.to_text()),
        Format::Srt => ("application/x-subrip; charset=utf-8", transcript.to_srt()),
        Format::Vtt => ("text/vtt; charset=utf-8", transcript.to_vtt()),
    };
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], Body::from(body))
        .into_response())
}

/// As the database has it, of a call whose files have gone.
async fn stored(state: &AppState, record: &CallRecord) -> Result<Option<Transcript>, Problem> {
    match record.transcript.status {
        FileStatus::Ready => Ok(state.archive.transcript(record).await?),
        _ => Ok(None),
    }
}

/// What was said so far, with `"complete": false`.
async fn so_far(state: &AppState, record: &Arc<CallRecord>) -> Result<Transcript, Problem> {
    let (hub, id, model) = (Arc::clone(&state.hub), record.call_id.clone(), Arc::clone(&state.model));
    let said = move || transcript::so_far(&hub, &id, &model);
    let said = blocking("cannot read the call's events", said).await?;
    let is_to_come = matches!(record.transcript.status, FileStatus::Open | FileStatus::Pending);
    match said {
        Ok(said) if !said.utterances.is_empty() || is_to_come => Ok(said),
        Ok(_) | Err(ReadError::Unknown(_)) => {
            let remedy = "Transcribe calls with `calls.transcribe`, or `transcribe=yes`; the call's `error` may say more.";
            Err(Problem::no_such_file("There is no transcript of this call.", remedy))
        }
        Err(error) => Err(Problem::internal("cannot read the call's events", &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_named_by_their_extension_or_as_on_the_command_line() {
        let names = [
            ("json", Format::Json),
            ("txt", Format::Txt),
            ("text", Format::Txt),
            ("srt", Format::Srt),
            ("vtt", Format::Vtt),
        ];
        for (name, format) in names {
            assert_eq!(serde_json::from_value::<Format>(name.into()).unwrap(), format);
        }
    }
}
