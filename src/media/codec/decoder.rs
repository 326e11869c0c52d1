//! Payloads to samples, for every codec alike.

use thiserror::Error;

use super::linear::{self, ByteOrder};
use super::{Codec, g711, g722, gsm, opus};

/// A decoder of one source's packets. To be fed in the order in which they were sent; those of G.711 and linear PCM have no
/// memory and do not care. Nothing is allocated after creation.
#[derive(Debug)]
pub struct Decoder {
    codec: Codec,
    state: State,
}

// A leg has one of these, in place: a box would only add a step to each packet's way.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
enum State {
    Table(&'static [i16; 256]),
    Linear(ByteOrder),
    G722(g722::Decoder),
    Gsm(gsm::Decoder),
    Opus(opus::Decoder),
}

/// The state of a decoder at some point, to go on from there again.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub struct Snapshot(Saved);

#[derive(Clone, Debug)]
enum Saved {
    None,
    G722(g722::Decoder),
    Gsm(gsm::Decoder),
}

/// A payload could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No whole number of samples or frames, or more than a packet may have.
    #[error("{} payload of {bytes} bytes is impossible", codec.name())]
    Length {
        /// Whose.
        codec: Codec,
        /// Its length.
        bytes: usize,
    },
    /// Not enough room for the samples.
    #[error("room for {room} samples, {needed} are needed")]
    Room {
        /// Samples in the payload.
        needed: usize,
        /// Samples that fit.
        room: usize,
    },
    /// A GSM frame without its signature.
    #[error(transparent)]
    Gsm(#[from] gsm::BadFrame),
    /// An Opus packet that libopus refuses.
    #[error(transparent)]
    Opus(#[from] opus::OpusError),
}

impl Decoder {
    /// A decoder of `codec` as it is on RTP.
    ///
    /// # Errors
    /// [`opus::OpusError`] if libopus has no memory.
    pub fn new(codec: Codec) -> Result<Self, opus::OpusError> {
        Self::with_byte_order(codec, ByteOrder::Big)
    }

    /// A decoder of `codec` on a transport that puts linear PCM in `order`; the others do not differ.
    ///
    /// # Errors
    /// [`opus::OpusError`] if libopus has no memory.
    pub fn with_byte_order(codec: Codec, order: ByteOrder) -> Result<Self, opus::OpusError> {
        let state = match codec {
            Codec::Alaw => State::Table(&g711::ALAW),
            Codec::Ulaw => State::Table(&g711::ULAW),
            Codec::Slin | Codec::Slin12 | Codec::Slin16 | Codec::Slin24 | Codec::Slin48 => {
                State::Linear(order)
            }
            Codec::G722 => State::G722(g722::Decoder::default()),
            Codec::Gsm => State::Gsm(gsm::Decoder::default()),
            Codec::Opus => State::Opus(opus::Decoder::new()?),
        };
        Ok(Self { codec, state })
    }

    /// What it decodes.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Decode `payload` into `out`; returns the samples made, [`Codec::samples_in`] the payload.
    ///
    /// # Errors
    /// [`DecodeError`]; the decoder's memory is then as it was, but for Opus, whose decoder copes.
    pub fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Result<usize, DecodeError> {
        let length = DecodeError::Length { codec: self.codec, bytes: payload.len() };
        let needed = self.codec.samples_in(payload).ok_or(length)?;
        let room = out.len();
        let out = out.get_mut(..needed).ok_or(DecodeError::Room { needed, room })?;
        match &mut self.state {
            State::Table(table) => {
                out.iter_mut().zip(payload).for_each(|(out, &code)| *out = table[usize::from(code)]);
            }
            State::Linear(order) => {
                linear::decode(*order, payload, out);
            }
            State::G722(decoder) => {
                decoder.decode(payload, out);
            }
            State::Gsm(decoder) => return gsm_frames(decoder, payload, out),
            State::Opus(decoder) => return Ok(decoder.decode(payload, out)?),
        }
        Ok(needed)
    }

    /// Whether a loss can be made up for by the codec itself: [`Decoder::decode_fec`] and [`Decoder::conceal`].
    pub fn can_conceal(&self) -> bool {
        matches!(self.state, State::Opus(_))
    }

    /// Fill `out` with what was lost right before the payload `next`, from the copy of it in there, or by concealment
    /// if it has none ([`opus::has_fec`]). To be called before `next` itself is decoded. Returns the samples made: 0 if the
    /// codec has no such thing.
    ///
    /// # Errors
    /// [`DecodeError::Opus`] if `next` is malformed, or `out` is no multiple of 2.5 ms long.
    pub fn decode_fec(&mut self, next: &[u8], out: &mut [i16]) -> Result<usize, DecodeError> {
        match &mut self.state {
            State::Opus(decoder) => Ok(decoder.decode_fec(next, out)?),
            _ => Ok(0),
        }
    }

    /// Fill `out` by the codec's own concealment of a loss. Returns the samples made: 0 if the codec has no such thing.
    ///
    /// # Errors
    /// [`DecodeError::Opus`] if `out` is no multiple of 2.5 ms long.
    pub fn conceal(&mut self, out: &mut [i16]) -> Result<usize, DecodeError> {
        match &mut self.state {
            State::Opus(decoder) => Ok(decoder.conceal(out)?),
            _ => Ok(0),
        }
    }

    /// The state as it is now; `None` for Opus, whose state is libopus' own.
    pub fn snapshot(&self) -> Option<Snapshot> {
        match &self.state {
            State::Table(_) | State::Linear(_) => Some(Snapshot(Saved::None)),
            State::G722(decoder) => Some(Snapshot(Saved::G722(decoder.clone()))),
            State::Gsm(decoder) => Some(Snapshot(Saved::Gsm(decoder.clone()))),
            State::Opus(_) => None,
        }
    }

    /// Go on from where `snapshot` was taken. One of another codec changes nothing.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        match (&mut self.state, &snapshot.0) {
            (State::G722(decoder), Saved::G722(saved)) => decoder.clone_from(saved),
            (State::Gsm(decoder), Saved::Gsm(saved)) => decoder.clone_from(saved),
            _ => {}
        }
    }

    /// Forget everything: another source begins.
    pub fn reset(&mut self) {
        match &mut self.state {
            State::Table(_) | State::Linear(_) => {}
            State::G722(decoder) => *decoder = g722::Decoder::default(),
            State::Gsm(decoder) => *decoder = gsm::Decoder::default(),
            State::Opus(decoder) => decoder.reset(),
        }
    }
}

/// All frames of a payload, or none of them.
fn gsm_frames(decoder: &mut gsm::Decoder, payload: &[u8], out: &mut [i16]) -> Result<usize, DecodeError> {
    let frames = payload.as_chunks::<{ gsm::RTP_BYTES }>().0;
    for bytes in frames {
        gsm::Frame::unpack(bytes)?;
    }
    for (bytes, out) in frames.iter().zip(out.as_chunks_mut::<{ gsm::FRAME_SAMPLES }>().0) {
        decoder.decode(&gsm::Frame::unpack(bytes)?, out);
    }
    Ok(out.len())
}
