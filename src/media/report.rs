//! What the media path knows of a leg when asked: the leg's part of `report.json`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::quality::{Conditions, Impairment, MosBasis, MosScale, burst_ratio, mos};
use super::slot::SlotState;

/// Counters and estimates of one leg (DESIGN: `report.json`, `legs[]`), less the gaps, which the recorder collects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LegStats {
    /// Codec name as Asterisk spells formats: [`super::codec::Codec::name`].
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
    /// Of the packets lost, those that were lost beside another one.
    #[serde(default)]
    pub packets_lost_in_bursts: u64,
    /// Runs of one or more packets lost in sequence; `packets_lost` over this is their mean length.
    #[serde(default)]
    pub loss_bursts: u64,
    /// That mean length over the one that losses at random would have (ITU-T G.107, BurstR): 1 at random, more in bursts.
    /// `None` where nothing was lost.
    #[serde(default)]
    pub burst_ratio: Option<f64>,
    /// Interarrival jitter (RFC 3550 A.8) as of the last packet, milliseconds.
    pub jitter_ms: f64,
    /// The largest value that it had after any packet.
    #[serde(default)]
    pub max_jitter_ms: f64,
    /// The mean of its values after each packet.
    #[serde(default)]
    pub mean_jitter_ms: f64,
    /// Longest time between the arrivals of two packets, milliseconds; silence between them does not count.
    #[serde(default)]
    pub max_delta_ms: f64,
    /// The time there and back, milliseconds, as RTCP reports on what we send tell it. `None` where nothing does.
    #[serde(default)]
    pub round_trip_ms: Option<f64>,
    /// Quality estimate by the E-model (ITU-T G.107), 1.0 to 4.5. `None` where nothing came to judge by.
    pub mos: Option<f64>,
    /// Whether delay is in it.
    #[serde(default)]
    pub mos_basis: Option<MosBasis>,
    /// On which scale it is: those of different ones do not compare.
    #[serde(default)]
    pub mos_scale: Option<MosScale>,
    /// Losses are concealed in what is heard, which counts in `mos`.
    #[serde(skip)]
    pub conceals: bool,
    /// Sender's clock against ours, parts per million; positive = the sender is fast. `None` before it can be told.
    pub clock_ppm: Option<f64>,
    /// Stretches with anchors of their own.
    pub segments: Vec<Segment>,
    /// The leg was taken up after a restart. What came between the last count that the process before kept (2 s old at the
    /// most) and the restart is in no count, and shows in the recording alone.
    #[serde(default)]
    pub resumed: bool,
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
            packets_lost_in_bursts: before.packets_lost_in_bursts + self.packets_lost_in_bursts,
            loss_bursts: before.loss_bursts + self.loss_bursts,
            jitter_ms: if self.packets_received > 0 { self.jitter_ms } else { before.jitter_ms },
            max_jitter_ms: before.max_jitter_ms.max(self.max_jitter_ms),
            mean_jitter_ms: mean([
                (before.mean_jitter_ms, before.packets_received),
                (self.mean_jitter_ms, self.packets_received),
            ]),
            max_delta_ms: before.max_delta_ms.max(self.max_delta_ms),
            round_trip_ms: self.round_trip_ms.or(before.round_trip_ms),
            clock_ppm: self.clock_ppm.or(before.clock_ppm),
            ssrcs: joined(&before.ssrcs, self.ssrcs),
            segments: joined(&before.segments, self.segments),
            resumed: true,
            codec: self.codec,
            conceals: self.conceals,
            ..Self::default()
        };
        sum.judge();
        sum
    }

    /// Fill in `burst_ratio`, `mos` and what it is made of, from the other fields.
    pub fn judge(&mut self) {
        let expected = self.packets_expected;
        // Late packets that mended nothing came too late to be heard.
        let too_late = self.packets_late.saturating_sub(self.packets_repaired);
        let missed = (self.packets_lost + too_late).min(expected);
        self.burst_ratio = burst_ratio(missed, self.loss_bursts, expected);
        let impairment = Impairment::of(&self.codec, self.conceals);
        let conditions = Conditions {
            loss: missed as f64 / expected.max(1) as f64,
            burst_ratio: self.burst_ratio.unwrap_or(1.0),
            round_trip: self.round_trip_ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1_000.0).ok()),
        };
        let basis =
            if conditions.round_trip.is_some() { MosBasis::Conversational } else { MosBasis::Listening };
        let judged = expected > 0;
        self.mos = judged.then(|| mos(impairment, &conditions));
        self.mos_basis = judged.then_some(basis);
        self.mos_scale = judged.then_some(impairment.scale);
    }
}

/// Counts of a leg that only grow, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegCounts {
    /// As [`LegStats::packets_received`].
    pub received: u64,
    /// Packets that had not come when the repair window was over: those of [`LegStats::packets_lost`], one to two repair
    /// windows later, and those that came later still.
    pub lost: u64,
    /// As [`LegStats::packets_late`].
    pub late: u64,
    /// As [`LegStats::packets_duplicate`].
    pub duplicate: u64,
    /// As [`LegStats::packets_repaired`].
    pub repaired: u64,
    /// As [`LegStats::packets_invalid`].
    pub invalid: u64,
}

/// The mean of two means, each of so many.
fn mean(of: [(f64, u64); 2]) -> f64 {
    let count: u64 = of.iter().map(|(_, count)| count).sum();
    of.iter().map(|(mean, n)| mean * *n as f64).sum::<f64>() / count.max(1) as f64
}

/// What `now` has and `before` has not, behind that.
fn joined<T: Clone + PartialEq>(before: &[T], now: Vec<T>) -> Vec<T> {
    let mut all = before.to_vec();
    all.extend(now.into_iter().filter(|it| !before.contains(it)));
    all
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
            loss_bursts: 1,
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
        let conditions = Conditions { loss: 0.005, burst_ratio: 1.0, round_trip: None };
        assert!((sum.mos.unwrap() - mos(Impairment::of("ulaw", false), &conditions)).abs() < 1e-9);
        assert_eq!(sum.mos_basis, Some(MosBasis::Listening));

        let unknown = now.clone().resumed_after(None);
        assert_eq!(unknown, LegStats { resumed: true, ..now });
    }
}
