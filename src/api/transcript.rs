//! `/api/calls/{id}/transcript`: as stored once the call is over, as far as it has come while it lives.

mod render;

use std::io::ErrorKind;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{Params, VisibleCall, blocking};
use super::problem::Problem;
use super::state::AppState;
use crate::calls::event::Envelope;
use crate::calls::hub::{EventHub, EventKind, ReadError};
use crate::calls::record::{CallRecord, FileStatus};
use render::Utterance;

/// Events read at once to put a live transcript together.
const PAGE: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Json,
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
        Err(error) if error.kind() == ErrorKind::NotFound => so_far(&state, &record).await?,
        Err(error) => return Err(Problem::internal("cannot read the transcript", &error)),
    };
    let (kind, body) = match format {
        Format::Json => ("application/json", transcript.to_string()),
        Format::Txt => ("text/plain; charset=utf-8", render::txt(&utterances(&transcript)?)),
        Format::Srt => ("application/x-subrip; charset=utf-8", render::srt(&utterances(&transcript)?)),
        Format::Vtt => ("text/vtt; charset=utf-8", render::vtt(&utterances(&transcript)?)),
    };
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], Body::from(body))
        .into_response())
}

/// The finals among the call's events, in the shape of a stored transcript, with `"complete": false`.
async fn so_far(state: &AppState, record: &Arc<CallRecord>) -> Result<Value, Problem> {
    let (hub, id) = (Arc::clone(&state.hub), record.call_id.clone());
    let finals = blocking("cannot read the call's events", move || finals(&hub, &id)).await?;
    let mut finals = match finals {
        Ok(finals) => finals,
        Err(ReadError::Unknown(_)) => Vec::new(),
        Err(error) => return Err(Problem::internal("cannot read the call's events", &error)),
    };
    if finals.is_empty() && record.transcript.status != FileStatus::Open {
        let remedy =
            "Transcribe calls with `calls.transcribe`, or `transcribe=yes`; the call's `error` may say more.";
        return Err(Problem::no_such_file("There is no transcript of this call.", remedy));
    }
    finals.sort_by(|a, b| a["start"].as_f64().unwrap_or(0.0).total_cmp(&b["start"].as_f64().unwrap_or(0.0)));
    let duration = finals.iter().filter_map(|utterance| utterance["end"].as_f64()).fold(0.0, f64::max);
    Ok(
        json!({ "v": 1, "call_id": record.call_id, "complete": false, "duration": duration, "utterances": finals }),
    )
}

fn finals(hub: &EventHub, call_id: &str) -> Result<Vec<Value>, ReadError> {
    let (mut finals, mut after) = (Vec::new(), 0);
    loop {
        let events = hub.call_events(call_id, after, PAGE)?;
        let Some(last) = events.last() else { return Ok(finals) };
        after = last.seq;
        let said = events.iter().filter(|event| event.kind == EventKind::TranscriptFinal);
        finals.extend(said.filter_map(|event| {
            let Envelope { mut body, .. } = serde_json::from_str(&event.json).ok()?;
            // A stored transcript names its speakers, and has nothing but finals.
            body.remove("revision");
            let speaker = body.remove("leg")?;
            body.insert("speaker".into(), speaker);
            (!body.get("text")?.as_str()?.is_empty()).then_some(Value::Object(body))
        }));
    }
}

fn utterances(transcript: &Value) -> Result<Vec<Utterance>, Problem> {
    Vec::deserialize(&transcript["utterances"])
        .map_err(|error| Problem::internal("the stored transcript has another form than expected", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_named_by_their_extension() {
        for (name, format) in
            [("json", Format::Json), ("txt", Format::Txt), ("srt", Format::Srt), ("vtt", Format::Vtt)]
        {
            assert_eq!(serde_json::from_value::<Format>(name.into()).unwrap(), format);
        }
    }
}
