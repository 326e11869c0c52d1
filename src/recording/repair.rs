//! After a crash: mend what was being recorded.
//!
//! To be run at start. Every `.wav.part` below the folder that no live call claims becomes a valid
//! `.wav` of as many frames as the file holds, with a report; one that is no recording becomes `.wav.broken`. Running it
//! again, or crashing within it, does no harm.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Finished;
use super::gaps::GapTrack;
use super::journal::{self, Notes};
use super::part::{PartFile, Sealed, part_path};
use super::report::Report;
use super::writer::spans;
use crate::files;
use crate::media::report::LegStats;
use crate::telemetry::metric;

/// What became of one file.
#[derive(Debug)]
pub struct Mended {
    /// The call, by its file name.
    pub call_id: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a part file.
#[derive(Debug)]
pub enum Outcome {
    /// A valid recording with its report. Packet counts are not known here: whoever has them may write the report again.
    Repaired {
        /// The file.
        finished: Box<Finished>,
        /// Its report, as written beside it.
        report: Box<Report>,
    },
    /// No recording, put aside.
    Broken {
        /// The `.wav.broken`.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It could not be mended now; the next start tries again.
    Failed {
        /// The `.wav.part`.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Mend everything below `root` that is not in `claimed` (finished paths, `….wav`, spelt as below `root`). Nothing may be
/// recorded meanwhile: where that cannot wait, take [`leftovers`] first and [`mend_one`] of them later. The first folder
/// below `root` is the tenant's.
pub fn mend(root: &Path, claimed: &HashSet<PathBuf>) -> Vec<Mended> {
    let unclaimed = leftovers(root).into_iter().filter(|wav| !claimed.contains(wav));
    unclaimed.filter_map(|wav| mend_one(root, &wav)).collect()
}

/// The finished paths, in order, of recordings below `root` that have a part file or a journal. Links are not followed;
/// folders that cannot be read are logged and left.
pub fn leftovers(root: &Path) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                tracing::error!(path = %folder.display(), %error, "cannot look for recordings to mend");
                continue;
            }
        };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => {
                    let name = entry.file_name();
                    found.extend(name.to_str().and_then(finished_name).map(|name| folder.join(name)));
                }
                _ => {}
            }
        }
    }
    found.into_iter().collect()
}

fn finished_name(name: &str) -> Option<&str> {
    let part = name.strip_suffix(".gaps").unwrap_or(name);
    part.strip_suffix(".part").filter(|name| name.ends_with(".wav"))
}

/// Mend the recording whose finished path is `wav`. `None` if there was nothing to do.
pub fn mend_one(root: &Path, wav: &Path) -> Option<Mended> {
    let part = part_path(wav);
    let call_id = wav.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let outcome = match outcome_of(root, wav, &part, &call_id) {
        Ok(outcome) => outcome?,
        Err(source) => Outcome::Failed { path: part, source },
    };
    let mended = Mended { call_id, outcome };
    tell(&mended);
    Some(mended)
}

fn outcome_of(root: &Path, wav: &Path, part: &Path, call_id: &str) -> io::Result<Option<Outcome>> {
    if !part.exists() {
        if !wav.exists() || Report::path_for(wav).exists() {
            journal::remove(part)?;
            return Ok(None);
        }
        // Finished, and killed before its report was written.
        return report_on(root, wav, wav.to_owned(), call_id).map(Some);
    }
    if wav.exists() {
        return put_aside(part, "a finished recording of the same name exists").map(Some);
    }
    match report_on(root, wav, part.to_owned(), call_id) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            put_aside(part, &error.to_string()).map(Some)
        }
        outcome => outcome.map(Some),
    }
}

/// Mend `file`, which is or becomes `wav`, and write its report.
fn report_on(root: &Path, wav: &Path, file: PathBuf, call_id: &str) -> io::Result<Outcome> {
    let modified = fs::metadata(&file)?.modified().ok().and_then(|time| jiff::Timestamp::try_from(time).ok());
    let open = PartFile::open(file, None)?;
    let (frames, sample_rate) = (open.frames(), open.rate_hz());
    let Notes { origin, started_at, tracks } = journal::read(&part_path(wav), frames)?;
    let Sealed { path, sha256, .. } = open.seal(wav).map_err(|(_, error)| error)?;
    let length = Duration::from_secs_f64(frames as f64 / f64::from(sample_rate));
    let guess = || modified.and_then(|end| end.checked_sub(length).ok()).unwrap_or_default();
    let finished = Finished {
        path,
        frames,
        sample_rate,
        sha256,
        origin: origin.unwrap_or_default(),
        started_at: started_at.unwrap_or_else(guess),
        paused: spans(&tracks.paused),
        gaps: tracks.legs.map(GapTrack::into_vec),
    };
    let mut report =
        Report::new(call_id, &tenant_of(root, wav), &finished, [LegStats::default(), LegStats::default()]);
    report.repaired = true;
    report.write(&Report::path_for(wav))?;
    Ok(Outcome::Repaired { finished: Box::new(finished), report: Box::new(report) })
}

fn tenant_of(root: &Path, wav: &Path) -> String {
    let below = wav.strip_prefix(root).ok().and_then(Path::parent).and_then(|folder| folder.iter().next());
    below.map_or_else(|| "default".to_owned(), |tenant| tenant.to_string_lossy().into_owned())
}

fn put_aside(part: &Path, reason: &str) -> io::Result<Outcome> {
    let broken = part.with_extension("broken");
    let numbered = (2..1_000).map(|n| part.with_extension(format!("broken.{n}")));
    let free = std::iter::once(broken).chain(numbered).find(|path| !path.exists());
    let path = free
        .ok_or_else(|| io::Error::new(io::ErrorKind::AlreadyExists, "too many broken files; look at them"))?;
    files::rename_durably(part, &path)?;
    journal::remove(part)?;
    Ok(Outcome::Broken { path, reason: reason.to_owned() })
}

fn tell(mended: &Mended) {
    let call_id = &mended.call_id;
    match &mended.outcome {
        Outcome::Repaired { finished, .. } => {
            metric::RECORDINGS.add_labelled("outcome", "repaired", 1);
            tracing::info!(call_id, path = %finished.path.display(), frames = finished.frames, "recording mended");
        }
        Outcome::Broken { path, reason } => {
            metric::RECORDINGS.add_labelled("outcome", "broken", 1);
            tracing::warn!(call_id, path = %path.display(), reason, "not a recording, put aside");
        }
        Outcome::Failed { path, source } => {
            metric::RECORDINGS.add_labelled("outcome", "failed", 1);
            tracing::error!(call_id, path = %path.display(), error = %source, "recording cannot be mended now");
        }
    }
}
