//! The threads: one that listens to all legs, and workers that recognise.

mod leg;
mod listener;
mod overload;
mod remote;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::{Condvar, Mutex};
use thiserror::Error;
use tokio::sync::oneshot;

pub use self::overload::{LegOverload, Overload, OverloadSink};

use self::leg::SessionRules;
use self::listener::Rules;
use super::event::TranscriptEvent;
use super::ladder::Rung;
use super::model::english_only;
use super::owed::OwedSpan;
use super::recogniser::{Hypothesis, RecogniseError, Request, SpeechModel};
use super::remote::{StreamNews, StreamingService};
use super::scheduler::{Scheduler, Task, TaskId};
use super::segment::SegmentConfig;
use crate::clock;
use crate::media::clock::CallClock;
use crate::media::leg::Leg;
use crate::media::ring::Ring;

/// How the engine works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeechConfig {
    /// Recognising threads; 0 for as many as processor cores.
    pub workers: usize,
    /// Time between partials while someone speaks.
    pub partial_step: Duration,
    /// Silence that ends an utterance.
    pub hangover: Duration,
    /// Longest utterance; cut at its quietest place then. Models that are good at shorter ones only shorten it.
    pub max_utterance: Duration,
    /// How long [`LegListener::finish`] waits for the last finals; at most 4 s for a leg that something catches up with.
    pub finish_timeout: Duration,
    /// When finals come later than this, the calls that began last are left to their recordings.
    pub max_lag: Duration,
    /// Whether the last rung of the ladder, [`Rung::CallsRefused`], exists.
    pub refuse_calls: bool,
    /// The last words of a leg are told to models that this does good ([`SpeechModel::carries_text`]).
    pub carry_text: bool,
}

impl Default for SpeechConfig {
    fn default() -> Self {
        Self {
            workers: 0,
            partial_step: Duration::from_millis(500),
            hangover: Duration::from_millis(400),
            max_utterance: Duration::from_secs(12),
            finish_timeout: Duration::from_secs(15),
            max_lag: Duration::from_secs(15),
            refuse_calls: false,
            carry_text: true,
        }
    }
}

/// Why the engine did not start.
#[derive(Debug, Error)]
pub enum SpeechError {
    /// A setting is out of range.
    #[error("speech.{setting} is {value_ms} ms: it has to be from {least_ms} to {most_ms} ms")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// Its value.
        value_ms: u128,
        /// The least allowed.
        least_ms: u64,
        /// The most allowed.
        most_ms: u64,
    },
    /// No recogniser could be made.
    #[error(transparent)]
    Recogniser(#[from] RecogniseError),
    /// A thread could not be started.
    #[error("cannot start thread {name}: {reason}")]
    Thread {
        /// Its name.
        name: String,
        /// What the system says.
        reason: std::io::Error,
    },
}

/// Where a leg's audio is and how its words are to be numbered.
#[derive(Clone)]
pub struct LegAudio {
    /// The call, for logs.
    pub call_id: String,
    /// Who speaks.
    pub leg: Leg,
    /// The leg's audio.
    pub ring: Arc<Ring>,
    /// The call's clock: words are timed from its origin.
    pub clock: Arc<CallClock>,
    /// Language code, or `auto`: then the first longer utterance decides.
    pub language: String,
    /// Stay this far behind the ring's head, so that reordering is over.
    pub live_lag: Duration,
    /// Number of the first utterance: 1, or where a call that goes on after a restart had got to.
    pub first_utterance: u64,
    /// Text for the model to lean on: names, words of the trade, separated by commas.
    pub vocabulary: Option<Arc<str>>,
    /// What the report says is owed will be transcribed from a recording: it gets its finals then. `false`: nothing will catch up,
    /// so that what subscribers were told of has its final by the end of the leg, whatever its words are worth.
    pub caught_up: bool,
    /// Audio that a client pushes, as fast or as slowly as it likes: its time is the number of samples that came.
    pub pushed: Option<Pushed>,
    /// A service elsewhere that is to recognise it; `None`: the model in this process.
    pub service: Option<Arc<dyn StreamingService>>,
}

/// What is different for a leg whose audio is pushed.
#[derive(Clone)]
pub struct Pushed {
    /// Silence that ends an utterance, if it is not the engine's.
    pub hangover: Option<Duration>,
    /// Told how far the engine has come with the leg, each time that it has, and after the events up to there.
    pub progress: ProgressSink,
}

/// How far the engine has come with a leg.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Ring samples that have been heard.
    pub heard: u64,
    /// Seconds on the recording's clock before which no further event begins, unless it is of an utterance told of already.
    pub settled: f64,
    /// Where the speech of the utterance that is open begins, seconds on the recording's clock.
    pub speaking: Option<f64>,
    /// Utterances that have ended and have no final yet.
    pub closed: usize,
}

