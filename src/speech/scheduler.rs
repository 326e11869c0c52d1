//! Which piece of audio is recognised next, and which is not worth it any more. Pure: time is a parameter.
//!
//! Workers take the most urgent class first and within it the earliest deadline. Finals are never given up, however
//! late. Partials are: a leg takes one back when it has newer audio, and one that cannot be out in time makes room before it is begun.
//! When partials come late, or more is asked for than can be done, the step between them grows for all legs, and shrinks again
//! once there is time; what else is given up the [`ladder`](super::ladder) says. What nobody waits for while speaking takes what is
//! left, and a little in any case.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use super::cost::{Costs, percentile};
use super::ladder::{ADMITTED, ADMITTED_AGAIN, EASY, FULL, Ladder, MOST_STRETCH, Pressure, Rung, RungChange};
use super::load::Load;
use crate::media::time::MediaInstant;

/// Urgency, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// An utterance that has ended.
    Final,
    /// An utterance that goes on, and tells the leg's language.
    Detect,
    /// An utterance that has probably ended.
    Speculative,
    /// An utterance that goes on.
    Partial,
    /// Audio of a call that is over, taken from its recording: what live transcription was too late for.
    CatchUp,
    /// A file that nobody waits for while speaking.
    Job,
}

impl Class {
    /// Whether somebody speaks at this moment whom it is for.
    pub fn is_live(self) -> bool {
        !matches!(self, Self::CatchUp | Self::Job)
    }
}

/// Names a task: the leg it belongs to, and a number unique within that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// The leg, or the job.
    pub owner: u64,
    /// Number within it.
    pub ticket: u64,
}

/// A piece of audio to recognise.
#[derive(Clone, Debug)]
pub struct Task<P> {
    /// Its name.
    pub id: TaskId,
    /// How urgent it is.
    pub class: Class,
    /// When it should be out.
    pub deadline: MediaInstant,
    /// Length of its audio.
    pub audio: Duration,
    /// Whatever the worker needs.
    pub payload: P,
}

/// What [`Scheduler::next`] decided.
#[derive(Debug)]
pub struct Picked<P> {
    /// The task to work on, and how long it has waited.
    pub task: Option<(Task<P>, Duration)>,
    /// Partials given up for want of time.
    pub shed: Vec<Task<P>>,
}

const STRETCH_UP: f64 = 1.5;
/// What it shrinks by at a time: from eight times what is wished for back to it in six seconds.
const STRETCH_DOWN: f64 = 0.7;
/// It shrinks if no more than this would be asked for then, which is known: half-way between [`EASY`] and [`FULL`].
const STRETCH_TO: f64 = 0.72;
/// Between two changes of the step, so that the effect of the first shows.
const STRETCH_PAUSE: Duration = Duration::from_secs(1);
/// Easy time before the step shrinks,
const RELAX_AFTER: Duration = Duration::from_secs(2);
/// and time since it grew.
const GROWN_FOR: Duration = Duration::from_secs(5);
/// A partial looks at its utterance from the start: the longer that is, the more one costs and the less of what it says is new. With a
/// step of at least this share of the utterance, what they cost grows with its length and not with the square of it.
const STEP_SHARE: f64 = 0.25;
/// One leg's partials take at most one part in this many of a worker.
const COST_SHARE: f64 = 1.5;
/// Waits are looked at for this long, so many at most.
const WAITS_KEPT: Duration = Duration::from_secs(3);
const WAITS: usize = 256;
/// 95 of 100.
const HIGH: f64 = 0.95;
/// A leg whose partials were too late this often, within this time, is a laggard.
const LAGGARD: u32 = 2;
const LAGGARD_WITHIN: Duration = Duration::from_secs(10);
/// For so long after a leg was not taken in, there are more than fit.
const TURNED_AWAY_FOR: Duration = Duration::from_secs(5);

/// A worker is kept for the legs this long after one of them asked for something: people pause.
const LIVE_FOR: Duration = Duration::from_secs(10);
/// What nobody waits for while speaking goes before partials if nothing of it was begun for this long,
const AGED: Duration = Duration::from_secs(5);
/// and before everything if for this long: a final waits for one window more then, twice a minute.
const STARVED: Duration = Duration::from_secs(30);
/// Catching up goes before jobs, unless a job has waited for so much longer.
const JOB_PATIENCE: Duration = Duration::from_secs(30);

type Key = (Class, MediaInstant, TaskId);

struct Queued<P> {
    task: Task<P>,
    since: MediaInstant,
}

