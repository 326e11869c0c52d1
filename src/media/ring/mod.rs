//! The ring of one leg: one writer, any number of readers, no lock, no allocation after creation.
//!
//! *Ring samples* count from 0 in 10 ms slots; [`Ring::base`] maps them to the call's clock. Samples are 16-bit PCM packed
//! four to a 64-bit word, so that every access is an atomic one and the type needs no `unsafe`. Each slot is guarded by a
//! stamp (a sequence lock: H.-J. Boehm, "Can seqlocks get along with programming language memory models?", MSPC 2012),
//! because the writer goes back into slots that readers may be reading: late packets mend them.
//!
//! The writer never waits. A reader owns a cursor; one that falls behind by more than the ring learns exactly how many
//! slots it missed.

use std::sync::Arc;

mod append;
mod edge;
mod notes;
mod read;
mod write;

pub use append::Appender;
pub use read::{RingReader, SlotRead};
pub use write::{Placed, RingWriter};

use self::edge::OwnEdge;
use super::sync::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use super::time::SampleRate;

const SAMPLES_PER_WORD: usize = 4;
/// Stamp layout: slot number in the upper 40 bits (348 years), then 7 bits of state, 1 bit "every sample was received", 15
/// bits of version, 1 bit "being written". A reader would have to sleep through 32 768 changes of one slot to take the last
/// for the first.
const STAMP_SLOT_SHIFT: u32 = 24;
const STAMP_STATE_SHIFT: u32 = 17;
const STAMP_STATE_MASK: u64 = 0x7f;
const STAMP_WHOLE: u64 = 1 << 16;
const STAMP_VERSION_MASK: u64 = 0x7fff;
const STAMP_BUSY: u64 = 1;
const STAMP_NEVER: u64 = u64::MAX;

/// The shared part of a leg's ring. Made by [`ring`]; read through [`RingReader`].
#[derive(Debug)]
pub struct Ring {
    rate: SampleRate,
    slot_samples: usize,
    slots: u64,
    store: Store,
    edge: OwnEdge,
    base: AtomicI64,
    closed: AtomicBool,
}

/// Where the slots are. Writer and ring have it each: neither looks it up in another place.
#[derive(Clone, Debug)]
struct Store {
    /// Of each slot the stamp, then its samples: they are always used together.
    words: Arc<[AtomicU64]>,
    /// Slots, a power of two, less one.
    mask: u32,
    /// Words of a slot, the stamp included.
    stride: u32,
}

impl Store {
    fn index(&self, slot: u64) -> usize {
        slot as usize & self.mask as usize
    }

    /// The stamp of a slot, and its samples.
    fn record(&self, index: usize) -> (&AtomicU64, &[AtomicU64]) {
        let stride = self.stride as usize;
        let record = &self.words[index * stride..][..stride];
        (&record[0], &record[1..])
    }
}

/// A ring of at least `slots` slots of 10 ms at `rate`, rounded up to a power of two: its writer, and the part to
/// make readers from.
pub fn ring(rate: SampleRate, slots: usize) -> (RingWriter, Arc<Ring>) {
    let slots = slots.max(2).next_power_of_two();
    let slot_samples = rate.slot_samples();
    let words_per_slot = slot_samples.div_ceil(SAMPLES_PER_WORD);
    let shared = Arc::new(Ring {
        rate,
        slot_samples,
        slots: slots as u64,
        store: Store {
            words: (0..slots)
                .flat_map(|_| std::iter::once(STAMP_NEVER).chain(std::iter::repeat_n(0, words_per_slot)))
                .map(AtomicU64::new)
                .collect(),
            mask: slots as u32 - 1,
            stride: words_per_slot as u32 + 1,
        },
        edge: OwnEdge::new(),
        base: AtomicI64::new(0),
        closed: AtomicBool::new(false),
    });
    (RingWriter::new(shared.clone()), shared)
}

impl Ring {
    /// The rate of the PCM.
    pub fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Samples in a slot.
    pub fn slot_samples(&self) -> usize {
        self.slot_samples
    }

    /// Slots that the ring keeps.
    pub fn capacity_slots(&self) -> u64 {
        self.slots
    }

    /// The call sample of ring sample 0. Meaningful once [`Ring::head`] is above 0.
    pub fn base(&self) -> i64 {
        self.base.load(Ordering::Acquire)
    }

    /// Ring samples published so far.
    pub fn head(&self) -> u64 {
        self.edge.head().load(Ordering::Acquire)
    }

    /// The ring sample behind the last one received: between here and [`Ring::head`] there is nothing but what the passing
    /// of time declared missing, and late packets may still fill it.
    pub fn heard(&self) -> u64 {
        self.edge.heard().load(Ordering::Acquire)
    }

    /// Whether the writer is done; what is published stays readable.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// A reader that begins with the oldest slot still held.
    pub fn reader(self: &Arc<Self>) -> RingReader {
        let end = self.head().div_ceil(self.slot_samples as u64);
        RingReader::at_slot(end.saturating_sub(self.slots - 1), self.clone())
    }

    /// A reader that begins at the head: it hears what comes from now on.
    pub fn reader_at_head(self: &Arc<Self>) -> RingReader {
        RingReader::at_slot(self.head() / self.slot_samples as u64, self.clone())
    }

    fn index(&self, slot: u64) -> usize {
        self.store.index(slot)
    }

    fn stamp(&self, index: usize) -> &AtomicU64 {
        self.store.record(index).0
    }

    fn samples(&self, index: usize) -> &[AtomicU64] {
        self.store.record(index).1
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
