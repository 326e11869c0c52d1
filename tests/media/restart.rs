//! Senders that begin anew, with other numbers and timestamps or among their old ones: nothing is lost, and nothing passes for what it is not.

use sidetone::emulator::{Datagram, MS, Network, Reception, Sender, Stop};
use sidetone::media::codec::Codec;

use super::timeline::{assert_all_heard, checked};

#[test]
fn a_restart_is_noticed_wherever_its_sequence_numbers_begin() {
    // 1150 is next: ahead of it, among those seen, and before the first; timestamps that go on, and others.
    for sequence in [1_151 + 500, 1_151 + 2_900, 1_050, 1_100, 900, 40_000] {
        for ticks in [0, 77_000_000, -77_000_000] {
            if ticks == 0 && sequence > 1_151 && sequence < 5_000 {
                continue; // Nothing tells this from loss.
            }
            let mut sender = Sender::new(Codec::Ulaw);
            sender.talk(3_000).restart(sequence);
            if ticks != 0 {
                sender.leap(ticks);
            }
            sender.talk(3_000);
            let reception = Reception::of_perfect(&sender);
            reception.check();
            let case = format!("{sequence} {ticks}: {:?}", reception.stats);
            assert_eq!(reception.recorder.pcm.len(), 8_000 + 48_000, "{case}");
            assert_all_heard(&reception, 0, 6_000);
            assert_eq!(reception.stats.packets_lost, 0, "{case}");
            assert_eq!(reception.stats.packets_invalid, 0, "{case}");
        }
    }
}

#[test]
fn a_sender_that_goes_back_by_just_over_a_thousand_numbers_comes_among_those_that_may_be_late() {
    // Its timestamps are 20 s back: a packet of those numbers could be so late.
    for sequence in 1_149 - 1_010..1_149 - 1_001 {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(3_000).restart(sequence).leap(-160_000).talk(3_000);
        let reception = Reception::of_perfect(&sender);
        reception.check();
        assert_eq!(reception.stats.packets_lost, 0, "{sequence}: {:?}", reception.stats);
        assert_eq!(reception.stats.packets_late, 0, "{sequence}: {:?}", reception.stats);
    }
}

#[test]
fn a_sender_that_goes_back_by_a_few_numbers_passes_the_old_ones_before_it_is_believed() {
    for sequence in 1_140..1_150 {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(3_000).restart(sequence).begin_timeline(877_815_333).talk(3_000);
        let mut queue = Network {
            stops: vec![Stop { from: 2_900 * MS, length: 1_500 * MS, spacing: 0 }],
            ..Network::perfect()
        };
        let end = sender.nanos_of(sender.now);
        for arrived in [Network::perfect().carry(&sender.wire), queue.carry(&sender.wire)] {
            let reception = checked(&sender, arrived, end);
            let case = format!("{sequence}: {:?}", reception.stats);
            assert_eq!((reception.stats.packets_lost, reception.stats.packets_invalid), (0, 0), "{case}");
            assert_eq!(reception.length(), 48_000, "{case}");
        }
    }
}

#[test]
fn timestamps_that_leap_back_after_a_restart_below_the_old_numbers_are_those_of_no_straggler() {
    for ticks in [-160_000, -80_000, 160_000] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(3_000).restart(900).begin_timeline(77_000_000).talk(600).leap(ticks).talk(600);
        let reception = Reception::of_perfect(&sender);
        reception.check();
        let case = format!("{ticks}: {:?}", reception.stats);
        assert_eq!(reception.displacements(), [40; 3], "{case}");
        assert_eq!((reception.stats.packets_lost, reception.stats.packets_late), (0, 0), "{case}");
    }
}

#[test]
fn a_restart_in_a_queue_that_rests_where_its_numbers_pass_the_old_ones_loses_nothing() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(400).rest(1_725).talk(20).restart(1_002).begin_timeline(877_815_333).talk(600);
    sender.rest(1_129).packet(true).talk(600);
    let mut network = Network {
        stops: vec![Stop { from: 1_720 * MS, length: 2_218 * MS, spacing: 0 }],
        ..Network::perfect()
    };
    let arrived = network.carry(&sender.wire);
    let reception = checked(&sender, arrived, sender.nanos_of(sender.now) + 400 * MS);
    assert_eq!(
        (reception.stats.packets_lost, reception.stats.packets_invalid),
        (0, 0),
        "{:?}",
        reception.stats
    );
}

