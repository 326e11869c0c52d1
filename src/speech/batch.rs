//! Whole files through the same parts: utterances by the detector, all of them to the workers, finals only.
//!
//! A file is read as the workers get on with it, and no more of it is held than they have ready: its length does not matter.
//! Its channels are recognised side by side.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::RATE;
use super::engine::{Command, Outcome, SpeechEngine, Work, next_owner};
use super::event::TranscriptEvent;
use super::recogniser::{RecogniseError, Request};
use super::resample::{Resampler, UnsupportedRate};
use super::scheduler::{Class, Task, TaskId};
use super::segment::SegmentConfig;
use super::session::{Order, Session};
use crate::audio::{AudioError, PcmSource};
use crate::clock;
use crate::media::leg::Leg;

/// How to transcribe.
#[derive(Clone, Copy, Debug)]
pub struct BatchOptions<'a> {
    /// Language code, or `auto`.
    pub language: &'a str,
    /// Text for the model to lean on: names, words of the trade.
    pub prompt: Option<&'a str>,
    /// [`Class::Job`], or [`Class::CatchUp`] for the recording of a call.
    pub class: Class,
}

/// What happens while a file is transcribed.
#[derive(Clone, Debug)]
pub enum BatchNews {
    /// The share of the file that has been read, 0 to 1.
    Read(f64),
    /// An utterance, in the order of [`Transcript::new`](super::transcript::Transcript::new), whatever the order in which they were
    /// recognised.
    Final(TranscriptEvent),
}

/// What came of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Finals, numbered by channel; times are seconds from the start.
    pub events: Vec<TranscriptEvent>,
    /// Length of the audio, seconds.
    pub duration: f64,
}

/// Why a file was not transcribed.
#[derive(Debug, Error)]
pub enum BatchError {
    /// Neither one channel nor two.
    #[error("{count} channels: only one or two can be transcribed (`ffmpeg -i IN -ac 1 OUT.wav` mixes them)")]
    Channels {
        /// How many there are.
        count: usize,
    },
    /// The file cannot be read to its end.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// The rate cannot be converted.
    #[error(transparent)]
    Rate(#[from] UnsupportedRate),
    /// An utterance could not be recognised.
    #[error(transparent)]
    Recognise(#[from] RecogniseError),
    /// Nobody wants it any more.
    #[error("cancelled")]
    Cancelled,
}

/// Audio taken in at a time: the progress bar moves, and the workers begin, while the rest is still being cut.
const CHUNK_SECONDS: usize = 5;
/// So many tasks are ready for every worker, and no more audio than that is held.
const QUEUED_PER_WORKER: usize = 4;
/// Whether it is cancelled is looked at this often while the workers are busy with more urgent things.
const CANCEL_CHECK: Duration = Duration::from_millis(100);

/// Transcribe `source` on the engine's workers, behind whatever is live; of two channels the first is the caller's.
/// Blocks: not to be called on an async thread. `news` is called on this thread.
///
/// # Errors
/// [`BatchError`]; an utterance that cannot be recognised fails the file.
pub fn transcribe(
    engine: &SpeechEngine,
    source: &mut dyn PcmSource,
    options: BatchOptions<'_>,
    cancel: &CancellationToken,
    news: &mut dyn FnMut(BatchNews),
) -> Result<Batch, BatchError> {
    let spec = source.spec();
    let count = usize::from(spec.channels);
    if !(1..=2).contains(&count) {
        return Err(BatchError::Channels { count });
    }
    let mut job = Job::new(engine, options, cancel, spec.rate_hz, count)?;
    let mut chunk = vec![0; spec.rate_hz as usize * CHUNK_SECONDS * count];
    let mut frames = 0;
    loop {
        let read = source.read(&mut chunk)?;
        frames += read as u64;
        job.push(&chunk[..read * count]);
        if read == 0 {
            break;
        }
        job.submit();
        while job.waiting > engine.workers() * QUEUED_PER_WORKER {
            job.collect()?;
        }
        news(BatchNews::Read(source.share()));
        job.tell(news, false);
    }
    job.finish();
    job.submit();
    while job.waiting > 0 {
        job.collect()?;
        job.tell(news, false);
    }
    job.tell(news, true);
    let events = std::mem::take(&mut job.told);
    Ok(Batch { events, duration: frames as f64 / f64::from(spec.rate_hz) })
}

/// A channel of the file.
struct Channel {
    owner: u64,
    session: Session,
    resampler: Resampler,
    narrow: Vec<f32>,
    wide: Vec<f32>,
}

/// The tasks of one file.
struct Job<'a> {
    engine: &'a SpeechEngine,
    options: BatchOptions<'a>,
    cancel: &'a CancellationToken,
    channels: Vec<Channel>,
    outbox: Sender<Command>,
    inbox: Receiver<Command>,
    waiting: usize,
    /// Finals that one may still come before.
    held: Vec<TranscriptEvent>,
    told: Vec<TranscriptEvent>,
}

impl<'a> Job<'a> {
    fn new(
        engine: &'a SpeechEngine,
        options: BatchOptions<'a>,
        cancel: &'a CancellationToken,
        rate_hz: u32,
        count: usize,
    ) -> Result<Self, UnsupportedRate> {
        let (outbox, inbox) = unbounded();
        // Nobody waits for the end of a pause here, so that nothing need be tried before it.
        let segments = SegmentConfig { pause: engine.segments().hangover, ..engine.segments() };
        let channel = |leg| {
            Ok(Channel {
                owner: next_owner(),
                session: Session::new(leg, options.language.to_owned(), 0.0, 1, segments),
                resampler: Resampler::new(rate_hz)?,
                narrow: Vec::new(),
                wide: Vec::new(),
            })
        };
        let channels = Leg::BOTH.into_iter().take(count).map(channel).collect::<Result<_, _>>()?;
        let (held, told) = (Vec::new(), Vec::new());
        Ok(Self { engine, options, cancel, channels, outbox, inbox, waiting: 0, held, told })
    }

