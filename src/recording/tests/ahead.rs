//! The last stretch, which late packets may still mend, is on disk all the same.

use super::*;
use crate::recording::writer::OpenRecording;

const PACKET: usize = 160;
const PACKET_MS: u64 = 20;
const TURN_MS: u64 = 100;

/// A recording with 2 s of repair, and the one leg that it hears.
struct Recorded {
    recording: OpenRecording,
    writer: RingWriter,
    part: PathBuf,
    buffer: Vec<u8>,
    bytes: usize,
    ahead: usize,
}

impl Recorded {
    fn begin(folder: &Path) -> Self {
        let (mut writer, ring) = ring(RATE, 1_000);
        writer.set_lags(480, 16_000);
        let spec = driven(folder, [Some(ring), None]);
        let recording = OpenRecording::begin(&spec, &config(), at(0)).unwrap();
        let part = recording.part_path().to_owned();
        Self { recording, writer, part, buffer: vec![0; 256 << 10], bytes: 0, ahead: 0 }
    }

    /// The leg says what it has to say from `from` to `to`, less the packets at `without`.
    fn speak(&mut self, from: u64, to: u64, without: &[u64]) {
        for ms in (from..to).step_by(PACKET_MS as usize) {
            if !without.contains(&ms) {
                self.put(ms);
            }
            let now = ms + PACKET_MS;
            if now.is_multiple_of(TURN_MS) {
                let turn = self.recording.pump(at(now), &[], &mut self.buffer).unwrap();
                self.bytes += turn.bytes;
                self.ahead += turn.ahead;
            }
        }
    }

    fn put(&mut self, ms: u64) {
        self.writer.place(ms * 8, PACKET, |_| 7, SlotState::Lost);
    }

    /// Whether the packet of `ms` is on disk; `None` beyond the end.
    fn has(&self, ms: u64) -> Option<bool> {
        let frames: Vec<i16> = samples(&self.part).into_iter().step_by(2).collect();
        let packet = frames.get(ms as usize * 8..)?.get(..PACKET)?;
        Some(packet.iter().all(|&sample| sample == 7))
    }
}

#[test]
fn what_is_written_ahead_costs_less_than_twice_the_recording() {
    let dir = TempDir::new().unwrap();
    let mut call = Recorded::begin(dir.path());
    call.speak(0, 20_000, &[]);
    assert!(call.bytes >= 17_500 * 32, "{} bytes", call.bytes);
    assert!(call.ahead >= 19_000 * 32, "{} bytes ahead", call.ahead);
    assert!(call.ahead < 2 * 20_000 * 32, "{} bytes ahead of {}", call.ahead, call.bytes);
}

#[test]
fn a_packet_a_little_late_is_in_what_is_written_ahead() {
    let dir = TempDir::new().unwrap();
    let mut call = Recorded::begin(dir.path());
    call.speak(0, 5_000, &[4_800]);
    assert_eq!((call.has(4_780), call.has(4_800), call.has(4_820)), (Some(true), Some(false), Some(true)));
    call.put(4_800);
    call.speak(5_000, 5_600, &[]);
    assert_eq!((call.has(4_800), call.has(5_400)), (Some(true), Some(true)));
}

#[test]
fn a_packet_later_than_that_is_on_disk_once_its_place_is_certain() {
    let dir = TempDir::new().unwrap();
    let mut call = Recorded::begin(dir.path());
    call.speak(0, 5_000, &[4_000]);
    call.put(4_000);
    call.speak(5_000, 5_600, &[]);
    assert_eq!(call.has(4_000), Some(false));
    call.speak(5_600, 6_600, &[]);
    assert_eq!((call.has(3_980), call.has(4_000)), (Some(true), Some(true)));
}
