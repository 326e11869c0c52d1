//! One leg being transcribed: audio in, orders to the workers and transcript events out. Sans-IO.

mod elsewhere;
mod publish;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::RATE;
use super::agreement::Agreement;
use super::carry::Carry;
use super::event::{TranscriptEvent, to_millis};
use super::gate::Reason;
use super::gate::echo::Far;
use super::language::{AUTO, LegLanguage};
use super::lost::LostTime;
use super::owed::OwedSpan;
use super::recogniser::{Hypothesis, RecogniseError};
use super::scheduler::Class;
use super::segment::{SegmentConfig, SegmentEvent, Segmenter, Utterance, samples_in};
use crate::media::leg::Leg;

pub use elsewhere::{ClosedSpeech, OpenSpeech};
pub(super) use publish::{placed, seconds_at};

/// Voiced audio that the first partial waits for.
const FIRST_PARTIAL: Duration = Duration::from_millis(300);
/// Of a speaker who has been silent for so long (three frames; the stops within words are shorter) no partial is asked for: the decode at the
/// pause, which may be the end, would say the same a moment later, and as a rule it is what comes of it.
const HOLD: Duration = Duration::from_millis(48);
/// Words lie within the speech that the detector saw, give or take this much. Seconds.
const EDGE: f64 = 0.1;
/// An utterance begins at most this long before it is seen: pre-roll, onset and a frame, with room.
const ONSET: Duration = Duration::from_millis(500);

/// What the session wants of the workers.
#[derive(Clone, Debug)]
pub enum Order {
    /// Recognise `audio`, and hand the outcome to [`Session::on_result`] with this ticket.
    Recognise {
        /// Number of the order.
        ticket: u64,
        /// How urgent it is.
        class: Class,
        /// Mono, 16 kHz.
        audio: Arc<[f32]>,
    },
    /// A speculative order of before has become a final one.
    Promote {
        /// Its number.
        ticket: u64,
    },
    /// The outcome of this order is of no use any more.
    Cancel {
        /// Its number.
        ticket: u64,
    },
}

/// What a session has given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Finals.
    pub finals: u64,
    /// Partials.
    pub partials: u64,
    /// Utterances whose last recognition failed: their finals hold only what stood before, if anything.
    pub failed: u64,
}

struct Asked {
    ticket: u64,
    /// Position behind the audio asked about.
    end: u64,
    /// The language is to be found out, too.
    detects: bool,
}

/// The decode at a pause that may be the end.
enum Speculation {
    Asked(Asked),
    Known(Hypothesis),
}

/// An utterance between its start and its final.
struct Pending {
    /// Counts all that were begun.
    serial: u64,
    audio_start: u64,
    agreement: Agreement,
    /// Given with the first event.
    number: Option<u64>,
    partial: Option<Asked>,
    /// Position up to which a partial has been asked for.
    asked_end: u64,
    /// Position up to which hypotheses have been taken in.
    heard_end: u64,
    speculation: Option<Speculation>,
    /// Of the last partial.
    language: String,
    closed: Option<Closed>,
}

struct Closed {
    utterance: Utterance,
    /// The order for the last hypothesis, unless it is known.
    ticket: Option<u64>,
    outcome: Option<Result<Hypothesis, RecogniseError>>,
}

impl Pending {
    fn new(serial: u64, audio_start: u64) -> Self {
        Self {
            serial,
            audio_start,
            agreement: Agreement::default(),
            number: None,
            partial: None,
            asked_end: audio_start,
            heard_end: audio_start,
            speculation: None,
            language: String::new(),
            closed: None,
        }
    }

    fn speculation_ticket(&self) -> Option<u64> {
        match &self.speculation {
            Some(Speculation::Asked(asked)) => Some(asked.ticket),
            _ => None,
        }
    }

    fn partial_ticket(&self) -> Option<u64> {
        self.partial.as_ref().map(|asked| asked.ticket)
    }

    fn final_ticket(&self) -> Option<u64> {
        self.closed.as_ref().and_then(|c| c.ticket)
    }

    fn waits_for(&self, ticket: u64) -> bool {
        [self.partial_ticket(), self.speculation_ticket(), self.final_ticket()].contains(&Some(ticket))
    }
}

/// The transcription of one leg.
pub struct Session {
    leg: Leg,
    language: LegLanguage,
    /// Seconds on the recording's clock of position 0.
    offset: f64,
    segmenter: Segmenter,
    pending: VecDeque<Pending>,
    next_serial: u64,
    next_utterance: u64,
    next_ticket: u64,
    orders: Vec<Order>,
    events: Vec<TranscriptEvent>,
    suppressed: Suppressed,
    tally: Tally,
    /// The open utterance's words come without being asked for.
    elsewhere: bool,
    vocabulary: Option<Arc<str>>,
    carry: Option<Carry>,
    lost: LostTime,
    caught_up: bool,
    /// More audio is there already than has been heard.
    is_behind: bool,
    owed: Vec<OwedSpan>,
}

