//! What comes over a socket as samples, one lane for each voice that is told apart. Sans-IO.

use super::is_rate;
use crate::audio::wav::{self, Encoding, WavError};
use crate::media::codec::opus;

/// Most bytes that a WAV file may have before its audio.
const MOST_HEADER: usize = 64 << 10;
/// Taken in at a time until the header is complete: what is behind it is audio, half a second of it at most.
const HEADER_PIECE: usize = 4 << 10;

/// How a socket's bytes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Packing {
    /// Interleaved samples, cut into messages anywhere.
    Samples {
        /// Of each sample.
        encoding: Encoding,
        /// Frames a second.
        rate_hz: u32,
    },
    /// Each message is an Opus packet.
    OpusPackets,
    /// A WAV file, whose header says the rest.
    Wav,
}

/// Bytes that are no audio of that kind.
#[derive(Debug, thiserror::Error)]
pub(in crate::api) enum BadAudio {
    /// No Opus packet.
    #[error("{0}; each binary message has to be one Opus packet")]
    Opus(#[from] opus::OpusError),
    /// No header of a WAV file that is read here.
    #[error("without `encoding` the audio has to begin as a WAV file: {0}")]
    Wav(#[from] WavError),
    /// Too much before the audio.
    #[error("the WAV file has more than 64 KiB before its audio")]
    Header,
    /// A rate that is not taken.
    #[error("the WAV file has {0} samples a second: 8000 to 48000, a multiple of 25, are taken")]
    Rate(u32),
    /// The header and the query disagree.
    #[error("the WAV file has {found} channels, `channels` says {asked}")]
    Channels {
        /// In the header.
        found: u16,
        /// In the query.
        asked: u16,
    },
}

/// Turns bytes into samples (-1 to 1), whatever the size of their pieces.
#[derive(Debug)]
pub(in crate::api) struct Unpacker {
    state: State,
    channels: u16,
    /// Each channel has a lane; otherwise all are mixed into one.
    separate: bool,
    /// The beginning of a frame, or of a file, whose rest is still to come.
    carry: Vec<u8>,
    pcm: Vec<i16>,
}

#[derive(Debug)]
enum State {
    Header,
    Samples { encoding: Encoding, rate_hz: u32 },
    Opus(opus::Decoder),
}

impl Unpacker {
    /// For `channels` of them, `separate` or mixed.
    ///
    /// # Errors
    /// libopus has no memory.
    pub(in crate::api) fn new(packing: Packing, channels: u16, separate: bool) -> Result<Self, BadAudio> {
        let state = match packing {
            Packing::Samples { encoding, rate_hz } => State::Samples { encoding, rate_hz },
            Packing::OpusPackets => State::Opus(opus::Decoder::new()?),
            Packing::Wav => State::Header,
        };
        Ok(Self { state, channels, separate, carry: Vec::new(), pcm: Vec::new() })
    }

    /// Lanes, at least one.
    pub(in crate::api) fn lanes(&self) -> usize {
        if self.separate { usize::from(self.channels) } else { 1 }
    }

    /// Samples a second of a lane; `None` while the header that says so is not complete.
    pub(in crate::api) fn rate_hz(&self) -> Option<u32> {
        match &self.state {
            State::Header => None,
            State::Samples { rate_hz, .. } => Some(*rate_hz),
            State::Opus(_) => Some(opus::RATE.hz()),
        }
    }

    /// Bytes of a message that may be taken in when there is room for so many samples a lane; `None`: all of it or nothing.
    pub(in crate::api) fn bytes_for(&self, samples: usize) -> Option<usize> {
        match &self.state {
            State::Header => Some(HEADER_PIECE),
            State::Samples { encoding, .. } => Some(samples * encoding.bytes() * usize::from(self.channels)),
            State::Opus(_) => None,
        }
    }

    /// Read the next `bytes`, and append to each of `lanes` what they hold for it.
    ///
    /// # Errors
    /// [`BadAudio`], after which nothing more can be read.
    pub(in crate::api) fn push(&mut self, bytes: &[u8], lanes: &mut [Vec<f32>]) -> Result<(), BadAudio> {
        if let State::Opus(decoder) = &mut self.state {
            self.pcm.resize(opus::MAX_PACKET_SAMPLES, 0);
            let made = decoder.decode(bytes, &mut self.pcm)?;
            let Some(lane) = lanes.first_mut() else { return Ok(()) };
            lane.extend(self.pcm[..made].iter().map(|&sample| scaled(sample)));
            return Ok(());
        }
        self.carry.extend_from_slice(bytes);
        if let State::Header = self.state
            && !self.read_header()?
        {
            return Ok(());
        }
        self.deinterleave(lanes);
        Ok(())
    }

    /// Whether the header is complete.
    fn read_header(&mut self) -> Result<bool, BadAudio> {
        let Some((format, length)) = wav::stream_head(&self.carry)? else {
            return if self.carry.len() > MOST_HEADER { Err(BadAudio::Header) } else { Ok(false) };
        };
        if !is_rate(format.rate_hz) {
            return Err(BadAudio::Rate(format.rate_hz));
        }
        if self.separate && format.channels != self.channels {
            return Err(BadAudio::Channels { found: format.channels, asked: self.channels });
        }
        self.channels = format.channels;
        self.state = State::Samples { encoding: format.encoding, rate_hz: format.rate_hz };
        self.carry.drain(..length);
        Ok(true)
    }

    /// All whole frames that there are.
    fn deinterleave(&mut self, lanes: &mut [Vec<f32>]) {
        let State::Samples { encoding, .. } = self.state else { return };
        let channels = usize::from(self.channels);
        let frame_bytes = encoding.bytes() * channels;
        let frames = self.carry.len() / frame_bytes;
        self.pcm.resize(frames * channels, 0);
        encoding.decode(&self.carry[..frames * frame_bytes], &mut self.pcm);
        self.carry.drain(..frames * frame_bytes);
        if self.separate {
            for (n, lane) in lanes.iter_mut().enumerate() {
                lane.extend(self.pcm.iter().skip(n).step_by(channels).map(|&sample| scaled(sample)));
            }
        } else if let Some(lane) = lanes.first_mut() {
            let mixed =
                |frame: &[i16]| frame.iter().map(|&sample| scaled(sample)).sum::<f32>() / channels as f32;
            lane.extend(self.pcm.chunks_exact(channels).map(mixed));
        }
    }
}

fn scaled(sample: i16) -> f32 {
    f32::from(sample) / 32_768.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEREO: Packing = Packing::Samples { encoding: Encoding::Pcm16, rate_hz: 8_000 };

    fn unpacked(unpacker: &mut Unpacker, pieces: &[&[u8]]) -> Vec<Vec<f32>> {
        let mut lanes = vec![Vec::new(); unpacker.lanes()];
        for piece in pieces {
            unpacker.push(piece, &mut lanes).unwrap();
        }
        lanes
    }

    fn bytes(samples: &[i16]) -> Vec<u8> {
        samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
    }

    #[test]
    fn pieces_of_any_size_give_the_same_samples() {
        let all = bytes(&[100, -100, 200, -200, 300, -300]);
        let expected = [vec![100, 200, 300], vec![-100, -200, -300]];
        let expected = expected.map(|lane| lane.into_iter().map(scaled).collect::<Vec<_>>());
        for size in 1..=all.len() {
            let pieces: Vec<&[u8]> = all.chunks(size).collect();
            let mut unpacker = Unpacker::new(STEREO, 2, true).unwrap();
            assert_eq!(unpacked(&mut unpacker, &pieces), expected, "{size}");
        }
    }

    #[test]
    fn channels_that_are_not_told_apart_are_mixed() {
        let mut unpacker = Unpacker::new(STEREO, 2, false).unwrap();
        let lanes = unpacked(&mut unpacker, &[&bytes(&[100, 300, -2, 0])]);
        assert_eq!(lanes, [vec![scaled(200), scaled(-1)]]);
    }

    #[test]
    fn a_wav_file_says_for_itself_what_it_is_wherever_its_header_is_cut() {
        let mut file = wav::header(16_000, 1, 4).to_vec();
        file.extend(bytes(&[7, -7]));
        for cut in 0..file.len() {
            let mut unpacker = Unpacker::new(Packing::Wav, 1, false).unwrap();
            assert_eq!(unpacker.rate_hz(), None);
            let lanes = unpacked(&mut unpacker, &[&file[..cut], &file[cut..]]);
            assert_eq!(lanes, [vec![scaled(7), scaled(-7)]], "{cut}");
            assert_eq!(unpacker.rate_hz(), Some(16_000));
        }
        let mut unpacker = Unpacker::new(Packing::Wav, 2, true).unwrap();
        let error = unpacker.push(&file, &mut [Vec::new(), Vec::new()]).unwrap_err();
        assert!(matches!(error, BadAudio::Channels { found: 1, asked: 2 }), "{error}");
        let mut unpacker = Unpacker::new(Packing::Wav, 1, false).unwrap();
        let error = unpacker.push(&[0x1a, 0x45, 0xdf, 0xa3, 0, 0, 0, 0, 0, 0, 0, 0], &mut [Vec::new()]);
        assert!(error.unwrap_err().to_string().contains("encoding"));
    }

    #[test]
    fn each_message_is_an_opus_packet() {
        let mut packet = Vec::new();
        let mut encoder = opus::Encoder::new(0).unwrap();
        encoder.encode(&[0; 320], &mut packet).unwrap();
        let mut unpacker = Unpacker::new(Packing::OpusPackets, 1, false).unwrap();
        assert_eq!(unpacked(&mut unpacker, &[&packet, &packet])[0].len(), 640);
        assert!(unpacker.push(&[0xff; 3], &mut [Vec::new()]).is_err());
    }
}
