//! Threads, as many slots as there is patience for. Under Miri the counts shrink.
#![cfg(not(loom))]

use std::thread;

use ring_models::media::ring::{SlotRead, ring};
use ring_models::media::slot::SlotState;
use ring_models::media::time::SampleRate;

const SLOTS: u64 = if cfg!(miri) { 60 } else { 2_000_000 };

/// The one value of every sample in a slot; never 0.
fn value(slot: u64) -> i16 {
    slot as i16 | 1
}

#[test]
fn readers_see_whole_slots_and_count_what_they_missed() {
    let (mut writer, shared) = ring(SampleRate::NARROWBAND, 16);
    let readers: Vec<_> = [0, 80, 400].map(|lag| (lag, shared.reader())).into_iter().collect();
    thread::scope(|scope| {
        for (lag, mut reader) in readers {
            scope.spawn(move || {
                let mut pcm = [0; 80];
                let (mut heard, mut missed) = (0, 0);
                loop {
                    let slot = reader.position() / 80;
                    match reader.read_slot(lag, &mut pcm) {
                        SlotRead::Ready { state, len } => {
                            heard += 1;
                            assert_eq!(len, 80);
                            let expected = if state.is_audio() { value(slot) } else { 0 };
                            assert_eq!(pcm, [expected; 80], "slot {slot}, {state:?}");
                        }
                        SlotRead::Missed { slots } => missed += slots,
                        SlotRead::Pending => thread::yield_now(),
                        SlotRead::End => break,
                    }
                }
                assert_eq!(heard + missed, SLOTS);
            });
        }
        scope.spawn(move || {
            for slot in 0..SLOTS {
                // Every third slot comes three slots late; the last ones in order, so that the end is known.
                if slot % 3 != 0 || slot + 4 > SLOTS {
                    writer.place(slot * 80, 80, |_| value(slot), SlotState::Lost);
                }
                if slot >= 3 && (slot - 3) % 3 == 0 {
                    writer.place((slot - 3) * 80, 80, |_| value(slot - 3), SlotState::Lost);
                }
                if cfg!(miri) || slot % 64 == 0 {
                    thread::yield_now();
                }
            }
        });
    });
}
