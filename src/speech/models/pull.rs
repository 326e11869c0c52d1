//! Pulling a model: resumed where it stopped, tried again, checked before it gets its name.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::catalogue::entry_of;
use super::part::{Origin, Part, PartError};
use super::proof::{Expected, Fault, Hasher, Proof, Record, verify};
use super::shelf::{Shelf, gigabytes};
use super::source::{Source, below, shown};
use super::{fetch, folder};
use crate::clock;

/// How long a pull puts up with what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A server that sends nothing for this long has stalled.
    pub stall: Duration,
    /// Pause before the second attempt; it doubles.
    pub first_pause: Duration,
    /// Longest pause, whatever the server asks for.
    pub longest_pause: Duration,
    /// Attempts in a row that bring nothing before it gives up.
    pub attempts: u32,
}

impl Default for Patience {
    /// About two minutes without a byte.
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(30),
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            attempts: 6,
        }
    }
}

/// What is going on, for whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Bytes come: from `have` on, of `total` where that is known.
    Begin {
        /// Bytes that are there already.
        have: u64,
        /// Length of the file.
        total: Option<u64>,
    },
    /// So many are there.
    At(u64),
    /// An attempt failed; the next one follows after the pause.
    Again {
        /// What went wrong.
        why: String,
        /// How long until then.
        pause: Duration,
    },
    /// What was there is of no use.
    Afresh(String),
    /// All is there and is being checked.
    Checking,
}

/// How a pull ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// It was there, and good.
    AlreadyHere(Proof),
    /// It is there now.
    Now(Proof),
}

/// Why a model could not be pulled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// Another process is at it.
    #[error("another pull of {name} is under way (it has locked {}): let it finish, or stop it first", path.display())]
    Busy {
        /// The model.
        name: String,
        /// Its part.
        path: PathBuf,
    },
    /// The source does not have it.
    #[error(
        "there is no {file} at {place} ({answer}): see `sidetone models list` for names, and --from and speech.models_url for the place"
    )]
    NotThere {
        /// The file.
        file: String,
        /// Where it was looked for.
        place: String,
        /// What was answered.
        answer: String,
    },
    /// The server, or a proxy before it, does not want to.
    #[error("{url} is refused ({answer}): {remedy}")]
    Refused {
        /// The URL, without secrets.
        url: String,
        /// The answer.
        answer: String,
        /// What to do.
        remedy: &'static str,
    },
    /// What comes is no model.
    #[error(
        "what comes from {place} is no model (it begins with {begins:?}): a page of a proxy or of a login, perhaps; open it in a browser, or take another mirror"
    )]
    NoModel {
        /// Where from.
        place: String,
        /// Its first bytes.
        begins: String,
    },
    /// The file there has another length.
    #[error(
        "the file at {place} is {have} bytes long, and {name} has {should}: it is not the one that was published; take another mirror"
    )]
    WrongSize {
        /// The model.
        name: String,
        /// Where from.
        place: String,
        /// Its length.
        have: u64,
        /// The right length.
        should: u64,
    },
    /// It is longer than any model.
    #[error(
        "the file at {place} is longer than any Whisper model ({} at most): take another mirror",
        gigabytes(LONGEST)
    )]
    TooLong {
        /// Where from.
        place: String,
    },
    /// What came is damaged, twice.
    #[error(
        "{name} from {place} is damaged: {fault}. Nothing of it was kept; try again, or take another mirror"
    )]
    Damaged {
        /// The model.
        name: String,
        /// Where from.
        place: String,
        /// What is wrong.
        fault: Box<Fault>,
    },
    /// It is another file than the one that was pulled first.
    #[error("{name} at {place} is not the file that was pulled first: {fault}. If it may have changed, remove {} and pull again", record.display())]
    Changed {
        /// The model.
        name: String,
        /// Where from.
        place: String,
        /// What differs.
        fault: Box<Fault>,
        /// What remembers the first one.
        record: PathBuf,
    },
    /// There is no room for it.
    #[error("no room for {name} in {}: {} are missing{}. Free some, or set speech.models_dir to a folder on a larger disk", folder.display(), gigabytes(*missing), kept_free(*spare))]
    NoRoom {
        /// The model.
        name: String,
        /// The folder.
        folder: PathBuf,
        /// Bytes that are missing.
        missing: u64,
        /// Bytes of them that are to stay free for recordings.
        spare: u64,
    },
    /// The folder cannot be used.
    #[error("cannot write {}: {error}; {}", path.display(), remedy(error))]
    Write {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The source cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// No client could be made.
    #[error(
        "cannot open encrypted connections: {0}. Install the system's certificates (package ca-certificates)"
    )]
    Tls(String),
    /// It was tried often enough.
    #[error("{place} cannot be pulled from: {why}. {} are kept: the same command goes on from there", gigabytes(*kept))]
    GaveUp {
        /// Where from.
        place: String,
        /// What went wrong last.
        why: String,
        /// Bytes that are there.
        kept: u64,
    },
}

