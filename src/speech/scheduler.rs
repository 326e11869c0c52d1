//! Which piece of audio is recognised next, and which is not worth it any more. Pure: time is a parameter.
//!
//! Workers take the most urgent class first and within it the earliest deadline. Finals are never given up, however
//! late. Partials are: a leg takes one back when it has newer audio, and one that has waited too long even so makes room.
//! When partials come late the step between them grows for all legs, and shrinks again once there is time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::media::time::MediaInstant;

/// Urgency, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// An utterance that has ended.
    Final,
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

/// The step between partials is at most this many times the one wished for.
const MOST_STRETCH: f64 = 8.0;
const STRETCH_UP: f64 = 1.5;
const STRETCH_DOWN: f64 = 0.9;
/// Between two changes of the step, so that the effect of the first shows.
const STRETCH_PAUSE: Duration = Duration::from_secs(1);
/// Quiet time before the step shrinks.
const RELAX_AFTER: Duration = Duration::from_secs(3);
/// One leg's partials take at most one part in this many of a worker.
const COST_SHARE: f64 = 1.5;
/// Weight of the newest measurement of a cost.
const COST_WEIGHT: f64 = 0.3;
/// Costs are kept by audio length, in the steps of the encoder's window (256 positions of 20 ms).
const COST_STEP: Duration = Duration::from_millis(5_120);
const COST_BUCKETS: usize = 6;

/// A worker is kept for the legs this long after one of them asked for something: people pause.
const LIVE_FOR: Duration = Duration::from_secs(10);

struct Queued<P> {
    task: Task<P>,
    since: MediaInstant,
}

