//! Asterisk as a call sees it: no JSON, only what the machine and the planner decide by.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// State of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelState {
    /// Neither ringing nor answered.
    #[default]
    Down,
    /// Ringing, seen from either side (`Ring`, `Ringing`).
    Ringing,
    /// Answered.
    Up,
}

/// A channel, as events and listings describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelView {
    /// Asterisk's unique id.
    pub id: String,
    /// Such as `PJSIP/100-00000001`.
    pub name: String,
    /// Its state.
    pub state: ChannelState,
    /// Caller's number; empty if unknown.
    #[serde(default)]
    pub caller_number: String,
    /// Caller's name; empty if unknown.
    #[serde(default)]
    pub caller_name: String,
    /// Extension dialled; empty if unknown.
    #[serde(default)]
    pub dialled: String,
}

/// What there is in Asterisk, as listed after a start or a reconnect.
///
/// List in this order: the application (`GET /applications/{app}`), channels, bridges. Events that come while you list are
/// handed on after the snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All channels, by id.
    pub channels: BTreeMap<String, ChannelView>,
    /// Channels that are in our Stasis application now; ids that are not in `channels` do no harm.
    pub in_app: BTreeSet<String>,
    /// Arguments of `Stasis()` for channels of `in_app` that stand in the dialplan's `Stasis`, as far as Asterisk tells
    /// (`dialplan.app_name` and `app_data`, the application's name left off). A channel that is not here tells nothing.
    pub stasis_args: BTreeMap<String, Vec<String>>,
    /// All bridges, by id, with the ids of the channels in them.
    pub bridges: BTreeMap<String, BTreeSet<String>>,
}
