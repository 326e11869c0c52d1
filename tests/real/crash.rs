//! Either side dies, or the line between them: calls go on, and what is missing is marked.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::callers::Call;
use crate::support::lab::{Lab, Version};
use crate::support::proxy::Proxy;
use crate::support::server::{Sidetone, find, free_udp};
use crate::wire::{Wire, assert_samples_as_sent};

/// Everything is heard in both directions for so long before something breaks.
const WARM: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn real_killed_server_takes_its_calls_up_again_in_the_same_recording() {
    let lab = Lab::start(Version::V22);
    let mut server = Sidetone::start(&lab).await;
    let wire = Wire::tap(server.rtp().port()).await;
    for _ in 0..3 {
        let says = ["agent-pass", "agent-pass", "agent-pass", "agent-pass"];
        Call::tap().caller(&says).callee(&says).place(&lab).await;
    }
    server.call_in_state("live").await;
    sleep(WARM).await;

    let killed_at = jiff::Timestamp::now();
    server.kill();
    sleep(Duration::from_millis(400)).await;
    let again = Instant::now();
    server.respawn();
    server.until_ready().await;
    while server.metric("sidetone_calls_active").await < 3.0 {
        assert!(again.elapsed() < Duration::from_secs(10), "not taken up:\n{}", server.log());
        sleep(Duration::from_millis(10)).await;
    }
    let adopted_after = again.elapsed();
    assert!(adopted_after < Duration::from_secs(2), "calls were taken up after {adopted_after:?}");

    let calls = server.ended_calls(3, Duration::from_secs(40)).await;
    assert_eq!(calls.len(), 3);
    let sent = wire.map(Wire::sent);
    for call in &calls {
        let recorded = server.recorded(call);
        for leg in recorded.report["legs"].as_array().expect("legs") {
            let gaps = leg["gaps"].as_array().expect("gaps");
            let lost: Vec<_> = gaps.iter().filter(|gap| gap["kind"] == "lost").collect();
            assert_eq!(lost.len(), 1, "one hole: {leg:#}");
            let (start, length) = (number(lost[0], "start_sample"), number(lost[0], "samples"));
            let began: jiff::Timestamp =
                recorded.report["started_at"].as_str().expect("a time").parse().expect("a time");
            let hole = began + jiff::SignedDuration::from_secs_f64(start as f64 / 8_000.0);
            let missing = killed_at.duration_since(hole).as_secs_f64();
            assert!((-0.1..1.0).contains(&missing), "{missing} s are missing before the kill: {leg:#}");
            assert!(length < 4 * 8_000, "the hole is too long: {leg:#}");
            // Counted before the kill and after it, but for the last 2 s before it; no packet is counted twice.
            assert_eq!(leg["resumed"], true, "{leg:#}");
            let heard = (recorded.legs[0].len() as u64 - length) / 160;
            let counted = number(leg, "packets_received");
            assert!((heard - 110..=heard + 10).contains(&counted), "{counted} of {heard} packets: {leg:#}");
            let segments = leg["segments"].as_array().expect("segments");
            assert_eq!((segments.len(), leg["ssrcs"].as_array().map(Vec::len)), (1, Some(1)), "{leg:#}");
            let first = segments[0]["first_sample"].as_i64().expect("a sample");
            assert!((0..800).contains(&first), "from before the kill: {leg:#}");
            println!(
                "taken up after {adopted_after:?}; {missing:.3} s missing before the kill, a hole of {length} samples"
            );
        }
        // What comes after the hole lies where its timestamps say, in step with what came before it.
        if let Some(sent) = &sent {
            assert_samples_as_sent(call, &recorded, sent, true);
        }
        // The call lasted for four prompts and a tail, hole or not.
        let seconds = recorded.legs[0].len() as f64 / 8_000.0;
        assert!((13.0..16.5).contains(&seconds), "{seconds} s");
        // What was being said when it was killed is caught up.
        let saved = server.until_events(call, "transcript.saved", 1).await;
        assert_eq!(saved[0]["complete"], true, "{:#}", saved[0]);
        let events = server.events(call);
        for (index, event) in events.iter().enumerate() {
            assert_eq!(event["seq"], index as u64 + 1, "numbers go on over the crash: {event}");
        }
        assert_eq!(events.last().map(|e| &e["type"]), Some(&Value::from("transcript.saved")));
    }
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_calls_that_end_while_the_server_is_dead_are_finished_at_its_next_start() {
    let lab = Lab::start(Version::V22);
    let mut server = Sidetone::start(&lab).await;
    let call = Call::tap().caller(&["agent-pass", "agent-pass"]).callee(&["10"]).place(&lab).await;
    server.call_in_state("live").await;
    sleep(Duration::from_secs(4)).await;
    server.kill();
    call.hang_up().await;
    sleep(Duration::from_millis(500)).await;

    server.respawn();
    server.until_ready().await;
    let calls = server.ended_calls(1, Duration::from_secs(10)).await;
    assert_eq!(calls[0]["outcome"], "partial");
    let recorded = server.recorded(&calls[0]);
    assert_eq!(recorded.report["repaired"], true);
    // The last second and the repair window may be gone, no more.
    assert!(recorded.legs[0].len() >= 8_000 / 2, "{} samples", recorded.legs[0].len());
    // Its legs and bridges were orphans.
    lab.assert_clean().await;
    assert!(server.metric("sidetone_orphans_removed_total").await >= 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn real_stopped_server_leaves_its_calls_to_the_next_one() {
    let lab = Lab::start(Version::V22);
    let mut server = Sidetone::start(&lab).await;
    Call::tap().caller(&["agent-pass", "agent-pass", "agent-pass"]).callee(&["12"]).place(&lab).await;
    let live = server.call_in_state("live").await;
    sleep(WARM).await;
    assert!(server.stop().await.success(), "{}", server.log());
    let id = live["call_id"].as_str().expect("its id");
    assert!(
        find(&server.data(), &format!("{id}.wav.part.gaps")).is_some(),
        "left to be resumed, not finished"
    );
    server.respawn();
    server.until_ready().await;
    let calls = server.ended_calls(1, Duration::from_secs(30)).await;
    assert_eq!(calls[0]["outcome"], "completed", "{:#}", calls[0]);
    let recorded = server.recorded(&calls[0]);
    let gaps = recorded.report["legs"][0]["gaps"].as_array().expect("gaps").clone();
    let lost: u64 = gaps.iter().filter(|g| g["kind"] == "lost").map(|g| number(g, "samples")).sum();
    assert!(lost < 3 * 8_000, "an orderly stop loses the time it takes to start: {gaps:?}");
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_paused_recording_stays_paused_over_a_crash() {
    let lab = Lab::start(Version::V22);
    let mut server = Sidetone::start(&lab).await;
    let says = ["agent-pass", "agent-pass"];
    Call::tap().caller(&says).callee(&["10"]).place(&lab).await;
    let live = server.call_in_state("live").await;
    let id = live["call_id"].as_str().expect("its id").to_owned();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(server.post(&format!("/api/calls/{id}/recording/pause")).await, 204);
    sleep(Duration::from_millis(500)).await;
    server.kill();
    server.respawn();
    server.until_ready().await;
    let calls = server.ended_calls(1, Duration::from_secs(30)).await;
    let recorded = server.recorded(&calls[0]);
    let sounding = recorded.legs[0].iter().rposition(|&sample| sample != 0).unwrap_or_default();
    assert!(sounding < 2 * 8_000, "heard until {} s of {}", sounding / 8_000, recorded.legs[0].len() / 8_000);
    assert_eq!(recorded.report["paused"].as_array().map(Vec::len), Some(1), "{:#}", recorded.report);
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_legs_whose_port_is_gone_are_made_anew_on_another() {
    let lab = Lab::start(Version::V22);
    let mut server = Sidetone::start(&lab).await;
    Call::tap().caller(&["agent-pass", "agent-pass", "agent-pass"]).callee(&["12"]).place(&lab).await;
    server.call_in_state("live").await;
    sleep(WARM).await;
    server.kill();
    server.set("rtp.bind", &free_udp().to_string());
    server.respawn();
    server.until_ready().await;
    let calls = server.ended_calls(1, Duration::from_secs(30)).await;
    assert_eq!(calls[0]["outcome"], "completed", "{:#}", calls[0]);
    let recorded = server.recorded(&calls[0]);
    let seconds = recorded.legs[0].len() / 8_000;
    assert!(seconds >= 10, "{seconds} s");
    let heard = recorded.legs[0].iter().rposition(|&sample| sample.unsigned_abs() > 500).unwrap_or_default();
    assert!(heard > 7 * 8_000, "heard until {} s", heard / 8_000);
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_restart_of_asterisk_ends_its_calls_and_new_ones_are_heard() {
    let mut lab = Lab::start(Version::V22);
    let server = Sidetone::start_with(&lab, &[("ari.backoff_max_ms", "500")]).await;
    Call::tap().caller(&["agent-pass", "agent-pass"]).callee(&["20"]).place(&lab).await;
    server.call_in_state("live").await;
    sleep(WARM).await;
    lab.crash();
    lab.restart();
    let calls = server.ended_calls(1, Duration::from_secs(20)).await;
    let recorded = server.recorded(&calls[0]);
    assert!(recorded.legs[0].len() > 2 * 8_000, "what was heard is kept");
    assert!(server.metric("sidetone_ari_reconnects_total").await >= 1.0);

    Call::tap().caller(&["0.3", "vm-goodbye"]).callee(&["3"]).place(&lab).await;
    let calls = server.ended_calls(2, Duration::from_secs(20)).await;
    assert_eq!(calls[0]["outcome"], "completed");
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cut_event_socket_is_opened_again_and_no_call_suffers() {
    let lab = Lab::start(Version::V22);
    let proxy = Proxy::to(lab.ari_url()).await;
    let server = Sidetone::start_through(&lab, &proxy, &[]).await;
    Call::tap().caller(&["agent-pass", "agent-pass"]).callee(&["20"]).place(&lab).await;
    server.call_in_state("live").await;
    sleep(Duration::from_secs(1)).await;
    proxy.cut().await;
    let calls = server.ended_calls(1, Duration::from_secs(30)).await;
    assert_eq!(calls[0]["outcome"], "completed", "{:#}", calls[0]);
    for leg in server.recorded(&calls[0]).report["legs"].as_array().expect("legs") {
        assert_eq!(leg["packets_lost"], 0, "{leg:#}");
    }
    assert!(server.metric("sidetone_ari_reconnects_total").await >= 1.0);
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_half_dead_event_socket_is_found_out() {
    let lab = Lab::start(Version::V22);
    let proxy = Proxy::to(lab.ari_url()).await;
    let settings =
        [("ari.ping_interval_ms", "300"), ("ari.request_timeout_ms", "1000"), ("ari.backoff_max_ms", "500")];
    let server = Sidetone::start_through(&lab, &proxy, &settings).await;
    let call =
        Call::tap().caller(&["agent-pass", "agent-pass"]).callee(&["20"]).nobody_hangs_up().place(&lab).await;
    server.call_in_state("live").await;
    sleep(Duration::from_secs(1)).await;
    // Connections stay open and nothing passes.
    proxy.freeze();
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.get("/ready").await["dependencies"]["asterisk"]["state"] == "ok" {
        assert!(Instant::now() < deadline, "a dead socket passes for a live one");
        sleep(Duration::from_millis(50)).await;
    }
    proxy.thaw();
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.get("/ready").await["dependencies"]["asterisk"]["state"] != "ok" {
        assert!(Instant::now() < deadline, "it does not come back:\n{}", server.log());
        sleep(Duration::from_millis(50)).await;
    }
    call.hang_up().await;
    let calls = server.ended_calls(1, Duration::from_secs(20)).await;
    for leg in server.recorded(&calls[0]).report["legs"].as_array().expect("legs") {
        assert_eq!(leg["packets_lost"], 0, "media never stopped: {leg:#}");
    }
    lab.assert_clean().await;
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} in {value:#}"))
}
