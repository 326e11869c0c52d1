//! The file of an open recording: `<call>.wav.part`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::interleave::FRAME_BYTES;
use super::wav::{HEADER_LEN, OwnHeader, header, parse_own};
use crate::files;

const CHANNELS: u16 = 2;

/// `<call>.wav.part` for `<call>.wav`.
pub fn part_path(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

/// An open recording on disk. Frames are appended at explicit offsets: a failed write never moves later ones.
#[derive(Debug)]
pub struct PartFile {
    file: File,
    path: PathBuf,
    rate_hz: u32,
    frames: u64,
    /// Frames behind those, which are written again when they are certain.
    ahead: u64,
    header_frames: u64,
}

/// A file that was sealed: whole frames, and a header that says so.
#[derive(Debug)]
pub struct Sealed {
    /// Where it is now.
    pub path: PathBuf,
    /// Stereo frames.
    pub frames: u64,
    /// Of the whole file, lower-case hexadecimal.
    pub sha256: String,
}

impl PartFile {
    /// Make the part file of recording `path`, and the folders on its way.
    pub fn create(path: &Path, rate_hz: u32) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let part = part_path(path);
        let file = files::private().read(true).write(true).create_new(true).open(&part)?;
        let mut part = Self { file, path: part, rate_hz, frames: 0, ahead: 0, header_frames: u64::MAX };
        part.write_header()?;
        Ok(part)
    }

    /// Open an existing part file: its length gives the frames, a torn one is cut off. `fallback_hz` is the rate where the
    /// header is no header; `None` then refuses the file ([`io::ErrorKind::InvalidData`]).
    pub fn open(part: PathBuf, fallback_hz: Option<u32>) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).open(&part)?;
        let mut head = Vec::with_capacity(HEADER_LEN);
        (&mut file).take(HEADER_LEN as u64).read_to_end(&mut head)?;
        let rate_hz = match (parse_own(&head), fallback_hz) {
            (Some(OwnHeader { rate_hz, channels: CHANNELS }), _) => rate_hz,
            (_, Some(rate_hz)) => rate_hz,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "no header of a recording")),
        };
        let mut part = Self { file, path: part, rate_hz, frames: 0, ahead: 0, header_frames: u64::MAX };
        part.frames = part.whole_frames()?;
        part.cut()?;
        Ok(part)
    }

    /// Frames a second.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Frames written.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Frames written, those ahead included.
    pub fn end(&self) -> u64 {
        self.frames + self.ahead
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, for telling the system to keep it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Append whole frames.
    pub fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        self.file.write_all_at(frames, offset_of(self.frames))?;
        let count = (frames.len() / FRAME_BYTES) as u64;
        self.frames += count;
        self.ahead = self.ahead.saturating_sub(count);
        Ok(())
    }

    /// Write whole frames from frame `first` on, behind those appended, for the case of a crash: what is appended next takes
    /// their place. `first` is not behind [`PartFile::end`].
    pub fn write_ahead(&mut self, first: u64, frames: &[u8]) -> io::Result<()> {
        self.file.write_all_at(frames, offset_of(first))?;
        let end = first + (frames.len() / FRAME_BYTES) as u64;
        self.ahead = self.ahead.max(end.saturating_sub(self.frames));
        Ok(())
    }

    /// Keep only the first `frames` frames. The rest goes when the file is settled.
    pub fn shorten(&mut self, frames: u64) {
        self.frames = self.frames.min(frames);
        self.ahead = 0;
    }

    /// Bring the header up to the frames written, those ahead included, if it is not.
    pub fn write_header(&mut self) -> io::Result<()> {
        let frames = self.end();
        if self.header_frames != frames {
            let header = header(self.rate_hz, CHANNELS, frames * FRAME_BYTES as u64);
            self.file.write_all_at(&header, 0)?;
            self.header_frames = frames;
        }
        Ok(())
    }

    /// Whether the file was deleted.
    pub fn has_vanished(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() == 0)
    }

    /// Cut off a torn frame, and what was only written ahead, bring the header up to date and make it all durable.
    pub fn settle(&mut self) -> Result<(), (&'static str, io::Error)> {
        self.ahead = 0;
        self.cut().map_err(|e| ("cut off a torn frame", e))?;
        self.write_header().map_err(|e| ("write the header", e))?;
        self.file.sync_data().map_err(|e| ("sync the file", e))
    }

    /// SHA-256 of the whole file. The header, which comes first, is known last: hence a second reading.
    pub fn sha256(&self) -> io::Result<String> {
        let mut hash = Sha256::new();
        let mut block = vec![0; 256 << 10];
        let mut offset = 0;
        loop {
            let read = self.file.read_at(&mut block, offset)?;
            if read == 0 {
                return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
            }
            hash.update(&block[..read]);
            offset += read as u64;
        }
    }

    /// Settle, hash, and rename to `path`, durably.
    pub fn seal(mut self, path: &Path) -> Result<Sealed, (&'static str, io::Error)> {
        self.settle()?;
        let sha256 = self.sha256().map_err(|e| ("hash the file", e))?;
        files::rename_durably(&self.path, path).map_err(|e| ("rename the file", e))?;
        Ok(Sealed { path: path.to_owned(), frames: self.frames, sha256 })
    }

    fn cut(&self) -> io::Result<()> {
        let length = offset_of(self.frames);
        if self.file.metadata()?.len() > length { self.file.set_len(length) } else { Ok(()) }
    }

    fn whole_frames(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len().saturating_sub(HEADER_LEN as u64) / FRAME_BYTES as u64)
    }
}

fn offset_of(frame: u64) -> u64 {
    HEADER_LEN as u64 + frame * FRAME_BYTES as u64
}
