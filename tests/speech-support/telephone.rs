//! Sounds of telephone networks that are nobody's speech, all of them through G.711 mu-law at 8 kHz.
//!
//! Frequencies and cadences: ITU-T E.180 supplement 2 (various tones used in national networks), E.180 and E.182 (special
//! information tone), Q.23 (DTMF), T.30 (CNG, CED); levels are those at which a subscriber hears them.

#![allow(dead_code, reason = "each user needs a part of it")]

use std::f64::consts::TAU;

use sidetone::media::codec::Codec;

/// Samples a second of everything here.
pub const RATE: usize = 8_000;
/// Level of a full-scale sine in mu-law (ITU-T G.711), dBm0.
const FULL_SCALE_DBM0: f64 = 3.17;
/// Its peak in 16-bit PCM.
const FULL_SCALE: f64 = 32_124.0;

/// A tone: what sounds for how many milliseconds (0 Hz: nothing), over and over.
pub struct Tone {
    /// What it is, and where.
    pub name: &'static str,
    /// The steps of its cadence: frequencies that sound at once, and milliseconds.
    pub cadence: &'static [(&'static [f64], u32)],
}

const fn tone(name: &'static str, cadence: &'static [(&'static [f64], u32)]) -> Tone {
    Tone { name, cadence }
}

/// Tones that a party hears before, between and behind conversations.
pub const TONES: &[Tone] = &[
    tone("ring-back, North America", &[(&[440.0, 480.0], 2_000), (&[], 4_000)]),
    tone("ring-back, Germany and most of Europe", &[(&[425.0], 1_000), (&[], 4_000)]),
    tone(
        "ring-back, United Kingdom",
        &[(&[400.0, 450.0], 400), (&[], 200), (&[400.0, 450.0], 400), (&[], 2_000)],
    ),
    tone("ring-back, France", &[(&[440.0], 1_500), (&[], 3_500)]),
    tone("ring-back, Japan", &[(&[384.0, 400.0, 416.0], 1_000), (&[], 2_000)]),
    tone("busy, North America", &[(&[480.0, 620.0], 500), (&[], 500)]),
    tone("busy, Germany", &[(&[425.0], 480), (&[], 480)]),
    tone("busy, United Kingdom", &[(&[400.0], 375), (&[], 375)]),
    tone("busy, Italy", &[(&[425.0], 500), (&[], 500)]),
    tone("congestion, North America", &[(&[480.0, 620.0], 250), (&[], 250)]),
    tone("congestion, Germany", &[(&[425.0], 240), (&[], 240)]),
    tone("congestion, United Kingdom", &[(&[400.0], 400), (&[], 350), (&[400.0], 225), (&[], 525)]),
    tone("congestion, Brazil", &[(&[425.0], 250), (&[], 250), (&[425.0], 750), (&[], 250)]),
    tone("dial tone, North America", &[(&[350.0, 440.0], 10_000)]),
    tone("dial tone, Europe", &[(&[425.0], 10_000)]),
    tone("dial tone, France", &[(&[440.0], 10_000)]),
    tone("dial tone, Italy", &[(&[425.0], 200), (&[], 200), (&[425.0], 600), (&[], 1_000)]),
    tone("stutter dial tone", &[(&[350.0, 440.0], 100), (&[], 100)]),
    tone("special information tone", &[(&[950.0], 330), (&[1_400.0], 330), (&[1_800.0], 330), (&[], 1_000)]),
    tone("call waiting, North America", &[(&[440.0], 300), (&[], 9_700)]),
    tone("recorder warning tone", &[(&[1_400.0], 500), (&[], 4_500)]),
    tone("off-hook warning", &[(&[1_400.0, 2_060.0, 2_450.0, 2_600.0], 100), (&[], 100)]),
    tone("fax calling tone (CNG)", &[(&[1_100.0], 500), (&[], 3_000)]),
    tone("fax answering tone (CED)", &[(&[2_100.0], 3_000), (&[], 1_000)]),
    tone("voicemail beep", &[(&[1_000.0], 400), (&[], 3_000)]),
    tone("conference beeps", &[(&[500.0], 150), (&[], 50), (&[700.0], 150), (&[], 2_000)]),
    tone(
        "conference chimes",
        &[(&[660.0], 200), (&[880.0], 200), (&[], 1_500), (&[880.0], 200), (&[660.0], 200), (&[], 1_500)],
    ),
    tone("millwatt", &[(&[1_004.0], 10_000)]),
];

/// The two frequencies of a key (ITU-T Q.23).
pub fn key(digit: char) -> [f64; 2] {
    let at = "123A456B789C*0#D".find(digit).unwrap();
    [[697.0, 770.0, 852.0, 941.0][at / 4], [1_209.0, 1_336.0, 1_477.0, 1_633.0][at % 4]]
}

/// Peak of a sine at `dbm0`.
pub fn amplitude(dbm0: f64) -> f64 {
    FULL_SCALE * 10_f64.powf((dbm0 - FULL_SCALE_DBM0) / 20.0)
}

/// Sines at once, each at `dbm0`, switched on and off within 2 ms.
pub fn sines(frequencies: &[f64], dbm0: f64, samples: usize) -> Vec<f64> {
    let wave = |n: usize, hz: &f64| (n as f64 * hz * TAU / RATE as f64).sin() * amplitude(dbm0);
    let edge = |n: usize| (n.min(samples - 1 - n) as f64 / 16.0).min(1.0);
    (0..samples).map(|n| edge(n) * frequencies.iter().map(|hz| wave(n, hz)).sum::<f64>()).collect()
}

impl Tone {
    /// `samples` of it, each frequency at `dbm0`.
    pub fn sound(&self, dbm0: f64, samples: usize) -> Vec<i16> {
        let mut out = Vec::new();
        for (frequencies, ms) in self.cadence.iter().cycle() {
            if out.len() >= samples {
                break;
            }
            out.extend(sines(frequencies, dbm0, *ms as usize * RATE / 1_000));
        }
        out.truncate(samples);
        line(&out, 1)
    }
}

/// Keys pressed for `on` and released for `off` milliseconds, the low group at `low` dBm0 and the high one at `high`.
pub fn dialled(digits: &str, on: usize, off: usize, low: f64, high: f64) -> Vec<i16> {
    let (on, off) = (on * RATE / 1_000, off * RATE / 1_000);
    let press = |digit: char| {
        let [a, b] = key(digit);
        let (a, b) = (sines(&[a], low, on), sines(&[b], high, on));
        let both: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        [both, vec![0.0; off]].concat()
    };
    line(&digits.chars().flat_map(press).collect::<Vec<_>>(), 2)
}

/// How a noise's power falls with frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Not at all.
    White,
    /// 3 dB an octave.
    Pink,
    /// 6 dB an octave above 300 Hz or so, as comfort noise and rooms have it.
    Room,
}

/// Noise of this level (root mean square, dBm0), for ever different by `seed`.
pub fn noise(colour: Colour, dbm0: f64, samples: usize, seed: u64) -> Vec<i16> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut rows = [0.0; 12];
    let mut low = 0.0;
    let mut next = |n: usize| {
        let white = random.gaussian();
        match colour {
            Colour::White => white,
            Colour::Pink => {
                // Voss and McCartney: row k changes every 2^k samples.
                rows[(n.trailing_zeros() as usize).min(rows.len() - 1)] = white;
                rows.iter().sum::<f64>() + random.gaussian()
            }
            Colour::Room => {
                low += 0.21 * (white - low);
                low
            }
        }
    };
    let raw: Vec<f64> = (1..=samples).map(&mut next).collect();
    let rms = (raw.iter().map(|x| x * x).sum::<f64>() / samples as f64).sqrt();
    let gain = amplitude(dbm0) / std::f64::consts::SQRT_2 / rms;
    coded(&raw.iter().map(|x| x * gain).collect::<Vec<_>>())
}

