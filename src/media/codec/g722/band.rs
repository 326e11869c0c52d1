//! The ADPCM of one band: the adaptive predictor and the adaptive scale (G.722, 6.2.1.2 to 6.2.1.6 and 6.2.2).

use super::tables::{ILB, QM2, QM4, RH2, RL42, WH, WL};

/// To 16 bits.
pub fn saturate(value: i32) -> i32 {
    value.clamp(-32_768, 32_767)
}

/// State of one band. Index 0 is the present, 1 the sample before.
#[derive(Clone, Debug)]
pub struct Band {
    /// Scale factor (DETL, DETH).
    pub scale: i32,
    /// Its logarithm (NBL, NBH).
    log_scale: i32,
    /// Prediction of the whole (S), and the part of it that the zeros make (SZ).
    prediction: i32,
    zeros: i32,
    /// Reconstructed signal of the two samples before (RLT1, RLT2).
    reconstructed: [i32; 2],
    /// Partially reconstructed signal of the two samples before (PLT1, PLT2).
    partial: [i32; 2],
    /// The poles' coefficients (AL1, AL2).
    poles: [i32; 2],
    /// Quantised differences of the six samples before (DLT1 to DLT6), and the zeros' coefficients (BL1 to BL6).
    differences: [i32; 6],
    coefficients: [i32; 6],
}

impl Band {
    pub fn new(scale: i32) -> Self {
        Self {
            scale,
            log_scale: 0,
            prediction: 0,
            zeros: 0,
            reconstructed: [0; 2],
            partial: [0; 2],
            poles: [0; 2],
            differences: [0; 6],
            coefficients: [0; 6],
        }
    }

    pub fn prediction(&self) -> i32 {
        self.prediction
    }

    /// The lower band after 4-bit code `code`: INVQAL, LOGSCL, SCALEL, then the predictor.
    pub fn adapt_lower(&mut self, code: usize) {
        let difference = (self.scale * QM4[code]) >> 15;
        self.log_scale = (((self.log_scale * 127) >> 7) + WL[RL42[code]]).clamp(0, 18_432);
        self.scale = linear(self.log_scale, 8);
        self.predict(difference);
    }

    /// The upper band after 2-bit code `code`: INVQAH, LOGSCH, SCALEH, then the predictor.
    pub fn adapt_upper(&mut self, code: usize) {
        let difference = (self.scale * QM2[code]) >> 15;
        self.log_scale = (((self.log_scale * 127) >> 7) + WH[RH2[code]]).clamp(0, 22_528);
        self.scale = linear(self.log_scale, 10);
        self.predict(difference);
    }

    /// Take the quantised `difference` in, and predict the next sample (block 4).
    fn predict(&mut self, difference: i32) {
        // RECONS, PARREC.
        let reconstructed = saturate(self.prediction + difference);
        let partial = saturate(self.zeros + difference);
        let agrees_with = |before: i32| (partial < 0) == (before < 0);

        // UPPOL2.
        let doubled = saturate(self.poles[0] << 2);
        let towards = if agrees_with(self.partial[0]) { -doubled } else { doubled }.min(32_767);
        let step = if agrees_with(self.partial[1]) { 128 } else { -128 };
        let second = ((towards >> 7) + step + ((self.poles[1] * 32_512) >> 15)).clamp(-12_288, 12_288);

        // UPPOL1.
        let step = if agrees_with(self.partial[0]) { 192 } else { -192 };
        let limit = saturate(15_360 - second);
        let first = saturate(step + ((self.poles[0] * 32_640) >> 15)).clamp(-limit, limit);

        // UPZERO.
        let step = if difference == 0 { 0 } else { 128 };
        for (coefficient, &before) in self.coefficients.iter_mut().zip(&self.differences) {
            let towards = if (before < 0) == (difference < 0) { step } else { -step };
            *coefficient = saturate(towards + ((*coefficient * 32_640) >> 15));
        }

        // DELAYA.
        self.differences.copy_within(..5, 1);
        self.differences[0] = difference;
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        self.partial = [partial, self.partial[0]];
        self.poles = [first, second];

        // FILTEP, FILTEZ, PREDIC.
        let weighed = |coefficient: i32, value: i32| (coefficient * saturate(2 * value)) >> 15;
        let poles = saturate(
            weighed(self.poles[0], self.reconstructed[0]) + weighed(self.poles[1], self.reconstructed[1]),
        );
        let zeros = self.coefficients.iter().zip(&self.differences).map(|(&b, &d)| weighed(b, d));
        self.zeros = saturate(zeros.sum());
        self.prediction = saturate(poles + self.zeros);
    }
}

/// The scale whose logarithm is `log` (SCALEL, SCALEH): a table of one octave, shifted.
fn linear(log: i32, octaves: i32) -> i32 {
    let mantissa = ILB[(log >> 6 & 31) as usize];
    let shift = octaves - (log >> 11);
    let scale = if shift < 0 { mantissa << -shift } else { mantissa >> shift };
    scale << 2
}
