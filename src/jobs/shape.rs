//! Jobs as users see them.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::store::jobs::{Job, Millis};

/// A job, all but what is only ours.
pub fn job(job: &Job) -> Value {
    json!({
        "id": &*job.key.id,
        "tenant": &*job.key.tenant,
        "kind": job.kind.name(),
        "status": job.state.name(),
        "priority": job.priority.name(),
        "attempts": job.attempts,
        "progress": job.progress,
        "request": job.payload,
        "result": job.result,
        "error": job.error,
        "created_at": time(job.created_at),
        "updated_at": time(job.updated_at),
        "started_at": job.started_at.map(time),
        "finished_at": job.finished_at.map(time),
        "not_before": (job.run_after > job.created_at && !job.state.is_final()).then(|| time(job.run_after)),
    })
}

/// A text-to-speech call: the job, and besides its outcome in one word.
pub fn call(of: &Job) -> Value {
    let mut shown = job(of);
    shown["job_id"] = shown["id"].clone();
    shown["outcome"] = shown["result"]["outcome"].clone();
    shown
}

fn time(at: Millis) -> String {
    Timestamp::from_millisecond(at).unwrap_or_default().to_string()
}
