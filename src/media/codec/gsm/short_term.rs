//! Short-term prediction: a lattice of eight reflection coefficients, interpolated at the beginning of a frame (4.2.8 to
//! 4.2.10, 4.3.3, 4.3.4).

use super::FRAME_SAMPLES;
use super::arithmetic::{add, mult_r, saturated, sub, wide_mult_r};

/// Where coded log-area ratios begin, twice the offset of the quantiser, and the inverse of its step (tables 4.1, 4.2).
const DEQUANTISE: [(i16, i16, i16); 8] = [
    (-32, 0, 13_107),
    (-32, 0, 13_107),
    (-16, 4_096, 13_107),
    (-16, -5_120, 13_107),
    (-8, 188, 19_223),
    (-8, -3_584, 17_476),
    (-4, -682, 31_454),
    (-4, -2_288, 29_708),
];

type Eight = [i16; 8];

/// The lattice, either way.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The decoded log-area ratios of the frame before.
    before: Eight,
    /// Delays of the analysis (u), or of the synthesis (v).
    delays: [i16; 9],
}

impl Filter {
    /// Turn the `signal` into its residual, in place.
    pub fn analyse(&mut self, coded: &[u8; 8], signal: &mut [i16; FRAME_SAMPLES]) {
        let mut delays = self.delays.map(i32::from);
        for (range, reflections) in self.stages(coded) {
            for sample in &mut signal[range] {
                let mut value = i32::from(*sample);
                let mut saved = value;
                for (reflection, delay) in reflections.iter().zip(&mut delays) {
                    let delayed = std::mem::replace(delay, saved);
                    saved = saturated(delayed + wide_mult_r(*reflection, value));
                    value = saturated(value + wide_mult_r(*reflection, delayed));
                }
                *sample = value as i16;
            }
        }
        self.delays = delays.map(|delay| delay as i16);
    }

    /// Turn the `residual` back into the signal. `finish` is what else is done with each sample: beside the lattice, whose steps wait for
    /// each other, it costs no time.
    pub fn synthesise(
        &mut self,
        coded: &[u8; 8],
        residual: &[i16; FRAME_SAMPLES],
        out: &mut [i16; FRAME_SAMPLES],
        mut finish: impl FnMut(i32) -> i16,
    ) {
        let mut delays = self.delays.map(i32::from);
        for (range, reflections) in self.stages(coded) {
            for (out, residual) in out[range.clone()].iter_mut().zip(&residual[range]) {
                let mut value = i32::from(*residual);
                for (i, &reflection) in reflections.iter().enumerate().rev() {
                    value = saturated(value - wide_mult_r(reflection, delays[i]));
                    delays[i + 1] = saturated(delays[i] + wide_mult_r(reflection, value));
                }
                delays[0] = value;
                *out = finish(value);
            }
        }
        self.delays = delays.map(|delay| delay as i16);
    }

    /// The reflection coefficients of the four stretches of a frame (4.2.8, 4.2.9).
    fn stages(&mut self, coded: &[u8; 8]) -> [(std::ops::Range<usize>, [i32; 8]); 4] {
        let ratios: Eight = std::array::from_fn(|i| {
            let (begin, twice_offset, inverse) = DEQUANTISE[i];
            let scaled = sub(add(i16::from(coded[i]), begin) << 10, twice_offset);
            let ratio = mult_r(inverse, scaled);
            add(ratio, ratio)
        });
        let before = std::mem::replace(&mut self.before, ratios);
        let mix =
            |mixed: fn(i16, i16) -> i16| std::array::from_fn(|i| reflection(mixed(before[i], ratios[i])));
        [
            (0..13, mix(|before, now| add(add(before >> 2, now >> 2), before >> 1))),
            (13..27, mix(|before, now| add(before >> 1, now >> 1))),
            (27..40, mix(|before, now| add(add(before >> 2, now >> 2), now >> 1))),
            (40..FRAME_SAMPLES, mix(|_, now| now)),
        ]
    }
}

/// The reflection coefficient of a log-area ratio (4.2.9.2), a word that is not -32,768.
fn reflection(ratio: i16) -> i32 {
    let size = ratio.saturating_abs();
    let reflection = match size {
        ..11_059 => size << 1,
        11_059..20_070 => size + 11_059,
        _ => add(size >> 2, 26_112),
    };
    i32::from(if ratio < 0 { -reflection } else { reflection })
}
