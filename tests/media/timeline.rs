//! What keeps or moves the timeline, beyond the acceptance list; senders that begin anew: `restart.rs`.

use std::time::Duration;

use sidetone::emulator::{Datagram, MS, Network, Reception, Sender, Stop, voice};
use sidetone::media::codec::Codec;
use sidetone::media::report::Segment;

/// What came of `arrived`, in whatever order, by `end` nanoseconds; it agrees with the reference.
pub fn checked(sender: &Sender, mut arrived: Vec<Datagram>, end: u64) -> Reception {
    arrived.sort_by_key(|datagram| datagram.at);
    let reception = Reception::of(sender.codec, arrived, end);
    reception.check();
    reception
}

/// Every slot between two times, milliseconds, has audio.
pub fn assert_all_heard(reception: &Reception, from: u64, to: u64) {
    let states = reception.states(from, to);
    assert!(states.iter().all(|state| state.is_audio()), "{:?}", reception.stats);
}

#[test]
fn everything_is_late_in_the_beginning_but_one_packet() {
    let mut sender = Sender::new(Codec::Alaw);
    sender.talk(3_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    for datagram in &mut arrived[..6] {
        datagram.at += 60 * MS;
    }
    let reception = checked(&sender, arrived, 3_000 * MS);
    assert_eq!(reception.displacements(), [40]);
}

#[test]
fn live_readers_wait_for_a_way_that_has_become_longer() {
    for by in [300, 600, 900] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(10_000);
        let mut arrived = Network::perfect().carry(&sender.wire);
        for datagram in &mut arrived[150..] {
            datagram.at += by * MS;
        }
        let reception = checked(&sender, arrived, 11_000 * MS);
        let case = format!("{by}: {:?}", reception.stats);
        assert_eq!((reception.displacements(), reception.stats.packets_lost), (vec![40], 0), "{case}");
        assert_all_heard(&reception, 0, 9_990);
        // It is known when it has lasted for 200 ms, and as much that was under way; by then time has passed what is still to come, but for
        // what it and live readers stay behind.
        let missed = 400 + by - 260;
        assert!(reception.live_states(3_000 + missed, 9_990).iter().all(|state| state.is_audio()), "{case}");
        assert!(reception.stats.packets_late <= missed / 20, "{case}");
    }
}

#[test]
fn of_a_first_source_that_showed_one_packet_nothing_is_kept_when_another_begins() {
    // As of a call that had the port before.
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(20).change_source(0x2222, 40_000).begin_timeline(77_000_000).talk(3_000);
    let reception = Reception::of_perfect(&sender);
    reception.check();
    assert_eq!((reception.stats.packets_received, reception.stats.packets_invalid), (150, 1));
    assert_eq!(reception.stats.ssrcs, [0x2222]);
    assert_all_heard(&reception, 0, 3_000);
}

#[test]
fn the_first_packets_of_a_source_are_kept_while_the_last_ones_of_another_come_among_them() {
    // Nothing but keys came of the first one, or one packet of audio.
    for has_keys in [true, false] {
        let mut sender = Sender::new(Codec::Ulaw);
        if has_keys {
            sender.press(1, 2, 3);
        } else {
            sender.talk(20);
        }
        sender.change_source(0x2222, 40_000).talk(3_000);
        let mut arrived = Network::perfect().carry(&sender.wire);
        let last = if has_keys { 3 } else { 0 };
        let next = arrived[last + 1].at;
        for (n, datagram) in arrived[..=last].iter_mut().rev().enumerate() {
            datagram.at = next + (10 + 20 * n as u64) * MS;
        }
        let reception = checked(&sender, arrived, 3_100 * MS);
        let case = format!("{has_keys}: {:?}", reception.stats);
        let (received, invalid) = if has_keys { (154, 0) } else { (150, 1) };
        assert_eq!(reception.stats.packets_received, received, "{case}");
        assert_eq!((reception.stats.packets_invalid, reception.stats.packets_lost), (invalid, 0), "{case}");
        assert_all_heard(&reception, 0, 2_990);
    }
}

