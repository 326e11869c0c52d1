//! Further attempts, by what became of the one before.

use std::collections::BTreeMap;
use std::time::Duration;

/// What may be tried again. Everything else is as it is: who answered has been called, and a wrong number stays one.
pub const RETRIED: [&str; 6] = ["busy", "no_answer", "congestion", "rejected", "failed", "machine"];
/// Most attempts after the first.
const MOST: usize = 20;
/// Longest pause, seconds: a week.
const LONGEST: u64 = 7 * 24 * 3_600;

/// Pauses before further attempts, by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryPlan(BTreeMap<&'static str, Vec<Duration>>);

impl RetryPlan {
    pub(super) fn parse(entries: &[String]) -> Result<Self, String> {
        let mut plan = BTreeMap::new();
        for entry in entries {
            let (cause, pauses) = super::super::pair(entry)
                .ok_or_else(|| format!("write `{entry}` as cause=seconds,seconds, such as busy=60,300"))?;
            let cause = RETRIED
                .into_iter()
                .find(|known| *known == cause)
                .ok_or_else(|| format!("`{cause}` is not tried again: use {}", RETRIED.join(", ")))?;
            let pauses: Vec<_> = pauses
                .split(',')
                .map(|seconds| seconds.trim().parse::<u64>().ok().filter(|seconds| *seconds <= LONGEST))
                .map(|seconds| seconds.map(Duration::from_secs))
                .collect::<Option<_>>()
                .filter(|pauses: &Vec<_>| pauses.len() <= MOST)
                .ok_or_else(|| {
                    format!("`{entry}`: use whole seconds, at most {LONGEST}, and at most {MOST} of them")
                })?;
            if plan.insert(cause, pauses).is_some() {
                return Err(format!("`{cause}` is there twice: put its pauses into one entry"));
            }
        }
        Ok(Self(plan))
    }

    /// Pause after the `failures`th attempt with this cause (counted from 1); `None`: it is not tried again.
    pub fn pause(&self, cause: &str, failures: u32) -> Option<Duration> {
        let nth = usize::try_from(failures.checked_sub(1)?).ok()?;
        self.0.get(cause)?.get(nth).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(entries: &[&str]) -> Result<RetryPlan, String> {
        RetryPlan::parse(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn each_pause_is_one_more_attempt() {
        let plan = plan(&["busy=60,300", "no_answer = 600"]).unwrap();
        let seconds = |cause, failures| plan.pause(cause, failures).map(|pause| pause.as_secs());
        assert_eq!([1, 2, 3].map(|n| seconds("busy", n)), [Some(60), Some(300), None]);
        assert_eq!([0, 1, 2].map(|n| seconds("no_answer", n)), [None, Some(600), None]);
        assert_eq!(seconds("failed", 1), None);
    }

    #[test]
    fn what_is_no_plan_is_refused_with_the_reason() {
        for (entry, reason) in [
            ("busy", "busy=60,300"),
            ("answered=60", "not tried again"),
            ("busy=soon", "whole seconds"),
            ("busy=-1", "whole seconds"),
            ("busy=99999999", "604800"),
        ] {
            let error = plan(&[entry]).unwrap_err();
            assert!(error.contains(reason), "{entry}: {error}");
        }
        assert!(plan(&["busy=1", "busy=2"]).unwrap_err().contains("twice"));
    }
}
