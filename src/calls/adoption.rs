//! What is written down of a running call, so that it can be taken up again after `kill -9`, and the plan made from it
//! when we come (back) to an Asterisk that went on without us.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ids::{CallId, NodeName, ObjectId, ObjectKind, PREFIX, Role};
use super::machine::view::{ChannelView, Snapshot};
use super::mode::CallOptions;
use crate::media::report::{LegStats, Segment};
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
    /// The recording is paused: silence is to be written, also by whoever goes on with it.
    #[serde(default)]
    pub paused: bool,
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
    /// What was counted of it, those of earlier processes included, at most 2 s ago; `None` before the first time.
    #[serde(default)]
    pub counts: Option<LegStats>,
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
    /// Generation of the voice's channel; 0: none made. It is made anew by whoever takes the call up.
    #[serde(default)]
    pub voice: u16,
    /// `call.ended` is out: nothing to go on with, only to remove.
    #[serde(default)]
    pub ended: bool,
}

/// What a machine has made of a leg in Asterisk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegSide {
    /// Generation of its objects; 0: none made. Their ids follow from it.
    pub generation: u16,
    /// Where its RTP comes from, once known. Of a leg over TCP there is nothing to go on with: it is made anew.
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
    let mut plan = Plan::default();
    let mut adopted_channels = BTreeSet::new();
    // Newest first: of two records for one channel, the older call is what the dialplan left before it came back.
    let over: BTreeSet<&String> = records
        .iter()
        .filter(|record| record.asterisk.ended)
        .map(|record| &record.asterisk.channel.id)
        .collect();
    let mut records: Vec<_> = records.iter().filter(|record| !running.contains(&record.call)).collect();
    records.sort_by(|a, b| (b.started_at, &b.call).cmp(&(a.started_at, &a.call)));
    for record in records {
        let channel = &record.asterisk.channel.id;
        let reason = if record.v != SESSION_VERSION {
            format!("its record is of version {}, not {SESSION_VERSION}", record.v)
        } else if record.node != *node {
            format!("it is of node {}, this is {node}", record.node)
        } else if record.asterisk.ended {
            "it had ended, only its objects were still to be removed".into()
        } else if !snapshot.channels.contains_key(channel) {
            format!("its channel {channel} is gone")
        } else if running_channels.contains(channel) || !adopted_channels.insert(channel.clone()) {
            format!("its channel {channel} belongs to a newer call")
        } else {
            plan.adopt.push(record.call.clone());
            continue;
        };
        plan.end.push(Ended { call: record.call.clone(), reason });
    }
    for id in &snapshot.in_app {
        // No id of ours, of this or another node: those are legs, never callers.
        let is_leg = id.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('-'));
        if let Some(channel) = snapshot.channels.get(id)
            && !is_leg
            && !running_channels.contains(id)
            && !adopted_channels.contains(id)
        {
            // One that we had done with is let go, not begun anew.
            let args = snapshot.stasis_args.get(id).filter(|_| !over.contains(id)).cloned();
            plan.stranded.push(Stranded { channel: channel.clone(), args });
        }
    }
    plan.orphans = orphans(snapshot, node, running, &plan);
    plan
}

fn orphans(snapshot: &Snapshot, node: &NodeName, running: &BTreeSet<CallId>, plan: &Plan) -> Vec<Orphan> {
    let channels = snapshot.channels.keys().map(|id| (id, ObjectKind::Channel));
    let bridges = snapshot.bridges.keys().map(|id| (id, ObjectKind::Bridge));
    let mut found: Vec<_> = channels
        .chain(bridges)
        .filter(|(id, _)| node.owns(id))
        .filter_map(|(id, kind)| {
            let object = ObjectId::parse(id);
            let reason = match &object {
                None => "an id of this node's that it would not give".to_owned(),
                // Adopted and running calls remove what they have no use for themselves.
                Some(object) if running.contains(&object.call) || plan.adopt.contains(&object.call) => {
                    return None;
                }
                Some(object) if plan.end.iter().any(|ended| ended.call == object.call) => {
                    "its call ended while nobody listened".to_owned()
                }
                Some(object) => format!("there is no call {}", object.call),
            };
            let place = object.map(|object| {
                let step = Role::ALL.iter().position(|role| *role == object.role);
                (object.call, object.generation, step)
            });
            Some((place, Orphan { id: id.clone(), kind, reason }))
        })
        .collect();
    // Call by call, and within it channels before the bridge that they are in.
    found.sort_by(|(a, x), (b, y)| (a, x.kind, &x.id).cmp(&(b, y.kind, &y.id)));
    found.into_iter().map(|(_, orphan)| orphan).collect()
}
