//! The recorder: few writer threads for many recordings.
//!
//! A writer thread wakes ten times a second and writes what is due, recording by recording, through one buffer. Sealing
//! (which syncs and hashes) and making things durable are left to threads of their own, so that no recording waits for
//! another's disk. A disk that stalls stalls one writer; the legs' rings hold some seconds for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded, unbounded};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::interleave::Pause;
use super::part::part_path;
use super::sync::Syncer;
use super::writer::{Fault, OpenRecording};
use super::{Finished, OnFailure, RecorderConfig, RecordingError, RecordingSpec};
use crate::clock;
use crate::media::clock::CallClock;
use crate::media::time::MediaInstant;
use crate::telemetry::metric;

const TICK: Duration = Duration::from_millis(100);
const BUFFER_BYTES: usize = 256 << 10;
const SEALERS: usize = 2;
/// Being further behind than this is worth waking someone: the rings hold some seconds.
const ALARMING_LAG: Duration = Duration::from_secs(2);

/// Records calls. Dropping it leaves open recordings to be resumed ([`Recorder::suspend`]).
#[derive(Debug)]
pub struct Recorder {
    config: RecorderConfig,
    writers: Vec<Arc<Writer>>,
    shared: Arc<Shared>,
    stop_sync: Sender<()>,
    threads: Mutex<Threads>,
}

/// How far the recorder is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Audio that could have been written, and is not. Up to 0.3 s is by design.
    pub write: Duration,
    /// Age of what was written and may not survive a power cut. Up to a checkpoint and one sync is by design.
    pub durable: Duration,
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

#[derive(Debug)]
struct Writer {
    orders: Sender<Order>,
    recordings: AtomicUsize,
    backlog_ns: AtomicU64,
    served_ns: AtomicU64,
}

#[derive(Debug)]
enum Order {
    Begin(Box<Job>),
    Wake,
    Stop,
}

/// A recording that is complete, or has failed.
#[derive(Debug)]
struct Sealing {
    job: Job,
    fault: Option<Fault>,
}

struct Job {
    recording: OpenRecording,
    control: Arc<Control>,
    device: Option<u64>,
    done: oneshot::Sender<Result<Finished, RecordingError>>,
    on_failure: OnFailure,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.recording.fmt(f)
    }
}

