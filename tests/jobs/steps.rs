//! The process dies at each step of a job's way (`sidetone::crash`), as by `kill -9`, and starts again: nothing is lost, and nothing has
//! its effect twice. What may come twice is said of each step, and nothing else does.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sidetone::crash::Step;
use tokio::time::{Instant, sleep};

use super::rabbitmq::{run, waiting};
use super::support::services::{Postgres, RabbitMq};
use super::webhooks::Hook;
use super::{Bench, SOON, gsm, transcription, wav_samples};

/// What is done: each job has a file in and a file out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Work {
    Conversion,
    Transcription,
    /// The same, of a file that came with the request.
    Upload,
}

impl Work {
    fn kind(self) -> &'static str {
        match self {
            Self::Conversion => "conversion",
            Self::Transcription | Self::Upload => "transcription",
        }
    }

    fn settings(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Conversion => vec![("conversions.workers", "1")],
            _ => {
                vec![("speech.model", "auto"), ("speech.workers", "1"), ("transcriptions.workers", "1")]
            }
        }
    }

    fn prepare(self, bench: &Bench, id: &str) {
        match self {
            Self::Conversion => gsm(&bench.at(&format!("{id}.gsm")), 50, 1),
            _ => std::fs::write(bench.at(&format!("{id}.ulaw")), transcription::speech()).unwrap(),
        }
    }

    fn request(self, bench: &Bench, id: &str) -> Value {
        match self {
            Self::Conversion => {
                json!({ "id": id, "input": bench.at(&format!("{id}.gsm")), "output": bench.at(&format!("{id}.wav")) })
            }
            _ => {
                json!({ "id": id, "path": bench.at(&format!("{id}.ulaw")), "language": "en", "format": "text" })
            }
        }
    }

    /// Ask for it over HTTP; the status, or 0 if the server dies meanwhile.
    async fn ask(self, bench: &Bench, id: &str, hook: &str) -> u16 {
        let with_hook = || {
            let mut request = self.request(bench, id);
            if !hook.is_empty() {
                request["webhook"] = hook.into();
            }
            request
        };
        match self {
            Self::Conversion => bench.try_post("/api/conversions", &with_hook()).await.unwrap_or(0),
            Self::Transcription => bench.try_post("/api/transcriptions", &with_hook()).await.unwrap_or(0),
            Self::Upload => {
                let fields = [("id", id), ("webhook", hook), ("language", "en"), ("format", "text")];
                transcription::upload(bench, &transcription::speech(), &fields).await
            }
        }
    }

    /// Its result is there and right; what the file is known by.
    fn assert_done(self, bench: &Bench, id: &str, job: &Value) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(job["status"], "completed", "{id}: {job:#}");
        let file = match self {
            Self::Conversion => bench.at(&format!("{id}.wav")),
            _ => Path::new(job["result"]["transcript_path"].as_str().unwrap()).to_owned(),
        };
        match self {
            Self::Conversion => assert_eq!(wav_samples(&file), 8_000),
            _ => assert!(std::fs::read_to_string(&file).unwrap().contains("hello world"), "{job:#}"),
        }
        std::fs::metadata(file).unwrap().ino()
    }
}

/// How often the job is begun in all: once more if the process died between its claim and its end.
fn attempts(step: Step) -> u64 {
    match step {
        Step::Claimed | Step::Begun | Step::Written | Step::Done => 2,
        _ => 1,
    }
}

