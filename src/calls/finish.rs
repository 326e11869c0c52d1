//! What a call leaves: report, transcript, and the events that say so.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;

use crate::clock;
use crate::media::leg::Leg;
use crate::media::report::LegStats;
use crate::media::time::MediaInstant;
use crate::recording::report::{LegReport, Report};
use crate::recording::{Finished, RecordingError};
use crate::speech::TranscriptEvent;
use crate::speech::transcript::Transcript;
use crate::telemetry::metric;

use super::hub::EventKind;
use super::ids::CallId;
use super::media::{CallMedia, MediaResult};
use super::record::{CallFiles, CallRecord, FileInfo, FileStatus, LegSummary};
use super::services::Services;
use super::session::Message;

/// What finishing needs to know of its call.
pub(super) struct Ending {
    pub(super) services: Arc<Services>,
    pub(super) call: CallId,
    pub(super) tenant: String,
    pub(super) files: CallFiles,
    pub(super) started_at_nanos: u64,
    pub(super) tx: UnboundedSender<Message>,
}

/// End the media at `end`, write the report, say so.
pub(super) async fn media(ending: Ending, media: CallMedia, end: MediaInstant) {
    let MediaResult { stats, recording } = media.finish(end).await;
    for leg in &stats {
        metric::LEG_JITTER.record(leg.jitter_ms / 1_000.0);
        metric::LEG_MOS.record(leg.mos);
    }
    let summaries: Vec<_> = Leg::BOTH.into_iter().zip(&stats).map(|(leg, stats)| summary(leg, stats)).collect();
    ending.update(|record| record.legs = summaries);
    match recording {
        None => {}
        Some(Ok(finished)) => ending.saved(finished, stats),
        Some(Err(error)) => ending.failed(&error),
    }
}

impl Ending {
    fn saved(&self, finished: Finished, stats: [LegStats; 2]) {
        let duration_s = finished.frames as f64 / f64::from(finished.sample_rate);
        let report = self.report(&finished, stats);
        let path = self.files.report();
        let report_info = match report.write(&path) {
            Ok(()) => FileInfo { status: FileStatus::Ready, path: Some(self.relative(&path)), sha256: None },
            Err(error) => {
                tracing::error!(call = %self.call, path = %path.display(), %error, "cannot write the report");
                FileInfo { status: FileStatus::Failed, ..FileInfo::default() }
            }
        };
        let relative = self.relative(&finished.path);
        let sha256 = finished.sha256.clone();
        self.update(|record| {
            record.duration_s = Some(duration_s);
            record.report = report_info;
            record.recording =
                FileInfo { status: FileStatus::Ready, path: Some(relative), sha256: Some(sha256) };
        });
        let body = json!({
            "path": finished.path, "duration_s": duration_s, "samples": finished.frames,
            "sample_rate": finished.sample_rate, "sha256": finished.sha256,
        });
        self.services.hub.publish(self.call.as_str(), EventKind::RecordingSaved, body);
    }

    /// By message: the session may know of the failure already, and tells it once.
    fn failed(&self, error: &RecordingError) {
        let _ = self.tx.send(Message::RecordingFailed(error.to_string()));
    }

    fn report(&self, finished: &Finished, stats: [LegStats; 2]) -> Report {
        let started = jiff::Timestamp::from_nanosecond(i128::from(self.started_at_nanos)).unwrap_or_default();
        Report::new(self.call.as_str(), &self.tenant, started, finished, stats)
    }

    fn relative(&self, path: &std::path::Path) -> std::path::PathBuf {
        path.strip_prefix(self.services.directory.data()).unwrap_or(path).to_owned()
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
