//! Rows of calls, written and taken away.

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::{CallRows, Calls, EventRow, LegRow, Nanos, RecordingRow, TranscriptRow, UtteranceRow, soon};
use crate::store::StoreError;

/// Rows of one statement: a server is asked once for so many, and SQLite takes 32,766 values a statement.
const TOGETHER: usize = 200;

type Statement<'q> = Query<'q, Any, AnyArguments>;

impl Calls {
    /// Put these calls in, whose files are on the disk of `node`, in one commit: rows that they have are replaced.
    ///
    /// # Errors
    /// [`StoreError`]: none of them is there.
    pub async fn put(&self, node: &str, calls: &[CallRows]) -> Result<(), StoreError> {
        soon(FILING, async {
            let failed = StoreError::of(FILING);
            let mut commit = self.store.write.begin().await.map_err(&failed)?;
            for rows in calls {
                put(&mut commit, node, rows).await.map_err(&failed)?;
            }
            commit.commit().await.map_err(&failed)
        })
        .await
    }

    /// Take a call out with all its rows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove(&self, tenant: &str, id: &str) -> Result<(), StoreError> {
        let doing = "removing a call";
        soon(doing, async {
            let statement =
                sqlx::query("DELETE FROM calls WHERE tenant = $1 AND id = $2").bind(tenant).bind(id);
            statement.execute(&self.store.write).await.map(drop).map_err(StoreError::of(doing))
        })
        .await
    }

    /// The files of these calls are not where they were, since `at`. Calls of which that is known are left as they are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_gone(
        &self,
        node: &str,
        tenant: &str,
        ids: &[String],
        at: Nanos,
    ) -> Result<(), StoreError> {
        let doing = "marking calls whose files have gone";
        for some in ids.chunks(TOGETHER) {
            soon(doing, async {
                let places: Vec<_> = (0..some.len()).map(|n| format!("${}", n + 4)).collect();
                let statement = format!(
                    "UPDATE calls SET files_gone_at = $1 WHERE node = $2 AND tenant = $3 AND files_gone_at IS NULL AND id IN ({})",
                    places.join(", ")
                );
                let mut query = sqlx::query(AssertSqlSafe(statement)).bind(at).bind(node).bind(tenant);
                for id in some {
                    query = query.bind(id.as_str());
                }
                query.execute(&self.store.write).await.map_err(StoreError::of(doing))
            })
            .await?;
        }
        Ok(())
    }
}

const FILING: &str = "putting calls into it";
/// Statements that may bind no number where another time they bind one are prepared each time: sqlx 0.9 tells PostgreSQL a missing `f64`
/// for an `f32`, and keeps the statement for that.
const KEPT: bool = false;

async fn put(commit: &mut Transaction<'static, Any>, node: &str, rows: &CallRows) -> Result<(), sqlx::Error> {
    let call = &rows.call;
    sqlx::query(
        "INSERT INTO calls (tenant, id, node, started_at, answered_at, ended_at, duration_s, mode, outcome, version, search, record) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (tenant, id) DO UPDATE SET node = excluded.node, \
         started_at = excluded.started_at, answered_at = excluded.answered_at, ended_at = excluded.ended_at, \
         duration_s = excluded.duration_s, mode = excluded.mode, outcome = excluded.outcome, version = excluded.version, \
         search = excluded.search, record = excluded.record, files_gone_at = NULL",
    )
    .persistent(KEPT)
    .bind(clean(&call.tenant))
    .bind(clean(&call.id))
    .bind(node)
    .bind(call.started_at)
    .bind(call.answered_at)
    .bind(call.ended_at)
    .bind(call.duration_s)
    .bind(clean(&call.mode))
    .bind(call.outcome.as_deref().map(clean))
    .bind(clean(&call.version))
    .bind(clean(&call.search))
    .bind(clean(&call.record))
    .execute(&mut **commit)
    .await?;
    let of = Owner { tenant: &call.tenant, id: &call.id };
    for table in ["legs", "transcripts", "utterances", "events"] {
        let statement = format!("DELETE FROM {table} WHERE tenant = $1 AND call_id = $2");
        sqlx::query(AssertSqlSafe(statement)).bind(of.tenant).bind(of.id).execute(&mut **commit).await?;
    }
    put_legs(commit, of, &rows.legs).await?;
    put_recording(commit, of, rows.recording.as_ref()).await?;
    if let Some(transcript) = &rows.transcript {
        put_transcript(commit, of, transcript).await?;
    }
    put_events(commit, of, &rows.events).await
}

#[derive(Clone, Copy)]
struct Owner<'a> {
    tenant: &'a str,
    id: &'a str,
}