async fn embedded(work: Work, step: Step, database: Option<&str>) {
    let (hook, url) = Hook::open(0).await;
    let mut settings = work.settings();
    settings.extend(database.map(|database| ("store.url", database)));
    let mut bench = Bench::start_to_crash(&settings, Some(step.name())).await;
    for id in ["victim", "other"] {
        work.prepare(&bench, id);
    }
    work.ask(&bench, "victim", &url).await;
    bench.server.crashes().await;
    let before = std::fs::metadata(bench.at("victim.wav")).map(|file| file.modified().unwrap()).ok();
    bench.server.respawn();
    bench.until_up().await;
    let there = bench.get("/api/jobs/victim").await;
    assert_eq!(there["id"], "victim", "{step:?}: it is lost: {there:#}");
    // Whoever got no answer asks once more, and gets the same job.
    assert_eq!(work.ask(&bench, "victim", &url).await, 200, "{step:?}");
    assert_eq!(work.ask(&bench, "other", &url).await, 202, "{step:?}");
    let (victim, other) = (bench.over("victim").await, bench.over("other").await);
    work.assert_done(&bench, "victim", &victim);
    work.assert_done(&bench, "other", &other);
    assert_eq!((&victim["attempts"], &other["attempts"]), (&json!(attempts(step)), &json!(1)), "{step:?}");
    if work == Work::Conversion && matches!(step, Step::Settled | Step::Told) {
        let after = std::fs::metadata(bench.at("victim.wav")).unwrap().modified().unwrap();
        assert_eq!(Some(after), before, "{step:?}: what is done is not done again");
    }
    let deadline = Instant::now() + SOON;
    let told = |id: &str| hook.taken.lock().iter().filter(|(key, _)| key == id).count();
    while told("other") == 0 || told("victim") == 0 {
        assert!(Instant::now() < deadline, "{step:?}: {:?}\n{}", hook.taken.lock(), bench.server.log());
        sleep(Duration::from_millis(20)).await;
    }
    sleep(Duration::from_millis(200)).await;
    // A webhook that was taken and not noted comes once more under the same key; nothing else does.
    let wanted = if step == Step::Told { 2 } else { 1 };
    assert_eq!((told("victim"), told("other")), (wanted, 1), "{step:?}: {:?}", hook.taken.lock());
    let bodies: Vec<Value> = hook.taken.lock().iter().map(|(_, body)| body.clone()).collect();
    assert!(bodies.iter().all(|body| body["status"] == "completed"), "{step:?}: {bodies:?}");
    assert!(bench.server.stop().await.success());
}

const EMBEDDED: [Step; 7] =
    [Step::Stored, Step::Claimed, Step::Begun, Step::Written, Step::Done, Step::Settled, Step::Told];

#[tokio::test]
async fn a_conversion_survives_a_crash_at_each_step() {
    for step in EMBEDDED {
        embedded(Work::Conversion, step, None).await;
    }
}

#[tokio::test]
async fn a_conversion_survives_a_crash_at_each_step_on_postgresql() {
    let postgres = Postgres::start();
    for step in EMBEDDED {
        embedded(Work::Conversion, step, Some(&postgres.url())).await;
    }
}

#[tokio::test]
async fn a_transcription_survives_a_crash_at_each_step() {
    for step in EMBEDDED {
        embedded(Work::Transcription, step, None).await;
    }
}

/// The upload is there until it is written down that nobody needs it any more.
#[tokio::test]
async fn an_upload_survives_a_crash_at_each_step() {
    for step in EMBEDDED {
        embedded(Work::Upload, step, None).await;
    }
}

struct Queues {
    work: String,
    results: String,
}

impl Queues {
    fn of(step: &str) -> Self {
        Self { work: format!("work-{step}"), results: format!("results-{step}") }
    }

    async fn bench(&self, broker: &RabbitMq, work: Work, step: &str) -> Bench {
        let section = format!("{}s", work.kind());
        let (queue, results) = (format!("{section}.queue"), format!("{section}.results"));
        let url = broker.url();
        let mut settings = work.settings();
        settings.extend([
            ("jobs.engine", "rabbitmq"),
            ("rabbitmq.url", &*url),
            ("rabbitmq.backoff_ms", "100"),
            (&*queue, &*self.work),
            (&*results, &*self.results),
        ]);
        Bench::start_to_crash(&settings, Some(step)).await
    }

    /// Nothing of the work is left in the broker, once it has back what we had.
    async fn assert_all_taken(&self, broker: &RabbitMq, bench: &mut Bench, step: &str) {
        assert!(bench.server.stop().await.success());
        assert_eq!(waiting(&broker.url(), &self.work).await, 0, "{step}: a message was not acknowledged");
    }

    /// Results as they lie there: `message_id` and body.
    async fn results(&self, broker: &RabbitMq) -> Vec<(String, Value)> {
        let lines = run(&broker.url(), &["drain", &self.results], String::new()).await;
        let parted = lines.iter().map(|line| line.split_once('\t').unwrap());
        parted.map(|(id, body)| (id.to_owned(), serde_json::from_str(body).unwrap())).collect()
    }
}

