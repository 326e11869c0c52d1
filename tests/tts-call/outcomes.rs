//! What becomes of calls is what is told of them.

use std::time::Duration;

use sidetone::config::settings::TtsCalls;
use sidetone::jobs::call::{CallError, EndedBy, Outcome, Played, Verdict};

use crate::audio::{follow, position};
use crate::desk::{Desk, LONG_TEXT, TEXT, party_hangs_up, quiet};
use crate::support::lab::{Lab, Version};

fn played(outcome: &Outcome) -> (Played, f64) {
    let playback = outcome.playback.unwrap_or_else(|| panic!("answered: {outcome:?}"));
    (playback.played, playback.seconds)
}

/// Seconds of a prompt.
fn length(lab: &Lab, text: &str) -> f64 {
    lab.prompt_samples(text).len() as f64 / 8_000.0
}

/// What the party heard is what was said, sample for sample.
fn assert_heard(lab: &Lab, text: &str) {
    let file = lab.heard().pop().expect("a recording of what was heard");
    let wav = std::fs::read(&file).expect("the recording");
    let heard: Vec<i16> =
        wav[44..].chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    let said = lab.prompt_samples(text);
    let (whole, followed) = (position(&heard, &said[..said.len() - said.len() % 160]), follow(&heard, &said));
    println!("heard whole from {whole:?}; {followed:?}");
    // Asterisk, short of time, puts frames of silence in between.
    assert!(followed.found * 100 >= followed.sounding * 98, "the party heard {followed:?}");
}

