mod ahead;
mod killed;
mod repair;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::report::Report;
use super::wav::WavReader;
use super::*;
use crate::clock;
use crate::media::ring::{RingWriter, ring};
use crate::media::slot::SlotState;
use crate::media::time::{MediaInstant, SampleRate};

const RATE: SampleRate = SampleRate::NARROWBAND;

struct Call {
    spec: RecordingSpec,
    failures: Arc<parking_lot::Mutex<Vec<RecordingError>>>,
    writers: [RingWriter; 2],
}

/// A call that began now, with two legs of 10 s rings whose base is call sample 0.
fn call(path: &Path) -> Call {
    let (a, ring_a) = ring(RATE, 1_000);
    let (b, ring_b) = ring(RATE, 1_000);
    let failures = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let heard = failures.clone();
    let spec = RecordingSpec {
        call_id: "c1".into(),
        path: path.to_owned(),
        clock: Arc::new(CallClock::new(clock::now(), RATE, 2)),
        legs: [Some(ring_a), Some(ring_b)],
        resume: false,
        on_failure: Arc::new(move |error| heard.lock().push(error)),
    };
    Call { spec, failures, writers: [a, b] }
}

/// A recording under way, alone in a folder and with a recorder.
struct Begun {
    dir: TempDir,
    path: PathBuf,
    recorder: Recorder,
    call: Call,
    handle: RecordingHandle,
}

impl Begun {
    fn new(config: RecorderConfig) -> Self {
        Self::under("c1.wav", config)
    }

    /// At `name` below the folder.
    fn under(name: &str, config: RecorderConfig) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join(name);
        let recorder = Recorder::start(config).unwrap();
        let call = call(&path);
        let handle = recorder.begin(call.spec.clone()).unwrap();
        Self { dir, path, recorder, call, handle }
    }

    /// The call ends: its rings close, and the file is finished.
    fn hang_up(self) -> (TempDir, PathBuf, Result<Finished, RecordingError>) {
        drop(self.call);
        (self.dir, self.path, wait(self.handle))
    }
}

/// A moment of a call that is driven without threads.
fn at(ms: u64) -> MediaInstant {
    MediaInstant::from_nanos(1_000_000_000_000 + ms * 1_000_000)
}

/// Such a call: it began at 0 ms, and its first sample is there.
fn driven(folder: &Path, legs: [Option<Arc<Ring>>; 2]) -> RecordingSpec {
    let clock = Arc::new(CallClock::new(at(0), RATE, 1));
    clock.propose_origin(0, at(200));
    let on_failure: OnFailure = Arc::new(|error| panic!("{error}"));
    let path = folder.join("c1.wav");
    RecordingSpec { call_id: "c1".into(), path, clock, legs, resume: false, on_failure }
}

impl Call {
    /// Both legs speak from call sample 0 for `samples`: the left one 1, 2, 3 …, the right one backwards.
    fn speak(&mut self, samples: usize) {
        for (writer, sign) in self.writers.iter_mut().zip([1, -1]) {
            writer.place(0, samples, |i| sign * (i % 1_000) as i16, SlotState::Silence);
            self.spec.clock.propose_origin(0, clock::now());
        }
    }
}

fn config() -> RecorderConfig {
    RecorderConfig { writers: 1, min_free_mib: 0, ..RecorderConfig::default() }
}

fn quick() -> RecorderConfig {
    RecorderConfig {
        checkpoint: Duration::from_millis(100),
        repair_window: Duration::from_millis(20),
        ..config()
    }
}

fn wait(handle: RecordingHandle) -> Result<Finished, RecordingError> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(handle.finish())
}

fn samples(path: &Path) -> Vec<i16> {
    WavReader::open(path).unwrap().read_all().unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let start = clock::now();
    while !holds() {
        assert!(clock::since(start) < Duration::from_secs(20), "it never came to that");
        sleep_ms(20);
    }
}

fn sha256_of(path: &Path) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(fs::read(path).unwrap()).iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn a_call_becomes_a_file_of_exactly_its_samples() {
    let mut begun = Begun::under("t/2026/c1.wav", config());
    assert!(begun.dir.path().join("t/2026/c1.wav.part").exists(), "the part file is there from the start");
    begun.call.speak(8_037);
    let failures = begun.call.failures.clone();
    let (_dir, path, finished) = begun.hang_up();
    let finished = finished.unwrap();

    assert_eq!((finished.frames, finished.sample_rate, finished.origin), (8_037, 8_000, 0));
    assert_eq!(finished.gaps, [vec![], vec![]]);
    assert_eq!(finished.sha256, sha256_of(&path));
    let audio = samples(&path);
    assert_eq!(audio.len(), 2 * 8_037);
    assert!(audio.chunks(2).enumerate().all(|(i, f)| f == [(i % 1_000) as i16, -((i % 1_000) as i16)]));
    assert!(failures.lock().is_empty());
    let report = Report::new("c1", "t", &finished, Default::default());
    report.write(&Report::path_for(&path)).unwrap();
    assert_eq!(names(path.parent().unwrap()), ["c1.json", "c1.wav"]);
}

