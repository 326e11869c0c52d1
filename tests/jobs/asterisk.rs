//! Conversions by Asterisk, over AMI: its own converter, and a dialplan of the user's.

use std::path::Path;

use serde_json::json;

use super::support::lab::{Lab, Version};
use super::support::proxy::Proxy;
use super::{Bench, wav_samples};

async fn bench(lab: &Lab, more: &[(&str, &str)]) -> Bench {
    let (url, user, password) = (format!("tcp://{}", lab.ami_addr()), lab.ami_user(), lab.ami_password());
    let mut settings = vec![("ami.url", &*url), ("ami.user", user), ("ami.password", password)];
    settings.retain(|(key, _)| more.iter().all(|(own, _)| own != key));
    settings.extend(more);
    Bench::start(&settings).await
}

/// A GSM file of a real prompt.
fn prompt(lab: &Lab, bench: &Bench) {
    let from = Path::new(lab.env("LAB_SOUNDS")).join("vm-goodbye.wav");
    let status = std::process::Command::new("sox").arg(from).arg(bench.at("a.gsm")).status().unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn real_asterisk_converts_what_a_job_names() {
    let lab = Lab::start(Version::V22);
    let bench = bench(&lab, &[("conversions.by", "asterisk")]).await;
    prompt(&lab, &bench);
    std::fs::write(bench.at("bad.gsm"), b"not of 33 bytes a frame, and no signature").unwrap();
    let jobs = json!([
        { "id": "good", "gsm_path": bench.at("a.gsm"), "wav_path": bench.at("a.wav") },
        { "id": "bad", "gsm_path": bench.at("bad.gsm"), "wav_path": bench.at("bad.wav") },
    ]);
    assert_eq!(bench.post("/api/conversions", &jobs).await.0, 202);
    let good = bench.over("good").await;
    assert_eq!(good["status"], "completed", "{good:#}\n{}", bench.server.log());
    let samples = std::fs::metadata(bench.at("a.gsm")).unwrap().len() as usize / 33 * 160;
    assert_eq!(wav_samples(&bench.at("a.wav")), samples);
    // By ours, the same samples.
    let ours = bench.at("ours.wav");
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_sidetone"))
        .args(["convert", "--quiet"])
        .args([bench.at("a.gsm"), ours.clone()])
        .status()
        .unwrap();
    assert!(done.success());
    let tail = |path: &Path| std::fs::read(path).unwrap()[44..].to_vec();
    assert_eq!(tail(&ours), tail(&bench.at("a.wav")));
    assert_eq!(bench.over("bad").await["status"], "failed");
    assert!(!bench.at("bad.wav").exists());
}

#[tokio::test]
async fn real_dialplan_converts_and_what_it_does_not_is_told() {
    let lab = Lab::start(Version::V22);
    let bench = bench(&lab, &[("conversions.by", "dialplan"), ("conversions.timeout_s", "20")]).await;
    prompt(&lab, &bench);
    let body = json!({ "id": "good", "gsm_path": bench.at("a.gsm"), "wav_path": bench.at("a.wav") });
    assert_eq!(bench.post("/api/conversions", &body).await.0, 202);
    let good = bench.over("good").await;
    assert_eq!(good["status"], "completed", "{good:#}\n{}", bench.server.log());
    assert!(wav_samples(&bench.at("a.wav")) > 1_000);
    let odd = bench.at("a${SHELL(id)},b.wav");
    let body = json!({ "id": "odd", "gsm_path": bench.at("a.gsm"), "wav_path": odd });
    assert_eq!(bench.post("/api/conversions", &body).await.0, 202);
    let refused = bench.over("odd").await;
    assert!(refused["error"].as_str().unwrap().contains("cannot be given to the dialplan"), "{refused:#}");
    let nobody = [
        ("conversions.by", "dialplan"),
        ("conversions.extension", "nobody"),
        ("conversions.timeout_s", "2"),
        ("jobs.attempts", "1"),
    ];
    let bench = self::bench(&lab, &nobody).await;
    prompt(&lab, &bench);
    let body = json!({ "id": "none", "gsm_path": bench.at("a.gsm"), "wav_path": bench.at("a.wav") });
    assert_eq!(bench.post("/api/conversions", &body).await.0, 202);
    let none = bench.over("none").await;
    let words = none["error"].as_str().unwrap();
    assert!(none["status"] == "failed" && words.contains("nobody@convert-audio"), "{none:#}");
}

#[tokio::test]
async fn real_asterisk_that_is_away_is_waited_for() {
    let lab = Lab::start(Version::V22);
    let proxy = Proxy::to(&format!("http://{}", lab.ami_addr())).await;
    let ami = proxy.url().replace("http://", "tcp://");
    let settings = [
        ("conversions.by", "asterisk"),
        ("ami.url", &*ami),
        ("conversions.timeout_s", "1"),
        ("ami.request_timeout_ms", "1000"),
        ("jobs.attempts", "1"),
    ];
    let bench = bench(&lab, &settings).await;
    prompt(&lab, &bench);
    proxy.freeze();
    let body = json!({ "id": "waits", "gsm_path": bench.at("a.gsm"), "wav_path": bench.at("a.wav") });
    assert_eq!(bench.post("/api/conversions", &body).await.0, 202);
    let waiting = bench.until("waits", |job| job["error"].is_string()).await;
    assert_eq!((&waiting["status"], &waiting["attempts"]), (&json!("queued"), &json!(0)), "{waiting:#}");
    proxy.thaw();
    let done = bench.over("waits").await;
    assert_eq!(done["status"], "completed", "{done:#}");
}