/// One call of each kind.
async fn tells_what_became_of_calls(version: Version, change: fn(&mut TtsCalls)) {
    let lab = Lab::start(version);
    let desk = Desk::at(&lab, |tts| {
        tts.ring_seconds = 2;
        change(tts);
    })
    .await;
    let outcome = desk.call(&lab, "answer", "100", TEXT).await;
    assert_eq!((outcome.outcome, outcome.ended_by), (Verdict::Answered, Some(EndedBy::Us)), "{outcome:?}");
    let (how_far, seconds) = played(&outcome);
    assert_eq!(how_far, Played::ToTheEnd);
    assert!((seconds - length(&lab, TEXT)).abs() < 0.3, "{seconds} s of {}", length(&lab, TEXT));
    assert_eq!(outcome.cause.as_ref().map(|cause| cause.code), Some(16));
    assert!(
        outcome.placed_at <= outcome.answered_at && outcome.answered_at < outcome.ended_at,
        "{outcome:?}"
    );
    assert_heard(&lab, TEXT);
    let notes = desk.notes.all();
    assert_eq!(
        notes,
        [
            "intends answer-1",
            "answer-1 Placed",
            "answer-1 Answered",
            "answer-1 Speaking",
            "concluded answer-1 answered"
        ]
    );
    for (job, number, verdict, code) in [
        ("busy", "101", Verdict::Busy, 17),
        ("congestion", "102", Verdict::Congestion, 34),
        ("wrong", "199", Verdict::InvalidNumber, 1),
    ] {
        let outcome = desk.call(&lab, job, number, TEXT).await;
        let cause = outcome.cause.as_ref().map(|cause| cause.code);
        assert_eq!((outcome.outcome, cause), (verdict, Some(code)), "{number}: {outcome:?}");
        assert!(outcome.answered_at.is_none() && outcome.playback.is_none() && outcome.ended_at.is_some());
    }
    let unanswered = desk.call(&lab, "nobody", "103", TEXT).await;
    assert_eq!(unanswered.outcome, Verdict::NoAnswer, "{unanswered:?}");
    let rang = unanswered.ended_at.unwrap().duration_since(unanswered.ringing_at.unwrap()).as_secs_f64();
    assert!((1.5..4.0).contains(&rang), "it rang for {rang} s");
    let at_once = desk.call(&lab, "at-once", "104", TEXT).await;
    assert_eq!((at_once.outcome, at_once.ended_by), (Verdict::Answered, Some(EndedBy::Party)), "{at_once:?}");
    assert_eq!(played(&at_once), (Played::NotBegun, 0.0));
    let outside = desk.call(&lab, "outside", "+57 300 505 0149", TEXT).await;
    assert_eq!(outside.outcome, Verdict::InvalidNumber, "nobody in the lab has it: {outside:?}");
    quiet(&lab).await;
    desk.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_calls_by_ami_are_told_of() {
    tells_what_became_of_calls(Version::V22, |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_calls_by_ami_of_asterisk_16_are_told_of() {
    tells_what_became_of_calls(Version::V16, |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_calls_by_ari_are_told_of() {
    tells_what_became_of_calls(Version::V22, |tts| tts.by = "ari".into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_calls_by_call_file_are_told_of() {
    tells_what_became_of_calls(Version::V22, |tts| tts.by = "file".into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_calls_by_call_file_of_asterisk_16_are_told_of() {
    tells_what_became_of_calls(Version::V16, |tts| tts.by = "file".into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_hangup_in_the_middle_has_its_second() {
    let lab = Lab::start(Version::V22);
    let desk = Desk::at(&lab, |_| {}).await;
    let party = async {
        desk.noted("middle-1 Speaking").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        party_hangs_up(&lab, "middle").await;
    };
    let (outcome, ()) = tokio::join!(desk.call(&lab, "middle", "105", LONG_TEXT), party);
    assert_eq!((outcome.outcome, outcome.ended_by), (Verdict::Answered, Some(EndedBy::Party)), "{outcome:?}");
    let (how_far, seconds) = played(&outcome);
    assert_eq!(how_far, Played::InPart);
    assert!((1.8..3.0).contains(&seconds), "{seconds} s");
    let rang = outcome.answered_at.unwrap().duration_since(outcome.ringing_at.unwrap()).as_secs_f64();
    assert!((1.8..3.5).contains(&rang), "105 rings for two seconds: {rang}");
    desk.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_calls_are_called_off_while_they_ring_and_while_they_speak() {
    let lab = Lab::start(Version::V22);
    for (by, number, until) in [
        ("ami", "103", "Ringing"),
        ("ami", "100", "Speaking"),
        ("ari", "103", "Ringing"),
        ("file", "103", "Ringing"),
        ("file", "100", "Speaking"),
    ] {
        let desk = Desk::at(&lab, |tts| tts.by = by.into()).await;
        let cancels = async {
            desk.noted(&format!("off-1 {until}")).await;
            desk.cancel.cancel();
        };
        let (outcome, ()) = tokio::join!(desk.call(&lab, "off", number, LONG_TEXT), cancels);
        assert_eq!(outcome.outcome, Verdict::Cancelled, "{by} {number}: {outcome:?}");
        let ended_by = (until == "Speaking").then_some(EndedBy::Cancel);
        assert_eq!(outcome.ended_by, ended_by, "{by} {number}: {outcome:?}");
        quiet(&lab).await;
        desk.assert_nothing_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_machines_are_hung_up_on_or_spoken_to() {
    let lab = Lab::start(Version::V22);
    let desk = Desk::at(&lab, |tts| tts.amd = "hang_up".into()).await;
    let outcome = desk.call(&lab, "machine", "106", TEXT).await;
    assert_eq!((outcome.outcome, outcome.ended_by), (Verdict::Machine, Some(EndedBy::Us)), "{outcome:?}");
    assert_eq!(played(&outcome), (Played::NotBegun, 0.0));
    assert!(outcome.machine.as_deref().is_some_and(|cause| cause.starts_with("LONGGREETING")), "{outcome:?}");
    let desk = Desk::at(&lab, |tts| tts.amd = "speak".into()).await;
    let outcome = desk.call(&lab, "spoken-to", "106", TEXT).await;
    assert_eq!((outcome.outcome, played(&outcome).0), (Verdict::Machine, Played::ToTheEnd), "{outcome:?}");
    // Who says nothing is no machine.
    let outcome = desk.call(&lab, "person", "100", TEXT).await;
    assert_eq!((outcome.outcome, played(&outcome).0), (Verdict::Answered, Played::ToTheEnd), "{outcome:?}");
    desk.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_call_that_is_too_long_is_ended_by_asterisk() {
    let lab = Lab::start(Version::V22);
    let desk = Desk::at(&lab, |tts| tts.longest_seconds = 5).await;
    let outcome = desk.call(&lab, "long", "100", LONG_TEXT).await;
    assert_eq!((outcome.outcome, outcome.ended_by), (Verdict::Answered, Some(EndedBy::Us)), "{outcome:?}");
    assert_eq!(played(&outcome).0, Played::InPart);
    assert!(
        outcome.detail.as_deref().is_some_and(|detail| detail.contains("longest_seconds")),
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn real_faults_of_the_settings_are_told_with_the_remedy() {
    let lab = Lab::start(Version::V22);
    // A context that there is not: Asterisk refuses at once, and nobody was called.
    let desk = Desk::at(&lab, |tts| tts.context = "nowhere".into()).await;
    let error = desk.try_call(&lab, "context", "100", TEXT).await.unwrap_err();
    assert!(matches!(&error, CallError::NotPlaced { is_transient: false, .. }), "{error}");
    // A context that does not report.
    let desk = Desk::at(&lab, |tts| tts.context = "lab-silent".into()).await;
    let outcome = desk.call(&lab, "silent", "100", TEXT).await;
    assert_eq!(
        (outcome.outcome, played(&outcome).0),
        (Verdict::Answered, Played::NotReported),
        "{outcome:?}"
    );
    assert!(
        outcome.detail.as_deref().is_some_and(|detail| detail.contains("tts_calls.context")),
        "{outcome:?}"
    );
    // A trunk that there is not.
    for (by, verdict) in [("ami", Verdict::Failed), ("ari", Verdict::Failed)] {
        let desk = Desk::at(&lab, |tts| {
            (tts.channel, tts.by) = ("PJSIP/{e164}@nowhere".into(), by.into());
        })
        .await;
        let outcome = desk.call(&lab, "trunk", "100", TEXT).await;
        assert_eq!(outcome.outcome, verdict, "{by}: {outcome:?}");
        desk.assert_nothing_left().await;
    }
    // A spool that Asterisk does not read: the file is taken back.
    let spool = tempfile::tempdir().unwrap();
    let outgoing = spool.path().join("outgoing");
    std::fs::create_dir(&outgoing).unwrap();
    let desk = Desk::at(&lab, |tts| (tts.by, tts.spool) = ("file".into(), outgoing.clone())).await;
    let error = desk.try_call(&lab, "spool", "100", TEXT).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("tts_calls.spool"), "{error}");
    assert_eq!(std::fs::read_dir(&outgoing).unwrap().count(), 0, "nobody is called later on");
    // Audio that Asterisk cannot read.
    let desk = Desk::at(&lab, |_| {}).await;
    let removes = async {
        desk.noted("unreadable-1 Answered").await;
        std::fs::remove_file(desk.folder.path().join("audio/unreadable-1.wav")).unwrap();
    };
    let (outcome, ()) = tokio::join!(desk.call(&lab, "unreadable", "100", TEXT), removes);
    assert_eq!((outcome.outcome, played(&outcome).0), (Verdict::Failed, Played::Unplayable), "{outcome:?}");
    desk.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_numbers_that_must_not_be_called_are_not() {
    let lab = Lab::start(Version::V22);
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), "100\n").unwrap();
    let desk = Desk::at(&lab, |tts| tts.do_not_call = Some(list.path().to_owned())).await;
    let error = desk.try_call(&lab, "listed", "100", TEXT).await.unwrap_err();
    assert!(matches!(error, CallError::DoNotCall { .. }), "{error}");
    assert!(desk.caller.check("default", "112").is_err() && desk.caller.check("default", "101").is_ok());
    let desk = Desk::at(&lab, |tts| tts.days = not_today().into()).await;
    let error = desk.try_call(&lab, "early", "101", TEXT).await.unwrap_err();
    assert!(matches!(error, CallError::Hours { next } if next > sidetone::clock::timestamp()), "{error}");
    assert_eq!(desk.notes.all(), Vec::<String>::new());
    desk.assert_nothing_left().await;
}

/// Neither today nor tomorrow, in UTC.
fn not_today() -> &'static str {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let today = sidetone::clock::timestamp().to_zoned(jiff::tz::TimeZone::UTC).weekday();
    DAYS[(today.to_monday_zero_offset() as usize + 3) % 7]
}
