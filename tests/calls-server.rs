//! The whole server beside an Asterisk that misbehaves on demand: nobody is held, nothing is forgotten.

#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

#[path = "support/fake_ari.rs"]
mod fake_ari;
#[path = "support/mod.rs"]
mod support;

use std::time::Duration;

use fake_ari::{FakeAri, Fault};
use sidetone::asterisk::ari::{AriClient, AriConfig, BridgeKind};
use sidetone::calls::directory::CallDirectory;
use sidetone::calls::record::{CallMode, CallRecord, CallState, FileStatus};
use support::server::Sidetone;
use tokio::time::{Instant, sleep};

const APP: &str = "sidetone";

async fn server(ari: &FakeAri) -> Sidetone {
    let mut server = Sidetone::spawn(&ari.url, "change-me", &[("speech.model", "off")]);
    server.until_ready().await;
    server
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn went_on(ari: &FakeAri, channel: &str) -> bool {
    ari.requests().contains(&format!("POST /channels/{channel}/continue"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_heard_while_asterisk_cannot_be_listed() {
    let ari = FakeAri::start().await;
    for _ in 0..1_000 {
        ari.fault("GET /channels", Fault::Refuse(503, "busy"));
    }
    let mut server = Sidetone::spawn(&ari.url, "change-me", &[("speech.model", "off")]);
    until("it lists", || ari.requests().iter().filter(|r| *r == "GET /channels").count() > 1).await;
    // In nobody's hands: the server does not get as far as its start.
    assert!(ari.call(APP, "late", &["tap"]));
    assert!(server.stop().await.success(), "{}", server.log());
    assert!(went_on(&ari, "late"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_with_wrong_arguments_goes_on_and_is_told_of() {
    let ari = FakeAri::start().await;
    let server = server(&ari).await;
    for (channel, tenant) in [("c1", "tenant=_x"), ("c2", "tenant=../x")] {
        assert!(ari.call(APP, channel, &["tap", tenant]));
        until("it goes on", || went_on(&ari, channel)).await;
    }
    let calls = server.ended_calls(2, Duration::from_secs(10)).await;
    assert!(calls.iter().all(|c| c["outcome"] == "rejected"), "{calls:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_being_wired_goes_on_when_the_process_stops() {
    let ari = FakeAri::start().await;
    let mut server = server(&ari).await;
    // Its legs' start is never told in time.
    ari.stasis_start_after(Some(Duration::from_secs(30)));
    assert!(ari.call(APP, "c1", &["tap"]));
    until("it is being wired", || ari.requests().iter().any(|r| r.contains("/snoop/"))).await;
    assert!(server.stop().await.success(), "{}", server.log());
    assert!(went_on(&ari, "c1"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_left_only_its_call_record_is_ended_at_the_next_start() {
    let ari = FakeAri::start().await;
    let mut server = server(&ari).await;
    server.kill();
    {
        let directory = CallDirectory::open(server.data(), 10).expect("a directory");
        let id = "018f0000000070008000000000000001";
        let mut record = CallRecord::new(id, "default", CallMode::Tap, jiff::Timestamp::now());
        record.state = CallState::Live;
        record.recording.status = FileStatus::Open;
        directory.insert(record).expect("a good name");
        directory.flush();
    }
    server.respawn();
    server.until_ready().await;
    let calls = server.ended_calls(1, Duration::from_secs(10)).await;
    assert_eq!(calls[0]["outcome"], "partial");
    assert_eq!(calls[0]["recording"]["status"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_that_asterisk_will_not_remove_is_tried_until_it_is_gone() {
    const ORPHAN: &str = "sidetone-node1-gone-bridge-in";
    let ari = FakeAri::start().await;
    let asterisk = AriClient::new(AriConfig {
        url: ari.url.clone(),
        user: "sidetone".to_owned(),
        password: "change-me".to_owned(),
        app: APP.to_owned(),
        request_timeout: Duration::from_secs(5),
        media_address: None,
    });
    let made = asterisk.unwrap().create_bridge(ORPHAN, ORPHAN, BridgeKind::Mixing).await;
    made.expect("a bridge that an earlier process left");
    for _ in 0..2 {
        ari.fault("DELETE /bridges", Fault::Refuse(503, "busy"));
    }
    let server = server(&ari).await;
    until("it is removed", || ari.ids().is_empty()).await;
    let tries = ari.requests().iter().filter(|r| r.starts_with("DELETE /bridges")).count();
    assert_eq!(tries, 3, "{}", server.log());
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.metric("sidetone_orphans_removed_total").await != 1.0 {
        assert!(Instant::now() < deadline, "{}", server.log());
        sleep(Duration::from_millis(20)).await;
    }
}
