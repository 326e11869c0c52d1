//! What Asterisk tells about channels, bridges and itself. Missing and unknown fields are tolerated: they differ between
//! versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::asterisk::version::AsteriskVersion;

/// A channel.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Channel {
    /// Unique id; ours where we chose it.
    pub id: String,
    /// Such as `PJSIP/alice-00000001`.
    pub name: String,
    /// Down, ringing, up, …
    pub state: ChannelState,
    /// Who is at this end.
    pub caller: CallerId,
    /// Whom this end is connected to.
    pub connected: CallerId,
    /// Account code.
    pub accountcode: String,
    /// Where in the dialplan it is.
    pub dialplan: Dialplan,
    /// When it was made, as Asterisk writes it: `2026-11-20T10:16:26.549+0000`.
    pub creationtime: String,
    /// Language of its prompts.
    pub language: String,
    /// Asterisk's own tenant id; empty where this Asterisk has none.
    pub tenantid: String,
    /// SIP Call-ID; empty where there is none, and on old Asterisks.
    pub protocol_id: String,
    /// Variables that Asterisk was told to report, and those of an ExternalMedia reply.
    #[serde(deserialize_with = "texts")]
    pub channelvars: BTreeMap<String, String>,
}

/// State of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ChannelState {
    /// Not in use yet.
    Down,
    /// Reserved.
    #[serde(alias = "Rsrved")]
    Reserved,
    /// Off hook.
    OffHook,
    /// Digits were dialled.
    Dialing,
    /// Incoming, not answered.
    Ring,
    /// Outgoing, the far end rings.
    Ringing,
    /// Answered.
    Up,
    /// Busy.
    Busy,
    /// Any other.
    #[default]
    #[serde(other)]
    Other,
}

/// Name and number of a party; empty where unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CallerId {
    /// Name.
    pub name: String,
    /// Number.
    pub number: String,
}

/// A place in the dialplan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Dialplan {
    /// Context.
    pub context: String,
    /// Extension.
    pub exten: String,
    /// Priority.
    pub priority: i64,
    /// Application being run; empty on old Asterisks.
    pub app_name: String,
    /// Its arguments.
    pub app_data: String,
}

/// A bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Bridge {
    /// Unique id; ours where we chose it.
    pub id: String,
    /// Such as `simple_bridge` or `softmix`.
    pub technology: String,
    /// Such as `mixing`.
    pub bridge_type: String,
    /// Who made it.
    pub creator: String,
    /// Name given at its making.
    pub name: String,
    /// Ids of the channels in it.
    pub channels: Vec<String>,
}

/// A Stasis application and what it gets events about. That it exists does not say that a client is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Application {
    /// Name.
    pub name: String,
    /// Channels it gets events about.
    pub channel_ids: Vec<String>,
    /// Bridges it gets events about.
    pub bridge_ids: Vec<String>,
    /// Endpoints it gets events about.
    pub endpoint_ids: Vec<String>,
}

/// A playback.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Playback {
    /// Unique id.
    pub id: String,
    /// Such as `sound:demo-congrats`.
    pub media_uri: String,
    /// `channel:<id>` or `bridge:<id>`.
    pub target_uri: String,
    /// `queued`, `playing`, `done`, `failed`, …
    pub state: String,
}

/// A module of Asterisk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Module {
    /// Such as `chan_rtp.so`.
    pub name: String,
    /// What it does.
    pub description: String,
    /// `Running` or `Not Running`.
    pub status: String,
    /// `core`, `extended`, …
    pub support_level: String,
}

impl Module {
    /// It is loaded and at work.
    pub fn is_running(&self) -> bool {
        self.status == "Running"
    }
}

/// Asterisk about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct AsteriskInfo {
    /// Its version.
    pub version: AsteriskVersion,
    /// Distinguishes this Asterisk from others.
    pub entity_id: String,
    /// When it started, as Asterisk writes it; another value than before means that every channel is gone.
    pub startup_time: String,
}

/// `/asterisk/info` as it comes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawInfo {
    pub(super) system: RawSystem,
    pub(super) status: RawStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawSystem {
    pub(super) version: String,
    pub(super) entity_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawStatus {
    pub(super) startup_time: String,
}

// Newer Asterisks may report a variable as something other than a string; what it says is kept.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let raw = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
    Ok(raw
        .into_iter()
        .map(|(name, value)| match value {
            serde_json::Value::String(text) => (name, text),
            other => (name, other.to_string()),
        })
        .collect())
}
