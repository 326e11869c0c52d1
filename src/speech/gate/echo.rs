//! Echo: the other party's voice, later and quieter, in this leg.
//!
//! How much of this leg's power is the other's, filtered in whatever way, is what the magnitude-squared coherence of the two
//! says (G. C. Carter, Proceedings of the IEEE 75, 1987), once the delay is taken out. Two people who talk at once have
//! nothing in common; of an echo nearly all is explained; someone who talks over an echo lies between, and is heard.

use std::collections::VecDeque;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use crate::speech::RATE;
use crate::speech::vad::FRAME;

/// Everything here is at 8 kHz: echoes come from telephones.
const HALF: usize = FRAME / 2;
/// Frames of this leg looked at: 256 ms.
pub const WINDOW_FRAMES: usize = 16;
const WINDOW: usize = WINDOW_FRAMES * HALF;
/// Echoes come back within so long: 600 ms, two satellite hops or a mobile network with its jitter buffers.
const LONGEST: usize = 600 * RATE as usize / 2 / 1_000;
/// Coherence is averaged over segments of 32 ms, half overlapping: 15 in a window, so that what has nothing in common comes
/// out at a seventh or so.
const SEGMENT: usize = 256;
/// Looks at most every so many frames: 64 ms.
const EVERY: usize = 4;
/// An echo is quieter by 6 dB at least: anything else is the same person on both legs, or nobody's echo.
const QUIETER: f32 = 0.5;
/// The share of power explained from which on it is an echo.
pub const ECHO: f32 = 0.7;
/// And below which it is this party's own.
pub const OWN: f32 = 0.5;
/// What is kept of a leg: window and longest delay, and as much again, as the legs are not heard at the same moment.
const KEPT: usize = 2 * RATE as usize / 2;
/// Transform for the delay: window and delays together, next power of two.
const WIDE: usize = 8_192;

/// What the other leg says, as this leg's gate needs it: at 8 kHz.
#[derive(Clone, Copy, Debug)]
pub struct Far<'a> {
    /// Its newest samples, in two pieces, as a queue has them.
    pub samples: (&'a [f32], &'a [f32]),
    /// Where the first of them is in this leg's time: 8 kHz samples from this leg's first.
    pub from: i64,
}

impl Far<'_> {
    /// Copy `out.len()` samples from `position` on; `false` if they are not all there.
    fn copy(&self, position: i64, out: &mut [f32]) -> bool {
        let (first, second) = self.samples;
        let Ok(at) = usize::try_from(position - self.from) else { return false };
        if at + out.len() > first.len() + second.len() {
            return false;
        }
        for (to, from) in out.iter_mut().zip(first.iter().chain(second).skip(at)) {
            *to = *from;
        }
        true
    }
}

/// What one leg said in the last two seconds, for the other one's gate.
#[derive(Clone, Debug, Default)]
pub struct Said {
    samples: VecDeque<f32>,
    /// Position of the first of them: 8 kHz samples from the leg's first.
    from: i64,
}

impl Said {
    /// Take the leg's next samples, at 16 kHz.
    pub fn push(&mut self, samples: &[f32]) {
        self.samples.extend(halved(samples));
        let old = self.samples.len().saturating_sub(KEPT);
        self.samples.drain(..old);
        self.from += old as i64;
    }

    /// It, for a leg that began so many seconds `later` than this one.
    pub fn far(&self, later: f64) -> Far<'_> {
        let shift = (later * f64::from(RATE / 2)).round() as i64;
        Far { samples: self.samples.as_slices(), from: self.from - shift }
    }
}

/// 16 kHz to the 8 kHz of [`Far`]. What lies above 4 kHz folds over, in both legs alike: there is next to nothing.
fn halved(samples: &[f32]) -> impl Iterator<Item = f32> {
    samples.chunks_exact(2).map(|pair| 0.5 * (pair[0] + pair[1]))
}

/// Looks for the other leg in this one.
#[derive(Default)]
pub struct Echo {
    /// The window's samples.
    near: VecDeque<f32>,
    /// Position behind the newest of them.
    position: i64,
    since: usize,
    tools: Option<Box<Tools>>,
}

/// Made when the first look is taken: most legs never do.
struct Tools {
    forward: Arc<dyn RealToComplex<f32>>,
    back: Arc<dyn ComplexToReal<f32>>,
    segment: Arc<dyn RealToComplex<f32>>,
}

