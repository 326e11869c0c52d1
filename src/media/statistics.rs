//! Interarrival jitter (RFC 3550 A.8).

use super::counter::ExtendedTimestamp;
use super::time::MediaInstant;

/// Larger steps in transit time are a discontinuity, not jitter: 100 000 ticks, as in rtpengine. 12.5 s at 8 kHz.
const MAX_STEP_TICKS: u64 = 100_000;

/// Interarrival jitter (RFC 3550 A.8).
///
/// The RFC's D = (Rj - Ri) - (Sj - Si) is the difference of two packets' lags behind their places on the timeline;
/// it is kept in nanoseconds here and scales to any clock.
#[derive(Clone, Copy, Debug)]
pub struct Jitter {
    clock_rate: u32,
    /// Steps from here on are a discontinuity, nanoseconds.
    most_step: u64,
    previous: Option<Previous>,
    nanos: f64,
    /// Of the estimates after each packet.
    most_nanos: f64,
    sum_nanos: f64,
    count: u64,
    longest_nanos: u64,
}

#[derive(Clone, Copy, Debug)]
struct Previous {
    arrival: MediaInstant,
    lag_nanos: i64,
    timestamp: ExtendedTimestamp,
}

impl Jitter {
    /// Of a stream whose timestamps count `clock_rate` ticks a second, 1 or more.
    pub fn new(clock_rate: u32) -> Self {
        let clock_rate = clock_rate.max(1);
        Self {
            clock_rate,
            most_step: (MAX_STEP_TICKS * 1_000_000_000).div_ceil(u64::from(clock_rate)),
            previous: None,
            nanos: 0.0,
            most_nanos: 0.0,
            sum_nanos: 0.0,
            count: 0,
            longest_nanos: 0,
        }
    }

    /// A packet of audio of timestamp `timestamp` came at `arrival`, `lag_nanos` after its place.
    pub fn update(&mut self, arrival: MediaInstant, lag_nanos: i64, timestamp: ExtendedTimestamp) {
        if let Some(previous) = self.previous
            && previous.timestamp != timestamp
        {
            let passed = arrival.as_nanos().saturating_sub(previous.arrival.as_nanos());
            self.longest_nanos = self.longest_nanos.max(passed);
            let step = lag_nanos.abs_diff(previous.lag_nanos);
            if step < self.most_step {
                self.nanos += (step as f64 - self.nanos) / 16.0;
                self.most_nanos = self.most_nanos.max(self.nanos);
                self.sum_nanos += self.nanos;
                self.count += 1;
            }
        }
        self.previous = Some(Previous { arrival, lag_nanos, timestamp });
    }

    /// The next packet has nothing to be compared with: it follows silence, or begins a segment.
    pub fn interrupt(&mut self) {
        self.previous = None;
    }

    /// By how much the last packet came after its place, nanoseconds; `None` if there is none to compare the next one with.
    pub fn last_lag(&self) -> Option<i64> {
        self.previous.map(|previous| previous.lag_nanos)
    }

    /// Look at it: see [`super::receiver::LegReceiver::touch`].
    pub fn touch(&self) -> u64 {
        self.most_step ^ self.nanos.to_bits() ^ self.longest_nanos ^ self.count
    }

    /// The estimate, milliseconds.
    pub fn millis(&self) -> f64 {
        self.nanos / 1e6
    }

    /// The estimate in ticks, rounded down: what a report block has (RFC 3550 A.8).
    pub fn ticks(&self) -> u32 {
        (self.nanos * f64::from(self.clock_rate) / 1e9) as u32
    }

    /// The longest time between the arrivals of two packets, milliseconds; silence between them does not count.
    pub fn longest_millis(&self) -> f64 {
        self.longest_nanos as f64 / 1e6
    }

    /// The largest that the estimate ever was, milliseconds.
    pub fn most_millis(&self) -> f64 {
        self.most_nanos / 1e6
    }

