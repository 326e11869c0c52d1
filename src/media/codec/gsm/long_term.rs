//! Long-term prediction: the pitch (4.2.11, 4.2.12, 4.3.2).

use super::PART;
use super::arithmetic::{abs, add, mult, mult_r, norm, sub};
use super::frame::Part;

/// The longest lag.
pub const HISTORY: usize = 120;
const SHORTEST: usize = 40;
/// Decision levels of the gain (table 4.3a); what lies above the last is the fourth.
const DECISIONS: [i16; 3] = [6_554, 16_384, 26_214];
/// The gains (table 4.3b).
const GAINS: [i16; 4] = [3_277, 11_469, 21_299, 32_767];

/// Find lag and gain for `signal` and note them in `part`. Returns what they predict, and what remains.
pub fn analyse(
    history: &[i16; HISTORY],
    signal: &[i16; PART],
    part: &mut Part,
) -> ([i16; PART], [i16; PART]) {
    let (lag, gain) = parameters(history, signal);
    (part.lag, part.gain) = (lag as u8, gain);
    let predicted: [i16; PART] =
        std::array::from_fn(|k| mult_r(GAINS[usize::from(gain)], history[HISTORY + k - lag]));
    (predicted, std::array::from_fn(|k| sub(signal[k], predicted[k])))
}

/// Add what lag and gain predict to the `excitation`, and remember the sum. `last` is the last lag that was possible,
/// to be used in place of an impossible one.
pub fn synthesise(
    history: &mut [i16; HISTORY],
    last: &mut usize,
    part: &Part,
    excitation: &[i16; PART],
) -> [i16; PART] {
    let lag = usize::from(part.lag);
    if (SHORTEST..=HISTORY).contains(&lag) {
        *last = lag;
    }
    let gain = GAINS[usize::from(part.gain & 3)];
    let sum = std::array::from_fn(|k| add(excitation[k], mult_r(gain, history[HISTORY + k - *last])));
    remember(history, &sum);
    sum
}

/// Shift `newest` into the history.
pub fn remember(history: &mut [i16; HISTORY], newest: &[i16; PART]) {
    history.copy_within(PART.., 0);
    history[HISTORY - PART..].copy_from_slice(newest);
}

/// The lag at which the history is most like `signal`, and the coded gain (4.2.11).
fn parameters(history: &[i16; HISTORY], signal: &[i16; PART]) -> (usize, u8) {
    let peak = signal.iter().map(|&sample| abs(sample)).max().unwrap_or(0);
    let headroom = if peak == 0 { 0 } else { norm(i32::from(peak) << 16) };
    let shift = 6 - headroom.min(6);
    let scaled = signal.map(|sample| i32::from(sample >> shift));

    let (mut lag, mut likeness) = (SHORTEST, 0);
    for candidate in SHORTEST..=HISTORY {
        let past = &history[HISTORY - candidate..];
        let product: i32 = scaled.iter().zip(past).map(|(&a, &b)| a * i32::from(b)).sum();
        if product > likeness {
            (lag, likeness) = (candidate, product);
        }
    }
    let likeness = (likeness << 1) >> (6 - shift);
    let past = &history[HISTORY - lag..HISTORY - lag + PART];
    let power = past.iter().map(|&sample| i32::from(sample >> 3).pow(2)).sum::<i32>() << 1;
    if likeness <= 0 {
        return (lag, 0);
    }
    if likeness >= power {
        return (lag, 3);
    }
    let shift = norm(power);
    let (likeness, power) = ((likeness << shift >> 16) as i16, (power << shift >> 16) as i16);
    let gain = DECISIONS.iter().take_while(|&&level| likeness > mult(power, level)).count();
    (lag, gain as u8)
}
