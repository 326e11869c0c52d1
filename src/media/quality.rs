//! How a leg would be judged by ear: the E-model (ITU-T G.107), fed with what was measured.
//!
//! R = 93.2 - Id - Ie,eff with all else at its default. Id is the impairment by delay, as far as a round trip is known; without one
//! d = 0, and the score is one of listening (MOS-LQ), not of conversation (MOS-CQ). Ie,eff is that of the codec and of the
//! packets missing: Ie + (95 - Ie) x Ppl / (Ppl / BurstR + Bpl), where BurstR says how much longer the losses' runs are than
//! those of losses at random.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a score is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MosBasis {
    /// Codec and loss alone, no delay: MOS-LQ.
    Listening,
    /// Delay too, half of the round trip that RTCP measured: MOS-CQ.
    Conversational,
}

/// The scale of a score: those of different scales are not to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MosScale {
    /// ITU-T G.107, with values of G.113 for the codec.
    Narrowband,
    /// The narrow-band model for a codec whose robustness against loss G.113 does not give: a near relative's is taken.
    NarrowbandEstimate,
    /// The full-band form (Ro 148, Ie 10.2, scaled by 1.48), as rtpengine uses it for wideband codecs alike: an estimate.
    FullbandEstimate,
}

/// What a codec does to speech (ITU-T G.113, appendix I).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairment {
    /// Equipment impairment factor without loss.
    pub ie: f64,
    /// Robustness against packet loss; larger is more robust.
    pub bpl: f64,
    /// The scale that the factors belong to.
    pub scale: MosScale,
}

impl Impairment {
    /// Of `codec`, by the name that Asterisk gives it, with or without concealment of losses.
    ///
    /// | codec | Ie | Bpl | from |
    /// |---|---|---|---|
    /// | G.711, and linear PCM as its equal | 0 | 4.3; concealed 25.1 | G.113, table I.4 |
    /// | GSM 06.10 full rate | 20 | 4.3; concealed 10 | Ie: G.113, table I.1; Bpl: G.711's without concealment, GSM-EFR's with it |
    /// | G.722, Opus | 10.2 | 4.3 | rtpengine's `mos_calc_fb` |
    pub fn of(codec: &str, conceal: bool) -> Self {
        match codec {
            "gsm" => {
                Self { ie: 20.0, bpl: if conceal { 10.0 } else { 4.3 }, scale: MosScale::NarrowbandEstimate }
            }
            "g722" | "opus" => Self { ie: 10.2, bpl: 4.3, scale: MosScale::FullbandEstimate },
            _ => Self { ie: 0.0, bpl: if conceal { 25.1 } else { 4.3 }, scale: MosScale::Narrowband },
        }
    }
}

/// What was measured of a leg.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// Share of the packets missing, 0 to 1: those that never came, and those that came too late to be heard.
    pub loss: f64,
    /// See [`burst_ratio`]; 1 for losses at random.
    pub burst_ratio: f64,
    /// There and back, if known.
    pub round_trip: Option<Duration>,
}

/// The mean opinion score, 1.0 to 4.5.
pub fn mos(codec: Impairment, conditions: &Conditions) -> f64 {
    let (ro, worst, stretch) = match codec.scale {
        MosScale::Narrowband | MosScale::NarrowbandEstimate => (93.2, 95.0, 1.0),
        MosScale::FullbandEstimate => (148.0, 132.0, 1.48),
    };
    let percent = 100.0 * conditions.loss.clamp(0.0, 1.0);
    // Losses that keep apart from each other more than chance would have it are rated as random ones.
    let spread = percent / conditions.burst_ratio.max(1.0) + codec.bpl;
    let equipment = codec.ie + (worst - codec.ie) * percent / spread;
    let r = ro - stretch * conditions.round_trip.map_or(0.0, delay_impairment) - equipment;
    opinion(r / stretch)
}

/// Id of a one-way delay that is half of `round_trip` (Cole and Rosenbluth's form of G.107's, 2001).
fn delay_impairment(round_trip: Duration) -> f64 {
    let millis = round_trip.as_secs_f64() * 500.0;
    0.024 * millis + 0.11 * (millis - 177.3).max(0.0)
}

/// G.107, annex B.
fn opinion(r: f64) -> f64 {
    if r <= 0.0 {
        return 1.0;
    }
    if r >= 100.0 {
        return 4.5;
    }
    // The curve dips below 1 for R under 6.5.
    (1.0 + 0.035 * r + 7e-6 * r * (r - 60.0) * (100.0 - r)).clamp(1.0, 4.5)
}

