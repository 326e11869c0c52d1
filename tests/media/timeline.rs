//! Acceptance list, facts/media.md section 8: what keeps or moves the timeline.

use std::time::Duration;

use sidetone::media::codec::Codec;
use sidetone::media::report::{LegEvent, Segment};
use sidetone::media::slot::SlotState;

use super::emulator::{Network, Rng, Sender};
use super::model::{perfectly, receive, receive_with};

const MS: u64 = 1_000_000;

#[test]
fn sequence_and_timestamp_wrap_with_reordering_across_it() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.sequence = 65_536 - 50;
    sender.timestamp = u32::MAX - 50 * 160 + 1;
    sender.talk(5_000);
    let mut network = Network { jitter: 50 * MS, rng: Rng(7), ..Network::perfect() };
    let reception = receive(sender.codec, network.carry(&sender.wire), 5_000 * MS);
    reception.check();
    assert_eq!(reception.stats.packets_lost, 0);
    assert_eq!(reception.stats.segments.len(), 1);
    assert_eq!(reception.length(), 40_000);
}

#[test]
fn the_first_packet_is_late_by_150_ms() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.rest(500).talk(3_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    arrived[0].at += 150 * MS;
    arrived.sort_by_key(|datagram| datagram.at);
    let reception = receive(sender.codec, arrived, 3_500 * MS);
    reception.check();
    // Five milliseconds is what the network takes at least.
    assert_eq!(reception.displacements(), [40]);
    assert_eq!(reception.length(), 24_000);
}

#[test]
fn everything_is_late_in_the_beginning_but_one_packet() {
    let mut sender = Sender::new(Codec::Alaw);
    sender.talk(3_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    for datagram in &mut arrived[..6] {
        datagram.at += 60 * MS;
    }
    arrived.sort_by_key(|datagram| datagram.at);
    let reception = receive(sender.codec, arrived, 3_000 * MS);
    reception.check();
    assert_eq!(reception.displacements(), [40]);
}

#[test]
fn a_leg_that_joins_40_s_later_lies_40_s_later() {
    let mut caller = Sender::new(Codec::Ulaw);
    caller.talk(42_000);
    let mut callee = Sender::new(Codec::Ulaw);
    callee.rest(40_000).talk(2_000);
    let (caller, callee) = (perfectly(&caller), perfectly(&callee));
    caller.check();
    callee.check();
    let first = |leg: &super::model::Reception| leg.stats.segments[0].first_sample;
    assert_eq!(first(&callee) - first(&caller), 40 * 8_000);
}

#[test]
fn another_ssrc_with_the_same_timestamps_keeps_the_timeline_to_the_sample() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000);
    (sender.ssrc, sender.sequence) = (0x2222, 40_000);
    sender.talk(3_000);
    let mut network = Network { jitter: 15 * MS, rng: Rng(3), ..Network::perfect() };
    let reception = receive(sender.codec, network.carry(&sender.wire), 6_000 * MS);
    reception.check();
    let displacements = reception.displacements();
    assert_eq!(displacements[0], displacements[1]);
    assert_eq!(reception.stats.ssrcs, [0x1111, 0x2222]);
    assert_eq!(reception.stats.packets_lost, 0);
    assert!(reception.states(0, 6_000).iter().all(|&state| state == SlotState::Received));
}

#[test]
fn another_ssrc_with_other_timestamps_goes_on_without_a_seam() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000);
    (sender.ssrc, sender.sequence, sender.timestamp) = (0x2222, 40_000, 0xfeed_beef);
    sender.talk(3_000);
    let mut network = Network { jitter: 8 * MS, rng: Rng(5), ..Network::perfect() };
    let reception = receive(sender.codec, network.carry(&sender.wire), 6_000 * MS);
    reception.check();
    assert_eq!(reception.stats.packets_lost, 0);
    assert_eq!(reception.length(), 48_000);
    assert!(reception.states(0, 6_000).iter().all(|&state| state == SlotState::Received));
    assert!(matches!(reception.events[1], LegEvent::Resegmented { .. }));
}

#[test]
fn another_ssrc_whose_timestamps_stood_still_meanwhile_is_placed_by_arrival() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).freeze(900);
    (sender.ssrc, sender.sequence) = (0x2222, 40_000);
    sender.talk(3_000);
    let reception = perfectly(&sender);
    assert_eq!(reception.displacements(), [40, 40]);
    reception.check_displaced_by(40);
}

#[test]
fn stragglers_of_the_old_source_find_their_place() {
    // Another SSRC; the same, begun anew not far below where it was, and anywhere else.
    for (ssrc, sequence) in [(0x2222, 40_000), (0x1111, 65_000), (0x1111, 40_000)] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(3_000);
        (sender.ssrc, sender.sequence, sender.timestamp) = (ssrc, sequence, 77_000_005);
        sender.talk(3_000);
        let mut arrived = Network::perfect().carry(&sender.wire);
        for datagram in &mut arrived[145..150] {
            datagram.at += 600 * MS;
        }
        arrived.sort_by_key(|datagram| datagram.at);
        let reception = receive(sender.codec, arrived, 6_000 * MS);
        reception.check_displaced_by(40);
        assert_eq!(reception.stats.packets_lost, 0, "{sequence}");
        assert_eq!(reception.stats.packets_repaired, 5, "{sequence}");
        assert_eq!(reception.stats.segments.len(), 2, "{sequence}");
    }
}

