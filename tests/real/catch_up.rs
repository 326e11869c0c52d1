//! Transcripts that come after their calls.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::callers::Call;
use crate::support::lab::{Lab, Version};
use crate::support::server::Sidetone;

const SOON: Duration = Duration::from_secs(60);
const CALLER_SAYS: [&str; 5] = ["agent-pass", "0.6", "vm-goodbye", "0.6", "hello-world"];
const CALLEE_SAYS: [&str; 3] = ["0.2", "auth-incorrect", "20"];

fn finals(events: &[Value]) -> Vec<&Value> {
    events.iter().filter(|event| event["type"] == "transcript.final").collect()
}

fn said(events: &[Value], leg: &str) -> String {
    let mut finals = finals(events);
    finals.retain(|event| event["leg"] == leg);
    finals.sort_by(|a, b| a["start"].as_f64().unwrap().total_cmp(&b["start"].as_f64().unwrap()));
    finals.iter().filter_map(|event| event["text"].as_str()).collect::<Vec<_>>().join(" ")
}

/// The order that is promised, numbers without holes, each utterance once, and the words.
fn assert_whole(events: &[Value]) {
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], index as u64 + 1, "{event}");
    }
    let place = |kind: &str| {
        let places: Vec<_> = (0..events.len()).filter(|&at| events[at]["type"] == kind).collect();
        assert_eq!(places.len(), 1, "{kind}: {events:#?}");
        places[0]
    };
    assert_eq!(events[place("call.ended")]["transcript"], "pending");
    assert_eq!(place("transcript.saved"), events.len() - 1, "the last of all");
    assert_eq!(events[place("transcript.saved")]["complete"], true);
    let first = events.iter().position(|event| event["type"] == "transcript.final").expect("words");
    assert!(place("recording.saved") < place("call.ended") && place("call.ended") < first, "{events:#?}");
    let mut count = HashMap::new();
    for event in finals(events) {
        *count.entry((event["leg"].to_string(), event["utterance"].as_u64())).or_insert(0) += 1;
    }
    assert!(count.values().all(|count| *count == 1), "{count:?}");
    assert_eq!(
        said(events, "caller"),
        "please enter your password followed by the pound key goodbye hello world"
    );
    let callee = said(events, "callee");
    assert!(callee.contains("password incorrect please enter your password"), "{callee}");
}

/// Until the call's record says that its transcript is there.
async fn saved(server: &Sidetone, call: &Value) -> Value {
    let path = format!("/api/calls/{}", call["call_id"].as_str().expect("its id"));
    let deadline = Instant::now() + SOON;
    loop {
        let record = server.get(&path).await;
        if record["transcript"]["status"] == "ready" && server.metric("sidetone_asr_owing_calls").await == 0.0
        {
            return record;
        }
        assert!(Instant::now() < deadline, "{record:#}\n{}", server.log());
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_call_that_nobody_listened_to_is_transcribed_after_its_end() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start_with(&lab, &[("speech.live", "false")]).await;
    Call::tap().caller(&CALLER_SAYS).callee(&CALLEE_SAYS).place(&lab).await;
    let ended = server.ended_calls(1, SOON).await.remove(0);
    assert_eq!(ended["outcome"], "completed", "{ended:#}");
    let record = saved(&server, &ended).await;
    assert!(record.get("error").is_none(), "{record:#}");
    let events = server.events(&ended);
    assert_whole(&events);
    let at = |kind: &str| -> jiff::Timestamp {
        let event = events.iter().find(|event| event["type"] == kind).expect("it is there");
        event["time"].as_str().expect("a time").parse().expect("RFC 3339")
    };
    let hung_up: jiff::Timestamp = record["ended_at"].as_str().expect("a time").parse().expect("RFC 3339");
    println!(
        "call.ended {:.3} s after the hangup, transcript.saved {:.3} s after it, {:.1} s recorded",
        at("call.ended").duration_since(hung_up).as_secs_f64(),
        at("transcript.saved").duration_since(hung_up).as_secs_f64(),
        record["duration_s"].as_f64().expect("seconds"),
    );
    let id = record["call_id"].as_str().expect("its id");
    let transcript = server.get(&format!("/api/calls/{id}/transcript")).await;
    assert_eq!((&transcript["complete"], &transcript["duration"]), (&json!(true), &record["duration_s"]));
    let vtt = server.text(&format!("/api/calls/{id}/transcript.vtt")).await;
    assert!(vtt.contains("<v caller>goodbye"), "{vtt}");
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_kill_while_a_transcript_is_caught_up_loses_and_doubles_nothing() {
    let lab = Lab::start(Version::V22);
    let mut server = Sidetone::start_with(&lab, &[("speech.live", "false"), ("speech.workers", "1")]).await;
    Call::tap().caller(&CALLER_SAYS).callee(&CALLEE_SAYS).place(&lab).await;
    let call = server.call_in_state("live").await;
    let mut kills = Vec::new();
    // Right at the end of the call, and as soon as there is another final.
    for wanted in 0..3 {
        let deadline = Instant::now() + SOON;
        let reached = |events: &[Value]| {
            events.iter().any(|event| event["type"] == "call.ended") && finals(events).len() >= wanted
        };
        while !reached(&server.events(&call)) {
            assert!(Instant::now() < deadline, "{}", server.log());
            sleep(Duration::from_millis(1)).await;
        }
        server.kill();
        let events = server.events(&call);
        let is_saved = events.iter().any(|event| event["type"] == "transcript.saved");
        kills.push((finals(&events).len(), is_saved));
        server.respawn();
    }
    server.until_ready().await;
    println!("killed with so many finals in the journal, the transcript saved or not: {kills:?}");
    assert!(kills.iter().any(|(_, is_saved)| !is_saved), "never killed in time: {kills:?}");
    saved(&server, &call).await;
    assert_whole(&server.events(&call));
    lab.assert_clean().await;
}
