//! One direction of a call: how far its way from Asterisk to us has been built.

use super::io::MediaSource;
use crate::calls::ids::Role;
use crate::media::leg::Leg;
use crate::media::time::MediaInstant;

/// Attempts in a row: the first and one retry. What fails twice within a call's setup is a setting, a missing module or
/// a full port range: a third attempt would only cost Asterisk more ports.
pub(super) const ATTEMPTS: u8 = 2;
/// Most generations of one leg's objects in a call, so that a leg that is built and breaks over and over ends.
pub(super) const MAX_GENERATIONS: u16 = 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Part {
    #[default]
    No,
    Asked,
    Done,
}

/// A request that builds a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Bridge,
    Snoop,
    Media,
    JoinMedia,
    JoinSnoop,
}

impl Step {
    /// The object that the step makes, if it makes one.
    pub(super) const fn makes(self, leg: Leg) -> Option<Role> {
        match self {
            Self::Bridge => Some(Role::Bridge(leg)),
            Self::Snoop => Some(Role::Snoop(leg)),
            Self::Media => Some(Role::Media(leg)),
            Self::JoinMedia | Self::JoinSnoop => None,
        }
    }
}

/// One attempt's progress.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Build {
    pub(super) bridge: Part,
    pub(super) snoop: Part,
    pub(super) snoop_started: bool,
    pub(super) media: Part,
    pub(super) media_started: bool,
    pub(super) source: Option<MediaSource>,
    pub(super) attach: Part,
    pub(super) join_media: Part,
    pub(super) join_snoop: Part,
}

impl Build {
    /// An attempt that succeeded in another life.
    pub(super) fn complete(source: Option<MediaSource>) -> Self {
        let done = Part::Done;
        Self {
            bridge: done,
            snoop: done,
            snoop_started: true,
            media: done,
            media_started: true,
            source,
            attach: done,
            join_media: done,
            join_snoop: done,
        }
    }

    pub(super) fn part(&mut self, step: Step) -> &mut Part {
        match step {
            Step::Bridge => &mut self.bridge,
            Step::Snoop => &mut self.snoop,
            Step::Media => &mut self.media,
            Step::JoinMedia => &mut self.join_media,
            Step::JoinSnoop => &mut self.join_snoop,
        }
    }

    /// What may exist in Asterisk, in the order in which to remove it.
    pub(super) fn made(&self, leg: Leg) -> impl Iterator<Item = Role> {
        [(self.media, Role::Media(leg)), (self.snoop, Role::Snoop(leg)), (self.bridge, Role::Bridge(leg))]
            .into_iter()
            .filter(|(part, _)| *part != Part::No)
            .map(|(_, role)| role)
    }

    /// The media channel may join its bridge: what it sends has somewhere to go.
    pub(super) fn media_may_join(&self) -> bool {
        self.bridge == Part::Done && self.media_started && self.attach == Part::Done
    }

    /// All is there but the snoop in its bridge: from its joining on, audio flows.
    pub(super) fn is_ready(&self) -> bool {
        self.join_media == Part::Done && self.bridge == Part::Done && self.snoop_started
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not wanted (any more).
    Idle,
    /// Being built; fails at `until`.
    Building { until: MediaInstant },
    /// Complete.
    Wired,
    /// Broken since then. Either the main channel's end will explain it, or it is built anew.
    Lost { since: MediaInstant, reason: String },
    /// Given up.
    Failed,
}

#[derive(Clone, Debug)]
pub(super) struct LegMachine {
    pub(super) stage: Stage,
    /// Of the objects that `build` is about; 0 before the first attempt.
    pub(super) generation: u16,
    /// Attempts since it was last wired.
    pub(super) attempts: u8,
    pub(super) build: Build,
    /// The driver has, or is making, a receiver for it.
    pub(super) has_receiver: bool,
    /// An attach is neither confirmed nor refused yet. There is only one at a time, so it is clear which is answered.
    pub(super) attaching: bool,
    pub(super) attached_once: bool,
    /// Audio has come for it, at whatever time.
    pub(super) heard: bool,
    /// It is received, and nothing of use has come for longer than a moment.
    pub(super) unheard: bool,
}

impl LegMachine {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Idle,
            generation: 0,
            attempts: 0,
            build: Build::default(),
            has_receiver: false,
            attaching: false,
            attached_once: false,
            heard: false,
            unheard: false,
        }
    }

    pub(super) fn is_building(&self) -> bool {
        matches!(self.stage, Stage::Building { .. })
    }

    /// Whether the other leg need not wait for this one to start together with it.
    pub(super) fn need_not_be_waited_for(&self) -> bool {
        !self.is_building() || self.attempts > 1 || self.build.is_ready()
    }
}
