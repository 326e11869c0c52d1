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

use super::slot::SlotState;
use super::sync::{AtomicBool, AtomicI64, AtomicU64, Ordering, fence};
use super::time::SampleRate;

const SAMPLES_PER_WORD: usize = 4;
/// Stamp layout: slot number in the upper 40 bits (348 years), then 8 bits of state, 15 bits of version, 1 bit "being
/// written". A reader would have to sleep through 32 768 changes of one slot to take the last for the first.
const STAMP_SLOT_SHIFT: u32 = 24;
const STAMP_STATE_SHIFT: u32 = 16;
const STAMP_VERSION_MASK: u64 = 0x7fff;
const STAMP_BUSY: u64 = 1;
const STAMP_NEVER: u64 = u64::MAX;
const NO_GAP: u8 = u8::MAX;

/// The shared part of a leg's ring. Made by [`ring`]; read through [`RingReader`].
#[derive(Debug)]
pub struct Ring {
    rate: SampleRate,
    slot_samples: usize,
    words_per_slot: usize,
    slots: u64,
    words: Box<[AtomicU64]>,
    stamps: Box<[AtomicU64]>,
    /// Ring samples published: every sample below is placed, or accounted for as missing.
    head: AtomicU64,
    /// Ring samples up to the end of the last one received.
    heard: AtomicU64,
    base: AtomicI64,
    closed: AtomicBool,
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
        words_per_slot,
        slots: slots as u64,
        words: (0..slots * words_per_slot).map(|_| AtomicU64::new(0)).collect(),
        stamps: (0..slots).map(|_| AtomicU64::new(STAMP_NEVER)).collect(),
        head: AtomicU64::new(0),
        heard: AtomicU64::new(0),
        base: AtomicI64::new(0),
        closed: AtomicBool::new(false),
    });
    let mask_words = slot_samples.div_ceil(64);
    let writer = RingWriter {
        ring: shared.clone(),
        head: 0,
        received: 0,
        opened: 0,
        live_lag: 0,
        repair_lag: u64::MAX,
        mask_words,
        covered: vec![0; slots * mask_words].into_boxed_slice(),
        covered_count: vec![0; slots].into_boxed_slice(),
        gap: vec![NO_GAP; slots].into_boxed_slice(),
    };
    (writer, shared)
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
        self.head.load(Ordering::Acquire)
    }

    /// The ring sample behind the last one received: between here and [`Ring::head`] there is nothing but what the passing
    /// of time declared missing, and late packets may still fill it.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Acquire)
    }

    /// Whether the writer is done; what is published stays readable.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// A reader that begins with the oldest slot still held.
    pub fn reader(self: &Arc<Self>) -> RingReader {
        let end = self.head().div_ceil(self.slot_samples as u64);
        RingReader { next: end.saturating_sub(self.slots - 1), ring: self.clone() }
    }

    /// A reader that begins at the head: it hears what comes from now on.
    pub fn reader_at_head(self: &Arc<Self>) -> RingReader {
        RingReader { next: self.head() / self.slot_samples as u64, ring: self.clone() }
    }

    fn index(&self, slot: u64) -> usize {
        (slot & (self.slots - 1)) as usize
    }
}

/// What became of samples handed to [`RingWriter::place`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// Samples that found their place empty, and took it.
    pub written: usize,
    /// Samples whose place held received audio already: the first to come stays.
    pub overlapped: usize,
    /// Samples that every reader has passed, or that the ring no longer holds.
    pub too_late: usize,
    /// Of `written`, those in slots that live readers have passed.
    pub repaired: usize,
}

/// The writing end. One a ring; dropping it closes the ring.
#[derive(Debug)]
pub struct RingWriter {
    ring: Arc<Ring>,
    head: u64,
    /// The ring sample behind the last one received.
    received: u64,
    /// Slots opened so far: the next slot never touched.
    opened: u64,
    live_lag: u64,
    repair_lag: u64,
    mask_words: usize,
    /// One bit a sample: it holds received audio.
    covered: Box<[u64]>,
    covered_count: Box<[u16]>,
    /// The state given to the missing part of a slot once the head passed it, or `NO_GAP`.
    gap: Box<[u8]>,
}

