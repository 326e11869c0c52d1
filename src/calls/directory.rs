//! Which calls there are and were: live ones in memory, ended ones on disk, the newest of these in memory as well.
//!
//! The disk is the truth about the past: a record lies beside its recording (`<call-id>.call.json`), so a data folder
//! can be moved, restored or thinned out day by day, and there is no index to go stale.

mod index;
mod saver;
mod scan;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::hub::Journals;
use super::record::{BadName, CallFiles, CallRecord, CallState, FileStatus, is_valid_name, owed_path};
use index::Index;
use saver::Saver;

/// Records read from disk for one page at most (whole days); a longer search goes on with the page's cursor.
const SCAN_BUDGET: usize = 5_000;

/// All calls of this node. Shared by reference counting.
///
/// Memory holds live calls and the newest `recent` ended ones. Methods that say so read the disk; none waits for a
/// write but [`CallDirectory::remove`] and [`CallDirectory::flush`].
pub struct CallDirectory {
    data: PathBuf,
    recent: usize,
    index: Mutex<Index>,
    saver: Saver,
}

/// Which calls to list.
#[derive(Clone, Debug, Default)]
pub struct CallQuery {
    /// Only this tenant's.
    pub tenant: Option<String>,
    /// Only in this state.
    pub state: Option<CallState>,
    /// Only those that mention this text, whatever the case; see [`CallRecord::mentions`].
    pub text: Option<String>,
    /// Only those before this one: the `next` of the page before.
    pub before: Option<Cursor>,
    /// At most this many.
    pub limit: usize,
}

/// A page of calls, newest first.
#[derive(Clone, Debug)]
pub struct CallPage {
    /// The calls.
    pub calls: Vec<Arc<CallRecord>>,
    /// Where to go on; `None` at the end. A page can be short of its limit, or empty, and still have a next one, when
    /// a search did not find enough in the days it read.
    pub next: Option<Cursor>,
}

/// A place in the order of calls: newest start first, then by id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    started_at: Timestamp,
    call_id: Arc<str>,
}

impl Cursor {
    fn of(record: &CallRecord) -> Self {
        Self { started_at: record.started_at, call_id: record.call_id.as_str().into() }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.started_at.as_nanosecond(), self.call_id)
    }
}

impl std::str::FromStr for Cursor {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let parse = || {
            let (nanos, call_id) = text.split_once('.')?;
            let started_at = Timestamp::from_nanosecond(nanos.parse().ok()?).ok()?;
            (call_id.is_empty() || is_valid_name(call_id))
                .then(|| Self { started_at, call_id: call_id.into() })
        };
        parse().ok_or_else(|| BadName(text.into()))
    }
}

/// Why a call cannot be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// There is no such call.
    #[error("there is no call {0}")]
    Unknown(String),
    /// It is not over.
    #[error("call {0} is not over")]
    NotEnded(String),
    /// A file cannot be removed.
    #[error("cannot remove the files of call {call_id}: {source}")]
    Files {
        /// The call.
        call_id: String,
        /// What the file system says.
        source: io::Error,
    },
}

