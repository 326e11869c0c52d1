//! A recording that is killed, suspended or finished at any moment: what is on disk then says exactly what it lacks.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::recording::repair::{Mended, Outcome, mend};
use crate::recording::writer::OpenRecording;

const PACKET_MS: u64 = 20;
const PACKET: usize = 160;

/// A leg that loses packets, has some late, and is silent now and then.
struct Leg {
    writer: RingWriter,
    begins: u64,
    silent_until: u64,
    /// When they come, and their places.
    late: Vec<(u64, u64)>,
}

impl Leg {
    /// The packet of `ms`, and what time and lateness bring; `chance(n)` is below `n`.
    fn hear(&mut self, ms: u64, mut chance: impl FnMut(u64) -> u64) {
        let Some(passed) = ms.checked_sub(self.begins) else { return };
        let place = passed * 8;
        // As a receiver does it: time moves the head no nearer to the present than 200 ms.
        self.writer.advance(place.saturating_sub(1_600), SlotState::Silence);
        if ms >= self.silent_until {
            match chance(40) {
                0 => self.silent_until = ms + PACKET_MS * chance(150),
                1..=3 => {}
                4 | 5 => self.late.push((ms + PACKET_MS * chance(60), place)),
                _ => self.put(place),
            }
        }
        for (due, place) in std::mem::take(&mut self.late) {
            if due <= ms {
                self.put(place);
            } else {
                self.late.push((due, place));
            }
        }
    }

    fn put(&mut self, place: u64) {
        self.writer.place(place, PACKET, |_| 7, SlotState::Lost);
    }
}

/// What is silent is listed as a gap, and nothing else is: but for `stale` frames at the end, which a late packet may have
/// mended since they were written.
fn check(finished: &Finished, stale: usize, when: &str) {
    let audio = samples(&finished.path);
    let frames = audio.len() / 2;
    for (leg, gaps) in finished.gaps.iter().enumerate() {
        let mut listed = vec![false; frames];
        for gap in gaps {
            listed[gap.start_sample as usize..][..gap.samples as usize].fill(true);
        }
        for (n, frame) in audio.chunks(2).enumerate() {
            let silent = frame[leg] == 0;
            let mended = !silent && n + stale >= frames;
            assert!(silent == listed[n] || mended, "{when}: leg {leg}, frame {n} of {frames}: {gaps:?}");
        }
    }
}

/// Mend a copy of what is in `folder`, check it, and return its frames.
fn mended(folder: &Path, stale: usize, when: &str) -> u64 {
    let dir = TempDir::new().unwrap();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let mended = mend(dir.path(), &HashSet::new());
    let [Mended { outcome: Outcome::Repaired { finished, .. }, .. }] = &mended[..] else {
        panic!("{mended:?}")
    };
    check(finished, stale, when);
    finished.frames
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn what_is_on_disk_says_what_it_lacks(
        seed in any::<u64>(),
        repair in prop::sample::select(vec![60_u64, 200, 500, 2_000]),
        end in 700..6_000_u64,
        is_suspended in any::<bool>(),
        second_leg in prop::sample::select(vec![0_u64, 400, 60_000]),
    ) {
        let dir = TempDir::new().unwrap();
        let repair_window = Duration::from_millis(repair);
        let (left, left_ring) = ring(RATE, 1_000);
        let (right, right_ring) = ring(RATE, 1_000);
        let mut legs = [(left, 0), (right, second_leg)].map(|(mut writer, begins)| {
            writer.set_base(begins as i64 * 8);
            writer.set_lags(480, repair * 8);
            Leg { writer, begins, silent_until: 0, late: Vec::new() }
        });
        let spec = driven(dir.path(), [Some(left_ring), Some(right_ring)]);
        let mut recording =
            OpenRecording::begin(&spec, &RecorderConfig { repair_window, ..config() }, at(0)).unwrap();
        let mut buffer = vec![0; 256 << 10];
        let mut state = seed;
        let mut chance = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let mut now = 0;
        while now < end {
            for leg in &mut legs {
                leg.hear(now, &mut chance);
            }
            now += PACKET_MS;
            if now.is_multiple_of(100) {
                recording.pump(at(now), &[], &mut buffer).unwrap();
            }
        }

        // Heard on all legs that have begun.
        let heads = legs.iter().filter(|leg| leg.begins < end).map(|leg| leg.begins * 8 + leg.writer.head());
        let heard = heads.min().unwrap();
        let stale = (repair as usize + 600) * 8;
        // Twice a second, 60 ms behind the leg that is furthest behind: 200 ms if it is silent.
        let killed = mended(dir.path(), stale, "killed");
        prop_assert!(killed + 8 * (600 + 60 + 220) >= heard, "{killed} of {heard}");
        if is_suspended {
            recording.suspend(at(now), &[], &mut buffer).unwrap();
            let suspended = mended(dir.path(), 0, "suspended");
            prop_assert!(suspended + 80 >= heard, "{suspended} of {heard}");
        } else {
            drop(legs);
            recording.finish_at(at(now));
            while !recording.pump(at(now), &[], &mut buffer).unwrap().complete {}
            mended(dir.path(), 0, "killed before it was sealed");
            check(&recording.seal(None).unwrap(), 0, "sealed");
            mended(dir.path(), 0, "killed before its report was written");
        }
    }
}
