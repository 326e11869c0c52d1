//! What a call leaves: report, transcript, and the events that say so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

use crate::files;
use crate::media::leg::Leg;
use crate::media::report::LegStats;
use crate::media::time::MediaInstant;
use crate::recording::report::Report;
use crate::recording::{Finished, RecordingError};
use crate::speech::Engine;

use super::catch_up::owed::{Owed, OwedCall};
use super::directory::CallDirectory;
use super::hub::{EventHub, EventKind};
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

/// What live transcription came to.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// All that is not owed has its words.
    pub(super) whole: bool,
    /// What is to be put into words from the recording.
    pub(super) owed: Vec<Owed>,
}

/// End the media at `end`, write the report, say so. What of all that was said has its words.
pub(super) async fn media(ending: Ending, media: CallMedia, end: MediaInstant) -> Heard {
    let MediaResult { stats, recording, heard } = media.finish(end).await;
    if !heard.whole {
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
    heard
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
        packets_expected: Some(stats.packets_expected),
        packets_late: Some(stats.packets_late),
        packets_duplicate: Some(stats.packets_duplicate),
        packets_repaired: Some(stats.packets_repaired),
        clock_ppm: stats.clock_ppm,
        jitter_ms: stats.jitter_ms,
        mos: stats.mos,
    }
}

/// What a transcript is made from, and who knows of it.
pub(super) struct Books<'a> {
    pub(super) hub: &'a EventHub,
    pub(super) directory: &'a CallDirectory,
    /// Name of the model.
    pub(super) model: &'a str,
}

/// The call is over: its transcript is written and told of. If it owes something, that is kept instead, its record says `pending`, and
/// what it owes is returned, to be handed over when the call's end has been told. Nothing is written for a call that was not
/// transcribed.
pub(super) fn transcript(
    services: &Services,
    call: &str,
    of_call: &CallFiles,
    heard: Heard,
    before: Option<OwedCall>,
) -> Option<OwedCall> {
    let model = services.speech.as_ref().map_or("", |engine| engine.model());
    let is_transcribed = services.directory.get(call).is_some_and(|record| record.language.is_some());
    let owes_before = before.as_ref().is_some_and(|before| !before.spans.is_empty());
    if is_transcribed && (owes_before || !heard.owed.is_empty()) {
        let owed = OwedCall::at_end(call, model, before, heard.owed, heard.whole);
        pending(services, call, &owed);
        return Some(owed);
    }
    if before.is_some() {
        services.catch_up.settle(call);
    }
    if is_transcribed && services.speech.is_some() {
        let books = Books { hub: &services.hub, directory: &services.directory, model };
        if let Ok(body) = write_transcript(&books, call, of_call, heard.whole) {
            services.hub.publish(call, EventKind::TranscriptSaved, body);
        }
    }
    None
}

/// Keep what a call owes, before the call is let go.
pub(super) fn pending(services: &Services, call: &str, owed: &OwedCall) {
    let kept = services.catch_up.keep(owed);
    if let Err(error) = &kept {
        tracing::error!(call, %error, "what the transcript lacks cannot be kept: it is caught up if this process lives long enough");
    }
    services.directory.update(call, |record| {
        record.transcript = FileInfo { status: FileStatus::Pending, ..FileInfo::default() };
    });
}

/// Write transcript and subtitles from the finals among the call's events, which survive a crash, and say so in its record. The body
/// of `transcript.saved`.
///
/// # Errors
/// Why not, in words; the record says so as well.
pub(super) fn write_transcript(
    books: &Books<'_>,
    call: &str,
    of_call: &CallFiles,
    complete: bool,
) -> Result<Value, String> {
    let record = books.directory.get(call);
    let (heard, engine) = record.map(|record| (record.duration_s, record.engine.clone())).unwrap_or_default();
    let engine = engine.filter(|name| name != Engine::Whisper.name());
    let model = engine.as_deref().unwrap_or(books.model);
    let written = put_transcript(books, call, of_call, model, heard, complete);
    if let Err(error) = &written {
        tracing::error!(call, folder = %of_call.folder().display(), error, "no transcript");
    }
    let path = of_call.transcript();
    let relative = path.strip_prefix(books.directory.data()).unwrap_or(&path).to_owned();
    books.directory.update(call, |record| {
        let was_pending = record.transcript.status == FileStatus::Pending;
        let status = match written {
            Ok(_) => FileStatus::Ready,
            // It is tried again.
            Err(_) if was_pending => FileStatus::Pending,
            Err(_) => FileStatus::Failed,
        };
        record.transcript = FileInfo { status, path: Some(relative), sha256: None };
        if let Err(error) = &written {
            record.add_error(error);
        }
    });
    let duration = written?;
    Ok(json!({ "complete": complete, "path": path, "duration": duration }))
}

/// Write it; its length in seconds.
fn put_transcript(
    books: &Books<'_>,
    call: &str,
    of_call: &CallFiles,
    model: &str,
    heard: Option<f64>,
    complete: bool,
) -> Result<f64, String> {
    let mut transcript = transcript::so_far(books.hub, call, model)
        .map_err(|error| format!("the call's events cannot be read back for the transcript: {error}"))?;
    transcript.complete = complete;
    transcript.duration = heard.unwrap_or(transcript.duration);
    files::replace_durably(&of_call.transcript(), transcript.to_json().as_bytes())
        .and_then(|()| files::replace_durably(&of_call.vtt(), transcript.to_vtt().as_bytes()))
        .map_err(|error| format!("the transcript cannot be written: {error}"))?;
    Ok(transcript.duration)
}

fn relative(services: &Services, path: &Path) -> PathBuf {
    path.strip_prefix(services.directory.data()).unwrap_or(path).to_owned()
}
