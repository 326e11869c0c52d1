//! PCM to the bytes of a file.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use opus::{Application, Bitrate};

use super::target::OPUS_HZ;
use super::{ConvertError, Target};
use crate::audio::Headerless;
use crate::audio::ogg::write_page;
use crate::audio::wav::{GSM_HEADER_LEN, PLAIN_HEADER_LEN, gsm_header, plain_header};
use crate::media::codec::{g711, g722, gsm};

/// Takes interleaved samples; [`Encode::finish`] must be called in the end.
pub(super) trait Encode {
    fn write(&mut self, pcm: &[i16]) -> Result<(), ConvertError>;
    fn finish(&mut self) -> Result<(), ConvertError>;
}

/// An encoder of `target` that writes to `file`, which will be `out`.
pub(super) fn encoder<'a>(
    target: Target,
    rate_hz: u32,
    channels: usize,
    file: &'a mut BufWriter<File>,
    out: &Path,
) -> Result<Box<dyn Encode + 'a>, ConvertError> {
    let sink = Sink { file, out: out.to_owned(), target, bytes: Vec::new() };
    Ok(match target {
        Target::Wav { .. } => Box::new(Wav::new(sink, rate_hz, channels)?),
        Target::Wav49 => Box::new(Wav49::new(sink)?),
        Target::Headerless(kind) => Box::new(Codes::new(sink, kind)),
        Target::OggOpus => Box::new(Ogg::new(sink, rate_hz, channels)?),
    })
}

struct Sink<'a> {
    file: &'a mut BufWriter<File>,
    out: PathBuf,
    target: Target,
    /// Encoded and not written.
    bytes: Vec<u8>,
}

impl Sink<'_> {
    fn failed(&self, source: io::Error) -> ConvertError {
        ConvertError::Write { path: self.out.clone(), source }
    }

    fn flush(&mut self) -> Result<(), ConvertError> {
        self.file.write_all(&self.bytes).map_err(|error| self.failed(error))?;
        self.bytes.clear();
        Ok(())
    }

    fn rewrite_start(&mut self, header: &[u8]) -> Result<(), ConvertError> {
        let written = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(header));
        written.map_err(|error| self.failed(error))
    }

    fn too_long(&self, most: u64) -> ConvertError {
        ConvertError::TooLong { target: self.target, most }
    }
}

/// What the sizes of RIFF can say, less the headers.
const MOST_RIFF: u64 = u32::MAX as u64 - 1_024;

struct Wav<'a> {
    sink: Sink<'a>,
    rate_hz: u32,
    channels: u16,
    data: u64,
}

impl<'a> Wav<'a> {
    fn new(mut sink: Sink<'a>, rate_hz: u32, channels: usize) -> Result<Self, ConvertError> {
        sink.bytes.resize(PLAIN_HEADER_LEN, 0);
        sink.flush()?;
        Ok(Self { sink, rate_hz, channels: channels as u16, data: 0 })
    }
}

impl Encode for Wav<'_> {
    fn write(&mut self, pcm: &[i16]) -> Result<(), ConvertError> {
        self.data += 2 * pcm.len() as u64;
        if self.data > MOST_RIFF {
            return Err(self.sink.too_long(MOST_RIFF));
        }
        self.sink.bytes.extend(pcm.iter().flat_map(|sample| sample.to_le_bytes()));
        self.sink.flush()
    }

    fn finish(&mut self) -> Result<(), ConvertError> {
        self.sink.rewrite_start(&plain_header(self.rate_hz, self.channels, self.data as u32))
    }
}

struct Wav49<'a> {
    sink: Sink<'a>,
    encoder: gsm::Encoder,
    /// Samples that wait for a block of two frames.
    pending: Vec<i16>,
    samples: u64,
    data: u64,
}

const PAIR: usize = 2 * gsm::FRAME_SAMPLES;

impl<'a> Wav49<'a> {
    fn new(mut sink: Sink<'a>) -> Result<Self, ConvertError> {
        sink.bytes.resize(GSM_HEADER_LEN, 0);
        sink.flush()?;
        Ok(Self { sink, encoder: gsm::Encoder::default(), pending: Vec::new(), samples: 0, data: 0 })
    }

