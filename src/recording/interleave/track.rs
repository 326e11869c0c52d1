//! One leg on its way into the recording: slots of its ring, laid on the call's clock.

use std::sync::Arc;
use std::time::Duration;

use crate::media::ring::{Ring, RingReader, SlotRead};
use crate::media::slot::SlotState;

/// A call to [`Track::is_stuck`] adds at most this to a leg's standstill: after the process itself stood still (stopped,
/// starved, swapped out), the receivers get their turn before a leg is given up.
const LONGEST_TURN: Duration = Duration::from_millis(250);

/// How far a leg can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Up to this call sample, and more will come.
    Until(i64),
    /// It has not begun: only the wall clock moves it on.
    NotYet,
    /// It ended without a sample.
    Never,
    /// It ended at this call sample; silence from there on.
    Ended(i64),
}

#[derive(Clone, Debug)]
pub struct Track {
    reader: RingReader,
    /// The piece read last, in call samples; its samples are `pcm`, or zeros if that is empty.
    start: i64,
    end: i64,
    state: SlotState,
    pcm: Vec<i16>,
    buffer: Vec<i16>,
    begun: bool,
    /// What is missing before the first audio is called this.
    hole: SlotState,
    heard: bool,
    missed_slots: u64,
    standing: Standing,
    stuck: bool,
}

#[derive(Clone, Debug, Default)]
struct Standing {
    head: u64,
    time: Duration,
}

impl Track {
    pub fn new(ring: &Arc<Ring>, hole: SlotState) -> Self {
        Self {
            reader: ring.reader(),
            start: i64::MIN,
            end: i64::MIN,
            state: SlotState::Silence,
            pcm: Vec::with_capacity(ring.slot_samples()),
            buffer: vec![0; ring.slot_samples()],
            begun: false,
            hole,
            heard: false,
            missed_slots: 0,
            standing: Standing::default(),
            stuck: false,
        }
    }

    /// How far this leg can be read when it stays `lag` samples behind its head.
    pub fn reach(&self, lag: u64) -> Reach {
        let ring = self.reader.ring();
        let closed = ring.is_closed();
        let head = ring.head();
        match (head, closed) {
            (0, false) => return Reach::NotYet,
            (0, true) => return Reach::Never,
            (_, true) => return Reach::Ended(ring.base() + head as i64),
            (_, false) => {}
        }
        let slot = ring.slot_samples() as u64;
        Reach::Until(ring.base() + (head.saturating_sub(self.effective(lag)) / slot * slot) as i64)
    }

    /// See whether the receiver still moves this leg on: a living one does so even when no packet comes. `elapsed` is the
    /// time since the last call. A leg that stood still for longer than `patience` is stuck: it is read to its very head,
    /// since nothing mends it any more, and not waited for.
    pub fn watch(&mut self, elapsed: Duration, patience: Duration) {
        let head = self.reader.ring().head();
        if head == self.standing.head {
            self.standing.time += elapsed.min(LONGEST_TURN);
        } else {
            self.standing = Standing { head, time: Duration::ZERO };
        }
        self.stuck = self.standing.time >= patience;
    }

    /// Whether the leg is not waited for.
    pub fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Slots that the writer of the ring took from this reader since the last call.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed_slots)
    }

    /// Hand out call samples `from..to` in runs: their first sample, their length, what they are, and their audio
    /// (empty: zeros).
    pub fn read(&mut self, from: i64, to: i64, lag: u64, mut run: impl FnMut(i64, usize, SlotState, &[i16])) {
        let mut at = from;
        while at < to {
            if self.begun && self.start <= at && at < self.end {
                let end = self.end.min(to);
                let (first, len) = ((at - self.start) as usize, (end - at) as usize);
                run(at, len, self.state, self.pcm.get(first..first + len).unwrap_or_default());
                at = end;
            } else if self.begun && at < self.start {
                let end = self.start.min(to);
                run(at, (end - at) as usize, self.hole, &[]);
                at = end;
            } else if let Some(missing) = self.next_piece(lag) {
                run(at, (to - at) as usize, missing, &[]);
                at = to;
            }
        }
    }

    /// Read the next slot. `Some` is what to call the samples that are asked for and are not there.
    fn next_piece(&mut self, lag: u64) -> Option<SlotState> {
        let position = self.reader.position();
        match self.reader.read_slot(self.effective(lag), &mut self.buffer) {
            SlotRead::Ready { state, len } => {
                self.piece(position, len as u64, state);
                self.pcm.extend_from_slice(&self.buffer[..len]);
                None
            }
            SlotRead::Missed { slots } => {
                self.missed_slots += slots;
                self.piece(position, self.reader.position() - position, SlotState::Lost);
                None
            }
            SlotRead::Pending if self.begun => Some(SlotState::Lost),
            SlotRead::Pending => Some(self.hole),
            SlotRead::End if self.heard => Some(SlotState::Silence),
            SlotRead::End => Some(self.hole),
        }
    }

    fn effective(&self, lag: u64) -> u64 {
        if self.stuck { 0 } else { lag }
    }

    fn piece(&mut self, position: u64, len: u64, state: SlotState) {
        self.heard |= state.is_audio();
        self.start = self.reader.ring().base() + position as i64;
        self.end = self.start + len as i64;
        self.state = if self.heard || self.hole == SlotState::Silence { state } else { self.hole };
        self.pcm.clear();
        self.begun = true;
    }
}
