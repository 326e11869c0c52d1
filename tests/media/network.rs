//! What networks do, beyond the acceptance list.

use std::time::Duration;

use sidetone::emulator::{Datagram, MS, Network, Reception, Sender, Stop};
use sidetone::media::codec::Codec;
use sidetone::media::slot::SlotState;

#[test]
fn late_by_40_ms_leaves_no_trace() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(10_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    arrived[250].at += 40 * MS;
    arrived.sort_by_key(|datagram| datagram.at);
    let reception = Reception::of(sender.codec, arrived, 10_000 * MS);
    reception.check();
    assert_eq!(reception.states(5_000, 5_020), [SlotState::Received; 2]);
    assert_eq!((reception.stats.packets_late, reception.stats.packets_lost), (0, 0));
    assert_eq!(reception.events.len(), 1);
}

#[test]
fn a_queue_that_drains_slowly_is_no_jump_either() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(10_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    // Nothing for 1.8 s, then the queue at three times the speed.
    let release = arrived[200].at + 1_800 * MS;
    for (n, datagram) in arrived[200..].iter_mut().enumerate() {
        datagram.at = datagram.at.max(release + n as u64 * 20 * MS / 3);
    }
    let reception = Reception::of(sender.codec, arrived, 10_000 * MS);
    assert_eq!(reception.stats.segments.len(), 1);
    reception.check();
    assert_eq!(reception.length(), 80_000);
}

#[test]
fn a_queue_that_still_drains_when_the_call_ends_is_no_jump() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(1_640);
    let stop = Stop { from: 431 * MS, length: 1_549 * MS, spacing: 5 * MS };
    let mut network = Network { stops: vec![stop], ..Network::perfect() };
    let mut arrived = network.carry(&sender.wire);
    arrived.retain(|datagram| datagram.at < 2_040 * MS);
    let reception = Reception::of(sender.codec, arrived, 2_040 * MS);
    reception.check();
    assert_eq!(reception.stats.segments.len(), 1);
}

#[test]
fn a_queue_that_takes_seconds_to_drain_moves_nothing() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(20_000);
    // Nothing for 1.6 s, then packets every 15 ms until they are in time again, 6.4 s later.
    let stop = Stop { from: 4_000 * MS, length: 1_600 * MS, spacing: 15 * MS };
    let mut network = Network { stops: vec![stop], ..Network::perfect() };
    let reception = Reception::of(sender.codec, network.carry(&sender.wire), 20_000 * MS);
    reception.check();
    assert_eq!(reception.stats.segments.len(), 1);
    assert_eq!((reception.stats.packets_lost, reception.length()), (0, 160_000));
}

#[test]
fn a_queue_beyond_the_repair_window_is_counted_and_moves_nothing() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(400).rest(2_370).packet(true).talk(400);
    let stop = Stop { from: 196 * MS, length: 1_313 * MS, spacing: 5 * MS };
    let mut network = Network { stops: vec![stop], ..Network::perfect() };
    let reception = Reception::with(sender.codec, network.carry(&sender.wire), 3_400 * MS, |config| {
        config.repair_window = Duration::from_millis(500);
    });
    reception.check();
    assert_eq!(reception.stats.segments.len(), 1);
    assert_eq!((reception.stats.packets_lost, reception.stats.packets_late), (0, 10));
}

#[test]
fn a_packet_that_waited_alone_is_late_and_no_jump() {
    // Nothing follows it for two seconds that would tell.
    for (stopped, repair, late) in [(1_200, 2_000, 0), (1_900, 2_000, 1), (700, 500, 1), (2_900, 500, 1)] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(2_000).rest(500).packet(true).rest(4_000).packet(true).talk(400);
        let stop = Stop { from: 2_500 * MS, length: stopped * MS, spacing: MS };
        let mut network = Network { stops: vec![stop], ..Network::perfect() };
        let reception = Reception::with(sender.codec, network.carry(&sender.wire), 7_000 * MS, |config| {
            config.repair_window = Duration::from_millis(repair);
        });
        reception.check();
        let case = format!("{stopped} of {repair} ms: {:?}", reception.stats);
        assert_eq!(reception.stats.segments.len(), 1, "{case}");
        assert_eq!((reception.stats.packets_lost, reception.stats.packets_invalid), (0, 0), "{case}");
        assert_eq!(reception.stats.packets_late - reception.stats.packets_repaired, late, "{case}");
        assert_eq!(reception.length(), 8 * 6_940, "{case}");
    }
}

