//! One call as a state machine: what Asterisk says and what becomes of our requests go in, what to do comes out.
//!
//! No socket, task or clock in here, so that every order of events, loss and delay can be tried in tests, and is.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::adoption::{AsteriskSide, LegSide};
use super::ids::{CallId, NodeName, ObjectId, Role};
use super::mode::Mode;
use crate::media::leg::Leg;
use crate::media::time::MediaInstant;

mod io;
mod leg;
mod live;
mod main_channel;
mod setup;
mod task;
mod teardown;
pub mod view;
mod voice;

pub use io::{
    Action, AriEvent, CallEvent, Command, Input, MediaEnd, MediaSource, OpId, Outcome, Reply, Request,
};
pub use view::{ChannelState, ChannelView, Snapshot};

use leg::{Build, LegMachine, Part, Stage, Step};
use task::{Errand, Task};
use teardown::Cleanup;
use voice::{Voice, VoiceStep};

/// What a machine is told about its call at the start.
#[derive(Clone, Debug)]
pub struct CallConfig {
    /// The call.
    pub call: CallId,
    /// This node.
    pub node: NodeName,
    /// Answer or tap.
    pub mode: Mode,
    /// Asterisk's name of the media format: `ulaw`, say.
    pub format: String,
    /// Where Asterisk is to send each leg's media, caller first: advertised address and the port of the leg's seat. Of no
    /// meaning for WebSockets.
    pub external_host: [SocketAddr; 2],
    /// The voice of a call that is answered; `None`: the caller is not spoken to.
    pub voice: Option<VoiceConfig>,
    /// How long anything may take.
    pub timing: Timing,
}

/// How Asterisk is to take what is played to a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoiceConfig {
    /// Asterisk's name of the format.
    pub format: String,
    /// Where our packets come from, and Asterisk's are to go. Of no meaning for WebSockets.
    pub external_host: SocketAddr,
}

/// How long anything may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The channel is held in Stasis at most this long for the media to be wired; then it goes on and the rest is done
    /// while it does.
    pub patience: Duration,
    /// A leg is wired within this time, its one retry included, or it has failed (`calls.setup_timeout_ms`).
    pub setup: Duration,
    /// A request without reply for this long counts as [`Reply::Unknown`]. More than `ari.request_timeout_ms`.
    pub request: Duration,
    /// The same for a removal, which waits for its turn first. More than twice `ari.request_timeout_ms`.
    pub removal: Duration,
    /// After a hang-up request the channel may stay this long (the `h` extension runs) before the call counts as over.
    pub hangup_grace: Duration,
    /// After an object of ours went by itself, wait this long for the main channel's end to explain it.
    pub probe_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            patience: Duration::from_millis(1_000),
            setup: Duration::from_millis(5_000),
            request: Duration::from_millis(6_000),
            removal: Duration::from_millis(11_000),
            hangup_grace: Duration::from_millis(500),
            probe_after: Duration::from_millis(250),
        }
    }
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The channel is held for the media to be wired.
    Setup,
    /// The channel goes its way (tap) or is answered (answer).
    Live,
    /// Over; what is ours is being removed.
    Ending,
    /// Nothing left to do.
    Finished,
}

