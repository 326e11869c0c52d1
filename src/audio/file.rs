//! A file, opened.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::packets::Packets;
use super::raw::Raw;
use super::wav::{GSM_TAG, GsmBlocks, WavReader, locate};
use super::{AudioError, Decode, Flaws, Format, PcmSource, PcmSpec, ogg};

/// Bytes to read, with a way back.
pub trait Input: Read + Seek + Send + Sync {}

impl<T: Read + Seek + Send + Sync> Input for T {}

/// What is taken of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest audio. A few bytes of silence may stand for hours: size alone is no limit.
    pub duration: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // Longer than any recording of a call; what pretends to more is a mistake or an attack.
        Self { duration: Duration::from_secs(100 * 3_600) }
    }
}

/// Rates that speech comes in, and studios.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=384_000;
const BUFFER: usize = 32 << 10;

/// An open audio file. A [`PcmSource`].
pub struct AudioFile {
    decoder: Box<dyn Decode>,
    format: Format,
    spec: PcmSpec,
    limits: Limits,
    /// Decoded and not handed out, from `taken` on.
    block: Vec<i16>,
    taken: usize,
    given: u64,
    ended: bool,
    /// How far the file has been read, of how many bytes.
    read_to: Arc<AtomicU64>,
    length: u64,
}

impl fmt::Debug for AudioFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AudioFile")
            .field("format", &self.format)
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl AudioFile {
    /// Open the file at `path`; `otherwise` is what it is if neither its contents nor its name says so.
    ///
    /// # Errors
    /// [`AudioError`].
    pub fn open(path: &Path, otherwise: Option<Format>, limits: Limits) -> Result<Self, AudioError> {
        let file = File::open(path).map_err(AudioError::Open)?;
        // A folder opens like a file, has a length, and fails at the first read.
        if file.metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(AudioError::Open(ErrorKind::IsADirectory.into()));
        }
        Self::new(file, Format::of_name(path).or(otherwise), limits)
    }

    /// Read `input` from its start. `hint` is what its name says it is ([`Format::of_name`]): it decides where the contents do not.
    ///
    /// # Errors
    /// [`AudioError`].
    pub fn new(
        mut input: impl Input + 'static,
        hint: Option<Format>,
        limits: Limits,
    ) -> Result<Self, AudioError> {
        let length = input.seek(SeekFrom::End(0))?;
        if length == 0 {
            return Err(AudioError::Empty);
        }
        let read_to = Arc::new(AtomicU64::new(0));
        let metered = Metered { inner: input, at: 0, read_to: read_to.clone() };
        let mut input = BufReader::with_capacity(BUFFER, metered);
        let (format, begin) = Format::sniff(&mut input, length, hint)?;
        input.seek(SeekFrom::Start(begin))?;
        let (decoder, spec, known) = opened(input, format, length - begin)?;
        if !RATES.contains(&spec.rate_hz) {
            return Err(AudioError::Rate { hz: spec.rate_hz });
        }
        let file = Self {
            decoder,
            format,
            spec,
            limits,
            block: Vec::new(),
            taken: 0,
            given: 0,
            ended: false,
            read_to,
            length,
        };
        file.check_length(known.unwrap_or(0))?;
        Ok(file)
    }

    /// What the file is.
    pub fn format(&self) -> Format {
        self.format
    }

    /// What was wrong with what has been read so far.
    pub fn flaws(&self) -> Flaws {
        self.decoder.flaws()
    }

    fn check_length(&self, frames: u64) -> Result<(), AudioError> {
        let most = self.limits.duration;
        match frames / u64::from(self.spec.rate_hz) > most.as_secs() {
            true => Err(AudioError::TooLong { most }),
            false => Ok(()),
        }
    }
}

impl PcmSource for AudioFile {
    fn spec(&self) -> PcmSpec {
        self.spec
    }