/// xorshift64.
pub struct Random(pub u64);

impl Random {
    /// -1 to 1.
    pub fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    /// Normally distributed, nearly (sum of twelve), variance 1.
    pub fn gaussian(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() / 2.0
    }
}

/// Through mu-law and back.
pub fn coded(pcm: &[f64]) -> Vec<i16> {
    let words: Vec<i16> = pcm.iter().map(|x| x.round().clamp(-32_768.0, 32_767.0) as i16).collect();
    let mut payload = Vec::new();
    Codec::Ulaw.encode(&words, &mut payload);
    (0..words.len()).map(|at| Codec::Ulaw.decode(&payload, at)).collect()
}

/// With the noise of a line at -65 dBm0, through mu-law and back.
fn line(pcm: &[f64], seed: u64) -> Vec<i16> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let level = amplitude(-65.0) / std::f64::consts::SQRT_2;
    coded(&pcm.iter().map(|x| x + level * random.gaussian()).collect::<Vec<_>>())
}

/// Both at once, the second times `gain`; as long as the first.
pub fn mixed(a: &[i16], b: &[i16], gain: f64) -> Vec<i16> {
    let b = b.iter().map(|&s| f64::from(s) * gain).chain(std::iter::repeat(0.0));
    coded(&a.iter().zip(b).map(|(&a, b)| f64::from(a) + b).collect::<Vec<_>>())
}

/// Root mean square.
pub fn rms(pcm: &[i16]) -> f64 {
    (pcm.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / pcm.len().max(1) as f64).sqrt()
}

/// A person who hums: a glottal wave whose pitch drifts and trembles as no generator's does (about 1 % from period to period
/// and 3 % slowly), behind closed lips, so that little but the lowest harmonics comes through; it swells for 80 ms and dies away for 150.
pub fn hum(pitch: f64, dbm0: f64, samples: usize, seed: u64) -> Vec<i16> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut phase, mut drift, mut tremble) = (0.0, 0.0, 0.0);
    let raw: Vec<f64> = (0..samples)
        .map(|n| {
            let t = n as f64 / RATE as f64;
            drift += 0.000_5 * (random.gaussian() - 0.02 * drift);
            let hz = pitch * (1.0 + 0.01 * tremble + 0.02 * (TAU * 4.7 * t).sin() + 0.02 * drift - 0.05 * t);
            let before = phase;
            phase += hz / RATE as f64;
            if phase.floor() > f64::floor(before) {
                tremble = random.gaussian();
            }
            (1..=8).map(|k| (TAU * phase * f64::from(k)).sin() / f64::from(k).powi(2)).sum::<f64>()
                + 0.02 * random.gaussian()
        })
        .collect();
    let rms = (raw.iter().map(|x| x * x).sum::<f64>() / samples as f64).sqrt();
    let gain = amplitude(dbm0) / std::f64::consts::SQRT_2 / rms;
    let seconds = |n: usize| n as f64 / RATE as f64;
    let swell = |n: usize| (seconds(n) / 0.08).min(seconds(samples - n) / 0.15).min(1.0).powi(2);
    line(&raw.iter().enumerate().map(|(n, x)| x * gain * swell(n)).collect::<Vec<_>>(), seed)
}
