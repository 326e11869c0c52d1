//! What a recording costs on its way from the legs' rings to its file, by slots of 10 ms of both legs: a call makes 100 of them a
//! second. A minute of audio is written to a file that is new each time, and grows, under `target/`: what a disk makes of it
//! later is the system's affair, and `sidetone bench` and `make bench-peers` see that.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sidetone::clock;
use sidetone::media::clock::CallClock;
use sidetone::media::ring::ring;
use sidetone::media::slot::SlotState;
use sidetone::media::time::SampleRate;
use sidetone::recording::interleave::{FRAME_BYTES, Interleaver};
use sidetone::recording::part::PartFile;
use sidetone::recording::writer::OpenRecording;
use sidetone::recording::{RecorderConfig, RecordingSpec};
use tempfile::TempDir;

/// A minute.
const SLOTS: usize = 6_000;
/// Slots a write: one, and what the writers wait for at the least (200 ms).
const BATCHES: [usize; 2] = [1, 20];
/// So far behind the legs' heads that nothing of the minute is left out.
const NO_LAG: Duration = Duration::ZERO;

fn folder() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Two legs that spoke for a minute, and the clock that they share.
fn call(rate: SampleRate) -> RecordingSpec {
    let clock = Arc::new(CallClock::resumed(clock::now(), rate, 0));
    let legs = [3, 7].map(|step| {
        let (mut writer, ring) = ring(rate, SLOTS + 1);
        writer.place(0, SLOTS * rate.slot_samples(), |i| (i * step) as i16, SlotState::Lost);
        Some(ring)
    });
    RecordingSpec {
        call_id: "bench".into(),
        path: "bench.wav".into(),
        clock,
        legs,
        resume: false,
        on_failure: Arc::new(|error| panic!("{error}")),
    }
}

/// The file alone.
fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("WAV append");
    group.throughput(Throughput::Elements(SLOTS as u64));
    let folder = folder();
    for rate in [SampleRate::NARROWBAND, SampleRate::WIDEBAND, SampleRate::FULLBAND] {
        for slots in BATCHES {
            let frames = vec![0x55; slots * rate.slot_samples() * FRAME_BYTES];
            group.bench_function(
                BenchmarkId::new(format!("{} Hz", rate.hz()), format!("{slots} slots a write")),
                |bencher| {
                    bencher.iter_batched_ref(
                        || fresh(folder.path(), rate),
                        |part| (0..SLOTS / slots).for_each(|_| part.append(black_box(&frames)).unwrap()),
                        BatchSize::PerIteration,
                    );
                },
            );
        }
    }
    group.finish();
}

/// The part file of a recording, in the place of the one before.
fn fresh(folder: &Path, rate: SampleRate) -> PartFile {
    let _ = std::fs::remove_file(folder.join("bench.wav.part"));
    PartFile::create(&folder.join("bench.wav"), rate.hz()).unwrap()
}

/// Rings to frames, without the file.
fn interleave(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("interleave");
    group.throughput(Throughput::Elements(SLOTS as u64));
    for rate in [SampleRate::NARROWBAND, SampleRate::WIDEBAND, SampleRate::FULLBAND] {
        let spec = call(rate);
        let fresh = Interleaver::new(&spec.legs, rate, NO_LAG);
        let end = (SLOTS * rate.slot_samples()) as i64;
        for slots in BATCHES {
            let mut frames = vec![0; slots * rate.slot_samples() * FRAME_BYTES];
            group.bench_function(
                BenchmarkId::new(format!("{} Hz", rate.hz()), format!("{slots} slots a turn")),
                |bencher| {
                    bencher.iter_batched_ref(
                        || fresh.clone(),
                        |mixer| while mixer.emit(end, &[], black_box(&mut frames)) > 0 {},
                        BatchSize::LargeInput,
                    );
                },
            );
        }
    }
    group.finish();
}

/// A writer's turns: rings to frames to file, with the gap journal. Headers, which are written once a second, are not in it.
fn turns(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("writer");
    group.throughput(Throughput::Elements(SLOTS as u64));
    let config = RecorderConfig { repair_window: NO_LAG, min_free_mib: 0, ..RecorderConfig::default() };
    for rate in [SampleRate::NARROWBAND, SampleRate::WIDEBAND, SampleRate::FULLBAND] {
        let slots = BATCHES[1];
        let mut frames = vec![0; slots * rate.slot_samples() * FRAME_BYTES];
        let spec = call(rate);
        group.bench_function(
            BenchmarkId::new(format!("{} Hz", rate.hz()), format!("{slots} slots a turn")),
            |bencher| {
                bencher.iter_batched_ref(
                    || {
                        let folder = folder();
                        let spec = RecordingSpec { path: folder.path().join("bench.wav"), ..spec.clone() };
                        let now = clock::now();
                        (OpenRecording::begin(&spec, &config, now).unwrap(), now, folder)
                    },
                    |(recording, now, _folder)| {
                        let turns =
                            (0..).take_while(|_| recording.pump(*now, &[], &mut frames).unwrap().bytes > 0);
                        assert_eq!(turns.count(), SLOTS / slots);
                    },
                    BatchSize::PerIteration,
                );
            },
        );
    }
    group.finish();
}

criterion_group!(benches, append, interleave, turns);
criterion_main!(benches);
