//! What sounds like speech to the detector and is none: tones, keys, the other party's echo. Sans-IO.
//!
//! A gate never touches audio. It says of each frame of 16 ms why it is not speech, if it is not, and may say otherwise of
//! the newest frames once it has heard more; the segmenter counts no such frame as voiced, so that nothing is recognised
//! that no speech is in. A few frames judged wrongly cost nothing: only a whole hangover of them ends an utterance. What is
//! unclear is speech, for a phantom is put up with more easily than a lost word; [`Gate::is_unclear`] tells, so that words are
//! weighed by it. Music is no more than that: the detector tells it from voices, and who speaks over it is heard.
//!
//! | file | tells apart by | needs |
//! |---|---|---|
//! | [`tone`] | a few sines that stay where they are | 96 ms |
//! | [`keys`] | the eight frequencies of DTMF | 32 ms |
//! | [`echo`] | what the other leg said explains it | 0.26 s |
//! | [`music`] | partials that stand still | 0.5 s |

pub mod echo;
pub mod keys;
pub mod music;
pub mod spectrum;
pub mod tone;

use std::collections::VecDeque;

use self::echo::{Echo, Far};
use self::keys::Keys;
use self::music::{ENOUGH, Heard, Music, Stillness, judge};
use self::spectrum::Spectrum;
use self::tone::Tones;
use super::vad::{FLOOR, FRAME, Frame};

/// Why audio, or words, are not taken for speech.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A tone of the network.
    Tone,
    /// A key (DTMF).
    Keys,
    /// The other party's voice, come back.
    Echo,
    /// The model itself finds its words unlikely.
    Unlikely,
    /// The model holds that nobody speaks.
    NoSpeech,
    /// The decoder loops.
    Repetition,
    /// More words than can be said in the time.
    Flood,
    /// What models are known to make up, on weak evidence.
    Phrase,
}

impl Reason {
    /// All.
    pub const ALL: [Self; 8] = [
        Self::Tone,
        Self::Keys,
        Self::Echo,
        Self::Unlikely,
        Self::NoSpeech,
        Self::Repetition,
        Self::Flood,
        Self::Phrase,
    ];

    /// As the metric's label has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tone => "tone",
            Self::Keys => "keys",
            Self::Echo => "echo",
            Self::Unlikely => "unlikely",
            Self::NoSpeech => "no_speech",
            Self::Repetition => "repetition",
            Self::Flood => "flood",
            Self::Phrase => "phrase",
        }
    }
}

/// Frames of which a verdict may still change: those that are looked at for an echo.
pub const MEMORY: usize = echo::WINDOW_FRAMES;
/// Frames that tell music from speech: 1 s.
const SECOND: usize = 64;
/// After so many frames without a voice, music that played is over: 3 s.
const MUSIC_ENDS: usize = 188;
/// So long after music whatever is voiced may be more of it, unless somebody speaks clearly for half a second: 10 s, for tracks on hold
/// begin again after up to 4 s of silence.
const MUSIC_LINGERS: usize = 625;

#[derive(Clone, Copy, Debug, Default)]
struct Judged {
    /// The detector hears a voice.
    voiced: bool,
    still: f32,
    rms: f32,
    reason: Option<Reason>,
    /// Found to be no music, or no echo: it stays so.
    no_music: bool,
    no_echo: bool,
}

/// The gates of one leg.
#[derive(Default)]
pub struct Gate {
    spectrum: Spectrum,
    tones: Tones,
    keys: Keys,
    stillness: Stillness,
    echo: Echo,
    /// Newest last.
    recent: VecDeque<Judged>,
    plays: bool,
    /// Frames since the last voiced one, and since the last that was music.
    unvoiced: usize,
    since_music: Option<usize>,
}

