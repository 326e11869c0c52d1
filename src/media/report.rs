//! What the media path knows of a leg when asked: the leg's part of `report.json`.

use serde::{Deserialize, Serialize};

use super::slot::SlotState;
use super::statistics::listening_mos;

/// Counters and estimates of one leg (DESIGN: `report.json`, `legs[]`), less the gaps, which the recorder collects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LegStats {
    /// Codec name as Asterisk spells formats: `ulaw`, `alaw`, `slin`, `slin16`.
    pub codec: String,
    /// Synchronisation sources in order of appearance.
    pub ssrcs: Vec<u32>,
    /// RFC 3550 A.3: highest extended sequence number less the first, plus one, summed over segments.
    pub packets_expected: u64,
    /// Packets accepted, duplicates excluded.
    pub packets_received: u64,
    /// Expected less received: packets that never came.
    pub packets_lost: u64,
    /// Packets that came after live readers had passed their place.
    pub packets_late: u64,
    /// Packets that came more than once, counted once for each extra copy.
    pub packets_duplicate: u64,
    /// Late packets whose audio still mended the recording.
    pub packets_repaired: u64,
    /// Datagrams that were not RTP, of an unknown payload type or of impossible length.
    pub packets_invalid: u64,
    /// Interarrival jitter (RFC 3550 A.8), milliseconds.
    pub jitter_ms: f64,
    /// Listening quality estimate (ITU-T G.107, delay impairment 0), 1.0 to 4.5. `None` where nothing came to judge by.
    pub mos: Option<f64>,
    /// Sender's clock against ours, parts per million; positive = the sender is fast. `None` before it can be told.
    pub clock_ppm: Option<f64>,
    /// Stretches with anchors of their own.
    pub segments: Vec<Segment>,
    /// The leg was taken up after a restart. What came between the last count that the process before kept (2 s old at the
    /// most) and the restart is in no count, and shows in the recording alone.
    #[serde(default)]
    pub resumed: bool,
}

/// The counts of [`LegStats`] that only grow: cheap to ask for, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegCounts {
    /// [`LegStats::packets_received`].
    pub received: u64,
    /// [`LegStats::packets_late`].
    pub late: u64,
    /// [`LegStats::packets_duplicate`].
    pub duplicate: u64,
    /// [`LegStats::packets_repaired`].
    pub repaired: u64,
    /// [`LegStats::packets_invalid`].
    pub invalid: u64,
}

impl LegStats {
    /// The counts of a leg that was taken up after a restart: these, and those of `before`, if they were kept.
    #[must_use]
    pub fn resumed_after(self, before: Option<&Self>) -> Self {
        let Some(before) = before else { return Self { resumed: true, ..self } };
        let mut sum = Self {
            packets_expected: before.packets_expected + self.packets_expected,
            packets_received: before.packets_received + self.packets_received,
            packets_lost: before.packets_lost + self.packets_lost,
            packets_late: before.packets_late + self.packets_late,
            packets_duplicate: before.packets_duplicate + self.packets_duplicate,
            packets_repaired: before.packets_repaired + self.packets_repaired,
            packets_invalid: before.packets_invalid + self.packets_invalid,
            jitter_ms: if self.packets_received > 0 { self.jitter_ms } else { before.jitter_ms },
            clock_ppm: self.clock_ppm.or(before.clock_ppm),
            ssrcs: joined(&before.ssrcs, self.ssrcs),
            segments: joined(&before.segments, self.segments),
            resumed: true,
            mos: None,
            codec: self.codec,
        };
        let missed = sum.packets_lost + sum.packets_late.saturating_sub(sum.packets_repaired);
        sum.mos = quality(missed, sum.packets_expected);
        sum
    }
}

/// What `now` has and `before` has not, behind that.
fn joined<T: Clone + PartialEq>(before: &[T], now: Vec<T>) -> Vec<T> {
    let mut all = before.to_vec();
    all.extend(now.into_iter().filter(|it| !before.contains(it)));
    all
}

/// Listening quality with `missed` of `expected` packets not heard; `None` where none were expected.
pub(super) fn quality(missed: u64, expected: u64) -> Option<f64> {
    (expected > 0).then(|| listening_mos(missed as f64 / expected as f64))
}

/// A stretch of one leg that has one anchor: within it, a sample's place follows from its RTP timestamp alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Synchronisation source.
    pub ssrc: u32,
    /// Call sample of the segment's first RTP timestamp; in `report.json`, sample of the recording.
    pub first_sample: i64,
    /// RTP timestamp that lies at `first_sample`.
    pub first_rtp_timestamp: u32,
    /// First sequence number.
    pub first_sequence: u16,
}

/// A stretch of a leg that is not received audio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// First sample of the recording that it covers.
    pub start_sample: u64,
    /// Length in samples.
    pub samples: u64,
    /// Why.
    pub kind: SlotState,
}

/// Something that happened on a leg and that users hear of.
#[derive(Clone, Debug, PartialEq)]
pub enum LegEvent {
    /// The first anchor is set: media has begun, at this call sample.
    Anchored {
        /// The segment that begins.
        segment: Segment,
    },
    /// A new segment: another SSRC, a restart of the sender, a jump of its timestamps.
    Resegmented {
        /// The segment that begins.
        segment: Segment,
    },
    /// No packet for the stall time.
    Stalled,
    /// No packet of use for the stall time, from the beginning of the leg's reception on.
    Unheard {
        /// Datagrams that came meanwhile and were none of this leg's audio.
        invalid: u64,
    },
    /// Packets (again), after `silent_ms` without.
    Resumed {
        /// Milliseconds without a packet.
        silent_ms: u64,
    },
    /// Packets were lost for good or are late: `samples` are missing from call sample `start`.
    Gap {
        /// Call sample.
        start: i64,
        /// Length in samples.
        samples: u64,
        /// Lost, or silence on the sender's part.
        kind: SlotState,
    },
    /// A telephone event ended (RFC 4733).
    Dtmf {
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// How long it was held, milliseconds.
        duration_ms: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(ssrc: u32) -> Segment {
        Segment { ssrc, first_sample: 0, first_rtp_timestamp: 0, first_sequence: 0 }
    }

    #[test]
    fn a_restart_takes_no_counts_sources_or_segments_away() {
        let before = LegStats {
            ssrcs: vec![1, 2],
            packets_expected: 100,
            packets_received: 99,
            packets_lost: 1,
            jitter_ms: 3.0,
            clock_ppm: Some(20.0),
            segments: vec![segment(1), segment(2)],
            ..LegStats::default()
        };
        let now = LegStats {
            ssrcs: vec![2, 3],
            packets_expected: 100,
            packets_received: 100,
            segments: vec![segment(2), segment(3)],
            jitter_ms: 1.0,
            ..LegStats::default()
        };
        let sum = now.clone().resumed_after(Some(&before));
        assert_eq!((sum.packets_expected, sum.packets_received, sum.packets_lost), (200, 199, 1));
        assert_eq!(sum.ssrcs, [1, 2, 3]);
        assert_eq!(sum.segments, [segment(1), segment(2), segment(3)]);
        assert_eq!((sum.jitter_ms, sum.clock_ppm, sum.resumed), (1.0, Some(20.0), true));
        assert!((sum.mos.unwrap() - listening_mos(0.005)).abs() < 1e-9);

        let unknown = now.clone().resumed_after(None);
        assert_eq!(unknown, LegStats { resumed: true, ..now });
    }
}
