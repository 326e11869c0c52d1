//! Answered calls: what the caller hears of what we play, packet by packet, and what comes of it in the recording.

use std::time::Duration;

use serde_json::Value;
use sidetone::media::codec::g711;
use sidetone::net::capture::Capture;
use tokio::time::sleep;

use crate::audio::{follow, position};
use crate::support::callers::Call;
use crate::support::lab::{FRAME, Lab, Version, ulaw_decode};
use crate::support::phone::{Heard, Phone, laid_out};
use crate::support::server::{Sidetone, free_tcp};
use crate::transports::{start_with, websockets_of_asterisk};
use crate::wire::Wire;

const OVER: Duration = Duration::from_secs(60);

/// What a phone hears of samples that were u-law from us on: our own encoder's.
fn by_our_ulaw(samples: &[i16]) -> Vec<i16> {
    samples.iter().map(|&sample| ulaw_decode(g711::to_ulaw(sample))).collect()
}

/// Packets in which the stream that the phone hears is broken: a number, a stamp or a source that does not follow.
fn seams(heard: &[Heard]) -> usize {
    let follows = |pair: &[Heard]| {
        pair[1].sequence == pair[0].sequence.wrapping_add(1)
            && pair[1].timestamp == pair[0].timestamp.wrapping_add(FRAME as u32)
    };
    heard.windows(2).filter(|pair| !follows(pair)).count()
}

async fn hang_up(server: &Sidetone, call: &Value) {
    let id = call["call_id"].as_str().expect("its id");
    assert_eq!(server.post(&format!("/api/calls/{id}/hangup")).await, 204);
}

/// A phone calls, hears silence, two prompts in a row, and silence again; then it is hung up on. Returns what it heard. `as_heard`
/// and `as_recorded` say what becomes of what is played on its way.
async fn played_call(
    lab: &Lab,
    server: &Sidetone,
    as_heard: fn(&[i16]) -> Vec<i16>,
    as_recorded: fn(&[i16]) -> Vec<i16>,
) -> Vec<Heard> {
    let mut phone = Phone::call(lab, "answer", OVER);
    let call = server.call_in_state("live").await;
    phone.hears().await;
    sleep(Duration::from_millis(1_500)).await;
    let prompts = ["agent-pass", "vm-goodbye"].map(|prompt| lab.prompt_samples(prompt));
    for (number, prompt) in prompts.iter().enumerate() {
        let (status, reply) = server.play(&call, prompt).await;
        assert_eq!((status, &reply["playback"]), (202, &Value::from(number + 1)), "{reply}");
    }
    let finished = server.until_events(&call, "playback.finished", 2).await;
    for (event, prompt) in finished.iter().zip(&prompts) {
        assert_eq!(event["reason"], "played", "{event}");
        let seconds = event["played"].as_f64().expect("seconds");
        assert!((seconds - prompt.len() as f64 / 8_000.0).abs() < 1e-6, "{event}");
    }
    sleep(Duration::from_millis(1_500)).await;
    hang_up(server, &call).await;
    let calls = server.ended_calls(1, OVER).await;
    phone.ended(OVER).await;
    assert_eq!(calls[0]["outcome"], "completed", "{:#}\n{}", calls[0], server.log());
    assert!(calls[0]["error"].is_null(), "{:#}", calls[0]);

    let heard = phone.heard();
    let audio = laid_out(&heard);
    // Both prompts as one: nothing is put between them.
    let expected = as_heard(&prompts.concat());
    let whole = position(&audio, &expected);
    let followed = follow(&audio, &expected);
    println!("heard: {followed:?}, whole from {whole:?}, {} seams in {} packets", seams(&heard), heard.len());
    assert!(followed.found * 100 >= followed.sounding * 98, "the caller heard {followed:?}");
    if let Some(at) = whole {
        let silent = |samples: &[i16]| samples.iter().all(|sample| sample.unsigned_abs() <= 8);
        assert!(silent(&audio[..at]) && silent(&audio[at + expected.len()..]), "silence before and after");
        assert!(at > 8_000, "silence was sent for over a second: {at}");
        assert!(audio.len() - at - expected.len() > 8_000, "and again afterwards");
    }
    let recorded = server.recorded(&calls[0]);
    let followed = follow(&recorded.legs[1], &as_recorded(&prompts.concat()));
    println!("recorded as heard by the caller: {followed:?}");
    assert!(followed.found * 100 >= followed.sounding * 98, "the recording has {followed:?}");
    assert!(recorded.legs[0].iter().all(|sample| sample.unsigned_abs() <= 8), "the caller said nothing");
    lab.assert_clean().await;
    heard
}

