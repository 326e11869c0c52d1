//! Whether someone speaks, frame by frame.

use earshot::Detector;

use super::RATE;

/// Samples in a frame: 16 ms at 16 kHz.
pub const FRAME: usize = 256;

/// A frame that scores this begins speech; one that scores less than the second ends it.
const ON: f32 = 0.5;
const OFF: f32 = 0.35;
/// Root mean square below which nobody speaks, whatever the score: -55 dB of full scale.
pub const FLOOR: f32 = 0.001_8;

/// Frames in `milliseconds`, rounded up.
pub const fn frames_in(milliseconds: u64) -> usize {
    (milliseconds * RATE as u64).div_ceil(1_000 * FRAME as u64) as usize
}

/// What the detector makes of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Frame {
    /// Someone speaks, or something sounds like it.
    pub voiced: bool,
    /// Root mean square, 0 to 1.
    pub rms: f32,
}

/// The detector of one leg.
#[derive(Default)]
pub struct Vad {
    detector: Box<Detector>,
    voiced: bool,
}

impl Vad {
    /// Judge the next frame.
    pub fn frame(&mut self, samples: &[f32; FRAME]) -> Frame {
        let score = self.detector.predict_f32(&samples.map(|s| s.clamp(-1.0, 1.0)));
        let rms = (samples.iter().map(|s| s * s).sum::<f32>() / FRAME as f32).sqrt();
        self.voiced = rms >= FLOOR && score >= if self.voiced { OFF } else { ON };
        Frame { voiced: self.voiced, rms }
    }
}
