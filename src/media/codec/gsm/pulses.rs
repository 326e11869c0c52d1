//! The pulses that excite the filters: weighting, choice of the grid, adaptive quantisation (4.2.13 to 4.2.17).

use super::PART;
use super::arithmetic::{abs, add, mult, mult_r};
use super::frame::Part;

const PULSES: usize = 13;
/// The weighting filter (table 4.4), scaled by 2^13.
const WEIGHTS: [i32; 11] = [-134, -374, 0, 2_054, 5_741, 8_192, 5_741, 2_054, 0, -374, -134];
/// Inverse mantissas, and mantissas, of the largest pulse (tables 4.5, 4.6).
const INVERSES: [i16; 8] = [29_128, 26_215, 23_832, 21_846, 20_165, 18_725, 17_476, 16_384];
const MANTISSAS: [i16; 8] = [18_431, 20_479, 22_527, 24_575, 26_623, 28_671, 30_719, 32_767];

/// Code `remainder` into `part`, and return what a decoder makes of that.
pub fn encode(remainder: &[i16; PART], part: &mut Part) -> [i16; PART] {
    let weighted = weigh(remainder);
    let energy =
        |grid: usize| (0..PULSES).map(|i| i32::from(weighted[grid + 3 * i] >> 2).pow(2)).sum::<i32>();
    // The first of the largest.
    let grid = (1..4).fold(0, |best, grid| if energy(grid) > energy(best) { grid } else { best });
    let pulses: [i16; PULSES] = std::array::from_fn(|i| weighted[grid + 3 * i]);

    let peak = pulses.iter().map(|&pulse| abs(pulse)).max().unwrap_or(0);
    // A step of the logarithm for each bit from the tenth on, six at most.
    let octave = (16 - (peak >> 9).leading_zeros() as i16).min(6);
    part.grid = grid as u8;
    part.peak = ((peak >> (octave + 5)) + (octave << 3)) as u8;
    let (exponent, mantissa) = exponent_and_mantissa(part.peak);
    for (coded, pulse) in part.pulses.iter_mut().zip(pulses) {
        let scaled = mult(pulse << (6 - exponent), INVERSES[mantissa]) >> 12;
        *coded = (scaled + 4) as u8 & 7;
    }
    decode(part)
}

/// The excitation that `part` stands for.
pub fn decode(part: &Part) -> [i16; PART] {
    let (exponent, mantissa) = exponent_and_mantissa(part.peak & 0x3f);
    let shift = 6 - exponent;
    let half = if shift == 0 { 0 } else { 1_i16 << (shift - 1) };
    let mut excitation = [0; PART];
    for (i, &coded) in part.pulses.iter().enumerate() {
        let signed = (i16::from(coded & 7) * 2 - 7) << 12;
        let pulse = add(mult_r(MANTISSAS[mantissa], signed), half) >> shift;
        excitation[usize::from(part.grid & 3) + 3 * i] = pulse;
    }
    excitation
}

/// The weighting filter (4.2.13).
fn weigh(signal: &[i16; PART]) -> [i16; PART] {
    let mut padded = [0; PART + 10];
    padded[5..PART + 5].copy_from_slice(signal);
    std::array::from_fn(|k| {
        let sum: i32 = WEIGHTS.iter().zip(&padded[k..]).map(|(&h, &sample)| h * i32::from(sample)).sum();
        ((sum + 4_096) >> 13).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
    })
}

/// Exponent, -4 to 6, and mantissa of the coded largest pulse (4.2.15).
fn exponent_and_mantissa(peak: u8) -> (i16, usize) {
    let peak = i16::from(peak);
    let mut exponent = if peak > 15 { (peak >> 3) - 1 } else { 0 };
    let mut mantissa = peak - (exponent << 3);
    if mantissa == 0 {
        return (-4, 7);
    }
    while mantissa <= 7 {
        mantissa = mantissa << 1 | 1;
        exponent -= 1;
    }
    (exponent, (mantissa - 8) as usize)
}
