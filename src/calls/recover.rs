//! Calls that ended while no process had them: their recordings are mended, their transcripts completed, their ends told.

use std::collections::HashSet;
use std::path::PathBuf;

use serde_json::json;

use crate::recording::repair::{self, Outcome};
use crate::telemetry::metric;

use super::adoption::SessionRecord;
use super::finish;
use super::hub::EventKind;
use super::record::{CallFiles, CallState, FileInfo, FileStatus};
use super::services::Services;

/// Mend `unfinished` (finished paths of recordings that an earlier process left open and that no call goes on with), then
/// close the books on the calls `ended`. Blocks for as long as that takes.
pub(super) fn after_crash(services: &Services, ended: Vec<(SessionRecord, String)>, unfinished: &[PathBuf]) {
    let root = super::record::recordings_root(services.directory.data());
    let mended = unfinished.iter().filter_map(|wav| repair::mend_one(&root, wav)).collect::<Vec<_>>();
    let mut told = HashSet::new();
    for (record, reason) in ended {
        told.insert(record.call.as_str().to_owned());
        let outcome = mended.iter().find(|m| m.call_id == record.call.as_str()).map(|m| &m.outcome);
        close_books(services, &record, &reason, outcome);
    }
    for other in mended.iter().filter(|m| !told.contains(&m.call_id)) {
        tracing::warn!(call = other.call_id, outcome = ?other.outcome, "mended a recording of a call without a session record");
    }
}

fn close_books(services: &Services, record: &SessionRecord, reason: &str, mended: Option<&Outcome>) {
    let call = record.call.as_str();
    let started = jiff::Timestamp::from_nanosecond(i128::from(record.started_at)).unwrap_or_default();
    let Ok(files) = CallFiles::new(services.directory.data(), &record.tenant, started, call) else { return };
    if let Err(error) = services.hub.open_call(&record.tenant, call, Some(files.events())) {
        tracing::error!(call, %error, "the end of the call cannot be told");
        return;
    }
    let relative =
        |path: &std::path::Path| path.strip_prefix(services.directory.data()).unwrap_or(path).to_owned();
    let mut info = FileInfo::default();
    let mut duration = None;
    match mended {
        Some(Outcome::Repaired { finished, .. }) => {
            duration = Some(finished.frames as f64 / f64::from(finished.sample_rate));
            info = FileInfo {
                status: FileStatus::Ready,
                path: Some(relative(&finished.path)),
                sha256: Some(finished.sha256.clone()),
            };
            let body = json!({
                "path": finished.path, "duration_s": duration, "samples": finished.frames,
                "sample_rate": finished.sample_rate, "sha256": finished.sha256, "repaired": true,
            });
            services.hub.publish(call, EventKind::RecordingSaved, body);
        }
        Some(Outcome::Broken { path, reason }) => {
            info.status = FileStatus::Failed;
            let error = format!("{} is no recording: {reason}", path.display());
            services.hub.publish(call, EventKind::RecordingFailed, json!({ "error": error }));
        }
        Some(Outcome::Failed { path, source }) => {
            info.status = FileStatus::Failed;
            let error = format!("{} could not be mended: {source}", path.display());
            services.hub.publish(call, EventKind::RecordingFailed, json!({ "error": error }));
        }
        None => {}
    }
    finish::write_transcript(services, &record.call, &files);
    services.directory.update(call, |known| {
        known.state = CallState::Ended;
        known.outcome = Some("partial".into());
        known.error = Some(reason.to_owned());
        known.duration_s = duration;
        known.report = FileInfo { status: info.status, path: Some(relative(&files.report())), sha256: None };
        known.recording = info;
    });
    metric::CALLS.add_labelled("outcome", "partial", 1);
    let body = json!({ "outcome": "partial", "cause": null, "cause_text": reason });
    services.hub.publish(call, EventKind::CallEnded, body);
    services.hub.close_call(call);
    services.sessions.remove(record.call.clone());
}
