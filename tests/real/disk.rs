//! A disk that is full, gone or limited fails recordings, loudly, and nothing else.

use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tempfile::TempDir;

use crate::bad_input::{SOON, assert_said, kinds, live_events_until, series, until};
use crate::support::callers::Call;
use crate::support::lab::{Lab, Version};
use crate::support::server::{Sidetone, find};

/// A tmpfs of 2 MiB, unmounted when dropped. `None` where mounting is not allowed.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "sidetone-test"]).arg(folder.path());
        mount.output().ok()?.status.success().then_some(SmallDisk(folder))
    }

    /// Take all the space there is; dropping the path's file gives it back.
    fn fill(&self) -> std::path::PathBuf {
        use std::io::Write;
        let path = self.0.path().join("ballast");
        let mut file = std::fs::File::create(&path).expect("a file");
        // Down to the last block: the file system says when it is full.
        while file.write_all(&[0; 4_096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server that is dropped later may have files open.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_full_disk_fails_the_recording_alone_and_later_calls_are_whole() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("mounting is not allowed here: not tested with a full disk");
        return;
    };
    let lab = Lab::start(Version::V22);
    let data = disk.0.path().join("data");
    let settings = [("node.data", data.to_str().unwrap()), ("recording.min_free_mib", "0")];
    let server = Sidetone::start_with(&lab, &settings).await;
    Call::tap().caller(&["agent-pass", "2", "vm-goodbye"]).callee(&["20"]).place(&lab).await;
    let call = server.call_in_state("live").await;

    let ballast = disk.fill();
    let events = live_events_until(&server, &call, "recording.failed").await;
    let error = events.last().unwrap()["error"].as_str().unwrap();
    assert!(error.contains("No space left") && error.contains("free disk space"), "{error}");
    assert!(error.contains("node.data"), "{error}");
    assert_eq!(series(&server, "sidetone_recordings_total{outcome=\"failed\"}").await, 1.0);
    assert!(
        server.log().lines().any(|l| l.contains("ERROR") && l.contains("recording failed")),
        "{}",
        server.log()
    );
    assert_eq!(server.call_in_state("live").await["recording"]["status"], "failed");
    // Words go on while the disk is full.
    live_events_until(&server, &call, "transcript.final").await;
    std::fs::remove_file(ballast).unwrap();

    let calls = server.ended_calls(1, SOON).await;
    assert_eq!(calls[0]["transcript"]["status"], "ready", "{:#}", calls[0]);
    let events = until("the whole journal", &server, async || {
        let events = server.events(&calls[0]);
        (kinds(&events).last() == Some(&"call.ended")).then_some(events)
    })
    .await;
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], index as u64 + 1, "numbers without holes over the full disk: {event}");
    }
    let said: Vec<_> =
        events.iter().filter(|e| e["type"] == "transcript.final").map(|e| &e["text"]).collect();
    assert!(said.iter().any(|text| text.as_str().is_some_and(|t| t.contains("goodbye"))), "{said:?}");
    assert_eq!(kinds(&events).iter().filter(|k| **k == "recording.failed").count(), 1);

    Call::tap().caller(&["0.3", "vm-goodbye"]).callee(&["3"]).place(&lab).await;
    let calls = server.ended_calls(2, SOON).await;
    assert_eq!(calls[0]["recording"]["status"], "ready", "{:#}", calls[0]);
    assert_said(&lab, &server.recorded(&calls[0]).legs[0], "vm-goodbye");
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_recording_that_cannot_begin_is_told_while_the_call_runs() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start_with(&lab, &[("recording.min_free_mib", "99999999999")]).await;
    Call::tap().caller(&["0.3", "vm-goodbye", "1"]).callee(&["20"]).place(&lab).await;
    let call = server.call_in_state("live").await;
    let events = live_events_until(&server, &call, "recording.failed").await;
    let error = events.last().unwrap()["error"].as_str().unwrap();
    assert!(error.contains("recording.min_free_mib") && error.contains("free disk space"), "{error}");
    assert_eq!(server.get("/api/calls?limit=1").await["calls"][0]["state"], "live", "told at the end only");
    assert_eq!(series(&server, "sidetone_recordings_total{outcome=\"failed\"}").await, 1.0);

    let calls = server.ended_calls(1, SOON).await;
    let events = server.events(&calls[0]);
    assert_eq!(kinds(&events).iter().filter(|k| **k == "recording.failed").count(), 1);
    let text = server.text(&format!("/api/calls/{}/transcript.txt", call["call_id"].as_str().unwrap())).await;
    assert!(text.contains("goodbye"), "{text}");
    lab.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_file_size_limit_fails_recordings_and_not_the_server() {
    let lab = Lab::start(Version::V22);
    let server = Sidetone::start_with(&lab, &[("speech.model", "off"), ("log.level", "warn")]).await;
    let pid = Pid::from_raw(server.pid() as i32).expect("a process");
    // Of the soft limit only: a lowered hard one stays.
    let limit = Rlimit { current: Some(40_000), maximum: getrlimit(Resource::Fsize).maximum };
    let none = prlimit(Some(pid), Resource::Fsize, limit).expect("a limit");
    let open = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let open = open.lines().find(|l| l.starts_with("Max open files")).unwrap().to_owned();
    let fields: Vec<_> = open.split_whitespace().collect();
    assert_eq!(fields[3], fields[4], "the soft limit is raised to the hard one: {open}");

    Call::tap().caller(&["agent-pass", "1"]).callee(&["20"]).place(&lab).await;
    let call = server.call_in_state("live").await;
    let events = live_events_until(&server, &call, "recording.failed").await;
    let error = events.last().unwrap()["error"].as_str().unwrap();
    assert!(error.contains("LimitFSIZE") && error.contains("what there was is in"), "{error}");
    // What was written is a whole file.
    let kept = server.data().join("recordings");
    let wav = find(&kept, &format!("{}.wav", call["call_id"].as_str().unwrap()));
    let samples = sidetone::recording::wav::WavReader::open(&wav.expect("what there was")).unwrap();
    assert!(samples.format().frames > 4_000 && !samples.format().clamped, "{:?}", samples.format());

    let calls = server.ended_calls(1, SOON).await;
    assert_eq!(calls[0]["recording"]["status"], "failed", "{:#}", calls[0]);
    let url = format!("http://{}/api/calls/{}/recording", server.http(), call["call_id"].as_str().unwrap());
    assert_eq!(reqwest::get(url).await.unwrap().status(), 200, "what there was is served");
    prlimit(Some(pid), Resource::Fsize, none).expect("no limit");
    Call::tap().caller(&["0.3", "vm-goodbye"]).callee(&["3"]).place(&lab).await;
    let calls = server.ended_calls(2, SOON).await;
    assert_eq!(calls[0]["recording"]["status"], "ready", "{:#}", calls[0]);
    lab.assert_clean().await;
}
