//! `sidetone check` and what a server keeps its rows, queues and copies in: each is tried as it is configured, and a remedy told of.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Bench;
use super::support::server::free_tcp;
use super::support::services::{Postgres, RabbitMq, Redis, tls};

/// What is found of `what`: verdict and message. Asterisk is not there, and not asked about.
async fn found(data: &Path, what: &'static str, settings: &[(&str, &str)]) -> Option<(String, String)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidetone"));
    command.args(["check", "--json", "--set", "speech.model=off", "--set", "tts.engine=off"]);
    command.arg("--set").arg(format!("node.data={}", data.display()));
    command.args(["--set", "ari.url=http://127.0.0.1:1", "--set", &format!("http.bind={}", free_tcp())]);
    for (key, value) in settings {
        command.args(["--set", &format!("{key}={value}")]);
    }
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(done.status.code(), Some(1), "there is no Asterisk");
    let said: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let mut of_it = said["findings"].as_array().unwrap().iter().filter(|finding| finding["what"] == what);
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let one = of_it.next().map(|finding| (text(finding, "verdict"), text(finding, "message")));
    assert!(of_it.next().is_none(), "{said:#}");
    one
}

#[track_caller]
fn assert_is(found: Option<(String, String)>, verdict: &str, words: &[&str]) {
    let (is, message) = found.expect("a finding");
    assert!(is == verdict && words.iter().all(|word| message.contains(word)), "{is}: {message}");
    assert!(!message.contains("secret"), "a password is shown: {message}");
}

#[tokio::test]
async fn check_says_how_sqlite_stands_and_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    assert_is(found(&data, "database", &[]).await, "good", &["SQLite", "made when the server starts"]);
    assert!(!data.join("sidetone.db").exists());
    for what in ["broker", "redis"] {
        assert_eq!(found(&data, what, &[]).await, None, "{what} is not configured");
    }
    let mut bench = Bench::start(&[]).await;
    let data = bench.server.data();
    assert_is(found(&data, "database", &[]).await, "good", &["SQLite", "up to date"]);
    assert!(bench.server.stop().await.success());
    // As a later version leaves it.
    let edit = "import sqlite3, sys; base = sqlite3.connect(sys.argv[1]); base.execute(\"INSERT INTO _sqlx_migrations \
                SELECT 9999, 'later', installed_on, success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1\"); \
                base.commit()";
    let edited = Command::new("python3").args(["-c", edit]).arg(data.join("sidetone.db")).status().unwrap();
    assert!(edited.success());
    assert_is(found(&data, "database", &[]).await, "bad", &["9999", "later version"]);
    std::fs::write(data.join("sidetone.db"), "no database at all, but a text that somebody put there")
        .unwrap();
    assert_is(found(&data, "database", &[]).await, "bad", &["see whether the file is a database"]);
}

#[tokio::test]
async fn check_tries_postgresql() {
    let (server, folder) = (Postgres::start(), tempfile::tempdir().unwrap());
    let url = server.url();
    let of = async |url: &str| found(folder.path(), "database", &[("store.url", url)]).await;
    assert_is(of(&url).await, "good", &["PostgreSQL", "made when the server starts"]);
    let mut bench = Bench::start(&[("store.url", &url)]).await;
    assert_is(of(&url).await, "good", &["PostgreSQL", "up to date"]);
    assert!(bench.server.stop().await.success());
    let elsewhere = format!("{}/nowhere", url.rsplit_once('/').unwrap().0);
    assert_is(of(&elsewhere).await, "bad", &["nowhere", "does not exist"]);
    let nobody = format!("postgres://app:secret@{}/base", free_tcp());
    assert_is(of(&nobody).await, "bad", &["see whether the server runs and `store.url` is right"]);
}

#[tokio::test]
async fn check_tries_rabbitmq() {
    let (broker, folder) = (RabbitMq::start_secure(), tempfile::tempdir().unwrap());
    let of = async |settings: &[(&str, &str)]| {
        found(folder.path(), "broker", &[&[("jobs.engine", "rabbitmq")], settings].concat()).await
    };
    let url = broker.url();
    assert_is(of(&[("rabbitmq.url", &url)]).await, "good", &["RabbitMQ at 127.0.0.1"]);
    let wrong = url.replace("guest:guest", "guest:secret");
    assert_is(of(&[("rabbitmq.url", &wrong)]).await, "bad", &["rabbitmq.url"]);
    let nobody = format!("amqp://guest:secret@{}/%2f", free_tcp());
    assert_is(of(&[("rabbitmq.url", &nobody)]).await, "bad", &["rabbitmq.url"]);
    let secure = broker.secure_url();
    assert_is(of(&[("rabbitmq.url", &secure)]).await, "bad", &["rabbitmq.ca_file"]);
    let ca = tls("ca.pem").display().to_string();
    assert_is(of(&[("rabbitmq.url", &secure), ("rabbitmq.ca_file", &ca)]).await, "good", &["RabbitMQ"]);
    assert_is(
        of(&[("rabbitmq.url", &secure), ("rabbitmq.ca_file", "/none.pem")]).await,
        "bad",
        &["rabbitmq.ca_file", "/none.pem"],
    );
}

#[tokio::test]
async fn check_tries_redis() {
    let (server, folder) = (Redis::start(), tempfile::tempdir().unwrap());
    let of = async |settings: &[(&str, &str)]| found(folder.path(), "redis", settings).await;
    let url = server.url();
    assert_is(of(&[("redis.url", &url)]).await, "good", &["Redis at 127.0.0.1"]);
    let wrong = url.replace("redis://", "redis://somebody:secret@");
    assert_is(of(&[("redis.url", &wrong)]).await, "bad", &["the user or password in redis.url is wrong"]);
    let nobody = format!("redis://{}", free_tcp());
    assert_is(of(&[("redis.url", &nobody)]).await, "bad", &["see whether it runs and redis.url is right"]);
    let secure = server.secure_url();
    assert_is(of(&[("redis.url", &secure)]).await, "bad", &["redis.ca_file"]);
    let ca = tls("ca.pem").display().to_string();
    assert_is(of(&[("redis.url", &secure), ("redis.ca_file", &ca)]).await, "good", &["Redis"]);
}

/// The Manager, which is one of the ways to Asterisk, as its own finding.
#[tokio::test]
async fn check_tries_the_manager() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(found(folder.path(), "manager", &[]).await, None, "it is not configured");
    let url = format!("tcp://{}", free_tcp());
    let settings = [("ami.url", &*url), ("ami.user", "sidetone"), ("ami.password", "secret")];
    assert_is(found(folder.path(), "manager", &settings).await, "bad", &["ami.url"]);
}