/// What the call tells its recording.
#[derive(Debug, Default)]
struct Control {
    finish: Mutex<Option<MediaInstant>>,
    pauses: Mutex<Vec<Pause>>,
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
            let writer = Arc::new(Writer {
                orders,
                recordings: AtomicUsize::new(0),
                backlog_ns: AtomicU64::new(0),
                served_ns: AtomicU64::new(clock::now().as_nanos()),
            });
            writers.push(writer.clone());
            let shared = shared.clone();
            threads.writers.push(spawn(format!("rec-write-{index}"), move || writer.run(&inbox, &shared))?);
        }
        for index in 0..SEALERS {
            let (sealing, shared) = (sealing.clone(), shared.clone());
            threads.others.push(spawn(format!("rec-seal-{index}"), move || {
                for Sealing { job, fault } in sealing {
                    seal(job, fault, &shared.syncer);
                }
            })?);
        }
        let watch = Watch { shared: shared.clone(), writers: writers.clone(), alarmed: false };
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
        let control = Arc::new(Control::default());
        let (done, outcome) = oneshot::channel();
        let job = Job { recording, control: control.clone(), device, done, on_failure: spec.on_failure };
        let Some(writer) = self.writers.iter().min_by_key(|writer| writer.recordings.load(Ordering::Relaxed))
        else {
            return Err(RecordingError::Stopped { path: part });
        };
        writer.recordings.fetch_add(1, Ordering::Relaxed);
        if writer.orders.send(Order::Begin(Box::new(job))).is_err() {
            return Err(RecordingError::Stopped { path: part });
        }
        tracing::info!(call_id = spec.call_id, path = %part.display(), resumed = spec.resume, "recording");
        Ok(RecordingHandle {
            control,
            clock: spec.clock,
            orders: writer.orders.clone(),
            part,
            outcome: Some(outcome),
        })
    }

    /// How far the recorder is behind.
    pub fn lag(&self) -> Lag {
        lag(&self.writers, &self.shared.syncer)
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

/// A running recording. Dropping it finishes the recording, unheard.
#[derive(Debug)]
pub struct RecordingHandle {
    control: Arc<Control>,
    clock: Arc<CallClock>,
    orders: Sender<Order>,
    part: std::path::PathBuf,
    outcome: Option<oneshot::Receiver<Result<Finished, RecordingError>>>,
}

impl RecordingHandle {
    /// From this moment of the call on write silence, to the sample. Nothing changes if it is paused.
    pub fn pause(&self) {
        let from = self.clock.sample_at(clock::now());
        let mut pauses = self.control.pauses.lock();
        if pauses.last().is_none_or(|last| last.until.is_some()) {
            pauses.push(Pause { from, until: None });
        }
    }

    /// From this moment of the call on record again. Nothing changes if it is not paused.
    pub fn resume(&self) {
        let now = self.clock.sample_at(clock::now());
        if let Some(last) = self.control.pauses.lock().last_mut()
            && last.until.is_none()
        {
            last.until = Some(now.max(last.from));
        }
    }

    /// The call is over and its rings are closed: the finished file. If the recording failed earlier, that failure.
    pub async fn finish(mut self) -> Result<Finished, RecordingError> {
        self.order_finish();
        match self.outcome.take() {
            Some(outcome) => outcome.await.unwrap_or_else(|_| Err(self.stopped())),
            None => Err(self.stopped()),
        }
    }

    fn order_finish(&self) {
        self.control.finish.lock().get_or_insert_with(clock::now);
        // A recorder that has stopped needs no waking.
        let _ = self.orders.send(Order::Wake);
    }

    fn stopped(&self) -> RecordingError {
        RecordingError::Stopped { path: self.part.clone() }
    }
}

impl Drop for RecordingHandle {
    fn drop(&mut self) {
        self.order_finish();
    }
}

impl Writer {
    fn run(&self, inbox: &Receiver<Order>, shared: &Shared) {
        let mut jobs: Vec<Job> = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut next = clock::now();
        loop {
            let order = inbox.recv_timeout(next.saturating_since(clock::now()));
            match order {
                Ok(Order::Begin(job)) => jobs.push(*job),
                Ok(Order::Wake) => next = clock::now(),
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if clock::now() < next || !inbox.is_empty() {
                continue;
            }
            let more = self.turn(&mut jobs, &mut buffer, shared);
            next = if more { clock::now() } else { clock::now() + TICK };
        }
        for job in jobs {
            suspend(job, &mut buffer);
        }
    }

    /// Serve every recording once. Returns whether one has more to write at once.
    fn turn(&self, jobs: &mut Vec<Job>, buffer: &mut [u8], shared: &Shared) -> bool {
        let mut backlog = Duration::ZERO;
        let mut bytes = 0;
        let mut more = false;
        let mut index = 0;
        while index < jobs.len() {
            let job = &mut jobs[index];
            if let Some(end) = *job.control.finish.lock() {
                job.recording.finish_at(end);
            }
            let pauses = job.control.pauses.lock().clone();
            let leaves = match job.recording.pump(clock::now(), &pauses, buffer) {
                Ok(turn) => {
                    bytes += turn.bytes;
                    more |= turn.more;
                    backlog = backlog.max(turn.backlog);
                    turn.complete.then_some(None)
                }
                Err(fault) => Some(Some(fault)),
            };
            match leaves {
                None => index += 1,
                Some(fault) => {
                    let job = jobs.swap_remove(index);
                    self.recordings.fetch_sub(1, Ordering::Relaxed);
                    if let Some(sealers) = &*shared.sealers.lock() {
                        let _ = sealers.send(Sealing { job, fault });
                    }
                }
            }
        }
        if bytes > 0 {
            metric::RECORDING_BYTES.add(bytes as u64);
        }
        self.backlog_ns.store(backlog.as_nanos() as u64, Ordering::Relaxed);
        self.served_ns.store(clock::now().as_nanos(), Ordering::Relaxed);
        more
    }
}

fn seal(job: Job, fault: Option<Fault>, syncer: &Syncer) {
    let call_id = job.recording.call_id().to_owned();
    let outcome = job.recording.seal(fault);
    if let Some(device) = job.device {
        syncer.release(device);
    }
    match &outcome {
        Ok(finished) => {
            metric::RECORDINGS.add_labelled("outcome", "saved", 1);
            tracing::info!(call_id, path = %finished.path.display(), frames = finished.frames, "recording saved");
        }
        Err(error) => {
            metric::RECORDINGS.add_labelled("outcome", "failed", 1);
            tracing::error!(call_id, %error, "recording failed");
            (job.on_failure)(error.clone());
        }
    }
    // Nobody waits for it if the handle was dropped.
    let _ = job.done.send(outcome);
}

fn suspend(job: Job, buffer: &mut [u8]) {
    let call_id = job.recording.call_id().to_owned();
    let path = job.recording.part_path().to_owned();
    let pauses = job.control.pauses.lock().clone();
    let outcome = match job.recording.suspend(clock::now(), &pauses, buffer) {
        Ok(()) => {
            tracing::info!(call_id, path = %path.display(), "recording left to be resumed");
            RecordingError::Stopped { path }
        }
        Err(error) => {
            tracing::error!(call_id, %error, "recording may lack its end");
            error
        }
    };
    let _ = job.done.send(Err(outcome));
}

/// The thread that makes things durable, and watches how far the writers are behind.
struct Watch {
    shared: Arc<Shared>,
    writers: Vec<Arc<Writer>>,
    alarmed: bool,
}

impl Watch {
    fn run(mut self, checkpoint: Duration, stop: &Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(checkpoint) {
            if !self.shared.syncer.is_idle() {
                self.shared.syncer.sync();
            }
            let behind = lag(&self.writers, &self.shared.syncer).write;
            metric::RECORDING_LAG.set(behind.as_secs_f64());
            let alarming = behind > ALARMING_LAG;
            if alarming && !self.alarmed {
                tracing::warn!(
                    lag_s = behind.as_secs_f64(),
                    "recordings fall behind: the disk is too slow, or recording.writers too few"
                );
            } else if !alarming && self.alarmed {
                tracing::info!("recordings have caught up");
            }
            self.alarmed = alarming;
        }
    }
}

fn lag(writers: &[Arc<Writer>], syncer: &Syncer) -> Lag {
    let busy = |writer: &&Arc<Writer>| writer.recordings.load(Ordering::Relaxed) > 0;
    let behind = |writer: &Arc<Writer>| {
        let served = MediaInstant::from_nanos(writer.served_ns.load(Ordering::Relaxed));
        Duration::from_nanos(writer.backlog_ns.load(Ordering::Relaxed))
            + clock::since(served).saturating_sub(TICK)
    };
    Lag {
        write: writers.iter().filter(busy).map(behind).max().unwrap_or_default(),
        durable: if syncer.is_idle() { Duration::ZERO } else { clock::since(syncer.durable_until()) },
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
