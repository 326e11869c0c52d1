//! Cuts a leg's audio into utterances. Sans-IO; positions are 16 kHz samples since the leg's first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::RATE;
use super::gate::echo::Far;
use super::gate::{Gate, MEMORY, Reason};
use super::vad::{FRAME, FRAMES, Frame, Vad, WINDOW, frames_in};

/// Kept before the first voiced frame: the detector sees an onset up to 0.37 s late where it is soft (the first word of
/// `auth-incorrect`), and a soft consonant goes before that.
const PRE_ROLL_MS: u64 = 450;
/// Kept behind the last voiced frame.
const POST_ROLL_MS: u64 = 200;
/// So many voiced frames in a row begin an utterance.
const ONSET_FRAMES: usize = 3;
/// The quiet place of a cut is sought over this many frames.
const QUIET_FRAMES: usize = 5;

/// How to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentConfig {
    /// Silence that ends an utterance.
    pub hangover: Duration,
    /// Silence after which an utterance has probably ended.
    pub pause: Duration,
    /// Less voiced audio than this is no utterance.
    pub min_speech: Duration,
    /// Longer utterances are cut at their quietest place.
    pub max_utterance: Duration,
}

impl Default for SegmentConfig {
    fn default() -> Self {
        Self {
            hangover: Duration::from_millis(400),
            pause: Duration::from_millis(160),
            min_speech: Duration::from_millis(200),
            max_utterance: Duration::from_secs(12),
        }
    }
}

/// What became of an utterance.
#[derive(Clone, Debug, PartialEq)]
pub enum SegmentEvent {
    /// Someone began to speak.
    Started {
        /// Position of the first sample of the utterance's audio.
        audio_start: u64,
    },
    /// The speaker is quiet, perhaps done.
    Paused,
    /// The speaker goes on.
    Resumed,
    /// The utterance is over.
    Ended(Utterance),
    /// It was none: too short, or no speech.
    Dropped {
        /// What it was instead, if that is known.
        reason: Option<Reason>,
        /// Where it seemed to start and end.
        speech: (u64, u64),
    },
    /// The detector heard speech where none was; no utterance was begun.
    Suppressed(Reason),
}

/// A whole utterance.
#[derive(Clone, Debug, PartialEq)]
pub struct Utterance {
    /// Its audio, some silence before and behind included.
    pub audio: Arc<[f32]>,
    /// Position of the audio's first sample.
    pub audio_start: u64,
    /// Position of the first voiced sample.
    pub speech_start: u64,
    /// Position behind the last voiced sample.
    pub speech_end: u64,
    /// Of that, what is voiced.
    pub voiced: Duration,
    /// It may be music, too short to tell.
    pub unclear: bool,
    /// It was cut for its length; the speaker went on.
    pub cut: bool,
}

/// A frame and what the gates say of it.
#[derive(Clone, Copy)]
struct Judged {
    frame: Frame,
    reason: Option<Reason>,
}

impl Judged {
    fn is_speech(&self) -> bool {
        self.frame.voiced && self.reason.is_none()
    }
}

struct Open {
    audio_start: u64,
    speech_start: u64,
    /// Behind the last voiced frame.
    speech_end: u64,
    voiced: usize,
    paused: bool,
}

/// The segmenter of one leg.
pub struct Segmenter {
    config: SegmentConfig,
    vad: Vad,
    gate: Gate,
    /// Audio from `kept_from` on, a verdict for each whole frame of it.
    kept: VecDeque<f32>,
    kept_from: u64,
    frames: VecDeque<Judged>,
    open: Option<Open>,
    /// No utterance's audio begins before this: it belongs to the one before, or is a tone.
    earliest: u64,
    /// Frames in a row that sounded like speech and are not, and why.
    suppressed: Option<(Reason, usize)>,
}

impl Segmenter {
    /// A segmenter at position 0.
    pub fn new(config: SegmentConfig) -> Self {
        Self {
            config,
            vad: Vad::default(),
            gate: Gate::default(),
            kept: VecDeque::new(),
            kept_from: 0,
            frames: VecDeque::new(),
            open: None,
            earliest: 0,
            suppressed: None,
        }
    }

    /// Position behind the last sample pushed.
    pub fn position(&self) -> u64 {
        self.kept_from + self.kept.len() as u64
    }

    /// Position behind the last whole frame: what has been judged.
    fn judged(&self) -> u64 {
        self.kept_from + (self.frames.len() * FRAME) as u64
    }

