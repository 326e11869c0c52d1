//! Audio of any kind to a file of any kind that Asterisk takes, a piece at a time.
//!
//! Whatever need not change does not: where rate and channels stay, samples go from decoder to encoder as they are. The output is
//! written beside its place, read back to the end, and only then takes its name: there is never half of one, nor one that cannot
//! be read.

mod encode;
mod target;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::{AudioError, AudioFile, Flaws, Format, Limits, PcmSource};
use crate::crash::{self, Step};
use crate::files;
use crate::media::resample::{Resampler, UnsupportedRate};

pub use target::{Target, UnknownTarget};

/// Which of the source's channels are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Channels {
    /// As they are; their mean where the target has one only.
    #[default]
    Keep,
    /// Their mean.
    Mix,
    /// One of them, from 0.
    One(u16),
}

/// What is to be done with a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// Kind of the output.
    pub target: Target,
    /// Samples a second; without it what the target prescribes, or else the source's.
    pub rate_hz: Option<u32>,
    /// Which channels.
    pub channels: Channels,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Converted {
    /// Length, seconds.
    pub seconds: f64,
    /// Bytes of the output.
    pub bytes: u64,
    /// What was wrong with the source.
    pub flaws: Flaws,
}

/// Why there is no output. Nothing is left of it then.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] AudioError),
    /// The source has no such channel.
    #[error("there is no channel {asked}: the file has {count}")]
    NoChannel {
        /// Counted from 1.
        asked: u16,
        /// How many there are.
        count: u16,
    },
    /// The target does not take so many.
    #[error("{count} channels: {target} takes two at most; take one or mix them")]
    TooManyChannels {
        /// How many there are.
        count: u16,
        /// Kind of the output.
        target: Target,
    },
    /// The target has another rate, or a range of rates.
    #[error("{target} has no {hz} samples a second")]
    TargetRate {
        /// What was asked for.
        hz: u32,
        /// Kind of the output.
        target: Target,
    },
    /// The rate cannot be converted.
    #[error(transparent)]
    Rate(#[from] UnsupportedRate),
    /// The output is too long for its kind.
    #[error("{target} cannot hold more than {most} bytes of audio: cut the file into pieces")]
    TooLong {
        /// Kind of the output.
        target: Target,
        /// Its longest.
        most: u64,
    },
    /// The encoder refuses.
    #[error("cannot encode {target}: {reason}")]
    Encode {
        /// Kind of the output.
        target: Target,
        /// What it says.
        reason: String,
    },
    /// The output cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The output.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody wants it any more.
    #[error("cancelled")]
    Cancelled,
    /// The output was written, and is not what it should be.
    #[error("{} was written and cannot be read back: {reason}", path.display())]
    Unverified {
        /// The output.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Frames taken in at a time. Whole frames of every codec, at every rate.
const CHUNK: usize = 9_600;

/// Convert `source` to the file `out`, which is replaced if it is there. `progress` is told the share that is done,
/// and says whether to go on.
///
/// # Errors
/// [`ConvertError`]; what was at `out` is there still.
pub fn convert(
    source: &mut AudioFile,
    out: &Path,
    conversion: Conversion,
    progress: &mut dyn FnMut(f64) -> bool,
) -> Result<Converted, ConvertError> {
    let failed = |source| ConvertError::Write { path: out.to_owned(), source };
    let mut plan = Plan::of(source, conversion)?;
    let draft = Draft::create(out).map_err(failed)?;
    let mut file = BufWriter::new(draft.file().map_err(failed)?);
    crash::here(Step::Begun);
    let frames = plan.run(source, &mut file, out, progress)?;
    file.flush().map_err(failed)?;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    let bytes = file.metadata().map_err(failed)?.len();
    plan.verify(&draft.path, out, frames)?;
    // A worker says that the work is done: then it is, a power cut notwithstanding.
    file.sync_all().map_err(failed)?;
    draft.keep(out).map_err(failed)?;
    Ok(Converted { seconds: frames as f64 / f64::from(plan.rate_hz), bytes, flaws: source.flaws() })
}

/// Read a file to its end: what it holds, if it can be read.
///
/// # Errors
/// [`AudioError`].
pub fn read_back(path: &Path, format: Option<Format>) -> Result<Converted, AudioError> {
    let mut file = AudioFile::open(path, format, Limits::default())?;
    let spec = file.spec();
    let mut buffer = vec![0; CHUNK * usize::from(spec.channels)];
    let mut frames = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            more => frames += more as u64,
        }
    }
    let bytes = std::fs::metadata(path).map_err(AudioError::Open)?.len();
    Ok(Converted { seconds: frames as f64 / f64::from(spec.rate_hz), bytes, flaws: file.flaws() })
}

/// The output until it is whole. Dropped before, it is removed.
struct Draft {
    path: PathBuf,
    kept: bool,
}

impl Draft {
    fn create(out: &Path) -> io::Result<Self> {
        if let Some(folder) = out.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // A name of its own: two workers with the same job must not write into one file. The extension tells readers what it is.
        let name = format!(".sidetone-{}", uuid::Uuid::now_v7());
        let path = out.with_file_name(name).with_extension(out.extension().unwrap_or_default());
        Ok(Self { path, kept: false })
    }

    /// For whomever the umask says: it is Asterisk, another user, that is to play it.
    fn file(&self) -> io::Result<File> {
        File::options().read(true).write(true).create_new(true).open(&self.path)
    }

