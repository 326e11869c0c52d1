//! Building the legs.
//!
//! Bridge, snoop and media channel are asked for at once, for both legs. The media channel joins its bridge first, the
//! snoop last, and the two snoops together: audio begins to flow with a snoop's joining, so nothing that flows is without
//! a way to the end, and both directions begin at the same time. The main channel is still held then, so no word of the
//! dialplan is missed; held on Asterisk 22 for some 20 ms, on 16 for some 200 ms.

use super::io::{Action, CallEvent, Reply, Request};
use super::leg::{ATTEMPTS, Build, MAX_GENERATIONS, Part, Stage, Step};
use super::task::Errand;
use super::{CallMachine, Op};
use crate::calls::ids::Role;
use crate::media::leg::Leg;
use crate::media::time::MediaInstant;

impl CallMachine {
    /// Begin an attempt at `leg`, with objects of a new generation.
    pub(super) fn build_leg(&mut self, leg: Leg, now: MediaInstant) {
        let until = now + self.cfg.timing.setup / u32::from(ATTEMPTS);
        let state = &mut self.legs[leg.index()];
        state.generation += 1;
        state.attempts += 1;
        state.build = Build::default();
        state.stage = Stage::Building { until };
    }

    /// Take the next steps that `leg`'s progress allows.
    pub(super) fn advance_leg(&mut self, leg: Leg, now: MediaInstant) {
        let Stage::Building { until } = self.legs[leg.index()].stage else { return };
        // Without events nothing can be complete: the clock stands still until the reconnect.
        if self.connected && now >= until {
            let reason = format!("not wired within {:?}", self.cfg.timing.setup / u32::from(ATTEMPTS));
            self.attempt_failed(leg, reason, now);
            return self.advance_leg(leg, now);
        }
        for step in [Step::Bridge, Step::Snoop, Step::Media] {
            if *self.legs[leg.index()].build.part(step) == Part::No {
                self.ask_step(leg, step, now);
            }
        }
        let build = self.legs[leg.index()].build;
        let attaching = self.legs[leg.index()].attaching;
        if let (Some(source), Part::No, false) = (build.source, build.attach, attaching) {
            let state = &mut self.legs[leg.index()];
            state.build.attach = Part::Asked;
            state.attaching = true;
            let moved = std::mem::replace(&mut state.has_receiver, true);
            self.actions.push_back(Action::Save);
            self.actions.push_back(if moved {
                Action::MoveMedia { leg, source }
            } else {
                Action::AttachMedia { leg, source }
            });
        }
        if build.join_media == Part::No && build.media_may_join() {
            self.ask_step(leg, Step::JoinMedia, now);
        }
        let partner = Leg::BOTH[1 - leg.index()];
        let together = self.gate_open || self.legs[partner.index()].need_not_be_waited_for();
        if build.join_snoop == Part::No && build.is_ready() && together {
            self.ask_step(leg, Step::JoinSnoop, now);
        }
        if build.join_snoop == Part::Done && build.join_media == Part::Done {
            let state = &mut self.legs[leg.index()];
            state.stage = Stage::Wired;
            state.attempts = 0;
            self.emit(CallEvent::LegStarted { leg });
            self.actions.push_back(Action::Save);
        }
    }

    fn ask_step(&mut self, leg: Leg, step: Step, now: MediaInstant) {
        let state = &mut self.legs[leg.index()];
        *state.build.part(step) = Part::Asked;
        let generation = state.generation;
        let bridge = self.object(Role::Bridge(leg), generation);
        let request = match step {
            Step::Bridge => Request::CreateBridge { id: bridge },
            Step::Snoop => Request::Snoop {
                id: self.object(Role::Snoop(leg), generation),
                target: self.channel.id.clone(),
                leg,
            },
            Step::Media => Request::ExternalMedia {
                id: self.object(Role::Media(leg), generation),
                external_host: self.cfg.external_host[leg.index()],
                format: self.cfg.format.clone(),
            },
            Step::JoinMedia => {
                Request::AddChannel { bridge, channel: self.object(Role::Media(leg), generation).to_string() }
            }
            Step::JoinSnoop => {
                Request::AddChannel { bridge, channel: self.object(Role::Snoop(leg), generation).to_string() }
            }
        };
        self.ask(Op::Build { leg, generation, step }, request, now);
    }

