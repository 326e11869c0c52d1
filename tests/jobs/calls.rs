//! Texts spoken to telephones, on a real Asterisk: asked for over HTTP or RabbitMQ, and what became of each told as it was.

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::rabbitmq::run;
use super::support::lab::{Lab, Version};
use super::support::proxy::Proxy;
use super::support::services::RabbitMq;
use super::{Bench, SOON};

/// A server of OpenAI's shape whose voice is that of the stock prompts: the built-in model understands no other. Whatever the text, it says
/// what `TEXT` says.
pub const TEXT: &str = "hello world";
/// 30 s.
const LONG: &str = "demo-congrats";

pub async fn voice(lab: &Lab, prompt: &str) -> String {
    let wav = std::fs::read(Path::new(lab.env("LAB_SOUNDS")).join(prompt).with_extension("wav")).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let speak = async move || ([(header::CONTENT_TYPE, "audio/wav")], wav.clone());
    let router = Router::new().route("/v1/audio/speech", post(speak));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn bench(lab: &Lab, ami: &str, voice: &str, more: &[(&str, &str)]) -> Bench {
    bench_to_crash(lab, ami, voice, more, None).await
}

/// It dies at that step.
pub async fn bench_to_crash(
    lab: &Lab,
    ami: &str,
    voice: &str,
    more: &[(&str, &str)],
    step: Option<&str>,
) -> Bench {
    let mut settings = vec![
        ("ami.url", ami),
        ("ami.user", lab.ami_user()),
        ("ami.password", lab.ami_password()),
        ("tts.engine", "openai"),
        ("tts.url", voice),
        ("tts_calls.channel", "Local/{national}@lab-phones/n"),
        ("tts_calls.region", "CO"),
        ("tts_calls.allow_extensions", "true"),
        ("tts_calls.ring_seconds", "2"),
        ("tts_calls.per_second", "0"),
        ("tts_calls.retry", "[]"),
    ];
    for (key, value) in more {
        settings.retain(|(known, _)| known != key);
        settings.push((*key, *value));
    }
    Bench::start_to_crash(&settings, step).await
}

pub fn at(lab: &Lab) -> String {
    format!("tcp://{}", lab.ami_addr())
}

pub async fn outcome(bench: &Bench, id: &str) -> Value {
    bench.over(id).await;
    bench.get(&format!("/tts/status/{id}")).await
}

/// What was heard, as the built-in model understands it.
fn understood(file: &Path) -> String {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_sidetone"))
        .args(["transcribe", "--quiet", "--format", "json", "--language", "en"])
        .arg(file)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let transcript: Value = serde_json::from_slice(&done.stdout).unwrap();
    let texts = transcript["utterances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["text"].as_str().unwrap().to_owned());
    texts.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn real_calls_are_placed_and_told_of_as_they_went() {
    let lab = Lab::start(Version::V22);
    let voice = voice(&lab, "hello-world").await;
    let bench = bench(&lab, &at(&lab), &voice, &[]).await;
    let call = |id: &str, number: &str| json!({ "id": id, "text": TEXT, "phone_number": number, "language": "en", "priority": "normal" });
    let calls = json!([
        call("answer", "100"),
        call("busy", "101"),
        call("congestion", "102"),
        call("rings", "103"),
        call("nobody", "109")
    ]);
    let (status, answer) = bench.post("/tts/call", &calls).await;
    assert_eq!((status, answer["jobs"].as_array().unwrap().len()), (202, 5), "{answer}");
    let answered = outcome(&bench, "answer").await;
    assert_eq!(
        (&answered["status"], &answered["outcome"]),
        (&json!("completed"), &json!("answered")),
        "{answered:#}\n{}",
        bench.server.log()
    );
    assert_eq!(answered["result"]["playback"]["played"], "to_the_end", "{answered:#}");
    assert_eq!(understood(&lab.heard().pop().unwrap()), TEXT);
    for (id, word) in
        [("busy", "busy"), ("congestion", "congestion"), ("rings", "no_answer"), ("nobody", "invalid_number")]
    {
        let job = outcome(&bench, id).await;
        assert_eq!((&job["status"], &job["outcome"]), (&json!("failed"), &json!(word)), "{id}: {job:#}");
    }
    // What can never be called is not taken in.
    for (bad, status, says) in [
        (json!({ "text": TEXT, "phone_number": "+57 300505" }), 422, "300505"),
        (json!({ "text": TEXT, "phone_number": "call me" }), 422, "call me"),
        (json!({ "text": TEXT, "phone_number": "112" }), 422, "112"),
        (json!({ "text": " ", "phone_number": "100" }), 400, "text"),
        (json!({ "text": TEXT }), 400, "phone_number"),
    ] {
        let (got, answer) = bench.post("/tts/call", &bad).await;
        assert!(got == status && answer["detail"].as_str().unwrap().contains(says), "{bad}: {got} {answer}");
    }
    // And by the command line.
    let said = std::process::Command::new(env!("CARGO_BIN_EXE_sidetone"))
        .args(["call", TEXT, "--to", "100", "--url", &bench.url("")])
        .output();
    let said = tokio::task::spawn_blocking(move || said.unwrap()).await.unwrap();
    let out = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.status.success() && out.starts_with("answered, played to the end"),
        "{out}{}",
        String::from_utf8_lossy(&said.stderr)
    );
}

#[tokio::test]
async fn real_calls_are_tried_again_as_their_cause_deserves_and_called_off() {
    let lab = Lab::start(Version::V22);
    let voice = voice(&lab, LONG).await;
    let bench = bench(&lab, &at(&lab), &voice, &[("tts_calls.retry", "[\"busy=1,1\"]")]).await;
    let call = |id: &str, number: &str| json!({ "id": id, "text": TEXT, "phone_number": number });
    assert_eq!(bench.post("/tts/call", &json!([call("busy", "101"), call("long", "100")])).await.0, 202);
    let busy = outcome(&bench, "busy").await;
    assert_eq!((&busy["outcome"], &busy["attempts"]), (&json!("busy"), &json!(3)), "{busy:#}");
    bench.until("long", |job| job["progress"].as_f64().is_some_and(|share| share >= 0.7)).await;
    assert_eq!(bench.post("/api/jobs/long/cancel", &json!(null)).await.0, 202);
    assert_eq!(bench.over("long").await["status"], "cancelled");
    let deadline = Instant::now() + SOON;
    while !lab.cli("core show channels count").contains("0 active channels") {
        assert!(Instant::now() < deadline, "its channel is left");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Producers of seed systems, with RabbitMQ between.
#[tokio::test]
async fn real_calls_by_a_plain_producer() {
    let (lab, broker) = (Lab::start(Version::V22), RabbitMq::start());
    let voice = voice(&lab, "hello-world").await;
    let url = broker.url();
    let settings = [("jobs.engine", "rabbitmq"), ("rabbitmq.url", &*url), ("tts_calls.workers", "1")];
    let bench = bench(&lab, &at(&lab), &voice, &settings).await;
    let line = |id: &str, number: &str| {
        json!({ "id": id, "text": TEXT, "phone_number": number, "language": "en", "priority": "normal" })
            .to_string()
            + "\n"
    };
    run(&url, &["publish", "tts_calls"], line("a", "100") + &line("b", "101") + "poison\n").await;
    run(&url, &["publish", "tts_priority"], line("c", "104")).await;
    let results = run(&url, &["consume", "tts_results", "3"], String::new()).await;
    let of = |id: &str| -> Value {
        let all = results
            .iter()
            .map(|line| serde_json::from_str::<Value>(line.split('\t').next().unwrap()).unwrap());
        all.into_iter().find(|result| result["id"] == id).unwrap_or_else(|| panic!("{id}: {results:?}"))
    };
    assert_eq!((&of("a")["status"], &of("a")["outcome"]), (&json!("completed"), &json!("answered")));
    assert_eq!((&of("b")["status"], &of("b")["outcome"]), (&json!("failed"), &json!("busy")));
    // It answers and hangs up.
    assert_eq!(of("c")["ended_by"], "party", "{}", of("c"));
    let dead = run(&url, &["consume", "tts_calls.dead", "2"], String::new()).await;
    assert!(dead.iter().any(|line| line.starts_with("poison")), "{dead:?}");
    assert_eq!(bench.count("tts-call", "completed").await, 2);
}

/// The server dies in the middle of a call, and the connection to Asterisk before one: each is called once, and told of.
#[tokio::test]
async fn real_calls_survive_the_server_and_the_connection() {
    let lab = Lab::start(Version::V22);
    let voice = voice(&lab, "vm-goodbye").await;
    let proxy = Proxy::to(&format!("http://{}", lab.ami_addr())).await;
    let ami = proxy.url().replace("http://", "tcp://");
    let mut bench = bench(&lab, &ami, &voice, &[]).await;
    let call = |id: &str| json!({ "id": id, "text": TEXT, "phone_number": "100" });
    assert_eq!(bench.post("/tts/call", &call("killed")).await.0, 202);
    bench.until("killed", |job| job["progress"].as_f64().is_some_and(|share| share >= 0.7)).await;
    bench.server.kill();
    bench.server.respawn();
    bench.until_up().await;
    let killed = outcome(&bench, "killed").await;
    assert_eq!(
        (&killed["outcome"], &killed["result"]["playback"]["played"]),
        (&json!("answered"), &json!("to_the_end")),
        "{killed:#}"
    );
    assert_eq!(lab.heard().len(), 1, "it was called once");
    proxy.freeze();
    sleep(Duration::from_millis(200)).await;
    assert_eq!(bench.post("/tts/call", &call("away")).await.0, 202);
    sleep(Duration::from_secs(1)).await;
    assert_ne!(bench.get("/tts/status/away").await["status"], "completed");
    proxy.cut().await;
    let away = outcome(&bench, "away").await;
    assert!(["answered", "unknown"].contains(&away["outcome"].as_str().unwrap_or_default()), "{away:#}");
    assert!(lab.heard().len() <= 2, "it was called once at most");
}

/// High priority first, but one in five is another; and no more at once than a tenant may.
#[tokio::test]
async fn real_priority_goes_first_and_starves_nobody() {
    let lab = Lab::start(Version::V22);
    let voice = voice(&lab, "hello-world").await;
    let bench = bench(&lab, &at(&lab), &voice, &[("tts_calls.workers", "1")]).await;
    assert_eq!(bench.put("/api/workers/tts-call", &json!({ "workers": 0 })).await.0, 200);
    sleep(Duration::from_millis(100)).await;
    // Extension 101 is busy at once: the calls take no time.
    let call = |n: usize, priority: &str| json!({ "id": format!("{priority}{n}"), "text": TEXT, "phone_number": "101", "priority": priority });
    let normal: Vec<Value> = (0..4).map(|n| call(n, "normal")).collect();
    let high: Vec<Value> = (0..8).map(|n| call(n, "high")).collect();
    assert_eq!(bench.post("/tts/call", &json!(normal)).await.0, 202);
    assert_eq!(bench.post("/tts/call", &json!(high)).await.0, 202);
    assert_eq!(bench.put("/api/workers/tts-call", &json!({ "workers": 1 })).await.0, 200);
    bench.until_count("tts-call", "failed", 12).await;
    let jobs = bench.get("/api/jobs?kind=tts-call").await;
    let mut order: Vec<(jiff::Timestamp, String)> = jobs["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| {
            (job["started_at"].as_str().unwrap().parse().unwrap(), job["id"].as_str().unwrap().to_owned())
        })
        .collect();
    order.sort();
    let order: Vec<&str> = order.iter().map(|(_, id)| id.as_str()).collect();
    let wanted = [
        "high0", "high1", "high2", "high3", "normal0", "high4", "high5", "high6", "high7", "normal1",
        "normal2", "normal3",
    ];
    assert_eq!(order, wanted);
}

#[tokio::test]
async fn real_page_of_calls_works_as_it_stands() {
    let (lab, broker) = (Lab::start(Version::V22), RabbitMq::start());
    let voice = voice(&lab, "hello-world").await;
    let url = broker.url();
    let bench = bench(&lab, &at(&lab), &voice, &[("jobs.engine", "rabbitmq"), ("rabbitmq.url", &*url)]).await;
    let said = super::pages::typed(&bench, "tts-calls.md", &url).await;
    assert!(
        said.contains("answered, played to the end") && said.contains("\"outcome\":\"answered\""),
        "{said}"
    );
    assert!(said.contains("completed answered") && said.contains("\"workers\":20"), "{said}");
    assert_eq!(lab.heard().len(), 3);
}
