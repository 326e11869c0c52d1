use std::path::Path;

use super::*;

#[test]
fn names_that_could_leave_the_folder_are_refused() {
    for bad in ["", ".", "..", "../x", "a/b", "a\\b", "a.b", "-a", "a b", "ä", &"a".repeat(65)] {
        assert!(!is_valid_name(bad), "{bad}");
        assert!(CallFiles::new(Path::new("/d"), "t", Timestamp::UNIX_EPOCH, bad).is_err());
        assert!(CallFiles::new(Path::new("/d"), bad, Timestamp::UNIX_EPOCH, "c").is_err());
    }
    assert!(is_valid_name("018f2b6e-7c1a-7c3d-8f00-0123456789ab"));
}

#[test]
fn files_lie_in_the_day_folder_of_the_start_in_utc() {
    let start: Timestamp = "2026-03-01T23:30:00-02:00".parse().unwrap();
    let files = CallFiles::new(Path::new("/d"), "acme", start, "c1").unwrap();
    assert_eq!(files.recording(), Path::new("/d/recordings/acme/2026/03/02/c1.wav"));
    assert_eq!(files.report(), Path::new("/d/recordings/acme/2026/03/02/c1.json"));
    assert_eq!(files.record(), Path::new("/d/recordings/acme/2026/03/02/c1.call.json"));
    assert_eq!(files.events(), Path::new("/d/recordings/acme/2026/03/02/c1.events.jsonl"));
}

#[test]
fn a_record_survives_its_json_and_an_older_one_without_optional_fields_is_read() {
    let mut record = CallRecord::new("c1", "acme", CallMode::Tap, "2026-03-01T12:00:00Z".parse().unwrap());
    record.legs.push(LegSummary {
        name: Leg::Callee,
        codec: "ulaw".into(),
        packets_received: 9,
        packets_lost: 1,
        packets_expected: Some(10),
        packets_late: Some(0),
        packets_duplicate: None,
        packets_repaired: Some(0),
        clock_ppm: Some(-11.5),
        jitter_ms: 0.5,
        mos: Some(4.2),
    });
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<CallRecord>(&json).unwrap(), record);

    let old = r#"{"call_id":"c","tenant":"t","mode":"answer","state":"setting_up","started_at":"2026-03-01T12:00:00Z"}"#;
    assert_eq!(serde_json::from_str::<CallRecord>(old).unwrap().recording.status, FileStatus::Off);
}

#[test]
fn what_went_wrong_later_does_not_hide_what_went_wrong_before() {
    let mut record = CallRecord::new("c1", "acme", CallMode::Tap, Timestamp::UNIX_EPOCH);
    for error in ["the disk is full", "no report", "the disk is full"] {
        record.add_error(error);
    }
    assert_eq!(record.error.as_deref(), Some("the disk is full; no report"));
}

#[test]
fn search_looks_at_parties_label_and_id_whatever_the_case() {
    let mut record = CallRecord::new("Abc-1", "acme", CallMode::Tap, Timestamp::UNIX_EPOCH);
    record.channel.caller.number = "+4930123".into();
    record.label = Some("Sales DE".into());
    assert!(record.mentions("abc") && record.mentions("4930") && record.mentions("sales"));
    assert!(!record.mentions("support"));
}
