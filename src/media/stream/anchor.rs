//! Where a segment begins: its first pieces are held, and the least delayed of them says it.

use std::time::Duration;

use super::super::time::{MediaInstant, SampleRate};
use super::{SEAM, StreamReceiver, nanos};

/// The first pieces of what may be a segment of its own, decoded, in room that is allocated once.
#[derive(Debug)]
pub(super) struct Hold {
    rate: SampleRate,
    samples: Vec<i16>,
    /// Where the first sample would lie by the least delayed piece so far, and until when to wait for another.
    begun: Option<(MediaInstant, MediaInstant)>,
}

impl Hold {
    pub fn new(rate: SampleRate) -> Self {
        // What is held up for longer is too late for the recording (2 s), and one piece has a second at the most.
        Self { rate, samples: Vec::with_capacity(3 * rate.hz() as usize), begun: None }
    }

    pub fn is_empty(&self) -> bool {
        self.begun.is_none()
    }

    /// Another piece might not fit.
    pub fn is_full(&self) -> bool {
        self.samples.len() >= 2 * self.rate.hz() as usize
    }

    pub fn due(&self) -> Option<MediaInstant> {
        self.begun.map(|(_, due)| due)
    }

    pub fn begin(&mut self, arrival: MediaInstant, window: Duration) {
        self.begun = Some((arrival, arrival + window));
    }

    pub fn push(&mut self, arrival: MediaInstant, samples: usize, pcm: impl Fn(usize) -> i16) {
        let before = self.rate.duration_of(self.samples.len() as u64);
        if let Some((first, _)) = &mut self.begun {
            *first = (*first).min(arrival - before);
        }
        self.samples.extend((0..samples).map(pcm));
    }
}

impl StreamReceiver {
    /// Decide where what is held lies, and place it there.
    pub(super) fn settle(&mut self, now: MediaInstant) {
        let Some((first, _)) = self.hold.begun.take() else { return };
        let sample = self.config.clock.sample_at(first);
        let lag = self.lag_nanos(first);
        // What was held up on the way is as early as it ever was, once all of it is here.
        let goes_on = self.base.is_some() && !self.is_new && lag < nanos(SEAM);
        if !goes_on {
            let proposes = self.base.is_none();
            self.begin_segment(sample);
            if proposes {
                self.config.clock.propose_origin(sample, now);
            }
        } else {
            self.jitter.interrupt();
            self.slip = None;
        }
        let mut held = std::mem::take(&mut self.hold.samples);
        self.place(held.len(), |i| held[i]);
        held.clear();
        self.hold.samples = held;
    }
}
