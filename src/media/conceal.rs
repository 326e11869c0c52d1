//! Concealment of short losses: what was probably said, made from what was heard on both sides of the gap.
//!
//! Each side is continued into the gap by repeating its last pitch cycle (the waveform substitution of ITU-T G.711
//! Appendix I; pitch search and fade as in Asterisk's `plc.c`), the later side backwards in time, and the two are
//! cross-faded. A recording is read behind the network, so that the later side is at hand. Received samples are never
//! altered: joints are smoothed inside the gap, where G.711 Appendix I smooths into the audio.

use std::time::Duration;

use super::time::SampleRate;

/// Longer gaps stay silent: a made-up cycle that goes on is heard as a buzz (G.711 Appendix I mutes from 60 ms on).
pub const MAX_GAP: Duration = Duration::from_millis(60);
/// A continuation fades out linearly within this time, as in `plc.c`.
const FADE: Duration = Duration::from_millis(50);
/// Voices from 66 to 200 Hz, the range of G.711 Appendix I: one cycle takes 5 to 15 ms.
const MIN_CYCLE: Duration = Duration::from_millis(5);
const MAX_CYCLE: Duration = Duration::from_millis(15);
/// The pitch is sought by comparing this much audio with what was a cycle before.
const SPAN: Duration = Duration::from_millis(20);
/// Audio used of either side: the longest cycle before the span.
pub const CONTEXT: Duration = Duration::from_millis(35);

/// Write into `gap`, which lies between the received samples `before` and `after` (at most [`CONTEXT`] of each is used;
/// either may be empty). Returns `false`, with `gap` untouched, if neither side has the 10 ms that a pitch is found in.
pub fn conceal(rate: SampleRate, before: &[i16], after: &[i16], gap: &mut [i16]) -> bool {
    let context = rate.samples_in(CONTEXT) as usize;
    let before = &before[before.len().saturating_sub(context)..];
    let after = &after[..after.len().min(context)];
    let forward = Continuation::of(rate, before.len(), |i| f32::from(before[before.len() - 1 - i]));
    let backward = Continuation::of(rate, after.len(), |i| f32::from(after[i]));
    let len = gap.len();
    match (forward, backward) {
        (None, None) => return false,
        (Some(side), None) => {
            gap.iter_mut().enumerate().for_each(|(n, sample)| *sample = rounded(side.faded(n)));
        }
        (None, Some(side)) => {
            gap.iter_mut().enumerate().for_each(|(n, sample)| *sample = rounded(side.faded(len - 1 - n)));
        }
        (Some(forward), Some(backward)) => {
            for (n, sample) in gap.iter_mut().enumerate() {
                let share = (n + 1) as f32 / (len + 1) as f32;
                let mixed = forward.faded(n) * (1.0 - share) + backward.faded(len - 1 - n) * share;
                *sample = rounded(mixed);
            }
        }
    }
    true
}

fn rounded(sample: f32) -> i16 {
    sample.round() as i16
}

/// One side of a gap, continued into it. `side(0)` is the sample next to the gap, `side(i)` the one `i` away from it.
struct Continuation<S> {
    side: S,
    cycle: usize,
    /// What the first repeated sample is off from where the side ends.
    step: f32,
    fade: f32,
}

impl<S: Fn(usize) -> f32> Continuation<S> {
    fn of(rate: SampleRate, len: usize, side: S) -> Option<Self> {
        let shortest = rate.samples_in(MIN_CYCLE) as usize;
        if len < 2 * shortest {
            return None;
        }
        let cycle = pitch_cycle(rate, len, &side);
        let step = side(0) - side(cycle);
        Some(Self { side, cycle, step, fade: rate.samples_in(FADE) as f32 })
    }

    /// Sample `n` into the gap, faded.
    fn faded(&self, n: usize) -> f32 {
        let gain = 1.0 - n as f32 / self.fade;
        if gain <= 0.0 { 0.0 } else { self.at(n) * gain }
    }

    fn at(&self, n: usize) -> f32 {
        let quarter = self.cycle / 4;
        let phase = n % self.cycle;
        // The newest sample of the cycle is side(0), its oldest side(cycle - 1), with which the repetition begins.
        let back = self.cycle - 1 - phase;
        let mut sample = (self.side)(back);
        // Its last quarter glides into what preceded its beginning, so that one repetition meets the next.
        if back < quarter {
            let share = (quarter - back) as f32 / (quarter + 1) as f32;
            sample += share * ((self.side)(back + self.cycle) - sample);
        }
        if n < quarter {
            sample += self.step * (1.0 - n as f32 / quarter as f32);
        }
        sample
    }
}

/// The lag, in samples, at which the audio is most like itself: least mean magnitude of the difference (AMDF).
fn pitch_cycle(rate: SampleRate, len: usize, side: &impl Fn(usize) -> f32) -> usize {
    // At rates above 8 kHz every `stride`th lag and sample is looked at first.
    let stride = (rate.hz() as usize / 8_000).max(1);
    let longest = (rate.samples_in(MAX_CYCLE) as usize).min(len / 2);
    let shortest = (rate.samples_in(MIN_CYCLE) as usize).min(longest);
    let difference = |lag: usize, stride: usize| {
        let span = (rate.samples_in(SPAN) as usize).min(len - lag);
        let sum: f32 = (0..span).step_by(stride).map(|i| (side(i) - side(i + lag)).abs()).sum();
        sum / span.div_ceil(stride) as f32
    };
    let best = |lags: &mut dyn Iterator<Item = usize>, stride: usize| {
        let mut found = (f32::INFINITY, longest);
        for lag in lags {
            let difference = difference(lag, stride);
            if difference < found.0 {
                found = (difference, lag);
            }
        }
        found.1
    };
    let coarse = best(&mut (shortest..=longest).step_by(stride), stride);
    if stride == 1 {
        return coarse;
    }
    best(&mut (coarse.saturating_sub(stride).max(shortest)..=(coarse + stride).min(longest)), 1)
}

#[cfg(test)]
mod tests;