/// One call, sans-IO.
///
/// # The driver's part
/// 1. Make a machine ([`CallMachine::new`], [`CallMachine::rejected`], [`CallMachine::adopted`]) and drain it: call
///    [`poll_action`](Self::poll_action) until it returns `None`.
/// 2. Carry the actions out in order. All but [`Action::Request`] are finished before the next one is begun (an attach may
///    be confirmed later). Requests are sent without waiting for each other: those that must not overlap are not given
///    together.
/// 3. Answer every request with exactly one [`Input::Reply`], whatever happens to it; at the latest when it times out, with
///    [`Reply::Unknown`]. Never send a request twice: whether to try again is decided here. A lost connection is
///    `Unknown` for requests under way, before or after [`Input::Disconnected`].
/// 4. Hand every input to [`handle`](Self::handle) with the present instant, in the order in which it came, then drain.
/// 5. At [`next_deadline`](Self::next_deadline), call [`handle_timeout`](Self::handle_timeout), then drain. Ask for the
///    deadline again after every input. Being late does no harm, being early neither.
/// 6. Route events by id: [`ObjectId::parse`](super::ids::ObjectId::parse) names the call of an object of ours, and
///    [`Action::Claim`] names the main channel (a second one replaces the first); a `StasisStart` that replaces a claimed
///    channel belongs to that call. An event of an object of this node that has no machine is an orphan: remove it.
/// 7. On [`Input::Disconnected`] change nothing on the media: RTP goes on. After the reconnect list what there is and hand
///    it on as [`Input::Reconnected`].
/// 8. After [`Action::Finished`] no action comes any more: drop the machine (late replies need no delivery).
///
/// # What it holds to
/// - A tapped channel goes on in the dialplan once both legs are wired, when an attempt at a leg has failed, or when
///   [`Timing::patience`] is over, whichever comes first; once for each time that it enters our application.
/// - [`Action::AttachMedia`] is confirmed before the media channel is put into its bridge, which is when it begins to send.
/// - A channel is put into a bridge only after its own StasisStart.
/// - The voice ([`CallConfig::voice`]) holds nothing up and ends nothing: [`Action::VoiceFailed`] is all that comes of its failure.
/// - After `Finished` nothing of ours is left in Asterisk but what `left_behind` names.
#[derive(Debug)]
pub struct CallMachine {
    cfg: CallConfig,
    channel: ChannelView,
    /// The main channel is in our application, as far as told.
    in_stasis: bool,
    answered: bool,
    /// First sign of the hang-up, with its cause.
    hung_up: Option<(MediaInstant, Option<u32>)>,
    phase: Phase,
    outcome: Outcome,
    /// The main channel need not be held any longer.
    gate_open: bool,
    patience_until: MediaInstant,
    connected: bool,
    legs: [LegMachine; 2],
    voice: Voice,
    /// Generation of the main bridge; 0: none wanted yet.
    home: u16,
    errands: [Task; Errand::ALL.len()],
    ops: BTreeMap<OpId, Pending>,
    /// Requests that we no longer wait for: a late reply may still tell of something to remove.
    late: BTreeMap<OpId, Op>,
    last_op: u64,
    cleanup: Cleanup,
    actions: VecDeque<Action>,
    now: MediaInstant,
}

/// What a request was for.
#[derive(Clone, Debug)]
enum Op {
    Build { leg: Leg, generation: u16, step: Step },
    Main { errand: Errand, channel: String, home: u16 },
    Voice { generation: u16, step: VoiceStep },
    Delete,
}

#[derive(Clone, Debug)]
struct Pending {
    op: Op,
    until: MediaInstant,
}

impl CallMachine {
    /// A call whose main channel `channel` has just entered our application.
    pub fn new(cfg: CallConfig, channel: ChannelView, now: MediaInstant) -> Self {
        let mut machine = Self::bare(cfg, channel, now);
        machine.actions.push_back(Action::Claim { channel: machine.channel.id.clone() });
        let (channel, mode) = (machine.channel.clone(), machine.cfg.mode.name());
        let state = channel.state;
        machine.emit(CallEvent::Started { channel, mode });
        machine.actions.push_back(Action::Save);
        machine.note_state(state);
        machine.task(Errand::Subscribe).want(now);
        if machine.cfg.mode == Mode::Answer {
            machine.make_home(now);
            machine.build_voice(now);
        }
        for leg in Leg::BOTH {
            machine.build_leg(leg, now);
        }
        machine.advance(now);
        machine
    }

    /// A channel that has entered our application and is not taken (wrong arguments, no room): it is only let go, and the
    /// reason told. `reason` is for users. Of `cfg` only call, node and timing matter.
    pub fn rejected(cfg: CallConfig, channel: ChannelView, reason: String, now: MediaInstant) -> Self {
        let mut machine = Self::bare(cfg, channel, now);
        machine.phase = Phase::Ending;
        machine.outcome = Outcome::Rejected;
        machine.actions.push_back(Action::Claim { channel: machine.channel.id.clone() });
        machine.task(Errand::Continue).want(now);
        machine.advance(now);
        // Told after the channel is on its way.
        machine.emit(CallEvent::Rejected { reason });
        machine
    }

    /// A call that went on without us: `side` is what its record says, `snapshot` what there is. Legs that are still wired
    /// go on (give them their receivers before you drain, see [`Self::wired_sources`], and answer [`Input::MediaRefused`] where
    /// that cannot be: that leg is made anew); others are made anew; if the main channel is gone, the call ends.
    pub fn adopted(cfg: CallConfig, side: &AsteriskSide, snapshot: &Snapshot, now: MediaInstant) -> Self {
        let mut machine = Self::bare(cfg, side.channel.clone(), now);
        machine.actions.push_back(Action::Claim { channel: machine.channel.id.clone() });
        machine.answered = side.answered;
        machine.home = side.main_bridge;
        machine.voice = Voice::left_by(side.voice);
        machine.gate_open = true;
        if machine.cfg.mode == Mode::Tap || side.answered {
            machine.phase = Phase::Live;
        }
        for (leg, known) in machine.legs.iter_mut().zip(side.legs) {
            leg.generation = known.generation;
            leg.stage = Stage::Lost { since: now, reason: "its way was not complete".into() };
            if known.generation > 0 && known.source.is_some() {
                leg.build = Build::complete(known.source.map(MediaSource::Rtp));
                leg.stage = Stage::Wired;
            }
        }
        machine.reconcile(snapshot, now);
        for leg in &mut machine.legs {
            leg.has_receiver = leg.stage == Stage::Wired;
            leg.attached_once = leg.has_receiver;
        }
        machine.advance(now);
        machine
    }

