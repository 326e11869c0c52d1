//! One call's debt, span by span.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::owed::{Owed, OwedCall};
use crate::calls::finish::{self, Books};
use crate::calls::hub::EventKind;
use crate::calls::record::CallRecord;
use crate::calls::transcript::{self, Told};
use crate::media::leg::Leg;
use crate::speech::catch_up::{self as speech, Asking, CatchUpError, Keeper, Piece, Pieces, Stretch};
use crate::speech::language::LegLanguage;
use crate::speech::recogniser::{Hypothesis, RecogniseError};
use crate::speech::{SpeechEngine, TranscriptEvent};

/// Whether the journal has what was published is looked at this often.
const LOOK: Duration = Duration::from_millis(2);
/// A piece that ended the process so often is not tried again.
const STARTS: u32 = 3;
/// The recording may end so much before what is owed: what lies within the last slots. Seconds.
const SLACK: f64 = 0.5;

/// Why a call was not brought to its end.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The process ends, or the call is being removed.
    Stopped,
    /// Something may be mended: in words.
    Later(String),
}

/// Put into words what `owed` says, write the transcript, say so, and strike it off.
pub(super) fn catch_up(
    shared: &Shared,
    owed: &mut OwedCall,
    cancel: &CancellationToken,
) -> Result<(), Trouble> {
    let call = owed.call_id.clone();
    let Some(record) = shared.directory.get(&call) else {
        tracing::info!(call, "a call that was removed owes nothing");
        shared.hub.close_call(&call);
        return shared.store.remove(&call).map_err(|error| Trouble::Later(error.to_string()));
    };
    shared.open_stream(&record).map_err(Trouble::Later)?;
    let told = Told::read(&shared.hub, &call).map_err(|error| Trouble::Later(error.to_string()))?;
    tracing::info!(call, seconds = owed.seconds(), "a transcript is caught up");
    let asking = Leg::BOTH.map(|leg| asking(shared, &record, &told, leg));
    let mut debt =
        Debt { shared, owed, cancel, told, asking, record: &record, utterance: None, is_poison: false };
    if debt.told.saved.is_none() {
        debt.put_into_words()?;
    }
    debt.close()
}

/// What to ask for of a leg: the words to lean on are those of its tenant; a language that was left to the model is what it found in what
/// the leg said before, by the rule of live calls.
fn asking(shared: &Shared, record: &CallRecord, told: &Told, leg: Leg) -> Asking {
    let mut language = LegLanguage::new(record.language.as_deref().unwrap_or_default());
    for event in told.finals.iter().filter(|event| event.leg == leg && !event.words.is_empty()) {
        let sum: f64 = event.words.iter().map(|word| word.confidence.max(f64::MIN_POSITIVE).ln()).sum();
        language.last_word(&event.language, (sum / event.words.len() as f64) as f32, true);
    }
    let expected = shared.expected.of_tenant(Some(&record.tenant));
    Asking { language, vocabulary: expected.vocabulary.clone() }
}

struct Debt<'a> {
    shared: &'a Shared,
    owed: &'a mut OwedCall,
    cancel: &'a CancellationToken,
    told: Told,
    /// Of each leg.
    asking: [Asking; 2],
    record: &'a CallRecord,
    /// The span that is being worked on, and its utterance that was told of.
    utterance: Option<(usize, Option<TranscriptEvent>)>,
    /// The next piece has ended the process too often.
    is_poison: bool,
}

