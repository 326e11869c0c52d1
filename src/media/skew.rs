//! How the sender's clock runs against ours.
//!
//! The least lag of many packets is the path's constant delay plus the drift of the clocks; jitter only ever adds. The
//! recording keeps the RTP timeline whatever comes out here: the estimate tells a long call's drift from a jump of the
//! timestamps, and is reported.

use std::time::Duration;

use super::time::MediaInstant;

/// A minimum is taken over this long.
const WINDOW: Duration = Duration::from_secs(2);
/// The estimate follows a window's minimum by at most this much: 500 ppm, ten times what crystals do, so that neither a
/// congested path nor a burst moves it.
const MAX_STEP_NANOS: i64 = 1_000_000;
/// Windows (of one minimum each) before a rate is told: two minutes.
const MIN_POINTS: u32 = 60;

/// Drift of a sender's clock, from the lags of its packets behind their places.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Skew {
    nanos: i64,
    window: Option<(MediaInstant, i64)>,
    line: Line,
}

/// Least squares, one point at a time.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    origin: Option<MediaInstant>,
    n: u32,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Skew {
    /// The estimate of a sender that is `nanos` behind its anchor already.
    pub fn beginning_at(nanos: i64) -> Self {
        Self { nanos, ..Self::default() }
    }

    /// A packet came `lag_nanos` after its place.
    pub fn update(&mut self, arrival: MediaInstant, lag_nanos: i64) {
        let Some((begin, least)) = &mut self.window else {
            self.window = Some((arrival, lag_nanos));
            return;
        };
        if arrival.saturating_since(*begin) < WINDOW {
            *least = lag_nanos.min(*least);
            return;
        }
        let (begin, least) = (*begin, *least);
        self.nanos += (least - self.nanos).clamp(-MAX_STEP_NANOS, MAX_STEP_NANOS);
        self.line.add(begin, least);
        self.window = Some((arrival, lag_nanos));
    }

    /// By how much the sender is behind its anchor, nanoseconds; negative when its clock is fast.
    pub fn nanos(&self) -> i64 {
        self.nanos
    }

    /// Look at it: see [`super::receiver::LegReceiver::touch`].
    pub fn touch(&self) -> u64 {
        self.nanos as u64 ^ self.window.map_or(0, |(begun, least)| begun.as_nanos() ^ least as u64)
    }

    /// The sender's clock against ours, parts per million, positive = fast; `None` in the first two minutes.
    pub fn ppm(&self) -> Option<f64> {
        (self.line.n >= MIN_POINTS).then(|| -self.line.slope() / 1_000.0)
    }
}

impl Line {
    fn add(&mut self, at: MediaInstant, nanos: i64) {
        let origin = *self.origin.get_or_insert(at);
        let (x, y) = (at.saturating_since(origin).as_secs_f64(), nanos as f64);
        self.n += 1;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
    }

    /// Nanoseconds a second.
    fn slope(&self) -> f64 {
        let n = f64::from(self.n);
        (n * self.xy - self.x * self.y) / (n * self.xx - self.x * self.x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(ppm: f64, minutes: u64) -> Skew {
        let mut skew = Skew::default();
        let mut noise = 1_u64;
        for n in 0..minutes * 3_000 {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let jitter = (noise >> 40) as i64 % 15_000_000;
            let lag = (n as f64 * 20e6 * -ppm * 1e-6) as i64 + jitter;
            skew.update(MediaInstant::from_nanos(n * 20_000_000 + jitter as u64), lag);
        }
        skew
    }

    #[test]
    fn drift_is_found_through_jitter() {
        for ppm in [-100.0, -20.0, 0.0, 50.0, 200.0] {
            let found = run(ppm, 30).ppm().unwrap();
            assert!((found - ppm).abs() < 2.0, "{ppm} ppm found as {found}");
        }
    }

    #[test]
    fn nothing_is_told_of_the_first_minute() {
        assert_eq!(run(100.0, 1).ppm(), None);
    }

    #[test]
    fn the_estimate_follows_drift_but_not_a_burst() {
        let mut skew = run(-100.0, 30);
        assert!((skew.nanos() - 180_000_000).abs() < 5_000_000);
        let later = MediaInstant::from_nanos(30 * 60_000_000_000);
        for n in 0..150 {
            skew.update(later + Duration::from_millis(20 * n), 1_500_000_000);
        }
        assert!(skew.nanos() < 190_000_000);
    }
}