    fn bare(cfg: CallConfig, channel: ChannelView, now: MediaInstant) -> Self {
        let patience_until = now + cfg.timing.patience;
        Self {
            cfg,
            channel,
            in_stasis: true,
            answered: false,
            hung_up: None,
            phase: Phase::Setup,
            outcome: Outcome::Completed,
            gate_open: false,
            patience_until,
            connected: true,
            legs: [LegMachine::new(), LegMachine::new()],
            voice: Voice::default(),
            home: 0,
            errands: Default::default(),
            ops: BTreeMap::new(),
            late: BTreeMap::new(),
            last_op: 0,
            cleanup: Cleanup::default(),
            actions: VecDeque::new(),
            now,
        }
    }

    /// Take in what happened.
    pub fn handle(&mut self, now: MediaInstant, input: Input) {
        if self.phase == Phase::Finished {
            return;
        }
        match input {
            Input::Event(event) => self.on_event(event, now),
            Input::Reply { op, reply } => self.on_reply(op, reply, now),
            Input::MediaAttached { leg } => self.on_attached(leg, None, now),
            Input::MediaRefused { leg, reason } => self.on_attached(leg, Some(reason), now),
            Input::MediaHeard { leg } => {
                let state = &mut self.legs[leg.index()];
                (state.heard, state.unheard) = (true, false);
            }
            Input::MediaUnheard { leg } => self.legs[leg.index()].unheard = true,
            Input::VoiceAttached => self.voice_attached(None, now),
            Input::VoiceRefused { reason } => self.voice_attached(Some(reason), now),
            Input::Command(command) => self.on_command(command, now),
            Input::Disconnected => self.connected = false,
            Input::Reconnected(snapshot) => self.reconcile(&snapshot, now),
        }
        self.advance(now);
    }

    /// Take in that time has passed.
    pub fn handle_timeout(&mut self, now: MediaInstant) {
        if self.phase == Phase::Finished {
            return;
        }
        self.advance(now);
    }

