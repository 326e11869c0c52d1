//! Rows from files, for as long as the server runs.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{Archive, paper};
use crate::store::StoreError;
use crate::store::calls::CallRows;
use crate::telemetry::metric;

/// A call's last files come within milliseconds of each other: they are read once.
const TOGETHER_WITHIN: Duration = Duration::from_millis(200);
/// Calls of one commit, at most: the database's one writer (SQLite) has others to serve.
pub(super) const CALLS: usize = 32;
/// And no further call once so many bytes of words and events are in memory.
const BYTES: usize = 4 << 20;
/// Pauses while the database is away.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A call that the database refuses so often, while it takes others, is left until the next start.
const ATTEMPTS: u32 = 5;

/// Calls that the database, or their own files, refused, by how often.
pub(super) type Refused = HashMap<Arc<str>, u32>;

pub(super) async fn run(archive: &Archive) {
    let mut refused = Refused::new();
    let notes = archive.directory.notes();
    notes.look_at_all();
    let mut away = Away::default();
    loop {
        metric::CALLS_TO_FILE.set(notes.len() as f64);
        let done = if notes.were_too_many() {
            archive.reconcile(&mut refused).await.map(drop).inspect_err(|_| notes.look_at_all())
        } else if notes.len() > 0 {
            tokio::time::sleep(TOGETHER_WITHIN).await;
            archive.file_noted(&mut refused).await
        } else {
            notes.added().await;
            continue;
        };
        match done {
            Ok(()) => away.is_back(),
            Err(error) => away.pause(&error).await,
        }
    }
}

/// One fact, one warning.
#[derive(Default)]
struct Away {
    pause: Option<Duration>,
}

impl Away {
    async fn pause(&mut self, error: &StoreError) {
        metric::CALL_FILING_ERRORS.add(1);
        match self.pause {
            None => tracing::warn!(
                %error,
                "calls that end are not in the database yet: they wait on disk until it takes them"
            ),
            Some(_) => tracing::debug!(%error, "calls still wait on disk for the database"),
        }
        let pause = self.pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
        self.pause = Some(pause);
        tokio::time::sleep(pause).await;
    }

    fn is_back(&mut self) {
        if self.pause.take().is_some() {
            tracing::info!("the database takes calls again");
        }
    }
}

impl Archive {
    /// File the calls that are noted; those that were not are noted again.
    pub(super) async fn file_noted(&self, refused: &mut Refused) -> Result<(), StoreError> {
        let notes = self.directory.notes();
        let calls = notes.take(CALLS);
        let done = self.file(&calls, refused).await.map(drop);
        done.inspect_err(|_| calls.iter().for_each(|call| notes.add(call)))
    }

    /// Make rows of these calls, as far as they are over and have files; says of how many. One that is refused is noted again.
    ///
    /// # Errors
    /// The database is away: some of them may be filed.
    pub(super) async fn file(&self, calls: &[Arc<str>], refused: &mut Refused) -> Result<u64, StoreError> {
        // From before files are read until their rows are there: what is removed meanwhile would come back.
        let _turn = self.turn.lock().await;
        let (mut filed, mut batch, mut bytes) = (0, Vec::new(), 0);
        for call in calls {
            match self.read(call).await {
                Ok(Some(rows)) => {
                    bytes += size(&rows);
                    batch.push(rows);
                }
                Ok(None) => {}
                Err(error) => self.refuse(call, &error, refused),
            }
            if batch.len() >= CALLS || bytes >= BYTES {
                filed += self.put(std::mem::take(&mut batch), refused).await?;
                bytes = 0;
            }
        }
        Ok(filed + self.put(batch, refused).await?)
    }

    async fn read(&self, call: &Arc<str>) -> io::Result<Option<CallRows>> {
        let (directory, id) = (Arc::clone(&self.directory), Arc::clone(call));
        let read = move || {
            let Some(record) = directory.get(&id) else { return Ok(None) };
            let files = directory.files(&record).map_err(io::Error::other)?;
            paper::rows(&files, &record.tenant)
        };
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
    }

    async fn put(&self, batch: Vec<CallRows>, refused: &mut Refused) -> Result<u64, StoreError> {
        if batch.is_empty() {
            return Ok(0);
        }
        let mut filed = 0;
        if let Err(error) = self.calls.put(&self.node, &batch).await {
            self.unless_away(error).await?;
            // One that the database refuses must not take the others with it.
            for rows in &batch {
                match self.calls.put(&self.node, std::slice::from_ref(rows)).await {
                    Ok(()) => filed += 1,
                    Err(error) => {
                        let error = self.unless_away(error).await?;
                        self.refuse(&rows.call.id.as_str().into(), &error, refused);
                    }
                }
            }
        } else {
            filed = batch.len() as u64;
        }
        metric::CALLS_FILED.add(filed);
        Ok(filed)
    }

    /// What the database has against these calls; an error if it has nothing against them and is away.
    async fn unless_away(&self, error: StoreError) -> Result<StoreError, StoreError> {
        match &error {
            // One that takes too long while the database answers is too large for it, and must not be tried for ever before the others.
            StoreError::Query { source: sqlx::Error::Database(_) | sqlx::Error::PoolTimedOut, .. }
                if self.calls.answers().await =>
            {
                Ok(error)
            }
            _ => Err(error),
        }
    }

    fn refuse(&self, call: &Arc<str>, error: &dyn std::fmt::Display, refused: &mut Refused) {
        metric::CALL_FILING_ERRORS.add(1);
        let attempts = refused.entry(Arc::clone(call)).or_default();
        *attempts += 1;
        if *attempts < ATTEMPTS {
            tracing::debug!(%call, %error, "a call is not taken into the database: it is tried again");
            self.directory.notes().add(call);
        } else {
            refused.remove(call);
            tracing::error!(%call, %error, "a call is not taken into the database: its files are there, and the next start tries again");
        }
    }
}

/// Bytes that these rows are about.
fn size(rows: &CallRows) -> usize {
    let words = rows.transcript.iter().flat_map(|transcript| &transcript.utterances);
    let words: usize = words.map(|said| said.text.len() + 64 * said.words.len()).sum();
    rows.events.iter().map(|event| event.body.len()).sum::<usize>() + words + rows.call.record.len()
}
