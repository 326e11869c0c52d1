//! Where on the call's clock an RTP timestamp lies.
//!
//! A segment's anchor is written once, and every sample's place follows from it: late, early and reordered packets land
//! where their timestamps say. Nothing here is ever corrected for jitter.

use super::clock::CallClock;
use super::counter::{ExtendedTimestamp, RtpTimestamp};
use super::report::Segment;
use super::time::MediaInstant;

/// The map of one segment: call sample = `sample` + (timestamp - `timestamp`) x PCM rate / RTP clock rate.
#[derive(Clone, Debug)]
pub struct Timeline {
    timestamp: ExtendedTimestamp,
    sample: i64,
    /// PCM samples a second.
    rate: i64,
    /// RTP ticks a second.
    clock_rate: i64,
    /// What timestamps are unwrapped against.
    newest: ExtendedTimestamp,
}

impl Timeline {
    /// The map that puts `timestamp` at call sample `sample`, for an RTP clock of `clock_rate` ticks a second.
    pub fn anchored(timestamp: RtpTimestamp, sample: i64, clock: &CallClock, clock_rate: u32) -> Self {
        let timestamp = ExtendedTimestamp::first(timestamp);
        let (rate, clock_rate) = (i64::from(clock.rate().hz()), i64::from(clock_rate));
        Self { timestamp, sample, rate, clock_rate, newest: timestamp }
    }

    /// The map of a segment known from before a restart, to be gone on with from `now`: timestamps may have wrapped
    /// meanwhile, so they are unwrapped by the time that has passed.
    pub fn resumed(segment: &Segment, now: MediaInstant, clock: &CallClock, clock_rate: u32) -> Self {
        let first = RtpTimestamp(segment.first_rtp_timestamp);
        let mut timeline = Self::anchored(first, segment.first_sample, clock, clock_rate);
        let passed = clock.sample_at(now) - segment.first_sample;
        timeline.newest = timeline.timestamp.plus(passed * timeline.clock_rate / timeline.rate);
        timeline
    }

    /// The call sample at which `timestamp` lies, rounded down, and the timestamp unwrapped.
    pub fn locate(&self, timestamp: RtpTimestamp) -> (ExtendedTimestamp, i64) {
        let extended = self.newest.nearest(timestamp);
        let ticks = extended.since(self.timestamp);
        (extended, self.sample + (ticks * self.rate).div_euclid(self.clock_rate))
    }

    /// The newest timestamp of media.
    pub fn newest(&self) -> ExtendedTimestamp {
        self.newest
    }

    /// Unwrap against `timestamp` from now on.
    pub fn advance(&mut self, timestamp: ExtendedTimestamp) {
        self.newest = self.newest.max(timestamp);
    }

    /// How much later than its place on the map a packet came, nanoseconds; its transit time less the least of the
    /// anchor window, plus what the clocks have drifted apart.
    pub fn lag_nanos(&self, sample: i64, arrival: MediaInstant, clock: &CallClock) -> i64 {
        arrival.nanos_since(clock.start()).saturating_sub(clock.rate().nanos_of(sample))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::time::SampleRate;

    fn clock() -> CallClock {
        CallClock::new(MediaInstant::from_nanos(5_000_000_000), SampleRate::WIDEBAND, 1)
    }

    #[test]
    fn samples_follow_the_ratio_of_the_rates() {
        let timeline = Timeline::anchored(RtpTimestamp(1_000), 500, &clock(), 8_000);
        assert_eq!(timeline.locate(RtpTimestamp(1_160)).1, 820);
        assert_eq!(timeline.locate(RtpTimestamp(840)).1, 180);
    }

    #[test]
    fn timestamps_wrap_in_mid_segment() {
        let mut timeline = Timeline::anchored(RtpTimestamp(u32::MAX - 159), 0, &clock(), 16_000);
        let (extended, sample) = timeline.locate(RtpTimestamp(160));
        assert_eq!(sample, 320);
        timeline.advance(extended);
        assert_eq!(timeline.locate(RtpTimestamp(u32::MAX - 159)).1, 0);
    }

    #[test]
    fn a_stored_anchor_is_resumed_after_the_timestamps_have_wrapped() {
        let clock = clock();
        let segment =
            Segment { ssrc: 1, first_sample: 100, first_rtp_timestamp: 4_000_000_000, first_sequence: 1 };
        let days = 4 * 86_400 * 16_000_i64;
        let now = clock.instant_of(100 + days);
        let timeline = Timeline::resumed(&segment, now, &clock, 16_000);
        let timestamp = RtpTimestamp((4_000_000_000_i64 + days) as u32);
        assert_eq!(timeline.locate(timestamp).1, 100 + days);
    }

    #[test]
    fn lag_is_arrival_less_place() {
        let clock = clock();
        let timeline = Timeline::anchored(RtpTimestamp(0), 0, &clock, 16_000);
        assert_eq!(timeline.lag_nanos(16_000, MediaInstant::from_nanos(6_020_000_000), &clock), 20_000_000);
        assert_eq!(timeline.lag_nanos(16_000, MediaInstant::from_nanos(5_990_000_000), &clock), -10_000_000);
    }
}
