//! What can be written.

use std::fmt;
use std::path::Path;

use crate::audio::{Format, Headerless};

/// What can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// 16-bit PCM in WAV, at any rate; of one rate where the name says so (`wav16`).
    Wav {
        /// Samples a second, if the name prescribes them.
        rate_hz: Option<u32>,
    },
    /// GSM 06.10 in WAV (Asterisk's `wav49`), mono at 8 kHz.
    Wav49,
    /// Codes and nothing else, mono.
    Headerless(Headerless),
    /// Opus in Ogg.
    OggOpus,
}

/// A name that stands for no kind that is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is no kind of audio that is written here; there are wav, wav16, wav49, ulaw, alaw, gsm, g722, sln, sln12, sln16, sln24, \
     sln32, sln44, sln48, sln96, sln192, opus and ogg"
)]
pub struct UnknownTarget {
    /// As given.
    pub name: String,
}

/// Rates that a WAV file is read back at, and those that linear samples are written at.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=384_000;
/// Rates that libopus takes; what is written is read back at the last.
const OPUS_RATES: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];
pub(super) const OPUS_HZ: u32 = 48_000;

impl Target {
    /// The kind with that name: an extension, as Asterisk names its formats.
    ///
    /// # Errors
    /// [`UnknownTarget`], for kinds that are only read as well.
    pub fn of_name(name: &str) -> Result<Self, UnknownTarget> {
        let name = name.trim_start_matches('.').to_ascii_lowercase();
        match name.as_str() {
            "wav16" => return Ok(Self::Wav { rate_hz: Some(16_000) }),
            "wav49" => return Ok(Self::Wav49),
            _ => {}
        }
        match Format::of_name(&Path::new("audio").with_extension(&name)) {
            Some(Format::Wav) => Ok(Self::Wav { rate_hz: None }),
            Some(Format::OggOpus) => Ok(Self::OggOpus),
            Some(Format::Headerless(kind)) => Ok(Self::Headerless(kind)),
            Some(Format::Flac | Format::Mp3) | None => Err(UnknownTarget { name }),
        }
    }

    /// The kind that a file of this name should have.
    ///
    /// # Errors
    /// [`UnknownTarget`].
    pub fn of_path(path: &Path) -> Result<Self, UnknownTarget> {
        Self::of_name(&path.extension().unwrap_or_default().to_string_lossy())
    }

    /// The extension that Asterisk finds it by.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Wav { rate_hz: Some(_) } => "wav16",
            Self::Wav { rate_hz: None } => "wav",
            Self::Wav49 => "wav49",
            Self::Headerless(kind) => kind.extension(),
            Self::OggOpus => "opus",
        }
    }

    /// Whether it has one channel only.
    pub(super) const fn is_mono(self) -> bool {
        matches!(self, Self::Wav49 | Self::Headerless(_))
    }

    /// The one rate that it has, if it has one.
    const fn only_rate(self) -> Option<u32> {
        match self {
            Self::Wav { rate_hz } => rate_hz,
            Self::Wav49 => Some(8_000),
            Self::Headerless(kind) => Some(kind.rate_hz()),
            Self::OggOpus => None,
        }
    }

    pub(super) fn takes(self, hz: u32) -> bool {
        match self.only_rate() {
            Some(only) => hz == only,
            None if self == Self::OggOpus => OPUS_RATES.contains(&hz),
            None => RATES.contains(&hz),
        }
    }

    /// The rate at which a source of `hz` is written unless somebody says.
    pub fn rate_for(self, hz: u32) -> u32 {
        match self.only_rate() {
            Some(only) => only,
            None if self == Self::OggOpus && !OPUS_RATES.contains(&hz) => OPUS_HZ,
            None => hz,
        }
    }

    /// What it is to a reader.
    pub const fn format(self, rate_hz: u32) -> Format {
        match self {
            Self::Wav { .. } | Self::Wav49 => Format::Wav,
            Self::Headerless(Headerless::Linear(_)) => Format::Headerless(Headerless::Linear(rate_hz)),
            Self::Headerless(kind) => Format::Headerless(kind),
            Self::OggOpus => Format::OggOpus,
        }
    }

    /// Frames that a reader finds where `frames` were written at `rate_hz`: codecs with frames fill up their last one, where
    /// nothing in the file says how far.
    pub(super) fn frames_read_back(self, frames: u64, rate_hz: u32) -> u64 {
        match self {
            Self::Wav { .. } | Self::Wav49 => frames,
            Self::Headerless(Headerless::Gsm) => frames.next_multiple_of(160),
            Self::Headerless(Headerless::G722) => frames.next_multiple_of(2),
            Self::Headerless(_) => frames,
            Self::OggOpus => frames * u64::from(OPUS_HZ / rate_hz),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wav { rate_hz: Some(hz) } => write!(f, "WAV at {hz} Hz"),
            Self::Wav49 => f.write_str("GSM in WAV"),
            Self::Wav { rate_hz: None } => Format::Wav.fmt(f),
            Self::Headerless(kind) => Format::Headerless(*kind).fmt(f),
            Self::OggOpus => Format::OggOpus.fmt(f),
        }
    }
}
