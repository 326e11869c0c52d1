//! Legs, scheduler and workers under simulated time: how often partials come, what is shed, and that no final ever is.

#[path = "speech-support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use sidetone::media::leg::Leg;
use sidetone::media::time::MediaInstant;
use sidetone::speech::dispatch::dispatch;
use sidetone::speech::ladder::{FULL, Rung, RungChange};
use sidetone::speech::recogniser::{Hypothesis, RecogniseError, Recogniser, Request, SpeechModel};
use sidetone::speech::resample::Resampler;
use sidetone::speech::scheduler::{Class, Scheduler, Task};
use sidetone::speech::scripted::{ScriptedModel, ScriptedWord};
use sidetone::speech::segment::SegmentConfig;
use sidetone::speech::session::Session;
use sidetone::speech::{TranscriptEvent, TranscriptKind};
use support::{hush, prompt};

const TICK: Duration = Duration::from_millis(20);
const STEP: Duration = Duration::from_millis(500);
const TICK_SAMPLES: usize = 320;

/// A prompt at 16 kHz between `before` and `after` seconds of a silent line, with words of 0.25 s all through it.
fn recording(name: &str, before: f64, after: f64) -> (Vec<i16>, Vec<ScriptedWord>) {
    let narrow: Vec<f32> = prompt(name).pcm.iter().map(|&s| f32::from(s) / 32_768.0).collect();
    let mut wide = Vec::new();
    let mut resampler = Resampler::new(8_000).unwrap();
    resampler.push(&narrow, &mut wide);
    resampler.finish(&mut wide);
    let speech: Vec<i16> = wide.iter().map(|s| (s * 32_768.0).round() as i16).collect();
    let silence = |seconds: f64| vec![0; (seconds * 16_000.0) as usize];
    let mut pcm = [silence(before), speech, silence(after)].concat();
    for (sample, noise) in pcm.iter_mut().zip(hush(1_000_000, 9)) {
        *sample = sample.saturating_add(noise);
    }
    let count = (wide.len() as f64 / 16_000.0 / 0.25) as usize;
    let word = |i: usize| (format!("w{i}"), before + 0.1 + 0.25 * i as f64, before + 0.3 + 0.25 * i as f64);
    (pcm, (0..count).map(word).collect())
}

type Outcome = Option<Result<Hypothesis, RecogniseError>>;
type Job = (Vec<f32>, Request);
/// What a decode of so much audio takes.
type Cost = Box<dyn Fn(Duration) -> Duration>;

struct Worker {
    recogniser: Box<dyn Recogniser>,
    busy: Option<(Duration, Task<Job>)>,
}

struct Simulation {
    scheduler: Scheduler<Job>,
    workers: Vec<Worker>,
    sessions: Vec<Session>,
    cost: Cost,
    /// What each final waited for a worker, and would have its worker busy for.
    final_waits: Vec<(Duration, Duration)>,
    busy: Duration,
    languages: Vec<String>,
    events: Vec<(Duration, usize, TranscriptEvent)>,
    shed: u64,
    changes: Vec<(Duration, RungChange)>,
    /// Legs that end before they have said all.
    hang_ups: HashMap<usize, Duration>,
    answer_auto_with: &'static str,
    /// What becomes of the n-th outcome: true spoils it.
    spoil: Box<dyn FnMut() -> bool>,
}

impl Simulation {
    fn new(legs: usize, workers: usize, cost: Duration, model: &ScriptedModel) -> Self {
        Self::with_cost(legs, workers, Box::new(move |_| cost), model)
    }

    fn with_cost(legs: usize, workers: usize, cost: Cost, model: &ScriptedModel) -> Self {
        let session = |_| Session::new(Leg::Caller, "en".into(), 0.0, 1, SegmentConfig::default());
        let worker = |_| Worker { recogniser: model.recogniser().unwrap(), busy: None };
        Self {
            scheduler: Scheduler::new(STEP).with_workers(workers),
            workers: (0..workers).map(worker).collect(),
            sessions: (0..legs).map(session).collect(),
            cost,
            final_waits: Vec::new(),
            busy: Duration::ZERO,
            languages: Vec::new(),
            events: Vec::new(),
            shed: 0,
            changes: Vec::new(),
            hang_ups: HashMap::new(),
            answer_auto_with: "auto",
            spoil: Box::new(|| false),
        }
    }

