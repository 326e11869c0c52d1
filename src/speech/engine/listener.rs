//! The thread that listens to all legs: reads their rings, has a session make of it what it will, and hands out events.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio::sync::oneshot;

use super::leg::{LegRun, SessionRules};
use super::overload::{LegOverload, Overload};
use super::{Command, EventSink, FinishReport, LegAudio, Outcome, Shared, Work};
use crate::clock;
use crate::media::time::MediaInstant;
use crate::speech::dispatch::dispatch;
use crate::speech::ladder::Rung;
use crate::speech::remote::StreamNews;
use crate::telemetry::metric;

/// How often rings are looked at.
const POLL: Duration = Duration::from_millis(20);
/// How often the ladder is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Between two legs that are left to the recording, or taken up again, so that the effect of the first shows.
const LEG_PAUSE: Duration = Duration::from_secs(1);
/// At the end of a leg that something catches up with, its last finals are waited for no longer than this: they will come.
const CAUGHT_UP_TIMEOUT: Duration = Duration::from_secs(4);

/// What the listening thread goes by.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) session: SessionRules,
    pub(super) finish_timeout: Duration,
    pub(super) max_lag: Duration,
}

pub(super) struct Listener {
    shared: Arc<Shared>,
    rules: Rules,
    outbox: Sender<Command>,
    legs: HashMap<u64, LegRun>,
    looked: MediaInstant,
    /// When a leg was last left or taken up.
    moved: MediaInstant,
}

