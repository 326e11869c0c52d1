//! Session records on disk: what a later process needs to go on with a running call. `<data>/sessions/<call>.json`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use super::adoption::SessionRecord;
use super::ids::CallId;
use crate::files;

/// Writes session records from a thread of its own: no call waits for a disk.
#[derive(Debug)]
pub struct SessionStore {
    folder: PathBuf,
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Work {
    Save(Box<SessionRecord>),
    Remove(CallId),
}

impl SessionStore {
    /// Make the folder under `data` and start the thread.
    ///
    /// # Errors
    /// The folder cannot be made, or the thread not started.
    pub fn open(data: &Path) -> std::io::Result<Self> {
        let folder = data.join("sessions");
        std::fs::create_dir_all(&folder)?;
        let (work, inbox) = crossbeam_channel::unbounded();
        let for_thread = folder.clone();
        let thread =
            std::thread::Builder::new().name("sessions".into()).spawn(move || write(&for_thread, &inbox))?;
        Ok(Self { folder, work: Some(work), thread: Some(thread) })
    }

    /// Write or replace a record, soon.
    pub fn save(&self, record: SessionRecord) {
        self.send(Work::Save(Box::new(record)));
    }

    /// Forget a call: it needs no adoption any more.
    pub fn remove(&self, call: CallId) {
        self.send(Work::Remove(call));
    }

    /// All records on disk. Files that are none are reported and left where they are.
    pub fn load(&self) -> Vec<SessionRecord> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(folder = %self.folder.display(), %error, "cannot read the session records");
                return Vec::new();
            }
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter(|path| path.extension().is_some_and(|e| e == "json")).filter_map(|p| read(&p)).collect()
    }

    fn send(&self, work: Work) {
        if let Some(sender) = &self.work {
            // The thread ends only after this sender is gone.
            let _ = sender.send(work);
        }
    }
}

impl Drop for SessionStore {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(path: &Path) -> Option<SessionRecord> {
    let text = std::fs::read(path).map_err(|e| e.to_string());
    match text.and_then(|text| serde_json::from_slice::<SessionRecord>(&text).map_err(|e| e.to_string())) {
        // One of another version is not adopted: its call's books are closed, see the plan.
        Ok(record) => Some(record),
        Err(error) => {
            tracing::warn!(path = %path.display(), error, "not a session record: left alone");
            None
        }
    }
}

fn write(folder: &Path, inbox: &Receiver<Work>) {
    // Records are written every few seconds: each call is told of once, until its record is kept again.
    let mut not_kept = HashSet::new();
    while let Ok(work) = inbox.recv() {
        let (call, outcome) = match work {
            Work::Save(record) => (record.call.clone(), replace(folder, &record)),
            Work::Remove(call) => {
                let removed = std::fs::remove_file(folder.join(format!("{call}.json")));
                let gone = |e: std::io::Error| {
                    if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
                };
                (call, removed.or_else(gone))
            }
        };
        match outcome {
            Ok(()) => {
                not_kept.remove(&call);
            }
            Err(error) if not_kept.insert(call.clone()) => {
                tracing::error!(%call, folder = %folder.display(), %error,
                    "cannot keep the session record: this call could not be taken up again after a crash");
            }
            Err(_) => {}
        }
    }
}

fn replace(folder: &Path, record: &SessionRecord) -> std::io::Result<()> {
    files::replace(&folder.join(format!("{}.json", record.call)), &serde_json::to_vec(record)?)
}
