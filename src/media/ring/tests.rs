use super::*;
use crate::media::slot::SlotState;

/// Ten samples a slot.
fn small(slots: usize) -> (RingWriter, Arc<Ring>) {
    ring(SampleRate::new(1_000).unwrap(), slots)
}

fn put(writer: &mut RingWriter, at: u64, len: usize) -> Placed {
    writer.place(at, len, |i| (at as usize + i + 1) as i16, SlotState::Lost)
}

fn drain(reader: &mut RingReader, lag: u64) -> Vec<(SlotState, Vec<i16>)> {
    let mut slots = Vec::new();
    let mut pcm = [0; 10];
    while let SlotRead::Ready { state, len } = reader.read_slot(lag, &mut pcm) {
        slots.push((state, pcm[..len].to_vec()));
    }
    slots
}

fn states(shared: &Arc<Ring>) -> Vec<SlotState> {
    drain(&mut shared.reader(), 0).into_iter().map(|(state, _)| state).collect()
}

#[test]
fn packets_of_any_length_meet_without_a_seam() {
    let (mut writer, shared) = small(16);
    for at in (0..70).step_by(7) {
        assert_eq!(put(&mut writer, at, 7).written, 7);
    }
    let pcm: Vec<_> = drain(&mut shared.reader(), 0).into_iter().flat_map(|(_, pcm)| pcm).collect();
    assert_eq!(pcm, (1..=70).collect::<Vec<i16>>());
    assert!(states(&shared).iter().all(|&state| state == SlotState::Received));
}

#[test]
fn a_slot_is_readable_when_it_is_whole_and_the_last_one_when_the_ring_is_closed() {
    let (mut writer, shared) = small(16);
    let mut reader = shared.reader();
    put(&mut writer, 0, 15);
    assert_eq!(drain(&mut reader, 0).len(), 1);
    assert_eq!(reader.read_slot(0, &mut [0; 10]), SlotRead::Pending);
    writer.close();
    assert_eq!(drain(&mut reader, 100), [(SlotState::Received, vec![11, 12, 13, 14, 15])]);
    assert_eq!(reader.read_slot(0, &mut [0; 10]), SlotRead::End);
}

#[test]
fn a_reader_stays_behind_by_its_lag() {
    let (mut writer, shared) = small(16);
    let mut reader = shared.reader();
    put(&mut writer, 0, 50);
    assert_eq!(drain(&mut reader, 25).len(), 2);
    assert_eq!(reader.position(), 20);
}

#[test]
fn a_gap_taints_the_slots_it_touches() {
    let (mut writer, shared) = small(16);
    put(&mut writer, 0, 15);
    put(&mut writer, 35, 15);
    use SlotState::{Lost, Received};
    assert_eq!(states(&shared), [Received, Lost, Lost, Lost, Received]);
    assert_eq!(writer.missing_in(0, 50), 20);
    let (_, pcm) = &drain(&mut shared.reader(), 0)[1];
    assert_eq!(pcm[..], [11, 12, 13, 14, 15, 0, 0, 0, 0, 0]);
}

#[test]
fn the_first_to_come_stays() {
    let (mut writer, shared) = small(16);
    put(&mut writer, 0, 20);
    let placed = writer.place(15, 10, |_| 99, SlotState::Lost);
    assert_eq!(placed, Placed { written: 5, overlapped: 5, ..Placed::default() });
    let pcm: Vec<_> = drain(&mut shared.reader(), 0).into_iter().flat_map(|(_, pcm)| pcm).collect();
    assert_eq!(pcm[14..], [15, 16, 17, 18, 19, 20]);
}

#[test]
fn what_live_readers_have_not_passed_is_received_and_the_rest_repaired() {
    let (mut writer, shared) = small(64);
    writer.set_lags(20, 100);
    put(&mut writer, 40, 10);
    assert_eq!(put(&mut writer, 30, 10).repaired, 0);
    assert_eq!(put(&mut writer, 20, 10).repaired, 10);
    use SlotState::{Lost, Received, Repaired};
    assert_eq!(states(&shared), [Lost, Lost, Repaired, Received, Received]);
}

