use std::time::Duration;

use super::*;
use crate::calls::record::CallMode;

const START: &str = "2026-03-01T12:00:00Z";

fn at(hours: i64) -> Timestamp {
    START.parse::<Timestamp>().unwrap() + Duration::from_secs(hours as u64 * 3_600)
}

fn ended(id: &str, tenant: &str, hours: i64) -> CallRecord {
    let mut record = CallRecord::new(id, tenant, CallMode::Tap, at(hours));
    record.state = CallState::Ended;
    record
}

fn ids(calls: &[Arc<CallRecord>]) -> Vec<&str> {
    calls.iter().map(|record| record.call_id.as_str()).collect()
}

#[test]
fn records_are_found_again_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    {
        let directory = CallDirectory::open(data.path(), 100).unwrap();
        directory.insert(CallRecord::new("live", "acme", CallMode::Tap, at(1))).unwrap();
        directory.insert(CallRecord::new("over", "acme", CallMode::Answer, at(0))).unwrap();
        let changed = directory
            .update("over", |record| {
                record.state = CallState::Ended;
                record.outcome = Some("completed".into());
                record.call_id = "forged".into();
            })
            .unwrap();
        assert_eq!(changed.call_id, "over");
        assert!(directory.update("nope", |_| {}).is_none());
    }
    let directory = CallDirectory::open(data.path(), 100).unwrap();
    assert_eq!(directory.get("over").unwrap().outcome.as_deref(), Some("completed"));
    let unfinished: Vec<_> = directory.unfinished().iter().map(|record| record.call_id.clone()).collect();
    assert_eq!(unfinished, ["live"], "a call that was cut off can be told from one that ended");
}

#[test]
fn memory_has_what_is_not_over_and_the_newest_of_the_rest_and_disk_has_all() {
    let data = tempfile::tempdir().unwrap();
    let check = |directory: &CallDirectory| {
        let recent = directory.recent(&CallQuery::default());
        assert_eq!(recent.len(), 7, "memory is bounded");
        assert_eq!((ids(&recent)[0], ids(&recent)[6]), ("c39", "old-and-live"));
        assert!(directory.get_recent("c01").is_none());
        assert_eq!(directory.get("c01").unwrap().call_id, "c01");
        assert!(directory.get("c99").is_none());
    };
    {
        let directory = CallDirectory::open(data.path(), 7).unwrap();
        directory.insert(CallRecord::new("old-and-live", "acme", CallMode::Tap, at(11))).unwrap();
        for n in 0..40 {
            directory.insert(ended(&format!("c{n:02}"), "acme", n * 5)).unwrap();
        }
        directory.flush();
        check(&directory);
        assert_eq!(directory.notes().take(99).len(), 40, "each that is over is told of once it is saved");
    }
    let directory = CallDirectory::open(data.path(), 7).unwrap();
    check(&directory);
    assert_eq!(ids(&directory.unfinished()), ["old-and-live"]);
    directory.update("c01", |record| record.label = Some("late".into())).unwrap();
    directory.flush();
    assert_eq!(directory.get("c01").unwrap().label.as_deref(), Some("late"));
    assert_eq!(&*directory.notes().take(99)[0], "c01");
}

/// What memory let go before the disk had it would be nowhere, or as it was before.
#[test]
fn a_call_is_found_as_it_is_while_the_disk_does_not_take_it() {
    let data = tempfile::tempdir().unwrap();
    let directory = CallDirectory::open(data.path(), 1).unwrap();
    let files = directory.files(&ended("long", "t", 0)).unwrap();
    files.create_folder().unwrap();
    // A folder where the draft of its record would be: it cannot be written.
    let draft = files.record().with_extension("json.tmp");
    std::fs::create_dir(&draft).unwrap();
    directory.insert(CallRecord::new("long", "t", CallMode::Tap, at(0))).unwrap();
    directory.update("long", |record| record.state = CallState::Ended).unwrap();
    for n in 1..4 {
        directory.insert(ended(&format!("newer{n}"), "t", n)).unwrap();
    }
    directory.flush();
    assert!(!files.record().exists());
    assert!(directory.get("long").unwrap().is_ended());
    assert!(ids(&directory.recent(&CallQuery::default())).contains(&"long"));
    let changed = directory.update("long", |record| record.label = Some("late".into())).unwrap();
    assert!(changed.is_ended(), "the newest is changed, not what the disk had");
    std::fs::remove_dir(&draft).unwrap();
    let begun = crate::clock::now();
    while !files.record().exists() {
        assert!(crate::clock::since(begun) < Duration::from_secs(20), "its record is not tried again");
        std::thread::sleep(Duration::from_millis(10));
    }
    directory.insert(ended("newest", "t", 9)).unwrap();
    directory.flush();
    assert!(directory.get_recent("long").is_none(), "it is let go once it is saved");
    assert_eq!(directory.get("long").unwrap().label.as_deref(), Some("late"));
}