#[test]
fn a_sender_that_goes_back_twice_by_just_over_a_thousand_numbers_comes_among_stragglers() {
    for sequence in 1_149_u16 - 1_010..1_149 - 1_001 {
        // Numbers far from these, and some before which these seem to be left out.
        for between in [40_000, sequence.wrapping_sub(1_041)] {
            let mut sender = Sender::new(Codec::Ulaw);
            sender.talk(3_000).restart(between).begin_timeline(77_000_000).talk(600);
            sender.restart(sequence).begin_timeline(24_000).talk(3_000);
            let reception = Reception::of_perfect(&sender);
            reception.check();
            let case = format!("{between} {sequence}: {:?}", reception.stats);
            assert_all_heard(&reception, 0, 6_590);
            assert_eq!(reception.stats.packets_late, 0, "{case}");
        }
    }
}

#[test]
fn a_sender_that_goes_back_near_its_old_numbers_at_once_is_no_straggler() {
    // Old numbers not seen, with timestamps of long ago or of about now; of those seen only these can be told from copies.
    for (sequence, since) in [(1_160, -80_000), (1_651, -80_000), (3_900, -80_000), (1_100, 0)] {
        for ticks in [-80_000, -8_000, 0, 4_800].into_iter().filter(|&ticks| ticks >= since) {
            let mut sender = Sender::new(Codec::Ulaw);
            sender.talk(3_000).restart(40_000).begin_timeline(77_000_000).talk(600);
            // The old timestamps would be 188,800 by now.
            sender.restart(sequence).begin_timeline((188_800 + ticks) as u32).talk(3_000);
            let reception = Reception::of_perfect(&sender);
            reception.check();
            let case = format!("{sequence} {ticks}: {:?}", reception.stats);
            assert_all_heard(&reception, 0, 6_590);
            assert_eq!((reception.stats.packets_lost, reception.stats.packets_invalid), (0, 0), "{case}");
        }
    }
}

#[test]
fn of_two_packets_with_one_number_at_a_restart_the_late_one_is_placed_once_by_its_timestamp() {
    // The last packet of before, or the first one behind the restart.
    for (late, copies) in [(149, false), (149, true), (150, false), (150, true)] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(3_000).restart(1_149).begin_timeline(877_815_333).talk(3_000);
        let mut arrived = Network::perfect().carry(&sender.wire);
        arrived[late].at += 640 * MS;
        if copies {
            let copy = Datagram { at: arrived[late].at + 70 * MS, ..arrived[late].clone() };
            arrived.push(copy);
        }
        let reception = checked(&sender, arrived, 6_000 * MS);
        let case = format!("{late}: {:?}", reception.stats);
        assert_all_heard(&reception, 0, 5_990);
        let counts = (reception.stats.packets_received, reception.stats.packets_duplicate);
        assert_eq!(counts, (300, u64::from(copies)), "{case}");
        assert_eq!(reception.stats.packets_repaired, 1, "{case}");
    }
}

#[test]
fn of_two_packets_with_one_number_the_later_one_may_be_of_either_side_of_a_restart() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).restart(1_148).begin_timeline(877_815_333).talk(3_000);
    // The last of before, behind its namesake, or between the first ones from behind the restart; and these behind the third.
    for late in [
        vec![(149, 100), (150, 51), (151, 33)],
        vec![(149, 51)],
        vec![(148, 47), (149, 55)],
        vec![(148, 67), (149, 27)],
    ] {
        let mut arrived = Network::perfect().carry(&sender.wire);
        for (n, by) in late {
            arrived[n].at += by * MS;
        }
        let reception = checked(&sender, arrived, 6_000 * MS);
        let case = format!("{:?}", reception.stats);
        assert_all_heard(&reception, 0, 5_990);
        let counts = (reception.stats.packets_received, reception.stats.packets_duplicate);
        assert_eq!(counts, (300, 0), "{case}");
    }
}

#[test]
fn a_restart_between_the_numbers_of_a_jump_is_of_neither_side_though_its_timestamps_are_half_a_circle_away() {
    // Fifty numbers were left out at the jump; then the sender begins anew among these, with timestamps of the first stretch.
    for timestamp in [170_000, 176_000, 183_000] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(3_000).restart(1_200).begin_timeline(timestamp ^ 0x8000_0000).talk(600);
        sender.restart(1_180).begin_timeline(timestamp).talk(3_000);
        let reception = Reception::of_perfect(&sender);
        reception.check();
        let case = format!("{timestamp}: {:?}", reception.stats);
        assert_all_heard(&reception, 0, 6_590);
        assert_eq!((reception.stats.packets_late, reception.stats.packets_invalid), (0, 0), "{case}");
    }
}

