//! What a call leaves: report, transcript, and the events that say so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;

use crate::files;
use crate::media::leg::Leg;
use crate::media::report::LegStats;
use crate::media::time::MediaInstant;
use crate::recording::report::Report;
use crate::recording::{Finished, RecordingError};
use crate::speech::Engine;

use super::hub::EventKind;
use super::ids::CallId;
use super::media::{CallMedia, MediaResult};
use super::record::{CallFiles, CallRecord, FileInfo, FileStatus, LegSummary};
use super::services::Services;
use super::session::Message;
use super::transcript;

/// What finishing needs to know of its call.
pub(super) struct Ending {
    pub(super) services: Arc<Services>,
    pub(super) call: CallId,
    pub(super) tenant: String,
    pub(super) files: CallFiles,
    pub(super) tx: UnboundedSender<Message>,
}

/// End the media at `end`, write the report, say so. Whether all that was said has its words.
pub(super) async fn media(ending: Ending, media: CallMedia, end: MediaInstant) -> bool {
    let MediaResult { stats, recording, transcribed } = media.finish(end).await;
    if !transcribed {
        tracing::warn!(call = %ending.call, "the transcript is not complete: recognition was too slow, or failed");
    }
    let summaries: Vec<_> =
        Leg::BOTH.into_iter().zip(&stats).map(|(leg, stats)| summary(leg, stats)).collect();
    ending.update(|record| record.legs = summaries);
    // The report goes to a disk that may be slow.
    tokio::task::block_in_place(|| match recording {
        None => {}
        Some(Ok(finished)) => ending.saved(&finished, stats),
        Some(Err(error)) => ending.failed(&error, stats),
    });
    transcribed
}

impl Ending {
    fn saved(&self, finished: &Finished, stats: [LegStats; 2]) {
        let duration_s = self.describe(finished, stats, FileStatus::Ready);
        let body = json!({
            "path": finished.path, "duration_s": duration_s, "samples": finished.frames,
            "sample_rate": finished.sample_rate, "sha256": finished.sha256,
        });
        self.services.hub.publish(self.call.as_str(), EventKind::RecordingSaved, body);
    }

    /// Report and record of a file that is there; its length in seconds.
    fn describe(&self, finished: &Finished, stats: [LegStats; 2], status: FileStatus) -> f64 {
        let duration_s = finished.frames as f64 / f64::from(finished.sample_rate);
        let path = self.files.report();
        let written = Report::new(self.call.as_str(), &self.tenant, finished, stats).write(&path);
        let report = match &written {
            Ok(()) => FileInfo {
                status: FileStatus::Ready,
                path: Some(relative(&self.services, &path)),
                sha256: None,
            },
            Err(error) => {
                tracing::error!(call = %self.call, path = %path.display(), %error, "cannot write the report");
                FileInfo { status: FileStatus::Failed, ..FileInfo::default() }
            }
        };
        let path = Some(relative(&self.services, &finished.path));
        let sha256 = Some(finished.sha256.clone());
        self.update(|record| {
            record.duration_s = Some(duration_s);
            record.report = report;
            if let Err(error) = written {
                record.add_error(&format!("the report cannot be written: {error}"));
            }
            record.recording = FileInfo { status, path, sha256 };
        });
        duration_s
    }

    /// By message: the session may know of the failure already, and tells it once.
    fn failed(&self, error: &RecordingError, stats: [LegStats; 2]) {
        if let RecordingError::Write { kept: Some(kept), .. } = error {
            // What was written before is whole, and told of as much as a recording that went well.
            self.describe(kept, stats, FileStatus::Failed);
        }
        let _ = self.tx.send(Message::RecordingFailed(error.to_string()));
    }

    fn update(&self, change: impl FnOnce(&mut CallRecord)) {
        self.services.directory.update(self.call.as_str(), change);
    }
}

fn summary(leg: Leg, stats: &LegStats) -> LegSummary {
    LegSummary {
        name: leg,
        codec: stats.codec.clone(),
        packets_received: stats.packets_received,
        packets_lost: stats.packets_lost,
        jitter_ms: stats.jitter_ms,
        mos: stats.mos,
    }
}

/// Write transcript and subtitles from the finals among the call's events, which survive a crash. Nothing is written for a
/// call that was not transcribed.
pub(super) fn write_transcript(services: &Services, call: &str, of_call: &CallFiles, complete: bool) {
    let Some(engine) = &services.speech else { return };
    let record = services.directory.get(call);
    if record.as_ref().is_none_or(|r| r.language.is_none()) {
        return;
    }
    let (heard, engine_used) =
        record.map(|record| (record.duration_s, record.engine.clone())).unwrap_or_default();
    let model = match &engine_used {
        Some(name) if name != Engine::Whisper.name() => name.as_str(),
        _ => engine.model(),
    };
    let written = put_transcript(services, call, of_call, model, heard, complete);
    if let Err(error) = &written {
        tracing::error!(call, folder = %of_call.folder().display(), error, "no transcript");
    }
    let path = relative(services, &of_call.transcript());
    services.directory.update(call, |record| {
        let status = if written.is_ok() { FileStatus::Ready } else { FileStatus::Failed };
        record.transcript = FileInfo { status, path: Some(path), sha256: None };
        if let Err(error) = &written {
            record.add_error(error);
        }
    });
}

fn put_transcript(
    services: &Services,
    call: &str,
    of_call: &CallFiles,
    model: &str,
    heard: Option<f64>,
    complete: bool,
) -> Result<(), String> {
    let mut transcript = transcript::so_far(&services.hub, call, model)
        .map_err(|error| format!("the call's events cannot be read back for the transcript: {error}"))?;
    transcript.complete = complete;
    transcript.duration = heard.unwrap_or(transcript.duration);
    files::replace_durably(&of_call.transcript(), transcript.to_json().as_bytes())
        .and_then(|()| files::replace_durably(&of_call.vtt(), transcript.to_vtt().as_bytes()))
        .map_err(|error| format!("the transcript cannot be written: {error}"))
}

fn relative(services: &Services, path: &Path) -> PathBuf {
    path.strip_prefix(services.directory.data()).unwrap_or(path).to_owned()
}
