//! Acceptance list, facts/media.md section 8: what senders send.

use sidetone::media::codec::Codec;
use sidetone::media::report::LegEvent;
use sidetone::media::slot::SlotState;

use super::emulator::{Network, Sender};
use super::model::{Reception, perfectly, receive};

const MS: u64 = 1_000_000;

fn presses(reception: &Reception) -> Vec<(char, u32)> {
    let press = |event: &LegEvent| match *event {
        LegEvent::Dtmf { digit, duration_ms } => Some((digit, duration_ms)),
        _ => None,
    };
    reception.events.iter().filter_map(press).collect()
}

#[test]
fn every_codec_is_decoded_to_the_sample() {
    for codec in Codec::STATELESS {
        let mut sender = Sender::new(codec);
        sender.talk(2_000);
        let reception = perfectly(&sender);
        reception.check();
        assert_eq!(reception.length() as u32, 2 * codec.sample_rate().hz());
        assert_eq!(reception.stats.codec, codec.name());
        assert!(reception.stats.mos.unwrap() > 4.4);
    }
}

#[test]
fn discontinuous_transmission_with_markers_is_silence_not_loss() {
    let mut sender = Sender::new(Codec::Ulaw);
    for _ in 0..10 {
        sender.packet(true).talk(500).rest(700);
    }
    sender.talk(1_000);
    let reception = perfectly(&sender);
    reception.check();
    assert_eq!(reception.stats.packets_lost, 0);
    assert!(reception.states(520, 1_220).iter().all(|&state| state == SlotState::Silence));
    assert_eq!(reception.length(), 13_200 * 8);
    assert_eq!(reception.stats.jitter_ms, 0.0);
}

#[test]
fn silence_that_is_cut_short_of_a_slot_keeps_the_click_in_its_place() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(1_000);
    sender.now += 37;
    sender.jump(37);
    sender.talk(1_000);
    let reception = perfectly(&sender);
    reception.check();
    assert_eq!(reception.length(), 16_037);
}

#[test]
fn a_run_of_comfort_noise_is_comfort_noise() {
    let mut sender = Sender::new(Codec::Alaw);
    sender.talk(2_000);
    for _ in 0..5 {
        sender.comfort_noise().rest(200);
    }
    sender.talk(2_000);
    let reception = perfectly(&sender);
    reception.check();
    assert!(reception.states(2_000, 3_000).iter().all(|&state| state == SlotState::ComfortNoise));
    assert_eq!(reception.stats.packets_lost, 0);
    assert_eq!(reception.length(), 40_000);
}

#[test]
fn comfort_noise_may_last_for_minutes() {
    let mut sender = Sender::new(Codec::Alaw);
    sender.talk(2_000).comfort_noise().rest(120_000).talk(2_000);
    let reception = perfectly(&sender);
    reception.check();
    assert!(reception.states(2_000, 122_000).iter().all(|&state| state == SlotState::ComfortNoise));
}

#[test]
fn a_key_is_reported_once_for_its_three_ends() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(1_000).press(5, 5, 3).talk(1_000).press(11, 10, 3).talk(1_000);
    let reception = perfectly(&sender);
    reception.check();
    assert_eq!(presses(&reception), [('5', 100), ('#', 200)]);
    assert_eq!(reception.stats.packets_lost, 0);
    assert_eq!(reception.states(1_000, 1_140), [SlotState::Silence; 14]);
}

#[test]
fn a_key_whose_ends_are_lost_is_reported_all_the_same() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(1_000).press(9, 5, 0).talk(1_000);
    assert_eq!(presses(&perfectly(&sender)), [('9', 100)]);
}

#[test]
fn a_copy_of_every_telephone_event_is_no_second_press() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(1_000).press(1, 5, 3).rest(100).press(1, 5, 3).talk(1_000);
    let mut network = Network { duplicates: 1.0, ..Network::perfect() };
    let reception = receive(sender.codec, network.carry(&sender.wire), 3_000 * MS);
    assert_eq!(presses(&reception), [('1', 100), ('1', 100)]);
}

#[test]
fn packets_grow_from_20_to_40_ms() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(2_000);
    sender.ptime_ms = 40;
    sender.talk(2_000);
    sender.ptime_ms = 10;
    sender.talk(2_000);
    let mut arrived = Network::perfect().carry(&sender.wire);
    // One lost at each change, one amid the long ones.
    for lost in [150, 120, 100] {
        arrived.remove(lost);
    }
    let reception = receive(sender.codec, arrived, 6_000 * MS);
    reception.check();
    assert_eq!(reception.stats.packets_lost, 3);
    assert_eq!(reception.states(2_000, 2_040), [SlotState::Lost; 4]);
    assert_eq!(reception.states(2_800, 2_840), [SlotState::Lost; 4]);
    assert_eq!(reception.states(4_000, 4_010), [SlotState::Lost]);
    assert_eq!(reception.length(), 48_000);
}
