//! The whole server beside an Asterisk that misbehaves on demand: nobody is held, nothing is forgotten.

#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

#[path = "support/fake_ari.rs"]
mod fake_ari;
#[path = "support/mod.rs"]
mod support;

use std::net::UdpSocket;
use std::time::Duration;

use fake_ari::{FakeAri, Fault};
use serde_json::Value;
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

/// Seconds from the call's start until its end.
fn lasted(call: &Value) -> f64 {
    let at = |key: &str| call[key].as_str().expect("a time").parse::<jiff::Timestamp>().expect("RFC 3339");
    at("ended_at").duration_since(at("started_at")).as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_audio_never_comes_has_failed_and_says_what_to_look_at() {
    let ari = FakeAri::start().await;
    let settings = [("speech.model", "off"), ("rtp.stall_ms", "300")];
    let mut server = Sidetone::spawn(&ari.url, "change-me", &settings);
    server.until_ready().await;
    assert!(ari.call(APP, "c1", &["tap"]));
    server.call_in_state("live").await;
    sleep(Duration::from_secs(2)).await;
    ari.far_end_hangs_up("c1");
    let call = server.ended_calls(1, Duration::from_secs(10)).await.remove(0);
    assert_eq!(call["outcome"], "failed", "{call:#}");
    let error = call["error"].as_str().unwrap_or_default();
    assert!(error.contains("rtp.advertise") && error.contains("firewall"), "{error}");
    let types: Vec<_> = server.events(&call).iter().map(|e| e["type"].clone()).collect();
    assert_eq!(types.iter().filter(|t| **t == "leg.stalled").count(), 2, "{types:?}");
    assert!(call["legs"].as_array().expect("legs").iter().all(|leg| leg["mos"].is_null()), "{call:#}");
    assert_eq!(server.metric("sidetone_leg_mos_count").await, 0.0);
    assert!(server.log().contains("WARN"), "{}", server.log());

    let recorded = server.recorded(&call);
    assert!(recorded.report["legs"][0]["mos"].is_null(), "{:#}", recorded.report);
    let off = lasted(&call) - recorded.legs[0].len() as f64 / f64::from(recorded.rate);
    assert!(off.abs() < 0.1, "the recording is as long as its call: {off} s are missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_a_moment_keeps_its_audio_and_is_no_failure() {
    let ari = FakeAri::start().await;
    let server = server(&ari).await;
    let asterisk = UdpSocket::bind("127.0.0.1:0").expect("a port");
    ari.media_comes_from(asterisk.local_addr().expect("its port").port());
    assert!(ari.call(APP, "c1", &["tap"]));
    server.call_in_state("live").await;
    // 100 ms of the loudest µ-law there is.
    for n in 0..5_u8 {
        let mut packet = vec![0x80, 0, 0, n];
        packet.extend((160 * u32::from(n)).to_be_bytes());
        packet.extend([0, 0, 0, 9]);
        packet.extend([0x80; 160]);
        asterisk.send_to(&packet, server.rtp()).expect("sent");
        sleep(Duration::from_millis(20)).await;
    }
    ari.far_end_hangs_up("c1");
    let call = server.ended_calls(1, Duration::from_secs(10)).await.remove(0);
    assert_eq!(call["outcome"], "completed", "{call:#}");
    let recorded = server.recorded(&call);
    let loud = recorded.legs.iter().flatten().filter(|sample| sample.unsigned_abs() > 30_000).count();
    assert_eq!(loud, 800, "{:#}", recorded.report);
}