    fn keep(mut self, out: &Path) -> io::Result<()> {
        files::rename_durably(&self.path, out)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // It may never have been made; and what cannot be removed is a hidden file that nobody takes for a result.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// How the source's frames become the target's.
struct Plan {
    target: Target,
    channels: Channels,
    source_channels: usize,
    target_channels: usize,
    source_hz: u32,
    rate_hz: u32,
    /// One a channel; none where the rate stays.
    resamplers: Vec<Resampler>,
}

impl Plan {
    fn of(source: &AudioFile, conversion: Conversion) -> Result<Self, ConvertError> {
        let Conversion { target, rate_hz, channels } = conversion;
        let spec = source.spec();
        if let Channels::One(n) = channels
            && n >= spec.channels
        {
            return Err(ConvertError::NoChannel { asked: n.saturating_add(1), count: spec.channels });
        }
        let target_channels = if channels == Channels::Keep && !target.is_mono() { spec.channels } else { 1 };
        if target_channels > 2 {
            return Err(ConvertError::TooManyChannels { count: spec.channels, target });
        }
        let rate_hz = match rate_hz {
            Some(hz) if target.takes(hz) => hz,
            Some(hz) => return Err(ConvertError::TargetRate { hz, target }),
            None => target.rate_for(spec.rate_hz),
        };
        let resampled = if rate_hz == spec.rate_hz { 0 } else { target_channels };
        let resamplers = (0..resampled)
            .map(|_| Resampler::between_rates(spec.rate_hz, rate_hz))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            target,
            channels,
            source_channels: spec.channels.into(),
            target_channels: target_channels.into(),
            source_hz: spec.rate_hz,
            rate_hz,
            resamplers,
        })
    }

    /// Returns the frames written.
    fn run(
        &mut self,
        source: &mut AudioFile,
        file: &mut BufWriter<File>,
        out: &Path,
        progress: &mut dyn FnMut(f64) -> bool,
    ) -> Result<u64, ConvertError> {
        let mut encoder = encode::encoder(self.target, self.rate_hz, self.target_channels, file, out)?;
        let mut taken = vec![0; CHUNK * self.source_channels];
        let (mut chosen, mut made) = (Vec::new(), Vec::new());
        let mut frames = 0;
        loop {
            let read = source.read(&mut taken)?;
            self.choose(&taken[..read * self.source_channels], &mut chosen);
            made.clear();
            self.resample(&chosen, read == 0, &mut made);
            frames += (made.len() / self.target_channels) as u64;
            encoder.write(&made)?;
            if !progress(source.share()) {
                return Err(ConvertError::Cancelled);
            }
            if read == 0 {
                break;
            }
        }
        encoder.finish()?;
        Ok(frames)
    }

    fn choose(&self, taken: &[i16], chosen: &mut Vec<i16>) {
        let all = self.source_channels;
        chosen.clear();
        match self.channels {
            Channels::One(n) => chosen.extend(taken.iter().skip(n.into()).step_by(all)),
            _ if self.target_channels == all => chosen.extend_from_slice(taken),
            _ => chosen.extend(taken.chunks_exact(all).map(mean)),
        }
    }

    fn resample(&mut self, chosen: &[i16], is_end: bool, made: &mut Vec<i16>) {
        if self.resamplers.is_empty() {
            made.extend_from_slice(chosen);
            return;
        }
        let count = self.target_channels;
        let mut wide = vec![Vec::new(); count];
        for (n, (resampler, wide)) in self.resamplers.iter_mut().zip(&mut wide).enumerate() {
            let own: Vec<f32> =
                chosen.iter().skip(n).step_by(count).map(|&sample| f32::from(sample) / 32_768.0).collect();
            resampler.push(&own, wide);
            if is_end {
                resampler.finish(wide);
            }
        }
        // All channels are resampled alike, and so are of one length.
        for frame in 0..wide[0].len() {
            made.extend(wide.iter().map(|wide| to_i16(wide[frame])));
        }
    }

    /// Read the output back, all of it.
    fn verify(&self, draft: &Path, out: &Path, frames: u64) -> Result<(), ConvertError> {
        let bad = |reason: String| ConvertError::Unverified { path: out.to_owned(), reason };
        if frames == 0 {
            // A file of codes without any is empty, and empty files are refused; there is nothing that could be wrong with it.
            return Ok(());
        }
        let mut file = AudioFile::open(draft, Some(self.target.format(self.rate_hz)), Limits::default())
            .map_err(|error| bad(error.to_string()))?;
        let channels = usize::from(file.spec().channels);
        if channels != self.target_channels {
            return Err(bad(format!("it has {channels} channels, not {}", self.target_channels)));
        }
        let mut buffer = vec![0; CHUNK * channels];
        let mut read = 0;
        loop {
            match file.read(&mut buffer).map_err(|error| bad(error.to_string()))? {
                0 => break,
                more => read += more as u64,
            }
        }
        let wanted = self.target.frames_read_back(frames, self.rate_hz);
        if read != wanted {
            return Err(bad(format!(
                "it has {read} samples where {wanted} were written (from {} Hz)",
                self.source_hz
            )));
        }
        match file.flaws() {
            flaws if flaws == Flaws::default() => Ok(()),
            flaws => Err(bad(format!("{} damaged pieces, cut off: {}", flaws.damaged, flaws.cut_off))),
        }
    }
}

fn mean(frame: &[i16]) -> i16 {
    let sum: i32 = frame.iter().map(|&sample| i32::from(sample)).sum();
    (sum / frame.len().max(1) as i32) as i16
}

fn to_i16(sample: f32) -> i16 {
    // `as` saturates.
    (sample * 32_768.0).round() as i16
}
