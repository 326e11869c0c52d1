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
    scheduler.look(at(2_000));
    assert!(scheduler.partial_step(Duration::ZERO) > Duration::from_millis(500));
}

#[test]
fn the_step_grows_within_seconds_of_pressure_and_comes_back_once_it_is_gone() {
    let mut scheduler: Scheduler<()> = Scheduler::new(Duration::from_millis(500));
    for second in 0..7 {
        scheduler.late(1, at(second * 1_000));
        scheduler.look(at(second * 1_000));
    }
    assert_eq!(scheduler.partial_step(Duration::ZERO), Duration::from_secs(4));
    let mut calm = Vec::new();
    for second in 7..60 {
        scheduler.look(at(second * 1_000));
        calm.push(scheduler.partial_step(Duration::ZERO));
    }
    assert!(calm.is_sorted_by(|a, b| a >= b));
    assert_eq!(calm[3], Duration::from_secs(4), "not at once");
    assert!(calm[8] > Duration::from_secs(1), "{calm:?}");
    assert_eq!(calm[14], Duration::from_millis(500), "{calm:?}");
}

#[test]
fn the_step_grows_before_anything_waits_if_more_is_asked_for_than_can_be_done() {
    let mut scheduler = Scheduler::new(Duration::from_millis(500)).with_workers(1);
    scheduler.completed(Duration::from_secs(2), true, Duration::from_millis(300));
    for turn in 0..40 {
        // Two legs want 0.3 s each every half second.
        for owner in 1..=2 {
            scheduler.submit(task(owner, turn, Class::Partial, turn * 500 + 500), at(turn * 500));
            scheduler.next(at(turn * 500));
        }
        scheduler.look(at(turn * 500));
    }
    let step = scheduler.partial_step(Duration::ZERO);
    assert!(step > Duration::from_millis(600), "{step:?}");
}

#[test]
fn the_step_is_longer_than_recognising_one_takes() {
    let mut scheduler: Scheduler<()> = Scheduler::new(Duration::from_millis(500));
    scheduler.completed(Duration::from_secs(12), true, Duration::from_secs(2));
    assert_eq!(scheduler.partial_step(Duration::from_secs(12)), Duration::from_secs(3));
    assert!(scheduler.partial_step(Duration::from_secs(1)) > Duration::from_millis(500));
}

#[test]
fn a_partial_that_cannot_be_out_in_time_is_not_begun() {
    let mut scheduler = Scheduler::new(Duration::from_millis(500));
    scheduler.completed(Duration::from_secs(2), true, Duration::from_millis(400));
    scheduler.submit(task(1, 0, Class::Partial, 600), at(0));
    scheduler.submit(task(2, 0, Class::Partial, 900), at(0));
    let picked = scheduler.next(at(800));
    assert_eq!(picked.shed.iter().map(|t| t.id.owner).collect::<Vec<_>>(), [1]);
    assert_eq!(picked.task.map(|(t, _)| t.id.owner), Some(2));
}

#[test]
fn catching_up_goes_before_jobs_and_neither_starves() {
    let mut scheduler = Scheduler::new(Duration::from_millis(500)).with_workers(1);
    let mut begun = HashMap::new();
    let mut waits: HashMap<Class, u64> = HashMap::new();
    let mut queued = HashMap::new();
    for second in 0..600 {
        let now = second * 1_000;
        // Finals and partials enough to keep the one worker busy for ever, and always one of the others.
        for (owner, class) in [(1, Class::Final), (2, Class::Partial)] {
            scheduler.submit(task(owner, second, class, now + 500), at(now));
        }
        for (owner, class) in [(3, Class::CatchUp), (4, Class::Job)] {
            queued.entry(class).or_insert_with(|| {
                scheduler.submit(task(owner, second, class, now), at(now));
                now
            });
        }
        if let Some((task, _)) = scheduler.next(at(now)).task {
            scheduler.finished(task.class);
            *begun.entry(task.class).or_insert(0) += 1;
            if let Some(since) = queued.remove(&task.class) {
                let longest = waits.entry(task.class).or_default();
                *longest = now.saturating_sub(since).max(*longest);
            }
        }
    }
    assert!(begun[&Class::Final] > 560, "{begun:?}");
    assert!(begun[&Class::CatchUp] > begun[&Class::Job] && begun[&Class::Job] >= 4, "{begun:?}");
    assert!(waits[&Class::Job] < 180_000 && waits[&Class::CatchUp] < 70_000, "{waits:?}");
}

#[test]
fn aged_jobs_go_before_partials() {
    let mut scheduler = Scheduler::new(Duration::from_millis(500)).with_workers(1);
    scheduler.submit(task(9, 0, Class::Job, 0), at(0));
    scheduler.submit(task(1, 0, Class::Partial, 5_400), at(4_900));
    assert_eq!(scheduler.next(at(4_900)).task.map(|(t, _)| t.id.owner), Some(1));
    scheduler.submit(task(1, 1, Class::Partial, 5_600), at(5_100));
    scheduler.submit(task(2, 0, Class::Final, 5_600), at(5_100));
    assert_eq!(owners(&mut scheduler, 5_100), [2, 9, 1]);
}

