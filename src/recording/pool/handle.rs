//! What a call holds of its recording.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::serve::Order;
use crate::clock;
use crate::media::clock::CallClock;
use crate::media::time::MediaInstant;
use crate::recording::interleave::Pause;
use crate::recording::{Finished, RecordingError};

/// What the call tells its recording.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) finish: Mutex<Option<MediaInstant>>,
    pub(super) pauses: Mutex<Vec<Pause>>,
}

/// A running recording. Dropping it finishes the recording, unheard.
#[derive(Debug)]
pub struct RecordingHandle {
    control: Arc<Control>,
    clock: Arc<CallClock>,
    orders: Sender<Order>,
    part: PathBuf,
    outcome: Option<oneshot::Receiver<Result<Finished, RecordingError>>>,
}

impl RecordingHandle {
    pub(super) fn new(
        control: Arc<Control>,
        clock: Arc<CallClock>,
        orders: Sender<Order>,
        part: PathBuf,
        outcome: oneshot::Receiver<Result<Finished, RecordingError>>,
    ) -> Self {
        Self { control, clock, orders, part, outcome: Some(outcome) }
    }

    /// From this moment of the call on write silence, to the sample. Nothing changes if it is paused.
    pub fn pause(&self) {
        self.pause_from(clock::now());
    }

    /// The same from `at` on, as far as that is not written yet: a recording that is resumed may have been paused before.
    pub fn pause_from(&self, at: MediaInstant) {
        let from = self.clock.sample_at(at);
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
