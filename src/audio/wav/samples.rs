//! Sample encodings of WAV files, to 16-bit PCM.

use crate::media::codec::g711;

/// How a WAV file stores a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// 8 bits, unsigned around 128.
    Pcm8,
    /// 16 bits, signed.
    Pcm16,
    /// 24 bits, signed; the low 8 are cut off.
    Pcm24,
    /// 32 bits, signed; the low 16 are cut off.
    Pcm32,
    /// 64 bits, signed; the low 48 are cut off.
    Pcm64,
    /// 32-bit float, full scale 1.0.
    Float32,
    /// 64-bit float, full scale 1.0.
    Float64,
    /// ITU-T G.711 A-law.
    Alaw,
    /// ITU-T G.711 µ-law.
    Ulaw,
}

impl Encoding {
    /// The encoding of format tag `tag` with `bits` bits a sample, if it is read here. PCM of odd widths fills whole bytes,
    /// from the highest bit down.
    pub const fn from_tag(tag: u16, bits: u16) -> Option<Self> {
        match (tag, bits) {
            (1, 1..=8) => Some(Self::Pcm8),
            (1, 9..=16) => Some(Self::Pcm16),
            (1, 17..=24) => Some(Self::Pcm24),
            (1, 25..=32) => Some(Self::Pcm32),
            (1, 64) => Some(Self::Pcm64),
            (3, 32) => Some(Self::Float32),
            (3, 64) => Some(Self::Float64),
            (6, 8) => Some(Self::Alaw),
            (7, 8) => Some(Self::Ulaw),
            _ => None,
        }
    }

    /// Bytes a sample.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Pcm8 | Self::Alaw | Self::Ulaw => 1,
            Self::Pcm16 => 2,
            Self::Pcm24 => 3,
            Self::Pcm32 | Self::Float32 => 4,
            Self::Pcm64 | Self::Float64 => 8,
        }
    }

    /// Decode as many samples as both slices hold.
    pub fn decode(self, bytes: &[u8], out: &mut [i16]) {
        match self {
            Self::Pcm8 => each(bytes, out, |[b]: [u8; 1]| (i16::from(b) - 128) << 8),
            Self::Pcm16 => each(bytes, out, i16::from_le_bytes),
            Self::Pcm24 => each(bytes, out, |[_, lo, hi]: [u8; 3]| i16::from_le_bytes([lo, hi])),
            Self::Pcm32 => each(bytes, out, |[_, _, lo, hi]: [u8; 4]| i16::from_le_bytes([lo, hi])),
            Self::Pcm64 => each(bytes, out, |b: [u8; 8]| (i64::from_le_bytes(b) >> 48) as i16),
            Self::Float32 => each(bytes, out, |b| scale(f64::from(f32::from_le_bytes(b)))),
            Self::Float64 => each(bytes, out, |b| scale(f64::from_le_bytes(b))),
            Self::Alaw => each(bytes, out, |[b]: [u8; 1]| g711::ALAW[usize::from(b)]),
            Self::Ulaw => each(bytes, out, |[b]: [u8; 1]| g711::ULAW[usize::from(b)]),
        }
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [i16], decode: impl Fn([u8; N]) -> i16) {
    for (sample, bytes) in out.iter_mut().zip(bytes.chunks_exact(N)) {
        let mut raw = [0; N];
        raw.copy_from_slice(bytes);
        *sample = decode(raw);
    }
}

/// A cast saturates, and takes NaN to 0.
fn scale(value: f64) -> i16 {
    (value * 32_768.0).round() as i16
}