#[test]
fn a_source_that_a_stop_held_up_behind_its_first_packet_has_its_place_by_that() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).change_source(0x2222, 40_000).begin_timeline(77_000_000).talk(3_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    // The last one of the source before comes behind it: it is not the only one to be heard.
    arrived[149].at += 30 * MS;
    for (n, datagram) in arrived.iter_mut().enumerate().filter(|(n, _)| (151..220).contains(n)) {
        datagram.at = 4_300 * MS + n as u64 * MS;
    }
    let reception = checked(&sender, arrived, 6_000 * MS);
    let case = format!("{:?}", reception.stats);
    assert_eq!((reception.stats.packets_received, reception.stats.packets_invalid), (300, 0), "{case}");
    assert_eq!(reception.displacements(), [40, 40], "{case}");
    assert_all_heard(&reception, 0, 5_990);
}

#[test]
fn another_ssrc_whose_timestamps_stood_still_meanwhile_is_placed_by_arrival() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).freeze(900).change_source(0x2222, 40_000).leap(0).talk(3_000);
    let reception = Reception::of_perfect(&sender);
    assert_eq!(reception.displacements(), [40, 40]);
    reception.check();
}

#[test]
fn stragglers_of_the_old_source_find_their_place() {
    // Another SSRC; the same, begun anew not far below where it was, and anywhere else.
    for (ssrc, sequence) in [(0x2222, 40_000), (0x1111, 65_000), (0x1111, 40_000)] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(3_000).change_source(ssrc, sequence).begin_timeline(77_000_005).talk(3_000);
        let mut arrived = Network::perfect().carry(&sender.wire);
        for datagram in &mut arrived[145..150] {
            datagram.at += 600 * MS;
        }
        let reception = checked(&sender, arrived, 6_000 * MS);
        assert!(reception.displacements().iter().all(|&by| by == 40));
        assert_eq!(reception.stats.packets_lost, 0, "{sequence}");
        assert_eq!(reception.stats.packets_repaired, 5, "{sequence}");
        assert_eq!(reception.stats.segments.len(), 2, "{sequence}");
    }
}

#[test]
fn timestamps_that_jump_again_while_the_first_jump_is_in_doubt_jump_twice() {
    for (first, then) in [(-160_000, -80_000), (-160_000, 80_000), (160_000, -80_000), (160_000, 240_000)] {
        for ms in [20, 40, 60] {
            let mut sender = Sender::new(Codec::Ulaw);
            sender.talk(3_000).leap(first).talk(ms).leap(then).talk(3_000);
            let reception = Reception::of_perfect(&sender);
            reception.check();
            let case = format!("{first} {then} {ms}: {:?}", reception.stats);
            assert_eq!(reception.displacements(), [40; 3], "{case}");
            assert_eq!((reception.stats.packets_lost, reception.stats.packets_invalid), (0, 0), "{case}");
        }
    }
}

#[test]
fn timestamps_that_jump_and_jump_back_before_the_first_jump_is_certain_lose_nothing() {
    for ticks in [3_600 * 8_000, -3_600 * 8_000, 160_000, -160_000] {
        for ms in [40, 60, 200, 600] {
            let mut sender = Sender::new(Codec::Ulaw);
            sender.talk(3_000).leap(ticks).talk(ms).leap(-ticks).talk(3_000);
            let reception = Reception::of_perfect(&sender);
            reception.check();
            let case = format!("{ticks} {ms}: {:?}", reception.stats);
            assert_eq!(reception.displacements(), [40; 3], "{case}");
            assert_eq!((reception.stats.packets_lost, reception.stats.packets_invalid), (0, 0), "{case}");
        }
    }
}

