//! Music, as callers on hold hear it.
//!
//! Notes stand still and voices glide: of music's power, a third and more lies in partials that have the frequency that they
//! had 64 ms ago; of speech's, less than a tenth. Over a second the two never met: 2500 prompts in five languages had 0.37 at
//! the most and 0.21 in 99 of 100 seconds, 18 minutes of Asterisk's music on hold 0.31 and more in 99 of 100. What is
//! measured is the share of that second's amplitude, so that speech over quiet music is speech.
//!
//! Now and then half a second of music does not stand still, and what is steady of it passes for noise. So what is left of it is
//! looked at in its company: the last two seconds that sound like a voice, noise and all ([`company`]).

use super::spectrum::Peaks;

/// Frames from one look at a partial to the next: 64 ms, so that their windows do not overlap.
const APART: usize = 4;
/// A partial that moves less has stood still. Hz.
const STILL: f32 = 3.0;

/// How much of a frame stands still.
#[derive(Debug, Default)]
pub struct Stillness {
    before: [Option<Peaks>; APART],
    next: usize,
}

impl Stillness {
    /// Take the next frame's peaks. The share of its power, 0 to 1, in partials that were there 64 ms ago.
    pub fn frame(&mut self, peaks: &Peaks) -> f32 {
        let before = self.before[self.next].replace(*peaks);
        self.next = (self.next + 1) % APART;
        let Some(before) = before else { return 0.0 };
        let stood = |hz: f32| before.as_slice().iter().any(|peak| (peak.hz - hz).abs() < STILL);
        let still = peaks.as_slice().iter().filter(|peak| stood(peak.hz));
        still.map(|peak| peak.share).sum::<f32>().min(1.0)
    }

    /// A frame too quiet to be anything.
    pub fn silence(&mut self) {
        *self = Self::default();
    }
}

/// A voiced frame: how much of it stands still, and how loud it is (root mean square).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heard {
    /// 0 to 1.
    pub still: f32,
    /// 0 to 1.
    pub rms: f32,
}

/// What the newest second of voiced frames is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Music {
    /// Too little of it, or neither clearly music nor clearly not.
    Unclear,
    /// No music; so many of the frames, the newest, are what makes it so.
    Speech(usize),
    /// Music.
    Playing,
}

/// Frames before anything is said at all: 130 ms.
const LEAST: usize = 8;
/// Frames that music takes to be recognised, half a second: a hummed "mmm" is shorter.
const ENOUGH: usize = 32;
/// Stillness of music at least; of 1000 half seconds of speech, three have it.
const MUSIC: f32 = 0.33;
/// Stillness of speech at most; of 1000 seconds of music, three have no more.
const SPEECH: f32 = 0.25;
/// After music, what is speech by itself has no more than this.
const CLEAR: f32 = 0.17;

/// Judge the voiced frames of the last second, newest first. While music `plays`, half a second has to speak for speech.
pub fn judge(frames: impl Iterator<Item = Heard>, plays: bool) -> Music {
    let (mut count, mut clear, mut still, mut all) = (0, 0, 0.0, 0.0);
    for heard in frames {
        count += 1;
        still += heard.still * heard.rms;
        all += heard.rms;
        if count >= LEAST && still <= CLEAR * all {
            clear = count;
        }
    }
    if count >= ENOUGH && still >= MUSIC * all {
        Music::Playing
    } else if still < SPEECH * all && count >= if plays { ENOUGH } else { LEAST } {
        Music::Speech(if plays && clear > 0 { clear } else { count })
    } else {
        Music::Unclear
    }
}

/// Frames that sound like a voice and are looked at together: 2 s of them, within 4.
pub const COMPANY: usize = 128;
/// Fewer say nothing.
const LEAST_COMPANY: usize = 32;
/// Stillness of all that sounds like a voice in 3 s: with 18 minutes of music on hold, loud and 20 dB quieter, it is never below
/// 0.30; with 25 minutes of prompts in five languages never above 0.17, and with such in pink noise below 0.25 in 99.9 of 100.
const PLAYS: f32 = 0.30;
const OVER: f32 = 0.25;
/// Share of the amplitude that nothing speaks against: of that music never more than 0.64, of those prompts 0.78 and more in 99.9
/// of 100 looks. So a party who speaks over music that is quieter is one who speaks.
const SPEAKS: f32 = 0.66;

/// What the company of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Music plays and nobody speaks.
    Music,
    /// Somebody speaks, and has for a second.
    Speech,
    /// Neither is clear.
    Neither,
}

/// Judge the newest [`COMPANY`] voiced frames, tones and keys aside, each with whether it is left as speech by itself; `played` tells
/// whether they were music until now.
pub fn company(frames: impl Iterator<Item = (Heard, bool)>, played: bool) -> Company {
    let (mut count, mut still, mut left, mut all) = (0, 0.0, 0.0, 0.0);
    for (heard, is_left) in frames.take(COMPANY) {
        count += 1;
        still += heard.still * heard.rms;
        left += if is_left { heard.rms } else { 0.0 };
        all += heard.rms;
    }
    let (stands, speaks) = (still >= if played { OVER } else { PLAYS } * all, left >= SPEAKS * all);
    match count {
        0..LEAST_COMPANY if played => Company::Music,
        0..LEAST_COMPANY => Company::Neither,
        _ if stands && !speaks => Company::Music,
        _ if speaks && !stands && count >= COMPANY / 2 => Company::Speech,
        _ => Company::Neither,
    }
}