/// What the transcription of a leg came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FinishReport {
    /// Finals given out.
    pub finals: u64,
    /// Partials given out.
    pub partials: u64,
    /// Utterances whose last recognition failed: they are owed; if nothing catches up, their finals hold what stood before.
    pub failed: u64,
    /// Utterances that time did not suffice for: they are owed; if nothing catches up, their finals hold the words last shown, and
    /// without any they have none.
    pub unfinished: u64,
    /// Slots of 10 ms that the engine was too late for; they count as silence.
    pub missed_slots: u64,
    /// Whether the whole leg was heard; if not, time was up before.
    pub complete: bool,
    /// What is to be transcribed from the recording, in order of time. Empty if nothing catches up ([`LegAudio::caught_up`]).
    pub owed: Vec<OwedSpan>,
}

/// Takes a leg's events, in order, on the engine's listening thread: it has to be quick.
pub type EventSink = Arc<dyn Fn(TranscriptEvent) + Send + Sync>;

/// Takes how far a leg has come, on the engine's listening thread: it has to be quick.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// The running engine. Dropping it ends its threads; legs that are still being heard end unfinished.
pub struct SpeechEngine {
    shared: Arc<Shared>,
    commands: Sender<Command>,
    threads: Vec<JoinHandle<()>>,
    segments: SegmentConfig,
    workers: usize,
}

impl fmt::Debug for SpeechEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpeechEngine")
            .field("model", &self.shared.model.name())
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

/// What listener, workers and jobs have in common.
struct Shared {
    model: Arc<dyn SpeechModel>,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// [`Rung::number`].
    rung: AtomicU8,
    on_overload: Mutex<Option<OverloadSink>>,
}

struct Queue {
    scheduler: Scheduler<Work>,
    closing: bool,
}

/// Owners of tasks, legs and jobs alike, are numbered through the process.
pub(super) fn next_owner() -> u64 {
    static OWNERS: AtomicU64 = AtomicU64::new(1);
    OWNERS.fetch_add(1, Ordering::Relaxed)
}

/// What a worker gets.
pub(super) struct Work {
    pub(super) audio: Arc<[f32]>,
    pub(super) request: Request,
    pub(super) reply: Sender<Command>,
}

/// What became of a task.
pub(super) struct Outcome {
    pub(super) id: TaskId,
    /// `None`: given up for want of time.
    pub(super) result: Option<Result<Hypothesis, RecogniseError>>,
}

/// What the listening thread is told; a job's own thread gets `Done` alone.
pub(super) enum Command {
    Listen { owner: u64, audio: LegAudio, sink: EventSink },
    Finish { owner: u64, done: oneshot::Sender<FinishReport> },
    Flush { owner: u64, done: oneshot::Sender<()> },
    Detach { owner: u64 },
    Abandon { owner: u64 },
    Done(Outcome),
    Heard { owner: u64, stream: u64, news: StreamNews },
    Close,
}

impl SpeechEngine {
    /// Start the threads.
    ///
    /// # Errors
    /// [`SpeechError`]: a setting out of range, no memory for the recognisers, no thread.
    pub fn start(config: SpeechConfig, model: Arc<dyn SpeechModel>) -> Result<Self, SpeechError> {
        check(&config)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if config.workers == 0 { cores } else { config.workers };
        let longest = model.longest_utterance().unwrap_or(config.max_utterance);
        let segments = SegmentConfig {
            hangover: config.hangover,
            max_utterance: config.max_utterance.min(longest),
            ..SegmentConfig::default()
        };
        let scheduler =
            Scheduler::new(config.partial_step).with_workers(workers).refusing(config.refuse_calls);
        let rules = Rules {
            session: SessionRules { segments, carries_text: config.carry_text && model.carries_text() },
            finish_timeout: config.finish_timeout,
            max_lag: config.max_lag,
        };
        let shared = Arc::new(Shared {
            model,
            queue: Mutex::new(Queue { scheduler, closing: false }),
            wake: Condvar::new(),
            rung: AtomicU8::new(0),
            on_overload: Mutex::new(None),
        });
        let (commands, inbox) = unbounded();
        let mut engine = Self { shared, commands, threads: Vec::new(), segments, workers };
        engine.start_workers()?;
        engine.start_listener(inbox, rules)?;
        tracing::info!(model = engine.shared.model.name(), workers, "speech to text is ready");
        Ok(engine)
    }

    /// Begin to transcribe a leg from the oldest audio that its ring holds.
    pub fn listen(&self, audio: LegAudio, sink: EventSink) -> LegListener {
        let owner = next_owner();
        // The channel outlives the engine's threads only while the engine is being dropped, when nobody can call this.
        let _ = self.commands.send(Command::Listen { owner, audio, sink });
        LegListener { owner, commands: self.commands.clone() }
    }

    /// Have `sink` told when the ladder moves, and of legs that are left to their recordings; of nothing before.
    pub fn on_overload(&self, sink: OverloadSink) {
        *self.shared.on_overload.lock() = Some(sink);
    }

