//! What recognising costs, as measured: by length of audio, for partials and the rest apart. Pure.
//!
//! The length that counts is the encoder's window, here in steps of 256 positions of 20 ms: encoding takes nearly all of the time, and
//! grows in proportion to it.

use std::collections::VecDeque;
use std::time::Duration;

/// Encoder positions a second, their slack, and the step in which windows of stock models grow.
const POSITIONS_PER_SECOND: f64 = 50.0;
const SLACK: f64 = 64.0;
const POSITIONS_PER_STEP: f64 = 256.0;
/// 30 s, the longest window, have six steps.
const STEPS: usize = 6;
/// Weight of the newest measurement.
const WEIGHT: f64 = 0.3;
/// The high cost is among so many of the newest.
const KEPT: usize = 32;
const HIGH: f64 = 0.95;

/// One kind of task at one length.
#[derive(Clone, Debug, Default)]
struct Cost {
    mean: Option<f64>,
    newest: VecDeque<f64>,
}

impl Cost {
    fn add(&mut self, seconds: f64) {
        self.mean = Some(self.mean.map_or(seconds, |mean| mean + WEIGHT * (seconds - mean)));
        self.newest.push_back(seconds);
        if self.newest.len() > KEPT {
            self.newest.pop_front();
        }
    }
}

/// Measured costs.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    partial: [Cost; STEPS],
    whole: [Cost; STEPS],
}

impl Costs {
    /// A worker was busy for `took` with `audio`.
    pub fn add(&mut self, audio: Duration, partial: bool, took: Duration) {
        let table = if partial { &mut self.partial } else { &mut self.whole };
        table[step_of(audio)].add(took.as_secs_f64());
    }

    /// What such a task takes, mean of the newest: from the nearest length that was measured. Zero as long as nothing was.
    pub fn expected(&self, audio: Duration, partial: bool) -> Duration {
        let step = step_of(audio);
        let (own, other) = if partial { (&self.partial, &self.whole) } else { (&self.whole, &self.partial) };
        let near = |table: &[Cost; STEPS]| {
            let measured = |at: usize| table[at].mean.map(|mean| (at, mean));
            (0..=step).rev().find_map(measured).or_else(|| (step..STEPS).find_map(measured))
        };
        near(own).or_else(|| near(other)).map_or(Duration::ZERO, |(at, mean)| {
            Duration::from_secs_f64(mean * (step + 1) as f64 / (at + 1) as f64)
        })
    }

    /// What the costliest kind of task takes at worst, but for one in twenty: for so long a worker may not be free.
    pub fn worst(&self) -> Duration {
        let high = |cost: &Cost| percentile(cost.newest.iter().copied(), HIGH);
        let worst = self.partial.iter().chain(&self.whole).filter_map(high).fold(0.0, f64::max);
        Duration::from_secs_f64(worst)
    }
}

/// The value that `share` of all do not exceed.
pub(super) fn percentile(values: impl Iterator<Item = f64>, share: f64) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share).ceil() as usize;
    values.get(at.saturating_sub(1)).copied()
}

fn step_of(audio: Duration) -> usize {
    let positions = audio.as_secs_f64() * POSITIONS_PER_SECOND + SLACK;
    ((positions / POSITIONS_PER_STEP).ceil() as usize).clamp(1, STEPS) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn costs_are_learnt_by_length() {
        let mut costs = Costs::default();
        assert_eq!(costs.expected(ms(3_000), true), Duration::ZERO);
        costs.add(ms(3_000), true, ms(100));
        assert_eq!(costs.expected(ms(1_000), true), ms(100));
        assert_eq!(costs.expected(ms(7_000), true), ms(200), "twice the window");
        costs.add(ms(12_000), true, ms(2_000));
        assert_eq!(costs.expected(ms(12_000), true), ms(2_000));
        assert_eq!(costs.expected(ms(1_000), true), ms(100));
    }

    #[test]
    fn finals_have_costs_of_their_own_and_those_of_partials_until_then() {
        let mut costs = Costs::default();
        costs.add(ms(3_000), true, ms(100));
        assert_eq!(costs.expected(ms(3_000), false), ms(100));
        costs.add(ms(3_000), false, ms(160));
        assert_eq!(costs.expected(ms(3_000), false), ms(160));
        assert_eq!(costs.expected(ms(3_000), true), ms(100));
    }

    #[test]
    fn one_outlier_in_twenty_is_not_the_worst() {
        let mut costs = Costs::default();
        (0..19).for_each(|_| costs.add(ms(2_000), false, ms(100)));
        costs.add(ms(2_000), false, ms(900));
        assert_eq!(costs.worst(), ms(100));
        costs.add(ms(2_000), false, ms(900));
        assert_eq!(costs.worst(), ms(900));
    }
}
