//! What is spoken, put where Asterisk finds it: WAV, 16 bits, 8 kHz, mono.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::error::CallError;
use crate::audio::convert::{Channels, Conversion, Target, convert};
use crate::audio::wav::header;
use crate::audio::{AudioFile, Limits};

/// What every telephone has.
const RATE_HZ: u32 = 8_000;
/// What Asterisk's `Playback` is given must have none of the characters that mean something to it or to the dialplan.
const PLAIN: &str = "/-_.";
/// Asterisk is another user, and plays them.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;

/// What is spoken.
#[derive(Clone, Debug, PartialEq)]
pub enum CallAudio {
    /// Samples, 8 kHz, mono.
    Samples(Vec<i16>),
    /// A file of any kind that is read here; it is converted.
    File(PathBuf),
}

/// The folder for it.
#[derive(Clone, Debug)]
pub(super) struct AudioFolder {
    folder: PathBuf,
}

impl AudioFolder {
    pub(super) fn new(folder: &Path) -> Self {
        // Asterisk's own folder is another than ours.
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Self { folder }
    }

    /// Put it there under the call's id. Returns what `Playback` is told: the path without its extension. Blocks.
    pub(super) fn put(&self, id: &str, audio: &CallAudio) -> Result<String, CallError> {
        let failed = |reason: String| CallError::Audio { folder: self.folder.clone(), reason };
        let told = self.folder.join(id);
        let told =
            told.to_str().filter(|text| text.chars().all(|c| c.is_ascii_alphanumeric() || PLAIN.contains(c)));
        let told = told
            .ok_or_else(|| {
                failed(
                    "use a path of letters, digits, `-`, `_` and `.`: others mean something to the dialplan"
                        .into(),
                )
            })?
            .to_owned();
        let path = self.path(id);
        self.make().map_err(|error| failed(error.to_string()))?;
        match audio {
            CallAudio::Samples(samples) => {
                let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
                let wav = [&header(RATE_HZ, 1, bytes.len() as u64)[..], &bytes].concat();
                crate::files::replace(&path, &wav).map_err(|error| failed(error.to_string()))?;
            }
            CallAudio::File(file) => {
                let bad = |error: &dyn std::fmt::Display| failed(format!("{}: {error}", file.display()));
                let mut source =
                    AudioFile::open(file, None, Limits::default()).map_err(|error| bad(&error))?;
                let target = Target::Wav { rate_hz: None };
                let conversion = Conversion { target, rate_hz: Some(RATE_HZ), channels: Channels::Mix };
                convert(&mut source, &path, conversion, &mut |_| true).map_err(|error| bad(&error))?;
            }
        }
        std::fs::set_permissions(&path, Permissions::from_mode(FILE_MODE))
            .map_err(|error| failed(error.to_string()))?;
        Ok(told)
    }

    /// Remove a call's audio; it is well if there is none.
    pub(super) fn remove(&self, id: &str) {
        if let Err(error) = std::fs::remove_file(self.path(id))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(id, folder = %self.folder.display(), %error, "a call's audio cannot be removed");
        }
    }

    /// The calls whose audio lies there. Blocks.
    pub(super) fn all(&self) -> Vec<String> {
        let files = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        files.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".wav")?.to_owned())).collect()
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.wav"))
    }

    fn make(&self) -> io::Result<()> {
        if self.folder.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.folder)?;
        std::fs::set_permissions(&self.folder, Permissions::from_mode(FOLDER_MODE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::PcmSource as _;

    fn read(path: &str) -> (u32, u16, Vec<i16>) {
        let mut file = AudioFile::open(Path::new(path), None, Limits::default()).unwrap();
        let (spec, mut samples) = (file.spec(), vec![0; 100_000]);
        let read = file.read(&mut samples).unwrap();
        samples.truncate(read * usize::from(spec.channels));
        (spec.rate_hz, spec.channels, samples)
    }

    #[test]
    fn audio_lies_where_asterisk_may_read_it_until_it_is_removed() {
        let above = tempfile::tempdir().unwrap();
        let folder = AudioFolder::new(&above.path().join("speech"));
        let samples: Vec<i16> = (0..4_000).map(|n| n * 7).collect();
        let told = folder.put("job-1", &CallAudio::Samples(samples.clone())).unwrap();
        assert_eq!(Path::new(&told), above.path().join("speech/job-1"));
        let file = format!("{told}.wav");
        assert_eq!(read(&file), (8_000, 1, samples));
        let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o644);
        assert_eq!(mode(above.path().join("speech").to_str().unwrap()), 0o755);
        folder.remove("job-1");
        folder.remove("job-1");
        assert!(!Path::new(&file).exists());
    }

    #[test]
    fn a_file_becomes_what_telephones_take() {
        let above = tempfile::tempdir().unwrap();
        let source = above.path().join("wide.wav");
        let frames: Vec<u8> = (0..16_000_i16).flat_map(|_| [0, 16, 0, 32]).collect();
        std::fs::write(&source, [&header(16_000, 2, frames.len() as u64)[..], &frames].concat()).unwrap();
        let told = AudioFolder::new(above.path()).put("job-2", &CallAudio::File(source)).unwrap();
        let (rate, channels, samples) = read(&format!("{told}.wav"));
        assert_eq!((rate, channels, samples.len()), (8_000, 1, 8_000));
        assert!((6_100..6_200).contains(&samples[4_000]), "the mean of both: {}", samples[4_000]);
    }

    #[test]
    fn what_cannot_be_put_there_is_said_with_the_setting() {
        let above = tempfile::tempdir().unwrap();
        let strange = AudioFolder::new(&above.path().join("a,b"));
        let error = strange.put("job-3", &CallAudio::Samples(vec![0])).unwrap_err().to_string();
        assert!(error.contains("letters, digits") && error.contains("tts_calls.audio_folder"), "{error}");
        let missing = CallAudio::File(above.path().join("none.wav"));
        let error = AudioFolder::new(above.path()).put("job-4", &missing).unwrap_err().to_string();
        assert!(error.contains("none.wav"), "{error}");
        assert_eq!(std::fs::read_dir(above.path()).unwrap().count(), 0, "nothing is left");
    }
}