#[test]
fn the_partials_of_laggards_end_first() {
    let mut scheduler = Scheduler::new(Duration::from_millis(500)).with_workers(1);
    for second in 0..20 {
        let now = second * 1_000;
        scheduler.submit(task(1, second, Class::Partial, now + 500), at(now));
        scheduler.next(at(now));
        scheduler.late(2, at(now));
        scheduler.look(at(now));
    }
    assert_eq!(scheduler.rung(), Rung::PartialsOff);
    assert!(scheduler.shows_partials(1) && !scheduler.shows_partials(2));
    for second in 20..100 {
        scheduler.look(at(second * 1_000));
    }
    assert_eq!(scheduler.rung(), Rung::Calm);
    assert!(scheduler.shows_partials(2));
}

#[test]
fn of_twice_the_legs_that_fit_the_newest_are_to_be_left() {
    let mut scheduler = Scheduler::new(Duration::from_millis(500)).with_workers(1);
    scheduler.set_legs(20, at(0));
    scheduler.completed(Duration::from_secs(2), false, Duration::from_millis(200));
    // Finals of 0.2 s from each of 20 legs every two seconds; a worker does half of them.
    for turn in 0..200 {
        scheduler.submit(task(turn % 20, turn, Class::Final, turn * 100), at(turn * 100));
        if turn % 2 == 0 {
            scheduler.next(at(turn * 100));
        }
        scheduler.look(at(turn * 100));
    }
    assert_eq!(scheduler.rung(), Rung::LiveOff);
    assert!(
        (4..=7).contains(&scheduler.too_many(false, at(20_000))),
        "{}",
        scheduler.too_many(false, at(20_000))
    );
    assert!(!scheduler.admits(at(20_000)) && !scheduler.has_room(at(20_000)));
}

#[test]
fn legs_are_admitted_by_what_those_before_them_cost() {
    let mut scheduler: Scheduler<()> = Scheduler::new(Duration::from_millis(500)).with_workers(1);
    assert!(scheduler.admits(at(0)), "nothing is known");
    scheduler.completed(Duration::from_secs(4), false, Duration::from_millis(800));
    let mut admitted = 0;
    while scheduler.admits(at(0)) {
        admitted += 1;
        scheduler.set_legs(admitted, at(0));
    }
    assert!((4..=9).contains(&admitted), "{admitted} legs of 0.1 and a little");
    assert_eq!(scheduler.too_many(false, at(0)), 0);
    // Whoever is turned away is told: the ladder says so.
    for tick in 0..5 {
        scheduler.look(at(tick * 500));
    }
    assert_eq!(scheduler.rung(), Rung::LiveOff);
    // Room again; and whoever asks meanwhile is no reason to stay up there.
    scheduler.set_legs(1, at(10_000));
    let mut admitted = None;
    for tick in 20..100 {
        scheduler.look(at(tick * 500));
        if scheduler.admits(at(tick * 500)) {
            admitted.get_or_insert(tick / 2);
        }
    }
    assert!(admitted.is_some_and(|second| second < 20), "{admitted:?}");
}

#[test]
fn at_a_load_that_a_longer_step_makes_bearable_the_step_comes_to_rest_and_legs_are_taken_up() {
    let mut scheduler = Scheduler::new(Duration::from_millis(500)).with_workers(1);
    scheduler.completed(Duration::from_secs(2), true, Duration::from_millis(100));
    scheduler.completed(Duration::from_secs(2), false, Duration::from_millis(100));
    scheduler.set_legs(6, at(0));
    let mut tickets = 0;
    let mut steps = Vec::new();
    let mut rungs = Vec::new();
    // Six legs that speak two thirds of the time: 0.3 for finals alone, 1.1 with partials every half second. In the first ten
    // seconds there is twice as much to be had for.
    for tick in 0..1_200_u64 {
        let now = tick * 100;
        let step = scheduler.partial_step(Duration::from_secs(2)).as_millis() as u64 / 100 * 100;
        let legs = if tick < 100 { 16 } else { 6 };
        for leg in 0..legs {
            let own = now + leg * 170 / 100 * 100;
            let is_due = |every: u64| own / 100 % (every / 100) == 0;
            for (class, every) in [(Class::Final, 2_000), (Class::Partial, step)] {
                if is_due(every) && (class == Class::Final || own % 3_000 < 2_000) {
                    tickets += 1;
                    scheduler.submit(task(leg, tickets, class, now + step), at(now));
                }
            }
        }
        scheduler.next(at(now));
        if let Some(change) = scheduler.look(at(now)) {
            rungs.push((tick / 10, change.rung.number()));
        }
        if tick % 10 == 0 {
            steps.push(step);
        }
    }
    // What the first ten seconds brought is gone well within 30 s, and the step stays where it is bearable.
    assert!(rungs.iter().all(|(second, _)| *second < 40), "{rungs:?} {steps:?}");
    assert!(rungs.last().is_some_and(|(_, rung)| *rung <= 1), "{rungs:?} {steps:?}");
    assert!(scheduler.has_room(at(120_000)), "{rungs:?} {steps:?}");
    let rest = &steps[40..];
    let turns = rest.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(turns <= 6, "{rest:?}");
}
