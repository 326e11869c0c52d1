//! The recorder: few writer threads for many recordings.
//!
//! A writer thread wakes ten times a second and writes what is due, recording by recording, through one buffer. Sealing
//! (which syncs and hashes) and making things durable are left to threads of their own, so that no recording waits for
//! another's disk. A disk that stalls stalls one writer; the legs' rings hold some seconds for it.

mod handle;
mod serve;
mod sync;
mod watch;

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, TrySendError, bounded, unbounded};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::part::part_path;
use super::writer::OpenRecording;
use super::{RecorderConfig, RecordingError, RecordingSpec};
use crate::clock;
use crate::telemetry::metric;

pub use handle::RecordingHandle;
pub use watch::Lag;

use serve::{Job, Order, Sealing, Writer};
use sync::Syncer;
use watch::Watch;

const SEALERS: usize = 2;

/// Records calls. Dropping it leaves open recordings to be resumed ([`Recorder::suspend`]).
#[derive(Debug)]
pub struct Recorder {
    config: RecorderConfig,
    writers: Vec<Arc<Writer>>,
    shared: Arc<Shared>,
    stop_sync: Sender<()>,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    writers: Vec<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    syncer: Syncer,
    sealers: Mutex<Option<Sender<Sealing>>>,
}

impl Recorder {
    /// Start the threads.
    pub fn start(config: RecorderConfig) -> Result<Self, RecordingError> {
        let (sealers, sealing) = unbounded();
        let (stop_sync, stopped_sync) = bounded(1);
        let shared = Arc::new(Shared { syncer: Syncer::default(), sealers: Mutex::new(Some(sealers)) });
        let mut writers = Vec::new();
        let mut threads = Threads::default();
        for index in 0..config.writers.max(1) {
            let (orders, inbox) = unbounded();
            let writer = Arc::new(Writer::new(orders));
            writers.push(writer.clone());
            let shared = shared.clone();
            threads.writers.push(spawn(format!("rec-write-{index}"), move || writer.run(&inbox, &shared))?);
        }
        for index in 0..SEALERS {
            let (sealing, shared) = (sealing.clone(), shared.clone());
            threads.others.push(spawn(format!("rec-seal-{index}"), move || {
                for leaver in sealing {
                    serve::seal(leaver, &shared.syncer);
                }
            })?);
        }
        let watch = Watch::new(shared.clone(), writers.clone());
        let checkpoint = config.checkpoint;
        threads.others.push(spawn("rec-sync".to_owned(), move || watch.run(checkpoint, &stopped_sync))?);
        Ok(Self { config, writers, shared, stop_sync, threads: Mutex::new(threads) })
    }

    /// Begin a recording: its part file exists when this returns. Touches the disk (a folder, two files): call it where
    /// blocking for that is right.
    pub fn begin(&self, spec: RecordingSpec) -> Result<RecordingHandle, RecordingError> {
        let now = clock::now();
        let recording = OpenRecording::begin(&spec, &self.config, now).inspect_err(|error| {
            metric::RECORDINGS.add_labelled("outcome", "failed", 1);
            tracing::error!(call_id = spec.call_id, %error, "recording cannot begin");
        })?;
        let device = self
            .shared
            .syncer
            .enlist(recording.file())
            .inspect_err(
                |error| tracing::warn!(call_id = spec.call_id, %error, "recording is not synced on the way"),
            )
            .ok();
        let part = part_path(&spec.path);
        let (done, outcome) = oneshot::channel();
        let job = Job::new(recording, device, done, spec.on_failure);
        let control = job.control.clone();
        let orders = match self.writers.iter().min_by_key(|writer| writer.recordings()) {
            Some(writer) if writer.take(job) => writer.orders.clone(),
            _ => return Err(RecordingError::Stopped { path: part }),
        };
        tracing::info!(call_id = spec.call_id, path = %part.display(), resumed = spec.resume, "recording");
        Ok(RecordingHandle::new(control, spec.clock, orders, part, outcome))
    }

    /// How far the recorder is behind.
    pub fn lag(&self) -> Lag {
        Lag::of(&self.writers, &self.shared.syncer)
    }

    /// Write everything there is, durably, and stop: open recordings keep their part files, for the next process to resume
    /// or mend, and their handles get [`RecordingError::Stopped`]. To be called before the rings' writers go. Blocks
    /// until done; a second call does nothing.
    pub fn suspend(&self) {
        let Threads { writers, others } = std::mem::take(&mut *self.threads.lock());
        for writer in &self.writers {
            let _ = writer.orders.send(Order::Stop);
        }
        join(writers);
        // Without a sender left the sealers end, once they have done what they were given.
        self.shared.sealers.lock().take();
        match self.stop_sync.try_send(()) {
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
        join(others);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.suspend();
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, RecordingError> {
    std::thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(|error| RecordingError::Thread { source: Arc::new(error) })
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the recorder panicked");
        }
    }
}
