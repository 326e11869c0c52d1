//! Whole files through the same parts: utterances by the detector, all of them to the workers, finals only.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use thiserror::Error;

use super::RATE;
use super::engine::{Command, Outcome, SpeechEngine, Work, next_owner};
use super::event::TranscriptEvent;
use super::recogniser::{RecogniseError, Request};
use super::resample::{Resampler, UnsupportedRate};
use super::scheduler::{Class, Task, TaskId};
use super::segment::SegmentConfig;
use super::session::{Order, Session};
use crate::clock;
use crate::media::leg::Leg;

/// What to transcribe.
#[derive(Clone, Copy, Debug)]
pub struct BatchAudio<'a> {
    /// One channel, or two of the same length: caller, then callee.
    pub channels: &'a [&'a [i16]],
    /// Samples a second and channel.
    pub rate: u32,
    /// Language code, or `auto`.
    pub language: &'a str,
}

/// Why a file was not transcribed.
#[derive(Debug, Error)]
pub enum BatchError {
    /// Neither one channel nor two.
    #[error("{count} channels: only one or two can be transcribed")]
    Channels {
        /// How many there are.
        count: usize,
    },
    /// The rate cannot be converted.
    #[error(transparent)]
    Rate(#[from] UnsupportedRate),
    /// An utterance could not be recognised.
    #[error(transparent)]
    Recognise(#[from] RecogniseError),
}

/// Samples taken in at a time: the progress bar moves, and the workers begin, while the rest is still being cut.
const CHUNK_SECONDS: usize = 5;
/// So many tasks are ready for every worker, and no more audio than that is held.
const QUEUED_PER_WORKER: usize = 4;

/// Transcribe `audio` on the engine's workers, behind whatever is live. `progress` is told the share that is done, 0 to 1.
/// Blocks: not to be called on an async thread. Events are finals, numbered by channel, in no particular order; times are
/// seconds from the start.
///
/// # Errors
/// [`BatchError`]; an utterance that cannot be recognised fails the file.
pub fn transcribe(
    engine: &SpeechEngine,
    audio: &BatchAudio<'_>,
    progress: &mut dyn FnMut(f64),
) -> Result<Vec<TranscriptEvent>, BatchError> {
    let count = audio.channels.len();
    if !(1..=2).contains(&count) {
        return Err(BatchError::Channels { count });
    }
    let total: usize = audio.channels.iter().map(|c| c.len()).sum();
    let mut job = Job::new(engine);
    let mut events = Vec::new();
    let mut before = 0;
    for (channel, leg) in audio.channels.iter().zip(Leg::BOTH) {
        let mut session = Session::new(leg, audio.language.to_owned(), 0.0, 1, job.segments);
        let mut resampler = Resampler::new(audio.rate)?;
        let mut wide = Vec::new();
        for chunk in channel.chunks(audio.rate as usize * CHUNK_SECONDS) {
            let samples: Vec<f32> = chunk.iter().map(|&s| f32::from(s) / 32_768.0).collect();
            resampler.push(&samples, &mut wide);
            session.push(&wide);
            wide.clear();
            job.submit(&mut session);
            while job.waiting > engine.workers() * QUEUED_PER_WORKER {
                job.collect(&mut session)?;
            }
            before += chunk.len();
            progress(before as f64 / total as f64);
        }
        resampler.finish(&mut wide);
        session.push(&wide);
        session.finish();
        job.submit(&mut session);
        while job.waiting > 0 {
            job.collect(&mut session)?;
        }
        events.extend(session.take_events());
    }
    progress(1.0);
    Ok(events)
}

/// The tasks of one file.
struct Job<'a> {
    engine: &'a SpeechEngine,
    segments: SegmentConfig,
    owner: u64,
    outbox: Sender<Command>,
    inbox: Receiver<Command>,
    waiting: usize,
}

impl<'a> Job<'a> {
    fn new(engine: &'a SpeechEngine) -> Self {
        let (outbox, inbox) = unbounded();
        // Nobody waits for the end of a pause here, so that nothing need be tried before it.
        let segments = SegmentConfig { pause: engine.segments().hangover, ..engine.segments() };
        Self { engine, segments, owner: next_owner(), outbox, inbox, waiting: 0 }
    }

    fn submit(&mut self, session: &mut Session) {
        for order in session.take_orders() {
            let Order::Recognise { ticket, audio, .. } = order else { continue };
            self.engine.submit(Task {
                id: TaskId { owner: self.owner, ticket },
                class: Class::Job,
                deadline: clock::now(),
                audio: Duration::from_micros(audio.len() as u64 * 1_000_000 / u64::from(RATE)),
                payload: Work {
                    audio,
                    request: Request {
                        language: session.language().to_owned(),
                        prompt: None,
                        partial: false,
                    },
                    reply: self.outbox.clone(),
                },
            });
            self.waiting += 1;
        }
    }

    /// Wait for one outcome.
    fn collect(&mut self, session: &mut Session) -> Result<(), BatchError> {
        // It comes: `outbox` keeps the channel open, and the engine, which is borrowed, keeps its workers.
        let Ok(Command::Done(Outcome { id, result: Some(result) })) = self.inbox.recv() else {
            return Ok(());
        };
        self.waiting -= 1;
        session.on_result(id.ticket, Some(Ok(result?)));
        Ok(())
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        self.engine.cancel_all(self.owner);
    }
}
