//! A process killed in the middle of recording: what is on disk is mended, exact to the sample, and little is missing.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sidetone::clock;
use sidetone::media::clock::CallClock;
use sidetone::media::report::Gap;
use sidetone::media::ring::ring;
use sidetone::media::slot::SlotState;
use sidetone::media::time::SampleRate;
use sidetone::recording::repair::{Outcome, mend};
use sidetone::recording::wav::WavReader;
use sidetone::recording::{Recorder, RecorderConfig, RecordingSpec};

const RATE: SampleRate = SampleRate::NARROWBAND;
const PACKET: usize = 160;
const REPAIR_WINDOW: Duration = Duration::from_millis(500);
const FOLDER: &str = "RECORDING_CRASH_FOLDER";
/// The left leg loses every tenth packet.
const LOST: u64 = 10;

/// Sample `at` of the call as the left leg says it.
fn sample(at: u64) -> i16 {
    (at % 30_000) as i16 + 1
}

/// Not a test of its own: what the child process does, until it is killed. It tells how many samples it has heard.
#[test]
fn child_records_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let resume = folder.join("acme/c1.wav.part").exists();
    let (mut left, left_ring) = ring(RATE, 1_000);
    let (mut right, right_ring) = ring(RATE, 1_000);
    // The origin is call sample 0, and the monotonic clock outlives the process.
    let start_file = folder.join("start");
    let start = match std::fs::read_to_string(&start_file) {
        Ok(text) => sidetone::media::time::MediaInstant::from_nanos(text.parse().unwrap()),
        Err(_) => clock::now(),
    };
    std::fs::write(&start_file, start.as_nanos().to_string()).unwrap();
    let call = Arc::new(CallClock::resumed(start, RATE, 0));
    let recorder = Recorder::start(RecorderConfig {
        repair_window: REPAIR_WINDOW,
        min_free_mib: 0,
        ..RecorderConfig::default()
    })
    .unwrap();
    let _handle = recorder
        .begin(RecordingSpec {
            call_id: "c1".into(),
            path: folder.join("acme/c1.wav"),
            clock: call.clone(),
            legs: [Some(left_ring), Some(right_ring)],
            resume,
            on_failure: Arc::new(|error| panic!("{error}")),
        })
        .unwrap();
    let base = call.sample_at(clock::now()).max(0) as u64 / PACKET as u64 * PACKET as u64;
    let base = if resume { base } else { 0 };
    left.set_base(base as i64);
    right.set_base(base as i64);
    let mut packet = 0;
    loop {
        while base + (packet + 1) * PACKET as u64 <= call.sample_at(clock::now()) as u64 {
            let at = packet * PACKET as u64;
            if (base / PACKET as u64 + packet) % LOST != LOST - 1 {
                left.place(at, PACKET, |i| sample(base + at + i as u64), SlotState::Lost);
            }
            right.place(at, PACKET, |_| -5, SlotState::Lost);
            packet += 1;
        }
        println!("heard {}", base + packet * PACKET as u64);
        std::io::stdout().flush().unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Run the child until it has heard `samples`, kill it, and return how many it heard last.
fn record_and_kill(folder: &Path, samples: u64) -> u64 {
    let mut child: Child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_records_until_killed", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut heard = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(count) = line.rsplit_once("heard ").and_then(|(_, count)| count.parse().ok()) {
            heard = count;
        }
        if heard >= samples {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(heard >= samples, "the child ended early, having heard {heard}");
    heard
}

fn check(folder: &Path, heard: u64, holes: &[std::ops::Range<u64>]) {
    let mended = mend(folder, &HashSet::new());
    let [mended] = &mended[..] else { panic!("{mended:?}") };
    let Outcome::Repaired { finished, report } = &mended.outcome else { panic!("{mended:?}") };
    let missing = heard.saturating_sub(finished.frames);
    let allowed = RATE.samples_in(REPAIR_WINDOW + Duration::from_secs(1));
    assert!(missing <= allowed, "{missing} of {heard} samples are missing, {allowed} may be");

    let in_hole = |at: u64| holes.iter().any(|hole| hole.contains(&at));
    let lost = |at: u64| at / PACKET as u64 % LOST == LOST - 1;
    let mut reader = WavReader::open(&finished.path).unwrap();
    let audio = reader.read_all().unwrap();
    assert_eq!(audio.len() as u64, finished.frames * 2);
    let mut missing = Vec::new();
    for (at, frame) in (0u64..).zip(audio.chunks(2)) {
        let silent = in_hole(at);
        assert_eq!(frame[1], if silent { 0 } else { -5 }, "right, sample {at}");
        assert_eq!(frame[0], if silent || lost(at) { 0 } else { sample(at) }, "left, sample {at}");
        if silent || lost(at) {
            missing.push(at);
        }
    }
    let listed = report.legs[0].gaps.iter().inspect(|gap| assert_eq!(gap.kind, SlotState::Lost));
    let listed: Vec<u64> = listed.flat_map(|gap| gap.start_sample..gap.start_sample + gap.samples).collect();
    assert_eq!(listed, missing);
    let right =
        holes.iter().map(|h| Gap { start_sample: h.start, samples: h.end - h.start, kind: SlotState::Lost });
    assert_eq!(report.legs[1].gaps, right.collect::<Vec<_>>());
    check_with_python(&finished.path, finished.frames);
}

/// Another's reader agrees, where there is one.
fn check_with_python(path: &Path, frames: u64) {
    let script = "import sys, wave; w = wave.open(sys.argv[1]); print(w.getnframes(), w.getnchannels(), w.getframerate())";
    let Ok(output) = Command::new("python3").args(["-c", script]).arg(path).output() else {
        eprintln!("no python3: its opinion of the file was not asked");
        return;
    };
    let says = String::from_utf8_lossy(&output.stdout);
    assert_eq!(says.trim(), format!("{frames} 2 8000"), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_killed_recording_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let heard = record_and_kill(folder.path(), 20_000);
    check(folder.path(), heard, &[]);
}

#[test]
fn a_killed_recording_is_resumed_killed_again_and_mended() {
    let folder = tempfile::tempdir().unwrap();
    record_and_kill(folder.path(), 12_000);
    let part = folder.path().join("acme/c1.wav.part");
    let kept = (std::fs::metadata(&part).unwrap().len() - 80) / 4;
    let heard = record_and_kill(folder.path(), 32_000);

    // The second life's first packet ends the hole; it lies on the packet grid.
    let mut reader = WavReader::open(&part).unwrap();
    let audio = reader.read_all().unwrap();
    let back = (kept..).find(|at| audio[2 * *at as usize + 1] != 0).unwrap();
    assert_eq!(back % PACKET as u64, 0);
    assert!(back > kept);
    check(folder.path(), heard, std::slice::from_ref(&(kept..back)));
}
