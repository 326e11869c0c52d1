//! How often to report (RFC 3550, section 6.3.1 and appendix A.7).

use std::time::Duration;

/// No report sooner than this after the one before, on average.
const LEAST: Duration = Duration::from_secs(5);
/// Senders' share of the bandwidth, where they are at most so large a share of the members.
const SENDERS_SHARE: f64 = 0.25;
/// e - 3/2: timer reconsideration makes intervals that much longer than they are drawn, and this takes it back.
const COMPENSATION: f64 = std::f64::consts::E - 1.5;

/// What is known of the session when an interval is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Membership {
    /// Participants, ourselves included; 1 or more.
    pub members: u32,
    /// Of them, those that sent media lately.
    pub senders: u32,
    /// We are one of them.
    pub we_send: bool,
    /// Bytes a second for RTCP: 5 % of the session's bandwidth.
    pub bandwidth: f64,
    /// Average size of a compound packet, with UDP and IP headers, bytes.
    pub average_size: f64,
    /// No report was sent yet.
    pub initial: bool,
}

/// The time until the next report. `chance` is uniform in 0..1: it spreads intervals over 0.5 to 1.5 of what is computed, so that
/// participants do not fall into step.
pub fn interval(of: &Membership, chance: f64) -> Duration {
    let (mut bandwidth, mut n) = (of.bandwidth, f64::from(of.members.max(1)));
    let senders = f64::from(of.senders);
    if senders <= n * SENDERS_SHARE {
        if of.we_send {
            bandwidth *= SENDERS_SHARE;
            n = senders;
        } else {
            bandwidth *= 1.0 - SENDERS_SHARE;
            n -= senders;
        }
    }
    let least = if of.initial { LEAST / 2 } else { LEAST };
    let fair = of.average_size * n / bandwidth;
    let mean = if fair.is_finite() { fair.max(least.as_secs_f64()) } else { least.as_secs_f64() };
    Duration::from_secs_f64(mean * (chance.clamp(0.0, 1.0) + 0.5) / COMPENSATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(of: &Membership, chance: f64) -> f64 {
        interval(of, chance).as_secs_f64()
    }

    const PAIR: Membership = Membership {
        members: 2,
        senders: 1,
        we_send: false,
        bandwidth: 500.0,
        average_size: 120.0,
        initial: false,
    };

    #[test]
    fn a_pair_reports_every_five_seconds_and_sooner_at_first() {
        assert!((COMPENSATION - 1.218_28).abs() < 1e-5);
        for (chance, factor) in [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)] {
            assert!((seconds(&PAIR, chance) - 5.0 * factor / COMPENSATION).abs() < 1e-9);
            let initial = Membership { initial: true, ..PAIR };
            assert!((seconds(&initial, chance) - 2.5 * factor / COMPENSATION).abs() < 1e-9);
        }
    }

    #[test]
    fn receivers_of_a_large_session_share_three_quarters_of_the_bandwidth() {
        let many = Membership { members: 1_001, senders: 1, ..PAIR };
        assert!((seconds(&many, 0.5) - 120.0 * 1_000.0 / 375.0 / COMPENSATION).abs() < 1e-6);
        let sender = Membership { we_send: true, ..many };
        assert!((seconds(&sender, 0.5) - 5.0 / COMPENSATION).abs() < 1e-9);
        let all_send = Membership { members: 1_000, senders: 1_000, we_send: true, ..PAIR };
        assert!((seconds(&all_send, 0.5) - 120.0 * 1_000.0 / 500.0 / COMPENSATION).abs() < 1e-6);
    }

    #[test]
    fn no_bandwidth_is_no_reason_to_fail() {
        let none = Membership { bandwidth: 0.0, average_size: 0.0, ..PAIR };
        assert!((seconds(&none, 0.5) - 5.0 / COMPENSATION).abs() < 1e-9);
    }
}