#[test]
fn nothing_changes_behind_the_repair_lag() {
    let (mut writer, shared) = small(64);
    writer.set_lags(20, 40);
    put(&mut writer, 90, 10);
    let placed = put(&mut writer, 50, 20);
    assert_eq!(placed, Placed { written: 10, too_late: 10, repaired: 10, ..Placed::default() });
    writer.relabel(0, 100, SlotState::Silence);
    writer.relabel(60, 100, SlotState::Lost);
    writer.conceal(0, 100, |_| 5);
    use SlotState::{Concealed, Lost, Received, Repaired};
    let expected = [Lost, Lost, Lost, Lost, Lost, Lost, Repaired, Concealed, Concealed, Received];
    assert_eq!(states(&shared), expected);
}

#[test]
fn lost_outweighs_silence_until_it_is_taken_back() {
    let (mut writer, shared) = small(16);
    writer.advance(15, SlotState::Lost);
    writer.advance(30, SlotState::Silence);
    use SlotState::{Lost, Silence};
    assert_eq!(states(&shared), [Lost, Lost, Silence]);
    writer.relabel(0, 20, Silence);
    assert_eq!(states(&shared), [Silence; 3]);
}

#[test]
fn real_audio_replaces_concealment() {
    let (mut writer, shared) = small(16);
    put(&mut writer, 20, 10);
    writer.conceal(0, 20, |_| 7);
    let slots = drain(&mut shared.reader(), 0);
    assert_eq!(slots[1], (SlotState::Concealed, vec![7; 10]));
    put(&mut writer, 10, 10);
    let slots = drain(&mut shared.reader(), 0);
    assert_eq!(slots[0], (SlotState::Concealed, vec![7; 10]));
    assert_eq!(slots[1], (SlotState::Repaired, (11..=20).collect()));
}

#[test]
fn a_lapped_reader_learns_how_much_it_missed() {
    let (mut writer, shared) = small(8);
    let mut reader = shared.reader();
    for slot in 0..20 {
        put(&mut writer, slot * 10, 10);
    }
    assert_eq!(reader.read_slot(0, &mut [0; 10]), SlotRead::Missed { slots: 13 });
    assert_eq!(drain(&mut reader, 0).len(), 7);
    assert_eq!(put(&mut writer, 50, 10).too_late, 10);
}

#[test]
fn a_jump_past_the_whole_ring_leaves_no_old_audio_behind() {
    let (mut writer, shared) = small(8);
    let mut reader = shared.reader();
    put(&mut writer, 0, 80);
    writer.advance(1_000, SlotState::Silence);
    assert!(matches!(reader.read_slot(0, &mut [0; 10]), SlotRead::Missed { slots: 93 }));
    assert_eq!(drain(&mut reader, 0), vec![(SlotState::Silence, vec![0; 10]); 7]);
}

/// Eighty samples a slot, packets of any length anywhere, and an array that says which samples came.
#[test]
fn runs_of_received_and_of_missing_samples_are_those_of_an_array() {
    const LEN: u64 = 1_200;
    let mut state = 9_u64;
    let mut below = |end: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    };
    for _ in 0..200 {
        let (mut writer, _shared) = ring(SampleRate::NARROWBAND, 16);
        let mut came = vec![false; LEN as usize];
        writer.advance(LEN, SlotState::Lost);
        for _ in 0..below(30) {
            let at = below(LEN - 200);
            let len = 1 + below(200);
            writer.place(at, len as usize, |i| (at as usize + i) as i16, SlotState::Lost);
            came[at as usize..(at + len) as usize].fill(true);
        }
        let run =
            |from: u64, kind: bool| came[from as usize..].iter().take_while(|&&is| is == kind).count() as u64;
        for _ in 0..20 {
            let from = below(LEN);
            let to = from + below(LEN - from) + 1;
            let missing = came[from as usize..to as usize].iter().filter(|came| !**came).count() as u64;
            assert_eq!(writer.missing_in(from, to), missing);
            let start = from + run(from, true);
            let first = (start < to).then(|| (start, (start + run(start, false)).min(to)));
            assert_eq!(writer.missing_run(from, to), first);

            let mut pcm = [-1; 100];
            let count = run(from, true).min(100) as usize;
            assert_eq!(writer.received_from(from, &mut pcm), count);
            assert!(pcm[..count].iter().zip(from..).all(|(&pcm, at)| pcm == at as i16));
            let before = came[..from as usize].iter().rev().take_while(|came| **came).count().min(100);
            assert_eq!(writer.received_before(from, &mut pcm), before);
            assert!(pcm.iter().rev().take(before).zip((0..from).rev()).all(|(&pcm, at)| pcm == at as i16));
        }
    }
}
