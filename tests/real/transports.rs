//! Whole calls over AudioSocket and chan_websocket: as over RTP, but for a hole at a restart.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use crate::audio::follow;
use crate::support::callers::Call;
use crate::support::lab::{Lab, Version};
use crate::support::server::{Recorded, Sidetone, free_tcp};

const SAYS: [&str; 3] = ["agent-pass", "0.4", "vm-goodbye"];

/// Frames of the prompts found in both legs, of how many, as `as_heard` gives a prompt.
fn prompts_found(recorded: &Recorded, as_heard: impl Fn(&str) -> Vec<i16>) -> (usize, usize) {
    let (mut found, mut sounding) = (0, 0);
    for leg in &recorded.legs {
        let mut from = 0;
        for prompt in ["agent-pass", "vm-goodbye"] {
            let followed = follow(&leg[from..], &as_heard(prompt));
            from += followed.end;
            found += followed.found;
            sounding += followed.sounding;
        }
    }
    (found, sounding)
}

async fn tapped_calls(lab: &Lab, server: &Sidetone, as_heard: impl Fn(&str) -> Vec<i16> + Copy) {
    for _ in 0..3 {
        Call::tap().caller(&SAYS).callee(&SAYS).place(lab).await;
    }
    for call in server.ended_calls(3, Duration::from_secs(60)).await {
        assert_eq!(call["outcome"], "completed", "{call:#}");
        let recorded = server.recorded(&call);
        for leg in recorded.report["legs"].as_array().expect("legs") {
            assert_eq!(leg["packets_invalid"], 0, "{leg:#}");
            let (received, segments) = (leg["packets_received"].as_u64(), leg["segments"].as_array());
            assert!(received.is_some_and(|n| n > 100) && segments.is_some_and(|s| !s.is_empty()), "{leg:#}");
        }
        assert_eq!(recorded.legs[0].len(), recorded.legs[1].len());
        let (found, sounding) = prompts_found(&recorded, as_heard);
        println!("{found} of {sounding} frames of the prompts");
        assert!(found * 100 >= sounding * 90, "{found} of {sounding} frames of the prompts");
    }
    lab.assert_clean().await;
    assert_eq!(server.metric("sidetone_stream_connections_refused_total").await, 0.0);
    assert!(server.metric("sidetone_stream_frames_sent_total").await > 100.0, "we never stop sending");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_calls_over_audiosocket_are_recorded_sample_for_sample() {
    let lab = Lab::start(Version::V22);
    let bind = free_tcp().to_string();
    let settings =
        [("media.transport", "audiosocket"), ("audiosocket.bind", bind.as_str()), ("speech.model", "off")];
    let server = Sidetone::start_with(&lab, &settings).await;
    tapped_calls(&lab, &server, |prompt| lab.prompt_samples(prompt)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_calls_over_websockets_that_we_open_are_recorded_sample_for_sample() {
    let lab = Lab::start(Version::V22);
    let settings = [("media.transport", "websocket"), ("speech.model", "off")];
    let server = Sidetone::start_with(&lab, &settings).await;
    tapped_calls(&lab, &server, |prompt| lab.prompt_as_snooped(prompt)).await;
}

/// Settings of a server whose media WebSockets Asterisk opens, and Asterisk told of it.
pub fn websockets_of_asterisk(lab: &Lab) -> Vec<(&'static str, String)> {
    let bind = free_tcp();
    let client = format!(
        "[sidetone]\ntype = websocket_client\nconnection_type = per_call_config\nuri = ws://{bind}/\n\
         protocols = media\nusername = asterisk\npassword = of-the-media\ntls_enabled = no\n"
    );
    std::fs::write(lab.folder().join("etc/websocket_client.conf"), client).expect("Asterisk's configuration");
    lab.cli("module reload res_websocket_client.so");
    let settings = [
        ("media.transport", "websocket"),
        ("websocket.direction", "outgoing"),
        ("websocket.format", "slin"),
        ("websocket.user", "asterisk"),
        ("websocket.password", "of-the-media"),
        ("speech.model", "off"),
    ];
    let settings = settings.into_iter().map(|(key, value)| (key, value.to_owned()));
    settings.chain([("websocket.bind", bind.to_string())]).collect()
}

pub async fn start_with(lab: &Lab, settings: &[(&str, String)]) -> Sidetone {
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    Sidetone::start_with(lab, &settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn real_calls_over_websockets_that_asterisk_opens_are_recorded_sample_for_sample() {
    let lab = Lab::start(Version::V22);
    let server = start_with(&lab, &websockets_of_asterisk(&lab)).await;
    tapped_calls(&lab, &server, |prompt| lab.prompt_samples(prompt)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_asterisk_16_is_refused_for_transports_that_it_does_not_have() {
    let lab = Lab::start(Version::V16);
    for transport in ["audiosocket", "websocket"] {
        let bind = free_tcp().to_string();
        let settings = [("media.transport", transport), ("audiosocket.bind", &bind), ("speech.model", "off")];
        let mut server = Sidetone::spawn(lab.ari_url(), lab.ari_password(), &settings);
        assert_eq!(server.exit().await.code(), Some(64), "{}", server.log());
        let log = server.log();
        assert!(log.contains("this is 16.") && log.contains("media.transport"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_killed_server_makes_its_audiosocket_legs_anew_on_the_same_clock() {
    let lab = Lab::start(Version::V22);
    let bind = free_tcp().to_string();
    let settings = [
        ("media.transport", "audiosocket".to_owned()),
        ("audiosocket.bind", bind),
        ("speech.model", "off".to_owned()),
    ];
    legs_are_made_anew(&lab, &settings).await;
}

/// The server that Asterisk's media WebSockets go to is killed in mid-call: Asterisk ends their channels, and opens new ones to
/// the server that comes after it.
#[tokio::test(flavor = "multi_thread")]
async fn real_killed_websocket_server_makes_its_legs_anew_on_the_same_clock() {
    let lab = Lab::start(Version::V22);
    let settings = websockets_of_asterisk(&lab);
    legs_are_made_anew(&lab, &settings).await;
}

async fn legs_are_made_anew(lab: &Lab, settings: &[(&str, String)]) {
    let mut server = start_with(lab, settings).await;
    let says = ["agent-pass", "agent-pass", "agent-pass", "vm-goodbye"];
    Call::tap().caller(&says).callee(&says).place(lab).await;
    server.call_in_state("live").await;
    sleep(Duration::from_secs(3)).await;
    server.kill();
    sleep(Duration::from_millis(400)).await;
    server.respawn();
    server.until_ready().await;

    let calls = server.ended_calls(1, Duration::from_secs(40)).await;
    assert_eq!(calls[0]["outcome"], "completed", "{:#}", calls[0]);
    let recorded = server.recorded(&calls[0]);
    let seconds = recorded.legs[0].len() as f64 / 8_000.0;
    for (samples, leg) in recorded.legs.iter().zip(recorded.report["legs"].as_array().expect("legs")) {
        let segments = leg["segments"].as_array().expect("segments");
        assert_eq!(segments.len(), 2, "one before and one after: {leg:#}");
        assert_eq!(leg["resumed"], true, "{leg:#}");
        let gaps: u64 =
            leg["gaps"].as_array().into_iter().flatten().filter_map(|g| g["samples"].as_u64()).sum();
        assert!((1_600..5 * 8_000).contains(&gaps), "a hole of {gaps} samples: {leg:#}");
        // What was said last was said, and heard, after the restart.
        let followed = follow(samples, &lab.prompt_samples("vm-goodbye"));
        assert!(followed.found * 100 >= followed.sounding * 90, "{followed:?}");
    }
    let events = server.events(&calls[0]);
    let interrupted = events.iter().filter(|e| e["type"] == "leg.started").count();
    assert!(interrupted >= 4, "both legs were made twice: {events:#?}");
    assert_eq!(events.last().map(|e| &e["type"]), Some(&Value::from("call.ended")));
    println!("{seconds} s recorded");
    lab.assert_clean().await;
}
