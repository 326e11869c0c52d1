//! Over RabbitMQ: producers of other people's, and everything that can happen to a broker.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::support::proxy::Proxy;
use super::support::services::RabbitMq;
use super::{Bench, gsm, wav_samples};

const QUEUE: &str = "Asterisk.Transcoding";

/// Runs `producer.py`; what it prints, by line.
fn python(url: &str, arguments: &[&str], input: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("build/tools/python/bin/python");
    assert!(python.exists(), "no Python with the package pika: run scripts/setup");
    let mut child = Command::new(python)
        .arg(root.join("tests/jobs/producer.py"))
        .arg(url)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
}

pub async fn run(url: &str, arguments: &[&str], input: String) -> Vec<String> {
    let (url, arguments): (String, Vec<String>) =
        (url.into(), arguments.iter().map(|a| (*a).to_owned()).collect());
    let work = move || python(&url, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), &input);
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn bench(url: &str, more: &[(&str, &str)]) -> Bench {
    let mut settings = vec![
        ("jobs.engine", "rabbitmq"),
        ("rabbitmq.url", url),
        ("rabbitmq.backoff_ms", "100"),
        ("conversions.results", "conversions.results"),
    ];
    settings.extend(more);
    Bench::start(&settings).await
}

/// The message of seed producers, as they write it.
fn seed(bench: &Bench, n: usize) -> String {
    let (gsm, wav) = (bench.at(&format!("{n}.gsm")), bench.at(&format!("{n}.wav")));
    format!("{{\"gsm_path\": \"{}\", \"wav_path\": \"{}\"}}\n", gsm.display(), wav.display())
}

fn files(bench: &Bench, count: usize, frames: usize) {
    (0..count).for_each(|n| gsm(&bench.at(&format!("{n}.gsm")), frames, n));
}

fn all_there(bench: &Bench, count: usize, frames: usize) {
    (0..count).for_each(|n| assert_eq!(wav_samples(&bench.at(&format!("{n}.wav"))), frames * 160, "{n}"));
}

/// Messages that wait in the broker; none are with us once nothing is held.
pub async fn waiting(url: &str, queue: &str) -> u64 {
    run(url, &["count", queue], String::new()).await[0].parse().unwrap()
}

#[tokio::test]
async fn a_plain_producer_gets_its_work_done_and_its_result() {
    let broker = RabbitMq::start();
    // The producer is there first and declares its queue as it always did.
    let early = tempfile::tempdir().unwrap();
    gsm(&early.path().join("0.gsm"), 50, 0);
    run(&broker.url(), &["publish", QUEUE], String::new()).await;
    let bench = bench(&broker.url(), &[]).await;
    files(&bench, 20, 50);
    let messages: String = (0..20).map(|n| seed(&bench, n)).collect();
    run(&broker.url(), &["publish", QUEUE], messages).await;
    bench.until_count("conversion", "completed", 20).await;
    all_there(&bench, 20, 50);
    let results = run(&broker.url(), &["consume", "conversions.results", "20"], String::new()).await;
    for result in &results {
        let result: Value = serde_json::from_str(result.split('\t').next().unwrap()).unwrap();
        assert_eq!((&result["status"], &result["seconds"]), (&json!("completed"), &json!(1.0)), "{result:#}");
        assert!(result["id"].is_string() && result["output"].as_str().unwrap().ends_with(".wav"));
    }
    // The same once more: they were done, so this is new work.
    std::fs::remove_file(bench.at("7.wav")).unwrap();
    let answers = run(&broker.url(), &["call", QUEUE], seed(&bench, 7)).await;
    assert!(answers[0].contains("\"completed\"") && bench.at("7.wav").exists(), "{answers:?}");
    assert_eq!(waiting(&broker.url(), QUEUE).await, 0);
    // What is asked for over HTTP goes the same way.
    let body = json!({ "input": bench.at("3.gsm"), "output": bench.at("http.wav"), "id": "by-http" });
    assert_eq!(bench.post("/api/conversions", &body).await.0, 202);
    assert_eq!(bench.over("by-http").await["status"], "completed");
    assert_eq!(bench.get("/queue/stats").await["engine"], "rabbitmq");
}

#[tokio::test]
async fn poison_lies_with_its_reason_and_the_rest_goes_on() {
    let broker = RabbitMq::start();
    let bench = bench(&broker.url(), &[("jobs.max_file_mib", "1024")]).await;
    files(&bench, 1, 50);
    let outside = tempfile::tempdir().unwrap();
    gsm(&outside.path().join("secret.gsm"), 5, 1);
    symlink(outside.path(), bench.at("link")).unwrap();
    std::fs::File::create(bench.at("huge.gsm")).unwrap().set_len(2 << 30).unwrap();
    std::fs::write(bench.at("empty.wav"), b"").unwrap();
    let at = |name: &str| bench.at(name).display().to_string();
    let pair = |input: String, output: &str| json!({ "gsm_path": input, "wav_path": at(output) }).to_string();
    let poison = [
        ("this is not JSON".to_owned(), "JSON"),
        ("[1, 2]".to_owned(), "JSON"),
        (json!({ "gsm_path": 7, "wav_path": true }).to_string(), "JSON"),
        (json!({ "gsm_path": at("0.gsm") }).to_string(), "output"),
        (json!({ "id": "../../etc", "gsm_path": at("0.gsm"), "wav_path": at("x.wav") }).to_string(), "`id`"),
        (pair(at("missing.gsm"), "x.wav"), "no such file"),
        (pair(format!("{}/../0.gsm", bench.root.path().display()), "x.wav"), "without `..`"),
        (pair(at("link/secret.gsm"), "x.wav"), "leads out"),
        (pair("/etc/passwd".into(), "x.wav"), "jobs.roots"),
        (pair(at("huge.gsm"), "x.wav"), "max_file_mib"),
        (pair(at("empty.wav"), "x.gsm"), "empty"),
    ];
    let mut messages: String = poison.iter().map(|(message, _)| format!("{message}\n")).collect();
    messages += &seed(&bench, 0);
    run(&broker.url(), &["publish", QUEUE], messages).await;
    bench.until_count("conversion", "completed", 1).await;
    all_there(&bench, 1, 50);
    let count = poison.len().to_string();
    let dead = run(&broker.url(), &["consume", &format!("{QUEUE}.dead"), &count], String::new()).await;
    for (_, says) in &poison {
        assert!(
            dead.iter().any(|line| line.split('\t').next_back().unwrap().contains(says)),
            "{says}: {dead:#?}"
        );
    }
    assert!(!bench.at("x.wav").exists());
    assert_eq!(waiting(&broker.url(), QUEUE).await, 0, "none of them comes again");
}

