//! Whether a model's file is what it should be.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::ggml::{self, Flaw, Shape};
use super::catalogue::entry_of;
use super::shelf::beside;
use crate::files;

/// What is remembered of a model when it was pulled. Of one that the catalogue does not know, its checksum is trusted from
/// then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Length of its file.
    pub bytes: u64,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
    /// Where it is from.
    pub from: String,
    /// When it was pulled.
    pub pulled: jiff::Timestamp,
}

impl Record {
    /// What is remembered of the model at `path`.
    pub fn of(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(path)).ok()?).ok()
    }

    /// Where it is remembered.
    pub fn path(model: &Path) -> PathBuf {
        beside(model, ".pulled.json")
    }

    pub(super) fn keep(&self, model: &Path) -> io::Result<()> {
        let json = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        files::replace_durably(&Self::path(model), &json)
    }
}

/// On what ground a file is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// It has the catalogue's checksum.
    Checksum,
    /// It has the checksum that it had when it was pulled: the catalogue does not know it.
    SameAsPulled,
    /// It is whole and makes sense: there is no checksum to hold it against.
    Structure,
}

impl Proof {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Checksum => "has the checksum of the catalogue",
            Self::SameAsPulled => "has the checksum that it had when it was pulled",
            Self::Structure => "is whole; there is no checksum to hold it against",
        }
    }
}

/// Why a file is not good.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It is no whole model.
    #[error("{0}")]
    Flaw(#[from] Flaw),
    /// It is a model, and another one than its name says.
    #[error("it is no {name}, by its header: a file of another model has its name")]
    Other {
        /// The name.
        name: String,
    },
    /// It has not the length that it should have.
    #[error("it is {have} bytes long and should be {should}")]
    Length {
        /// Its length.
        have: u64,
        /// The right one.
        should: u64,
    },
    /// Its checksum is wrong.
    #[error("its SHA-256 is {have} and should be {should} ({whose})")]
    Checksum {
        /// Its checksum.
        have: String,
        /// The right one.
        should: String,
        /// Who says so.
        whose: &'static str,
    },
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Flaw(Flaw::Io(error))
    }
}

/// What a file should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// What its header should say.
    pub shape: Option<Shape>,
    /// Its length.
    pub bytes: Option<u64>,
    /// Its SHA-256, and who says so.
    pub sha256: Option<(String, &'static str)>,
}

impl Expected {
    /// What the catalogue says of the model `name`, or else what is remembered of the file at `path`.
    pub fn of(name: &str, path: &Path) -> Self {
        if let Some(entry) = entry_of(name) {
            return Self {
                shape: Some(entry.shape()),
                bytes: Some(entry.bytes),
                sha256: Some((entry.sha256.to_owned(), CATALOGUES)),
            };
        }
        match Record::of(path) {
            Some(record) => Self {
                shape: None,
                bytes: Some(record.bytes),
                sha256: Some((record.sha256, "as it was when pulled first")),
            },
            None => Self::default(),
        }
    }

    /// All that needs no checksum: the quick part, and the one that tells best what is wrong.
    pub(super) fn structure(&self, name: &str, file: &File) -> Result<(), Fault> {
        let have = file.metadata()?.len();
        let length = self.bytes.filter(|&should| should != have);
        let shape = match (ggml::check(&mut BufReader::new(file)), length) {
            // Whole it would be longer: that it ends too early says more than in the middle of what.
            (Err(Flaw::Missing { .. }), Some(should)) if have < should => {
                return Err(Fault::Length { have, should });
            }
            (outcome, _) => outcome?,
        };
        if self.shape.is_some_and(|should| should != shape) {
            return Err(Fault::Other { name: name.to_owned() });
        }
        length.map_or(Ok(()), |should| Err(Fault::Length { have, should }))
    }

    pub(super) fn digest(&self, have: &str) -> Result<Proof, Fault> {
        match &self.sha256 {
            None => Ok(Proof::Structure),
            Some((should, whose)) if should != have => {
                Err(Fault::Checksum { have: have.to_owned(), should: should.clone(), whose })
            }
            Some((_, whose)) if *whose == CATALOGUES => Ok(Proof::Checksum),
            Some(_) => Ok(Proof::SameAsPulled),
        }
    }
}

const CATALOGUES: &str = "the catalogue";

/// Bytes hashed between two looks at whether to go on.
pub(super) const PIECE: usize = 1 << 20;

/// Hashes a file piece by piece.
pub(super) struct Hasher {
    file: File,
    hash: Sha256,
    piece: Vec<u8>,
}

impl Hasher {
    pub fn new(file: &File) -> io::Result<Self> {
        let mut file = file.try_clone()?;
        file.rewind()?;
        Ok(Self { file, hash: Sha256::new(), piece: vec![0; PIECE] })
    }

    /// Take the next piece; whether there was one.
    pub fn step(&mut self) -> io::Result<bool> {
        let read = self.file.read(&mut self.piece)?;
        self.hash.update(&self.piece[..read]);
        Ok(read > 0)
    }

    pub fn hex(self) -> String {
        self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Read the file of the model `name` through: structure, every weight, length and checksum.
///
/// # Errors
/// The first [`Fault`] found.
pub fn verify(name: &str, path: &Path) -> Result<Proof, Fault> {
    let file = File::open(path)?;
    let expected = Expected::of(name, path);
    expected.structure(name, &file)?;
    let mut hasher = Hasher::new(&file)?;
    while hasher.step()? {}
    expected.digest(&hasher.hex())
}
