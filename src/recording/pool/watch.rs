//! The thread that makes things durable, and watches how far the writers are behind.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::Shared;
use super::serve::Writer;
use super::sync::Syncer;
use crate::clock;
use crate::telemetry::metric;

/// Being further behind than this is worth waking someone: the rings hold some seconds.
const ALARMING_LAG: Duration = Duration::from_secs(2);

/// How far the recorder is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Audio that could have been written, and is not. Up to 0.3 s is by design.
    pub write: Duration,
    /// Age of what was written and may not survive a power cut. Up to a checkpoint and one sync is by design.
    pub durable: Duration,
}

impl Lag {
    /// Whether the writers are further behind than is worth waking someone for.
    pub fn is_alarming(&self) -> bool {
        self.write > ALARMING_LAG
    }

    pub(super) fn of(writers: &[Arc<Writer>], syncer: &Syncer) -> Self {
        Self {
            write: writers.iter().map(|writer| writer.behind()).max().unwrap_or_default(),
            durable: if syncer.is_idle() { Duration::ZERO } else { clock::since(syncer.durable_until()) },
        }
    }
}

/// What it looks at.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    writers: Vec<Arc<Writer>>,
    /// Whether they were too far behind when last looked at.
    alarmed: bool,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, writers: Vec<Arc<Writer>>) -> Self {
        Self { shared, writers, alarmed: false }
    }

    pub(super) fn run(mut self, checkpoint: Duration, stop: &Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(checkpoint) {
            if !self.shared.syncer.is_idle() {
                self.shared.syncer.sync();
            }
            let lag = Lag::of(&self.writers, &self.shared.syncer);
            let (behind, alarming) = (lag.write, lag.is_alarming());
            metric::RECORDING_LAG.set(behind.as_secs_f64());
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
