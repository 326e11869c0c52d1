//! What goes into a [`super::CallMachine`] and what comes out of it.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::view::{ChannelState, ChannelView, Snapshot};
use crate::calls::ids::ObjectId;
use crate::media::leg::Leg;
use crate::media::time::MediaInstant;

/// Number of a request within its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub u64);

/// Everything that can happen to a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Asterisk said something about a channel or a bridge of this call.
    Event(AriEvent),
    /// What became of request `op`. Each request gets one reply, also when the connection went.
    Reply {
        /// The request.
        op: OpId,
        /// What became of it.
        reply: Reply,
    },
    /// [`Action::AttachMedia`] or [`Action::MoveMedia`] was carried out: packets from that source have their way.
    MediaAttached {
        /// The leg.
        leg: Leg,
    },
    /// [`Action::AttachMedia`] or [`Action::MoveMedia`] could not be carried out.
    MediaRefused {
        /// The leg.
        leg: Leg,
        /// Why.
        reason: String,
    },
    /// What a leg receives is audio.
    MediaHeard {
        /// The leg.
        leg: Leg,
    },
    /// Nothing of use has come for a leg since it was attached (in this process), for the stall time.
    MediaUnheard {
        /// The leg.
        leg: Leg,
    },
    /// [`Action::AttachVoice`] was carried out: what is played goes there.
    VoiceAttached,
    /// [`Action::AttachVoice`] could not be carried out.
    VoiceRefused {
        /// Why.
        reason: String,
    },
    /// Someone wants something of this call.
    Command(Command),
    /// The event connection is gone: what happens in Asterisk now is not told.
    Disconnected,
    /// The event connection is back; this is what there is.
    Reconnected(Snapshot),
}

/// An event of Asterisk's, reduced to what decides. Hand on every event that names the main channel or an object whose id
/// [`ObjectId::parse`]s to this call; those that the machine has no use for it passes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AriEvent {
    /// `StasisStart`: `channel` is in our application.
    StasisStart {
        /// The channel.
        channel: ChannelView,
        /// `replace_channel.id`: the channel whose place it took (transfer).
        replaces: Option<String>,
    },
    /// `StasisEnd`: the channel has left our application.
    StasisEnd {
        /// Its id.
        channel: String,
    },
    /// `ChannelStateChange`.
    StateChanged {
        /// The channel's id.
        channel: String,
        /// Its state from now on.
        state: ChannelState,
    },
    /// `ChannelHangupRequest`.
    HangupRequested {
        /// The channel's id.
        channel: String,
        /// Q.850 cause, if told.
        cause: Option<u32>,
    },
    /// `ChannelDestroyed`.
    Destroyed {
        /// The channel's id.
        channel: String,
        /// Q.850 cause, if told.
        cause: Option<u32>,
        /// Asterisk's words for it.
        cause_text: String,
    },
    /// `ChannelDtmfReceived`.
    Dtmf {
        /// The channel's id.
        channel: String,
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// How long it was held, milliseconds.
        duration_ms: u32,
    },
    /// `ChannelEnteredBridge`.
    EnteredBridge {
        /// The channel's id.
        channel: String,
        /// The bridge's id.
        bridge: String,
    },
    /// `ChannelLeftBridge`.
    LeftBridge {
        /// The channel's id.
        channel: String,
        /// The bridge's id.
        bridge: String,
    },
    /// `BridgeDestroyed`.
    BridgeDestroyed {
        /// The bridge's id.
        bridge: String,
    },
}

/// Where a leg's media comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaSource {
    /// RTP from this address (`UNICASTRTP_LOCAL_ADDRESS` and `_PORT` of the reply's `channelvars`, an override of the address
    /// applied).
    Rtp(SocketAddr),
    /// A connection over TCP with this name: chosen by us, or by Asterisk (`MEDIA_WEBSOCKET_CONNECTION_ID`). It ends with the
    /// process that has it.
    Stream(Uuid),
}

