//! Calls that ended while no process had them: their recordings are mended, their transcripts completed, their ends told.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::recording::repair::{self, Outcome};
use crate::recording::report::Report;
use crate::telemetry::metric;

use super::adoption::SessionRecord;
use super::catch_up::owed::OwedCall;
use super::finish::{self, Heard};
use super::hub::EventKind;
use super::record::{CallFiles, CallRecord, CallState, FileInfo, FileStatus};
use super::services::Services;
use super::transcript::{self, Told};

/// A call that ended unseen.
pub(super) struct Lost {
    /// What is known of it; of what its files are like only they tell.
    pub(super) record: CallRecord,
    /// How it is known to be over.
    pub(super) reason: String,
}

impl Lost {
    /// The call of a session record, for which there may be no call record.
    pub(super) fn of_session(
        services: &Services,
        session: &SessionRecord,
        fresh: CallRecord,
        reason: &str,
    ) -> Self {
        let known = services.directory.get(session.call.as_str());
        Self { record: known.map_or(fresh, |record| (*record).clone()), reason: reason.to_owned() }
    }
}

/// Mend `unfinished` (finished paths of recordings that an earlier process left open and that no call goes on with), then
/// close the books on the calls `lost`. Blocks for as long as that takes.
pub(super) fn after_crash(services: &Services, lost: Vec<Lost>, unfinished: &[PathBuf]) {
    let root = super::record::recordings_root(services.directory.data());
    let mended = unfinished.iter().filter_map(|wav| repair::mend_one(&root, wav)).collect::<Vec<_>>();
    let mut told = HashSet::new();
    for Lost { record, reason } in lost {
        let outcome = mended.iter().find(|m| m.call_id == record.call_id).map(|m| &m.outcome);
        close_books(services, &record, &reason, outcome);
        told.insert(record.call_id);
    }
    for other in mended.iter().filter(|m| !told.contains(&m.call_id)) {
        tracing::warn!(call = other.call_id, outcome = ?other.outcome, "mended a recording of a call without a record");
    }
}

fn close_books(services: &Services, record: &CallRecord, reason: &str, mended: Option<&Outcome>) {
    let call = record.call_id.as_str();
    let forget = || call.parse().into_iter().for_each(|call| services.sessions.remove(call));
    if record.is_ended() {
        // Everything was told, only its session record was still there.
        return forget();
    }
    let Ok(files) = services.directory.files(record) else { return };
    if services.directory.get(call).is_none() && services.directory.insert(record.clone()).is_err() {
        return;
    }
    if let Err(error) = services.hub.open_call(&record.tenant, call, Some(files.events())) {
        tracing::error!(call, %error, "the end of the call cannot be told");
        return;
    }
    let relative = |path: &Path| path.strip_prefix(services.directory.data()).unwrap_or(path).to_owned();
    let mut duration = record.duration_s;
    let ready = |path: &Path, sha256: &str| FileInfo {
        status: FileStatus::Ready,
        path: Some(relative(path)),
        sha256: Some(sha256.to_owned()),
    };
    let failed = |error: String| {
        services.hub.publish(call, EventKind::RecordingFailed, json!({ "error": error }));
        FileInfo { status: FileStatus::Failed, ..FileInfo::default() }
    };
    let recording = match mended {
        Some(Outcome::Repaired { finished, .. }) => {
            duration = Some(finished.frames as f64 / f64::from(finished.sample_rate));
            let body = json!({
                "path": finished.path, "duration_s": duration, "samples": finished.frames,
                "sample_rate": finished.sample_rate, "sha256": finished.sha256, "repaired": true,
            });
            services.hub.publish(call, EventKind::RecordingSaved, body);
            ready(&finished.path, &finished.sha256)
        }
        Some(Outcome::Broken { path, reason }) => {
            failed(format!("{} is no recording: {reason}", path.display()))
        }
        Some(Outcome::Failed { path, source }) => {
            failed(format!("{} could not be mended: {source}", path.display()))
        }
        // Finished, by a process that came no further than that.
        None => match finished_report(&files) {
            Some(report) => {
                duration = Some(report.duration_s);
                ready(&files.recording(), &report.sha256)
            }
            None if matches!(record.recording.status, FileStatus::Open | FileStatus::Paused) => {
                failed("there is no file of it".into())
            }
            None => record.recording.clone(),
        },
    };
    // Before the transcript is: its length is the recording's.
    services.directory.update(call, |known| known.duration_s = duration);
    let told = Told::read(&services.hub, call).inspect_err(|error| {
        tracing::error!(call, %error, "what was being said when the call was cut off gets no final");
    });
    let told = told.unwrap_or_default();
    let owed = transcript_of(services, record, &files, &told, duration);
    if !told.ended {
        metric::CALLS.add_labelled("outcome", "partial", 1);
        let mut body = json!({ "outcome": "partial", "cause": null, "cause_text": reason });
        if owed.is_some() {
            body["transcript"] = "pending".into();
        }
        services.hub.publish(call, EventKind::CallEnded, body);
    }
    match &owed {
        Some(_) => services.hub.rest_call(call),
        None => services.hub.close_call(call),
    }
    services.directory.update(call, |known| {
        known.state = CallState::Ended;
        known.outcome = Some("partial".into());
        known.add_error(reason);
        known.duration_s = duration;
        let heard = duration.and_then(|s| jiff::SignedDuration::try_from_secs_f64(s).ok());
        known.ended_at = known.ended_at.or(heard.and_then(|heard| known.started_at.checked_add(heard).ok()));
        if recording.status == FileStatus::Ready {
            known.report =
                FileInfo { status: FileStatus::Ready, path: Some(relative(&files.report())), sha256: None };
        }
        known.recording = recording;
        known.close_files();
    });
    forget();
    if let Some(owed) = owed {
        services.catch_up.hand_over(owed);
    }
}

/// What the call owes, its record says `pending` then; without a recording, or if it never was transcribed, what was told of gets its
/// final now.
fn transcript_of(
    services: &Services,
    record: &CallRecord,
    files: &CallFiles,
    told: &Told,
    duration: Option<f64>,
) -> Option<OwedCall> {
    let call = record.call_id.as_str();
    let model = services.speech.as_ref().map_or("", |engine| engine.model());
    let kept = services.catch_up.kept(call);
    let owed = match kept {
        // It came so far.
        Some(owed) if owed.ended => owed,
        before if record.language.is_some() && record.recording.status != FileStatus::Off => {
            let until = duration.unwrap_or_default();
            OwedCall { ended: true, ..OwedCall::cut_off(call, model, before, told, until) }
        }
        _ => {
            transcript::close_as_shown(&services.hub, call, told.open.clone());
            finish::transcript(services, call, files, Heard::default(), None);
            return None;
        }
    };
    finish::pending(services, call, &owed);
    Some(owed)
}

fn finished_report(files: &CallFiles) -> Option<Report> {
    if !files.recording().exists() {
        return None;
    }
    serde_json::from_slice(&std::fs::read(files.report()).ok()?).ok()
}
