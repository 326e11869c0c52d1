//! One call as a state machine: what Asterisk says and what becomes of our requests go in, what to do comes out.
//!
//! No socket, task or clock in here, so that every order of events, loss and delay can be tried in tests, and is.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::adoption::{AsteriskSide, LegSide};
use super::ids::{CallId, NodeName};
use super::mode::Mode;
use crate::media::time::MediaInstant;

mod io;
pub mod view;

pub use io::{Action, AriEvent, CallEvent, Command, Input, MediaEnd, OpId, Outcome, Reply, Request};
pub use view::{ChannelState, ChannelView, Snapshot};

/// What a machine is told about its call at the start.
#[derive(Clone, Debug)]
pub struct CallConfig {
    /// The call.
    pub call: CallId,
    /// This node.
    pub node: NodeName,
    /// Answer or tap.
    pub mode: Mode,
    /// Asterisk's name of the media format: `ulaw`, `alaw`, `slin`, `slin16`.
    pub format: String,
    /// Where Asterisk is to send each leg's RTP, caller first: advertised address and the port of the leg's seat.
    pub external_host: [SocketAddr; 2],
    /// How long anything may take.
    pub timing: Timing,
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
/// - After `Finished` nothing of ours is left in Asterisk but what `left_behind` names.
#[derive(Debug)]
pub struct CallMachine {
    cfg: CallConfig,
    channel: ChannelView,
    answered: bool,
    phase: Phase,
    actions: VecDeque<Action>,
}

impl CallMachine {
    /// A call whose main channel `channel` has just entered our application.
    pub fn new(cfg: CallConfig, channel: ChannelView, now: MediaInstant) -> Self {
        let _ = now;
        Self { cfg, channel, answered: false, phase: Phase::Setup, actions: VecDeque::new() }
    }

    /// A channel that has entered our application and is not taken (wrong arguments, no room): it is only let go, and the
    /// reason told. `reason` is for users.
    pub fn rejected(cfg: CallConfig, channel: ChannelView, reason: String, now: MediaInstant) -> Self {
        let _ = reason;
        Self::new(cfg, channel, now)
    }

    /// A call that went on without us: `side` is what its record says, `snapshot` what there is. Legs that are still wired
    /// go on (attach their receivers before you drain the first actions, see [`Self::wired_sources`]); others are made
    /// anew; if the main channel is gone, the call ends.
    pub fn adopted(cfg: CallConfig, side: &AsteriskSide, snapshot: &Snapshot, now: MediaInstant) -> Self {
        let _ = snapshot;
        Self::new(cfg, side.channel.clone(), now)
    }

    /// Take in what happened.
    pub fn handle(&mut self, now: MediaInstant, input: Input) {
        let _ = (now, input);
    }

    /// Take in that time has passed.
    pub fn handle_timeout(&mut self, now: MediaInstant) {
        let _ = now;
    }

    /// When [`Self::handle_timeout`] is due; `None`: only an input can change anything.
    pub fn next_deadline(&self) -> Option<MediaInstant> {
        None
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

    /// Sources of the legs that are wired, caller first: after [`Self::adopted`], the legs to receive from at once.
    pub fn wired_sources(&self) -> [Option<SocketAddr>; 2] {
        [None; 2]
    }

    /// What a later process needs to adopt this call; part of the session record.
    pub fn asterisk_side(&self) -> AsteriskSide {
        AsteriskSide {
            channel: self.channel.clone(),
            answered: self.answered,
            legs: [LegSide::default(); 2],
            main_bridge: 0,
        }
    }

    /// The call's id.
    pub fn call(&self) -> &CallId {
        &self.cfg.call
    }
}