#[test]
fn a_source_is_known_by_two_numbers_in_sequence_though_its_timestamps_jump_between_them() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).change_source(0x2222, 48_425).talk(200).leap(28_800_000).talk(3_000);
    // Of the ten packets before the jump one comes.
    let mut arrived = Network::perfect().carry(&sender.wire);
    arrived.drain(159..162);
    arrived.drain(150..158);
    let reception = checked(&sender, arrived, 6_200 * MS);
    assert_eq!(reception.displacements(), [40; 3], "{:?}", reception.stats);
    assert_eq!(reception.stats.packets_invalid, 0, "{:?}", reception.stats);
}

#[test]
fn a_source_in_a_queue_of_which_half_a_second_was_lost_goes_on_from_what_is_held_of_it() {
    // It begins near the old numbers, so that by these alone it could be the source before.
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(400).rest(1_725).packet(true).restart(1_002).begin_timeline(877_815_333).talk(1_400);
    let stop = Stop { from: 1_720 * MS, length: 2_218 * MS, spacing: 0 };
    let mut arrived = stop.queue(Network::perfect().carry(&sender.wire));
    arrived.drain(33..55);
    let reception = checked(&sender, arrived, sender.nanos_of(sender.now) + 800 * MS);
    assert_eq!(reception.stats.segments.len(), 2, "{:?}", reception.stats);
    assert_eq!(reception.stats.packets_lost, 22, "{:?}", reception.stats);
}

#[test]
fn what_is_late_when_the_queue_is_dry_does_not_go_on_with_the_timestamps_before() {
    // By those it would be a second and a half late, and nothing of the time between was heard.
    let mut sender = Sender::beginning_at(Codec::Ulaw, 1_000, u32::MAX - 4_000);
    sender.talk(400).rest(1_619).restart(28_160).begin_timeline(0).talk(800);
    let stop = Stop { from: 1_720 * MS, length: 749 * MS, spacing: 0 };
    let mut arrived = stop.queue(Network::perfect().carry(&sender.wire));
    arrived.drain(10..20);
    let reception = checked(&sender, arrived, sender.nanos_of(sender.now) + 400 * MS);
    assert_eq!(reception.displacements(), [40, 40]);
}

#[test]
fn a_packet_that_was_overtaken_does_not_tell_that_the_queue_is_dry() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(2_600).change_source(0x2222, 41_382).talk(600);
    let stop = Stop { from: 2_305 * MS, length: 1_024 * MS, spacing: 5 * MS };
    let mut arrived = stop.queue(Network::perfect().carry(&sender.wire));
    // The queue ends with the call; of the other source one packet comes behind it.
    arrived[150].at = arrived[159].at + 85 * MS;
    let reception = checked(&sender, arrived, 3_700 * MS);
    assert_eq!(reception.displacements(), [40, 40]);
}

#[test]
fn a_copy_of_the_packet_that_jumped_is_a_copy_though_it_came_in_time() {
    // The first one is more than a second early, and the only one until its copy came, which is less.
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).leap(8_320).packet(true).rest(100).packet(true).talk(2_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    arrived.push(Datagram { at: arrived[150].at + 79 * MS, ..arrived[150].clone() });
    let reception = checked(&sender, arrived, 5_200 * MS);
    assert_eq!(reception.displacements(), [40, 40]);
    assert_eq!((reception.stats.packets_duplicate, reception.stats.packets_invalid), (1, 0));
    assert_all_heard(&reception, 0, 3_020);
    assert_all_heard(&reception, 3_120, 5_130);
}

#[test]
fn a_source_in_a_queue_that_is_known_by_two_packets_in_the_wrong_order_is_as_late_as_the_one_before() {
    // Before the queue there was a pause, and with these two the call ends.
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(400).rest(2_000).packet(true).talk(400).change_source(0x2222, 774).talk(600);
    let stop = Stop { from: 1_320 * MS, length: 2_780 * MS, spacing: MS };
    let mut arrived = stop.queue(Network::perfect().carry(&sender.wire));
    (arrived[41].at, arrived[42].at) = (arrived[42].at, arrived[41].at);
    arrived.truncate(43);
    let reception = checked(&sender, arrived, 4_123 * MS);
    assert_eq!(reception.displacements(), [40, 40]);
    assert_eq!(reception.stats.packets_lost, 0);
}

