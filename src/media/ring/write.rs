//! The writing end of a ring.

use std::sync::Arc;

use super::super::slot::SlotState;
use super::super::sync::{Ordering, fence};
use super::notes::{NO_GAP, Notes};
use super::{
    Ring, SAMPLES_PER_WORD, STAMP_BUSY, STAMP_SLOT_SHIFT, STAMP_STATE_SHIFT, STAMP_VERSION_MASK, STAMP_WHOLE,
};

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
    pub(super) ring: Arc<Ring>,
    pub(super) head: u64,
    /// The ring sample behind the last one received.
    pub(super) received: u64,
    /// Slots opened so far: the next slot never touched.
    pub(super) opened: u64,
    live_lag: u64,
    repair_lag: u64,
    notes: Notes,
}

impl RingWriter {
    pub(super) fn new(ring: Arc<Ring>) -> Self {
        let notes = Notes::new(ring.slots as usize, ring.slot_samples);
        Self { ring, head: 0, received: 0, opened: 0, live_lag: 0, repair_lag: u64::MAX, notes }
    }

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

    /// The ring sample behind the last one accounted for.
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
        let (mut at, end) =
            (from.max(self.oldest()).min(to), to.min(self.opened * self.ring.slot_samples as u64));
        let mut covered = 0;
        while at < end {
            let run = self.run_end(at, end, true);
            covered += run - at;
            at = self.run_end(run, end, false);
        }
        to - from - covered
    }

    /// [`RingWriter::put`], and [`RingWriter::publish`].
    pub fn place(&mut self, at: u64, len: usize, pcm: impl Fn(usize) -> i16, missing: SlotState) -> Placed {
        let placed = self.put(at, len, pcm, missing);
        self.publish();
        placed
    }

    /// The ring samples that live readers have passed, or will have once all is published.
    pub fn live_passed(&self) -> u64 {
        self.passed_by(self.live_lag)
    }

    /// The first stretch in `from..to` without received audio; `None` if there is none.
    pub fn missing_run(&self, from: u64, to: u64) -> Option<(u64, u64)> {
        let from = from.max(self.oldest_open());
        let to = to.min(self.head);
        let start = self.run_end(from, to, true);
        (start < to).then(|| (start, self.run_end(start, to, false)))
    }

    /// Copy the received samples right before ring sample `at`, as many as there are without a break, into the end of `pcm`.
    /// Returns how many.
    pub fn received_before(&self, at: u64, pcm: &mut [i16]) -> usize {
        let oldest = self.oldest().max(at.saturating_sub(pcm.len() as u64));
        let slot_samples = self.ring.slot_samples as u64;
        let mut start = at;
        while start > oldest {
            let (index, end) = (self.ring.index((start - 1) / slot_samples), (start - 1) % slot_samples + 1);
            let run =
                if self.is_whole(index) { end } else { self.notes.run_before(index, end as usize) as u64 };
            start -= run;
            if run < end {
                break;
            }
        }
        let count = at.saturating_sub(start.max(oldest)) as usize;
        let place = pcm.len() - count;
        self.copy(at - count as u64, &mut pcm[place..]);
        count
    }

    /// Copy the received samples from ring sample `at` on, as many as there are without a break, into the start of `pcm`.
    /// Returns how many.
    pub fn received_from(&self, at: u64, pcm: &mut [i16]) -> usize {
        let end = self.run_end(at, self.head.min(at + pcm.len() as u64), true);
        let count = end.saturating_sub(at) as usize;
        self.copy(at, &mut pcm[..count]);
        count
    }

    /// Put `len` samples at ring sample `at`, sample `i` being `pcm(i)`. What lies between the head and `at` becomes a
    /// gap of kind `missing`. Never overwrites received audio, and changes nothing behind the repair lag. Readers come no
    /// nearer for it until [`RingWriter::publish`].
    pub fn put(&mut self, at: u64, len: usize, pcm: impl Fn(usize) -> i16, missing: SlotState) -> Placed {
        let mut placed = Placed::default();
        self.declare(at, missing);
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
        self.head = self.head.max(end);
        placed
    }

    /// Let readers come up to the head.
    pub fn publish(&mut self) {
        self.ring.edge.head().store(self.head, Ordering::Release);
        self.ring.edge.heard().store(self.received, Ordering::Release);
    }

    /// Move the head to `to`: what is missing before it is a gap of kind `state`.
    pub fn advance(&mut self, to: u64, state: SlotState) {
        if to > self.head {
            self.declare(to, state);
            self.publish();
        }
    }

    /// [`RingWriter::advance`], unseen by readers until [`RingWriter::publish`].
    pub fn declare(&mut self, to: u64, state: SlotState) {
        if to <= self.head {
            return;
        }
        let from = self.head;
        self.open_until(to);
        self.label(from, to, state, true);
        self.head = to;
    }

    /// The sender has said what is up to `to`, though it sent no samples: [`RingWriter::cut`] keeps it.
    pub fn told(&mut self, to: u64) {
        self.received = self.received.max(to.min(self.head));
    }

    /// Give the slots in `from..to` that are declared missing the kind `state` instead. Slots that are whole, or no
    /// longer held, stay as they are.
    pub fn relabel(&mut self, from: u64, to: u64, state: SlotState) {
        self.label(from, to.min(self.head), state, false);
    }

    /// Fill the missing samples of `at..at+len` with made-up audio and mark their slots [`SlotState::Concealed`], if they
    /// were declared [`SlotState::Lost`]. A packet that comes later still takes its place.
    pub fn conceal(&mut self, at: u64, len: usize, pcm: impl Fn(usize) -> i16) {
        let slot_samples = self.ring.slot_samples as u64;
        let end = (at + len as u64).min(self.head);
        let mut pos = at.max(self.oldest_open());
        while pos < end {
            let slot = pos / slot_samples;
            let first = (pos % slot_samples) as usize;
            let count = ((end - pos) as usize).min(self.ring.slot_samples - first);
            let index = self.ring.index(slot);
            let is_missing = !self.is_whole(index);
            let lost = [SlotState::Lost as u8, SlotState::Concealed as u8];
            if is_missing && lost.contains(&self.notes.gap(index)) {
                self.begin(slot);
                let offset = (pos - at) as usize;
                if self.notes.run(index, first, false) >= count {
                    self.store_run(index, first, count, &|i| pcm(offset + i));
                } else {
                    for i in (0..count).filter(|i| !self.notes.has(index, first + i)) {
                        self.store_sample(index, first + i, pcm(offset + i));
                    }
                }
                self.notes.set_gap(index, SlotState::Concealed as u8);
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
        if kept > 0 && self.count(index) == kept {
            self.begin(slot);
            self.notes.set_gap(index, NO_GAP);
            self.finish(slot);
        }
        self.head = to;
        self.ring.edge.head().store(to, Ordering::Release);
    }

    /// No more will come. What is published stays readable.
    pub fn close(self) {}

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
            for word in self.ring.samples(index) {
                word.store(0, Ordering::Relaxed);
            }
            self.notes.clear(index);
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
            let whole = self.is_whole(index);
            let gap = self.notes.gap(index);
            // A slot that something was lost from stays Lost, whatever else is missing from it.
            let keep = if declare { gap == SlotState::Lost as u8 } else { gap == NO_GAP };
            if whole || keep {
                continue;
            }
            self.begin(slot);
            if gap == SlotState::Concealed as u8 {
                self.silence_missing(index);
            }
            self.notes.set_gap(index, state as u8);
            self.finish(slot);
        }
    }

    /// What was made up turns out never to have been sent.
    fn silence_missing(&self, index: usize) {
        for sample in 0..self.ring.slot_samples {
            if !self.has(index, sample) {
                self.store_sample(index, sample, 0);
            }
        }
    }

    /// Returns how many of the samples were written: those whose place was not covered yet.
    fn write_slot(&mut self, slot: u64, first: usize, count: usize, pcm: impl Fn(usize) -> i16) -> usize {
        let index = self.ring.index(slot);
        let already = self.count(index);
        if already == self.ring.slot_samples {
            return 0;
        }
        self.begin(slot);
        let mut written = 0;
        if self.notes.run(index, first, false) >= count {
            self.store_run(index, first, count, &pcm);
            self.notes.cover(index, first, count);
            written = count;
        } else {
            for i in 0..count {
                if !self.has(index, first + i) {
                    self.store_sample(index, first + i, pcm(i));
                    self.notes.cover(index, first + i, 1);
                    written += 1;
                }
            }
        }
        self.finish(slot);
        written
    }

    fn store_run(&self, index: usize, first: usize, count: usize, pcm: &impl Fn(usize) -> i16) {
        let words = self.ring.samples(index);
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
        let word = &self.ring.samples(index)[at / SAMPLES_PER_WORD];
        let shift = 16 * (at % SAMPLES_PER_WORD);
        let rest = word.load(Ordering::Relaxed) & !(0xffff << shift);
        word.store(rest | u64::from(sample as u16) << shift, Ordering::Relaxed);
    }

    /// Copy the samples from ring sample `at` on, which must be held.
    fn copy(&self, at: u64, out: &mut [i16]) {
        let slot_samples = self.ring.slot_samples as u64;
        let (mut slot, mut first) = (at / slot_samples, (at % slot_samples) as usize);
        let mut rest = out;
        while !rest.is_empty() {
            let words = self.ring.samples(self.ring.index(slot));
            let (here, later) = rest.split_at_mut(rest.len().min(self.ring.slot_samples - first));
            for (i, sample) in here.iter_mut().enumerate() {
                let word = words[(first + i) / SAMPLES_PER_WORD].load(Ordering::Relaxed);
                *sample = (word >> (16 * ((first + i) % SAMPLES_PER_WORD))) as u16 as i16;
            }
            (slot, first, rest) = (slot + 1, 0, later);
        }
    }

    /// Where the received samples from ring sample `at` on end, or the missing ones, as `received` says: at `to` at the latest,
    /// before which all must be held.
    fn run_end(&self, at: u64, to: u64, received: bool) -> u64 {
        let slot_samples = self.ring.slot_samples;
        let mut pos = at;
        while pos < to {
            let index = self.ring.index(pos / slot_samples as u64);
            let first = (pos % slot_samples as u64) as usize;
            let run = match self.is_whole(index) {
                true => {
                    if received {
                        slot_samples - first
                    } else {
                        0
                    }
                }
                false => self.notes.run(index, first, received),
            };
            pos += run as u64;
            if first + run < slot_samples {
                break;
            }
        }
        pos.min(to)
    }

    /// Open the sequence lock of `slot`: readers that look now will look again.
    fn begin(&self, slot: u64) {
        let stamp = self.ring.stamp(self.ring.index(slot));
        let busy = stamp.load(Ordering::Relaxed) | STAMP_BUSY;
        stamp.store(busy, Ordering::Relaxed);
        fence(Ordering::Release);
    }

    fn finish(&mut self, slot: u64) {
        let index = self.ring.index(slot);
        let whole = self.notes.is_whole(index);
        if whole && slot * self.ring.slot_samples as u64 >= self.passed_by(self.live_lag) {
            self.notes.set_gap(index, NO_GAP);
        }
        let state = match (whole, self.notes.gap(index)) {
            (_, NO_GAP) => SlotState::Received,
            (true, _) => SlotState::Repaired,
            (false, gap) => SlotState::from_raw(gap),
        };
        let stamp = self.ring.stamp(index);
        let version = (stamp.load(Ordering::Relaxed) >> 1).wrapping_add(1) & STAMP_VERSION_MASK;
        let flags = if whole { STAMP_WHOLE } else { 0 };
        let next = slot << STAMP_SLOT_SHIFT | (state as u64) << STAMP_STATE_SHIFT | flags | version << 1;
        stamp.store(next, Ordering::Release);
    }

    /// Whether every sample of an open slot was received. The notes know of slots that were put together piece by piece, the
    /// stamp of all.
    fn is_whole(&self, index: usize) -> bool {
        self.ring.stamp(index).load(Ordering::Relaxed) & STAMP_WHOLE != 0
    }

    /// How many samples of an open slot were received.
    fn count(&self, index: usize) -> usize {
        if self.is_whole(index) { self.ring.slot_samples } else { self.notes.count(index) }
    }

    /// Whether a sample of an open slot was received.
    fn has(&self, index: usize, sample: usize) -> bool {
        self.is_whole(index) || self.notes.has(index, sample)
    }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        self.ring.closed.store(true, Ordering::Release);
    }
}
