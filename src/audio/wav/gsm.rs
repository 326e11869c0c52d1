//! GSM 06.10 in WAV files (format 49, "wav49"): two frames in 65 bytes.

use std::io::{Read, Seek, SeekFrom};

use super::WavError;
use super::reader::Located;
use crate::media::codec::gsm::{Decoder, FRAME_SAMPLES, Frame, PAIR_BYTES};

/// The format tag.
pub(in crate::audio) const GSM_TAG: u16 = 49;
const BLOCK_SAMPLES: u64 = 2 * FRAME_SAMPLES as u64;

/// The blocks of such a file, decoded one after the other.
pub(in crate::audio) struct GsmBlocks<R> {
    inner: R,
    decoder: Decoder,
    offset: u64,
    blocks: u64,
    frames: u64,
}

impl<R: Read + Seek> GsmBlocks<R> {
    /// Stand at the first block of what [`super::locate`] found.
    pub(in crate::audio) fn at(mut inner: R, located: &Located) -> Result<Self, WavError> {
        if located.fmt.channels != 1 {
            return Err(located.unsupported());
        }
        let offset = located.offset;
        inner.seek(SeekFrom::Start(offset)).map_err(|source| WavError::Io { offset, source })?;
        let blocks = located.bytes / PAIR_BYTES as u64;
        let all = blocks * BLOCK_SAMPLES;
        // The last block is filled up: how far, only the fact chunk says. One that cuts off more than that is wrong.
        let frames = located.fact.map(u64::from).filter(|&fact| fact <= all && fact + BLOCK_SAMPLES > all);
        Ok(Self { inner, decoder: Decoder::default(), offset, blocks, frames: frames.unwrap_or(all) })
    }

    /// Samples that are left.
    pub(in crate::audio) fn remaining(&self) -> u64 {
        self.frames
    }

    /// Append the next block's samples. `false`: there is none.
    pub(in crate::audio) fn next(&mut self, out: &mut Vec<i16>) -> Result<bool, WavError> {
        if self.blocks == 0 {
            return Ok(false);
        }
        let mut bytes = [0; PAIR_BYTES];
        self.inner.read_exact(&mut bytes).map_err(|source| WavError::Io { offset: self.offset, source })?;
        self.offset += PAIR_BYTES as u64;
        self.blocks -= 1;
        for frame in Frame::unpack_pair(&bytes) {
            let mut pcm = [0; FRAME_SAMPLES];
            self.decoder.decode(&frame, &mut pcm);
            let take = self.frames.min(FRAME_SAMPLES as u64);
            self.frames -= take;
            out.extend_from_slice(&pcm[..take as usize]);
        }
        Ok(true)
    }
}
