//! Our voice in an answered call: a media channel that joins the main bridge, beside the channel that we answer. It is no leg:
//! what the call hears and says is taken from the snoops, and a call without a voice is heard all the same.

use super::io::{Action, MediaSource, Reply, Request};
use super::leg::{ATTEMPTS, MAX_GENERATIONS, Part};
use super::setup::{describe, was_not_made};
use super::task::Errand;
use super::view::Snapshot;
use super::{CallMachine, Op, Phase};
use crate::calls::ids::{ObjectId, Role};
use crate::calls::mode::Mode;
use crate::media::time::MediaInstant;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Not wanted (any more).
    #[default]
    Off,
    /// Being built; fails at `until`.
    Building { until: MediaInstant },
    /// In the main bridge.
    Wired,
    /// Could not be built while the connection was lost; the next reconnect builds it.
    Broken,
    /// Given up.
    Failed,
}

/// A request that builds the voice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VoiceStep {
    Media,
    /// Into the main bridge of that generation.
    Join {
        home: u16,
    },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Voice {
    stage: Stage,
    /// Of its channel; 0 before the first attempt.
    pub(super) generation: u16,
    /// Attempts since it was last wired.
    attempts: u8,
    media: Part,
    started: bool,
    source: Option<MediaSource>,
    attach: Part,
    join: Part,
    /// An attach is neither confirmed nor refused yet.
    attaching: bool,
}

impl Voice {
    /// One that an earlier process made: it is made anew, under another id.
    pub(super) fn left_by(generation: u16) -> Self {
        Self { generation, ..Self::default() }
    }

    pub(super) fn deadline(&self) -> Option<MediaInstant> {
        match self.stage {
            Stage::Building { until } => Some(until),
            _ => None,
        }
    }

    /// Whether the channel of `generation` has its place.
    pub(super) fn is_in_use(&self, generation: u16) -> bool {
        self.generation == generation && self.stage == Stage::Wired
    }

    fn is_building(&self) -> bool {
        self.deadline().is_some()
    }
}

impl CallMachine {
    /// Whether the caller hears what is played to it.
    pub fn voice_is_heard(&self) -> bool {
        self.voice.stage == Stage::Wired
            && self.phase == Phase::Live
            && self.in_stasis
            && self.errands[Errand::JoinHome as usize].is_done()
    }

    /// Begin an attempt, with a channel of a new generation.
    pub(super) fn build_voice(&mut self, now: MediaInstant) {
        if self.cfg.voice.is_none() {
            return;
        }
        let until = now + self.cfg.timing.setup / u32::from(ATTEMPTS);
        self.voice = Voice {
            stage: Stage::Building { until },
            generation: self.voice.generation + 1,
            attempts: self.voice.attempts + 1,
            attaching: self.voice.attaching,
            ..Voice::default()
        };
    }

    /// Take the next steps that its progress allows.
    pub(super) fn advance_voice(&mut self, now: MediaInstant) {
        let (Stage::Building { until }, Some(cfg)) = (self.voice.stage, self.cfg.voice.clone()) else {
            return;
        };
        // Without events nothing can be complete: the clock stands still until the reconnect.
        if self.connected && now >= until {
            let reason = format!("not wired within {:?}", self.cfg.timing.setup / u32::from(ATTEMPTS));
            self.voice_attempt_failed(reason, now);
            return self.advance_voice(now);
        }
        let id = self.object(Role::MainMedia, self.voice.generation);
        if self.voice.media == Part::No {
            self.voice.media = Part::Asked;
            let request = Request::ExternalMedia {
                id: id.clone(),
                external_host: cfg.external_host,
                format: cfg.format,
            };
            self.ask_voice(VoiceStep::Media, request, now);
        }
        if let (Some(source), Part::No, false) = (self.voice.source, self.voice.attach, self.voice.attaching)
        {
            (self.voice.attach, self.voice.attaching) = (Part::Asked, true);
            self.actions.push_back(Action::Save);
            self.actions.push_back(Action::AttachVoice { source });
        }
        let is_ready = self.voice.started && self.voice.attach == Part::Done;
        if self.voice.join == Part::No && is_ready && self.task(Errand::Home).is_done() {
            self.voice.join = Part::Asked;
            let bridge = self.object(Role::MainBridge, self.home);
            let request = Request::AddChannel { bridge, channel: id.to_string() };
            self.ask_voice(VoiceStep::Join { home: self.home }, request, now);
        }
        if self.voice.join == Part::Done && self.voice.media == Part::Done {
            (self.voice.stage, self.voice.attempts) = (Stage::Wired, 0);
            tracing::debug!(call = %self.cfg.call, channel = %id, "the caller can be spoken to");
        }
    }

    fn ask_voice(&mut self, step: VoiceStep, request: Request, now: MediaInstant) {
        self.ask(Op::Voice { generation: self.voice.generation, step }, request, now);
    }