#[test]
fn a_straggler_of_which_the_next_source_could_have_the_timestamp_is_told_by_its_number() {
    // The same timestamps again, 1,011 numbers lower: a late packet of before is a thousand numbers ahead, and in time.
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(400).restart(9).begin_timeline(160_000).talk(3_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    arrived[4].at += 640 * MS;
    let reception = checked(&sender, arrived, 3_400 * MS);
    let case = format!("{:?}", reception.stats);
    assert_all_heard(&reception, 0, 3_390);
    assert_eq!((reception.stats.packets_lost, reception.stats.packets_repaired), (0, 1), "{case}");
}

#[test]
fn what_goes_on_behind_a_stop_is_no_straggler_of_the_source_before() {
    // A packet of the source before could have these numbers, and be twenty seconds late.
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).restart(65_535).begin_timeline(4_294_967_295).talk(3_000);
    let mut network = Network {
        stops: vec![Stop { from: 4_127 * MS, length: 1_020 * MS, spacing: 5 * MS }],
        ..Network::perfect()
    };
    for lost in [0, 18] {
        let mut arrived = network.carry(&sender.wire);
        // The last ones before the stop.
        arrived.drain(206 - lost..206);
        let reception = checked(&sender, arrived, 6_000 * MS);
        let case = format!("{:?}", reception.stats);
        assert_eq!(
            (reception.stats.packets_expected, reception.stats.packets_lost),
            (300, lost as u64),
            "{case}"
        );
        assert_all_heard(&reception, 4_200, 5_990);
    }
}

#[test]
fn a_late_key_of_the_source_before_is_no_number_ahead_of_the_current_one() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(600).press(5, 3, 3).restart(1_001).begin_timeline(877_815_333).talk(3_000);
    // The last copy of the key's end: its number comes again half a second later.
    let mut arrived = Network::perfect().carry(&sender.wire);
    arrived[34].at += 440 * MS;
    let reception = checked(&sender, arrived, 3_700 * MS);
    let case = format!("{:?}", reception.stats);
    assert_eq!((reception.stats.packets_received, reception.stats.packets_duplicate), (185, 0), "{case}");
    assert_all_heard(&reception, 700, 3_690);
}

#[test]
fn packets_of_the_source_before_that_a_stop_held_up_are_no_new_source() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(1_360).restart(21_589).begin_timeline(2_493_539_688).talk(3_000);
    let mut network = Network {
        stops: vec![Stop { from: 1_722 * MS, length: 2_000 * MS, spacing: MS }],
        ..Network::perfect()
    };
    // They are late as it is, and get into the queue.
    for late in [62, 64] {
        sender.wire[late].at += 640 * MS;
    }
    sender.wire.sort_by_key(|datagram| datagram.at);
    let reception = Reception::of(sender.codec, network.carry(&sender.wire), 4_400 * MS);
    reception.check();
    assert_eq!(reception.displacements(), [40, 40]);
    assert_eq!(
        (reception.stats.packets_lost, reception.stats.packets_invalid),
        (0, 0),
        "{:?}",
        reception.stats
    );
}

#[test]
fn a_key_that_overtakes_the_first_packet_in_time_behind_a_stop_leaves_it_its_say() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(1_480).rest(639).packet(true).press(2, 1, 2).talk(2_000);
    let mut network = Network {
        stops: vec![Stop { from: 1_309 * MS, length: 1_032 * MS, spacing: 0 }],
        ..Network::perfect()
    };
    let mut arrived = network.carry(&sender.wire);
    // All of the queue comes at once.
    arrived.swap(74, 75);
    let reception = Reception::with(sender.codec, arrived, 4_300 * MS, |config| {
        config.repair_window = Duration::from_millis(500);
    });
    reception.check();
    assert_eq!(reception.stats.packets_lost, 0, "{:?}", reception.stats);
}

