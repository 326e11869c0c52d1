//! What sounds like speech to the detector and is none: tones, keys, noise, music, the other party's echo. Sans-IO.
//!
//! A gate never touches audio. It says of each frame of 16 ms why it is not speech, if it is not, and may say otherwise of
//! the newest frames once it has heard more; the segmenter counts no such frame as voiced, so that nothing is recognised
//! that no speech is in. A few frames judged wrongly cost nothing: only a whole hangover of them ends an utterance. What is
//! unclear is speech, for a phantom is put up with more easily than a lost word; [`Gate::is_unclear`] tells, so that words are
//! weighed by it.
//!
//! | file | tells apart by | needs |
//! |---|---|---|
//! | [`tone`] | a few sines that stay where they are | 96 ms |
//! | [`keys`] | the eight frequencies of DTMF | 32 ms |
//! | [`noise`] | no louder than the quietest moment of 1.5 s | |
//! | [`music`] | partials that stand still | 0.5 s; of what is left over, 2 s |
//! | [`echo`] | what the other leg said explains it | 0.26 s |

pub mod echo;
pub mod keys;
pub mod music;
pub mod noise;
pub mod spectrum;
pub mod tone;

use std::collections::VecDeque;

use self::echo::{Echo, Far};
use self::keys::Keys;
use self::music::{Company, Heard, Music, Stillness, company, judge};
use self::noise::Floor;
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
    /// Noise that goes on as it is.
    Noise,
    /// Music.
    Music,
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
    pub const ALL: [Self; 10] = [
        Self::Tone,
        Self::Keys,
        Self::Noise,
        Self::Music,
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
            Self::Noise => "noise",
            Self::Music => "music",
            Self::Echo => "echo",
            Self::Unlikely => "unlikely",
            Self::NoSpeech => "no_speech",
            Self::Repetition => "repetition",
            Self::Flood => "flood",
            Self::Phrase => "phrase",
        }
    }
}

/// Frames of which a verdict may still change: 1.5 s, what somebody who speaks after music has said until that is clear.
pub const MEMORY: usize = 96;
/// Frames that tell noise and music from speech by themselves: 1 s.
const SECOND: usize = 64;
/// Frames in whose company what is left of music is looked at: 4 s.
const COMPANY: usize = 256;
/// After so many frames without a voice, music that played is over: 3 s.
const MUSIC_ENDS: usize = 188;
/// So long after music whatever is voiced may be more of it, unless somebody speaks clearly: 10 s, for tracks on hold begin again after
/// up to 4 s of silence.
const MUSIC_LINGERS: usize = 625;

#[derive(Clone, Copy, Debug, Default)]
struct Judged {
    /// The detector hears a voice.
    voiced: bool,
    still: f32,
    rms: f32,
    reason: Option<Reason>,
    /// Found to be no music (or no echo): it stays so.
    no_music: bool,
    no_echo: bool,
    /// By itself it might be speech; but music plays.
    in_music: bool,
}

impl Judged {
    fn verdict(&self) -> Option<Reason> {
        self.reason.or(self.in_music.then_some(Reason::Music))
    }
}

