//! Cuts what is owed of a recording into pieces, as live audio is cut.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::CatchUpError;
use crate::audio::wav::WavReader;
use crate::audio::{AudioError, Format};
use crate::media::leg::Leg;
use crate::speech::RATE;
use crate::speech::event::TranscriptEvent;
use crate::speech::gate::echo::Said;
use crate::speech::recogniser::{Evidence, Hypothesis};
use crate::speech::resample::Resampler;
use crate::speech::segment::{SegmentConfig, SegmentEvent, Segmenter, Utterance, samples_in};
use crate::speech::session::{placed, seconds_at};

/// Detector and gates hear so much before a stretch begins, as they would have: music is remembered for 3 s. Seconds.
const LEAD: f64 = 4.0;
/// Frames read at a time, by rate: a quarter of a second.
const CHUNKS_A_SECOND: u32 = 4;
/// Where the detector sees an utterance end, and where it was shown to, may differ by the breath of its last word.
const SLACK: Duration = Duration::from_millis(300);
/// Nobody having spoken for so long, an utterance that was shown is over.
const SURELY_OVER: Duration = Duration::from_secs(1);
/// Half of what the smallest sample of a recording that is not zero comes to: below it lies what the resampler leaves of zeros.
const LEAST: f32 = 0.5 / 32_768.0;
/// Beyond the longest utterance: the rolls before and behind it.
const ROLLS: Duration = Duration::from_millis(500);

/// A stretch of one leg that is to be put into words.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// Who speaks.
    pub leg: Leg,
    /// Where it starts, seconds on the recording's clock.
    pub start: f64,
    /// Where it ends, seconds on the recording's clock.
    pub end: f64,
    /// The last that subscribers were told of the utterance it begins with, if they were told of any.
    pub shown: Option<TranscriptEvent>,
}

/// A piece of a stretch: one utterance.
#[derive(Clone, Debug)]
pub struct Piece {
    pub(super) audio: Arc<[f32]>,
    /// Positions are 16 kHz samples from `offset`, which is in seconds on the recording's clock.
    offset: f64,
    audio_start: u64,
    speech: (u64, u64),
    voiced: Duration,
    unclear: bool,
    /// It is the utterance that subscribers were told of.
    pub is_shown: bool,
}

impl Piece {
    /// Where its speech starts and ends, seconds on the recording's clock.
    pub fn span(&self) -> (f64, f64) {
        (seconds_at(self.speech.0, self.offset), seconds_at(self.speech.1, self.offset))
    }

    /// Where its audio ends, seconds on the recording's clock.
    pub fn audio_end(&self) -> f64 {
        seconds_at(self.audio_start + self.audio.len() as u64, self.offset)
    }

    /// Whether there is nothing at all in the recording here: it was paused, or has a hole.
    pub fn is_blank(&self) -> bool {
        self.audio.iter().all(|sample| sample.abs() < LEAST)
    }

    pub(super) fn evidence(&self) -> Evidence {
        Evidence {
            seconds: self.audio.len() as f64 / f64::from(RATE),
            voiced: self.voiced.as_secs_f64(),
            unclear: self.unclear,
        }
    }

    pub(super) fn placed(&self, hypothesis: &Hypothesis) -> Vec<crate::speech::Word> {
        placed(hypothesis, self.audio_start, self.speech, self.offset)
    }

    pub(super) fn length(&self) -> Duration {
        Duration::from_micros(self.audio.len() as u64 * 1_000_000 / u64::from(RATE))
    }
}

/// The beginning of a stretch whose utterance was shown: it is one piece, whatever the detector makes of its pauses now.
struct Opening {
    /// Where it had been shown to go.
    shown: (u64, u64),
    /// All from the stretch's begin.
    audio: Vec<f32>,
    speech: Option<(u64, u64)>,
    voiced: Duration,
    unclear: bool,
}

/// The pieces of one stretch, in order. A file's length does not matter: it is read as they are taken.
pub struct Pieces {
    wav: WavReader<BufReader<File>>,
    leg: Leg,
    config: SegmentConfig,
    offset: f64,
    begin: u64,
    end: u64,
    position: u64,
    resamplers: [Resampler; 2],
    other: Said,
    segmenter: Segmenter,
    opening: Option<Opening>,
    ready: VecDeque<Piece>,
    is_over: bool,
}

impl Pieces {
    /// The pieces of `stretch` in the recording at `path`, caller left and callee right. A stretch that goes on behind the end of the
    /// file ends there.
    ///
    /// # Errors
    /// The file cannot be read, or is no recording of a call.
    pub fn open(path: &Path, stretch: &Stretch, config: SegmentConfig) -> Result<Self, AudioError> {
        let mut wav = WavReader::open(path)?;
        let format = wav.format();
        let odd = |reason: String| AudioError::Damaged { format: Format::Wav, reason };
        if format.channels != 2 {
            return Err(odd(format!("a call's recording has 2 channels, this has {}", format.channels)));
        }
        let resampler = || Resampler::new(format.rate_hz).map_err(|error| odd(error.to_string()));
        let resamplers = [resampler()?, resampler()?];
        let rate = f64::from(format.rate_hz);
        let first = ((stretch.start - LEAD).max(0.0) * rate) as u64;
        wav.seek_frame(first)?;
        let offset = first as f64 / rate;
        let position = |seconds: f64| ((seconds - offset).max(0.0) * f64::from(RATE)).round() as u64;
        let opening = stretch.shown.as_ref().map(|shown| Opening {
            shown: (position(shown.start), position(shown.end)),
            audio: Vec::new(),
            speech: None,
            voiced: Duration::ZERO,
            unclear: false,
        });
        Ok(Self {
            wav,
            leg: stretch.leg,
            config,
            offset,
            begin: position(stretch.start),
            end: position(stretch.end),
            position: 0,
            resamplers,
            other: Said::default(),
            segmenter: Segmenter::new(config),
            opening,
            ready: VecDeque::new(),
            is_over: false,
        })
    }

