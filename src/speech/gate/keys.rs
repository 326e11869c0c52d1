//! Keys heard in the audio (DTMF, ITU-T Q.23): each frame by Goertzel's algorithm at the eight frequencies.
//!
//! Keys sent as events (RFC 4733) need no detection: the sender sends no audio meanwhile, and the media path has silence in
//! their place. What of a key some senders let through before they know it, 20 to 40 ms, is too short to begin an utterance; and the silence
//! ends one only where a key is held for longer than the hangover. So the gates are told nothing of events.

use std::f32::consts::TAU;

use crate::speech::RATE;
use crate::speech::vad::FRAME;

const ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS: [f32; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];
/// The two frequencies differ in power by no more than 10 dB either way (Q.24 has receivers take 4 to 8 dB of twist; cheap
/// telephones do worse).
const TWIST: f32 = 10.0;
/// Their share of a frame's power. A frequency 1.5 % off, as Q.24 allows, leaves 0.8 of it in a bin of 16 ms; someone who
/// speaks meanwhile takes more than that, and is heard.
const DOMINANT: f32 = 0.7;
/// The others of each group are so much weaker: 6 dB.
const STANDS_OUT: f32 = 4.0;
/// So many frames of one key in a row: 32 of the 40 ms that the shortest valid key lasts (Q.24).
const ENOUGH: usize = 2;

/// Finds keys, frame by frame.
#[derive(Debug, Default)]
pub struct Keys {
    key: Option<(usize, usize)>,
    run: usize,
}

impl Keys {
    /// Take the next frame. How many of the newest frames, this one included, are a key: 0 if this one is not.
    pub fn frame(&mut self, frame: &[f32; FRAME]) -> usize {
        let key = key(frame);
        self.run = match key {
            None => 0,
            Some(_) if key == self.key => self.run + 1,
            Some(_) => 1,
        };
        self.key = key;
        // The key began within the frame before the first that is all key.
        if self.run >= ENOUGH { self.run + 1 } else { 0 }
    }

    /// A frame too quiet to be anything.
    pub fn silence(&mut self) {
        *self = Self::default();
    }
}

fn key(frame: &[f32; FRAME]) -> Option<(usize, usize)> {
    let total: f32 = frame.iter().map(|s| s * s).sum::<f32>() / FRAME as f32;
    let (row, low) = strongest(ROWS.map(|hz| power(frame, hz)))?;
    let (column, high) = strongest(COLUMNS.map(|hz| power(frame, hz)))?;
    let balanced = low <= TWIST * high && high <= TWIST * low;
    (balanced && low + high >= DOMINANT * total).then_some((row, column))
}

/// The one that stands out.
fn strongest(powers: [f32; 4]) -> Option<(usize, f32)> {
    let best = (0..4).max_by(|&a, &b| powers[a].total_cmp(&powers[b]))?;
    let alone = (0..4).all(|at| at == best || powers[at] * STANDS_OUT <= powers[best]);
    alone.then_some((best, powers[best]))
}

/// Mean power of the sine of `hz` in `frame` (G. Goertzel, American Mathematical Monthly 65, 1958).
fn power(frame: &[f32; FRAME], hz: f32) -> f32 {
    let turn = 2.0 * (TAU * hz / RATE as f32).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for sample in frame {
        (last, before) = (sample + turn * last - before, last);
    }
    2.0 * (last * last + before * before - turn * last * before) / (FRAME * FRAME) as f32
}
