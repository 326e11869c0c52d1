//! Calls that go well: nothing lost, everything in its place, nothing left behind.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::audio::{apart, follow};
use crate::support::callers::{Call, SipCall};
use crate::support::lab::{FRAME, Lab, Version};
use crate::support::server::{Recorded, Sidetone};
use crate::wire::{Sent, Wire, assert_samples_as_sent, ssrc};

const CALLER_SAYS: [&str; 3] = ["agent-pass", "0.4", "vm-goodbye"];
const CALLEE_SAYS: [&str; 2] = ["0.2", "auth-incorrect"];

/// Everything that holds for every call that went well.
fn assert_whole(call: &Value, recorded: &Recorded) {
    let id = &call["call_id"];
    assert_eq!(call["outcome"], "completed", "{call:#}");
    assert_eq!(recorded.legs[0].len(), recorded.legs[1].len());
    for leg in recorded.report["legs"].as_array().expect("legs") {
        assert_eq!(leg["packets_lost"], 0, "{id}: {leg:#}");
        assert_eq!(leg["segments"].as_array().map(Vec::len), Some(1), "{id}: {leg:#}");
        // The first timestamp that chan_rtp gives to what a snoop brings: the very first packet was heard.
        assert_eq!(leg["segments"][0]["first_rtp_timestamp"], 160, "{id}: {leg:#}");
        // Short of time, Asterisk lets its timestamps jump: nothing is lost then, the sender was silent.
        let gaps = leg["gaps"].as_array().expect("gaps");
        assert!(gaps.iter().all(|gap| gap["kind"] == "silence"), "{id}: {leg:#}");
    }
}

/// Every packet that Asterisk sent was received, and the recording ends where the last of them does.
fn assert_as_sent(call: &Value, recorded: &Recorded, wire: &BTreeMap<u32, Sent>) {
    let id = &call["call_id"];
    for leg in recorded.report["legs"].as_array().expect("legs") {
        let sent = &wire[&ssrc(leg)];
        assert_eq!(leg["packets_received"], sent.datagrams, "{id}: {leg:#}");
        assert_eq!(leg["segments"][0]["first_rtp_timestamp"], sent.first_timestamp, "{id}");
    }
    assert_samples_as_sent(call, recorded, wire, false);
}

/// Frames of the prompts that are in the recording, sample for sample and in order, of how many. Asterisk, short of time,
/// puts silence between its frames or leaves one out: then it did not send the prompt as it is.
fn prompts_found(lab: &Lab, recorded: &Recorded) -> (usize, usize) {
    let (mut found, mut sounding) = (0, 0);
    for (leg, said) in recorded.legs.iter().zip([&CALLER_SAYS[..], &CALLEE_SAYS[..]]) {
        let mut from = 0;
        for prompt in said.iter().filter(|p| !p.starts_with(|c: char| c.is_ascii_digit())) {
            let followed = follow(&leg[from..], &lab.prompt_as_snooped(prompt));
            from += followed.end;
            found += followed.found;
            sounding += followed.sounding;
        }
    }
    (found, sounding)
}