#[test]
fn a_key_that_is_all_that_came_for_a_while_is_expected_as_well_as_received() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.press(9, 1, 1).rest(321).talk(1_000);
    let reception = Reception::of_perfect(&sender);
    reception.check();
    assert_eq!((reception.stats.packets_expected, reception.stats.packets_received), (51, 51));
}

#[test]
fn keys_that_came_before_any_audio_are_counted_once_though_copies_come_when_that_does() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.press(10, 12, 1).talk(3_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    let copy = |n: usize| Datagram { at: 400 * MS, ..arrived[n].clone() };
    let copies = [copy(3), copy(11)];
    // Of the audio the first two are late: 200 ms of audio, and not of keys, are looked at for the anchor.
    for datagram in &mut arrived[12..14] {
        datagram.at += 60 * MS;
    }
    arrived.extend(copies);
    let reception = checked(&sender, arrived, 3_240 * MS);
    let counts = (reception.stats.packets_received, reception.stats.packets_duplicate);
    assert_eq!((counts, reception.stats.packets_lost), ((162, 2), 0));
    assert_eq!(reception.displacements(), [40]);
    assert_all_heard(&reception, 0, 3_000);
}

#[test]
fn packets_that_share_a_jump_share_its_place_however_late_each_is() {
    // The source begins in a queue and rests before it is dry: what follows is about a second before its time, as far as is known.
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(1_460).leap(320_000).talk(600).rest(1_777).talk(600);
    let mut network = Network {
        stops: vec![Stop { from: 1_364 * MS, length: 1_565 * MS, spacing: 5 * MS }],
        ..Network::perfect()
    };
    let arrived = network.carry(&sender.wire);
    let end = sender.nanos_of(sender.now) + 400 * MS;
    // Behind the rest: some, one of the first two, all but the first.
    for late in [vec![104, 106, 109], vec![103], vec![104], (104..133).collect()] {
        let mut arrived = arrived.clone();
        for n in late {
            arrived[n].at += 85 * MS;
        }
        arrived.sort_by_key(|datagram| datagram.at);
        let reception = Reception::with(sender.codec, arrived, end, |config| {
            config.repair_window = Duration::from_millis(500);
        });
        reception.check();
        assert_eq!(reception.stats.packets_invalid, 0, "{:?}", reception.stats);
    }
}

#[test]
fn another_source_that_is_as_late_as_the_one_before_goes_on_with_its_timeline() {
    // The queue drains as it fills: from then on all is late.
    for ms in [300, 900] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(2_200).change_source(0x2222, 120).talk(3_000);
        let mut network = Network {
            stops: vec![Stop { from: 2_125 * MS, length: ms * MS, spacing: 20 * MS }],
            ..Network::perfect()
        };
        let arrived = network.carry(&sender.wire);
        let reception = checked(&sender, arrived, sender.nanos_of(sender.now) + 1_400 * MS);
        assert_eq!(reception.displacements(), [40, 40], "{ms}");
    }
}

#[test]
fn timestamps_that_stand_still_during_a_hold_do_not_shorten_it() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).freeze(35_000).leap(0).talk(2_000);
    let reception = Reception::of_perfect(&sender);
    assert_eq!(reception.displacements(), [40, 40]);
    reception.check();
    assert_eq!(reception.length(), 40 * 8_000);
}

#[test]
fn timestamps_that_jump_by_an_hour_are_a_new_segment_at_the_time_of_arrival() {
    for ticks in [3_600 * 8_000, -3_600 * 8_000] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(3_000).leap(ticks).talk(3_000);
        let reception = Reception::of_perfect(&sender);
        assert_eq!(reception.displacements(), [40, 40]);
        reception.check();
        assert_eq!(reception.length(), 48_000);
    }
}

