//! Over HTTP, with nothing installed but Sidetone.

use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::{Bench, gsm, wav_samples};

#[tokio::test]
async fn a_file_is_converted_and_the_job_says_so() {
    let mut bench = Bench::start(&[]).await;
    gsm(&bench.at("a.gsm"), 50, 1);
    let body = json!({ "input": bench.at("a.gsm"), "output": bench.at("out/a.wav"), "id": "first" });
    let (status, answer) = bench.post("/api/conversions", &body).await;
    assert_eq!((status, &answer["id"], &answer["url"]), (202, &json!("first"), &json!("/api/jobs/first")));
    let job = bench.over("first").await;
    assert_eq!(job["status"], "completed", "{job:#}");
    assert_eq!(
        (&job["result"]["seconds"], &job["attempts"], &job["progress"]),
        (&json!(1.0), &json!(1), &json!(1.0))
    );
    assert_eq!(wav_samples(&bench.at("out/a.wav")), 8_000);
    // The same id is the same job.
    let (status, again) = bench.post("/api/conversions", &body).await;
    assert_eq!((status, &again["status"]), (200, &json!("completed")));
    assert!(bench.server.stop().await.success());
}

#[tokio::test]
async fn what_can_never_be_done_is_refused_before_it_is_taken_in() {
    let bench = Bench::start(&[]).await;
    gsm(&bench.at("a.gsm"), 5, 1);
    let elsewhere = tempfile::tempdir().unwrap();
    gsm(&elsewhere.path().join("secret.gsm"), 5, 1);
    symlink(elsewhere.path(), bench.at("link")).unwrap();
    let root = bench.root.path().display().to_string();
    let (good, out) = (format!("{root}/a.gsm"), format!("{root}/a.wav"));
    for (input, output, says) in [
        (format!("{root}/none.gsm"), out.clone(), "no such file"),
        (format!("{root}/../a.gsm"), out.clone(), "without `..`"),
        ("a.gsm".into(), out.clone(), "absolute"),
        (format!("{root}/link/secret.gsm"), out.clone(), "leads out"),
        (elsewhere.path().join("secret.gsm").display().to_string(), out.clone(), "jobs.roots"),
        (root.clone(), out.clone(), "jobs.roots"),
        (good.clone(), format!("{root}/a.xyz"), "xyz"),
        (good.clone(), good.clone(), "same file"),
    ] {
        let (status, answer) =
            bench.post("/api/conversions", &json!({ "input": input, "output": output })).await;
        assert_eq!(status, 422, "{input} to {output}: {answer}");
        assert!(answer["detail"].as_str().unwrap().contains(says), "{answer}");
    }
    for bad in [
        json!({ "input": good }),
        json!([]),
        json!("x"),
        json!({ "input": 7, "output": out }),
        json!({ "input": good, "output": out, "id": "../x" }),
    ] {
        let (status, answer) = bench.post("/api/conversions", &bad).await;
        assert_eq!(status, 400, "{bad}: {answer}");
    }
    assert_eq!(bench.get("/api/jobs").await["jobs"], json!([]), "nothing was taken in");
    assert!(bench.get("/api/jobs/none").await["type"].as_str().unwrap().ends_with("no-such-job"));
}

#[tokio::test]
async fn a_job_that_fails_is_tried_again_and_then_lies_with_its_reason() {
    let bench = Bench::start(&[("jobs.attempts", "3"), ("jobs.retry_ms", "50")]).await;
    gsm(&bench.at("a.gsm"), 5, 1);
    std::fs::write(bench.at("noise.wav"), b"RIFFno audio at all in here").unwrap();
    // A file where the output's folder should be may be gone in a moment: that is tried again.
    std::fs::write(bench.at("place"), b"").unwrap();
    std::fs::create_dir(bench.at("taken.wav")).unwrap();
    let jobs = json!([
        { "id": "poison", "input": bench.at("noise.wav"), "output": bench.at("noise.gsm") },
        { "id": "taken", "input": bench.at("a.gsm"), "output": bench.at("taken.wav") },
    ]);
    assert_eq!(bench.post("/api/conversions", &jobs).await.0, 202);
    let poison = bench.over("poison").await;
    assert_eq!(
        (&poison["status"], &poison["attempts"]),
        (&json!("failed"), &json!(1)),
        "it will never work: {poison:#}"
    );
    assert!(poison["error"].as_str().unwrap().contains("noise.wav"), "{poison:#}");
    let taken = bench.over("taken").await;
    assert_eq!((&taken["status"], &taken["attempts"]), (&json!("failed"), &json!(3)), "{taken:#}");
    assert!(taken["error"].as_str().unwrap().contains("taken.wav"), "{taken:#}");
    // Once the way is free, it is done.
    std::fs::remove_dir(bench.at("taken.wav")).unwrap();
    assert_eq!(bench.post("/api/jobs/taken/retry", &json!(null)).await.0, 202);
    assert_eq!(bench.over("taken").await["status"], "completed");
    assert_eq!(bench.post("/api/jobs/taken/retry", &json!(null)).await.0, 409);
}

