//! Whole calls in each `rtp.format`: the recording is what the wire carried, decoded, at the format's own rate; a tone comes
//! through it as clean as the format allows; what is said is understood.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use sidetone::media::codec::Codec;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::support::callers::Call;
use crate::support::lab::{Lab, Version};
use crate::support::server::{Recorded, Sidetone};
use crate::wire::{Sent, Wire, assert_recorded_as_sent, ssrc};

const CALLER_SAYS: [&str; 3] = ["agent-pass", "0.4", "vm-goodbye"];
const CALLEE_SAYS: [&str; 2] = ["0.2", "auth-incorrect"];
/// Of a tone's file, and of the channel that plays it.
const FILE_RATE: u32 = 48_000;
const TONE_SECONDS: usize = 3;

/// Everything that holds of a call whatever its format: all that was sent was received, and stands in the file as it was sent.
fn assert_exact(codec: Codec, call: &Value, recorded: &Recorded, wire: Option<&BTreeMap<u32, Sent>>) {
    let id = &call["call_id"];
    assert_eq!(call["outcome"], "completed", "{call:#}");
    assert_eq!(recorded.rate, codec.sample_rate().hz(), "{id}");
    assert_eq!(recorded.report["sample_rate"], recorded.rate, "{:#}", recorded.report);
    assert_eq!(recorded.legs[0].len(), recorded.legs[1].len());
    for leg in recorded.report["legs"].as_array().expect("legs") {
        assert_eq!((&leg["packets_lost"], &leg["packets_invalid"]), (&0.into(), &0.into()), "{id}: {leg:#}");
        assert_eq!(leg["segments"].as_array().map(Vec::len), Some(1), "{id}: {leg:#}");
        // Short of time, Asterisk lets its timestamps jump: nothing is lost then, the sender was silent.
        let gaps = leg["gaps"].as_array().expect("gaps");
        assert!(gaps.iter().all(|gap| gap["kind"] == "silence"), "{id}: {leg:#}");
        if let Some(wire) = wire {
            assert_eq!(leg["packets_received"], wire[&ssrc(leg)].datagrams, "{id}: {leg:#}");
        }
    }
    if let Some(wire) = wire {
        assert_recorded_as_sent(codec, call, recorded, wire, false);
    }
}

/// Follow a server's events as a subscriber does, until `calls` have ended.
async fn subscribe(server: &Sidetone, calls: usize) -> JoinHandle<Vec<Value>> {
    let url = format!("ws://{}/ws/events", server.http());
    let (mut socket, _) = connect_async(url).await.expect("a subscription");
    tokio::spawn(async move {
        let (mut events, mut ended) = (Vec::<Value>::new(), 0);
        while ended < calls {
            let message = socket.next().await.expect("a message").expect("no error");
            let Message::Text(text) = message else { continue };
            let event: Value = serde_json::from_str(&text).expect("JSON");
            ended += usize::from(event["type"] == "call.ended");
            events.push(event);
        }
        events
    })
}

/// What a leg said in the end, as a subscriber was told, and that it was when the leg can be heard in the recording.
fn said(events: &[Value], call: &Value, leg: &str, samples: &[i16], rate: u32) -> String {
    let is_mine = |e: &&Value| {
        e["type"] == "transcript.final"
            && e["leg"] == leg
            && e["call_id"] == call["call_id"]
            && e["text"] != ""
    };
    let mine: Vec<_> = events.iter().filter(is_mine).collect();
    let seconds = |key: &str, event: Option<&&Value>| event.and_then(|e| e[key].as_f64()).expect("seconds");
    let (start, end) = (seconds("start", mine.first()), seconds("end", mine.last()));
    let loud = |s: &i16| s.unsigned_abs() > 1_000;
    let heard = [samples.iter().position(loud), samples.iter().rposition(loud)]
        .map(|at| at.expect("a voice") as f64 / f64::from(rate));
    // Utterances have a margin, and their ends are soft.
    assert!((start - heard[0]).abs() < 0.6, "{leg}: heard from {} s on, told {start}", heard[0]);
    assert!((end - heard[1]).abs() < 0.6, "{leg}: heard until {} s, told {end}", heard[1]);
    mine.iter().filter_map(|e| e["text"].as_str()).collect::<Vec<_>>().join(" ")
}

/// `TONE_SECONDS` of `hz`, as a file that Asterisk plays; its name without the ending.
fn tone_file(folder: &Path, hz: f64) -> String {
    let step = hz * TAU / f64::from(FILE_RATE);
    let samples = (0..TONE_SECONDS * FILE_RATE as usize).map(|i| (8_000.0 * (i as f64 * step).sin()).round());
    let bytes: Vec<_> = samples.flat_map(|sample| (sample as i16).to_le_bytes()).collect();
    let name = folder.join(format!("tone-{hz}"));
    std::fs::write(name.with_extension("sln48"), bytes).expect("a sound file");
    name.to_str().expect("a path in UTF-8").to_owned()
}

