//! What happens while a call runs: Asterisk's events, and finding our way again after a lost connection.

use super::io::{Action, AriEvent, CallEvent, Command, MediaEnd, Outcome};
use super::leg::{Part, Stage};
use super::task::Errand;
use super::view::{ChannelView, Snapshot};
use super::{CallMachine, Phase};
use crate::calls::ids::{ObjectId, Role};
use crate::calls::mode::Mode;
use crate::media::leg::Leg;
use crate::media::time::MediaInstant;

impl CallMachine {
    pub(super) fn on_event(&mut self, event: AriEvent, now: MediaInstant) {
        match event {
            AriEvent::StasisStart { channel, replaces } => self.on_stasis_start(channel, replaces, now),
            AriEvent::StasisEnd { channel } => {
                if channel == self.channel.id {
                    self.main_went_out();
                } else if let Some(id @ ObjectId { role: Role::Snoop(_), .. }) = self.own(&channel) {
                    // A snoop's StasisEnd is the last that one hears of it, no ChannelDestroyed follows.
                    self.object_gone(id, now);
                }
            }
            AriEvent::StateChanged { channel, state } => {
                if channel == self.channel.id {
                    self.note_state(state);
                }
            }
            AriEvent::HangupRequested { channel, cause } => {
                if channel == self.channel.id {
                    let (_, known) = self.hung_up.get_or_insert((now, cause));
                    *known = known.or(cause);
                }
            }
            AriEvent::Destroyed { channel, cause, cause_text } => {
                if channel == self.channel.id {
                    self.main_destroyed(cause, cause_text, now);
                } else if let Some(id) = self.own(&channel) {
                    self.object_gone(id, now);
                }
            }
            AriEvent::Dtmf { channel, digit, duration_ms } => {
                if channel == self.channel.id && self.is_running() {
                    self.emit(CallEvent::Dtmf { digit, duration_ms });
                }
            }
            AriEvent::EnteredBridge { channel, bridge } => self.on_entered(&channel, &bridge),
            AriEvent::LeftBridge { channel, bridge } => self.on_left(&channel, &bridge, now),
            AriEvent::BridgeDestroyed { bridge } => {
                if let Some(id) = self.own(&bridge) {
                    self.object_gone(id, now);
                }
            }
        }
    }

    fn on_stasis_start(&mut self, channel: ChannelView, replaces: Option<String>, now: MediaInstant) {
        if let Some(id) = self.own(&channel.id) {
            self.on_own_start(id);
        } else if channel.id == self.channel.id {
            // A second StasisStart without a StasisEnd between is the first one told twice.
            if !self.in_stasis {
                tracing::info!(call = %self.cfg.call, channel = channel.id, "back in the application: let go again");
                self.main_came_in(now);
            }
        } else if replaces.is_some_and(|old| old == self.channel.id) {
            tracing::info!(call = %self.cfg.call, from = self.channel.id, to = channel.id, "the call moved to another channel");
            let state = channel.state;
            self.channel = channel;
            self.actions.push_back(Action::Claim { channel: self.channel.id.clone() });
            if self.is_running() {
                let channel = self.channel.clone();
                self.emit(CallEvent::Moved { channel });
                self.note_state(state);
                self.task(Errand::Subscribe).want(now);
                // What fails from now on may fail because of the move: that is not the leg's fault.
                for leg in &mut self.legs {
                    leg.attempts = leg.attempts.min(1);
                }
            }
            self.main_came_in(now);
            self.actions.push_back(Action::Save);
        }
    }

    fn on_own_start(&mut self, id: ObjectId) {
        if id.role == Role::MainMedia {
            return self.voice_started(id);
        }
        if let Some(leg) = id.role.leg() {
            let state = &mut self.legs[leg.index()];
            if state.generation == id.generation && state.is_building() {
                match id.role {
                    Role::Snoop(_) => state.build.snoop_started = true,
                    Role::Media(_) => state.build.media_started = true,
                    Role::Bridge(_) | Role::MainBridge | Role::MainMedia => {}
                }
                return;
            }
            if state.generation == id.generation && matches!(state.stage, Stage::Wired | Stage::Lost { .. }) {
                return;
            }
        }
        // Made after all, by a request that was given up.
        self.cleanup.add(id);
    }