/// What was not taken for speech, how often, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suppressed([u64; Reason::ALL.len()]);

impl Suppressed {
    /// Those reasons that there were.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    fn add(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
    }
}

impl Session {
    /// A session whose first sample lies `offset` seconds into the recording and whose first utterance gets the number
    /// `first_utterance`. `language` is a code or `auto`.
    pub fn new(leg: Leg, language: String, offset: f64, first_utterance: u64, config: SegmentConfig) -> Self {
        Self {
            leg,
            language: LegLanguage::new(&language),
            offset,
            segmenter: Segmenter::new(config),
            pending: VecDeque::new(),
            next_serial: 0,
            next_utterance: first_utterance.max(1),
            next_ticket: 0,
            orders: Vec::new(),
            events: Vec::new(),
            suppressed: Suppressed::default(),
            tally: Tally::default(),
            elsewhere: false,
            vocabulary: None,
            carry: None,
            lost: LostTime::default(),
            caught_up: false,
            is_behind: false,
            owed: Vec::new(),
        }
    }

    /// Text that the model is to lean on with every order.
    #[must_use]
    pub fn with_vocabulary(mut self, vocabulary: Option<Arc<str>>) -> Self {
        self.vocabulary = vocabulary;
        self
    }

    /// Somebody transcribes later what is owed ([`Session::take_owed`]): it gets its one final then and not now.
    #[must_use]
    pub fn with_catch_up(mut self, caught_up: bool) -> Self {
        self.caught_up = caught_up;
        self
    }

    /// The last final is part of what the model is to lean on: for models that this does good.
    #[must_use]
    pub fn with_carry(mut self, carries: bool) -> Self {
        self.carry = carries.then(Carry::default);
        self
    }

    /// The language to ask for in an order of `class`.
    pub fn language(&self, class: Class) -> &str {
        match class {
            Class::Detect => AUTO,
            Class::Partial => self.language.of_partials(),
            _ => self.language.of_finals(),
        }
    }

    /// What the model is to lean on in an order of `class`: the vocabulary, then what was said last.
    pub fn prompt(&self, class: Class) -> Option<String> {
        let vocabulary = self.vocabulary.as_deref().unwrap_or_default();
        let start = self.pending.front().map_or(f64::MAX, |first| seconds_at(first.audio_start, self.offset));
        let carried = match (&self.carry, class) {
            (Some(carry), Class::Final | Class::Speculative) => carry.text(start, vocabulary.chars().count()),
            _ => "",
        };
        let separator = if vocabulary.is_empty() || carried.is_empty() { "" } else { " " };
        let prompt = [vocabulary, carried].join(separator);
        (!prompt.is_empty()).then_some(prompt)
    }

    /// Number the orders from here on: those of an earlier session of the leg may still be out.
    #[must_use]
    pub fn with_first_ticket(mut self, ticket: u64) -> Self {
        self.next_ticket = ticket;
        self
    }

    /// Number of the next order.
    pub fn next_ticket(&self) -> u64 {
        self.next_ticket
    }

    /// Number of the next utterance.
    pub fn next_utterance(&self) -> u64 {
        self.next_utterance
    }

    /// Nothing of what was said between the two was received, seconds on the recording's clock: words there are less sure than they
    /// sound. In order of time.
    pub fn lose(&mut self, from: f64, to: f64) {
        self.lost.add(from, to);
    }

    /// What has been given out so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Utterances whose final is not out yet.
    pub fn unfinished(&self) -> usize {
        self.pending.len()
    }

    /// Of those, the ones that have ended.
    pub fn closed(&self) -> usize {
        self.pending.iter().filter(|pending| pending.closed.is_some()).count()
    }

    /// Where the speech of the open utterance begins, seconds on the recording's clock.
    pub fn speaking(&self) -> Option<f64> {
        self.segmenter.speech().map(|(start, _)| seconds_at(start, self.offset))
    }

    /// Say whether more audio is there already than has been heard: no partial is asked for then, since the next one has more to
    /// say, and nobody speaks at this moment who would wait for a final.
    pub fn set_behind(&mut self, is_behind: bool) {
        self.is_behind = is_behind;
    }

    /// Whether more audio is there already than has been heard.
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Seconds on the recording's clock before which no further event begins, unless it is of an utterance told of already.
    pub fn settled(&self) -> f64 {
        let open = self.pending.front().map(|pending| pending.audio_start);
        let next = || self.segmenter.position().saturating_sub(samples_in(ONSET));
        seconds_at(open.unwrap_or_else(next), self.offset) - EDGE
    }