    /// Where the speech of the open utterance starts and, so far, ends.
    pub fn speech(&self) -> Option<(u64, u64)> {
        self.open.as_ref().map(|o| (o.speech_start, o.speech_end))
    }

    /// Voiced audio of the open utterance.
    pub fn voiced(&self) -> Duration {
        time_of(self.open.as_ref().map_or(0, |o| o.voiced))
    }

    /// What is voiced at the moment may be music, which is not clear yet.
    pub fn is_unclear(&self) -> bool {
        self.gate.is_unclear()
    }

    /// Whether the speaker of the open utterance is quiet at the moment.
    pub fn is_paused(&self) -> bool {
        self.open.as_ref().is_some_and(|o| o.paused)
    }

    /// For how long the open utterance's speaker has not been heard.
    pub fn silence(&self) -> Duration {
        let since = self.open.as_ref().map_or(0, |open| self.judged().saturating_sub(open.speech_end));
        time_of(since as usize / FRAME)
    }

    /// The audio of the open utterance so far, and the position of its first sample.
    pub fn audio(&self) -> Option<(u64, Arc<[f32]>)> {
        let open = self.open.as_ref()?;
        let end = if open.paused { self.post_rolled(open.speech_end) } else { self.position() };
        Some((open.audio_start, self.slice(open.audio_start, end)))
    }

    /// Take the next samples, while the other leg had `far` to say, and append what happened to `events`.
    pub fn push(&mut self, samples: &[f32], far: Option<&Far<'_>>, events: &mut Vec<SegmentEvent>) {
        self.kept.extend(samples);
        while self.judged() + WINDOW as u64 <= self.position() {
            let at = self.frames.len() * FRAME;
            let mut window = [0.0; WINDOW];
            for (to, from) in window.iter_mut().zip(self.kept.range(at..at + WINDOW)) {
                *to = *from;
            }
            let heard: [Frame; FRAMES] = self.vad.window(&window);
            for (frame, heard) in window.as_chunks::<FRAME>().0.iter().zip(heard) {
                self.frames.push_back(Judged { frame: heard, reason: None });
                let changed = self.gate.frame(frame, heard, far);
                for (judged, reason) in self.frames.iter_mut().rev().zip(self.gate.verdicts()).take(changed) {
                    judged.reason = reason;
                }
                self.step(changed > 1, events);
            }
        }
    }

    /// End what is open now, whether or not the speaker goes on.
    pub fn flush(&mut self, events: &mut Vec<SegmentEvent>) {
        self.end(events);
    }

    /// No more comes: end what is open.
    pub fn finish(&mut self, events: &mut Vec<SegmentEvent>) {
        self.end(events);
    }

    /// What was pushed so far only told what the line is like: utterances begin here, whoever is speaking.
    pub fn begin_here(&mut self) {
        self.open = None;
        self.earliest = self.position();
    }

    /// A frame has come; whether verdicts on those before it have `changed`.
    fn step(&mut self, changed: bool, events: &mut Vec<SegmentEvent>) {
        let now = self.judged();
        let config = self.config;
        let Some(&newest) = self.frames.back() else { return };
        if self.open.is_none() {
            self.begin(newest, events);
            return;
        }
        if changed && !self.recount(events) {
            return;
        }
        let Some(open) = &mut self.open else { return };
        if newest.is_speech() {
            if !changed {
                open.voiced += 1;
            }
            open.speech_end = now;
            if std::mem::take(&mut open.paused) {
                events.push(SegmentEvent::Resumed);
            }
        } else {
            let silent = now - open.speech_end;
            if silent >= samples_in(config.hangover) {
                self.end(events);
                return;
            }
            if !open.paused && silent >= samples_in(config.pause) {
                open.paused = true;
                events.push(SegmentEvent::Paused);
            }
        }
        if let Some(open) = &self.open
            && now - open.audio_start >= samples_in(config.max_utterance)
        {
            self.cut(events);
        }
    }

