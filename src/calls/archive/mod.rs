//! Calls that are over: listed and searched in the database, which is filled from their files.
//!
//! ```text
//! saver: record saved ─┐
//!                      ├─▶ notes ─▶ filing: reads the call's files ─▶ rows, many calls a commit
//! hub: journal whole ──┘             ▲
//!      reconcile, at the start ──────┘  what has changed since, by day folder
//! ```
//!
//! A call never waits for the database, nor does anything of it lie here until it is written: a note is an id, and the rows are made from the
//! files whenever the database is there to take them. Files are the truth, also after a crash; a database that is lost is made again.

mod filing;
mod paper;
mod reconcile;

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::directory::{CallDirectory, CallPage, CallQuery, Cursor, RemoveError};
use super::record::{CallRecord, CallState};
use crate::speech::transcript::Transcript;
use crate::store::calls::{CallFilter, Calls, Nanos, StoredCall};
use crate::store::{Store, StoreError};

pub use reconcile::Reconciled;

/// All calls of this node: those that live from memory, those that are over from the database. Shared by reference counting.
pub struct Archive {
    directory: Arc<CallDirectory>,
    calls: Calls,
    node: String,
    /// Held by whoever makes rows of files or takes both away, so that a call that is removed does not come back.
    turn: tokio::sync::Mutex<()>,
}

/// Why a call was not removed.
#[derive(Debug, thiserror::Error)]
pub enum NotRemoved {
    /// It is none that can be, or its files stay.
    #[error(transparent)]
    Directory(#[from] RemoveError),
    /// The database does not let it go: nothing is removed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Archive {
    /// The archive of the calls of `directory`, which are this `node`'s. Nothing is filed before [`Archive::keep_filing`].
    pub fn new(directory: Arc<CallDirectory>, store: &Store, node: &str) -> Self {
        Self { directory, calls: store.calls(), node: node.to_owned(), turn: tokio::sync::Mutex::default() }
    }

    /// Calls as they are in memory and on disk.
    pub fn directory(&self) -> &Arc<CallDirectory> {
        &self.directory
    }

    /// Reconcile the rows with the files, then make rows of each call that ends, until `stop`. While the database is away calls wait on
    /// disk.
    pub async fn keep_filing(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = filing::run(&self) => {}
            () = stop.cancelled() => {}
        }
    }

    /// Calls, newest first.
    ///
    /// # Errors
    /// [`StoreError`], if calls that are over are asked for.
    pub async fn list(&self, query: &CallQuery) -> Result<CallPage, StoreError> {
        let limit = query.limit.max(1);
        let rows = if query.state.is_none_or(|state| state == CallState::Ended) {
            self.calls.list(&self.filter(query, limit)).await?
        } else {
            Vec::new()
        };
        // After the rows: what ends meanwhile is still there.
        let mut calls = self.directory.recent(query);
        let has_more_rows = rows.len() > limit;
        let last_row = rows.get(limit - 1).and_then(cursor_of);
        // What is in memory is newer than its row, also where it is not what is asked for.
        let only_stored =
            rows.into_iter().take(limit).filter(|row| self.directory.get_recent(&row.id).is_none());
        calls.extend(only_stored.filter_map(|row| shown(&row)));
        calls.sort_by_key(|record| std::cmp::Reverse(Cursor::of(record)));
        calls.dedup_by(|one, other| one.call_id == other.call_id);
        if has_more_rows && let Some(last) = &last_row {
            // Between those of memory that come after it there may be rows that were not asked for yet.
            calls.retain(|record| Cursor::of(record) >= *last);
        }
        let next = match calls.get(limit - 1) {
            Some(record) if has_more_rows || calls.len() > limit => Some(Cursor::of(record)),
            _ => last_row.filter(|_| has_more_rows),
        };
        calls.truncate(limit);
        Ok(CallPage { calls, next })
    }

    fn filter(&self, query: &CallQuery, limit: usize) -> CallFilter {
        let place = |cursor: &Cursor| (nanos(cursor.started_at), cursor.call_id.to_string());
        CallFilter {
            node: self.node.clone(),
            tenant: query.tenant.clone(),
            text: query.text.as_deref().map(str::to_lowercase),
            before: query.before.as_ref().map(place),
            // One more tells whether there is a next page.
            limit: i64::try_from(limit + 1).unwrap_or(i64::MAX),
        }
    }

