//! Opus (RFC 6716, RTP: RFC 7587), by libopus.
//!
//! The RTP clock is always 48 000 a second, whatever the audio; a decoder gives any of five rates, one or two channels. Here
//! that is [`RATE`], mono: speech from a telephone has nothing above 8 kHz, and the recognisers want just that.
//!
//! A frame lost can be had from the packet that comes after it, if its sender put a copy there (in-band FEC, the LBRR
//! frames of RFC 6716, 4.2.5); a copy goes back one packet, by 20 ms or 60 ms at most. Where there is none, libopus conceals.

mod toc;

use opus::{Application, Channels};

pub use toc::{MAX_PACKET_SAMPLES, Toc, has_fec, is_dtx, samples_in};

use crate::media::time::SampleRate;

/// Rate of the decoded PCM.
pub const RATE: SampleRate = SampleRate::WIDEBAND;
/// RTP's clock (RFC 7587, 4.1).
pub const RTP_CLOCK: u32 = 48_000;
/// Longest packet that an encoder makes here: 20 ms at libopus' highest rate of 510 kbit/s take 1275 bytes.
const MAX_ENCODED: usize = 1_275;

/// What libopus complains of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("libopus: {0}")]
pub struct OpusError(&'static str);

impl From<opus::Error> for OpusError {
    fn from(error: opus::Error) -> Self {
        Self(error.code().description())
    }
}

/// A decoder; 18 KiB (mono), allocated once.
#[derive(Debug)]
pub struct Decoder(opus::Decoder);

impl Decoder {
    /// A decoder without history.
    ///
    /// # Errors
    /// [`OpusError`] if there is no memory.
    pub fn new() -> Result<Self, OpusError> {
        Ok(Self(opus::Decoder::new(RATE.hz(), Channels::Mono)?))
    }

    /// Decode `packet` into `out`; returns the samples made, [`samples_in`] the packet.
    ///
    /// # Errors
    /// [`OpusError`] if the packet is malformed or `out` is too small.
    pub fn decode(&mut self, packet: &[u8], out: &mut [i16]) -> Result<usize, OpusError> {
        if packet.is_empty() {
            // To libopus that is a lost packet.
            return Err(OpusError("an empty packet"));
        }
        Ok(self.0.decode(packet, out, false)?)
    }

    /// Fill `out` with what was lost right before `next`: from the copy in there, or by concealment where it has none.
    /// `out` is a multiple of 2.5 ms long; what precedes the copy is concealed. To be followed by `next` itself.
    ///
    /// # Errors
    /// [`OpusError`] if `next` is malformed or `out` has another length.
    pub fn decode_fec(&mut self, next: &[u8], out: &mut [i16]) -> Result<usize, OpusError> {
        Ok(self.0.decode(next, out, true)?)
    }

    /// Fill `out`, a multiple of 2.5 ms long, by concealment of a loss.
    ///
    /// # Errors
    /// [`OpusError`] if `out` has another length.
    pub fn conceal(&mut self, out: &mut [i16]) -> Result<usize, OpusError> {
        Ok(self.0.decode(&[], out, false)?)
    }

    /// Forget everything.
    pub fn reset(&mut self) {
        // The request has no way to fail: it takes no argument.
        let _ = self.0.reset_state();
    }
}

/// An encoder for speech, mono at [`RATE`].
#[derive(Debug)]
pub struct Encoder {
    encoder: opus::Encoder,
    buffer: [u8; MAX_ENCODED],
}

impl Encoder {
    /// An encoder with in-band FEC against an expected loss of `loss_percent` (0: none).
    ///
    /// # Errors
    /// [`OpusError`] if there is no memory, or the percentage is above 100.
    pub fn new(loss_percent: u8) -> Result<Self, OpusError> {
        let mut encoder = opus::Encoder::new(RATE.hz(), Channels::Mono, Application::Voip)?;
        encoder.set_signal(opus::Signal::Voice)?;
        encoder.set_inband_fec(loss_percent > 0)?;
        encoder.set_packet_loss_perc(i32::from(loss_percent))?;
        Ok(Self { encoder, buffer: [0; MAX_ENCODED] })
    }

    /// Target in bits a second.
    ///
    /// # Errors
    /// [`OpusError`] if it is not positive.
    pub fn set_bitrate(&mut self, bits: i32) -> Result<(), OpusError> {
        Ok(self.encoder.set_bitrate(opus::Bitrate::Bits(bits))?)
    }

    /// Send next to nothing (RFC 7587, 3.1.3: discontinuous transmission) while nobody speaks.
    ///
    /// # Errors
    /// [`OpusError`] if libopus was built without it.
    pub fn set_dtx(&mut self, dtx: bool) -> Result<(), OpusError> {
        Ok(self.encoder.set_dtx(dtx)?)
    }

    /// Append the packet of one frame: 40, 80, 160, 320, 640 or 960 samples.
    ///
    /// # Errors
    /// [`OpusError`] for any other length.
    pub fn encode(&mut self, pcm: &[i16], payload: &mut Vec<u8>) -> Result<(), OpusError> {
        let bytes = self.encoder.encode(pcm, &mut self.buffer)?;
        payload.extend_from_slice(&self.buffer[..bytes]);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
