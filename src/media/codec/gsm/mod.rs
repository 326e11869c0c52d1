//! GSM 06.10 full rate (ETSI EN 300 961): 13 kbit/s, frames of 160 samples at 8000 a second.
//!
//! Residual pulse excitation with long-term prediction, in the recommendation's own 16-bit arithmetic, so that any two
//! implementations agree to the bit. Checked against libgsm, through sox: both directions are the same to the bit.
//! The order of computation follows libgsm: copyright 1992, 1993, 1994 by Jutta Degener and Carsten Bormann, Technische
//! Universitaet Berlin, who permit any use, free of charge, provided that this notice stays.
//!
//! Numbers in brackets (4.2.5, say) are sections of the recommendation.

mod analysis;
mod arithmetic;
mod frame;
mod long_term;
mod pulses;
mod short_term;

use arithmetic::{add, saturated, wide_mult_r};
pub use frame::{BadFrame, Frame, PAIR_BYTES, RTP_BYTES};
use long_term::HISTORY;

/// Samples of a frame.
pub const FRAME_SAMPLES: usize = 160;
/// Samples of one of its four parts.
const PART: usize = 40;

/// A decoder. Some 300 bytes, copied at will: a copy is a snapshot.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The reconstructed short-term residual of the 120 samples before (drp).
    residual: [i16; HISTORY],
    /// The last lag that was possible (nrp).
    lag: usize,
    synthesis: short_term::Filter,
    /// De-emphasis (msr).
    emphasis: i16,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { residual: [0; HISTORY], lag: 40, synthesis: short_term::Filter::default(), emphasis: 0 }
    }
}

impl Decoder {
    /// Decode one frame (4.3).
    pub fn decode(&mut self, frame: &Frame, out: &mut [i16; FRAME_SAMPLES]) {
        let mut residual = [0; FRAME_SAMPLES];
        for (part, out) in frame.parts.iter().zip(residual.as_chunks_mut::<PART>().0) {
            let excitation = pulses::decode(part);
            *out = long_term::synthesise(&mut self.residual, &mut self.lag, part, &excitation);
        }
        let mut emphasis = i32::from(self.emphasis);
        self.synthesis.synthesise(&frame.ratios, &residual, out, |sample| {
            // Post-processing: de-emphasis, upscaling, truncation to 13 bits (4.3.5 to 4.3.7).
            emphasis = saturated(sample + wide_mult_r(emphasis, 28_180));
            saturated(emphasis + emphasis) as i16 & !7
        });
        self.emphasis = emphasis as i16;
    }
}

/// An encoder.
#[derive(Clone, Debug)]
pub struct Encoder {
    offset: analysis::Offset,
    analysis: short_term::Filter,
    /// The reconstructed short-term residual of the 120 samples before (dp).
    residual: [i16; HISTORY],
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            offset: analysis::Offset::default(),
            analysis: short_term::Filter::default(),
            residual: [0; HISTORY],
        }
    }
}

impl Encoder {
    /// Encode one frame (4.2). The lowest three bits of a sample do not count.
    pub fn encode(&mut self, pcm: &[i16; FRAME_SAMPLES]) -> Frame {
        let mut signal = self.offset.compensate(pcm);
        let mut frame = Frame { ratios: analysis::ratios(&mut signal), ..Frame::default() };
        self.analysis.analyse(&frame.ratios, &mut signal);
        for (part, signal) in frame.parts.iter_mut().zip(signal.as_chunks::<PART>().0) {
            let (predicted, remainder) = long_term::analyse(&self.residual, signal, part);
            let excitation = pulses::encode(&remainder, part);
            long_term::remember(
                &mut self.residual,
                &std::array::from_fn(|k| add(excitation[k], predicted[k])),
            );
        }
        frame
    }
}

#[cfg(test)]
mod tests;
