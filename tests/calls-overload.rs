//! More calls than can be transcribed: who is told what, which calls are left to their recordings, and which are not taken.

#![cfg(feature = "embedded-model")]
#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

#[path = "support/fake_ari/mod.rs"]
mod fake_ari;
#[path = "support/house.rs"]
mod house;
#[path = "speech-support/slowed.rs"]
mod slowed;
#[path = "speech-support/mod.rs"]
mod speech;
#[path = "support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::time::Duration;

use fake_ari::FakeAri;
use futures_util::StreamExt;
use house::House;
use serde_json::{Value, json};
use sidetone::media::time::SampleRate;
use sidetone::speech::ladder::Rung;
use sidetone::speech::{LegAudio, ModelFile, SpeechConfig};
use slowed::{Brake, Slowed};
use speech::{Collected, LiveLeg, hush, prompt};
use support::callers::Call;
use support::lab::{Lab, Version};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const APP: &str = "sidetone";
const SOON: Duration = Duration::from_secs(60);
/// Of each piece of audio, on one worker: what a dozen speakers say is several times too much.
const SLOW: Duration = Duration::from_millis(700);
const SPEAKERS: usize = 12;

/// An engine of one slow worker, the last rung of whose ladder exists.
async fn slow_house(ari: &FakeAri) -> (House, Brake) {
    let (model, brake) = Slowed::by(SLOW, ModelFile::embedded().unwrap().load().unwrap());
    let config = SpeechConfig { workers: 1, refuse_calls: true, ..SpeechConfig::default() };
    (House::start(&ari.url, "change-me", config, model).await, brake)
}

/// Legs that nothing catches up with, so that they are never left: they say the same words over and over for `seconds`.
fn speakers(house: &House, count: usize, seconds: usize) {
    let engine = house.services.speech.as_ref().unwrap();
    for n in 0..count {
        let words = [prompt("hello-world").pcm, hush(6_000, n as u64 + 1)].concat();
        let pcm = words.iter().copied().cycle().take(8_000 * seconds).collect();
        let leg = LiveLeg::new(pcm, SampleRate::NARROWBAND, 1);
        let audio = LegAudio { call_id: format!("speaker-{n}"), ..leg.audio() };
        drop(engine.listen(audio, Collected::default().sink()));
        std::thread::spawn(move || leg.speak());
    }
}

async fn subscribe(house: &House, path: &str) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
    tokio_tungstenite::connect_async(format!("ws://{}{path}", house.http)).await.unwrap().0
}