#[test]
fn a_queue_whose_last_packet_was_overtaken_is_no_jump() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(2_600).rest(2_400).talk(200);
    let stop = Stop { from: 2_200 * MS, length: 2_000 * MS, spacing: 5 * MS };
    let mut network = Network { stops: vec![stop], ..Network::perfect() };
    let mut arrived = network.carry(&sender.wire);
    arrived[111].at = 4_395 * MS;
    arrived.sort_by_key(|datagram| datagram.at);
    let reception = Reception::of(sender.codec, arrived, 5_600 * MS);
    reception.check();
    assert_eq!(reception.stats.segments.len(), 1);
    assert_eq!(reception.stats.packets_invalid, 0);
}

#[test]
fn a_source_that_changes_in_a_queue_goes_on_with_the_timestamps() {
    for length in [400, 1_500, 2_900] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(3_000).change_source(0x2222, 40_000).talk(6_000);
        let stop = Stop { from: 2_800 * MS, length: length * MS, spacing: 5 * MS };
        let mut network = Network { stops: vec![stop], ..Network::perfect() };
        let reception = Reception::of(sender.codec, network.carry(&sender.wire), 9_000 * MS);
        reception.check();
        assert_eq!(reception.displacements(), [40, 40], "{length}");
        assert_eq!(reception.stats.packets_invalid, 0, "{length}");
    }
}

#[test]
fn packets_overtaken_by_another_source_in_a_queue_are_late_and_not_invalid() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(3_000).change_source(0x2222, 40_000).begin_timeline(0xfeed_beef).talk(4_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    // The last of the old source and the first of the new one change places.
    for n in [147, 148, 149] {
        arrived[n].at += 75 * MS;
    }
    arrived.sort_by_key(|datagram| datagram.at);
    let stop = Stop { from: 2_800 * MS, length: 1_600 * MS, spacing: MS };
    let reception = Reception::of(sender.codec, stop.queue(arrived), 7_000 * MS);
    reception.check();
    assert_eq!((reception.stats.packets_lost, reception.stats.packets_invalid), (0, 0));
    assert_eq!(reception.stats.segments.len(), 2);
}

#[test]
fn packets_overtaken_by_a_jump_in_a_queue_keep_their_timeline() {
    // The first of the new timestamps have overtaken the last of the old ones, so that no two neighbours show the jump; or
    // even all that were left of them.
    for (stopped, overtaken) in [(1_700, &[99][..]), (1_700, &[98, 99]), (1_975, &[99])] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(2_000).leap(-320_000).talk(2_000);
        let mut arrived = Network::perfect().carry(&sender.wire);
        for &n in overtaken {
            arrived[n].at += 45 * MS;
        }
        arrived.sort_by_key(|datagram| datagram.at);
        let stop = Stop { from: stopped * MS, length: 1_500 * MS, spacing: MS };
        let reception = Reception::of(sender.codec, stop.queue(arrived), 4_400 * MS);
        reception.check();
        let case = format!("{stopped} {overtaken:?}: {:?}", reception.stats);
        assert_eq!(reception.stats.segments.len(), 2, "{case}");
        assert_eq!((reception.stats.packets_lost, reception.stats.packets_invalid), (0, 0), "{case}");
    }
}

