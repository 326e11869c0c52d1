//! The next packet at the edge of a ring: what nearly every packet of a stream is.

use std::sync::Arc;

use super::super::slot::SlotState;
use super::super::sync::{Ordering, fence};
use super::edge::Edge;
use super::{
    Ring, RingWriter, SAMPLES_PER_WORD, STAMP_BUSY, STAMP_SLOT_SHIFT, STAMP_STATE_SHIFT, STAMP_VERSION_MASK,
    STAMP_WHOLE, Store,
};

/// Of a processor's cache: 64 bytes.
const WORDS_PER_LINE: usize = 8;

/// What it takes to append to a ring, in one piece: it looks nothing up elsewhere but where the samples go.
#[derive(Debug)]
pub struct Appender {
    store: Store,
    slot_samples: u32,
    edge: Edge,
    /// As long as it is there, the edge is this ring's.
    _ring: Arc<Ring>,
}

impl RingWriter {
    /// The shorter way to write to the same ring. Only one of the two may be at work at a time: before
    /// [`Appender::append`] comes [`RingWriter::takes_next`], after it [`RingWriter::appended`].
    pub fn appender(&self) -> Appender {
        let ring = &self.ring;
        Appender {
            store: ring.store.clone(),
            slot_samples: ring.slot_samples as u32,
            edge: (*ring.edge).clone(),
            _ring: ring.clone(),
        }
    }

    /// The slot to which `len` samples at ring sample `at` can be [appended](Appender::append): whole slots behind all that
    /// there is.
    pub fn takes_next(&self, at: u64, len: usize) -> Option<u64> {
        let slot_samples = self.ring.slot_samples;
        let fits = slot_samples.is_multiple_of(SAMPLES_PER_WORD)
            && len.is_multiple_of(slot_samples)
            && (1..self.ring.slots).contains(&((len / slot_samples) as u64))
            && (self.head, self.received) == (at, at)
            && self.opened * slot_samples as u64 == at;
        fits.then_some(self.opened)
    }

    /// All up to ring sample `end` has been [appended](Appender::append).
    pub fn appended(&mut self, end: u64) {
        (self.head, self.received) = (end, end);
        self.opened = end / self.ring.slot_samples as u64;
    }
}

impl Appender {
    /// Put `slots` slots where [`RingWriter::takes_next`] said or the last ones appended end, and let readers come up to them.
    /// `words` holds the samples, four a word, the first in the lowest bits. What the writer itself knows of them it learns
    /// by [`RingWriter::appended`], which must come before any other use of it.
    #[inline]
    pub fn append(&self, first: u64, slots: u64, mut words: impl Iterator<Item = u64>) {
        let store = &self.store;
        let end = first + slots;
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
        let end = end * u64::from(self.slot_samples);
        self.edge.head().store(end, Ordering::Release);
        self.edge.heard().store(end, Ordering::Release);
    }

    /// Look at where the 20 ms from slot `first` on will go. What comes back says nothing: this only brings it into the
    /// cache, so that the processor waits for the memory of many legs at once and not of one after the other.
    #[inline]
    pub fn touch(&self, first: u64) -> u64 {
        let slots = [first, first + 1].map(|slot| self.store.record(self.store.index(slot)));
        let edge = self.edge.head().load(Ordering::Relaxed);
        slots.into_iter().fold(edge, |sum, (stamp, samples)| {
            let lines = samples.iter().step_by(WORDS_PER_LINE);
            let sum = lines.fold(sum, |sum, word| sum ^ word.load(Ordering::Relaxed));
            sum ^ stamp.load(Ordering::Relaxed)
        })
    }
}