    /// Nothing is recognised on suspicion: a pause that might be the end is not looked at before it is one.
    fn without_speculation(mut self) -> Self {
        let config = SegmentConfig::default();
        let config = SegmentConfig { pause: config.hangover, ..config };
        let session = |_| Session::new(Leg::Caller, "en".into(), 0.0, 1, config);
        self.sessions = (0..self.sessions.len()).map(session).collect();
        self
    }

    /// Each leg says `pcm`, each `stagger` after the one before. Runs until all is out.
    fn run(&mut self, pcm: &[i16], stagger: Duration) {
        let pcm: Vec<f32> = pcm.iter().map(|&s| f32::from(s) / 32_768.0).collect();
        let legs = self.sessions.len();
        let mut ended = vec![false; legs];
        for tick in 0..100_000_u32 {
            let now = TICK * tick;
            for (leg, ended) in ended.iter_mut().enumerate() {
                let own = now.saturating_sub(stagger * leg as u32);
                let at = (own.as_millis() / TICK.as_millis()) as usize * TICK_SAMPLES;
                let hung_up = self.hang_ups.get(&leg).is_some_and(|at| now >= *at);
                if now >= stagger * leg as u32 && at < pcm.len() && !hung_up {
                    self.sessions[leg].push(&pcm[at..(at + TICK_SAMPLES).min(pcm.len())]);
                } else if (at >= pcm.len() || hung_up) && !std::mem::replace(ended, true) {
                    self.sessions[leg].finish();
                }
                self.attend(leg, now);
            }
            self.work(now);
            self.scheduler.set_legs(ended.iter().filter(|ended| !**ended).count(), instant(now));
            self.changes.extend(self.scheduler.look(instant(now)).map(|change| (now, change)));
            if ended.iter().all(|&e| e) && self.sessions.iter().all(|s| s.unfinished() == 0) {
                return;
            }
        }
        panic!("not everything came to its end");
    }

    fn attend(&mut self, leg: usize, now: Duration) {
        let session = &mut self.sessions[leg];
        let grace = Duration::from_millis(240);
        let job = |audio: std::sync::Arc<[f32]>, request| (audio.to_vec(), request);
        self.shed += dispatch(session, leg as u64, &mut self.scheduler, instant(now), grace, job).replaced;
        self.events.extend(session.take_events().into_iter().map(|event| (now, leg, event)));
    }

    fn work(&mut self, now: Duration) {
        for index in 0..self.workers.len() {
            let worker = &mut self.workers[index];
            if let Some((until, task)) = worker.busy.take() {
                if until > now {
                    worker.busy = Some((until, task));
                    continue;
                }
                let result = worker.recogniser.recognise(&task.payload.0, &task.payload.1);
                let took = (self.cost)(task.audio);
                self.scheduler.completed(task.audio, task.payload.1.partial, took);
                let found = self.answer_auto_with;
                let result = result.map(|mut hypothesis| {
                    if hypothesis.language == "auto" {
                        found.clone_into(&mut hypothesis.language);
                    }
                    hypothesis
                });
                let broken = RecogniseError::Panicked { model: "m".into() };
                let result = if (self.spoil)() { Err(broken) } else { result };
                self.tell(&task, Some(result), now);
            }
            let picked = self.scheduler.next(instant(now));
            for task in picked.shed {
                self.shed += 1;
                self.tell(&task, None, now);
            }
            self.workers[index].busy = picked.task.map(|(task, waited)| {
                let takes = (self.cost)(task.audio);
                if task.class == Class::Final {
                    self.final_waits.push((waited, takes));
                }
                self.languages.push(task.payload.1.language.clone());
                self.busy += takes;
                (now + takes, task)
            });
        }
    }

    fn tell(&mut self, task: &Task<Job>, outcome: Outcome, now: Duration) {
        let leg = task.id.owner as usize;
        self.sessions[leg].on_result(task.id.ticket, outcome);
        self.attend(leg, now);
    }