#[test]
fn another_source_in_a_queue_does_not_speak_again_where_the_one_before_was_heard() {
    // Its timestamps begin where those of the one before had been: by them alone it could be that late.
    for ago in [300, 1_000, 1_840] {
        let mut sender = Sender::new(Codec::Slin16);
        sender.talk(1_840).change_source(0x2222, 11_776).leap(-16 * ago).talk(1_500);
        sender.rest(2_230).packet(true).talk(400);
        let stop = Stop { from: 1_364 * MS, length: 1_565 * MS, spacing: 5 * MS };
        let mut network = Network { stops: vec![stop], ..Network::perfect() };
        let end = sender.nanos_of(sender.now) + 100 * MS;
        let reception = Reception::of(sender.codec, network.carry(&sender.wire), end);
        reception.check();
        assert_eq!(reception.stats.segments.len(), 2, "{ago}");
        assert_eq!(reception.stats.packets_lost, 0, "{ago}");
    }
}

#[test]
fn copies_as_late_as_what_follows_tell_a_queue_that_drains_no_faster_than_it_fills() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.ptime_ms = 10;
    sender.talk(4_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    let copies = arrived.clone().into_iter().map(|copy| Datagram { at: copy.at + 33 * MS, ..copy });
    arrived.extend(copies);
    arrived.sort_by_key(|datagram| datagram.at);
    // Each packet takes two turns of 5 ms.
    let stop = Stop { from: 2_127 * MS, length: 1_024 * MS, spacing: 5 * MS };
    let reception = Reception::of(sender.codec, stop.queue(arrived), 4_000 * MS);
    reception.check();
    assert_eq!(reception.stats.segments.len(), 1);
}

#[test]
fn a_source_whose_second_packet_waits_is_believed_if_the_one_before_says_no_more() {
    // A copy, and a packet that was held up, are all that still comes of the one before.
    for old in [None, Some(97), Some(99)] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(2_000).restart(48_205).begin_timeline(1_713_740_523).talk(2_000);
        let mut arrived = Network::perfect().carry(&sender.wire);
        match old {
            Some(99) => arrived[99].at += 25 * MS,
            Some(n) => arrived.push(Datagram { at: arrived[n].at + 80 * MS, ..arrived[n].clone() }),
            None => {}
        }
        arrived.sort_by_key(|datagram| datagram.at);
        let stop = Stop { from: 2_024 * MS, length: 1_500 * MS, spacing: MS };
        let reception = Reception::of(sender.codec, stop.queue(arrived), 4_400 * MS);
        reception.check();
        assert_eq!(reception.displacements(), [40, 40], "{old:?}");
        assert_eq!((reception.stats.packets_lost, reception.stats.packets_invalid), (0, 0), "{old:?}");
    }
}

#[test]
fn timestamps_that_fall_behind_and_stay_there_are_a_new_segment() {
    for (frozen, repair) in [(1_500, 2_000), (5_000, 2_000), (700, 500), (20_000, 500)] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(3_000).freeze(frozen).leap(0).talk(2_000);
        let arrived = Network::perfect().carry(&sender.wire);
        let end = sender.nanos_of(sender.now);
        let reception = Reception::with(sender.codec, arrived, end, |config| {
            config.repair_window = Duration::from_millis(repair);
        });
        reception.check();
        assert_eq!(reception.displacements(), [40, 40], "{frozen} ms");
    }
}

#[test]
fn a_burst_at_the_very_start_lies_before_its_arrival() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(5_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    let released = arrived[50].at;
    for datagram in &mut arrived[..50] {
        datagram.at = released;
    }
    let reception = Reception::of(sender.codec, arrived, 5_000 * MS);
    reception.check();
    assert_eq!(reception.displacements(), [40]);
    assert_eq!(reception.length(), 40_000);
}

#[test]
fn an_outage_of_90_s_is_90_s_of_loss() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(100_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    arrived.drain(250..4_750);
    let reception = Reception::of(sender.codec, arrived, 100_000 * MS);
    reception.check();
    assert_eq!(reception.stats.packets_lost, 4_500);
    assert_eq!(reception.stats.segments.len(), 1);
    // What the recorder has read before the outage ended stays silence; the rest is known to be loss.
    assert_eq!(reception.states(94_000, 95_000), [SlotState::Lost; 100]);
}
