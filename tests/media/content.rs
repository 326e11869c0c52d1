//! What senders send, beyond the acceptance list.

use sidetone::emulator::{Reception, Sender};
use sidetone::media::codec::Codec;
use sidetone::media::slot::SlotState;

#[test]
fn every_codec_is_decoded_to_the_sample() {
    for codec in Codec::STATELESS {
        let mut sender = Sender::new(codec);
        sender.talk(2_000);
        let reception = Reception::of_perfect(&sender);
        reception.check();
        assert_eq!(reception.length() as u32, 2 * codec.sample_rate().hz());
        assert_eq!(reception.stats.codec, codec.name());
        assert!(reception.stats.mos.unwrap() > 4.4);
    }
}

#[test]
fn silence_that_is_cut_short_of_a_slot_keeps_the_click_in_its_place() {
    let mut sender = Sender::new(Codec::Ulaw);
    sender.talk(1_000);
    sender.skip(37).talk(1_000);
    let reception = Reception::of_perfect(&sender);
    reception.check();
    assert_eq!(reception.length(), 16_037);
}

#[test]
fn comfort_noise_may_last_for_minutes() {
    let mut sender = Sender::new(Codec::Alaw);
    sender.talk(2_000).comfort_noise().rest(120_000).talk(2_000);
    let reception = Reception::of_perfect(&sender);
    reception.check();
    assert!(reception.states(2_000, 122_000).iter().all(|&state| state == SlotState::ComfortNoise));
}
