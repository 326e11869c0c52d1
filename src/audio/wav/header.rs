//! The 80-byte header of recordings.

/// Bytes before the first sample.
pub const HEADER_LEN: usize = 80;

/// `ds64` without a table: three 64-bit sizes and an entry count.
const DS64_LEN: u32 = 28;
const IN_DS64: u32 = u32::MAX;

/// The header of `data_bytes` bytes of 16-bit PCM, `channels` interleaved. RIFF with a JUNK chunk while all sizes fit in
/// 32 bits, RF64 with `ds64` in JUNK's place from there on.
pub fn header(rate_hz: u32, channels: u16, data_bytes: u64) -> [u8; HEADER_LEN] {
    let block = channels * 2;
    let riff_bytes = data_bytes + HEADER_LEN as u64 - 8;
    let large = riff_bytes > u64::from(u32::MAX);
    let mut out = Out { bytes: [0; HEADER_LEN], at: 0 };

    out.put(if large { b"RF64" } else { b"RIFF" });
    out.u32(if large { IN_DS64 } else { riff_bytes as u32 });
    out.put(b"WAVE");

    out.put(if large { b"ds64" } else { b"JUNK" });
    out.u32(DS64_LEN);
    let frames = data_bytes / u64::from(block.max(1));
    for size in [riff_bytes, data_bytes, frames] {
        out.put(&if large { size } else { 0 }.to_le_bytes());
    }
    out.u32(0);

    out.put(b"fmt ");
    out.u32(16);
    out.u16(1);
    out.u16(channels);
    out.u32(rate_hz);
    out.u32(rate_hz * u32::from(block));
    out.u16(block);
    out.u16(16);

    out.put(b"data");
    out.u32(if large { IN_DS64 } else { data_bytes as u32 });
    out.bytes
}

/// Bytes before the first sample of [`plain_header`].
pub(in crate::audio) const PLAIN_HEADER_LEN: usize = 44;
/// Bytes before the first block of [`gsm_header`].
pub(in crate::audio) const GSM_HEADER_LEN: usize = 60;

/// The oldest of headers, which every program reads: Asterisk's format_wav wants `fmt ` right behind `WAVE`.
pub(in crate::audio) fn plain_header(rate_hz: u32, channels: u16, data_bytes: u32) -> [u8; PLAIN_HEADER_LEN] {
    let block = channels * 2;
    let mut out = Out { bytes: [0; PLAIN_HEADER_LEN], at: 0 };
    out.put(b"RIFF");
    out.u32(data_bytes + PLAIN_HEADER_LEN as u32 - 8);
    out.put(b"WAVEfmt ");
    out.u32(16);
    out.u16(1);
    out.u16(channels);
    out.u32(rate_hz);
    out.u32(rate_hz * u32::from(block));
    out.u16(block);
    out.u16(16);
    out.put(b"data");
    out.u32(data_bytes);
    out.bytes
}

/// The header of GSM 06.10 in WAV, as Asterisk's format_wav_gsm writes and wants it: blocks of two frames in 65 bytes.
pub(in crate::audio) fn gsm_header(samples: u32, data_bytes: u32) -> [u8; GSM_HEADER_LEN] {
    let mut out = Out { bytes: [0; GSM_HEADER_LEN], at: 0 };
    out.put(b"RIFF");
    out.u32(data_bytes + data_bytes % 2 + GSM_HEADER_LEN as u32 - 8);
    out.put(b"WAVEfmt ");
    out.u32(20);
    out.u16(super::GSM_TAG);
    out.u16(1);
    out.u32(8_000);
    // 25 blocks a second.
    out.u32(1_625);
    out.u16(65);
    out.u16(0);
    out.u16(2);
    out.u16(320);
    out.put(b"fact");
    out.u32(4);
    out.u32(samples);
    out.put(b"data");
    out.u32(data_bytes);
    out.bytes
}

/// What a header made by [`header`] says of the samples. Its lengths are not believed, hence not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnHeader {
    /// Frames a second.
    pub rate_hz: u32,
    /// Interleaved channels.
    pub channels: u16,
}

/// Recognise a header made by [`header`], whatever lengths it holds.
pub fn parse_own(bytes: &[u8]) -> Option<OwnHeader> {
    let bytes: &[u8; HEADER_LEN] = bytes.get(..HEADER_LEN)?.try_into().ok()?;
    let channels = u16::from_le_bytes([bytes[58], bytes[59]]);
    let rate_hz = u32::from_le_bytes([bytes[60], bytes[61], bytes[62], bytes[63]]);
    if !(1..=2).contains(&channels) || !(1..=192_000).contains(&rate_hz) {
        return None;
    }
    let small = header(rate_hz, channels, 0);
    let large = header(rate_hz, channels, u64::from(u32::MAX));
    let like = |model: &[u8; HEADER_LEN]| {
        let sizes = |i: usize| matches!(i, 4..8 | 20..44 | 76..80);
        (0..HEADER_LEN).all(|i| sizes(i) || bytes[i] == model[i])
    };
    (like(&small) || like(&large)).then_some(OwnHeader { rate_hz, channels })
}

struct Out<const LEN: usize> {
    bytes: [u8; LEN],
    at: usize,
}

impl<const LEN: usize> Out<LEN> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
}