#[test]
fn a_packet_that_is_late_at_a_jump_is_placed_by_its_timestamp_on_the_side_that_it_is_of() {
    for ticks in [12_000, -12_000, 160_000, -160_000, 3_600 * 8_000, -3_600 * 8_000] {
        // The last before the jump, and the first behind it.
        for n in [149, 150] {
            let mut sender = Sender::new(Codec::Ulaw);
            sender.talk(3_000).leap(ticks).talk(3_000);
            let mut arrived = Network::perfect().carry(&sender.wire);
            arrived[n].at += 266 * MS;
            let reception = checked(&sender, arrived, 6_000 * MS);
            let case = format!("{n} at {ticks}: {:?}", reception.stats);
            assert_eq!(reception.displacements(), [40, 40], "{case}");
            assert_eq!((reception.stats.packets_lost, reception.stats.packets_repaired), (0, 1), "{case}");
            assert_all_heard(&reception, 0, 5_990);
        }
    }
}

#[test]
fn packets_that_a_jump_overtook_are_of_before_it_though_they_end_behind_its_first_packet() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).leap(-160_000).talk(1_000);
    // The leg is anchored 45 ms late; the first packet that jumps is not late, and alone for over a second.
    let mut arrived = Network::perfect().carry(&sender.wire);
    for (n, datagram) in arrived.iter_mut().enumerate().filter(|(n, _)| *n != 150) {
        datagram.at += 45 * MS;
        if n > 145 {
            datagram.at = 4_080 * MS + n as u64 * MS;
        }
    }
    let reception = checked(&sender, arrived, 5_000 * MS);
    let case = format!("{:?}", reception.stats);
    assert_eq!(reception.displacements(), [400, 40], "{case}");
    assert_eq!((reception.stats.packets_received, reception.stats.packets_invalid), (200, 0), "{case}");
}

#[test]
fn a_key_that_overtakes_the_first_packet_that_jumps_makes_no_new_sender_of_it() {
    for ticks in [3_600 * 8_000, -3_600 * 8_000, -160_000] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(3_000).leap(ticks).packet(false).press(5, 1, 1).talk(1_000);
        let mut arrived = Network::perfect().carry(&sender.wire);
        arrived[150].at += 25 * MS;
        let reception = checked(&sender, arrived, 4_040 * MS);
        let case = format!("{ticks}: {:?}", reception.stats);
        let (expected, lost) = (reception.stats.packets_expected, reception.stats.packets_lost);
        assert_eq!((expected, lost, reception.stats.segments.len()), (202, 0, 2), "{case}");
    }
}

#[test]
fn a_jump_within_the_first_packets_is_placed_by_arrival_too() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(60).leap(1_000_000).talk(3_000);
    let reception = Reception::of_perfect(&sender);
    assert_eq!(reception.displacements(), [40, 40]);
    reception.check();
}

#[test]
fn a_restarted_process_goes_on_where_the_timestamps_say() {
    let mut sender = Sender::new(Codec::Slin16);
    sender.talk(20_000);
    let arrived = Network::perfect().carry(&sender.wire);
    let first =
        Segment { ssrc: 0x1111, first_sample: 80, first_rtp_timestamp: 160_000, first_sequence: 1_000 };
    let reception = Reception::with(sender.codec, arrived[600..].to_vec(), 20_000 * MS, |config| {
        config.resume = Some(first.clone());
        config.anchor_window = Duration::from_millis(200);
    });
    assert_eq!(reception.stats.segments, [first]);
    assert_eq!(reception.base, 80 + 12_000 * 16 - 16_000);
    let spoken: Vec<i16> = (0..8_000 * 16).map(|i| voice::sample(sender.codec, 0, 12_000 * 16 + i)).collect();
    assert_eq!(reception.recorder.pcm[16_000..], spoken);
}
