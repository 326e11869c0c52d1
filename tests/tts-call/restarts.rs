//! Calls whose connection is cut, and calls that outlive the process that placed them.

use std::time::Duration;

use sidetone::jobs::call::{CallId, EndedBy, Played, Verdict};
use tokio::time::sleep;

use crate::desk::{Desk, LONG_TEXT, PATIENCE, TEXT, party_hangs_up, quiet};
use crate::support::lab::{Lab, Version};
use crate::support::proxy::Proxy;

#[tokio::test(flavor = "multi_thread")]
async fn real_call_goes_on_over_a_cut_of_the_connection() {
    let lab = Lab::start(Version::V22);
    let proxy = Proxy::to(&lab.ami_addr().to_string()).await;
    let address = proxy.url().replace("http://", "");
    let desk = Desk::through(&lab, &address, Duration::from_millis(20), |_| {}).await;
    let cuts = async {
        desk.noted("cut-1 Speaking").await;
        proxy.cut().await;
    };
    let (outcome, ()) = tokio::join!(desk.call(&lab, "cut", "100", TEXT), cuts);
    assert_eq!((outcome.outcome, outcome.ended_by), (Verdict::Answered, Some(EndedBy::Us)), "{outcome:?}");
    assert_eq!(outcome.playback.unwrap().played, Played::ToTheEnd);
    desk.assert_nothing_left().await;
}

/// The outcome comes about while there is no connection, and is asked for afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn real_call_that_ends_during_a_cut_is_told_of_by_the_database() {
    let lab = Lab::start(Version::V22);
    let proxy = Proxy::to(&lab.ami_addr().to_string()).await;
    let address = proxy.url().replace("http://", "");
    // Longer than the call.
    let desk = Desk::through(&lab, &address, Duration::from_secs(6), |_| {}).await;
    let cuts = async {
        desk.noted("away-1 Speaking").await;
        proxy.cut().await;
        sleep(Duration::from_secs(1)).await;
        party_hangs_up(&lab, "away").await;
    };
    let (outcome, ()) = tokio::join!(desk.call(&lab, "away", "100", LONG_TEXT), cuts);
    assert_eq!((outcome.outcome, outcome.ended_by), (Verdict::Answered, Some(EndedBy::Party)), "{outcome:?}");
    let playback = outcome.playback.unwrap();
    assert!(playback.played == Played::InPart && (0.8..2.5).contains(&playback.seconds), "{playback:?}");
    desk.assert_nothing_left().await;
}

/// The process that placed the call is gone; the next one follows it.
#[tokio::test(flavor = "multi_thread")]
async fn real_call_of_before_a_restart_is_followed() {
    let lab = Lab::start(Version::V22);
    for by in ["ami", "ari", "file"] {
        let desk = Desk::at(&lab, |tts| tts.by = by.into()).await;
        let answered = format!("{by}-1 Answered");
        tokio::select! {
            outcome = desk.call(&lab, by, "100", TEXT) => panic!("{outcome:?}"),
            () = desk.noted(&answered) => {}
        }
        let desk = desk.reborn(&lab, |tts| tts.by = by.into());
        let outcome = desk.resume(by).await;
        assert_eq!(
            (outcome.outcome, outcome.ended_by),
            (Verdict::Answered, Some(EndedBy::Us)),
            "{by}: {outcome:?}"
        );
        assert_eq!(outcome.playback.unwrap().played, Played::ToTheEnd, "{by}");
        assert!(outcome.answered_at < outcome.ended_at, "{by}: {outcome:?}");
        assert_eq!(desk.notes.all().last().unwrap(), &format!("concluded {by}-1 answered"));
        desk.assert_nothing_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_call_that_ended_meanwhile_is_told_of_after_a_restart() {
    let lab = Lab::start(Version::V22);
    let desk = Desk::at(&lab, |_| {}).await;
    tokio::select! {
        outcome = desk.call(&lab, "answered", "100", TEXT) => panic!("{outcome:?}"),
        () = desk.noted("answered-1 Answered") => {}
    }
    quiet(&lab).await;
    let desk = desk.reborn(&lab, |_| {});
    let outcome = desk.resume("answered").await;
    assert_eq!((outcome.outcome, outcome.ended_by), (Verdict::Answered, Some(EndedBy::Us)), "{outcome:?}");
    assert_eq!(outcome.playback.unwrap().played, Played::ToTheEnd);
    desk.assert_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_call_that_nobody_answered_meanwhile_is_told_of_after_a_restart() {
    let lab = Lab::start(Version::V22);
    let desk = Desk::at(&lab, |tts| tts.ring_seconds = 1).await;
    tokio::select! {
        outcome = desk.call(&lab, "rang", "103", TEXT) => panic!("{outcome:?}"),
        () = desk.noted("rang-1 Ringing") => {}
    }
    quiet(&lab).await;
    let desk = desk.reborn(&lab, |_| {});
    let outcome = desk.resume("rang").await;
    assert_eq!(outcome.outcome, Verdict::NoAnswer, "{outcome:?}");
    desk.assert_nothing_left().await;
}

/// Calling twice is worse than not calling: what cannot be told is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn real_call_that_nothing_is_known_of_is_unknown_and_not_placed_again() {
    let mut lab = Lab::start(Version::V22);
    let desk = Desk::at(&lab, |_| {}).await;
    let outcome = desk.resume("never").await;
    assert_eq!(outcome.outcome, Verdict::Unknown, "{outcome:?}");
    assert!(outcome.detail.as_deref().is_some_and(|detail| detail.contains("neither")), "{outcome:?}");
    assert_eq!(desk.notes.all(), ["concluded never-1 unknown"]);

    // Asterisk dies in the middle of the call, and knows nothing of it any more.
    let request = desk.request(&lab, "crash", "100", LONG_TEXT);
    let call = desk.caller.call(&request, &desk.notes, &desk.cancel);
    let dies = async {
        desk.noted("crash-1 Speaking").await;
        lab.crash();
        lab.restart();
    };
    let (outcome, ()) = tokio::join!(tokio::time::timeout(PATIENCE, call), dies);
    let outcome = outcome.expect("in time").expect("an outcome");
    assert_eq!(outcome.outcome, Verdict::Unknown, "{outcome:?}");
    assert!(outcome.answered_at.is_some(), "what was seen of it is told: {outcome:?}");
    assert!(lab.everything().await.0.is_empty(), "it is not called again");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_channel_is_made_once_for_an_attempt() {
    let lab = Lab::start(Version::V22);
    let desk = Desk::at(&lab, |_| {}).await;
    let twice = async {
        desk.noted("once-1 Answered").await;
        let again = desk.try_call(&lab, "once", "100", TEXT).await;
        assert!(again.unwrap_err().to_string().contains("under way"));
        let (channels, _) = lab.everything().await;
        assert_eq!(channels.len(), 2, "one call, two halves: {channels:?}");
    };
    let (outcome, ()) = tokio::join!(desk.call(&lab, "once", "100", TEXT), twice);
    assert_eq!(outcome.outcome, Verdict::Answered);
    assert_eq!(CallId::new("once", 1).unwrap().to_string(), "once-1");
}
