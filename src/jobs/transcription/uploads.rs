//! Uploads that nobody needs any more: of jobs that are forgotten, and of requests that broke off before there was a job.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::clock;
use crate::jobs::queue::Queue;
use crate::store::StoreError;
use crate::store::jobs::{Filter, JobKind, JobState};

/// They are looked through this often.
const EVERY: Duration = Duration::from_secs(3_600);
/// Younger ones may belong to a request that is not done yet.
const YOUNGEST: Duration = Duration::from_secs(3_600);
/// Jobs read at a time.
const PAGE: i64 = 500;

/// Remove them, again and again.
pub async fn sweep(queue: Queue, folder: std::path::PathBuf) {
    loop {
        match needed(&queue).await {
            Ok(needed) => {
                let folder = folder.clone();
                let swept =
                    tokio::task::spawn_blocking(move || remove_others(&folder, &needed, YOUNGEST)).await;
                match swept {
                    Ok(Ok(0)) => {}
                    Ok(Ok(files)) => tracing::info!(files, "uploads that no job needs are removed"),
                    Ok(Err(error)) => tracing::warn!(%error, "uploads cannot be looked through"),
                    Err(error) => tracing::warn!(%error, "looking through the uploads broke off"),
                }
            }
            Err(error) => tracing::warn!(%error, "the jobs that need uploads cannot be read"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Files of jobs that are not done, or may be asked for once more.
async fn needed(queue: &Queue) -> Result<HashSet<String>, StoreError> {
    let mut needed = HashSet::new();
    for state in JobState::ALL.iter().filter(|state| **state != JobState::Completed) {
        let kind = Some(JobKind::Transcription);
        let filter = Filter { kind, state: Some(*state), limit: PAGE, ..Filter::default() };
        queue.jobs().each(filter, |job| needed.extend(file_of(&job.payload))).await?;
    }
    Ok(needed)
}

fn file_of(payload: &Value) -> Option<String> {
    payload["upload"]["file"].as_str().map(str::to_owned)
}

fn remove_others(folder: &Path, needed: &HashSet<String>, youngest: Duration) -> io::Result<u64> {
    let now = Duration::from_nanos(clock::realtime_nanos());
    let mut removed = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let changed = entry.metadata()?.modified()?;
        let changed = changed.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let is_old = now.saturating_sub(changed) >= youngest;
        if is_old && !needed.contains(&*entry.file_name().to_string_lossy()) {
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_old_and_needed_by_nobody_goes() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["needed", "left"] {
            std::fs::write(folder.path().join(name), b"x").unwrap();
        }
        let needed = HashSet::from(["needed".to_owned()]);
        assert_eq!(
            remove_others(folder.path(), &needed, YOUNGEST).unwrap(),
            0,
            "a request may still be under way"
        );
        assert_eq!(remove_others(folder.path(), &needed, Duration::ZERO).unwrap(), 1);
        assert!(folder.path().join("needed").exists());
        let asked = serde_json::json!({ "upload": { "file": "f", "name": "call.wav" } });
        assert_eq!(file_of(&asked).as_deref(), Some("f"));
        assert_eq!(file_of(&serde_json::json!({ "path": "/a" })), None);
    }
}
