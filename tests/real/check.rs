//! `sidetone check` beside real Asterisks: what it says is what a call would find.

use serde_json::Value;
use sidetone::media::codec::Codec;

use crate::bad_input::sidetone;
use crate::support::lab::{Lab, Version};
use crate::support::server::Sidetone;

/// Exit code and findings.
fn check(lab: &Lab, settings: &[(&str, &str)]) -> (Option<i32>, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let done = sidetone(lab, folder.path(), &["check", "--json"], settings);
    let json: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    (done.status.code(), json["findings"].as_array().expect("findings").clone())
}

#[track_caller]
fn assert_finding(findings: &[Value], what: &str, verdict: &str, word: &str) {
    let said = |f: &Value| f["verdict"] == verdict && f["message"].as_str().unwrap().contains(word);
    assert!(
        findings.iter().any(|f| f["what"] == what && said(f)),
        "no {what} {verdict} {word}: {findings:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn real_check_hears_each_format_that_this_asterisk_can_send() {
    for version in [Version::V22, Version::V16] {
        let lab = Lab::start(version);
        for format in Codec::ALL.map(Codec::name) {
            let (code, findings) = check(&lab, &[("rtp.format", format)]);
            let refusal = match (version, format) {
                (Version::V16, "slin") => Some("Use `ulaw`, `alaw` or `slin16`"),
                (Version::V16, "opus") => Some("load codec_opus.so"),
                _ => None,
            };
            if let Some(remedy) = refusal {
                assert_finding(&findings, "rtp.format", "bad", remedy);
                assert_eq!(code, Some(1));
                continue;
            }
            assert_finding(&findings, "media path", "good", format);
            assert_eq!(code, Some(0), "{findings:#?}");
        }
        lab.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_asterisk_without_a_codec_is_refused_for_its_format() {
    let lab = Lab::start(Version::V22);
    for (format, module) in [("g722", "codec_g722"), ("gsm", "codec_gsm"), ("opus", "codec_opus")] {
        let loaded = if format == "opus" { "codec_opus_open_source" } else { module };
        lab.cli(&format!("module unload {loaded}.so"));
        let remedy = format!("load {module}.so");
        let (code, findings) = check(&lab, &[("rtp.format", format)]);
        assert_finding(&findings, "rtp.format", "bad", &remedy);
        assert_eq!(code, Some(1), "{findings:#?}");
        let settings = [("rtp.format", format), ("speech.model", "off")];
        let mut server = Sidetone::spawn(lab.ari_url(), lab.ari_password(), &settings);
        assert_eq!(server.exit().await.code(), Some(64), "{}", server.log());
        assert!(server.log().contains(&remedy), "{}", server.log());

        lab.cli(&format!("module load {loaded}.so"));
        let (code, findings) = check(&lab, &settings);
        assert_finding(&findings, "media path", "good", format);
        assert_eq!(code, Some(0), "{findings:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_check_beside_a_running_server_is_good_and_names_a_wrong_sender() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start_with(&lab, &[("speech.model", "off")]).await;
    let rtp = server.rtp().to_string();
    let beside = [("http.bind", server.http()), ("rtp.bind", rtp.as_str())];
    let (code, findings) = check(&lab, &beside);
    assert_finding(&findings, "http port", "good", "a Sidetone answers there");
    assert_eq!(code, Some(0), "{findings:#?}");

    let (code, findings) = check(&lab, &[("rtp.asterisk_address", "127.0.0.9")]);
    assert_finding(&findings, "media path", "bad", "set rtp.asterisk_address = \"127.0.0.1\"");
    assert_eq!(code, Some(1));
    lab.assert_clean().await;
}