    /// The next frames, interleaved.
    fn push(&mut self, samples: &[i16]) {
        let count = self.channels.len();
        for (n, channel) in self.channels.iter_mut().enumerate() {
            let own = samples.iter().skip(n).step_by(count);
            channel.narrow.clear();
            channel.narrow.extend(own.map(|&sample| f32::from(sample) / 32_768.0));
            channel.resampler.push(&channel.narrow, &mut channel.wide);
            channel.session.push(&channel.wide);
            channel.wide.clear();
        }
    }

    fn finish(&mut self) {
        for channel in &mut self.channels {
            channel.resampler.finish(&mut channel.wide);
            channel.session.push(&channel.wide);
            channel.session.finish();
        }
    }

    fn submit(&mut self) {
        for channel in &mut self.channels {
            for order in channel.session.take_orders() {
                let Order::Recognise { ticket, audio, class } = order else { continue };
                self.engine.submit(Task {
                    id: TaskId { owner: channel.owner, ticket },
                    class: self.options.class,
                    // In the order in which files ask: each has a few pieces in the queue at a time, so that they take turns.
                    deadline: clock::now(),
                    audio: Duration::from_micros(audio.len() as u64 * 1_000_000 / u64::from(RATE)),
                    payload: Work {
                        audio,
                        request: Request {
                            language: channel.session.language(class).to_owned(),
                            prompt: self.options.prompt.map(str::to_owned),
                            partial: false,
                        },
                        reply: self.outbox.clone(),
                    },
                });
                self.waiting += 1;
            }
        }
    }

    /// Wait for one outcome.
    fn collect(&mut self) -> Result<(), BatchError> {
        // It comes: `outbox` keeps the channel open, and the engine, which is borrowed, keeps its workers.
        let Outcome { id, result } = loop {
            if self.cancel.is_cancelled() {
                return Err(BatchError::Cancelled);
            }
            match self.inbox.recv_timeout(CANCEL_CHECK) {
                Ok(Command::Done(outcome)) => break outcome,
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(BatchError::Cancelled),
            }
        };
        self.waiting -= 1;
        let Some(channel) = self.channels.iter_mut().find(|channel| channel.owner == id.owner) else {
            return Ok(());
        };
        // Only partials are ever given up, and there are none here.
        if let Some(result) = result {
            channel.session.on_result(id.ticket, Some(Ok(result?)));
        }
        self.held.extend(channel.session.take_events());
        Ok(())
    }

    /// Tell of the finals that none can come before any more.
    fn tell(&mut self, news: &mut dyn FnMut(BatchNews), is_end: bool) {
        let settled = self.channels.iter().map(|channel| channel.session.settled()).fold(f64::MAX, f64::min);
        self.held.sort_by(|a, b| a.start.total_cmp(&b.start).then_with(|| order(a).cmp(&order(b))));
        let ready = self.held.iter().take_while(|event| is_end || event.start < settled).count();
        for event in self.held.drain(..ready) {
            news(BatchNews::Final(event.clone()));
            self.told.push(event);
        }
    }
}

fn order(event: &TranscriptEvent) -> (Leg, u64) {
    (event.leg, event.utterance)
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        for channel in &self.channels {
            self.engine.cancel_all(channel.owner);
        }
    }
}
