//! Whatever arrives, nothing breaks.

use proptest::prelude::*;

use sidetone::emulator::{Datagram, MS, Reception};
use sidetone::media::codec::Codec;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

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
            Datagram { at, bytes, sent: None }
        });
        let arrived: Vec<_> = arrived.collect();
        let reception = Reception::of(Codec::Ulaw, arrived, at + 5_000 * MS);
        // Never further than a second ahead of the clock, and the stalled end is padded to it.
        let end = reception.base + reception.recorder.pcm.len() as i64;
        prop_assert!(end <= ((at / MS) as i64 + 6_000) * 8);
    }
}
