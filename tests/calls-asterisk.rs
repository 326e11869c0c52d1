//! What Asterisk at hand can and cannot do is found out before a call pays for it: by `check`, and at every connect of `serve`.

#![allow(clippy::disallowed_methods, reason = "tests run on the real clock")]

#[path = "support/fake_ari/mod.rs"]
mod fake_ari;
#[path = "support/mod.rs"]
mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use fake_ari::FakeAri;
use serde_json::Value;
use support::server::{Sidetone, free_tcp, free_udp};
use tokio::time::{Instant, sleep};

const SOON: Duration = Duration::from_secs(10);
const REFUSAL: &str = "slin over RTP needs Asterisk 18.21.0, 20.6.0, 21.1.0, 22.0.0 or later in its branch; this is 16.28.0. \
                       Use `ulaw`, `alaw` or `slin16` as `rtp.format`.";

/// `check --json` with `settings`: its exit code and its findings.
async fn check(ari: &FakeAri, settings: &[(&str, &str)]) -> (i32, Vec<Value>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    command.args(["check", "--json"]).current_dir(folder.path()).stdin(Stdio::null());
    let (http, rtp) = (free_tcp().to_string(), free_udp().to_string());
    let own = [
        ("ari.url", ari.url.as_str()),
        ("ari.password", "change-me"),
        ("http.bind", &http),
        ("rtp.bind", &rtp),
        ("speech.model", "off"),
    ];
    for (key, value) in own.iter().chain(settings) {
        command.args(["--set", &format!("{key}={value}")]);
    }
    let done = tokio::task::block_in_place(|| command.output()).expect("the program");
    let json: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    (done.status.code().expect("no signal"), json["findings"].as_array().expect("findings").clone())
}

fn all<'a>(findings: &'a [Value], what: &str) -> Vec<(&'a str, &'a str)> {
    let found = findings.iter().filter(|f| f["what"] == what);
    found.map(|f| (f["verdict"].as_str().unwrap(), f["message"].as_str().unwrap())).collect()
}

fn spawn(ari: &FakeAri, settings: &[(&str, &str)]) -> Sidetone {
    Sidetone::spawn(&ari.url, "change-me", &[&[("speech.model", "off")], settings].concat())
}