#[test]
fn a_restart_where_numbers_begin_to_be_too_far_ahead_is_one_restart() {
    // 4149 is the last number that could be in order. The first packet is overtaken, or only slower than those after it.
    for (late, sequence) in [(25, 4_149), (15, 4_149), (15, 4_148), (65, 4_147)] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(3_000).restart(sequence).begin_timeline(877_815_333).talk(3_000);
        let mut arrived = Network::perfect().carry(&sender.wire);
        arrived[150].at += late * MS;
        let reception = checked(&sender, arrived, 6_000 * MS);
        let case = format!("{sequence} {late}: {:?}", reception.stats);
        assert_eq!(reception.displacements(), [40, 40], "{case}");
        assert_eq!((reception.stats.packets_lost, reception.stats.packets_invalid), (0, 0), "{case}");
        assert_all_heard(&reception, 0, 5_990);
    }
}

#[test]
fn a_late_packet_of_before_a_restart_keeps_its_place_though_its_namesake_from_behind_is_lost() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).restart(1_148).begin_timeline(877_815_333).talk(3_000);
    // The last one of before; the one before it does not come, nor the one with its number from behind the restart.
    let mut arrived = Network::perfect().carry(&sender.wire);
    arrived[149].at += 640 * MS;
    let copy = Datagram { at: arrived[149].at + 70 * MS, ..arrived[149].clone() };
    arrived.push(copy);
    arrived.remove(151);
    arrived.remove(148);
    let reception = checked(&sender, arrived, 6_000 * MS);
    let case = format!("{:?}", reception.stats);
    for (from, to) in [(0, 2_960), (2_980, 3_020), (3_040, 5_990)] {
        assert_all_heard(&reception, from, to);
    }
    let counts = (reception.stats.packets_received, reception.stats.packets_duplicate);
    assert_eq!((counts, reception.stats.packets_invalid), ((298, 1), 0), "{case}");
}

#[test]
fn a_source_of_which_two_packets_came_is_not_mixed_with_the_one_that_begins_anew_below_it() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).change_source(0x2222, 65_295).begin_timeline(77_000_000).talk(600);
    sender.restart(65_020).begin_timeline(877_815_333).talk(3_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    arrived.drain(150..178);
    let reception = checked(&sender, arrived, 6_600 * MS);
    assert_eq!(reception.stats.segments.len(), 3);
    assert!(reception.states(3_560, 6_590).iter().all(|state| state.is_audio()));
}

#[test]
fn a_sender_that_begins_anew_lower_while_the_leg_is_being_anchored_loses_nothing() {
    // So much of the beginning is lost that the restart comes while its first packets are held, one of them late.
    let mut sender = Sender::beginning_at(Codec::Ulaw, 65_535, 160_000);
    sender.talk(400).restart(65_278).begin_timeline(4_278_124_286).talk(3_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    arrived[18].at += 65 * MS;
    arrived.drain(..15);
    let reception = checked(&sender, arrived, 3_400 * MS);
    assert_all_heard(&reception, 0, 3_090);
    let case = format!("{:?}", reception.stats);
    assert_eq!((reception.stats.packets_lost, reception.stats.packets_invalid), (0, 0), "{case}");
    assert_eq!(reception.stats.segments.len(), 2, "{case}");
}

#[test]
fn a_restart_whose_numbers_and_timestamps_were_all_used_before_is_noticed_by_their_match() {
    // Numbers of the stretch before, timestamps two seconds older than the one before that.
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).restart(65_141).begin_timeline(877_815_333).talk(600);
    sender.restart(65_230).begin_timeline(77_000_000).talk(600);
    sender.restart(65_230).begin_timeline(877_799_396).talk(3_000);
    // Of the stretch before the first two packets may be lost, and of the last one the first.
    for lost in [false, true] {
        let mut arrived = Network::perfect().carry(&sender.wire);
        if lost {
            arrived.remove(210);
            arrived.drain(180..182);
        }
        let reception = checked(&sender, arrived, 7_200 * MS);
        let case = format!("{:?}", reception.stats);
        assert_all_heard(&reception, 4_220, 7_190);
        assert_eq!((reception.stats.packets_duplicate, reception.stats.packets_invalid), (0, 0), "{case}");
    }
}

#[test]
fn a_restart_in_a_queue_that_pauses_a_thousand_numbers_below_is_one_source() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(400).rest(1_725).packet(true).restart(2).begin_timeline(125_698).talk(600);
    sender.rest(1_591).packet(true).talk(100).rest(1_538).packet(true).talk(200);
    let stop = Stop { from: 1_720 * MS, length: 2_218 * MS, spacing: 0 };
    let arrived = Network { stops: vec![stop], ..Network::perfect() }.carry(&sender.wire);
    let reception = checked(&sender, arrived, 8_000 * MS);
    let (stats, case) = (&reception.stats, format!("{:?}", reception.stats));
    assert_eq!(
        (stats.packets_lost, stats.packets_invalid, stats.segments[1].first_sequence),
        (0, 0, 2),
        "{case}"
    );
}
