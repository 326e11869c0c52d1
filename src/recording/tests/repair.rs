use std::collections::HashSet;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::{names, samples, sha256_of};
use crate::media::report::Gap;
use crate::media::slot::SlotState;
use crate::recording::Finished;
use crate::recording::repair::{Mended, Outcome, mend};
use crate::recording::report::Report;
use crate::recording::wav::{self, WavReader};
use crate::telemetry::metric;

/// What a crash leaves of tenant acme's recording `name`: a header that was never updated, whole frames, a torn one.
fn crashed(dir: &Path, name: &str, frames: usize, journal: &str) {
    let folder = dir.join("acme/2026/01/31");
    fs::create_dir_all(&folder).unwrap();
    let mut bytes = wav::header(8_000, 2, 0).to_vec();
    bytes.extend((0..frames).flat_map(|i| [i as u8, 0, 1, 0]));
    bytes.push(0xee);
    fs::write(folder.join(format!("{name}.wav.part")), bytes).unwrap();
    fs::write(folder.join(format!("{name}.wav.part.gaps")), journal).unwrap();
}

fn repaired(mended: &Mended) -> (&Finished, &Report) {
    match &mended.outcome {
        Outcome::Repaired { finished, report } => (finished, report),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_crash_left_is_mended_once() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("acme/2026/01/31");
    let journal = "{\"origin\":-8,\"started_at\":\"2026-01-31T12:00:00Z\"}\n\
                   {\"track\":1,\"start\":10,\"kind\":\"lost\"}\n{\"track\":0,\"sta";
    crashed(dir.path(), "1700000000.42", 100, journal);
    crashed(dir.path(), "alive", 5, "");
    let claimed = HashSet::from([folder.join("alive.wav")]);

    let mended = mend(dir.path(), &claimed);
    let [one] = &mended[..] else { panic!("{mended:?}") };
    let (finished, report) = repaired(one);
    assert_eq!((one.call_id.as_str(), finished.frames, finished.origin), ("1700000000.42", 100, -8));
    assert_eq!(finished.sha256, sha256_of(&finished.path));
    assert_eq!((report.tenant.as_str(), report.repaired), ("acme", true));
    assert_eq!(report.started_at.to_string(), "2026-01-31T12:00:00Z");
    assert_eq!(report.legs[1].gaps, [Gap { start_sample: 10, samples: 90, kind: SlotState::Lost }]);
    assert_eq!(samples(&finished.path).len(), 200);
    let json = fs::read(folder.join("1700000000.42.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Report>(&json).unwrap(), *report);

    assert!(mend(dir.path(), &claimed).is_empty());
    assert_eq!(
        names(&folder),
        ["1700000000.42.json", "1700000000.42.wav", "alive.wav.part", "alive.wav.part.gaps"]
    );
}

#[test]
fn mending_that_was_killed_is_completed() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("acme/2026/01/31");
    crashed(dir.path(), "c", 100, "{\"track\":0,\"start\":0,\"samples\":7,\"kind\":\"lost\"}\n");
    mend(dir.path(), &HashSet::new());
    // Killed between renaming the file and writing the report.
    fs::remove_file(folder.join("c.json")).unwrap();
    fs::write(folder.join("c.wav.part.gaps"), "{\"track\":0,\"start\":0,\"samples\":7,\"kind\":\"lost\"}\n")
        .unwrap();
    let again = mend(dir.path(), &HashSet::new());
    assert_eq!(repaired(&again[0]).1.legs[0].gaps[0].samples, 7);
    assert_eq!(names(&folder), ["c.json", "c.wav"]);
}

#[test]
fn what_cannot_be_mended_now_is_counted_and_mended_later() {
    let metrics = metric::install().unwrap();
    let failed = || -> u64 {
        let text = metrics.render();
        let series = "sidetone_recordings_total{outcome=\"failed\"} ";
        text.lines().find_map(|line| line.strip_prefix(series)).unwrap().parse().unwrap()
    };
    let dir = TempDir::new().unwrap();
    crashed(dir.path(), "c", 100, "");
    let in_the_way = dir.path().join("acme/2026/01/31/c.json.tmp");
    fs::create_dir(&in_the_way).unwrap();
    let before = failed();
    let mended = mend(dir.path(), &HashSet::new());
    assert!(matches!(mended[0].outcome, Outcome::Failed { .. }), "{mended:?}");
    // Other tests of the same process may count as well.
    assert!(failed() > before);
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(repaired(&mend(dir.path(), &HashSet::new())[0]).0.frames, 100);
}

#[test]
fn garbage_is_put_aside_and_nothing_overwritten() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("empty.wav.part"), "").unwrap();
    fs::write(dir.path().join("noise.wav.part"), [0xa5; 500]).unwrap();
    fs::write(dir.path().join("noise.wav.broken"), "older").unwrap();
    fs::write(dir.path().join("twice.wav"), "kept").unwrap();
    fs::write(dir.path().join("twice.wav.part"), wav::header(8_000, 2, 0)).unwrap();
    fs::write(dir.path().join("lone.wav.part.gaps"), "").unwrap();
    fs::create_dir(dir.path().join("folder.wav.part")).unwrap();
    std::os::unix::fs::symlink("/", dir.path().join("loop")).unwrap();
    let mended = mend(dir.path(), &HashSet::new());
    assert_eq!(mended.len(), 3, "{mended:?}");
    assert!(mended.iter().all(|m| matches!(m.outcome, Outcome::Broken { .. })), "{mended:?}");
    assert_eq!(
        names(dir.path()),
        [
            "empty.wav.broken",
            "folder.wav.part",
            "loop",
            "noise.wav.broken",
            "noise.wav.broken.2",
            "twice.wav",
            "twice.wav.broken"
        ]
    );
    assert!(mend(dir.path(), &HashSet::new()).is_empty());
}