    /// A call: from memory, else from its files, which are read if need be; else, if those have gone, from the database.
    ///
    /// # Errors
    /// [`StoreError`], if there are no files of it.
    pub async fn get(&self, call_id: &str) -> Result<Option<Arc<CallRecord>>, StoreError> {
        if let Some(record) = self.directory.get_recent(call_id) {
            return Ok(Some(record));
        }
        let (directory, id) = (Arc::clone(&self.directory), call_id.to_owned());
        // A thread that panicked has said so; the database is asked then.
        let on_disk = tokio::task::spawn_blocking(move || directory.get(&id)).await.unwrap_or_default();
        if on_disk.is_some() {
            return Ok(on_disk);
        }
        Ok(self.calls.get(&self.node, call_id).await?.as_ref().and_then(shown))
    }

    /// The transcript of a call whose files have gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn transcript(&self, record: &CallRecord) -> Result<Option<Transcript>, StoreError> {
        let rows = self.calls.transcript(&record.tenant, &record.call_id).await?;
        Ok(rows.and_then(|rows| paper::transcript_of_rows(&record.call_id, rows)))
    }

    /// The integrity report, JSON, of a call whose files have gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn report(&self, record: &CallRecord) -> Result<Option<String>, StoreError> {
        let recording = self.calls.recording(&record.tenant, &record.call_id).await?;
        Ok(recording.and_then(|recording| recording.report))
    }

    /// Up to `most` events, each the envelope as JSON with its number, of a call whose files have gone: those after the number `after`, in
    /// order, and no partials.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn events(
        &self,
        record: &CallRecord,
        after: u64,
        most: usize,
    ) -> Result<Vec<(u64, Arc<str>)>, StoreError> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self.calls.events(&record.tenant, &record.call_id, after, most).await?;
        Ok(rows.into_iter().map(|row| (row.seq.cast_unsigned(), row.body.into())).collect())
    }

    /// Remove a call that is over: its rows, then its files. Once begun it is gone through with, whoever waits for it.
    ///
    /// # Errors
    /// [`NotRemoved`]. Of a call whose files could not all be removed what is left is listed on.
    pub async fn remove(self: &Arc<Self>, call_id: &str) -> Result<(), NotRemoved> {
        let (archive, id) = (Arc::clone(self), call_id.to_owned());
        let removed = tokio::spawn(async move { archive.remove_now(&id).await }).await;
        removed.unwrap_or_else(|_| Err(RemoveError::Unknown(call_id.into()).into()))
    }

    async fn remove_now(&self, call_id: &str) -> Result<(), NotRemoved> {
        let unknown = || RemoveError::Unknown(call_id.into());
        let record = self.get(call_id).await?.ok_or_else(unknown)?;
        if !record.is_ended() {
            return Err(RemoveError::NotEnded(call_id.into()).into());
        }
        let _turn = self.turn.lock().await;
        // Rows first: without its files a call's rows stay, but files without rows are filed again.
        self.calls.remove(&record.tenant, call_id).await?;
        self.directory.notes().forget(call_id);
        let (directory, id) = (Arc::clone(&self.directory), call_id.to_owned());
        let removed = tokio::task::spawn_blocking(move || directory.remove(&id)).await;
        match removed.unwrap_or_else(|_| Err(unknown())) {
            // Its files had gone before.
            Err(RemoveError::Unknown(_)) => Ok(()),
            Err(error) => {
                self.directory.notes().add(call_id);
                Err(error.into())
            }
            Ok(()) => Ok(()),
        }
    }
}

fn nanos(at: Timestamp) -> Nanos {
    Nanos::try_from(at.as_nanosecond()).unwrap_or(Nanos::MAX)
}

fn cursor_of(row: &StoredCall) -> Option<Cursor> {
    let started_at = Timestamp::from_nanosecond(row.started_at.into()).ok()?;
    Some(Cursor { started_at, call_id: row.id.as_str().into() })
}

fn shown(row: &StoredCall) -> Option<Arc<CallRecord>> {
    match serde_json::from_str::<CallRecord>(&row.record) {
        Ok(mut record) => {
            record.files_gone_at =
                row.files_gone_at.and_then(|at| Timestamp::from_nanosecond(at.into()).ok());
            Some(Arc::new(record))
        }
        Err(error) => {
            tracing::warn!(call = row.id, %error, "a call of the database cannot be read: ignored");
            None
        }
    }
}
