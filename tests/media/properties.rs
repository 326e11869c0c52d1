//! Whatever sender and network do, the recording agrees with the array.

use proptest::prelude::*;

use sidetone::media::codec::Codec;

use super::emulator::{Loss, Network, Rng, Sender};
use super::model::receive;

const MS: u64 = 1_000_000;

/// A thing that a sender does.
#[derive(Clone, Debug)]
enum Act {
    Talk(u64),
    Rest(u64),
    ComfortNoise(u64),
    Press(u8, u16, u16),
    Ptime(u64),
    Skip(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (20..1_500_u64).prop_map(Act::Talk),
        2 => (1..4_000_u64).prop_map(Act::Rest),
        1 => (1..2_000_u64).prop_map(Act::ComfortNoise),
        1 => (0..16_u8, 1..10_u16, 0..4_u16).prop_map(|(e, n, ends)| Act::Press(e, n, ends)),
        1 => prop::sample::select(vec![10, 20, 30, 40, 60]).prop_map(Act::Ptime),
        1 => (1..80_u8).prop_map(Act::Skip),
    ]
}

fn perform(sender: &mut Sender, acts: &[Act]) {
    for act in acts {
        match *act {
            Act::Talk(ms) => sender.talk(ms),
            Act::Rest(ms) => sender.rest(ms).packet(true),
            Act::ComfortNoise(ms) => sender.comfort_noise().rest(ms),
            Act::Press(event, packets, ends) => sender.press(event, packets, ends),
            Act::Ptime(ms) => {
                sender.ptime_ms = ms;
                &mut *sender
            }
            // Not a whole slot: what follows is not aligned to anything.
            Act::Skip(samples) => {
                sender.now += i64::from(samples);
                sender.jump(i64::from(samples))
            }
        };
    }
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        Just(Loss::None),
        (0.0..0.2).prop_map(Loss::Random),
        (0.0..0.2, 1.5..10.0).prop_map(|(share, mean)| Loss::Bursty(share, mean)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_recording_agrees_with_the_array(
        codec in prop::sample::select(Codec::STATELESS.to_vec()),
        acts in prop::collection::vec(act(), 1..12),
        loss in loss(),
        jitter in 0..150_u64,
        duplicates in prop::sample::select(vec![0.0, 0.1, 1.0]),
        sequence in any::<u16>(),
        timestamp in any::<u32>(),
        change in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut sender = Sender::new(codec);
        (sender.sequence, sender.timestamp) = (u64::from(sequence), timestamp);
        sender.talk(400);
        perform(&mut sender, &acts);
        if change {
            // Another source that goes on with the timestamps.
            (sender.ssrc, sender.sequence) = (0x2222, seed & 0xffff);
            sender.talk(400);
            perform(&mut sender, &acts);
        }
        sender.talk(200);
        let mut network =
            Network { rng: Rng(seed), loss, delay: 5 * MS, jitter: jitter * MS, duplicates };
        let arrived = network.carry(&sender.wire);
        prop_assume!(arrived.iter().any(|datagram| datagram.audio.is_some()));
        let end = sender.nanos_of(sender.now) + 400 * MS;
        let reception = receive(codec, arrived, end);
        let stats = &reception.stats;
        reception.check();
        prop_assert_eq!(reception.overrun, 0);
        prop_assert_eq!(stats.packets_invalid, 0);
        prop_assert!(stats.packets_received + stats.packets_lost == stats.packets_expected);
        // Placed by the least delayed packet of the first 200 ms.
        let displacement = reception.displacements()[0];
        let millis = codec.sample_rate().hz() as i64 / 1_000;
        prop_assert!((5 * millis..=(5 + jitter as i64) * millis + 1).contains(&displacement));
    }

    #[test]
    fn nothing_that_arrives_can_break_it(
        datagrams in prop::collection::vec(
            (0..40_u64, any::<[u8; 4]>(), 0..3_u32, prop::collection::vec(any::<u8>(), 0..330)),
            0..200,
        ),
    ) {
        let mut at = 0;
        let arrived = datagrams.into_iter().map(|(ms, [sequence, low, high, kind], ssrc, payload)| {
            at += ms * MS;
            let payload_type = [0, 0, 0, 13, 101, 77][usize::from(kind % 6)];
            let mut bytes = vec![0x80, payload_type, sequence % 4, low];
            bytes.extend([high, low, sequence, 0]);
            bytes.extend(ssrc.to_be_bytes());
            bytes.extend(payload);
            super::emulator::Datagram { at, bytes, spoken: 0, audio: None }
        });
        let arrived: Vec<_> = arrived.collect();
        let reception = receive(Codec::Ulaw, arrived, at + 5_000 * MS);
        // Never further than a second ahead of the clock, and the stalled end is padded to it.
        prop_assert!(reception.base + reception.pcm.len() as i64 <= ((at / MS) as i64 + 6_000) * 8);
    }
}
