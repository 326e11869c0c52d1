//! The end: media stopped, then everything of ours removed, one object after the other.

use std::collections::VecDeque;

use super::io::{Action, CallEvent, MediaEnd, OpId, Outcome, Reply, Request};
use super::leg::Stage;
use super::task::{Errand, backoff};
use super::voice::VoiceStep;
use super::{CallMachine, Op, Phase};
use crate::calls::ids::{ObjectId, Role};
use crate::media::leg::Leg;
use crate::media::time::MediaInstant;

const MOST_TRIES: u8 = 5;

/// Objects to remove. One DELETE at a time, because parallel ones have crashed Asterisk (asterisk#1201).
#[derive(Clone, Debug, Default)]
pub(super) struct Cleanup {
    queue: VecDeque<Item>,
    /// The request that deletes the first of the queue.
    deleting: Option<OpId>,
    left_behind: Vec<ObjectId>,
}

#[derive(Clone, Debug)]
struct Item {
    id: ObjectId,
    failures: u8,
    not_before: MediaInstant,
}

impl Cleanup {
    /// Remove `id`, after what is in the queue already.
    pub(super) fn add(&mut self, id: ObjectId) {
        if !self.queue.iter().any(|item| item.id == id) {
            self.queue.push_back(Item { id, failures: 0, not_before: MediaInstant::default() });
        }
    }

    /// `id` is gone or has never been; the one being deleted gets its reply anyhow.
    pub(super) fn forget(&mut self, id: &ObjectId) {
        let deleting = self.deleting.is_some();
        let mut position = 0;
        self.queue.retain(|item| {
            let keep = item.id != *id || (deleting && position == 0);
            position += 1;
            keep
        });
        self.left_behind.retain(|left| left != id);
    }

    /// Asterisk can be reached again: what could not be removed gets another chance.
    pub(super) fn retry_all(&mut self, now: MediaInstant) {
        for item in &mut self.queue {
            item.not_before = item.not_before.min(now);
        }
        for id in std::mem::take(&mut self.left_behind) {
            self.add(id);
        }
    }

    pub(super) fn is_deleting_as(&self, op: OpId) -> bool {
        self.deleting == Some(op)
    }
}

impl CallMachine {
    /// Delete the next object, if none is being deleted and nothing under way could still make it.
    pub(super) fn advance_cleanup(&mut self, now: MediaInstant) {
        let Some(place) = self.next_to_delete() else { return };
        if self.cleanup.queue[place].not_before > now {
            return;
        }
        let Some(item) = self.cleanup.queue.remove(place) else { return };
        let id = item.id.clone();
        self.cleanup.queue.push_front(item);
        let op = self.ask(Op::Delete, Request::Delete { id }, now);
        self.cleanup.deleting = Some(op);
    }

    /// Place in the queue of the object to delete next. Those of a leg's generation that is still being made are passed over,
    /// all alike, so their order stays.
    fn next_to_delete(&self) -> Option<usize> {
        if self.cleanup.deleting.is_some() {
            return None;
        }
        self.cleanup.queue.iter().position(|item| !self.is_in_the_making(&item.id))
    }

    pub(super) fn cleanup_due_at(&self) -> Option<MediaInstant> {
        self.next_to_delete().map(|place| self.cleanup.queue[place].not_before)
    }

    /// A DELETE that overtakes the request that makes its object finds nothing, and the object stays.
    fn is_in_the_making(&self, id: &ObjectId) -> bool {
        self.ops.values().any(|pending| match &pending.op {
            Op::Build { leg, generation, .. } => id.role.leg() == Some(*leg) && id.generation == *generation,
            Op::Main { errand: Errand::Home | Errand::JoinHome, home, .. } => {
                id.role == Role::MainBridge && id.generation == *home
            }
            Op::Voice { generation, step } => match step {
                _ if id.role == Role::MainMedia => id.generation == *generation,
                VoiceStep::Join { home } => id.role == Role::MainBridge && id.generation == *home,
                VoiceStep::Media => false,
            },
            Op::Main { .. } | Op::Delete => false,
        })
    }