/// Over RTP, with what is sent held against the clock.
async fn played_over_rtp(version: Version) {
    let lab = Lab::start(version);
    let server = Sidetone::start_with(&lab, &[("speech.model", "off")]).await;
    let wire = Wire::tap_filter(&format!("udp src port {}", server.rtp().port()), 400).await;
    let heard = played_call(&lab, &server, by_our_ulaw, by_our_ulaw).await;
    assert_eq!(heard.iter().filter(|packet| packet.payload_type != 0).count(), 0);
    assert!(server.metric("sidetone_rtp_packets_sent_total").await > 200.0);
    assert_eq!(server.metric("sidetone_rtp_packets_unroutable_total").await, 0.0);
    let Some(mut wire) = wire else { return };
    let sent: Vec<_> =
        Capture::open(&wire.stop()).expect("a capture").map(|packet| packet.expect("a packet")).collect();
    let word = |packet: &[u8], at: usize| {
        u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
    };
    let stamp = |n: usize| word(&sent[n].payload, 4);
    assert!(sent.windows(2).all(|pair| pair[0].dst == pair[1].dst), "one place, for the whole call");
    assert!(sent.iter().all(|packet| word(&packet.payload, 8) == word(&sent[0].payload, 8)), "one source");
    let marked: Vec<_> = (0..sent.len()).filter(|&n| sent[n].payload[1] & 0x80 != 0).collect();
    // Steps of one frame; a machine that is busy elsewhere for over 60 ms has some skipped, in silence or speech alike.
    let skips = (1..sent.len()).filter(|&n| stamp(n).wrapping_sub(stamp(n - 1)) != FRAME as u32).count();
    assert_eq!(marked.len(), 1 + skips, "only what follows a time without packets is marked: {marked:?}");
    let millis = |n: usize| sent[n].at.nanos_since(sent[0].at) as f64 / 1e6;
    let late = |n: usize| millis(n) - f64::from(stamp(n).wrapping_sub(stamp(0))) / 8.0;
    let mut between: Vec<_> = (1..sent.len()).map(|n| millis(n) - millis(n - 1)).collect();
    between.sort_by(f64::total_cmp);
    let soonest = |range: std::ops::Range<usize>| range.map(late).fold(f64::INFINITY, f64::min);
    let drift = soonest(sent.len() - 50..sent.len()) - soonest(0..50);
    let at = |share: usize| between[(between.len() - 1) * share / 100];
    println!(
        "{} packets sent in {:.2} s: p5 {:.2} ms, p50 {:.2}, p95 {:.2}, max {:.2}; drift {drift:.2} ms; {skips} skips",
        sent.len(),
        millis(sent.len() - 1) / 1_000.0,
        at(5),
        at(50),
        at(95),
        at(100),
    );
    assert!((19.0..21.0).contains(&at(50)), "p50 {} ms", at(50));
    assert!(drift.abs() < 5.0, "{drift} ms of drift");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_caller_hears_what_is_played_over_rtp_sample_for_sample() {
    played_over_rtp(Version::V22).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_caller_of_asterisk_16_hears_what_is_played_sample_for_sample() {
    played_over_rtp(Version::V16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_caller_hears_what_is_played_over_audiosocket() {
    let lab = Lab::start(Version::V22);
    let bind = free_tcp().to_string();
    let settings =
        [("media.transport", "audiosocket"), ("audiosocket.bind", bind.as_str()), ("speech.model", "off")];
    let server = Sidetone::start_with(&lab, &settings).await;
    // Linear from us, and to us: Asterisk makes u-law of it for the phone alone.
    played_call(&lab, &server, by_asterisks_ulaw, <[i16]>::to_vec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_caller_hears_what_is_played_over_a_websocket() {
    let lab = Lab::start(Version::V22);
    let settings = [("media.transport", "websocket"), ("speech.model", "off")];
    let server = Sidetone::start_with(&lab, &settings).await;
    played_call(&lab, &server, by_our_ulaw, by_our_ulaw).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_caller_hears_what_is_played_over_a_websocket_that_asterisk_opens() {
    let lab = Lab::start(Version::V22);
    let server = start_with(&lab, &websockets_of_asterisk(&lab)).await;
    // In `slin`.
    played_call(&lab, &server, by_asterisks_ulaw, <[i16]>::to_vec).await;
}

/// Somebody removes the channel that speaks: another takes its place, and no leg is the worse for it.
#[tokio::test(flavor = "multi_thread")]
async fn real_voice_that_breaks_in_mid_call_is_made_anew() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start_with(&lab, &[("speech.model", "off")]).await;
    let mut phone = Phone::call(&lab, "answer", OVER);
    let call = server.call_in_state("live").await;
    phone.hears().await;
    let voice = |channels: &[String]| channels.iter().find(|id| id.contains("-media-main")).cloned();
    let before = voice(&lab.everything().await.0).expect("a voice");
    assert_eq!(lab.ari_delete(&format!("/channels/{before}")).await.status, 204);
    let prompt = lab.prompt_samples("vm-goodbye");
    sleep(Duration::from_millis(500)).await;
    assert_eq!(voice(&lab.everything().await.0), Some(format!("{before}-2")));
    assert_eq!(server.play(&call, &prompt).await.0, 202);
    server.until_events(&call, "playback.finished", 1).await;
    sleep(Duration::from_millis(500)).await;
    hang_up(&server, &call).await;
    let calls = server.ended_calls(1, OVER).await;
    phone.ended(OVER).await;
    assert_eq!(calls[0]["outcome"], "completed", "{:#}", calls[0]);
    assert!(!server.events(&calls[0]).iter().any(|event| event["type"] == "leg.interrupted"));
    let followed = follow(&phone.audio(), &by_our_ulaw(&prompt));
    assert!(followed.found * 100 >= followed.sounding * 95, "{followed:?}");
    lab.assert_clean().await;
}

fn by_asterisks_ulaw(samples: &[i16]) -> Vec<i16> {
    samples.iter().map(|&sample| ulaw_decode(crate::support::lab::ulaw_encode(sample))).collect()
}

/// A format that Asterisk sends but does not take: G.722 goes the other way.
#[tokio::test(flavor = "multi_thread")]
async fn real_caller_of_a_call_in_slin16_is_spoken_to_in_g722() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start_with(&lab, &[("rtp.format", "slin16"), ("speech.model", "off")]).await;
    let mut phone = Phone::call(&lab, "answer", OVER);
    let call = server.call_in_state("live").await;
    phone.hears().await;
    // A second of 500 Hz at a level that neither codec clips.
    let tone = |n: u32| (8_000.0 * (f64::from(n) * 500.0 * std::f64::consts::TAU / 8_000.0).sin()) as i16;
    let (status, reply) = server.play(&call, &(0..16_000).map(tone).collect::<Vec<_>>()).await;
    assert_eq!(status, 202, "{reply}");
    server.until_events(&call, "playback.finished", 1).await;
    sleep(Duration::from_millis(500)).await;
    hang_up(&server, &call).await;
    server.ended_calls(1, OVER).await;
    phone.ended(OVER).await;
    let audio = phone.audio();
    let loud: Vec<_> =
        audio.chunks_exact(FRAME).filter(|frame| frame.iter().any(|s| s.abs() > 4_000)).collect();
    assert!((95..=103).contains(&loud.len()), "{} frames of the tone", loud.len());
    for frame in &loud[2..90] {
        let crossings = frame.windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count();
        // 500 Hz has ten periods in 20 ms.
        assert!((19..=21).contains(&crossings), "{crossings} crossings: another tone");
    }
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_playing_is_stopped_in_the_middle_and_by_the_end_of_the_call() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start_with(&lab, &[("speech.model", "off")]).await;
    let mut phone = Phone::call(&lab, "answer", OVER);
    let call = server.call_in_state("live").await;
    phone.hears().await;
    let loud = [12_000; 8_000 * 8];
    assert_eq!(server.play(&call, &loud).await.0, 202);
    server.until_events(&call, "playback.started", 1).await;
    sleep(Duration::from_secs(1)).await;
    let id = call["call_id"].as_str().expect("its id");
    assert_eq!(server.post(&format!("/api/calls/{id}/play/stop")).await, 204);
    let first = &server.until_events(&call, "playback.finished", 1).await[0];
    assert_eq!(first["reason"], "stopped", "{first}");
    sleep(Duration::from_secs(1)).await;
    let heard = phone.audio().iter().filter(|sample| **sample > 1_000).count() as f64 / 8_000.0;
    let played = first["played"].as_f64().expect("seconds");
    assert!((0.9..4.0).contains(&played) && (heard - played).abs() < 0.1, "{heard} s heard, {first}");
    assert_eq!(server.play(&call, &loud).await.0, 202);
    server.until_events(&call, "playback.started", 2).await;
    hang_up(&server, &call).await;
    let calls = server.ended_calls(1, OVER).await;
    phone.ended(OVER).await;
    assert_eq!(server.until_events(&calls[0], "playback.finished", 2).await[1]["reason"], "ended");
    assert_eq!(server.play(&calls[0], &loud).await.0, 409, "nobody is there");
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_caller_of_a_tapped_call_is_not_played_to() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start_with(&lab, &[("speech.model", "off")]).await;
    Call::tap().caller(&["2"]).callee(&["2"]).place(&lab).await;
    let call = server.call_in_state("live").await;
    let (status, reply) = server.play(&call, &[0; FRAME]).await;
    assert!(status == 409 && reply["detail"].as_str().is_some_and(|d| d.contains("tapped")), "{reply}");
    server.ended_calls(1, OVER).await;
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_killed_server_speaks_to_the_caller_again() {
    speaks_again(&[("speech.model", "off")], by_our_ulaw).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_killed_server_speaks_to_the_caller_again_over_audiosocket() {
    let bind = free_tcp().to_string();
    let settings =
        [("media.transport", "audiosocket"), ("audiosocket.bind", bind.as_str()), ("speech.model", "off")];
    speaks_again(&settings, by_asterisks_ulaw).await;
}

/// The voice is made anew, and the caller can be spoken to again.
async fn speaks_again(settings: &[(&str, &str)], as_heard: fn(&[i16]) -> Vec<i16>) {
    let lab = Lab::start(Version::V22);
    let mut server = Sidetone::start_with(&lab, settings).await;
    let mut phone = Phone::call(&lab, "answer", OVER);
    let call = server.call_in_state("live").await;
    phone.hears().await;
    let prompt = lab.prompt_samples("vm-goodbye");
    assert_eq!(server.play(&call, &prompt).await.0, 202);
    server.until_events(&call, "playback.finished", 1).await;
    assert_eq!(server.play(&call, &[0; 8_000 * 30]).await.1["playback"], 2);
    server.until_events(&call, "playback.started", 2).await;
    server.kill();
    server.respawn();
    server.until_ready().await;
    server.call_in_state("live").await;
    assert_eq!(server.play(&call, &prompt).await.1["playback"], 3);
    let finished = server.until_events(&call, "playback.finished", 3).await;
    assert_eq!((&finished[1]["playback"], &finished[1]["reason"]), (&2.into(), &"interrupted".into()));
    assert_eq!((&finished[2]["playback"], &finished[2]["reason"]), (&3.into(), &"played".into()));
    sleep(Duration::from_millis(500)).await;
    hang_up(&server, &call).await;
    let calls = server.ended_calls(1, OVER).await;
    phone.ended(OVER).await;
    assert_eq!(calls[0]["outcome"], "completed", "{:#}", calls[0]);
    let (audio, expected) = (phone.audio(), as_heard(&prompt));
    let before = follow(&audio, &expected);
    let after = follow(&audio[before.end..], &expected);
    for followed in [before, after] {
        assert!(followed.found * 100 >= followed.sounding * 95, "{followed:?}");
    }
    lab.assert_clean().await;
}

/// Comfort noise of a phone (RFC 3389, payload type 13), whose media is the test's own: SIPp sends none. Asterisk takes it, and none of
/// it comes to us, neither over a snoop's leg, which brings silence meanwhile, nor over the channel beside the phone in the bridge.
#[tokio::test(flavor = "multi_thread")]
async fn real_comfort_noise_of_a_phone_is_silence_of_its_length() {
    for version in [Version::V22, Version::V16] {
        let lab = Lab::start(version);
        let server = Sidetone::start_with(&lab, &[("speech.model", "off")]).await;
        let mut phone = Phone::call(&lab, "answer", OVER);
        // Payload type 13, whatever the marker: what the phone sends, and what comes to us.
        let (said, came) = (phone.port(), server.rtp().port());
        let filter = format!("udp[9] & 0x7f = 13 and (udp src port {said} or udp dst port {came})");
        let wire = Wire::tap_filter(&filter, 400).await;
        let call = server.call_in_state("live").await;
        phone.hears().await;
        let prompt = lab.prompt_samples("vm-goodbye");
        let prompt = prompt[..prompt.len() - prompt.len() % FRAME].to_vec();
        let (said, quiet) = (prompt.clone(), 1_200 * 8);
        let mut phone = tokio::task::spawn_blocking(move || {
            phone.say(&said);
            for _ in 0..6 {
                // -60 dBov of noise, and 200 ms without a packet.
                phone.send(13, &[60]);
                phone.pass(quiet as u32 / 6);
            }
            phone.say(&said);
            phone
        })
        .await
        .expect("the phone speaks");
        sleep(Duration::from_millis(500)).await;
        hang_up(&server, &call).await;
        let calls = server.ended_calls(1, OVER).await;
        phone.ended(OVER).await;
        assert_eq!(calls[0]["outcome"], "completed", "{:#}", calls[0]);
        let recorded = server.recorded(&calls[0]);
        let leg = &recorded.report["legs"][0];
        assert_eq!((&leg["packets_lost"], &leg["packets_invalid"]), (&0.into(), &0.into()), "{leg:#}");
        let expected = by_asterisks_ulaw(&prompt);
        let first = follow(&recorded.legs[0], &expected);
        let second = follow(&recorded.legs[0][first.end..], &expected);
        println!("{version:?}: {first:?}, {second:?}");
        for followed in [&first, &second] {
            assert!(followed.found * 100 >= followed.sounding * 90, "{followed:?}");
        }
        // From the end of the first to the end of the second: the quiet, and the prompt again. Short of time, a snoop puts some
        // silence between; without the quiet the second would lie 60 frames before its place.
        let apart = second.end as i64 - (quiet + prompt.len()) as i64;
        assert!(apart.abs() <= 20 * FRAME as i64, "the second lies {apart} samples from its place");
        if let Some(mut wire) = wire {
            let packets = Capture::open(&wire.stop()).expect("a capture");
            let to_us: Vec<_> = packets.map(|packet| packet.expect("a packet").dst.port() == came).collect();
            assert_eq!(to_us, [false; 6], "the phone's, and none of Asterisk's");
        }
        lab.assert_clean().await;
    }
}

#[tokio::test]
async fn real_caller_hears_what_is_said() {
    const TEXT: &str = "Your call is important to us. Please hold the line.";
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("said.sln");
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_sidetone"))
        .args(["say", TEXT, "--quiet", "--out"])
        .arg(&file)
        .output()
        .expect("sidetone say");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let bytes = std::fs::read(&file).expect("what it made");
    let said: Vec<i16> = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();

    let lab = Lab::start(Version::V22);
    let server = Sidetone::start_with(&lab, &[("speech.model", "off")]).await;
    let mut phone = Phone::call(&lab, "answer", OVER);
    let call = server.call_in_state("live").await;
    phone.hears().await;
    let (status, reply) = server.say(&call, TEXT).await;
    assert_eq!(status, 202, "{reply}");
    let seconds = said.len() as f64 / 8_000.0;
    assert!((reply["duration"].as_f64().expect("seconds") - seconds).abs() < 0.001, "{reply} of {seconds} s");
    server.until_events(&call, "playback.finished", 1).await;
    sleep(Duration::from_millis(500)).await;
    hang_up(&server, &call).await;
    server.ended_calls(1, OVER).await;
    phone.ended(OVER).await;
    let followed = follow(&laid_out(&phone.heard()), &by_our_ulaw(&said));
    assert!(followed.found * 100 >= followed.sounding * 98, "the caller heard {followed:?}");
    lab.assert_clean().await;
}
