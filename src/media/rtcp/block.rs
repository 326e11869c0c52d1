//! Report blocks (RFC 3550, section 6.4.1), and the loss that they tell of (appendix A.3).

use super::super::counter::Ssrc;

/// Bytes of a report block.
pub const REPORT_BLOCK: usize = 24;
/// The cumulative loss has 24 bits and a sign.
const LOST_MAX: i64 = 0x7f_ffff;
const LOST_MIN: i64 = -0x80_0000;

/// What one participant reports of one sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    /// The sender that is reported on.
    pub source: Ssrc,
    /// Share of packets lost since the report before, in 1/256.
    pub fraction_lost: u8,
    /// Expected less received since the beginning, -8 388 608 to 8 388 607: duplicates make it negative.
    pub cumulative_lost: i32,
    /// Highest sequence number received, with the number of wraps in the upper 16 bits.
    pub highest_sequence: u32,
    /// Interarrival jitter in ticks of the payload's RTP clock.
    pub jitter: u32,
    /// Middle 32 bits of the NTP timestamp of the last sender report; 0 if there was none.
    pub last_report: u32,
    /// Time since that came, in 1/65536 s; 0 if there was none.
    pub delay: u32,
}

impl ReportBlock {
    /// Read one.
    pub fn read(bytes: &[u8; REPORT_BLOCK]) -> Self {
        let word = |n: usize| {
            u32::from_be_bytes([bytes[4 * n], bytes[4 * n + 1], bytes[4 * n + 2], bytes[4 * n + 3]])
        };
        Self {
            source: Ssrc(word(0)),
            fraction_lost: bytes[4],
            // The sign is bit 23 of the word's lower 24.
            cumulative_lost: (word(1) << 8) as i32 >> 8,
            highest_sequence: word(2),
            jitter: word(3),
            last_report: word(4),
            delay: word(5),
        }
    }

    /// As it goes on the wire; the cumulative loss is clamped to its 24 bits.
    pub fn to_bytes(self) -> [u8; REPORT_BLOCK] {
        let lost = i64::from(self.cumulative_lost).clamp(LOST_MIN, LOST_MAX) as u32 & 0xff_ffff;
        let words = [
            self.source.0,
            u32::from(self.fraction_lost) << 24 | lost,
            self.highest_sequence,
            self.jitter,
            self.last_report,
            self.delay,
        ];
        let mut bytes = [0; REPORT_BLOCK];
        for (at, word) in bytes.chunks_exact_mut(4).zip(words) {
            at.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}

/// How a sender has been received so far: what a report block is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reception {
    /// The sender.
    pub source: Ssrc,
    /// Highest sequence number received, with the number of wraps in the upper 16 bits.
    pub highest_sequence: u32,
    /// Sequence numbers from the first to the highest (RFC 3550 A.3).
    pub expected: u64,
    /// Packets received, late ones and every copy of a duplicate included.
    pub received: u64,
    /// Interarrival jitter in ticks of the payload's RTP clock.
    pub jitter: u32,
}

impl Reception {
    /// Expected less received, clamped to 24 bits (RFC 3550 A.3).
    pub fn cumulative_lost(&self) -> i32 {
        (self.expected as i64).saturating_sub(self.received as i64).clamp(LOST_MIN, LOST_MAX) as i32
    }
}

/// What the report before was based on (RFC 3550 A.3: `expected_prior` and `received_prior`).
#[derive(Clone, Copy, Debug, Default)]
pub struct LossPrior {
    source: Option<Ssrc>,
    expected: u64,
    received: u64,
}

impl LossPrior {
    /// The share of packets lost since the last call, in 1/256, rounded down; 0 where none were expected or more came than
    /// were (RFC 3550 A.3). A sender that is another than the last one begins anew.
    pub fn fraction_since(&mut self, now: &Reception) -> u8 {
        if self.source != Some(now.source) {
            *self = Self::default();
        }
        // A packet older than the first widens the range downwards; neither count ever falls.
        let expected = now.expected.saturating_sub(self.expected) as i64;
        let received = now.received.saturating_sub(self.received) as i64;
        let lost = expected - received;
        *self = Self { source: Some(now.source), expected: now.expected, received: now.received };
        // All lost would be 256, which eight bits do not hold.
        if expected == 0 || lost <= 0 { 0 } else { ((lost << 8) / expected).min(255) as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reception(expected: u64, received: u64) -> Reception {
        Reception { source: Ssrc(7), highest_sequence: 0, expected, received, jitter: 0 }
    }

    #[test]
    fn a_block_is_the_same_after_a_round_trip() {
        for cumulative_lost in [0, 1, -1, LOST_MAX as i32, LOST_MIN as i32] {
            let block = ReportBlock {
                source: Ssrc(0xdead_beef),
                fraction_lost: 255,
                cumulative_lost,
                highest_sequence: 0x0001_ffff,
                jitter: 80,
                last_report: 0x1234_5678,
                delay: 65_536,
            };
            assert_eq!(ReportBlock::read(&block.to_bytes()), block);
        }
    }

    #[test]
    fn cumulative_loss_is_clamped_to_24_bits_both_ways() {
        assert_eq!(reception(10, 9).cumulative_lost(), 1);
        assert_eq!(reception(10, 15).cumulative_lost(), -5);
        assert_eq!(reception(1 << 40, 0).cumulative_lost(), 0x7f_ffff);
        assert_eq!(reception(0, 1 << 40).cumulative_lost(), -0x80_0000);
        let block = ReportBlock {
            source: Ssrc(1),
            fraction_lost: 3,
            cumulative_lost: i32::MIN,
            highest_sequence: 0,
            jitter: 0,
            last_report: 0,
            delay: 0,
        };
        assert_eq!(block.to_bytes()[4..8], [3, 0x80, 0, 0]);
    }

    #[test]
    fn the_fraction_is_that_of_the_interval_alone() {
        let mut prior = LossPrior::default();
        assert_eq!(prior.fraction_since(&reception(100, 75)), 64);
        assert_eq!(prior.fraction_since(&reception(200, 175)), 0, "none of the second hundred");
        assert_eq!(prior.fraction_since(&reception(300, 176)), 253, "99 of 100, rounded down");
        assert_eq!(prior.fraction_since(&reception(400, 176)), 255, "all");
        assert_eq!(prior.fraction_since(&reception(400, 176)), 0, "nothing expected, nothing lost");
        assert_eq!(prior.fraction_since(&reception(401, 200)), 0, "duplicates make loss negative");
        let other = Reception { source: Ssrc(8), ..reception(4, 2) };
        assert_eq!(prior.fraction_since(&other), 128, "another sender begins anew");
    }
}
