//! The writer threads, and what becomes of the recordings that leave them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio::sync::oneshot;

use super::Shared;
use super::handle::Control;
use super::sync::Syncer;
use crate::clock;
use crate::media::time::MediaInstant;
use crate::recording::writer::{Fault, OpenRecording};
use crate::recording::{Finished, OnFailure, RecordingError};
use crate::telemetry::metric;

/// How often a writer wakes.
const TICK: Duration = Duration::from_millis(100);
const BUFFER_BYTES: usize = 256 << 10;

/// One writer thread, as the others see it.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) orders: Sender<Order>,
    recordings: AtomicUsize,
    backlog_ns: AtomicU64,
    served_ns: AtomicU64,
}

/// What a writer thread is told.
#[derive(Debug)]
pub(super) enum Order {
    Begin(Box<Job>),
    Wake,
    Stop,
}

/// A recording that is complete, or has failed.
#[derive(Debug)]
pub(super) struct Sealing {
    job: Job,
    fault: Option<Fault>,
}

/// A recording and what is to become of it.
pub(super) struct Job {
    recording: OpenRecording,
    pub(super) control: Arc<Control>,
    device: Option<u64>,
    done: oneshot::Sender<Result<Finished, RecordingError>>,
    on_failure: OnFailure,
}

impl Job {
    pub(super) fn new(
        recording: OpenRecording,
        device: Option<u64>,
        done: oneshot::Sender<Result<Finished, RecordingError>>,
        on_failure: OnFailure,
    ) -> Self {
        Self { recording, control: Arc::default(), device, done, on_failure }
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.recording.fmt(f)
    }
}

impl Writer {
    pub(super) fn new(orders: Sender<Order>) -> Self {
        Self {
            orders,
            recordings: AtomicUsize::new(0),
            backlog_ns: AtomicU64::new(0),
            served_ns: AtomicU64::new(clock::now().as_nanos()),
        }
    }

    /// Recordings it serves.
    pub(super) fn recordings(&self) -> usize {
        self.recordings.load(Ordering::Relaxed)
    }

    /// Hand it a recording. False if it has stopped.
    pub(super) fn take(&self, job: Job) -> bool {
        self.recordings.fetch_add(1, Ordering::Relaxed);
        self.orders.send(Order::Begin(Box::new(job))).is_ok()
    }

    /// Audio it could have written and has not; grows while a disk holds it up.
    pub(super) fn behind(&self) -> Duration {
        if self.recordings() == 0 {
            return Duration::ZERO;
        }
        let served = MediaInstant::from_nanos(self.served_ns.load(Ordering::Relaxed));
        let backlog = Duration::from_nanos(self.backlog_ns.load(Ordering::Relaxed));
        backlog + clock::since(served).saturating_sub(TICK)
    }

    pub(super) fn run(&self, inbox: &Receiver<Order>, shared: &Shared) {
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

/// Make the finished file, and tell everybody.
pub(super) fn seal(Sealing { job, fault }: Sealing, syncer: &Syncer) {
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
