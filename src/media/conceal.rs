//! Concealment of short losses: what was probably said, made from what was heard on both sides of the gap.
//!
//! Each side is continued into the gap by repeating its last pitch cycle (the waveform substitution of ITU-T G.711
//! Appendix I; pitch search and fade as in Asterisk's `plc.c`), the later side backwards in time, and the two are
//! cross-faded. A recording is read behind the network, so that the later side is at hand. Received samples are never
//! altered: joints are smoothed inside the gap, where G.711 Appendix I smooths into the audio.

use std::ops::RangeInclusive;
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

/// The most samples that [`CONTEXT`] has: at 48 kHz.
const MOST: usize = 48 * CONTEXT.as_millis() as usize;
/// Lags and samples are looked at first as far apart as at 8 kHz.
const COARSE_HZ: usize = 8_000;
/// Samples compared before it is asked whether a lag can still be the best.
const CHUNK: usize = 32;

/// Write into `gap`, which lies between the received samples `before` and `after` (at most [`CONTEXT`] of each is used;
/// either may be empty). Returns `false`, with `gap` untouched, if neither side has the 10 ms that a pitch is found in.
pub fn conceal(rate: SampleRate, before: &[i16], after: &[i16], gap: &mut [i16]) -> bool {
    let context = (rate.samples_in(CONTEXT) as usize).min(MOST);
    let before = &before[before.len().saturating_sub(context)..];
    let after = &after[..after.len().min(context)];
    // From the gap outwards, so that both sides are dealt with alike.
    let mut mirrored = [0; MOST];
    mirrored.iter_mut().zip(before.iter().rev()).for_each(|(to, from)| *to = *from);
    let forward = Continuation::of(rate, &mirrored[..before.len()]);
    let backward = Continuation::of(rate, after);
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

/// One side of a gap, continued into it.
struct Continuation<'a> {
    /// Its samples from the gap outwards.
    side: &'a [i16],
    cycle: usize,
    /// What the first repeated sample is off from where the side ends.
    step: f32,
    fade: f32,
}

impl<'a> Continuation<'a> {
    fn of(rate: SampleRate, side: &'a [i16]) -> Option<Self> {
        let shortest = rate.samples_in(MIN_CYCLE) as usize;
        if side.len() < 2 * shortest {
            return None;
        }
        let cycle = pitch_cycle(rate, side);
        let step = f32::from(side[0]) - f32::from(side[cycle]);
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
        // The sample of the cycle next to the gap is its first, and with the last one the repetition begins.
        let back = self.cycle - 1 - phase;
        let side = |at: usize| f32::from(self.side[at]);
        let mut sample = side(back);
        // Its last quarter glides into what preceded its beginning, so that one repetition meets the next.
        if back < quarter {
            let share = (quarter - back) as f32 / (quarter + 1) as f32;
            sample += share * (side(back + self.cycle) - sample);
        }
        if n < quarter {
            sample += self.step * (1.0 - n as f32 / quarter as f32);
        }
        sample
    }
}

/// The lag, in samples, at which the audio is most like itself: least mean magnitude of the difference (AMDF).
fn pitch_cycle(rate: SampleRate, side: &[i16]) -> usize {
    // At rates above 8 kHz every `stride`th lag and sample is looked at first.
    let stride = (rate.hz() as usize / COARSE_HZ).max(1);
    let longest = (rate.samples_in(MAX_CYCLE) as usize).min(side.len() / 2);
    let shortest = (rate.samples_in(MIN_CYCLE) as usize).min(longest);
    let span = rate.samples_in(SPAN) as usize;
    if stride == 1 {
        return likest(side, span, shortest..=longest).unwrap_or(longest);
    }
    let mut thinned = [0; MOST];
    let kept = side.iter().step_by(stride);
    let count = kept.len();
    thinned.iter_mut().zip(kept).for_each(|(to, from)| *to = *from);
    let coarse = likest(&thinned[..count], span.div_ceil(stride), shortest / stride..=longest / stride);
    let coarse = coarse.map_or(longest, |lag| lag * stride);
    likest(side, span, coarse.saturating_sub(stride).max(shortest)..=(coarse + stride).min(longest))
        .unwrap_or(longest)
}

/// Of `lags` the first one of least mean difference between `span` samples, as far as there are so many, and those a lag away.
fn likest(side: &[i16], span: usize, lags: RangeInclusive<usize>) -> Option<usize> {
    let (mut least, mut found) = (f32::INFINITY, None);
    for lag in lags {
        let span = span.min(side.len() - lag);
        let mut sum = 0;
        let mut pairs = side[..span].chunks(CHUNK).zip(side[lag..lag + span].chunks(CHUNK));
        // It only grows: most lags are out of the running after a part of the span.
        let mean = loop {
            let mean = sum as f32 / span as f32;
            match pairs.next() {
                Some((near, far)) if mean < least => sum += difference(near, far),
                _ => break mean,
            }
        };
        if mean < least {
            (least, found) = (mean, Some(lag));
        }
    }
    found
}

fn difference(one: &[i16], other: &[i16]) -> u32 {
    one.iter().zip(other).map(|(&one, &other)| u32::from(one.abs_diff(other))).sum()
}

#[cfg(test)]
mod tests;