async fn ready(server: &Sidetone, is: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + SOON;
    loop {
        let asterisk = server.get("/ready").await["dependencies"]["asterisk"].clone();
        if is(&asterisk) {
            return asterisk;
        }
        assert!(Instant::now() < deadline, "{asterisk:#}\n{}", server.log());
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_format_that_this_asterisk_cannot_send_is_refused_at_the_start() {
    let ari = FakeAri::start().await;
    ari.set_version("16.28.0");
    let mut server = spawn(&ari, &[("rtp.format", "slin")]);
    assert_eq!(server.exit().await.code(), Some(64), "{}", server.log());
    assert!(server.log().contains(REFUSAL), "{}", server.log());
    let (code, findings) = check(&ari, &[("rtp.format", "slin")]).await;
    assert_eq!(code, 1);
    assert_eq!(all(&findings, "rtp.format"), [("bad", REFUSAL)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_to_an_asterisk_that_cannot_send_the_format_takes_no_call_until_it_can() {
    let ari = FakeAri::start().await;
    let mut server = spawn(&ari, &[("rtp.format", "slin"), ("ari.backoff_max_ms", "300")]);
    server.until_ready().await;

    ari.set_version("16.28.0");
    ari.cut_socket("sidetone");
    ready(&server, |asterisk| asterisk["state"] == "failed" && asterisk["message"] == REFUSAL).await;
    assert!(server.log().lines().any(|l| l.contains("ERROR") && l.contains(REFUSAL)), "{}", server.log());
    assert!(ari.call("sidetone", "c1", &["tap"]));
    let calls = server.ended_calls(1, SOON).await;
    assert_eq!((&calls[0]["outcome"], &calls[0]["error"]), (&"rejected".into(), &REFUSAL.into()));
    assert!(ari.requests().contains(&"POST /channels/c1/continue".to_owned()), "the call is held");

    ari.set_version("22.10.1");
    ari.cut_socket("sidetone");
    ready(&server, |asterisk| asterisk["state"] == "ok" && asterisk["version"] == "22.10.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_format_without_its_codec_is_refused_at_the_start_by_check_and_at_a_reconnect() {
    let ari = FakeAri::start().await;
    for (format, module, remedy) in [
        ("g722", "codec_g722.so", "g722 needs a codec that this Asterisk has not loaded: load codec_g722.so"),
        ("gsm", "codec_gsm.so", "load codec_gsm.so"),
        ("opus", "codec_opus_open_source.so", "load codec_opus.so"),
    ] {
        let settings = [("rtp.format", format), ("ari.backoff_max_ms", "300")];
        let mut running = spawn(&ari, &settings);
        running.until_ready().await;

        ari.unload(module);
        let mut server = spawn(&ari, &settings);
        assert_eq!(server.exit().await.code(), Some(64), "{}", server.log());
        let log = server.log();
        assert!(log.contains(remedy) && log.contains("or use another `rtp.format`"), "{log}");
        let (code, findings) = check(&ari, &settings).await;
        let found = all(&findings, "rtp.format");
        assert!(matches!(found[..], [("bad", m)] if m.contains(remedy)), "{findings:#?}");
        assert_eq!(code, 1);

        ari.cut_socket("sidetone");
        let is_told = |said: &Value| said["message"].as_str().is_some_and(|m| m.contains(remedy));
        ready(&running, |asterisk| asterisk["state"] == "failed" && is_told(asterisk)).await;
        assert!(running.stop().await.success());
    }
    let mut server = spawn(&ari, &[("rtp.format", "alaw")]);
    server.until_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn known_faults_of_a_version_are_told_in_the_log_in_ready_and_by_check() {
    const FAULT: &str = "a hangup can block every ARI and AMI request (asterisk#1907, #1928)";
    let ari = FakeAri::start().await;
    ari.set_version("22.9.0");
    let mut server = spawn(&ari, &[]);
    server.until_ready().await;
    let asterisk = ready(&server, |asterisk| asterisk["state"] == "ok").await;
    assert!(asterisk["warning"].as_str().is_some_and(|w| w.contains(FAULT)), "{asterisk:#}");
    let log = server.log();
    assert!(log.lines().any(|l| l.contains("WARN") && l.contains("22.9.0") && l.contains(FAULT)), "{log}");
    let (_, findings) = check(&ari, &[]).await;
    assert!(
        all(&findings, "version").iter().any(|(v, m)| *v == "warning" && m.contains(FAULT)),
        "{findings:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_asks_for_the_format_that_calls_come_in_and_notices_another_one() {
    let ari = FakeAri::start().await;
    for (payload_type, verdict, word) in [(10, "good", "slin"), (0, "bad", "payload type 0")] {
        ari.sends_media(payload_type, "127.0.0.1");
        let (_, findings) = check(&ari, &[("rtp.format", "slin")]).await;
        let found = all(&findings, "media path");
        assert!(matches!(found[..], [(v, m)] if v == verdict && m.contains(word)), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_the_setting_where_asterisks_media_comes_from_another_address_than_it_says() {
    let ari = FakeAri::start().await;
    ari.sends_media(0, "192.0.2.7");
    let (code, findings) = check(&ari, &[]).await;
    let found = all(&findings, "media path");
    let remedy = "set rtp.asterisk_address = \"127.0.0.1\"";
    assert!(
        matches!(found[..], [("bad", m)] if m.contains(remedy) && m.contains("expected from 192.0.2.7")),
        "{found:?}"
    );
    assert_eq!(code, 1);
    let (_, findings) = check(&ari, &[("rtp.asterisk_address", "127.0.0.1")]).await;
    let found = all(&findings, "media path");
    assert!(matches!(found[..], [("good", _)]), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_media_comes_from_another_address_than_asterisk_says_is_heard_with_the_setting() {
    let ari = FakeAri::start().await;
    ari.sends_media(0, "192.0.2.7");
    let mut server = spawn(&ari, &[("rtp.asterisk_address", "127.0.0.1")]);
    server.until_ready().await;
    assert!(ari.call("sidetone", "c1", &["tap"]));
    server.call_in_state("live").await;
    ari.plays_on_all_bridges();
    let deadline = Instant::now() + SOON;
    while server.metric("sidetone_rtp_packets_received_total").await < 50.0 {
        assert!(Instant::now() < deadline, "{}", server.log());
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_beside_a_running_server_is_good_and_names_ports_that_strangers_have() {
    let ari = FakeAri::start().await;
    let mut server = spawn(&ari, &[]);
    server.until_ready().await;
    let rtp = server.rtp().to_string();
    let (_, findings) = check(&ari, &[("http.bind", server.http()), ("rtp.bind", &rtp)]).await;
    let found = all(&findings, "http port");
    assert!(matches!(found[..], [("good", m)] if m.contains("a Sidetone answers there")), "{found:?}");
    assert!(all(&findings, "rtp ports").is_empty(), "its own ports are as they should be: {findings:#?}");

    // A server that is none of ours, and one that does not answer at all.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for stranger in
        [ari.url.trim_start_matches("http://").to_owned(), silent.local_addr().unwrap().to_string()]
    {
        let (code, findings) = check(&ari, &[("http.bind", &stranger), ("rtp.bind", &rtp)]).await;
        let found = all(&findings, "http port");
        assert!(matches!(found[..], [("bad", m)] if m.contains("http.bind")), "{found:?}");
        let found = all(&findings, "rtp ports");
        assert!(matches!(found[..], [("bad", m)] if m.contains("set rtp.bind to a free port")), "{found:?}");
        assert_eq!(code, 1);
    }
    let (_, findings) = check(&ari, &[]).await;
    for what in ["http port", "rtp ports"] {
        assert!(matches!(all(&findings, what)[..], [("good", _)]), "{findings:#?}");
    }
}