impl Gate {
    /// Judge the next frame, of which the detector says `heard`, while the other leg had `far` to say. How many of the newest
    /// frames, this one included, may have a new verdict: see [`Gate::verdicts`].
    pub fn frame(&mut self, samples: &[f32; FRAME], heard: Frame, far: Option<&Far<'_>>) -> usize {
        let mut judged = Judged { voiced: heard.voiced, rms: heard.rms, ..Judged::default() };
        let (mut tone, mut key) = (0, 0);
        if heard.rms < FLOOR {
            self.spectrum.skip(samples);
            self.tones.silence();
            self.keys.silence();
            self.stillness.silence();
        } else {
            let peaks = self.spectrum.peaks(samples);
            judged.still = self.stillness.frame(&peaks);
            tone = self.tones.frame(&peaks);
            key = self.keys.frame(samples);
        }
        if self.recent.len() == SECOND {
            self.recent.pop_front();
        }
        self.recent.push_back(judged);
        self.echo.push(samples);
        let mut changed = self.mark(tone, Reason::Tone).max(self.mark(key, Reason::Keys)).max(1);
        self.since_music = self.since_music.map(|since| since.saturating_add(1));
        self.unvoiced = if heard.voiced { 0 } else { self.unvoiced + 1 };
        if self.unvoiced > MUSIC_ENDS {
            self.plays = false;
        }
        if heard.voiced {
            self.judge_music();
        }
        if let Some(far) = far {
            changed = changed.max(self.judge_echo(far));
        }
        changed.min(self.recent.len()).min(MEMORY)
    }

    /// Why the newest frames are not speech, newest first; `None` for those that may be.
    pub fn verdicts(&self) -> impl Iterator<Item = Option<Reason>> {
        self.recent.iter().rev().take(MEMORY).map(|judged| judged.reason)
    }

    /// What is voiced now may be music: it is not clear yet, or there was some a moment ago.
    pub fn is_unclear(&self) -> bool {
        if self.since_music.is_some_and(|since| since < MUSIC_LINGERS) {
            return true;
        }
        let voiced = || self.recent.iter().rev().take(SECOND).filter(|j| j.voiced && j.reason.is_none());
        voiced().take(8).count() == 8 && voiced().take(8).all(|j| !j.no_music)
    }

    /// The newest `count` frames are certainly that.
    fn mark(&mut self, count: usize, reason: Reason) -> usize {
        for judged in self.recent.iter_mut().rev().take(count) {
            if judged.reason != Some(Reason::Tone) {
                judged.reason = Some(reason);
            }
        }
        count
    }

    fn judge_music(&mut self) {
        let counts = |j: &&Judged| j.voiced && !matches!(j.reason, Some(Reason::Tone | Reason::Keys));
        let heard = self.recent.iter().rev().filter(counts).map(|j| Heard { still: j.still, rms: j.rms });
        match judge(heard, self.plays) {
            Music::Playing => {
                self.plays = true;
                self.since_music = Some(0);
            }
            Music::Speech(count) => {
                self.plays = false;
                if count >= ENOUGH {
                    self.since_music = None;
                }
                for judged in self.recent.iter_mut().rev().filter(|j| counts(&&**j)).take(count) {
                    judged.no_music = true;
                }
            }
            Music::Unclear => {}
        }
    }

    fn judge_echo(&mut self, far: &Far<'_>) -> usize {
        let window = echo::WINDOW_FRAMES;
        let voiced = self.recent.iter().rev().take(window).filter(|j| j.voiced).count();
        if voiced < window / 2 {
            self.echo.rest();
            return 0;
        }
        let Some(explained) = self.echo.explained(far) else { return 0 };
        let mut changed = 0;
        for (back, judged) in self.recent.iter_mut().rev().take(window).enumerate() {
            let before = judged.reason;
            if explained < echo::OWN {
                judged.no_echo = true;
                judged.reason = judged.reason.filter(|&reason| reason != Reason::Echo);
            } else if explained >= echo::ECHO && !judged.no_echo && judged.reason.is_none() {
                judged.reason = Some(Reason::Echo);
            }
            if judged.reason != before {
                changed = back + 1;
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests;
