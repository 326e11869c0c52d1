//! Acceptance list, facts/media.md section 8: what networks do.

use sidetone::media::codec::Codec;
use sidetone::media::receiver::PacketOutcome;
use sidetone::media::report::LegEvent;
use sidetone::media::slot::SlotState;

use super::emulator::{Loss, Network, Rng, Sender};
use super::model::{Reception, perfectly, receive, receive_with};

const MS: u64 = 1_000_000;

/// Ten seconds, of which packet 250 comes `late` ms late.
fn with_late_packet(late: u64) -> Reception {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(10_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    arrived[250].at += late * MS;
    arrived.sort_by_key(|datagram| datagram.at);
    let reception = receive(sender.codec, arrived, 10_000 * MS);
    reception.check();
    assert_eq!(reception.stats.packets_lost, 0);
    assert_eq!(reception.length(), 80_000);
    reception
}

#[test]
fn late_by_40_ms_leaves_no_trace() {
    let reception = with_late_packet(40);
    assert_eq!(reception.states(5_000, 5_020), [SlotState::Received; 2]);
    assert_eq!(reception.stats.packets_late, 0);
    assert_eq!(reception.events.len(), 1);
}

#[test]
fn late_by_100_ms_mends_the_recording() {
    let reception = with_late_packet(100);
    assert_eq!(reception.states(5_000, 5_020), [SlotState::Repaired; 2]);
    assert_eq!((reception.stats.packets_late, reception.stats.packets_repaired), (1, 1));
    let gap = LegEvent::Gap { start: 40_040, samples: 160, kind: SlotState::Lost };
    assert_eq!(reception.events[1..], [gap]);
}

#[test]
fn late_by_1500_ms_mends_the_recording() {
    let reception = with_late_packet(1_500);
    assert_eq!(reception.states(5_000, 5_020), [SlotState::Repaired; 2]);
    assert_eq!((reception.stats.packets_late, reception.stats.packets_repaired), (1, 1));
}

#[test]
fn late_by_3_s_is_counted_and_changes_nothing() {
    let reception = with_late_packet(3_000);
    assert_eq!(reception.states(5_000, 5_020), [SlotState::Lost; 2]);
    assert_eq!((reception.stats.packets_late, reception.stats.packets_repaired), (1, 0));
    assert_eq!(reception.count(PacketOutcome::TooLate), 1);
}

#[test]
fn a_copy_of_every_packet_changes_nothing() {
    let mut sender = Sender::new(Codec::Alaw);
    sender.talk(10_000);
    let mut network = Network { duplicates: 1.0, rng: Rng(2), ..Network::perfect() };
    let reception = receive(sender.codec, network.carry(&sender.wire), 10_200 * MS);
    reception.check();
    assert_eq!(reception.stats.packets_duplicate, 500);
    assert_eq!(reception.stats.packets_received, 500);
    assert_eq!(reception.stats.packets_lost, 0);
    assert_eq!(reception.length(), 80_000);
}

#[test]
fn a_burst_of_50_queued_packets_lands_where_it_was_spoken() {
    for queued in [50, 100, 150] {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(10_000);
        let mut arrived = Network::perfect().carry(&sender.wire);
        let released = arrived[200 + queued].at;
        for (n, datagram) in arrived[200..200 + queued].iter_mut().enumerate() {
            datagram.at = released - (queued - n) as u64 * MS / 10;
        }
        let reception = receive(sender.codec, arrived, 10_000 * MS);
        assert_eq!(reception.stats.segments.len(), 1, "{queued} queued");
        reception.check();
        assert_eq!(reception.stats.packets_lost, 0);
        assert_eq!(reception.stats.packets_invalid, 0);
        assert_eq!(reception.length(), 80_000);
    }
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
    let reception = receive(sender.codec, arrived, 10_000 * MS);
    assert_eq!(reception.stats.segments.len(), 1);
    reception.check();
    assert_eq!(reception.length(), 80_000);
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
    let reception = receive(sender.codec, arrived, 5_000 * MS);
    reception.check();
    assert_eq!(reception.displacements(), [40]);
    assert_eq!(reception.length(), 40_000);
}

#[test]
fn loss_is_counted_and_named_to_the_packet() {
    for loss in [0.01, 0.05, 0.10].into_iter().flat_map(|p| [Loss::Random(p), Loss::Bursty(p, 4.0)]) {
        let mut sender = Sender::new(Codec::Ulaw);
        sender.talk(60_000);
        let mut network = Network { loss, rng: Rng(9), jitter: 10 * MS, ..Network::perfect() };
        // The first and the last arrive, so that the receiver can know of all the others.
        let mut arrived = network.carry(&sender.wire[1..2_999]);
        let mut ends = Network::perfect().carry(&[sender.wire[0].clone(), sender.wire[2_999].clone()]);
        arrived.append(&mut ends);
        arrived.sort_by_key(|datagram| datagram.at);
        let lost = 3_000 - arrived.len() as u64;
        let reception = receive(sender.codec, arrived, 60_000 * MS);
        reception.check();
        assert!(lost > 0);
        assert_eq!(reception.stats.packets_lost, lost, "{loss:?}");
        assert_eq!(reception.stats.packets_expected, 3_000);
        let lost_slots = reception.states.iter().filter(|&&state| state == SlotState::Lost).count();
        assert_eq!(lost_slots as u64, 2 * lost);
        assert_eq!(reception.length(), 480_000);
        assert!(reception.stats.mos.unwrap() < 4.4);
    }
}

#[test]
fn an_outage_of_90_s_is_90_s_of_loss() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(100_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    arrived.drain(250..4_750);
    let reception = receive(sender.codec, arrived, 100_000 * MS);
    reception.check();
    assert_eq!(reception.stats.packets_lost, 4_500);
    assert_eq!(reception.stats.segments.len(), 1);
    // What the recorder has read before the outage ended stays silence; the rest is known to be loss.
    assert_eq!(reception.states(94_000, 95_000), [SlotState::Lost; 100]);
}

#[test]
fn garbage_and_truncated_packets_are_counted_and_harm_nothing() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(10_000);
    let mut rng = Rng(4);
    let mut arrived = Network::perfect().carry(&sender.wire);
    let mut garbage = Vec::new();
    for datagram in &arrived {
        let mut bytes = datagram.bytes.clone();
        if rng.below(2) == 0 {
            bytes.truncate(rng.below(12) as usize);
        } else {
            bytes = (0..rng.below(200)).map(|_| rng.next() as u8).collect();
        }
        garbage.push(super::emulator::Datagram { at: datagram.at + 3 * MS, bytes, spoken: 0, audio: None });
    }
    arrived.extend(garbage);
    arrived.sort_by_key(|datagram| datagram.at);
    let reception = receive(sender.codec, arrived, 10_000 * MS);
    reception.check();
    assert_eq!(reception.stats.packets_lost, 0);
    assert_eq!(reception.stats.ssrcs, [0x1111]);
    assert_eq!(reception.stats.packets_received, 500);
    assert_eq!(reception.stats.packets_invalid, 500);
}

#[test]
fn a_reader_that_sleeps_learns_exactly_what_it_missed() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(10_000);
    let arrived = Network::perfect().carry(&sender.wire);
    let whole = perfectly(&sender);
    let reception = receive_with(sender.codec, arrived, 10_000 * MS, |config| {
        // A recorder that reads two seconds behind the head of a ring of 1.28 s.
        config.ring_slots = 128;
    });
    assert!(reception.overrun > 0);
    assert_eq!(reception.pcm.len(), whole.pcm.len());
    let held = reception.pcm.len() - 126 * 80;
    assert_eq!(reception.pcm[held..], whole.pcm[held..]);
}
