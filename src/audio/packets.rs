//! FLAC and MP3, by symphonia's demuxers and decoders.
//!
//! They get the audio alone: tags, pictures and seek tables, whose sizes are whatever the file says, are skipped before.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::codecs::registry::RegisterableAudioDecoder;
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatOptions, FormatReader};
use symphonia::core::io::{MediaSourceStream, ReadOnlySource};
use symphonia::core::packet::Packet;
use symphonia::default::codecs::{FlacDecoder, MpaDecoder};
use symphonia::default::formats::{FlacReader, MpaReader};

use super::format::fill;
use super::{AudioError, Decode, Flaws, Format, PcmSpec};

/// Packets of a file, decoded one after the other.
pub(super) struct Packets {
    format: Format,
    reader: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    spec: PcmSpec,
    /// Frames of the longest packet.
    longest: usize,
    flaws: Flaws,
    /// What the file's header calls padding. It is, if nothing comes behind it.
    padding: Vec<i16>,
    is_padding_true: bool,
    samples: Vec<i16>,
}

/// FLAC: 16 bits of length; MPEG: 1152.
const LONGEST_FLAC: usize = 65_535;
const LONGEST_MPEG: usize = 1_152;
/// Encoders fill up two packets at most. A header that calls more padding is that of the first of several files put together.
const MOST_PADDING: usize = 4 * LONGEST_MPEG;
/// Bytes of a STREAMINFO block (RFC 9639, 8.2), and what a metadata block begins with.
const STREAM_INFO: usize = 34;
const BLOCK_HEAD: usize = 4;

impl Packets {
    /// The FLAC file at `input`.
    pub(super) fn flac(mut input: impl Read + Seek + Send + Sync + 'static) -> Result<Self, AudioError> {
        let format = Format::Flac;
        let info = stream_info(&mut input)?;
        let stream = stream(Cursor::new(info).chain(input));
        let reader = guarded(format, || FlacReader::try_new(stream, FormatOptions::default()))?;
        Self::new::<FlacDecoder>(format, Box::new(reader), LONGEST_FLAC)
    }

    /// The MPEG frames at `input`.
    pub(super) fn mp3(input: impl Read + Send + Sync + 'static) -> Result<Self, AudioError> {
        let format = Format::Mp3;
        let stream = stream(input);
        let reader = guarded(format, || MpaReader::try_new(stream, FormatOptions::default()))?;
        Self::new::<MpaDecoder>(format, Box::new(reader), LONGEST_MPEG)
    }

    fn new<D: RegisterableAudioDecoder>(
        format: Format,
        reader: Box<dyn FormatReader>,
        longest: usize,
    ) -> Result<Self, AudioError> {
        let bad = |reason: &str| AudioError::Damaged { format, reason: reason.to_owned() };
        let track = reader.tracks().first();
        let params = track.and_then(|t| t.codec_params.as_ref()).and_then(|p| p.audio());
        let params = params.ok_or_else(|| bad("it has no audio track"))?;
        let channels = params.channels.as_ref().map_or(0, |c| c.count());
        let spec = PcmSpec { rate_hz: params.sample_rate.unwrap_or(0), channels: channels as u16 };
        if !(1..=8).contains(&channels) {
            return Err(bad(&format!("{channels} channels")));
        }
        // Padding is cut off here, where it can be seen whether it is any.
        let options = AudioDecoderOptions::default().gapless(false);
        let decoder = guarded(format, || D::try_registry_new(params, &options))?;
        Ok(Self {
            format,
            reader,
            decoder,
            spec,
            longest,
            flaws: Flaws::default(),
            padding: Vec::new(),
            is_padding_true: true,
            samples: Vec::new(),
        })
    }

    /// What it gives.
    pub(super) fn spec(&self) -> PcmSpec {
        self.spec
    }