/// How far a tone of `hz` stands above everything else, dB, and its level: medians over stretches of 100 ms where it sounds.
/// Asterisk, short of time, puts a frame of silence between two now and then, which makes 17 dB of a second.
fn tone_above_rest(samples: &[i16], rate: u32, hz: f64) -> (f64, f64) {
    let loud = |s: &i16| s.unsigned_abs() > 1_000;
    let begin = samples.iter().position(loud).expect("a tone");
    let end = samples.iter().rposition(loud).expect("a tone");
    let stretches =
        samples[begin..end].chunks_exact(rate as usize / 10).map(|stretch| of_stretch(stretch, rate, hz));
    let (mut above, mut levels): (Vec<_>, Vec<_>) = stretches.unzip();
    assert!(above.len() + 2 >= 10 * TONE_SECONDS, "it sounds for {} x 100 ms", above.len());
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    (median(&mut above), median(&mut levels))
}

/// The same of a stretch that holds whole periods, so that sine and cosine are orthogonal in it.
fn of_stretch(stretch: &[i16], rate: u32, hz: f64) -> (f64, f64) {
    let step = hz * TAU / f64::from(rate);
    let (mut re, mut im, mut power) = (0.0, 0.0, 0.0);
    for (i, &sample) in stretch.iter().enumerate() {
        let (sin, cos) = (i as f64 * step).sin_cos();
        re += f64::from(sample) * cos;
        im += f64::from(sample) * sin;
        power += f64::from(sample).powi(2);
    }
    let count = stretch.len() as f64;
    let level = 2.0 * re.hypot(im) / count;
    let tone = level * level / 2.0;
    (10.0 * (tone / (power / count - tone).max(1e-3)).log10(), level)
}

/// Two calls in `codec`: one of prompts, one of a tone, which stands `at_least` dB above the rest.
async fn calls_in(lab: &Lab, codec: Codec, tone_hz: f64, at_least: f64) {
    let server = Sidetone::start_with(lab, &[("rtp.format", codec.name())]).await;
    let wire = Wire::tap_for(server.rtp().port(), codec).await;
    let subscriber = subscribe(&server, 2).await;
    Call::tap().caller(&CALLER_SAYS).callee(&CALLEE_SAYS).place(lab).await;
    server.ended_calls(1, Duration::from_secs(60)).await;
    let tone = tone_file(lab.folder(), tone_hz);
    Call::tap().formats("slin48").caller(&["0.5", &tone, "0.5"]).callee(&["agent-pass"]).place(lab).await;
    let calls = server.ended_calls(2, Duration::from_secs(60)).await;
    let sent = wire.map(|wire| wire.sent_as(codec));

    // The newest comes first.
    let [tone, prompts] = &calls[..] else { panic!("two calls: {calls:#?}") };
    for call in [prompts, tone] {
        assert_exact(codec, call, &server.recorded(call), sent.as_ref());
    }
    let events = timeout(Duration::from_secs(20), subscriber).await.expect("both ends").expect("events");
    let recorded = server.recorded(prompts);
    let [caller, callee] = [("caller", 0), ("callee", 1)]
        .map(|(leg, at)| said(&events, prompts, leg, &recorded.legs[at], recorded.rate));
    assert!(caller.contains("goodbye"), "{}: caller: {caller:?}", codec.name());
    assert!(callee.contains("incorrect"), "{}: callee: {callee:?}", codec.name());

    let recorded = server.recorded(tone);
    let (above, level) = tone_above_rest(&recorded.legs[0], recorded.rate, tone_hz);
    println!("{}: {tone_hz} Hz at {level:.0}, {above:.1} dB above everything else", codec.name());
    assert!(above >= at_least, "{}: {above} dB", codec.name());
    assert!((level / 8_000.0 - 1.0).abs() < 0.1, "{}: level {level}", codec.name());
}

#[tokio::test(flavor = "multi_thread")]
async fn real_calls_in_g722_gsm_and_opus_are_recorded_as_decoded_and_understood() {
    let lab = Lab::start(Version::V22);
    calls_in(&lab, Codec::G722, 5_000.0, 18.0).await;
    calls_in(&lab, Codec::Gsm, 1_000.0, 25.0).await;
    calls_in(&lab, Codec::Opus, 3_000.0, 25.0).await;
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_calls_in_g722_and_gsm_on_asterisk_16_are_recorded_as_decoded_and_understood() {
    let lab = Lab::start(Version::V16);
    calls_in(&lab, Codec::G722, 5_000.0, 18.0).await;
    calls_in(&lab, Codec::Gsm, 1_000.0, 25.0).await;
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_calls_at_12_24_and_48_khz_are_recorded_at_their_rate_and_understood() {
    let lab = Lab::start(Version::V22);
    // Each tone is one that the rate below cannot carry.
    calls_in(&lab, Codec::Slin12, 5_000.0, 60.0).await;
    calls_in(&lab, Codec::Slin24, 9_000.0, 60.0).await;
    calls_in(&lab, Codec::Slin48, 16_000.0, 80.0).await;
    lab.assert_clean().await;
}
