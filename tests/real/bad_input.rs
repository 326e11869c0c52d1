//! What is wrong around a real call: passwords, neighbours, disks, packets, arguments. The call at hand goes on, and whoever
//! reads the message knows what to change.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;

use crate::audio::follow;
use crate::support::callers::{Call, PlacedCall};
use crate::support::lab::{FRAME, Lab, Version};
use crate::support::server::{Sidetone, find, free_tcp, free_udp, read_recording};
use crate::wire::{Wire, assert_samples_as_sent, ssrc};

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The program beside `lab`, run to its end.
pub(crate) fn sidetone(lab: &Lab, folder: &Path, args: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    command.args(args).current_dir(folder).env("NO_COLOR", "1");
    let own = [
        ("ari.url", lab.ari_url().to_owned()),
        ("ari.password", lab.ari_password().to_owned()),
        ("http.bind", free_tcp().to_string()),
        ("rtp.bind", free_udp().to_string()),
        ("node.data", "data".to_owned()),
    ];
    for (key, value) in own.iter().map(|(k, v)| (*k, v.as_str())).chain(settings.iter().copied()) {
        command.args(["--set", &format!("{key}={value}")]);
    }
    command.output().expect("the program")
}

/// Waits until `done` brings something.
pub(crate) async fn until<T>(what: &str, server: &Sidetone, mut done: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = done().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} does not come:\n{}", server.log());
        sleep(Duration::from_millis(20)).await;
    }
}

/// The value of one series, `name{label="value"}`.
pub(crate) async fn series(server: &Sidetone, series: &str) -> f64 {
    let text = server.text("/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_default()
}

/// Types and bodies of a call's events, live, until `kind` has come.
pub(crate) async fn live_events_until(server: &Sidetone, call: &Value, kind: &str) -> Vec<Value> {
    let id = call["call_id"].as_str().expect("its id");
    let url = format!("ws://{}/ws/calls/{id}/events", server.http());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("the events");
    let mut events = Vec::new();
    let read = async {
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else { continue };
            let event: Value = serde_json::from_str(&text).expect("JSON");
            events.push(event);
            if events.last().is_some_and(|e| e["type"] == kind) {
                return;
            }
        }
        panic!("the events end without {kind}");
    };
    let come = tokio::time::timeout(SOON, read).await;
    assert!(come.is_ok(), "no {kind}: {events:#?}\n{}", server.log());
    events
}

pub(crate) fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|e| e["type"].as_str()).collect()
}

/// A prompt of a leg is there, frame by frame, as far as Asterisk itself sent it.
#[track_caller]
pub(crate) fn assert_said(lab: &Lab, leg: &[i16], prompt: &str) {
    let followed = follow(leg, &lab.prompt_as_snooped(prompt));
    assert!(followed.found * 100 >= followed.sounding * 97, "{prompt}: {followed:?}");
}