    /// The mean of the estimates after each packet, milliseconds.
    pub fn mean_millis(&self) -> f64 {
        self.sum_nanos / 1e6 / self.count.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::counter::RtpTimestamp;

    fn at(n: u32) -> ExtendedTimestamp {
        ExtendedTimestamp::first(RtpTimestamp(n * 160))
    }

    fn came(nanos: u64) -> MediaInstant {
        MediaInstant::from_nanos(1_000_000_000 + nanos)
    }

    /// RFC 3550 A.8 in its floating-point form, in ticks of 8 kHz: every estimate.
    fn reference(lags_ticks: &[i64]) -> Vec<f64> {
        let mut jitter = 0.0;
        let steps = lags_ticks.windows(2).map(|pair| (pair[1] - pair[0]).abs() as f64);
        steps
            .map(|step| {
                jitter += (step - jitter) / 16.0;
                jitter
            })
            .collect()
    }

    /// The RFC's integer form, whose estimate is scaled up by 16.
    fn integer_reference(lags_ticks: &[i64]) -> u32 {
        let scaled = lags_ticks.windows(2).fold(0, |j, pair| {
            let step = (pair[1] - pair[0]).unsigned_abs() as u32;
            j + step - ((j + 8) >> 4)
        });
        scaled >> 4
    }

    #[test]
    fn jitter_is_that_of_the_rfc() {
        for clock_rate in [8_000_u32, 16_000, 48_000] {
            let tick = 1_000_000_000 / i64::from(clock_rate);
            let lags: Vec<i64> = (0..500).map(|n: i64| n * 37 % 101 * 8).collect();
            let mut jitter = Jitter::new(clock_rate);
            for (n, lag) in lags.iter().enumerate() {
                jitter.update(came(n as u64 * 20_000_000 + (lag * tick) as u64), lag * tick, at(n as u32));
            }
            let expected = reference(&lags);
            let millis = |ticks: f64| ticks * tick as f64 / 1e6;
            let most = expected.iter().copied().fold(0.0, f64::max);
            let mean = expected.iter().sum::<f64>() / expected.len() as f64;
            assert!((jitter.millis() - millis(*expected.last().unwrap())).abs() < 1e-9);
            assert!((jitter.most_millis() - millis(most)).abs() < 1e-9);
            assert!((jitter.mean_millis() - millis(mean)).abs() < 1e-9);
            assert!(jitter.ticks().abs_diff(integer_reference(&lags)) <= 1);
        }
    }

    #[test]
    fn a_discontinuity_a_repeated_timestamp_and_an_interruption_are_no_jitter() {
        let mut jitter = Jitter::new(8_000);
        jitter.update(came(0), 0, at(0));
        jitter.update(came(20_020_000_000), 20_000_000_000, at(1));
        jitter.update(came(20_040_000_000), 20_000_000_000, at(2));
        jitter.update(came(20_045_000_000), 20_005_000_000, at(2));
        jitter.interrupt();
        jitter.update(came(50_000_000_000), 1_000_000, at(3));
        assert_eq!(jitter.millis(), 0.0);
        assert_eq!(jitter.longest_millis(), 20_020.0);
        assert_eq!((jitter.most_millis(), jitter.mean_millis(), jitter.ticks()), (0.0, 0.0, 0));
    }

    #[test]
    fn the_limit_of_a_step_is_in_ticks() {
        for (clock_rate, limit_nanos) in [(8_000, 12_500_000_000), (48_000, 2_083_333_334)] {
            for (step, counts) in [(limit_nanos, false), (limit_nanos - 1_000, true)] {
                let mut jitter = Jitter::new(clock_rate);
                jitter.update(came(0), 0, at(0));
                jitter.update(came(step as u64), step, at(1));
                assert_eq!(jitter.millis() > 0.0, counts, "{clock_rate} {step}");
            }
        }
    }
}
