//! One leg being heard: from its ring into its session, and what of it nobody has heard.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{EventSink, FinishReport, LegAudio};
use crate::media::ring::{RingReader, SlotRead};
use crate::media::slot::SlotState;
use crate::media::time::MediaInstant;
use crate::speech::event::{TranscriptEvent, TranscriptKind, to_millis};
use crate::speech::gate::echo::Said;
use crate::speech::owed::OwedSpan;
use crate::speech::resample::{Resampler, UnsupportedRate};
use crate::speech::segment::SegmentConfig;
use crate::speech::session::{Session, Tally};
use crate::telemetry::metric;

/// Most slots read from one leg at a time, so that one that catches up does not hold up the others.
const SLOTS_AT_ONCE: usize = 200;
/// Silence that only the passing of time put at the ring's head is believed once it is this old: a busy Asterisk sends late,
/// for seconds on end, and what was skipped then would be missing from the transcript although the recording has it. A
/// sender that really falls silent has its finals later by this; one that sends on is not affected.
const PATIENCE: Duration = Duration::from_millis(500);
/// The patience with a sender that has been later than that. Beyond the recorder's window nothing comes any more.
const MOST_PATIENCE: Duration = Duration::from_secs(2);

/// How sessions are begun.
#[derive(Clone, Copy)]
pub(super) struct SessionRules {
    pub(super) segments: SegmentConfig,
    pub(super) carries_text: bool,
}

pub(super) struct LegRun {
    pub(super) audio: LegAudio,
    sink: EventSink,
    reader: RingReader,
    resampler: Resampler,
    /// There from the moment that the origin is known.
    pub(super) session: Option<Session>,
    origin: i64,
    /// Seconds on the recording's clock of the session's first sample.
    pub(super) offset: f64,
    /// What the leg said lately: the other leg's echo.
    pub(super) said: Said,
    /// The call's other leg.
    pub(super) other: Option<u64>,
    ended: bool,
    pub(super) missed_slots: u64,
    /// Ring samples received when last looked.
    heard: u64,
    patience: Duration,
    /// At the first slot that was read as silence because nothing had come for it: it may still come.
    doubtful: Option<RingReader>,
    pub(super) warned: bool,
    pub(super) finish: Option<(oneshot::Sender<FinishReport>, MediaInstant)>,
    flushes: Vec<Flush>,
    /// Where it was left to the recording: the ring sample from which on nobody hears it.
    off: Option<u64>,
    /// Of the sessions before, when it was left and taken up again.
    before: Before,
    /// What was not heard at all, if something catches up.
    owed: Vec<OwedSpan>,
    pub(super) detached: bool,
}

/// What a leg's earlier sessions have come to.
#[derive(Default)]
struct Before {
    tally: Tally,
    unfinished: u64,
    next_utterance: Option<u64>,
    next_ticket: u64,
}

/// Somebody waits for the finals of all that was received up to a moment.
struct Flush {
    /// Behind the last ring sample received by then.
    received: u64,
    /// Once that has been heard: the session's mark.
    mark: Option<u64>,
    done: oneshot::Sender<()>,
}

impl LegRun {
    /// A leg that is heard from the oldest audio of its ring on, or, `off`, left to the recording.
    pub(super) fn new(
        audio: LegAudio,
        sink: EventSink,
        other: Option<u64>,
        off: bool,
    ) -> Result<Self, UnsupportedRate> {
        let reader = audio.ring.reader();
        Ok(Self {
            resampler: Resampler::new(audio.ring.rate().hz())?,
            off: off.then(|| reader.position()),
            reader,
            audio,
            sink,
            session: None,
            origin: 0,
            offset: 0.0,
            said: Said::default(),
            other,
            ended: false,
            missed_slots: 0,
            heard: 0,
            patience: PATIENCE,
            doubtful: None,
            warned: false,
            finish: None,
            flushes: Vec::new(),
            before: Before::default(),
            owed: Vec::new(),
            detached: false,
        })
    }

    /// Whether it is transcribed while it lasts.
    pub(super) fn is_live(&self) -> bool {
        self.off.is_none()
    }

