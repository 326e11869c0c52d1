//! The thread that listens to all legs: reads their rings, has a session make of it what it will, and hands out events.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio::sync::oneshot;

use super::{Command, EventSink, FinishReport, LegAudio, Outcome, Progress, Pushed, Shared, Work};
use crate::clock;
use crate::media::ring::{RingReader, SlotRead};
use crate::media::slot::SlotState;
use crate::media::time::MediaInstant;
use crate::speech::dispatch::dispatch;
use crate::speech::event::{TranscriptEvent, TranscriptKind, to_millis};
use crate::speech::gate::echo::Said;
use crate::speech::owed::OwedSpan;
use crate::speech::resample::Resampler;
use crate::speech::segment::SegmentConfig;
use crate::speech::session::Session;
use crate::telemetry::metric;

/// How often rings are looked at.
const POLL: Duration = Duration::from_millis(20);
/// Most slots read from one leg at a time, so that one that catches up does not hold up the others.
const SLOTS_AT_ONCE: usize = 200;
/// Silence that only the passing of time put at the ring's head is believed once it is this old: a busy Asterisk sends late,
/// for seconds on end, and what was skipped then would be missing from the transcript although the recording has it. A
/// sender that really falls silent has its finals later by this; one that sends on is not affected.
const PATIENCE: Duration = Duration::from_millis(500);
/// The patience with a sender that has been later than that. Beyond the recorder's window nothing comes any more.
const MOST_PATIENCE: Duration = Duration::from_secs(2);

/// A client whose audio is so far ahead of what has been heard sends it faster than it was spoken.
const BEHIND: Duration = Duration::from_secs(1);

pub(super) struct Listener {
    shared: Arc<Shared>,
    segments: SegmentConfig,
    timeout: Duration,
    outbox: Sender<Command>,
    legs: HashMap<u64, LegRun>,
}

struct LegRun {
    audio: LegAudio,
    sink: EventSink,
    reader: RingReader,
    resampler: Resampler,
    /// There from the moment that the origin is known.
    session: Option<Session>,
    origin: i64,
    /// Seconds on the recording's clock of the session's first sample.
    offset: f64,
    /// What the leg said lately: the other leg's echo.
    said: Said,
    /// The call's other leg.
    other: Option<u64>,
    ended: bool,
    missed_slots: u64,
    /// Ring samples received when last looked.
    heard: u64,
    patience: Duration,
    warned: bool,
    finish: Option<(oneshot::Sender<FinishReport>, MediaInstant)>,
    flushes: Vec<Flush>,
    /// What was not heard at all, if something catches up.
    owed: Vec<OwedSpan>,
    detached: bool,
    /// What was last told, of a leg that is pushed.
    told: Progress,
}

/// Somebody waits for the finals of all that was received up to a moment.
struct Flush {
    /// Behind the last ring sample received by then.
    received: u64,
    /// Once that has been heard: the session's mark.
    mark: Option<u64>,
    done: oneshot::Sender<()>,
}