impl RingWriter {
    /// Say where ring sample 0 lies on the call's clock. To be called before anything is placed.
    pub fn set_base(&mut self, base: i64) {
        self.ring.base.store(base, Ordering::Release);
    }

    /// Say how far behind the head, in samples, readers stay: what is filled in before `live` readers come by counts as
    /// received in time, what is filled in after them as repaired, and nothing changes any more behind `repair`.
    pub fn set_lags(&mut self, live: u64, repair: u64) {
        self.live_lag = live;
        self.repair_lag = repair.max(live);
    }

    /// The ring sample behind the last one published.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The first ring sample that is still held.
    pub fn oldest(&self) -> u64 {
        self.opened.saturating_sub(self.ring.slots) * self.ring.slot_samples as u64
    }

    /// The first ring sample that may still change.
    fn oldest_open(&self) -> u64 {
        self.oldest().max(self.passed_by(self.repair_lag))
    }

    /// Ring samples in slots that a reader `lag` samples behind the head has passed: the same rule as in
    /// [`RingReader::read_slot`].
    fn passed_by(&self, lag: u64) -> u64 {
        let slot_samples = self.ring.slot_samples as u64;
        self.head.saturating_sub(lag) / slot_samples * slot_samples
    }

    /// How many samples of `from..to` hold no received audio. What is no longer held counts as missing.
    pub fn missing_in(&self, from: u64, to: u64) -> u64 {
        let held = from.max(self.oldest()).min(to)..to.min(self.opened * self.ring.slot_samples as u64);
        let covered = held.filter(|&at| {
            let slot_samples = self.ring.slot_samples as u64;
            self.is_covered(self.ring.index(at / slot_samples), (at % slot_samples) as usize)
        });
        to - from - covered.count() as u64
    }

    /// Put `len` samples at ring sample `at`, sample `i` being `pcm(i)`. What lies between the head and `at` becomes a
    /// gap of kind `missing`. Never overwrites received audio, and changes nothing behind the repair lag.
    pub fn place(&mut self, at: u64, len: usize, pcm: impl Fn(usize) -> i16, missing: SlotState) -> Placed {
        let mut placed = Placed::default();
        if at > self.head {
            self.advance(at, missing);
        }
        let end = at + len as u64;
        self.received = self.received.max(end);
        self.open_until(end);
        let oldest = self.oldest_open();
        let live_passed = self.passed_by(self.live_lag);
        let mut pos = at;
        if pos < oldest {
            placed.too_late = (oldest.min(end) - pos) as usize;
            pos += placed.too_late as u64;
        }
        let slot_samples = self.ring.slot_samples as u64;
        while pos < end {
            let slot = pos / slot_samples;
            let first = (pos % slot_samples) as usize;
            let count = ((end - pos) as usize).min(self.ring.slot_samples - first);
            let offset = (pos - at) as usize;
            let written = self.write_slot(slot, first, count, |i| pcm(offset + i));
            placed.written += written;
            placed.overlapped += count - written;
            if pos < live_passed {
                placed.repaired += written;
            }
            pos += count as u64;
        }
        self.publish(end);
        self.ring.heard.store(self.received, Ordering::Release);
        placed
    }

    /// Move the head to `to`: what is missing before it is a gap of kind `state`.
    pub fn advance(&mut self, to: u64, state: SlotState) {
        if to <= self.head {
            return;
        }
        let from = self.head;
        self.open_until(to);
        self.label(from, to, state, true);
        self.publish(to);
    }

    /// The sender has said what is up to `to`, though it sent no samples: [`RingWriter::cut`] keeps it.
    pub fn told(&mut self, to: u64) {
        self.received = self.received.max(to.min(self.head));
        self.ring.heard.store(self.received, Ordering::Release);
    }

    /// Give the slots in `from..to` that are declared missing the kind `state` instead. Slots that are whole, or no
    /// longer held, stay as they are.
    pub fn relabel(&mut self, from: u64, to: u64, state: SlotState) {
        self.label(from, to.min(self.head), state, false);
    }