    /// A reply to a step of any generation's.
    pub(super) fn voice_replied(
        &mut self,
        generation: u16,
        step: VoiceStep,
        reply: Reply,
        now: MediaInstant,
    ) {
        let voice = &mut self.voice;
        if voice.generation != generation || !voice.is_building() {
            let is_current = voice.is_in_use(generation);
            if step == VoiceStep::Media && !is_current {
                let id = self.object(Role::MainMedia, generation);
                match reply {
                    Reply::Done | Reply::Media { .. } => self.cleanup.add(id),
                    reply if was_not_made(&reply) => self.cleanup.forget(&id),
                    _ => {}
                }
            }
            return;
        }
        match (step, reply) {
            (VoiceStep::Media, Reply::Media { source }) => {
                (voice.source, voice.media) = (Some(source), Part::Done);
            }
            // Told by an event, or by the reply.
            (VoiceStep::Join { .. }, _) if voice.join == Part::Done => {}
            // Of a bridge that has been given up meanwhile: the channel joins the next one.
            (VoiceStep::Join { home }, _) if home != self.home => {}
            (VoiceStep::Join { .. }, Reply::Done) => voice.join = Part::Done,
            (step, reply) => {
                if step == VoiceStep::Media && was_not_made(&reply) {
                    voice.media = Part::No;
                }
                self.voice_attempt_failed(format!("{step:?}: {}", describe(&reply)), now);
            }
        }
    }

    /// [`Action::AttachVoice`] was carried out, or why it was not.
    pub(super) fn voice_attached(&mut self, refused: Option<String>, now: MediaInstant) {
        self.voice.attaching = false;
        // An attempt that has been given up meanwhile learns nothing from it.
        if !self.voice.is_building() || self.voice.attach != Part::Asked {
            return;
        }
        match refused {
            None => self.voice.attach = Part::Done,
            Some(reason) => self.voice_attempt_failed(reason, now),
        }
    }

    /// Remove what the attempt made, then try once more or give the voice up.
    fn voice_attempt_failed(&mut self, reason: String, now: MediaInstant) {
        tracing::warn!(call = %self.cfg.call, %reason, "the voice could not be wired");
        self.abandon_voice();
        self.build_voice_again_or_fail(reason, now);
    }

    fn build_voice_again_or_fail(&mut self, reason: String, now: MediaInstant) {
        if !self.connected {
            self.voice.stage = Stage::Broken;
        } else if self.voice.attempts < ATTEMPTS && self.voice.generation < MAX_GENERATIONS {
            self.build_voice(now);
        } else {
            self.voice.stage = Stage::Failed;
            self.actions.push_back(Action::VoiceFailed { reason });
        }
    }

    /// Its channel goes to the cleanup, and it is wanted no more.
    pub(super) fn abandon_voice(&mut self) {
        if self.voice.media != Part::No {
            let id = self.object(Role::MainMedia, self.voice.generation);
            self.cleanup.add(id);
        }
        self.voice.media = Part::No;
        self.voice.stage = Stage::Off;
    }

    /// Its channel is in our application.
    pub(super) fn voice_started(&mut self, id: ObjectId) {
        if self.voice.generation == id.generation && self.voice.is_building() {
            self.voice.started = true;
        } else if !self.voice.is_in_use(id.generation) {
            // Made after all, by a request that was given up.
            self.cleanup.add(id);
        }
    }

    /// `channel` is in `bridge` now.
    pub(super) fn voice_entered(&mut self, channel: &ObjectId, bridge: &ObjectId) {
        if self.is_our_place(channel, bridge) && self.voice.join == Part::Asked {
            self.voice.join = Part::Done;
        }
    }

    /// `channel` is in `bridge` no more.
    pub(super) fn voice_left(&mut self, channel: &ObjectId, bridge: &ObjectId, now: MediaInstant) {
        if self.is_our_place(channel, bridge) && self.voice.join == Part::Done {
            self.voice_broke("it left the main bridge", now);
        }
    }

    fn is_our_place(&self, channel: &ObjectId, bridge: &ObjectId) -> bool {
        channel.role == Role::MainMedia
            && bridge.role == Role::MainBridge
            && (channel.generation, bridge.generation) == (self.voice.generation, self.home)
    }

    /// The channel of `generation` is gone, by our doing or not.
    pub(super) fn voice_gone(&mut self, generation: u16, now: MediaInstant) {
        if self.voice.generation == generation && self.voice.media != Part::No {
            self.voice.media = Part::No;
            self.voice_broke("its channel is gone", now);
        }
    }

    fn voice_broke(&mut self, reason: &str, now: MediaInstant) {
        if self.is_running() {
            self.voice_attempt_failed(reason.to_owned(), now);
        }
    }

    /// There will be another main bridge.
    pub(super) fn voice_has_to_move(&mut self, now: MediaInstant) {
        self.voice.join = Part::No;
        if self.voice.stage == Stage::Wired {
            let until = now + self.cfg.timing.setup / u32::from(ATTEMPTS);
            self.voice.stage = Stage::Building { until };
        }
    }

    /// The connection is back, or we are: unless it is in its place, build it anew.
    pub(super) fn reconcile_voice(&mut self, snapshot: &Snapshot, now: MediaInstant) {
        if self.cfg.mode == Mode::Tap || !self.is_running() {
            return;
        }
        let (id, home) =
            (self.object(Role::MainMedia, self.voice.generation), self.object(Role::MainBridge, self.home));
        let members = snapshot.bridges.get(&home.to_string());
        let is_member = members.is_some_and(|members| members.contains(&id.to_string()));
        if self.voice.stage == Stage::Wired && is_member {
            return;
        }
        self.abandon_voice();
        self.voice.generation =
            self.voice.generation.max(self.highest_generation([Role::MainMedia; 3], snapshot));
        self.voice.attempts = 0;
        self.build_voice_again_or_fail("it was built too often".into(), now);
    }
}