    /// How far overload has gone.
    pub fn rung(&self) -> Rung {
        let number = self.shared.rung.load(Ordering::Relaxed);
        Rung::ALL.into_iter().find(|rung| rung.number() == number).unwrap_or_default()
    }

    /// Whether one more leg can be transcribed live, by what those before it cost. Legs that something catches up with ask this
    /// themselves. Whoever is turned away counts: the ladder climbs.
    pub fn admits(&self) -> bool {
        self.shared.queue.lock().scheduler.admits(clock::now())
    }

    /// Name of the model.
    pub fn model(&self) -> &str {
        self.shared.model.name()
    }

    /// What to tell users who ask for `language` of a model that knows English only: it takes everything for English.
    pub fn deaf_to(&self, language: &str) -> Option<String> {
        let model = &self.shared.model;
        (language != "en" && !model.is_multilingual()).then(|| english_only(model.name(), language))
    }

    /// What of a vocabulary is too much for the model, and is left out.
    pub fn left_out_of(&self, vocabulary: &str) -> Option<String> {
        self.shared.model.left_out_of(vocabulary)
    }

    /// Recognising threads.
    pub fn workers(&self) -> usize {
        self.workers
    }

    pub(super) fn segments(&self) -> SegmentConfig {
        self.segments
    }

    pub(super) fn submit(&self, task: Task<Work>) {
        self.shared.queue.lock().scheduler.submit(task, clock::now());
        self.shared.wake.notify_one();
    }

    pub(super) fn cancel_all(&self, owner: u64) {
        self.shared.queue.lock().scheduler.cancel_all(owner);
    }

    fn start_workers(&mut self) -> Result<(), SpeechError> {
        let (ready, started) = unbounded();
        for index in 0..self.workers {
            let (shared, ready) = (self.shared.clone(), ready.clone());
            self.spawn(format!("asr-{index}"), move || worker::run(&shared, index, &ready))?;
        }
        drop(ready);
        // A worker that cannot get its memory says so before the engine is said to be up.
        for outcome in started.iter().take(self.workers) {
            outcome?;
        }
        Ok(())
    }

    fn start_listener(&mut self, inbox: Receiver<Command>, rules: Rules) -> Result<(), SpeechError> {
        let (shared, outbox) = (self.shared.clone(), self.commands.clone());
        self.spawn("asr-listen".into(), move || listener::Listener::new(shared, rules, outbox).run(&inbox))
    }

    fn spawn(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> Result<(), SpeechError> {
        let thread = std::thread::Builder::new().name(name.clone()).spawn(body);
        self.threads.push(thread.map_err(|reason| SpeechError::Thread { name, reason })?);
        Ok(())
    }
}

impl Drop for SpeechEngine {
    fn drop(&mut self) {
        self.shared.queue.lock().closing = true;
        self.shared.wake.notify_all();
        let _ = self.commands.send(Command::Close);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so; there is nothing left to do for it.
            let _ = thread.join();
        }
    }
}

/// A leg being transcribed. Dropping it does not end that: the end of the ring does.
pub struct LegListener {
    owner: u64,
    commands: Sender<Command>,
}

impl fmt::Debug for LegListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegListener").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl Drop for LegListener {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Detach { owner: self.owner });
    }
}

impl LegListener {
    /// End the utterance that is open now, whether or not its speaker goes on, and wait until everything that the leg's ring has
    /// received by now has been given to the sink. Returns early only if the leg ends.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let _ = self.commands.send(Command::Flush { owner: self.owner, done });
        // Dropped without an answer: the leg is over, and its report says what became of it.
        let _ = flushed.await;
    }

    /// Nobody wants any more of this leg: what is not recognised yet never is, and the sinks are not called any more, but for what is
    /// under way.
    pub fn abandon(&self) {
        let _ = self.commands.send(Command::Abandon { owner: self.owner });
    }

    /// To be called once the ring is closed, or about to be: wait until all finals have been given to the sink, at most
    /// for [`SpeechConfig::finish_timeout`]. The sink is not called afterwards.
    pub async fn finish(self) -> FinishReport {
        let (done, report) = oneshot::channel();
        let _ = self.commands.send(Command::Finish { owner: self.owner, done });
        report.await.unwrap_or_default()
    }
}

fn check(config: &SpeechConfig) -> Result<(), SpeechError> {
    let ranges = [
        ("partial_ms", config.partial_step, 100, 10_000),
        ("hangover_ms", config.hangover, 200, 5_000),
        ("max_utterance_ms", config.max_utterance, 2_000, 28_000),
        ("max_lag_ms", config.max_lag, 2_000, 600_000),
    ];
    for (setting, value, least_ms, most_ms) in ranges {
        let value_ms = value.as_millis();
        if !(u128::from(least_ms)..=u128::from(most_ms)).contains(&value_ms) {
            return Err(SpeechError::Setting { setting, value_ms, least_ms, most_ms });
        }
    }
    Ok(())
}