impl MediaSource {
    /// The address of RTP, which is all that another process can go on with.
    pub const fn lasting(self) -> Option<SocketAddr> {
        match self {
            Self::Rtp(source) => Some(source),
            Self::Stream(_) => None,
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// 2xx.
    Done,
    /// 2xx to [`Request::ExternalMedia`]: media comes from `source`.
    Media {
        /// Where Asterisk sends from.
        source: MediaSource,
    },
    /// 2xx to [`Request::Probe`]: the channel is there.
    Channel(ChannelView),
    /// 404.
    NotFound,
    /// Another answer that says: not done. 4xx.
    Refused {
        /// HTTP status.
        status: u16,
        /// The answer's message.
        reason: String,
    },
    /// Nobody knows whether it was done: timed out, connection lost, 5xx, a reply that makes no sense.
    Unknown {
        /// What went wrong.
        reason: String,
    },
}

/// What someone may want of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Hang up the main channel.
    Hangup,
    /// Stop listening and leave the channel to the dialplan.
    Release,
}

/// What the driver has to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// From now on events of this channel belong to this call (objects of ours tell by their id themselves).
    Claim {
        /// The main channel's id.
        channel: String,
    },
    /// Send a request to Asterisk; do not wait for the reply before the next action.
    Request {
        /// Its number; the reply carries it.
        op: OpId,
        /// What to ask for.
        request: Request,
    },
    /// The first source of a leg: begin to receive it. Answer with [`Input::MediaAttached`] or [`Input::MediaRefused`].
    AttachMedia {
        /// The leg.
        leg: Leg,
        /// Where its media comes from.
        source: MediaSource,
    },
    /// A leg's media comes from another source from now on, into the same ring; the former source no longer counts.
    /// Answer as for `AttachMedia`.
    MoveMedia {
        /// The leg.
        leg: Leg,
        /// Where its media comes from.
        source: MediaSource,
    },
    /// What is played to the caller goes there from now on, silence in between; a former place no longer counts. Answer with
    /// [`Input::VoiceAttached`] or [`Input::VoiceRefused`].
    AttachVoice {
        /// Where to send it: for RTP, where Asterisk sends from.
        source: MediaSource,
    },
    /// Nothing can be played to the caller. The call goes on.
    VoiceFailed {
        /// Why.
        reason: String,
    },
    /// The call's media is over: finish the legs, then the recording and the transcript. Comes once for every call that was
    /// not rejected, also if no media ever came.
    StopMedia {
        /// When.
        end: MediaEnd,
    },
    /// Publish an event.
    Emit(CallEvent),
    /// What [`super::CallMachine::asterisk_side`] says has changed: write the session record.
    Save,
    /// The call is over in Asterisk: no further action comes, drop the machine when its media is finished too.
    Finished {
        /// How it went.
        outcome: Outcome,
        /// Objects that could not be removed: whoever drives the machine goes on trying.
        left_behind: Vec<ObjectId>,
    },
}

/// When a call's media ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaEnd {
    /// At this instant, as Asterisk told.
    At(MediaInstant),
    /// Nobody saw it: where its last packet ends.
    LastPacket,
}

/// A request to Asterisk. The driver adds the application's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `POST /applications/{app}/subscription?eventSource=channel:{channel}`.
    Subscribe {
        /// The channel's id.
        channel: String,
    },
    /// `POST /channels/{channel}/answer`.
    Answer {
        /// The channel's id.
        channel: String,
    },
    /// `POST /channels/{channel}/continue`, without a place: at the next priority.
    Continue {
        /// The channel's id.
        channel: String,
    },
    /// `DELETE /channels/{channel}` of the main channel.
    Hangup {
        /// The channel's id.
        channel: String,
    },
    /// `GET /channels/{channel}`.
    Probe {
        /// The channel's id.
        channel: String,
    },
    /// `POST /bridges/{id}?type=mixing&name={id}`.
    CreateBridge {
        /// Its id and name.
        id: ObjectId,
    },
    /// `POST /channels/{target}/snoop/{id}?spy=…&whisper=none&appArgs={id}`; `spy` is `in` for the caller, `out` for the
    /// callee.
    Snoop {
        /// The snoop's id.
        id: ObjectId,
        /// The spied channel.
        target: String,
        /// Which direction.
        leg: Leg,
    },
    /// `POST /channels/externalMedia?channelId={id}&external_host=…&format=…&data={id}`, and what else the transport in use
    /// takes.
    ExternalMedia {
        /// The channel's id.
        id: ObjectId,
        /// Where to send the audio.
        external_host: SocketAddr,
        /// Asterisk's name of the format.
        format: String,
    },
    /// `POST /bridges/{bridge}/addChannel?channel=…`.
    AddChannel {
        /// The bridge.
        bridge: ObjectId,
        /// The channel's id: one of ours, or the main channel's.
        channel: String,
    },
    /// `DELETE /channels/{id}` or `DELETE /bridges/{id}`, by [`super::super::ids::Role::kind`]. 404 is as good as 2xx.
    Delete {
        /// The object.
        id: ObjectId,
    },
}