impl Listener {
    pub(super) fn new(shared: Arc<Shared>, rules: Rules, outbox: Sender<Command>) -> Self {
        let now = clock::now();
        Self { shared, rules, outbox, legs: HashMap::new(), looked: now, moved: now }
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
            Command::Finish { owner, done } => self.finish(owner, done),
            Command::Flush { owner, done } => {
                if let Some(run) = self.legs.get_mut(&owner) {
                    run.flush(done);
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
                    self.count_legs(clock::now());
                }
            }
            Command::Done(outcome) => self.result(outcome),
            Command::Heard { owner, stream, news } => self.heard_elsewhere(owner, stream, news),
            Command::Close => {}
        }
    }

    fn finish(&mut self, owner: u64, done: oneshot::Sender<FinishReport>) {
        // Nobody knows it: what cannot be resampled.
        let Some(run) = self.legs.get_mut(&owner) else { return };
        let timeout = match run.audio.caught_up {
            true => self.rules.finish_timeout.min(CAUGHT_UP_TIMEOUT),
            false => self.rules.finish_timeout,
        };
        run.finish = Some((done, clock::now() + timeout));
    }

    fn listen(&mut self, owner: u64, audio: LegAudio, sink: EventSink) {
        let is_other =
            |run: &LegRun| Arc::ptr_eq(&run.audio.clock, &audio.clock) && run.audio.leg != audio.leg;
        let other = self.legs.iter().find(|(_, run)| is_other(run)).map(|(owner, _)| *owner);
        // Half a conversation is of little use: what holds for one leg of a call holds for the other.
        let other_is_live = other.and_then(|other| self.legs.get(&other)).map(LegRun::is_live);
        let now = clock::now();
        let admits = || self.shared.queue.lock().scheduler.admits(now);
        // What nothing catches up with would be lost for good: it is late, rather.
        // Nor does it take anything of the model what is recognised elsewhere.
        let is_ours = audio.service.as_ref().is_none_or(|service| !service.is_up());
        let is_off = is_ours && audio.caught_up && !other_is_live.unwrap_or_else(admits);
        let (call_id, leg) = (audio.call_id.clone(), audio.leg);
        let run = match LegRun::new(audio, sink, other, is_off) {
            Ok(run) => run,
            Err(error) => {
                tracing::error!(call = call_id, leg = leg.name(), %error, "leg is not transcribed");
                return;
            }
        };
        if let Some(run) = other.and_then(|other| self.legs.get_mut(&other)) {
            run.other = Some(owner);
        }
        self.legs.insert(owner, run);
        self.count_legs(now);
        if is_off {
            metric::ASR_LEGS_LEFT.add_labelled("reason", "not_admitted", 1);
            tracing::warn!(
                call = call_id,
                leg = leg.name(),
                "no room to transcribe it live: it is transcribed from its recording"
            );
            self.tell(&Overload::Leg(LegOverload { call_id, leg, live: false, from: 0.0 }));
        }
    }

    fn count_legs(&self, now: MediaInstant) {
        let live = || self.legs.values().filter(|run| run.is_live());
        metric::ASR_LEGS.set(live().count() as f64);
        let ours = live().filter(|run| run.is_ours()).count();
        self.shared.queue.lock().scheduler.set_legs(ours, now);
    }

    /// The sink is others' code; the calls go on whatever it does.
    fn tell(&self, overload: &Overload) {
        let Some(sink) = self.shared.on_overload.lock().clone() else { return };
        if catch_unwind(AssertUnwindSafe(|| sink(overload))).is_err() {
            tracing::error!("the receiver of overload events panicked: an event is lost");
        }
    }

    /// Look how much there is to do, and do less of it, or more again.
    fn look(&mut self, now: MediaInstant) {
        self.looked = now;
        let (change, rung, too_many, has_room) = {
            let scheduler = &mut self.shared.queue.lock().scheduler;
            let change = scheduler.look(now);
            let too_late = scheduler.final_wait(now) > self.rules.max_lag;
            (change, scheduler.rung(), scheduler.too_many(too_late, now), scheduler.has_room(now))
        };
        if let Some(change) = change {
            self.shared.rung.store(rung.number(), Ordering::Relaxed);
            metric::ASR_RUNG.set(f64::from(rung.number()));
            let direction = if change.is_climb { "up" } else { "down" };
            metric::ASR_RUNG_CHANGES.add_labelled("direction", direction, 1);
            let (name, lag_s, utilisation) = (change.name, change.lag_s, change.utilisation);
            if change.is_climb && rung >= Rung::FinalsLate {
                tracing::warn!(
                    rung = rung.number(),
                    name,
                    lag_s,
                    utilisation,
                    "speech to text is overloaded"
                );
            } else {
                tracing::info!(
                    rung = rung.number(),
                    name,
                    lag_s,
                    utilisation,
                    "speech to text: load has changed"
                );
            }
            self.tell(&Overload::Ladder(change));
        }
        if now.saturating_since(self.moved) < LEG_PAUSE {
            return;
        }
        if too_many > 0 {
            let mut left = 0;
            while left < too_many {
                match self.leave_newest(now) {
                    0 => break,
                    legs => left += legs,
                }
            }
        } else if has_room {
            self.take_up_oldest(now);
        }
    }

    /// The call that began last is left to its recording. How many legs that were.
    fn leave_newest(&mut self, now: MediaInstant) -> usize {
        let newest = self
            .legs
            .iter()
            .filter(|(_, run)| run.is_live() && run.is_ours() && run.audio.caught_up && run.finish.is_none());
        let Some((owner, run)) = newest.max_by_key(|(owner, _)| **owner) else { return 0 };
        let mut left = 0;
        for owner in [Some(*owner), run.other].into_iter().flatten() {
            let Some(run) = self.legs.get_mut(&owner).filter(|run| run.is_live() && run.audio.caught_up)
            else {
                continue;
            };
            self.shared.queue.lock().scheduler.cancel_all(owner);
            left += 1;
            let from = run.leave(now);
            run.answer_flushes();
            let (call_id, leg) = (run.audio.call_id.clone(), run.audio.leg);
            metric::ASR_LEGS_LEFT.add_labelled("reason", "late", 1);
            tracing::warn!(
                call = call_id,
                leg = leg.name(),
                from,
                "too much to do: the rest is transcribed from the recording"
            );
            self.tell(&Overload::Leg(LegOverload { call_id, leg, live: false, from }));
        }
        self.moved = now;
        self.count_legs(now);
        left
    }

    /// The call that began first of those left is heard again.
    fn take_up_oldest(&mut self, now: MediaInstant) {
        let left =
            self.legs.iter().filter(|(_, run)| !run.is_live() && !run.is_over() && run.finish.is_none());
        let Some((owner, run)) = left.min_by_key(|(owner, _)| **owner) else { return };
        for owner in [Some(*owner), run.other].into_iter().flatten() {
            let Some(run) = self.legs.get_mut(&owner).filter(|run| !run.is_live()) else { continue };
            let from = run.take_up();
            let (call_id, leg) = (run.audio.call_id.clone(), run.audio.leg);
            tracing::info!(
                call = call_id,
                leg = leg.name(),
                from,
                "there is room again: it is transcribed live"
            );
            self.tell(&Overload::Leg(LegOverload { call_id, leg, live: true, from }));
        }
        self.moved = now;
        self.count_legs(now);
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

    fn heard_elsewhere(&mut self, owner: u64, stream: u64, news: StreamNews) {
        let Some(run) = self.legs.get_mut(&owner) else { return };
        let (Some(session), Some(remote)) = (&mut run.session, &mut run.remote) else { return };
        remote.on_news(session, stream, news, clock::now());
        self.attend(owner);
        self.conclude(owner, clock::now());
    }

    fn poll(&mut self, now: MediaInstant) {
        let owners: Vec<u64> = self.legs.keys().copied().collect();
        for owner in owners {
            self.attend_anew(owner, now);
        }
        if now.saturating_since(self.looked) >= LOOK {
            self.look(now);
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
            run.hear(now, self.rules.session, lent.as_ref().map(|(said, offset)| (said, *offset)));
        }
        if let (Some((said, _)), Some(run)) = (lent, other.and_then(|other| self.legs.get_mut(&other))) {
            run.said = said;
        }
    }

    /// Pass on what a leg's session wants and says.
    fn attend(&mut self, owner: u64) {
        let Some(run) = self.legs.get_mut(&owner) else { return };
        let segments = run.segments(self.rules.session.segments);
        let Some(session) = &mut run.session else {
            run.answer_flushes();
            return;
        };
        let now = clock::now();
        if let Some(remote) = &mut run.remote {
            remote.follow(session, owner, &run.audio, now, &self.outbox);
        }
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
        let late = run.finish.as_ref().is_some_and(|(_, deadline)| now >= *deadline);
        let awaited = run.finish.is_some() || run.detached;
        if !(late || run.is_over() && awaited) {
            return;
        }
        let Some(mut run) = self.legs.remove(&owner) else { return };
        self.shared.queue.lock().scheduler.cancel_all(owner);
        self.count_legs(now);
        let report = run.report(now);
        let (call, leg, unfinished) = (&run.audio.call_id, run.audio.leg.name(), report.unfinished);
        let owed_s = report.owed.iter().map(|span| span.end - span.start).sum::<f64>().round();
        metric::ASR_OWED.add(owed_s as u64);
        if !report.complete && !run.audio.caught_up {
            tracing::warn!(call, leg, unfinished, "time is up: the end of the leg is not transcribed");
        } else if !report.owed.is_empty() {
            tracing::info!(call, leg, unfinished, owed_s, "a part of the leg is left to its recording");
        }
        if let Some((done, _)) = run.finish {
            let _ = done.send(report);
        }
    }
}