async fn put_legs(
    commit: &mut Transaction<'static, Any>,
    of: Owner<'_>,
    legs: &[LegRow],
) -> Result<(), sqlx::Error> {
    let columns = "legs (tenant, call_id, name, codec, packets_received, packets_lost, packets_expected, packets_late, packets_duplicate, \
                   packets_repaired, clock_ppm, jitter_ms, mos)";
    many(commit, columns, 13, legs, |query, _, leg| {
        let report = leg.report.as_ref();
        query
            .bind(of.tenant)
            .bind(of.id)
            .bind(clean(&leg.name))
            .bind(clean(&leg.codec))
            .bind(leg.packets_received)
            .bind(leg.packets_lost)
            .bind(report.map(|report| report.packets_expected))
            .bind(report.map(|report| report.packets_late))
            .bind(report.map(|report| report.packets_duplicate))
            .bind(report.map(|report| report.packets_repaired))
            .bind(report.and_then(|report| report.clock_ppm))
            .bind(leg.jitter_ms)
            .bind(leg.mos)
    })
    .await
}

async fn put_recording(
    commit: &mut Transaction<'static, Any>,
    of: Owner<'_>,
    recording: Option<&RecordingRow>,
) -> Result<(), sqlx::Error> {
    let Some(recording) = recording else {
        let none = sqlx::query("DELETE FROM recordings WHERE tenant = $1 AND call_id = $2");
        return none.bind(of.tenant).bind(of.id).execute(&mut **commit).await.map(drop);
    };
    sqlx::query(
        "INSERT INTO recordings (tenant, call_id, status, path, sha256, sample_rate, duration_s, gone_at, report) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (tenant, call_id) DO UPDATE SET status = excluded.status, \
         path = excluded.path, sha256 = excluded.sha256, sample_rate = excluded.sample_rate, duration_s = excluded.duration_s, \
         gone_at = CASE WHEN excluded.gone_at IS NULL THEN NULL ELSE COALESCE(recordings.gone_at, excluded.gone_at) END, \
         report = excluded.report",
    )
    .persistent(KEPT)
    .bind(of.tenant)
    .bind(of.id)
    .bind(clean(&recording.status))
    .bind(clean(&recording.path))
    .bind(recording.sha256.as_deref().map(clean))
    .bind(recording.sample_rate)
    .bind(recording.duration_s)
    .bind(recording.gone_at)
    .bind(recording.report.as_deref().map(clean))
    .execute(&mut **commit)
    .await
    .map(drop)
}

async fn put_transcript(
    commit: &mut Transaction<'static, Any>,
    of: Owner<'_>,
    transcript: &TranscriptRow,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO transcripts (tenant, call_id, complete, speakers, model, duration_s) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(of.tenant)
    .bind(of.id)
    .bind(i64::from(transcript.complete))
    .bind(transcript.speakers)
    .bind(clean(&transcript.model))
    .bind(transcript.duration_s)
    .execute(&mut **commit)
    .await?;
    let columns = "utterances (tenant, call_id, place, leg, utterance, start_s, end_s, language, confidence, text, words)";
    many(commit, columns, 11, &transcript.utterances, |query, place, said: &UtteranceRow| {
        let words = serde_json::to_string(&said.words).unwrap_or_else(|_| "[]".into());
        query
            .bind(of.tenant)
            .bind(of.id)
            .bind(i64::try_from(place).unwrap_or(i64::MAX))
            .bind(clean(&said.leg))
            .bind(said.utterance)
            .bind(said.start)
            .bind(said.end)
            .bind(clean(&said.language))
            .bind(said.confidence)
            .bind(clean(&said.text))
            .bind(clean(&words))
    })
    .await
}

async fn put_events(
    commit: &mut Transaction<'static, Any>,
    of: Owner<'_>,
    events: &[EventRow],
) -> Result<(), sqlx::Error> {
    many(commit, "events (tenant, call_id, seq, type, at, body)", 6, events, |query, _, event| {
        query
            .bind(of.tenant)
            .bind(of.id)
            .bind(event.seq)
            .bind(clean(&event.kind))
            .bind(event.at)
            .bind(clean(&event.body))
    })
    .await
}

/// Insert `rows`, which `bind` gives their values, many with one statement.
async fn many<T>(
    commit: &mut Transaction<'static, Any>,
    into: &str,
    columns: usize,
    rows: &[T],
    bind: impl for<'q> Fn(Statement<'q>, usize, &'q T) -> Statement<'q>,
) -> Result<(), sqlx::Error> {
    for (chunk, some) in rows.chunks(TOGETHER).enumerate() {
        let row = |n: usize| {
            let values: Vec<_> = (1..=columns).map(|column| format!("${}", n * columns + column)).collect();
            format!("({})", values.join(", "))
        };
        let values: Vec<_> = (0..some.len()).map(row).collect();
        let statement = format!("INSERT INTO {into} VALUES {}", values.join(", "));
        let mut query = sqlx::query(AssertSqlSafe(statement)).persistent(KEPT);
        for (n, one) in some.iter().enumerate() {
            query = bind(query, chunk * TOGETHER + n, one);
        }
        query.execute(&mut **commit).await?;
    }
    Ok(())
}

/// PostgreSQL takes no NUL in a text; a caller's name may have one.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