    /// Begin an utterance if there is one to begin: with the newest frames, or with ones that turn out to be speech only now.
    fn begin(&mut self, newest: Judged, events: &mut Vec<SegmentEvent>) {
        let now = self.judged();
        let first = (self.earliest.saturating_sub(self.kept_from) as usize).div_ceil(FRAME);
        let mut run = 0;
        let onset = (first..self.frames.len()).find(|&at| {
            run = if self.frames[at].is_speech() { run + 1 } else { 0 };
            run == ONSET_FRAMES
        });
        if let Some(at) = onset {
            self.suppressed = None;
            let from = at + 1 - ONSET_FRAMES;
            let speech = (from..self.frames.len()).filter(|&at| self.frames[at].is_speech());
            let (voiced, last) = speech.fold((0, from), |(count, _), at| (count + 1, at));
            let position = |frame: usize| self.kept_from + (frame * FRAME) as u64;
            let (start, end) = (position(from), position(last + 1));
            let audio_start = self.open_at(start, voiced, end);
            events.push(SegmentEvent::Started { audio_start });
            return;
        }
        self.note_suppressed(newest, events);
        let keep = MEMORY + frames_in(PRE_ROLL_MS) + ONSET_FRAMES;
        self.forget(now.saturating_sub((keep * FRAME) as u64));
    }

    fn note_suppressed(&mut self, newest: Judged, events: &mut Vec<SegmentEvent>) {
        let Judged { frame: Frame { voiced: true, .. }, reason: Some(reason) } = newest else { return };
        let run = match self.suppressed {
            Some((same, run)) if same == reason => run + 1,
            _ => 1,
        };
        self.suppressed = Some((reason, run));
        if run == frames_in(self.config.min_speech.as_millis() as u64) {
            events.push(SegmentEvent::Suppressed(reason));
        }
    }

    /// Verdicts have changed: look again what is voiced. `false` if nothing is left of the open utterance.
    fn recount(&mut self, events: &mut Vec<SegmentEvent>) -> bool {
        let Some(open) = &mut self.open else { return false };
        let first = (open.audio_start.saturating_sub(self.kept_from) as usize).div_ceil(FRAME);
        let speech = || (first..self.frames.len()).filter(|&at| self.frames[at].is_speech());
        let position = |frame: usize| self.kept_from + (frame * FRAME) as u64;
        let (mut voiced, mut last) = (0, None);
        for at in speech() {
            voiced += 1;
            last = Some(at);
        }
        if let (Some(from), Some(last)) = (speech().next(), last) {
            let end = position(last + 1);
            // What seemed a pause was none: whatever was begun because of it has not heard all.
            if end > open.speech_end && std::mem::take(&mut open.paused) {
                events.push(SegmentEvent::Resumed);
            }
            open.voiced = voiced;
            (open.speech_start, open.speech_end) = (position(from), end);
            return true;
        }
        let speech = (open.speech_start, open.speech_end);
        self.open = None;
        let reason = self.reason_from(first);
        events.push(SegmentEvent::Dropped { reason, speech });
        false
    }

    /// The reason that most voiced frames from `first` on are not speech.
    fn reason_from(&self, first: usize) -> Option<Reason> {
        let count = |reason: Reason| {
            let is = |judged: &&Judged| judged.frame.voiced && judged.reason == Some(reason);
            self.frames.range(first.min(self.frames.len())..).filter(is).count()
        };
        Reason::ALL
            .into_iter()
            .map(|reason| (count(reason), reason))
            .filter(|(n, _)| *n > 0)
            .max_by_key(|(n, _)| *n)
            .map(|(_, reason)| reason)
    }

    fn open_at(&mut self, speech_start: u64, voiced: usize, speech_end: u64) -> u64 {
        let pre_roll = (frames_in(PRE_ROLL_MS) * FRAME) as u64;
        let mut audio_start = speech_start.saturating_sub(pre_roll).max(self.earliest).max(self.kept_from);
        // Nor is a tone before it any of the speech; but its last two frames may be: what is looked at lags behind.
        let frame = |position: u64| ((position - self.kept_from) as usize / FRAME).min(self.frames.len());
        let before = frame(audio_start)..frame(speech_start);
        let is_tone = |at: &usize| self.frames[*at].reason == Some(Reason::Tone);
        if let Some(tone) = before.rev().find(is_tone) {
            audio_start = audio_start.max(self.kept_from + (tone.saturating_sub(1) * FRAME) as u64);
        }
        self.open = Some(Open { audio_start, speech_start, speech_end, voiced, paused: false });
        audio_start
    }