/// The gates of one leg.
#[derive(Default)]
pub struct Gate {
    spectrum: Spectrum,
    tones: Tones,
    keys: Keys,
    floor: Floor,
    stillness: Stillness,
    echo: Echo,
    /// Newest last.
    recent: VecDeque<Judged>,
    plays: bool,
    /// Music plays, by the company of what is voiced.
    in_music: bool,
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
            self.floor.silence();
        } else {
            let peaks = self.spectrum.peaks(samples);
            judged.still = self.stillness.frame(&peaks);
            tone = self.tones.frame(&peaks);
            key = self.keys.frame(samples);
            self.floor.frame(heard.rms);
        }
        if self.recent.len() == COMPANY {
            self.recent.pop_front();
        }
        self.recent.push_back(judged);
        self.echo.push(samples);
        let mut changed = self.mark(tone, Reason::Tone).max(self.mark(key, Reason::Keys)).max(1);
        self.since_music = self.since_music.map(|since| since.saturating_add(1));
        self.unvoiced = if heard.voiced { 0 } else { self.unvoiced + 1 };
        if self.unvoiced > MUSIC_ENDS {
            self.plays = false;
            self.in_music = false;
        }
        if heard.voiced {
            changed = changed.max(self.judge_noise()).max(self.judge_music()).max(self.judge_company());
        }
        if let Some(far) = far {
            changed = changed.max(self.judge_echo(far));
        }
        changed.min(self.recent.len()).min(MEMORY)
    }

    /// Why the newest frames are not speech, newest first; `None` for those that may be.
    pub fn verdicts(&self) -> impl Iterator<Item = Option<Reason>> {
        self.recent.iter().rev().take(MEMORY).map(Judged::verdict)
    }

    /// What is voiced now may be music: it is not clear yet, or there was some a moment ago.
    pub fn is_unclear(&self) -> bool {
        if self.since_music.is_some_and(|since| since < MUSIC_LINGERS) {
            return true;
        }
        let voiced = || self.recent.iter().rev().take(SECOND).filter(|j| j.voiced && j.verdict().is_none());
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

    /// The newest frame is noise, as far as can be told, and so are those from before anything could be told; but none of
    /// them is any more once the floor has come down.
    fn judge_noise(&mut self) -> usize {
        let (mut changed, floor) = (0, &self.floor);
        let newly = if floor.has_just_settled() { SECOND } else { 1 };
        for (back, judged) in self.recent.iter_mut().rev().take(SECOND).enumerate() {
            let before = judged.reason;
            match (before, floor.hides(judged.rms)) {
                (None, true) if back < newly => judged.reason = Some(Reason::Noise),
                (Some(Reason::Noise), false) => judged.reason = None,
                _ => {}
            }
            if judged.reason != before {
                changed = back + 1;
            }
        }
        changed
    }

    fn judge_music(&mut self) -> usize {
        let counts =
            |j: &&Judged| j.voiced && !matches!(j.reason, Some(Reason::Tone | Reason::Keys | Reason::Noise));
        let second = self.recent.iter().rev().take(SECOND);
        let heard = second.filter(counts).map(|j| Heard { still: j.still, rms: j.rms });
        let verdict = judge(heard, self.plays);
        let mut left = match verdict {
            Music::Playing => {
                self.plays = true;
                SECOND
            }
            Music::Speech(count) => {
                self.plays = false;
                count
            }
            Music::Unclear => 1,
        };
        let mut changed = 0;
        for (back, judged) in self.recent.iter_mut().rev().take(SECOND).enumerate() {
            if !counts(&&*judged) {
                continue;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            let before = judged.reason;
            if matches!(verdict, Music::Speech(_)) {
                judged.no_music = true;
                judged.reason = judged.reason.filter(|&reason| reason != Reason::Music);
            } else if self.plays && !judged.no_music && judged.reason.is_none() {
                judged.reason = Some(Reason::Music);
                self.since_music = Some(0);
            }
            if judged.reason != before {
                changed = back + 1;
            }
        }
        changed
    }

    /// What may be speech by itself is none in the company of music, and is again once the company has turned to speech.
    fn judge_company(&mut self) -> usize {
        let counts = |j: &&Judged| j.voiced && !matches!(j.reason, Some(Reason::Tone | Reason::Keys));
        let heard = |j: &Judged| (Heard { still: j.still, rms: j.rms }, j.reason.is_none());
        let played = self.in_music;
        let found = company(self.recent.iter().rev().filter(counts).map(heard), played);
        self.in_music = found == Company::Music;
        match found {
            Company::Music => self.since_music = Some(0),
            Company::Speech => self.since_music = None,
            Company::Neither => {}
        }
        let changed = if self.in_music == played { 1 } else { MEMORY };
        for judged in self.recent.iter_mut().rev().take(changed) {
            judged.in_music = self.in_music;
        }
        changed
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
