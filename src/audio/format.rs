//! What a file is.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::AudioError;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RIFF/WAVE, RF64.
    Wav,
    /// FLAC.
    Flac,
    /// MPEG audio, layer 3.
    Mp3,
    /// Opus in Ogg.
    OggOpus,
    /// Codes and nothing else.
    Headerless(Headerless),
}

/// A file of codes and nothing else, always mono.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headerless {
    /// G.711 µ-law, 8 kHz.
    Ulaw,
    /// G.711 A-law, 8 kHz.
    Alaw,
    /// GSM 06.10, frames of 33 bytes.
    Gsm,
    /// G.722 at 64 kbit/s.
    G722,
    /// 16-bit little-endian PCM of so many samples a second.
    Linear(u32),
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wav => f.write_str("WAV"),
            Self::Flac => f.write_str("FLAC"),
            Self::Mp3 => f.write_str("MP3"),
            Self::OggOpus => f.write_str("Opus in Ogg"),
            Self::Headerless(Headerless::Ulaw) => f.write_str("µ-law"),
            Self::Headerless(Headerless::Alaw) => f.write_str("A-law"),
            Self::Headerless(Headerless::Gsm) => f.write_str("GSM 06.10"),
            Self::Headerless(Headerless::G722) => f.write_str("G.722"),
            Self::Headerless(Headerless::Linear(hz)) => write!(f, "linear PCM at {hz} Hz"),
        }
    }
}

impl Headerless {
    /// The extension that Asterisk finds it by.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Ulaw => "ulaw",
            Self::Alaw => "alaw",
            Self::Gsm => "gsm",
            Self::G722 => "g722",
            Self::Linear(12_000) => "sln12",
            Self::Linear(16_000) => "sln16",
            Self::Linear(24_000) => "sln24",
            Self::Linear(32_000) => "sln32",
            Self::Linear(44_100) => "sln44",
            Self::Linear(48_000) => "sln48",
            Self::Linear(96_000) => "sln96",
            Self::Linear(192_000) => "sln192",
            Self::Linear(_) => "sln",
        }
    }
}

impl Format {
    /// The format that files of this name have, by its extension, if that says one.
    pub fn of_name(name: &Path) -> Option<Self> {
        let extension = name.extension()?.to_str()?.to_ascii_lowercase();
        let linear = |hz| Some(Self::Headerless(Headerless::Linear(hz)));
        match extension.as_str() {
            "wav" | "wave" | "wav16" | "wav49" => Some(Self::Wav),
            "flac" => Some(Self::Flac),
            "mp3" | "mpga" | "mpeg" => Some(Self::Mp3),
            "ogg" | "oga" | "opus" => Some(Self::OggOpus),
            "ulaw" | "ul" | "ulw" | "mu" | "mulaw" => Some(Self::Headerless(Headerless::Ulaw)),
            "alaw" | "al" | "alw" => Some(Self::Headerless(Headerless::Alaw)),
            "gsm" => Some(Self::Headerless(Headerless::Gsm)),
            "g722" => Some(Self::Headerless(Headerless::G722)),
            // The names of Asterisk's format_sln; `.raw` and `.pcm` mean too many things.
            "sln" | "slin" => linear(8_000),
            "sln44" | "slin44" => linear(44_100),
            name => {
                let thousands = name.strip_prefix("sln").or_else(|| name.strip_prefix("slin"))?;
                [12, 16, 24, 32, 48, 96, 192]
                    .into_iter()
                    .find(|hz| thousands == hz.to_string())
                    .and_then(|hz| linear(hz * 1_000))
            }
        }
    }

    /// What `input`, of `length` bytes, is, and where its audio's own format begins: behind ID3 tags. `hint` decides where the contents
    /// do not.
    pub(super) fn sniff<R: Read + Seek>(
        input: &mut R,
        length: u64,
        hint: Option<Self>,
    ) -> Result<(Self, u64), AudioError> {
        let begin = behind_tags(input, length)?;
        let head: [u8; 12] = at(input, begin)?;
        if let Some(what) = known_elsewhere(&head) {
            return Err(AudioError::Unsupported { what: what.to_owned() });
        }
        let format = match &head[..4] {
            b"fLaC" => Self::Flac,
            b"RIFF" | b"RF64" | b"BW64" => Self::Wav,
            b"OggS" => Self::OggOpus,
            _ => match hint {
                Some(named @ (Self::Headerless(_) | Self::Mp3)) => named,
                _ if begin > 0 || is_mpeg(input, begin)? => Self::Mp3,
                _ if is_gsm(input, length)? => Self::Headerless(Headerless::Gsm),
                _ => return Err(AudioError::Unknown),
            },
        };
        Ok((format, begin))
    }
}

