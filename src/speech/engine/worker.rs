//! A thread that recognises whatever is most urgent.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::{Command, Outcome, Shared, Work};
use crate::clock;
use crate::speech::RATE;
use crate::speech::recogniser::{Hypothesis, RecogniseError, Recogniser, Request};
use crate::speech::scheduler::{Picked, Task, TaskId};
use crate::telemetry::metric::{self, Counter};

/// Behind the media threads, which have to be in time: a word may be late, a packet may not.
const NICENESS: i32 = 5;

pub(super) fn run(shared: &Arc<Shared>, index: usize, ready: &Sender<Result<(), RecogniseError>>) {
    if let Err(reason) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%reason, "a recognising thread keeps its priority");
    }
    let mut recogniser = match shared.model.recogniser() {
        Ok(recogniser) => {
            let _ = ready.send(Ok(()));
            Some(recogniser)
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    if index == 0 && shared.model.is_probed() {
        probe(shared, &mut recogniser);
    }
    let mut heard = Seconds { counter: &metric::ASR_SECONDS, rest: Duration::ZERO };
    let mut spent = Seconds { counter: &metric::ASR_COMPUTE_SECONDS, rest: Duration::ZERO };
    while let Some(task) = next_task(shared) {
        let started = clock::now();
        let result = recognise(shared, &mut recogniser, &task.payload);
        let took = clock::since(started);
        heard.add(task.audio);
        spent.add(took);
        {
            let mut queue = shared.queue.lock();
            queue.scheduler.completed(task.audio, task.payload.request.partial, took);
            queue.scheduler.finished(task.class);
        }
        reply(task.payload, task.id, Some(result));
    }
}

/// Two seconds of noise, so that something is known of costs before the first leg asks whether there is room; and the model's pages
/// are in memory. Words cost more than this, which shows with the first of them.
fn probe(shared: &Shared, slot: &mut Option<Box<dyn Recogniser>>) {
    const LENGTH: Duration = Duration::from_secs(2);
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 * 0.02 - 0.01
    };
    let audio = (0..RATE as u64 * LENGTH.as_secs()).map(|_| noise()).collect();
    let request = Request { language: "en".to_owned(), prompt: None, partial: false };
    let (reply, _) = crossbeam_channel::bounded(0);
    let started = clock::now();
    match recognise(shared, slot, &Work { audio, request, reply }) {
        Ok(_) => shared.queue.lock().scheduler.completed(LENGTH, false, clock::since(started)),
        Err(error) => {
            tracing::warn!(model = shared.model.name(), %error, "the first try of the model failed")
        }
    }
}

/// Adds up time for a counter of whole seconds.
struct Seconds {
    counter: &'static Counter,
    rest: Duration,
}

impl Seconds {
    fn add(&mut self, time: Duration) {
        self.rest += time;
        self.counter.add(self.rest.as_secs());
        self.rest = Duration::from_nanos(self.rest.subsec_nanos().into());
    }
}

/// Wait for work. `None` once the engine closes.
fn next_task(shared: &Shared) -> Option<Task<Work>> {
    let mut queue = shared.queue.lock();
    loop {
        if queue.closing {
            return None;
        }
        let Picked { task, shed } = queue.scheduler.next(clock::now());
        metric::ASR_PARTIALS_SHED.add(shed.len() as u64);
        for task in shed {
            reply(task.payload, task.id, None);
        }
        match task {
            Some((task, _)) => return Some(task),
            None => shared.wake.wait(&mut queue),
        }
    }
}

/// Nobody listens any more when the engine or the job is gone.
fn reply(work: Work, id: TaskId, result: Option<Result<Hypothesis, RecogniseError>>) {
    let _ = work.reply.send(Command::Done(Outcome { id, result }));
}

fn recognise(
    shared: &Shared,
    slot: &mut Option<Box<dyn Recogniser>>,
    work: &Work,
) -> Result<Hypothesis, RecogniseError> {
    // What failed once may have been left in any state: it is not used again.
    let mut recogniser = match slot.take() {
        Some(recogniser) => recogniser,
        None => shared.model.recogniser()?,
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| recogniser.recognise(&work.audio, &work.request)));
    match outcome {
        Ok(Ok(hypothesis)) => {
            *slot = Some(recogniser);
            Ok(hypothesis)
        }
        Ok(Err(error)) => {
            if matches!(error, RecogniseError::UnknownLanguage { .. }) {
                *slot = Some(recogniser);
            }
            Err(error)
        }
        Err(_) => Err(RecogniseError::Panicked { model: shared.model.name().to_owned() }),
    }
}
