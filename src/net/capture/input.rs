//! Bytes of a capture, and where they stand.

use std::io::{ErrorKind, Read};
use std::ops::Range;

use super::CaptureError;
use crate::media::time::MediaInstant;

/// One captured frame: its bytes are `data` of the reader's buffer.
#[derive(Debug)]
pub(super) struct Frame {
    pub at: MediaInstant,
    pub link: u32,
    pub data: Range<usize>,
}

/// Byte order of a file or section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    /// The number in the 2 bytes at `at`; 0 where there are none.
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let word = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        match self {
            Self::Little => u16::from_le_bytes(word),
            Self::Big => u16::from_be_bytes(word),
        }
    }

    /// The number in the 4 bytes at `at`; 0 where there are none.
    pub(super) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let word = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        match self {
            Self::Little => u32::from_le_bytes(word),
            Self::Big => u32::from_be_bytes(word),
        }
    }

    /// The number in the 8 bytes at `at`; 0 where there are none.
    pub(super) fn u64(self, bytes: &[u8], at: usize) -> u64 {
        let word = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        match self {
            Self::Little => u64::from_le_bytes(word),
            Self::Big => u64::from_be_bytes(word),
        }
    }
}

/// A reader that knows how far it has come.
pub(super) struct Input<R> {
    reader: R,
    offset: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, offset: 0 }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Fill `out` as far as the input goes; returns how far that is.
    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<usize, CaptureError> {
        let mut got = 0;
        while got < out.len() {
            match self.reader.read(&mut out[got..]) {
                Ok(0) => break,
                Ok(n) => {
                    got += n;
                    self.offset += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(CaptureError::Io { offset: self.offset, source }),
            }
        }
        Ok(got)
    }

    /// Fill `out`, or say that the record begun at `start` is incomplete.
    pub(super) fn fill_all(&mut self, out: &mut [u8], start: u64, packets: u64) -> Result<(), CaptureError> {
        if self.fill(out)? < out.len() {
            return Err(CaptureError::Truncated { packets, offset: start });
        }
        Ok(())
    }

    /// Pass over `count` bytes of the record begun at `start`.
    pub(super) fn skip(&mut self, mut count: u64, start: u64, packets: u64) -> Result<(), CaptureError> {
        let mut scrap = [0; 4096];
        while count > 0 {
            let step = count.min(scrap.len() as u64);
            self.fill_all(&mut scrap[..step as usize], start, packets)?;
            count -= step;
        }
        Ok(())
    }
}
