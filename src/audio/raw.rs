//! Files without a header.

use std::io::Read;

use super::format::fill;
use super::{AudioError, Decode, Flaws, Format, Headerless};
use crate::media::codec::{g711, g722, gsm};

/// Bytes decoded at a time: whole units of all of them.
const PIECE: usize = 33 * 256;

/// A decoder of such a file.
pub(super) struct Raw<R> {
    input: R,
    state: State,
    flaws: Flaws,
    begun: bool,
}

enum State {
    Table(&'static [i16; 256]),
    Linear,
    G722(Box<g722::Decoder>),
    Gsm(Box<gsm::Decoder>),
}

impl Headerless {
    /// Samples a second.
    pub(super) const fn rate_hz(self) -> u32 {
        match self {
            Self::Ulaw | Self::Alaw | Self::Gsm => 8_000,
            Self::G722 => 16_000,
            Self::Linear(hz) => hz,
        }
    }

    /// Samples in a file of `bytes`.
    pub(super) const fn samples_in(self, bytes: u64) -> u64 {
        match self {
            Self::Ulaw | Self::Alaw => bytes,
            Self::Gsm => bytes / gsm::RTP_BYTES as u64 * gsm::FRAME_SAMPLES as u64,
            Self::G722 => bytes * 2,
            Self::Linear(_) => bytes / 2,
        }
    }
}

impl<R: Read> Raw<R> {
    /// What stands at `input`, as `kind`.
    pub(super) fn new(input: R, kind: Headerless) -> Self {
        let state = match kind {
            Headerless::Ulaw => State::Table(&g711::ULAW),
            Headerless::Alaw => State::Table(&g711::ALAW),
            Headerless::Gsm => State::Gsm(Box::default()),
            Headerless::G722 => State::G722(Box::default()),
            Headerless::Linear(_) => State::Linear,
        };
        Self { input, state, flaws: Flaws::default(), begun: false }
    }
}

impl<R: Read + Send> Decode for Raw<R> {
    fn decode(&mut self, out: &mut Vec<i16>) -> Result<bool, AudioError> {
        let mut piece = [0; PIECE];
        let filled = fill(&mut self.input, &mut piece)?;
        let bytes = &piece[..filled];
        let first = !std::mem::replace(&mut self.begun, true);
        match &mut self.state {
            State::Table(table) => out.extend(bytes.iter().map(|&code| table[usize::from(code)])),
            State::Linear => {
                let (samples, rest) = bytes.as_chunks::<2>();
                out.extend(samples.iter().map(|&bytes| i16::from_le_bytes(bytes)));
                self.flaws.cut_off |= !rest.is_empty();
            }
            State::G722(decoder) => {
                let begin = out.len();
                out.resize(begin + 2 * bytes.len(), 0);
                decoder.decode(bytes, &mut out[begin..]);
            }
            State::Gsm(decoder) => {
                let (frames, rest) = bytes.as_chunks::<{ gsm::RTP_BYTES }>();
                self.flaws.cut_off |= !rest.is_empty();
                for (n, bytes) in frames.iter().enumerate() {
                    let mut pcm = [0; gsm::FRAME_SAMPLES];
                    match gsm::Frame::unpack(bytes) {
                        Ok(frame) => decoder.decode(&frame, &mut pcm),
                        Err(bad) if first && n == 0 => {
                            let format = Format::Headerless(Headerless::Gsm);
                            return Err(AudioError::Damaged { format, reason: bad.to_string() });
                        }
                        Err(_) => self.flaws.damaged += 1,
                    }
                    out.extend_from_slice(&pcm);
                }
            }
        }
        Ok(filled == PIECE)
    }

    fn flaws(&self) -> Flaws {
        self.flaws
    }
}
