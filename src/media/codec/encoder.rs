//! Samples to payloads, for every codec alike.

use thiserror::Error;

use super::linear::{self, ByteOrder};
use super::{Codec, g711, g722, gsm, opus};

/// Packet loss that Opus is made ready for: its packets then carry copies of those before.
const EXPECTED_LOSS_PERCENT: u8 = 5;

/// An encoder of one stream.
#[derive(Debug)]
pub struct Encoder {
    codec: Codec,
    state: State,
}

// One a stream, in place.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
enum State {
    Alaw,
    Ulaw,
    Linear(ByteOrder),
    G722(g722::Encoder),
    Gsm(gsm::Encoder),
    Opus(opus::Encoder),
}

/// Samples could not be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The codec has no packet of that length.
    #[error("{} has no packet of {samples} samples: use a multiple of {multiple}", codec.name())]
    Length {
        /// Whose.
        codec: Codec,
        /// Samples given.
        samples: usize,
        /// What would have done.
        multiple: usize,
    },
    /// libopus refuses.
    #[error(transparent)]
    Opus(#[from] opus::OpusError),
}

impl Encoder {
    /// An encoder of `codec` as it is on RTP.
    ///
    /// # Errors
    /// [`opus::OpusError`] if libopus has no memory.
    pub fn new(codec: Codec) -> Result<Self, opus::OpusError> {
        Self::with_byte_order(codec, ByteOrder::Big)
    }

    /// An encoder of `codec` for a transport that puts linear PCM in `order`; the others do not differ.
    ///
    /// # Errors
    /// [`opus::OpusError`] if libopus has no memory.
    pub fn with_byte_order(codec: Codec, order: ByteOrder) -> Result<Self, opus::OpusError> {
        let state = match codec {
            Codec::Alaw => State::Alaw,
            Codec::Ulaw => State::Ulaw,
            Codec::Slin | Codec::Slin12 | Codec::Slin16 | Codec::Slin24 | Codec::Slin48 => {
                State::Linear(order)
            }
            Codec::G722 => State::G722(g722::Encoder::default()),
            Codec::Gsm => State::Gsm(gsm::Encoder::default()),
            Codec::Opus => State::Opus(opus::Encoder::new(EXPECTED_LOSS_PERCENT)?),
        };
        Ok(Self { codec, state })
    }

    /// What it encodes to.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Append `pcm`, at [`Codec::sample_rate`], to `payload`. All codecs take 20 ms; G.722 takes pairs of samples, GSM
    /// multiples of 160, Opus one frame of 2.5 to 60 ms.
    ///
    /// # Errors
    /// [`EncodeError`] if the codec has no packet of that length; `payload` is then as it was.
    pub fn encode(&mut self, pcm: &[i16], payload: &mut Vec<u8>) -> Result<(), EncodeError> {
        let (codec, samples) = (self.codec, pcm.len());
        let in_multiples_of = |multiple: usize| match samples.is_multiple_of(multiple) {
            true => Ok(()),
            false => Err(EncodeError::Length { codec, samples, multiple }),
        };
        match &mut self.state {
            State::Alaw => payload.extend(pcm.iter().map(|&sample| g711::to_alaw(sample))),
            State::Ulaw => payload.extend(pcm.iter().map(|&sample| g711::to_ulaw(sample))),
            State::Linear(order) => linear::encode(*order, pcm, payload),
            State::G722(encoder) => {
                in_multiples_of(2)?;
                encoder.encode(pcm, payload);
            }
            State::Gsm(encoder) => {
                in_multiples_of(gsm::FRAME_SAMPLES)?;
                for frame in pcm.as_chunks::<{ gsm::FRAME_SAMPLES }>().0 {
                    payload.extend(encoder.encode(frame).pack());
                }
            }
            State::Opus(encoder) => encoder.encode(pcm, payload)?,
        }
        Ok(())
    }
}