    /// Check what has to hold whatever happens, and give back the finals of each leg.
    fn finals(&self) -> Vec<Vec<(Duration, TranscriptEvent)>> {
        let mut finals = vec![Vec::new(); self.sessions.len()];
        let mut open: HashMap<(usize, u64), TranscriptEvent> = HashMap::new();
        for (at, leg, event) in &self.events {
            let before = open.insert((*leg, event.utterance), event.clone());
            assert_eq!(event.revision, before.as_ref().map_or(0, |b| b.revision) + 1);
            if let Some(before) = before {
                assert_eq!(before.kind, TranscriptKind::Partial, "nothing follows a final: {event:?}");
                let stable = before.words.iter().take_while(|w| w.stable).count();
                assert_eq!(before.words[..stable], event.words[..stable]);
            }
            if event.kind == TranscriptKind::Final {
                finals[*leg].push((*at, event.clone()));
            }
        }
        assert!(open.values().all(|e| e.kind == TranscriptKind::Final), "an utterance without its final");
        for legs in &finals {
            for (index, (_, event)) in legs.iter().enumerate() {
                assert_eq!(event.utterance, index as u64 + 1);
            }
        }
        finals
    }
}

fn instant(at: Duration) -> MediaInstant {
    MediaInstant::from_nanos(1_000_000_000) + at
}

#[test]
fn partials_come_early_and_often_and_the_final_right_after_the_hangover() {
    let (pcm, words) = recording("agent-pass", 1.0, 1.5);
    let model = ScriptedModel::new(&pcm, words.clone());
    let mut simulation = Simulation::new(1, 1, Duration::from_millis(100), &model);
    simulation.run(&pcm, Duration::ZERO);
    let finals = simulation.finals();
    let events = &simulation.events;

    let (first, _, event) = &events[0];
    assert!(first.as_secs_f64() - event.start < 0.75, "first at {first:?}, speech from {}", event.start);
    let gap = events.windows(2).map(|w| w[1].0 - w[0].0).max().unwrap();
    // A quarter of four seconds of utterance, and one decode.
    assert!(gap <= Duration::from_millis(1_100), "{gap:?}");
    let (at, last) = finals[0].last().unwrap();
    assert!((at.as_secs_f64() - last.end) < 0.45, "{at:?} for {}", last.end);
    let text: Vec<&str> = words.iter().map(|w| w.0.as_str()).collect();
    assert_eq!(finals[0].iter().map(|f| f.1.text.as_str()).collect::<Vec<_>>().join(" "), text.join(" "));
    assert_eq!(simulation.shed, 0);
    assert!(events.iter().any(|(_, _, e)| e.kind == TranscriptKind::Partial && e.words[0].stable));
}

#[test]
fn overload_takes_partials_and_never_finals() {
    let (pcm, words) = recording("agent-pass", 0.5, 1.0);
    let model = ScriptedModel::new(&pcm, words.clone());
    let alone = {
        let mut simulation = Simulation::new(1, 1, Duration::from_millis(10), &model);
        simulation.run(&pcm, Duration::ZERO);
        simulation.finals()[0].iter().map(|f| f.1.text.clone()).collect::<Vec<_>>()
    };
    let mut simulation = Simulation::new(30, 2, Duration::from_millis(200), &model);
    simulation.run(&pcm, Duration::from_millis(40));
    let finals = simulation.finals();
    let texts =
        |leg: &Vec<(Duration, TranscriptEvent)>| leg.iter().map(|f| f.1.text.clone()).collect::<Vec<_>>();
    assert!(finals.iter().all(|leg| texts(leg) == alone), "every leg has every final, whole");
    assert!(simulation.shed > 5, "{}", simulation.shed);
    assert!(simulation.scheduler.partial_step(Duration::ZERO) > STEP);

    // 30 finals of 0.2 s on two workers take 3 s: that, the hangover, and nothing behind partials.
    let stagger = |leg: usize| 0.04 * leg as f64;
    let late = |(leg, finals): (usize, &Vec<(Duration, TranscriptEvent)>)| {
        let (at, event) = finals.last().unwrap();
        at.as_secs_f64() - stagger(leg) - event.end
    };
    let worst = finals.iter().enumerate().map(late).fold(0.0, f64::max);
    assert!(worst < 3.0 + 0.4 + 0.2, "{worst}");
}

#[test]
fn a_model_slower_than_the_step_is_asked_less_often() {
    let (pcm, words) = recording("ss-noservice", 0.5, 1.0);
    let model = ScriptedModel::new(&pcm, words);
    let mut simulation = Simulation::new(1, 1, Duration::from_millis(700), &model);
    simulation.run(&pcm, Duration::ZERO);
    let finals = simulation.finals();
    let (at, last) = finals[0].last().unwrap();
    // At worst a partial has just begun when the speaker stops.
    assert!(at.as_secs_f64() - last.end < 0.2 + 1.5, "{at:?} for {}", last.end);
    let partials = simulation.events.iter().filter(|e| e.2.kind == TranscriptKind::Partial).count();
    assert!((2..=6).contains(&partials), "{partials}");
}

