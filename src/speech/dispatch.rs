//! Between a session and the scheduler: the session's wishes become tasks. Pure, so that simulations run the very same.

use std::sync::Arc;
use std::time::Duration;

use super::RATE;
use super::recogniser::Request;
use super::scheduler::{Class, Scheduler, Task, TaskId};
use super::session::{Order, Session};
use crate::media::time::MediaInstant;

/// What [`dispatch`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dispatched {
    /// Tasks that are new in the queue.
    pub submitted: usize,
    /// Partials whose turn did not come before there was newer audio.
    pub replaced: u64,
}

/// Ask for a partial if one is due, then turn `session`'s orders into tasks of `owner`. `grace` is how long a speculative
/// decode may take without holding up the final.
pub fn dispatch<P>(
    session: &mut Session,
    owner: u64,
    scheduler: &mut Scheduler<P>,
    now: MediaInstant,
    grace: Duration,
    mut payload: impl FnMut(Arc<[f32]>, Request) -> P,
) -> Dispatched {
    let mut done = Dispatched::default();
    let step = scheduler.partial_step(session.open_length());
    if session.partial_due(step) {
        match session.partial_ticket() {
            None => session.ask_partial(),
            // What is being recognised is waited for: two of one leg would only be in each other's way.
            Some(ticket) if scheduler.cancel(TaskId { owner, ticket }).is_some() => {
                scheduler.press(now);
                done.replaced += 1;
                session.ask_partial();
            }
            Some(_) => {}
        }
    }
    for order in session.take_orders() {
        match order {
            Order::Recognise { ticket, class, audio } => {
                let length = Duration::from_micros(audio.len() as u64 * 1_000_000 / u64::from(RATE));
                let wait = match class {
                    Class::Partial => step,
                    Class::Speculative => grace,
                    Class::Final | Class::CatchUp | Class::Job => Duration::ZERO,
                };
                let language = session.language().to_owned();
                let request =
                    Request { language, prompt: session.prompt(), partial: class == Class::Partial };
                let (id, payload) = (TaskId { owner, ticket }, payload(audio, request));
                scheduler.submit(Task { id, class, deadline: now + wait, audio: length, payload }, now);
                done.submitted += 1;
            }
            Order::Promote { ticket } => scheduler.reclass(TaskId { owner, ticket }, Class::Final, now),
            Order::Cancel { ticket } => drop(scheduler.cancel(TaskId { owner, ticket })),
        }
    }
    done
}
