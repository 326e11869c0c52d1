//! A call's transcript from the finals among its events, which outlive a crash of the process.

use super::hub::{EventHub, EventKind, ReadError};
use crate::speech::TranscriptEvent;
use crate::speech::transcript::Transcript;

/// Events read at once.
const PAGE: usize = 4_096;

/// What was said in the call so far, as a transcript that is not complete. May read a file: call it where blocking is
/// allowed.
///
/// # Errors
/// The events cannot be read.
pub fn so_far(hub: &EventHub, call_id: &str, model: &str) -> Result<Transcript, ReadError> {
    let finals = finals(hub, call_id)?;
    let heard = finals.iter().map(|event| event.end).fold(0.0, f64::max);
    Ok(Transcript { complete: false, ..Transcript::new(Some(call_id.to_owned()), heard, model, finals) })
}

fn finals(hub: &EventHub, call_id: &str) -> Result<Vec<TranscriptEvent>, ReadError> {
    let (mut finals, mut after) = (Vec::new(), 0);
    loop {
        let events = hub.call_events(call_id, after, PAGE)?;
        let Some(last) = events.last() else { return Ok(finals) };
        after = last.seq;
        let said = events.iter().filter(|e| e.kind == EventKind::TranscriptFinal);
        // What this program wrote it can read; a line of a newer one that it cannot is left to that one.
        finals.extend(said.filter_map(|e| serde_json::from_str::<TranscriptEvent>(&e.json).ok()));
    }
}