/// Encode and decode as measured for whisper.cpp's `tiny` on one core, by the encoder's window, and 15 tokens.
fn recorded(audio: Duration) -> Duration {
    let encode = match ((audio.as_secs_f64() * 50.0 + 64.0) / 256.0).ceil() as u64 {
        ..=1 => 85,
        2 => 228,
        3 => 354,
        _ => 587,
    };
    Duration::from_millis(encode + 40)
}

#[test]
fn below_full_load_no_final_waits_longer_than_for_a_window_and_its_own() {
    let (pcm, words) = recording("agent-pass", 0.5, 1.0);
    let model = ScriptedModel::new(&pcm, words);
    for (legs, workers) in [(4, 1), (6, 2), (10, 2), (14, 2), (24, 4)] {
        let mut simulation = Simulation::with_cost(legs, workers, Box::new(recorded), &model);
        let stagger = Duration::from_millis(430);
        simulation.run(&pcm, stagger);
        simulation.finals();
        let length = Duration::from_millis(pcm.len() as u64 / 16) + stagger * legs as u32;
        let utilisation = simulation.busy.as_secs_f64() / length.as_secs_f64() / workers as f64;
        let window = recorded(Duration::from_secs(12));
        let over = |(waited, own): &(Duration, Duration)| waited.saturating_sub(window + *own);
        // Those that were recognised on suspicion have not waited at all.
        let worst = simulation.final_waits.iter().map(over).max().unwrap_or_default();
        let longest = simulation.final_waits.iter().map(|(waited, _)| *waited).max().unwrap_or_default();
        eprintln!("{legs} legs on {workers}: {utilisation:.2} busy, finals wait {longest:?} at most");
        assert!(utilisation < FULL, "{utilisation}: the step is to grow before that");
        assert!(worst <= TICK, "{legs} legs on {workers}: {worst:?} longer");
    }
}

#[test]
fn without_speculation_neither_does_any() {
    let (pcm, words) = recording("agent-pass", 0.5, 1.0);
    let model = ScriptedModel::new(&pcm, words);
    let window = recorded(Duration::from_secs(12));
    for (legs, workers) in [(4, 1), (6, 2), (10, 2), (14, 2), (24, 4)] {
        let simulation = Simulation::with_cost(legs, workers, Box::new(recorded), &model);
        let mut simulation = simulation.without_speculation();
        let stagger = Duration::from_millis(430);
        simulation.run(&pcm, stagger);
        let finals: usize = simulation.finals().iter().map(Vec::len).sum();
        let length = Duration::from_millis(pcm.len() as u64 / 16) + stagger * legs as u32;
        let utilisation = simulation.busy.as_secs_f64() / length.as_secs_f64() / workers as f64;
        let waits = &simulation.final_waits;
        let longest = waits.iter().map(|(waited, _)| *waited).max().unwrap_or_default();
        eprintln!("{legs} legs on {workers}: {utilisation:.2} busy, finals wait {longest:?} at most");
        assert!(waits.len() >= finals && finals >= legs, "each final is a task of its own: {}", waits.len());
        assert!(utilisation < FULL, "{utilisation}");
        let is_late = |(waited, own): &&(Duration, Duration)| *waited > window + *own + TICK;
        assert_eq!(waits.iter().find(is_late), None, "{legs} legs on {workers}");
    }
}

/// The prompt again and again, the same nowhere.
fn talk(times: usize) -> (Vec<i16>, Vec<ScriptedWord>) {
    let (one, words) = recording("agent-pass", 0.5, 1.0);
    let seconds = one.len() as f64 / 16_000.0;
    let mut pcm = one.repeat(times);
    for (sample, noise) in pcm.iter_mut().zip(hush(10_000_000, 5)) {
        *sample = sample.saturating_add(noise);
    }
    let again = |n: usize| {
        words.iter().map(move |(text, start, end)| {
            (format!("{text}-{n}"), start + seconds * n as f64, end + seconds * n as f64)
        })
    };
    (pcm, (0..times).flat_map(again).collect())
}

