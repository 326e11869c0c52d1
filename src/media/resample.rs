//! One rate to another, as a stream, without shifting time.

use audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler as _, WindowFunction};
use thiserror::Error;

use super::time::SampleRate;

/// A streaming resampler: output sample `k` is the input at `k / rate` seconds, the filter's delay taken out. Output comes in
/// chunks of 20 ms or so, one of them late.
pub struct Resampler {
    filter: Option<Filter>,
}

struct Filter {
    fft: Fft<f32>,
    ratio: f64,
    /// Samples that wait for a whole chunk.
    pending: Vec<f32>,
    out: Vec<f32>,
    /// Output still to be dropped: the filter's start.
    skip: usize,
    taken: u64,
    given: u64,
}

/// The rate cannot be converted.
#[derive(Debug, Error)]
#[error("cannot convert {hz} samples a second to {to}: {reason}")]
pub struct UnsupportedRate {
    /// The rate.
    pub hz: u32,
    /// What it was to become.
    pub to: u32,
    /// What the filter says.
    pub reason: String,
}

impl Resampler {
    /// A resampler from `hz` samples a second to the recognisers' 16 000, which pass through.
    ///
    /// # Errors
    /// [`UnsupportedRate`] if no filter can be made for `hz`, such as 0.
    pub fn new(hz: u32) -> Result<Self, UnsupportedRate> {
        Self::between(hz, SampleRate::WIDEBAND)
    }

    /// A resampler from `hz` samples a second to `to`; equal ones pass through.
    ///
    /// # Errors
    /// [`UnsupportedRate`] if no filter can be made for `hz`, such as 0.
    pub fn between(hz: u32, to: SampleRate) -> Result<Self, UnsupportedRate> {
        Self::between_rates(hz, to.hz())
    }

    /// The same, to any rate.
    ///
    /// # Errors
    /// [`UnsupportedRate`] if no filter can be made for the two, such as 0.
    pub fn between_rates(hz: u32, to: u32) -> Result<Self, UnsupportedRate> {
        if hz == to {
            return Ok(Self { filter: None });
        }
        let chunk = (hz / 50).max(1) as usize;
        // One block a chunk: `Fft::new` would cut 20 ms at 48 kHz into three, and a filter that short takes away a third of
        // the band (14 dB at 3200 Hz on the way to 8 kHz).
        let window = WindowFunction::BlackmanHarris2;
        let fft = Fft::new_custom(hz as usize, to as usize, chunk, 1, 1, window, FixedSync::Input)
            .map_err(|e| UnsupportedRate { hz, to, reason: e.to_string() })?;
        Ok(Self {
            filter: Some(Filter {
                skip: fft.output_delay(),
                out: vec![0.0; fft.output_frames_max()],
                fft,
                ratio: f64::from(to) / f64::from(hz),
                pending: Vec::new(),
                taken: 0,
                given: 0,
            }),
        })
    }

    /// Take `input` (-1 to 1) and append what can be had to `output`.
    pub fn push(&mut self, input: &[f32], output: &mut Vec<f32>) {
        match &mut self.filter {
            None => output.extend_from_slice(input),
            Some(filter) => filter.push(input, output),
        }
    }

    /// The input has ended: append the rest, so that the output is as long as the input.
    pub fn finish(&mut self, output: &mut Vec<f32>) {
        if let Some(filter) = &mut self.filter {
            filter.finish(output);
        }
    }
}

impl Filter {
    fn push(&mut self, input: &[f32], output: &mut Vec<f32>) {
        self.taken += input.len() as u64;
        self.pending.extend_from_slice(input);
        let mut at = 0;
        loop {
            let chunk = self.fft.input_frames_next();
            if self.pending.len() - at < chunk {
                break;
            }
            at += self.convert(at, chunk, output);
        }
        self.pending.drain(..at);
    }

    fn finish(&mut self, output: &mut Vec<f32>) {
        let end = (self.taken as f64 * self.ratio).round() as u64;
        let before = output.len();
        while self.given < end {
            let chunk = self.fft.input_frames_next();
            self.pending.resize(chunk.max(self.pending.len()), 0.0);
            self.convert(0, chunk, output);
            self.pending.clear();
        }
        let over = (self.given - end) as usize;
        output.truncate((output.len() - over.min(output.len() - before)).max(before));
    }

