//! From a socket's bytes to the engine's ears.
//!
//! Each lane is a leg of the engine, with a ring and a clock of its own: audio time is the number of samples that came. A lane is
//! no other one's echo: whoever asks for channels apart wants each as it is. The socket is read no faster than the engine takes
//! its audio in, and than utterances have their finals, so that a client may send a file as fast as it likes: nothing is
//! dropped, and little is held.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::unpack::{BadAudio, Unpacker};
use crate::clock;
use crate::media::clock::CallClock;
use crate::media::codec::opus;
use crate::media::leg::Leg;
use crate::media::ring::{RingWriter, ring};
use crate::media::slot::SlotState;
use crate::media::time::SampleRate;
use crate::speech::engine::{Progress, Pushed};
use crate::speech::resample::Resampler;
use crate::speech::{LegAudio, LegListener, SpeechEngine, TranscriptEvent};

/// What the engine wants, so that it has nothing to convert.
const RATE: SampleRate = SampleRate::WIDEBAND;
/// 5.12 s of it, 168 KB.
const SLOTS: usize = 512;
/// No more than this is in the ring that the engine has not taken in: a second less than there is room for, since what comes out of
/// the resampler comes in chunks, and the first piece behind a header is whole.
const MOST_UNHEARD: u64 = 4 * RATE.hz() as u64;
/// No more than this lies behind the last utterance that has its final. An open utterance alone may take 28 s of it, and the engine's
/// ear is up to 5 s behind: what is beyond has an utterance in it whose final comes without any more audio.
const MOST_UNSETTLED: u64 = 40 * RATE.hz() as u64;
/// Little rooms are not worth the trouble: a tenth of a second.
const LEAST_ROOM: u64 = RATE.hz() as u64 / 10;

/// What the engine says of a lane, in order.
#[derive(Debug)]
pub(in crate::api) enum News {
    /// Words.
    Said(usize, TranscriptEvent),
    /// It has come so far.
    Come(usize, Progress),
}

/// How to listen.
#[derive(Clone, Debug)]
pub(in crate::api) struct Manner {
    /// For the log.
    pub(in crate::api) name: String,
    pub(in crate::api) language: String,
    pub(in crate::api) vocabulary: Option<Arc<str>>,
    /// Silence that ends an utterance, if it is not the engine's.
    pub(in crate::api) hangover: Option<Duration>,
}

/// The lanes of one socket. When it is dropped, whatever has no final yet is given up.
pub(in crate::api) struct Intake {
    unpacker: Unpacker,
    lanes: Vec<Lane>,
    /// What is still to be taken in of the message that came last.
    waiting: Bytes,
    samples: Vec<Vec<f32>>,
    /// Samples a lane that came, at the rate at which they came.
    came: u64,
    digest: Sha256,
}

struct Lane {
    listener: Arc<LegListener>,
    /// `None`: no more comes.
    writer: Option<RingWriter>,
    /// There from the moment that the rate is known.
    resampler: Option<Resampler>,
    wide: Vec<f32>,
    written: u64,
    progress: Progress,
}

impl Intake {
    /// On `engine`, of which the news come from now on.
    pub(in crate::api) fn open(
        engine: &SpeechEngine,
        unpacker: Unpacker,
        manner: &Manner,
    ) -> (Self, UnboundedReceiver<News>) {
        let (news, inbox) = unbounded_channel();
        let lanes: Vec<Lane> = (0..unpacker.lanes()).map(|n| Lane::open(engine, n, manner, &news)).collect();
        let samples = vec![Vec::new(); lanes.len()];
        (Self { unpacker, lanes, waiting: Bytes::new(), samples, came: 0, digest: Sha256::new() }, inbox)
    }

    /// Take in `message`, once there is room for it; only when [`Intake::is_idle`].
    ///
    /// # Errors
    /// [`BadAudio`]; what came before it stands.
    pub(in crate::api) fn offer(&mut self, message: Bytes) -> Result<(), BadAudio> {
        self.waiting = message;
        self.pump()
    }

