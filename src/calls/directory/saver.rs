//! Puts records on disk, on a thread of its own.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::notes::Notes;
use crate::calls::record::{CallFiles, CallRecord};
use crate::telemetry::metric;
use crate::{clock, files};

/// Records that the disk did not take are tried again after this.
const RETRY: Duration = Duration::from_secs(1);

enum Job {
    Save(Arc<CallRecord>),
    Remove(CallFiles, Sender<io::Result<()>>),
    Flush(Sender<()>),
}

/// The hand-over to the thread.
pub(super) struct Saver {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Saver {
    /// `saved` is told of each record that is on disk, before it is noted.
    pub(super) fn start(
        data: PathBuf,
        notes: Arc<Notes>,
        saved: impl Fn(&Arc<CallRecord>) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, work) = crossbeam_channel::unbounded();
        let worker = Worker { data, notes, saved, failed: HashMap::new(), told: false };
        let thread =
            std::thread::Builder::new().name("call-records".into()).spawn(move || worker.run(&work))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    pub(super) fn save(&self, record: Arc<CallRecord>) {
        self.send(Job::Save(record));
    }

    /// After everything saved so far; waits.
    pub(super) fn remove(&self, files: CallFiles) -> io::Result<()> {
        let (reply, done) = crossbeam_channel::bounded(1);
        self.send(Job::Remove(files, reply));
        done.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that keeps call records is gone")))
    }

    pub(super) fn flush(&self) {
        let (reply, done) = crossbeam_channel::bounded(1);
        self.send(Job::Flush(reply));
        let _ = done.recv();
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The worker outlives the sender: it ends when the sender is dropped.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker<F> {
    data: PathBuf,
    saved: F,
    /// Of the records of ended calls that are saved.
    notes: Arc<Notes>,
    /// By call id: the newest record that the disk did not take.
    failed: HashMap<String, Arc<CallRecord>>,
    /// Whether the log has it that there are such. One fact, one warning.
    told: bool,
}

impl<F: Fn(&Arc<CallRecord>)> Worker<F> {
    fn run(mut self, work: &Receiver<Job>) {
        let mut tried = clock::now();
        loop {
            match work.recv_timeout(RETRY) {
                Ok(Job::Save(record)) => self.save(record),
                Ok(Job::Remove(files, reply)) => {
                    self.failed.remove(files.call_id());
                    let _ = reply.send(files.remove_all());
                }
                Ok(Job::Flush(reply)) => {
                    let _ = reply.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.retry(),
            }
            if clock::since(tried) >= RETRY {
                self.retry();
                tried = clock::now();
            }
        }
    }

    fn retry(&mut self) {
        for record in std::mem::take(&mut self.failed).into_values() {
            self.save(record);
        }
        self.told &= !self.failed.is_empty();
    }

    fn save(&mut self, record: Arc<CallRecord>) {
        let Some(files) = self.files(&record) else { return };
        match write(&files, &record) {
            Ok(()) => {
                self.failed.remove(&record.call_id);
                (self.saved)(&record);
                if record.is_ended() {
                    self.notes.add(&record.call_id);
                }
            }
            Err(error) => {
                metric::CALL_FILE_ERRORS.add(1);
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(
                        call_id = record.call_id, path = %files.record().display(), %error,
                        "cannot save a call record; it is tried again every second: free some space"
                    );
                }
                self.failed.insert(record.call_id.clone(), record);
            }
        }
    }

    fn files(&self, record: &CallRecord) -> Option<CallFiles> {
        CallFiles::new(&self.data, &record.tenant, record.started_at, &record.call_id).ok()
    }
}

/// Replace the record in one step: a crash leaves the old one or the new one.
fn write(of_call: &CallFiles, record: &CallRecord) -> io::Result<()> {
    of_call.create_folder()?;
    let mut text = serde_json::to_vec_pretty(record)?;
    text.push(b'\n');
    // A live call's record is written again at its end: worth no wait for the disk.
    let put = if record.is_ended() { files::replace_durably } else { files::replace };
    put(&of_call.record(), &text)
}
