//! What the pages of the jobs tell users to type, as it stands.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::support::services::RabbitMq;
use super::{Bench, gsm};

/// Blocks of a page that are to be run, in order: shell, and Python.
fn blocks(page: &str) -> Vec<(String, String)> {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page)).unwrap();
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        if matches!(language, "sh" | "python") {
            found.push((language.to_owned(), block.join("\n") + "\n"));
        }
    }
    found
}

/// Runs a page in `bench`'s root; everything that it prints.
pub async fn typed(bench: &Bench, page: &str, broker: &str) -> String {
    let programs = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sidetone"), programs.path().join("sidetone")).unwrap();
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/tools/python/bin/python");
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    let mut all = String::new();
    for (language, block) in blocks(page) {
        let mut command = match &*language {
            "sh" => Command::new("bash"),
            _ => Command::new(&python),
        };
        let script = programs.path().join("block");
        std::fs::write(
            &script,
            if language == "sh" { format!("set -euo pipefail\n{block}") } else { block.clone() },
        )
        .unwrap();
        command.arg(&script).current_dir(bench.root.path());
        command.env("PATH", &path).env("SIDETONE_URL", bench.url("")).env("RABBITMQ_URL", broker);
        let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let out = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{page}:\n{block}\n{out}{}", String::from_utf8_lossy(&done.stderr));
        all += &out;
    }
    all
}

#[tokio::test]
async fn the_page_of_conversions_works_as_it_stands() {
    let broker = RabbitMq::start();
    let bench = Bench::start(&[("jobs.engine", "rabbitmq"), ("rabbitmq.url", &broker.url())]).await;
    gsm(&bench.at("call.gsm"), 50, 1);
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/job/transcoding.conf");
    std::fs::copy(seed, bench.at("transcoding.conf")).unwrap();
    let said = typed(&bench, "conversions.md", &broker.url()).await;
    assert!(said.contains("\"status\":\"completed\"") && said.contains("\"workers\":4"), "{said}");
    bench.until_count("conversion", "completed", 2).await;
    assert!(bench.at("call.wav").exists() && bench.at("by-rabbitmq.wav").exists());
    let imported = std::fs::read_to_string(bench.at("sidetone.toml")).unwrap();
    let secret = std::fs::read_to_string(bench.at("ami-password")).unwrap();
    assert!(
        imported.contains("auditorai") && imported.contains("ami-password") && secret == "Tu6...JYL",
        "{imported}"
    );
    let check = Command::new(env!("CARGO_BIN_EXE_sidetone"))
        .args(["config", "show", "--config"])
        .arg(bench.at("sidetone.toml"))
        .output()
        .unwrap();
    assert!(check.status.success(), "what was imported is good: {}", String::from_utf8_lossy(&check.stderr));
}

#[tokio::test]
async fn the_page_of_transcriptions_works_as_it_stands() {
    let broker = RabbitMq::start();
    let settings = [
        ("jobs.engine", "rabbitmq"),
        ("rabbitmq.url", &*broker.url()),
        ("speech.model", "auto"),
        ("speech.workers", "1"),
    ];
    let bench = Bench::start(&settings).await;
    let speech = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/speech/hello-world.ulaw");
    std::fs::copy(speech, bench.at("call.ulaw")).unwrap();
    let said = typed(&bench, "transcriptions.md", &broker.url()).await;
    assert!(said.contains("hello world") && said.contains("00:00:0") && said.contains("completed"), "{said}");
    assert_eq!(bench.over("by-rabbitmq").await["result"]["text"], json!("hello world"));
}
