//! Instants and rates as the sans-IO media code sees them.
//!
//! Nothing in [`crate::media`] reads a clock: every entry point is handed a [`MediaInstant`]. The socket layer makes
//! one from the kernel's arrival stamp, `replay` from the capture's stamps, a simulation from thin air.

use std::time::Duration;

/// Nanoseconds on one monotonic clock of the process (or of the capture, or of the simulation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaInstant(u64);

impl MediaInstant {
    /// The instant `nanos` nanoseconds after the clock's zero.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's zero.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero if `earlier` is in fact later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Signed nanoseconds since `other`.
    pub const fn nanos_since(self, other: Self) -> i64 {
        self.0.wrapping_sub(other.0) as i64
    }
}

impl std::ops::Add<Duration> for MediaInstant {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl std::ops::Sub<Duration> for MediaInstant {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Samples a second of a leg's PCM, in 1..=192 000. A whole number of samples must fit in 10 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct SampleRate(u32);

impl SampleRate {
    /// Telephone band: 8000 samples a second.
    pub const NARROWBAND: Self = Self(8_000);
    /// 12 000 samples a second: Opus' medium band.
    pub const TWELVE: Self = Self(12_000);
    /// Wideband: 16 000 samples a second.
    pub const WIDEBAND: Self = Self(16_000);
    /// 24 000 samples a second: super-wideband.
    pub const TWENTY_FOUR: Self = Self(24_000);
    /// Full band: 48 000 samples a second.
    pub const FULLBAND: Self = Self(48_000);

    /// `None` unless `hz` is a positive multiple of 100 of at most 192 000.
    pub const fn new(hz: u32) -> Option<Self> {
        if hz == 0 || hz > 192_000 || !hz.is_multiple_of(100) { None } else { Some(Self(hz)) }
    }

    /// Samples a second.
    pub const fn hz(self) -> u32 {
        self.0
    }

    /// Samples in one 10 ms slot.
    pub const fn slot_samples(self) -> usize {
        (self.0 / 100) as usize
    }

    /// Samples in `d`, rounded to the nearest.
    pub const fn samples_in(self, d: Duration) -> u64 {
        // Whole seconds apart, as below.
        d.as_secs() * self.0 as u64 + (d.subsec_nanos() as u64 * self.0 as u64 + 500_000_000) / 1_000_000_000
    }

    /// The time that `samples` take.
    pub const fn duration_of(self, samples: u64) -> Duration {
        Duration::from_nanos((samples as u128 * 1_000_000_000 / self.0 as u128) as u64)
    }

    /// Signed sample count of a signed number of nanoseconds, rounded to the nearest.
    pub const fn samples_in_nanos(self, nanos: i64) -> i64 {
        // Whole seconds apart, so that nothing needs 128 bits, whose division costs more than the rest of a packet.
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let half = if rest >= 0 { 500_000_000 } else { -500_000_000 };
        seconds * self.0 as i64 + (rest * self.0 as i64 + half) / 1_000_000_000
    }

    /// Signed nanoseconds that a signed number of samples take, rounded towards zero.
    pub const fn nanos_of(self, samples: i64) -> i64 {
        let (seconds, rest) = (samples / self.0 as i64, samples % self.0 as i64);
        seconds.saturating_mul(1_000_000_000).saturating_add(rest * 1_000_000_000 / self.0 as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_counts_round_to_the_nearest_on_both_sides_of_zero() {
        let rate = SampleRate::NARROWBAND;
        assert_eq!(rate.samples_in(Duration::from_millis(20)), 160);
        assert_eq!(rate.samples_in_nanos(62_500), 1);
        assert_eq!(rate.samples_in_nanos(-62_500), -1);
        assert_eq!(rate.samples_in_nanos(-125_000), -1);
        assert_eq!(rate.duration_of(8_000), Duration::from_secs(1));
    }

    #[test]
    fn seconds_apart_are_as_exact_as_128_bits() {
        for hz in [8_000, 12_000, 16_000, 24_000, 48_000, 192_000] {
            let rate = SampleRate::new(hz).unwrap();
            let mut random = 1_i64;
            for _ in 0..20_000 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let value = random >> (random as u64 % 40 + 12);
                let scaled = i128::from(value) * i128::from(hz);
                let half = if scaled >= 0 { 500_000_000 } else { -500_000_000 };
                assert_eq!(i128::from(rate.samples_in_nanos(value)), (scaled + half) / 1_000_000_000);
                let nanos = i128::from(value) * 1_000_000_000 / i128::from(hz);
                if let Ok(nanos) = i64::try_from(nanos) {
                    assert_eq!(rate.nanos_of(value), nanos);
                }
            }
        }
    }

    #[test]
    fn rates_without_whole_slots_are_refused() {
        assert!(SampleRate::new(11_025).is_none());
        assert!(SampleRate::new(0).is_none());
        assert_eq!(SampleRate::new(16_000), Some(SampleRate::WIDEBAND));
    }
}
