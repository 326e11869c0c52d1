//! A reader for anybody's WAV files.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use super::{Encoding, WavError};

/// A WAV file has a handful of chunks; one with more is not one, and is not walked for ever.
const MAX_CHUNKS: usize = 4_096;
const EXTENSIBLE: u16 = 0xfffe;
const SCRATCH: usize = 32 << 10;

/// What a WAV file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WavFormat {
    /// Frames a second, 1..=768 000.
    pub rate_hz: u32,
    /// Interleaved channels, 1..=64.
    pub channels: u16,
    /// How samples are stored.
    pub encoding: Encoding,
    /// Whole frames that are really there.
    pub frames: u64,
    /// Whether the header promised more than is there.
    pub clamped: bool,
}

/// Reads frames as interleaved 16-bit PCM. Lengths in the header are only ever taken to mean less than what is there;
/// nothing is allocated by them.
#[derive(Debug)]
pub struct WavReader<R> {
    inner: R,
    format: WavFormat,
    offset: u64,
    left: u64,
}

impl WavReader<BufReader<File>> {
    /// Open the file at `path`.
    pub fn open(path: &Path) -> Result<Self, WavError> {
        let file = File::open(path).map_err(|source| WavError::Open { source })?;
        // A folder opens like a file, has a length, and fails at the first read.
        if file.metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(WavError::Open { source: ErrorKind::IsADirectory.into() });
        }
        Self::new(BufReader::new(file))
    }
}

impl<R: Read + Seek> WavReader<R> {
    /// Read the chunks up to the audio and stand at the first frame.
    pub fn new(mut inner: R) -> Result<Self, WavError> {
        let located = locate(&mut inner)?;
        Self::at(inner, &located)
    }

    /// Stand at the first frame of what [`locate`] found in `inner`.
    pub(in crate::audio) fn at(mut inner: R, located: &Located) -> Result<Self, WavError> {
        let format = located.frames()?;
        let offset = located.offset;
        inner.seek(SeekFrom::Start(offset)).map_err(|source| WavError::Io { offset, source })?;
        Ok(Self { inner, format, offset, left: format.frames })
    }

    /// What the file holds.
    pub fn format(&self) -> WavFormat {
        self.format
    }

    /// Frames not read yet.
    pub fn remaining(&self) -> u64 {
        self.left
    }

    /// Stand at frame `frame`, or at the end if there are fewer.
    pub fn seek_frame(&mut self, frame: u64) -> Result<(), WavError> {
        let frame = frame.min(self.format.frames);
        let start = self.offset - (self.format.frames - self.left) * self.frame_bytes();
        let offset = start + frame * self.frame_bytes();
        self.inner.seek(SeekFrom::Start(offset)).map_err(|source| WavError::Io { offset, source })?;
        self.offset = offset;
        self.left = self.format.frames - frame;
        Ok(())
    }

    /// Fill `out` with interleaved samples, as many whole frames as fit and are left; returns the frames. 0 is the end.
    pub fn read_frames(&mut self, out: &mut [i16]) -> Result<usize, WavError> {
        let channels = usize::from(self.format.channels);
        let frame_bytes = self.frame_bytes() as usize;
        let wanted = (out.len() / channels).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let mut scratch = [0; SCRATCH];
        let mut done = 0;
        while done < wanted {
            let frames = (wanted - done).min(SCRATCH / frame_bytes);
            let bytes = &mut scratch[..frames * frame_bytes];
            self.inner.read_exact(bytes).map_err(|source| WavError::Io { offset: self.offset, source })?;
            self.format.encoding.decode(bytes, &mut out[done * channels..(done + frames) * channels]);
            self.offset += bytes.len() as u64;
            self.left -= frames as u64;
            done += frames;
        }
        Ok(done)
    }

    /// All frames that are left, interleaved.
    pub fn read_all(&mut self) -> Result<Vec<i16>, WavError> {
        let mut all = Vec::new();
        let mut block = vec![0; 8_192 * usize::from(self.format.channels)];
        loop {
            let frames = self.read_frames(&mut block)?;
            if frames == 0 {
                return Ok(all);
            }
            all.extend_from_slice(&block[..frames * usize::from(self.format.channels)]);
        }
    }

    fn frame_bytes(&self) -> u64 {
        u64::from(self.format.channels) * self.format.encoding.bytes() as u64
    }
}

/// Where a file's audio lies, and how it is described.
#[derive(Clone, Copy, Debug)]
pub(in crate::audio) struct Located {
    pub(in crate::audio) fmt: Fmt,
    /// Samples a channel, from the `fact` chunk that compressed formats have.
    pub(in crate::audio) fact: Option<u32>,
    /// Where the audio begins.
    pub(in crate::audio) offset: u64,
    /// Bytes of it that are really there.
    pub(in crate::audio) bytes: u64,
    /// Whether the header promised more.
    pub(in crate::audio) clamped: bool,
}

/// The `fmt ` chunk.
#[derive(Clone, Copy, Debug)]
pub(in crate::audio) struct Fmt {
    offset: u64,
    pub(in crate::audio) tag: u16,
    pub(in crate::audio) channels: u16,
    pub(in crate::audio) rate_hz: u32,
    bits: u16,
}

