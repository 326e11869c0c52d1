//! What a leg's receiver tells when asked.

use super::super::report::{LegCounts, LegStats};
use super::super::rtcp::Reception;
use super::super::source::Source;
use super::super::time::MediaInstant;
use super::Body;

impl Body {
    /// See [`LegReceiver::stats`](super::LegReceiver::stats).
    pub(super) fn stats(&self) -> LegStats {
        let tally = &self.tally;
        let (mut expected, mut arrived, mut losses) = (tally.expected, tally.arrived, tally.losses);
        for source in self.sources() {
            expected += source.expected();
            arrived += source.arrived();
            losses += source.losses();
        }
        let mut stats = LegStats {
            codec: self.config.codec.name().to_owned(),
            ssrcs: self.ssrcs.clone(),
            packets_expected: expected,
            packets_received: tally.received,
            packets_lost: expected.saturating_sub(arrived),
            packets_late: tally.late,
            packets_duplicate: tally.duplicate,
            packets_repaired: tally.repaired,
            packets_invalid: tally.invalid,
            packets_lost_in_bursts: losses.in_bursts,
            loss_bursts: losses.runs,
            jitter_ms: self.jitter.millis(),
            max_jitter_ms: self.jitter.most_millis(),
            mean_jitter_ms: self.jitter.mean_millis(),
            max_delta_ms: self.jitter.longest_millis(),
            clock_ppm: self.skew.ppm().or(self.ppm_before),
            segments: self.segments.clone(),
            conceals: self.config.conceal,
            ..LegStats::default()
        };
        stats.judge();
        stats
    }

    /// See [`LegReceiver::counts`](super::LegReceiver::counts).
    pub(super) fn counts(&self) -> LegCounts {
        let tally = &self.tally;
        let mut losses = tally.losses;
        self.sources().for_each(|source| losses += source.settled_losses());
        LegCounts {
            received: tally.received,
            lost: losses.lost,
            late: tally.late,
            duplicate: tally.duplicate,
            repaired: tally.repaired,
            invalid: tally.invalid,
        }
    }

    /// See [`LegReceiver::reception`](super::LegReceiver::reception).
    pub(super) fn reception(&self) -> Option<Reception> {
        let source = &self.active.as_ref()?.source;
        // Extended numbers begin one cycle up; the cycles of a report block begin at none.
        let highest = source.highest().get().wrapping_sub(1 << 16);
        Some(Reception {
            source: source.ssrc(),
            highest_sequence: highest as u32,
            expected: source.expected(),
            received: source.received(),
            jitter: self.jitter.ticks(),
        })
    }

    /// Packets missing for longer than the repair window are lost for good.
    pub(super) fn settle_losses(&mut self, now: MediaInstant) {
        let patience = self.config.repair_window;
        if let Some(stream) = &mut self.active {
            stream.source.settle(now, patience);
        }
    }

    fn sources(&self) -> impl Iterator<Item = &Source> {
        let active = self.active.as_ref().map(|stream| &stream.source);
        let previous = self.previous.as_ref().and_then(|previous| previous.source.as_ref());
        [active, previous].into_iter().flatten()
    }
}