/// Waits for a worker, lately.
#[derive(Default)]
struct Waits(VecDeque<(MediaInstant, f64)>);

impl Waits {
    fn add(&mut self, wait: Duration, now: MediaInstant) {
        if self.0.len() == WAITS {
            self.0.pop_front();
        }
        self.0.push_back((now, wait.as_secs_f64()));
    }

    fn high(&self, now: MediaInstant) -> Duration {
        let lately = self.0.iter().filter(|(at, _)| now.saturating_since(*at) < WAITS_KEPT);
        percentile(lately.map(|(_, wait)| *wait), HIGH).map_or(Duration::ZERO, Duration::from_secs_f64)
    }
}

/// Partials of one leg that were too late.
struct Lateness {
    first: MediaInstant,
    times: u32,
}

/// The queue of all legs and jobs. `P` is what the worker gets.
pub struct Scheduler<P> {
    queue: BTreeMap<Key, Queued<P>>,
    place: HashMap<TaskId, (Class, MediaInstant)>,
    step: Duration,
    stretch: f64,
    changed: MediaInstant,
    grown: MediaInstant,
    /// Since when there has been room for a shorter step.
    easy: Option<MediaInstant>,
    costs: Costs,
    load: Load,
    ladder: Ladder,
    partial_waits: Waits,
    final_waits: Waits,
    lateness: HashMap<u64, Lateness>,
    turned_away: Option<MediaInstant>,
    /// When something live was last asked for.
    live: Option<MediaInstant>,
    /// Workers that a leg finds free of jobs, and those that jobs have.
    workers: usize,
    jobs: usize,
    /// When one of them last began.
    job_began: MediaInstant,
}

impl<P> Scheduler<P> {
    /// A scheduler that would like `step` between the partials of a leg.
    pub fn new(step: Duration) -> Self {
        let zero = MediaInstant::from_nanos(0);
        Self {
            queue: BTreeMap::new(),
            place: HashMap::new(),
            step,
            stretch: 1.0,
            changed: zero,
            grown: zero,
            easy: None,
            costs: Costs::default(),
            load: Load::new(1, step),
            ladder: Ladder::new(false),
            partial_waits: Waits::default(),
            final_waits: Waits::default(),
            lateness: HashMap::new(),
            turned_away: None,
            live: None,
            workers: 0,
            jobs: 0,
            job_began: zero,
        }
    }