    /// Orders since the last call.
    pub fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// Events since the last call.
    pub fn take_events(&mut self) -> Vec<TranscriptEvent> {
        std::mem::take(&mut self.events)
    }

    /// What was not taken for speech since the last call.
    pub fn take_suppressed(&mut self) -> Suppressed {
        std::mem::take(&mut self.suppressed)
    }

    /// The next samples: mono, 16 kHz, -1 to 1.
    pub fn push(&mut self, samples: &[f32]) {
        self.push_beside(samples, None);
    }

    /// The same, of a leg whose other one had `far` to say: what of it comes back here is not this party's.
    pub fn push_beside(&mut self, samples: &[f32], far: Option<&Far<'_>>) {
        let mut segments = Vec::new();
        self.segmenter.push(samples, far, &mut segments);
        self.follow(segments);
    }

    /// End the open utterance now, whether or not its speaker goes on. The mark is for [`Session::is_settled`].
    pub fn flush(&mut self) -> u64 {
        let mut segments = Vec::new();
        self.segmenter.flush(&mut segments);
        self.follow(segments);
        self.next_serial
    }

    /// Whether everything heard before this mark has its final.
    pub fn is_settled(&self, mark: u64) -> bool {
        self.pending.front().is_none_or(|first| first.serial >= mark)
    }

    /// The leg has ended. What is pending stays so until its results are in.
    pub fn finish(&mut self) {
        let mut segments = Vec::new();
        self.segmenter.finish(&mut segments);
        self.follow(segments);
    }

    /// After [`Session::finish`]: no result will come any more. What is pending is owed; if nobody catches up, what was told of
    /// gets its final instead, with the words last shown.
    pub fn give_up(&mut self) {
        while !self.pending.is_empty() {
            if self.caught_up {
                self.owe_front();
            } else {
                self.publish_as_shown();
            }
            self.pending.pop_front();
            self.publish_finals();
        }
    }

    /// What is owed since the last call, in order: utterances that could not be recognised and, after [`Session::give_up`], those that
    /// there was no time for. Nothing without [`Session::with_catch_up`].
    pub fn take_owed(&mut self) -> Vec<OwedSpan> {
        std::mem::take(&mut self.owed)
    }

    fn owe_front(&mut self) {
        let Some(Pending { closed: Some(closed), number, .. }) = self.pending.front() else { return };
        let Utterance { audio, audio_start, speech_end, .. } = &closed.utterance;
        let end = (audio_start + audio.len() as u64).max(*speech_end);
        self.owed.push(OwedSpan {
            start: to_millis(seconds_at(*audio_start, self.offset).max(0.0)),
            end: to_millis(seconds_at(end, self.offset).max(0.0)),
            utterance: *number,
        });
    }

    /// Whether to ask for a partial, if there are to be `step` between two of them.
    pub fn partial_due(&self, step: Duration) -> bool {
        let Some(open) = self.pending.back().filter(|p| p.closed.is_none()) else { return false };
        let waits = self.is_behind
            || self.elsewhere
            || self.segmenter.is_paused()
            || self.segmenter.silence() >= HOLD
            || self.segmenter.is_unclear();
        if waits || self.segmenter.voiced() < FIRST_PARTIAL {
            return false;
        }
        let news = self.segmenter.position() - open.asked_end;
        open.asked_end == open.audio_start || news >= samples_in(step)
    }

    /// Length of the open utterance's audio so far.
    pub fn open_length(&self) -> Duration {
        let start = self.pending.back().filter(|p| p.closed.is_none()).map(|p| p.audio_start);
        let samples = start.map_or(0, |start| self.segmenter.position() - start);
        Duration::from_micros(samples * 1_000_000 / u64::from(RATE))
    }

    /// The order for a partial that is out, if one is.
    pub fn partial_ticket(&self) -> Option<u64> {
        self.pending.back().and_then(Pending::partial_ticket)
    }

    /// Ask for a partial over the open utterance. An order that is still out is forgotten.
    pub fn ask_partial(&mut self) {
        let class = match self.language.is_wanted(self.segmenter.voiced()) {
            true => Class::Detect,
            false => Class::Partial,
        };
        let Some(asked) = self.ask_open(class) else { return };
        if let Some(open) = self.pending.back_mut() {
            open.asked_end = asked.end;
            open.partial = Some(asked);
        }
    }

