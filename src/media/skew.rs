//! How the sender's clock runs against ours.
//!
//! The least lag of many packets is the path's constant delay plus the drift of the clocks; jitter only ever adds. The
//! recording keeps the RTP timeline whatever comes out here: the estimate tells a long call's drift from a jump of the
//! timestamps, and is reported.
//!
//! A path may become longer as well, all at once and for good (another route, a queue that does not drain). What is then
//! as late as that is in time, for all that anybody can do: live readers have to wait for it.

use std::time::Duration;

use super::time::MediaInstant;

/// A minimum is taken over this long.
const WINDOW: Duration = Duration::from_secs(2);
/// The estimate follows a window's minimum by at most this much: 500 ppm, ten times what crystals do, so that neither a
/// congested path nor a burst moves it.
const MAX_STEP_NANOS: i64 = 1_000_000;
/// Windows (of one minimum each) before a rate is told: two minutes.
const MIN_POINTS: u32 = 60;
/// The way has become longer if all packets of so long came late: ten of 20 ms, of which jitter leaves some in time.
const RECENT: Duration = Duration::from_millis(200);
/// So much is left to jitter: half of what time stays behind anyway (`STALL_MARGIN` of the receiver).
const JITTER_NANOS: i64 = 100_000_000;
/// A detour is told in steps of this: two slots.
const DETOUR_STEP_NANOS: i64 = 20_000_000;
/// What is later than this is no detour: timestamps have jumped (`MAX_DISAGREEMENT` of the receiver).
const MAX_DETOUR_NANOS: i64 = 1_000_000_000;

/// Drift of a sender's clock, from the lags of its packets behind their places.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Skew {
    nanos: i64,
    detour_nanos: i64,
    window: Least,
    recent: Least,
    line: Line,
}

/// The least lag of a window, and when that began.
#[derive(Clone, Copy, Debug, Default)]
struct Least(Option<(MediaInstant, i64)>);

impl Least {
    /// A packet came; what the window of this `length` before it had, if it is the first one behind that.
    fn update(&mut self, arrival: MediaInstant, lag: i64, length: Duration) -> Option<(MediaInstant, i64)> {
        if let Some((begun, least)) = &mut self.0
            && arrival.saturating_since(*begun) < length
        {
            *least = lag.min(*least);
            return None;
        }
        self.0.replace((arrival, lag))
    }
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
        if let Some((_, least)) = self.recent.update(arrival, lag_nanos, RECENT) {
            self.detour_nanos = detour(least);
        }
        if let Some((begun, least)) = self.window.update(arrival, lag_nanos, WINDOW) {
            self.nanos += (least - self.nanos).clamp(-MAX_STEP_NANOS, MAX_STEP_NANOS);
            self.line.add(begun, least);
        }
    }

    /// By how much time has to stay behind for the sake of this sender, nanoseconds: what its clock is late by, or what the way has
    /// become longer by, beyond what jitter is allowed.
    pub fn behind(&self) -> i64 {
        self.nanos.max(self.detour_nanos).max(0)
    }

    /// Whether a packet that comes now makes [`Skew::behind`] less, by more than the clock's drift.
    pub fn eases(&self, arrival: MediaInstant) -> bool {
        self.detour_nanos > 0
            && self.recent.0.is_some_and(|(begun, least)| {
                arrival.saturating_since(begun) >= RECENT && detour(least) < self.detour_nanos
            })
    }

    /// By how much the sender is behind its anchor, nanoseconds; negative when its clock is fast.
    pub fn nanos(&self) -> i64 {
        self.nanos
    }

    /// Look at it: see [`super::receiver::LegReceiver::touch`].
    pub fn touch(&self) -> u64 {
        let last = |least: &Least| least.0.map_or(0, |(begun, least)| begun.as_nanos() ^ least as u64);
        self.nanos as u64 ^ last(&self.window) ^ last(&self.recent)
    }

    /// The sender's clock against ours, parts per million, positive = fast; `None` in the first two minutes.
    pub fn ppm(&self) -> Option<f64> {
        (self.line.n >= MIN_POINTS).then(|| -self.line.slope() / 1_000.0)
    }
}

/// By how much the way has become longer if `least` is the least lag of late.
fn detour(least: i64) -> i64 {
    let longer = (least - JITTER_NANOS).clamp(0, MAX_DETOUR_NANOS);
    longer / DETOUR_STEP_NANOS * DETOUR_STEP_NANOS
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
    fn a_way_that_becomes_longer_is_followed_at_once_and_one_that_becomes_shorter_too() {
        let ms = Duration::from_millis;
        let mut skew = Skew::default();
        let mut behind = Vec::new();
        for n in 0..200_u64 {
            // Every fifth packet is 60 ms later than the others.
            let way = if (50..150).contains(&n) { 315 } else { 5 };
            let lag = way + if n % 5 == 0 { 60 } else { 0 };
            let arrival = MediaInstant::from_nanos(20_000_000 * n) + ms(lag);
            let (before, eases) = (skew.behind(), skew.eases(arrival));
            skew.update(arrival, lag as i64 * 1_000_000);
            assert_eq!(eases, skew.behind() < before);
            behind.push(skew.behind() / 1_000_000);
        }
        assert_eq!(behind[..50], [0; 50]);
        // The window under way when it happens, and a whole one.
        assert_eq!(behind[65..150], [200; 85]);
        // The estimate of the clocks has followed for a window.
        assert!(behind[199] <= 1 && skew.nanos() <= MAX_STEP_NANOS);
    }

    #[test]
    fn a_burst_of_what_waited_makes_no_way_longer() {
        let mut skew = Skew::default();
        // Two seconds' worth in 50 ms, then in time.
        for n in 0..100 {
            skew.update(MediaInstant::from_nanos(n * 500_000), 2_000_000_000 - n as i64 * 20_000_000);
        }
        for n in 0..60 {
            skew.update(MediaInstant::from_nanos(50_000_000 + n * 20_000_000), 3_000_000);
        }
        assert_eq!(skew.behind(), 0);
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