    /// An object of ours is gone, by our doing or not.
    fn object_gone(&mut self, id: ObjectId, now: MediaInstant) {
        self.cleanup.forget(&id);
        if id.role == Role::MainMedia {
            return self.voice_gone(id.generation, now);
        }
        let Some(leg) = id.role.leg() else {
            if self.is_running() && id.generation == self.home && self.task(Errand::Home).is_done() {
                self.make_home(now);
            }
            return;
        };
        let state = &mut self.legs[leg.index()];
        if state.generation != id.generation {
            return;
        }
        match id.role {
            Role::Snoop(_) => state.build.snoop = Part::No,
            Role::Media(_) => state.build.media = Part::No,
            Role::Bridge(_) | Role::MainBridge | Role::MainMedia => state.build.bridge = Part::No,
        }
        self.lose_leg(leg, format!("{id} is gone"), now);
    }

    fn on_entered(&mut self, channel: &str, bridge: &str) {
        if let (Some(channel), Some(bridge)) = (self.own(channel), self.own(bridge)) {
            self.voice_entered(&channel, &bridge);
        }
        if self.is_main_in_home(channel, bridge) {
            self.task(Errand::JoinHome).done();
        }
        if let Some((leg, role)) = self.present_member(channel, bridge) {
            let build = &mut self.legs[leg.index()].build;
            let join = if role == Role::Snoop(leg) { &mut build.join_snoop } else { &mut build.join_media };
            if *join == Part::Asked {
                *join = Part::Done;
            }
        }
    }

    fn on_left(&mut self, channel: &str, bridge: &str, now: MediaInstant) {
        if let (Some(channel), Some(bridge)) = (self.own(channel), self.own(bridge)) {
            self.voice_left(&channel, &bridge, now);
        }
        // On its way out, or taken out by someone: it is not put back, and does not hear us.
        if self.is_main_in_home(channel, bridge) && self.task(Errand::JoinHome).is_done() {
            self.task(Errand::JoinHome).cancel();
        }
        if let Some((leg, role)) = self.present_member(channel, bridge) {
            let build = &self.legs[leg.index()].build;
            let join = if role == Role::Snoop(leg) { build.join_snoop } else { build.join_media };
            if join == Part::Done {
                self.lose_leg(leg, format!("{channel} left its bridge"), now);
            }
        }
    }

    /// Whether these are the main channel and the present main bridge.
    fn is_main_in_home(&self, channel: &str, bridge: &str) -> bool {
        channel == self.channel.id
            && self.own(bridge).is_some_and(|id| id.role == Role::MainBridge && id.generation == self.home)
    }

    /// The leg and role of `channel`, if both it and `bridge` are of that leg's present generation.
    fn present_member(&self, channel: &str, bridge: &str) -> Option<(Leg, Role)> {
        let (member, bridge) = (self.own(channel)?, self.own(bridge)?);
        let leg = member.role.leg()?;
        let present = bridge.role == Role::Bridge(leg)
            && member.generation == bridge.generation
            && member.generation == self.legs[leg.index()].generation;
        present.then_some((leg, member.role))
    }

    pub(super) fn on_command(&mut self, command: Command, now: MediaInstant) {
        if !self.is_running() {
            return;
        }
        match command {
            Command::Hangup => self.task(Errand::Hangup).want(now),
            Command::Release => {
                self.end(Outcome::Released, None, "released on request".into(), MediaEnd::At(now), now);
            }
        }
    }

    /// The connection is back, or we are: compare what there is with what there should be.
    pub(super) fn reconcile(&mut self, snapshot: &Snapshot, now: MediaInstant) {
        self.connected = true;
        self.cleanup.retry_all(now);
        match snapshot.channels.get(&self.channel.id) {
            None => self.main_ended_unseen(now),
            Some(view) => {
                let is_in = snapshot.in_app.contains(&view.id);
                self.reconcile_main(view.clone(), is_in, snapshot, now);
            }
        }
        // What earlier attempts left: a reply may have been lost, a record may be older than what its process did last.
        let ids = snapshot.channels.keys().chain(snapshot.bridges.keys());
        for id in ids.filter_map(|id| self.own(id)).collect::<Vec<_>>() {
            let is_in_use = match id.role.leg() {
                Some(leg) => {
                    let state = &self.legs[leg.index()];
                    state.generation == id.generation && state.stage == Stage::Wired
                }
                None if id.role == Role::MainMedia => {
                    self.is_running() && self.voice.is_in_use(id.generation)
                }
                None => self.is_running() && id.generation == self.home,
            };
            if !is_in_use {
                self.cleanup.add(id);
            }
        }
    }