    /// Whether everything of it has been heard, and has its final.
    pub(super) fn is_complete(&self) -> bool {
        match self.off {
            Some(_) => false,
            None => self.ended && self.session.as_ref().is_none_or(|session| session.unfinished() == 0),
        }
    }

    /// Whether nothing more is to be expected of it.
    pub(super) fn is_over(&self) -> bool {
        self.is_complete() || !self.is_live() && self.audio.ring.is_closed()
    }

    /// Hear no more of it: the recording has it. Where that begins, seconds on the recording's clock.
    pub(super) fn leave(&mut self, now: MediaInstant) -> f64 {
        self.close_session(now);
        let position = self.reader.position();
        self.off = Some(position);
        self.doubtful = None;
        self.said = Said::default();
        self.seconds(position)
    }

    /// Hear it again, from now on.
    pub(super) fn take_up(&mut self) -> f64 {
        let Some(from) = self.off.take() else { return 0.0 };
        self.reader = self.audio.ring.reader_at_head();
        if let Ok(fresh) = Resampler::new(self.audio.ring.rate().hz()) {
            self.resampler = fresh;
        }
        let position = self.reader.position();
        self.owe(from, position);
        self.heard = self.audio.ring.heard();
        self.seconds(position)
    }

    /// End the session; what it has not got through is owed.
    fn close_session(&mut self, now: MediaInstant) {
        let Some(mut session) = self.session.take() else { return };
        session.finish();
        self.before.unfinished += session.unfinished() as u64;
        session.give_up();
        for event in session.take_events() {
            self.publish(event, now);
        }
        let (tally, before) = (session.tally(), &mut self.before.tally);
        before.finals += tally.finals;
        before.partials += tally.partials;
        before.failed += tally.failed;
        self.before.next_utterance = Some(session.next_utterance());
        self.before.next_ticket = session.next_ticket();
        self.owed.extend(session.take_owed());
    }

    /// The last of it: what it came to.
    pub(super) fn report(&mut self, now: MediaInstant) -> FinishReport {
        let complete = self.is_complete() && self.before.next_utterance.is_none();
        match self.off {
            Some(from) => self.owe(from, self.audio.ring.head()),
            None if !self.ended => self.owe(self.reader.position(), self.audio.ring.head()),
            None => {}
        }
        self.close_session(now);
        let mut owed = std::mem::take(&mut self.owed);
        owed.sort_by(|a, b| a.start.total_cmp(&b.start).then(a.end.total_cmp(&b.end)));
        owed.dedup_by(|next, before| {
            // Nobody knows where one ends and the other begins: not in the middle of a word.
            let is_one = before.utterance.is_none() && next.utterance.is_none() && next.start <= before.end;
            if is_one {
                before.end = before.end.max(next.end);
            }
            is_one
        });
        let Before { tally: Tally { finals, partials, failed }, unfinished, .. } = self.before;
        FinishReport { finals, partials, failed, unfinished, missed_slots: self.missed_slots, complete, owed }
    }

    /// Seconds on the recording's clock of a ring sample.
    fn seconds(&self, sample: u64) -> f64 {
        let LegAudio { ring, clock, .. } = &self.audio;
        let Some(origin) = clock.decided_origin() else { return 0.0 };
        to_millis(clock.seconds_from(origin, ring.base() + sample as i64).max(0.0))
    }

    /// Somebody wants to know when everything received by now has its final.
    pub(super) fn flush(&mut self, done: oneshot::Sender<()>) {
        self.flushes.push(Flush { received: self.audio.ring.heard(), mark: None, done });
    }

