//! Any bytes as a WAV file, and as what a crash left of a recording with its journal: nothing panics, nothing is made up,
//! and what is mended is readable.
#![no_main]

use std::collections::HashSet;
use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use sidetone::recording::repair::{Outcome, mend};
use sidetone::recording::wav::WavReader;

fuzz_target!(|data: &[u8]| {
    if let Ok(mut reader) = WavReader::new(Cursor::new(data)) {
        let format = reader.format();
        let samples = reader.read_all().expect("what is there can be read");
        assert!(samples.len() <= data.len());
        assert_eq!(samples.len() as u64, format.frames * u64::from(format.channels));
    }

    // The last 0xff byte parts the file from its journal.
    let cut = data.iter().rposition(|&byte| byte == 0xff).unwrap_or(data.len());
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let part = dir.path().join("c.wav.part");
    std::fs::write(&part, &data[..cut]).expect("a file in memory");
    std::fs::write(dir.path().join("c.wav.part.gaps"), data.get(cut + 1..).unwrap_or_default()).expect("likewise");
    for mended in mend(dir.path(), &HashSet::new()) {
        match mended.outcome {
            Outcome::Repaired { finished, report } => {
                let reader = WavReader::open(&finished.path).expect("a mended file is readable");
                assert_eq!(reader.format().frames, finished.frames);
                for leg in &report.legs {
                    let mut end = 0;
                    for gap in &leg.gaps {
                        assert!(gap.start_sample >= end && gap.samples > 0);
                        end = gap.start_sample + gap.samples;
                    }
                    assert!(end <= finished.frames);
                }
            }
            Outcome::Broken { .. } => {}
            Outcome::Failed { source, .. } => panic!("{source}"),
        }
    }
    assert!(mend(dir.path(), &HashSet::new()).is_empty(), "mending twice finds nothing");
});