impl Debt<'_> {
    fn put_into_words(&mut self) -> Result<(), Trouble> {
        if self.owed.first_free.is_none() {
            // Before the first number is given: what was given by whom has to be known for good.
            self.owed.first_free = Some(self.told.next);
            self.shared.store.save(self.owed).map_err(|error| Trouble::Later(error.to_string()))?;
        }
        let shared = self.shared;
        let Some(engine) = &shared.speech else {
            self.lack("there is no model to put it into words (speech.model is `off`)");
            return Ok(());
        };
        let Some(recording) = self.recording() else {
            self.lack("it is not recorded, or its recording is gone");
            return Ok(());
        };
        let finals = self.told.finals.len();
        if self.owed.finals.replace(finals).is_some_and(|before| finals > before) {
            self.owed.attempts = 0;
        }
        self.owed.attempts += 1;
        self.is_poison = self.owed.attempts > STARTS;
        let done = self.note().and_then(|()| self.all_spans(engine, &recording));
        if done.is_err() {
            // It was asked to, or a disk failed: nothing is wrong with the piece.
            self.owed.attempts = 0;
            let _ = self.note();
        }
        done
    }

    fn all_spans(&mut self, engine: &SpeechEngine, recording: &Path) -> Result<(), Trouble> {
        for index in 0..self.owed.spans.len() {
            let Owed { leg, span, done_to } = self.owed.spans[index].clone();
            if done_to >= span.end {
                continue;
            }
            let known = span.utterance.and_then(|number| self.told_of(leg, number));
            let stretch = Stretch { leg, start: span.start, end: span.end, shown: known.clone() };
            self.utterance = Some((index, known));
            let mut asking = self.asking[leg.index()].clone();
            let config = speech::segments(engine);
            let cancel = self.cancel;
            let done = Pieces::open(recording, &stretch, config).map_err(CatchUpError::from).and_then(
                |mut pieces| {
                    let end = pieces.recording_end();
                    speech::recognise(engine, &mut pieces, &mut asking, cancel, self).map(|()| end)
                },
            );
            self.asking[leg.index()] = asking;
            match done {
                Ok(end) if end + SLACK < span.end => {
                    self.lack(&format!("the recording ends at {end:.1} s, {:.1} s were heard", span.end));
                }
                Ok(_) => {}
                Err(CatchUpError::Audio(error)) => {
                    self.lack(&format!("the recording cannot be read: {error}"));
                    return Ok(());
                }
                Err(CatchUpError::Cancelled) => return Err(Trouble::Stopped),
                Err(CatchUpError::Keep(reason)) => return Err(Trouble::Later(reason)),
            }
            self.owed.spans[index].done_to = span.end;
            self.note()?;
        }
        Ok(())
    }

    /// Write what there is, tell of it, and strike the debt off.
    fn close(mut self) -> Result<(), Trouble> {
        let Self { shared, .. } = self;
        let call = self.owed.call_id.clone();
        let open = std::mem::take(&mut self.told.open);
        if !open.is_empty() {
            // Nothing that was said of their spans was of use.
            self.lack("of some utterances there are only the words last shown");
            transcript::close_as_shown(&shared.hub, &call, open);
        }
        let complete = self.told.saved.unwrap_or(self.owed.whole);
        let model = shared.speech.as_ref().map_or(self.owed.model.as_str(), |engine| engine.model());
        let books = Books { hub: &shared.hub, directory: &shared.directory, model };
        let of_call =
            shared.directory.files(self.record).map_err(|error| Trouble::Later(error.to_string()))?;
        let written = finish::write_transcript(&books, &call, &of_call, complete);
        let body = written.map_err(Trouble::Later)?;
        if self.told.saved.is_none() {
            shared.hub.publish(&call, EventKind::TranscriptSaved, body);
        }
        self.until_written()?;
        // What is struck off has to be in the journal also after a power cut.
        match File::open(of_call.events()).and_then(|journal| journal.sync_all()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Trouble::Later(error.to_string()));
            }
            _ => {}
        }
        shared.directory.flush();
        shared.hub.close_call(&call);
        shared.store.remove(&call).map_err(|error| Trouble::Later(error.to_string()))?;
        tracing::info!(call, complete, "a transcript is caught up: done");
        Ok(())
    }

    fn recording(&self) -> Option<PathBuf> {
        let path = self.record.recording.path.as_ref()?;
        Some(self.shared.directory.data().join(path)).filter(|path| path.is_file())
    }

    /// What subscribers were told of an utterance last.
    fn told_of(&self, leg: Leg, number: u64) -> Option<TranscriptEvent> {
        let is_it = |event: &&TranscriptEvent| event.leg == leg && event.utterance == number;
        self.told.open.iter().chain(&self.told.finals).find(is_it).cloned()
    }

    fn has_final(&self, leg: Leg, number: u64) -> bool {
        self.told.finals.iter().any(|event| event.leg == leg && event.utterance == number)
    }

    /// The transcript will lack something, and why.
    fn lack(&mut self, reason: &str) {
        let call = &self.owed.call_id;
        tracing::warn!(call, reason, "the transcript is not complete");
        self.owed.whole = false;
        self.shared.directory.update(call, |record| {
            record.add_error(&format!("the transcript is not complete: {reason}"));
        });
        // Written once more at the end; after a crash before that, it comes to the same again.
        let _ = self.note();
    }

    fn note(&self) -> Result<(), Trouble> {
        self.shared.progress(self.owed);
        self.shared.store.note(self.owed).map_err(|error| Trouble::Later(error.to_string()))
    }

    /// Wait until the journal has everything.
    fn until_written(&self) -> Result<(), Trouble> {
        let call = &self.owed.call_id;
        loop {
            let Some(head) = self.shared.hub.call_changed(call).map(|head| *head.borrow()) else {
                return Err(Trouble::Later("its event stream was closed".into()));
            };
            if self.shared.hub.written_to(call).is_some_and(|written| written >= head.last_seq) {
                return Ok(());
            }
            if self.cancel.is_cancelled() {
                return Err(Trouble::Stopped);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn say(&mut self, event: TranscriptEvent) -> Result<(), Trouble> {
        let call = &self.owed.call_id;
        if self.shared.hub.publish(call, EventKind::TranscriptFinal, json!(event)).is_none() {
            return Err(Trouble::Later("its event stream was closed".into()));
        }
        let leg = event.leg.index();
        self.told.next[leg] = self.told.next[leg].max(event.utterance + 1);
        self.told.open.retain(|open| (open.leg, open.utterance) != (event.leg, event.utterance));
        self.told.finals.push(event);
        self.until_written()
    }

    fn take(&mut self, piece: &Piece, outcome: Result<Hypothesis, RecogniseError>) -> Result<(), Trouble> {
        let Some((index, known)) = self.utterance.clone() else { return Ok(()) };
        let Owed { leg, span, .. } = self.owed.spans[index].clone();
        let shown = known.filter(|_| piece.is_shown);
        let number = match (piece.is_shown, span.utterance) {
            (true, Some(number)) => number,
            _ => self.told.next[leg.index()],
        };
        let (start, end) = piece.span();
        let event = match outcome {
            Ok(_) if piece.is_blank() => {
                self.lack(&format!(
                    "the recording is blank from {start:.1} s to {end:.1} s ({})",
                    leg.name()
                ));
                shown.map(speech::as_shown)
            }
            Ok(hypothesis) => speech::said(piece, leg, number, &hypothesis, shown.as_ref()),
            Err(error) => {
                self.lack(&format!("{} from {start:.1} s to {end:.1} s: {error}", leg.name()));
                shown.map(speech::as_shown)
            }
        };
        if let Some(event) = event {
            self.say(event)?;
        }
        let owed = &mut self.owed.spans[index];
        owed.done_to = owed.done_to.max(end);
        self.owed.attempts = 0;
        self.note()
    }
}

impl Keeper for Debt<'_> {
    fn is_done(&mut self, piece: &Piece) -> Result<bool, CatchUpError> {
        let Some((index, _)) = self.utterance else { return Ok(true) };
        let Owed { leg, span, done_to } = self.owed.spans[index].clone();
        let (start, end) = piece.span();
        let first_free = self.owed.first_free.unwrap_or(self.told.next)[leg.index()];
        let covers = |event: &TranscriptEvent| {
            let shared = end.min(event.end) - start.max(event.start);
            event.leg == leg && event.utterance >= first_free && shared > (end - start) / 2.0
        };
        let is_done = match span.utterance.filter(|_| piece.is_shown) {
            Some(number) => self.has_final(leg, number),
            None => end <= done_to || self.told.finals.iter().any(covers),
        };
        if !is_done && std::mem::take(&mut self.is_poison) {
            let reason = "Sidetone ended three times over it".to_owned();
            let error = RecogniseError::Failed {
                model: self.shared.model().to_owned(),
                seconds: end - start,
                reason,
            };
            self.take(piece, Err(error)).map_err(CatchUpError::from)?;
            return Ok(true);
        }
        Ok(is_done)
    }

    fn done(
        &mut self,
        piece: &Piece,
        outcome: Result<Hypothesis, RecogniseError>,
    ) -> Result<(), CatchUpError> {
        self.take(piece, outcome).map_err(CatchUpError::from)
    }
}

impl From<Trouble> for CatchUpError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Stopped => Self::Cancelled,
            Trouble::Later(reason) => Self::Keep(reason),
        }
    }
}
