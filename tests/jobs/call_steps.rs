//! The process dies at each step of a text-to-speech call by AMI (`sidetone::crash`): nobody is called twice for one attempt, and what became
//! of the call is told. By ARI and call file: `call_ways.rs`.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use sidetone::crash::Step;
use tokio::time::{Instant, sleep};

use super::calls::{TEXT, at, bench_to_crash, outcome, voice};
use super::support::lab::{Lab, Version};
use super::{Bench, SOON};

/// Steps of a call that is answered, in their order.
const ANSWERED: [Step; 8] = [
    Step::CallPrepared,
    Step::CallIntended,
    Step::CallPlaced,
    Step::CallSpeaking,
    Step::CallOver,
    Step::CallNoted,
    Step::Done,
    Step::Settled,
];
/// All that are come to here.
pub const ALL: &[Step] = &[
    Step::CallPrepared,
    Step::CallIntended,
    Step::CallPlaced,
    Step::CallRinging,
    Step::CallSpeaking,
    Step::CallOver,
    Step::CallNoted,
    Step::CallAgain,
];

/// Neither a report in Asterisk's database nor audio in the folder is left.
pub async fn assert_nothing_left(lab: &Lab, audio: &std::path::Path, step: Step) {
    let deadline = Instant::now() + SOON;
    loop {
        let reports = lab.cli("database show sidetone-tts");
        let files = std::fs::read_dir(audio).map_or(0, |files| files.count());
        if reports.contains("0 results found") && files == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{step:?}: {files} files are left, and {reports}");
        sleep(Duration::from_millis(50)).await;
    }
}

struct Case {
    bench: Bench,
    /// Of the job, and so of the file that the party heard.
    id: String,
    audio: tempfile::TempDir,
}

impl Case {
    /// A call to `number` at whose `step` the server dies; it is back when this returns.
    async fn crashed(lab: &Lab, voice: &str, step: Step, number: &str, more: &[(&str, &str)]) -> Self {
        let mut case = Self::crashed_for_good(lab, voice, step, number, more).await;
        case.bench.server.respawn();
        case.bench.until_up().await;
        case
    }