    /// A reply to a step of any generation's.
    pub(super) fn step_replied(
        &mut self,
        leg: Leg,
        generation: u16,
        step: Step,
        reply: Reply,
        now: MediaInstant,
    ) {
        let state = &mut self.legs[leg.index()];
        if state.generation != generation || !state.is_building() {
            self.stale_step_replied(leg, generation, step, &reply);
            return;
        }
        let build = &mut state.build;
        // An event told before the reply that the step succeeded; a reply that got lost changes nothing about it.
        let told_by_event = match step {
            Step::Snoop => build.snoop_started,
            Step::JoinMedia => build.join_media == Part::Done,
            Step::JoinSnoop => build.join_snoop == Part::Done,
            Step::Bridge | Step::Media => false,
        };
        match (step, reply) {
            (Step::Media, Reply::Media { source }) => {
                build.source = Some(source);
                build.media = Part::Done;
            }
            (Step::Bridge | Step::Snoop | Step::JoinMedia | Step::JoinSnoop, Reply::Done) => {
                *build.part(step) = Part::Done;
            }
            _ if told_by_event => *build.part(step) = Part::Done,
            (Step::Snoop, Reply::NotFound) => {
                build.snoop = Part::No;
                self.lose_leg(leg, "the channel to snoop on was not found".into(), now);
                self.task(Errand::Probe).want(now);
            }
            (_, reply) => {
                if let Some(role) = step.makes(leg)
                    && was_not_made(&reply)
                {
                    *self.legs[leg.index()].build.part(step) = Part::No;
                    tracing::debug!(call = %self.cfg.call, object = role.name(), "not made");
                }
                self.attempt_failed(leg, format!("{step:?}: {}", describe(&reply)), now);
            }
        }
    }

    /// A reply to a step of an attempt that has been given up: all that it tells is whether there is something to remove.
    fn stale_step_replied(&mut self, leg: Leg, generation: u16, step: Step, reply: &Reply) {
        let Some(role) = step.makes(leg) else { return };
        let id = self.object(role, generation);
        let is_current = self.legs[leg.index()].generation == generation
            && matches!(self.legs[leg.index()].stage, Stage::Wired | Stage::Lost { .. });
        if is_current {
            return;
        }
        match reply {
            Reply::Done | Reply::Media { .. } => self.cleanup.add(id),
            reply if was_not_made(reply) => self.cleanup.forget(&id),
            _ => {}
        }
    }

    /// The attempt at `leg` has failed: remove what it made, then try once more or give the leg up. The main channel is
    /// not held any longer: it would wait for something that may fail again.
    pub(super) fn attempt_failed(&mut self, leg: Leg, reason: String, now: MediaInstant) {
        tracing::warn!(call = %self.cfg.call, leg = leg.name(), %reason, "a leg could not be wired");
        self.gate_open = true;
        if !self.connected {
            self.lose_leg(leg, reason, now);
            return;
        }
        self.abandon(leg);
        self.build_again_or_fail(leg, reason, now);
    }

    pub(super) fn build_again_or_fail(&mut self, leg: Leg, reason: String, now: MediaInstant) {
        let state = &mut self.legs[leg.index()];
        if state.attempts < ATTEMPTS && state.generation < MAX_GENERATIONS {
            self.build_leg(leg, now);
            return;
        }
        state.stage = Stage::Failed;
        self.emit(CallEvent::LegFailed { leg, reason });
        // One direction is worth more than none, so the call goes on with it; without any there is nothing to go on for.
        if self.legs.iter().all(|leg| leg.stage == Stage::Failed) {
            self.end_failed("neither direction could be wired", now);
        }
    }

    /// Objects of `leg`'s present generation go to the cleanup.
    pub(super) fn abandon(&mut self, leg: Leg) {
        let state = &mut self.legs[leg.index()];
        let (generation, made) = (state.generation, state.build.made(leg).collect::<Vec<_>>());
        state.build = Build::default();
        for role in made {
            let id = self.object(role, generation);
            self.cleanup.add(id);
        }
    }

    /// `leg` is broken; whether by the main channel's end is to be seen.
    pub(super) fn lose_leg(&mut self, leg: Leg, reason: String, now: MediaInstant) {
        let state = &mut self.legs[leg.index()];
        if state.is_building() || state.stage == Stage::Wired {
            state.stage = Stage::Lost { since: now, reason };
            self.gate_open = true;
            let at = now + self.cfg.timing.probe_after;
            if !self.task(Errand::Probe).is_wanted() {
                self.task(Errand::Probe).want(at);
            }
        }
    }
}

/// Whether a creation that was answered so has certainly made nothing. A conflict means that the id exists: made by this
/// very request, if the connection dropped after it and the HTTP client sent it again.
pub(super) fn was_not_made(reply: &Reply) -> bool {
    match reply {
        Reply::NotFound => true,
        Reply::Refused { status, .. } => *status != 409,
        _ => false,
    }
}

pub(super) fn describe(reply: &Reply) -> String {
    match reply {
        Reply::Refused { status, reason } => format!("{status} {reason}"),
        Reply::Unknown { reason } => reason.clone(),
        Reply::NotFound => "404 not found".into(),
        Reply::Done | Reply::Media { .. } | Reply::Channel(_) => {
            "a reply that does not fit the request".into()
        }
    }
}
