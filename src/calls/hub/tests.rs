use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::calls::event::Envelope;

fn hub(config: HubConfig) -> EventHub {
    EventHub::new(config, None).unwrap()
}

fn seqs(events: &[Arc<StoredEvent>]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

struct OneJournal(PathBuf);

impl Journals for OneJournal {
    fn journal(&self, _: &str) -> Option<PathBuf> {
        Some(self.0.clone())
    }
}

#[test]
fn an_event_is_the_envelope_with_the_body_beside_it() {
    let hub = hub(HubConfig::default());
    hub.open_call("ac\"me", "c1", None).unwrap();
    let event = hub.publish("c1", EventKind::Dtmf, json!({"digit": "5", "seq": 99, "type": "x"})).unwrap();
    let envelope: Envelope = serde_json::from_str(&event.json).unwrap();
    assert_eq!((envelope.v, envelope.seq, envelope.kind.as_str()), (1, 1, "dtmf"));
    assert_eq!((envelope.tenant.as_str(), envelope.call_id.as_str()), ("ac\"me", "c1"));
    assert_eq!(envelope.body, *json!({"digit": "5"}).as_object().unwrap());

    let bare = hub.publish("c1", EventKind::CallAnswered, ()).unwrap();
    assert!(serde_json::from_str::<Envelope>(&bare.json).unwrap().body.is_empty());
    let odd = hub.publish("c1", EventKind::CallAnswered, "not an object").unwrap();
    assert_eq!(serde_json::from_str::<Envelope>(&odd.json).unwrap().seq, 3);
}

#[test]
fn events_of_unknown_or_closed_calls_are_dropped() {
    let hub = hub(HubConfig::default());
    assert!(hub.publish("nope", EventKind::Dtmf, ()).is_none());
    hub.open_call("t", "c1", None).unwrap();
    assert!(matches!(hub.open_call("t", "c1", None), Err(OpenError::AlreadyOpen(_))));
    hub.close_call("c1");
    assert!(hub.publish("c1", EventKind::Dtmf, ()).is_none());
    assert_eq!(hub.open_calls(), 0, "memory of an ended call is released");
}

#[test]
fn numbers_have_no_holes_whoever_publishes() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("day/c1.events.jsonl");
    let hub = hub(HubConfig { recent_events: 8, ..HubConfig::default() });
    hub.open_call("t", "c1", Some(journal.clone())).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope
                .spawn(|| (0..500).for_each(|n| drop(hub.publish("c1", EventKind::LegGap, json!({"n": n})))));
        }
    });
    // Memory reaches back a few events only by now or soon; the journal has the others.
    let all = hub.call_events("c1", 0, usize::MAX).unwrap();
    assert_eq!(seqs(&all), (1..=2_000).collect::<Vec<_>>());
    assert_eq!(seqs(&hub.call_events("c1", 700, 5).unwrap()), [701, 702, 703, 704, 705]);
    let log = hub.since(0, usize::MAX);
    assert_eq!(
        seqs(&log.events),
        (1..=2_000).collect::<Vec<_>>(),
        "the log has a call's events in their order"
    );
    wait_until("memory is trimmed", || hub.recent_events("c1", 0, 1).is_none());
    assert_eq!(seqs(&hub.recent_events("c1", 1_998, 9).unwrap()), [1_999, 2_000]);
}

#[test]
fn a_stream_at_rest_keeps_nothing_in_memory_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("c1.events.jsonl");
    let hub = hub(HubConfig::default());
    hub.open_call("t", "c1", Some(journal.clone())).unwrap();
    (0..3).for_each(|_| drop(hub.publish("c1", EventKind::LegGap, ())));
    assert!(hub.recent_events("c1", 0, 9).is_some());
    hub.rest_call("c1");
    let held = || {
        let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        files.filter(|file| std::fs::read_link(file.path()).is_ok_and(|to| to == journal)).count()
    };
    wait_until("memory and file are let go", || hub.recent_events("c1", 0, 1).is_none() && held() == 0);
    assert_eq!((hub.written_to("c1"), hub.written_to("c2")), (Some(3), None));
    hub.publish("c1", EventKind::TranscriptFinal, ()).unwrap();
    wait_until("it is written", || hub.written_to("c1") == Some(4));
    assert_eq!(seqs(&hub.call_events("c1", 0, 9).unwrap()), [1, 2, 3, 4]);
    let head = hub.call_changed("c1").unwrap();
    hub.close_call("c1");
    assert!(head.borrow().closed);
}

#[test]
fn numbers_go_on_after_a_restart_and_half_a_line_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("c1.events.jsonl");
    {
        let hub = hub(HubConfig::default());
        hub.open_call("t", "c1", Some(journal.clone())).unwrap();
        for _ in 0..3 {
            hub.publish("c1", EventKind::Dtmf, json!({"digit": "1"}));
        }
    }
    let mut text = std::fs::read_to_string(&journal).unwrap();
    text.push_str("{\"v\":1,\"seq\":4,\"time\":\"2026");
    std::fs::write(&journal, text).unwrap();

    let hub = EventHub::new(HubConfig::default(), Some(Arc::new(OneJournal(journal.clone())))).unwrap();
    assert_eq!(hub.open_call("t", "c1", Some(journal)).unwrap(), 3);
    assert_eq!(hub.publish("c1", EventKind::Dtmf, ()).unwrap().seq, 4);
    assert_eq!(seqs(&hub.call_events("c1", 0, 9).unwrap()), [1, 2, 3, 4]);
    assert_eq!(seqs(&hub.call_events("c1", 2, 9).unwrap()), [3, 4]);
    hub.close_call("c1");
    wait_until("the closed call leaves memory", || hub.open_calls() == 0);
    let after = hub.call_events("c1", 0, 9).unwrap();
    assert_eq!(seqs(&after), [1, 2, 3, 4], "the journal answers for a call that is over");
    assert_eq!(after[3].kind, EventKind::Dtmf);
}