/// The queue of all legs and jobs. `P` is what the worker gets.
pub struct Scheduler<P> {
    queue: BTreeMap<(Class, MediaInstant, TaskId), Queued<P>>,
    place: HashMap<TaskId, (Class, MediaInstant)>,
    step: Duration,
    stretch: f64,
    changed: MediaInstant,
    pressed: MediaInstant,
    costs: [Option<f64>; COST_BUCKETS],
    /// When something live was last asked for.
    live: Option<MediaInstant>,
    /// Workers that a leg finds free of jobs, and those that jobs have.
    workers: usize,
    jobs: usize,
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
            pressed: zero,
            costs: [None; COST_BUCKETS],
            live: None,
            workers: 0,
            jobs: 0,
        }
    }

    /// Say how many workers there are: while someone speaks, jobs have all but one of them at most. A worker is not taken from a job
    /// once it has begun, so that a final would wait for all of it.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = workers;
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

    /// The step between partials, for now, of an utterance that has come to `audio`: what was wished for, stretched
    /// while partials come late, and in any case longer than recognising one takes.
    pub fn partial_step(&self, audio: Duration) -> Duration {
        self.step.mul_f64(self.stretch).max(self.expected_cost(audio).mul_f64(COST_SHARE))
    }

    fn expected_cost(&self, audio: Duration) -> Duration {
        let bucket = bucket_of(audio);
        let measured = |b: usize| self.costs[b].map(|c| (b, c));
        let near =
            (0..=bucket).rev().find_map(measured).or_else(|| (bucket..COST_BUCKETS).find_map(measured));
        near.map_or(Duration::ZERO, |(b, cost)| {
            Duration::from_secs_f64(cost * (bucket + 1) as f64 / (b + 1) as f64)
        })
    }

    /// Queue `task`.
    pub fn submit(&mut self, task: Task<P>, now: MediaInstant) {
        if task.class.is_live() {
            self.live = Some(now);
        }
        self.place.insert(task.id, (task.class, task.deadline));
        self.queue.insert((task.class, task.deadline, task.id), Queued { task, since: now });
    }

    /// Take a task back. `None` if a worker has it already, or never knew it.
    pub fn cancel(&mut self, id: TaskId) -> Option<Task<P>> {
        let (class, deadline) = self.place.remove(&id)?;
        self.queue.remove(&(class, deadline, id)).map(|q| q.task)
    }

    /// Take back everything of `owner`.
    pub fn cancel_all(&mut self, owner: u64) {
        let ids: Vec<TaskId> = self.place.keys().filter(|id| id.owner == owner).copied().collect();
        for id in ids {
            self.cancel(id);
        }
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

    /// A partial could not be had in time: the step grows.
    pub fn press(&mut self, now: MediaInstant) {
        self.pressed = now;
        if now.saturating_since(self.changed) >= STRETCH_PAUSE && self.stretch < MOST_STRETCH {
            self.stretch = (self.stretch * STRETCH_UP).min(MOST_STRETCH);
            self.changed = now;
        }
    }

    /// The most urgent task for a worker that is free at `now`.
    pub fn next(&mut self, now: MediaInstant) -> Picked<P> {
        let mut shed = Vec::new();
        let most_jobs = self.most_jobs(now);
        while let Some(entry) = self.queue.first_entry() {
            // The last of the classes: whatever follows is for nobody who speaks, either.
            if !entry.key().0.is_live() && self.jobs >= most_jobs {
                break;
            }
            let Queued { task, since } = entry.remove();
            self.place.remove(&task.id);
            self.jobs += usize::from(!task.class.is_live());
            let waited = now.saturating_since(since);
            if task.class == Class::Partial {
                if waited > self.step / 2 {
                    self.press(now);
                }
                if waited > self.partial_step(task.audio) * 2 {
                    shed.push(task);
                    continue;
                }
            }
            self.relax(now);
            return Picked { task: Some((task, waited)), shed };
        }
        self.relax(now);
        Picked { task: None, shed }
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

    /// A worker was busy with `audio` for `took`.
    pub fn completed(&mut self, audio: Duration, took: Duration) {
        let cost = &mut self.costs[bucket_of(audio)];
        let seconds = took.as_secs_f64();
        *cost = Some(cost.map_or(seconds, |c| c + COST_WEIGHT * (seconds - c)));
    }

    fn relax(&mut self, now: MediaInstant) {
        let calm = now.saturating_since(self.pressed) >= RELAX_AFTER;
        if calm && self.stretch > 1.0 && now.saturating_since(self.changed) >= STRETCH_PAUSE {
            self.stretch = (self.stretch * STRETCH_DOWN).max(1.0);
            self.changed = now;
        }
    }
}

fn bucket_of(audio: Duration) -> usize {
    ((audio.as_millis() / COST_STEP.as_millis()) as usize).min(COST_BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MediaInstant {
        MediaInstant::from_nanos(1_000_000_000 + ms * 1_000_000)
    }

    fn task(owner: u64, ticket: u64, class: Class, deadline: u64) -> Task<()> {
        let id = TaskId { owner, ticket };
        Task { id, class, deadline: at(deadline), audio: Duration::from_secs(2), payload: () }
    }

    fn owners(scheduler: &mut Scheduler<()>, now: u64) -> Vec<u64> {
        std::iter::from_fn(|| scheduler.next(at(now)).task.map(|(t, _)| t.id.owner)).collect()
    }

    #[test]
    fn finals_go_first_and_the_earliest_deadline_before_the_others() {
        let mut scheduler = Scheduler::new(Duration::from_millis(500));
        scheduler.submit(task(1, 0, Class::Job, 0), at(0));
        scheduler.submit(task(2, 0, Class::Partial, 10), at(0));
        scheduler.submit(task(3, 0, Class::Final, 900), at(0));
        scheduler.submit(task(4, 0, Class::Final, 800), at(0));
        scheduler.submit(task(5, 0, Class::Speculative, 1), at(0));
        assert_eq!(owners(&mut scheduler, 0), [4, 3, 5, 2, 1]);
        assert!(scheduler.is_empty());
    }

    #[test]
    fn a_promoted_task_overtakes_and_a_cancelled_one_is_gone() {
        let mut scheduler = Scheduler::new(Duration::from_millis(500));
        for owner in 1..=3 {
            scheduler.submit(task(owner, 7, Class::Speculative, owner), at(0));
        }
        scheduler.reclass(TaskId { owner: 3, ticket: 7 }, Class::Final, at(50));
        assert!(scheduler.cancel(TaskId { owner: 1, ticket: 7 }).is_some());
        assert!(scheduler.cancel(TaskId { owner: 1, ticket: 7 }).is_none());
        assert_eq!(owners(&mut scheduler, 0), [3, 2]);
    }

    #[test]
    fn while_someone_speaks_jobs_leave_a_worker_free() {
        let mut scheduler = Scheduler::new(Duration::from_millis(500)).with_workers(3);
        for ticket in 0..6 {
            scheduler.submit(task(1, ticket, Class::Job, ticket), at(0));
        }
        assert_eq!(owners(&mut scheduler, 0), [1, 1, 1], "nobody speaks: all of them");
        scheduler.finished(Class::Job);
        scheduler.submit(task(2, 0, Class::Partial, 20), at(10));
        assert_eq!(owners(&mut scheduler, 10), [2], "the partial takes what is free, and it stays so");
        scheduler.finished(Class::Partial);
        scheduler.finished(Class::Job);
        assert_eq!(owners(&mut scheduler, 20), [1], "one worker of the two that jobs have");
        scheduler.submit(task(2, 1, Class::Final, 9_000), at(9_000));
        assert_eq!(owners(&mut scheduler, 9_000), [2]);
        assert_eq!(owners(&mut scheduler, 18_900), [0; 0]);
        assert_eq!(owners(&mut scheduler, 19_100), [1], "long after the last word");
    }

    #[test]
    fn one_worker_does_jobs_too() {
        let mut scheduler = Scheduler::new(Duration::from_millis(500)).with_workers(1);
        scheduler.submit(task(2, 0, Class::Final, 0), at(0));
        scheduler.submit(task(1, 0, Class::Job, 0), at(0));
        assert_eq!(owners(&mut scheduler, 0), [2, 1]);
    }

    #[test]
    fn late_partials_are_shed_and_late_finals_are_not() {
        let mut scheduler = Scheduler::new(Duration::from_millis(500));
        scheduler.submit(task(1, 0, Class::Partial, 500), at(0));
        scheduler.submit(task(2, 0, Class::Final, 100), at(0));
        let first = scheduler.next(at(2_000));
        assert_eq!(first.task.map(|(t, waited)| (t.id.owner, waited)), Some((2, Duration::from_secs(2))));
        let second = scheduler.next(at(2_000));
        assert!(second.task.is_none());
        assert_eq!(second.shed.len(), 1);
        assert!(scheduler.partial_step(Duration::ZERO) > Duration::from_millis(500));
    }

    #[test]
    fn the_step_grows_under_pressure_and_comes_back() {
        let mut scheduler: Scheduler<()> = Scheduler::new(Duration::from_millis(500));
        for second in 0..20 {
            scheduler.press(at(second * 1_000));
        }
        assert_eq!(scheduler.partial_step(Duration::ZERO), Duration::from_secs(4));
        for second in 20..80 {
            scheduler.next(at(second * 1_000));
        }
        assert_eq!(scheduler.partial_step(Duration::ZERO), Duration::from_millis(500));
    }

    #[test]
    fn costs_are_learnt_by_length() {
        let mut scheduler: Scheduler<()> = Scheduler::new(Duration::from_millis(500));
        assert_eq!(scheduler.expected_cost(Duration::from_secs(3)), Duration::ZERO);
        scheduler.completed(Duration::from_secs(3), Duration::from_millis(100));
        assert_eq!(scheduler.expected_cost(Duration::from_secs(1)), Duration::from_millis(100));
        assert_eq!(scheduler.expected_cost(Duration::from_secs(7)), Duration::from_millis(200));
        scheduler.completed(Duration::from_secs(12), Duration::from_secs(2));
        assert_eq!(scheduler.partial_step(Duration::from_secs(12)), Duration::from_secs(3));
        assert_eq!(scheduler.partial_step(Duration::from_secs(1)), Duration::from_millis(500));
    }
}
