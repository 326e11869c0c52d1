//! The plan made at a start or a reconnect.

use std::collections::BTreeSet;

use sidetone::calls::adoption::*;
use sidetone::calls::ids::{CallId, NodeName, ObjectKind};
use sidetone::calls::machine::{ChannelView, Snapshot};
use sidetone::calls::mode::{CallOptions, Mode};
use sidetone::media::time::SampleRate;

fn node() -> NodeName {
    "n1".parse().unwrap()
}

fn call(id: &str) -> CallId {
    id.parse().unwrap()
}

fn record(id: &str, channel: &str, started_at: i64) -> SessionRecord {
    let leg = LegRecord {
        external_host: ([127, 0, 0, 1], 14_000).into(),
        local_port: 14_000,
        segment: None,
        counts: None,
    };
    SessionRecord {
        v: SESSION_VERSION,
        call: call(id),
        node: node(),
        tenant: "default".into(),
        options: CallOptions::new(Mode::Tap),
        started_at,
        sample_rate: SampleRate::NARROWBAND,
        format: "ulaw".into(),
        asterisk: AsteriskSide {
            channel: ChannelView { id: channel.into(), ..ChannelView::default() },
            answered: false,
            legs: [LegSide { generation: 1, source: None }; 2],
            main_bridge: 0,
            voice: 0,
            ended: false,
        },
        legs: [leg.clone(), leg],
        origin: Some(-80),
        recording: Some("data/recordings/default/2026/01/01/x.wav".into()),
        paused: false,
    }
}

fn snapshot(channels: &[&str], in_app: &[&str], bridges: &[&str]) -> Snapshot {
    let view = |id: &&str| (id.to_string(), ChannelView { id: id.to_string(), ..ChannelView::default() });
    Snapshot {
        channels: channels.iter().map(view).collect(),
        in_app: in_app.iter().map(ToString::to_string).collect(),
        bridges: bridges.iter().map(|id| (id.to_string(), BTreeSet::new())).collect(),
        ..Snapshot::default()
    }
}

fn plan_for(snapshot: &Snapshot, records: &[SessionRecord]) -> Plan {
    plan(snapshot, &node(), &BTreeSet::new(), &BTreeSet::new(), records)
}

#[test]
fn live_calls_are_adopted_and_the_others_ended() {
    let there = snapshot(&["ch1", "sidetone-n1-a-snoop-in"], &[], &["sidetone-n1-b-bridge-in"]);
    let plan = plan_for(&there, &[record("a", "ch1", 1), record("b", "ch2", 2)]);
    assert_eq!(plan.adopt, [call("a")]);
    assert_eq!(plan.end.len(), 1);
    assert!(plan.end[0].call == call("b") && plan.end[0].reason.contains("ch2 is gone"));
    assert_eq!(plan.orphans.len(), 1);
    assert_eq!(plan.orphans[0].id, "sidetone-n1-b-bridge-in");
}

#[test]
fn only_what_is_ours_is_removed_and_channels_before_their_bridges() {
    let there = snapshot(
        &[
            "PJSIP/x",
            "sidetone-n2-c-media-in",
            "sidetone-n1-c-snoop-out",
            "sidetone-n1-c-media-out",
            "sidetone-n1-odd",
        ],
        &[],
        &["sidetone-n1-c-bridge-out", "sidetone-n12-c-bridge-in", "room"],
    );
    let plan = plan_for(&there, &[]);
    let ids: Vec<_> = plan.orphans.iter().map(|orphan| orphan.id.as_str()).collect();
    assert_eq!(
        ids,
        ["sidetone-n1-odd", "sidetone-n1-c-media-out", "sidetone-n1-c-snoop-out", "sidetone-n1-c-bridge-out"]
    );
    assert_eq!(plan.orphans[3].kind, ObjectKind::Bridge);
    assert!(plan.orphans.iter().all(|orphan| !orphan.reason.is_empty()));
}

#[test]
fn running_calls_are_left_to_their_machines() {
    let there = snapshot(&["ch1", "sidetone-n1-a-snoop-in"], &["ch1", "sidetone-n1-a-snoop-in"], &[]);
    let plan =
        plan(&there, &node(), &[call("a")].into(), &["ch1".to_owned()].into(), &[record("a", "ch1", 1)]);
    assert_eq!(plan, Plan::default());
}

#[test]
fn a_channel_that_waits_for_nobody_is_found() {
    let mut there =
        snapshot(&["ch1", "ch2", "sidetone-n2-z-media-in"], &["ch1", "sidetone-n2-z-media-in", "gone"], &[]);
    there.stasis_args.insert("ch1".into(), vec!["tap".into()]);
    let plan = plan_for(&there, &[]);
    assert_eq!(plan.stranded.len(), 1);
    assert_eq!(
        (plan.stranded[0].channel.id.as_str(), plan.stranded[0].args.clone()),
        ("ch1", Some(vec!["tap".into()]))
    );
}

#[test]
fn a_call_that_had_ended_is_not_begun_anew() {
    let mut there = snapshot(&["ch1", "sidetone-n1-a-media-in"], &["ch1"], &[]);
    there.stasis_args.insert("ch1".into(), vec!["tap".into()]);
    let mut ended = record("a", "ch1", 1);
    ended.asterisk.ended = true;
    let plan = plan_for(&there, &[ended]);
    assert!(plan.adopt.is_empty() && plan.end.len() == 1 && plan.orphans.len() == 1);
    assert_eq!(plan.stranded[0].args, None, "only let go");
}

#[test]
fn of_two_records_of_one_channel_the_newer_is_adopted() {
    let there = snapshot(&["ch1"], &[], &[]);
    let plan = plan_for(&there, &[record("a", "ch1", 1), record("b", "ch1", 2)]);
    assert_eq!(plan.adopt, [call("b")]);
    assert_eq!(plan.end[0].call, call("a"));
}

#[test]
fn records_of_another_version_or_node_are_not_adopted() {
    let there = snapshot(&["ch1", "ch2"], &[], &[]);
    let (mut old, mut strange) = (record("a", "ch1", 1), record("b", "ch2", 2));
    old.v = 0;
    strange.node = "n9".parse().unwrap();
    let plan = plan_for(&there, &[old, strange]);
    assert!(plan.adopt.is_empty());
    assert_eq!(plan.end.len(), 2);
}

#[test]
fn a_record_reads_back() {
    let record = record("a", "ch1", 1);
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<SessionRecord>(&text).unwrap(), record);
}
