//! Calls over restarts, crashes and databases that are away: what ended is listed, and no call notices.

#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

#[path = "support/fake_ari/mod.rs"]
mod fake_ari;
#[path = "support/mod.rs"]
mod support;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use fake_ari::FakeAri;
use serde_json::Value;
use sidetone::store::Store;
use support::server::Sidetone;
use support::services::Postgres;
use tokio::time::{Instant, interval, sleep};

const APP: &str = "sidetone";
/// Longest wait for what happens in a moment on a machine that does nothing else.
const SOON: Duration = Duration::from_secs(60);

/// A leg that sends without end.
struct Speaker {
    port: u16,
    sending: tokio::task::JoinHandle<()>,
}

impl Speaker {
    fn start(to: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("its port").port();
        let sending = tokio::spawn(async move {
            let mut tick = interval(Duration::from_millis(20));
            for number in 0_u32.. {
                tick.tick().await;
                let mut packet = vec![0x80, 0];
                packet.extend((number as u16).to_be_bytes());
                packet.extend((160 * number).to_be_bytes());
                packet.extend([0, 0, 0, 9]);
                packet.extend([0x90; 160]);
                // Nobody may be there to take it.
                let _ = socket.send_to(&packet, to);
            }
        });
        Self { port, sending }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

async fn start(ari: &FakeAri, store: &str) -> (Sidetone, Speaker) {
    let settings = [("speech.model", "off"), ("store.url", store)];
    let mut server = Sidetone::spawn(&ari.url, "change-me", &settings);
    server.until_ready().await;
    let speaker = Speaker::start(server.rtp());
    (server, speaker)
}

/// A call in which the speaker speaks.
fn ring(ari: &FakeAri, speaker: &Speaker, channel: &str) {
    ari.media_comes_from(speaker.port);
    assert!(ari.call(APP, channel, &["tap"]));
}

/// A call of a second; how it is shown when it is over.
async fn a_call(ari: &FakeAri, server: &Sidetone, speaker: &Speaker, channel: &str) -> Value {
    ring(ari, speaker, channel);
    let call = server.call_in_state("live").await;
    sleep(Duration::from_secs(1)).await;
    ari.far_end_hangs_up(channel);
    over(server, call["call_id"].as_str().expect("its id")).await
}

/// The same, while calls that are over cannot be listed.
async fn a_call_without_lists(ari: &FakeAri, server: &Sidetone, speaker: &Speaker, channel: &str) -> Value {
    ring(ari, speaker, channel);
    let deadline = Instant::now() + SOON;
    let call = loop {
        let live = server.get("/api/calls?state=live").await;
        if let Some(call) = live["calls"].as_array().and_then(|calls| calls.first()) {
            break call.clone();
        }
        assert!(Instant::now() < deadline, "{}", server.log());
        sleep(Duration::from_millis(20)).await;
    };
    sleep(Duration::from_secs(1)).await;
    ari.far_end_hangs_up(channel);
    over(server, call["call_id"].as_str().expect("its id")).await
}

async fn over(server: &Sidetone, id: &str) -> Value {
    let deadline = Instant::now() + SOON;
    loop {
        let call = server.get(&format!("/api/calls/{id}")).await;
        if call["state"] == "ended" {
            return call;
        }
        assert!(Instant::now() < deadline, "{call:#}\n{}", server.log());
        sleep(Duration::from_millis(20)).await;
    }
}

async fn until_filed(server: &Sidetone, count: f64) {
    let deadline = Instant::now() + SOON;
    while server.metric("sidetone_calls_filed_total").await < count
        || server.metric("sidetone_calls_to_file").await > 0.0
    {
        assert!(Instant::now() < deadline, "{count} calls are filed:\n{}", server.log());
        sleep(Duration::from_millis(50)).await;
    }
}

/// The ids of all ended calls, once there are `count`.
async fn ended(server: &Sidetone, count: usize) -> Vec<String> {
    let deadline = Instant::now() + SOON;
    loop {
        let page = server.get("/api/calls?state=ended").await;
        let calls = page["calls"].as_array().cloned().unwrap_or_default();
        if calls.len() >= count {
            return calls.iter().map(|call| call["call_id"].as_str().expect("an id").to_owned()).collect();
        }
        assert!(Instant::now() < deadline, "{page:#}\n{}", server.log());
        sleep(Duration::from_millis(50)).await;
    }
}

/// Samples of the leg that speaks, which of the two is up to whose media channel is made first, and of them those that are silent.
fn heard(server: &Sidetone, call: &Value) -> (usize, usize) {
    let legs = server.recorded(call).legs;
    let of = |leg: &Vec<i16>| (leg.len(), leg.iter().filter(|sample| **sample == 0).count());
    legs.iter().map(of).min_by_key(|(_, silent)| *silent).expect("two legs")
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_outlive_a_stop_a_crash_and_their_database() {
    let ari = FakeAri::start().await;
    let (mut server, speaker) = start(&ari, "").await;
    let first = a_call(&ari, &server, &speaker, "c1").await;
    until_filed(&server, 1.0).await;
    assert!(server.stop().await.success(), "{}", server.log());
    server.respawn();
    server.until_ready().await;
    assert_eq!(ended(&server, 1).await, [first["call_id"].as_str().unwrap()]);
    assert_eq!(server.calls().await[0], first, "as it was shown before");

    // Killed in the middle of a call: its end is told by its files, and filed.
    ring(&ari, &speaker, "c2");
    let second = server.call_in_state("live").await;
    sleep(Duration::from_secs(2)).await;
    server.kill();
    ari.far_end_hangs_up("c2");
    server.respawn();
    server.until_ready().await;
    let id = second["call_id"].as_str().expect("its id").to_owned();
    let second = over(&server, &id).await;
    assert_eq!((&second["outcome"], &second["recording"]["status"]), (&"partial".into(), &"ready".into()));
    let (samples, silent) = heard(&server, &second);
    assert!(samples - silent > 4_000, "what was recorded before the crash is there: {samples}, {silent}");
    until_filed(&server, 1.0).await;

    // Killed right after an end, before it can be filed; and the database is lost.
    let third = a_call(&ari, &server, &speaker, "c3").await;
    server.kill();
    for name in ["sidetone.db", "sidetone.db-wal", "sidetone.db-shm"] {
        let _ = std::fs::remove_file(server.data().join(name));
    }
    server.respawn();
    server.until_ready().await;
    let all = ended(&server, 3).await;
    let told = |call: &Value| call["call_id"].as_str().unwrap().to_owned();
    assert_eq!(all, [told(&third), told(&second), told(&first)]);
    until_filed(&server, 3.0).await;
    server.kill();
    let store = Store::open("", &server.data()).await.expect("the database");
    let rows = store.calls();
    for id in &all {
        let events = rows.events("default", id, 0, 1_000).await.expect("an answer");
        assert_eq!(events.last().map(|event| event.kind.as_str()), Some("call.ended"), "{id}: {events:#?}");
        let recording = rows.recording("default", id).await.expect("an answer").expect("one");
        assert_eq!((recording.status.as_str(), recording.gone_at), ("ready", None), "{id}");
    }
    assert_eq!(rows.legs("default", &told(&third)).await.expect("an answer").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_as_ever_while_its_database_is_away() {
    let ari = FakeAri::start().await;
    let mut database = Postgres::start();
    let url = database.url();
    let (mut server, speaker) = start(&ari, &url).await;
    let before = a_call(&ari, &server, &speaker, "c1").await;
    until_filed(&server, 1.0).await;

    // Away in the middle of a call.
    ring(&ari, &speaker, "c2");
    let across = server.call_in_state("live").await;
    database.stop();
    sleep(Duration::from_secs(1)).await;
    let live = server.get("/api/calls?state=live").await;
    assert_eq!(live["calls"][0]["call_id"], across["call_id"], "{live:#}");
    ari.far_end_hangs_up("c2");
    let across = over(&server, across["call_id"].as_str().expect("its id")).await;
    assert_eq!((&across["outcome"], &across["recording"]["status"]), (&"completed".into(), &"ready".into()));
    // And begun while it is away.
    let during = a_call_without_lists(&ari, &server, &speaker, "c3").await;
    for call in [&across, &during] {
        let (samples, silent) = heard(&server, call);
        assert!(
            samples > 6_000 && silent * 4 < samples,
            "{silent} of {samples} samples are silent: {call:#}"
        );
        let lost = call["legs"].as_array().expect("legs").iter().map(|leg| leg["packets_lost"].as_u64());
        assert_eq!(lost.sum::<Option<u64>>(), Some(0), "{call:#}");
    }
    let away = server.get("/api/calls").await;
    assert_eq!(away["type"], "urn:sidetone:problem:database-away", "{away:#}");
    assert!(
        server.metric("sidetone_calls_to_file").await >= 1.0
            || server.metric("sidetone_call_filing_errors_total").await >= 1.0
    );

    database.run();
    until_filed(&server, 3.0).await;
    let told = |call: &Value| call["call_id"].as_str().unwrap().to_owned();
    assert_eq!(ended(&server, 3).await, [told(&during), told(&across), told(&before)]);
    assert!(server.stop().await.success(), "{}", server.log());
    let store = Store::open(&url, &server.data()).await.expect("the database");
    for call in [&before, &across, &during] {
        let events = store.calls().events("default", &told(call), 0, 1_000).await.expect("an answer");
        assert_eq!(events.last().map(|event| event.kind.as_str()), Some("call.ended"), "{events:#?}");
    }
}

/// And its tables are made when it comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_while_its_database_is_away_hears_calls_all_the_same() {
    let ari = FakeAri::start().await;
    let mut database = Postgres::start();
    let url = database.url();
    database.stop();
    let (mut server, speaker) = start(&ari, &url).await;
    let ready = server.get("/ready").await;
    assert_eq!(ready["dependencies"]["database"]["state"], "degraded", "{ready:#}");
    let call = a_call_without_lists(&ari, &server, &speaker, "c1").await;
    let (samples, silent) = heard(&server, &call);
    assert!(samples > 6_000 && silent * 4 < samples, "{silent} of {samples} samples are silent: {call:#}");
    database.run();
    until_filed(&server, 1.0).await;
    assert_eq!(ended(&server, 1).await, [call["call_id"].as_str().expect("its id")]);
    assert!(server.stop().await.success(), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_files_were_moved_keeps_its_words_and_its_report() {
    let ari = FakeAri::start().await;
    let (mut server, speaker) = start(&ari, "").await;
    let call = a_call(&ari, &server, &speaker, "c1").await;
    let id = call["call_id"].as_str().expect("its id").to_owned();
    until_filed(&server, 1.0).await;
    let report = server.get(&format!("/api/calls/{id}/report")).await;
    let events = server.get(&format!("/api/calls/{id}/events")).await;
    assert_eq!(events["events"][0]["type"], "call.started", "{events:#}");
    assert!(call["legs"][0]["packets_expected"].is_u64(), "{call:#}");
    assert!(server.stop().await.success(), "{}", server.log());
    std::fs::rename(server.data().join("recordings"), server.data().join("moved")).expect("it moves");
    server.respawn();
    server.until_ready().await;
    let deadline = Instant::now() + SOON;
    let moved = loop {
        let moved = server.get(&format!("/api/calls/{id}")).await;
        if moved["files_gone_at"].is_string() {
            break moved;
        }
        assert!(Instant::now() < deadline, "{moved:#}\n{}", server.log());
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(moved["recording"], call["recording"]);
    assert_eq!(moved["legs"], call["legs"]);
    assert_eq!(server.calls().await, [moved], "it is listed on");
    assert_eq!(server.get(&format!("/api/calls/{id}/report")).await, report);
    assert_eq!(server.get(&format!("/api/calls/{id}/events")).await, events);
    let recording = server.get(&format!("/api/calls/{id}/recording")).await;
    assert_eq!(recording["type"], "urn:sidetone:problem:no-such-file", "{recording:#}");
    let gone = reqwest::Client::new().delete(format!("http://{}/api/calls/{id}", server.http()));
    assert_eq!(gone.send().await.expect("an answer").status(), 204);
    assert!(server.calls().await.is_empty());
}