    /// Fill the missing samples of `at..at+len` with made-up audio and mark their slots [`SlotState::Concealed`]. A packet
    /// that comes later still takes its place.
    pub fn conceal(&mut self, at: u64, len: usize, pcm: impl Fn(usize) -> i16) {
        let slot_samples = self.ring.slot_samples as u64;
        let end = (at + len as u64).min(self.head);
        let mut pos = at.max(self.oldest_open());
        while pos < end {
            let slot = pos / slot_samples;
            let first = (pos % slot_samples) as usize;
            let count = ((end - pos) as usize).min(self.ring.slot_samples - first);
            let index = self.ring.index(slot);
            if usize::from(self.covered_count[index]) < self.ring.slot_samples {
                self.begin(slot);
                for i in 0..count {
                    if !self.is_covered(index, first + i) {
                        self.store_sample(index, first + i, pcm((pos - at) as usize + i));
                    }
                }
                self.gap[index] = SlotState::Concealed as u8;
                self.finish(slot);
            }
            pos += count as u64;
        }
    }

    /// Take back what was published at `to` and later, down to the last received sample: silence that only the passing of
    /// time put there. For the very end, before the ring is closed; readers that were there already find the end.
    pub fn cut(&mut self, to: u64) {
        let to = to.max(self.received);
        if to >= self.head {
            return;
        }
        let slot_samples = self.ring.slot_samples as u64;
        let (slot, kept) = (to / slot_samples, (to % slot_samples) as usize);
        let index = self.ring.index(slot);
        // What is left of a slot that time had filled up is whole now, unless something is missing before the cut.
        if kept > 0 && usize::from(self.covered_count[index]) == kept {
            self.begin(slot);
            self.gap[index] = NO_GAP;
            self.finish(slot);
        }
        self.head = to;
        self.ring.head.store(to, Ordering::Release);
    }

    /// No more will come. What is published stays readable.
    pub fn close(self) {}

    fn publish(&mut self, head: u64) {
        if head > self.head {
            self.head = head;
            self.ring.head.store(head, Ordering::Release);
        }
    }

    /// Make every slot up to the one that holds sample `end - 1` present and empty.
    fn open_until(&mut self, end: u64) {
        let wanted = end.div_ceil(self.ring.slot_samples as u64);
        if wanted <= self.opened {
            return;
        }
        let first = self.opened.max(wanted.saturating_sub(self.ring.slots));
        for slot in first..wanted {
            let index = self.ring.index(slot);
            self.begin(slot);
            let words = self.ring.words_per_slot;
            for word in &self.ring.words[index * words..(index + 1) * words] {
                word.store(0, Ordering::Relaxed);
            }
            self.covered[index * self.mask_words..(index + 1) * self.mask_words].fill(0);
            self.covered_count[index] = 0;
            self.gap[index] = NO_GAP;
            self.finish(slot);
        }
        self.opened = wanted;
    }

    fn label(&mut self, from: u64, to: u64, state: SlotState, declare: bool) {
        let slot_samples = self.ring.slot_samples as u64;
        let from = from.max(self.oldest_open());
        if from >= to {
            return;
        }
        for slot in from / slot_samples..to.div_ceil(slot_samples) {
            let index = self.ring.index(slot);
            let whole = usize::from(self.covered_count[index]) == self.ring.slot_samples;
            let gap = self.gap[index];
            // A slot that something was lost from stays Lost, whatever else is missing from it.
            let keep = if declare { gap == SlotState::Lost as u8 } else { gap == NO_GAP };
            if whole || keep {
                continue;
            }
            self.begin(slot);
            self.gap[index] = state as u8;
            self.finish(slot);
        }
    }

    /// Returns how many of the samples were written: those whose place was not covered yet.
    fn write_slot(&mut self, slot: u64, first: usize, count: usize, pcm: impl Fn(usize) -> i16) -> usize {
        let index = self.ring.index(slot);
        let already = usize::from(self.covered_count[index]);
        if already == self.ring.slot_samples {
            return 0;
        }
        self.begin(slot);
        let mut written = 0;
        if already == 0 {
            self.store_run(index, first, count, &pcm);
            self.cover_run(index, first, count);
            written = count;
        } else {
            for i in 0..count {
                if !self.is_covered(index, first + i) {
                    self.store_sample(index, first + i, pcm(i));
                    self.cover_run(index, first + i, 1);
                    written += 1;
                }
            }
        }
        self.covered_count[index] = (already + written) as u16;
        self.finish(slot);
        written
    }

