//! What live transcription left out, put into words from a call's recording: behind whatever is live, and under the numbers that
//! subscribers know.

mod cut;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

pub use cut::{Piece, Pieces, Stretch};

use super::agreement::Agreement;
use super::engine::{Command, Outcome, SpeechEngine, Work, next_owner};
use super::event::{TranscriptEvent, TranscriptKind, join_words, to_millis};
use super::language::LegLanguage;
use super::recogniser::{Hypothesis, RecogniseError, Request};
use super::scheduler::{Class, Task, TaskId};
use super::segment::SegmentConfig;
use crate::audio::AudioError;
use crate::clock;
use crate::media::leg::Leg;
use crate::telemetry::metric;

/// A piece that cannot be recognised so often in a row is given up.
pub const ATTEMPTS: u32 = 3;
/// Whether it is cancelled is looked at this often while the workers are busy with more urgent things.
const CANCEL_CHECK: Duration = Duration::from_millis(100);

/// Why a stretch was not gone through to its end.
#[derive(Debug, Error)]
pub enum CatchUpError {
    /// The recording cannot be read.
    #[error("the recording cannot be read: {0}")]
    Audio(#[from] AudioError),
    /// It is to stop, for now or for good.
    #[error("cancelled")]
    Cancelled,
    /// The keeper could not keep what came of a piece.
    #[error("{0}")]
    Keep(String),
}

/// What is asked of the recogniser for a leg's pieces besides their audio.
#[derive(Clone, Debug)]
pub struct Asking {
    /// The leg's language; what comes of each piece is taken into account, as in live finals.
    pub language: LegLanguage,
    /// Text for the model to lean on.
    pub vocabulary: Option<Arc<str>>,
}

impl Asking {
    fn request(&self) -> Request {
        Request {
            language: self.language.of_finals().to_owned(),
            prompt: self.vocabulary.as_deref().map(str::to_owned),
            partial: false,
        }
    }
}

/// Who wants the pieces of a stretch.
pub trait Keeper {
    /// Whether this piece has been kept before, and need not be recognised again.
    ///
    /// # Errors
    /// [`CatchUpError`] ends the stretch.
    fn is_done(&mut self, piece: &Piece) -> Result<bool, CatchUpError>;

    /// What came of a piece, in their order.
    ///
    /// # Errors
    /// [`CatchUpError`] ends the stretch.
    fn done(
        &mut self,
        piece: &Piece,
        outcome: Result<Hypothesis, RecogniseError>,
    ) -> Result<(), CatchUpError>;
}

/// How a call's audio is cut here: nobody waits for the end of a pause, so that nothing need be tried before it.
pub fn segments(engine: &SpeechEngine) -> SegmentConfig {
    SegmentConfig { pause: engine.segments().hangover, ..engine.segments() }
}

/// Recognise `pieces` on the engine's workers, as many at a time as there are workers, and hand each to `keeper` in their order,
/// with what came of it after at most [`ATTEMPTS`] attempts. Where the language is `auto`, `asking` learns what is found. Blocks; the
/// keeper is called on this thread.
///
/// # Errors
/// [`CatchUpError`]; what has been kept by then stands.
pub fn recognise(
    engine: &SpeechEngine,
    pieces: &mut Pieces,
    asking: &mut Asking,
    cancel: &CancellationToken,
    keeper: &mut dyn Keeper,
) -> Result<(), CatchUpError> {
    let mut batch = Batch::new(engine);
    loop {
        while batch.waiting.len() < engine.workers() {
            let Some(piece) = pieces.next(cancel)? else { break };
            if !keeper.is_done(&piece)? {
                batch.begin(piece, asking);
            }
        }
        if batch.waiting.is_empty() {
            return Ok(());
        }
        batch.collect(asking, cancel)?;
        while let Some((piece, outcome)) = batch.take_first() {
            if let Ok(hypothesis) = &outcome
                && !hypothesis.words.is_empty()
            {
                let believed = hypothesis.doubt(&piece.evidence()).is_none();
                asking.language.last_word(&hypothesis.language, hypothesis.avg_logprob, believed);
            }
            keeper.done(&piece, outcome)?;
        }
    }
}

struct Waiting {
    ticket: u64,
    piece: Piece,
    attempts: u32,
    outcome: Option<Result<Hypothesis, RecogniseError>>,
}

/// Pieces that are being recognised, in their order.
struct Batch<'a> {
    engine: &'a SpeechEngine,
    owner: u64,
    next_ticket: u64,
    waiting: VecDeque<Waiting>,
    outbox: Sender<Command>,
    inbox: Receiver<Command>,
}

