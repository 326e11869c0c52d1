//! A call's files as rows.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::time::UNIX_EPOCH;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::calls::directory::scan;
use crate::calls::hub::{EventKind, StoredEvent, journal};
use crate::calls::record::{CallFiles, CallRecord, FileStatus};
use crate::calls::transcript;
use crate::clock;
use crate::recording::report::Report;
use crate::speech::transcript::{Transcript, TranscriptUtterance};
use crate::store::calls::{
    CallRow, CallRows, EventRow, LegReportRow, LegRow, Nanos, RecordingRow, TranscriptRow, UtteranceRow,
    WordOfRow,
};

/// What tells that a call's files have changed: the record is written anew whenever the call's other files are, the journal only grows.
/// `None` if there is no record.
pub(super) fn version(files: &CallFiles) -> Option<String> {
    let written = fs::metadata(files.record()).ok()?.modified().ok()?;
    let nanos = written.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let journal = fs::metadata(files.events()).map_or(0, |journal| journal.len());
    Some(format!("{nanos}-{journal}"))
}

/// All rows of the call whose files these are, by what they say now; `None` if it is not over, or there is no such call. Reads files.
///
/// # Errors
/// What the file system says.
pub(super) fn rows(files: &CallFiles, tenant: &str) -> io::Result<Option<CallRows>> {
    // Before anything is read: what is written meanwhile makes another version.
    let Some(version) = version(files) else { return Ok(None) };
    let record = scan::read(files.folder(), tenant, files.call_id());
    let Some(record) = record.filter(CallRecord::is_ended) else { return Ok(None) };
    let report_text = text_of(&files.report())?;
    let report: Option<Report> = report_text.as_deref().and_then(|text| parsed(files, "report", text));
    let transcript = transcript_of(files, &record)?;
    Ok(Some(CallRows {
        legs: legs(&record, report.as_ref()),
        recording: recording(files, &record, report.as_ref(), report_text),
        transcript: transcript.map(transcript_row),
        events: events(files)?,
        call: call(&record, version)?,
    }))
}

fn call(record: &CallRecord, version: String) -> io::Result<CallRow> {
    let nanos = |at: Timestamp| Nanos::try_from(at.as_nanosecond()).unwrap_or(Nanos::MAX);
    Ok(CallRow {
        tenant: record.tenant.clone(),
        id: record.call_id.clone(),
        started_at: nanos(record.started_at),
        answered_at: record.answered_at.map(nanos),
        ended_at: record.ended_at.map(nanos),
        duration_s: record.duration_s,
        mode: name_of(&record.mode)?,
        outcome: record.outcome.clone(),
        version,
        search: record.searched().map(str::to_lowercase).collect::<Vec<_>>().join("\n"),
        record: serde_json::to_string(record)?,
    })
}

/// As it is spelt in JSON.
fn name_of(name: &impl serde::Serialize) -> io::Result<String> {
    Ok(serde_json::to_value(name)?.as_str().unwrap_or_default().to_owned())
}

fn legs(record: &CallRecord, report: Option<&Report>) -> Vec<LegRow> {
    let of_report = |name: &str| {
        // Of a recording that was mended nobody counted the packets.
        let report = report.filter(|report| !report.repaired)?;
        let stats = &report.legs.iter().find(|leg| leg.name == name)?.stats;
        Some(LegReportRow {
            packets_expected: stats.packets_expected.cast_signed(),
            packets_late: stats.packets_late.cast_signed(),
            packets_duplicate: stats.packets_duplicate.cast_signed(),
            packets_repaired: stats.packets_repaired.cast_signed(),
            clock_ppm: stats.clock_ppm,
        })
    };
    let mut known = HashSet::new();
    let legs = record.legs.iter().filter(|leg| known.insert(leg.name));
    legs.map(|leg| LegRow {
        name: leg.name.name().to_owned(),
        codec: leg.codec.clone(),
        packets_received: leg.packets_received.cast_signed(),
        packets_lost: leg.packets_lost.cast_signed(),
        report: of_report(leg.name.name()),
        jitter_ms: leg.jitter_ms,
        mos: leg.mos,
    })
    .collect()
}

fn recording(
    files: &CallFiles,
    record: &CallRecord,
    report: Option<&Report>,
    report_text: Option<String>,
) -> Option<RecordingRow> {
    let path = record.recording.path.as_ref()?;
    let is_there = files.recording().exists();
    Some(RecordingRow {
        status: name_of(&record.recording.status).unwrap_or_default(),
        path: path.to_string_lossy().into_owned(),
        sha256: record.recording.sha256.clone(),
        sample_rate: report.map(|report| i64::from(report.sample_rate)),
        duration_s: report.map(|report| report.duration_s).or(record.duration_s),
        gone_at: (!is_there).then(now),
        report: report_text,
    })
}

