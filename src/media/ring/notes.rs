//! What the writer knows of each slot, side by side: which samples were received, how many, and what the rest is.

/// No name has been given to what is missing.
pub(super) const NO_GAP: u8 = u8::MAX;

#[derive(Debug)]
pub(super) struct Notes {
    slot_samples: usize,
    /// Words of a slot: one bit for each sample that was received, then a word with their number and the gap's name.
    stride: usize,
    words: Box<[u64]>,
}

/// The gap's name lies above the number of samples.
const GAP_SHIFT: u32 = 32;

impl Notes {
    pub fn new(slots: usize, slot_samples: usize) -> Self {
        let stride = slot_samples.div_ceil(64) + 1;
        let mut notes = Self { slot_samples, stride, words: vec![0; slots * stride].into_boxed_slice() };
        (0..slots).for_each(|index| notes.clear(index));
        notes
    }

    /// Nothing received, nothing named.
    pub fn clear(&mut self, index: usize) {
        self.words[index * self.stride..(index + 1) * self.stride - 1].fill(0);
        *self.summary(index) = u64::from(NO_GAP) << GAP_SHIFT;
    }

    /// Samples received.
    pub fn count(&self, index: usize) -> usize {
        self.words[(index + 1) * self.stride - 1] as u32 as usize
    }

    pub fn is_whole(&self, index: usize) -> bool {
        self.count(index) == self.slot_samples
    }

    pub fn has(&self, index: usize, sample: usize) -> bool {
        self.words[index * self.stride + sample / 64] >> (sample % 64) & 1 == 1
    }

    /// Of the samples from `first` on, how many in sequence were received, or were not, as `received` says.
    pub fn run(&self, index: usize, first: usize, received: bool) -> usize {
        let mut at = first;
        while at < self.slot_samples {
            let bits = self.words[index * self.stride + at / 64] >> (at % 64);
            let run = if received { bits.trailing_ones() } else { bits.trailing_zeros() } as usize;
            let left = 64 - at % 64;
            at += run.min(left);
            if run < left {
                break;
            }
        }
        at.min(self.slot_samples) - first
    }

    /// Of the samples before `end`, how many in sequence were received.
    pub fn run_before(&self, index: usize, end: usize) -> usize {
        let mut at = end;
        while at > 0 {
            let left = (at - 1) % 64 + 1;
            let bits = self.words[index * self.stride + (at - 1) / 64] << (64 - left);
            let run = (bits.leading_ones() as usize).min(left);
            at -= run;
            if run < left {
                break;
            }
        }
        end - at
    }

    /// So many samples from `first` on are received now; none of them was before.
    pub fn cover(&mut self, index: usize, first: usize, count: usize) {
        let mut at = first;
        while at < first + count {
            let bit = at % 64;
            let run = (64 - bit).min(first + count - at);
            let ones = if run == 64 { u64::MAX } else { (1 << run) - 1 };
            self.words[index * self.stride + at / 64] |= ones << bit;
            at += run;
        }
        *self.summary(index) += count as u64;
    }

    /// The state given to the missing part once the head passed it, or [`NO_GAP`].
    pub fn gap(&self, index: usize) -> u8 {
        (self.words[(index + 1) * self.stride - 1] >> GAP_SHIFT) as u8
    }

    pub fn set_gap(&mut self, index: usize, gap: u8) {
        let count = self.count(index) as u64;
        *self.summary(index) = count | u64::from(gap) << GAP_SHIFT;
    }

    fn summary(&mut self, index: usize) -> &mut u64 {
        &mut self.words[(index + 1) * self.stride - 1]
    }
}
