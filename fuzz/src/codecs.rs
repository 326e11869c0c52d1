//! The codecs.

use sidetone::media::codec::{Codec, Decoder, Encoder, MAX_STATEFUL_SAMPLES};

/// Any bytes as the payloads of one source. The first byte chooses the codec; then each payload has two bytes for its length
/// and what becomes of it (lost, or kept as the state to go on from). What was decoded is encoded again. Payloads and the room for
/// their samples have memory of their own, exactly as long as they are: libopus is C, and the sanitizer sees what it does beside it.
pub fn codecs(bytes: &[u8]) {
    let Some((&first, mut rest)) = bytes.split_first() else { return };
    let codec = Codec::ALL[usize::from(first) % Codec::ALL.len()];
    let mut decoder = Decoder::new(codec).expect("memory");
    let mut encoder = Encoder::new(codec).expect("memory");
    let mut saved = decoder.snapshot();
    let frame = codec.sample_rate().hz() as usize / 50;
    let longest = if codec.is_stateful() { MAX_STATEFUL_SAMPLES } else { 50 * frame };
    while let [low, high, tail @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high & 7])).min(tail.len());
        let (payload, tail) = tail.split_at(length);
        let payload: Box<[u8]> = payload.into();
        rest = tail;
        if high & 0x80 != 0 {
            let made = decoder.decode_fec(&payload, &mut vec![0; frame]).unwrap_or(0);
            assert!(made == 0 || made == frame);
        }
        let expected = codec.samples_in(&payload);
        let mut pcm = vec![0; expected.unwrap_or(frame)];
        match decoder.decode(&payload, &mut pcm) {
            Ok(made) => {
                assert_eq!(Some(made), expected);
                assert!(made <= longest);
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
