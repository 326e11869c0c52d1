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
    if scheduler.shows_partials(owner) && session.partial_due(step) {
        match session.partial_ticket() {
            None => session.ask_partial(),
            // What is being recognised is waited for: two of one leg would only be in each other's way.
            Some(ticket) if scheduler.cancel(TaskId { owner, ticket }).is_some() => {
                scheduler.late(owner, now);
                done.replaced += 1;
                session.ask_partial();
            }
            Some(_) => {}
        }
    }
    let is_behind = session.is_behind();
    // What comes faster than it was spoken is a file, whatever way it takes.
    let classed = |class| match class {
        Class::Final | Class::Speculative if is_behind => Class::Job,
        class => class,
    };
    for order in session.take_orders() {
        match order {
            Order::Recognise { ticket, class: Class::Speculative, .. } if !scheduler.speculates() => {
                session.on_result(ticket, None);
            }
            Order::Recognise { ticket, class, audio } => {
                let length = Duration::from_micros(audio.len() as u64 * 1_000_000 / u64::from(RATE));
                let wait = match class {
                    Class::Partial | Class::Detect => step,
                    Class::Speculative => grace,
                    Class::Final | Class::CatchUp | Class::Job => Duration::ZERO,
                };
                let request = Request {
                    language: session.language(class).to_owned(),
                    prompt: session.prompt(class),
                    partial: matches!(class, Class::Partial | Class::Detect),
                };
                let (id, payload) = (TaskId { owner, ticket }, payload(audio, request));
                let class = classed(class);
                scheduler.submit(Task { id, class, deadline: now + wait, audio: length, payload }, now);
                done.submitted += 1;
            }
            Order::Promote { ticket } => {
                scheduler.reclass(TaskId { owner, ticket }, classed(Class::Final), now)
            }
            Order::Cancel { ticket } => drop(scheduler.cancel(TaskId { owner, ticket })),
        }
    }
    done
}
