//! How long to wait between attempts to connect.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Exponential pauses with jitter: each at random between half of the step and the step, so that many clients of one Asterisk
/// that restarts do not come back in one moment.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    step: Duration,
    random: RandomState,
    drawn: u64,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        let min = min.max(Duration::from_millis(1));
        Self { min, max: max.max(min), step: min, random: RandomState::new(), drawn: 0 }
    }

    /// The next pause; the one after it is twice as long.
    pub(super) fn pause(&mut self) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(self.max);
        self.drawn += 1;
        // A keyed hash of a counter is random enough for jitter.
        let part = self.random.hash_one(self.drawn) as f64 / u64::MAX as f64;
        step.mul_f64(0.5 + 0.5 * part.clamp(0.0, 1.0))
    }

    /// Start over after a connection that lived for `lived`. One that was closed at once, cleanly or not, does not count: its
    /// peer would be called in a tight loop.
    pub(super) fn connected_for(&mut self, lived: Duration) {
        if lived >= self.max {
            self.step = self.min;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (min, max) = (Duration::from_millis(250), Duration::from_secs(10));
        let mut backoff = Backoff::new(min, max);
        let mut step = min;
        for _ in 0..20 {
            let pause = backoff.pause();
            assert!(pause >= step / 2 && pause <= step, "{pause:?} of {step:?}");
            step = (step * 2).min(max);
        }
    }

    #[test]
    fn jitter_differs_between_clients() {
        let pauses: std::collections::BTreeSet<_> =
            (0..50).map(|_| Backoff::new(Duration::from_secs(1), Duration::from_secs(2)).pause()).collect();
        assert!(pauses.len() > 40, "{}", pauses.len());
    }

    #[test]
    fn only_a_connection_that_lasted_starts_over() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut backoff = Backoff::new(min, max);
        for _ in 0..10 {
            backoff.pause();
        }
        backoff.connected_for(Duration::from_millis(5));
        assert!(backoff.pause() >= max / 2);
        backoff.connected_for(max);
        assert!(backoff.pause() <= min);
    }
}
