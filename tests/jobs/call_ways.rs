//! Calls that come by message and are placed by ARI or by call file: the process dies at each step of that way (`sidetone::crash`), and the
//! party is called once, what became of it is told under one `message_id`, and nothing is left anywhere.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sidetone::crash::Step;
use tokio::time::{Instant, sleep};

use super::SOON;
use super::call_steps::{self, assert_nothing_left};
use super::calls::{TEXT, at, bench_to_crash, outcome, voice};
use super::rabbitmq::{run, waiting};
use super::support::lab::{Lab, Version};
use super::support::services::RabbitMq;
use super::webhooks::Hook;

/// Until a worker has the job, and from when the call is over. Between lie those of the call, [`call_steps::ALL`]: on the way whoever places it.
const BEFORE: [Step; 4] = [Step::Delivered, Step::Stored, Step::Kept, Step::Claimed];
const AFTER: [Step; 4] = [Step::Done, Step::Settled, Step::Sent, Step::Confirmed];
/// Beside what is told: in no order with it.
const ASIDE: [Step; 2] = [Step::Acknowledged, Step::Told];

fn on_the_way() -> impl Iterator<Item = Step> {
    BEFORE.into_iter().chain(call_steps::ALL.iter().copied()).chain(AFTER).chain(ASIDE)
}

/// What the call comes to, and by whom.
struct Wanted {
    number: &'static str,
    outcome: &'static str,
    /// How often the party heard the text.
    heard: usize,
    /// How often the job was begun; not told of one that is placed again.
    attempts: Option<u64>,
}

impl Wanted {
    fn after(step: Step) -> Self {
        let attempts = match step {
            Step::Delivered | Step::Stored | Step::Kept | Step::Settled | Step::Acknowledged => 1,
            Step::Sent | Step::Confirmed | Step::Told => 1,
            _ => 2,
        };
        let answered = Self { number: "100", outcome: "answered", heard: 1, attempts: Some(attempts) };
        match step {
            // It was not placed, but that nobody can know any more: calling twice would be worse.
            Step::CallIntended => Self { outcome: "unknown", heard: 0, ..answered },
            Step::CallRinging => Self { number: "103", outcome: "no_answer", heard: 0, ..answered },
            Step::CallAgain => Self { number: "101", outcome: "busy", heard: 0, attempts: None },
            _ => answered,
        }
    }
}

struct Way<'a> {
    lab: &'a Lab,
    broker: &'a RabbitMq,
    voice: &'a str,
    by: &'static str,
}

