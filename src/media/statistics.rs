//! Estimates of quality: interarrival jitter (RFC 3550 A.8) and the E-model's listening score (ITU-T G.107).

use super::counter::ExtendedTimestamp;

/// Larger steps in transit time are a discontinuity, not jitter: 100 000 ticks, as in rtpengine, at 8 kHz.
const MAX_STEP_NANOS: u64 = 12_500_000_000;

/// Interarrival jitter (RFC 3550 A.8).
///
/// The RFC's D = (Rj - Ri) - (Sj - Si) is the difference of two packets' lags behind their places on the timeline;
/// it is kept in nanoseconds here and scales to any clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Jitter {
    previous: Option<(i64, ExtendedTimestamp)>,
    nanos: f64,
}

impl Jitter {
    /// A packet of timestamp `timestamp` came `lag_nanos` after its place.
    pub fn update(&mut self, lag_nanos: i64, timestamp: ExtendedTimestamp) {
        if let Some((previous, of)) = self.previous
            && of != timestamp
        {
            let step = lag_nanos.abs_diff(previous);
            if step < MAX_STEP_NANOS {
                self.nanos += (step as f64 - self.nanos) / 16.0;
            }
        }
        self.previous = Some((lag_nanos, timestamp));
    }

    /// The next packet has nothing to be compared with: it follows silence, or begins a segment.
    pub fn interrupt(&mut self) {
        self.previous = None;
    }

    /// The estimate, milliseconds.
    pub fn millis(&self) -> f64 {
        self.nanos / 1e6
    }
}

/// Listening quality (MOS-LQ, 1.0 to 4.5) of a G.711 or linear stream with the share `loss` (0 to 1) of its packets
/// missing at random: ITU-T G.107 with delay impairment 0, since nothing tells the round trip. Ie 0 and Bpl 4.3 are
/// G.113's for G.711 without concealment.
pub fn listening_mos(loss: f64) -> f64 {
    const R0: f64 = 93.2;
    const ROBUSTNESS: f64 = 4.3;
    let percent = 100.0 * loss.clamp(0.0, 1.0);
    let r = R0 - 95.0 * percent / (percent + ROBUSTNESS);
    if r < 0.0 {
        return 1.0;
    }
    (1.0 + 0.035 * r + 7e-6 * r * (r - 60.0) * (100.0 - r)).clamp(1.0, 4.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::counter::RtpTimestamp;

    fn at(n: u32) -> ExtendedTimestamp {
        ExtendedTimestamp::first(RtpTimestamp(n * 160))
    }

    /// RFC 3550 A.8 in its floating-point form, in ticks of 8 kHz.
    fn reference(lags_ticks: &[i64]) -> f64 {
        lags_ticks.windows(2).fold(0.0, |j, pair| j + ((pair[1] - pair[0]).abs() as f64 - j) / 16.0)
    }

    #[test]
    fn jitter_is_that_of_the_rfc() {
        let lags: Vec<i64> = (0..500).map(|n: i64| n * 37 % 101).collect();
        let mut jitter = Jitter::default();
        for (n, lag) in lags.iter().enumerate() {
            jitter.update(lag * 125_000, at(n as u32));
        }
        assert!((jitter.millis() - reference(&lags) / 8.0).abs() < 1e-9);
    }

    #[test]
    fn a_discontinuity_a_repeated_timestamp_and_an_interruption_are_no_jitter() {
        let mut jitter = Jitter::default();
        jitter.update(0, at(0));
        jitter.update(20_000_000_000, at(1));
        jitter.update(20_000_000_000, at(2));
        jitter.update(20_005_000_000, at(2));
        jitter.interrupt();
        jitter.update(1_000_000, at(3));
        assert_eq!(jitter.millis(), 0.0);
    }

    #[test]
    fn mos_falls_with_loss_within_its_range() {
        assert!((listening_mos(0.0) - 4.41).abs() < 0.01);
        assert!((2.5..4.0).contains(&listening_mos(0.01)));
        assert!(listening_mos(0.05) > listening_mos(0.10));
        assert!((1.0..1.2).contains(&listening_mos(1.0)));
    }
}