    /// Whether all that was offered has been taken in.
    pub(in crate::api) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The engine has come on: there may be room again.
    ///
    /// # Errors
    /// [`BadAudio`]; what came before it stands.
    pub(in crate::api) fn come(&mut self, lane: usize, progress: Progress) -> Result<(), BadAudio> {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.progress = progress;
        }
        self.pump()
    }

    /// Samples of a second change: what came before is complete.
    pub(in crate::api) fn unpack_anew(&mut self, unpacker: Unpacker) {
        self.unpacker = unpacker;
        for lane in &mut self.lanes {
            lane.end_of_rate();
        }
        self.came = 0;
    }

    /// Seconds of audio that came.
    pub(in crate::api) fn seconds(&self) -> f64 {
        self.unpacker.rate_hz().map_or(0.0, |hz| self.came as f64 / f64::from(hz))
    }

    /// Samples of the first lane that the engine can hear by now: what [`Progress::heard`] gets to if nothing more comes.
    pub(in crate::api) fn audible(&self) -> u64 {
        let slot = RATE.slot_samples() as u64;
        self.lanes.first().map_or(0, |lane| lane.written / slot * slot)
    }

    /// The SHA-256 of the audio that came, in hexadecimal.
    pub(in crate::api) fn digest(&self) -> String {
        self.digest.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Resolves once all that came in on `lane`, or on all of them, has its final and the news of it are out. Ends utterances
    /// that are open.
    pub(in crate::api) fn flush(&self, lane: Option<usize>) -> BoxFuture<'static, ()> {
        let chosen = self.lanes.iter().enumerate().filter(|(n, lane_n)| {
            // One that never heard anything has nothing to say.
            lane.is_none_or(|lane| lane == *n) && lane_n.written > 0
        });
        let flushes: Vec<_> = chosen
            .map(|(_, lane)| {
                let listener = Arc::clone(&lane.listener);
                async move { listener.flush().await }
            })
            .collect();
        join_all(flushes).map(drop).boxed()
    }

    /// No more comes.
    pub(in crate::api) fn close(&mut self) {
        self.waiting.clear();
        for lane in &mut self.lanes {
            lane.end_of_rate();
            lane.writer = None;
        }
    }

    fn pump(&mut self) -> Result<(), BadAudio> {
        let done = self.take_in();
        if done.is_err() {
            self.waiting.clear();
        }
        done
    }

    fn take_in(&mut self) -> Result<(), BadAudio> {
        while !self.waiting.is_empty() {
            let room = self.lanes.iter().map(Lane::room).min().unwrap_or(0);
            let bytes = self.fitting(room);
            if bytes == 0 {
                break;
            }
            let piece = self.waiting.split_to(bytes);
            self.digest.update(&piece);
            self.unpacker.push(&piece, &mut self.samples)?;
            self.came += self.samples.first().map_or(0, Vec::len) as u64;
            let Some(hz) = self.unpacker.rate_hz() else { continue };
            for (lane, samples) in self.lanes.iter_mut().zip(&mut self.samples) {
                lane.write(samples, hz);
                samples.clear();
            }
        }
        Ok(())
    }

    /// How many bytes of what waits fit into the `room` of every lane.
    fn fitting(&self, room: u64) -> usize {
        let hz = u64::from(self.unpacker.rate_hz().unwrap_or(RATE.hz()));
        let samples = (room * hz / u64::from(RATE.hz())) as usize;
        let all = self.waiting.len();
        match self.unpacker.bytes_for(samples) {
            None => {
                if room >= opus::MAX_PACKET_SAMPLES as u64 {
                    all
                } else {
                    0
                }
            }
            Some(bytes) if bytes >= all => all,
            Some(_) if room < LEAST_ROOM => 0,
            Some(bytes) => bytes,
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        for lane in &self.lanes {
            lane.listener.abandon();
        }
    }
}

impl Lane {
    fn open(engine: &SpeechEngine, n: usize, manner: &Manner, news: &UnboundedSender<News>) -> Self {
        let (mut writer, ring) = ring(RATE, SLOTS);
        writer.set_base(0);
        // Whoever listens may have gone: nobody is to be told then.
        let said = {
            let news = news.clone();
            Arc::new(move |event| drop(news.send(News::Said(n, event))))
        };
        let come = {
            let news = news.clone();
            Arc::new(move |progress| drop(news.send(News::Come(n, progress))))
        };
        let audio = LegAudio {
            call_id: manner.name.clone(),
            leg: Leg::Caller,
            ring,
            clock: Arc::new(CallClock::resumed(clock::now(), RATE, 0)),
            language: manner.language.clone(),
            live_lag: Duration::ZERO,
            first_utterance: 1,
            vocabulary: manner.vocabulary.clone(),
            service: None,
            caught_up: false,
            pushed: Some(Pushed { hangover: manner.hangover, progress: come }),
        };
        let listener = Arc::new(engine.listen(audio, said));
        Self {
            listener,
            writer: Some(writer),
            resampler: None,
            wide: Vec::new(),
            written: 0,
            progress: Progress::default(),
        }
    }

    /// Samples that may be written now.
    fn room(&self) -> u64 {
        let settled = (self.progress.settled.max(0.0) * f64::from(RATE.hz())) as u64;
        let unheard = self.written.saturating_sub(self.progress.heard);
        let unsettled = self.written.saturating_sub(settled);
        MOST_UNHEARD.saturating_sub(unheard).min(MOST_UNSETTLED.saturating_sub(unsettled))
    }

    fn write(&mut self, samples: &[f32], hz: u32) {
        if self.resampler.is_none() {
            // Rates are looked at before anything is taken in.
            self.resampler = Resampler::new(hz).ok();
        }
        let Some(resampler) = &mut self.resampler else { return };
        resampler.push(samples, &mut self.wide);
        self.pass_on();
    }

    /// What the resampler still has belongs to what came.
    fn end_of_rate(&mut self) {
        if let Some(mut resampler) = self.resampler.take() {
            resampler.finish(&mut self.wide);
            self.pass_on();
        }
    }

    fn pass_on(&mut self) {
        if let Some(writer) = &mut self.writer {
            let sample = |n: usize| (self.wide[n] * 32_768.0).round() as i16;
            writer.place(self.written, self.wide.len(), sample, SlotState::Lost);
            self.written += self.wide.len() as u64;
        }
        self.wide.clear();
    }
}
