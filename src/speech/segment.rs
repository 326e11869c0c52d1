//! Cuts a leg's audio into utterances. Sans-IO; positions are 16 kHz samples since the leg's first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::RATE;
use super::vad::{FRAME, Frame, Vad, frames_in};

/// Kept before the first voiced frame: the onset of soft consonants.
const PRE_ROLL_MS: u64 = 250;
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
    /// It was too short to be one.
    Dropped,
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
    /// It was cut for its length; the speaker went on.
    pub cut: bool,
}

struct Open {
    audio_start: u64,
    speech_start: u64,
    speech_end: u64,
    voiced: usize,
    paused: bool,
}

/// The segmenter of one leg.
pub struct Segmenter {
    config: SegmentConfig,
    vad: Vad,
    /// Audio from `kept_from` on, a [`Frame`] for each whole frame of it.
    kept: VecDeque<f32>,
    kept_from: u64,
    frames: VecDeque<Frame>,
    /// Voiced frames in a row while no utterance is open.
    onset: usize,
    open: Option<Open>,
    /// No utterance's audio begins before this: it belongs to the one before.
    earliest: u64,
}

impl Segmenter {
    /// A segmenter at position 0.
    pub fn new(config: SegmentConfig) -> Self {
        Self {
            config,
            vad: Vad::default(),
            kept: VecDeque::new(),
            kept_from: 0,
            frames: VecDeque::new(),
            onset: 0,
            open: None,
            earliest: 0,
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
        let frames = self.open.as_ref().map_or(0, |o| o.voiced);
        Duration::from_micros((frames * FRAME) as u64 * 1_000_000 / u64::from(RATE))
    }

    /// Whether the speaker of the open utterance is quiet at the moment.
    pub fn is_paused(&self) -> bool {
        self.open.as_ref().is_some_and(|o| o.paused)
    }

    /// The audio of the open utterance so far, and the position of its first sample.
    pub fn audio(&self) -> Option<(u64, Arc<[f32]>)> {
        let open = self.open.as_ref()?;
        let end = if open.paused { self.post_rolled(open.speech_end) } else { self.position() };
        Some((open.audio_start, self.slice(open.audio_start, end)))
    }

    /// Take the next samples and append what happened to `events`.
    pub fn push(&mut self, samples: &[f32], events: &mut Vec<SegmentEvent>) {
        self.kept.extend(samples);
        while self.judged() + FRAME as u64 <= self.position() {
            let at = self.frames.len() * FRAME;
            let mut frame = [0.0; FRAME];
            for (to, from) in frame.iter_mut().zip(self.kept.range(at..at + FRAME)) {
                *to = *from;
            }
            let frame = self.vad.frame(&frame);
            self.frames.push_back(frame);
            self.step(frame, events);
        }
    }

    /// No more comes: end what is open.
    pub fn finish(&mut self, events: &mut Vec<SegmentEvent>) {
        self.end(events);
    }

    fn step(&mut self, frame: Frame, events: &mut Vec<SegmentEvent>) {
        let now = self.judged();
        let config = self.config;
        let Some(open) = &mut self.open else {
            self.onset = if frame.voiced { self.onset + 1 } else { 0 };
            if self.onset >= ONSET_FRAMES {
                let speech_start = now - (self.onset * FRAME) as u64;
                let audio_start = self.open_at(speech_start, self.onset, now);
                events.push(SegmentEvent::Started { audio_start });
            } else {
                let keep = frames_in(PRE_ROLL_MS) + ONSET_FRAMES;
                self.forget(now.saturating_sub((keep * FRAME) as u64));
            }
            return;
        };
        if frame.voiced {
            open.voiced += 1;
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

    fn open_at(&mut self, speech_start: u64, voiced: usize, speech_end: u64) -> u64 {
        let pre_roll = (frames_in(PRE_ROLL_MS) * FRAME) as u64;
        let audio_start = speech_start.saturating_sub(pre_roll).max(self.earliest).max(self.kept_from);
        self.onset = 0;
        self.open = Some(Open { audio_start, speech_start, speech_end, voiced, paused: false });
        audio_start
    }

    fn end(&mut self, events: &mut Vec<SegmentEvent>) {
        let Some(open) = self.open.take() else { return };
        let end = self.post_rolled(open.speech_end);
        let voiced = Duration::from_micros((open.voiced * FRAME) as u64 * 1_000_000 / u64::from(RATE));
        events.push(if voiced < self.config.min_speech {
            SegmentEvent::Dropped
        } else {
            SegmentEvent::Ended(Utterance {
                audio: self.slice(open.audio_start, end),
                audio_start: open.audio_start,
                speech_start: open.speech_start,
                speech_end: open.speech_end,
                cut: false,
            })
        });
        self.earliest = open.speech_end;
        self.forget(end.saturating_sub((frames_in(PRE_ROLL_MS) * FRAME) as u64));
    }

    /// End the open utterance at the quietest place of its second half, and go on with a new one from there.
    fn cut(&mut self, events: &mut Vec<SegmentEvent>) {
        let Some(open) = self.open.take() else { return };
        let first = ((open.audio_start - self.kept_from) as usize).div_ceil(FRAME);
        let from = first + (self.frames.len() - first) / 2;
        let to = self.frames.len().saturating_sub(QUIET_FRAMES).max(from + 1);
        let loudness = |at: usize| {
            self.frames.range(at..(at + QUIET_FRAMES).min(self.frames.len())).map(|f| f.rms).sum::<f32>()
        };
        let quietest = (from..to).min_by(|&a, &b| loudness(a).total_cmp(&loudness(b))).unwrap_or(from);
        let middle = (quietest + QUIET_FRAMES / 2).min(self.frames.len());
        let at = self.kept_from + (middle * FRAME) as u64;

        let voiced_end = |until: usize| {
            self.frames
                .range(first..until)
                .rposition(|f| f.voiced)
                .map(|i| self.kept_from + ((first + i + 1) * FRAME) as u64)
        };
        events.push(SegmentEvent::Ended(Utterance {
            audio: self.slice(open.audio_start, at),
            audio_start: open.audio_start,
            speech_start: open.speech_start,
            speech_end: voiced_end(middle).unwrap_or(at),
            cut: true,
        }));
        self.earliest = at;
        let rest: Vec<usize> = (middle..self.frames.len()).filter(|&i| self.frames[i].voiced).collect();
        if let (Some(first), Some(last)) = (rest.first(), rest.last()) {
            let position = |frame: usize| self.kept_from + (frame * FRAME) as u64;
            let (start, end) = (position(*first), position(last + 1));
            let audio_start = self.open_at(start, rest.len(), end);
            events.push(SegmentEvent::Started { audio_start });
        }
        self.forget(at);
    }

    fn post_rolled(&self, speech_end: u64) -> u64 {
        (speech_end + POST_ROLL_MS * u64::from(RATE) / 1_000).min(self.position())
    }

    fn slice(&self, from: u64, to: u64) -> Arc<[f32]> {
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

/// 16 kHz samples in `d`.
pub(crate) fn samples_in(d: Duration) -> u64 {
    d.as_micros() as u64 * u64::from(RATE) / 1_000_000
}

#[cfg(test)]
mod tests;