proptest::proptest! {
    #[test]
    fn whatever_a_crash_leaves_is_mended_or_put_aside(
        header in proptest::bool::ANY,
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        lines in proptest::collection::vec((0usize..4, 0u64..60, proptest::option::of(0u64..u64::MAX), 0usize..3), 0..8),
        torn in 0usize..30,
    ) {
        let dir = TempDir::new().unwrap();
        let mut file = if header { wav::header(8_000, 2, 12).to_vec() } else { Vec::new() };
        file.extend(bytes);
        fs::write(dir.path().join("c.wav.part"), &file).unwrap();
        let mut journal = String::new();
        for (track, start, samples, kind) in lines {
            let kind = ["lost", "silence", "nonsense"][kind];
            let samples = samples.map(|n| format!(",\"samples\":{n}")).unwrap_or_default();
            journal += &format!("{{\"track\":{track},\"start\":{start}{samples},\"kind\":\"{kind}\"}}\n");
        }
        journal.truncate(journal.len().saturating_sub(torn));
        fs::write(dir.path().join("c.wav.part.gaps"), journal).unwrap();

        let mended = mend(dir.path(), &HashSet::new());
        if header {
            let (finished, report) = repaired(&mended[0]);
            proptest::prop_assert_eq!(finished.frames, (file.len() as u64 - 80) / 4);
            proptest::prop_assert_eq!(WavReader::open(&finished.path).unwrap().format().frames, finished.frames);
            for leg in &report.legs {
                let mut end = 0;
                for gap in &leg.gaps {
                    proptest::prop_assert!(gap.start_sample >= end && gap.samples > 0);
                    end = gap.start_sample + gap.samples;
                }
                proptest::prop_assert!(end <= finished.frames);
            }
        }
        proptest::prop_assert_eq!(mended.len(), 1);
        proptest::prop_assert!(mend(dir.path(), &HashSet::new()).is_empty());
    }
}
