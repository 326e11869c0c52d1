//! G.722 at 64 kbit/s (ITU-T G.722, mode 1): 7 kHz of audio at 16 000 samples a second, two samples a byte.
//!
//! Two bands of 8 kHz each, split by a quadrature mirror filter; ADPCM with 6 bits a sample in the lower band, 2 in the
//! upper one. All arithmetic is the recommendation's 16-bit one, saturating where it says so. The names in capitals are
//! its blocks (6.2).
//!
//! On RTP the clock is 8000 a second although the audio has 16 000 samples (RFC 3551, 4.5.2). A decoder reads any number
//! of bytes: packets need no framing. All other rates (48 and 56 kbit/s) are the same code with bits stolen; nothing on
//! RTP signals them, and Asterisk does not use them.
//!
//! Bit for bit the same, in both directions, as spandsp's implementation, which passes ITU-T's test sequences
//! (G.722 Appendix II) and is what Asterisk's codec_g722 is made of. FFmpeg's decoder is not quite: it limits
//! the sum of prediction and difference in other places. See the tests for how far it is off.

mod band;
mod tables;

use band::{Band, saturate};

/// A decoder. Small (some 500 bytes) and copied at will: a copy is a snapshot.
#[derive(Clone, Debug)]
pub struct Decoder {
    low: Band,
    high: Band,
    history: [i32; 24],
}

/// An encoder.
#[derive(Clone, Debug)]
pub struct Encoder {
    low: Band,
    high: Band,
    history: [i32; 24],
}

impl Default for Decoder {
    fn default() -> Self {
        Self { low: Band::new(32), high: Band::new(8), history: [0; 24] }
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self { low: Band::new(32), high: Band::new(8), history: [0; 24] }
    }
}

impl Decoder {
    /// Decode `payload` into `out`, two samples a byte, as far as both go; returns the samples made.
    pub fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> usize {
        let pairs = out.as_chunks_mut::<2>().0.iter_mut().zip(payload);
        let made = 2 * pairs.len();
        for (pair, &code) in pairs {
            *pair = self.pair(code);
        }
        made
    }

    fn pair(&mut self, code: u8) -> [i16; 2] {
        let (lower, upper) = (usize::from(code & 0x3f), usize::from(code >> 6));
        // INVQBL, RECONS, LIMIT: the output takes all 6 bits, the adaptation only the upper 4 (INVQAL).
        let fine = (self.low.scale * tables::QM6[lower]) >> 15;
        let low = (self.low.prediction() + fine).clamp(-16_384, 16_383);
        self.low.adapt_lower(lower >> 2);
        let difference = (self.high.scale * tables::QM2[upper]) >> 15;
        let high = (self.high.prediction() + difference).clamp(-16_384, 16_383);
        self.high.adapt_upper(upper);

        // The receiving filter (block RECA, RECB and the two accumulators).
        self.history.copy_within(2.., 0);
        self.history[22] = low + high;
        self.history[23] = low - high;
        let (even, odd) = filter(&self.history);
        [saturate(odd >> 11) as i16, saturate(even >> 11) as i16]
    }
}

impl Encoder {
    /// Append the code of `pcm`, a byte for two samples. An odd sample at the end is left out.
    pub fn encode(&mut self, pcm: &[i16], payload: &mut Vec<u8>) {
        payload.extend(pcm.as_chunks::<2>().0.iter().map(|pair| self.code(*pair)));
    }

    fn code(&mut self, [first, second]: [i16; 2]) -> u8 {
        self.history.copy_within(2.., 0);
        self.history[22] = i32::from(first);
        self.history[23] = i32::from(second);
        let (even, odd) = filter(&self.history);
        let (low, high) = ((odd + even) >> 14, (odd - even) >> 14);

        // SUBTRA, QUANTL.
        let difference = saturate(low - self.low.prediction());
        let size = if difference < 0 { -(difference + 1) } else { difference };
        let scale = self.low.scale;
        let level = (1..30).find(|&i| size < (tables::Q6[i] * scale) >> 12).unwrap_or(30);
        let lower = if difference < 0 { tables::ILN[level] } else { tables::ILP[level] };
        self.low.adapt_lower(usize::from(lower >> 2));

        // SUBTRA, QUANTH.
        let difference = saturate(high - self.high.prediction());
        let size = if difference < 0 { -(difference + 1) } else { difference };
        let is_outer = size >= (tables::Q2 * self.high.scale) >> 12;
        let upper = match (difference < 0, is_outer) {
            (true, false) => 1,
            (true, true) => 0,
            (false, false) => 3,
            (false, true) => 2,
        };
        self.high.adapt_upper(usize::from(upper));
        upper << 6 | lower
    }
}

/// The quadrature mirror filter: sums over the even places and over the odd ones.
fn filter(history: &[i32; 24]) -> (i32, i32) {
    let (mut even, mut odd) = (0, 0);
    for (i, pair) in history.as_chunks::<2>().0.iter().enumerate() {
        even += pair[0] * tables::QMF[i];
        odd += pair[1] * tables::QMF[11 - i];
    }
    (even, odd)
}

#[cfg(test)]
mod tests;