    /// When [`Self::handle_timeout`] is due; `None`: only an input can change anything.
    pub fn next_deadline(&self) -> Option<MediaInstant> {
        if self.phase == Phase::Finished {
            return None;
        }
        let legs = self.legs.iter().filter_map(|leg| match leg.stage {
            Stage::Building { until } if self.connected => Some(until),
            _ => None,
        });
        let hangup = self.hung_up.map(|(at, _)| at + self.cfg.timing.hangup_grace);
        self.ops
            .values()
            .map(|pending| pending.until)
            .chain(self.errands.iter().filter_map(Task::due_at))
            .chain(legs)
            .chain(self.voice.deadline().filter(|_| self.connected))
            .chain(hangup)
            .chain(self.cleanup_due_at())
            .chain([self.patience_until])
            // What was due already and has not been done waits for an input, not for time.
            .filter(|&at| at > self.now)
            .min()
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Where the call stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The main channel, as last seen.
    pub fn channel(&self) -> &ChannelView {
        &self.channel
    }

    /// Sources of the legs that are wired, caller first: after [`Self::adopted`], the legs to receive from at once. The
    /// other legs get an [`Action::AttachMedia`] each when it is their time.
    pub fn wired_sources(&self) -> [Option<MediaSource>; 2] {
        [0, 1].map(|i| {
            let leg = &self.legs[i];
            leg.build.source.filter(|_| leg.stage == Stage::Wired)
        })
    }

    /// What a later process needs to adopt this call; part of the session record.
    pub fn asterisk_side(&self) -> AsteriskSide {
        AsteriskSide {
            channel: self.channel.clone(),
            answered: self.answered,
            legs: [0, 1].map(|i| {
                let leg = &self.legs[i];
                let source = leg.build.source.and_then(MediaSource::lasting);
                LegSide { generation: leg.generation, source }
            }),
            main_bridge: self.home,
            voice: self.voice.generation,
            ended: !self.is_running(),
        }
    }

    /// The call's id.
    pub fn call(&self) -> &CallId {
        &self.cfg.call
    }

    /// Do all that the present state of affairs allows. Everything that is asked of Asterisk is asked from here: inputs only
    /// change what is known, so the order in which they come cannot matter more than what they say.
    fn advance(&mut self, now: MediaInstant) {
        self.now = self.now.max(now);
        self.give_up_overdue(now);
        loop {
            let before = self.actions.len();
            self.advance_hangup(now);
            if self.is_running() {
                for leg in Leg::BOTH {
                    self.advance_leg(leg, now);
                }
                self.advance_voice(now);
            }
            self.advance_gate(now);
            self.advance_errands(now);
            self.advance_cleanup(now);
            if self.actions.len() == before {
                break;
            }
        }
        self.advance_finish();
    }

    fn give_up_overdue(&mut self, now: MediaInstant) {
        let overdue: Vec<OpId> =
            self.ops.iter().filter(|(_, pending)| pending.until <= now).map(|(op, _)| *op).collect();
        for op in overdue {
            if let Some(pending) = self.ops.get(&op) {
                self.late.insert(op, pending.op.clone());
                self.on_reply(op, Reply::Unknown { reason: "no reply in time".into() }, now);
            }
        }
    }

    fn on_reply(&mut self, op: OpId, reply: Reply, now: MediaInstant) {
        let in_time = self.ops.remove(&op).map(|pending| pending.op);
        match in_time.or_else(|| self.late.remove(&op)) {
            Some(Op::Build { leg, generation, step }) => {
                self.step_replied(leg, generation, step, reply, now);
            }
            Some(Op::Main { errand, channel, home }) => {
                if self.task(errand).is_asked_as(op) {
                    self.errand_replied(errand, &channel, home, reply, now);
                } else if errand == Errand::Home && (home != self.home || !self.is_running()) {
                    // Nobody waits for this bridge any more, and it may be there now.
                    let id = self.object(Role::MainBridge, home);
                    self.cleanup.add(id);
                }
            }
            Some(Op::Voice { generation, step }) => self.voice_replied(generation, step, reply, now),
            // The late reply to a DELETE says nothing that its retry does not.
            Some(Op::Delete) if self.cleanup.is_deleting_as(op) => self.delete_replied(&reply, now),
            Some(Op::Delete) | None => {}
        }
    }

    fn on_attached(&mut self, leg: Leg, refused: Option<String>, now: MediaInstant) {
        let state = &mut self.legs[leg.index()];
        let was_asked = std::mem::replace(&mut state.attaching, false);
        // An attempt that has been given up meanwhile learns nothing from it.
        let is_awaited = state.is_building() && state.build.attach == Part::Asked;
        match refused {
            None => {
                state.attached_once = true;
                if is_awaited {
                    state.build.attach = Part::Done;
                }
            }
            // What was wired before this process came cannot be heard by it as it is.
            Some(reason) if !was_asked && state.stage == Stage::Wired => {
                (state.has_receiver, state.attached_once) = (false, false);
                tracing::warn!(call = %self.cfg.call, leg = leg.name(), %reason, "a leg could not be taken up");
                self.emit(CallEvent::LegInterrupted { leg, reason: reason.clone() });
                self.abandon(leg);
                self.build_again_or_fail(leg, reason, now);
            }
            Some(reason) => {
                state.has_receiver = state.attached_once;
                if is_awaited {
                    self.attempt_failed(leg, reason, now);
                }
            }
        }
    }

    /// Neither ending nor finished.
    fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Setup | Phase::Live)
    }

    fn task(&mut self, errand: Errand) -> &mut Task {
        &mut self.errands[errand as usize]
    }

    fn emit(&mut self, event: CallEvent) {
        self.actions.push_back(Action::Emit(event));
    }

    fn ask(&mut self, op: Op, request: Request, now: MediaInstant) -> OpId {
        self.last_op += 1;
        let id = OpId(self.last_op);
        let timing = &self.cfg.timing;
        let is_removal = matches!(request, Request::Delete { .. } | Request::Hangup { .. });
        let until = now + if is_removal { timing.removal } else { timing.request };
        self.ops.insert(id, Pending { op, until });
        self.actions.push_back(Action::Request { op: id, request });
        id
    }

    fn object(&self, role: Role, generation: u16) -> ObjectId {
        ObjectId { node: self.cfg.node.clone(), call: self.cfg.call.clone(), role, generation }
    }

    /// `id` as that of an object of this call, if it is one.
    fn own(&self, id: &str) -> Option<ObjectId> {
        ObjectId::parse(id).filter(|id| id.node == self.cfg.node && id.call == self.cfg.call)
    }
}
