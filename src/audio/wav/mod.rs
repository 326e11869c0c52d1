//! RIFF/WAVE: the header that recordings are written with, and a reader for anybody's files.
//!
//! Written: 16-bit PCM behind an 80-byte header whose JUNK chunk has room to become RF64's `ds64` (EBU Tech 3306) when
//! the audio outgrows 4 GiB, so that a header can always be mended in place.
//! Read: what telephony and speech tools leave, with the real length of the file as the only truth about its length.

mod gsm;
mod header;
mod reader;
mod samples;
#[cfg(test)]
mod tests;

use std::io;

pub(super) use gsm::{GSM_TAG, GsmBlocks};
pub(super) use header::{GSM_HEADER_LEN, PLAIN_HEADER_LEN, gsm_header, plain_header};
pub use header::{HEADER_LEN, OwnHeader, header, parse_own};
pub(super) use reader::locate;
pub use reader::{WavFormat, WavReader};
pub use samples::Encoding;

/// What the beginning of a WAV file says of it, and where its audio begins; `None` if more of it is needed to tell. The
/// length means nothing: the rest is still to come.
///
/// # Errors
/// [`WavError`]: not a WAV file, or not one that is read here.
pub fn stream_head(head: &[u8]) -> Result<Option<(WavFormat, usize)>, WavError> {
    /// `RIFF`, a length, `WAVE`.
    const LEAST: usize = 12;
    if head.len() < LEAST {
        return Ok(None);
    }
    match locate(&mut io::Cursor::new(head)) {
        Ok(located) => Ok(Some((located.frames()?, located.offset as usize))),
        Err(WavError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why a WAV file cannot be read. Offsets are bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// The file cannot be opened, or is a folder.
    #[error("cannot be opened: {source}")]
    Open {
        /// What the system said.
        source: io::Error,
    },
    /// Nothing is in it.
    #[error("the file is empty: nothing was recorded, or the copy failed")]
    Empty,
    /// Reading or seeking failed.
    #[error("read at byte {offset} failed: {source}")]
    Io {
        /// Where.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The file does not begin like a WAV file.
    #[error("not a WAV file: byte {offset} should begin `{expected}`; convert it first (`sox IN OUT.wav`)")]
    NotWav {
        /// Where.
        offset: u64,
        /// What belongs there.
        expected: &'static str,
    },
    /// A part that must be there is missing or cut off.
    #[error(
        "the WAV file has no complete `{chunk}` chunk (looked until byte {offset}); it was cut off, copy it again"
    )]
    Missing {
        /// Where the search ended.
        offset: u64,
        /// The chunk.
        chunk: &'static str,
    },
    /// A format that is not read here.
    #[error(
        "WAV format tag {tag:#06x} with {channels} channels of {bits} bits at {rate_hz} Hz (byte {offset}) is not supported; convert it to 16-bit PCM (`sox IN -b 16 -e signed OUT.wav`)"
    )]
    Unsupported {
        /// Where the format is described.
        offset: u64,
        /// `wFormatTag`, or the first two bytes of an extensible file's sub-format.
        tag: u16,
        /// Channels.
        channels: u16,
        /// Bits a sample.
        bits: u16,
        /// Frames a second.
        rate_hz: u32,
    },
}