impl Echo {
    /// Take the next frame.
    pub fn push(&mut self, frame: &[f32; FRAME]) {
        if self.near.len() == WINDOW {
            self.near.drain(..HALF);
        }
        self.near.extend(halved(frame));
        self.position += HALF as i64;
        self.since += 1;
    }

    /// Nobody speaks.
    pub fn rest(&mut self) {
        self.since = EVERY;
    }

    /// The share of the power of the last [`WINDOW_FRAMES`] frames that `far` explains. `None`: not looked, or `far` does not
    /// reach that far, or it is not louder.
    pub fn explained(&mut self, far: &Far<'_>) -> Option<f32> {
        if self.since < EVERY || self.near.len() < WINDOW {
            return None;
        }
        self.since = 0;
        let near: Vec<f32> = self.near.iter().copied().collect();
        let start = self.position - WINDOW as i64;
        let mut past = vec![0.0; WINDOW + LONGEST];
        if !far.copy(start - LONGEST as i64, &mut past) {
            return None;
        }
        if energy(&past) * QUIETER * QUIETER < energy(&near) {
            return Some(0.0);
        }
        let tools = self.tools.get_or_insert_with(|| Box::new(Tools::new()));
        let from = tools.place(&near, &past)?;
        let source = &past[from..from + WINDOW];
        if energy(source) * QUIETER * QUIETER < energy(&near) {
            return Some(0.0);
        }
        tools.coherence(&near, source)
    }
}

fn energy(samples: &[f32]) -> f32 {
    samples.iter().map(|s| s * s).sum()
}

impl Tools {
    fn new() -> Self {
        let mut planner = RealFftPlanner::new();
        Self {
            forward: planner.plan_fft_forward(WIDE),
            back: planner.plan_fft_inverse(WIDE),
            segment: planner.plan_fft_forward(SEGMENT),
        }
    }

    /// Where in `past` the sound of `near` is most likely from: the peak of their cross-correlation, whitened by half, so that
    /// neither a voice's pitch nor noise decides.
    fn place(&self, near: &[f32], past: &[f32]) -> Option<usize> {
        let transform = |samples: &[f32]| {
            let mut padded = vec![0.0; WIDE];
            padded[..samples.len()].copy_from_slice(samples);
            let mut bins = self.forward.make_output_vec();
            self.forward.process(&mut padded, &mut bins).ok().map(|()| bins)
        };
        let (near, past) = (transform(near)?, transform(past)?);
        let mut cross: Vec<Complex<f32>> = near.iter().zip(&past).map(|(n, p)| p * n.conj()).collect();
        for bin in &mut cross {
            *bin /= bin.norm().sqrt().max(1e-9);
        }
        if let [first, .., last] = &mut cross[..] {
            (first.im, last.im) = (0.0, 0.0);
        }
        let mut correlation = vec![0.0; WIDE];
        self.back.process(&mut cross, &mut correlation).ok()?;
        (0..=LONGEST).max_by(|&a, &b| correlation[a].abs().total_cmp(&correlation[b].abs()))
    }

    /// The share of the power of `near` that is coherent with `far`.
    fn coherence(&self, near: &[f32], far: &[f32]) -> Option<f32> {
        let mut sums = vec![(Complex::new(0.0, 0.0), 0.0, 0.0); SEGMENT / 2 + 1];
        for at in (0..=WINDOW - SEGMENT).step_by(SEGMENT / 2) {
            let (near, far) = (self.bins(&near[at..at + SEGMENT])?, self.bins(&far[at..at + SEGMENT])?);
            for ((cross, one, other), (n, f)) in sums.iter_mut().zip(near.iter().zip(&far)) {
                *cross += n * f.conj();
                *one += n.norm_sqr();
                *other += f.norm_sqr();
            }
        }
        let explained =
            |&(cross, _, other): &(Complex<f32>, f32, f32)| cross.norm_sqr() / f32::max(other, 1e-12);
        let all: f32 = sums.iter().map(|sum| sum.1).sum();
        (all > 0.0).then(|| sums.iter().map(explained).sum::<f32>() / all)
    }

    fn bins(&self, samples: &[f32]) -> Option<Vec<Complex<f32>>> {
        let hann = |n: usize| 0.5 - 0.5 * (std::f32::consts::TAU * n as f32 / SEGMENT as f32).cos();
        let mut input: Vec<f32> = samples.iter().enumerate().map(|(n, s)| s * hann(n)).collect();
        let mut bins = self.segment.make_output_vec();
        self.segment.process(&mut input, &mut bins).ok().map(|()| bins)
    }
}