    /// It is not back.
    async fn crashed_for_good(
        lab: &Lab,
        voice: &str,
        step: Step,
        number: &str,
        more: &[(&str, &str)],
    ) -> Self {
        let audio = tempfile::Builder::new().prefix("sidetone-tts-").tempdir().unwrap();
        let mut settings = vec![("tts_calls.audio_folder", audio.path().to_str().unwrap())];
        settings.extend(more);
        let mut bench = bench_to_crash(lab, &at(lab), voice, &settings, Some(step.name())).await;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("victim{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let call = json!({ "id": id, "text": TEXT, "phone_number": number });
        assert_eq!(bench.post("/tts/call", &call).await.0, 202, "{step:?}");
        bench.server.crashes().await;
        Self { bench, id, audio }
    }

    async fn outcome(&self) -> Value {
        outcome(&self.bench, &self.id).await
    }
}

async fn answered(lab: &Lab, voice: &str, step: Step) {
    let heard = lab.heard().len();
    let case = Case::crashed(lab, voice, step, "100", &[]).await;
    let victim = case.outcome().await;
    // What the party heard is a file once its channel is gone.
    let deadline = Instant::now() + SOON;
    while !lab.cli("core show channels count").contains("0 active channels") {
        assert!(Instant::now() < deadline, "{step:?}: channels are left");
        sleep(Duration::from_millis(50)).await;
    }
    let called = lab.heard().len() - heard;
    if step == Step::CallIntended {
        // It was not placed, but that nobody can know any more: calling twice would be worse.
        assert_eq!(
            (&victim["status"], &victim["outcome"]),
            (&json!("failed"), &json!("unknown")),
            "{victim:#}"
        );
        assert_eq!(called, 0, "{step:?}");
    } else {
        assert_eq!(
            (&victim["outcome"], &victim["result"]["playback"]["played"]),
            (&json!("answered"), &json!("to_the_end")),
            "{step:?}: {victim:#}\n{}",
            case.bench.server.log()
        );
        assert_eq!(called, 1, "{step:?}: called once");
    }
    let attempts = if step == Step::Settled { 1 } else { 2 };
    assert_eq!(victim["attempts"], attempts, "{step:?}: {victim:#}");
    assert_nothing_left(lab, case.audio.path(), step).await;
}

#[tokio::test]
async fn real_call_survives_a_crash_at_each_step() {
    let lab = Lab::start(Version::V22);
    let voice = voice(&lab, "hello-world").await;
    for step in ANSWERED {
        answered(&lab, &voice, step).await;
    }
}

#[tokio::test]
async fn real_call_that_nobody_answers_survives_a_crash_while_it_rings() {
    let lab = Lab::start(Version::V22);
    let voice = voice(&lab, "hello-world").await;
    let case = Case::crashed(&lab, &voice, Step::CallRinging, "103", &[]).await;
    let victim = case.outcome().await;
    assert_eq!(
        (&victim["status"], &victim["outcome"]),
        (&json!("failed"), &json!("no_answer")),
        "{victim:#}"
    );
    assert_nothing_left(&lab, case.audio.path(), Step::CallRinging).await;
}

/// A pause before the next attempt is one, whatever happens at its beginning.
#[tokio::test]
async fn real_call_that_is_to_be_placed_again_waits_for_its_time_over_a_crash() {
    let lab = Lab::start(Version::V22);
    let voice = voice(&lab, "hello-world").await;
    let plan = [("tts_calls.retry", "[\"busy=4\"]")];
    let begun = Timestamp::now();
    let case = Case::crashed(&lab, &voice, Step::CallAgain, "101", &plan).await;
    let victim = case.outcome().await;
    assert_eq!((&victim["status"], &victim["outcome"]), (&json!("failed"), &json!("busy")), "{victim:#}");
    let placed: Timestamp = victim["result"]["placed_at"].as_str().unwrap().parse().unwrap();
    let pause = placed.duration_since(begun);
    assert!(pause.as_secs() >= 4, "the second attempt came after {pause}: {victim:#}");
    assert_nothing_left(&lab, case.audio.path(), Step::CallAgain).await;
}

/// Called off while nobody was connected, a call has nobody who asks for its report: it is swept. One of a job that is not known here may
/// be another server's, and is left alone.
#[tokio::test]
async fn real_report_that_nobody_asks_for_is_swept() {
    let lab = Lab::start(Version::V22);
    let voice = voice(&lab, "hello-world").await;
    let mut case = Case::crashed_for_good(&lab, &voice, Step::CallSpeaking, "100", &[]).await;
    let report = format!("{}-1", case.id);
    let deadline = Instant::now() + SOON;
    while !lab.cli("database show sidetone-tts").contains(&report) {
        assert!(Instant::now() < deadline, "the dialplan keeps no report");
        sleep(Duration::from_millis(50)).await;
    }
    lab.cli("database put sidetone-tts stranger-1 at=failed");
    // The job is past its call: as if it had been called off on another node meanwhile.
    let database = case.bench.server.data().join("sidetone.db");
    let edit = "import sqlite3, sys; base = sqlite3.connect(sys.argv[1]); \
                base.execute(\"UPDATE jobs SET state = 'cancelled', memo = NULL\"); base.commit()";
    let edited = std::process::Command::new("python3").args(["-c", edit]).arg(database).status().unwrap();
    assert!(edited.success());
    case.bench.server.respawn();
    case.bench.until_up().await;
    let deadline = Instant::now() + SOON;
    loop {
        let reports = lab.cli("database show sidetone-tts");
        let files = std::fs::read_dir(case.audio.path()).map_or(0, |files| files.count());
        if !reports.contains(&report) && files == 0 {
            assert!(reports.contains("stranger-1"), "{reports}");
            return;
        }
        assert!(Instant::now() < deadline, "{files} files and reports are left: {reports}");
        sleep(Duration::from_millis(50)).await;
    }
}
