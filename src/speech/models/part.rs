//! A model's file on its way: what is there of it, where it is from, and that one process alone writes it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::shelf::beside;
use crate::files;

/// Where the bytes of a part are from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    /// The URL, without its query.
    pub url: String,
    /// What says that a later answer is of the same file: its strong ETag, or else when it was last modified.
    pub validator: Option<String>,
}

/// The part of a model that is there. Locked for as long as it is open.
#[derive(Debug)]
pub(super) struct Part {
    pub file: File,
    pub path: PathBuf,
    pub origin: Origin,
    length: u64,
}

/// Why a part cannot be opened.
#[derive(Debug)]
pub(super) enum PartError {
    /// Another process has it.
    Busy,
    Io(io::Error),
}

impl From<io::Error> for PartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Part {
    /// Open the part of `model`, which may have nothing in it yet.
    ///
    /// The lock is on the file itself. Whoever waited for a part that has meanwhile become the model, or is gone, holds the lock
    /// of a file that has not this name any more, and opens again.
    pub fn open(model: &Path) -> Result<Self, PartError> {
        let path = beside(model, ".part");
        loop {
            let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(PartError::Busy),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            let ours = file.metadata()?;
            match fs::metadata(&path) {
                Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {}
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            }
            let length = file.seek(SeekFrom::End(0))?;
            let origin = fs::read(Self::note(&path)).ok().and_then(|json| serde_json::from_slice(&json).ok());
            return Ok(Self { file, path, origin: origin.unwrap_or_default(), length });
        }
    }

    pub const fn length(&self) -> u64 {
        self.length
    }

    fn note(path: &Path) -> PathBuf {
        beside(path, ".json")
    }

    /// Begin anew, with bytes from `origin`.
    pub fn restart(&mut self, origin: Origin) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.length = 0;
        self.origin = origin;
        let json = serde_json::to_vec(&self.origin).map_err(io::Error::other)?;
        files::replace(&Self::note(&self.path), &json)
    }

    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(bytes);
        // A write that fails half way has still written something.
        self.length =
            if written.is_ok() { self.length + bytes.len() as u64 } else { self.file.stream_position()? };
        written
    }

    /// The first bytes, `N` of them or as many as there are.
    pub fn head<const N: usize>(&self) -> io::Result<Vec<u8>> {
        let mut head = Vec::with_capacity(N);
        File::open(&self.path)?.take(N as u64).read_to_end(&mut head)?;
        Ok(head)
    }

    /// Make it the model, durably.
    pub fn become_model(self, model: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        files::rename_durably(&self.path, model)?;
        remove(&Self::note(&self.path))
    }

    /// Leave nothing of it.
    pub fn discard(self) -> io::Result<()> {
        remove(&self.path)?;
        remove(&Self::note(&self.path))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_for_one_and_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("ggml-x.bin");
        let origin = Origin { url: "http://host/x".into(), validator: Some("\"1\"".into()) };
        let mut part = Part::open(&model).unwrap();
        part.restart(origin.clone()).unwrap();
        part.append(b"ggml and more").unwrap();
        assert!(matches!(Part::open(&model), Err(PartError::Busy)));
        drop(part);

        let mut part = Part::open(&model).unwrap();
        assert_eq!((part.length(), &part.origin), (13, &origin));
        part.append(b"!").unwrap();
        assert_eq!(part.head::<4>().unwrap(), b"ggml");
        part.become_model(&model).unwrap();
        assert_eq!(fs::read(&model).unwrap(), b"ggml and more!");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");

        let part = Part::open(&model).unwrap();
        assert_eq!((part.length(), &part.origin), (0, &Origin::default()), "a new one");
        part.discard().unwrap();
        assert_eq!(fs::read(&model).unwrap(), b"ggml and more!");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }
}
