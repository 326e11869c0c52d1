//! The main channel: held until the media is wired, then let go (tap) or answered (answer).

use super::io::{Action, CallEvent, Reply, Request};
use super::leg::Stage;
use super::setup::describe;
use super::task::Errand;
use super::view::ChannelState;
use super::{CallMachine, Op, Phase};
use crate::calls::ids::Role;
use crate::calls::mode::Mode;
use crate::media::leg::Leg;
use crate::media::time::MediaInstant;

impl CallMachine {
    /// Open the gate when the main channel need not be held any longer.
    pub(super) fn advance_gate(&mut self, now: MediaInstant) {
        if self.phase != Phase::Setup {
            return;
        }
        let settled = self.legs.iter().all(|leg| matches!(leg.stage, Stage::Wired | Stage::Failed));
        if settled || now >= self.patience_until {
            self.gate_open = true;
        }
        if !self.gate_open {
            return;
        }
        self.phase = Phase::Live;
        match self.cfg.mode {
            Mode::Tap if self.in_stasis => self.task(Errand::Continue).want(now),
            Mode::Tap => {}
            Mode::Answer => {
                if self.channel.state != ChannelState::Up {
                    self.task(Errand::Answer).want(now);
                }
                self.task(Errand::JoinHome).want(now);
            }
        }
    }

    /// Ask what is due and may be asked now.
    pub(super) fn advance_errands(&mut self, now: MediaInstant) {
        for errand in Errand::ALL {
            if self.task(errand).is_due(now) && self.may_ask(errand, now) {
                self.ask_errand(errand, now);
            }
        }
    }

    fn may_ask(&mut self, errand: Errand, now: MediaInstant) -> bool {
        match errand {
            // Out of Stasis, Asterisk tells of the channel only to those who subscribed. Yet it never waits long for that.
            Errand::Continue => {
                !self.task(Errand::Subscribe).is_wanted()
                    || self.task(Errand::Subscribe).was_tried()
                    || now >= self.patience_until
            }
            Errand::JoinHome => {
                self.task(Errand::Home).is_done() && !self.task(Errand::Answer).is_wanted() && self.in_stasis
            }
            Errand::Probe => self.connected,
            Errand::Subscribe | Errand::Answer | Errand::Home | Errand::Hangup => true,
        }
    }

    fn ask_errand(&mut self, errand: Errand, now: MediaInstant) {
        let channel = self.channel.id.clone();
        let request = match errand {
            Errand::Subscribe => Request::Subscribe { channel: channel.clone() },
            Errand::Continue => Request::Continue { channel: channel.clone() },
            Errand::Answer => Request::Answer { channel: channel.clone() },
            Errand::Hangup => Request::Hangup { channel: channel.clone() },
            Errand::Probe => Request::Probe { channel: channel.clone() },
            Errand::Home => Request::CreateBridge { id: self.object(Role::MainBridge, self.home) },
            Errand::JoinHome => Request::AddChannel {
                bridge: self.object(Role::MainBridge, self.home),
                channel: channel.clone(),
            },
        };
        let op = self.ask(Op::Main { errand, channel, home: self.home }, request, now);
        self.task(errand).asked(op);
    }