impl Way<'_> {
    async fn survives(&self, step: Step) {
        let (lab, name) = (self.lab, format!("{}-{}", self.by, step.name()));
        let (queue, results) = (format!("work-{name}"), format!("results-{name}"));
        let (url, ami, spool) =
            (self.broker.url(), at(lab), Path::new(lab.env("LAB_SPOOL")).join("outgoing"));
        let settings = [
            ("jobs.engine", "rabbitmq"),
            ("rabbitmq.url", &*url),
            ("rabbitmq.backoff_ms", "100"),
            ("tts_calls.queue", &*queue),
            ("tts_calls.results", &*results),
            ("ari.url", lab.ari_url()),
            ("ari.user", lab.ari_user()),
            ("ari.password", lab.ari_password()),
            ("tts_calls.by", self.by),
            ("tts_calls.spool", spool.to_str().unwrap()),
            ("tts_calls.retry", if step == Step::CallAgain { "[\"busy=1\"]" } else { "[]" }),
            // ARI keeps nothing of a call that rang and ended while nobody was there: it rings until the server is back.
            (
                "tts_calls.ring_seconds",
                if self.by == "ari" && step == Step::CallRinging { "12" } else { "2" },
            ),
        ];
        let wanted = Wanted::after(step);
        let (hook, hook_url) = Hook::open(0).await;
        let heard = lab.heard().len();
        let mut bench = bench_to_crash(lab, &ami, self.voice, &settings, Some(step.name())).await;
        let message = json!({ "id": name, "text": TEXT, "phone_number": wanted.number, "webhook": hook_url });
        run(&url, &["publish", &queue], format!("{message}\n")).await;
        bench.crashes_and_comes_back().await;

        let victim = outcome(&bench, &name).await;
        let status = if wanted.outcome == "answered" { "completed" } else { "failed" };
        assert_eq!(
            (&victim["status"], &victim["outcome"]),
            (&json!(status), &json!(wanted.outcome)),
            "{name}: {victim:#}\n{}",
            bench.server.log()
        );
        if wanted.heard > 0 {
            assert_eq!(victim["result"]["playback"]["played"], "to_the_end", "{name}: {victim:#}");
        }
        if let Some(attempts) = wanted.attempts {
            assert_eq!(victim["attempts"], attempts, "{name}: {victim:#}");
        }
        // What the party heard is a file once its channel is gone.
        let deadline = Instant::now() + SOON;
        while !lab.cli("core show channels count").contains("0 active channels") {
            assert!(Instant::now() < deadline, "{name}: channels are left");
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(lab.heard().len() - heard, wanted.heard, "{name}: so often they were called");
        if matches!(step, Step::CallRinging | Step::CallAgain) {
            let placed = bench.server.log().matches("a call is placed").count();
            assert_eq!(placed, if step == Step::CallAgain { 2 } else { 1 }, "{name}");
        }

        let told = self.results(&results).await;
        let is_own =
            |(id, body): &(String, Value)| *id == name && body["id"] == *name && body["status"] == status;
        assert!(told.iter().all(is_own), "{name}: {told:?}");
        let times = match step {
            // Published and not noted: once more, under the same `message_id`.
            Step::Confirmed => 2..=2,
            // Whether the broker had it before the connection broke, nobody knows.
            Step::Sent | Step::Acknowledged | Step::Told => 1..=2,
            _ => 1..=1,
        };
        assert!(times.contains(&told.len()), "{name}: {told:?}");
        let deadline = Instant::now() + SOON;
        // Letters go out side by side: the other one may have gone before.
        let least = if step == Step::Told { 2 } else { 1 };
        while hook.taken.lock().len() < least {
            assert!(Instant::now() < deadline, "{name}: {:?}", hook.taken.lock());
            sleep(Duration::from_millis(20)).await;
        }
        let taken = hook.taken.lock().clone();
        assert!(
            taken.iter().all(|(key, body)| *key == name && body["status"] == status),
            "{name}: {taken:?}"
        );
        let most = if matches!(step, Step::Told | Step::Sent | Step::Confirmed | Step::Acknowledged) {
            2
        } else {
            1
        };
        assert!(taken.len() <= most, "{name}: {taken:?}");

        assert_nothing_left(lab, &bench.server.data().join("tts-calls"), step).await;
        let beside = spool.with_file_name("sidetone-tts");
        for folder in [&spool, &beside] {
            let left: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
            assert!(left.is_empty(), "{name}: {left:?}");
        }
        assert!(bench.server.stop().await.success());
        assert_eq!(waiting(&url, &queue).await, 0, "{name}: a message was not acknowledged");
    }

    /// What was published, with its `message_id`: all of it once some is there.
    async fn results(&self, queue: &str) -> Vec<(String, Value)> {
        let deadline = Instant::now() + SOON;
        loop {
            let lines = run(&self.broker.url(), &["drain", queue], String::new()).await;
            if !lines.is_empty() {
                let parted = lines.iter().map(|line| line.split_once('\t').unwrap());
                return parted
                    .map(|(id, body)| (id.to_owned(), serde_json::from_str(body).unwrap()))
                    .collect();
            }
            assert!(Instant::now() < deadline, "nothing was told in {queue}");
        }
    }
}

#[tokio::test]
async fn real_call_by_ari_survives_a_crash_at_each_step() {
    let (lab, broker) = (Lab::start(Version::V22), RabbitMq::start());
    let voice = voice(&lab, "hello-world").await;
    let way = Way { lab: &lab, broker: &broker, voice: &voice, by: "ari" };
    for step in on_the_way() {
        way.survives(step).await;
    }
}

#[tokio::test]
async fn real_call_by_file_survives_a_crash_at_each_step() {
    let (lab, broker) = (Lab::start(Version::V22), RabbitMq::start());
    let voice = voice(&lab, "hello-world").await;
    let way = Way { lab: &lab, broker: &broker, voice: &voice, by: "file" };
    // Written and not put into the spool: that was certainly no call, and so it is placed.
    for step in on_the_way().chain([Step::Written]) {
        way.survives(step).await;
    }
}