/// BurstR (ITU-T G.107, 3.4): the mean length of `bursts` runs of `lost` packets in all, over the mean that losses at random of
/// the same share of `expected` would have, 1 / (1 - share). `None` where nothing was lost, or everything.
pub fn burst_ratio(lost: u64, bursts: u64, expected: u64) -> Option<f64> {
    if lost == 0 || bursts == 0 || lost >= expected {
        return None;
    }
    Some(lost as f64 / bursts as f64 * (1.0 - lost as f64 / expected as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(codec: &str, conceal: bool, percent: f64, burst_ratio: f64, round_trip_ms: Option<u64>) -> f64 {
        let round_trip = round_trip_ms.map(Duration::from_millis);
        mos(Impairment::of(codec, conceal), &Conditions { loss: percent / 100.0, burst_ratio, round_trip })
    }

    /// G.107, table B.1: R 90, 80, 70, 60, 50 are MOS 4.34, 4.03, 3.60, 3.10, 2.58.
    #[test]
    fn ratings_become_scores_as_in_the_recommendations_table() {
        for (r, mos) in [(90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)] {
            // The table is rounded, 4.024 up.
            assert!((opinion(r) - mos).abs() < 0.007, "{r}");
        }
        assert_eq!((opinion(-1.0), opinion(0.0), opinion(100.0), opinion(120.0)), (1.0, 1.0, 4.5, 4.5));
    }

    /// By hand: 1 % at Bpl 4.3 is Ie,eff 95 / 5.3 = 17.92, R 75.28; at 25.1 it is 3.64, R 89.56.
    #[test]
    fn loss_costs_less_where_it_is_concealed_and_more_where_it_comes_in_bursts() {
        assert!((score("ulaw", false, 0.0, 1.0, None) - opinion(93.2)).abs() < 1e-12);
        assert!((score("alaw", false, 1.0, 1.0, None) - opinion(93.2 - 95.0 / 5.3)).abs() < 1e-9);
        assert!((score("slin", true, 1.0, 1.0, None) - opinion(93.2 - 95.0 / 26.1)).abs() < 1e-9);
        assert!((score("ulaw", false, 5.0, 2.0, None) - opinion(93.2 - 475.0 / 6.8)).abs() < 1e-9);
        assert!(score("ulaw", false, 5.0, 2.0, None) < score("ulaw", false, 5.0, 1.0, None));
        assert_eq!(score("ulaw", false, 5.0, 0.5, None), score("ulaw", false, 5.0, 1.0, None));
        assert!((1.0..1.2).contains(&score("ulaw", false, 100.0, 1.0, None)));
    }

    /// By hand: 400 ms there and back is 200 ms, Id 4.8 + 0.11 x 22.7 = 7.297.
    #[test]
    fn delay_counts_where_it_is_known() {
        assert!((score("ulaw", false, 0.0, 1.0, Some(400)) - opinion(93.2 - 7.297)).abs() < 1e-9);
        assert!((score("ulaw", false, 0.0, 1.0, Some(100)) - opinion(93.2 - 1.2)).abs() < 1e-9);
    }

    #[test]
    fn codecs_without_a_row_of_their_own_say_so() {
        assert_eq!(Impairment::of("ulaw", false).scale, MosScale::Narrowband);
        assert_eq!(Impairment::of("gsm", false).scale, MosScale::NarrowbandEstimate);
        assert_eq!(Impairment::of("opus", true).scale, MosScale::FullbandEstimate);
        assert!((score("gsm", false, 0.0, 1.0, None) - opinion(73.2)).abs() < 1e-9);
        assert!((score("g722", false, 0.0, 1.0, None) - opinion(137.8 / 1.48)).abs() < 1e-9);
        let at_two_percent = 148.0 - 10.2 - 121.8 * 2.0 / 6.3;
        assert!((score("opus", false, 2.0, 1.0, None) - opinion(at_two_percent / 1.48)).abs() < 1e-9);
    }

    #[test]
    fn bursts_are_measured_against_losses_at_random() {
        assert_eq!(burst_ratio(0, 0, 100), None);
        assert_eq!(burst_ratio(100, 1, 100), None);
        // A tenth lost, at random: runs of 1 / 0.9 on average.
        assert!((burst_ratio(1_000, 900, 10_000).unwrap() - 1.0).abs() < 1e-12);
        assert!((burst_ratio(1_000, 200, 10_000).unwrap() - 4.5).abs() < 1e-12);
    }
}