async fn over_rabbitmq(broker: &RabbitMq, work: Work, step: Step) {
    let queues = Queues::of(step.name());
    let mut bench = queues.bench(broker, work, step.name()).await;
    for id in ["victim", "other"] {
        work.prepare(&bench, id);
    }
    let message = |bench: &Bench, id: &str| format!("{}\n", work.request(bench, id));
    run(&broker.url(), &["publish", &queues.work], message(&bench, "victim")).await;
    bench.crashes_and_comes_back().await;
    run(&broker.url(), &["publish", &queues.work], message(&bench, "other")).await;
    let (victim, other) = (bench.over("victim").await, bench.over("other").await);
    work.assert_done(&bench, "victim", &victim);
    work.assert_done(&bench, "other", &other);
    assert_eq!((&victim["attempts"], &other["attempts"]), (&json!(attempts(step)), &json!(1)), "{step:?}");
    let results = queues.results(broker).await;
    assert!(
        results.iter().all(|(id, body)| body["id"] == **id && body["status"] == "completed"),
        "{step:?}: {results:?}"
    );
    let told = |id: &str| results.iter().filter(|(of, _)| of == id).count();
    // A result that was published and not noted is published once more under the same `message_id`; nothing else is.
    match step {
        Step::Confirmed => assert_eq!(told("victim"), 2, "{results:?}"),
        // Whether the broker had it before the connection broke, nobody knows. The message is acknowledged beside its publication.
        Step::Sent | Step::Acknowledged => assert!((1..=2).contains(&told("victim")), "{results:?}"),
        _ => assert_eq!(told("victim"), 1, "{step:?}: {results:?}"),
    }
    assert_eq!(told("other"), 1, "{step:?}: {results:?}");
    queues.assert_all_taken(broker, &mut bench, step.name()).await;
}

const RABBITMQ: [Step; 11] = [
    Step::Delivered,
    Step::Stored,
    Step::Kept,
    Step::Claimed,
    Step::Begun,
    Step::Written,
    Step::Done,
    Step::Settled,
    Step::Acknowledged,
    Step::Sent,
    Step::Confirmed,
];

#[tokio::test]
async fn a_conversion_by_message_survives_a_crash_at_each_step() {
    let broker = RabbitMq::start();
    for step in RABBITMQ {
        over_rabbitmq(&broker, Work::Conversion, step).await;
    }
}

#[tokio::test]
async fn a_transcription_by_message_survives_a_crash_at_each_step() {
    let broker = RabbitMq::start();
    for step in RABBITMQ {
        over_rabbitmq(&broker, Work::Transcription, step).await;
    }
}

/// Asked for over HTTP, a job goes to the broker by a message of ours: that may come twice, and is done once.
#[tokio::test]
async fn a_job_for_the_broker_survives_a_crash_at_each_step_of_its_message() {
    let (broker, work) = (RabbitMq::start(), Work::Conversion);
    for step in [Step::Stored, Step::Sent, Step::Confirmed] {
        let queues = Queues::of(step.name());
        let mut bench = queues.bench(&broker, work, step.name()).await;
        work.prepare(&bench, "victim");
        work.ask(&bench, "victim", "").await;
        bench.crashes_and_comes_back().await;
        let victim = bench.over("victim").await;
        work.assert_done(&bench, "victim", &victim);
        // Once it is sent, the broker may hand it out before the crash, and the attempt that this began counts.
        let most = if step == Step::Stored { 1 } else { 2 };
        let attempts = victim["attempts"].as_u64().unwrap();
        assert!((1..=most).contains(&attempts), "{step:?}: {victim:#}");
        let results = queues.results(&broker).await;
        assert_eq!(results.len(), 1, "{step:?}: {results:?}");
        queues.assert_all_taken(&broker, &mut bench, step.name()).await;
    }
}

/// What is no job is never lost on its way to the dead letters. It may lie there twice.
#[tokio::test]
async fn a_message_that_is_no_job_survives_a_crash() {
    let (broker, queues) = (RabbitMq::start(), Queues::of("buried"));
    let mut bench = queues.bench(&broker, Work::Conversion, Step::Buried.name()).await;
    run(&broker.url(), &["publish", &queues.work], "poison\n".into()).await;
    bench.crashes_and_comes_back().await;
    Work::Conversion.prepare(&bench, "other");
    let other = format!("{}\n", Work::Conversion.request(&bench, "other"));
    run(&broker.url(), &["publish", &queues.work], other).await;
    assert_eq!(bench.over("other").await["status"], "completed");
    let dead = run(&broker.url(), &["drain", &format!("{}.dead", queues.work)], String::new()).await;
    assert_eq!(dead, ["None\tpoison"; 2]);
    queues.assert_all_taken(&broker, &mut bench, "buried").await;
}

/// A step that no test comes to shows nothing.
#[test]
fn every_step_has_its_test() {
    let calls = super::call_steps::ALL;
    let all = EMBEDDED.iter().chain(&RABBITMQ).chain(calls).chain(&[Step::Buried]);
    let all: Vec<Step> = all.copied().collect();
    let missing: Vec<&Step> = Step::ALL.iter().filter(|step| !all.contains(step)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