#[tokio::test]
async fn a_job_that_comes_twice_is_done_once() {
    let broker = RabbitMq::start();
    let bench = bench(&broker.url(), &[]).await;
    files(&bench, 1, 50);
    let message = json!({ "id": "one", "input": bench.at("0.gsm"), "output": bench.at("0.wav") }).to_string();
    run(&broker.url(), &["publish", QUEUE], format!("{message}\n").repeat(5)).await;
    assert_eq!(bench.over("one").await["status"], "completed");
    let written = std::fs::metadata(bench.at("0.wav")).unwrap().modified().unwrap();
    run(&broker.url(), &["publish", QUEUE], format!("{message}\n")).await;
    run(
        &broker.url(),
        &["publish", QUEUE],
        json!({ "id": "last", "input": bench.at("0.gsm"), "output": bench.at("1.wav") }).to_string(),
    )
    .await;
    assert_eq!(bench.over("last").await["status"], "completed");
    assert_eq!(bench.get("/api/jobs/one").await["attempts"], 1);
    assert_eq!(std::fs::metadata(bench.at("0.wav")).unwrap().modified().unwrap(), written);
    let results = run(&broker.url(), &["consume", "conversions.results", "2"], String::new()).await;
    assert_eq!(results.iter().filter(|result| result.contains("\"one\"")).count(), 1, "{results:?}");
    assert_eq!(waiting(&broker.url(), "conversions.results").await, 0, "and told once");
}

/// The broker dies and comes back, the connection is cut, the server dies: in turn, while the work goes on.
#[tokio::test]
async fn whatever_dies_nothing_is_lost_and_nothing_is_done_twice() {
    const FILES: usize = 60;
    const FRAMES: usize = 6_000;
    let mut broker = RabbitMq::start();
    let proxy = Proxy::to(&format!("http://127.0.0.1:{}", broker.port())).await;
    let through = format!("amqp://guest:guest@{}/%2f", proxy.url().trim_start_matches("http://"));
    let mut bench = bench(&through, &[("conversions.workers", "2")]).await;
    files(&bench, FILES, FRAMES);
    let messages: String = (0..FILES)
        .map(|n| {
            let job = json!({ "id": format!("j{n}"), "gsm_path": bench.at(&format!("{n}.gsm")), "wav_path": bench.at(&format!("{n}.wav")) });
            format!("{job}\n")
        })
        .collect();
    run(&broker.url(), &["publish", QUEUE], messages).await;
    // Messages of a producer that does not say "persistent" die with the broker, as they always did: those that it has not given to us.
    for round in 0..9 {
        sleep(Duration::from_millis(150)).await;
        if round % 3 == 0 {
            proxy.cut().await;
        } else {
            bench.server.kill();
            bench.server.respawn();
            bench.until_up().await;
        }
    }
    bench.until_count("conversion", "completed", FILES as i64).await;
    all_there(&bench, FILES, FRAMES);
    broker.kill();
    // Taken in while the broker is away.
    let body = json!({ "id": "meanwhile", "input": bench.at("0.gsm"), "output": bench.at("late.wav") });
    assert_eq!(bench.post("/api/conversions", &body).await.0, 202);
    broker.run();
    assert_eq!(bench.over("meanwhile").await["status"], "completed");
    let count = (FILES + 1).to_string();
    let results = run(&broker.url(), &["consume", "conversions.results", &count], String::new()).await;
    let mut ids: Vec<String> = results
        .iter()
        .map(|line| {
            serde_json::from_str::<Value>(line.split('\t').next().unwrap()).unwrap()["id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    // A process killed between publishing and striking off publishes once more, under the same id.
    assert!(ids.len() == FILES + 1 || all > ids.len(), "{} results of {} jobs", all, ids.len());
    assert_eq!(waiting(&broker.url(), QUEUE).await, 0);
}

#[tokio::test]
async fn quorum_queues_and_a_password_that_is_wrong() {
    let broker = RabbitMq::start();
    let bench = bench(&broker.url(), &[("rabbitmq.queue_type", "quorum")]).await;
    files(&bench, 1, 50);
    let body = json!({ "id": "one", "input": bench.at("0.gsm"), "output": bench.at("0.wav") });
    assert_eq!(bench.post("/api/conversions", &body).await.0, 202);
    assert_eq!(bench.over("one").await["status"], "completed");
    let wrong = broker.url().replace("guest:guest", "guest:wrong");
    let refused = self::bench(&wrong, &[]).await;
    let ready = refused.get("/ready").await;
    let broker = &ready["dependencies"]["broker"];
    assert_eq!(broker["state"], "degraded", "{ready:#}");
}