#[test]
fn a_call_without_a_packet_is_silence_of_its_length() {
    let begun = Begun::new(quick());
    let started = begun.call.spec.clock.start();
    sleep_ms(250);
    let (_dir, path, finished) = begun.hang_up();
    let finished = finished.unwrap();
    let age = clock::since(started);
    let length = RATE.duration_of(finished.frames);
    assert!(length >= Duration::from_millis(250) && length <= age, "{length:?} of {age:?}");
    assert!(samples(&path).iter().all(|s| *s == 0));
    let silence = vec![Gap { start_sample: 0, samples: finished.frames, kind: SlotState::Silence }];
    assert_eq!(finished.gaps, [silence.clone(), silence]);
}

#[test]
fn a_pause_is_marked_silence() {
    let mut begun = Begun::new(config());
    sleep_ms(50);
    begun.handle.pause();
    begun.handle.pause();
    sleep_ms(50);
    begun.handle.resume();
    begun.handle.resume();
    begun.call.speak(16_000);
    let (_dir, path, finished) = begun.hang_up();
    let finished = finished.unwrap();
    let [pause] = finished.paused[..] else { panic!("{:?}", finished.paused) };
    assert!((400..4_000).contains(&pause.start_sample) && pause.samples >= 400, "{pause:?}");
    let gap = Gap { start_sample: pause.start_sample, samples: pause.samples, kind: SlotState::Silence };
    assert_eq!(finished.gaps, [vec![gap.clone()], vec![gap]]);
    for (i, frame) in samples(&path).chunks(2).enumerate() {
        let paused = (pause.start_sample..pause.start_sample + pause.samples).contains(&(i as u64));
        assert_eq!(frame[0], if paused { 0 } else { (i % 1_000) as i16 }, "frame {i}");
    }
}

#[test]
fn a_part_file_is_valid_at_every_checkpoint_and_lag_is_known() {
    let mut begun = Begun::new(quick());
    begun.call.speak(8_000);
    let part = begun.dir.path().join("c1.wav.part");
    let announced = || u32::from_le_bytes(fs::read(&part).unwrap()[76..80].try_into().unwrap());
    eventually(|| announced() >= 4 * 7_800);
    let mut reader = WavReader::open(&part).unwrap();
    assert!(!reader.format().clamped);
    assert_eq!(reader.read_all().unwrap()[2 * 500], 500);
    let lag = begun.recorder.lag();
    assert!(lag.write < Duration::from_secs(1) && lag.durable < Duration::from_secs(2), "{lag:?}");
    let (_dir, _, finished) = begun.hang_up();
    assert_eq!(finished.unwrap().frames, 8_000);
}

#[test]
fn a_suspended_recording_goes_on_in_the_next_process() {
    let Begun { dir, path, recorder, call: mut first, handle } = Begun::new(config());
    first.speak(4_000);
    sleep_ms(150);
    recorder.suspend();
    assert!(matches!(wait(handle), Err(RecordingError::Stopped { .. })));
    assert_eq!(names(dir.path()), ["c1.wav.part", "c1.wav.part.gaps"]);
    // As if killed in the middle of a frame.
    let part = fs::OpenOptions::new().append(true).open(dir.path().join("c1.wav.part")).unwrap();
    std::io::Write::write_all(&mut &part, &[9, 9, 9]).unwrap();

    let recorder = Recorder::start(config()).unwrap();
    let mut second = call(&path);
    second.spec.clock = Arc::new(CallClock::resumed(first.spec.clock.start(), RATE, 0));
    second.spec.resume = true;
    let handle = recorder.begin(second.spec.clone()).unwrap();
    second.writers[0].place(6_000, 2_000, |_| 77, SlotState::Silence);
    drop(second);
    let finished = wait(handle).unwrap();
    assert_eq!(finished.frames, 8_000);
    let lost = |samples| vec![Gap { start_sample: 4_000, samples, kind: SlotState::Lost }];
    assert_eq!(finished.gaps, [lost(2_000), lost(4_000)]);
    let audio = samples(&path);
    assert_eq!(audio[2 * 3_999..2 * 4_001], [999, -999, 0, 0]);
    assert_eq!(audio[2 * 5_999..2 * 6_001], [0, 0, 77, 0]);
}