fn kept_free(spare: u64) -> String {
    if spare == 0 { String::new() } else { format!(" ({} stay free for recordings)", gigabytes(spare)) }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space, or set speech.models_dir to a folder on a larger disk; what is there of the model is kept"
        }
        io::ErrorKind::FileTooLarge => {
            "raise the limit on file sizes (`ulimit -f`, LimitFSIZE of the unit); what is there of the model is kept"
        }
        _ => "let this user write there, or set speech.models_dir to another folder",
    }
}

/// What an attempt failed of.
pub(super) enum Hitch {
    /// It may go better the next time.
    Passing { why: String, after: Option<Duration> },
    /// It will not.
    Final(PullError),
}

impl From<PullError> for Hitch {
    fn from(error: PullError) -> Self {
        Self::Final(error)
    }
}

/// Who watches a pull.
pub type Tell<'a> = &'a mut dyn FnMut(Step);

/// A model to be pulled.
#[derive(Clone, Debug)]
pub struct Pull<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it comes to be.
    pub shelf: &'a Shelf,
    /// Where it is from.
    pub source: &'a Source,
    /// What it should be.
    pub expected: Expected,
    /// Bytes of the disk that have to stay free.
    pub spare: u64,
    /// How long to put up with what.
    pub patience: Patience,
}

impl<'a> Pull<'a> {
    /// Of the model `name`, with what the catalogue says of it or what is remembered of an earlier pull.
    pub fn new(name: &'a str, shelf: &'a Shelf, source: &'a Source) -> Self {
        let expected = Expected::of(name, &shelf.path(name));
        Self { name, shelf, source, expected, spare: 0, patience: Patience::default() }
    }

    /// The name of its file.
    pub(super) fn file_name(&self) -> String {
        format!("ggml-{}.bin", self.name)
    }

    /// Where its file is, for people.
    pub(super) fn place(&self) -> String {
        match self.source {
            Source::Server(base) => shown(&below(base, &self.file_name())),
            Source::Folder(folder) => folder.display().to_string(),
        }
    }

    /// Pull it. May be dropped at any time: the next pull goes on with what is there.
    ///
    /// # Errors
    /// [`PullError`]. Unless it says otherwise, what is there is kept for the next attempt.
    pub async fn run(&self, tell: Tell<'_>) -> Result<Pulled, PullError> {
        let model = self.shelf.path(self.name);
        let folder = &self.shelf.folder;
        let cannot_write = |path: &PathBuf| {
            let path = path.clone();
            move |error| PullError::Write { path, error }
        };
        std::fs::create_dir_all(folder).map_err(cannot_write(folder))?;
        let mut part = match Part::open(&model) {
            Ok(part) => part,
            Err(PartError::Busy) => {
                let path = super::shelf::beside(&model, ".part");
                return Err(PullError::Busy { name: self.name.to_owned(), path });
            }
            Err(PartError::Io(error)) => return Err(cannot_write(folder)(error)),
        };
        if model.exists() {
            match verify(self.name, &model) {
                Ok(proof) => {
                    part.discard().map_err(cannot_write(folder))?;
                    return Ok(Pulled::AlreadyHere(proof));
                }
                Err(fault) => tell(Step::Afresh(format!("the file that is there is no good: {fault}"))),
            }
        }
        let (proof, sha256) = self.get_good(&mut part, tell).await?;
        let bytes = part.length();
        let record = Record { bytes, sha256, from: self.place(), pulled: clock::timestamp() };
        record.keep(&model).map_err(cannot_write(&Record::path(&model)))?;
        part.become_model(&model).map_err(cannot_write(&model))?;
        Ok(Pulled::Now(proof))
    }

    /// What comes damaged is fetched once more from its beginning: bytes of an earlier attempt may be what is wrong.
    async fn get_good(&self, part: &mut Part, tell: Tell<'_>) -> Result<(Proof, String), PullError> {
        let mut damaged_before = false;
        loop {
            self.get(part, tell).await?;
            tell(Step::Checking);
            let fault = match self.check(part).await {
                Ok(good) => return Ok(good),
                Err(fault) => fault,
            };
            let (name, place) = (self.name.to_owned(), self.place());
            self.forget(part)?;
            if damaged_before {
                return Err(match fault {
                    Fault::Checksum { .. } if self.is_remembered() => self.changed(fault),
                    fault => PullError::Damaged { name, place, fault: Box::new(fault) },
                });
            }
            damaged_before = true;
            tell(Step::Afresh(format!("what came is damaged ({fault}), once more from the start")));
        }
    }

