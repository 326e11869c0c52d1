//! Brokers and databases by TLS, with an authority of one's own; and without it, an error that names the remedy.

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::rabbitmq::run;
use super::support::server::Sidetone;
use super::support::services::{Postgres, RabbitMq, Redis, tls};
use super::{Bench, SOON, gsm};

async fn message_of(bench: &Bench, dependency: &str, state: &str) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        let ready = bench.get("/ready").await;
        let known = &ready["dependencies"][dependency];
        if known["state"] == state && !known["message"].as_str().unwrap().contains("yet") {
            return known["message"].as_str().unwrap().to_owned();
        }
        assert!(Instant::now() < deadline, "{ready:#}\n{}", bench.server.log());
        sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn rabbitmq_by_tls_does_jobs() {
    let broker = RabbitMq::start_secure();
    let (url, ca) = (broker.secure_url(), tls("ca.pem").display().to_string());
    let settings = [("jobs.engine", "rabbitmq"), ("rabbitmq.url", &*url), ("rabbitmq.backoff_ms", "100")];
    let mut with_ca = settings.to_vec();
    with_ca.extend([("rabbitmq.ca_file", &*ca), ("conversions.results", "done")]);
    let bench = Bench::start(&with_ca).await;
    gsm(&bench.at("a.gsm"), 50, 1);
    let message = json!({ "id": "one", "input": bench.at("a.gsm"), "output": bench.at("a.wav") });
    run(&broker.url(), &["publish", "Asterisk.Transcoding"], format!("{message}\n")).await;
    assert_eq!(bench.over("one").await["status"], "completed");
    let done = run(&broker.url(), &["consume", "done", "1"], String::new()).await;
    assert!(done[0].contains("completed"), "{done:?}");

    let without = Bench::start(&settings).await;
    let said = message_of(&without, "broker", "degraded").await;
    assert!(said.contains("rabbitmq.ca_file"), "{said}");
}

#[tokio::test]
async fn postgresql_by_tls_keeps_jobs() {
    let server = Postgres::start_secure();
    let url = server.url();
    let verified = format!("{url}?sslmode=verify-full&sslrootcert={}", tls("ca.pem").display());
    let bench = Bench::start(&[("store.url", &verified)]).await;
    let secure = server.ask(
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND datname LIKE 'test%'",
    );
    assert!(secure.trim().parse::<u32>().unwrap() >= 1, "{secure}");
    gsm(&bench.at("a.gsm"), 50, 1);
    let body = json!({ "id": "one", "input": bench.at("a.gsm"), "output": bench.at("a.wav") });
    assert_eq!(bench.post("/api/conversions", &body).await.0, 202);
    assert_eq!(bench.over("one").await["status"], "completed");

    let unknown = format!("{url}?sslmode=verify-full");
    let mut without =
        Sidetone::spawn("http://127.0.0.1:1", "x", &[("store.url", &*unknown), ("tts.engine", "off")]);
    assert!(!without.exit().await.success());
    let said = without.log();
    assert!(said.contains("sslrootcert=") && !said.contains("secret"), "{said}");
}

#[tokio::test]
async fn redis_by_tls_shares() {
    let redis = Redis::start();
    let (url, ca) = (redis.secure_url(), tls("ca.pem").display().to_string());
    let bench = Bench::start(&[("redis.url", &*url), ("redis.ca_file", &*ca)]).await;
    message_of(&bench, "redis", "ok").await;
    let without = Bench::start(&[("redis.url", &*url)]).await;
    let said = message_of(&without, "redis", "degraded").await;
    assert!(said.contains("redis.ca_file"), "{said}");
}