    fn end(&mut self, events: &mut Vec<SegmentEvent>) {
        let Some(open) = self.open.take() else { return };
        let end = self.post_rolled(open.speech_end);
        let voiced = time_of(open.voiced);
        let first = ((open.audio_start - self.kept_from) as usize).div_ceil(FRAME);
        events.push(if voiced < self.config.min_speech {
            let reason = self.reason_from(first);
            SegmentEvent::Dropped { reason, speech: (open.speech_start, open.speech_end) }
        } else {
            SegmentEvent::Ended(Utterance {
                audio: self.slice(open.audio_start, end),
                audio_start: open.audio_start,
                speech_start: open.speech_start,
                speech_end: open.speech_end,
                voiced,
                unclear: self.gate.is_unclear(),
                cut: false,
            })
        });
        self.earliest = open.speech_end;
        let keep = MEMORY + frames_in(PRE_ROLL_MS);
        self.forget(self.judged().saturating_sub((keep * FRAME) as u64));
    }

    /// End the open utterance at the quietest place of its second half, and go on with a new one from there.
    fn cut(&mut self, events: &mut Vec<SegmentEvent>) {
        let Some(open) = self.open.take() else { return };
        let first = ((open.audio_start - self.kept_from) as usize).div_ceil(FRAME);
        let from = first + (self.frames.len() - first) / 2;
        let to = self.frames.len().saturating_sub(QUIET_FRAMES).max(from + 1);
        let loudness = |at: usize| {
            self.frames
                .range(at..(at + QUIET_FRAMES).min(self.frames.len()))
                .map(|f| f.frame.rms)
                .sum::<f32>()
        };
        let quietest = (from..to).min_by(|&a, &b| loudness(a).total_cmp(&loudness(b))).unwrap_or(from);
        let middle = (quietest + QUIET_FRAMES / 2).min(self.frames.len());
        let at = self.kept_from + (middle * FRAME) as u64;

        let voiced_end = |until: usize| {
            self.frames
                .range(first..until)
                .rposition(Judged::is_speech)
                .map(|i| self.kept_from + ((first + i + 1) * FRAME) as u64)
        };
        events.push(SegmentEvent::Ended(Utterance {
            audio: self.slice(open.audio_start, at),
            audio_start: open.audio_start,
            speech_start: open.speech_start,
            speech_end: voiced_end(middle).unwrap_or(at),
            voiced: time_of(self.frames.range(first..middle).filter(|f| f.is_speech()).count()),
            unclear: self.gate.is_unclear(),
            cut: true,
        }));
        self.earliest = at;
        let rest: Vec<usize> = (middle..self.frames.len()).filter(|&i| self.frames[i].is_speech()).collect();
        if let (Some(first), Some(last)) = (rest.first(), rest.last()) {
            let position = |frame: usize| self.kept_from + (frame * FRAME) as u64;
            let (start, end) = (position(*first), position(last + 1));
            let audio_start = self.open_at(start, rest.len(), end);
            events.push(SegmentEvent::Started { audio_start });
        }
        self.forget(at);
    }

    /// Some silence behind speech that ends at `speech_end`, but nothing of a tone.
    fn post_rolled(&self, speech_end: u64) -> u64 {
        let end = (speech_end + POST_ROLL_MS * u64::from(RATE) / 1_000).min(self.position());
        let first = (speech_end.saturating_sub(self.kept_from) as usize / FRAME).min(self.frames.len());
        let tone = self.frames.range(first..).position(|f| f.reason == Some(Reason::Tone));
        tone.map_or(end, |frames| end.min(speech_end + (frames * FRAME) as u64))
    }

    /// The audio between two positions, as far as it is kept.
    pub(super) fn slice(&self, from: u64, to: u64) -> Arc<[f32]> {
        let at = |position: u64| (position.max(self.kept_from) - self.kept_from) as usize;
        self.kept.range(at(from)..at(to)).copied().collect()
    }

    /// Let go of whole frames before `position`.
    fn forget(&mut self, position: u64) {
        let frames = (position.saturating_sub(self.kept_from) as usize / FRAME).min(self.frames.len());
        self.frames.drain(..frames);
        self.kept.drain(..frames * FRAME);
        self.kept_from += (frames * FRAME) as u64;
    }
}

fn time_of(frames: usize) -> Duration {
    Duration::from_micros((frames * FRAME) as u64 * 1_000_000 / u64::from(RATE))
}

/// 16 kHz samples in `d`.
pub(crate) fn samples_in(d: Duration) -> u64 {
    d.as_micros() as u64 * u64::from(RATE) / 1_000_000
}

#[cfg(test)]
mod tests;