    /// Where the recording ends, seconds on its clock.
    pub fn recording_end(&self) -> f64 {
        let format = self.wav.format();
        format.frames as f64 / f64::from(format.rate_hz)
    }

    /// The next piece; `None` at the end. Looks at `cancel` on the way, which may lead through an hour of silence.
    ///
    /// # Errors
    /// The file cannot be read any further, or it is cancelled.
    pub fn next(&mut self, cancel: &CancellationToken) -> Result<Option<Piece>, CatchUpError> {
        loop {
            if cancel.is_cancelled() {
                return Err(CatchUpError::Cancelled);
            }
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            if self.is_over {
                return Ok(None);
            }
            self.read_on()?;
        }
    }

    fn read_on(&mut self) -> Result<(), AudioError> {
        let mut frames = vec![0; (self.wav.format().rate_hz / CHUNKS_A_SECOND).max(1) as usize * 2];
        let read = self.wav.read_frames(&mut frames)?;
        let mut wide = [Vec::new(), Vec::new()];
        for (channel, wide) in wide.iter_mut().enumerate() {
            let own = frames[..read * 2].iter().skip(channel).step_by(2);
            let narrow: Vec<f32> = own.map(|&sample| f32::from(sample) / 32_768.0).collect();
            match read {
                0 => self.resamplers[channel].finish(wide),
                _ => self.resamplers[channel].push(&narrow, wide),
            }
        }
        let [caller, callee] = wide;
        let (own, other) = match self.leg {
            Leg::Caller => (caller, callee),
            Leg::Callee => (callee, caller),
        };
        self.other.push(&other);
        self.hear(&own);
        if read == 0 || self.position >= self.end {
            self.finish();
        }
        Ok(())
    }

    fn hear(&mut self, samples: &[f32]) {
        let samples = &samples[..samples.len().min((self.end - self.position) as usize)];
        let before = samples.len().min(self.begin.saturating_sub(self.position) as usize);
        let (before, samples) = samples.split_at(before);
        let mut events = Vec::new();
        if !before.is_empty() {
            self.segmenter.push(before, Some(&self.other.far(0.0)), &mut events);
            self.position += before.len() as u64;
            if self.position == self.begin {
                self.segmenter.begin_here();
            }
            events.clear();
        }
        self.segmenter.push(samples, Some(&self.other.far(0.0)), &mut events);
        self.position += samples.len() as u64;
        if let Some(opening) = &mut self.opening {
            opening.audio.extend_from_slice(samples);
        }
        self.take(events);
        let Some(opening) = &self.opening else { return };
        let is_quiet = self.segmenter.speech().is_none();
        if is_quiet && self.position > opening.shown.1 + samples_in(SURELY_OVER) {
            let shown_end = opening.shown.1 + samples_in(SLACK);
            self.close_opening(opening.speech.map_or(shown_end, |(_, end)| shown_end.max(end)));
        } else if opening.audio.len() as u64 >= samples_in(self.config.max_utterance + ROLLS) {
            let mut events = Vec::new();
            self.segmenter.finish(&mut events);
            self.take(events);
            self.segmenter.begin_here();
            self.close_opening(self.position);
        }
    }

    fn finish(&mut self) {
        self.is_over = true;
        let mut events = Vec::new();
        self.segmenter.finish(&mut events);
        self.take(events);
        self.close_opening(self.position);
    }

    fn take(&mut self, events: Vec<SegmentEvent>) {
        for event in events {
            let SegmentEvent::Ended(utterance) = event else { continue };
            let Utterance { audio, audio_start, speech_start, speech_end, voiced, unclear, .. } = utterance;
            let Some(opening) = &mut self.opening else {
                let speech = (speech_start, speech_end);
                let piece = Piece {
                    audio,
                    offset: self.offset,
                    audio_start,
                    speech,
                    voiced,
                    unclear,
                    is_shown: false,
                };
                self.ready.push_back(piece);
                continue;
            };
            let start = opening.speech.map_or(speech_start, |(start, _)| start);
            opening.speech = Some((start, speech_end));
            opening.voiced += voiced;
            opening.unclear |= unclear;
            if speech_end + samples_in(SLACK) >= opening.shown.1 {
                self.close_opening(audio_start + audio.len() as u64);
            }
        }
    }

    /// What was shown ends at `end`.
    fn close_opening(&mut self, end: u64) {
        let Some(Opening { shown, mut audio, speech, voiced, unclear }) = self.opening.take() else { return };
        audio.truncate((end.saturating_sub(self.begin)) as usize);
        if audio.is_empty() {
            // The recording ends before it.
            return;
        }
        // What the detector does not hear now it heard then: it was all voiced.
        let voiced = if speech.is_some() {
            voiced
        } else {
            Duration::from_secs_f64(audio.len() as f64 / f64::from(RATE))
        };
        self.ready.push_back(Piece {
            audio: audio.into(),
            offset: self.offset,
            audio_start: self.begin,
            speech: speech.unwrap_or(shown),
            voiced,
            unclear,
            is_shown: true,
        });
    }
}
