//! The 76 parameters of a frame, and the two ways in which they are packed into bytes.

use thiserror::Error;

/// Bytes of a frame on RTP and in `.gsm` files: 4 bits of signature and 260 of parameters, the highest bit first
/// (RFC 3551, 4.5.8.1).
pub const RTP_BYTES: usize = 33;
/// Bytes of two frames in a WAV file of format 49: no signature, the lowest bit first.
pub const PAIR_BYTES: usize = 65;
/// What the first four bits of a packed frame are.
const SIGNATURE: u16 = 0xd;

/// Bits of the eight log-area ratios.
const RATIO_BITS: [u32; 8] = [6, 6, 5, 5, 4, 4, 3, 3];

/// The parameters of a quarter of a frame, as coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Lag of the long-term predictor in samples: 40 to 120, or anything in 7 bits from a bad sender.
    pub lag: u8,
    /// Its gain, 2 bits.
    pub gain: u8,
    /// The pulses' grid, 2 bits.
    pub grid: u8,
    /// The largest pulse, 6 bits.
    pub peak: u8,
    /// The pulses relative to it, 3 bits each.
    pub pulses: [u8; 13],
}

/// The parameters of a frame, as coded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Log-area ratios.
    pub ratios: [u8; 8],
    /// Four parts of 40 samples.
    pub parts: [Part; 4],
}

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("GSM frame begins with {actual:#x}, expected 0xd")]
pub struct BadFrame {
    /// The first four bits.
    pub actual: u8,
}

impl Frame {
    /// Unpack a frame as on RTP.
    ///
    /// # Errors
    /// [`BadFrame`] if the signature is not there.
    pub fn unpack(bytes: &[u8; RTP_BYTES]) -> Result<Self, BadFrame> {
        let mut at = 0;
        let mut take = |count: u32| {
            let bits = (at..at + count)
                .fold(0, |value, bit| value << 1 | u16::from(bytes[bit as usize / 8] >> (7 - bit % 8) & 1));
            at += count;
            bits
        };
        let signature = take(4);
        if signature != SIGNATURE {
            return Err(BadFrame { actual: signature as u8 });
        }
        let mut frame = Self::default();
        frame.fields(|field, count| *field = take(count) as u8);
        Ok(frame)
    }

    /// Pack the frame as on RTP.
    pub fn pack(mut self) -> [u8; RTP_BYTES] {
        let mut bytes = [0; RTP_BYTES];
        bytes[0] = (SIGNATURE as u8) << 4;
        let mut at = 4;
        self.fields(|field, count| {
            for bit in 0..count {
                bytes[at / 8] |= (*field >> (count - 1 - bit) & 1) << (7 - at % 8);
                at += 1;
            }
        });
        bytes
    }

    /// Unpack two frames as in WAV files.
    pub fn unpack_pair(bytes: &[u8; PAIR_BYTES]) -> [Self; 2] {
        let mut at = 0;
        let mut frames = [Self::default(), Self::default()];
        for frame in &mut frames {
            frame.fields(|field, count| {
                *field = (0..count).fold(0, |value, bit| {
                    let place = at + bit as usize;
                    value | (bytes[place / 8] >> (place % 8) & 1) << bit
                });
                at += count as usize;
            });
        }
        frames
    }

    /// Pack two frames as in WAV files.
    pub fn pack_pair(frames: [Self; 2]) -> [u8; PAIR_BYTES] {
        let mut bytes = [0; PAIR_BYTES];
        let mut at = 0;
        for mut frame in frames {
            frame.fields(|field, count| {
                for bit in 0..count {
                    bytes[at / 8] |= (*field >> bit & 1) << (at % 8);
                    at += 1;
                }
            });
        }
        bytes
    }

    /// Every parameter in the order of transmission, with its width in bits.
    fn fields(&mut self, mut each: impl FnMut(&mut u8, u32)) {
        self.ratios.iter_mut().zip(RATIO_BITS).for_each(|(ratio, bits)| each(ratio, bits));
        for part in &mut self.parts {
            each(&mut part.lag, 7);
            each(&mut part.gain, 2);
            each(&mut part.grid, 2);
            each(&mut part.peak, 6);
            part.pulses.iter_mut().for_each(|pulse| each(pulse, 3));
        }
    }
}