/// It has no row yet, and so it would be in no list.
#[test]
fn a_long_call_that_has_just_ended_stays_in_memory_however_many_began_later() {
    let data = tempfile::tempdir().unwrap();
    let directory = CallDirectory::open(data.path(), 3).unwrap();
    directory.insert(CallRecord::new("long", "t", CallMode::Tap, at(0))).unwrap();
    for n in 1..9 {
        directory.insert(ended(&format!("c{n}"), "t", n)).unwrap();
    }
    let end = |record: &mut CallRecord| {
        record.state = CallState::Ended;
        record.ended_at = Some(at(9));
    };
    directory.update("long", end).unwrap();
    directory.flush();
    assert_eq!(ids(&directory.recent(&CallQuery::default())), ["c8", "c7", "long"]);
    directory.insert(ended("c10", "t", 10)).unwrap();
    directory.insert(ended("c11", "t", 11)).unwrap();
    directory.insert(ended("c12", "t", 12)).unwrap();
    directory.flush();
    assert!(directory.get_recent("long").is_none(), "others have ended since");
}

#[test]
fn a_transcript_that_is_pending_is_found_at_the_next_start_however_old() {
    let data = tempfile::tempdir().unwrap();
    {
        let directory = CallDirectory::open(data.path(), 1).unwrap();
        let mut owing = ended("owing", "acme", 0);
        owing.transcript.status = FileStatus::Pending;
        directory.insert(owing).unwrap();
        directory.insert(ended("newer", "acme", 200)).unwrap();
    }
    let directory = CallDirectory::open(data.path(), 1).unwrap();
    assert!(directory.get_recent("owing").is_none());
    assert_eq!(ids(&directory.pending()), ["owing"]);
    directory.update("owing", |record| record.transcript.status = FileStatus::Ready).unwrap();
    directory.flush();
    assert!(directory.pending().is_empty());
}

#[test]
fn a_query_filters_by_state() {
    let data = tempfile::tempdir().unwrap();
    let directory = CallDirectory::open(data.path(), 100).unwrap();
    directory.insert(ended("a", "t", 0)).unwrap();
    directory.insert(CallRecord::new("b", "t", CallMode::Tap, at(1))).unwrap();
    let query = CallQuery { state: Some(CallState::SettingUp), ..CallQuery::default() };
    assert_eq!(ids(&directory.recent(&query)), ["b"]);
    let query = CallQuery { tenant: Some("other".into()), ..CallQuery::default() };
    assert!(directory.recent(&query).is_empty());
}

#[test]
fn time_ordered_ids_are_found_on_disk_without_reading_every_day() {
    let data = tempfile::tempdir().unwrap();
    let start = at(0);
    let seconds = uuid::Timestamp::from_unix(uuid::NoContext, start.as_second() as u64, 0);
    let id = uuid::Uuid::new_v7(seconds).to_string();
    let directory = CallDirectory::open(data.path(), 1).unwrap();
    let mut record = ended(&id, "t", 0);
    record.started_at = start;
    directory.insert(record).unwrap();
    directory.insert(ended("newer", "t", 90)).unwrap();
    directory.flush();
    assert!(directory.get_recent(&id).is_none());
    assert_eq!(directory.get(&id).unwrap().call_id, id);
    assert_eq!(
        directory.journal(&id).unwrap().parent(),
        directory.files(&directory.get(&id).unwrap()).unwrap().recording().parent()
    );
}

#[test]
fn only_ended_calls_are_removed_and_then_nothing_is_left() {
    let data = tempfile::tempdir().unwrap();
    let directory = CallDirectory::open(data.path(), 10).unwrap();
    directory.insert(CallRecord::new("live", "t", CallMode::Tap, at(0))).unwrap();
    assert!(matches!(directory.remove("live"), Err(RemoveError::NotEnded(_))));
    assert!(matches!(directory.remove("nope"), Err(RemoveError::Unknown(_))));
    let record = directory.insert(ended("over", "t", 0)).unwrap();
    directory.flush();
    let files = directory.files(&record).unwrap();
    std::fs::write(files.recording(), "RIFF").unwrap();
    assert!(files.record().exists());
    directory.remove("over").unwrap();
    assert!(!files.recording().exists() && !files.record().exists());
    assert!(directory.get("over").is_none());
}

#[test]
fn names_that_lead_elsewhere_are_refused_and_broken_files_passed_over() {
    let data = tempfile::tempdir().unwrap();
    let directory = CallDirectory::open(data.path(), 10).unwrap();
    assert!(directory.insert(ended("../x", "t", 0)).is_err());
    assert!(directory.insert(ended("x", "..", 0)).is_err());
    assert!(directory.get("../../etc/passwd").is_none());
    assert!("1.../x".parse::<Cursor>().is_err() && "x".parse::<Cursor>().is_err());
    let record = directory.insert(ended("good", "t", 0)).unwrap();
    let files = directory.files(&record).unwrap();
    drop(directory);
    std::fs::write(files.folder().join("bad.call.json"), "{").unwrap();
    std::fs::copy(files.record(), files.folder().join("copy.call.json")).unwrap();
    let directory = CallDirectory::open(data.path(), 10).unwrap();
    assert_eq!(ids(&directory.recent(&CallQuery::default())), ["good"]);
}
