//! The whole server beside an Asterisk that misbehaves on demand: nobody is held, nothing is forgotten.

#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

#[path = "support/fake_ari/mod.rs"]
mod fake_ari;
#[path = "support/mod.rs"]
mod support;

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fake_ari::{FakeAri, Fault};
use futures_util::StreamExt;
use serde_json::{Value, json};
use sidetone::asterisk::ari::{AriClient, AriConfig, BridgeKind};
use sidetone::calls::directory::CallDirectory;
use sidetone::calls::record::{CallMode, CallRecord, CallState, FileStatus};
use sidetone::recording::wav;
use support::server::{Sidetone, find};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;

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

async fn until_it_listens(server: &Sidetone) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while tokio::net::TcpStream::connect(server.http()).await.is_err() {
        assert!(Instant::now() < deadline, "{}", server.log());
        sleep(Duration::from_millis(5)).await;
    }
}

/// What an earlier process leaves of a call: its call record, and nothing to go on with.
fn leave_call_record(server: &Sidetone) -> PathBuf {
    let directory = CallDirectory::open(server.data(), 10).expect("a directory");
    let id = "018f0000000070008000000000000001";
    let mut record = CallRecord::new(id, "default", CallMode::Tap, jiff::Timestamp::now());
    record.state = CallState::Live;
    record.recording.status = FileStatus::Open;
    record.report.status = FileStatus::Open;
    let record = directory.insert(record).expect("a good name");
    directory.flush();
    directory.files(&record).expect("its files").recording_part()
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
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
    assert!(calls.iter().all(|c| c["report"]["status"] == "off"), "{calls:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_being_wired_goes_on_when_the_process_stops() {
    let ari = FakeAri::start().await;
    let mut server = server(&ari).await;
    // Its legs' start is never told in time.
    ari.stasis_start_after(Some(Duration::from_secs(30)));
    assert!(ari.call(APP, "c1", &["tap"]));
    until("it is being wired", || ari.requests().iter().any(|r| r.contains("/snoop/"))).await;
    let call = server.call_in_state("setting_up").await;
    assert_eq!([&call["recording"]["status"], &call["report"]["status"]], ["open", "open"], "{call:#}");
    assert!(server.stop().await.success(), "{}", server.log());
    assert!(went_on(&ari, "c1"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_left_only_its_call_record_is_ended_at_the_next_start() {
    let ari = FakeAri::start().await;
    let mut server = server(&ari).await;
    server.kill();
    leave_call_record(&server);
    server.respawn();
    server.until_ready().await;
    let calls = server.ended_calls(1, Duration::from_secs(10)).await;
    assert_eq!(calls[0]["outcome"], "partial");
    assert_eq!(calls[0]["recording"]["status"], "failed");
    assert_eq!(calls[0]["report"]["status"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_session_claims_is_mended_while_asterisk_is_away() {
    let ari = FakeAri::start().await;
    let mut server = server(&ari).await;
    assert!(ari.call(APP, "c1", &["tap"]));
    let claimed = server.call_in_state("live").await;
    server.kill();
    let part = leave_call_record(&server);
    std::fs::write(&part, [&wav::header(8_000, 2, 0)[..], &[7; 4_000]].concat()).expect("its recording");
    server.set("ari.url", "http://127.0.0.1:9");
    server.respawn();
    until_it_listens(&server).await;
    let calls = server.ended_calls(1, Duration::from_secs(10)).await;
    let mended = calls.iter().find(|call| call["state"] == "ended").expect("the mended call");
    assert_eq!(mended["recording"]["status"], "ready", "{mended:#}");
    assert!(!part.exists() && part.with_extension("").exists());
    let waits = calls.iter().find(|call| call["call_id"] == claimed["call_id"]).expect("the claimed call");
    assert_eq!(waits["state"], "live", "it may live in Asterisk");
    assert!(find(&server.data(), &format!("{}.wav.part", waits["call_id"].as_str().unwrap())).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_before_is_not_over_until_it_is_known_to_be() {
    let ari = FakeAri::start().await;
    let mut server = server(&ari).await;
    assert!(ari.call(APP, "c1", &["tap"]));
    let call = server.call_in_state("live").await;
    let id = call["call_id"].as_str().expect("its id");
    server.kill();
    // Asterisk answers, and takes some seconds to list what it has.
    (0..6).for_each(|_| ari.fault("GET /bridges", Fault::Refuse(503, "busy")));
    server.respawn();
    until_it_listens(&server).await;
    let hangup = format!("/api/calls/{id}/hangup");
    assert_eq!(server.post(&hangup).await, 503);
    let url = format!("ws://{}/ws/calls/{id}/events?after=0", server.http());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a subscription");
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.post(&hangup).await != 204 {
        assert!(Instant::now() < deadline, "{}", server.log());
        sleep(Duration::from_millis(50)).await;
    }
    let mut last = Value::Null;
    let closed = loop {
        match tokio::time::timeout_at(deadline, socket.next()).await.expect("in time") {
            Some(Ok(Message::Text(text))) => last = serde_json::from_str(&text).expect("JSON"),
            Some(Ok(Message::Close(frame))) => break frame.map(|frame| u16::from(frame.code)),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((&last["type"], closed), (&json!("call.ended"), Some(1_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_can_read_nothing_of_a_call() {
    let ari = FakeAri::start().await;
    let mut server = Sidetone::spawn(&ari.url, "change-me", &[]);
    server.until_ready().await;
    assert!(ari.call(APP, "c1", &["tap"]));
    server.call_in_state("live").await;
    let strange = |folder: &str, count: usize| {
        let found = files(&server.data().join(folder));
        assert!(found.len() >= count, "{found:?}");
        for path in found {
            let mode = std::fs::metadata(&path).expect("its mode").permissions().mode();
            assert_eq!(mode & 0o007, 0, "{}", path.display());
        }
    };
    strange("sessions", 1);
    ari.far_end_hangs_up("c1");
    server.ended_calls(1, Duration::from_secs(10)).await;
    // Recording, report, transcript, subtitles, events, record.
    strange("recordings", 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_cannot_be_written_is_told_in_the_call_record() {
    let ari = FakeAri::start().await;
    let server = server(&ari).await;
    assert!(ari.call(APP, "c1", &["tap"]));
    let call = server.call_in_state("live").await;
    let part = format!("{}.wav.part", call["call_id"].as_str().expect("its id"));
    let part = find(&server.data(), &part).expect("its recording");
    std::fs::create_dir(part.with_extension("").with_extension("json.tmp")).expect("something in the way");
    ari.far_end_hangs_up("c1");
    let calls = server.ended_calls(1, Duration::from_secs(10)).await;
    assert_eq!(calls[0]["report"]["status"], "failed");
    assert!(calls[0]["error"].as_str().is_some_and(|e| e.contains("report")), "{:#}", calls[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_moves_is_listed_with_its_new_channel() {
    let ari = FakeAri::start().await;
    let server = server(&ari).await;
    assert!(ari.call(APP, "c1", &["tap"]));
    server.call_in_state("live").await;
    let channel =
        json!({"id": "c2", "name": "PJSIP/c2", "state": "Up", "caller": {"name": "", "number": "200"}});
    let moved =
        json!({"type": "StasisStart", "args": [], "channel": channel, "replace_channel": {"id": "c1"}});
    ari.emit(APP, &moved.to_string());
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.calls().await[0]["channel"]["id"] != "c2" {
        assert!(Instant::now() < deadline, "{:#?}", server.calls().await);
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.calls().await[0]["channel"]["caller"]["number"], "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_tells_of_a_disk_without_room() {
    let ari = FakeAri::start().await;
    let settings = [("speech.model", "off"), ("recording.min_free_mib", "1000000000000")];
    let server = Sidetone::spawn(&ari.url, "change-me", &settings);
    until_it_listens(&server).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let ready = server.get("/ready").await;
        let disk = &ready["dependencies"]["disk"];
        if disk["message"].as_str().is_some_and(|m| m.contains("recording.min_free_mib")) {
            assert_eq!((&disk["state"], &ready["status"]), (&json!("failed"), &json!("failed")));
            break;
        }
        assert!(Instant::now() < deadline, "{ready:#}");
        sleep(Duration::from_millis(20)).await;
    }
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
