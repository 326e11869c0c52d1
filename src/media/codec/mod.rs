//! The codecs that cost nothing: 16-bit linear and both laws of G.711.

pub mod g711;

use super::time::SampleRate;

/// A format that Asterisk can send to an ExternalMedia channel and that is decoded here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 A-law, 8 kHz.
    Alaw,
    /// 16-bit linear, 8 kHz, big-endian on RTP.
    Slin,
    /// 16-bit linear, 16 kHz, big-endian on RTP. Receive only: Asterisk drops it when sent to it over RTP.
    Slin16,
    /// G.711 µ-law, 8 kHz.
    Ulaw,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Alaw, Self::Slin, Self::Slin16, Self::Ulaw];

    /// Asterisk's name of the format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alaw => "alaw",
            Self::Slin => "slin",
            Self::Slin16 => "slin16",
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
            Self::Slin => 10,
            Self::Slin16 => 118,
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
            Self::Slin16 => SampleRate::WIDEBAND,
            _ => SampleRate::NARROWBAND,
        }
    }

    /// Ticks a second of the RTP timestamps.
    pub const fn rtp_clock_rate(self) -> u32 {
        self.sample_rate().hz()
    }

    /// Bytes of a sample.
    pub const fn bytes_per_sample(self) -> usize {
        match self {
            Self::Alaw | Self::Ulaw => 1,
            Self::Slin | Self::Slin16 => 2,
        }
    }

    /// Samples in a payload of `bytes` bytes; `None` if it is empty, holds half a sample, or more than a second.
    pub fn samples_in(self, bytes: usize) -> Option<usize> {
        let size = self.bytes_per_sample();
        let samples = bytes / size;
        (bytes.is_multiple_of(size) && samples > 0 && samples <= self.sample_rate().hz() as usize)
            .then_some(samples)
    }

    /// Sample `index` of `payload`. Panics if the payload holds fewer.
    #[inline]
    pub fn decode(self, payload: &[u8], index: usize) -> i16 {
        match self {
            Self::Alaw => g711::ALAW[usize::from(payload[index])],
            Self::Ulaw => g711::ULAW[usize::from(payload[index])],
            Self::Slin | Self::Slin16 => i16::from_be_bytes([payload[2 * index], payload[2 * index + 1]]),
        }
    }

    /// Append `pcm` to `payload` as this codec puts it on RTP.
    pub fn encode(self, pcm: &[i16], payload: &mut Vec<u8>) {
        match self {
            Self::Alaw => payload.extend(pcm.iter().map(|&sample| g711::to_alaw(sample))),
            Self::Ulaw => payload.extend(pcm.iter().map(|&sample| g711::to_ulaw(sample))),
            Self::Slin | Self::Slin16 => payload.extend(pcm.iter().flat_map(|sample| sample.to_be_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_payload_types_are_asterisks() {
        for (name, payload_type, rate) in
            [("ulaw", 0, 8_000), ("alaw", 8, 8_000), ("slin", 10, 8_000), ("slin16", 118, 16_000)]
        {
            let codec = Codec::from_name(name).unwrap();
            assert_eq!(codec.payload_type(), payload_type);
            assert_eq!(Codec::from_payload_type(payload_type), Some(codec));
            assert_eq!(codec.sample_rate().hz(), rate);
        }
        assert_eq!(Codec::from_name("opus"), None);
    }

    #[test]
    fn linear_is_big_endian_on_rtp() {
        let mut payload = Vec::new();
        Codec::Slin.encode(&[0x1234, -2], &mut payload);
        assert_eq!(payload, [0x12, 0x34, 0xff, 0xfe]);
        assert_eq!(Codec::Slin16.decode(&payload, 1), -2);
    }

    #[test]
    fn impossible_lengths_are_refused() {
        assert_eq!(Codec::Slin.samples_in(321), None);
        assert_eq!(Codec::Ulaw.samples_in(0), None);
        assert_eq!(Codec::Ulaw.samples_in(8_001), None);
        assert_eq!(Codec::Slin16.samples_in(640), Some(320));
    }
}