    /// The outcome of an order; `None` if it was given up for want of time, which only happens to partials.
    pub fn on_result(&mut self, ticket: u64, outcome: Option<Result<Hypothesis, RecogniseError>>) {
        let Some(index) = self.pending.iter().position(|p| p.waits_for(ticket)) else { return };
        let pending = &mut self.pending[index];
        if pending.partial_ticket() == Some(ticket) {
            if let (Some(asked), Some(Ok(hypothesis))) = (pending.partial.take(), outcome) {
                self.publish_partial(index, &asked, asked.end, &hypothesis);
            }
        } else if let Some(closed) = &mut pending.closed {
            closed.ticket = None;
            // Without an outcome the words that stand are the final: an utterance may not wait for ever.
            closed.outcome = Some(outcome.unwrap_or_else(|| Ok(Hypothesis::default())));
        } else if let (Some(Speculation::Asked(asked)), Some(Ok(hypothesis))) =
            (pending.speculation.take(), outcome)
        {
            self.publish_partial(index, &asked, asked.end, &hypothesis);
            self.pending[index].speculation = Some(Speculation::Known(hypothesis));
        }
        self.publish_finals();
    }

    fn follow(&mut self, segments: Vec<SegmentEvent>) {
        // Of several events at once each but the last is past: a pause is only looked at if it still is one, since the
        // audio is what is open now, which may be the next utterance.
        let mut pauses = false;
        for event in segments {
            pauses = match event {
                SegmentEvent::Paused => true,
                SegmentEvent::Suppressed(_) => pauses,
                _ => false,
            };
            match event {
                SegmentEvent::Started { audio_start } => {
                    self.pending.push_back(Pending::new(self.next_serial, audio_start));
                    self.next_serial += 1;
                }
                SegmentEvent::Paused => {}
                SegmentEvent::Resumed => self.forget_speculation(),
                SegmentEvent::Ended(utterance) => self.close(utterance),
                SegmentEvent::Dropped { reason, speech } => {
                    self.forget_speculation();
                    self.forget_partial();
                    self.drop_open(speech);
                    reason.into_iter().for_each(|reason| self.suppressed.add(reason));
                }
                SegmentEvent::Suppressed(reason) => self.suppressed.add(reason),
            }
        }
        if pauses {
            self.speculate();
        }
        self.publish_finals();
    }

    /// The open utterance is none. If words of it have been shown, it has its final all the same.
    fn drop_open(&mut self, (speech_start, speech_end): (u64, u64)) {
        let Some(mut open) = self.pending.pop_back() else { return };
        if open.agreement.has_revisions() {
            let utterance = Utterance {
                audio: Arc::new([]),
                audio_start: open.audio_start,
                speech_start,
                speech_end,
                voiced: Duration::ZERO,
                unclear: false,
                cut: false,
            };
            let outcome = Some(Ok(Hypothesis::default()));
            open.closed = Some(Closed { utterance, ticket: None, outcome });
            self.pending.push_back(open);
        }
    }

    fn speculate(&mut self) {
        if self.segmenter.voiced() < FIRST_PARTIAL || self.segmenter.is_unclear() {
            return;
        }
        self.forget_partial();
        let Some(asked) = self.ask_open(Class::Speculative) else { return };
        if let Some(open) = self.pending.back_mut() {
            open.asked_end = asked.end;
            open.speculation = Some(Speculation::Asked(asked));
        }
    }

    fn forget_speculation(&mut self) {
        let Some(open) = self.pending.back_mut() else { return };
        if let Some(Speculation::Asked(Asked { ticket, .. })) = open.speculation.take() {
            self.orders.push(Order::Cancel { ticket });
        }
    }

    fn forget_partial(&mut self) {
        let Some(open) = self.pending.back_mut() else { return };
        if let Some(Asked { ticket, .. }) = open.partial.take() {
            self.orders.push(Order::Cancel { ticket });
        }
    }

    fn close(&mut self, utterance: Utterance) {
        self.forget_partial();
        if utterance.cut {
            self.forget_speculation();
        }
        let Some(open) = self.pending.back_mut() else { return };
        let (ticket, outcome) = match open.speculation.take() {
            Some(Speculation::Known(hypothesis)) => (None, Some(Ok(hypothesis))),
            Some(Speculation::Asked(asked)) => {
                self.orders.push(Order::Promote { ticket: asked.ticket });
                (Some(asked.ticket), None)
            }
            None => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                let audio = utterance.audio.clone();
                self.orders.push(Order::Recognise { ticket, class: Class::Final, audio });
                (Some(ticket), None)
            }
        };
        open.closed = Some(Closed { utterance, ticket, outcome });
    }

    fn ask_open(&mut self, class: Class) -> Option<Asked> {
        let (start, audio) = self.segmenter.audio()?;
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let end = start + audio.len() as u64;
        self.orders.push(Order::Recognise { ticket, class, audio });
        Some(Asked { ticket, end, detects: class == Class::Detect })
    }
}
