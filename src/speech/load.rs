//! How much recognising is asked for, as a share of what the workers can do: now, and with one more leg. Pure.

use std::time::Duration;

use super::cost::Costs;
use super::ladder::MOST_STRETCH;
use super::scheduler::Class;
use crate::media::time::MediaInstant;

/// Demand is averaged over this time: the pauses of one speaker do not show, nor does it lag behind by more.
const AVERAGED: Duration = Duration::from_secs(8);
/// So many seconds of legs have been heard before their mean is believed,
const EXPERIENCE: f64 = 20.0;
/// and of so many it is the mean: ten legs for a minute.
const REMEMBERED: f64 = 600.0;
/// What a party to a call does as a rule: speaks for so much of the time,
const SPEAKS: f64 = 0.45;
/// in utterances of this length,
const UTTERANCE: Duration = Duration::from_secs(4);
/// whose partials are half as long in the mean.
const PARTIAL: Duration = Duration::from_secs(2);

/// The demand of all live legs.
#[derive(Clone, Debug)]
pub struct Load {
    workers: f64,
    step: Duration,
    legs: usize,
    /// Sums that fade: seconds of work for finals, and for partials if they came as often as wished.
    finals: f64,
    partials: f64,
    /// Seconds of legs heard, and of work for them with partials as rare as can be: these fade with the former.
    heard: f64,
    work: f64,
    faded: Option<MediaInstant>,
    began: Option<MediaInstant>,
}

impl Load {
    /// Of so many workers, with partials wished for every `step`.
    pub fn new(workers: usize, step: Duration) -> Self {
        Self {
            workers: workers.max(1) as f64,
            step,
            legs: 0,
            finals: 0.0,
            partials: 0.0,
            heard: 0.0,
            work: 0.0,
            faded: None,
            began: None,
        }
    }

    /// Live legs from now on.
    pub fn set_legs(&mut self, legs: usize, now: MediaInstant) {
        self.fade(now);
        if legs < self.legs {
            // What those asked for that are gone is not asked for any more.
            let stay = legs as f64 / self.legs as f64;
            self.finals *= stay;
            self.partials *= stay;
        }
        self.legs = legs;
    }

    /// Live legs.
    pub fn legs(&self) -> usize {
        self.legs
    }

    /// A task of `class` that is expected to cost this much was asked for, while the step was `stretch` times the one wished for.
    pub fn asked(&mut self, class: Class, cost: Duration, stretch: f64, now: MediaInstant) {
        self.fade(now);
        let cost = cost.as_secs_f64();
        match class {
            Class::Partial => {
                self.partials += cost * stretch;
                self.work += cost * stretch / MOST_STRETCH;
            }
            Class::Final | Class::Detect | Class::Speculative => {
                self.finals += cost;
                self.work += cost;
            }
            Class::CatchUp | Class::Job => {}
        }
    }

    /// Work asked for by live legs, as a share of what all workers can do, if the step is `stretch` times the one wished for.
    pub fn utilisation(&mut self, stretch: f64, now: MediaInstant) -> f64 {
        self.fade(now);
        (self.finals + self.partials / stretch) / self.span(now) / self.workers
    }

    /// The same with one more leg, and partials as rare as they can be.
    pub fn predicted(&mut self, costs: &Costs, now: MediaInstant) -> f64 {
        let measured = self.utilisation(MOST_STRETCH, now);
        let usual = self.usual(costs);
        let share = if self.heard >= EXPERIENCE {
            // Those who are silent now have not come to be silent.
            (self.work / self.heard / self.workers).max(usual / 2.0)
        } else {
            usual
        };
        (share * self.legs as f64).max(measured) + share
    }

    /// What a leg asks for as a rule.
    fn usual(&self, costs: &Costs) -> f64 {
        let last = costs.expected(UTTERANCE, false).as_secs_f64() / UTTERANCE.as_secs_f64();
        let step = self.step.as_secs_f64() * MOST_STRETCH;
        let partials = costs.expected(PARTIAL, true).as_secs_f64() / step;
        SPEAKS * (last + partials) / self.workers
    }

    /// The seconds that the sums are of.
    fn span(&self, now: MediaInstant) -> f64 {
        let averaged = AVERAGED.as_secs_f64();
        let since = self.began.map_or(0.0, |began| now.saturating_since(began).as_secs_f64());
        // Not less than a second: the first task alone is no measure.
        (averaged * (1.0 - (-since / averaged).exp())).max(1.0)
    }

    fn fade(&mut self, now: MediaInstant) {
        self.began.get_or_insert(now);
        let passed = self.faded.map_or(0.0, |at| now.saturating_since(at).as_secs_f64());
        self.faded = Some(now);
        let keep = (-passed / AVERAGED.as_secs_f64()).exp();
        self.finals *= keep;
        self.partials *= keep;
        let heard = self.legs as f64 * passed;
        let keep = (-heard / REMEMBERED).exp();
        self.work *= keep;
        self.heard = self.heard * keep + heard;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MediaInstant {
        MediaInstant::from_nanos(1_000_000_000 + ms * 1_000_000)
    }

    /// 40 s in which so many legs each ask for a partial of 100 ms a second and a final of 200 ms every two.
    fn loaded(legs: u64, workers: usize) -> Load {
        let mut load = Load::new(workers, Duration::from_secs(1));
        load.set_legs(legs as usize, at(0));
        for second in 0..40 {
            for _ in 0..legs {
                load.asked(Class::Partial, Duration::from_millis(100), 1.0, at(second * 1_000));
                if second % 2 == 0 {
                    load.asked(Class::Final, Duration::from_millis(200), 1.0, at(second * 1_000));
                }
            }
        }
        load
    }

    #[test]
    fn utilisation_is_cost_times_rate_over_workers() {
        let mut load = loaded(4, 2);
        // The last second counts less than those before it.
        let near = |a: f64, b: f64| assert!((a - b).abs() < 0.15 * b + 0.01, "{a} {b}");
        near(load.utilisation(1.0, at(40_000)), 4.0 * (0.1 + 0.1) / 2.0);
        near(load.utilisation(4.0, at(40_000)), 4.0 * (0.025 + 0.1) / 2.0);
        near(load.predicted(&Costs::default(), at(40_000)), 5.0 * (0.1 / 8.0 + 0.1) / 2.0);
        // Of legs that have come and said nothing yet the same is expected.
        load.set_legs(8, at(40_000));
        near(load.predicted(&Costs::default(), at(40_000)), 9.0 * (0.1 / 8.0 + 0.1) / 2.0);
        // Of eight that asked for this, two stay.
        load.set_legs(2, at(40_000));
        near(load.utilisation(1.0, at(40_000)), 1.0 * (0.1 + 0.1) / 2.0);
        near(load.utilisation(1.0, at(100_000)), 0.0);
    }

    #[test]
    fn before_anything_was_heard_what_is_usual_is_expected() {
        let mut load = Load::new(1, Duration::from_millis(500));
        let mut costs = Costs::default();
        assert_eq!(load.predicted(&costs, at(0)), 0.0, "nothing is known");
        costs.add(Duration::from_secs(4), false, Duration::from_millis(800));
        let one = load.predicted(&costs, at(0));
        assert!((0.09..0.2).contains(&one), "{one}");
        load.set_legs(6, at(0));
        assert!((load.predicted(&costs, at(0)) - 7.0 * one).abs() < 1e-9);
    }
}