    /// Whether what it should be is known from an earlier pull alone.
    fn is_remembered(&self) -> bool {
        entry_of(self.name).is_none() && Record::of(&self.shelf.path(self.name)).is_some()
    }

    fn changed(&self, fault: Fault) -> PullError {
        let record = Record::path(&self.shelf.path(self.name));
        PullError::Changed { name: self.name.to_owned(), place: self.place(), fault: Box::new(fault), record }
    }

    pub(super) fn wrong_size(&self, have: u64, should: u64) -> PullError {
        if self.is_remembered() {
            return self.changed(Fault::Length { have, should });
        }
        PullError::WrongSize { name: self.name.to_owned(), place: self.place(), have, should }
    }

    fn forget(&self, part: &mut Part) -> Result<(), PullError> {
        let path = part.path.clone();
        part.restart(Origin::default()).map_err(|error| PullError::Write { path, error })
    }

    async fn check(&self, part: &Part) -> Result<(Proof, String), Fault> {
        self.expected.structure(self.name, &part.file)?;
        let mut hasher = Hasher::new(&part.file)?;
        while hasher.step()? {
            // Gigabytes take seconds: let an interrupt through.
            tokio::task::yield_now().await;
        }
        let sha256 = hasher.hex();
        Ok((self.expected.digest(&sha256)?, sha256))
    }

    /// All of the file, in as many attempts as it takes.
    async fn get(&self, part: &mut Part, tell: Tell<'_>) -> Result<(), PullError> {
        let via = match self.source {
            Source::Server(base) => Via::Server(fetch::client(&self.patience)?, base),
            Source::Folder(folder) => Via::Folder(folder),
        };
        let (mut failures, mut pause) = (0, self.patience.first_pause);
        loop {
            let before = part.length();
            let outcome = match &via {
                Via::Server(client, base) => fetch::attempt(self, client, base, part, tell).await,
                Via::Folder(folder) => folder::copy(self, folder, part, tell).await,
            };
            let (why, after) = match outcome {
                Ok(()) => return Ok(()),
                Err(Hitch::Final(error)) => return Err(error),
                Err(Hitch::Passing { why, after }) => (why, after),
            };
            if part.length() > before {
                (failures, pause) = (0, self.patience.first_pause);
            }
            failures += 1;
            if failures >= self.patience.attempts {
                return Err(PullError::GaveUp { place: self.place(), why, kept: part.length() });
            }
            let wait = after.unwrap_or(pause).min(self.patience.longest_pause);
            tell(Step::Again { why, pause: wait });
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(self.patience.longest_pause);
        }
    }

    /// Refuse a file of the wrong length, and one for which there is no room, before any of it comes.
    pub(super) fn fits(&self, total: u64, have: u64) -> Result<(), PullError> {
        if let Some(should) = self.expected.bytes.filter(|&should| should != total) {
            return Err(self.wrong_size(total, should));
        }
        if total > LONGEST {
            return Err(PullError::TooLong { place: self.place() });
        }
        let folder = &self.shelf.folder;
        let stat = rustix::fs::statvfs(folder)
            .map_err(|error| PullError::Write { path: folder.clone(), error: error.into() })?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let needed = (total - have.min(total)).saturating_add(self.spare);
        match needed.checked_sub(free) {
            None | Some(0) => Ok(()),
            Some(missing) => Err(PullError::NoRoom {
                name: self.name.to_owned(),
                folder: folder.clone(),
                missing,
                spare: self.spare,
            }),
        }
    }

    /// Keep `bytes`, which come next. Of a file that does not begin as a model nothing more is wanted.
    pub(super) fn keep(&self, part: &mut Part, bytes: &[u8]) -> Result<(), PullError> {
        let unchecked = part.length() < MAGIC.len() as u64;
        let cannot_write = |path: PathBuf| move |error| PullError::Write { path, error };
        part.append(bytes).map_err(cannot_write(part.path.clone()))?;
        if !unchecked || part.length() < MAGIC.len() as u64 {
            return Ok(());
        }
        let head = part.head::<16>().map_err(cannot_write(part.path.clone()))?;
        if head.starts_with(&MAGIC) {
            return Ok(());
        }
        self.forget(part)?;
        let begins = head.iter().map(|&b| if b.is_ascii_graphic() || b == b' ' { b as char } else { '.' });
        Err(PullError::NoModel { place: self.place(), begins: begins.collect() })
    }
}

enum Via<'a> {
    Server(reqwest::Client, &'a reqwest::Url),
    Folder(&'a Path),
}

/// `large-v3` takes 6.2 GB where nothing of it is halved.
pub(super) const LONGEST: u64 = 8_000_000_000;

/// How a model's file begins: `ggml` as a little-endian number.
const MAGIC: [u8; 4] = *b"lmgg";