/// As it was written at the call's end, or as far as it has come.
fn transcript_of(files: &CallFiles, record: &CallRecord) -> io::Result<Option<Transcript>> {
    if let Some(text) = text_of(&files.transcript())? {
        return Ok(parsed(files, "transcript", &text));
    }
    let (mut finals, mut heard) = (Vec::new(), record.duration_s.unwrap_or_default());
    let is_final = |_, kind: &str| kind == EventKind::TranscriptFinal.as_str();
    journal::each(&files.events(), is_final, |event| {
        if let Some(event) = transcript::transcribed(&event) {
            heard = event.end.max(heard);
            finals.push(event);
        }
        ControlFlow::Continue(())
    })?;
    if finals.is_empty() && record.transcript.status != FileStatus::Pending {
        return Ok(None);
    }
    let call = Some(record.call_id.clone());
    let so_far = Transcript::new(call, heard, transcript::SPEAKERS, "", finals);
    Ok(Some(Transcript { complete: false, ..so_far }))
}

fn transcript_row(transcript: Transcript) -> TranscriptRow {
    TranscriptRow {
        complete: transcript.complete,
        speakers: i64::from(transcript.speakers),
        model: transcript.model,
        duration_s: transcript.duration,
        utterances: transcript.utterances.into_iter().map(utterance).collect(),
    }
}

fn utterance(said: TranscriptUtterance) -> UtteranceRow {
    let sum: f64 = said.words.iter().map(|word| word.confidence).sum();
    let confidence = (!said.words.is_empty()).then(|| sum / said.words.len() as f64);
    let words = said.words.into_iter().map(|word| WordOfRow {
        text: word.text,
        start: word.start,
        end: word.end,
        confidence: word.confidence,
    });
    UtteranceRow {
        leg: said.speaker.name().to_owned(),
        utterance: said.utterance.cast_signed(),
        start: said.start,
        end: said.end,
        language: said.language,
        confidence,
        words: words.collect(),
        text: said.text,
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: std::borrow::Cow<'a, str>,
    time: Timestamp,
}

fn events(files: &CallFiles) -> io::Result<Vec<EventRow>> {
    let (mut events, mut known) = (Vec::new(), HashSet::new());
    let is_kept = |_, kind: &str| kind != EventKind::TranscriptPartial.as_str();
    journal::each(&files.events(), is_kept, |StoredEvent { seq, json, .. }| {
        // A number given twice is the fault of a disk that forgot: what came first is what was told.
        if known.insert(seq)
            && let Some(Envelope { kind, time }) = parsed(files, "event", &json)
        {
            events.push(EventRow {
                seq: seq.cast_signed(),
                kind: kind.into_owned(),
                at: Nanos::try_from(time.as_nanosecond()).unwrap_or(Nanos::MAX),
                body: json.as_ref().to_owned(),
            });
        }
        ControlFlow::Continue(())
    })?;
    Ok(events)
}

/// A text that is there; an unreadable one is told of, and its call is filed without it.
fn parsed<'a, T: Deserialize<'a>>(files: &CallFiles, what: &str, text: &'a str) -> Option<T> {
    let parsed = serde_json::from_str(text).inspect_err(|error| {
        tracing::warn!(call = files.call_id(), %error, "the {what} of a call cannot be read: the database has the call without it");
    });
    parsed.ok()
}

fn text_of(path: &std::path::Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A transcript of rows, as its file had it.
pub(super) fn transcript_of_rows(call_id: &str, row: TranscriptRow) -> Option<Transcript> {
    let said = row.utterances.into_iter().map(|said| {
        let words = said.words.iter().map(|word| {
            serde_json::json!({ "text": word.text, "start": word.start, "end": word.end, "confidence": word.confidence })
        });
        serde_json::json!({
            "speaker": said.leg, "utterance": said.utterance, "start": said.start, "end": said.end, "text": said.text,
            "language": said.language, "words": words.collect::<Vec<_>>(),
        })
    });
    from_value(serde_json::json!({
        "v": crate::speech::transcript::TRANSCRIPT_VERSION, "call_id": call_id, "duration": row.duration_s,
        "complete": row.complete, "speakers": row.speakers, "model": row.model, "utterances": said.collect::<Vec<_>>(),
    }))
}

fn from_value<T: DeserializeOwned>(value: serde_json::Value) -> Option<T> {
    serde_json::from_value(value)
        .inspect_err(|error| tracing::warn!(%error, "a transcript of the database cannot be read"))
        .ok()
}

/// The time.
pub(super) fn now() -> Nanos {
    Nanos::try_from(clock::timestamp().as_nanosecond()).unwrap_or(Nanos::MAX)
}
