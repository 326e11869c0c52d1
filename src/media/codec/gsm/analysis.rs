//! What the encoder does first: offset compensation, pre-emphasis, and the log-area ratios (4.2.1 to 4.2.7).

use super::FRAME_SAMPLES;
use super::arithmetic::{abs, add, div, mult, mult_r, norm};

/// Quantiser of the log-area ratios: step, offset, least and largest code (table 4.1).
const QUANTISE: [(i16, i16, i16, i16); 8] = [
    (20_480, 0, -32, 31),
    (20_480, 0, -32, 31),
    (20_480, 2_048, -16, 15),
    (20_480, -2_560, -16, 15),
    (13_964, 94, -8, 7),
    (15_360, -1_792, -8, 7),
    (8_534, -341, -4, 3),
    (9_036, -1_144, -4, 3),
];

/// The high-pass filter against a constant offset, and the pre-emphasis.
#[derive(Clone, Debug, Default)]
pub struct Offset {
    /// The sample before (z1).
    before: i16,
    /// The recursive part (L_z2).
    recursive: i32,
    /// The filtered sample before (mp).
    filtered: i16,
}

impl Offset {
    /// Downscale, compensate the offset, emphasise (4.2.1 to 4.2.3).
    pub fn compensate(&mut self, pcm: &[i16; FRAME_SAMPLES]) -> [i16; FRAME_SAMPLES] {
        pcm.map(|sample| {
            let sample = sample >> 3 << 2;
            let step = sample - std::mem::replace(&mut self.before, sample);
            // A product of 31 by 16 bits, in two parts.
            let high = (self.recursive >> 15) as i16;
            let low = self.recursive.wrapping_sub(i32::from(high) << 15) as i16;
            let forward = (i32::from(step) << 15).wrapping_add(i32::from(mult_r(low, 32_735)));
            self.recursive = (i32::from(high) * 32_735).saturating_add(forward);
            let emphasis = mult_r(self.filtered, -28_180);
            self.filtered = (self.recursive.saturating_add(16_384) >> 15) as i16;
            add(self.filtered, emphasis)
        })
    }
}

/// The coded log-area ratios of `signal`, which loses its lowest bits if it is loud, as the recommendation has it.
pub fn ratios(signal: &mut [i16; FRAME_SAMPLES]) -> [u8; 8] {
    let reflections = reflections(&autocorrelation(signal));
    std::array::from_fn(|i| {
        let (step, offset, least, largest) = QUANTISE[i];
        let coded = add(add(mult(step, log_area_ratio(reflections[i])), offset), 256) >> 9;
        (coded.clamp(least, largest) - least) as u8
    })
}

/// Autocorrelation at lags 0 to 8 (4.2.4).
fn autocorrelation(signal: &mut [i16; FRAME_SAMPLES]) -> [i32; 9] {
    let peak = signal.iter().map(|&sample| abs(sample)).max().unwrap_or(0);
    let shift = if peak == 0 { 0 } else { 4_u32.saturating_sub(norm(i32::from(peak) << 16)) };
    if shift > 0 {
        let factor = 16_384 >> (shift - 1);
        signal.iter_mut().for_each(|sample| *sample = mult_r(*sample, factor));
    }
    let sums = std::array::from_fn(|lag| {
        let products = signal.iter().zip(&signal[lag..]).map(|(&a, &b)| i32::from(a) * i32::from(b));
        products.sum::<i32>() << 1
    });
    if shift > 0 {
        signal.iter_mut().for_each(|sample| *sample <<= shift);
    }
    sums
}

/// Reflection coefficients by Schur's recursion in 16 bits (4.2.5).
fn reflections(correlation: &[i32; 9]) -> [i16; 8] {
    let mut reflections = [0; 8];
    if correlation[0] == 0 {
        return reflections;
    }
    let shift = norm(correlation[0]);
    let scaled = correlation.map(|sum| (sum << shift >> 16) as i16);
    let (mut p, mut k) = (scaled, scaled);
    for (n, place) in reflections.iter_mut().enumerate() {
        let size = abs(p[1]);
        if p[0] < size {
            break;
        }
        let quotient = div(size, p[0]);
        let reflection = if p[1] > 0 { -quotient } else { quotient };
        *place = reflection;
        p[0] = add(p[0], mult_r(p[1], reflection));
        for m in 1..8 - n {
            let next = p[m + 1];
            p[m] = add(next, mult_r(k[m], reflection));
            k[m] = add(k[m], mult_r(next, reflection));
        }
    }
    reflections
}

/// The log-area ratio, by three straight lines (4.2.6).
fn log_area_ratio(reflection: i16) -> i16 {
    let size = abs(reflection);
    let ratio = match size {
        ..22_118 => size >> 1,
        22_118..31_130 => size - 11_059,
        _ => (size - 26_112) << 2,
    };
    if reflection < 0 { -ratio } else { ratio }
}