    fn reconcile_main(&mut self, view: ChannelView, is_in: bool, snapshot: &Snapshot, now: MediaInstant) {
        let state = view.state;
        self.channel = view;
        let was_in = std::mem::replace(&mut self.in_stasis, is_in);
        if was_in && !is_in {
            self.main_went_out();
        }
        if self.is_running() {
            self.note_state(state);
            self.gate_open = true;
            for errand in [Errand::Subscribe, Errand::Probe] {
                self.task(errand).cancel();
            }
            self.task(Errand::Subscribe).want(now);
            for leg in Leg::BOTH {
                self.reconcile_leg(leg, snapshot, now);
            }
            self.reconcile_home(snapshot, now);
            self.reconcile_voice(snapshot, now);
        }
        match (self.phase, self.cfg.mode) {
            // The gate opens by itself.
            (Phase::Setup, _) => {}
            (Phase::Live, Mode::Answer) => {}
            _ if is_in => {
                // One under way may have let it go before it came in again; if not, the second finds nothing to do.
                self.task(Errand::Continue).cancel();
                self.task(Errand::Continue).want(now);
            }
            _ => {}
        }
    }

    /// Generations up to the highest one seen are taken.
    pub(super) fn highest_generation(&self, roles: [Role; 3], snapshot: &Snapshot) -> u16 {
        let ids = snapshot.channels.keys().chain(snapshot.bridges.keys());
        ids.filter_map(|id| self.own(id))
            .filter(|id| roles.contains(&id.role))
            .map(|id| id.generation)
            .max()
            .unwrap_or(0)
    }

    fn reconcile_leg(&mut self, leg: Leg, snapshot: &Snapshot, now: MediaInstant) {
        let generation = self.legs[leg.index()].generation;
        let [bridge, snoop, media] = [Role::Bridge(leg), Role::Snoop(leg), Role::Media(leg)]
            .map(|role| self.object(role, generation).to_string());
        let complete = snapshot
            .bridges
            .get(&bridge)
            .is_some_and(|members| members.contains(&snoop) && members.contains(&media));
        let state = &mut self.legs[leg.index()];
        match &state.stage {
            Stage::Idle => return,
            Stage::Wired if complete => return,
            Stage::Wired => {
                let reason = "it broke while the connection to Asterisk was lost".into();
                self.emit(CallEvent::LegInterrupted { leg, reason });
            }
            // Events that it waited for may have come while nobody listened.
            Stage::Building { .. } | Stage::Lost { .. } | Stage::Failed => {}
        }
        self.abandon(leg);
        let highest =
            self.highest_generation([Role::Bridge(leg), Role::Snoop(leg), Role::Media(leg)], snapshot);
        let state = &mut self.legs[leg.index()];
        state.generation = state.generation.max(highest);
        state.attempts = 0;
        self.build_again_or_fail(leg, "it was built too often".into(), now);
    }

    fn reconcile_home(&mut self, snapshot: &Snapshot, now: MediaInstant) {
        if self.cfg.mode == Mode::Tap || !self.in_stasis || !self.is_running() {
            return;
        }
        match snapshot.bridges.get(&self.object(Role::MainBridge, self.home).to_string()) {
            None => {
                self.home = self.home.max(self.highest_generation([Role::MainBridge; 3], snapshot));
                self.make_home(now);
            }
            Some(members) => {
                let is_member = members.contains(&self.channel.id);
                self.task(Errand::Home).done();
                if is_member {
                    self.task(Errand::JoinHome).done();
                } else if self.phase == Phase::Live {
                    self.task(Errand::JoinHome).want(now);
                }
            }
        }
    }

    /// Want a (new) main bridge and the main channel in it.
    pub(super) fn make_home(&mut self, now: MediaInstant) {
        if self.home > 0 {
            let old = self.object(Role::MainBridge, self.home);
            self.cleanup.add(old);
        }
        self.home = self.home.saturating_add(1);
        self.voice_has_to_move(now);
        self.task(Errand::Home).cancel();
        self.task(Errand::Home).want(now);
        self.actions.push_back(Action::Save);
        if self.phase == Phase::Live {
            self.task(Errand::JoinHome).want(now);
        }
    }
}