impl Located {
    /// The file as one whose frames are all of one size.
    pub(super) fn frames(&self) -> Result<WavFormat, WavError> {
        let Fmt { tag, channels, rate_hz, bits, .. } = self.fmt;
        match Encoding::from_tag(tag, bits) {
            Some(encoding) if (1..=64).contains(&channels) && (1..=768_000).contains(&rate_hz) => {
                let frame = u64::from(channels) * encoding.bytes() as u64;
                Ok(WavFormat {
                    rate_hz,
                    channels,
                    encoding,
                    frames: self.bytes / frame,
                    clamped: self.clamped,
                })
            }
            _ => Err(self.unsupported()),
        }
    }

    pub(in crate::audio) fn unsupported(&self) -> WavError {
        let Fmt { offset, tag, channels, rate_hz, bits } = self.fmt;
        WavError::Unsupported { offset, tag, channels, bits, rate_hz }
    }
}

/// Find the audio of the WAV file `inner`.
pub(in crate::audio) fn locate<R: Read + Seek>(inner: &mut R) -> Result<Located, WavError> {
    let len = inner.seek(SeekFrom::End(0)).map_err(|source| WavError::Io { offset: 0, source })?;
    if len == 0 {
        return Err(WavError::Empty);
    }
    Walk { inner, len }.find_audio()
}

/// The walk over the chunks.
struct Walk<'a, R> {
    inner: &'a mut R,
    len: u64,
}

impl<R: Read + Seek> Walk<'_, R> {
    fn find_audio(&mut self) -> Result<Located, WavError> {
        let riff: [u8; 12] = self.at(0)?.ok_or(WavError::NotWav { offset: 0, expected: "RIFF" })?;
        if !matches!(&riff[..4], b"RIFF" | b"RF64" | b"BW64") {
            return Err(WavError::NotWav { offset: 0, expected: "RIFF" });
        }
        if &riff[8..] != b"WAVE" {
            return Err(WavError::NotWav { offset: 8, expected: "WAVE" });
        }
        let (mut fmt, mut large, mut fact) = (None, None, None);
        let mut offset = 12;
        for _ in 0..MAX_CHUNKS {
            let Some(chunk) = self.at::<8>(offset)? else { break };
            let body = offset + 8;
            let size = u64::from(u32_at(&chunk, 4));
            match &chunk[..4] {
                b"fmt " => fmt = Some(self.fmt(body, size)?),
                b"fact" if size >= 4 => fact = self.at::<4>(body)?.map(|b| u32_at(&b, 0)),
                b"ds64" => large = self.at::<16>(body)?.map(|b| u64_at(&b, 8)),
                b"data" => {
                    let fmt = fmt.ok_or(WavError::Missing { offset, chunk: "fmt " })?;
                    let size = if size == u64::from(u32::MAX) { large.unwrap_or(size) } else { size };
                    let there = self.len - body;
                    // Writers to a pipe leave 0 for "not known"; so does a recorder that was killed before its first update.
                    let unknown = size == 0 && !self.is_chunk(body)?;
                    let bytes = if unknown { there } else { size.min(there) };
                    return Ok(Located { fmt, fact, offset: body, bytes, clamped: size > there });
                }
                _ => {}
            }
            offset = body + size + (size & 1);
        }
        Err(WavError::Missing { offset: offset.min(self.len), chunk: "data" })
    }

    fn fmt(&mut self, offset: u64, size: u64) -> Result<Fmt, WavError> {
        let missing = WavError::Missing { offset, chunk: "fmt " };
        if size < 16 {
            return Err(missing);
        }
        let Some(body) = self.at::<16>(offset)? else { return Err(missing) };
        let mut tag = u16_at(&body, 0);
        if tag == EXTENSIBLE && size >= 40 {
            let Some(sub) = self.at::<2>(offset + 24)? else { return Err(missing) };
            tag = u16_at(&sub, 0);
        }
        let (channels, rate_hz, bits) = (u16_at(&body, 2), u32_at(&body, 4), u16_at(&body, 14));
        Ok(Fmt { offset, tag, channels, rate_hz, bits })
    }

    fn is_chunk(&mut self, offset: u64) -> Result<bool, WavError> {
        Ok(self.at::<8>(offset)?.is_some_and(|chunk| {
            chunk[..4].iter().all(|b| b.is_ascii_alphanumeric() || *b == b' ')
                && offset + 8 + u64::from(u32_at(&chunk, 4)) <= self.len
        }))
    }

    /// The `N` bytes at `offset`, unless the file ends before.
    fn at<const N: usize>(&mut self, offset: u64) -> Result<Option<[u8; N]>, WavError> {
        if offset.saturating_add(N as u64) > self.len {
            return Ok(None);
        }
        self.seek(offset)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(|source| WavError::Io { offset, source })?;
        Ok(Some(bytes))
    }

    fn seek(&mut self, offset: u64) -> Result<(), WavError> {
        self.inner.seek(SeekFrom::Start(offset)).map_err(|source| WavError::Io { offset, source })?;
        Ok(())
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
