//! Audio files of any kind as 16-bit PCM, a piece at a time.
//!
//! [`AudioFile`] tells by its contents what a file is, and by its name where the contents do not say; [`PcmSource`] is what is left
//! of the difference. Memory is bounded whatever a file claims: at most a packet, a page or a block of it is held, and nothing is
//! allocated by a length that a header promises. Files that end too early, or have pieces that cannot be decoded, give what there
//! is, in its place, and [`Flaws`].
//!
//! | file | read by |
//! |---|---|
//! | WAV, RF64: PCM of any width, float, A-law, µ-law, GSM 06.10 | [`wav`] |
//! | FLAC, MP3 | symphonia, behind metadata that is skipped here |
//! | Opus in Ogg | pages here, packets by libopus |
//! | no header: `.ulaw` `.alaw` `.gsm` `.g722` `.sln` … `.sln192`, as Asterisk names them | [`crate::media::codec`] |

pub mod convert;
mod error;
mod file;
mod format;
mod memory;
mod ogg;
mod packets;
mod raw;
#[cfg(test)]
mod tests;
pub mod wav;

pub use error::AudioError;
pub use file::{AudioFile, Input, Limits};
pub use format::{Format, Headerless};
pub use memory::Samples;

/// What a source's samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcmSpec {
    /// Frames a second.
    pub rate_hz: u32,
    /// Interleaved channels, 1..=64.
    pub channels: u16,
}

/// Where PCM comes from, piece by piece.
pub trait PcmSource {
    /// What the samples are.
    fn spec(&self) -> PcmSpec;

    /// Fill `out` with interleaved samples, whole frames of them; returns the frames. 0 is the end, if `out` has room for one.
    ///
    /// # Errors
    /// [`AudioError`], after which there is no more.
    fn read(&mut self, out: &mut [i16]) -> Result<usize, AudioError>;

    /// The share of the source that has been read, 0 to 1.
    fn share(&self) -> f64;
}

/// What is wrong with a file that could be read all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flaws {
    /// Packets, frames or pages that could not be decoded; where their length is known there is silence in their place.
    pub damaged: u64,
    /// The file ends before what it says of itself.
    pub cut_off: bool,
}

/// A decoder, of a file that is open.
trait Decode: Send {
    /// Append the next samples, interleaved. `false`: that was all.
    fn decode(&mut self, out: &mut Vec<i16>) -> Result<bool, AudioError>;

    /// What was wrong so far.
    fn flaws(&self) -> Flaws;
}
