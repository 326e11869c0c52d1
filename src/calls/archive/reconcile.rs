//! Rows and files, held against each other: what the files have and the rows do not is filed, and rows whose files have gone say so.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::filing::{CALLS, Refused};
use super::{Archive, paper};
use crate::calls::directory::scan;
use crate::calls::record::{CallFiles, day_folder, is_valid_name};
use crate::store::StoreError;
use crate::store::calls::FiledVersion;

const DAY_SECONDS: i64 = 86_400;

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Calls that have a record on disk.
    pub on_disk: u64,
    /// Of them those whose rows were made, or made anew.
    pub filed: u64,
    /// Calls whose files have gone since the last time: their rows stay, and say so.
    pub gone: u64,
}

/// What a day's folder of a tenant says.
struct Looked {
    on_disk: u64,
    to_file: Vec<Arc<str>>,
    gone: Vec<String>,
}

impl Archive {
    /// Hold all rows of this node against the files, day by day, the newest first. Done twice, it changes nothing the second time.
    ///
    /// # Errors
    /// The database is away: what is done is done, and the rest is for the next time.
    pub(super) async fn reconcile(&self, refused: &mut Refused) -> Result<Reconciled, StoreError> {
        let mut sum = Reconciled::default();
        for (day, tenant) in self.all_days().await?.into_iter().rev() {
            let Some(looked) = self.look(day, &tenant).await? else { continue };
            sum.on_disk += looked.on_disk;
            for some in looked.to_file.chunks(CALLS) {
                sum.filed += self.file(some, refused).await?;
                // Calls that end meanwhile do not wait for years of calls.
                self.file_noted(refused).await?;
            }
            if !looked.gone.is_empty() {
                self.calls.mark_gone(&self.node, &tenant, &looked.gone, paper::now()).await?;
                sum.gone += looked.gone.len() as u64;
            }
        }
        let Reconciled { on_disk, filed, gone } = sum;
        tracing::info!(on_disk, filed, gone, "the calls of the database agree with the files");
        Ok(sum)
    }

    /// Days since 1970 and tenants that have a folder or rows.
    async fn all_days(&self) -> Result<BTreeSet<(i64, String)>, StoreError> {
        let stored = self.calls.days(&self.node).await?;
        let data = self.directory.data().to_owned();
        let on_disk = tokio::task::spawn_blocking(move || {
            let of = |day: scan::Day| {
                let number = number_of(day.date);
                day.folders.into_iter().filter_map(move |(tenant, _)| Some((number?, tenant)))
            };
            scan::days(&data).flat_map(of).collect::<Vec<_>>()
        });
        let on_disk = on_disk.await.unwrap_or_default();
        Ok(stored.into_iter().map(|(tenant, day)| (day, tenant)).chain(on_disk).collect())
    }

    async fn look(&self, day: i64, tenant: &str) -> Result<Option<Looked>, StoreError> {
        let Some(folder) = folder_of(self.directory.data(), tenant, day) else { return Ok(None) };
        // Before the folder is read: what is filed meanwhile must not pass for gone.
        let rows = self.calls.versions(&self.node, tenant, day).await?;
        let shown = folder.clone();
        let looked = tokio::task::spawn_blocking(move || look(&folder, rows)).await;
        match looked.unwrap_or_else(|panicked| Err(io::Error::other(panicked))) {
            Ok(looked) => Ok(Some(looked)),
            Err(error) => {
                tracing::warn!(folder = %shown.display(), %error, "a folder of calls cannot be read: their rows are left as they are");
                Ok(None)
            }
        }
    }
}

fn look(folder: &Path, rows: Vec<FiledVersion>) -> io::Result<Looked> {
    let names = names(folder)?;
    let rows: HashMap<_, _> = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
    let on_disk: Vec<_> = names
        .iter()
        .filter_map(|name| name.strip_suffix(scan::SUFFIX))
        .filter(|call| is_valid_name(call))
        .collect();
    let is_filed = |call: &str| {
        let files = CallFiles::in_folder(folder.to_owned(), call);
        rows.get(call).is_some_and(|row| {
            !row.is_gone
                && row.had_recording.is_none_or(|had| had == names.contains(&format!("{call}.wav")))
                && paper::version(&files).as_ref() == Some(&row.version)
        })
    };
    let mut to_file: Vec<Arc<str>> =
        on_disk.iter().filter(|call| !is_filed(call)).map(|call| (*call).into()).collect();
    to_file.sort_unstable_by(|one, other| other.cmp(one));
    let known: HashSet<_> = on_disk.iter().copied().collect();
    let is_gone = |row: &&FiledVersion| !row.is_gone && !known.contains(row.id.as_str());
    let gone = rows.values().filter(is_gone).map(|row| row.id.clone()).collect();
    Ok(Looked { on_disk: on_disk.len() as u64, to_file, gone })
}

fn names(folder: &Path) -> io::Result<HashSet<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        entries => entries?,
    };
    let mut names = HashSet::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

fn number_of(date: Date) -> Option<i64> {
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second().div_euclid(DAY_SECONDS))
}

fn folder_of(data: &Path, tenant: &str, day: i64) -> Option<PathBuf> {
    let begin = Timestamp::from_second(day.checked_mul(DAY_SECONDS)?).ok()?;
    is_valid_name(tenant).then(|| day_folder(data, tenant, begin.to_zoned(TimeZone::UTC).date()))
}