    fn read(&mut self, out: &mut [i16]) -> Result<usize, AudioError> {
        let channels = usize::from(self.spec.channels);
        let wanted = out.len() / channels * channels;
        let mut done = 0;
        while done < wanted {
            if self.taken == self.block.len() {
                self.block.clear();
                self.taken = 0;
                if self.ended {
                    break;
                }
                self.ended = !self.decoder.decode(&mut self.block)?;
                continue;
            }
            let some = (wanted - done).min(self.block.len() - self.taken);
            out[done..done + some].copy_from_slice(&self.block[self.taken..self.taken + some]);
            self.taken += some;
            done += some;
        }
        let frames = done / channels;
        self.given += frames as u64;
        self.check_length(self.given)?;
        Ok(frames)
    }

    fn share(&self) -> f64 {
        (self.read_to.load(Ordering::Relaxed) as f64 / self.length as f64).min(1.0)
    }
}

/// The decoder of `format`, what it gives, and how many frames, if that is certain.
type Opened = (Box<dyn Decode>, PcmSpec, Option<u64>);

fn opened(input: impl Input + 'static, format: Format, length: u64) -> Result<Opened, AudioError> {
    Ok(match format {
        Format::Wav => return wav(input),
        Format::Flac => {
            let packets = Packets::flac(input)?;
            let spec = packets.spec();
            (Box::new(packets), spec, None)
        }
        Format::Mp3 => {
            let packets = Packets::mp3(input)?;
            let spec = packets.spec();
            (Box::new(packets), spec, None)
        }
        Format::OggOpus => {
            let opus = ogg::Opus::new(input)?;
            let spec = opus.spec();
            (Box::new(opus), spec, None)
        }
        Format::Headerless(kind) => {
            let spec = PcmSpec { rate_hz: kind.rate_hz(), channels: 1 };
            (Box::new(Raw::new(input, kind)), spec, Some(kind.samples_in(length)))
        }
    })
}

fn wav(mut input: impl Input + 'static) -> Result<Opened, AudioError> {
    let located = locate(&mut input)?;
    let flaws = Flaws { cut_off: located.clamped, damaged: 0 };
    if located.fmt.tag == GSM_TAG {
        let blocks = GsmBlocks::at(input, &located)?;
        let spec = PcmSpec { rate_hz: located.fmt.rate_hz, channels: 1 };
        let frames = blocks.remaining();
        return Ok((Box::new(GsmWav { blocks, flaws }), spec, Some(frames)));
    }
    let reader = WavReader::at(input, &located)?;
    let format = reader.format();
    let spec = PcmSpec { rate_hz: format.rate_hz, channels: format.channels };
    Ok((Box::new(PcmWav { reader, flaws }), spec, Some(format.frames)))
}

/// Frames of a WAV file decoded at a time.
const WAV_FRAMES: usize = 4_096;

struct PcmWav<R> {
    reader: WavReader<R>,
    flaws: Flaws,
}

impl<R: Read + Seek + Send> Decode for PcmWav<R> {
    fn decode(&mut self, out: &mut Vec<i16>) -> Result<bool, AudioError> {
        let channels = usize::from(self.reader.format().channels);
        let begin = out.len();
        out.resize(begin + WAV_FRAMES * channels, 0);
        let frames = self.reader.read_frames(&mut out[begin..])?;
        out.truncate(begin + frames * channels);
        Ok(frames == WAV_FRAMES)
    }

    fn flaws(&self) -> Flaws {
        self.flaws
    }
}

struct GsmWav<R> {
    blocks: GsmBlocks<R>,
    flaws: Flaws,
}

impl<R: Read + Seek + Send> Decode for GsmWav<R> {
    fn decode(&mut self, out: &mut Vec<i16>) -> Result<bool, AudioError> {
        Ok(self.blocks.next(out)?)
    }

    fn flaws(&self) -> Flaws {
        self.flaws
    }
}

/// Tells how far a file has been read.
struct Metered<R> {
    inner: R,
    at: u64,
    read_to: Arc<AtomicU64>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.at += read as u64;
        self.read_to.store(self.at, Ordering::Relaxed);
        Ok(read)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.inner.seek(to)?;
        Ok(self.at)
    }
}