// ---- Asterisk --------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn real_wrong_password_ends_the_server_at_once_and_check_says_the_same() {
    let lab = Lab::start(Version::V22);
    let begun = Instant::now();
    let mut server = Sidetone::spawn(lab.ari_url(), "wrong", &[("speech.model", "off")]);
    assert_eq!(server.exit().await.code(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let folder = tempfile::tempdir().unwrap();
    let check =
        sidetone(&lab, folder.path(), &["check"], &[("ari.password", "wrong"), ("speech.model", "off")]);
    assert_eq!(check.status.code(), Some(1));
    for said in [server.log(), String::from_utf8_lossy(&check.stdout).into_owned()] {
        for word in ["`ari.user`", "`ari.password_file`", "ari.conf", "\"sidetone\""] {
            assert!(said.contains(word), "{word} is not in: {said}");
        }
        assert!(!said.contains("wrong\""), "the password is shown: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_server_waits_for_an_asterisk_that_is_not_there_yet() {
    let mut lab = Lab::start(Version::V22);
    lab.crash();
    let settings = [("speech.model", "off"), ("ari.backoff_max_ms", "300")];
    let mut server = Sidetone::spawn(lab.ari_url(), lab.ari_password(), &settings);
    let url = format!("http://{}/ready", server.http());
    let reason = until("the reason", &server, async || {
        let reply = reqwest::get(&url).await.ok()?;
        assert_eq!(reply.status(), 503);
        let ready: Value = reply.json().await.ok()?;
        let said = ready["dependencies"]["asterisk"]["message"].as_str()?.to_owned();
        said.contains("cannot reach").then_some(said)
    })
    .await;
    assert!(reason.contains(lab.ari_url()) && reason.contains("`ari.url`"), "{reason}");

    lab.restart();
    server.until_ready().await;
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 200);
    Call::tap().caller(&["0.3", "vm-goodbye"]).callee(&["3"]).place(&lab).await;
    let calls = server.ended_calls(1, SOON).await;
    assert_said(&lab, &server.recorded(&calls[0]).legs[0], "vm-goodbye");
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_second_server_leaves_a_taken_application_alone() {
    let lab = Lab::start(Version::V22);
    let first = Sidetone::start_with(&lab, &[("speech.model", "off")]).await;
    Call::tap().caller(&["agent-pass"]).callee(&["10"]).place(&lab).await;
    first.call_in_state("live").await;

    let other = [("speech.model", "off"), ("node.name", "second")];
    let mut second = Sidetone::spawn(lab.ari_url(), lab.ari_password(), &other);
    assert_eq!(second.exit().await.code(), Some(1));
    let said = second.log();
    for word in ["\"sidetone\"", "`ari.app`", "`ari.takeover = true`", "another"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }

    let calls = first.ended_calls(1, SOON).await;
    assert_eq!(calls[0]["outcome"], "completed", "{:#}", calls[0]);
    let recorded = first.recorded(&calls[0]);
    assert_said(&lab, &recorded.legs[0], "agent-pass");
    assert!(recorded.report["legs"].as_array().unwrap().iter().all(|leg| leg["packets_lost"] == 0));
    assert_eq!(first.metric("sidetone_ari_reconnects_total").await, 0.0);
    // Nor did the question, whether it is taken, leave anything.
    assert_eq!(first.calls().await.len(), 1);
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_takeover_ends_the_first_server_loudly_and_its_call_waits_for_it() {
    let lab = Lab::start(Version::V22);
    let mut first = Sidetone::start_with(&lab, &[("speech.model", "off"), ("node.name", "first")]).await;
    let call = Call::tap().caller(&["0.3", "vm-goodbye", "60"]).callee(&["60"]);
    let call = call.nobody_hangs_up().place(&lab).await;
    first.call_in_state("live").await;
    sleep(Duration::from_secs(2)).await;

    let settings = [("speech.model", "off"), ("node.name", "second"), ("ari.takeover", "true")];
    let mut second = Sidetone::start_with(&lab, &settings).await;
    assert_eq!(first.exit().await.code(), Some(1));
    let said = first.log();
    assert!(said.contains("another client took the Stasis application `sidetone`"), "{said}");
    assert!(said.contains("ari.app"), "{said}");
    // The second hears new calls, and touches nothing of the first's.
    Call::tap().caller(&["0.3", "vm-goodbye"]).callee(&["3"]).place(&lab).await;
    let calls = second.ended_calls(1, SOON).await;
    assert_said(&lab, &second.recorded(&calls[0]).legs[0], "vm-goodbye");
    assert!(!call.is_over().await, "the call itself goes on");
    assert!(second.stop().await.success());

    first.respawn();
    first.until_ready().await;
    first.call_in_state("live").await;
    call.hang_up().await;
    let calls = first.ended_calls(1, SOON).await;
    assert_eq!(calls.len(), 1);
    let recorded = first.recorded(&calls[0]);
    assert_said(&lab, &recorded.legs[0], "vm-goodbye");
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_check_passes_a_healthy_asterisk_and_names_a_missing_module() {
    let lab = Lab::start(Version::V22);
    let folder = tempfile::tempdir().unwrap();
    let check = || {
        let done = sidetone(&lab, folder.path(), &["check", "--json"], &[]);
        let json: Value = serde_json::from_slice(&done.stdout).expect("JSON");
        (done.status.code(), json)
    };
    let (code, healthy) = check();
    assert_eq!((code, &healthy["good"]), (Some(0), &Value::Bool(true)), "{healthy:#}");
    let verdict = |findings: &Value, what: &str| {
        let all = findings["findings"].as_array().expect("findings").clone();
        all.iter().find(|f| f["what"] == what).map(|f| f["verdict"].clone())
    };
    for what in ["configuration", "data folder", "http port", "asterisk", "media path"] {
        assert_eq!(verdict(&healthy, what), Some("good".into()), "{what}: {healthy:#}");
    }
    lab.assert_clean().await;

    lab.cli("module unload chan_rtp.so");
    let (code, broken) = check();
    assert_eq!((code, &broken["good"]), (Some(1), &Value::Bool(false)), "{broken:#}");
    let said = broken["findings"].to_string();
    assert!(said.contains("chan_rtp.so is not loaded") && said.contains("module load chan_rtp.so"), "{said}");
    lab.assert_clean().await;
}

/// Sends datagrams that bear somebody else's address. `None` where that is not allowed.
struct Forger(Socket);

impl Forger {
    fn new() -> Option<Forger> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).ok()?;
        socket.set_header_included_v4(true).ok()?;
        Some(Forger(socket))
    }

    fn send(&self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend(from.ip().octets());
        packet.extend(to.ip().octets());
        packet.extend(from.port().to_be_bytes());
        packet.extend(to.port().to_be_bytes());
        packet.extend((8 + payload.len() as u16).to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(payload);
        self.0.send_to(&packet, &SocketAddr::V4(to).into()).expect("a forged packet is sent");
    }
}

/// A whole RTP packet of loud u-law.
fn forged_rtp(ssrc: u32, sequence: u16, payload: usize) -> Vec<u8> {
    let mut rtp = vec![0x80, 0];
    rtp.extend(sequence.to_be_bytes());
    rtp.extend((u32::from(sequence) * 160).to_be_bytes());
    rtp.extend(ssrc.to_be_bytes());
    rtp.resize(12 + payload, 0x00);
    rtp
}

/// What no RTP packet looks like.
fn garbage() -> Vec<Vec<u8>> {
    vec![
        Vec::new(),
        vec![0x80],
        vec![0xff; 300],
        vec![0; 11],
        // Fifteen contributing sources and no room for one; an extension without end; more padding than packet.
        [&[0x8f, 0][..], &[0; 20]].concat(),
        [&[0x90, 0][..], &[0; 10], &[0xbe, 0xde, 0xff, 0xff]].concat(),
        [&[0xa0, 0][..], &[0; 10], &[200; 40]].concat(),
        vec![0x41; 4_000],
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn real_garbage_and_forged_packets_are_counted_and_change_no_sample() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start_with(&lab, &[("speech.model", "off")]).await;
    // Whole packets only: Asterisk's, and forged ones, which have SSRCs of their own.
    let wire = Wire::tap_only(server.rtp().port(), "udp[4:2] = 180").await;
    Call::tap().caller(&["agent-pass", "agent-pass"]).callee(&["20"]).place(&lab).await;
    let call = server.call_in_state("live").await;
    let SocketAddr::V4(to) = server.rtp() else { unreachable!("the lab is on IPv4") };

    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mut unroutable = 0;
    for sequence in 0..100 {
        stranger.send_to(&forged_rtp(0xdead_beef, sequence, FRAME), to).unwrap();
        unroutable += 1;
    }
    for datagram in garbage() {
        stranger.send_to(&datagram, to).unwrap();
        unroutable += 1;
    }
    // From Asterisk's own address: no single packet of another source is believed.
    let forger = Forger::new();
    let forged = forger.is_some();
    match forger {
        None => eprintln!("no right to forge addresses: only strangers' packets are tested"),
        Some(forger) => {
            for from in sources(&server, &call).await {
                for datagram in garbage() {
                    forger.send(from, to, &datagram);
                }
                for n in 0..10_u16 {
                    forger.send(from, to, &forged_rtp(0xbad_0000 + u32::from(n), n * 1_000, FRAME));
                }
            }
        }
    }

    let calls = server.ended_calls(1, SOON).await;
    until("the count", &server, async || {
        let counted = server.metric("sidetone_rtp_packets_unroutable_total").await;
        (counted >= f64::from(unroutable)).then_some(())
    })
    .await;
    assert_eq!(server.metric("sidetone_rtp_packets_unroutable_total").await, f64::from(unroutable));
    let recorded = server.recorded(&calls[0]);
    for leg in recorded.report["legs"].as_array().expect("legs") {
        assert_eq!(leg["packets_lost"], 0, "{leg:#}");
        assert_eq!(leg["ssrcs"].as_array().map(Vec::len), Some(1), "{leg:#}");
        assert_eq!(leg["segments"].as_array().map(Vec::len), Some(1), "{leg:#}");
        assert!(!forged || leg["packets_invalid"].as_u64() >= Some(7), "{leg:#}");
    }
    assert_said(&lab, &recorded.legs[0], "agent-pass");
    if let Some(sent) = wire.map(Wire::sent) {
        assert_samples_as_sent(&calls[0], &recorded, &sent, false);
    }
    lab.assert_clean().await;
}

/// Where Asterisk sends the legs of a live call from, once both are heard.
async fn sources(server: &Sidetone, call: &Value) -> Vec<SocketAddrV4> {
    let id = call["call_id"].as_str().expect("its id");
    until("a session with both legs heard", server, async || {
        let file = find(&server.data().join("sessions"), &format!("{id}.json"))?;
        let session: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        if session["legs"].as_array()?.iter().any(|leg| leg["segment"].is_null()) {
            return None;
        }
        let legs = session["asterisk"]["legs"].as_array()?.iter();
        Some(legs.map(|leg| leg["source"].as_str().expect("a source").parse().expect("an address")).collect())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn real_call_replayed_from_a_capture_is_its_recording() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start_with(&lab, &[("speech.model", "off")]).await;
    let Some(mut wire) = Wire::tap(server.rtp().port()).await else { return };
    Call::tap()
        .caller(&["agent-pass", "0.4", "vm-goodbye"])
        .callee(&["0.2", "auth-incorrect"])
        .place(&lab)
        .await;
    let calls = server.ended_calls(1, SOON).await;
    let live = server.recorded(&calls[0]);

    let folder = tempfile::tempdir().unwrap();
    let capture = wire.stop();
    let done = sidetone(
        &lab,
        folder.path(),
        &["replay", capture.to_str().unwrap(), "--out", "o", "--no-transcript"],
        &[],
    );
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let replayed = read_recording(&folder.path().join("o/wire.wav"));

    assert_eq!(replayed.rate, live.rate);
    assert!(
        replayed.legs[0].len().abs_diff(live.legs[0].len()) <= 80,
        "{} {}",
        replayed.legs[0].len(),
        live.legs[0].len()
    );
    for (leg, samples) in live.report["legs"].as_array().unwrap().iter().zip(&live.legs) {
        // In a capture the first to speak is left, whoever that is.
        let again = replayed.report["legs"].as_array().unwrap();
        let at = again.iter().position(|l| ssrc(l) == ssrc(leg)).expect("the same leg");
        for count in ["packets_received", "packets_lost", "packets_late", "codec"] {
            assert_eq!(leg[count], again[at][count], "{count}: {leg:#}");
        }
        assert_eq!(
            leg["gaps"].as_array().map(Vec::len),
            again[at]["gaps"].as_array().map(Vec::len),
            "{leg:#}"
        );
        let first = |leg: &Value| leg["segments"][0]["first_sample"].as_i64().unwrap();
        // tcpdump's stamps are of another resolution: the legs may lie a sample apart, within a leg nothing may.
        let apart = first(&again[at]) - first(leg);
        assert!(apart.abs() <= 2, "the legs lie {apart} samples apart");
        let (live, replayed) =
            (&samples[first(leg) as usize..], &replayed.legs[at][first(&again[at]) as usize..]);
        let both = live.len().min(replayed.len());
        assert!(live[..both] == replayed[..both], "the {} leg differs", leg["name"]);
    }
    // It began when it was captured, not when it was replayed.
    let started = |report: &Value| report["started_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let apart = started(&replayed.report).duration_since(started(&live.report));
    assert!(apart.as_millis().abs() < 100, "{apart:?}");
}

/// The call's channel has left our application and goes through the dialplan.
async fn goes_on(lab: &Lab, call: &PlacedCall<'_>, within: Duration) {
    let deadline = Instant::now() + within;
    loop {
        let channel = lab.ari_get(&format!("/channels/{}", call.main)).await;
        assert_eq!(channel.status, 200, "the call is over: {}", channel.body);
        if channel.body["dialplan"]["app_name"] == "Dial" {
            return;
        }
        assert!(Instant::now() < deadline, "it does not go on: {}", channel.body);
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_wrong_arguments_are_refused_with_what_is_right_and_the_call_goes_on() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start_with(&lab, &[("speech.model", "off")]).await;
    let cases = [
        ("tennant=acme", "unknown argument `tennant`: tenant, record, transcribe, language, engine or label"),
        ("record=maybe", "`record=maybe`: record takes yes or no"),
        ("record=yes,record=no", "`record` is given twice"),
        ("tenant=../etc", "tenant takes 1 to 64 letters"),
        ("verbatim", "`verbatim` is not key=value"),
    ];
    for (count, (args, reason)) in cases.into_iter().enumerate() {
        let call = Call::tap().callee(&["5"]).nobody_hangs_up().stasis_args(args).place(&lab).await;
        goes_on(&lab, &call, Duration::from_secs(2)).await;
        let calls = server.ended_calls(count + 1, SOON).await;
        let refused = &calls[0];
        assert_eq!(refused["outcome"], "rejected", "{refused:#}");
        assert!(refused["error"].as_str().is_some_and(|e| e.contains(reason)), "{refused:#}");
        let events = until("the journal", &server, async || {
            let events = server.events(refused);
            (!events.is_empty()).then_some(events)
        })
        .await;
        assert_eq!(kinds(&events), ["call.rejected"]);
        let said = events[0]["reason"].as_str().unwrap();
        assert!(said.contains(reason) && said.contains(&format!("Stasis(sidetone,tap,{args})")), "{said}");
        // What it would have had is not there: the two halves of each of the call's own channels, and no bridge of ours.
        let (channels, bridges) = lab.everything().await;
        assert!(
            channels.iter().chain(&bridges).all(|id| !id.starts_with("sidetone-")),
            "{channels:?} {bridges:?}"
        );
        call.hang_up().await;
    }
    assert_eq!(series(&server, "sidetone_calls_total{outcome=\"rejected\"}").await, cases.len() as f64);
    assert_eq!(server.metric("sidetone_calls_active").await, 0.0);
    assert_eq!(server.metric("sidetone_recordings_total").await, 0.0);
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_call_beyond_the_limit_goes_on_unheard_and_the_running_one_is_not_disturbed() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start_with(&lab, &[("speech.model", "off"), ("calls.max", "1")]).await;
    Call::tap().caller(&["agent-pass", "1"]).callee(&["10"]).place(&lab).await;
    let running = server.call_in_state("live").await;
    let beyond = Call::tap().callee(&["5"]).nobody_hangs_up().place(&lab).await;
    goes_on(&lab, &beyond, Duration::from_secs(2)).await;
    let calls = server.ended_calls(1, SOON).await;
    let refused = calls.iter().find(|c| c["call_id"] != running["call_id"]).expect("the other call");
    assert_eq!(refused["outcome"], "rejected", "{refused:#}");
    assert!(
        refused["error"].as_str().is_some_and(|e| e.contains("calls.max is reached: 1 call")),
        "{refused:#}"
    );
    assert_eq!(series(&server, "sidetone_calls_total{outcome=\"rejected\"}").await, 1.0);

    let calls = server.ended_calls(2, SOON).await;
    let running = calls.iter().find(|c| c["call_id"] == running["call_id"]).expect("the first call");
    assert_eq!(running["outcome"], "completed", "{running:#}");
    assert_said(&lab, &server.recorded(running).legs[0], "agent-pass");
    beyond.hang_up().await;
    // There is room again.
    Call::tap().caller(&["0.3", "vm-goodbye"]).callee(&["3"]).place(&lab).await;
    let calls = server.ended_calls(3, SOON).await;
    assert_eq!(calls[0]["outcome"], "completed", "{:#}", calls[0]);
    lab.assert_clean().await;
}
