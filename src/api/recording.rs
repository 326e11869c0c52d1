//! `/api/calls/{id}/recording`: the finished WAV, whole or in part.

mod range;

use std::io::SeekFrom;
use std::time::UNIX_EPOCH;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::access::VisibleCall;
use super::problem::Problem;
use super::state::AppState;
use crate::calls::record::{CallRecord, FileStatus};
use range::Wanted;

/// The recording, with `Range` (one range; of several the whole file is sent), `If-Range` and `If-None-Match`.
///
/// A recording that is still written is refused with 409: its length and contents change, late packets mend it until
/// the end, so parts of it fetched at different times would not fit together.
pub(super) async fn show(
    State(state): State<AppState>,
    VisibleCall(record): VisibleCall,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let files = state.directory.files(&record).map_err(|_| Problem::no_such_call(&record.call_id))?;
    let mut file = match File::open(files.recording()).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(absent(&record)),
        Err(error) => return Err(Problem::internal("cannot open the recording", &error)),
    };
    let failed = |error| Problem::internal("cannot read the recording", &error);
    let metadata = file.metadata().await.map_err(failed)?;
    let length = metadata.len();
    let tag = match &record.recording.sha256 {
        Some(sha256) => format!("\"{sha256}\""),
        None => {
            let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            format!("\"{length:x}-{:x}\"", changed.unwrap_or_default().as_nanos())
        }
    };
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());

    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, "audio/wav")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CACHE_CONTROL, "private, no-cache")
        .header(header::CONTENT_DISPOSITION, format!("inline; filename=\"{}.wav\"", record.call_id))
        .header(header::ETAG, &tag);
    if text(header::IF_NONE_MATCH).is_some_and(|tags| tags.split(',').any(|known| known.trim() == tag)) {
        return finish(response.status(StatusCode::NOT_MODIFIED), Body::empty());
    }
    let range = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|known| known == tag));
    let (start, count) = match range.map_or(Wanted::Whole, |range| range::parse(range, length)) {
        Wanted::Whole => (0, length),
        Wanted::Part { start, end } => {
            response = response
                .status(StatusCode::PARTIAL_CONTENT)
                .header(header::CONTENT_RANGE, format!("bytes {start}-{end}/{length}"));
            (start, end - start + 1)
        }
        Wanted::Outside => return Err(outside(length)),
    };
    response = response.header(header::CONTENT_LENGTH, count);
    if method == Method::HEAD {
        return finish(response, Body::empty());
    }
    file.seek(SeekFrom::Start(start)).await.map_err(failed)?;
    finish(response, Body::from_stream(ReaderStream::with_capacity(file.take(count), 64 << 10)))
}

fn finish(response: axum::http::response::Builder, body: Body) -> Result<Response, Problem> {
    let built = response.body(body).map_err(|error| Problem::internal("cannot answer", &error))?;
    Ok(built.into_response())
}

fn outside(length: u64) -> Problem {
    let problem = Problem::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "range-outside",
        "The range is outside of the file",
        format!("The recording has {length} bytes."),
        "Ask for a range that begins within it.",
    );
    match HeaderValue::try_from(format!("bytes */{length}")) {
        Ok(value) => problem.with_header(header::CONTENT_RANGE, value),
        Err(_) => problem,
    }
}

/// 404 for what only a recorded call has.
pub(super) fn not_recorded(record: &CallRecord) -> Problem {
    if record.outcome.as_deref() == Some("rejected") {
        return Problem::no_such_file(
            "The call was rejected, and not recorded.",
            "The call's `error` says why; there will be no recording.",
        );
    }
    let remedy = "Record calls with `calls.record`, or `record=yes`; of this one there will be no recording.";
    Problem::no_such_file("The call was not recorded.", remedy)
}

/// 409 for what the recording's end brings.
pub(super) fn still_recording() -> Problem {
    Problem::conflict(
        "still-recording",
        "The recording is not finished",
        "The call is still recorded.",
        "Wait for the event `recording.saved`, which comes seconds after the call's end.",
    )
}

fn absent(record: &CallRecord) -> Problem {
    match record.recording.status {
        FileStatus::Open | FileStatus::Paused => still_recording(),
        FileStatus::Off => not_recorded(record),
        FileStatus::Ready | FileStatus::Pending => Problem::no_such_file(
            "The recording is not on this disk any more.",
            "Look where recordings are moved or backed up to.",
        ),
        FileStatus::Failed => {
            Problem::no_such_file("The recording could not be made.", "The call's `error` says why.")
        }
    }
}
