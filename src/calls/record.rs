//! What is known of one call: kept in memory while it lives, on disk beside its recording afterwards.

mod files;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use files::{BadName, CallFiles, is_valid_name};
pub(crate) use files::{OWED, day_folder, owed_path, recordings_root};

use crate::media::leg::Leg;

/// One call, as `GET /api/calls/{id}` shows it and as `<call-id>.call.json` keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// Our id of the call; see [`is_valid_name`].
    pub call_id: String,
    /// Whose call it is; see [`is_valid_name`].
    pub tenant: String,
    /// `label=` of the Stasis arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether Sidetone owns the call or listens to it.
    pub mode: CallMode,
    /// Where the call stands.
    pub state: CallState,
    /// How it ended, in the words of the label of `sidetone_calls_total`; none before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The channel that entered Stasis.
    #[serde(default)]
    pub channel: ChannelInfo,
    /// When Sidetone first knew of it: names the day folder of its files.
    pub started_at: Timestamp,
    /// When its channel came to be in Asterisk, where the Manager told of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detected_at: Option<Timestamp>,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Timestamp>,
    /// When it ended; where nobody saw that, when it was last heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Length of what was heard, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    /// The WAV.
    #[serde(default)]
    pub recording: FileInfo,
    /// The integrity report.
    #[serde(default)]
    pub report: FileInfo,
    /// The transcript.
    #[serde(default)]
    pub transcript: FileInfo,
    /// The directions that were heard; none before the call's end.
    #[serde(default)]
    pub legs: Vec<LegSummary>,
    /// What recognises the speech: `whisper` or `riva`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Language of the transcript: a code, or `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// What went wrong, in words for an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Since when its files are not where they were, as the last start found; known of the database's calls alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files_gone_at: Option<Timestamp>,
}

/// Whether Sidetone owns a call or listens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallMode {
    /// Answered, media both ways.
    Answer,
    /// Snooped on in both directions; the dialplan goes on.
    Tap,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// Bridges and legs are being made.
    SettingUp,
    /// Media flows, or may.
    Live,
    /// The channel is gone; files are being finished.
    Ending,
    /// Over: the record changes only through late work on its files.
    Ended,
}

/// The channel of a call, as Asterisk describes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelInfo {
    /// Asterisk's unique id.
    pub id: String,
    /// For example `PJSIP/trunk-0000002a`.
    pub name: String,
    /// The calling party.
    pub caller: Party,
    /// The party it is connected to.
    pub connected: Party,
    /// Dialplan context.
    pub context: String,
    /// Dialplan extension.
    pub exten: String,
}

/// A party as caller id has it; empty where unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Party {
    /// Name.
    pub name: String,
    /// Number.
    pub number: String,
}

/// A file of the call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileInfo {
    /// Whether there is one.
    pub status: FileStatus,
    /// Where, from the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// SHA-256 of the contents, hexadecimal; known of finished recordings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Whether a file of a call is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileStatus {
    /// None is made, or none yet.
    #[default]
    Off,
    /// Being written.
    Open,
    /// Being written, silence at the moment (recordings).
    Paused,
    /// The call is over, and what live transcription left out is still to be put in (transcripts).
    Pending,
    /// Complete.
    Ready,
    /// Could not be made; the record's `error` says why.
    Failed,
}

/// The short form of a leg's part of the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LegSummary {
    /// Direction.
    pub name: Leg,
    /// Codec, as Asterisk spells formats.
    #[serde(default)]
    pub codec: String,
    /// Packets accepted.
    #[serde(default)]
    pub packets_received: u64,
    /// Packets that never came.
    #[serde(default)]
    pub packets_lost: u64,
    /// Packets that should have come. Records of earlier versions have neither this nor what follows it down to the clock; the report has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_expected: Option<u64>,
    /// Packets that came after live readers had passed their place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_late: Option<u64>,
    /// Packets that came once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_duplicate: Option<u64>,
    /// Packets that came late and mended the recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_repaired: Option<u64>,
    /// The sender's clock against this machine's, parts per million.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ppm: Option<f64>,
    /// Interarrival jitter, milliseconds.
    #[serde(default)]
    pub jitter_ms: f64,
    /// Listening quality estimate, 1.0 to 4.5; `null` where nothing came to judge by.
    #[serde(default)]
    pub mos: Option<f64>,
}

impl CallRecord {
    /// A record with what is known at the start; state [`CallState::SettingUp`], nothing recorded yet.
    pub fn new(
        call_id: impl Into<String>,
        tenant: impl Into<String>,
        mode: CallMode,
        started_at: Timestamp,
    ) -> Self {
        Self {
            call_id: call_id.into(),
            tenant: tenant.into(),
            label: None,
            mode,
            state: CallState::SettingUp,
            outcome: None,
            channel: ChannelInfo::default(),
            started_at,
            detected_at: None,
            answered_at: None,
            ended_at: None,
            duration_s: None,
            recording: FileInfo::default(),
            report: FileInfo::default(),
            transcript: FileInfo::default(),
            legs: Vec::new(),
            engine: None,
            language: None,
            error: None,
            files_gone_at: None,
        }
    }

    /// Whether the call is over.
    pub fn is_ended(&self) -> bool {
        self.state == CallState::Ended
    }

    /// Note what went wrong, besides what is noted already; the same is noted once.
    pub fn add_error(&mut self, error: &str) {
        match &mut self.error {
            Some(noted) if noted.contains(error) => {}
            Some(noted) => *noted = format!("{noted}; {error}"),
            None => self.error = Some(error.to_owned()),
        }
    }

    /// Nobody writes the call's files any more: what is open was broken off.
    pub(super) fn close_files(&mut self) {
        for file in [&mut self.recording, &mut self.report, &mut self.transcript] {
            if matches!(file.status, FileStatus::Open | FileStatus::Paused) {
                file.status = FileStatus::Failed;
            }
        }
    }

    /// Whether `needle` (lower case) occurs in the id, the label, the extension or a party's name or number.
    pub fn mentions(&self, needle: &str) -> bool {
        self.searched().any(|field| field.to_lowercase().contains(needle))
    }

    /// What a search looks through.
    pub(super) fn searched(&self) -> impl Iterator<Item = &str> {
        let ChannelInfo { caller, connected, exten, .. } = &self.channel;
        [&self.call_id, &caller.name, &caller.number, &connected.name, &connected.number, exten]
            .into_iter()
            .chain(self.label.as_ref())
            .map(String::as_str)
    }
}