/// How a call went, as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Heard until its end, both directions.
    Completed,
    /// Heard until its end, one direction only.
    Partial,
    /// Nothing could be heard.
    Failed,
    /// Not taken: wrong arguments, no room.
    Rejected,
    /// We stopped listening on request; the call went on.
    Released,
}

impl Outcome {
    /// The value of the metric's label and of `call.ended`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Released => "released",
        }
    }
}

/// An event for users. The envelope (seq, time, tenant, call) is the driver's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallEvent {
    /// `call.started`: the session exists.
    Started {
        /// The main channel.
        channel: ChannelView,
        /// `answer` or `tap`.
        mode: &'static str,
    },
    /// `call.rejected`: it goes on without us.
    Rejected {
        /// Why.
        reason: String,
    },
    /// `call.answered`: the main channel is up.
    Answered,
    /// `call.moved`: a transfer put another channel in the main channel's place.
    Moved {
        /// The channel from now on.
        channel: ChannelView,
    },
    /// `call.ended`.
    Ended {
        /// How it went.
        outcome: Outcome,
        /// Q.850 cause, if told.
        cause: Option<u32>,
        /// Asterisk's words for it, or ours.
        cause_text: String,
    },
    /// `leg.started`: its way from Asterisk to us is complete.
    LegStarted {
        /// The leg.
        leg: Leg,
    },
    /// `leg.interrupted`: its way broke; another one is being made.
    LegInterrupted {
        /// The leg.
        leg: Leg,
        /// What broke.
        reason: String,
    },
    /// `leg.failed`: the call goes on without this leg.
    LegFailed {
        /// The leg.
        leg: Leg,
        /// Why.
        reason: String,
    },
    /// `dtmf`: a key pressed by the caller.
    Dtmf {
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// How long it was held, milliseconds.
        duration_ms: u32,
    },
}

impl CallEvent {
    /// The envelope's `type`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Started { .. } => "call.started",
            Self::Rejected { .. } => "call.rejected",
            Self::Answered => "call.answered",
            Self::Moved { .. } => "call.moved",
            Self::Ended { .. } => "call.ended",
            Self::LegStarted { .. } => "leg.started",
            Self::LegInterrupted { .. } => "leg.interrupted",
            Self::LegFailed { .. } => "leg.failed",
            Self::Dtmf { .. } => "dtmf",
        }
    }

    /// What the type carries, for the envelope's body.
    pub fn body(&self) -> Map<String, Value> {
        let body = match self {
            Self::Started { channel, mode } => json!({ "mode": mode, "channel": channel }),
            Self::Rejected { reason } => json!({ "reason": reason }),
            Self::Answered => json!({}),
            Self::Moved { channel } => json!({ "channel": channel }),
            Self::Ended { outcome, cause, cause_text } => {
                json!({ "outcome": outcome.name(), "cause": cause, "cause_text": cause_text })
            }
            Self::LegStarted { leg } => json!({ "leg": leg }),
            Self::LegInterrupted { leg, reason } | Self::LegFailed { leg, reason } => {
                json!({ "leg": leg, "reason": reason })
            }
            Self::Dtmf { digit, duration_ms } => {
                json!({ "leg": Leg::Caller, "digit": digit, "duration_ms": duration_ms })
            }
        };
        match body {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}
