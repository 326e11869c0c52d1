//! Tones of the network: ring-back, busy, congestion, dial tone, special information, fax, beeps.
//!
//! Countries have hundreds of them (ITU-T E.180 supplement 2), so there is no table: a tone is a few sines that stay where
//! they are. No voice is: with fewer than four partials it hums, and then its lowest one is below 300 Hz, where no tone is,
//! or it trembles.

use super::spectrum::{Peak, Peaks};

/// The sines of a tone at most: an off-hook warning has four.
const SINES: usize = 4;
/// What they hold of the power of a window, at least. At -35 dBm0 over a line's noise it is still 0.99; what lies at the edge
/// of a tone, half silence, has this much.
const PURE: f32 = 0.9;
/// A sine counts from this share on.
const AUDIBLE: f32 = 0.02;
/// The lowest tones of any country have 330 Hz or so.
const LOWEST: f32 = 300.0;
/// A sine stays within so many Hz from one frame to the next; interpolation is good to a tenth of that.
const DRIFT: f32 = 2.5;
/// So many frames make a tone: with the 64 ms that the first one looks back on, 96 ms of it.
const ENOUGH: usize = 3;
/// Frames before the first pure one that belong to the tone already: their windows still held silence.
const LEAD: usize = 3;

/// Finds tones, frame by frame.
#[derive(Debug, Default)]
pub struct Tones {
    before: Option<Peaks>,
    run: usize,
}

impl Tones {
    /// Take the next frame's peaks. How many of the newest frames, this one included, are a tone: 0 if this one is not.
    pub fn frame(&mut self, peaks: &Peaks) -> usize {
        let stays = self.before.is_some_and(|before| is_same(&before, peaks));
        self.run = match (is_pure(peaks), stays) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => self.run + 1,
        };
        self.before = Some(*peaks);
        if self.run >= ENOUGH { self.run + LEAD } else { 0 }
    }

    /// A frame too quiet to be anything.
    pub fn silence(&mut self) {
        *self = Self::default();
    }
}

fn sines(peaks: &Peaks) -> impl Iterator<Item = &Peak> {
    peaks.as_slice().iter().take(SINES).filter(|peak| peak.share >= AUDIBLE)
}

fn is_pure(peaks: &Peaks) -> bool {
    sines(peaks).map(|peak| peak.share).sum::<f32>() >= PURE && sines(peaks).all(|peak| peak.hz >= LOWEST)
}

/// Two of equal strength may change places.
fn is_same(before: &Peaks, now: &Peaks) -> bool {
    let near = |peak: &Peak| sines(before).any(|other| (other.hz - peak.hz).abs() < DRIFT);
    sines(now).next().is_some_and(near)
}