#[tokio::test]
async fn workers_are_changed_while_they_run_and_a_waiting_job_is_cancelled() {
    let bench = Bench::start(&[("conversions.workers", "1")]).await;
    gsm(&bench.at("a.gsm"), 5, 1);
    assert_eq!(bench.put("/api/workers/conversion", &json!({ "workers": 0 })).await.0, 200);
    // The worker that waits may still take one: it is told at once, but not before this answers.
    let job = |id: &str, priority: &str| json!({ "id": id, "input": bench.at("a.gsm"), "output": bench.at(&format!("{id}.wav")), "priority": priority });
    sleep(Duration::from_millis(100)).await;
    assert_eq!(
        bench
            .post("/api/conversions", &json!([job("a", "normal"), job("b", "normal"), job("c", "high")]))
            .await
            .0,
        202
    );
    let stats = bench.get("/queue/stats").await;
    assert_eq!(stats["kinds"]["conversion"]["waiting"]["high"], 1, "{stats:#}");
    assert_eq!(stats["kinds"]["conversion"]["workers"], json!({ "total": 0, "active": 0, "idle": 0 }));
    assert_eq!(bench.get("/api/jobs/b").await["ahead"], 2);
    let (status, cancelled) = bench.post("/api/jobs/b/cancel", &json!(null)).await;
    assert_eq!((status, &cancelled["status"]), (200, &json!("cancelled")));
    assert_eq!(bench.put("/api/workers/conversion", &json!({ "workers": 2 })).await.0, 200);
    assert_eq!(bench.over("a").await["status"], "completed");
    assert_eq!(bench.over("c").await["status"], "completed");
    assert!(!bench.at("b.wav").exists(), "what was cancelled is not done");
    assert_eq!(bench.put("/api/workers/nothing", &json!({ "workers": 1 })).await.0, 400);
    assert_eq!(bench.put("/api/workers/conversion", &json!({ "workers": 100_000 })).await.0, 400);
}

/// SIGKILL at any moment: nothing is lost, and nothing that is done is done again.
#[tokio::test]
async fn killed_again_and_again_the_server_does_every_job() {
    const FILES: usize = 120;
    let mut bench = Bench::start(&[("conversions.workers", "2")]).await;
    let mut jobs = Vec::new();
    for n in 0..FILES {
        gsm(&bench.at(&format!("{n}.gsm")), 1_500, n);
        jobs.push(json!({ "id": format!("j{n}"), "input": bench.at(&format!("{n}.gsm")), "output": bench.at(&format!("{n}.wav")) }));
    }
    assert_eq!(bench.post("/api/conversions", &json!(jobs)).await.0, 202);
    let mut kills = 0;
    loop {
        sleep(Duration::from_millis(30 + 17 * (kills % 7))).await;
        let done = bench
            .try_get("/queue/stats")
            .await
            .map(|stats| stats["kinds"]["conversion"]["jobs"]["completed"].as_u64().unwrap());
        if done == Some(FILES as u64) || kills == 25 {
            break;
        }
        bench.server.kill();
        kills += 1;
        bench.server.respawn();
        bench.until_up().await;
    }
    assert!(kills >= 3, "it was killed {kills} times only: make the work longer");
    bench.until_count("conversion", "completed", FILES as i64).await;
    for n in 0..FILES {
        assert_eq!(wav_samples(&bench.at(&format!("{n}.wav"))), 1_500 * 160, "{n}");
    }
    let drafts = std::fs::read_dir(bench.root.path()).unwrap();
    let drafts = drafts
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".sidetone-"));
    assert!(drafts.count() <= 2 * 25, "at most one draft a worker and kill");
}

/// A tmpfs of 2 MiB, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "sidetone-test"]).arg(folder.path());
        mount.output().ok()?.status.success().then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_what_does_not_need_it_goes_on() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("mounting is not allowed here: not tested with a full disk");
        return;
    };
    let other = tempfile::tempdir().unwrap();
    let roots = json!([disk.0.path(), other.path()]).to_string();
    let bench =
        Bench::start(&[("jobs.roots", &roots), ("jobs.attempts", "20"), ("jobs.retry_ms", "50")]).await;
    gsm(&other.path().join("a.gsm"), 500, 1);
    std::fs::write(disk.0.path().join("filler"), vec![0; (2 << 20) - (64 << 10)]).unwrap();
    let job = |id: &str, folder: &std::path::Path| json!({ "id": id, "input": other.path().join("a.gsm"), "output": folder.join(format!("{id}.wav")) });
    let jobs = json!([job("full", disk.0.path()), job("fine", other.path())]);
    assert_eq!(bench.post("/api/conversions", &jobs).await.0, 202);
    assert_eq!(bench.over("fine").await["status"], "completed");
    let full = bench.until("full", |job| job["error"].is_string()).await;
    assert!(full["error"].as_str().unwrap().contains("full.wav"), "{full:#}");
    let left: Vec<_> =
        std::fs::read_dir(disk.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["filler"], "nothing of it is left");
    std::fs::remove_file(disk.0.path().join("filler")).unwrap();
    let done = bench.over("full").await;
    assert_eq!(done["status"], "completed", "{done:#}");
    assert_eq!(wav_samples(&disk.0.path().join("full.wav")), 80_000);
}
