//! Codecs: what Asterisk can send and play, decoded and encoded here.
//!
//! G.711 and linear PCM have no memory: any sample can be decoded by itself ([`Codec::decode`]), straight from the packet
//! into the ring. G.722, GSM and Opus go through a [`Decoder`], in the order in which the packets were sent.

mod decoder;
mod encoder;
pub mod g711;
pub mod g722;
pub mod gsm;
pub mod linear;
pub mod opus;

pub use decoder::{DecodeError, Decoder, Snapshot};
pub use encoder::{EncodeError, Encoder};
use linear::ByteOrder;

use super::time::SampleRate;

/// Longest packet of a codec that has a memory: RFC 3551, 4.2, asks a receiver for 200 ms.
pub const MAX_STATEFUL_SAMPLES: usize = SampleRate::WIDEBAND.hz() as usize / 5;

/// A format that Asterisk can send to an ExternalMedia channel and that is decoded here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 A-law, 8 kHz.
    Alaw,
    /// G.722 at 64 kbit/s: 16 kHz of audio, on an RTP clock of 8 kHz.
    G722,
    /// GSM 06.10 full rate, 8 kHz.
    Gsm,
    /// Opus, decoded to 16 kHz mono; its RTP clock is 48 kHz.
    Opus,
    /// 16-bit linear, 8 kHz, big-endian on RTP.
    Slin,
    /// 16-bit linear, 12 kHz. Receive only over RTP, like all that follow: Asterisk drops them when sent to it.
    Slin12,
    /// 16-bit linear, 16 kHz, big-endian on RTP.
    Slin16,
    /// 16-bit linear, 24 kHz.
    Slin24,
    /// 16-bit linear, 48 kHz.
    Slin48,
    /// G.711 µ-law, 8 kHz.
    Ulaw,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Alaw,
        Self::G722,
        Self::Gsm,
        Self::Opus,
        Self::Slin,
        Self::Slin12,
        Self::Slin16,
        Self::Slin24,
        Self::Slin48,
        Self::Ulaw,
    ];
    /// Those without memory.
    pub const STATELESS: [Self; 7] =
        [Self::Alaw, Self::Slin, Self::Slin12, Self::Slin16, Self::Slin24, Self::Slin48, Self::Ulaw];

    /// Asterisk's name of the format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alaw => "alaw",
            Self::G722 => "g722",
            Self::Gsm => "gsm",
            Self::Opus => "opus",
            Self::Slin => "slin",
            Self::Slin12 => "slin12",
            Self::Slin16 => "slin16",
            Self::Slin24 => "slin24",
            Self::Slin48 => "slin48",
            Self::Ulaw => "ulaw",
        }
    }

    /// The codec that Asterisk calls `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// The payload type in Asterisk's static table, which ExternalMedia uses. Note that 10 is 8 kHz mono there, not
    /// the 44.1 kHz of RFC 3551.
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::Alaw => 8,
            Self::G722 => 9,
            Self::Gsm => 3,
            Self::Opus => 107,
            Self::Slin => 10,
            Self::Slin12 => 122,
            Self::Slin16 => 118,
            Self::Slin24 => 123,
            Self::Slin48 => 126,
            Self::Ulaw => 0,
        }
    }

    /// The codec with that payload type in Asterisk's static table.
    pub fn from_payload_type(payload_type: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.payload_type() == payload_type)
    }

    /// Rate of the decoded PCM.
    pub const fn sample_rate(self) -> SampleRate {
        match self {
            Self::Alaw | Self::Gsm | Self::Slin | Self::Ulaw => SampleRate::NARROWBAND,
            Self::Slin12 => SampleRate::TWELVE,
            Self::G722 | Self::Slin16 => SampleRate::WIDEBAND,
            Self::Opus => opus::RATE,
            Self::Slin24 => SampleRate::TWENTY_FOUR,
            Self::Slin48 => SampleRate::FULLBAND,
        }
    }

    /// Ticks a second of the RTP timestamps: the rate of the PCM, but for G.722 (RFC 3551, 4.5.2) and Opus (RFC 7587, 4.1).
    pub const fn rtp_clock_rate(self) -> u32 {
        match self {
            Self::G722 => 8_000,
            Self::Opus => opus::RTP_CLOCK,
            _ => self.sample_rate().hz(),
        }
    }

    /// Linear PCM of the same rate.
    pub const fn linear(self) -> Self {
        match self {
            Self::Alaw | Self::Gsm | Self::Slin | Self::Ulaw => Self::Slin,
            Self::Slin12 => Self::Slin12,
            Self::G722 | Self::Opus | Self::Slin16 => Self::Slin16,
            Self::Slin24 => Self::Slin24,
            Self::Slin48 => Self::Slin48,
        }
    }

    /// Whether a sample depends on those before it: such a codec needs a [`Decoder`], which takes packets in order.
    pub const fn is_stateful(self) -> bool {
        matches!(self, Self::G722 | Self::Gsm | Self::Opus)
    }

    /// Samples in `payload`; `None` if it is empty, holds no whole number of samples or frames, or more than a second
    /// (200 ms for a codec with memory).
    pub fn samples_in(self, payload: &[u8]) -> Option<usize> {
        let bytes = payload.len();
        let (samples, whole, most) = match self {
            Self::Alaw | Self::Ulaw => (bytes, true, self.sample_rate().hz() as usize),
            Self::G722 => (2 * bytes, true, MAX_STATEFUL_SAMPLES),
            Self::Gsm => {
                let whole = bytes.is_multiple_of(gsm::RTP_BYTES);
                (bytes / gsm::RTP_BYTES * gsm::FRAME_SAMPLES, whole, MAX_STATEFUL_SAMPLES)
            }
            Self::Opus => (opus::samples_in(payload)?, true, MAX_STATEFUL_SAMPLES),
            Self::Slin | Self::Slin12 | Self::Slin16 | Self::Slin24 | Self::Slin48 => {
                (bytes / 2, bytes.is_multiple_of(2), self.sample_rate().hz() as usize)
            }
        };
        (whole && samples > 0 && samples <= most).then_some(samples)
    }

    /// Bytes of payload that `samples` samples take in a codec without memory.
    pub const fn payload_bytes(self, samples: usize) -> usize {
        match self {
            Self::Slin | Self::Slin12 | Self::Slin16 | Self::Slin24 | Self::Slin48 => 2 * samples,
            _ => samples,
        }
    }

    /// Sample `index` of `payload`, as on RTP, of a codec without memory. Panics if the payload holds fewer, or
    /// if the codec [`Codec::is_stateful`].
    #[inline]
    pub fn decode(self, payload: &[u8], index: usize) -> i16 {
        match self {
            Self::Alaw => g711::ALAW[usize::from(payload[index])],
            Self::Ulaw => g711::ULAW[usize::from(payload[index])],
            Self::Slin | Self::Slin12 | Self::Slin16 | Self::Slin24 | Self::Slin48 => {
                linear::sample(ByteOrder::Big, payload, index)
            }
            Self::G722 | Self::Gsm | Self::Opus => panic!("{} needs a Decoder", self.name()),
        }
    }

    /// Append `pcm` to `payload` as a codec without memory puts it on RTP. Panics if the codec [`Codec::is_stateful`].
    pub fn encode(self, pcm: &[i16], payload: &mut Vec<u8>) {
        match self {
            Self::Alaw => payload.extend(pcm.iter().map(|&sample| g711::to_alaw(sample))),
            Self::Ulaw => payload.extend(pcm.iter().map(|&sample| g711::to_ulaw(sample))),
            Self::Slin | Self::Slin12 | Self::Slin16 | Self::Slin24 | Self::Slin48 => {
                linear::encode(ByteOrder::Big, pcm, payload);
            }
            Self::G722 | Self::Gsm | Self::Opus => panic!("{} needs an Encoder", self.name()),
        }
    }
}

#[cfg(test)]
mod tests;
