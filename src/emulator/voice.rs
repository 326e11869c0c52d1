//! Audio whose every sample says when it was spoken, and by whom.

use crate::media::codec::Codec;
use crate::media::random::mix;

/// Append the bytes of the sample that `voice` speaks at sample `spoken` of its clock, as `codec`, one of [`Codec::STATELESS`], sends it. None decodes to
/// 0: silence must be tellable from audio.
pub fn encode(codec: Codec, voice: u64, spoken: i64, payload: &mut Vec<u8>) {
    let hash = hash(voice, spoken);
    match codec {
        // 0x7f and 0xff are the law's two zeros.
        Codec::Ulaw => payload.push((hash as u8 & 0x7f).min(0x7e)),
        Codec::Alaw => payload.push(hash as u8),
        _ => payload.extend((hash as i16 | 1).to_be_bytes()),
    }
}

/// The PCM of that sample; never 0.
pub fn sample(codec: Codec, voice: u64, spoken: i64) -> i16 {
    let hash = hash(voice, spoken);
    match codec {
        Codec::Ulaw => codec.decode(&[(hash as u8 & 0x7f).min(0x7e)], 0),
        Codec::Alaw => codec.decode(&[hash as u8], 0),
        _ => hash as i16 | 1,
    }
}

fn hash(voice: u64, spoken: i64) -> u64 {
    mix(spoken as u64 ^ voice.rotate_left(32) ^ 0x5eed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_the_sample_and_never_to_silence() {
        for codec in Codec::STATELESS {
            for spoken in -50..5_000 {
                let mut payload = Vec::new();
                encode(codec, 3, spoken, &mut payload);
                let pcm = codec.decode(&payload, 0);
                assert_eq!(pcm, sample(codec, 3, spoken));
                assert_ne!(pcm, 0, "{codec:?} {spoken}");
            }
        }
    }
}