    /// Take in what the ring has.
    pub(super) fn hear(&mut self, now: MediaInstant, rules: SessionRules, other: Option<(&Said, f64)>) {
        if !self.is_live() || self.ended || !self.begin(now, rules) {
            return;
        }
        self.be_patient();
        let wanted = self.wanted();
        let Some(session) = &mut self.session else { return };
        let samples_in = |time| self.audio.ring.rate().samples_in(time);
        let (lag, patience) =
            (samples_in(self.audio.live_lag), samples_in(self.patience.max(self.audio.live_lag)));
        let mut pcm = vec![0; self.audio.ring.slot_samples()];
        let mut wide = Vec::new();
        let (mut lost, mut missed, mut is_flushed) = (Vec::new(), Vec::new(), false);
        for _ in 0..SLOTS_AT_ONCE {
            let position = self.reader.position();
            let end = position + pcm.len() as u64;
            if wanted.is_some_and(|wanted| wanted < end) {
                is_flushed = true;
                break;
            }
            let lag = match wanted {
                Some(_) => 0,
                None if end <= self.heard => lag,
                None => patience,
            };
            let before = (end > self.heard && self.doubtful.is_none()).then(|| self.reader.clone());
            match self.reader.read_slot(lag, &mut pcm) {
                SlotRead::Ready { state, len } => {
                    if before.is_some() {
                        self.doubtful = before;
                    }
                    if matches!(state, SlotState::Lost | SlotState::Concealed | SlotState::ComfortNoise) {
                        lost.push((position, position + len as u64));
                    }
                    // Whatever stands in for what was lost or never sent: nobody said it.
                    if !(state.is_audio() || state == SlotState::Concealed) {
                        pcm[..len].fill(0);
                    }
                    let samples: Vec<f32> = pcm[..len].iter().map(|&s| f32::from(s) / 32_768.0).collect();
                    self.resampler.push(&samples, &mut wide);
                }
                SlotRead::Missed { slots } => {
                    self.missed_slots += slots;
                    missed.push((position, self.reader.position()));
                    lost.push((position, self.reader.position()));
                    metric::RTP_RING_OVERRUNS.add(slots);
                    let (call, leg) = (&self.audio.call_id, self.audio.leg.name());
                    tracing::warn!(
                        call,
                        leg,
                        slots,
                        "speech to text fell behind the ring: silence in its place"
                    );
                    let silence = vec![0.0; self.audio.ring.slot_samples()];
                    for _ in 0..slots {
                        self.resampler.push(&silence, &mut wide);
                    }
                }
                SlotRead::Pending => break,
                SlotRead::End => {
                    self.resampler.finish(&mut wide);
                    self.ended = true;
                    break;
                }
            }
        }
        let far = other.map(|(said, offset)| said.far(self.offset - offset));
        let (clock, base) = (&self.audio.clock, self.audio.ring.base());
        let seconds = |sample: u64| clock.seconds_from(self.origin, base + sample as i64);
        for (from, to) in lost {
            session.lose(seconds(from), seconds(to));
        }
        session.push_beside(&wide, far.as_ref());
        self.said.push(&wide);
        if self.ended {
            session.finish();
            let mark = session.flush();
            self.mark_flushes(u64::MAX, mark);
        } else if is_flushed {
            self.end_utterance();
        }
        for (from, to) in missed {
            self.owe(from, to);
        }
    }

    /// What has been asked for has been heard: the rest of it is in the resampler.
    fn end_utterance(&mut self) {
        let Some(session) = &mut self.session else { return };
        let mut wide = Vec::new();
        self.resampler.finish(&mut wide);
        if let Ok(fresh) = Resampler::new(self.audio.ring.rate().hz()) {
            self.resampler = fresh;
        }
        session.push(&wide);
        self.said.push(&wide);
        let mark = session.flush();
        // Of a slot that is not whole yet the reader gets nothing.
        self.mark_flushes(self.reader.position() + self.audio.ring.slot_samples() as u64, mark);
    }

    /// Of those who want to have heard what lies before ring sample `end`.
    fn mark_flushes(&mut self, end: u64, mark: u64) {
        for flush in self.flushes.iter_mut().filter(|flush| flush.received < end) {
            flush.mark.get_or_insert(mark);
        }
    }

    /// Behind the last ring sample that somebody wants to have been heard, and that has not been.
    fn wanted(&self) -> Option<u64> {
        self.flushes.iter().filter(|flush| flush.mark.is_none()).map(|flush| flush.received).min()
    }

