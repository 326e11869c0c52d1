//! Redis as a real one: audio that one node spoke heard by another, states read by other programs; and whatever it does, jobs go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::support::proxy::Proxy;
use super::support::services::Redis;
use super::{Bench, SOON, gsm};

/// A server of OpenAI's shape that counts what it speaks: a second of a tone.
struct Voice {
    url: String,
    spoken: Arc<AtomicUsize>,
}

impl Voice {
    async fn open() -> Self {
        let pcm: Vec<u8> =
            (0..8_000i32).flat_map(|n| (((n % 40) * 500 - 10_000) as i16).to_le_bytes()).collect();
        let wav = [&sidetone::audio::wav::header(8_000, 1, pcm.len() as u64)[..], &pcm].concat();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let spoken = Arc::<AtomicUsize>::default();
        let count = spoken.clone();
        let speak = async move || {
            count.fetch_add(1, Ordering::SeqCst);
            ([(header::CONTENT_TYPE, "audio/wav")], wav.clone())
        };
        let router = Router::new().route("/v1/audio/speech", post(speak));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, spoken }
    }

    fn spoken(&self) -> usize {
        self.spoken.load(Ordering::SeqCst)
    }

    /// A node that speaks with it and shares by that Redis.
    async fn node(&self, redis: &str, more: &[(&str, &str)]) -> Bench {
        let mut settings = vec![("tts.engine", "openai"), ("tts.url", &*self.url), ("redis.url", redis)];
        settings.extend(more);
        Bench::start(&settings).await
    }
}

async fn say(bench: &Bench, text: &str) -> Vec<u8> {
    let body = json!({ "model": "tts-1", "input": text, "voice": "alloy", "response_format": "wav" });
    let reply = reqwest::Client::new().post(bench.url("/v1/audio/speech")).json(&body).send().await.unwrap();
    assert!(reply.status().is_success(), "{}", reply.text().await.unwrap());
    reply.bytes().await.unwrap().to_vec()
}

async fn until(what: &str, bench: &Bench, mut good: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !good().await {
        assert!(Instant::now() < deadline, "{what}:\n{}", bench.server.log());
        sleep(Duration::from_millis(20)).await;
    }
}

async fn state(bench: &Bench) -> Value {
    bench.get("/ready").await["dependencies"]["redis"].clone()
}

async fn until_state(bench: &Bench, wanted: &str) {
    until(&format!("Redis is not {wanted}"), bench, async || state(bench).await["state"] == wanted).await;
}