impl Listener {
    pub(super) fn new(
        shared: Arc<Shared>,
        segments: SegmentConfig,
        timeout: Duration,
        outbox: Sender<Command>,
    ) -> Self {
        Self { shared, segments, timeout, outbox, legs: HashMap::new() }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Command>) {
        let mut polled = clock::now();
        loop {
            match inbox.recv_timeout(POLL.saturating_sub(clock::since(polled))) {
                Ok(Command::Close) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if clock::since(polled) >= POLL {
                polled = clock::now();
                self.poll(polled);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Listen { owner, audio, sink } => self.listen(owner, audio, sink),
            Command::Finish { owner, done } => match self.legs.get_mut(&owner) {
                Some(run) => run.finish = Some((done, clock::now() + self.timeout)),
                None => drop(done),
            },
            Command::Flush { owner, done } => {
                if let Some(run) = self.legs.get_mut(&owner) {
                    run.flushes.push(Flush { received: run.audio.ring.heard(), mark: None, done });
                    self.attend_anew(owner, clock::now());
                }
            }
            Command::Detach { owner } => {
                if let Some(run) = self.legs.get_mut(&owner) {
                    run.detached = true;
                }
            }
            Command::Abandon { owner } => {
                if self.legs.remove(&owner).is_some() {
                    self.shared.queue.lock().scheduler.cancel_all(owner);
                }
            }
            Command::Done(outcome) => self.result(outcome),
            Command::Close => {}
        }
    }

    fn listen(&mut self, owner: u64, audio: LegAudio, sink: EventSink) {
        let hz = audio.ring.rate().hz();
        let resampler = match Resampler::new(hz) {
            Ok(resampler) => resampler,
            Err(error) => {
                tracing::error!(call = audio.call_id, leg = audio.leg.name(), %error, "leg is not transcribed");
                return;
            }
        };
        let is_other =
            |run: &LegRun| Arc::ptr_eq(&run.audio.clock, &audio.clock) && run.audio.leg != audio.leg;
        let other = self.legs.iter().find(|(_, run)| is_other(run)).map(|(owner, _)| *owner);
        if let Some(run) = other.and_then(|other| self.legs.get_mut(&other)) {
            run.other = Some(owner);
        }
        let run = LegRun {
            reader: audio.ring.reader(),
            audio,
            sink,
            resampler,
            session: None,
            origin: 0,
            offset: 0.0,
            said: Said::default(),
            other,
            ended: false,
            missed_slots: 0,
            heard: 0,
            patience: PATIENCE,
            warned: false,
            finish: None,
            flushes: Vec::new(),
            owed: Vec::new(),
            detached: false,
            told: Progress::default(),
        };
        self.legs.insert(owner, run);
    }

    fn result(&mut self, outcome: Outcome) {
        let Outcome { id, result } = outcome;
        let Some(run) = self.legs.get_mut(&id.owner) else { return };
        let Some(session) = &mut run.session else { return };
        if let (Some(Err(error)), false) = (&result, run.warned) {
            run.warned = true;
            tracing::warn!(call = run.audio.call_id, leg = run.audio.leg.name(), %error, "speech is not recognised");
        }
        session.on_result(id.ticket, result);
        self.attend(id.owner);
        self.conclude(id.owner, clock::now());
    }

    fn poll(&mut self, now: MediaInstant) {
        let owners: Vec<u64> = self.legs.keys().copied().collect();
        for owner in owners {
            self.attend_anew(owner, now);
        }
        let queue = self.shared.queue.lock();
        let oldest = queue.scheduler.oldest();
        metric::ASR_QUEUE.set(queue.scheduler.len() as f64);
        metric::ASR_LAG.set(oldest.map_or(0.0, |since| now.saturating_since(since).as_secs_f64()));
    }

    /// Whatever there may be to do for a leg.
    fn attend_anew(&mut self, owner: u64, now: MediaInstant) {
        self.hear(owner, now);
        self.attend(owner);
        self.conclude(owner, now);
    }

    /// Have a leg take in what its ring has, beside what the call's other leg said.
    fn hear(&mut self, owner: u64, now: MediaInstant) {
        let other = self.legs.get(&owner).and_then(|run| run.other);
        // Lent for the time being: both are in the same map.
        let lent = other
            .and_then(|other| self.legs.get_mut(&other))
            .map(|run| (std::mem::take(&mut run.said), run.offset));
        if let Some(run) = self.legs.get_mut(&owner) {
            let segments = run.segments(self.segments);
            run.hear(now, segments, lent.as_ref().map(|(said, offset)| (said, *offset)));
        }
        if let (Some((said, _)), Some(run)) = (lent, other.and_then(|other| self.legs.get_mut(&other))) {
            run.said = said;
        }
    }

    /// Pass on what a leg's session wants and says.
    fn attend(&mut self, owner: u64) {
        let Some(run) = self.legs.get_mut(&owner) else { return };
        if run.session.is_none() {
            run.answer_flushes();
            return;
        }
        let segments = run.segments(self.segments);
        let Some(session) = &mut run.session else { return };
        let now = clock::now();
        let grace = segments.hangover.saturating_sub(segments.pause);
        let payload = |audio, request| Work { audio, request, reply: self.outbox.clone() };
        let done = dispatch(session, owner, &mut self.shared.queue.lock().scheduler, now, grace, payload);
        metric::ASR_PARTIALS_SHED.add(done.replaced);
        for _ in 0..done.submitted {
            self.shared.wake.notify_one();
        }
        for (reason, times) in session.take_suppressed().iter() {
            metric::ASR_SUPPRESSED.add_labelled("reason", reason.name(), times);
            let (call, leg) = (&run.audio.call_id, run.audio.leg.name());
            tracing::debug!(call, leg, reason = reason.name(), times, "not taken for speech");
        }
        for event in session.take_events() {
            run.publish(event, now);
        }
        run.tell_progress();
        run.answer_flushes();
    }

    /// Let go of a leg that is done, or out of time.
    fn conclude(&mut self, owner: u64, now: MediaInstant) {
        let Some(run) = self.legs.get(&owner) else { return };
        let complete = run.ended && run.session.as_ref().is_none_or(|s| s.unfinished() == 0);
        let late = run.finish.as_ref().is_some_and(|(_, deadline)| now >= *deadline);
        let awaited = run.finish.is_some() || run.detached;
        if !(late || complete && awaited) {
            return;
        }
        let Some(mut run) = self.legs.remove(&owner) else { return };
        self.shared.queue.lock().scheduler.cancel_all(owner);
        let unfinished = run.session.as_ref().map_or(0, |s| s.unfinished() as u64);
        if !complete {
            run.give_up(now);
        }
        let tally = run.session.as_ref().map(Session::tally).unwrap_or_default();
        let report = FinishReport {
            finals: tally.finals,
            partials: tally.partials,
            failed: tally.failed,
            unfinished,
            missed_slots: run.missed_slots,
            complete,
            owed: run.take_owed(),
        };
        if !complete {
            tracing::warn!(
                call = run.audio.call_id,
                leg = run.audio.leg.name(),
                unfinished = report.unfinished,
                "time is up: the end of the leg is not transcribed"
            );
        }
        if let Some((done, _)) = run.finish {
            let _ = done.send(report);
        }
    }
}

impl LegRun {
    /// Take in what the ring has.
    fn hear(&mut self, now: MediaInstant, segments: SegmentConfig, other: Option<(&Said, f64)>) {
        if self.ended || !self.begin(now, segments) {
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
        let (mut missed, mut is_flushed) = (Vec::new(), false);
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
            match self.reader.read_slot(lag, &mut pcm) {
                SlotRead::Ready { state, len } => {
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
        if self.audio.pushed.is_some() {
            let unheard = self.audio.ring.head().saturating_sub(self.reader.position());
            session.set_behind(unheard > samples_in(BEHIND));
        }
        let far = other.map(|(said, offset)| said.far(self.offset - offset));
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

    /// How to cut this leg, if others are cut by `segments`.
    fn segments(&self, segments: SegmentConfig) -> SegmentConfig {
        match self.audio.pushed {
            Some(Pushed { hangover: Some(hangover), .. }) => {
                SegmentConfig { hangover, pause: segments.pause.min(hangover), ..segments }
            }
            _ => segments,
        }
    }

    fn tell_progress(&mut self) {
        let (Some(Pushed { progress, .. }), Some(session)) = (&self.audio.pushed, &self.session) else {
            return;
        };
        let come = Progress {
            heard: self.reader.position(),
            settled: session.settled(),
            speaking: session.speaking(),
            closed: session.closed(),
        };
        if come != self.told {
            self.told = come;
            self.guard(|| progress(come));
        }
    }

    fn answer_flushes(&mut self) {
        let session = self.session.as_ref();
        let is_settled = |flush: &mut Flush| match (session, flush.mark) {
            (Some(session), Some(mark)) => session.is_settled(mark),
            // Nothing was ever heard, and nothing more will be.
            (None, _) => flush.received == 0 || self.ended,
            // It had ended before it was asked: whatever it said is on its way.
            (Some(session), None) => self.ended && session.unfinished() == 0,
        };
        for flush in self.flushes.extract_if(.., is_settled) {
            // Whoever asked may have gone.
            let _ = flush.done.send(());
        }
    }

    /// What is owed of the leg, in order of time.
    fn take_owed(&mut self) -> Vec<OwedSpan> {
        let mut owed = std::mem::take(&mut self.owed);
        owed.extend(self.session.as_mut().map(Session::take_owed).unwrap_or_default());
        owed.sort_by(|a, b| a.start.total_cmp(&b.start).then(a.end.total_cmp(&b.end)));
        owed
    }

    /// The ring samples between the two were not heard.
    fn owe(&mut self, from: u64, to: u64) {
        let LegAudio { ring, clock, caught_up, .. } = &self.audio;
        if !caught_up || from >= to {
            return;
        }
        let origin = clock.settle_origin();
        let seconds =
            |sample: u64| to_millis(clock.seconds_from(origin, ring.base() + sample as i64).max(0.0));
        self.owed.push(OwedSpan { start: seconds(from), end: seconds(to), utterance: None });
    }

    /// Time is up. An utterance that someone follows ends with the words last shown, unless something catches up.
    fn give_up(&mut self, now: MediaInstant) {
        if !self.ended {
            self.owe(self.reader.position(), self.audio.ring.head());
        }
        let Some(session) = &mut self.session else { return };
        if !self.ended {
            session.finish();
        }
        session.give_up();
        for event in session.take_events() {
            self.publish(event, now);
        }
    }

    /// Look how far the sender has come; wait longer for one whose packets come to places that were read as silence.
    fn be_patient(&mut self) {
        let heard = self.audio.ring.heard();
        if heard != self.heard && heard <= self.reader.position() && self.patience < MOST_PATIENCE {
            self.patience = (self.patience * 2).min(MOST_PATIENCE);
            let (call, leg) = (&self.audio.call_id, self.audio.leg.name());
            tracing::info!(call, leg, patience = ?self.patience, "packets come late: speech to text waits for them longer");
        }
        self.heard = heard;
    }

    /// Whether there is a session to give audio to. It has to wait for the recording's origin; the ring keeps what comes.
    fn begin(&mut self, now: MediaInstant, segments: SegmentConfig) -> bool {
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
        let language = self.audio.language.clone();
        let session = Session::new(self.audio.leg, language, offset, self.audio.first_utterance, segments);
        self.session =
            Some(session.with_catch_up(self.audio.caught_up).with_vocabulary(self.audio.vocabulary.clone()));
        true
    }

    fn publish(&self, event: TranscriptEvent, now: MediaInstant) {
        // Of a leg that is pushed, audio time is nobody's clock.
        if event.kind == TranscriptKind::Final && self.audio.pushed.is_none() {
            let rate = f64::from(self.audio.clock.rate().hz());
            let spoken = self.audio.clock.instant_of(self.origin + (event.end * rate) as i64);
            metric::ASR_FINAL_LATENCY.record(now.saturating_since(spoken).as_secs_f64());
        }
        self.guard(|| (self.sink)(event));
    }

    /// Sinks are the call's own code; the other calls go on whatever it does.
    fn guard(&self, tell: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(tell)).is_err() {
            let (call, leg) = (&self.audio.call_id, self.audio.leg.name());
            tracing::error!(call, leg, "the receiver of transcript events panicked: an event is lost");
        }
    }
}
