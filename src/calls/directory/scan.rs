//! Records on disk: `<data>/recordings/<tenant>/<YYYY>/<MM>/<DD>/<call-id>.call.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::calls::record::{CallFiles, CallRecord, day_folder, is_valid_name, recordings_root};

/// Of records.
pub(in crate::calls) const SUFFIX: &str = ".call.json";

/// One day of all tenants.
pub(in crate::calls) struct Day {
    pub(in crate::calls) date: Date,
    /// By tenant.
    pub(in crate::calls) folders: Vec<(String, PathBuf)>,
}

impl Day {
    /// All of the day's records, in no order.
    pub(super) fn records(&self) -> impl Iterator<Item = CallRecord> {
        self.folders.iter().flat_map(|(tenant, folder)| {
            names(folder).into_iter().filter_map(move |name| {
                let call_id = name.strip_suffix(SUFFIX)?;
                read(folder, tenant, call_id)
            })
        })
    }
}

/// Every day that has a folder, newest first.
pub(in crate::calls) fn days(data: &Path) -> impl Iterator<Item = Day> + use<> {
    let mut days: BTreeMap<Date, Vec<(String, PathBuf)>> = BTreeMap::new();
    let root = recordings_root(data);
    for tenant in tenants(data) {
        for year in names(&root.join(&tenant)) {
            for month in names(&root.join(&tenant).join(&year)) {
                for day in names(&root.join(&tenant).join(&year).join(&month)) {
                    if let Ok(date) = format!("{year}-{month}-{day}").parse::<Date>() {
                        days.entry(date).or_default().push((tenant.clone(), day_folder(data, &tenant, date)));
                    }
                }
            }
        }
    }
    days.into_iter().rev().map(|(date, folders)| Day { date, folders })
}

/// The record of `call_id`, wherever it is.
pub(super) fn find(data: &Path, call_id: &str) -> Option<CallRecord> {
    let Some(date) = date_of(call_id) else {
        return days(data)
            .flat_map(|day| day.folders)
            .find_map(|(tenant, folder)| read(&folder, &tenant, call_id));
    };
    // The id may have been made on the other side of midnight from the start.
    let near = [Some(date), date.yesterday().ok(), date.tomorrow().ok()];
    tenants(data).into_iter().find_map(|tenant| {
        near.into_iter().flatten().find_map(|date| read(&day_folder(data, &tenant, date), &tenant, call_id))
    })
}

/// The day on which a time-ordered id was made.
fn date_of(call_id: &str) -> Option<Date> {
    let (seconds, nanos) = uuid::Uuid::parse_str(call_id).ok()?.get_timestamp()?.to_unix();
    let time = jiff::Timestamp::UNIX_EPOCH.checked_add(i64::try_from(seconds).ok()?.seconds()).ok()?;
    let time = time.checked_add(i64::from(nanos).nanoseconds()).ok()?;
    Some(time.to_zoned(TimeZone::UTC).date())
}

fn tenants(data: &Path) -> Vec<String> {
    let mut tenants = names(&recordings_root(data));
    tenants.retain(|name| is_valid_name(name));
    tenants
}

/// Names in a folder; none if it is not there or not a folder.
pub(in crate::calls) fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

pub(in crate::calls) fn read(folder: &Path, tenant: &str, call_id: &str) -> Option<CallRecord> {
    if !is_valid_name(call_id) {
        return None;
    }
    let path = CallFiles::in_folder(folder.to_owned(), call_id).record();
    let json = fs::read(&path).ok()?;
    match serde_json::from_slice::<CallRecord>(&json) {
        // A file copied under another name must not be taken for another tenant's call.
        Ok(record) if record.call_id == call_id && record.tenant == tenant => Some(record),
        Ok(_) => {
            tracing::warn!(path = %path.display(), "a call record lies under another call's name: ignored");
            None
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a call record cannot be read: ignored");
            None
        }
    }
}