    /// A reply to the request that `errand` waits for, which was about `channel` and the main bridge of generation `home`.
    pub(super) fn errand_replied(
        &mut self,
        errand: Errand,
        channel: &str,
        home: u16,
        reply: Reply,
        now: MediaInstant,
    ) {
        let is_moved = errand == Errand::JoinHome && home != self.home;
        if is_moved || (channel != self.channel.id && errand != Errand::Home) {
            // Another channel has taken the main channel's place meanwhile, or another bridge that of the main bridge.
            self.task(errand).cancel();
            self.task(errand).want(now);
            return;
        }
        let channel_is_gone = reply == Reply::NotFound
            && !matches!(errand, Errand::Subscribe | Errand::Home | Errand::JoinHome);
        if channel_is_gone {
            self.task(errand).done();
            self.main_not_found(now);
            return;
        }
        let done = match (&reply, errand) {
            (Reply::Channel(view), Errand::Probe) => {
                let state = view.state;
                self.channel = view.clone();
                self.note_state(state);
                true
            }
            (Reply::Done, errand) => errand != Errand::Probe,
            // Not in Stasis (any more): then there is nothing to continue.
            (Reply::Refused { status: 409, .. }, Errand::Continue) => true,
            _ => false,
        };
        if done {
            self.task(errand).done();
            self.errand_done(errand, now);
        } else {
            let reason = describe(&reply);
            tracing::debug!(call = %self.cfg.call, ?errand, %reason, "a request about the main channel failed");
            if !self.task(errand).failed(errand, now) {
                self.errand_failed(errand, &reason, now);
            } else if errand == Errand::Home {
                // If it was made after all, its id is taken: Asterisk 22 answers 409 then, 16 with 500.
                let made = self.object(Role::MainBridge, self.home);
                self.cleanup.add(made);
                self.home = self.home.saturating_add(1);
                self.voice_has_to_move(now);
            }
        }
    }

    fn errand_done(&mut self, errand: Errand, now: MediaInstant) {
        match errand {
            Errand::Hangup => {
                self.hung_up.get_or_insert((now, None));
            }
            Errand::Probe => {
                for leg in Leg::BOTH {
                    self.restore_lost(leg, now);
                }
            }
            Errand::Answer => self.note_state(ChannelState::Up),
            Errand::Subscribe | Errand::Continue | Errand::Home | Errand::JoinHome => {}
        }
    }

    fn errand_failed(&mut self, errand: Errand, reason: &str, now: MediaInstant) {
        tracing::warn!(call = %self.cfg.call, ?errand, reason, "given up a request about the main channel");
        match errand {
            Errand::Answer => self.end_failed("the channel could not be answered", now),
            Errand::Probe => {
                for leg in Leg::BOTH {
                    if let Stage::Lost { reason, .. } = self.legs[leg.index()].stage.clone() {
                        self.abandon(leg);
                        self.legs[leg.index()].attempts = u8::MAX;
                        self.build_again_or_fail(leg, reason, now);
                    }
                }
            }
            Errand::Subscribe | Errand::Continue | Errand::Home | Errand::JoinHome | Errand::Hangup => {}
        }
    }

    /// The main channel is there, so it is not what broke `leg`: build it anew.
    pub(super) fn restore_lost(&mut self, leg: Leg, now: MediaInstant) {
        let Stage::Lost { reason, .. } = self.legs[leg.index()].stage.clone() else { return };
        self.abandon(leg);
        if self.legs[leg.index()].attempts == 0 {
            self.emit(CallEvent::LegInterrupted { leg, reason: reason.clone() });
        }
        self.build_again_or_fail(leg, reason, now);
    }

    /// The main channel is in this state now.
    pub(super) fn note_state(&mut self, state: ChannelState) {
        self.channel.state = state;
        if state != ChannelState::Up {
            return;
        }
        if self.task(Errand::Answer).is_wanted() {
            self.task(Errand::Answer).done();
        }
        if !self.answered && self.is_running() {
            self.answered = true;
            self.emit(CallEvent::Answered);
            self.actions.push_back(Action::Save);
        }
    }

    /// The main channel is in our application again, or for the first time as another channel: it is not held a second
    /// time.
    pub(super) fn main_came_in(&mut self, now: MediaInstant) {
        self.in_stasis = true;
        match (self.phase, self.cfg.mode) {
            (Phase::Setup, _) => {}
            (Phase::Live, Mode::Answer) => self.task(Errand::JoinHome).want(now),
            _ => self.task(Errand::Continue).want(now),
        }
    }

    /// The main channel has left our application.
    pub(super) fn main_went_out(&mut self) {
        self.in_stasis = false;
        // Also the reply of a request under way is of no interest now: it may come after the channel is in again.
        if self.task(Errand::Continue).is_wanted() {
            self.task(Errand::Continue).done();
        }
        self.task(Errand::JoinHome).cancel();
    }
}