async fn calls_in_waves(lab: &Lab, server: &Sidetone, total: usize, at_once: usize) {
    let wire = Wire::tap(server.rtp().port()).await;
    let before = server.calls().await.len();
    let mut done = 0;
    while done < total {
        let wave = at_once.min(total - done);
        for _ in 0..wave {
            Call::tap().caller(&CALLER_SAYS).callee(&CALLEE_SAYS).place(lab).await;
        }
        done += wave;
        server.ended_calls(before + done, Duration::from_secs(60)).await;
    }
    let calls = server.calls().await;
    assert_eq!(calls.len(), before + total);
    let sent = wire.map(Wire::sent);
    let (mut whole, mut found, mut sounding) = (0, 0, 0);
    for call in &calls[..total] {
        let recorded = server.recorded(call);
        assert_whole(call, &recorded);
        let (in_call, of) = prompts_found(lab, &recorded);
        whole += usize::from(in_call == of);
        found += in_call;
        sounding += of;
        if let Some(sent) = &sent {
            assert_as_sent(call, &recorded, sent);
        }
    }
    println!("{total} calls: {whole} with every frame of every prompt, {found} of {sounding} frames in all");
    assert!(found * 100 >= sounding * 90, "{found} of {sounding} frames of the prompts");
    // Of a few calls Asterisk, short of time, may have altered a frame each: a snoop that had none at its 20 ms sends silence.
    assert!(whole > 0 || total < 100, "no call has its prompts sample for sample");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_hundred_tapped_calls_are_exact_and_leave_nothing() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start(&lab).await;
    // One call first: what is made once for all calls (threads, pooled connections) is there afterwards.
    calls_in_waves(&lab, &server, 1, 1).await;
    let before = server.descriptors().iter().filter(|d| !d.contains("socket:")).count();

    let threads = server.threads();

    calls_in_waves(&lab, &server, 100, 10).await;

    lab.assert_clean().await;
    let after = server.descriptors();
    let files = after.iter().filter(|d| !d.contains("socket:")).count();
    assert!(files <= before, "{before} open files became {files}: {after:?}");
    let deadline = Instant::now() + Duration::from_secs(15);
    // Connections to Asterisk are kept for a moment after their last request, and there may have been one a call.
    let sockets = || server.descriptors().iter().filter(|d| d.contains("socket:")).count();
    while sockets() >= 60 {
        assert!(Instant::now() < deadline, "descriptors: {:?}", server.descriptors());
        sleep(Duration::from_millis(100)).await;
    }
    while server.threads() > threads {
        assert!(Instant::now() < deadline, "{threads} threads became {}", server.threads());
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.metric("sidetone_calls_active").await, 0.0);
    assert_eq!(server.metric("sidetone_rtp_packets_lost_total").await, 0.0);
    assert_eq!(server.metric("sidetone_rtp_packets_unroutable_total").await, 0.0);
    assert_eq!(server.metric("sidetone_rtp_kernel_drops_total").await, 0.0);
    let parts = std::fs::read_dir(server.data().join("sessions")).expect("sessions").count();
    assert_eq!(parts, 0, "session records are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_calls_on_asterisk_16_are_exact() {
    let lab = Lab::start(Version::V16);
    let server = Sidetone::start(&lab).await;
    calls_in_waves(&lab, &server, 5, 5).await;
    lab.assert_clean().await;
}

/// chan_rtp asks for no RTCP. A channel of chan_pjsip reports every five seconds: this call lasts twelve.
async fn no_reports_either_way(version: Version) {
    let lab = Lab::start(version);
    let server = Sidetone::start(&lab).await;
    let above = Wire::tap(server.rtp().port() + 1).await;
    Call::tap().caller(&["agent-pass", "10"]).callee(&CALLEE_SAYS).place(&lab).await;
    let calls = server.ended_calls(1, Duration::from_secs(60)).await;
    assert!(calls[0]["duration_s"].as_f64().is_some_and(|seconds| seconds > 10.0), "{:#}", calls[0]);
    for metric in ["received_total", "sent_total"] {
        assert_eq!(server.metric(&format!("sidetone_rtcp_packets_{metric}")).await, 0.0, "{metric}");
    }
    assert!(above.is_none_or(|wire| wire.sent().is_empty()), "something came to the RTCP port");
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_external_media_of_asterisk_22_speaks_no_rtcp_and_is_sent_none() {
    no_reports_either_way(Version::V22).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_external_media_of_asterisk_16_speaks_no_rtcp_and_is_sent_none() {
    no_reports_either_way(Version::V16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_both_legs_lie_on_one_clock() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start(&lab).await;
    // An echo: what the caller says is what it hears, an instant later.
    Call::echo_tapped().caller(&["1", "agent-pass", "0.5"]).place(&lab).await;
    let calls = server.ended_calls(1, Duration::from_secs(30)).await;
    let recorded = server.recorded(&calls[0]);
    let apart = apart(&recorded.legs[0], &recorded.legs[1], &lab.prompt_as_snooped("agent-pass"));
    assert!(apart.abs() <= FRAME as i64, "the echo lies {apart} samples from the voice");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_sip_phones_are_recorded_as_they_speak() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start(&lab).await;
    let prompt = lab.prompt_samples("agent-pass");
    let phones = SipCall::to("tap").says(&prompt).callee(&["0.3", "hello-world", "20"]).times(3).place(&lab);
    phones.ended(Duration::from_secs(60)).await;
    for call in server.ended_calls(3, Duration::from_secs(30)).await {
        assert!(call["channel"]["name"].as_str().is_some_and(|name| name.starts_with("PJSIP/")), "{call:#}");
        let recorded = server.recorded(&call);
        assert_whole(&call, &recorded);
        for (leg, prompt) in recorded.legs.iter().zip(["agent-pass", "hello-world"]) {
            let followed = follow(leg, &lab.prompt_as_snooped(prompt));
            assert!(followed.found * 100 >= followed.sounding * 90, "{prompt}: {followed:?}");
        }
    }
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_answered_call_is_heard_until_the_caller_hangs_up() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start(&lab).await;
    Call::answer().caller(&["0.5", "vm-goodbye"]).place(&lab).await;
    let calls = server.ended_calls(1, Duration::from_secs(30)).await;
    assert_eq!(calls[0]["mode"], "answer");
    assert_eq!(calls[0]["outcome"], "completed");
    let recorded = server.recorded(&calls[0]);
    let followed = follow(&recorded.legs[0], &lab.prompt_as_snooped("vm-goodbye"));
    assert!(followed.found * 100 >= followed.sounding * 95, "{followed:?}");
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_call_is_transcribed_while_it_runs() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start(&lab).await;
    Call::tap().caller(&CALLER_SAYS).callee(&CALLEE_SAYS).place(&lab).await;
    let calls = server.ended_calls(1, Duration::from_secs(30)).await;
    let events = server.events(&calls[0]);
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], index as u64 + 1, "numbers without holes: {event}");
    }
    assert_eq!(events.first().map(|e| &e["type"]), Some(&Value::from("call.started")));
    assert_eq!(events.last().map(|e| &e["type"]), Some(&Value::from("call.ended")));
    let said = |leg: &str| -> String {
        let mine = events.iter().filter(|e| e["type"] == "transcript.final" && e["leg"] == leg);
        mine.filter_map(|e| e["text"].as_str()).collect::<Vec<_>>().join(" ")
    };
    assert!(said("caller").contains("goodbye"), "caller: {:?}", said("caller"));
    assert!(said("callee").contains("incorrect"), "callee: {:?}", said("callee"));
    let transcript = server
        .text(&format!("/api/calls/{}/transcript?format=vtt", calls[0]["call_id"].as_str().unwrap()))
        .await;
    assert!(transcript.starts_with("WEBVTT") && transcript.contains("goodbye"), "{transcript}");
}
