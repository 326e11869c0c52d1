//! Which calls there are and were: live ones in memory, ended ones on disk, the newest of these in memory as well.
//!
//! The disk is the truth about the past: a record lies beside its recording (`<call-id>.call.json`), so a data folder
//! can be moved, restored or thinned out day by day. Lists of it are the [archive's](super::archive), which is told of each record that
//! is saved and each journal that is complete ([`notes`]).

mod index;
pub(super) mod notes;
mod saver;
pub(super) mod scan;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};

use super::hub::Journals;
use super::record::{BadName, CallFiles, CallRecord, CallState, FileStatus, is_valid_name, owed_path};
use index::Index;
use notes::Notes;
use saver::Saver;

/// Records looked through at the start for calls that were cut off (whole days, newest first).
const LOOK_BACK: usize = 10_000;

/// All calls of this node. Shared by reference counting.
///
/// Memory holds live calls, the `recent` ended ones that ended last, and whatever the disk has not taken yet. Methods that say so read the disk; none waits for a
/// write but [`CallDirectory::remove`] and [`CallDirectory::flush`].
pub struct CallDirectory {
    data: PathBuf,
    recent: usize,
    index: Arc<Mutex<Index>>,
    /// Ended calls whose transcripts were pending when the directory was opened.
    pending: Vec<Arc<CallRecord>>,
    notes: Arc<Notes>,
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

impl CallQuery {
    /// Whether it asks for `record`; `text` is its text in lower case.
    fn wants(&self, record: &CallRecord, text: Option<&str>) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| *tenant == record.tenant)
            && self.state.is_none_or(|state| state == record.state)
            && text.is_none_or(|text| record.mentions(text))
            && self.before.as_ref().is_none_or(|before| Cursor::of(record) < *before)
    }
}

/// A page of calls, newest first.
#[derive(Clone, Debug)]
pub struct CallPage {
    /// The calls.
    pub calls: Vec<Arc<CallRecord>>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// A place in the order of calls: newest start first, then by id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub(super) started_at: Timestamp,
    pub(super) call_id: Arc<str>,
}

impl Cursor {
    pub(super) fn of(record: &CallRecord) -> Self {
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
    /// The directory of the calls under `data`, with the newest `recent` of them in memory. Records that are not of ended
    /// calls are those of a run that was cut off: see [`CallDirectory::unfinished`].
    ///
    /// # Errors
    /// If the folder of recordings cannot be made, or the thread that saves records cannot be started.
    pub fn open(data: impl Into<PathBuf>, recent: usize) -> io::Result<Self> {
        let data = data.into();
        std::fs::create_dir_all(super::record::recordings_root(&data))?;
        let (mut index, mut pending, mut read) = (Index::default(), Vec::new(), 0);
        for day in scan::days(&data) {
            for record in day.records() {
                read += 1;
                let record = Arc::new(record);
                if is_pending(&record) {
                    pending.push(Arc::clone(&record));
                }
                index.put(record);
            }
            index.trim(recent);
            if read >= LOOK_BACK {
                break;
            }
        }
        let notes = Arc::new(Notes::default());
        let index = Arc::new(Mutex::new(index));
        let saved = {
            let index = Arc::clone(&index);
            move |record: &Arc<CallRecord>| {
                let mut index = index.lock();
                index.saved(record);
                index.trim(recent);
            }
        };
        let saver = Saver::start(data.clone(), Arc::clone(&notes), saved)?;
        Ok(Self { saver, notes, pending, data, recent, index })
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

    /// Calls that were over when the directory was opened, and whose transcripts were pending and still are.
    pub fn pending(&self) -> Vec<Arc<CallRecord>> {
        let now = self.pending.iter().filter_map(|record| self.get(&record.call_id));
        now.filter(|record| is_pending(record)).collect()
    }

    /// Add a call, or replace it.
    ///
    /// # Errors
    /// [`BadName`] if the tenant or the id cannot name files.
    pub fn insert(&self, record: CallRecord) -> Result<Arc<CallRecord>, BadName> {
        self.files(&record)?;
        let record = Arc::new(record);
        let mut index = self.index.lock();
        index.put_unsaved(Arc::clone(&record));
        index.trim(self.recent);
        // Under the lock, so that records are saved in the order in which they replace each other.
        self.saver.save(Arc::clone(&record));
        Ok(record)
    }

    /// Change a call; id, tenant and start stay as they are. Saved in the background if the change is of its state, its
    /// channel or its error, or the call is over. Reads the disk for a call that is not in memory any more. `None` if there
    /// is no such call.
    pub fn update(&self, call_id: &str, change: impl FnOnce(&mut CallRecord)) -> Option<Arc<CallRecord>> {
        let (mut index, old) = self.current(call_id)?;
        let mut record = CallRecord::clone(&old);
        change(&mut record);
        record.call_id.clone_from(&old.call_id);
        record.tenant.clone_from(&old.tenant);
        record.started_at = old.started_at;
        let record = Arc::new(record);
        let (new, old) = (&*record, &*old);
        if new.is_ended() || (new.state, &new.channel, &new.error) != (old.state, &old.channel, &old.error) {
            index.put_unsaved(Arc::clone(&record));
            self.saver.save(Arc::clone(&record));
        } else {
            index.put(Arc::clone(&record));
        }
        index.trim(self.recent);
        Some(record)
    }

    /// The newest there is of a call, and the lock under which it stays that.
    fn current(&self, call_id: &str) -> Option<(MutexGuard<'_, Index>, Arc<CallRecord>)> {
        loop {
            let let_go = self.index.lock().let_go();
            let read = self.get(call_id)?;
            let index = self.index.lock();
            if let Some(record) = index.get(call_id) {
                return Some((index, record));
            }
            // Else it may have come, been changed and saved, and have gone again, while the disk was read.
            if index.let_go() == let_go {
                return Some((index, read));
            }
        }
    }

    /// A call in memory: every live one, those that ended last, and what the disk has not taken yet.
    pub fn get_recent(&self, call_id: &str) -> Option<Arc<CallRecord>> {
        self.index.lock().get(call_id)
    }

    /// A call, whether in memory or on disk, which is read if need be. An id that carries its time (UUID version 7)
    /// costs a look into at most three days a tenant, any other a look into every day.
    pub fn get(&self, call_id: &str) -> Option<Arc<CallRecord>> {
        if let Some(record) = self.get_recent(call_id) {
            return Some(record);
        }
        if !is_valid_name(call_id) {
            return None;
        }
        // What memory lets go while the disk is read is on the disk; what comes into it meanwhile is newer.
        let found = scan::find(&self.data, call_id).map(Arc::new);
        self.get_recent(call_id).or(found)
    }

    /// Those calls in memory that `query` asks for, all of them, newest first.
    pub(super) fn recent(&self, query: &CallQuery) -> Vec<Arc<CallRecord>> {
        let text = query.text.as_deref().map(str::to_lowercase);
        let mut calls = self.index.lock().newest_first(query.before.as_ref());
        calls.retain(|record| query.wants(record, text.as_deref()));
        calls
    }

    /// Calls that are over, as their files change.
    pub(super) fn notes(&self) -> &Notes {
        &self.notes
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

    fn complete(&self, call_id: &str) {
        self.notes.add(call_id);
    }
}

fn is_pending(record: &CallRecord) -> bool {
    record.is_ended() && record.transcript.status == FileStatus::Pending
}