    /// Say how many workers there are: while someone speaks, jobs have all but one of them at most. A worker is not taken from a job
    /// once it has begun, so that a final would wait for all of it.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self.load = Load::new(workers, self.step);
        self
    }

    /// Whether calls may be refused at last.
    #[must_use]
    pub fn refusing(mut self, refuses: bool) -> Self {
        self.ladder = Ladder::new(refuses);
        self
    }

    /// Tasks waiting.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// When the live task that has waited longest was submitted.
    pub fn oldest(&self) -> Option<MediaInstant> {
        self.queue.values().filter(|q| q.task.class.is_live()).map(|q| q.since).min()
    }

    /// How long the final that has waited longest has.
    pub fn final_wait(&self, now: MediaInstant) -> Duration {
        let finals = self.queue.iter().take_while(|(key, _)| key.0 == Class::Final);
        finals.map(|(_, queued)| now.saturating_since(queued.since)).max().unwrap_or_default()
    }

    /// The step between partials, for now, of an utterance that has come to `audio`: what was wished for, stretched
    /// while there is too much to do, and in any case a share of the utterance, and longer than recognising one takes.
    pub fn partial_step(&self, audio: Duration) -> Duration {
        let share = audio.mul_f64(STEP_SHARE);
        self.step.mul_f64(self.stretch).max(share).max(self.costs.expected(audio, true).mul_f64(COST_SHARE))
    }

    /// What the ladder has come to.
    pub fn rung(&self) -> Rung {
        self.ladder.rung()
    }

    /// Whether this leg is to have partials.
    pub fn shows_partials(&self, owner: u64) -> bool {
        self.rung() < Rung::PartialsOff
            || self.lateness.get(&owner).is_none_or(|lateness| lateness.times < LAGGARD)
    }

    /// Whether to recognise what has probably ended, which may turn out to be of no use.
    pub fn speculates(&self) -> bool {
        self.rung() < Rung::FinalsLate
    }

    /// So many legs are transcribed while they last.
    pub fn set_legs(&mut self, legs: usize, now: MediaInstant) {
        self.load.set_legs(legs, now);
    }

    /// Whether one more leg can be, by what those before it cost.
    pub fn admits(&mut self, now: MediaInstant) -> bool {
        let fits = self.load.predicted(&self.costs, now) < ADMITTED;
        if !fits {
            self.turned_away = Some(now);
        }
        // Whom the rung alone turns away is no reason to stay on it.
        fits && self.rung() < Rung::LiveOff
    }

    /// Whether a leg that was left can be taken up again.
    pub fn has_room(&mut self, now: MediaInstant) -> bool {
        self.rung() <= Rung::PartialsOff && self.load.predicted(&self.costs, now) < ADMITTED_AGAIN
    }

    /// How many legs are to be left, by now: where even without partials worth the name more is asked for than can be done, waits
    /// grow without end; or, where finals come `too_late`, more than lets them catch up. Half of what is too much at a time: demand is
    /// an average, and lags behind.
    pub fn too_many(&mut self, too_late: bool, now: MediaInstant) -> usize {
        let least = self.load.utilisation(MOST_STRETCH, now);
        // To get rid of what has piled up takes more than not to add to it.
        let (most, wanted) = if too_late { (EASY, EASY) } else { (1.0, ADMITTED) };
        if self.rung() < Rung::LiveOff || least <= most {
            return 0;
        }
        (self.load.legs() as f64 * (1.0 - wanted / least) / 2.0).ceil() as usize
    }

    /// Queue `task`.
    pub fn submit(&mut self, task: Task<P>, now: MediaInstant) {
        if task.class.is_live() {
            self.live = Some(now);
        }
        let cost = self.costs.expected(task.audio, task.class == Class::Partial);
        self.load.asked(task.class, cost, self.stretch, now);
        self.place.insert(task.id, (task.class, task.deadline));
        self.queue.insert((task.class, task.deadline, task.id), Queued { task, since: now });
    }

    /// Take a task back. `None` if a worker has it already, or never knew it.
    pub fn cancel(&mut self, id: TaskId) -> Option<Task<P>> {
        let (class, deadline) = self.place.remove(&id)?;
        self.queue.remove(&(class, deadline, id)).map(|q| q.task)
    }

    /// Take back everything of `owner`, which is gone.
    pub fn cancel_all(&mut self, owner: u64) {
        let ids: Vec<TaskId> = self.place.keys().filter(|id| id.owner == owner).copied().collect();
        for id in ids {
            self.cancel(id);
        }
        self.lateness.remove(&owner);
    }

    /// Give a waiting task another class and deadline.
    pub fn reclass(&mut self, id: TaskId, class: Class, deadline: MediaInstant) {
        let Some(place) = self.place.get_mut(&id) else { return };
        let Some(mut queued) = self.queue.remove(&(place.0, place.1, id)) else { return };
        *place = (class, deadline);
        queued.task.class = class;
        queued.task.deadline = deadline;
        self.queue.insert((class, deadline, id), queued);
    }

    /// A partial of `owner` could not be had in time.
    pub fn late(&mut self, owner: u64, now: MediaInstant) {
        self.partial_waits.add(self.step.mul_f64(self.stretch), now);
        let lateness = self.lateness.entry(owner).or_insert(Lateness { first: now, times: 0 });
        if now.saturating_since(lateness.first) > LAGGARD_WITHIN && lateness.times < LAGGARD {
            *lateness = Lateness { first: now, times: 0 };
        }
        lateness.times += 1;
    }

    /// The most urgent task for a worker that is free at `now`.
    pub fn next(&mut self, now: MediaInstant) -> Picked<P> {
        let mut shed = Vec::new();
        while let Some(key) = self.most_urgent(now) {
            let Some(Queued { task, since }) = self.queue.remove(&key) else { break };
            self.place.remove(&task.id);
            let waited = now.saturating_since(since);
            match task.class {
                Class::Partial => {
                    let expected = self.costs.expected(task.audio, true);
                    if now + expected > task.deadline + self.step {
                        self.late(task.id.owner, now);
                        shed.push(task);
                        continue;
                    }
                    self.partial_waits.add(waited, now);
                }
                Class::Final => self.final_waits.add(waited, now),
                Class::CatchUp | Class::Job => {
                    self.jobs += 1;
                    self.job_began = now;
                }
                Class::Detect | Class::Speculative => {}
            }
            return Picked { task: Some((task, waited)), shed };
        }
        Picked { task: None, shed }
    }

    fn most_urgent(&self, now: MediaInstant) -> Option<Key> {
        let live = self.queue.keys().next().filter(|key| key.0.is_live()).copied();
        let job = (self.jobs < self.most_jobs(now)).then(|| self.first_job()).flatten();
        let (Some(live), Some((job, since))) = (live, job) else { return live.or(job.map(|(key, _)| key)) };
        let kept_waiting = now.saturating_since(since.max(self.job_began));
        let goes_first = kept_waiting >= STARVED || live.0 == Class::Partial && kept_waiting >= AGED;
        Some(if goes_first { job } else { live })
    }

    /// Of what nobody waits for while speaking.
    fn first_job(&self) -> Option<(Key, MediaInstant)> {
        let first = |class: Class| {
            let from = (class, MediaInstant::from_nanos(0), TaskId { owner: 0, ticket: 0 });
            let (key, queued) = self.queue.range(from..).next().filter(|(key, _)| key.0 == class)?;
            Some((*key, queued.since))
        };
        match (first(Class::CatchUp), first(Class::Job)) {
            (Some(catch_up), Some(job)) if job.1 + JOB_PATIENCE >= catch_up.1 => Some(catch_up),
            (catch_up, job) => job.or(catch_up),
        }
    }

    /// A worker is done with a task of `class`.
    pub fn finished(&mut self, class: Class) {
        self.jobs -= usize::from(!class.is_live() && self.jobs > 0);
    }

    fn most_jobs(&self, now: MediaInstant) -> usize {
        let is_live = self.live.is_some_and(|live| now.saturating_since(live) < LIVE_FOR);
        match self.workers {
            // Whoever does not say has no use for the rule.
            0 => usize::MAX,
            workers if is_live => (workers - 1).max(1),
            workers => workers,
        }
    }

    /// A worker was busy with `audio` for `took`; for a `partial`, or to the last word.
    pub fn completed(&mut self, audio: Duration, partial: bool, took: Duration) {
        self.costs.add(audio, partial, took);
    }

    /// Look at how things are: to be called some times a second. The step follows, and the ladder: what it came to, if it moved.
    pub fn look(&mut self, now: MediaInstant) -> Option<RungChange> {
        let partial_wait = self.partial_waits.high(now);
        let utilisation = self.load.utilisation(self.stretch, now);
        self.stretch_step(utilisation, partial_wait, now);
        if self.rung() < Rung::PartialsOff {
            self.lateness.retain(|_, lateness| now.saturating_since(lateness.first) <= LAGGARD_WITHIN);
        }
        let pressure = Pressure {
            utilisation,
            predicted: self.load.predicted(&self.costs, now),
            stretch: self.stretch,
            partial_wait,
            final_wait: self.final_wait(now).max(self.final_waits.high(now)),
            window: self.costs.worst(),
            step: self.step,
            turned_away: self.turned_away.is_some_and(|at| now.saturating_since(at) < TURNED_AWAY_FOR),
        };
        self.ladder.look(&pressure, now)
    }

    /// What a partial may wait for a worker: half of the step that is wished for, or a quarter of the one that there is.
    fn bearable_wait(&self, stretch: f64) -> Duration {
        self.step.mul_f64((stretch / 4.0).max(0.5))
    }

    fn stretch_step(&mut self, utilisation: f64, partial_wait: Duration, now: MediaInstant) {
        let before = self.stretch;
        let shorter = (before * STRETCH_DOWN).max(1.0);
        let is_easy = partial_wait <= self.bearable_wait(shorter) / 2
            && self.load.utilisation(shorter, now) < STRETCH_TO;
        let easy_since = self.easy.filter(|_| is_easy).unwrap_or(now);
        self.easy = is_easy.then_some(easy_since);
        if now.saturating_since(self.changed) < STRETCH_PAUSE {
            return;
        }
        let has_been = |since: MediaInstant, time: Duration| now.saturating_since(since) >= time;
        if utilisation > FULL || partial_wait > self.bearable_wait(before) {
            self.stretch = (before * STRETCH_UP).min(MOST_STRETCH);
            self.grown = now;
        } else if is_easy && has_been(easy_since, RELAX_AFTER) && has_been(self.grown, GROWN_FOR) {
            self.stretch = shorter;
        }
        if self.stretch > before {
            // What waited under the old step says nothing of the new one.
            self.partial_waits = Waits::default();
        }
        if self.stretch != before {
            self.changed = now;
        }
    }
}

#[cfg(test)]
mod tests;