    fn encode(&mut self) {
        let whole = self.pending.len() / PAIR * PAIR;
        for pair in self.pending[..whole].as_chunks::<PAIR>().0 {
            let [first, second] = [0, gsm::FRAME_SAMPLES].map(|at| {
                let mut frame = [0; gsm::FRAME_SAMPLES];
                frame.copy_from_slice(&pair[at..at + gsm::FRAME_SAMPLES]);
                self.encoder.encode(&frame)
            });
            self.sink.bytes.extend(gsm::Frame::pack_pair([first, second]));
        }
        self.pending.drain(..whole);
    }
}

impl Encode for Wav49<'_> {
    fn write(&mut self, pcm: &[i16]) -> Result<(), ConvertError> {
        self.pending.extend_from_slice(pcm);
        self.samples += pcm.len() as u64;
        self.encode();
        self.data += self.sink.bytes.len() as u64;
        // The fact chunk counts samples in 32 bits: 149 hours.
        if self.samples > u64::from(u32::MAX) {
            return Err(self.sink.too_long(u64::from(u32::MAX) / PAIR as u64 * gsm::PAIR_BYTES as u64));
        }
        self.sink.flush()
    }

    fn finish(&mut self) -> Result<(), ConvertError> {
        self.pending.resize(self.pending.len().next_multiple_of(PAIR), 0);
        self.encode();
        self.data += self.sink.bytes.len() as u64;
        // Chunks are of an even length: a filling byte, which their size does not count.
        if !self.data.is_multiple_of(2) {
            self.sink.bytes.push(0);
        }
        self.sink.flush()?;
        self.sink.rewrite_start(&gsm_header(self.samples as u32, self.data as u32))
    }
}

struct Codes<'a> {
    sink: Sink<'a>,
    state: State,
    pending: Vec<i16>,
}

enum State {
    Alaw,
    Ulaw,
    Linear,
    G722(Box<g722::Encoder>),
    Gsm(Box<gsm::Encoder>),
}

impl<'a> Codes<'a> {
    fn new(sink: Sink<'a>, kind: Headerless) -> Self {
        let state = match kind {
            Headerless::Alaw => State::Alaw,
            Headerless::Ulaw => State::Ulaw,
            Headerless::Linear(_) => State::Linear,
            Headerless::G722 => State::G722(Box::default()),
            Headerless::Gsm => State::Gsm(Box::default()),
        };
        Self { sink, state, pending: Vec::new() }
    }

    /// Samples of a unit that can be encoded.
    fn unit(&self) -> usize {
        match self.state {
            State::Alaw | State::Ulaw | State::Linear => 1,
            State::G722(_) => 2,
            State::Gsm(_) => gsm::FRAME_SAMPLES,
        }
    }
}

impl Encode for Codes<'_> {
    fn write(&mut self, pcm: &[i16]) -> Result<(), ConvertError> {
        self.pending.extend_from_slice(pcm);
        let whole = self.pending.len() / self.unit() * self.unit();
        let (pcm, bytes) = (&self.pending[..whole], &mut self.sink.bytes);
        match &mut self.state {
            State::Alaw => bytes.extend(pcm.iter().map(|&sample| g711::to_alaw(sample))),
            State::Ulaw => bytes.extend(pcm.iter().map(|&sample| g711::to_ulaw(sample))),
            State::Linear => bytes.extend(pcm.iter().flat_map(|sample| sample.to_le_bytes())),
            State::G722(encoder) => encoder.encode(pcm, bytes),
            State::Gsm(encoder) => {
                for frame in pcm.as_chunks::<{ gsm::FRAME_SAMPLES }>().0 {
                    bytes.extend(encoder.encode(frame).pack());
                }
            }
        }
        self.pending.drain(..whole);
        self.sink.flush()
    }

    fn finish(&mut self) -> Result<(), ConvertError> {
        let missing = self.pending.len().next_multiple_of(self.unit()) - self.pending.len();
        self.write(&vec![0; missing])
    }
}

/// Opus in Ogg (RFC 7845): packets of 20 ms.
struct Ogg<'a> {
    sink: Sink<'a>,
    encoder: opus::Encoder,
    channels: usize,
    /// Samples of a frame, all channels.
    frame: usize,
    /// Ticks of 48 kHz a sample.
    per_sample: u64,
    pending: Vec<i16>,
    packets: Vec<Vec<u8>>,
    sequence: u32,
    /// 48 kHz samples that were encoded, and those that there are, with what the decoder skips.
    encoded: u64,
    wanted: u64,
}