    pub(super) fn answer_flushes(&mut self) {
        let session = self.session.as_ref();
        let is_settled = |flush: &mut Flush| match (session, flush.mark) {
            (Some(session), Some(mark)) => session.is_settled(mark),
            // Nothing was ever heard, and nothing more will be.
            (None, _) => flush.received == 0 || self.ended || self.off.is_some(),
            (Some(_), None) => self.ended,
        };
        for flush in self.flushes.extract_if(.., is_settled) {
            // Whoever asked may have gone.
            let _ = flush.done.send(());
        }
    }

    /// The ring samples between the two were not heard.
    fn owe(&mut self, from: u64, to: u64) {
        let LegAudio { clock, caught_up, .. } = &self.audio;
        if !caught_up || from >= to {
            return;
        }
        // What was never heard may be all that there ever was of a call: nobody else has asked for its origin, then.
        clock.settle_origin();
        let (start, end) = (self.seconds(from), self.seconds(to));
        self.owed.push(OwedSpan { start, end, utterance: None });
    }

    /// Look how far the sender has come; wait longer for one whose packets come to places that were read as silence.
    fn be_patient(&mut self) {
        let heard = self.audio.ring.heard();
        if heard != self.heard && heard <= self.reader.position() && self.patience < MOST_PATIENCE {
            self.patience = (self.patience * 2).min(MOST_PATIENCE);
            let (call, leg) = (&self.audio.call_id, self.audio.leg.name());
            tracing::info!(call, leg, patience = ?self.patience, "packets come late: speech to text waits for them longer");
        }
        if heard != self.heard {
            self.owe_late(heard.min(self.reader.position()));
        }
        self.heard = heard;
    }

    /// What has come by now for slots before `end` that were read as silence: the recording has it.
    fn owe_late(&mut self, end: u64) {
        let Some(mut again) = self.doubtful.take() else { return };
        let mut pcm = vec![0; self.audio.ring.slot_samples()];
        let mut late: Option<(u64, u64)> = None;
        loop {
            let from = again.position();
            if from + pcm.len() as u64 > end {
                break;
            }
            let SlotRead::Ready { state, .. } = again.read_slot(0, &mut pcm) else { break };
            let to = again.position();
            if state.is_audio() {
                late = Some(late.map_or((from, to), |(start, _)| (start, to)));
            } else if let Some((from, to)) = late.take() {
                self.owe(from, to);
            }
        }
        if let Some((from, to)) = late {
            self.owe(from, to);
        }
        if again.position() < self.reader.position() {
            self.doubtful = Some(again);
        }
    }

    /// Whether there is a session to give audio to. It has to wait for the recording's origin; the ring keeps what comes.
    fn begin(&mut self, now: MediaInstant, rules: SessionRules) -> bool {
        if self.session.is_some() {
            return true;
        }
        let LegAudio { ring, clock, .. } = &self.audio;
        let closed = ring.is_closed();
        if ring.head() == 0 {
            self.ended = closed;
            return false;
        }
        let Some(origin) = clock.origin(now) else { return false };
        self.origin = origin;
        let first = ring.base() + self.reader.position() as i64;
        let offset = clock.seconds_from(origin, first);
        self.offset = offset;
        let LegAudio { leg, language, vocabulary, caught_up, .. } = &self.audio;
        let number = self.before.next_utterance.unwrap_or(self.audio.first_utterance);
        let session = Session::new(*leg, language.clone(), offset, number, rules.segments)
            .with_catch_up(*caught_up)
            .with_first_ticket(self.before.next_ticket)
            .with_carry(rules.carries_text)
            .with_vocabulary(vocabulary.clone());
        self.session = Some(session);
        true
    }

    pub(super) fn publish(&self, event: TranscriptEvent, now: MediaInstant) {
        if event.kind == TranscriptKind::Final {
            let rate = f64::from(self.audio.clock.rate().hz());
            let spoken = self.audio.clock.instant_of(self.origin + (event.end * rate) as i64);
            metric::ASR_FINAL_LATENCY.record(now.saturating_since(spoken).as_secs_f64());
        }
        // The sink is the call's own code; the other calls go on whatever it does.
        if catch_unwind(AssertUnwindSafe(|| (self.sink)(event))).is_err() {
            let (call, leg) = (&self.audio.call_id, self.audio.leg.name());
            tracing::error!(call, leg, "the receiver of transcript events panicked: an event is lost");
        }
    }
}
