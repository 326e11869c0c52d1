//! Events, typed as far as we use them.

use serde::Deserialize;

use super::model::{Bridge, Channel, Playback};

/// One event. Fields that an Asterisk leaves out take their default; events that we do not use, and those that are not as
/// they should be, are [`AriEvent::Other`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type")]
pub enum AriEvent {
    /// A channel entered our application: a call from the dialplan, or a snoop or media leg of our own.
    StasisStart {
        /// The channel.
        channel: Channel,
        /// Arguments of `Stasis()`.
        #[serde(default)]
        args: Vec<String>,
        /// The channel whose place it takes (a transfer): the session goes on, a second one must not start.
        #[serde(default)]
        replace_channel: Option<Channel>,
    },
    /// A channel left our application.
    StasisEnd {
        /// The channel.
        channel: Channel,
    },
    /// A channel was made that we are subscribed to.
    ChannelCreated {
        /// The channel.
        channel: Channel,
    },
    /// A channel is gone.
    ChannelDestroyed {
        /// The channel.
        channel: Channel,
        /// Q.850 cause; 0 if unknown.
        #[serde(default)]
        cause: i32,
        /// Cause in words.
        #[serde(default)]
        cause_txt: String,
    },
    /// Someone asked for a channel's end; it may go on in the dialplan (`h`) before it is destroyed.
    ChannelHangupRequest {
        /// The channel.
        channel: Channel,
        /// Q.850 cause, where known.
        #[serde(default)]
        cause: Option<i32>,
        /// By a soft request (software) rather than by the far end.
        #[serde(default)]
        soft: bool,
    },
    /// A channel rings, is answered, …
    ChannelStateChange {
        /// The channel, in its new state.
        channel: Channel,
    },
    /// A digit ended.
    ChannelDtmfReceived {
        /// The channel.
        channel: Channel,
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: String,
        /// Length, milliseconds.
        #[serde(default)]
        duration_ms: u32,
    },
    /// A channel joined a bridge.
    ChannelEnteredBridge {
        /// The bridge, with the channel.
        bridge: Bridge,
        /// The channel; some Asterisks leave it out.
        #[serde(default)]
        channel: Option<Channel>,
    },
    /// A channel left a bridge.
    ChannelLeftBridge {
        /// The bridge, without the channel.
        bridge: Bridge,
        /// The channel.
        channel: Channel,
    },
    /// The far end put the channel on hold.
    ChannelHold {
        /// The channel.
        channel: Channel,
    },
    /// … and came back.
    ChannelUnhold {
        /// The channel.
        channel: Channel,
    },
    /// A variable was set.
    ChannelVarset {
        /// Its name.
        variable: String,
        /// Its new value.
        #[serde(default)]
        value: String,
        /// The channel; none for a global variable.
        #[serde(default)]
        channel: Option<Channel>,
    },
    /// A channel's caller id changed.
    ChannelCallerId {
        /// The channel.
        channel: Channel,
    },
    /// A channel went on in the dialplan.
    ChannelDialplan {
        /// The channel.
        channel: Channel,
    },
    /// A bridge was made.
    BridgeCreated {
        /// The bridge.
        bridge: Bridge,
    },
    /// A bridge is gone.
    BridgeDestroyed {
        /// The bridge.
        bridge: Bridge,
    },
    /// Progress of a dialled channel.
    Dial {
        /// The dialled channel.
        peer: Channel,
        /// Who dials; none where we do.
        #[serde(default)]
        caller: Option<Channel>,
        /// Empty at the start, then `RINGING`, `PROGRESS`, `ANSWER`, `BUSY`, …
        #[serde(default)]
        dialstatus: String,
        /// What was dialled.
        #[serde(default)]
        dialstring: String,
    },
    /// A playback started.
    PlaybackStarted {
        /// The playback.
        playback: Playback,
    },
    /// A playback ended, well or not: see its state.
    PlaybackFinished {
        /// The playback.
        playback: Playback,
    },
    /// Another client took the application: no event comes any more.
    ApplicationReplaced,
    /// Any other.
    #[serde(skip)]
    Other {
        /// Its type; empty if it has none.
        kind: String,
    },
}

impl AriEvent {
    /// Read one message of the event socket. Never fails: see [`AriEvent::Other`].
    pub fn parse(text: &str) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Head {
            #[serde(rename = "type")]
            kind: String,
        }
        match serde_json::from_str(text) {
            Ok(event) => event,
            Err(error) => {
                let Head { kind } = serde_json::from_str(text).unwrap_or_default();
                tracing::trace!(kind, %error, "event not used");
                Self::Other { kind }
            }
        }
    }

    /// The channel that this is about; the new one of a replacement, the dialled one of a Dial.
    pub fn channel(&self) -> Option<&Channel> {
        match self {
            Self::StasisStart { channel, .. }
            | Self::StasisEnd { channel }
            | Self::ChannelCreated { channel }
            | Self::ChannelDestroyed { channel, .. }
            | Self::ChannelHangupRequest { channel, .. }
            | Self::ChannelStateChange { channel }
            | Self::ChannelDtmfReceived { channel, .. }
            | Self::ChannelLeftBridge { channel, .. }
            | Self::ChannelHold { channel }
            | Self::ChannelUnhold { channel }
            | Self::ChannelCallerId { channel }
            | Self::ChannelDialplan { channel }
            | Self::Dial { peer: channel, .. } => Some(channel),
            Self::ChannelEnteredBridge { channel, .. } | Self::ChannelVarset { channel, .. } => {
                channel.as_ref()
            }
            Self::BridgeCreated { .. }
            | Self::BridgeDestroyed { .. }
            | Self::PlaybackStarted { .. }
            | Self::PlaybackFinished { .. }
            | Self::ApplicationReplaced
            | Self::Other { .. } => None,
        }
    }
}
