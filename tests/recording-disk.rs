//! Disks that are full, and file size limits: the recording at hand fails loudly with what it has, the others go on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use sidetone::clock;
use sidetone::media::clock::CallClock;
use sidetone::media::ring::{RingWriter, ring};
use sidetone::media::slot::SlotState;
use sidetone::media::time::SampleRate;
use sidetone::recording::wav::WavReader;
use sidetone::recording::{
    Finished, Recorder, RecorderConfig, RecordingError, RecordingHandle, RecordingSpec,
};

const LIMITED: &str = "RECORDING_DISK_LIMITED";
const FRAMES: usize = 480_000;

/// A tmpfs of 512 KiB, unmounted when dropped. `None` where mounting is not allowed.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=512k", "sidetone-test"]).arg(folder.path());
        mount.output().ok()?.status.success().then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

struct Running {
    handle: RecordingHandle,
    writer: RingWriter,
    failures: mpsc::Receiver<RecordingError>,
}

/// Ten seconds of 48 kHz audio on the left, 1.8 MiB of file, ready to be written.
fn begin(recorder: &Recorder, path: PathBuf) -> Running {
    let rate = SampleRate::new(48_000).unwrap();
    let (mut writer, left) = ring(rate, 1_024);
    let clock = Arc::new(CallClock::resumed(clock::now(), rate, 0));
    let (failed, failures) = mpsc::channel();
    let handle = recorder
        .begin(RecordingSpec {
            call_id: path.file_stem().unwrap().to_string_lossy().into_owned(),
            path,
            clock,
            legs: [Some(left), None],
            resume: false,
            on_failure: Arc::new(move |error| failed.send(error).unwrap()),
        })
        .unwrap();
    writer.place(0, FRAMES, |i| (i % 1_000) as i16, SlotState::Silence);
    Running { handle, writer, failures }
}

fn finish(running: Running) -> Result<Finished, RecordingError> {
    drop(running.writer);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(running.handle.finish())
}

fn recorder() -> Recorder {
    let repair_window = Duration::from_millis(100);
    Recorder::start(RecorderConfig {
        writers: 1,
        min_free_mib: 0,
        repair_window,
        ..RecorderConfig::default()
    })
    .unwrap()
}

/// The failure is told at once, `finish` says the same, and the file it names is valid.
fn check_failure(running: Running, path: &Path, remedy: &str) {
    let told = running
        .failures
        .recv_timeout(Duration::from_secs(10))
        .expect("the failure is told while the call runs");
    let RecordingError::Write { kept: Some(kept), frames, .. } = &told else { panic!("{told}") };
    let words = told.to_string();
    assert!(words.contains(remedy) && words.contains(&*path.to_string_lossy()), "{words}");
    assert_eq!((&kept.path, kept.frames), (&path.to_owned(), *frames));
    let mut reader = WavReader::open(path).unwrap();
    assert_eq!(reader.format().frames, *frames);
    assert!(!reader.format().clamped && *frames > 10_000, "{frames} frames");
    let audio = reader.read_all().unwrap();
    assert!(audio.chunks(2).enumerate().all(|(i, frame)| frame == [(i % 1_000) as i16, 0]));
    assert_eq!(finish(running).unwrap_err().to_string(), words);
}

#[test]
fn a_full_disk_fails_one_recording_and_keeps_what_was_written() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("mounting is not allowed here: not tested with a full disk");
        return;
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let recorder = recorder();
    let path = disk.0.path().join("full.wav");
    let healthy = begin(&recorder, elsewhere.path().join("healthy.wav"));
    let doomed = begin(&recorder, path.clone());
    check_failure(doomed, &path, "free disk space");
    assert_eq!(finish(healthy).unwrap().frames, FRAMES as u64);
}

/// Not a test of its own: runs below a file size limit, with the signal that goes with it ignored.
#[test]
fn child_records_below_a_file_size_limit() {
    let Some(folder) = std::env::var_os(LIMITED).map(PathBuf::from) else { return };
    let recorder = recorder();
    let path = folder.join("limited.wav");
    let doomed = begin(&recorder, path.clone());
    check_failure(doomed, &path, "LimitFSIZE");
}

#[test]
fn a_file_size_limit_fails_with_its_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 600; exec \"$0\" --exact child_records_below_a_file_size_limit",
        ])
        .arg(std::env::current_exe().unwrap())
        .env(LIMITED, folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(folder.path().join("limited.wav").exists());
}