impl<'a> Batch<'a> {
    fn new(engine: &'a SpeechEngine) -> Self {
        let (outbox, inbox) = unbounded();
        Self { engine, owner: next_owner(), next_ticket: 0, waiting: VecDeque::new(), outbox, inbox }
    }

    fn begin(&mut self, piece: Piece, asking: &Asking) {
        let ticket = self.submit(&piece, asking);
        self.waiting.push_back(Waiting { ticket, piece, attempts: 1, outcome: None });
    }

    fn submit(&mut self, piece: &Piece, asking: &Asking) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.engine.submit(Task {
            id: TaskId { owner: self.owner, ticket },
            class: Class::CatchUp,
            // In the order in which calls ask, so that none waits for all of another.
            deadline: clock::now(),
            audio: piece.length(),
            payload: Work {
                audio: piece.audio.clone(),
                request: asking.request(),
                reply: self.outbox.clone(),
            },
        });
        ticket
    }

    /// Wait for one outcome.
    fn collect(&mut self, asking: &Asking, cancel: &CancellationToken) -> Result<(), CatchUpError> {
        let Outcome { id, result } = loop {
            if cancel.is_cancelled() {
                return Err(CatchUpError::Cancelled);
            }
            match self.inbox.recv_timeout(CANCEL_CHECK) {
                Ok(Command::Done(outcome)) => break outcome,
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(CatchUpError::Cancelled),
            }
        };
        let Some(at) = self.waiting.iter().position(|waiting| waiting.ticket == id.ticket) else {
            return Ok(());
        };
        let attempts = self.waiting[at].attempts;
        match result {
            Some(Err(error)) if attempts >= ATTEMPTS => self.waiting[at].outcome = Some(Err(error)),
            Some(Ok(hypothesis)) => self.waiting[at].outcome = Some(Ok(hypothesis)),
            // Only partials are ever given up, so that nothing but an error comes here.
            again => {
                tracing::debug!(attempts, ?again, "a piece of a recording is recognised once more");
                let piece = self.waiting[at].piece.clone();
                self.waiting[at].ticket = self.submit(&piece, asking);
                self.waiting[at].attempts = attempts + 1;
            }
        }
        Ok(())
    }

    /// The first piece, once its outcome is there.
    fn take_first(&mut self) -> Option<(Piece, Result<Hypothesis, RecogniseError>)> {
        let outcome = self.waiting.front_mut()?.outcome.take()?;
        self.waiting.pop_front().map(|waiting| (waiting.piece, outcome))
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.engine.cancel_all(self.owner);
    }
}

/// The final of `piece` under number `utterance`, with the words of `hypothesis`; stable words of `shown`, what subscribers were told
/// of it before, stand. `None` if nothing was said and nothing was told.
pub fn said(
    piece: &Piece,
    leg: Leg,
    utterance: u64,
    hypothesis: &Hypothesis,
    shown: Option<&TranscriptEvent>,
) -> Option<TranscriptEvent> {
    let words = match hypothesis.doubt(&piece.evidence()) {
        None => piece.placed(hypothesis),
        Some(reason) => {
            metric::ASR_SUPPRESSED.add_labelled("reason", reason.name(), 1);
            Vec::new()
        }
    };
    if words.is_empty() && shown.is_none() {
        return None;
    }
    let before = shown.map(|shown| Agreement::shown(shown.words.clone(), shown.revision));
    let revision = before.unwrap_or_default().finish(words);
    let span = piece.span();
    let first = revision.words.first().map_or(f64::MAX, |word| word.start);
    let last = revision.words.last().map_or(0.0, |word| word.end);
    let start = shown.map_or(span.0, |shown| span.0.min(shown.start)).min(first).max(0.0);
    Some(TranscriptEvent {
        kind: TranscriptKind::Final,
        leg,
        utterance,
        revision: revision.number,
        start: to_millis(start),
        end: to_millis(span.1.max(last).max(start)),
        text: join_words(&revision.words, &hypothesis.language),
        language: hypothesis.language.clone(),
        words: revision.words,
    })
}

/// The final of an utterance of which there will be no better words than those last shown.
pub fn as_shown(mut shown: TranscriptEvent) -> TranscriptEvent {
    shown.kind = TranscriptKind::Final;
    shown.revision += 1;
    shown.words.iter_mut().for_each(|word| word.stable = true);
    shown
}
