//! Every interleaving, and every value that the memory model lets a reader see, of small cases. Runs with
//! `RUSTFLAGS="--cfg loom"` only.
#![cfg(loom)]

use loom::thread;
use ring_models::media::ring::{RingReader, RingWriter, SlotRead, ring};
use ring_models::media::slot::SlotState;
use ring_models::media::time::SampleRate;

/// Four samples a slot: one word.
fn rate() -> SampleRate {
    SampleRate::new(400).unwrap()
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // More than three switches against a thread's will find nothing new in so small a case.
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn place(writer: &mut RingWriter, slot: u64, value: i16) {
    writer.place(slot * 4, 4, |_| value, SlotState::Lost);
}

fn read(reader: &mut RingReader) -> (SlotRead, [i16; 4]) {
    let mut pcm = [0; 4];
    let read = reader.read_slot(0, &mut pcm);
    (read, pcm)
}

#[test]
fn a_slot_is_seen_whole_or_not_at_all() {
    check(|| {
        let (mut writer, shared) = ring(rate(), 2);
        let mut reader = shared.reader();
        let writing = thread::spawn(move || place(&mut writer, 0, 7));
        match read(&mut reader) {
            (SlotRead::Ready { state, len }, pcm) => {
                assert_eq!((state, len, pcm), (SlotState::Received, 4, [7; 4]));
            }
            (SlotRead::Pending, _) => {}
            other => panic!("{other:?}"),
        }
        writing.join().unwrap();
    });
}

#[test]
fn a_late_packet_is_seen_whole_or_not_at_all() {
    check(|| {
        let (mut writer, shared) = ring(rate(), 2);
        let mut reader = shared.reader();
        place(&mut writer, 1, 8);
        let writing = thread::spawn(move || {
            place(&mut writer, 0, 7);
            writer
        });
        match read(&mut reader) {
            (SlotRead::Ready { state: SlotState::Lost, .. }, pcm) => assert_eq!(pcm, [0; 4]),
            (SlotRead::Ready { state: SlotState::Repaired, .. }, pcm) => assert_eq!(pcm, [7; 4]),
            other => panic!("{other:?}"),
        }
        drop(writing.join().unwrap());
    });
}

/// A reader that is lapped by a writer which puts its slots there by `put`: 1 into slot 0, 2 into slot 1, and so on.
fn lap(put: impl Fn(&mut RingWriter, u64, i16) + Copy + Send + Sync + 'static) {
    check(move || {
        let (mut writer, shared) = ring(rate(), 2);
        put(&mut writer, 0, 1);
        let mut reader = shared.reader();
        let writing = thread::spawn(move || {
            put(&mut writer, 1, 2);
            put(&mut writer, 2, 3);
        });
        for _ in 0..2 {
            let slot = reader.position() / 4;
            match read(&mut reader) {
                (SlotRead::Ready { state, len }, pcm) => {
                    assert_eq!((state, len, pcm), (SlotState::Received, 4, [slot as i16 + 1; 4]));
                }
                (SlotRead::Missed { slots }, _) => assert_eq!(reader.position() / 4, slot + slots),
                (SlotRead::Pending | SlotRead::End, _) => {}
            }
        }
        writing.join().unwrap();
    });
}

#[test]
fn a_reader_that_is_lapped_learns_it_and_never_reads_another_slot_for_its_own() {
    lap(place);
}

#[test]
fn an_appended_slot_is_seen_whole_or_not_at_all_also_by_a_reader_that_is_lapped() {
    lap(|writer, slot, value| {
        assert_eq!(writer.takes_next(slot * 4, 4), Some(slot));
        writer.appender().append(slot, 1, std::iter::once(value as u64 * 0x0001_0001_0001_0001));
        writer.appended(slot * 4 + 4);
    });
}

#[test]
fn the_end_comes_after_everything_that_was_written() {
    check(|| {
        let (mut writer, shared) = ring(rate(), 2);
        let mut reader = shared.reader();
        let writing = thread::spawn(move || {
            writer.place(0, 2, |_| 5, SlotState::Lost);
            writer.close();
        });
        let mut heard = 0;
        loop {
            match read(&mut reader) {
                (SlotRead::Ready { len, .. }, pcm) => {
                    assert_eq!(pcm[..len], [5; 4][..len]);
                    heard += len;
                }
                (SlotRead::Pending, _) => thread::yield_now(),
                (SlotRead::End, _) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(heard, 2);
        writing.join().unwrap();
    });
}

#[test]
fn the_base_is_known_with_the_first_sample() {
    check(|| {
        let (mut writer, shared) = ring(rate(), 2);
        let writing = {
            thread::spawn(move || {
                writer.set_base(-5);
                place(&mut writer, 0, 1);
            })
        };
        if shared.head() > 0 {
            assert_eq!(shared.base(), -5);
        }
        writing.join().unwrap();
    });
}
