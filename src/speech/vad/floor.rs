//! The noise of a line, a room, or a sender's own making: whether anything rises above it.
//!
//! A voice rises and falls by 20 dB and more within any second; noise does not. So the quietest moment of the last 1.5 s is
//! the noise (minimum statistics: R. Martin, IEEE Transactions on Speech and Audio Processing 9, 2001). What is no louder than
//! that is not worth a look; what is may be anything.

use std::collections::VecDeque;

/// The quietest moment is sought in so many stretches of so many frames: 1.5 s, longer than anybody goes on with one sound.
const STRETCHES: usize = 6;
const STRETCH: usize = 16;
/// Frames whose power is averaged: 64 ms. What is shorter is chance.
const SMOOTH: usize = 4;
/// Frames that have to be heard before there is a floor: 0.2 s. A voice that has just begun is not measured by itself.
const SETTLED: usize = 12;
/// Above the noise by 3 dB: with a voice as loud as the noise that is a voice's every syllable, and white noise, 32 ms of which
/// differ by 1 dB, never does it.
const ABOVE: f32 = std::f32::consts::SQRT_2;

/// The noise of one leg.
#[derive(Debug, Default)]
pub struct Floor {
    recent: VecDeque<f32>,
    stretches: VecDeque<f32>,
    in_stretch: usize,
    heard: usize,
}

impl Floor {
    /// Take the next frame's root mean square. Frames of silence are left out: a sender that sends nothing says nothing about
    /// the noise of its room.
    pub fn frame(&mut self, rms: f32) {
        if self.recent.len() == SMOOTH {
            self.recent.pop_front();
        }
        self.recent.push_back(rms * rms);
        let smooth = self.recent.iter().sum::<f32>() / self.recent.len() as f32;
        match self.stretches.back_mut() {
            Some(least) if self.in_stretch < STRETCH => *least = least.min(smooth),
            _ => {
                if self.stretches.len() == STRETCHES {
                    self.stretches.pop_front();
                }
                self.stretches.push_back(smooth);
                self.in_stretch = 0;
            }
        }
        self.in_stretch += 1;
        self.heard = self.heard.saturating_add(1);
    }

    /// Whether audio of this root mean square may be more than the noise, as far as is known by now.
    pub fn is_exceeded(&self, rms: f32) -> bool {
        let floor = self.stretches.iter().copied().fold(f32::MAX, f32::min).sqrt();
        self.heard < SETTLED || rms >= ABOVE * floor
    }

    /// A frame of silence: what follows is averaged anew.
    pub fn silence(&mut self) {
        self.recent.clear();
    }
}