async fn convert(bench: &Bench, id: &str) -> Value {
    gsm(&bench.at("a.gsm"), 5, 1);
    let body = json!({ "id": id, "input": bench.at("a.gsm"), "output": bench.at(&format!("{id}.wav")) });
    assert_eq!(bench.post("/api/conversions", &body).await.0, 202);
    let job = bench.over(id).await;
    assert_eq!(job["status"], "completed", "{job:#}");
    job
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

#[tokio::test]
async fn what_one_node_spoke_another_does_not_speak_again() {
    let (redis, voice) = (Redis::start(), Voice::open().await);
    let (one, two) = (voice.node(&redis.url(), &[]).await, voice.node(&redis.url(), &[]).await);
    until_state(&one, "ok").await;
    until_state(&two, "ok").await;
    let first = say(&one, "good morning").await;
    until("nothing is kept", &one, async || !redis.cli(&["KEYS", "sidetone:speech:*"]).is_empty()).await;
    assert_eq!(say(&two, "good morning").await, first);
    assert_eq!(voice.spoken(), 1, "it was spoken once");
    say(&two, "good evening").await;
    assert_eq!(voice.spoken(), 2);
    let key = redis.cli(&["KEYS", "sidetone:speech:*"]).lines().next().unwrap().to_owned();
    let keeps: i64 = redis.cli(&["TTL", &key]).trim().parse().unwrap();
    assert!((600_000..=604_800).contains(&keeps), "a week: {keeps} s");
    let metrics = two.server.text("/metrics").await;
    assert!(metrics.contains("sidetone_tts_texts_total{from=\"redis\"} 1"), "{metrics}");
}

/// A key of another type, one that holds no audio, one that is too large: it is spoken anew.
#[tokio::test]
async fn what_is_no_audio_is_spoken_anew() {
    let (redis, voice) = (Redis::start(), Voice::open().await);
    let one = voice.node(&redis.url(), &[]).await;
    until_state(&one, "ok").await;
    let first = say(&one, "good morning").await;
    until("nothing is kept", &one, async || !redis.cli(&["KEYS", "sidetone:speech:*"]).is_empty()).await;
    let key = redis.cli(&["KEYS", "sidetone:speech:*"]).trim().to_owned();
    for (n, spoil) in [
        vec!["LPUSH", &key, "a", "b"],
        vec!["SET", &key, "RIFF, and nothing of the kind behind it"],
        vec!["SETRANGE", &key, "5000000", "x"],
        vec!["HSET", &key, "field", "value"],
    ]
    .into_iter()
    .enumerate()
    {
        redis.cli(&["DEL", &key]);
        redis.cli(&spoil);
        let node = voice.node(&redis.url(), &[]).await;
        until_state(&node, "ok").await;
        assert_eq!(say(&node, "good morning").await, first, "{spoil:?}");
        assert_eq!(voice.spoken(), n + 2, "{spoil:?}");
    }
}

#[tokio::test]
async fn states_of_jobs_are_read_by_other_programs_under_keys_of_their_own() {
    let redis = Redis::start();
    let settings = [("redis.url", &*redis.url()), ("redis.job_key", "tts:status:{id}")];
    let mut bench = Bench::start(&settings).await;
    until_state(&bench, "ok").await;
    assert_eq!(bench.put("/api/workers/conversion", &json!({ "workers": 0 })).await.0, 200);
    sleep(Duration::from_millis(100)).await;
    gsm(&bench.at("a.gsm"), 5, 1);
    let job = json!({ "id": "one", "input": bench.at("a.gsm"), "output": bench.at("one.wav") });
    assert_eq!(bench.post("/api/conversions", &job).await.0, 202);
    let read = || json_of(&redis.cli(&["GET", "tts:status:one"]));
    until("it is not told of", &bench, async || read()["status"] == "queued").await;
    assert_eq!(bench.put("/api/workers/conversion", &json!({ "workers": 1 })).await.0, 200);
    until("its end is not told", &bench, async || read()["status"] == "completed").await;
    let mut told = read();
    assert!(told.as_object_mut().unwrap().remove("updated_ms").is_some());
    assert_eq!(told, bench.get("/api/jobs/one").await, "as over HTTP");
    // A plain client of Redis, in Python, without any package.
    let python = r#"
import json, socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(b"*2\r\n$3\r\nGET\r\n$14\r\ntts:status:one\r\n")
f = s.makefile("rb")
n = int(f.readline()[1:])
print(json.loads(f.read(n))["result"]["seconds"])
"#;
    let said = std::process::Command::new("python3")
        .args(["-c", python, &redis.port().to_string()])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "0.1", "{said:?}");
    // What is there and newer stays, and so does what is somebody else's.
    redis.cli(&["SET", "tts:status:two", r#"{"updated_ms": 99999999999999, "status": "newer"}"#]);
    redis.cli(&["LPUSH", "tts:status:three", "a"]);
    convert(&bench, "two").await;
    convert(&bench, "three").await;
    convert(&bench, "four").await;
    until("the last is not told of", &bench, async || {
        json_of(&redis.cli(&["GET", "tts:status:four"]))["status"] == "completed"
    })
    .await;
    assert_eq!(json_of(&redis.cli(&["GET", "tts:status:two"]))["status"], "newer");
    assert_eq!(redis.cli(&["TYPE", "tts:status:three"]).trim(), "list");
    assert!(bench.server.stop().await.success());
}

/// Killed in the middle and back empty: jobs do not notice, and what is there then is told of.
#[tokio::test]
async fn redis_dies_and_comes_back_and_no_job_notices() {
    let (mut redis, voice) = (Redis::start(), Voice::open().await);
    let bench = voice.node(&redis.url(), &[("redis.job_key", "job:{id}")]).await;
    until_state(&bench, "ok").await;
    convert(&bench, "before").await;
    until("it is not told of", &bench, async || !redis.cli(&["GET", "job:before"]).trim().is_empty()).await;
    redis.kill();
    until_state(&bench, "degraded").await;
    let begun = Instant::now();
    convert(&bench, "meanwhile").await;
    say(&bench, "nobody else hears this").await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    redis.run();
    until_state(&bench, "ok").await;
    for id in ["before", "meanwhile"] {
        let key = format!("job:{id}");
        until("it is not told of again", &bench, async || {
            json_of(&redis.cli(&["GET", &key]))["status"] == "completed"
        })
        .await;
    }
    let warnings = bench.server.log().matches("degraded dependency=\"redis\"").count();
    assert!((1..=2).contains(&warnings), "{warnings} warnings:\n{}", bench.server.log());
}

/// Not there at all, from the start.
#[tokio::test]
async fn a_redis_that_never_was_holds_nothing_up() {
    let voice = Voice::open().await;
    let nobody = super::support::server::free_tcp();
    let bench = voice.node(&format!("redis://{nobody}/"), &[]).await;
    until_state(&bench, "degraded").await;
    let said = state(&bench).await["message"].as_str().unwrap().to_owned();
    assert!(said.contains("redis.url"), "{said}");
    convert(&bench, "one").await;
    say(&bench, "good morning").await;
    for bad in ["http://x", "redis://"] {
        let mut server =
            super::support::server::Sidetone::spawn("http://127.0.0.1:1", "x", &[("redis.url", bad)]);
        assert!(!server.exit().await.success(), "{bad}");
        assert!(server.log().contains("redis.url"), "{bad}: {}", server.log());
    }
}

/// It takes connections and says nothing more: whoever asks first waits for its time, and nobody after that.
#[tokio::test]
async fn a_redis_that_hangs_holds_up_one_text_for_a_moment() {
    let (redis, voice) = (Redis::start(), Voice::open().await);
    let proxy = Proxy::to(&format!("http://127.0.0.1:{}", redis.port())).await;
    let through = proxy.url().replace("http://", "redis://");
    let bench = voice.node(&through, &[("redis.timeout_ms", "500")]).await;
    until_state(&bench, "ok").await;
    proxy.freeze();
    let begun = Instant::now();
    say(&bench, "one").await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let begun = Instant::now();
    for text in ["two", "three", "four", "five", "six", "seven"] {
        say(&bench, text).await;
    }
    convert(&bench, "job").await;
    assert!(begun.elapsed() < Duration::from_secs(3), "nobody waits again: {:?}", begun.elapsed());
    until_state(&bench, "degraded").await;
    proxy.thaw();
    until_state(&bench, "ok").await;
}

/// Full: what it does not take is not shared, told once, and counted.
#[tokio::test]
async fn a_redis_that_is_full_refuses_and_all_goes_on() {
    let (redis, voice) = (Redis::start(), Voice::open().await);
    let bench = voice.node(&redis.url(), &[("redis.job_key", "job:{id}")]).await;
    until_state(&bench, "ok").await;
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    for n in 0..3 {
        say(&bench, &format!("text {n}")).await;
        convert(&bench, &format!("job{n}")).await;
    }
    let refused = async || {
        let text = bench.server.text("/metrics").await;
        text.lines().any(|line| {
            line.strip_prefix("sidetone_redis_unanswered_total{why=\"refused\"} ")
                .is_some_and(|count| count.parse::<f64>().unwrap() >= 4.0)
        })
    };
    until("refusals are not counted", &bench, refused).await;
    assert_eq!(bench.server.log().matches("Redis refuses").count(), 1, "{}", bench.server.log());
    assert_eq!(redis.cli(&["DBSIZE"]).trim(), "0");
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    until("states are not told once there is room", &bench, async || {
        json_of(&redis.cli(&["GET", "job:job2"]))["status"] == "completed"
    })
    .await;
}

/// A password, one that is wrong, and none.
#[tokio::test]
async fn a_password_that_is_wrong_or_missing_is_named() {
    let redis = Redis::start();
    redis.cli(&["CONFIG", "SET", "requirepass", "secret"]);
    let at = |password: &str| format!("redis://:{password}@127.0.0.1:{}/0", redis.port());
    let good = Bench::start(&[("redis.url", &at("secret"))]).await;
    until_state(&good, "ok").await;
    let wrong = Bench::start(&[("redis.url", &at("wrong"))]).await;
    until_state(&wrong, "degraded").await;
    let said = state(&wrong).await["message"].as_str().unwrap().to_owned();
    assert!(said.contains("password in redis.url"), "{said}");
    let none = Bench::start(&[("redis.url", &format!("redis://127.0.0.1:{}/0", redis.port()))]).await;
    until_state(&none, "degraded").await;
    let said = state(&none).await["message"].as_str().unwrap().to_owned();
    assert!(said.contains("it wants a password in redis.url"), "{said}");
    assert!(!wrong.server.log().contains("wrong@"), "it is not in the log");
}
