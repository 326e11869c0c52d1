//! What was spoken, for the next who asks: WAV files named for what they say. The oldest go when there is no more room.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use super::{Spoken, SynthesisError};
use crate::audio::wav::{WavReader, header};
use crate::{clock, files};

/// Of any engine, Hz.
const RATES: std::ops::RangeInclusive<u32> = 8_000..=192_000;

#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    most_bytes: u64,
    /// Whose text is being spoken.
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// One at a time makes room.
    pruning: Arc<Mutex<()>>,
}

impl Cache {
    pub(super) fn open(folder: &Path, most_bytes: u64) -> Result<Self, SynthesisError> {
        if most_bytes > 0 {
            std::fs::create_dir_all(folder)
                .map_err(|source| SynthesisError::Cache { folder: folder.to_owned(), source })?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            most_bytes,
            turns: Mutex::new(HashMap::new()),
            pruning: Arc::new(Mutex::new(())),
        })
    }

    /// The right to speak what has that key; whoever has it holds the others up.
    pub(super) async fn turn(&self, key: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock();
            turns.retain(|_, turn| turn.strong_count() > 0);
            let turn = turns.get(key).and_then(Weak::upgrade).unwrap_or_default();
            turns.insert(key.to_owned(), Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }

    pub(super) async fn get(&self, key: &str) -> Option<Spoken> {
        if self.most_bytes == 0 {
            return None;
        }
        let path = self.path(key);
        tokio::task::spawn_blocking(move || {
            let file = std::fs::read(&path).ok()?;
            let spoken = read(file)?;
            // What is used stays: its time is that of its last use. It is only the order of leaving that depends on it.
            let now = SystemTime::from(clock::timestamp());
            let _ = std::fs::File::options().append(true).open(&path).and_then(|file| file.set_modified(now));
            Some(spoken)
        })
        .await
        .ok()?
    }

    /// Keep it. What cannot be kept is spoken again: a warning is all that it is worth.
    pub(super) async fn put(&self, key: &str, spoken: &Spoken) {
        if self.most_bytes == 0 {
            return;
        }
        let file = file(spoken);
        let (path, folder, most, pruning) =
            (self.path(key), self.folder.clone(), self.most_bytes, self.pruning.clone());
        let kept = tokio::task::spawn_blocking(move || {
            files::replace(&path, &file)?;
            let _one = pruning.lock();
            prune(&folder, most)
        });
        match kept.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(folder = %self.folder.display(), %error, "what was spoken is not kept")
            }
            Err(error) => tracing::warn!(%error, "what was spoken is not kept"),
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(key).with_extension("wav")
    }
}

/// As it is kept: a WAV file.
pub(super) fn file(spoken: &Spoken) -> Vec<u8> {
    let mut file = header(spoken.rate_hz, 1, 2 * spoken.pcm.len() as u64).to_vec();
    file.extend(spoken.pcm.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

/// What a file holds that was kept; `None` if it is none of ours, or damaged.
pub(super) fn read(file: Vec<u8>) -> Option<Spoken> {
    let mut reader = WavReader::new(Cursor::new(file)).ok()?;
    let format = reader.format();
    let pcm = reader.read_all().ok()?;
    let is_ours = format.channels == 1 && RATES.contains(&format.rate_hz) && !pcm.is_empty();
    is_ours.then_some(Spoken { rate_hz: format.rate_hz, pcm, cached: true })
}

fn prune(folder: &Path, most: u64) -> std::io::Result<()> {
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        kept.push((about.modified()?, about.len(), entry.path()));
    }
    let mut total: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
    kept.sort();
    for (_, bytes, path) in kept {
        if total <= most {
            break;
        }
        std::fs::remove_file(path)?;
        total -= bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(samples: usize) -> Spoken {
        Spoken { rate_hz: 22_050, pcm: vec![7; samples], cached: false }
    }

    #[tokio::test]
    async fn what_was_spoken_is_there_again_and_the_least_used_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let of_one = 80 + 2 * 1_000;
        let cache = Cache::open(folder.path(), 2 * of_one).unwrap();
        assert!(cache.get("a").await.is_none());
        cache.put("a", &spoken(1_000)).await;
        cache.put("b", &spoken(1_000)).await;
        assert_eq!(cache.get("a").await, Some(Spoken { cached: true, ..spoken(1_000) }));
        cache.put("c", &spoken(1_000)).await;
        assert!(cache.get("a").await.is_some() && cache.get("c").await.is_some());
        assert!(cache.get("b").await.is_none(), "used least lately");
        std::fs::write(folder.path().join("a.wav"), "damaged").unwrap();
        assert!(cache.get("a").await.is_none());
    }

    #[tokio::test]
    async fn nothing_is_kept_where_there_is_to_be_no_cache() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("none"), 0).unwrap();
        cache.put("a", &spoken(10)).await;
        assert!(cache.get("a").await.is_none() && !folder.path().join("none").exists());
    }

    #[tokio::test]
    async fn whoever_wants_the_same_waits_and_others_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 1).unwrap();
        let first = cache.turn("a").await;
        let _other = cache.turn("b").await;
        let mut second = Box::pin(cache.turn("a"));
        let early = tokio::time::timeout(std::time::Duration::from_millis(50), &mut second).await;
        assert!(early.is_err());
        drop(first);
        second.await;
    }
}