impl CallDirectory {
    /// The directory of the calls under `data`, with the newest `recent` of them read. Records that are not of ended
    /// calls are those of a run that was cut off: see [`CallDirectory::unfinished`].
    ///
    /// # Errors
    /// If the folder of recordings cannot be made, or the thread that saves records cannot be started.
    pub fn open(data: impl Into<PathBuf>, recent: usize) -> io::Result<Self> {
        let data = data.into();
        std::fs::create_dir_all(super::record::recordings_root(&data))?;
        let mut index = Index::default();
        let mut days = scan::days(&data).peekable();
        while let Some(day) = days.next() {
            for record in day.records() {
                index.put(Arc::new(record));
            }
            index.trim(recent);
            if index.len() >= recent {
                if days.peek().is_some() {
                    index.forget_before(day.begin());
                }
                break;
            }
        }
        Ok(Self { saver: Saver::start(data.clone())?, data, recent, index: Mutex::new(index) })
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The files of a call.
    ///
    /// # Errors
    /// [`BadName`]; never for a record that [`CallDirectory::insert`] took.
    pub fn files(&self, record: &CallRecord) -> Result<CallFiles, BadName> {
        CallFiles::new(&self.data, &record.tenant, record.started_at, &record.call_id)
    }

    /// Calls in memory that are not over, oldest first. Right after [`CallDirectory::open`] these are the calls of a
    /// run that was cut off: each is to be adopted or ended.
    pub fn unfinished(&self) -> Vec<Arc<CallRecord>> {
        self.index.lock().unfinished()
    }

    /// Calls in memory that are over and whose transcripts are pending.
    pub fn pending(&self) -> Vec<Arc<CallRecord>> {
        let all = self.index.lock().newest_first(None);
        all.into_iter()
            .filter(|record| record.is_ended() && record.transcript.status == FileStatus::Pending)
            .collect()
    }

    /// Add a call, or replace it.
    ///
    /// # Errors
    /// [`BadName`] if the tenant or the id cannot name files.
    pub fn insert(&self, record: CallRecord) -> Result<Arc<CallRecord>, BadName> {
        self.files(&record)?;
        let record = Arc::new(record);
        let mut index = self.index.lock();
        index.put(Arc::clone(&record));
        index.trim(self.recent);
        // Under the lock, so that records are saved in the order in which they replace each other.
        self.saver.save(Arc::clone(&record));
        Ok(record)
    }

    /// Change a call; id, tenant and start stay as they are. Saved in the background if the change is of its state, its
    /// channel or its error, or the call is over. Reads the disk for a call that is not in memory any more. `None` if there
    /// is no such call.
    pub fn update(&self, call_id: &str, change: impl FnOnce(&mut CallRecord)) -> Option<Arc<CallRecord>> {
        let old = self.get(call_id)?;
        let mut index = self.index.lock();
        let old = index.get(call_id).unwrap_or(old);
        let mut record = CallRecord::clone(&old);
        change(&mut record);
        record.call_id.clone_from(&old.call_id);
        record.tenant.clone_from(&old.tenant);
        record.started_at = old.started_at;
        let record = Arc::new(record);
        index.put(Arc::clone(&record));
        index.trim(self.recent);
        let (new, old) = (&*record, &*old);
        if new.is_ended() || (new.state, &new.channel, &new.error) != (old.state, &old.channel, &old.error) {
            self.saver.save(Arc::clone(&record));
        }
        Some(record)
    }

    /// A call in memory: every live one and the newest of the ended.
    pub fn get_recent(&self, call_id: &str) -> Option<Arc<CallRecord>> {
        self.index.lock().get(call_id)
    }

    /// A call, whether in memory or on disk, which is read if need be. An id that carries its time (UUID version 7)
    /// costs a look into at most three days a tenant, any other a look into every day.
    pub fn get(&self, call_id: &str) -> Option<Arc<CallRecord>> {
        if let Some(record) = self.get_recent(call_id) {
            return Some(record);
        }
        if !is_valid_name(call_id) || self.index.lock().is_complete() {
            return None;
        }
        scan::find(&self.data, call_id).map(Arc::new)
    }

    /// Calls, newest first. Reads the disk where memory does not reach back far enough.
    pub fn list(&self, query: &CallQuery) -> CallPage {
        let limit = query.limit.max(1);
        let text = query.text.as_deref().map(str::to_lowercase);
        let wanted = |record: &CallRecord| {
            query.tenant.as_ref().is_none_or(|tenant| *tenant == record.tenant)
                && query.state.is_none_or(|state| state == record.state)
                && text.as_ref().is_none_or(|text| record.mentions(text))
                && query.before.as_ref().is_none_or(|before| Cursor::of(record) < *before)
        };
        let (in_memory, horizon) = {
            let index = self.index.lock();
            (index.newest_first(query.before.as_ref()), index.horizon().cloned())
        };
        let mut calls: Vec<_> = in_memory.iter().filter(|record| wanted(record)).cloned().collect();
        let Some(horizon) = horizon else { return page(calls, limit, None) };
        let complete = calls.iter().take_while(|record| Cursor::of(record) > horizon).count();
        if complete >= limit {
            calls.truncate(limit);
            let next = calls.last().map(|record| Cursor::of(record));
            return CallPage { calls, next };
        }

        let bound = query.before.clone().map_or(horizon.clone(), |before| before.min(horizon));
        let known: std::collections::HashSet<_> =
            in_memory.iter().map(|record| record.call_id.as_str()).collect();
        let (mut read, mut found, mut examined_to) = (0, complete, None);
        let mut days = scan::days(&self.data).filter(|day| day.begin() <= bound).peekable();
        while let Some(day) = days.next() {
            for record in day.records_of(query.tenant.as_deref()) {
                read += 1;
                if Cursor::of(&record) <= bound && !known.contains(record.call_id.as_str()) && wanted(&record)
                {
                    calls.push(Arc::new(record));
                    found += 1;
                }
            }
            if (found >= limit || read >= SCAN_BUDGET) && days.peek().is_some() {
                examined_to = Some(day.begin());
                break;
            }
        }
        calls.sort_by_key(|record| std::cmp::Reverse(Cursor::of(record)));
        page(calls, limit, examined_to)
    }

    /// Forget a call that is over and remove its files. Waits for the disk.
    ///
    /// # Errors
    /// [`RemoveError`].
    pub fn remove(&self, call_id: &str) -> Result<(), RemoveError> {
        let record = self.get(call_id).ok_or_else(|| RemoveError::Unknown(call_id.into()))?;
        let files = self.files(&record).map_err(|_| RemoveError::Unknown(call_id.into()))?;
        {
            let mut index = self.index.lock();
            if !index.get(call_id).unwrap_or(record).is_ended() {
                return Err(RemoveError::NotEnded(call_id.into()));
            }
            index.remove(call_id);
        }
        let failed = |source| RemoveError::Files { call_id: call_id.into(), source };
        self.saver.remove(files).map_err(failed)?;
        // What it still owes goes last: without its record it counts for nothing.
        match std::fs::remove_file(owed_path(&self.data, call_id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }

    /// Wait until every record handed over so far is saved, or has failed to be.
    pub fn flush(&self) {
        self.saver.flush();
    }
}

impl Journals for CallDirectory {
    fn journal(&self, call_id: &str) -> Option<PathBuf> {
        let record = self.get(call_id)?;
        Some(self.files(&record).ok()?.events())
    }
}

/// The first `limit` of `calls`, of which those after `examined_to` are all there are.
fn page(mut calls: Vec<Arc<CallRecord>>, limit: usize, examined_to: Option<Cursor>) -> CallPage {
    if let Some(bound) = &examined_to {
        calls.retain(|record| Cursor::of(record) >= *bound);
    }
    let more = calls.len() > limit;
    calls.truncate(limit);
    let next = if more { calls.last().map(|record| Cursor::of(record)) } else { examined_to };
    CallPage { calls, next }
}
