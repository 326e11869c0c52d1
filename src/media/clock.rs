//! One sample clock for all legs of a call.
//!
//! *Call samples* count from the session's start, which precedes any media, at the call's rate. A leg's first packet
//! is placed on it by its arrival (kernel stamp, least delay over the anchor window); every later one by RTP timestamp.
//! The *origin* is the call sample at which the recording begins: the earliest sample of any leg. It is decided once, and
//! from then on every time that users see (report, transcript, events) counts from it.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::time::{MediaInstant, SampleRate};

/// How long the origin waits for the other legs once one leg has an anchor. The anchor window is 200 ms, so a leg
/// whose first packet came with the first leg's has its anchor by then.
const ORIGIN_GRACE: Duration = Duration::from_millis(250);
const UNDECIDED: i64 = i64::MIN;

/// The sample clock that a call's legs share. Lock-free; the receive shards propose, everybody reads.
#[derive(Debug)]
pub struct CallClock {
    start: MediaInstant,
    rate: SampleRate,
    expected_legs: u32,
    earliest: AtomicI64,
    proposals: AtomicU32,
    first_proposal_ns: AtomicU64,
    origin: AtomicI64,
}

impl CallClock {
    /// A clock whose sample 0 is `start`. `expected_legs` is how many anchors to wait for (at most 250 ms) before the
    /// origin is decided.
    pub fn new(start: MediaInstant, rate: SampleRate, expected_legs: u32) -> Self {
        Self {
            start,
            rate,
            expected_legs,
            earliest: AtomicI64::new(i64::MAX),
            proposals: AtomicU32::new(0),
            first_proposal_ns: AtomicU64::new(0),
            origin: AtomicI64::new(UNDECIDED),
        }
    }

    /// A clock whose origin is known already: a call that goes on after a restart.
    pub fn resumed(start: MediaInstant, rate: SampleRate, origin: i64) -> Self {
        let clock = Self::new(start, rate, 0);
        clock.origin.store(origin, Ordering::Release);
        clock
    }

    /// The instant of call sample 0.
    pub fn start(&self) -> MediaInstant {
        self.start
    }

    /// The call's sample rate, the same for all its legs.
    pub fn rate(&self) -> SampleRate {
        self.rate
    }

    /// The call sample that is current at `at`; negative before the start.
    pub fn sample_at(&self, at: MediaInstant) -> i64 {
        self.rate.samples_in_nanos(at.nanos_since(self.start))
    }

    /// The instant at which call sample `sample` is current.
    pub fn instant_of(&self, sample: i64) -> MediaInstant {
        MediaInstant::from_nanos(self.start.as_nanos().saturating_add_signed(self.rate.nanos_of(sample)))
    }

    /// A leg found its anchor: its first sample is call sample `first`.
    pub fn propose_origin(&self, first: i64, now: MediaInstant) {
        self.earliest.fetch_min(first, Ordering::AcqRel);
        // 0 means unset; an instant of exactly 0 only occurs in simulations, where one nanosecond does no harm.
        let _ = self.first_proposal_ns.compare_exchange(
            0,
            now.as_nanos().max(1),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        self.proposals.fetch_add(1, Ordering::AcqRel);
    }

    /// The call sample at which the recording begins, once it is decided: when all expected legs have their anchor, or
    /// 250 ms after the first one has.
    pub fn origin(&self, now: MediaInstant) -> Option<i64> {
        if let Some(origin) = self.decided_origin() {
            return Some(origin);
        }
        let proposals = self.proposals.load(Ordering::Acquire);
        if proposals == 0 {
            return None;
        }
        let first = MediaInstant::from_nanos(self.first_proposal_ns.load(Ordering::Acquire));
        if proposals < self.expected_legs && now.saturating_since(first) < ORIGIN_GRACE {
            return None;
        }
        Some(self.decide_origin(self.earliest.load(Ordering::Acquire)))
    }

    /// The origin if it is decided already.
    pub fn decided_origin(&self) -> Option<i64> {
        Some(self.origin.load(Ordering::Acquire)).filter(|&o| o != UNDECIDED)
    }

    /// Decide the origin now, since no leg will propose any more: the earliest sample proposed, or without one the
    /// session's start, so that the recording is as long as the call. The first decision stands and is returned.
    pub fn settle_origin(&self) -> i64 {
        let earliest = self.earliest.load(Ordering::Acquire);
        self.decide_origin(if earliest == i64::MAX { 0 } else { earliest })
    }

    /// Decide the origin now, as an earlier process did; the first decision stands and is returned.
    pub fn decide_origin(&self, origin: i64) -> i64 {
        match self.origin.compare_exchange(UNDECIDED, origin, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => origin,
            Err(standing) => standing,
        }
    }

    /// Seconds on the recording's clock of call sample `sample`, relative to `origin`.
    pub fn seconds_from(&self, origin: i64, sample: i64) -> f64 {
        (sample - origin) as f64 / f64::from(self.rate.hz())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MediaInstant {
        MediaInstant::from_nanos(1_000_000_000 + ms * 1_000_000)
    }

    #[test]
    fn origin_waits_for_both_legs_and_takes_the_earlier() {
        let clock = CallClock::new(at(0), SampleRate::NARROWBAND, 2);
        assert_eq!(clock.origin(at(5_000)), None);
        clock.propose_origin(800, at(300));
        assert_eq!(clock.origin(at(310)), None);
        clock.propose_origin(640, at(320));
        assert_eq!(clock.origin(at(321)), Some(640));
    }

    #[test]
    fn origin_does_not_wait_for_a_leg_that_never_comes_and_is_then_fixed() {
        let clock = CallClock::new(at(0), SampleRate::NARROWBAND, 2);
        clock.propose_origin(800, at(300));
        assert_eq!(clock.origin(at(550)), Some(800));
        clock.propose_origin(640, at(600));
        assert_eq!(clock.origin(at(700)), Some(800));
        assert_eq!(clock.decide_origin(3), 800);
    }

    #[test]
    fn an_origin_settled_at_the_end_is_the_earliest_proposed_or_else_the_start() {
        let clock = || CallClock::new(at(0), SampleRate::NARROWBAND, 2);
        assert_eq!(clock().settle_origin(), 0);
        let brief = clock();
        brief.propose_origin(800, at(300));
        assert_eq!(brief.settle_origin(), 800);
        assert_eq!(brief.origin(at(310)), Some(800));
    }

    #[test]
    fn samples_and_instants_agree() {
        let clock = CallClock::new(at(0), SampleRate::NARROWBAND, 2);
        assert_eq!(clock.sample_at(at(1_000)), 8_000);
        assert_eq!(clock.instant_of(8_000), at(1_000));
        assert_eq!(clock.seconds_from(800, 8_800), 1.0);
    }
}
