//! The codecs.

use sidetone::media::codec::{Codec, Decoder, Encoder, MAX_STATEFUL_SAMPLES};

/// Any bytes as the payloads of one source. The first byte chooses the codec; then each payload has two bytes for its length
/// and what becomes of it (lost, or kept as the state to go on from). What was decoded is encoded again.
pub fn codecs(bytes: &[u8]) {
    let Some((&first, mut rest)) = bytes.split_first() else { return };
    let codec = Codec::ALL[usize::from(first) % Codec::ALL.len()];
    let mut decoder = Decoder::new(codec).expect("memory");
    let mut encoder = Encoder::new(codec).expect("memory");
    let mut saved = decoder.snapshot();
    let mut pcm = vec![0; codec.sample_rate().hz() as usize];
    while let [low, high, tail @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high & 7])).min(tail.len());
        let (payload, tail) = tail.split_at(length);
        rest = tail;
        if high & 0x80 != 0 {
            let frame = pcm.len() / 50;
            let made = decoder.decode_fec(payload, &mut pcm[..frame]).unwrap_or(0);
            assert!(made == 0 || made == frame);
        }
        match decoder.decode(payload, &mut pcm) {
            Ok(made) => {
                assert_eq!(Some(made), codec.samples_in(payload));
                assert!(made <= if codec.is_stateful() { MAX_STATEFUL_SAMPLES } else { pcm.len() });
                let mut again = Vec::new();
                // Opus has frames of certain lengths only.
                if encoder.encode(&pcm[..made], &mut again).is_ok() && codec != Codec::Opus {
                    assert_eq!(again.len(), payload.len());
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        match (high >> 5 & 3, &saved) {
            (1, _) => saved = decoder.snapshot(),
            (2, Some(saved)) => decoder.restore(saved),
            (3, _) => decoder.reset(),
            _ => {}
        }
    }
}