    /// One chunk from `pending[at..]`. Returns how much of it was used.
    fn convert(&mut self, at: usize, chunk: usize, output: &mut Vec<f32>) -> usize {
        let frames = self.out.len();
        let (Ok(input), Ok(mut out)) = (
            SequentialSlice::new(&self.pending[at..at + chunk], 1, chunk),
            SequentialSlice::new_mut(&mut self.out, 1, frames),
        ) else {
            return chunk;
        };
        // Buffers are sized by what the filter itself asks for, which is all that it can find fault with.
        let Ok((used, made)) = self.fft.process_into_buffer(&input, &mut out, None::<&Indexing>) else {
            return chunk;
        };
        let skipped = self.skip.min(made);
        self.skip -= skipped;
        self.given += (made - skipped) as u64;
        output.extend_from_slice(&self.out[skipped..made]);
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = SampleRate::WIDEBAND.hz();

    fn tone(hz: f64, rate: u32, samples: usize) -> Vec<f32> {
        let step = hz * std::f64::consts::TAU / f64::from(rate);
        (0..samples).map(|i| (i as f64 * step).sin() as f32 * 0.5).collect()
    }

    fn resampled(hz: u32, input: &[f32], chunk: usize) -> Vec<f32> {
        let mut resampler = Resampler::new(hz).unwrap();
        let mut output = Vec::new();
        for part in input.chunks(chunk) {
            resampler.push(part, &mut output);
        }
        resampler.finish(&mut output);
        output
    }

    #[test]
    fn a_tone_stays_where_it_was_in_time() {
        for hz in [8_000, 48_000, 44_100, 11_025] {
            let output = resampled(hz, &tone(440.0, hz, hz as usize + 37), 80);
            let wanted = tone(440.0, RATE, output.len());
            assert!(output.len().abs_diff(RATE as usize + 37 * RATE as usize / hz as usize) <= 1, "{hz}");
            let worst = output[2_000..14_000]
                .iter()
                .zip(&wanted[2_000..14_000])
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            // A filter's delay need not be a whole number of samples at odd ratios; a whole one off makes 0.086.
            assert!(worst < if hz == 8_000 { 0.01 } else { 0.08 }, "{hz}: {worst}");
        }
    }

    /// Amplitude and phase of what `hz` there is in `samples` at `rate`.
    fn bin(samples: &[f32], hz: f64, rate: u32) -> (f64, f64) {
        let step = hz * std::f64::consts::TAU / f64::from(rate);
        let (mut re, mut im) = (0.0, 0.0);
        for (i, &sample) in samples.iter().enumerate() {
            re += f64::from(sample) * (i as f64 * step).cos();
            im += f64::from(sample) * (i as f64 * step).sin();
        }
        let scale = 2.0 / samples.len() as f64;
        ((re * re + im * im).sqrt() * scale, re.atan2(im))
    }

    #[test]
    fn every_rate_of_a_leg_keeps_level_place_and_length_of_tones_and_adds_nothing() {
        let rates = [8_000, 12_000, 16_000, 24_000, 48_000];
        for (from, to) in rates.iter().flat_map(|&from| rates.map(|to| (from, to))) {
            let samples = from as usize * 2 + 7;
            let expected = (samples as f64 * f64::from(to) / f64::from(from)).round() as usize;
            let highest = f64::from(from.min(to)) * 0.4;
            for hz in [100.0, 1_000.0, highest] {
                let mut resampler = Resampler::between(from, SampleRate::new(to).unwrap()).unwrap();
                let mut output = Vec::new();
                tone(hz, from, samples).chunks(333).for_each(|part| resampler.push(part, &mut output));
                resampler.finish(&mut output);
                assert_eq!(output.len(), expected, "{from} to {to}");
                // A whole second from the middle, where no end is near.
                let second = &output[to as usize / 2..][..to as usize];
                let (level, phase) = bin(second, hz, to);
                let begins = hz * 0.5 % 1.0 * std::f64::consts::TAU;
                let off = (phase - begins + std::f64::consts::PI).rem_euclid(std::f64::consts::TAU)
                    - std::f64::consts::PI;
                let samples_off = off / std::f64::consts::TAU * f64::from(to) / hz;
                assert!((level / 0.5 - 1.0).abs() < 0.01, "{from} to {to}, {hz} Hz: level {level}");
                assert!(samples_off.abs() < 0.6, "{from} to {to}, {hz} Hz: {samples_off} samples off");
                let power = second.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / f64::from(to);
                let rest = (power - level * level / 2.0).abs() / power;
                assert!(rest < 1e-4, "{from} to {to}, {hz} Hz: {} dB of something else", 10.0 * rest.log10());
            }
        }
    }

    #[test]
    fn the_size_of_the_pieces_does_not_matter() {
        let input = tone(700.0, 8_000, 4_321);
        assert_eq!(resampled(8_000, &input, 80), resampled(8_000, &input, 1_111));
    }

    #[test]
    fn sixteen_kilohertz_pass_untouched() {
        let input = tone(700.0, 16_000, 999);
        assert_eq!(resampled(16_000, &input, 160), input);
    }

    #[test]
    fn no_rate_at_all_is_refused() {
        assert!(Resampler::new(0).is_err());
    }
}
