//! Reading ends of a ring.

use std::sync::Arc;

use super::super::slot::SlotState;
use super::super::sync::{AtomicU64, Ordering, fence};
use super::{Ring, SAMPLES_PER_WORD, STAMP_BUSY, STAMP_SLOT_SHIFT, STAMP_STATE_MASK, STAMP_STATE_SHIFT};

/// What [`RingReader::read_slot`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotRead {
    /// The next slot: its state, and how many samples of it exist (all but at the very end of a closed ring).
    Ready {
        /// What the slot holds.
        state: SlotState,
        /// Samples written to the caller's buffer.
        len: usize,
    },
    /// Nothing to read yet at this lag.
    Pending,
    /// The writer lapped this reader: this many slots are gone, and the cursor stands behind them.
    Missed {
        /// Slots lost to this reader.
        slots: u64,
    },
    /// The writer is done and everything has been read.
    End,
}

/// A reading end with a cursor of its own.
#[derive(Clone, Debug)]
pub struct RingReader {
    ring: Arc<Ring>,
    next: u64,
}

impl RingReader {
    pub(super) fn at_slot(next: u64, ring: Arc<Ring>) -> Self {
        Self { ring, next }
    }

    /// The ring being read.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Ring sample at which the next slot starts.
    pub fn position(&self) -> u64 {
        self.next * self.ring.slot_samples as u64
    }

    /// Read the next slot into `out` (at least a slot long), staying `lag` samples behind the head while the ring is
    /// open. The cursor moves on with `Ready` and `Missed`.
    pub fn read_slot(&mut self, lag: u64, out: &mut [i16]) -> SlotRead {
        let ring = &*self.ring;
        let slot_samples = ring.slot_samples as u64;
        // Closed first: a head read after it is the last one.
        let closed = ring.closed.load(Ordering::Acquire);
        let head = ring.edge.head().load(Ordering::Acquire);
        let start = self.next * slot_samples;
        let end = start + slot_samples;
        let len = if end + if closed { 0 } else { lag } <= head {
            slot_samples
        } else if closed && start < head {
            head - start
        } else if closed {
            return SlotRead::End;
        } else {
            return SlotRead::Pending;
        } as usize;

        let index = ring.index(self.next);
        loop {
            let before = ring.stamp(index).load(Ordering::Acquire);
            if before & STAMP_BUSY == 0 {
                if before >> STAMP_SLOT_SHIFT != self.next {
                    return self.skip_lost(head);
                }
                load_samples(ring.samples(index), &mut out[..len]);
                fence(Ordering::Acquire);
                if ring.stamp(index).load(Ordering::Relaxed) == before {
                    self.next += 1;
                    return SlotRead::Ready {
                        state: SlotState::from_raw((before >> STAMP_STATE_SHIFT & STAMP_STATE_MASK) as u8),
                        len,
                    };
                }
            }
            spin();
        }
    }

    fn skip_lost(&mut self, head: u64) -> SlotRead {
        // One slot more than the capacity allows for: the writer may be opening the next one meanwhile.
        let end = head.div_ceil(self.ring.slot_samples as u64);
        let oldest = end.saturating_sub(self.ring.slots - 1).max(self.next + 1);
        let slots = oldest - self.next;
        self.next = oldest;
        SlotRead::Missed { slots }
    }
}

fn load_samples(words: &[AtomicU64], out: &mut [i16]) {
    for (chunk, word) in out.chunks_mut(SAMPLES_PER_WORD).zip(words) {
        let word = word.load(Ordering::Relaxed);
        for (k, sample) in chunk.iter_mut().enumerate() {
            *sample = (word >> (16 * k)) as u16 as i16;
        }
    }
}

#[cfg(not(loom))]
fn spin() {
    std::hint::spin_loop();
}
#[cfg(loom)]
fn spin() {
    loom::thread::yield_now();
}