/// Kinds that people do send, so that the refusal can name them.
fn known_elsewhere(head: &[u8; 12]) -> Option<&'static str> {
    match head {
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some("MP4 (M4A)"),
        [0x1a, 0x45, 0xdf, 0xa3, ..] => Some("Matroska (WebM)"),
        [b'F', b'O', b'R', b'M', _, _, _, _, b'A', b'I', b'F', ..] => Some("AIFF"),
        [b'.', b's', b'n', b'd', ..] => Some("Sun audio (.au)"),
        [b'#', b'!', b'A', b'M', b'R', ..] => Some("AMR"),
        [b'c', b'a', b'f', b'f', ..] => Some("CAF"),
        _ => None,
    }
}

/// An ID3v2 tag at the front of a file is skipped, not read: pictures are no business of ours. More than a few are no tags.
const MOST_TAGS: usize = 8;

fn behind_tags<R: Read + Seek>(input: &mut R, length: u64) -> io::Result<u64> {
    let mut begin = 0;
    for _ in 0..MOST_TAGS {
        let head: [u8; 10] = at(input, begin)?;
        if !head.starts_with(b"ID3") || head[6..].iter().any(|byte| byte & 0x80 != 0) {
            break;
        }
        // ID3v2.4, 3.1: seven bits a byte; the header's ten bytes do not count, nor those of a footer.
        let body = head[6..].iter().fold(0, |size, &byte| size << 7 | u64::from(byte));
        let footer = if head[5] & 0x10 != 0 { 10 } else { 0 };
        begin = (begin + 10 + body + footer).min(length);
    }
    Ok(begin)
}

/// Whether two frames of layer 3 follow each other at `begin`.
fn is_mpeg<R: Read + Seek>(input: &mut R, begin: u64) -> io::Result<bool> {
    let Some(size) = mpeg_frame(at(input, begin)?) else { return Ok(false) };
    Ok(mpeg_frame(at(input, begin + size)?).is_some())
}

/// The length of the MPEG frame (layer 3) that `head` begins, in bytes (ISO/IEC 11172-3, 2.4.1.3 and 2.4.3.1).
fn mpeg_frame(head: [u8; 4]) -> Option<u64> {
    const KBITS: [[u64; 16]; 2] = [
        [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0],
        [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0],
    ];
    const HZ: [u64; 4] = [44_100, 48_000, 32_000, 0];
    let version = head[1] >> 3 & 3;
    if head[0] != 0xff || head[1] & 0xe0 != 0xe0 || version == 1 || head[1] >> 1 & 3 != 1 {
        return None;
    }
    let (first, slower) = (
        version == 3,
        match version {
            3 => 1,
            2 => 2,
            _ => 4,
        },
    );
    let kbits = KBITS[usize::from(!first)][usize::from(head[2] >> 4)];
    let hz = HZ[usize::from(head[2] >> 2 & 3)] / slower;
    let padding = u64::from(head[2] >> 1 & 1);
    (kbits > 0 && hz > 0).then(|| if first { 144 } else { 72 } * kbits * 1_000 / hz + padding)
}

/// Frames that have to bear the signature for a file without a name to be GSM: by chance, one in 16^8 would.
const GSM_FRAMES: usize = 8;

fn is_gsm<R: Read + Seek>(input: &mut R, length: u64) -> io::Result<bool> {
    const BYTES: usize = crate::media::codec::gsm::RTP_BYTES;
    let head: [u8; GSM_FRAMES * BYTES] = at(input, 0)?;
    Ok(length >= head.len() as u64 && head.chunks_exact(BYTES).all(|frame| frame[0] >> 4 == 0xd))
}

/// The bytes at `offset`; zeros behind the end.
fn at<const N: usize, R: Read + Seek>(input: &mut R, offset: u64) -> io::Result<[u8; N]> {
    input.seek(SeekFrom::Start(offset))?;
    let mut bytes = [0; N];
    fill(input, &mut bytes)?;
    Ok(bytes)
}

/// Read until `bytes` is full or the input ends; returns how many came.
pub(super) fn fill(input: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match input.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