#[test]
fn a_disk_that_fails_delays_the_journal_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("day");
    std::fs::write(&blocked, "a file where a folder should be").unwrap();
    let journal = blocked.join("c1.events.jsonl");
    let hub = EventHub::new(
        HubConfig { recent_events: 1, ..HubConfig::default() },
        Some(Arc::new(OneJournal(journal.clone()))),
    )
    .unwrap();
    // The journal cannot be there, so the call starts without one being found.
    assert!(hub.open_call("t", "c1", Some(journal.clone())).is_err());
    std::fs::remove_file(&blocked).unwrap();
    hub.open_call("t", "c1", Some(journal)).unwrap();
    std::fs::write(&blocked, "again").unwrap();
    for _ in 0..50 {
        hub.publish("c1", EventKind::Dtmf, ());
    }
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(hub.recent_events("c1", 0, 99).unwrap().len(), 50, "what the disk has not, memory has");
    std::fs::remove_file(&blocked).unwrap();
    hub.close_call("c1");
    wait_until("the journal is completed", || hub.open_calls() == 0);
    assert_eq!(seqs(&hub.call_events("c1", 0, 99).unwrap()), (1..=50).collect::<Vec<_>>());
}

#[test]
fn a_reader_of_the_log_learns_how_much_passed_it_by() {
    let hub = hub(HubConfig { log_events: 10, ..HubConfig::default() });
    let before = hub.position();
    hub.open_call("t", "c1", None).unwrap();
    for _ in 0..25 {
        hub.publish("c1", EventKind::Dtmf, ());
    }
    let batch = hub.since(before, 4);
    assert_eq!((batch.missed, seqs(&batch.events)), (15, vec![16, 17, 18, 19]));
    let rest = hub.since(batch.next, 99);
    assert_eq!((rest.missed, rest.events.len(), rest.next), (0, 6, hub.position()));
    assert!(hub.since(rest.next, 99).events.is_empty());
    assert_eq!(hub.since(0, 99).missed, 15);
    assert_eq!(hub.since(1, 99).missed, 15, "a position of an earlier run");
    let told = hub.since(1, 0);
    assert_eq!((told.missed, hub.since(told.next, 99).missed), (15, 0), "a gap is told of once");
    let future = hub.since(hub.position() + 1_000, 99);
    assert_eq!((future.missed, future.next), (1, hub.position()));
}

#[test]
fn a_reader_of_an_earlier_run_is_told_once_even_before_anything_happens() {
    let hub = hub(HubConfig::default());
    let told = hub.since(1, 99);
    assert_eq!((told.missed, told.next), (1, hub.position()));
    assert_eq!(hub.since(told.next, 99).missed, 0);
}

#[test]
fn the_log_is_bounded_in_bytes_too() {
    let hub = hub(HubConfig { log_bytes: 5_000, ..HubConfig::default() });
    hub.open_call("t", "c1", None).unwrap();
    for _ in 0..100 {
        hub.publish("c1", EventKind::TranscriptPartial, json!({"text": "x".repeat(900)}));
    }
    let kept = hub.since(0, 999).events;
    assert!(kept.len() <= 5 && kept.iter().map(|event| event.json.len()).sum::<usize>() <= 5_000);
}

#[test]
fn node_events_have_no_call_and_numbers_of_their_own() {
    let hub = hub(HubConfig::default());
    hub.publish_node(EventKind::AriConnected, json!({"url": "http://x"}));
    hub.publish_node(EventKind::AriDisconnected, ());
    let events = hub.since(0, 9).events;
    assert_eq!(seqs(&events), [1, 2]);
    let envelope: Value = serde_json::from_str(&events[0].json).unwrap();
    assert_eq!((&envelope["call_id"], &envelope["tenant"]), (&json!(""), &json!("")));
}

#[tokio::test]
async fn followers_wake_with_events_and_with_the_end() {
    let hub = hub(HubConfig::default());
    hub.open_call("t", "c1", None).unwrap();
    let (mut call, mut all) = (hub.call_changed("c1").unwrap(), hub.changed());
    hub.publish("c1", EventKind::CallStarted, ());
    all.changed().await.unwrap();
    assert_eq!(*all.borrow_and_update(), hub.position());
    assert_eq!(
        *call.wait_for(|head| head.last_seq == 1).await.unwrap(),
        CallHead { last_seq: 1, closed: false }
    );
    hub.close_call("c1");
    assert!(call.wait_for(|head| head.closed).await.is_ok());
}

#[test]
fn a_call_begins_while_the_disk_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    // Whoever opens this for writing waits until somebody reads: so stands a dead network file system.
    let journal = folder.path().join("c1.events.jsonl");
    rustix::fs::mkfifoat(rustix::fs::CWD, &journal, rustix::fs::Mode::RWXU).unwrap();
    let hub = hub(HubConfig::default());
    hub.begin_call("t", "c1", journal.clone()).unwrap();
    for _ in 0..3 {
        hub.publish("c1", EventKind::Dtmf, json!({})).unwrap();
    }
    hub.close_call("c1");
    assert_eq!(seqs(&hub.since(0, 9).events), [1, 2, 3]);

    let written = std::fs::read_to_string(&journal).unwrap();
    assert_eq!(written.lines().count(), 3, "the disk moves again: {written}");
}
