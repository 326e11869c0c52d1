//! Calls that are over, in rows: what is listed and searched, and what stays known of a call whose files have gone.
//!
//! Whoever fills them takes all of a call from its files, each time ([`Calls::put`]): so a row is never more than a copy, it does not
//! matter how often it is made, and a database that is lost is made again.

mod read;
mod write;

use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError};

/// Nanoseconds since 1970.
pub type Nanos = i64;

/// A question that takes longer than this is not answered: somebody waits for it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// The calls in the database.
#[derive(Clone, Debug)]
pub struct Calls {
    store: Store,
}

/// All rows of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRows {
    /// The call itself.
    pub call: CallRow,
    /// Its directions.
    pub legs: Vec<LegRow>,
    /// Its recording, if one was made.
    pub recording: Option<RecordingRow>,
    /// Its words, if it was transcribed.
    pub transcript: Option<TranscriptRow>,
    /// What happened, in order.
    pub events: Vec<EventRow>,
}

/// A call.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRow {
    /// Whose it is.
    pub tenant: String,
    /// Its id.
    pub id: String,
    /// When it began: with the id its place in lists.
    pub started_at: Nanos,
    /// When it was answered.
    pub answered_at: Option<Nanos>,
    /// When it ended.
    pub ended_at: Option<Nanos>,
    /// Length of what was heard, seconds.
    pub duration_s: Option<f64>,
    /// `tap` or `answer`.
    pub mode: String,
    /// How it ended.
    pub outcome: Option<String>,
    /// Of the files that this was made from.
    pub version: String,
    /// What a search looks through, in lower case.
    pub search: String,
    /// The record, JSON.
    pub record: String,
}

/// A direction of a call. Counts of packets.
#[derive(Clone, Debug, PartialEq)]
pub struct LegRow {
    /// `caller` or `callee`.
    pub name: String,
    /// As Asterisk spells formats.
    pub codec: String,
    /// Accepted.
    pub packets_received: i64,
    /// That never came.
    pub packets_lost: i64,
    /// What else the integrity report has, where there is one.
    pub report: Option<LegReportRow>,
    /// Interarrival jitter, milliseconds.
    pub jitter_ms: f64,
    /// 1.0 to 4.5.
    pub mos: Option<f64>,
}

/// What only the integrity report says of a direction. Counts of packets.
#[derive(Clone, Debug, PartialEq)]
pub struct LegReportRow {
    /// That should have come.
    pub packets_expected: i64,
    /// That came after live readers had passed their place.
    pub packets_late: i64,
    /// That came once more.
    pub packets_duplicate: i64,
    /// That came late and mended the recording.
    pub packets_repaired: i64,
    /// The sender's clock against this machine's.
    pub clock_ppm: Option<f64>,
}

/// A recording.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingRow {
    /// `ready` or `failed`.
    pub status: String,
    /// From the data folder.
    pub path: String,
    /// Of the file, hexadecimal.
    pub sha256: Option<String>,
    /// Frames a second.
    pub sample_rate: Option<i64>,
    /// Length in seconds.
    pub duration_s: Option<f64>,
    /// Since when its file is not where it was. Of one that was known to be gone the time stays.
    pub gone_at: Option<Nanos>,
    /// The integrity report, JSON.
    pub report: Option<String>,
}

/// A transcript.
#[derive(Clone, Debug, PartialEq)]
pub struct TranscriptRow {
    /// Nothing that was said is left out.
    pub complete: bool,
    /// Parties with a channel of their own.
    pub speakers: i64,
    /// Name of the model.
    pub model: String,
    /// Seconds.
    pub duration_s: f64,
    /// What was said, in order.
    pub utterances: Vec<UtteranceRow>,
}

/// An utterance, as its final gave it; seconds on the recording's clock.
#[derive(Clone, Debug, PartialEq)]
pub struct UtteranceRow {
    /// Who speaks: `caller` or `callee`.
    pub leg: String,
    /// Number within the leg, from 1.
    pub utterance: i64,
    /// Where it begins.
    pub start: f64,
    /// Where it ends.
    pub end: f64,
    /// Language code.
    pub language: String,
    /// 0 to 1, the mean of its words'.
    pub confidence: Option<f64>,
    /// The words as a line.
    pub text: String,
    /// The words.
    pub words: Vec<WordOfRow>,
}

/// A word; seconds on the recording's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WordOfRow {
    /// As recognised.
    pub text: String,
    /// Where it begins.
    pub start: f64,
    /// Where it ends.
    pub end: f64,
    /// 0 to 1.
    pub confidence: f64,
}

/// An event of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// Number within the call.
    pub seq: i64,
    /// What happened.
    pub kind: String,
    /// When.
    pub at: Nanos,
    /// The whole envelope, JSON.
    pub body: String,
}

/// Which calls to list; the newest first.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// Whose files are on this node's disk.
    pub node: String,
    /// Of this tenant; without it, of all.
    pub tenant: Option<String>,
    /// That have this text in what a search looks through; lower case.
    pub text: Option<String>,
    /// That come after this place: start and id.
    pub before: Option<(Nanos, String)>,
    /// So many at most.
    pub limit: i64,
}

/// A call as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCall {
    /// When it began.
    pub started_at: Nanos,
    /// Its id.
    pub id: String,
    /// The record, JSON.
    pub record: String,
    /// Since when its files are not where they were.
    pub files_gone_at: Option<Nanos>,
}

/// From which files the rows of a call are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiledVersion {
    /// The call.
    pub id: String,
    /// Of its files.
    pub version: String,
    /// They are known to be gone.
    pub is_gone: bool,
    /// Whether its recording was there; `None` if it has none.
    pub had_recording: Option<bool>,
}

impl Calls {
    pub(super) fn of(store: Store) -> Self {
        Self { store }
    }
}

/// The outcome of `work`, if it comes soon: a pool waits half a minute for a server that is away.
async fn soon<T>(
    doing: &'static str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let done = tokio::time::timeout(ANSWERED_WITHIN, work).await;
    done.unwrap_or_else(|_| Err(StoreError::of(doing)(sqlx::Error::PoolTimedOut)))
}