    /// The next packet; `None` at the end.
    fn packet(&mut self) -> Result<Option<Packet>, AudioError> {
        match caught(self.format, || self.reader.next_packet())? {
            Ok(packet) => Ok(packet),
            Err(Error::IoError(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.flaws.cut_off = true;
                Ok(None)
            }
            Err(Error::IoError(error)) => Err(error.into()),
            Err(error) => Err(damaged(self.format, &error)),
        }
    }

    /// The packet's samples in `self.samples`: silence if it cannot be decoded.
    fn render(&mut self, packet: &Packet) -> Result<(), AudioError> {
        let frames = usize::try_from(packet.block_dur().get()).unwrap_or(usize::MAX).min(self.longest);
        let channels = usize::from(self.spec.channels);
        let (decoder, samples, spec) = (&mut self.decoder, &mut self.samples, self.spec);
        let good = caught(self.format, || match decoder.decode_ref(&packet.as_packet_ref()) {
            Ok(audio) => {
                let found = (audio.spec().rate(), audio.spec().channels().count());
                if found == (spec.rate_hz, channels) {
                    audio.copy_to_vec_interleaved(samples);
                }
                found == (spec.rate_hz, channels)
            }
            Err(_) => false,
        })?;
        if !good {
            self.flaws.damaged += 1;
            self.samples.clear();
            self.samples.resize(frames * channels, 0);
        }
        Ok(())
    }
}

impl Decode for Packets {
    fn decode(&mut self, out: &mut Vec<i16>) -> Result<bool, AudioError> {
        let Some(packet) = self.packet()? else { return Ok(false) };
        self.render(&packet)?;
        let channels = usize::from(self.spec.channels);
        let frames = self.samples.len() / channels;
        let start = (packet.trim_start.get() as usize).min(frames);
        let end = match self.is_padding_true {
            true => frames - (packet.trim_end.get() as usize).min(frames - start),
            false => frames,
        };
        if end > start && !self.padding.is_empty() || self.padding.len() > MOST_PADDING * channels {
            // Something comes behind it.
            out.append(&mut self.padding);
            self.is_padding_true = false;
        }
        out.extend_from_slice(&self.samples[start * channels..end * channels]);
        match self.is_padding_true {
            true => self.padding.extend_from_slice(&self.samples[end * channels..]),
            false => out.extend_from_slice(&self.samples[end * channels..]),
        }
        Ok(true)
    }

    fn flaws(&self) -> Flaws {
        self.flaws
    }
}

fn stream(input: impl Read + Send + Sync + 'static) -> MediaSourceStream<'static> {
    MediaSourceStream::new(Box::new(ReadOnlySource::new(input)), Default::default())
}

/// The marker and the one metadata block that counts, as a file without any other has them; `input` is left at the first frame.
fn stream_info<R: Read + Seek>(input: &mut R) -> Result<Vec<u8>, AudioError> {
    let bad = |reason: &str| AudioError::Damaged { format: Format::Flac, reason: reason.to_owned() };
    let mut kept = b"fLaC".to_vec();
    input.seek(SeekFrom::Current(kept.len() as i64))?;
    loop {
        let mut head = [0; BLOCK_HEAD];
        if fill(input, &mut head)? < BLOCK_HEAD {
            return Err(bad("its metadata is cut off"));
        }
        let size = u32::from_be_bytes([0, head[1], head[2], head[3]]);
        if kept.len() == 4 {
            if head[0] & 0x7f != 0 || size as usize != STREAM_INFO {
                return Err(bad("it does not begin with STREAMINFO"));
            }
            let mut info = [0; STREAM_INFO];
            if fill(input, &mut info)? < STREAM_INFO {
                return Err(bad("its metadata is cut off"));
            }
            // The last block, as far as the demuxer is concerned.
            kept.extend([0x80, head[1], head[2], head[3]]);
            kept.extend(info);
        } else {
            input.seek(SeekFrom::Current(size.into()))?;
        }
        if head[0] & 0x80 != 0 {
            return Ok(kept);
        }
    }
}

fn damaged(format: Format, error: &Error) -> AudioError {
    let reason = match error {
        Error::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it ends before the first piece of audio".to_owned()
        }
        other => other.to_string(),
    };
    AudioError::Damaged { format, reason }
}

fn guarded<T>(
    format: Format,
    work: impl FnOnce() -> symphonia::core::errors::Result<T>,
) -> Result<T, AudioError> {
    caught(format, work)?.map_err(|error| damaged(format, &error))
}

/// A decoder that panics over a file has met a damaged one: nobody else is to pay for it.
fn caught<T>(format: Format, work: impl FnOnce() -> T) -> Result<T, AudioError> {
    let reason = || "its decoder gave up".to_owned();
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| AudioError::Damaged { format, reason: reason() })
}
