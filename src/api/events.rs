//! `/api/calls/{id}/events`: what happened in a call, page by page.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::access::{Params, VisibleCall, blocking, page_length};
use super::problem::Problem;
use super::state::AppState;
use crate::calls::hub::{EventHub, EventKind, ReadError};

/// Events read at once: nine in ten are partials, which are left out.
const READ: usize = 4_096;

/// A filter that is misspelt must not pass for none: unknown names are refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageParams {
    limit: Option<usize>,
    #[serde(default)]
    after: u64,
    /// The key may come so: see [`auth`](super::auth).
    #[serde(rename = "token")]
    _token: Option<IgnoredAny>,
}

/// Events in their order, but for partials; `next` is the `after` of the next page.
pub(super) async fn list(
    State(state): State<AppState>,
    VisibleCall(record): VisibleCall,
    Params(PageParams { limit, after, .. }): Params<PageParams>,
) -> Result<Response, Problem> {
    let limit = page_length(limit, "events")?;
    let files = state.directory.files(&record).map_err(|_| Problem::no_such_call(&record.call_id))?;
    let (hub, id) = (Arc::clone(&state.hub), record.call_id.clone());
    // One more tells whether there is a next page.
    let read = move || {
        Ok(match read(&hub, &id, after, limit + 1) {
            // Its files have gone, and with them the journal; or nothing has been written of it yet.
            Err(ReadError::Unknown(_)) => None,
            Ok(events) if events.is_empty() && !files.events().exists() => None,
            events => Some(events?),
        })
    };
    let read: Result<_, ReadError> = blocking("cannot read the call's events", read).await?;
    let mut events = match read.map_err(|error| Problem::internal("cannot read the call's events", &error))? {
        Some(events) => events,
        None if record.is_ended() => state.archive.events(&record, after, limit + 1).await?,
        None => Vec::new(),
    };
    let has_more = events.len() > limit;
    events.truncate(limit);
    let next = events.last().filter(|_| has_more).map(|(seq, _)| *seq);
    let kind = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    Ok((kind, Body::from(page(&events, next))).into_response())
}

/// From memory and from the journal.
fn read(
    hub: &EventHub,
    call_id: &str,
    mut after: u64,
    most: usize,
) -> Result<Vec<(u64, Arc<str>)>, ReadError> {
    let mut kept = Vec::new();
    loop {
        let some = hub.call_events(call_id, after, READ)?;
        let is_last = some.len() < READ;
        after = some.last().map_or(after, |event| event.seq);
        let told = some.iter().filter(|event| event.kind != EventKind::TranscriptPartial);
        kept.extend(told.map(|event| (event.seq, Arc::clone(&event.json))));
        if is_last || kept.len() >= most {
            kept.truncate(most);
            return Ok(kept);
        }
    }
}

/// Envelopes are JSON already, as they were published.
fn page(events: &[(u64, Arc<str>)], next: Option<u64>) -> String {
    let mut page = String::from("{\"events\":[");
    for (n, (_, event)) in events.iter().enumerate() {
        page.push_str(if n == 0 { "" } else { "," });
        page.push_str(event);
    }
    match next {
        Some(next) => write!(page, "],\"next\":{next}}}").expect("a String takes everything"),
        None => page.push_str("],\"next\":null}"),
    }
    page
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_page_is_json() {
        let parsed = |page: String| serde_json::from_str::<Value>(&page).unwrap();
        assert_eq!(parsed(page(&[], None)), json!({ "events": [], "next": null }));
        let events = [(1, "{\"seq\":1}".into()), (7, "{\"seq\":7}".into())];
        assert_eq!(
            parsed(page(&events, Some(7))),
            json!({ "events": [{ "seq": 1 }, { "seq": 7 }], "next": 7 })
        );
    }
}
