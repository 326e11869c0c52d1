//! What a leg's receiver tells when asked.

use super::super::report::{LegCounts, LegStats, quality};
use super::{LegReceiver, Tally};

impl LegReceiver {
    /// The counters that only grow.
    pub fn counts(&self) -> LegCounts {
        let &Tally { received, late, duplicate, repaired, invalid, .. } = &self.tally;
        LegCounts { received, late, duplicate, repaired, invalid }
    }

    /// Counters and estimates so far.
    pub fn stats(&self) -> LegStats {
        let tally = &self.tally;
        let active = self.active.as_ref().map(|stream| &stream.source);
        let previous = self.previous.as_ref().and_then(|previous| previous.source.as_ref());
        let (mut expected, mut arrived) = (tally.expected, tally.arrived);
        for source in [active, previous].into_iter().flatten() {
            expected += source.expected();
            arrived += source.arrived();
        }
        let lost = expected.saturating_sub(arrived);
        LegStats {
            codec: self.config.codec.name().to_owned(),
            ssrcs: self.ssrcs.clone(),
            packets_expected: expected,
            packets_received: tally.received,
            packets_lost: lost,
            packets_late: tally.late,
            packets_duplicate: tally.duplicate,
            packets_repaired: tally.repaired,
            packets_invalid: tally.invalid,
            jitter_ms: self.jitter.millis(),
            mos: quality(lost + tally.too_late, expected),
            clock_ppm: self.skew.ppm().or(self.ppm_before),
            segments: self.segments.clone(),
            resumed: false,
        }
    }
}
