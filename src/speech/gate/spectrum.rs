//! What sounds at which frequency, frame by frame.

use std::f32::consts::TAU;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

use crate::speech::RATE;
use crate::speech::vad::FRAME;

/// Samples looked at: 64 ms, of which each frame is the newest quarter. Long enough to tell the 400 and 450 Hz of British
/// tones apart, short enough for a beep of 100 ms.
const WINDOW: usize = 4 * FRAME;
/// Hz from one bin to the next.
const BIN: f32 = RATE as f32 / WINDOW as f32;
/// Bins from 100 Hz (below lies the hum of mains) to 3900 Hz (telephones have nothing above).
const FIRST: usize = 7;
const LAST: usize = 250;
/// Most peaks kept: more than the partials of a chord that matter.
const PEAKS: usize = 12;
/// A sine fills so many bins to each side of its own (the main lobe of the Hann window).
const LOBE: usize = 2;

/// A local maximum of the spectrum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Peak {
    /// Hz, between bins.
    pub hz: f32,
    /// Its share of all power from 100 to 3900 Hz, 0 to 1.
    pub share: f32,
}

/// The strongest peaks of one window, strongest first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Peaks {
    list: [Peak; PEAKS],
    count: usize,
}

impl Peaks {
    /// Them.
    pub fn as_slice(&self) -> &[Peak] {
        &self.list[..self.count]
    }
}

/// The spectrum of one leg.
pub struct Spectrum {
    fft: Arc<dyn RealToComplex<f32>>,
    taper: Box<[f32]>,
    recent: Box<[f32]>,
    input: Box<[f32]>,
    bins: Box<[Complex<f32>]>,
    scratch: Box<[Complex<f32>]>,
    power: Box<[f32]>,
}

impl Default for Spectrum {
    fn default() -> Self {
        let fft = RealFftPlanner::new().plan_fft_forward(WINDOW);
        let hann = |n: usize| 0.5 - 0.5 * (TAU * (n as f32 + 0.5) / WINDOW as f32).cos();
        Self {
            taper: (0..WINDOW).map(hann).collect(),
            recent: vec![0.0; WINDOW].into(),
            input: vec![0.0; WINDOW].into(),
            bins: fft.make_output_vec().into(),
            scratch: fft.make_scratch_vec().into(),
            power: vec![0.0; LAST + LOBE + 1].into(),
            fft,
        }
    }
}

impl Spectrum {
    /// Take the next frame without looking at it.
    pub fn skip(&mut self, frame: &[f32; FRAME]) {
        self.recent.copy_within(FRAME.., 0);
        self.recent[WINDOW - FRAME..].copy_from_slice(frame);
    }

    /// Take the next frame: the peaks of the 64 ms that end with it.
    pub fn peaks(&mut self, frame: &[f32; FRAME]) -> Peaks {
        self.skip(frame);
        for ((to, sample), taper) in self.input.iter_mut().zip(&self.recent).zip(&self.taper) {
            *to = sample * taper;
        }
        if self.fft.process_with_scratch(&mut self.input, &mut self.bins, &mut self.scratch).is_err() {
            // Only for buffers of the wrong length, and these are the plan's own.
            return Peaks::default();
        }
        for (to, bin) in self.power.iter_mut().zip(&self.bins) {
            *to = bin.norm_sqr();
        }
        self.strongest()
    }

    fn strongest(&self) -> Peaks {
        let total: f32 = self.power[FIRST..=LAST].iter().sum();
        let mut peaks = Peaks::default();
        if total <= f32::MIN_POSITIVE {
            return peaks;
        }
        for at in FIRST..=LAST {
            let [below, here, above] = [self.power[at - 1], self.power[at], self.power[at + 1]];
            if here <= below || here < above {
                continue;
            }
            let share = self.power[at - LOBE..=at + LOBE].iter().sum::<f32>() / total;
            let rank = peaks.as_slice().iter().position(|p| p.share < share).unwrap_or(peaks.count);
            if rank < PEAKS {
                let last = peaks.count.min(PEAKS - 1);
                peaks.list.copy_within(rank..last, rank + 1);
                peaks.list[rank] =
                    Peak { hz: (at as f32 + vertex(below, here, above)) * BIN, share: share.min(1.0) };
                peaks.count = (peaks.count + 1).min(PEAKS);
            }
        }
        peaks
    }
}

/// Where the parabola through the logarithms of three powers has its top, in bins from the middle one.
fn vertex(below: f32, here: f32, above: f32) -> f32 {
    let [a, b, c] = [below, here, above].map(|power| power.max(f32::MIN_POSITIVE).ln());
    let curve = a - 2.0 * b + c;
    if curve < 0.0 { (0.5 * (a - c) / curve).clamp(-0.5, 0.5) } else { 0.0 }
}