#[test]
fn a_call_that_ended_longer_ago_than_was_known_ends_with_its_last_sample() {
    let mut begun = Begun::new(quick());
    begun.call.speak(8_000);
    for writer in &mut begun.call.writers {
        writer.advance(40_000, SlotState::Silence);
    }
    let part = begun.dir.path().join("c1.wav.part");
    eventually(|| fs::metadata(&part).unwrap().len() > 4 * 30_000);
    for writer in &mut begun.call.writers {
        writer.cut(0);
    }
    let (_dir, path, finished) = begun.hang_up();
    let finished = finished.unwrap();
    assert_eq!((finished.frames, samples(&path).len()), (8_000, 2 * 8_000));
    assert_eq!(finished.gaps, [vec![], vec![]]);
    assert_eq!(finished.sha256, sha256_of(&path));
}

#[test]
fn a_dropped_handle_finishes_the_recording_though_its_rings_are_open() {
    let Begun { dir: _dir, path, recorder: _recorder, mut call, handle } = Begun::new(config());
    call.speak(4_030);
    drop(handle);
    eventually(|| path.exists());
    assert_eq!(samples(&path).len(), 2 * 4_000, "an open ring's last slot may not be whole");
}

#[test]
fn a_recording_that_cannot_begin_says_why() {
    let dir = TempDir::new().unwrap();
    let recorder = Recorder::start(config()).unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let begin = |path: &Path| recorder.begin(call(path).spec).unwrap_err();

    let blocked = begin(&dir.path().join("file/c1.wav")).to_string();
    assert!(blocked.contains("file") && blocked.contains("in the way"), "{blocked}");

    let taken = dir.path().join("taken.wav");
    fs::write(&taken, "precious").unwrap();
    assert!(matches!(begin(&taken), RecordingError::Exists { .. }));
    fs::write(dir.path().join("open.wav.part"), "precious").unwrap();
    assert!(matches!(begin(&dir.path().join("open.wav")), RecordingError::Exists { .. }));
    assert_eq!(fs::read_to_string(&taken).unwrap(), "precious");

    let mut wide = call(&dir.path().join("wide.wav")).spec;
    wide.legs[1] = Some(ring(SampleRate::WIDEBAND, 10).1);
    let error = recorder.begin(wide).unwrap_err().to_string();
    assert!(error.contains("callee") && error.contains("16000"), "{error}");

    let choosy = Recorder::start(RecorderConfig { min_free_mib: u64::MAX, ..config() }).unwrap();
    let error = choosy.begin(call(&dir.path().join("big.wav")).spec).unwrap_err().to_string();
    assert!(error.contains("min_free_mib"), "{error}");
}

#[test]
fn a_deleted_file_fails_loudly_and_alone() {
    let dir = TempDir::new().unwrap();
    let recorder = Recorder::start(quick()).unwrap();
    let doomed = call(&dir.path().join("doomed.wav"));
    let mut healthy = call(&dir.path().join("healthy.wav"));
    let doomed_handle = recorder.begin(doomed.spec.clone()).unwrap();
    let healthy_handle = recorder.begin(healthy.spec.clone()).unwrap();
    fs::remove_file(dir.path().join("doomed.wav.part")).unwrap();
    eventually(|| !doomed.failures.lock().is_empty());
    assert!(matches!(doomed.failures.lock()[..], [RecordingError::Vanished { .. }]));
    assert!(matches!(wait(doomed_handle), Err(RecordingError::Vanished { .. })));
    healthy.speak(800);
    drop(healthy);
    assert_eq!(wait(healthy_handle).unwrap().frames, 800);
}

#[test]
fn hundreds_of_calls_share_two_threads() {
    let dir = TempDir::new().unwrap();
    let recorder = Recorder::start(RecorderConfig { writers: 2, ..quick() }).unwrap();
    let mut calls: Vec<_> = (0..300)
        .map(|i| {
            let call = call(&dir.path().join(format!("{i}.wav")));
            let handle = recorder.begin(call.spec.clone()).unwrap();
            (call, handle)
        })
        .collect();
    for (call, _) in &mut calls {
        call.speak(4_000);
    }
    for (call, handle) in calls {
        drop(call);
        assert_eq!(wait(handle).unwrap().frames, 4_000);
    }
    assert_eq!(recorder.lag(), Lag::default());
}