#[test]
fn when_half_of_the_legs_go_the_ladder_is_down_in_well_under_half_a_minute_and_stays_there() {
    let (pcm, words) = talk(20);
    let model = ScriptedModel::new(&pcm, words);
    let over = Duration::from_secs(20);
    for stay in [4, 8, 11] {
        let legs = 40;
        let mut simulation = Simulation::with_cost(legs, 2, Box::new(recorded), &model);
        simulation.hang_ups = (stay..legs).map(|leg| (leg, over)).collect();
        simulation.run(&pcm, Duration::from_millis(330));
        simulation.finals();
        let changes: Vec<(f64, u8)> =
            simulation.changes.iter().map(|(at, change)| (at.as_secs_f64(), change.rung.number())).collect();
        let top = changes.iter().map(|(_, rung)| *rung).max();
        assert!(top >= Some(2), "{stay} stay: {changes:?}");
        let down = changes.iter().find(|(at, rung)| *at > over.as_secs_f64() && *rung <= 1);
        let took = down.map_or(f64::MAX, |(at, _)| at - over.as_secs_f64());
        eprintln!("{stay} stay: down after {took:.1} s: {changes:?}");
        assert!(took < 20.0, "{stay} stay: {changes:?}");
        let after: Vec<_> = changes.iter().filter(|(at, _)| *at > over.as_secs_f64() + 20.0).collect();
        assert!(after.iter().all(|(_, rung)| *rung <= 1) && after.len() <= 4, "{stay} stay: {changes:?}");
    }
}

#[test]
fn the_ladder_is_climbed_under_overload_and_descended_after_it() {
    let (pcm, words) = recording("agent-pass", 0.5, 1.0);
    let model = ScriptedModel::new(&pcm, words);
    let mut simulation = Simulation::new(80, 2, Duration::from_millis(300), &model);
    simulation.run(&pcm, Duration::from_millis(20));
    simulation.finals();
    assert!(simulation.scheduler.rung() >= Rung::FinalsLate, "{:?}", simulation.changes);
    for tick in 0..1_000 {
        let now = instant(Duration::from_secs(1_000) + tick * Duration::from_millis(100));
        simulation.changes.extend(simulation.scheduler.look(now).map(|change| (Duration::ZERO, change)));
    }
    let rungs: Vec<u8> = simulation.changes.iter().map(|(_, change)| change.rung.number()).collect();
    let top = rungs.iter().position(|&rung| rung == *rungs.iter().max().unwrap()).unwrap();
    assert!(rungs[..=top].is_sorted() && rungs[top..].is_sorted_by(|a, b| a >= b), "{rungs:?}");
    assert!(rungs[top] >= 3 && rungs.last() == Some(&0), "{rungs:?}");
}

#[test]
fn a_language_to_be_found_out_is_asked_for_a_few_times_and_then_known() {
    let (pcm, words) = recording("agent-pass", 0.5, 1.0);
    let model = ScriptedModel::new(&pcm, words);
    let mut simulation = Simulation::new(1, 1, Duration::from_millis(100), &model);
    // The scripted model says of every request without a language that it was Welsh.
    simulation.sessions[0] = Session::new(Leg::Caller, "auto".into(), 0.0, 1, SegmentConfig::default());
    simulation.answer_auto_with = "cy";
    simulation.run(&pcm, Duration::ZERO);
    let asked = simulation.languages.iter().filter(|language| *language == "auto").count();
    assert!(
        (1..=3).contains(&asked) && simulation.languages.len() >= 2 * asked,
        "{:?}",
        simulation.languages
    );
    assert!(simulation.finals()[0].iter().all(|(_, event)| event.language == "cy"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn every_utterance_has_one_final_whatever_fails(
        spoilt in prop::collection::vec(any::<bool>(), 64),
        cost in 10..900_u64,
        workers in 1..3_usize,
    ) {
        let (pcm, words) = recording("invalid", 0.3, 1.0);
        let model = ScriptedModel::new(&pcm, words);
        let mut simulation = Simulation::new(2, workers, Duration::from_millis(cost), &model);
        let mut spoilt = spoilt.into_iter().cycle();
        simulation.spoil = Box::new(move || spoilt.next().unwrap());
        simulation.run(&pcm, Duration::from_millis(500));
        simulation.finals();
    }
}
