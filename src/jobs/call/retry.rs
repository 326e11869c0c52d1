//! Whether a call is tried again, and when. Sans-IO.

use jiff::Timestamp;

use super::outcome::Outcome;
use super::window;
use crate::config::tts_calls::CallRules;

/// When a call with this outcome is tried again; `None`: it is not. `failures`: attempts so far that came to the same, this one
/// with them.
pub fn next_attempt(
    outcome: &Outcome,
    failures: u32,
    rules: &CallRules,
    now: Timestamp,
) -> Option<Timestamp> {
    let pause = rules.retry.pause(outcome.outcome.name(), failures)?;
    let then = now.checked_add(pause).unwrap_or(Timestamp::MAX);
    Some(window::next_allowed(&rules.hours, then))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::jobs::call::outcome::Verdict;

    #[test]
    fn a_cause_has_its_own_attempts_and_pauses_within_the_hours() {
        let mut settings = Settings::default();
        settings.tts_calls.retry = vec!["busy=60,300".into(), "no_answer=3600".into()];
        settings.tts_calls.hours = "08:00-20:00".into();
        let rules = settings.call_rules("default").unwrap();
        let now: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
        let next = |verdict, failures, now| {
            next_attempt(&Outcome::of(verdict), failures, &rules, now).map(|at| at.to_string())
        };
        assert_eq!(next(Verdict::Busy, 1, now).as_deref(), Some("2026-11-29T12:01:00Z"));
        assert_eq!(next(Verdict::Busy, 2, now).as_deref(), Some("2026-11-29T12:05:00Z"));
        assert_eq!(next(Verdict::Busy, 3, now), None);
        let evening: Timestamp = "2026-11-29T19:30:00Z".parse().unwrap();
        assert_eq!(next(Verdict::NoAnswer, 1, evening).as_deref(), Some("2026-11-30T08:00:00Z"));
        for never in [Verdict::Answered, Verdict::Unknown, Verdict::Cancelled, Verdict::InvalidNumber] {
            assert_eq!(next(never, 1, now), None, "{never:?}");
        }
    }
}
