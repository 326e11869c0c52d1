//! Whether someone speaks, frame by frame.
//!
//! In two stages. [`floor`] asks whether anything is louder than the noise of the line, which costs nothing, and is no for most
//! of most legs' time; [`silero`] then tells voices from everything else. A silent leg pays for the first alone.

pub mod floor;
pub mod silero;

use self::floor::Floor;
use self::silero::Silero;
use super::RATE;

/// Samples in a frame: 16 ms at 16 kHz.
pub const FRAME: usize = 256;
/// Samples that are judged at a time: 32 ms, which is what the network was taught.
pub const WINDOW: usize = silero::WINDOW;
/// Frames in them.
pub const FRAMES: usize = WINDOW / FRAME;

/// A window that scores this begins speech; one that scores less than the second ends it (the network's makers' own).
const ON: f32 = 0.5;
const OFF: f32 = 0.35;
/// Root mean square below which nobody speaks, whatever the score: -55 dB of full scale.
pub const FLOOR: f32 = 0.001_8;
/// So many windows after the last that was louder than the noise are looked at, too: 0.5 s, a syllable that is drowned between two that
/// are not, and the end of a word.
const LINGERS: usize = 16;

/// Frames in `milliseconds`, rounded up.
pub const fn frames_in(milliseconds: u64) -> usize {
    (milliseconds * RATE as u64).div_ceil(1_000 * FRAME as u64) as usize
}

/// What the detector makes of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Frame {
    /// Someone speaks, or something sounds like it.
    pub voiced: bool,
    /// How likely that is, 0 to 1; 0 where it was not looked at, for nothing is louder than the noise.
    pub score: f32,
    /// Root mean square, 0 to 1.
    pub rms: f32,
}

/// The detector of one leg.
#[derive(Default)]
pub struct Vad {
    floor: Floor,
    silero: Box<Silero>,
    /// Windows that are looked at, whatever comes.
    looks: usize,
    voiced: bool,
}

impl Vad {
    /// Judge the next frames.
    pub fn window(&mut self, samples: &[f32; WINDOW]) -> [Frame; FRAMES] {
        let mut frames = [Frame::default(); FRAMES];
        if !samples.iter().all(|sample| sample.is_finite()) {
            // Files may hold numbers that are none: nobody says them, and what follows is heard as if it were the first.
            (*self.silero, self.voiced) = (Silero::default(), false);
            return frames;
        }
        for (frame, samples) in frames.iter_mut().zip(samples.as_chunks::<FRAME>().0) {
            frame.rms = rms(samples);
            if frame.rms >= FLOOR {
                self.floor.frame(frame.rms);
            } else {
                self.floor.silence();
            }
        }
        let loud = rms(samples);
        self.looks = self.looks.saturating_sub(1);
        if loud >= FLOOR && self.floor.is_exceeded(loud) {
            self.looks = LINGERS;
        }
        let score = if self.looks > 0 {
            self.silero.score(samples)
        } else {
            self.silero.skip(samples);
            0.0
        };
        self.voiced = score >= if self.voiced { OFF } else { ON };
        for frame in &mut frames {
            (frame.score, frame.voiced) = (score, self.voiced && frame.rms >= FLOOR);
        }
        frames
    }
}

fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt()
}

#[cfg(test)]
mod tests;
