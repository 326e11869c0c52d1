//! Calls, looked for.

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::{
    CallFilter, Calls, EventRow, FiledVersion, LegReportRow, LegRow, Nanos, RecordingRow, StoredCall,
    TranscriptRow, UtteranceRow, soon,
};
use crate::store::StoreError;

/// A day.
const DAY: Nanos = 86_400_000_000_000;

impl Calls {
    /// Those that `filter` lets through, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(&self, filter: &CallFilter) -> Result<Vec<StoredCall>, StoreError> {
        let doing = "listing calls";
        let mut conditions = vec!["node = $1".to_owned()];
        let mut texts = Vec::new();
        let mut condition = |text: &str, value: String| {
            texts.push(value);
            conditions.push(text.replace('?', &format!("${}", texts.len() + 3)));
        };
        if let Some(tenant) = &filter.tenant {
            condition("tenant = ?", tenant.clone());
        }
        if let Some(text) = &filter.text {
            condition("search LIKE ? ESCAPE '!'", format!("%{}%", escaped(text)));
        }
        let (at, id) = filter.before.clone().unwrap_or((Nanos::MAX, String::new()));
        condition("(started_at < $3 OR (started_at = $3 AND id < ?))", id);
        let statement = format!(
            "SELECT id, started_at, record, files_gone_at FROM calls WHERE {} ORDER BY started_at DESC, id DESC LIMIT $2",
            conditions.join(" AND ")
        );
        let mut query =
            sqlx::query(AssertSqlSafe(statement)).bind(filter.node.as_str()).bind(filter.limit).bind(at);
        for text in texts {
            query = query.bind(text);
        }
        soon(doing, async {
            let rows = query.fetch_all(&self.store.read).await;
            let calls = rows.map(|rows| rows.iter().map(stored).collect::<Result<_, _>>());
            calls.and_then(|calls| calls).map_err(StoreError::of(doing))
        })
        .await
    }

    /// A call whose files are, or were, on the disk of `node`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, node: &str, id: &str) -> Result<Option<StoredCall>, StoreError> {
        let doing = "looking for a call";
        soon(doing, async {
            let query = sqlx::query(
                "SELECT id, started_at, record, files_gone_at FROM calls WHERE id = $1 AND node = $2",
            );
            let row = query.bind(id).bind(node).fetch_optional(&self.store.read).await;
            let call = row.map(|row| row.as_ref().map(stored).transpose());
            call.and_then(|call| call).map_err(StoreError::of(doing))
        })
        .await
    }

    /// The directions of a call.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn legs(&self, tenant: &str, id: &str) -> Result<Vec<LegRow>, StoreError> {
        let statement = "SELECT name, codec, packets_received, packets_lost, packets_expected, packets_late, packets_duplicate, \
                         packets_repaired, clock_ppm, jitter_ms, mos FROM legs WHERE tenant = $1 AND call_id = $2 ORDER BY name DESC";
        self.of_call("reading the legs of a call", statement, tenant, id, |row| {
            let report = match row.try_get("packets_expected")? {
                None => None,
                Some(packets_expected) => Some(LegReportRow {
                    packets_expected,
                    packets_late: row.try_get("packets_late")?,
                    packets_duplicate: row.try_get("packets_duplicate")?,
                    packets_repaired: row.try_get("packets_repaired")?,
                    clock_ppm: row.try_get("clock_ppm")?,
                }),
            };
            Ok(LegRow {
                name: row.try_get("name")?,
                codec: row.try_get("codec")?,
                packets_received: row.try_get("packets_received")?,
                packets_lost: row.try_get("packets_lost")?,
                report,
                jitter_ms: row.try_get("jitter_ms")?,
                mos: row.try_get("mos")?,
            })
        })
        .await
    }

    /// The recording of a call, with its report.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recording(&self, tenant: &str, id: &str) -> Result<Option<RecordingRow>, StoreError> {
        let statement = "SELECT status, path, sha256, sample_rate, duration_s, gone_at, report FROM recordings \
                         WHERE tenant = $1 AND call_id = $2";
        let mut one = self
            .of_call("reading the recording of a call", statement, tenant, id, |row| {
                Ok(RecordingRow {
                    status: row.try_get("status")?,
                    path: row.try_get("path")?,
                    sha256: row.try_get("sha256")?,
                    sample_rate: row.try_get("sample_rate")?,
                    duration_s: row.try_get("duration_s")?,
                    gone_at: row.try_get("gone_at")?,
                    report: row.try_get("report")?,
                })
            })
            .await?;
        Ok(one.pop())
    }

    /// What was said in a call.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn transcript(&self, tenant: &str, id: &str) -> Result<Option<TranscriptRow>, StoreError> {
        let doing = "reading the transcript of a call";
        let statement = "SELECT complete, speakers, model, duration_s FROM transcripts WHERE tenant = $1 AND call_id = $2";
        let mut one = self
            .of_call(doing, statement, tenant, id, |row| {
                Ok(TranscriptRow {
                    complete: row.try_get::<i64, _>("complete")? != 0,
                    speakers: row.try_get("speakers")?,
                    model: row.try_get("model")?,
                    duration_s: row.try_get("duration_s")?,
                    utterances: Vec::new(),
                })
            })
            .await?;
        let Some(mut transcript) = one.pop() else { return Ok(None) };
        let statement = "SELECT leg, utterance, start_s, end_s, language, confidence, text, words FROM utterances \
                         WHERE tenant = $1 AND call_id = $2 ORDER BY place";
        transcript.utterances = self
            .of_call(doing, statement, tenant, id, |row| {
                let words = serde_json::from_str(&row.try_get::<String, _>("words")?);
                Ok(UtteranceRow {
                    leg: row.try_get("leg")?,
                    utterance: row.try_get("utterance")?,
                    start: row.try_get("start_s")?,
                    end: row.try_get("end_s")?,
                    language: row.try_get("language")?,
                    confidence: row.try_get("confidence")?,
                    text: row.try_get("text")?,
                    words: words.map_err(|error| sqlx::Error::Decode(error.into()))?,
                })
            })
            .await?;
        Ok(Some(transcript))
    }

    /// What happened in a call, in order: up to `limit` events with numbers above `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events(
        &self,
        tenant: &str,
        id: &str,
        after: i64,
        limit: i64,
    ) -> Result<Vec<EventRow>, StoreError> {
        let doing = "reading the events of a call";
        let statement = "SELECT seq, type, at, body FROM events WHERE tenant = $1 AND call_id = $2 AND seq > $3 ORDER BY seq LIMIT $4";
        soon(doing, async {
            let query = sqlx::query(statement).bind(tenant).bind(id).bind(after).bind(limit);
            let rows = query.fetch_all(&self.store.read).await;
            let event = |row: &AnyRow| {
                Ok(EventRow {
                    seq: row.try_get("seq")?,
                    kind: row.try_get("type")?,
                    at: row.try_get("at")?,
                    body: row.try_get("body")?,
                })
            };
            let events = rows.map(|rows| rows.iter().map(event).collect::<Result<_, sqlx::Error>>());
            events.and_then(|events| events).map_err(StoreError::of(doing))
        })
        .await
    }

    /// The days, since 1970, on which calls of `node` began whose files are not known to be gone, each with its tenant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn days(&self, node: &str) -> Result<Vec<(String, i64)>, StoreError> {
        let doing = "looking for the days that have calls";
        soon(doing, async {
            let statement =
                "SELECT DISTINCT tenant, started_at / $1 AS day FROM calls WHERE node = $2 AND files_gone_at IS NULL";
            let rows = sqlx::query(statement).bind(DAY).bind(node).fetch_all(&self.store.read).await;
            let day = |row: &AnyRow| Ok((row.try_get("tenant")?, row.try_get("day")?));
            let days = rows.map(|rows| rows.iter().map(day).collect::<Result<_, sqlx::Error>>());
            days.and_then(|days| days).map_err(StoreError::of(doing))
        })
        .await
    }

    /// From which files the rows are of the calls of `node` and `tenant` that began on this day since 1970.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn versions(
        &self,
        node: &str,
        tenant: &str,
        day: i64,
    ) -> Result<Vec<FiledVersion>, StoreError> {
        let doing = "looking for the calls of a day";
        let statement = "SELECT id, version, files_gone_at, path, gone_at FROM calls LEFT JOIN recordings \
                         ON recordings.tenant = calls.tenant AND recordings.call_id = calls.id \
                         WHERE node = $1 AND calls.tenant = $2 AND started_at >= $3 AND started_at < $4";
        soon(doing, async {
            let query = sqlx::query(statement).bind(node).bind(tenant);
            let query = query.bind(day.saturating_mul(DAY)).bind(day.saturating_add(1).saturating_mul(DAY));
            let rows = query.fetch_all(&self.store.read).await;
            let version = |row: &AnyRow| {
                let path: Option<String> = row.try_get("path")?;
                let gone_at: Option<i64> = row.try_get("gone_at")?;
                Ok(FiledVersion {
                    id: row.try_get("id")?,
                    version: row.try_get("version")?,
                    is_gone: row.try_get::<Option<i64>, _>("files_gone_at")?.is_some(),
                    had_recording: path.map(|_| gone_at.is_none()),
                })
            };
            let versions = rows.map(|rows| rows.iter().map(version).collect::<Result<_, sqlx::Error>>());
            versions.and_then(|versions| versions).map_err(StoreError::of(doing))
        })
        .await
    }

    /// Whether the database answers.
    pub async fn answers(&self) -> bool {
        soon("looking whether it answers", self.store.ping()).await.is_ok()
    }

    async fn of_call<T>(
        &self,
        doing: &'static str,
        statement: &'static str,
        tenant: &str,
        id: &str,
        read: impl Fn(&AnyRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, StoreError> {
        soon(doing, async {
            let rows = sqlx::query(statement).bind(tenant).bind(id).fetch_all(&self.store.read).await;
            let all = rows.map(|rows| rows.iter().map(&read).collect::<Result<_, _>>());
            all.and_then(|all| all).map_err(StoreError::of(doing))
        })
        .await
    }
}

fn stored(row: &AnyRow) -> Result<StoredCall, sqlx::Error> {
    Ok(StoredCall {
        started_at: row.try_get("started_at")?,
        id: row.try_get("id")?,
        record: row.try_get("record")?,
        files_gone_at: row.try_get("files_gone_at")?,
    })
}

/// A text of which LIKE takes every letter as it is.
fn escaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '!') {
            plain.push('!');
        }
        plain.push(letter);
    }
    plain.replace('\0', "\u{fffd}")
}