async fn next(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> Value {
    loop {
        match timeout(SOON, socket.next()).await.expect("in time") {
            Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The next change of the ladder.
async fn next_rung(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> Value {
    loop {
        let event = next(socket).await;
        if event["type"] == "overload" && event["call_id"] == "" {
            return event;
        }
    }
}

async fn until_rung(house: &House, rung: Rung) {
    let engine = house.services.speech.as_ref().unwrap();
    let deadline = Instant::now() + SOON;
    while engine.rung() != rung {
        assert!(Instant::now() < deadline, "{:?}, not {rung:?}", engine.rung());
        sleep(Duration::from_millis(10)).await;
    }
}

async fn get(house: &House, path: &str) -> (u16, String) {
    let response = reqwest::get(format!("http://{}{path}", house.http)).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn json_of(house: &House, path: &str) -> Value {
    serde_json::from_str(&get(house, path).await.1).unwrap()
}

/// Calls, once `holds` of them.
async fn calls(house: &House, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + SOON;
    loop {
        let calls = json_of(house, "/api/calls?limit=100").await["calls"].as_array().unwrap().clone();
        if holds(&calls) {
            return calls;
        }
        assert!(Instant::now() < deadline, "{calls:#?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_and_ready_are_told_of_each_rung_up_and_down_with_the_lag() {
    let ari = FakeAri::start().await;
    let (house, brake) = slow_house(&ari).await;
    let mut events = subscribe(&house, "/ws/events").await;
    speakers(&house, SPEAKERS, 10);
    let names = ["calm", "longer_step", "partials_off", "finals_late", "live_off", "calls_refused"];
    let mut lags = Vec::new();
    for rung in (1..=5).chain((0..5).rev()) {
        let event = next_rung(&mut events).await;
        let number = event["rung"].as_u64().unwrap() as usize;
        assert_eq!((number, &event["name"]), (rung, &json!(names[rung])), "{event}");
        assert!(event["utilisation"].as_f64().is_some_and(|u| u >= 0.0), "{event}");
        lags.push(event["lag_s"].as_f64().unwrap());
        // It may have gone on by now: what is said belongs together.
        let (status, ready) = get(&house, "/ready").await;
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let speech = &ready["dependencies"]["speech"];
        let stands = speech["rung"].as_u64().unwrap() as usize;
        assert!(stands.abs_diff(rung) <= 1, "{speech} at {rung}");
        let state = if stands >= 3 { "degraded" } else { "ok" };
        assert_eq!(
            (status, &ready["status"], &speech["state"]),
            (200, &json!(state), &json!(state)),
            "{ready}"
        );
        if stands >= 3 {
            assert!(speech["message"].as_str().unwrap().contains(names[stands]), "{speech}");
        }
        if rung == 5 {
            brake.set(Duration::ZERO);
        }
    }
    // Finals are late from the third rung on, and too late on the fourth and fifth; in the end nothing waits.
    assert!(lags[2] > 1.0 && lags[4] > 3.0 && lags[4] > lags[2] && lags[9] < 1.0, "{lags:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_for_which_there_is_no_room_says_so_of_both_legs() {
    let ari = FakeAri::start().await;
    let (house, _) = slow_house(&ari).await;
    speakers(&house, SPEAKERS, 8);
    until_rung(&house, Rung::LiveOff).await;
    assert!(ari.call(APP, "c1", &["tap"]));
    let call = calls(&house, |calls| calls.len() == 1).await.remove(0);
    assert_ne!(call["outcome"], "rejected", "{call:#}");
    let path = format!("/ws/calls/{}/events?after=0", call["call_id"].as_str().unwrap());
    let mut events = subscribe(&house, &path).await;
    let mut legs = Vec::new();
    while legs.len() < 2 {
        let event = next(&mut events).await;
        if event["type"] == "overload" {
            assert_eq!((&event["live"], &event["from"]), (&json!(false), &json!(0.0)), "{event}");
            legs.push(event["leg"].as_str().unwrap().to_owned());
        }
    }
    legs.sort();
    assert_eq!(legs, ["callee", "caller"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_last_rung_new_calls_go_on_in_asterisk_unheard_and_are_counted_and_reported() {
    let ari = FakeAri::start().await;
    let (house, brake) = slow_house(&ari).await;
    speakers(&house, SPEAKERS, 10);
    until_rung(&house, Rung::CallsRefused).await;
    let mut events = subscribe(&house, "/ws/events").await;
    assert!(ari.call(APP, "c1", &["tap"]));
    let call = calls(&house, |calls| calls.iter().any(|call| call["state"] == "ended")).await.remove(0);
    assert_eq!(
        (&call["outcome"], &call["recording"]["status"]),
        (&json!("rejected"), &json!("off")),
        "{call:#}"
    );
    assert!(call["error"].as_str().is_some_and(|error| error.contains("speech.refuse_calls")), "{call:#}");
    let requests = ari.requests();
    assert!(requests.contains(&"POST /channels/c1/continue".to_owned()), "{requests:?}");
    assert!(!requests.iter().any(|request| request.contains("snoop")), "nobody hears it: {requests:?}");
    let told = loop {
        let event = next(&mut events).await;
        if event["call_id"] == call["call_id"] {
            break event;
        }
    };
    assert_eq!(told["type"], "call.rejected");
    assert!(told["reason"].as_str().is_some_and(|reason| reason.contains("speech.refuse_calls")), "{told}");
    let metrics = get(&house, "/metrics").await.1;
    assert!(metrics.contains(r#"sidetone_calls_total{outcome="rejected"} 1"#), "{metrics}");

    brake.set(Duration::ZERO);
    until_rung(&house, Rung::LiveOff).await;
    assert!(ari.call(APP, "c2", &["tap"]));
    calls(&house, |calls| calls.iter().any(|call| call["state"] == "live")).await;
}

const CALLER_SAYS: [&str; 5] = ["agent-pass", "0.6", "vm-goodbye", "0.6", "hello-world"];
const CALLEE_SAYS: [&str; 3] = ["0.2", "auth-incorrect", "20"];

/// The words of a leg's finals in the order in which they were said.
fn said(events: &[Value], leg: &str) -> String {
    let mut finals: Vec<_> =
        events.iter().filter(|event| event["type"] == "transcript.final" && event["leg"] == leg).collect();
    finals.sort_by(|a, b| a["start"].as_f64().unwrap().total_cmp(&b["start"].as_f64().unwrap()));
    finals.iter().filter_map(|event| event["text"].as_str()).collect::<Vec<_>>().join(" ")
}

fn count_of(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["type"] == kind).count()
}

/// Calls at a time for which the slowed engine has no time, and then ones that come when it is clear that it has none.
#[tokio::test(flavor = "multi_thread")]
async fn real_calls_at_once_beyond_what_fits_lose_no_audio_and_have_all_their_words_in_the_end() {
    let lab = Lab::start(Version::V22);
    let (model, brake) =
        Slowed::by(Duration::from_millis(2_500), ModelFile::embedded().unwrap().load().unwrap());
    let config = SpeechConfig { workers: 2, ..SpeechConfig::default() };
    let house = House::start(lab.ari_url(), lab.ari_password(), config, model).await;
    let mut socket = subscribe(&house, "/ws/events").await;
    let place = async || {
        Call::tap().caller(&CALLER_SAYS).callee(&CALLEE_SAYS).place(&lab).await;
    };
    for _ in 0..4 {
        place().await;
    }
    until_rung(&house, Rung::LiveOff).await;
    for _ in 0..2 {
        place().await;
    }
    let ended =
        calls(&house, |calls| calls.iter().filter(|call| call["state"] == "ended").count() == 6).await;
    let live: usize = ended.iter().map(|call| count_of(&house.events(call), "transcript.final")).sum();
    brake.set(Duration::ZERO);
    let ready = |call: &Value| call["transcript"]["status"] == "ready";
    let done = calls(&house, |calls| calls.iter().all(ready)).await;
    until_rung(&house, Rung::Calm).await;

    let mut rungs = Vec::new();
    let mut left: HashMap<String, usize> = HashMap::new();
    while rungs.last() != Some(&0) {
        let event = next(&mut socket).await;
        match (event["type"].as_str(), event["call_id"].as_str()) {
            (Some("overload"), Some("")) => rungs.push(event["rung"].as_u64().unwrap()),
            (Some("overload"), Some(call)) => {
                *left.entry(call.to_owned()).or_default() += usize::from(event["live"] == false);
            }
            _ => {}
        }
    }
    let top = rungs.iter().position(|rung| *rung == 4).expect("the fourth rung");
    assert!(rungs[..=top].is_sorted() && rungs[top..].is_sorted_by(|a, b| a >= b), "{rungs:?}");

    let (mut late, mut all) = (0, 0);
    for call in &done {
        assert_eq!(call["outcome"], "completed", "{call:#}");
        assert!(call.get("error").is_none(), "{call:#}");
        for leg in call["legs"].as_array().unwrap() {
            assert!(leg["packets_lost"] == 0 && leg["packets_received"].as_u64() > Some(100), "{leg}");
        }
        let events = house.events(call);
        let mut finals = HashMap::new();
        for event in events.iter().filter(|event| event["type"] == "transcript.final") {
            *finals.entry((event["leg"].to_string(), event["utterance"].as_u64())).or_insert(0) += 1;
        }
        assert!(finals.values().all(|count| *count == 1), "{finals:?}");
        assert_eq!(events.last().unwrap()["type"], "transcript.saved");
        let over = events.iter().position(|event| event["type"] == "call.ended").unwrap();
        late += count_of(&events[over..], "transcript.final");
        all += finals.len();
        assert_eq!(
            said(&events, "caller"),
            "please enter your password followed by the pound key goodbye hello world",
            "{events:#?}"
        );
        assert!(
            said(&events, "callee").contains("password incorrect please enter your password"),
            "{events:#?}"
        );
    }
    println!("{rungs:?}; {} calls with legs left; of {all} finals {live} live, {late} caught up", left.len());
    assert!(left.len() >= 2 && late > 0, "{left:?} left, {late} of {all} finals after their calls");
    let metrics = get(&house, "/metrics").await.1;
    let overruns = metrics.lines().find_map(|line| line.strip_prefix("sidetone_rtp_ring_overruns_total "));
    assert!(overruns.is_none_or(|count| count == "0"), "no reader was lapped: {overruns:?}");
    lab.assert_clean().await;
}
