//! `sidetone check` beside real Asterisks: what it says is what a call would find.

use serde_json::Value;

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
        for format in ["ulaw", "alaw", "slin", "slin16"] {
            let (code, findings) = check(&lab, &[("rtp.format", format)]);
            if (version, format) == (Version::V16, "slin") {
                assert_finding(&findings, "rtp.format", "bad", "Use `ulaw`, `alaw` or `slin16`");
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