    pub(super) fn delete_replied(&mut self, reply: &Reply, now: MediaInstant) {
        self.cleanup.deleting = None;
        let Some(mut item) = self.cleanup.queue.pop_front() else { return };
        if matches!(reply, Reply::Done | Reply::NotFound) {
            return;
        }
        item.failures += 1;
        if item.failures >= MOST_TRIES {
            tracing::warn!(call = %self.cfg.call, object = %item.id, ?reply, "could not be removed: left to the sweeper");
            self.cleanup.left_behind.push(item.id);
        } else {
            item.not_before = now + backoff(item.failures);
            self.cleanup.queue.push_front(item);
        }
    }

    /// `ChannelDestroyed` of the main channel.
    pub(super) fn main_destroyed(&mut self, cause: Option<u32>, text: String, now: MediaInstant) {
        self.main_went_out();
        let (at, told) = self.hung_up.unwrap_or((now, cause));
        self.end(self.outcome_at_the_end(), cause.or(told), text, MediaEnd::At(at), now);
    }

    /// A request says that the main channel does not exist.
    pub(super) fn main_not_found(&mut self, now: MediaInstant) {
        self.main_went_out();
        let broken = self.legs.iter().filter_map(|leg| match leg.stage {
            Stage::Lost { since, .. } => Some(since),
            _ => None,
        });
        let at = self.hung_up.map(|(at, _)| at).or(broken.min()).unwrap_or(now);
        let cause = self.hung_up.and_then(|(_, cause)| cause);
        self.end(self.outcome_at_the_end(), cause, "the channel is gone".into(), MediaEnd::At(at), now);
    }

    /// The main channel ended while nobody listened.
    pub(super) fn main_ended_unseen(&mut self, now: MediaInstant) {
        self.main_went_out();
        let end = self.hung_up.map_or(MediaEnd::LastPacket, |(at, _)| MediaEnd::At(at));
        let cause = self.hung_up.and_then(|(_, cause)| cause);
        let text = "ended while the connection to Asterisk was lost".into();
        self.end(self.outcome_at_the_end(), cause, text, end, now);
    }

    /// The `h` extension or a hang-up handler is what keeps the channel: the call as such is over.
    pub(super) fn advance_hangup(&mut self, now: MediaInstant) {
        if let (true, Some((at, cause))) = (self.is_running(), self.hung_up)
            && now >= at + self.cfg.timing.hangup_grace
        {
            self.end(self.outcome_at_the_end(), cause, "hung up".into(), MediaEnd::At(at), now);
        }
    }

    pub(super) fn end_failed(&mut self, text: &str, now: MediaInstant) {
        self.end(Outcome::Failed, None, text.into(), MediaEnd::LastPacket, now);
    }

    fn outcome_at_the_end(&self) -> Outcome {
        let missing = self.legs.iter().filter(|leg| leg.stage == Stage::Failed || leg.unheard).count();
        match missing {
            0 => Outcome::Completed,
            2 if !self.legs.iter().any(|leg| leg.heard) => Outcome::Failed,
            _ => Outcome::Partial,
        }
    }

    /// Begin to end the call. What is said later about how it ended changes nothing.
    pub(super) fn end(
        &mut self,
        outcome: Outcome,
        cause: Option<u32>,
        cause_text: String,
        end: MediaEnd,
        now: MediaInstant,
    ) {
        if !self.is_running() {
            return;
        }
        self.phase = Phase::Ending;
        self.outcome = outcome;
        self.actions.push_back(Action::StopMedia { end });
        self.emit(CallEvent::Ended { outcome, cause, cause_text });
        self.actions.push_back(Action::Save);
        self.cleanup.retry_all(now);
        for leg in Leg::BOTH {
            self.abandon(leg);
            self.legs[leg.index()].stage = Stage::Idle;
        }
        self.abandon_voice();
        if self.home > 0 {
            let home = self.object(Role::MainBridge, self.home);
            self.cleanup.add(home);
        }
        for errand in Errand::ALL {
            if errand != Errand::Continue {
                self.task(errand).cancel();
            }
        }
        if self.in_stasis && !self.task(Errand::Continue).is_done() {
            self.task(Errand::Continue).want(now);
        }
    }

    /// Finish once nothing is left to do.
    pub(super) fn advance_finish(&mut self) {
        if self.phase != Phase::Ending
            || !self.cleanup.queue.is_empty()
            || self.task(Errand::Continue).is_wanted()
        {
            return;
        }
        self.phase = Phase::Finished;
        self.ops.clear();
        let left_behind = std::mem::take(&mut self.cleanup.left_behind);
        self.actions.push_back(Action::Finished { outcome: self.outcome, left_behind });
    }
}