const FRAMES_A_SECOND: usize = 50;
/// Packets a page: of the longest, with six lacing values each, 42 fit its 255.
const MOST_PACKETS: usize = 40;
/// Speech from a telephone, wideband at the most: libopus needs no more for it to be transparent.
const BITS_A_CHANNEL: i32 = 32_000;
/// The longest packet that libopus makes of 20 ms: 1275 bytes a stream (RFC 6716, 3.4).
const MOST_PACKET: usize = 1_275;
/// Any number will do for a file with one stream.
const SERIAL: u32 = 0x5354_5354;
const FIRST: u8 = 2;
const LAST: u8 = 4;

impl<'a> Ogg<'a> {
    fn new(mut sink: Sink<'a>, rate_hz: u32, channels: usize) -> Result<Self, ConvertError> {
        let target = sink.target;
        let bad = |error: opus::Error| ConvertError::Encode { target, reason: error.to_string() };
        let kind = if channels == 2 { opus::Channels::Stereo } else { opus::Channels::Mono };
        // `Voip` would put a high-pass filter before the codec, which shifts low tones by fractions of a millisecond.
        let mut encoder = opus::Encoder::new(rate_hz, kind, Application::Audio).map_err(bad)?;
        encoder.set_bitrate(Bitrate::Bits(BITS_A_CHANNEL * channels as i32)).map_err(bad)?;
        let per_sample = u64::from(OPUS_HZ / rate_hz);
        let skip = encoder.get_lookahead().map_err(bad)? as u64 * per_sample;

        let mut head = b"OpusHead\x01".to_vec();
        head.push(channels as u8);
        head.extend((skip as u16).to_le_bytes());
        head.extend(rate_hz.to_le_bytes());
        head.extend([0, 0, 0]);
        write_page(&mut sink.bytes, FIRST, 0, SERIAL, 0, &[head]);
        let vendor = concat!("sidetone ", env!("CARGO_PKG_VERSION"));
        let mut tags = b"OpusTags".to_vec();
        tags.extend((vendor.len() as u32).to_le_bytes());
        tags.extend(vendor.as_bytes());
        tags.extend([0; 4]);
        write_page(&mut sink.bytes, 0, 0, SERIAL, 1, &[tags]);
        Ok(Self {
            sink,
            encoder,
            channels,
            frame: rate_hz as usize / FRAMES_A_SECOND * channels,
            per_sample,
            pending: Vec::new(),
            packets: Vec::new(),
            sequence: 2,
            encoded: 0,
            wanted: skip,
        })
    }

    fn encode_whole(&mut self) -> Result<(), ConvertError> {
        let whole = self.pending.len() / self.frame * self.frame;
        for frame in self.pending[..whole].chunks_exact(self.frame) {
            let packet = self.encoder.encode_vec(frame, MOST_PACKET).map_err(|error| {
                ConvertError::Encode { target: self.sink.target, reason: error.to_string() }
            })?;
            self.packets.push(packet);
            self.encoded += (self.frame / self.channels) as u64 * self.per_sample;
            // The last packet is kept back: its page is told from the others by a flag.
            if self.packets.len() > MOST_PACKETS {
                let held = self.packets.split_off(MOST_PACKETS);
                let granule = self.encoded - (self.frame / self.channels) as u64 * self.per_sample;
                write_page(&mut self.sink.bytes, 0, granule as i64, SERIAL, self.sequence, &self.packets);
                self.sequence += 1;
                self.packets = held;
            }
        }
        self.pending.drain(..whole);
        self.sink.flush()
    }
}

impl Encode for Ogg<'_> {
    fn write(&mut self, pcm: &[i16]) -> Result<(), ConvertError> {
        self.pending.extend_from_slice(pcm);
        self.wanted += (pcm.len() / self.channels) as u64 * self.per_sample;
        self.encode_whole()
    }

    fn finish(&mut self) -> Result<(), ConvertError> {
        // What the encoder looks ahead has to come out as well.
        while self.encoded < self.wanted {
            let missing = self.frame - self.pending.len() % self.frame;
            self.pending.resize(self.pending.len() + missing, 0);
            self.encode_whole()?;
        }
        write_page(&mut self.sink.bytes, LAST, self.wanted as i64, SERIAL, self.sequence, &self.packets);
        self.sink.flush()
    }
}
