//! Where the files of a call lie.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Longest tenant name and call id.
const MAX_NAME: usize = 64;

/// A tenant name or call id that cannot name files.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot be the name of a tenant or the id of a call: use 1 to 64 letters, digits, `-` and `_`, the first a \
     letter or digit"
)]
pub struct BadName(pub String);

/// Whether `name` may name a tenant or a call: 1 to 64 ASCII letters, digits, `-` and `_`, the first a letter or digit.
/// No such name leaves its folder or is taken for a file of another call.
pub fn is_valid_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// The paths of one call's files: `<data>/recordings/<tenant>/<YYYY>/<MM>/<DD>/<call-id>.*`, the day in UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFiles {
    folder: PathBuf,
    call_id: String,
}

impl CallFiles {
    /// The files of the call that started at `started_at`. Touches no disk.
    ///
    /// # Errors
    /// [`BadName`] if the tenant or the id could lead out of the folder.
    pub fn new(data: &Path, tenant: &str, started_at: Timestamp, call_id: &str) -> Result<Self, BadName> {
        if let Some(bad) = [tenant, call_id].into_iter().find(|name| !is_valid_name(name)) {
            return Err(BadName(bad.into()));
        }
        let day = started_at.to_zoned(TimeZone::UTC).date();
        Ok(Self { folder: day_folder(data, tenant, day), call_id: call_id.into() })
    }

    /// The files of a call in a known folder.
    pub(crate) fn in_folder(folder: PathBuf, call_id: &str) -> Self {
        Self { folder, call_id: call_id.into() }
    }

    /// Whose files these are.
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// The day folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Make the day folder.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create_folder(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)
    }

    /// The finished recording, `.wav`.
    pub fn recording(&self) -> PathBuf {
        self.with_suffix("wav")
    }

    /// The recording while it is written, `.wav.part`.
    pub fn recording_part(&self) -> PathBuf {
        self.with_suffix("wav.part")
    }

    /// The integrity report, `.json`.
    pub fn report(&self) -> PathBuf {
        self.with_suffix("json")
    }

    /// The transcript with all it knows, `.transcript.json`.
    pub fn transcript(&self) -> PathBuf {
        self.with_suffix("transcript.json")
    }

    /// The transcript as subtitles, `.vtt`.
    pub fn vtt(&self) -> PathBuf {
        self.with_suffix("vtt")
    }

    /// The journal of events, `.events.jsonl`.
    pub fn events(&self) -> PathBuf {
        self.with_suffix("events.jsonl")
    }

    /// The call record, `.call.json`.
    pub fn record(&self) -> PathBuf {
        self.with_suffix("call.json")
    }

    /// Remove whatever there is of the call, also what crashes and failed writes left; the record goes last, so that a
    /// failure leaves a call that can be deleted.
    ///
    /// # Errors
    /// The first failure, other than that a file is not there.
    pub fn remove_all(&self) -> io::Result<()> {
        // No id has a dot: what follows this is of no other call.
        let prefix = format!("{}.", self.call_id);
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let is_ours =
                path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(prefix.as_bytes()));
            if is_ours && path != self.record() {
                remove(&path)?;
            }
        }
        remove(&self.record())
    }

    fn with_suffix(&self, suffix: &str) -> PathBuf {
        self.folder.join(format!("{}.{suffix}", self.call_id))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `<data>/recordings`.
pub(crate) fn recordings_root(data: &Path) -> PathBuf {
    data.join("recordings")
}

/// The folder in the data folder for what calls owe.
pub(crate) const OWED: &str = "owed";

/// `<data>/owed/<call-id>.json`: what a call's transcript lacks and its recording has.
pub(crate) fn owed_path(data: &Path, call_id: &str) -> PathBuf {
    data.join(OWED).join(format!("{call_id}.json"))
}

/// The folder of a tenant's calls of one day.
pub(crate) fn day_folder(data: &Path, tenant: &str, day: jiff::civil::Date) -> PathBuf {
    recordings_root(data)
        .join(tenant)
        .join(format!("{:04}", day.year()))
        .join(format!("{:02}", day.month()))
        .join(format!("{:02}", day.day()))
}
