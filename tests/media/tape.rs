//! The actual writer of recordings, driven at the emulator's pace.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sidetone::emulator::instant;
use sidetone::media::clock::CallClock;
use sidetone::media::ring::Ring;
use sidetone::recording::wav::WavReader;
use sidetone::recording::writer::OpenRecording;
use sidetone::recording::{Finished, RecorderConfig, RecordingSpec};

/// A stereo recording under way.
pub struct Tape {
    recording: OpenRecording,
    buffer: Vec<u8>,
}

impl Tape {
    /// A recording of `legs` at `path`.
    pub fn begin(
        path: &Path,
        clock: &Arc<CallClock>,
        legs: [Option<Arc<Ring>>; 2],
        repair: Duration,
    ) -> Self {
        let spec = RecordingSpec {
            call_id: "emulated".into(),
            path: path.to_owned(),
            clock: clock.clone(),
            legs,
            resume: false,
            on_failure: Arc::new(|error| panic!("{error}")),
        };
        let config = RecorderConfig { repair_window: repair, min_free_mib: 0, ..RecorderConfig::default() };
        let recording = OpenRecording::begin(&spec, &config, instant(0)).unwrap();
        Self { recording, buffer: vec![0; 256 << 10] }
    }

    /// It is `nanos`: write what is due.
    pub fn pump(&mut self, nanos: u64) {
        while self.recording.pump(instant(nanos), &[], &mut self.buffer).unwrap().more {}
    }

    /// The call ended at `nanos`, and its rings are closed.
    pub fn finish(mut self, nanos: u64) -> Finished {
        self.recording.finish_at(instant(nanos));
        while !self.recording.pump(instant(nanos), &[], &mut self.buffer).unwrap().complete {}
        self.recording.seal(None).unwrap()
    }
}

/// The samples of a stereo file, left and right.
pub fn channels(path: &Path) -> [Vec<i16>; 2] {
    let pcm = WavReader::open(path).unwrap().read_all().unwrap();
    [0, 1].map(|channel| pcm.chunks_exact(2).map(|frame| frame[channel]).collect())
}

/// A folder for recordings: in memory where there is one.
pub fn folder() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let root = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::tempdir_in(root).unwrap()
}
