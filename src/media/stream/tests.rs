use super::*;
use crate::media::ring::{RingReader, SlotRead};
use crate::media::time::SampleRate;

const FRAME: usize = 160;

fn at(ms: u64) -> MediaInstant {
    MediaInstant::from_nanos(10_000_000_000 + ms * 1_000_000)
}

fn leg() -> (StreamReceiver, RingReader) {
    let clock = Arc::new(CallClock::new(at(0), SampleRate::NARROWBAND, 1));
    let (receiver, ring) = StreamReceiver::new(StreamConfig::new(Codec::Slin, clock));
    let reader = ring.reader();
    (receiver, reader)
}

/// Piece `n` of a stream whose samples count from 1.
fn piece(n: usize) -> Vec<u8> {
    (n * FRAME..(n + 1) * FRAME).flat_map(|i| (1 + i as i16).to_le_bytes()).collect()
}

/// All that is in the ring from call sample 0 on, and the number of slots that are not received audio.
fn heard(receiver: StreamReceiver, mut reader: RingReader, end: u64) -> (Vec<i16>, LegStats) {
    let base = receiver.base.expect("an anchor");
    let stats = receiver.finish(at(end));
    let (mut samples, mut slot) = (Vec::new(), [0; 80]);
    loop {
        match reader.read_slot(0, &mut slot) {
            SlotRead::Ready { len, .. } => samples.extend_from_slice(&slot[..len]),
            SlotRead::End => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(base <= 0, "the preroll is a second");
    (samples.split_off(base.unsigned_abs() as usize), stats)
}

#[test]
fn samples_follow_each_other_however_they_arrive() {
    let (mut leg, reader) = leg();
    // The first is late by 15 ms, all others jitter or come bunched.
    for n in 0..50_usize {
        let jitter = [15, 0, 7, 40, 20, 0][n % 6];
        leg.on_audio(at(100 + 20 * n as u64 + jitter), &piece(n));
    }
    let (samples, stats) = heard(leg, reader, 1_150);
    let expected: Vec<i16> = (1..=50 * FRAME as i16).collect();
    // Least delay: at 100 ms of the call.
    assert_eq!(samples[..800], [0; 800]);
    assert_eq!(samples[800..], expected);
    assert_eq!((stats.packets_received, stats.packets_lost, stats.segments.len()), (50, 0, 1));
}

#[test]
fn hold_is_silence_and_the_stream_is_anchored_anew() {
    let (mut leg, reader) = leg();
    for n in 0..20 {
        leg.on_audio(at(100 + 20 * n as u64), &piece(n));
    }
    // 400 ms of audio, then 1.6 s of nothing.
    for n in 20..40 {
        leg.on_audio(at(2_100 + 20 * (n - 20) as u64), &piece(n));
    }
    let events: Vec<_> = leg.take_events().collect();
    let gap = LegEvent::Gap { start: 4_000, samples: 12_800, kind: SlotState::Silence };
    assert!(events.contains(&gap), "{events:?}");
    let (samples, stats) = heard(leg, reader, 2_510);
    assert_eq!(stats.segments.len(), 2);
    assert_eq!(samples[4_000..16_800], [0; 12_800]);
    assert_eq!(samples[16_800], 20 * FRAME as i16 + 1);
    assert_eq!(samples.len(), 20_000);
}

#[test]
fn a_burst_after_a_blocked_way_moves_nothing() {
    let (mut leg, reader) = leg();
    for n in 0..100_usize {
        let due = 100 + 20 * n as u64;
        // Nothing comes through between 500 and 1300 ms; then all of it at once.
        let arrival = if (500..1_300).contains(&due) { 1_300 } else { due };
        leg.on_audio(at(arrival), &piece(n));
    }
    let (samples, stats) = heard(leg, reader, 2_100);
    assert_eq!(stats.segments.len(), 1, "{:?}", stats.segments);
    assert_eq!(samples[800..], (1..=100 * FRAME as i16).collect::<Vec<_>>());
}

#[test]
fn a_sender_that_leaves_audio_out_is_set_right_within_two_windows() {
    let (mut leg, reader) = leg();
    let mut n = 0;
    for tick in 0..400_u64 {
        // Ten frames in a row never come into being: 200 ms, too short for a pause.
        if (100..110).contains(&tick) {
            continue;
        }
        leg.on_audio(at(100 + 20 * tick), &piece(n % 100));
        n += 1;
    }
    let (samples, stats) = heard(leg, reader, 8_100);
    assert_eq!(stats.segments.len(), 2, "{:?}", stats.segments);
    assert_eq!(samples.len(), 8 * (100 + 20 * 400), "as long as the time it took");
}

#[test]
fn stall_and_resumption_are_told_and_the_end_is_padded() {
    let (mut leg, reader) = leg();
    leg.on_tick(at(0));
    for n in 0..10 {
        leg.on_audio(at(20 * n as u64), &piece(n));
    }
    leg.on_tick(at(2_200));
    leg.on_audio(at(3_180), &piece(10));
    leg.on_digit('5');
    let events: Vec<_> = leg.take_events().collect();
    assert!(
        matches!(
            events[..],
            [
                LegEvent::Anchored { .. },
                LegEvent::Stalled,
                LegEvent::Resumed { silent_ms: 3_000 },
                LegEvent::Dtmf { digit: '5', duration_ms: 0 }
            ]
        ),
        "{events:?}"
    );
    let (samples, _) = heard(leg, reader, 5_000);
    assert_eq!(samples.len(), 40_000, "up to the end");
    assert_eq!(samples[8 * 3_180], 10 * FRAME as i16 + 1);
}

#[test]
fn a_leg_that_hears_nothing_says_so_with_what_came_instead() {
    let (mut leg, _) = leg();
    leg.on_tick(at(0));
    assert!(!leg.on_audio(at(10), &[1]));
    leg.on_tick(at(2_000));
    assert_eq!(leg.take_events().collect::<Vec<_>>(), [LegEvent::Unheard { invalid: 1 }]);
    assert_eq!(leg.next_deadline(), None);
}

#[test]
fn a_new_connection_begins_where_its_audio_came() {
    let (mut leg, reader) = leg();
    for n in 0..20 {
        leg.on_audio(at(20 * n as u64), &piece(n));
    }
    leg.on_connected(at(600));
    for n in 20..40 {
        leg.on_audio(at(700 + 20 * (n - 20) as u64), &piece(n));
    }
    let (samples, stats) = heard(leg, reader, 1_110);
    assert_eq!(stats.segments.len(), 2);
    assert_eq!(samples[8 * 400..8 * 700], [0; 2_400]);
    assert_eq!(samples[8 * 700], 20 * FRAME as i16 + 1);
}