    fn store_run(&self, index: usize, first: usize, count: usize, pcm: &impl Fn(usize) -> i16) {
        let words = &self.ring.words[index * self.ring.words_per_slot..];
        let mut i = 0;
        while i < count {
            let at = first + i;
            if at.is_multiple_of(SAMPLES_PER_WORD) && count - i >= SAMPLES_PER_WORD {
                let lane = |k: usize| u64::from(pcm(i + k) as u16) << (16 * k);
                let word = lane(0) | lane(1) | lane(2) | lane(3);
                words[at / SAMPLES_PER_WORD].store(word, Ordering::Relaxed);
                i += SAMPLES_PER_WORD;
            } else {
                self.store_sample(index, at, pcm(i));
                i += 1;
            }
        }
    }

    fn store_sample(&self, index: usize, at: usize, sample: i16) {
        let word = &self.ring.words[index * self.ring.words_per_slot + at / SAMPLES_PER_WORD];
        let shift = 16 * (at % SAMPLES_PER_WORD);
        let rest = word.load(Ordering::Relaxed) & !(0xffff << shift);
        word.store(rest | u64::from(sample as u16) << shift, Ordering::Relaxed);
    }

    fn is_covered(&self, index: usize, sample: usize) -> bool {
        self.covered[index * self.mask_words + sample / 64] >> (sample % 64) & 1 == 1
    }

    fn cover_run(&mut self, index: usize, first: usize, count: usize) {
        let mut at = first;
        while at < first + count {
            let bit = at % 64;
            let run = (64 - bit).min(first + count - at);
            let ones = if run == 64 { u64::MAX } else { (1 << run) - 1 };
            self.covered[index * self.mask_words + at / 64] |= ones << bit;
            at += run;
        }
    }

    /// Open the sequence lock of `slot`: readers that look now will look again.
    fn begin(&self, slot: u64) {
        let stamp = &self.ring.stamps[self.ring.index(slot)];
        let busy = stamp.load(Ordering::Relaxed) | STAMP_BUSY;
        stamp.store(busy, Ordering::Relaxed);
        fence(Ordering::Release);
    }

    fn finish(&mut self, slot: u64) {
        let index = self.ring.index(slot);
        let whole = usize::from(self.covered_count[index]) == self.ring.slot_samples;
        if whole && slot * self.ring.slot_samples as u64 >= self.passed_by(self.live_lag) {
            self.gap[index] = NO_GAP;
        }
        let state = match (whole, self.gap[index]) {
            (_, NO_GAP) => SlotState::Received,
            (true, _) => SlotState::Repaired,
            (false, gap) => SlotState::from_raw(gap),
        };
        let stamp = &self.ring.stamps[index];
        let version = (stamp.load(Ordering::Relaxed) >> 1).wrapping_add(1) & STAMP_VERSION_MASK;
        let next = slot << STAMP_SLOT_SHIFT | (state as u64) << STAMP_STATE_SHIFT | version << 1;
        stamp.store(next, Ordering::Release);
    }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        self.ring.closed.store(true, Ordering::Release);
    }
}

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
        let head = ring.head.load(Ordering::Acquire);
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
            let before = ring.stamps[index].load(Ordering::Acquire);
            if before & STAMP_BUSY == 0 {
                if before >> STAMP_SLOT_SHIFT != self.next {
                    return self.skip_lost(head);
                }
                load_samples(&ring.words[index * ring.words_per_slot..], &mut out[..len]);
                fence(Ordering::Acquire);
                if ring.stamps[index].load(Ordering::Relaxed) == before {
                    self.next += 1;
                    return SlotRead::Ready {
                        state: SlotState::from_raw((before >> STAMP_STATE_SHIFT) as u8),
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

#[cfg(all(test, not(loom)))]
mod tests;
