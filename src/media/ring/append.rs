//! The next packet at the edge of a ring: what nearly every packet of a stream is.

use super::super::slot::SlotState;
use super::super::sync::{Ordering, fence};
use super::{
    RingWriter, SAMPLES_PER_WORD, STAMP_BUSY, STAMP_SLOT_SHIFT, STAMP_STATE_SHIFT, STAMP_VERSION_MASK,
    STAMP_WHOLE,
};

/// Of a processor's cache: 64 bytes.
const WORDS_PER_LINE: usize = 8;

impl RingWriter {
    /// Whether `len` samples at ring sample `at` can be [appended](RingWriter::append): whole slots behind all that there is.
    pub fn takes_next(&self, at: u64, len: usize) -> bool {
        let slot_samples = self.ring.slot_samples;
        slot_samples.is_multiple_of(SAMPLES_PER_WORD)
            && len.is_multiple_of(slot_samples)
            && (1..self.ring.slots).contains(&((len / slot_samples) as u64))
            && (self.head, self.received) == (at, at)
            && self.opened * slot_samples as u64 == at
    }

    /// Put `slots` slots at ring sample `at`, where [`RingWriter::takes_next`] was true or the last ones appended end, and let
    /// readers come up to them. `words` holds the samples, four a word, the first in the lowest bits. What the writer itself
    /// knows of them it learns by [`RingWriter::appended`], which must come before any other call but this.
    pub fn append(&self, at: u64, slots: usize, mut words: impl Iterator<Item = u64>) {
        let store = &self.store;
        let first = at / u64::from(self.slot_samples);
        let end = first + slots as u64;
        for slot in first..end {
            let (stamp, samples) = store.record(store.index(slot));
            let before = stamp.load(Ordering::Relaxed);
            stamp.store(before | STAMP_BUSY, Ordering::Relaxed);
            fence(Ordering::Release);
            for (place, word) in samples.iter().zip(&mut words) {
                place.store(word, Ordering::Relaxed);
            }
            let version = (before >> 1).wrapping_add(1) & STAMP_VERSION_MASK;
            let state = (SlotState::Received as u64) << STAMP_STATE_SHIFT | STAMP_WHOLE;
            stamp.store(slot << STAMP_SLOT_SHIFT | state | version << 1, Ordering::Release);
        }
        let edge = &self.ring.edge;
        edge.head.store(end * u64::from(self.slot_samples), Ordering::Release);
        edge.heard.store(end * u64::from(self.slot_samples), Ordering::Release);
    }

    /// All up to ring sample `end` has been [appended](RingWriter::append).
    pub fn appended(&mut self, end: u64) {
        (self.head, self.received) = (end, end);
        self.opened = end / self.ring.slot_samples as u64;
    }

    /// Look at where the 20 ms from ring sample `at` on will go. What comes back says nothing: this only brings it into the
    /// cache, so that the processor waits for the memory of many legs at once and not of one after the other.
    pub fn touch(&self, at: u64) -> u64 {
        let first = at / u64::from(self.slot_samples);
        let slots = [first, first + 1].map(|slot| self.store.record(self.store.index(slot)));
        let edge = self.ring.edge.head.load(Ordering::Relaxed);
        slots.into_iter().fold(edge, |sum, (stamp, samples)| {
            let lines = samples.iter().step_by(WORDS_PER_LINE);
            let sum = lines.fold(sum, |sum, word| sum ^ word.load(Ordering::Relaxed));
            sum ^ stamp.load(Ordering::Relaxed)
        })
    }
}
