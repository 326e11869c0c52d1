//! What calls left behind that nobody comes back to: the dialplan's reports in Asterisk's database, audio in the folder, and call files that
//! were not placed.
//!
//! A call that this process, or one before it, has to tell of finds its report itself. Left are those of jobs that were called off or ended
//! otherwise while nobody was connected. Another Sidetone may use the same Asterisk with a database of its own: what belongs to no job that is
//! known here is left alone for as long as that one may be down.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize as _;

use super::Memo;
use crate::clock;
use crate::jobs::call::{Caller, Leftover};
use crate::jobs::queue::Queue;
use crate::media::time::MediaInstant;
use crate::store::StoreError;
use crate::store::jobs::{Job, JobKey, JobKind};

/// They are looked through this often.
const EVERY: Duration = Duration::from_secs(3_600);
/// While Asterisk or the database does not answer, this often.
const PAUSE: Duration = Duration::from_secs(30);
/// A report that nobody here knows of goes after this long.
const STRANGERS: Duration = Duration::from_secs(7 * 86_400);

/// Whose a leftover is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Of a job that will ask for it.
    Needed,
    /// Of a job that is past it.
    Past,
    /// Of none that is known here.
    Unknown,
}

/// Remove them once Asterisk is connected, and again and again. Calls of `tenant` have channels of the job's id alone.
pub async fn sweep(caller: Caller, queue: Queue, tenant: Arc<str>) {
    let mut strangers = HashMap::new();
    loop {
        caller.connected().await;
        let pause = match round(&caller, &queue, &tenant, &mut strangers).await {
            Ok(0) => EVERY,
            Ok(removed) => {
                tracing::info!(removed, "what calls of before had left is removed");
                EVERY
            }
            Err(error) => {
                tracing::debug!(error, "what calls of before have left cannot be looked through");
                PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn round(
    caller: &Caller,
    queue: &Queue,
    tenant: &Arc<str>,
    strangers: &mut HashMap<Leftover, MediaInstant>,
) -> Result<usize, String> {
    let left = caller.leftovers().await.map_err(|error| error.to_string())?;
    strangers.retain(|known, _| left.contains(known));
    let mut removed = 0;
    for leftover in left {
        let whose = whose(queue, tenant, &leftover).await.map_err(|error| error.to_string())?;
        let is_over = match whose {
            Whose::Needed => false,
            Whose::Past => true,
            // The folder may be one of the user's, with files of his own.
            Whose::Unknown if matches!(leftover, Leftover::Audio(_)) => false,
            Whose::Unknown => {
                let seen = *strangers.entry(leftover.clone()).or_insert_with(clock::now);
                clock::since(seen) >= STRANGERS
            }
        };
        if is_over {
            caller.remove(&leftover).await.map_err(|error| error.to_string())?;
            removed += 1;
        }
    }
    Ok(removed)
}

async fn whose(queue: &Queue, tenant: &Arc<str>, leftover: &Leftover) -> Result<Whose, StoreError> {
    let mut whose = Whose::Unknown;
    let Some((keys, attempt)) = keys(leftover.channel(), tenant) else { return Ok(whose) };
    for key in keys {
        let Some(job) = queue.jobs().get(&key).await?.filter(|job| job.kind == JobKind::TtsCall) else {
            continue;
        };
        if is_needed(&job, attempt) {
            return Ok(Whose::Needed);
        }
        whose = Whose::Past;
    }
    Ok(whose)
}

/// The jobs that a channel may be of, by its id, and the attempt.
fn keys(channel: &str, tenant: &Arc<str>) -> Option<(Vec<JobKey>, u32)> {
    let (name, attempt) = channel.rsplit_once('-')?;
    let attempt = attempt.parse().ok()?;
    let own = JobKey { tenant: tenant.clone(), id: name.into() };
    let others = name
        .match_indices('-')
        .map(|(at, _)| JobKey { tenant: name[..at].into(), id: name[at + 1..].into() });
    Some((std::iter::once(own).chain(others).collect(), attempt))
}

/// Whether the job may be asked for what this attempt came to, or is just about to make it.
fn is_needed(job: &Job, attempt: u32) -> bool {
    if job.state.is_final() {
        return false;
    }
    let memo = job.memo.as_ref().and_then(|memo| Memo::deserialize(memo).ok()).unwrap_or_default();
    job.attempts == attempt || memo.intended.is_some_and(|intended| intended.attempt == attempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_leads_to_the_jobs_that_it_may_be_of() {
        let tenant: Arc<str> = "default".into();
        let (keys, attempt) = keys("acme-job-7-2", &tenant).unwrap();
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        assert_eq!(
            (keys, attempt),
            (vec!["default/acme-job-7".into(), "acme/job-7".into(), "acme-job/7".into()], 2)
        );
        for none in ["", "x", "x-", "x-y", "x-1y"] {
            assert!(super::keys(none, &tenant).is_none(), "{none}");
        }
    }
}
