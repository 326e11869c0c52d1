//! Whisper's log-mel spectrogram, number for number what whisper.cpp makes of the same audio but for rounding, and a tenth of its price: a
//! real transform, bands without their zeros, and no half-minute of silence behind each piece (Radford et al., "Robust Speech Recognition via
//! Large-Scale Weak Supervision", 2022, section 2.2; whisper.cpp's `log_mel_spectrogram`).

use std::f32::consts::TAU;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

/// Samples of a frame: 25 ms.
const FRAME: usize = 400;
/// Samples from frame to frame: 10 ms.
const HOP: usize = 160;
const BINS: usize = FRAME / 2 + 1;
/// Least energy of a band.
const FLOOR: f64 = 1e-10;
/// What lies further below the loudest band than this, as a power of ten, is as quiet as anything.
const RANGE: f32 = 8.0;

/// A filter without the zeros around it.
struct Band {
    first: usize,
    weights: Box<[f32]>,
}

/// Spectrograms by one model's filters.
pub(super) struct MelSpectrum {
    fft: Arc<dyn RealToComplex<f32>>,
    hann: Box<[f32]>,
    bands: Box<[Band]>,
    input: Box<[f32]>,
    bins: Box<[Complex<f32>]>,
    scratch: Box<[Complex<f32>]>,
    power: Box<[f32]>,
    mel: Vec<f32>,
}

impl MelSpectrum {
    /// `filters`: band by band the weights of 201 bins, as they stand in a model file.
    pub fn new(filters: &[f32]) -> Self {
        let fft = RealFftPlanner::new().plan_fft_forward(FRAME);
        let band = |filter: &[f32]| {
            let first = filter.iter().position(|&weight| weight != 0.0).unwrap_or(0);
            let end = filter.iter().rposition(|&weight| weight != 0.0).map_or(first, |last| last + 1);
            Band { first, weights: filter[first..end].into() }
        };
        Self {
            hann: (0..FRAME).map(|n| 0.5 * (1.0 - (TAU * n as f32 / FRAME as f32).cos())).collect(),
            bands: filters.chunks_exact(BINS).map(band).collect(),
            input: fft.make_input_vec().into(),
            bins: fft.make_output_vec().into(),
            scratch: fft.make_scratch_vec().into(),
            power: [0.0; BINS].into(),
            mel: Vec::new(),
            fft,
        }
    }

    /// Frames that hold any of so many samples (more than 200).
    pub fn reach(samples: usize) -> usize {
        (samples + FRAME / 2) / HOP + 1
    }

    /// Frames that reach beyond neither end but where they are mirrored: by these whisper.cpp tells how long audio is.
    pub fn whole(samples: usize) -> usize {
        samples.saturating_sub(FRAME / 2) / HOP + 1
    }

    /// `frames` of `audio` (16 kHz, more than 200 samples) with silence behind it: band by band, on the scale that models were taught.
    pub fn of(&mut self, audio: &[f32], frames: usize) -> &[f32] {
        self.mel.clear();
        self.mel.resize(self.bands.len() * frames, FLOOR.log10() as f32);
        for frame in 0..frames.min(Self::reach(audio.len())) {
            self.transform(audio, frame);
            for (n, band) in self.bands.iter().enumerate() {
                let power = &self.power[band.first..];
                let energy: f64 = band.weights.iter().zip(power).map(|(w, p)| f64::from(w * p)).sum();
                self.mel[n * frames + frame] = energy.max(FLOOR).log10() as f32;
            }
        }
        let loudest = self.mel.iter().copied().fold(f32::MIN, f32::max);
        for value in &mut self.mel {
            *value = (value.max(loudest - RANGE) + 4.0) / 4.0;
        }
        &self.mel
    }

    /// The power of each bin of a frame, whose middle lies at the frame's number times [`HOP`]; before the audio it is mirrored, behind it is none.
    fn transform(&mut self, audio: &[f32], frame: usize) {
        const BEFORE: usize = FRAME / 2;
        let start = frame * HOP;
        for (n, (input, taper)) in self.input.iter_mut().zip(&self.hann).enumerate() {
            *input = audio.get((start + n).abs_diff(BEFORE)).map_or(0.0, |sample| sample * taper);
        }
        // It fails for wrong lengths alone, and these are its own.
        let _ = self.fft.process_with_scratch(&mut self.input, &mut self.bins, &mut self.scratch);
        for (power, bin) in self.power.iter_mut().zip(&self.bins) {
            *power = bin.norm_sqr();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition, in double precision.
    fn by_definition(audio: &[f32], filters: &[f32], frames: usize) -> Vec<f64> {
        let tau = std::f64::consts::TAU;
        let sample = |at: isize| f64::from(audio.get(at.unsigned_abs()).copied().unwrap_or(0.0));
        let mut mel = vec![FLOOR.log10(); filters.len() / BINS * frames];
        for frame in 0..frames {
            let power: Vec<f64> = (0..BINS)
                .map(|bin| {
                    let (mut re, mut im) = (0.0, 0.0);
                    for n in 0..FRAME {
                        let taper = 0.5 * (1.0 - (tau * n as f64 / FRAME as f64).cos());
                        let value = taper * sample((frame * HOP + n) as isize - 200);
                        let angle = tau * (bin * n % FRAME) as f64 / FRAME as f64;
                        re += value * angle.cos();
                        im -= value * angle.sin();
                    }
                    re * re + im * im
                })
                .collect();
            for (n, filter) in filters.chunks(BINS).enumerate() {
                let energy: f64 = filter.iter().zip(&power).map(|(w, p)| f64::from(*w) * p).sum();
                mel[n * frames + frame] = energy.max(FLOOR).log10();
            }
        }
        let loudest = mel.iter().copied().fold(f64::MIN, f64::max);
        mel.iter().map(|value| (value.max(loudest - 8.0) + 4.0) / 4.0).collect()
    }

    #[test]
    fn a_spectrogram_is_what_its_definition_says() {
        // Triangles, one of them with nothing in it.
        let filters: Vec<f32> = (0..4 * BINS)
            .map(|at| {
                let (band, bin) = (at / BINS, (at % BINS) as f32);
                let middle = [0.0, 13.0, 70.0, 150.0][band];
                if band == 3 {
                    0.0
                } else {
                    (1.0 - (bin - middle).abs() / (5.0 + 9.0 * band as f32)).max(0.0)
                }
            })
            .collect();
        let audio: Vec<f32> = (0..3_333)
            .map(|n| 0.3 * (n as f32 * 0.21).sin() + 0.1 * (n as f32 * (1.1 + n as f32 / 9_000.0)).cos())
            .collect();
        let mut spectrum = MelSpectrum::new(&filters);
        for frames in [6, 40] {
            let expected = by_definition(&audio, &filters, frames);
            let ours = spectrum.of(&audio, frames);
            assert_eq!(ours.len(), expected.len());
            for (at, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
                assert!((f64::from(*ours) - expected).abs() < 1e-3, "{at}: {ours}, by definition {expected}");
            }
        }
        assert_eq!(MelSpectrum::reach(audio.len()), 23);
    }
}