#[test]
fn a_sender_that_begins_anew_with_the_same_ssrc_is_a_new_segment() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000);
    (sender.sequence, sender.timestamp) = (30_000, 0x1234_5678);
    sender.talk(3_000);
    let reception = perfectly(&sender);
    let displacements = reception.displacements();
    assert_eq!(displacements, [40, 40]);
    reception.check_displaced_by(40);
    assert_eq!(reception.stats.packets_lost, 0);
    assert_eq!(reception.stats.packets_received, 300);
    assert_eq!(reception.length(), 48_000);
}

#[test]
fn a_restart_is_noticed_wherever_its_sequence_numbers_begin() {
    // 1150 is next: ahead of it, among those seen, and before the first; timestamps that go on, and others.
    for sequence in [1_151 + 500, 1_151 + 2_900, 1_050, 1_100, 900, 40_000] {
        for ticks in [0, 77_000_000, -77_000_000] {
            if ticks == 0 && sequence > 1_151 && sequence < 5_000 {
                continue; // Nothing tells this from loss.
            }
            let mut sender = Sender::new(Codec::Ulaw);
            sender.talk(3_000).jump(ticks);
            sender.sequence = sequence;
            sender.talk(3_000);
            let reception = perfectly(&sender);
            let case = format!("{sequence} {ticks}: {:?}", reception.stats);
            assert_eq!(reception.pcm.len(), 8_000 + 48_000, "{case}");
            assert!(reception.states(0, 6_000).iter().all(|state| state.is_audio()), "{case}");
            assert_eq!(reception.stats.packets_lost, 0, "{case}");
            assert_eq!(reception.stats.packets_invalid, 0, "{case}");
        }
    }
}

#[test]
fn a_hold_of_35_s_is_35_s_of_silence() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).rest(35_000).packet(true).talk(2_000);
    let reception = perfectly(&sender);
    reception.check();
    assert_eq!(reception.length(), 40 * 8_000 + 160);
    assert!(reception.states(3_000, 38_000).iter().all(|&state| state == SlotState::Silence));
    assert_eq!(reception.stats.packets_lost, 0);
    let kinds: Vec<_> = reception.events.iter().map(std::mem::discriminant).collect();
    let gap = LegEvent::Gap { start: 24_040, samples: 35 * 8_000, kind: SlotState::Silence };
    assert_eq!(kinds.len(), 4, "{:?}", reception.events);
    assert_eq!(reception.events[1], LegEvent::Stalled);
    assert_eq!(reception.events[2], LegEvent::Resumed { silent_ms: 35_020 });
    assert_eq!(reception.events[3], gap);
}

#[test]
fn timestamps_that_stand_still_during_a_hold_do_not_shorten_it() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).freeze(35_000).talk(2_000);
    let reception = perfectly(&sender);
    assert_eq!(reception.displacements(), [40, 40]);
    reception.check_displaced_by(40);
    assert_eq!(reception.length(), 40 * 8_000);
}

#[test]
fn asterisk_jumps_by_640_ticks_to_the_wall_clock() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).rest(80).packet(true).talk(2_000);
    let reception = perfectly(&sender);
    reception.check();
    assert_eq!(reception.stats.segments.len(), 1);
    assert!(reception.states(3_000, 3_080).iter().all(|&state| state == SlotState::Silence));
    assert_eq!(reception.length(), 5_100 * 8);
}

#[test]
fn timestamps_that_jump_by_an_hour_are_a_new_segment_at_the_time_of_arrival() {
    for ticks in [3_600 * 8_000, -3_600 * 8_000] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(3_000).jump(ticks).talk(3_000);
        let reception = perfectly(&sender);
        assert_eq!(reception.displacements(), [40, 40]);
        reception.check_displaced_by(40);
        assert_eq!(reception.length(), 48_000);
    }
}

#[test]
fn a_jump_within_the_first_packets_is_placed_by_arrival_too() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(60).jump(1_000_000).talk(3_000);
    let reception = perfectly(&sender);
    assert_eq!(reception.displacements(), [40, 40]);
    reception.check_displaced_by(40);
}

#[test]
fn a_clock_that_drifts_by_100_ppm_for_an_hour_keeps_one_timeline_and_is_told() {
    for ppm in [-100.0, 100.0] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.ppm = ppm;
        sender.talk(3_600_000);
        let mut network = Network { jitter: 10 * MS, rng: Rng(11), ..Network::perfect() };
        let end = sender.nanos_of(sender.now);
        let reception = receive(sender.codec, network.carry(&sender.wire), end);
        assert_eq!(reception.stats.segments.len(), 1);
        assert_eq!(reception.length(), 3_600 * 8_000);
        assert!(reception.states(0, 3_600_000).iter().all(|&state| state == SlotState::Received));
        let found = reception.stats.clock_ppm.unwrap();
        assert!((found - ppm).abs() < 1.0, "{ppm} ppm told as {found}");
    }
}

#[test]
fn a_restarted_process_goes_on_where_the_timestamps_say() {
    let mut sender = Sender::new(Codec::Slin16);
    sender.talk(20_000);
    let arrived = Network::perfect().carry(&sender.wire);
    let first =
        Segment { ssrc: 0x1111, first_sample: 80, first_rtp_timestamp: 160_000, first_sequence: 1_000 };
    let reception = receive_with(sender.codec, arrived[600..].to_vec(), 20_000 * MS, |config| {
        config.resume = Some(first.clone());
        config.anchor_window = Duration::from_millis(200);
    });
    assert_eq!(reception.stats.segments, [first]);
    assert_eq!(reception.base, 80 + 12_000 * 16 - 16_000);
    reception.check_displaced_by(80);
}
